//! Filters of subscriptions: conditions on what stands at JSON pointers in an event's data.
//!
//! All conditions of all filters that an event meets are answered together: nothing but what a pointer leads to is copied, and
//! nothing is parsed for an event that meets no filter. Data that is not JSON passes no filter. JSON passes those that hold for it
//! whatever else stands in it: numbers of any width, any depth, halves of surrogate pairs, a mark of the encoding before it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Invalid, Timestamp};

/// Conditions in one filter, at most.
pub const CONDITIONS_MAX: usize = 32;
/// Values in one `in`, at most.
pub const VALUES_MAX: usize = 100;
/// A text in a condition, in characters.
pub const TEXT_CHARS_MAX: usize = 256;
/// Bytes of a longer text that are kept: cut before a character, it still is longer than any text in a condition.
const TEXT_BYTES_KEPT: usize = (TEXT_CHARS_MAX + 1) * 4;
const POINTER_BYTES_MAX: usize = 256;
const POINTER_STEPS_MAX: usize = 16;
/// A longer text of digits is no amount.
const DECIMAL_BYTES_MAX: usize = 64;

/// Which of a subscription's events count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// How many of the conditions must hold.
    pub mode: Mode,
    /// One to [`CONDITIONS_MAX`].
    pub conditions: Vec<Condition>,
}

impl Filter {
    /// The filter as it is shown: `{"all": [conditions]}` or `{"any": [conditions]}`.
    pub fn view(&self) -> Value {
        let conditions: Vec<_> = self.conditions.iter().map(Condition::view).collect();
        match self.mode {
            Mode::All => json!({"all": conditions}),
            Mode::Any => json!({"any": conditions}),
        }
    }
}

/// How many of a filter's conditions must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Each of them.
    All,
    /// At least one.
    Any,
}

/// What must be true of the value at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Where.
    pub pointer: Pointer,
    /// What.
    pub test: Test,
}

impl Condition {
    fn view(&self) -> Value {
        let (op, value) = match &self.test {
            Test::Eq(plain) => ("eq", plain.view()),
            Test::Ne(plain) => ("ne", plain.view()),
            Test::In(plains) => ("in", plains.iter().map(Plain::view).collect()),
            Test::Prefix(text) => ("prefix", json!(text)),
            Test::Exists(exists) => ("exists", json!(exists)),
            Test::Gt(bound) => ("gt", bound.as_plain().view()),
            Test::Lt(bound) => ("lt", bound.as_plain().view()),
        };
        json!({"pointer": self.pointer.as_str(), "op": op, "value": value})
    }
}

/// A place in a JSON document (RFC 6901): empty for the whole, or steps that each begin with a slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer(String);

impl Pointer {
    /// The pointer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pointer {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_escaped = |text: &str| text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if text.len() > POINTER_BYTES_MAX || text.matches('/').count() > POINTER_STEPS_MAX {
            Err(Invalid(format!("must have at most {POINTER_BYTES_MAX} bytes and {POINTER_STEPS_MAX} steps")))
        } else if !(text.is_empty() || text.starts_with('/')) || !is_escaped(text) {
            Err(Invalid::new("is not a JSON pointer such as /amount or /card/brand (RFC 6901)"))
        } else {
            Ok(Pointer(text.to_owned()))
        }
    }
}

/// What is asked of a value. A place where nothing stands passes `Ne` and `Exists(false)` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// It is this. Numbers are compared as numbers, so that 5 is 5.00; a number is never a text.
    Eq(Plain),
    /// It is not this.
    Ne(Plain),
    /// It is one of these.
    In(Vec<Plain>),
    /// It is a text that begins so.
    Prefix(String),
    /// Whether anything stands there; `null` is something.
    Exists(bool),
    /// It is above this.
    Gt(Bound),
    /// It is below this.
    Lt(Bound),
}

/// A JSON value that is neither list nor object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plain {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, as JSON writes it. Whole ones are exact up to 64 bits, others up to the precision of a double.
    Number(String),
    /// A text.
    Text(String),
}

