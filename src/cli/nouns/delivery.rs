//! `delivery`: one event on its way to one destination, with its attempts.

use std::io::Write;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::{Column, Console, Noun, Paging, Reach, Sure, ask, cell_text, destination, event, table, would_be_refused};
use crate::cli::{Exit, Failure, Form};
use crate::model::{DeliveryId, DeliveryState, DestinationId, Timestamp, TypePattern};

pub(in crate::cli) const PATH: &str = "/v1/deliveries";

pub(super) const NOUN: Noun = Noun {
    name: "delivery",
    plural: "deliveries",
    columns: &[
        Column::field("ID", "id"),
        Column::field("DESTINATION", "destination_id"),
        Column::made("STATE", state),
        Column::made("TRIES", |delivery| tries(delivery).len().to_string()),
        Column::made("LAST", |delivery| tries(delivery).last().map_or_else(|| "-".to_owned(), result)),
        Column::field("NEXT TRY", "next_attempt_at"),
    ],
    first: &["id", "event_id", "destination_id", "state", "ending", "waiting_reason", "next_attempt_at"],
    null: &[],
};

/// What is shown of each attempt.
const ATTEMPTS: &[Column] = &[
    Column::field("TRY", "number"),
    Column::field("STARTED", "started_at"),
    Column::made("TOOK", |attempt| format!("{} ms", attempt["duration_ms"])),
    Column::field("TRIGGER", "trigger"),
    Column::field("OUTCOME", "outcome"),
    Column::made("BECAUSE", result),
    Column::field("ADDRESS", "address"),
    Column::field("ERROR", "error"),
];

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider delivery list --state failed --destination ID\n  \
postrider delivery show dlv_…\n  \
postrider delivery resend dlv_…\n  \
postrider delivery cancel dlv_… --dry-run")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List deliveries, newest event first
    List(List),
    /// Show one with its attempts
    Show(One),
    /// Send one that has ended again, on a fresh schedule
    Resend(Several),
    /// Give up what is not delivered yet
    Cancel(Several),
}

