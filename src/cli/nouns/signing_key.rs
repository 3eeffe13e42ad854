//! `signing-key`: secrets of a tenant that several destinations sign with.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;

use super::body::{Body, secret_of};
use super::{Column, Console, Noun, Paging, Reach, Sure, cell_text, would_be_refused};
use crate::cli::{Exit, Failure, Form};
use crate::model::{SigningKeyId, SigningKeyKind};

pub(super) const PATH: &str = "/v1/signing-keys";

pub(super) const NOUN: Noun = Noun {
    name: "signing key",
    plural: "signing_keys",
    columns: &[
        Column::field("ID", "id"),
        Column::field("KIND", "kind"),
        Column::field("NAME", "name"),
        Column::made("DESTINATIONS", |key| key["destinations"].as_array().map_or(0, Vec::len).to_string()),
        Column::field("CREATED", "created"),
    ],
    first: &["id", "kind", "name", "tenant", "secret"],
    null: &[],
};

#[derive(Debug, Args)]
#[command(after_help = "A tenant has one key of the kind signature, and up to 100 of the kind source, each with a \
name.\n\nExamples:\n  \
postrider signing-key list\n  \
postrider signing-key show SIGNING_KEY\n  \
postrider signing-key create --kind signature\n  \
postrider signing-key create --kind source --name 'till 1' --tenant shop-7\n  \
postrider signing-key update SIGNING_KEY --name 'till 2'\n  \
postrider signing-key rotate SIGNING_KEY --overlap 24h\n  \
postrider signing-key reveal SIGNING_KEY --json | jq -r .secret > secret\n  \
postrider signing-key delete SIGNING_KEY --yes\n  \
postrider destination update ID --signature standard --signing-key signature")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List signing keys, without their secrets
    List(Paging),
    /// Show one, without its secret
    #[command(visible_alias = "get")]
    Show(One),
    /// Make one, and show its secret this once
    Create(Create),
    /// Rename it
    Update(Update),
    /// Replace its secret, for every destination that signs with it
    Rotate(Rotate),
    /// Show its secret; on the daemon's own machine only, and noted in the audit log
    Reveal(One),
    /// Delete one that no destination signs with
    Delete(Delete),
}

#[derive(Debug, Args)]
struct One {
    /// The signing key
    id: SigningKeyId,
}

#[derive(Debug, Args)]
struct Create {
    /// What it stands for: signature (the tenant's own) or source (one of several)
    #[arg(long)]
    kind: SigningKeyKind,
    /// A name for people; required of a source key
    #[arg(long, required_if_eq("kind", "source"))]
    name: Option<String>,
    /// A file with the secret, instead of a generated one; - reads standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Update {
    /// The signing key
    id: SigningKeyId,
    /// A name for people
    #[arg(long)]
    name: String,
}

#[derive(Debug, Args)]
struct Rotate {
    /// The signing key
    id: SigningKeyId,
    /// How long the secret before goes on counting, such as 24h; 0s ends it at once [default: 24h]
    #[arg(long, value_name = "SPAN")]
    overlap: Option<String>,
    /// A file with the new secret, instead of a generated one; - reads standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Delete {
    /// The signing key
    id: SigningKeyId,
    #[command(flatten)]
    sure: Sure,
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    let at = |id: &SigningKeyId| format!("{PATH}/{id}");
    match &arguments.command {
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { id }) => console.show_at(&NOUN, &at(id)),
        Command::Create(create) => {
            let mut body = Body::default();
            body.set("kind", Some(create.kind.as_str()));
            body.set("name", create.name.as_deref());
            body.set("secret", create.secret_file.as_deref().map(secret_of).transpose()?);
            let made = console.show(&NOUN, &console.change(Method::POST, PATH, Some(&body.into_value()))?)?;
            if made["secret"].is_string() {
                console.remark_secret()?;
            }
            let key = cell_text(&made["id"]);
            console.next(format_args!(
                "postrider destination update DESTINATION --signature x-signature --signing-key {key}"
            ));
            Ok(Exit::Done)
        }
        Command::Update(Update { id, name }) => {
            let mut body = Body::default();
            body.set("name", Some(name.as_str()));
            console.show(&NOUN, &console.change(Method::PUT, &at(id), Some(&body.into_value()))?)?;
            Ok(Exit::Done)
        }
        Command::Rotate(Rotate { id, overlap, secret_file }) => {
            let mut body = Body::default();
            body.set("overlap", overlap.as_deref());
            body.set("secret", secret_file.as_deref().map(secret_of).transpose()?);
            let answer = console.change(Method::POST, &format!("{}/rotate", at(id)), Some(&body.into_value()))?;
            console.show(&NOUN, &answer)?;
            console.next("give the receivers the new secret before the one before it ends");
            Ok(Exit::Done)
        }
        Command::Reveal(One { id }) => {
            console.show(&NOUN, &console.change(Method::POST, &format!("{}/reveal", at(id)), None)?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { id, sure }) => {
            if sure.dry_run {
                let key = console.read(&at(id))?.value()?;
                if let Some(destination) = key["destinations"].get(0).map(cell_text) {
                    console.show_at(&NOUN, &at(id))?;
                    let cause = format!("the destination {destination} signs with it");
                    let help = format!(
                        "postrider destination update {destination} --signature x-signature --signing-key OTHER"
                    );
                    return Err(would_be_refused(&format!("delete the signing key {id}"), cause, help));
                }
            }
            console.delete(&NOUN, &at(id), sure)
        }
    }
}