impl Plain {
    /// What stands in an event as this JSON, which is neither list nor object.
    fn read(json: &str) -> Self {
        match json.as_bytes().first() {
            Some(b'"') => {
                let text = super::json::text(json.as_bytes()).unwrap_or_default();
                Plain::Text(beginning(&String::from_utf8_lossy(&text)).to_owned())
            }
            Some(b't' | b'f') => Plain::Bool(json == "true"),
            Some(b'n') | None => Plain::Null,
            Some(_) => match serde_json::from_str::<serde_json::Number>(json) {
                Ok(number) => Plain::Number(number.to_string()),
                // Beyond the doubles a number stays as it was written.
                Err(_) => Plain::Number(Decimal::shortened(json).unwrap_or_else(|| json.to_owned())),
            },
        }
    }

    fn view(&self) -> Value {
        match self {
            Plain::Null => Value::Null,
            Plain::Bool(value) => json!(value),
            Plain::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            Plain::Text(text) => json!(text),
        }
    }

    fn is(&self, other: &Plain) -> bool {
        match (self, other) {
            (Plain::Number(one), Plain::Number(other)) => match (Decimal::read(one), Decimal::read(other)) {
                (Some(one), Some(other)) => one.compare(&other) == Ordering::Equal,
                (_, _) => one == other,
            },
            (Plain::Null | Plain::Bool(_) | Plain::Number(_) | Plain::Text(_), _) => self == other,
        }
    }
}

/// What a value is compared with: a number, a text that writes one (`"5.00"`, as amounts are written), or an RFC 3339 time.
///
/// Numbers and texts that write numbers are compared with each other by their exact decimal value, times with times;
/// whatever is neither is neither above nor below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound(Plain);

impl Bound {
    /// The bound as it was written.
    pub fn as_plain(&self) -> &Plain {
        &self.0
    }

    /// How a value stands to this bound; `None` where the two cannot be compared.
    fn compare(&self, value: &Plain) -> Option<Ordering> {
        let (bound, value) = (Level::of(&self.0)?, Level::of(value)?);
        match (value, bound) {
            (Level::Decimal(value), Level::Decimal(bound)) => Some(value.compare(&bound)),
            (Level::Time(value), Level::Time(bound)) => Some(value.cmp(&bound)),
            (Level::Decimal(_), Level::Time(_)) | (Level::Time(_), Level::Decimal(_)) => None,
        }
    }
}

impl TryFrom<Plain> for Bound {
    type Error = Invalid;

    fn try_from(written: Plain) -> Result<Self, Invalid> {
        match Level::of(&written) {
            Some(_) => Ok(Bound(written)),
            None => Err(Invalid::new("must be a number, a text that writes one such as \"5.00\", or an RFC 3339 time")),
        }
    }
}

/// A value that can be above or below another.
enum Level<'a> {
    Decimal(Decimal<'a>),
    Time(Timestamp),
}

impl<'a> Level<'a> {
    fn of(plain: &'a Plain) -> Option<Self> {
        match plain {
            Plain::Number(text) => Decimal::read(text).map(Level::Decimal),
            Plain::Text(text) => Decimal::read(text).map(Level::Decimal).or_else(|| {
                let may_be = text.len() <= DECIMAL_BYTES_MAX && text.as_bytes().get(4) == Some(&b'-');
                may_be.then(|| text.parse().ok()).flatten().map(Level::Time)
            }),
            Plain::Null | Plain::Bool(_) => None,
        }
    }
}

/// A decimal number, exactly: its digits without zeros at the ends, and where the point stands.
#[derive(Debug)]
struct Decimal<'a> {
    negative: bool,
    /// Those before the point and those after it; together they begin and end with another digit than zero.
    digits: (&'a str, &'a str),
    /// The first digit stands so many places before the point.
    places: i64,
}