#[derive(Debug, Args)]
struct List {
    /// In this state: pending, held, succeeded, failed, cancelled
    #[arg(long, value_parser = states(), hide_possible_values = true)]
    state: Option<String>,
    /// For this destination
    #[arg(long, value_name = "ID")]
    destination: Option<DestinationId>,
    /// Of events of this type, or of a pattern such as transaction.*
    #[arg(long = "type", value_name = "PATTERN")]
    kind: Option<TypePattern>,
    /// Of events accepted at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Of events accepted before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Whose last reply had this status
    #[arg(long, value_parser = clap::value_parser!(u16).range(100..=999))]
    status: Option<u16>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
struct One {
    /// The delivery: dlv_…
    id: DeliveryId,
}

#[derive(Debug, Args)]
struct Several {
    /// The delivery: dlv_…; several may be named
    #[arg(required = true, value_name = "ID")]
    ids: Vec<DeliveryId>,
    #[command(flatten)]
    sure: Sure,
}

/// The states' names.
fn states() -> clap::builder::PossibleValuesParser {
    DeliveryState::ALL.map(DeliveryState::as_str).into()
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    match &arguments.command {
        Command::List(list) => {
            let query = list.paging.query().and("state", list.state.as_ref()).and("destination", list.destination);
            let query = query.and("type", list.kind.as_ref()).and("from", list.from).and("to", list.to);
            console.list(&NOUN, &query.and("status", list.status).behind(PATH))
        }
        Command::Show(One { id }) => show(&console, *id),
        // One more attempt harms nobody; many at once may.
        Command::Resend(several) if several.ids.len() == 1 && !several.sure.dry_run => {
            steer(&console, &several.ids, "resend")
        }
        Command::Resend(several) => steer_if_sure(&console, several, "resend", "resent"),
        Command::Cancel(several) => steer_if_sure(&console, several, "cancel", "cancelled"),
    }
}

fn show(console: &Console, id: DeliveryId) -> Result<Exit, Failure> {
    let answer = console.read(&format!("{PATH}/{id}"))?;
    let mut out = anstream::stdout().lock();
    if console.form() == Form::Json {
        answer.write_to(&mut out)?;
        return Ok(Exit::Done);
    }
    let mut delivery = answer.value()?;
    let attempts = delivery["attempts"].take();
    write!(out, "{}", table::card(&delivery, NOUN.first, NOUN.null))?;
    if let Some(attempts @ [_, ..]) = attempts.as_array().map(Vec::as_slice) {
        write!(out, "\n{}", table::table(ATTEMPTS, attempts))?;
    }
    console.next(format_args!("postrider explain {id}"));
    Ok(Exit::Done)
}

fn steer_if_sure(console: &Console, several: &Several, verb: &str, done: &str) -> Result<Exit, Failure> {
    let Several { ids, sure } = several;
    let what = match ids.as_slice() {
        [one] => format!("the delivery {one}"),
        many => format!("{} deliveries", many.len()),
    };
    if sure.dry_run {
        let mut seen = Vec::new();
        for id in ids {
            seen.push(console.read(&format!("{PATH}/{id}"))?);
        }
        print(console, &seen)?;
        for (id, delivery) in ids.iter().zip(&seen) {
            let delivery = delivery.value()?;
            let hindrance = match verb {
                "cancel" => cannot_be_cancelled(&delivery),
                _ => cannot_be_resent(console, &delivery)?,
            };
            if let Some(cause) = hindrance {
                let help = format!("postrider explain {id}    # says where it stands, and what can be done");
                return Err(would_be_refused(&format!("{verb} the delivery {id}"), cause, help));
            }
        }
        console.say(format_args!("dry run: {what} would be {done}; nothing has changed"));
        return Ok(Exit::Done);
    }
    let deed = format!("{verb} {what}");
    if !sure.yes && !ask(&deed, || Ok(deed.clone()))? {
        console.say("nothing has changed");
        return Ok(Exit::Failed);
    }
    steer(console, ids, verb)
}

fn cannot_be_cancelled(delivery: &Value) -> Option<String> {
    let state = cell_text(&delivery["state"]);
    has_ended(delivery).then(|| format!("the delivery is {state} and cannot be cancelled"))
}

/// Why the daemon would not send this again, if it would not.
fn cannot_be_resent(console: &Console, delivery: &Value) -> Result<Option<String>, Failure> {
    let is_tried = delivery["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty());
    match delivery["waiting_reason"].as_str() {
        Some("in_flight") => return Ok(Some("an attempt is under way; see what comes of it first".to_owned())),
        None | Some("retry_later" | "due_later") => {}
        Some(_) if is_tried => {}
        Some(_) => {
            let why = "the delivery is due and has not been tried: it goes as soon as its destination takes it";
            return Ok(Some(why.to_owned()));
        }
    }
    if console.find(&format!("{}/{}", destination::PATH, cell_text(&delivery["destination_id"])))?.is_none() {
        return Ok(Some("its destination has been deleted".to_owned()));
    }
    let event = console.read(&event::without_payload(cell_text(&delivery["event_id"])))?.value()?;
    Ok((event["erased"] == true).then(|| "the event's payload has been erased; there is nothing to send".to_owned()))
}

fn has_ended(delivery: &Value) -> bool {
    matches!(delivery["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

/// Does it to one after the other, and tells what became of those before a failure as well.
fn steer(console: &Console, ids: &[DeliveryId], verb: &str) -> Result<Exit, Failure> {
    let mut seen = Vec::new();
    let mut ended = Ok(Exit::Done);
    for id in ids {
        match console.change(Method::POST, &format!("{PATH}/{id}/{verb}"), None) {
            Ok(answer) => seen.push(answer),
            Err(failure) => {
                ended = Err(failure);
                break;
            }
        }
    }
    print(console, &seen)?;
    if let (Ok(_), Some(id)) = (&ended, ids.first()) {
        console.next(format_args!("postrider delivery show {id}"));
    }
    ended
}

fn print(console: &Console, answers: &[super::Answer]) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match console.form() {
        Form::Json => answers.iter().try_for_each(|answer| answer.write_to(&mut out))?,
        Form::Text if answers.is_empty() => {}
        Form::Text => {
            let rows = answers.iter().map(super::Answer::value).collect::<Result<Vec<_>, _>>()?;
            write!(out, "{}", table::table(NOUN.columns, &rows))?;
        }
    }
    Ok(())
}

/// The state, and why it waits or how it ended.
fn state(delivery: &Value) -> String {
    let state = cell_text(&delivery["state"]);
    match delivery["waiting_reason"].as_str().or(delivery["ending"].as_str()) {
        Some(why) if why != state => format!("{state} ({why})"),
        Some(_) | None => state,
    }
}

fn tries(delivery: &Value) -> &[Value] {
    delivery["attempts"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What an attempt came to, in as few characters as say it: the status, or else the reason.
fn result(attempt: &Value) -> String {
    match (&attempt["status"], &attempt["reason"]) {
        (Value::Null, Value::Null) => cell_text(&attempt["outcome"]),
        (Value::Null, reason) => cell_text(reason),
        (status, Value::Null) => cell_text(status),
        (status, reason) if reason == "status" => cell_text(status),
        (status, reason) => format!("{} {}", cell_text(status), cell_text(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_is_told_with_its_why_and_an_attempt_with_its_result() {
        assert_eq!(state(&json!({"state": "pending", "waiting_reason": "retry_later"})), "pending (retry_later)");
        assert_eq!(state(&json!({"state": "failed", "ending": "exhausted"})), "failed (exhausted)");
        assert_eq!(state(&json!({"state": "cancelled", "ending": "cancelled"})), "cancelled");
        let table = [
            (json!({"outcome": "succeeded", "status": 200}), "200"),
            (json!({"outcome": "failed", "status": 503, "reason": "status"}), "503"),
            (json!({"outcome": "failed", "status": 200, "reason": "predicate"}), "200 predicate"),
            (json!({"outcome": "failed", "reason": "dns"}), "dns"),
            (json!({"outcome": "unknown"}), "unknown"),
        ];
        for (attempt, text) in table {
            assert_eq!(result(&attempt), text);
        }
    }
}
