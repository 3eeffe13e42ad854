//! The door: how fields of a body become values of the model, and how what is wrong with them is told.
//!
//! A body is first read as a plain struct (shape and unknown fields, [`crate::http::request::parse_json`]), then each
//! field is weighed by its own rule. All that is wrong is told at once, each with the JSON pointer of its place.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;
use serde::{Deserialize, Deserializer};

use crate::http::problem::{FieldError, Problem, ProblemCode};
use crate::http::request::parse_json;
use crate::model::Invalid;
pub use crate::model::audit::MASK;
pub use crate::model::time::duration_text;
use crate::model::words::is_unreadable;

/// A field of a partial update: not there, explicitly nothing, or a value.
///
/// With `#[serde(default)]` on the field, because serde asks nobody about a field that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// The field is not in the body: what is stored stays.
    #[default]
    Absent,
    /// The field is `null`: back to nothing, or to the default.
    Null,
    /// The field has this value.
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|field| field.map_or(Patch::Null, Patch::Value))
    }
}

impl<T> Patch<T> {
    /// The value, when there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Patch::Absent | Patch::Null => None,
            Patch::Value(value) => Some(value),
        }
    }
}

/// What is wrong with a body, collected while its fields are weighed.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    /// Notes that the field at `pointer` breaks the rule that `why` tells.
    pub fn note(&mut self, pointer: impl Into<String>, why: impl std::fmt::Display) {
        self.0.push(FieldError { pointer: pointer.into(), detail: why.to_string() });
    }

    /// The value, or a note of why there is none.
    pub fn weigh<T>(&mut self, pointer: &str, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|why| self.note(pointer, why)).ok()
    }

    /// Weighs an optional field that may be changed to a value only: `null` is a fault.
    pub fn set<T, U>(
        &mut self,
        pointer: &str,
        field: Patch<T>,
        slot: &mut U,
        rule: impl FnOnce(T) -> Result<U, Invalid>,
    ) {
        match field {
            Patch::Absent => {}
            Patch::Null => self.note(pointer, "cannot be null"),
            Patch::Value(value) => {
                if let Some(value) = self.weigh(pointer, rule(value)) {
                    *slot = value;
                }
            }
        }
    }

    /// Weighs an optional field for which `null` means `nothing`.
    pub fn set_or<T, U>(
        &mut self,
        pointer: &str,
        field: Patch<T>,
        slot: &mut U,
        nothing: U,
        rule: impl FnOnce(T) -> Result<U, Invalid>,
    ) {
        match field {
            Patch::Absent => {}
            Patch::Null => *slot = nothing,
            Patch::Value(value) => self.set(pointer, Patch::Value(value), slot, rule),
        }
    }

    /// Weighs a field that nobody changes: it may be sent as it is. `is_same` is asked of what was sent, of `null` with `None`.
    pub fn read_only<T>(&mut self, pointer: &str, field: &Patch<T>, is_same: impl FnOnce(Option<&T>) -> bool) {
        let is_same = match field {
            Patch::Absent => true,
            Patch::Null => is_same(None),
            Patch::Value(value) => is_same(Some(value)),
        };
        if !is_same {
            self.note(pointer, "is read-only; leave it out or send it as it is");
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A 400 with everything that was noted, if anything was.
    pub fn into_result(self) -> Result<(), Problem> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Problem::of_fields(ProblemCode::BadField, self.0)),
        }
    }
}

/// That a body says nothing, where nobody would read it: it is empty, or `{}`, which some clients send for one.
pub fn no_body(body: &[u8]) -> Result<(), Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    parse_json::<Nothing>(body).map(|_| ()).map_err(|problem| {
        let pointer = problem.errors().first().map(|error| error.pointer.clone()).unwrap_or_default();
        let detail = "this request takes no body; leave it out, or send {}".to_owned();
        Problem::of_fields(problem.code(), vec![FieldError { pointer, detail }])
    })
}