impl<'a> Decimal<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if text.len() <= DECIMAL_BYTES_MAX { Self::of(text) } else { None }
    }

    /// A number of more digits than are compared, by its first ones.
    fn shortened(text: &'a str) -> Option<String> {
        let number = Self::of(text).filter(|_| text.len() > DECIMAL_BYTES_MAX)?;
        let digits: String = number.bytes().take(DECIMAL_BYTES_MAX / 2).map(char::from).collect();
        Some(format!("{}0.{digits}e{}", if number.negative { "-" } else { "" }, number.places))
    }

    fn of(text: &'a str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, part) = match number.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (number, None),
        };
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !part.is_none_or(is_digits) {
            return None;
        }
        let (mut whole, mut part) = (whole.trim_start_matches('0'), part.unwrap_or("").trim_end_matches('0'));
        let mut places = whole.len() as i64 + i64::from(exponent);
        if whole.is_empty() {
            let trimmed = part.trim_start_matches('0');
            places -= (part.len() - trimmed.len()) as i64;
            part = trimmed;
        }
        if part.is_empty() {
            whole = whole.trim_end_matches('0');
        }
        if whole.is_empty() && part.is_empty() {
            return Some(Decimal { negative: false, digits: ("", ""), places: 0 });
        }
        Some(Decimal { negative, digits: (whole, part), places })
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.digits.0.bytes().chain(self.digits.1.bytes())
    }

    fn compare(&self, other: &Decimal<'_>) -> Ordering {
        let sign = |it: &Decimal<'_>| match (it.bytes().next(), it.negative) {
            (None, _) => 0,
            (Some(_), true) => -1,
            (Some(_), false) => 1,
        };
        let size = || self.places.cmp(&other.places).then_with(|| self.bytes().cmp(other.bytes()));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(),
            _ => size().reverse(),
        })
    }
}

impl Test {
    fn holds(&self, found: Option<&Found>) -> bool {
        let plain = match found {
            Some(Found::Plain(plain)) => Some(plain),
            Some(Found::Compound) | None => None,
        };
        match self {
            Test::Eq(value) => plain.is_some_and(|plain| plain.is(value)),
            Test::Ne(value) => !plain.is_some_and(|plain| plain.is(value)),
            Test::In(values) => plain.is_some_and(|plain| values.iter().any(|value| plain.is(value))),
            Test::Prefix(prefix) => matches!(plain, Some(Plain::Text(text)) if text.starts_with(prefix.as_str())),
            Test::Exists(exists) => found.is_some() == *exists,
            Test::Gt(bound) => plain.and_then(|plain| bound.compare(plain)) == Some(Ordering::Greater),
            Test::Lt(bound) => plain.and_then(|plain| bound.compare(plain)) == Some(Ordering::Less),
        }
    }
}

/// Which of these filters an event's data passes: one reading answers for all of them.
///
/// What is not JSON passes none. The work grows with the bytes and with the conditions, not with one times the other: a byte is
/// read once for each step that leads to it.
pub fn passed(filters: &[&Filter], data: &[u8]) -> Vec<bool> {
    let mut places = Places::default();
    let numbers: Vec<_> = conditions_of(filters).map(|condition| places.add(condition.pointer.as_str())).collect();
    if places.look_into(data).is_none() {
        return vec![false; filters.len()];
    }
    let found = places.found();
    let mut holds = conditions_of(filters).zip(numbers).map(|(condition, number)| condition.test.holds(found[number]));
    let passes = |filter: &&Filter| {
        let held = holds.by_ref().take(filter.conditions.len()).filter(|holds| *holds).count();
        match filter.mode {
            Mode::All => held == filter.conditions.len(),
            Mode::Any => held > 0,
        }
    };
    filters.iter().map(passes).collect()
}

fn conditions_of<'f>(filters: &[&'f Filter]) -> impl Iterator<Item = &'f Condition> {
    filters.iter().flat_map(|filter| &filter.conditions)
}

/// What stands at a place.
enum Found {
    Plain(Plain),
    Compound,
}

/// The number of the whole document among the places.
const ROOT: usize = 0;

