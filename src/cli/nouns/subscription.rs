//! `subscription`: which events go where.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::body::{Body, FromJson, object_of};
use super::{Column, Console, Noun, Query, Reach, Sure, destination};
use crate::cli::{Exit, Failure, Form};
use crate::model::{DestinationId, SubscriptionId, TypePattern};

pub(super) const PATH: &str = "/v1/subscriptions";

pub(super) const NOUN: Noun = Noun {
    name: "subscription",
    plural: "subscriptions",
    columns: &[
        Column::field("TYPE", "type"),
        Column::field("ID", "id"),
        Column::field("NAME", "name"),
        Column::field("TENANT", "tenant"),
        Column::field("ROLL UP", "roll_up"),
        Column::field("DESTINATIONS", "destinations"),
    ],
    first: &["type", "id", "name", "tenant", "roll_up", "destinations"],
    null: &[],
};

#[derive(Debug, Args)]
#[command(after_help = "TYPE is one event type or a pattern: '*' is every type, 'transaction.*' all that \
begin so. Quote it in a shell.\n\nExamples:\n  \
postrider subscription list\n  \
postrider subscription show 'transaction.*' ID\n  \
postrider subscription create 'transaction.*' --destination ID --name books\n  \
postrider subscription update 'transaction.*' ID --roll-up\n  \
postrider subscription update 'transaction.*' ID --filter-from large.json\n  \
postrider subscription delete 'transaction.*' ID --dry-run\n  \
postrider subscription link 'transaction.*' ID DESTINATION\n  \
postrider subscription unlink 'transaction.*' ID DESTINATION\n  \
postrider subscription test 'transaction.*' ID")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List subscriptions
    List(List),
    /// Show one
    Show(One),
    /// Make one
    Create(Create),
    /// Change its name, its reach or where its events go
    Update(Update),
    /// Delete one; what it has sent on its way is still delivered
    Delete(Delete),
    /// Send its events to one more destination
    Link(Link),
    /// Send its events to a destination no more
    Unlink(Link),
    /// Send a sample of its type to all its destinations
    Test(One),
}

#[derive(Debug, Args)]
struct List {
    /// Of this type only; without it all, each type's answer on a line of its own with --json
    #[arg(value_name = "TYPE")]
    kind: Option<TypePattern>,
    /// At most this many, 0 to 1000
    #[arg(long, value_name = "N", requires = "kind", value_parser = clap::value_parser!(u16).range(..=1000))]
    limit: Option<u16>,
    /// Go on after this cursor, which the page before named
    #[arg(long, value_name = "CURSOR", requires = "kind")]
    after: Option<String>,
}

#[derive(Debug, Args)]
struct One {
    /// What it subscribes to
    #[arg(value_name = "TYPE")]
    kind: TypePattern,
    /// The subscription
    id: SubscriptionId,
}

impl One {
    fn path(&self) -> String {
        format!("{PATH}/{}/{}", self.kind, self.id)
    }
}

#[derive(Debug, Args)]
struct Create {
    /// What it subscribes to
    #[arg(value_name = "TYPE")]
    kind: TypePattern,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Update {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Args)]
struct Link {
    #[command(flatten)]
    one: One,
    /// The destination
    destination: DestinationId,
}

#[derive(Debug, Args)]
struct Fields {
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Where its events go; may be repeated, and replaces what was linked
    #[arg(long = "destination", value_name = "ID")]
    destinations: Vec<DestinationId>,
    /// Whether the events of all tenants below count as well
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    roll_up: Option<bool>,
    /// Only events that pass the filter in this file, a JSON object; - reads standard input
    #[arg(long, value_name = "FILE")]
    filter_from: Option<PathBuf>,
    #[command(flatten)]
    from_json: FromJson,
}

impl Fields {
    fn body(&self) -> Result<Body, Failure> {
        let mut body = self.from_json.body()?;
        body.set("name", self.name.as_deref());
        let ids: Vec<String> = self.destinations.iter().map(|id| id.to_string()).collect();
        body.set("destinations", Some(ids).filter(|ids| !ids.is_empty()));
        body.set("roll_up", self.roll_up);
        let help =
            r#"the file holds a filter such as {"all": [{"pointer": "/amount", "op": "gt", "value": "100.00"}]}"#;
        let filter = self.filter_from.as_deref().map(|path| object_of("the filter", path, help)).transpose()?;
        body.set("filter", filter);
        Ok(body)
    }
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    match &arguments.command {
        Command::List(List { kind: Some(kind), limit, after }) => {
            let query = Query::new().and("limit", Some(limit.unwrap_or(50))).and("after", after.as_ref());
            console.list(&NOUN, &query.behind(&format!("{PATH}/{kind}")))
        }
        Command::List(List { kind: None, .. }) => list_all(&console),
        Command::Show(one) => console.show_at(&NOUN, &one.path()),
        Command::Create(Create { kind, fields }) => {
            let body = fields.body()?.into_value();
            let made = console.change(Method::POST, &format!("{PATH}/{kind}"), Some(&body))?;
            let made = console.show(&NOUN, &made)?;
            let id = made["id"].as_str().unwrap_or("ID");
            match made["destinations"].as_array().is_some_and(|linked| !linked.is_empty()) {
                true => console.next(format_args!("postrider emit {}", destination::example_type(kind))),
                false => console.next(format_args!("postrider subscription link '{kind}' {id} DESTINATION")),
            }
            Ok(Exit::Done)
        }
        Command::Update(Update { one, fields }) => {
            let body = fields.body()?.into_change()?;
            console.show(&NOUN, &console.change(Method::PUT, &one.path(), Some(&body))?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { one, sure }) => console.delete(&NOUN, &one.path(), sure),
        Command::Test(one) => destination::test(&console, &one.path(), None),
        Command::Link(Link { one, destination }) => {
            let body = json!({ "destination": destination.to_string() });
            let path = format!("{}/destinations", one.path());
            console.show(&NOUN, &console.change(Method::POST, &path, Some(&body))?)?;
            Ok(Exit::Done)
        }
        Command::Unlink(Link { one, destination }) => {
            console.change(Method::DELETE, &format!("{}/destinations/{destination}", one.path()), None)?;
            console.say(format_args!("subscription {} no longer goes to {destination}", one.id));
            Ok(Exit::Done)
        }
    }
}

/// Every type's list, to its end: the API lists one type at a time.
fn list_all(console: &Console) -> Result<Exit, Failure> {
    let kinds = console.read(PATH)?.value()?;
    let mut rows: Vec<Value> = Vec::new();
    for path in kinds["urls"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let mut after = None;
        loop {
            let answer =
                console.read(&Query::new().and("limit", Some(1000)).and("after", after.take()).behind(path))?;
            let mut page = answer.value()?;
            if console.form() == Form::Json {
                answer.write_to(&mut anstream::stdout())?;
            } else if let Value::Array(more) = page[NOUN.plural].take() {
                rows.extend(more);
            }
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
    }
    if console.form() == Form::Text {
        console.print_rows(&NOUN, &rows, &mut anstream::stdout())?;
    }
    Ok(Exit::Done)
}
