//! `key`: who may use the admin API, and for what.

use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::body::{Body, FromJson};
use super::{Column, Console, Noun, Paging, Sure};
use crate::cli::admin::DaemonArguments;
use crate::cli::{Exit, Failure, Form};
use crate::model::{KeyId, Role, TenantId};

pub(super) const PATH: &str = "/v1/keys";

pub(super) const NOUN: Noun = Noun {
    name: "key",
    plural: "keys",
    columns: &[
        Column::field("ID", "id"),
        Column::field("NAME", "name"),
        Column::field("ROLE", "role"),
        Column::made("TENANT", |key| key["tenant"].as_str().unwrap_or("all").to_owned()),
        Column::field("CREATED", "created"),
    ],
    first: &["id", "name", "role", "tenant", "secret"],
    null: &[("tenant", "all")],
};

#[derive(Debug, Args)]
#[command(after_help = "Roles: ingest emits events and nothing else; read < operate < admin. Payloads are \
shown from operate on.\n\nExamples:\n  \
postrider key list\n  \
postrider key show KEY\n  \
postrider key create --role ingest --tenant shop-7 --name till\n  \
postrider key create --role read --all-tenants --json | jq -r .secret > key\n  \
postrider key update KEY --name 'till 2'\n  \
postrider key delete KEY --yes")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List keys, without their secrets
    List(Paging),
    /// Show one, without its secret
    Show(One),
    /// Make one, and show its secret this once
    Create(Create),
    /// Change its name or its role
    Update(Update),
    /// Delete one: who uses it is refused from then on
    Delete(Delete),
}

#[derive(Debug, Args)]
struct One {
    /// The key
    id: KeyId,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["tenant", "all_tenants"])))]
struct Create {
    /// What it may do: ingest, read, operate, admin
    #[arg(long)]
    role: Role,
    /// Bind it to this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Let it act for every tenant
    #[arg(long)]
    all_tenants: bool,
    /// A name for people: who uses it, and where
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct Update {
    /// The key
    id: KeyId,
    /// What it may do: ingest, read, operate, admin
    #[arg(long)]
    role: Option<Role>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    from_json: FromJson,
}

#[derive(Debug, Args)]
struct Delete {
    /// The key
    id: KeyId,
    #[command(flatten)]
    sure: Sure,
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::for_all(&arguments.daemon, form)?;
    let at = |id: &KeyId| format!("{PATH}/{id}");
    match &arguments.command {
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { id }) => console.show_at(&NOUN, &at(id)),
        Command::Create(create) => {
            let mut body = Body::default();
            body.set("role", Some(create.role.as_str()));
            let tenant = create.tenant.as_ref().map_or(Value::Null, |tenant| tenant.as_str().into());
            body.set("tenant", Some(tenant));
            body.set("name", create.name.as_deref());
            console.show(&NOUN, &console.change(Method::POST, PATH, Some(&body.into_value()))?)?;
            console.remark_secret()?;
            match create.role {
                // It may ask for nothing.
                Role::Ingest => console.next(
                    r#"curl https://HOST:8470/v1/events -H "x-api-key: $(cat FILE)" -d '{"type": "…", "data": {}}'"#,
                ),
                Role::Read | Role::Operate | Role::Admin => {
                    console.next("postrider status --url https://HOST:8470 --key-file FILE");
                }
            }
            Ok(Exit::Done)
        }
        Command::Update(update) => {
            let mut body = update.from_json.body()?;
            body.set("role", update.role.map(Role::as_str));
            body.set("name", update.name.as_deref());
            let body = body.into_change()?;
            console.show(&NOUN, &console.change(Method::PUT, &at(&update.id), Some(&body))?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { id, sure }) => console.delete(&NOUN, &at(id), sure),
    }
}
