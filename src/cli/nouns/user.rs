//! `user`: who may sign in to the dashboard, and what they may do there.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use serde_json::Value;

use super::body::{Body, secret_of};
use super::{Column, Console, Noun, Paging, Sure};
use crate::cli::admin::DaemonArguments;
use crate::cli::{Exit, Failure, Form, Trouble};
use crate::model::{Invalid, Role, TenantId, User, UserId, UserName};

pub(super) const PATH: &str = "/v1/users";

pub(super) const NOUN: Noun = Noun {
    name: "user",
    plural: "users",
    columns: &[
        Column::field("ID", "id"),
        Column::field("NAME", "name"),
        Column::field("ROLE", "role"),
        Column::made("TENANT", |user| user["tenant"].as_str().unwrap_or("all").to_owned()),
        Column::made("STATE", |user| state(user).to_owned()),
        Column::field("CREATED", "created"),
    ],
    first: &["id", "name", "role", "tenant", "password"],
    null: &[("tenant", "all")],
};

/// How far a person's login goes.
fn state(user: &Value) -> &'static str {
    let is = |field: &str| user[field].as_bool().unwrap_or(false);
    match (is("locked"), is("totp")) {
        (true, _) => "locked",
        (false, true) => "enrolled",
        (false, false) => "not yet enrolled",
    }
}

#[derive(Debug, Args)]
#[command(after_help = "A person is named by login name or by id. Whoever signs in first enrols a second \
factor before anything else. Roles: read < operate < admin.\n\nExamples:\n  \
postrider user add anna@example.com --role admin --all-tenants\n  \
postrider user add ben --role operate --tenant shop-7 --ask-password\n  \
postrider user list\n  \
postrider user show ben\n  \
postrider user update ben --role read\n  \
postrider user set-password ben --password-file FILE\n  \
postrider user unlock ben\n  \
postrider user reset-totp ben\n  \
postrider user delete ben --yes")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List people
    List(Paging),
    /// Show one
    #[command(visible_alias = "get")]
    Show(One),
    /// Add one; without a password the daemon makes one, and shows it this once
    #[command(visible_alias = "create")]
    Add(Add),
    /// Change a login name or a role
    Update(Update),
    /// Remove one, who is signed out everywhere
    Delete(Delete),
    /// Let one in again after too many wrong passwords or codes
    Unlock(One),
    /// Take away a second factor that is lost, and the recovery codes; the next sign-in enrols another
    ResetTotp(One),
    /// Set another password; without one the daemon makes it, and shows it this once
    SetPassword(SetPassword),
}

/// A person's id or login name.
#[derive(Debug, Clone)]
enum Named {
    Id(UserId),
    Name(UserName),
}

impl std::str::FromStr for Named {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Named::Id).or_else(|_| text.parse().map(Named::Name))
    }
}

#[derive(Debug, Args)]
struct One {
    /// The person: login name or id
    user: Named,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["tenant", "all_tenants"])))]
struct Add {
    /// The login name: 1 to 64 of a-z, 0-9, ".", "_", "@", "+" or "-"
    name: UserName,
    /// What this person may do: read, operate, admin
    #[arg(long, value_parser = User::role_of)]
    role: Role,
    /// Show this tenant's things only
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Show every tenant's things
    #[arg(long)]
    all_tenants: bool,
    #[command(flatten)]
    password: Password,
}

#[derive(Debug, Args)]
struct Update {
    /// The person: login name or id
    user: Named,
    /// The login name from now on
    #[arg(long)]
    name: Option<UserName>,
    /// What this person may do: read, operate, admin
    #[arg(long, value_parser = User::role_of)]
    role: Option<Role>,
}

#[derive(Debug, Args)]
struct Delete {
    /// The person: login name or id
    user: Named,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Args)]
struct SetPassword {
    /// The person: login name or id
    user: Named,
    #[command(flatten)]
    password: Password,
}

/// Where a password comes from. It is never an argument: those can be seen by everybody on the machine.
#[derive(Debug, Args)]
struct Password {
    /// Take the password from this file; - reads standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Ask for the password at the terminal
    #[arg(long, conflicts_with = "password_file")]
    ask_password: bool,
}

