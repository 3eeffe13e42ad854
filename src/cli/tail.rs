//! `tail`: attempts as they end, one line each, for as long as somebody looks.
//!
//! The daemon may stop and start meanwhile: the command says so, and waits for it. What happens until it watches again is
//! not made up for; `delivery list` has it.

use std::io::Write;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;

use super::admin::Lines;
use super::nouns::{Console, Query, Reach, cell_text, one_line};
use super::{Exit, Failure, Form, demo};
use crate::model::{DestinationId, Outcome, TypePattern};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider tail\n  \
postrider tail --outcome failed --type 'transaction.*'\n  \
postrider tail --destination ID --count 1    # waits for the next attempt\n  \
postrider tail --json | jq .attempt")]
pub(super) struct Arguments {
    /// To this destination
    #[arg(long, value_name = "ID")]
    destination: Option<DestinationId>,
    /// Of events of this type, or of a pattern such as transaction.*
    #[arg(long = "type", value_name = "PATTERN")]
    kind: Option<TypePattern>,
    /// That came to this: succeeded, failed, unknown
    #[arg(long, value_parser = outcomes(), hide_possible_values = true)]
    outcome: Option<String>,
    /// End after N attempts
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    #[command(flatten)]
    reach: Reach,
}

/// The outcomes' names.
fn outcomes() -> clap::builder::PossibleValuesParser {
    Outcome::ALL.map(Outcome::as_str).into()
}

const PATH: &str = "/v1/tail";
/// The daemon breaks its silence every 15 seconds; when nothing comes for this long, it is not there any more.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Between two looks whether the daemon is there again: at first, and at most.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    super::runtime()?.block_on(async {
        let watch = Watch { arguments, console: &console, form, left: arguments.count.map(NonZeroU64::get) };
        tokio::select! {
            ended = watch.run() => ended?,
            interrupted = demo::interrupted() => interrupted?,
        }
        Ok(Exit::Done)
    })
}

struct Watch<'a> {
    arguments: &'a Arguments,
    console: &'a Console,
    form: Form,
    /// How many attempts are still to be shown.
    left: Option<u64>,
}

impl Watch<'_> {
    /// Shows attempts until there have been as many as wanted. A daemon that cannot be reached at first is a failure; one
    /// that was there is waited for.
    async fn run(mut self) -> Result<(), Failure> {
        let mut lines = self.open().await?;
        self.console.say("watching; Ctrl-C ends");
        loop {
            let why = match self.show(&mut lines).await? {
                None => return Ok(()),
                Some(why) => why,
            };
            // Programs should know of the gap as well.
            writeln!(anstream::stderr(), "the daemon is gone ({why}); waiting for it")?;
            lines = self.open_again().await?;
            let remark = "watching again; what happened meanwhile is in: postrider delivery list";
            writeln!(anstream::stderr(), "{remark}")?;
        }
    }

    async fn open(&self) -> Result<Lines, Failure> {
        let Arguments { destination, kind, outcome, .. } = self.arguments;
        let query = Query::new().and("destination", *destination).and("type", kind.as_ref());
        self.console.follow(&query.and("outcome", outcome.as_ref()).behind(PATH)).await
    }

    async fn open_again(&self) -> Result<Lines, Failure> {
        let [mut pause, pause_max] = RETRY_AFTER;
        loop {
            tokio::time::sleep(pause).await;
            match self.open().await {
                Ok(lines) => return Ok(lines),
                Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::TryLater) => {}
                Err(failure) => return Err(failure),
            }
            pause = pause_max.min(2 * pause);
        }
    }

    /// Shows what comes: until there is enough (`None`), or why no more comes.
    async fn show(&mut self, lines: &mut Lines) -> Result<Option<String>, Failure> {
        let mut event = Event::default();
        loop {
            let line = match tokio::time::timeout(SILENCE_MAX, lines.next()).await {
                Err(_) => return Ok(Some(format!("nothing came for {} s", SILENCE_MAX.as_secs()))),
                Ok(Err(why)) => return Ok(Some(why)),
                Ok(Ok(None)) => return Ok(Some("it ended the stream".to_owned())),
                Ok(Ok(Some(line))) => line,
            };
            let Some(Event { name, data }) = event.take_in(&line) else { continue };
            match name.as_str() {
                "" => {
                    self.print(&data)?;
                    self.left = self.left.map(|left| left - 1);
                    if self.left == Some(0) {
                        return Ok(None);
                    }
                }
                "missed" => tell_missed(&data)?,
                // A newer daemon's.
                _ => {}
            }
        }
    }

    fn print(&self, data: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        match (self.form, serde_json::from_str(data)) {
            (Form::Text, Ok(ended)) => writeln!(out, "{}", line_of(&ended))?,
            (Form::Json, _) | (Form::Text, Err(_)) => writeln!(out, "{data}")?,
        }
        Ok(out.flush()?)
    }
}

