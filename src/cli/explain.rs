//! `explain`: why a delivery, an event's deliveries or a destination are where they are, and what an operator can do.
//!
//! Everything here is read from the API; what it means in words stands in `words`.

use std::io::Write;
use std::str::FromStr;

use clap::Args;
use clap::builder::styling::Style;
use serde::Serialize;
use serde_json::Value;

use super::nouns::{Console, Query, Reach, cell_text, delivery, destination, event};
use super::{Exit, Failure, Form, words};
use crate::clock::Clock;
use crate::model::words as model_words;
use crate::model::{DeliveryId, DestinationId, EventId, Invalid, TenantId, Timestamp};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider explain dlv_…    # a delivery\n  \
postrider explain evt_…    # each delivery of an event\n  \
postrider explain 9603F4B2-1874-42FE-A2BC-F7B45C45A9D6    # a destination")]
pub(super) struct Arguments {
    /// A delivery (dlv_…), an event (evt_…) or a destination
    id: Subject,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Delivery(DeliveryId),
    Event(EventId),
    Destination(DestinationId),
}

impl FromStr for Subject {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            delivery if delivery.starts_with("dlv_") => delivery.parse().map(Subject::Delivery),
            event if event.starts_with("evt_") => event.parse().map(Subject::Event),
            destination => destination.parse().map(Subject::Destination).map_err(|_| {
                Invalid::new("neither a delivery (dlv_…) nor an event (evt_…) nor a destination (a UUID), copied whole")
            }),
        }
    }
}

/// What is known of one thing.
#[derive(Debug, Serialize)]
struct Story {
    kind: &'static str,
    id: String,
    state: String,
    /// Why it is in that state, in words.
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// What helps now, the most useful first.
    todo: Vec<Todo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deliveries: Vec<Story>,
}

#[derive(Debug, Serialize)]
struct Todo {
    command: String,
    effect: &'static str,
}

