//! `replay`: many deliveries that have ended, sent again as one job.

use std::str::FromStr;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::body::Body;
use super::{Column, Console, Deed, Noun, Paging, Reach, Sure, ask, would_be_refused};
use crate::cli::{Exit, Failure, Form};
use crate::model::{DestinationId, Invalid, ReplayId, Timestamp, TypePattern};

const PATH: &str = "/v1/replays";

const NOUN: Noun = Noun {
    name: "replay",
    plural: "replays",
    columns: &[
        Column::field("ID", "id"),
        Column::field("STATE", "state"),
        Column::made("MATCHED", matched),
        Column::field("DONE", "done"),
        Column::field("SKIPPED", "skipped"),
        Column::made("OF STATE", |replay| super::cell_text(&replay["filter"]["state"])),
        Column::made("TYPE", |replay| super::cell_text(&replay["filter"]["type"])),
        Column::made("DESTINATION", |replay| super::cell_text(&replay["filter"]["destination"])),
        Column::field("CREATED", "created"),
    ],
    first: &["id", "state", "reason", "matched", "matched_at_least", "done", "skipped", "filter", "rate"],
    null: &[],
};

/// What a dry run shows.
const COUNT: Noun =
    Noun { name: "count", plural: "counts", columns: &[], first: &["matched", "matched_at_least"], null: &[] };

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider replay create --destination ID --dry-run\n  \
postrider replay create --destination ID --from 2026-01-31T09:00:00Z --yes\n  \
postrider replay create --type 'sale.*' --state succeeded --rate 10/1m --yes\n  \
postrider replay list\n  \
postrider replay show rpl_7\n  \
postrider replay cancel rpl_7 --yes")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send again what has failed, or what else has ended
    Create(Create),
    /// List replays, newest first
    List(Paging),
    /// Show one, and how far it has come
    Show(One),
    /// Stop one; what it has sent stays sent
    Cancel(Cancel),
}

#[derive(Debug, Args)]
struct Create {
    /// Only to this destination
    #[arg(long, value_name = "ID")]
    destination: Option<DestinationId>,
    /// Only of events of this type, or of a pattern such as transaction.*
    #[arg(long = "type", value_name = "PATTERN")]
    kind: Option<TypePattern>,
    /// Only of events accepted at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only of events accepted before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// What has ended so: failed, cancelled, succeeded
    #[arg(long, default_value = "failed", value_parser = ["failed", "cancelled", "succeeded"], hide_possible_values = true)]
    state: String,
    /// So many a second at most, or in a span: 10/1m [default: 100]
    #[arg(long, value_name = "N[/SPAN]")]
    rate: Option<Pace>,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Args)]
struct One {
    /// The replay: rpl_…
    id: ReplayId,
}

#[derive(Debug, Args)]
struct Cancel {
    /// The replay: rpl_…
    id: ReplayId,
    #[command(flatten)]
    sure: Sure,
}

/// So many in a span of time. Whether it is a span is the daemon's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pace {
    events: u32,
    per: Option<String>,
}

impl FromStr for Pace {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (events, per) = match text.split_once('/') {
            Some((events, per)) => (events, Some(per.to_owned())),
            None => (text, None),
        };
        let events = events.parse().map_err(|_| Invalid::new("not a rate such as 50 or 10/1m"))?;
        Ok(Pace { events, per })
    }
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    match &arguments.command {
        Command::Create(create) => self::create(&console, create),
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { id }) => console.show_at(&NOUN, &format!("{PATH}/{id}")),
        Command::Cancel(Cancel { id, sure }) => {
            if sure.dry_run {
                return dry_cancel(&console, *id);
            }
            let (path, act) = (format!("{PATH}/{id}"), format!("{PATH}/{id}/cancel"));
            let deed = Deed { verb: "cancel", done: "cancelled", method: Method::POST, path: &path, act: &act };
            console.destroy(&NOUN, &deed, sure)
        }
    }
}

fn create(console: &Console, create: &Create) -> Result<Exit, Failure> {
    let mut body = Body::default();
    body.set("destination", create.destination.map(|id| id.to_string()));
    body.set("type", create.kind.as_ref().map(TypePattern::to_string));
    body.set("from", create.from.map(|at| at.to_string()));
    body.set("to", create.to.map(|at| at.to_string()));
    body.set("state", Some(create.state.as_str()));
    let rate = create.rate.as_ref().map(|pace| match &pace.per {
        Some(per) => json!({"events": pace.events, "per": per}),
        None => json!(pace.events),
    });
    body.set("rate", rate);
    let mut body = body.into_value();
    let count = |mut body: Value| {
        body["dry_run"] = true.into();
        console.change(Method::POST, PATH, Some(&body))
    };
    if create.sure.dry_run {
        console.show(&COUNT, &count(body)?)?;
        console.say("dry run: so many deliveries would be sent again; nothing has changed");
        return Ok(Exit::Done);
    }
    let question = || Ok(format!("send {} deliveries again", matched(&count(body.clone())?.value()?)));
    if !create.sure.yes && !ask("send many deliveries again", question)? {
        console.say("nothing has changed");
        return Ok(Exit::Failed);
    }
    body["dry_run"] = false.into();
    let replay = console.show(&NOUN, &console.change(Method::POST, PATH, Some(&body))?)?;
    console.next(format_args!("postrider replay show {}", replay["id"].as_str().unwrap_or("ID")));
    Ok(Exit::Done)
}

/// Shows what would be cancelled, or fails as the daemon would.
fn dry_cancel(console: &Console, id: ReplayId) -> Result<Exit, Failure> {
    let replay = console.show(&NOUN, &console.read(&format!("{PATH}/{id}"))?)?;
    match replay["state"].as_str() {
        Some("running") => {
            console.say("dry run: this replay would be cancelled; nothing has changed");
            Ok(Exit::Done)
        }
        _ => {
            let cause = format!("the replay has ended: it is {}", super::cell_text(&replay["state"]));
            let help = "what it has made due goes on by itself: postrider delivery list    # and delivery cancel";
            Err(would_be_refused(&format!("cancel the replay {id}"), cause, help))
        }
    }
}

/// How many deliveries match.
fn matched(count: &Value) -> String {
    let at_least = if count["matched_at_least"] == true { "at least " } else { "" };
    format!("{at_least}{}", count["matched"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_so_many_in_a_span() {
        assert_eq!("50".parse(), Ok(Pace { events: 50, per: None }));
        assert_eq!("10/1m".parse(), Ok(Pace { events: 10, per: Some("1m".into()) }));
        for wrong in ["", "fast", "/1m", "-1", "1.5"] {
            assert!(wrong.parse::<Pace>().is_err(), "{wrong}");
        }
    }
}