impl Password {
    fn read(&self) -> Result<Option<String>, Failure> {
        match (&self.password_file, self.ask_password) {
            (Some(path), _) => secret_of(path).map(Some),
            (None, true) => ask_twice().map(Some),
            (None, false) => Ok(None),
        }
    }
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::for_all(&arguments.daemon, form)?;
    match &arguments.command {
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { user }) => console.show_at(&NOUN, &at(&console, user)?),
        Command::Add(add) => {
            let mut body = Body::default();
            body.set("name", Some(add.name.as_str()));
            body.set("role", Some(add.role.as_str()));
            let tenant = add.tenant.as_ref().map_or(Value::Null, |tenant| tenant.as_str().into());
            body.set("tenant", Some(tenant));
            body.set("password", add.password.read()?);
            let added = console.change(Method::POST, PATH, Some(&body.into_value()))?;
            show(&console, &added)?;
            console.say("next: open /ui/login at the daemon's admin.listen address in a browser, sign in, and enrol a second factor");
            Ok(Exit::Done)
        }
        Command::Update(update) => {
            let mut body = Body::default();
            body.set("name", update.name.as_ref().map(UserName::as_str));
            body.set("role", update.role.map(Role::as_str));
            let body = body.into_change()?;
            console.show(&NOUN, &console.change(Method::PUT, &at(&console, &update.user)?, Some(&body))?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { user, sure }) => console.delete(&NOUN, &at(&console, user)?, sure),
        Command::Unlock(One { user }) => act(&console, user, "unlock"),
        Command::ResetTotp(One { user }) => act(&console, user, "reset-totp"),
        Command::SetPassword(SetPassword { user, password }) => {
            let mut body = Body::default();
            body.set("password", Some(password.read()?.map_or(Value::Null, Value::String)));
            let changed = console.change(Method::PUT, &at(&console, user)?, Some(&body.into_value()))?;
            show(&console, &changed)?;
            Ok(Exit::Done)
        }
    }
}

fn act(console: &Console, user: &Named, verb: &str) -> Result<Exit, Failure> {
    let path = format!("{}/{verb}", at(console, user)?);
    console.show(&NOUN, &console.change(Method::POST, &path, None)?)?;
    Ok(Exit::Done)
}

/// Shows a person, with the password that was made.
fn show(console: &Console, answer: &super::Answer) -> Result<(), Failure> {
    let user = console.show(&NOUN, answer)?;
    if user["password"].is_string() {
        writeln!(
            anstream::stderr(),
            "the password is shown this once: hand it over now; it must be replaced at the first sign-in"
        )?;
    }
    Ok(())
}

/// The path of a person.
fn at(console: &Console, user: &Named) -> Result<String, Failure> {
    let name = match user {
        Named::Id(id) => return Ok(format!("{PATH}/{id}")),
        Named::Name(name) => name,
    };
    let found = console.look_for(NOUN.plural, PATH, |user| user["name"] == name.as_str())?;
    match found.as_ref().and_then(|user| user["id"].as_str()) {
        Some(id) => Ok(format!("{PATH}/{id}")),
        None => {
            let trouble = Trouble {
                what: format!("cannot find the person {name}"),
                place: None,
                cause: "nobody signs in with this name".to_owned(),
                help: "postrider user list".to_owned(),
            };
            Err(Failure::new(Exit::Failed, trouble))
        }
    }
}

/// Asks for a new password at the terminal, twice, without showing it.
fn ask_twice() -> Result<String, Failure> {
    let refuse = |cause: &str, help: &str| {
        let (what, cause, help) = ("cannot ask for the password".to_owned(), cause.to_owned(), help.to_owned());
        Failure::new(Exit::Usage, Trouble { what, place: None, cause, help })
    };
    if !io::stdin().is_terminal() {
        return Err(refuse("there is no terminal to ask at", "use --password-file FILE, or - for standard input"));
    }
    let (first, second) = (ask("password: ")?, ask("once more: ")?);
    if first != second {
        return Err(refuse("the two are not the same", "type it again"));
    }
    Ok(first)
}

fn ask(question: &str) -> Result<String, Failure> {
    let input = io::stdin();
    let mut terminal = anstream::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let shown = tcgetattr(&input).map_err(io::Error::from)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSAFLUSH, &hidden).map_err(io::Error::from)?;
    let mut line = String::new();
    let read = input.read_line(&mut line);
    // Also when nothing could be read: the terminal is the person's own.
    tcsetattr(&input, SetArg::TCSAFLUSH, &shown).map_err(io::Error::from)?;
    writeln!(terminal)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
