//! `event-type`: the catalogue of event types.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::body::{Body, FromJson, text_of};
use super::{Column, Console, Noun, Paging, Sure, would_be_refused};
use crate::cli::admin::DaemonArguments;
use crate::cli::{Exit, Failure, Form, Trouble};
use crate::model::EventType;

const PATH: &str = "/v1/event-types";

const NOUN: Noun = Noun {
    name: "event type",
    plural: "event_types",
    columns: &[
        Column::field("NAME", "name"),
        Column::made("FROM", |known| {
            let named = known["source"].as_str().or_else(|| known["origin"].as_str());
            named.unwrap_or_default().to_owned()
        }),
        Column::field("ALIASES", "aliases"),
        Column::field("DESCRIPTION", "description"),
    ],
    first: &["name", "description", "aliases", "sample"],
    null: &[],
};

#[derive(Debug, Args)]
#[command(after_help = "What is built in, or named in the configuration ([[events.type]]), is not changed here. All \
spellings of a type count as one where it is decided who gets an event; a test carries the sample.\n\nExamples:\n  \
postrider event-type list --limit 1000\n  \
postrider event-type list --json | jq -r '.event_types[].name'\n  \
postrider event-type show transaction.sale.success\n  \
postrider event-type create refund.settled --alias refund.done\n  \
postrider event-type update refund.settled --sample sample.json\n  \
postrider event-type delete refund.settled --dry-run")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is known: built in, configured, added
    List(Paging),
    /// Show one, also by an alias
    Show(One),
    /// Add one
    Create(Change),
    /// Change an added one's description, aliases or sample
    Update(Change),
    /// Take an added one out; events and subscriptions of it stay
    Delete(Delete),
}

#[derive(Debug, Args)]
struct One {
    /// The event type
    name: EventType,
}

#[derive(Debug, Args)]
struct Change {
    /// The event type: 1 to 128 letters, digits, "_", "-" or "."
    name: EventType,
    /// What has happened when there is such an event
    #[arg(long)]
    description: Option<String>,
    /// Another spelling of it; may be given more than once, and replaces those that are there
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<EventType>,
    /// What a test of it says: a file with one JSON value; - reads standard input
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    #[command(flatten)]
    from_json: FromJson,
}

impl Change {
    fn body(&self) -> Result<Body, Failure> {
        let mut body = self.from_json.body()?;
        body.set("description", self.description.as_deref());
        if !self.aliases.is_empty() {
            body.set("aliases", Some(self.aliases.iter().map(EventType::as_str).collect::<Vec<_>>()));
        }
        if let Some(path) = &self.sample {
            let sample: Value = serde_json::from_str(&text_of("the sample", path)?).map_err(|error| {
                let (place, help) = (path.display().to_string(), "the file holds one JSON value");
                Failure::new(Exit::Usage, Trouble::new("cannot use the sample", place, error.to_string(), help))
            })?;
            body.set("sample", Some(sample));
        }
        Ok(body)
    }
}

#[derive(Debug, Args)]
struct Delete {
    /// The event type
    name: EventType,
    #[command(flatten)]
    sure: Sure,
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::for_all(&arguments.daemon, form)?;
    let at = |name: &EventType| format!("{PATH}/{name}");
    match &arguments.command {
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { name }) => console.show_at(&NOUN, &at(name)),
        Command::Create(create) => {
            let mut body = create.body()?;
            body.set("name", Some(create.name.as_str()));
            console.show(&NOUN, &console.change(Method::POST, PATH, Some(&body.into_value()))?)?;
            console.next(format_args!("postrider subscription create {} --destination ID", create.name));
            Ok(Exit::Done)
        }
        Command::Update(update) => {
            let body = update.body()?.into_change()?;
            console.show(&NOUN, &console.change(Method::PUT, &at(&update.name), Some(&body))?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { name, sure }) => {
            if sure.dry_run && console.read(&at(name))?.value()?["read_only"] == true {
                let (deed, cause) = (format!("delete the event type {name}"), "it is built in or configured");
                return Err(would_be_refused(&deed, cause, "leave it, or change [[events.type]] of the configuration"));
            }
            console.delete(&NOUN, &at(name), sure)
        }
    }
}