impl Story {
    fn new(kind: &'static str, id: impl ToString, state: &Value, why: impl Into<String>) -> Self {
        Story {
            kind,
            id: id.to_string(),
            state: cell_text(state),
            why: why.into(),
            to: None,
            last_attempt: None,
            next_attempt_at: None,
            todo: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    fn todo(&mut self, command: String, effect: &'static str) {
        self.todo.push(Todo { command, effect });
    }
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    let story = match arguments.id {
        Subject::Delivery(id) => {
            let delivery = console.read(&format!("{}/{id}", delivery::PATH))?.value()?;
            let event = console.find(&event::without_payload(cell_text(&delivery["event_id"])))?;
            let erased = event.map(|event| event.value()).transpose()?.is_none_or(|event| event["erased"] == true);
            of_delivery(&console, &delivery, erased)?
        }
        Subject::Event(id) => of_event(&console, id)?,
        Subject::Destination(id) => of_destination(&console, id)?,
    };
    let mut out = anstream::stdout().lock();
    match form {
        Form::Json => writeln!(out, "{}", serde_json::to_string(&story).map_err(std::io::Error::from)?)?,
        Form::Text => write_text(&mut out, &story, Clock::system().now())?,
    }
    Ok(Exit::Done)
}

/// `erased` is whether its event has no payload any more: nothing can be sent then.
fn of_delivery(console: &Console, delivery: &Value, erased: bool) -> Result<Story, Failure> {
    let (id, destination_id) = (cell_text(&delivery["id"]), cell_text(&delivery["destination_id"]));
    // A destination that has been deleted is not there any more; its deliveries are.
    let destination = match console.find(&format!("{}/{destination_id}", destination::PATH))? {
        Some(answer) => answer.value()?,
        None => Value::Null,
    };
    let waits = delivery["waiting_reason"].as_str();
    let mut why = model_words::why(
        delivery["state"].as_str().unwrap_or_default(),
        waits.or(delivery["ending"].as_str()).unwrap_or_default(),
        destination["disabled"] == true,
    );
    let before = delivery["waits_for"].as_str();
    if let Some(before) = before {
        why.push_str(&format!("; it waits for {before} before it"));
    }
    if erased && delivery["ending"] != "erased" {
        why.push_str("; its event's payload is erased, and nothing can be sent any more");
    }
    let can_be_sent = !erased && !destination.is_null();
    let mut story = Story::new("delivery", &id, &delivery["state"], why);
    story.to = Some(match &destination {
        Value::Null => format!("{destination_id}, which is deleted"),
        known => named(known),
    });
    story.last_attempt = delivery["attempts"].as_array().and_then(|tries| tries.last()).map(words::attempt);
    story.next_attempt_at = delivery["next_attempt_at"].as_str().map(str::to_owned);
    let resend = format!("postrider delivery resend {id}");
    match delivery["state"].as_str() {
        Some("pending" | "held") => {
            if can_be_sent && matches!(waits, Some("retry_later" | "due_later")) {
                story.todo(resend, "sends it now instead of later");
            }
            if let Some(before) = before {
                story.todo(format!("postrider explain {before}"), "tells what keeps the one before it");
            }
            if can_be_sent {
                open_up(&mut story, &destination, waits.unwrap_or_default());
            }
            story.todo(format!("postrider delivery cancel {id}"), "gives it up");
        }
        Some("succeeded") if can_be_sent => story.todo(resend, "sends it again, if the receiver has lost it"),
        Some("failed" | "cancelled") if can_be_sent => story.todo(resend, "sends it again, on a fresh schedule"),
        _ => {}
    }
    if story.last_attempt.is_some() {
        story.todo(format!("postrider delivery show {id}"), "shows every attempt");
    }
    Ok(story)
}

fn of_event(console: &Console, id: EventId) -> Result<Story, Failure> {
    let event = console.read(&event::without_payload(id))?.value()?;
    let path = Query::new().and("limit", Some(1000)).behind(&format!("{}/{id}/deliveries", event::PATH));
    let page = console.read(&path)?.value()?;
    let deliveries = page["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut why = match deliveries.len() {
        0 => "it goes nowhere".to_owned(),
        1 => "it goes to one destination".to_owned(),
        several => format!("it goes to {several} destinations"),
    };
    for skipped in event["skipped"].as_array().into_iter().flatten() {
        let (destination, reason) = (cell_text(&skipped["destination_id"]), cell_text(&skipped["reason"]));
        why.push_str(&format!("; not to {destination}, which was {reason} when it came"));
    }
    let erased = event["erased"] == true;
    if erased {
        why.push_str("; its payload is erased");
    }
    let mut story = Story::new("event", id, &"accepted".into(), why);
    for delivery in deliveries {
        story.deliveries.push(of_delivery(console, delivery, erased)?);
    }
    let kind = cell_text(&event["type"]);
    if deliveries.is_empty() {
        story.todo("postrider subscription list".to_owned(), "shows who subscribes to what");
        story.todo(format!("postrider subscription create {kind} --destination ID"), "subscribes to events to come");
    }
    Ok(story)
}

fn of_destination(console: &Console, id: DestinationId) -> Result<Story, Failure> {
    let destination = console.read(&format!("{}/{id}", destination::PATH))?.value()?;
    let mut story = Story::new("destination", id, &destination::state(&destination).into(), "");
    story.to = Some(named(&destination));
    // Lists are a tenant's own: its destination's, whomever the key may act for besides.
    let tenant: Option<TenantId> = destination["tenant"].as_str().and_then(|tenant| tenant.parse().ok());
    let tenant = tenant.unwrap_or_else(TenantId::default_tenant);
    let (mut seen, mut holds_unconfirmed) = (None, false);
    for state in ["pending", "held", "failed"] {
        let query = Query::new().and("destination", Some(id)).and("state", Some(state)).and("limit", Some(1));
        let page = console.read_for(&tenant, &query.behind(delivery::PATH))?.value()?;
        let Some(newest) = page["deliveries"].get(0) else { continue };
        let list = format!("postrider delivery list --destination {id} --state {state} --tenant {tenant}");
        match state {
            "failed" => story.todo(list, "shows what has failed"),
            _ => story.todo(list, "shows what waits for it"),
        }
        holds_unconfirmed |= state != "failed" && newest["waiting_reason"] == "unconfirmed";
        seen = seen.or_else(|| newest["attempts"].as_array().and_then(|tries| tries.last()).map(words::attempt));
    }
    story.last_attempt = seen;
    story.why = words::standing(&destination, holds_unconfirmed);
    let mut opening = Story::new("destination", id, &Value::Null, "");
    let reason = match (&destination["disabled"], &destination["confirmed"], destination["lane"]["state"].as_str()) {
        (Value::Bool(true), _, _) | (_, _, Some("paused")) => "paused",
        (_, Value::Bool(false), _) => "unconfirmed",
        (_, _, Some("gone")) => "gone",
        (_, _, Some("shut" | "probing")) => "lane_shut",
        (_, _, Some("held")) => "retry_after",
        _ => "",
    };
    open_up(&mut opening, &destination, reason);
    story.todo.splice(0..0, opening.todo);
    Ok(story)
}

/// What opens a destination that holds its deliveries for this reason.
fn open_up(story: &mut Story, destination: &Value, reason: &str) {
    let id = cell_text(&destination["id"]);
    let resume = format!("postrider destination resume {id}");
    match reason {
        "paused" if destination["disabled"] == true => {
            story.todo(format!("postrider destination update {id} --disabled=false"), "switches it on");
        }
        "paused" => story.todo(resume, "sends on"),
        "unconfirmed" => story.todo(format!("postrider destination confirm {id}"), "asks it again to confirm itself"),
        "gone" => story.todo(resume, "sends on, once the receiver is there again"),
        "lane_shut" | "retry_after" => story.todo(resume, "tries now, once the receiver is well again"),
        "rate" => story.todo(format!("postrider destination update {id} --rate N/SPAN"), "allows more at a time"),
        "lane_full" => {
            story.todo(format!("postrider destination update {id} --in-flight-max N"), "allows more at once")
        }
        _ => {}
    }
}

fn named(destination: &Value) -> String {
    format!("{} ({})", cell_text(&destination["http_endpoint_url"]), cell_text(&destination["name"]))
}

const LABEL: Style = Style::new().bold();

fn write_text(out: &mut impl Write, story: &Story, now: Timestamp) -> Result<(), Failure> {
    let Story { kind, id, state, why, to, last_attempt, next_attempt_at, todo, deliveries } = story;
    writeln!(out, "{LABEL}{kind} {id}{LABEL:#}")?;
    writeln!(out, "  {LABEL}state:{LABEL:#} {state}: {why}")?;
    if let Some(to) = to {
        writeln!(out, "     {LABEL}to:{LABEL:#} {}", plain(to))?;
    }
    if let Some(last) = last_attempt {
        writeln!(out, "   {LABEL}last:{LABEL:#} {}", plain(last))?;
    }
    // What is held waits for more than a moment.
    if let Some(next) = next_attempt_at.as_ref().filter(|_| state != "held") {
        let ahead = next.parse::<Timestamp>().ok().map(|next| words::until(next, now)).unwrap_or_default();
        writeln!(out, "   {LABEL}next:{LABEL:#} {next}{ahead}")?;
    }
    for Todo { command, effect } in todo {
        writeln!(out, "     {LABEL}do:{LABEL:#} {command}    # {effect}")?;
    }
    for delivery in deliveries {
        writeln!(out)?;
        write_text(out, delivery, now)?;
    }
    Ok(())
}

/// What came from outside does not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}