/// The places that are looked for, as a tree: each step of a pointer leads from one to the next. Conditions on one place share it.
struct Places<'f> {
    /// Each place comes after the one above it.
    places: Vec<Place>,
    /// Which place a member of an object at another place is.
    members: HashMap<(usize, Cow<'f, str>), usize>,
    /// Which place an item of a list at another place is.
    items: HashMap<(usize, usize), usize>,
    /// Values that were looked into so far.
    visits: u64,
    /// Members and items that were looked up so far.
    #[cfg(test)]
    looked_up: u64,
}

#[derive(Default)]
struct Place {
    above: usize,
    is_asked_for: bool,
    has_members: bool,
    has_items: bool,
    /// The last visit to it, from 1; 0 before the first. A member that comes twice counts as it comes last.
    visit: u64,
    /// The visit to the place above that it was found in. It counts only if that is the last one.
    within: u64,
    found: Option<Found>,
}

impl Default for Places<'_> {
    fn default() -> Self {
        Places {
            places: vec![Place::default()],
            members: HashMap::new(),
            items: HashMap::new(),
            visits: 0,
            #[cfg(test)]
            looked_up: 0,
        }
    }
}

impl<'f> Places<'f> {
    /// Adds the place that a pointer leads to, and answers its number.
    fn add(&mut self, pointer: &'f str) -> usize {
        let mut above = ROOT;
        for step in pointer.split('/').skip(1) {
            let step = unescaped(step);
            let next = self.places.len();
            let item = step.parse::<usize>().ok().filter(|item| item.to_string() == step);
            let number = *self.members.entry((above, step)).or_insert(next);
            if number == next {
                self.places.push(Place { above, ..Place::default() });
                self.places[above].has_members = true;
                if let Some(item) = item {
                    self.items.insert((above, item), number);
                    self.places[above].has_items = true;
                }
            }
            above = number;
        }
        self.places[above].is_asked_for = true;
        above
    }

    /// Looks for the places in an event's data; `None` if that is not JSON.
    fn look_into(&mut self, data: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(data).ok()?;
        // A reader may ignore the mark (RFC 8259, section 8.1).
        let json: &RawValue = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()?;
        self.look_at(ROOT, json).ok()
    }

    /// Looks at the value at a place. It is taken as it was written, and never through a value that could not hold it.
    fn look_at(&mut self, number: usize, json: &RawValue) -> Result<(), serde_json::Error> {
        let json = json.get();
        let at = At { places: self, number };
        match json.as_bytes().first() {
            Some(b'{') => serde_json::Deserializer::from_str(json).deserialize_map(at),
            Some(b'[') => serde_json::Deserializer::from_str(json).deserialize_seq(at),
            _ => {
                self.note(number, || Found::Plain(Plain::read(json)));
                Ok(())
            }
        }
    }

    /// What stands at each place.
    fn found(&self) -> Vec<Option<&Found>> {
        let mut stands = vec![false; self.places.len()];
        for (number, place) in self.places.iter().enumerate() {
            let is_last = number == ROOT || (stands[place.above] && place.within == self.places[place.above].visit);
            stands[number] = is_last && place.visit > 0;
        }
        self.places.iter().zip(stands).map(|(place, stands)| place.found.as_ref().filter(|_| stands)).collect()
    }

