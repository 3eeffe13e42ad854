//! `tenant`: whose destinations, subscriptions, events and keys they are.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::body::FromJson;
use super::{
    Column, Console, Noun, Paging, Query, Sure, cell_text, destination, key, signing_key, subscription, user,
    would_be_refused,
};
use crate::cli::admin::DaemonArguments;
use crate::cli::{Exit, Failure, Form};
use crate::model::TenantId;

const PATH: &str = "/v1/tenants";

const NOUN: Noun = Noun {
    name: "tenant",
    plural: "tenants",
    columns: &[
        Column::field("ID", "id"),
        Column::field("NAME", "name"),
        Column::field("PARENT", "parent"),
        Column::field("CREATED", "created"),
    ],
    first: &["id", "name", "parent"],
    null: &[],
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider tenant list --json | jq -r '.tenants[].id'\n  \
postrider tenant show shop-7\n  \
postrider tenant create shop-7 --name 'Shop 7' --parent reseller\n  \
postrider tenant update shop-7 --name 'Shop Seven'\n  \
postrider tenant delete shop-7 --dry-run")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List tenants
    List(Paging),
    /// Show one
    Show(One),
    /// Make one
    Create(Create),
    /// Change its name or its parent
    Update(Update),
    /// Delete one that owns nothing any more
    Delete(Delete),
}

#[derive(Debug, Args)]
struct One {
    /// The tenant
    id: TenantId,
}

#[derive(Debug, Args)]
struct Create {
    /// An id of your choice: 1 to 64 letters, digits, "_", "-" or "."
    id: TenantId,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Update {
    /// The tenant
    id: TenantId,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Delete {
    /// The tenant
    id: TenantId,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Args)]
struct Fields {
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// The tenant above it
    #[arg(long, value_name = "ID")]
    parent: Option<TenantId>,
    #[command(flatten)]
    from_json: FromJson,
}

impl Fields {
    fn body(&self) -> Result<super::body::Body, Failure> {
        let mut body = self.from_json.body()?;
        body.set("name", self.name.as_deref());
        body.set("parent", self.parent.as_ref().map(TenantId::as_str));
        Ok(body)
    }
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::for_all(&arguments.daemon, form)?;
    let at = |id: &TenantId| format!("{PATH}/{id}");
    match &arguments.command {
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { id }) => console.show_at(&NOUN, &at(id)),
        Command::Create(Create { id, fields }) => {
            let mut body = fields.body()?;
            body.set("id", Some(id.as_str()));
            console.show(&NOUN, &console.change(Method::POST, PATH, Some(&body.into_value()))?)?;
            console.next(format_args!("postrider key create --role operate --tenant {id} --name NAME"));
            Ok(Exit::Done)
        }
        Command::Update(Update { id, fields }) => {
            let body = fields.body()?.into_change()?;
            console.show(&NOUN, &console.change(Method::PUT, &at(id), Some(&body))?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { id, sure }) => {
            if sure.dry_run {
                // One that is not there is told as such.
                console.read(&at(id))?;
                if let Some((cause, help)) = in_use(&console, id)? {
                    console.show_at(&NOUN, &at(id))?;
                    return Err(would_be_refused(&format!("delete the tenant {id}"), cause, help));
                }
            }
            console.delete(&NOUN, &at(id), sure)
        }
    }
}

/// The first thing that keeps a tenant from being deleted, and what helps.
fn in_use(console: &Console, id: &TenantId) -> Result<Option<(String, String)>, Failure> {
    let name = |thing: &Value| cell_text(&thing["id"]);
    if *id == TenantId::default_tenant() {
        let help = "leave it; it owns what names no tenant";
        return Ok(Some(("it is the default tenant".to_owned(), help.to_owned())));
    }
    if let Some(child) = console.look_for(NOUN.plural, PATH, |tenant| tenant["parent"] == id.as_str())? {
        let help = format!("postrider tenant delete {}", name(&child));
        return Ok(Some((format!("the tenant {} is below it", name(&child)), help)));
    }
    let first = |noun: &Noun, path: &str| {
        let page = console.read_for(id, &Query::new().and("limit", Some(1)).behind(path))?.value()?;
        Ok::<_, Failure>(page[noun.plural].get(0).cloned())
    };
    if let Some(destination) = first(&destination::NOUN, destination::PATH)? {
        let help = format!("postrider destination delete {} --tenant {id}", name(&destination));
        return Ok(Some((format!("it owns the destination {}", name(&destination)), help)));
    }
    let kinds = console.read_for(id, subscription::PATH)?.value()?;
    for path in kinds["urls"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(subscription) = first(&subscription::NOUN, path)? {
            let kind = cell_text(&subscription["type"]);
            let help = format!("postrider subscription delete '{kind}' {} --tenant {id}", name(&subscription));
            return Ok(Some((format!("it owns the subscription {}", name(&subscription)), help)));
        }
    }
    if let Some(key) = first(&signing_key::NOUN, signing_key::PATH)? {
        let help = format!("postrider signing-key delete {} --tenant {id}", name(&key));
        return Ok(Some((format!("it owns the signing key {}", name(&key)), help)));
    }
    if let Some(key) = console.look_for(key::NOUN.plural, key::PATH, |key| key["tenant"] == id.as_str())? {
        let help = format!("postrider key delete {}", name(&key));
        return Ok(Some((format!("the key {} is bound to it", name(&key)), help)));
    }
    let user = console.look_for(user::NOUN.plural, user::PATH, |user| user["tenant"] == id.as_str())?;
    Ok(user.map(|user| {
        (format!("the person {} belongs to it", name(&user)), format!("postrider user delete {}", name(&user)))
    }))
}
