//! Nouns with verbs: `destination list`, `delivery cancel`. A file for each noun, over the admin API.
//!
//! What they have in common stands here: a noun is described by its columns and fields, and the `Console` lists, shows and
//! destroys whatever is described. Data goes to standard output: the API's own answer with `--json`, a table or a card
//! otherwise. What is said beside it, and the next useful command, goes to standard error.

mod body;
mod table;

pub(super) mod delivery;
pub(super) mod destination;
pub(super) mod event;
pub(super) mod event_type;
pub(super) mod key;
pub(super) mod replay;
pub(super) mod signing_key;
pub(super) mod subscription;
pub(super) mod tenant;
pub(super) mod user;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::Args;
use http::Method;
use serde_json::Value;
use url::form_urlencoded;

use super::admin::{Admin, Answer, DaemonArguments, HEADING, Lines};
use super::{Exit, Failure, Form, Trouble};
use crate::model::TenantId;

pub(super) use table::{Column, cell_text, one_line};

/// A kind of thing that the admin API keeps: how it is listed and shown.
pub(super) struct Noun {
    /// As the command says it.
    name: &'static str,
    /// What its lists stand under in an answer.
    plural: &'static str,
    /// What a list shows of each.
    columns: &'static [Column],
    /// The fields that a card begins with; the others follow by name.
    first: &'static [&'static str],
    /// What a card says where a field of these is null: of the others it says nothing.
    null: &'static [(&'static str, &'static str)],
}

/// Which daemon to speak to, and for whom.
#[derive(Debug, Args)]
pub(super) struct Reach {
    #[command(flatten)]
    daemon: DaemonArguments,
    /// Act for this tenant [default: the key's own, or "default"]
    #[arg(long, value_name = "ID", global = true, help_heading = HEADING)]
    tenant: Option<TenantId>,
}

/// Which page of a list.
#[derive(Debug, Args)]
pub(super) struct Paging {
    /// At most this many, 0 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(..=1000))]
    limit: u16,
    /// Go on after this cursor, which the page before named
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

impl Paging {
    fn query(&self) -> Query {
        Query::new().and("limit", Some(self.limit)).and("after", self.after.as_ref())
    }
}

/// How sure the operator is of what cannot be undone.
#[derive(Debug, Args)]
pub(super) struct Sure {
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Show what it is about and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// The parameters behind a path.
pub(super) struct Query(form_urlencoded::Serializer<'static, String>);

impl Query {
    pub(super) fn new() -> Self {
        Query(form_urlencoded::Serializer::new(String::new()))
    }

    pub(super) fn and(mut self, name: &str, value: Option<impl Display>) -> Self {
        if let Some(value) = value {
            self.0.append_pair(name, &value.to_string());
        }
        self
    }

    /// The path with these parameters.
    pub(super) fn behind(mut self, path: &str) -> String {
        match self.0.finish() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }
}

/// Where a noun's commands ask and answer.
pub(super) struct Console {
    admin: Admin,
    form: Form,
}

/// What is to be done with a thing for good.
struct Deed<'a> {
    verb: &'a str,
    done: &'a str,
    method: Method,
    /// Where the thing is.
    path: &'a str,
    /// Where the deed is done.
    act: &'a str,
}

impl Console {
    pub(super) fn new(reach: &Reach, form: Form) -> Result<Console, Failure> {
        let admin = Admin::new(&reach.daemon)?.acting_for(reach.tenant.as_ref());
        Ok(Console { admin, form })
    }

    pub(super) fn for_all(daemon: &DaemonArguments, form: Form) -> Result<Console, Failure> {
        Ok(Console { admin: Admin::new(daemon)?, form })
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    pub(super) fn read(&self, path: &str) -> Result<Answer, Failure> {
        self.admin.call(Method::GET, path, None)
    }

    /// Reads what may not be there.
    pub(super) fn find(&self, path: &str) -> Result<Option<Answer>, Failure> {
        self.admin.find(path)
    }

    /// Reads for another tenant than the console acts for.
    pub(super) fn read_for(&self, tenant: &TenantId, path: &str) -> Result<Answer, Failure> {
        self.admin.clone().acting_for(Some(tenant)).call(Method::GET, path, None)
    }

    /// Reads what does not end.
    pub(super) async fn follow(&self, path: &str) -> Result<Lines, Failure> {
        self.admin.follow(path).await
    }

    pub(super) fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.admin.call(method, path, body)
    }