    fn member(&mut self, of: usize, key: &str) -> Option<usize> {
        #[cfg(test)]
        self.count();
        let members: &HashMap<(usize, Cow<'_, str>), usize> = &self.members;
        members.get(&(of, Cow::Borrowed(key))).copied()
    }

    fn item(&mut self, of: usize, item: usize) -> Option<usize> {
        #[cfg(test)]
        self.count();
        self.items.get(&(of, item)).copied()
    }

    #[cfg(test)]
    fn count(&mut self) {
        self.looked_up += 1;
    }

    /// Notes what stands at a place. What nobody asks for is not made.
    fn note(&mut self, number: usize, found: impl FnOnce() -> Found) {
        self.visits += 1;
        let within = self.places[self.places[number].above].visit;
        let place = &mut self.places[number];
        (place.visit, place.within) = (self.visits, within);
        place.found = place.is_asked_for.then(found);
    }
}

/// A look at one value: at a place that is asked for, or on the way to some. `None` where nobody looks for anything.
struct Look<'p, 'f> {
    places: &'p mut Places<'f>,
    number: Option<usize>,
}

fn unescaped(step: &str) -> Cow<'_, str> {
    match step.contains('~') {
        true => Cow::Owned(step.replace("~1", "/").replace("~0", "~")),
        false => Cow::Borrowed(step),
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.number {
            // It is passed over, however deep it nests.
            None => IgnoredAny::deserialize(deserializer).map(drop),
            Some(number) => {
                let json = <&RawValue>::deserialize(deserializer)?;
                self.places.look_at(number, json).map_err(Error::custom)
            }
        }
    }
}

/// A list or an object at a place.
struct At<'p, 'f> {
    places: &'p mut Places<'f>,
    number: usize,
}

impl<'de> Visitor<'de> for At<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let At { places, number } = self;
        places.note(number, || Found::Compound);
        if !places.places[number].has_items {
            return IgnoredAny.visit_seq(list).map(drop);
        }
        for place in 0.. {
            let below = places.item(number, place);
            if list.next_element_seed(Look { places, number: below })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let At { places, number } = self;
        places.note(number, || Found::Compound);
        if !places.places[number].has_members {
            return IgnoredAny.visit_map(map).map(drop);
        }
        while let Some(below) = map.next_key_seed(Key { places, of: number })? {
            map.next_value_seed(Look { places, number: below })?;
        }
        Ok(())
    }
}

