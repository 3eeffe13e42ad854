//! `audit`: lists, exports and verifies the audit log. The chain is computed here, from the records' own texts: the daemon's
//! word is not taken for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::admin::{Admin, DaemonArguments};
use super::{Exit, Failure, Form, Trouble, unreadable};
use crate::model::audit::{Hash, Kept, Link, Walk};
use crate::model::{TenantId, Timestamp};

/// Records that one request asks for: the most that the API gives.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show who changed what, newest first
    List(ListArguments),
    /// Follow the chain of hashes from its head to its anchor
    Verify(VerifyArguments),
    /// Print the whole log, newest record first, one JSON object a line
    Export(ExportArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider audit list\n  \
postrider audit list --action 'destination.*' --from 2026-01-01T00:00:00Z\n  \
postrider audit list --object 9603F4B2-1874-42FE-A2BC-F7B45C45A9D6 --json")]
pub(super) struct ListArguments {
    /// Of this tenant's things only
    #[arg(long)]
    tenant: Option<TenantId>,
    /// By this actor only: a key's id, uid:1000, or system
    #[arg(long)]
    actor: Option<String>,
    /// Of this action only, such as destination.update, or of a kind: destination.*
    #[arg(long)]
    action: Option<String>,
    /// To this thing only, by its id or its kind
    #[arg(long)]
    object: Option<String>,
    /// At or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// At most this many, 0 to 1000
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=1000))]
    limit: u16,
    /// Go on after this cursor, which the page before named
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider audit verify\n  \
postrider audit verify --expect 7:0a1b…\n  \
postrider audit verify --file audit.ndjson\n\n\
A log that was cut off at its end, or written anew from somewhere on, fits itself. What tells it is a place\n\
that was noted before: each verification prints the head, and the daemon's own log has it at every start and stop.")]
pub(super) struct VerifyArguments {
    /// A place that was noted before, which must still be in the chain
    #[arg(long, value_name = "NUMBER:HASH")]
    expect: Vec<Link>,
    /// An export, instead of the daemon
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider audit export > audit.ndjson\n  \
postrider audit verify --file audit.ndjson\n\n\
The first line is where the chain begins (anchor) and ends (head). Each further line is a record; its hash is\n\
SHA-256 over the 32 bytes of \"previous\" and the text of \"record\" as it stands there.")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    daemon: DaemonArguments,
}

/// Where the chain begins and ends.
#[derive(Debug, Deserialize)]
struct Ends {
    head: End,
    anchor: End,
}

#[derive(Debug, Deserialize)]
struct End {
    number: u64,
    hash: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Row<'a> {
    number: u64,
    previous: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// What the table shows of a record.
#[derive(Deserialize)]
struct Shown {
    at: String,
    action: String,
    actor: Name,
    object: Name,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct Name {
    id: Option<String>,
}

pub(super) fn run(command: &Command, form: Form) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list(arguments, form),
        Command::Verify(arguments) => verify(arguments, form),
        Command::Export(arguments) => export(arguments),
    }
}

fn list(arguments: &ListArguments, form: Form) -> Result<Exit, Failure> {
    let admin = Admin::new(&arguments.daemon)?;
    let mut query = String::new();
    let times = [("from", arguments.from), ("to", arguments.to)].map(|(name, at)| (name, at.map(|at| at.to_string())));
    let texts = [
        ("tenant", arguments.tenant.as_ref().map(TenantId::to_string)),
        ("actor", arguments.actor.clone()),
        ("action", arguments.action.clone()),
        ("object", arguments.object.clone()),
        ("after", arguments.after.clone()),
    ];
    for (name, value) in texts.into_iter().chain(times) {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)));
        }
    }
    let answer = admin.call(Method::GET, &format!("/v1/audit?limit={}{query}", arguments.limit), None)?;
    let mut out = anstream::stdout().lock();
    if form == Form::Json {
        answer.write_to(&mut out)?;
        return Ok(Exit::Done);
    }
    let page: Page<'_> = answer.read()?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NUMBER", "AT", "ACTOR", "ACTION", "OBJECT", "TENANT"]);
    for line in page.records {
        let row: Row<'_> = parse(line.get(), "a record")?;
        let Shown { at, action, actor, object, tenant } = parse(row.record.get(), "a record")?;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.add_row([row.number.to_string(), at, or_dash(actor.id), action, or_dash(object.id), or_dash(tenant)]);
    }
    writeln!(out, "{table}")?;
    if let Some(next) = page.next {
        writeln!(anstream::stderr(), "there are more: add --after {next}")?;
    }
    Ok(Exit::Done)
}