    /// Says something beside the data. Programs are told nothing.
    pub(super) fn say(&self, text: impl Display) {
        if self.form == Form::Text {
            // What cannot be said is lost; the data is not.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Says which command is useful now.
    pub(super) fn next(&self, command: impl Display) {
        self.say(format_args!("next: {command}"));
    }

    /// A page of a list.
    pub(super) fn list(&self, noun: &Noun, path: &str) -> Result<Exit, Failure> {
        let answer = self.read(path)?;
        let mut out = anstream::stdout().lock();
        if self.form == Form::Json {
            answer.write_to(&mut out)?;
            return Ok(Exit::Done);
        }
        let page = answer.value()?;
        let rows = page[noun.plural].as_array().map(Vec::as_slice).unwrap_or_default();
        self.print_rows(noun, rows, &mut out)?;
        if let Some(next) = page["next"].as_str() {
            self.say(format_args!("there are more: add --after {next}"));
        }
        Ok(Exit::Done)
    }

    /// Each row of a list, page by page, until one is what `is_it` looks for.
    fn look_for(&self, plural: &str, path: &str, is_it: impl Fn(&Value) -> bool) -> Result<Option<Value>, Failure> {
        let mut after = None;
        loop {
            let query = Query::new().and("limit", Some(1000)).and("after", after.take());
            let mut page = self.read(&query.behind(path))?.value()?;
            let rows = page[plural].as_array_mut().map(std::mem::take).unwrap_or_default();
            if let Some(found) = rows.into_iter().find(|row| is_it(row)) {
                return Ok(Some(found));
            }
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(None),
            }
        }
    }

    /// Rows as a table.
    fn print_rows(&self, noun: &Noun, rows: &[Value], out: &mut impl Write) -> Result<(), Failure> {
        match rows {
            [] => self.say("there are none"),
            rows => write!(out, "{}", table::table(noun.columns, rows))?,
        }
        Ok(())
    }

    /// One thing.
    pub(super) fn show(&self, noun: &Noun, answer: &Answer) -> Result<Value, Failure> {
        let value = answer.value()?;
        let mut out = anstream::stdout().lock();
        match self.form {
            Form::Json => answer.write_to(&mut out)?,
            Form::Text => write!(out, "{}", table::card(&value, noun.first, noun.null))?,
        }
        Ok(value)
    }

    /// Reads one thing and shows it.
    pub(super) fn show_at(&self, noun: &Noun, path: &str) -> Result<Exit, Failure> {
        self.show(noun, &self.read(path)?)?;
        Ok(Exit::Done)
    }

    /// A remark that also those should see who read JSON: the secret in this answer is not shown again.
    fn remark_secret(&self) -> Result<(), Failure> {
        writeln!(anstream::stderr(), "the secret is shown this once: put it away now")?;
        Ok(())
    }

    /// Deletes one thing, if the operator is sure of it.
    pub(super) fn delete(&self, noun: &Noun, path: &str, sure: &Sure) -> Result<Exit, Failure> {
        let deed = Deed { verb: "delete", done: "deleted", method: Method::DELETE, path, act: path };
        self.destroy(noun, &deed, sure)
    }

    fn destroy(&self, noun: &Noun, deed: &Deed<'_>, sure: &Sure) -> Result<Exit, Failure> {
        let id = deed.path.rsplit('/').next().and_then(|last| last.split('?').next()).unwrap_or_default();
        if sure.dry_run {
            self.show_at(noun, deed.path)?;
            self.say(format_args!("dry run: this {} would be {}; nothing has changed", noun.name, deed.done));
            return Ok(Exit::Done);
        }
        let name = || match self.read(deed.path)?.value()?["name"].as_str() {
            Some(name) => Ok(format!("{} the {} {id} ({name})", deed.verb, noun.name)),
            None => Ok(format!("{} the {} {id}", deed.verb, noun.name)),
        };
        if !sure.yes && !ask(&format!("{} the {} {id}", deed.verb, noun.name), name)? {
            self.say("nothing has changed");
            return Ok(Exit::Failed);
        }
        let answer = self.change(deed.method.clone(), deed.act, None)?;
        if self.form == Form::Json {
            answer.write_to(&mut anstream::stdout())?;
        }
        self.say(format_args!("{} {id} is {}", noun.name, deed.done));
        Ok(Exit::Done)
    }
}

/// What a dry run ends with when the daemon would refuse the deed.
fn would_be_refused(deed: &str, cause: impl Into<String>, help: impl Into<String>) -> Failure {
    let what = format!("dry run: the daemon would refuse to {deed}");
    Failure::new(Exit::Failed, Trouble { what, place: None, cause: cause.into(), help: help.into() })
}

/// Whether the person at the terminal says yes; without a person it is refused. `deed` says shortly what is asked, and
/// `question` what of.
fn ask(deed: &str, question: impl FnOnce() -> Result<String, Failure>) -> Result<bool, Failure> {
    let input = io::stdin();
    if !input.is_terminal() {
        let trouble = Trouble {
            what: format!("will not {deed} without a yes"),
            place: None,
            cause: "it cannot be undone, and there is no terminal to ask at".to_owned(),
            help: "add --yes to do it, or --dry-run to see what it is about".to_owned(),
        };
        return Err(Failure::new(Exit::Usage, trouble));
    }
    let question = question()?;
    let mut terminal = anstream::stderr();
    write!(terminal, "{question}? [y/N] ")?;
    terminal.flush()?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