/// As much of a text as tells it apart from each that a condition can name, and from what writes a number or a time.
fn beginning(text: &str) -> &str {
    let mut ends = (0..=text.len().min(TEXT_BYTES_KEPT)).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The key of a member of an object at a place.
struct Key<'p, 'f> {
    places: &'p mut Places<'f>,
    of: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        // Half of a surrogate pair is in no text, and in no pointer.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Option<usize>, E> {
        Ok(std::str::from_utf8(key).ok().and_then(|key| self.places.member(self.of, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn condition(pointer: &str, test: Test) -> Condition {
        Condition { pointer: pointer.parse().unwrap(), test }
    }

    fn text(text: &str) -> Plain {
        Plain::Text(text.into())
    }

    fn number(text: &str) -> Plain {
        Plain::Number(text.into())
    }

    fn bound(plain: Plain) -> Bound {
        plain.try_into().unwrap()
    }

    fn passes(pointer: &str, test: Test, data: &str) -> bool {
        let filter = Filter { mode: Mode::All, conditions: vec![condition(pointer, test)] };
        passed(&[&filter], data.as_bytes())[0]
    }

    const DATA: &str = r#"{"amount": "5.00", "minor": 500, "rate": 0.1, "brand": "VISA", "voided": false, "note": null,
        "card": {"last/four": "4242", "a~b": 1}, "items": [{"sku": "x"}, "y"], "at": "2024-01-15T10:30:00Z"}"#;

    #[test]
    fn each_condition_asks_what_it_says() {
        let table = [
            ("/brand", Test::Eq(text("VISA")), true),
            ("/brand", Test::Eq(text("visa")), false),
            ("/brand", Test::Ne(text("AMEX")), true),
            ("/brand", Test::In(vec![text("AMEX"), text("VISA")]), true),
            ("/brand", Test::In(vec![]), false),
            ("/brand", Test::Prefix("VI".into()), true),
            ("/minor", Test::Prefix("5".into()), false),
            ("/minor", Test::Eq(number("5e2")), true),
            ("/minor", Test::Eq(number("500.0")), true),
            ("/minor", Test::Eq(text("500")), false),
            ("/rate", Test::Eq(number("0.10")), true),
            ("/voided", Test::Eq(Plain::Bool(false)), true),
            ("/note", Test::Eq(Plain::Null), true),
            ("/note", Test::Exists(true), true),
            ("/nothing", Test::Exists(false), true),
            ("/nothing", Test::Eq(Plain::Null), false),
            ("/nothing", Test::Ne(text("x")), true),
            ("/nothing/below", Test::Exists(true), false),
            ("/brand/below", Test::Exists(true), false),
            ("/card", Test::Exists(true), true),
            ("/card", Test::Eq(text("4242")), false),
            ("/card/last~1four", Test::Eq(text("4242")), true),
            ("/card/a~0b", Test::Eq(number("1")), true),
            ("/items/0/sku", Test::Eq(text("x")), true),
            ("/items/1", Test::Eq(text("y")), true),
            ("/items/01", Test::Exists(true), false),
            ("/items/2", Test::Exists(true), false),
            ("/items/-", Test::Exists(true), false),
            ("", Test::Exists(true), true),
            ("/amount", Test::Gt(bound(number("4.99"))), true),
            ("/amount", Test::Gt(bound(text("5"))), false),
            ("/amount", Test::Lt(bound(text("5.001"))), true),
            ("/amount", Test::Lt(bound(text("10"))), true),
            ("/minor", Test::Gt(bound(text("499.99"))), true),
            ("/at", Test::Gt(bound(text("2024-01-15T11:29:59+01:00"))), true),
            ("/at", Test::Lt(bound(text("2024-01-15T10:30:00Z"))), false),
            ("/at", Test::Gt(bound(number("1"))), false),
            ("/brand", Test::Gt(bound(number("1"))), false),
            ("/nothing", Test::Lt(bound(number("1"))), false),
        ];
        for (pointer, test, expected) in table {
            assert_eq!(passes(pointer, test.clone(), DATA), expected, "{pointer} {test:?}");
        }
    }

    #[test]
    fn all_and_any_are_told_apart_and_filters_are_answered_together() {
        let (yes, no) = (condition("/a", Test::Eq(number("1"))), condition("/b", Test::Eq(number("1"))));
        let all = Filter { mode: Mode::All, conditions: vec![yes.clone(), no.clone()] };
        let any = Filter { mode: Mode::Any, conditions: vec![no.clone(), yes.clone()] };
        let only = Filter { mode: Mode::All, conditions: vec![yes] };
        assert_eq!(passed(&[&all, &any, &only], br#"{"a": 1, "b": 2}"#), [false, true, true]);
    }

    /// What is no JSON passes nothing, also no condition that asks for an absence.
    #[test]
    fn what_is_not_json_passes_no_filter() {
        for data in ["", "VISA", "{", "{}x", "\u{0}"] {
            assert!(!passes("/a", Test::Exists(false), data), "{data:?}");
        }
        assert!(passes("", Test::Eq(number("7")), " 7 "));
    }

    /// Legal JSON that a value of ours cannot hold is no reason to lose an event: beside the place that a condition asks for, on the
    /// way to it and at it.
    #[test]
    fn whatever_stands_in_it_json_passes_the_filters_that_hold_for_it() {
        let wide = format!("1{}", "0".repeat(400));
        let deep = ["[".repeat(3000), "]".repeat(3000)].concat();
        for odd in
            [r#""\ud800":1"#, r#""b":"\udc00x""#, r#""b":-1e999"#, &format!(r#""b":{wide}"#), &format!(r#""b":{deep}"#)]
        {
            let data = format!(r#"{{{odd},"c":{{{odd},"amount":5,{odd}}},{odd}}}"#);
            for (pointer, test) in [
                ("/c/amount", Test::Gt(bound(number("3")))),
                ("/c/amount", Test::Eq(number("5"))),
                ("/b", Test::Exists(!odd.contains("ud800"))),
                ("/c/b", Test::Ne(number("5"))),
                ("/none", Test::Exists(false)),
            ] {
                assert!(passes(pointer, test.clone(), &data), "{pointer} {test:?} {odd}");
                assert!(passes(pointer, test, &format!("\u{feff}{data}")), "{odd}");
            }
        }
        assert!(passes("/b", Test::Prefix("a".into()), r#"{"b":"a\ud800"}"#));
        let table = [
            ("1e999", "1e308", true),
            ("-1e999", "-1e308", false),
            (&wide, "1e308", true),
            (&format!("-{wide}"), "0", false),
            (&format!("{wide}.5e-300"), "9e99", true),
            (&format!("{wide}.5e-300"), "11e99", false),
            (&format!("{wide}e-999"), "0", false),
        ];
        for (value, level, above) in table {
            let data = format!(r#"{{"a":{value}}}"#);
            assert_eq!(passes("/a", Test::Gt(bound(number(level))), &data), above, "{value} {level}");
        }
    }

    #[test]
    fn a_member_that_comes_twice_counts_as_it_comes_last() {
        assert!(passes("/a", Test::Eq(number("2")), r#"{"a": 1, "a": 2}"#));
        assert!(!passes("/a/b", Test::Exists(true), r#"{"a": {"b": 1}, "a": 2}"#));
    }

    /// What nobody looks for is passed over without a limit of depth.
    #[test]
    fn depth_beside_the_path_does_not_matter() {
        let deep = format!(r#"{{"deep": {}1{}, "a": 1}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(passes("/a", Test::Eq(number("1")), &deep));
    }

    #[test]
    fn a_malformed_pointer_or_bound_is_refused() {
        for wrong in ["a", "/a~", "/a~2", "~0", &"/a".repeat(17), &format!("/{}", "a".repeat(256))] {
            assert!(wrong.parse::<Pointer>().is_err(), "{wrong}");
        }
        for wrong in
            [Plain::Null, Plain::Bool(true), text(""), text("x"), text("1."), text(".5"), text("+1"), text("1e")]
        {
            assert!(Bound::try_from(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    /// Hostile data against many conditions: each member and item is looked up once, whatever the number of conditions, also
    /// where members come again and again.
    #[test]
    fn the_work_does_not_grow_with_members_times_conditions() {
        let list = format!("[{}]", vec!["1"; 100_000].join(","));
        let object = format!("{{{}}}", vec!["\"0\":1"; 100_000].join(","));
        let again = format!("{{{}}}", vec!["\"a\":[[1]]"; 100_000].join(","));
        for (data, stem, looked_up) in [(list, "", 100_001), (object, "", 100_000), (again, "/a/0", 500_000)] {
            let pointers: Vec<_> = (0..320).map(|place| format!("{stem}/{place}")).collect();
            let mut places = Places::default();
            let numbers: Vec<_> = pointers.iter().map(|pointer| places.add(pointer)).collect();
            places.look_into(data.as_bytes()).unwrap();
            assert_eq!(places.looked_up, looked_up, "{stem}");
            assert!(places.found()[numbers[0]].is_some());
        }
    }

    /// A text of 1 MiB is kept once and in its beginning, whatever the number of conditions on it, and that says the same: also of
    /// a text that goes on after the longest one that a condition can name.
    #[test]
    fn a_long_text_is_not_copied() {
        let data = json!({"a": "x".repeat(1 << 20)}).to_string();
        let mut places = Places::default();
        let numbers: Vec<_> = (0..3200).map(|_| places.add("/a")).collect();
        places.look_into(data.as_bytes()).unwrap();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "it is one place");
        let kept: Vec<_> = places.found().into_iter().flatten().collect();
        let [Found::Plain(Plain::Text(kept))] = kept[..] else { panic!("not one text: {}", kept.len()) };
        assert!(kept.capacity() <= TEXT_BYTES_KEPT, "{}", kept.capacity());

        for letter in ["x", "é", "€", "🦀"] {
            let longest = letter.repeat(TEXT_CHARS_MAX);
            for (more, same) in [("", true), ("x", false), ("é", false), ("€", false), ("🦀", false)] {
                let data = json!({"a": format!("{longest}{}", more.repeat(1000))}).to_string();
                assert_eq!(passes("/a", Test::Eq(text(&longest)), &data), same, "{letter} {more}");
                assert!(passes("/a", Test::Prefix(longest.clone()), &data), "{letter} {more}");
            }
        }
    }

    /// A document as it may be written, members that come twice included.
    fn document() -> impl Strategy<Value = String> {
        let plain = prop_oneof![
            Just("null".to_owned()),
            Just("\"x\"".to_owned()),
            Just("\"1.0\"".to_owned()),
            (-2i32..3).prop_map(|number| number.to_string()),
        ];
        plain.prop_recursive(4, 40, 4, |inner| {
            let member = ("[ab01]|a/b|~", inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    fn conditions() -> impl Strategy<Value = Vec<Condition>> {
        let test = prop_oneof![
            any::<bool>().prop_map(Test::Exists),
            Just(Test::Eq(number("1"))),
            Just(Test::Ne(text("x"))),
            Just(Test::In(vec![Plain::Null, text("x")])),
            Just(Test::Gt(bound(number("0")))),
        ];
        let one = ("(/([ab01]|a~1b|~0|-|01)?){0,4}", test).prop_map(|(pointer, test)| condition(&pointer, test));
        prop::collection::vec(one, 1..12)
    }

    proptest! {
        /// One pass for all conditions answers what each says of the parsed document.
        #[test]
        fn a_pass_answers_as_each_condition_alone(data in document(), conditions in conditions()) {
            let parsed: Value = serde_json::from_str(&data).unwrap();
            let filters: Vec<_> =
                conditions.iter().map(|it| Filter { mode: Mode::All, conditions: vec![it.clone()] }).collect();
            let expected: Vec<_> = conditions.iter().map(|it| {
                let found = parsed.pointer(it.pointer.as_str()).map(|value| match value {
                    Value::Null => Found::Plain(Plain::Null),
                    Value::Bool(value) => Found::Plain(Plain::Bool(*value)),
                    Value::Number(value) => Found::Plain(number(&value.to_string())),
                    Value::String(value) => Found::Plain(text(value)),
                    Value::Array(_) | Value::Object(_) => Found::Compound,
                });
                it.test.holds(found.as_ref())
            }).collect();
            prop_assert_eq!(passed(&filters.iter().collect::<Vec<_>>(), data.as_bytes()), expected, "{}", data);
        }

        /// Whatever form a number is written in, its order is the numbers'.
        #[test]
        fn decimals_are_in_the_order_of_their_values(one in -2_000_000i64..2_000_000, other in -2_000_000i64..2_000_000, zeros in 0usize..4) {
            let forms = |minor: i64| {
                let (sign, minor) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
                [
                    format!("{sign}{}.{:02}", minor / 100, minor % 100),
                    format!("{sign}{minor}e-2"),
                    format!("{sign}{}{}.{:02}{}", "0".repeat(zeros), minor / 100, minor % 100, "0".repeat(zeros)),
                    format!("{sign}{minor}{}E-{}", "0".repeat(zeros), zeros + 2),
                ]
            };
            for left in forms(one) {
                for right in forms(other) {
                    let ordering = Decimal::read(&left).unwrap().compare(&Decimal::read(&right).unwrap());
                    prop_assert_eq!(ordering, one.cmp(&other), "{} {}", left, right);
                    prop_assert_eq!(number(&left).is(&number(&right)), one == other, "{} {}", left, right);
                }
            }
        }

        /// One pass finds what a parse of everything finds.
        #[test]
        fn a_pass_finds_what_a_parse_finds(data in "[\\[\\]{}\",:a0-2~/]{0,24}", pointer in "(/[a0-2]{0,1}){0,3}") {
            let parsed = serde_json::from_str::<serde_json::Value>(&data).ok();
            let exists = parsed.as_ref().is_some_and(|value| value.pointer(&pointer).is_some());
            prop_assert_eq!(passes(&pointer, Test::Exists(true), &data), exists);
        }
    }
}
