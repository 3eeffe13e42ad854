//! `event`: what was accepted, and what became of it.

use std::fmt::Display;
use std::io::Write;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Column, Console, Deed, Noun, Paging, Query, Reach, Sure, delivery, table};
use crate::cli::{Exit, Failure, Form, Trouble};
use crate::model::event::{OrderingKey, ProducerId};
use crate::model::milestone::Milestone;
use crate::model::{DestinationId, EventId, SubscriptionId, Timestamp, TypePattern};

pub(in crate::cli) const PATH: &str = "/v1/events";

pub(super) const NOUN: Noun = Noun {
    name: "event",
    plural: "events",
    columns: &[
        Column::field("ID", "id"),
        Column::field("TYPE", "type"),
        Column::field("ACCEPTED", "accepted_at"),
        Column::field("PRODUCER'S ID", "producer_id"),
        Column::field("KEY", "key"),
        Column::made("DELIVERIES", |event| event["targets"].as_array().map_or(0, Vec::len).to_string()),
    ],
    first: &["id", "type", "tenant", "producer_id", "key", "time", "accepted_at", "deliver_at", "expires_at"],
    null: &[],
};

/// A delivery as the event history shows it.
const RUN: Noun = Noun {
    name: "run",
    plural: "events",
    columns: &[
        Column::field("DELIVERY", "delivery_id"),
        Column::field("TYPE", "type"),
        Column::field("STATE", "state"),
        Column::field("DESTINATION", "destination_name"),
        Column::field("SUBSCRIPTION", "subscription_name"),
        Column::field("DATE", "date"),
        Column::field("STEPS, NEWEST FIRST", "events"),
    ],
    first: &["run_id", "delivery_id", "type", "state"],
    null: &[],
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider event list --type 'transaction.*' --from 2026-01-31T00:00:00Z\n  \
postrider event list --producer-id inv-42    # what became of it?\n  \
postrider event show evt_… --json | jq .data\n  \
postrider event list --payload --json | jq '.events[].data'\n  \
postrider event deliveries evt_…\n  \
postrider event history --destination ID --type FAILED --from 2026-01-31\n  \
postrider event erase-payload evt_… --yes")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List events, newest first
    List(List),
    /// Show one, with its payload to those who may see it
    Show(One),
    /// List its deliveries
    Deliveries(Deliveries),
    /// List runs: each delivery with the steps that it has taken, newest event first
    History(History),
    /// Erase its payload now; what is not delivered yet fails
    ErasePayload(Erase),
}

#[derive(Debug, Args)]
struct List {
    /// Of this type, or of a pattern such as transaction.*
    #[arg(long = "type", value_name = "PATTERN")]
    kind: Option<TypePattern>,
    /// With this ordering key
    #[arg(long)]
    key: Option<OrderingKey>,
    /// The one that the producer gave this id
    #[arg(long, value_name = "ID")]
    producer_id: Option<ProducerId>,
    /// Accepted at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Accepted before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// With their payloads, where --json shows them; the audit log keeps that you were shown them
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
struct One {
    /// The event: evt_…
    id: EventId,
}

#[derive(Debug, Args)]
struct Deliveries {
    /// The event: evt_…
    id: EventId,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
struct History {
    /// For this destination
    #[arg(long, value_name = "ID")]
    destination: Option<DestinationId>,
    /// That this subscription caused
    #[arg(long, value_name = "ID")]
    subscription: Option<SubscriptionId>,
    /// That have taken this step: CREATE, QUEUED, SUCCESS, FAILED, CONFIRM, CONFIRMED
    #[arg(long = "type", value_name = "STEP", value_parser = steps(), hide_possible_values = true, ignore_case = true)]
    step: Option<String>,
    /// Of events accepted on this day or at this time, or later: 2026-01-31 or 2026-01-31T09:30:00Z
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Of events accepted until the end of this day or until this time
    #[arg(long, value_name = "DATE")]
    to: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

fn steps() -> clap::builder::PossibleValuesParser {
    Milestone::ALL.map(Milestone::as_str).into()
}

#[derive(Debug, Args)]
struct Erase {
    /// The event: evt_…
    id: EventId,
    #[command(flatten)]
    sure: Sure,
}

/// Where one is told of without its payload: whoever is shown that stands in the audit log.
pub(in crate::cli) fn without_payload(id: impl Display) -> String {
    Query::new().and("payload", Some(false)).behind(&format!("{PATH}/{id}"))
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    let at = |id: &EventId| format!("{PATH}/{id}");
    match &arguments.command {
        Command::List(list) => {
            if list.payload && form != Form::Json {
                let help = "postrider event list --payload --json, or postrider event show ID for one of them";
                let trouble =
                    Trouble::new("payloads are not shown in a table", "--payload", "they have no column", help);
                return Err(Failure::new(Exit::Usage, trouble));
            }
            let query = list
                .paging
                .query()
                .and("type", list.kind.as_ref())
                .and("key", list.key.as_ref().map(OrderingKey::as_str));
            let query = query
                .and("producer_id", list.producer_id.as_ref().map(ProducerId::as_str))
                .and("from", list.from)
                .and("to", list.to)
                .and("payload", list.payload.then_some(true));
            console.list(&NOUN, &query.behind(PATH))
        }
        Command::Show(One { id }) => show(&console, &at(id), *id),
        Command::Deliveries(Deliveries { id, paging }) => {
            console.list(&delivery::NOUN, &paging.query().behind(&format!("{}/deliveries", at(id))))
        }
        Command::History(History { destination, subscription, step, from, to, paging }) => {
            let query = paging.query().and("destination_id", *destination).and("subscription_id", *subscription);
            let query = query.and("event_type", step.as_ref().map(|step| step.to_ascii_uppercase()));
            let query = query.and("date_from", from.as_ref()).and("date_to", to.as_ref());
            console.list(&RUN, &query.behind("/v1/event_history"))
        }
        Command::ErasePayload(Erase { id, sure }) => {
            let (path, act) = (without_payload(id), format!("{}/payload", at(id)));
            let deed = Deed {
                verb: "erase the payload of",
                done: "without a payload",
                method: Method::DELETE,
                path: &path,
                act: &act,
            };
            console.destroy(&NOUN, &deed, sure)
        }
    }
}

/// What the event carries, as the producer wrote it.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

fn show(console: &Console, path: &str, id: EventId) -> Result<Exit, Failure> {
    let answer = console.read(path)?;
    let mut out = anstream::stdout().lock();
    if console.form() == Form::Json {
        answer.write_to(&mut out)?;
        return Ok(Exit::Done);
    }
    let mut event = answer.value()?;
    event["data"] = Value::Null;
    write!(out, "{}", table::card(&event, NOUN.first, NOUN.null))?;
    // Numbers keep their form only where nobody reads them as numbers.
    if let Payload { data: Some(data) } = answer.read()? {
        writeln!(out, "\n{data}")?;
    }
    console.next(format_args!("postrider event deliveries {id}"));
    Ok(Exit::Done)
}