/// A text of `min` to `max` characters without control characters.
pub fn plain_text(text: String, min: usize, max: usize) -> Result<String, Invalid> {
    if !(min..=max).contains(&text.chars().count()) {
        return Err(Invalid(format!("must have {min} to {max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new("has a control character"));
    }
    Ok(text)
}

/// A text for people, as [`plain_text`], none of whose characters makes it read as another one.
pub fn readable(text: String, min: usize, max: usize) -> Result<String, Invalid> {
    let text = plain_text(text, min, max)?;
    match text.chars().find(|character| is_unreadable(*character)) {
        None => Ok(text),
        Some(it) => Err(Invalid(format!(
            "has U+{:04X}, which changes the direction of the text around it, so that it reads as something else",
            u32::from(it)
        ))),
    }
}

/// A span of time such as `"10s"`, `"1h30m"` or `"2 days"`, between two bounds. A day is 24 hours.
pub fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, Invalid> {
    let form = || Invalid::new("is not a span of time such as \"10s\", \"5m\" or \"1h30m\"");
    // Bounded first: the bounds of time come after the parse, the text must not be long before it.
    if text.len() > 64 {
        return Err(form());
    }
    let span = SpanParser::new().parse_span(text).map_err(|_| form())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| form())?;
    let duration = Duration::try_from(signed).map_err(|_| form())?;
    if !(min..=max).contains(&duration) {
        return Err(Invalid(format!("must be a span of {} to {}", duration_text(min), duration_text(max))));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        field: Patch<u32>,
    }

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        let read = |text| serde_json::from_str::<Body>(text).unwrap().field;
        assert_eq!(read("{}"), Patch::Absent);
        assert_eq!(read(r#"{"field": null}"#), Patch::Null);
        assert_eq!(read(r#"{"field": 7}"#), Patch::Value(7));
    }

    #[test]
    fn spans_of_time_are_read_and_written() {
        let (min, max) = (Duration::from_millis(1), Duration::from_secs(31 * 24 * 3600));
        let table = [
            ("10s", Some(10_000), "10s"),
            ("1h30m", Some(5_400_000), "1h30m"),
            ("90m", Some(5_400_000), "1h30m"),
            ("250ms", Some(250), "250ms"),
            ("1.5s", Some(1_500), "1s500ms"),
            ("2 days", Some(172_800_000), "48h"),
            ("1d", Some(86_400_000), "24h"),
            ("", None, ""),
            ("10", None, ""),
            ("-1s", None, ""),
            ("0s", None, ""),
            ("32d", None, ""),
            ("1 month", None, ""),
            ("ten seconds", None, ""),
        ];
        for (text, millis, written) in table {
            let read = duration(text, min, max);
            assert_eq!(read.as_ref().ok().map(|span| span.as_millis()), millis, "{text}: {read:?}");
            if let Ok(span) = read {
                assert_eq!(duration_text(span), written);
                assert_eq!(duration(written, min, max), Ok(span), "{text}");
            }
        }
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }

    #[test]
    fn a_body_that_nobody_reads_says_nothing() {
        for nothing in ["", " \r\n", "{}", " { } "] {
            assert_eq!(no_body(nothing.as_bytes()), Ok(()), "{nothing}");
        }
        let table = [
            (r#"{"reason": "x", "b": 1}"#, ProblemCode::UnknownField, "/reason"),
            ("[]", ProblemCode::BadField, ""),
            ("null", ProblemCode::BadField, ""),
            ("reason=x", ProblemCode::BadJson, ""),
            ("{}{}", ProblemCode::BadJson, ""),
        ];
        for (body, code, pointer) in table {
            let problem = no_body(body.as_bytes()).unwrap_err();
            assert_eq!((problem.code(), problem.errors()[0].pointer.as_str()), (code, pointer), "{body}");
            assert!(problem.detail().ends_with("takes no body; leave it out, or send {}"), "{problem}");
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut faults = Faults::default();
        let mut name = "old".to_owned();
        faults.set("/name", Patch::Null, &mut name, Ok);
        faults.set("/name", Patch::Value(String::new()), &mut name, |text| plain_text(text, 1, 124));
        faults.set("/name", Patch::Value("a\nb".into()), &mut name, |text| plain_text(text, 1, 124));
        assert_eq!(name, "old");
        let problem = faults.into_result().unwrap_err();
        let details: Vec<_> = problem.errors().iter().map(|error| error.detail.as_str()).collect();
        assert_eq!(details, ["cannot be null", "must have 1 to 124 characters", "has a control character"]);
    }
}