/// A server-sent event, or the part of it that has come.
#[derive(Debug, Default)]
struct Event {
    name: String,
    data: String,
}

impl Event {
    /// Takes in a line; the whole event, when the line ended one. What else a stream may say (comments, ids, pauses) is
    /// nothing to be shown.
    fn take_in(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(self);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" if self.data.is_empty() => self.data = value.to_owned(),
            "data" => self.data.extend(["\n", value]),
            _ => {}
        }
        None
    }
}

/// The daemon had more to tell than was taken in time.
fn tell_missed(data: &str) -> Result<(), Failure> {
    let missed = serde_json::from_str::<Value>(data).unwrap_or_default();
    let many = missed["missed"].as_u64().map_or_else(|| "some".to_owned(), |count| count.to_string());
    writeln!(anstream::stderr(), "{many} attempts passed too fast to be shown; postrider delivery list has them")?;
    Ok(())
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// An attempt in one line.
fn line_of(ended: &Value) -> String {
    let attempt = &ended["attempt"];
    let outcome = cell_text(&attempt["outcome"]);
    let style = if outcome == "succeeded" { GOOD } else { BAD };
    // What a status does not say, the reason does.
    let result = match (attempt["status"].as_u64(), attempt["reason"].as_str()) {
        (Some(status), None | Some("status")) => status.to_string(),
        (Some(status), Some(reason)) => format!("{status} {reason}"),
        (None, reason) => reason.unwrap_or("-").to_owned(),
    };
    let name = match ended["destination_name"].as_str() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => cell_text(&ended["destination_id"]),
    };
    let next = match ended["next_attempt_at"].as_str() {
        Some(next) => format!(", again at {next}"),
        None => String::new(),
    };
    let (started, kind) = (cell_text(&attempt["started_at"]), cell_text(&ended["type"]));
    let (number, took) = (&attempt["number"], &attempt["duration_ms"]);
    let shown = [started, format!("{outcome:<9}"), format!("{result:<7}"), kind, name].map(one_line);
    let [started, outcome, result, kind, name] = &shown;
    format!(
        "{started}  {style}{outcome}  {result}{style:#}  {kind}  {name}  attempt {number}, {took} ms{}",
        one_line(next)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The whole events of a text.
    fn events(text: &str) -> Vec<(String, String)> {
        let mut event = Event::default();
        text.lines().filter_map(|line| event.take_in(line)).map(|Event { name, data }| (name, data)).collect()
    }

    #[test]
    fn events_are_told_from_all_else_that_a_stream_says() {
        let text =
            ": hello\nretry: 3000\n\ndata: 1\n\n:\n\nevent: missed\nid: 7\ndata:2\ndata: 3\n\nevent: empty\n\ndata\n\n";
        let expected = [("", "1"), ("missed", "2\n3")].map(|(name, data)| (name.to_owned(), data.to_owned()));
        assert_eq!(events(text), expected);
    }

    #[test]
    fn a_line_says_what_a_glance_asks_for() {
        let line = |change: &dyn Fn(&mut Value)| {
            let mut ended = json!({
                "type": "a.b", "destination_id": "UUID", "destination_name": "books", "next_attempt_at": null,
                "attempt": {
                    "number": 1, "started_at": "T", "duration_ms": 12, "outcome": "succeeded", "reason": null, "status": 200
                },
            });
            change(&mut ended);
            anstream::adapter::strip_str(&line_of(&ended)).to_string()
        };
        let failed = |ended: &mut Value, reason: &str, status: Value| {
            ended["attempt"]["outcome"] = "failed".into();
            ended["attempt"]["reason"] = reason.into();
            ended["attempt"]["status"] = status;
        };
        assert_eq!(line(&|_| {}), "T  succeeded  200      a.b  books  attempt 1, 12 ms");
        let refused = line(&|ended| {
            ended["next_attempt_at"] = "L".into();
            failed(ended, "status", 503.into());
        });
        assert_eq!(refused, "T  failed     503      a.b  books  attempt 1, 12 ms, again at L");
        let gone = line(&|ended| failed(ended, "gone", 410.into()));
        assert_eq!(gone, "T  failed     410 gone  a.b  books  attempt 1, 12 ms");
        let unanswered = line(&|ended| failed(ended, "timeout_connect", Value::Null));
        assert_eq!(unanswered, "T  failed     timeout_connect  a.b  books  attempt 1, 12 ms");
        let steering = line(&|ended| ended["destination_name"] = "\u{1b}[2J".into());
        assert_eq!(steering, r"T  succeeded  200      a.b  \u{1b}[2J  attempt 1, 12 ms");
        assert!(line(&|ended| ended["destination_name"] = "".into()).contains("  UUID  "));
    }
}