fn export(arguments: &ExportArguments) -> Result<Exit, Failure> {
    let admin = Admin::new(&arguments.daemon)?;
    let mut out = anstream::stdout().lock();
    let ends = admin.read_bytes("/v1/audit/head")?;
    out.write_all(&ends)?;
    writeln!(out)?;
    let Ends { head, .. } = parse(text(&ends)?, "the chain's head")?;
    each_record(&admin, |line| {
        let row: Row<'_> = parse(line, "a record")?;
        // What has come since the head was read belongs to the next export.
        if row.number <= head.number {
            writeln!(out, "{line}")?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

fn verify(arguments: &VerifyArguments, form: Form) -> Result<Exit, Failure> {
    let (anchor, walk) = match &arguments.file {
        Some(file) => verify_file(file, &arguments.expect)?,
        None => verify_daemon(&Admin::new(&arguments.daemon)?, &arguments.expect)?,
    };
    let (checked, head) = (walk.walk.checked(), walk.head);
    for expected in &arguments.expect {
        walk.must_have_met(*expected, anchor)?;
    }
    let mut out = anstream::stdout().lock();
    match form {
        Form::Json => {
            let (head, anchor) = (head.to_string(), anchor.to_string());
            writeln!(out, "{}", serde_json::json!({"records": checked, "head": head, "anchor": anchor}))?;
        }
        Form::Text => {
            writeln!(out, "{checked} records, each as it was written\nhead    {head}\nanchor  {anchor}")?;
            let mut talk = anstream::stderr().lock();
            writeln!(talk, "note the head elsewhere; later: postrider audit verify --expect {head}")?;
        }
    }
    Ok(Exit::Done)
}

/// A walk over the chain that looks for noted places on its way.
struct Following<'a> {
    walk: Walk,
    head: Link,
    expected: &'a [Link],
}

impl<'a> Following<'a> {
    fn from(head: Link, expected: &'a [Link]) -> Self {
        Following { walk: Walk::from(head), head, expected }
    }

    fn follow(&mut self, line: &str) -> Result<(), Failure> {
        let Row { number, previous, record } = parse(line, "a record")?;
        if number > self.head.number {
            return Ok(());
        }
        let previous: Hash = previous.parse().map_err(|why| broken(number, why))?;
        let kept = Kept { previous, text: record.get().to_owned() };
        let place = self.walk.follow(&kept).map_err(|error| broken(error.number, error.why))?;
        self.compare(place)
    }

    fn compare(&self, place: Link) -> Result<(), Failure> {
        match self.expected.iter().find(|expected| expected.number == place.number && expected.hash != place.hash) {
            Some(_) => Err(broken(place.number, "its hash is not the one that was noted: the log was written anew")),
            None => Ok(()),
        }
    }

    fn end(&self, anchor: Link) -> Result<(), Failure> {
        self.walk.end(anchor).map_err(|error| broken(error.number, error.why))?;
        self.compare(anchor)
    }

    /// A noted place lies between the anchor and the head; its hash has been compared on the way.
    fn must_have_met(&self, expected: Link, anchor: Link) -> Result<(), Failure> {
        if expected.number > self.head.number {
            let why = format!("was noted and is not there: the log ends with record {}", self.head.number);
            return Err(broken(expected.number, why));
        }
        if expected.number < anchor.number {
            let cause = format!("record {} is older than the anchor, {}", expected.number, anchor.number);
            let help = "look for it in an export that was made before: postrider audit verify --file FILE --expect …";
            let trouble = Trouble::new("the noted place has passed its age", "--expect", cause, help);
            return Err(Failure::new(Exit::Failed, trouble));
        }
        Ok(())
    }
}

fn verify_daemon<'a>(admin: &Admin, expected: &'a [Link]) -> Result<(Link, Following<'a>), Failure> {
    let (head, anchor) = ends(admin)?;
    let mut following = Following::from(head, expected);
    each_record(admin, |line| following.follow(line))?;
    // Retention may have dropped the oldest records meanwhile: the anchor has moved up then.
    let anchor = if following.walk.reached() == anchor { anchor } else { ends(admin)?.1 };
    following.end(anchor)?;
    Ok((anchor, following))
}

fn verify_file<'a>(file: &Path, expected: &'a [Link]) -> Result<(Link, Following<'a>), Failure> {
    let unusable = |error: &io::Error| unreadable("the export", file, error);
    let mut lines = BufReader::new(File::open(file).map_err(|error| unusable(&error))?).lines();
    let first = lines.next().transpose().map_err(|error| unusable(&error))?.unwrap_or_default();
    let (head, anchor) = links(&parse(&first, "the export's first line")?)?;
    let mut following = Following::from(head, expected);
    for line in lines {
        following.follow(&line.map_err(|error| unusable(&error))?)?;
    }
    following.end(anchor)?;
    Ok((anchor, following))
}

fn ends(admin: &Admin) -> Result<(Link, Link), Failure> {
    links(&parse(text(&admin.read_bytes("/v1/audit/head")?)?, "the chain's head")?)
}

fn links(ends: &Ends) -> Result<(Link, Link), Failure> {
    let link = |end: &End| match end.hash.parse() {
        Ok(hash) => Ok(Link { number: end.number, hash }),
        Err(why) => Err(malformed("the chain's head", &why)),
    };
    Ok((link(&ends.head)?, link(&ends.anchor)?))
}

/// Each record that the daemon keeps, as it stands in the answer, newest first.
fn each_record(admin: &Admin, mut visit: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let answer = admin.read_bytes(&format!("/v1/audit?limit={PAGE}{after}"))?;
        let page: Page<'_> = parse(text(&answer)?, "a page of records")?;
        for record in &page.records {
            visit(record.get())?;
        }
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(()),
        }
    }
}

fn text(bytes: &Bytes) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|error| malformed("the answer", &error))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| malformed(what, &error))
}

fn malformed(what: &str, why: &dyn std::fmt::Display) -> Failure {
    let help = "the command and the daemon may be of different versions, or the file is no whole export";
    Failure::new(Exit::Failed, Trouble::new(format!("{what} cannot be read"), "the audit log", why.to_string(), help))
}

fn broken(number: u64, why: impl std::fmt::Display) -> Failure {
    let help = "keep the store as it is, and compare with an export or a backup from before";
    let trouble = Trouble::new("the audit log is broken", format!("record {number}"), why.to_string(), help);
    Failure::new(Exit::Failed, trouble)
}
