//! `emit`: hands one event, or a stream of them, to the ingest socket and waits until they are on disk.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Exit, Failure, Form, Trouble};
use crate::config::Places;
use crate::model::{EventType, TenantId, Timestamp};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider emit transaction.sale.success --data '{\"amount\": \"5.00\"}'\n  \
postrider emit invoice.paid --data @invoice.json --id inv-42 --tenant shop\n  \
postrider emit --ndjson < events.ndjson")]
pub(super) struct Arguments {
    /// The event's type, such as transaction.sale.success
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson", value_name = "TYPE")]
    kind: Option<EventType>,
    /// What happened, as JSON; @FILE reads a file, - reads standard input
    #[arg(long, value_name = "JSON", default_value = "{}", conflicts_with = "ndjson", hide_default_value = true)]
    data: String,
    /// The producer's own id; a repeat within 7 days makes no second event
    #[arg(long, conflicts_with = "ndjson")]
    id: Option<String>,
    /// Whose event it is [default: the tenant "default"]
    #[arg(long, conflicts_with = "ndjson")]
    tenant: Option<TenantId>,
    /// Ordering key; events can be looked up by it
    #[arg(long, conflicts_with = "ndjson")]
    key: Option<String>,
    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "ndjson")]
    deliver_at: Option<Timestamp>,
    /// Give up after this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "ndjson")]
    expires_at: Option<Timestamp>,
    /// Where the event comes from, in words
    #[arg(long, conflicts_with = "ndjson")]
    source: Option<String>,
    /// The data is this and not JSON, such as text/plain
    #[arg(long, value_name = "TYPE", conflicts_with = "ndjson")]
    content_type: Option<String>,
    /// Send standard input as it is, one request a line, and print each reply
    #[arg(long)]
    ndjson: bool,
    /// The ingest socket
    #[arg(long, value_name = "PATH", env = "POSTRIDER__INGEST__SOCKET")]
    socket: Option<PathBuf>,
}

/// How long a single event may wait for its acknowledgement. A commit takes milliseconds; this is for a stuck disk.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// One request line. The names are those of the ingest protocol.
#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// One reply line: either all of the first three, or the error.
#[derive(Debug, Deserialize)]
struct Reply {
    ok: bool,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    deliveries: u64,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: String,
    message: String,
    #[serde(default)]
    retryable: bool,
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let socket = socket_path(arguments.socket.as_deref(), Places::ingest_socket);
    match &arguments.kind {
        Some(kind) => emit_one(arguments, kind, &socket, form),
        None => emit_stream(&socket),
    }
}

/// The socket that was named, or the one in this user's folders or in the system's, whichever is there.
pub(super) fn socket_path(named: Option<&Path>, of: impl Fn(&Places) -> PathBuf) -> PathBuf {
    if let Some(named) = named {
        return named.to_owned();
    }
    let (own, packaged) = (of(&super::places()), of(&Places::packaged()));
    if !own.exists() && packaged.exists() { packaged } else { own }
}

fn emit_one(arguments: &Arguments, kind: &EventType, socket: &Path, form: Form) -> Result<Exit, Failure> {
    let data = read_data(&arguments.data)?;
    let line = request_line(arguments, kind, &data)?;
    let mut stream = connect(socket)?;
    let lost = |error: io::Error| no_reply(socket, &error);
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.write_all(&line).map_err(lost)?;
    let mut text = String::new();
    if BufReader::new(&stream).read_line(&mut text).map_err(lost)? == 0 {
        return Err(no_reply(socket, &io::ErrorKind::UnexpectedEof.into()));
    }
    let reply = parse_reply(socket, &text)?;
    let mut out = anstream::stdout().lock();
    match form {
        Form::Json => write!(out, "{}", text.trim_end().to_owned() + "\n")?,
        Form::Text if reply.ok => writeln!(out, "{}", in_words(&reply))?,
        Form::Text => {}
    }
    if form == Form::Text
        && let (true, Some(id)) = (reply.ok, &reply.id)
    {
        let why = if reply.deliveries == 0 && !reply.duplicate { "why it goes nowhere" } else { "what becomes of it" };
        // What cannot be said is lost; the event is not.
        let _ = writeln!(anstream::stderr(), "next: postrider explain {id}    # {why}");
    }
    match reply.error {
        None if reply.ok => Ok(Exit::Done),
        // The reply on standard output says it all.
        refusal if form == Form::Json => Ok(exit_of(refusal.as_ref())),
        refusal => Err(refused(socket, refusal)),
    }
}

fn in_words(reply: &Reply) -> String {
    let id = reply.id.as_deref().unwrap_or("the event");
    match (reply.duplicate, reply.deliveries) {
        (true, _) => format!("accepted before as {id}"),
        (false, 0) => format!("accepted {id} (no delivery)"),
        (false, 1) => format!("accepted {id} (1 delivery)"),
        (false, deliveries) => format!("accepted {id} ({deliveries} deliveries)"),
    }
}

fn exit_of(refusal: Option<&Refusal>) -> Exit {
    match refusal {
        Some(refusal) if refusal.retryable => Exit::TryLater,
        Some(refusal) if refusal.code == "not_allowed" => Exit::NotPermitted,
        Some(_) | None => Exit::Failed,
    }
}

fn refused(socket: &Path, refusal: Option<Refusal>) -> Failure {
    let exit = exit_of(refusal.as_ref());
    let (code, message) = match refusal {
        Some(refusal) => (refusal.code, refusal.message),
        None => ("unknown".to_owned(), "the daemon gave no reason".to_owned()),
    };
    let help = match (exit, code.as_str()) {
        (Exit::TryLater, _) => "try again later; with --id it is safe to repeat",
        (Exit::NotPermitted, _) => "an [[ingest.allow]] in the configuration opens it for a uid or a group",
        (_, "unknown_tenant") => "name a tenant that exists, or create this one",
        (_, "id_conflict") => "another event has this --id; choose a new one, or leave it out",
        (_, "too_large") => "send less, or raise ingest.line_max",
        _ => "postrider emit --help",
    };
    let what = format!("the event was refused ({code})");
    Failure::new(exit, Trouble::new(what, socket.display().to_string(), message, help))
}

fn emit_stream(socket: &Path) -> Result<Exit, Failure> {
    let stream = connect(socket)?;
    let mut writing = stream.try_clone()?;
    let (tell, told) = mpsc::channel();
    // Replies are read while requests are written: either buffer alone would fill up. The thread is not joined, because
    // it may sit in a read of standard input that never ends after the daemon has gone.
    std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin().lock(), &mut writing);
        // Told before the half-close, so that it is known when the last reply has come. Nobody listens after a failure.
        let _ = tell.send(copied);
        let _ = writing.shutdown(Shutdown::Write);
    });
    let mut out = anstream::stdout().lock();
    let mut exit = Exit::Done;
    for line in BufReader::new(&stream).lines() {
        let line = line.map_err(|error| no_reply(socket, &error))?;
        exit = worse(exit, exit_of_line(socket, &line)?);
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    match told.try_recv() {
        Ok(Ok(_)) => Ok(exit),
        Ok(Err(error)) => Err(no_reply(socket, &error)),
        Err(_) => Err(no_reply(socket, &io::ErrorKind::UnexpectedEof.into())),
    }
}

/// A batch's reply is an array: the worst of its members counts.
fn exit_of_line(socket: &Path, line: &str) -> Result<Exit, Failure> {
    if line.trim_start().starts_with('[') {
        let replies: Vec<Reply> = serde_json::from_str(line).map_err(|error| not_a_reply(socket, &error))?;
        return Ok(replies.iter().map(exit_of_reply).fold(Exit::Done, worse));
    }
    Ok(exit_of_reply(&parse_reply(socket, line)?))
}

fn exit_of_reply(reply: &Reply) -> Exit {
    if reply.ok { Exit::Done } else { exit_of(reply.error.as_ref()) }
}

/// What is final outweighs what may be retried, and both outweigh success.
fn worse(one: Exit, other: Exit) -> Exit {
    let weight = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::TryLater | Exit::Unreachable => 1,
        Exit::NotPermitted => 2,
        Exit::Failed | Exit::Usage | Exit::BadConfig | Exit::StoreFailed => 3,
    };
    if weight(other) > weight(one) { other } else { one }
}

fn read_data(argument: &str) -> Result<Vec<u8>, Failure> {
    if argument == "-" {
        let mut data = Vec::new();
        io::stdin().read_to_end(&mut data)?;
        return Ok(data);
    }
    let Some(path) = argument.strip_prefix('@') else { return Ok(argument.as_bytes().to_vec()) };
    std::fs::read(path).map_err(|error| {
        let trouble =
            Trouble::new("cannot read the data", path, error.to_string(), "--data @FILE names a readable file");
        Failure::new(Exit::Usage, trouble)
    })
}

/// The request as one line. The data stays byte for byte: what does not fit on a line as JSON travels as base64.
fn request_line(arguments: &Arguments, kind: &EventType, data: &[u8]) -> Result<Vec<u8>, Failure> {
    let json = std::str::from_utf8(data).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    if json.is_none() && arguments.content_type.is_none() {
        let trouble = Trouble {
            what: "the data is not JSON".to_owned(),
            place: None,
            cause: "a text needs quotes inside the shell's: --data '\"text\"'; other bytes need a type".to_owned(),
            help: "add --content-type text/plain (or what it is) to send the bytes as they are".to_owned(),
        };
        return Err(Failure::new(Exit::Usage, trouble));
    }
    // White space around a JSON value is the file's, not the value's; within it, every byte counts.
    let json = json.filter(|_| arguments.content_type.is_none());
    let plain = json.filter(|value| !value.get().contains(['\n', '\r']));
    let bytes = json.map_or(data, |value| value.get().as_bytes());
    let request = Request {
        kind: kind.as_str(),
        tenant: arguments.tenant.as_ref().map(TenantId::as_str),
        id: arguments.id.as_deref(),
        key: arguments.key.as_deref(),
        deliver_at: arguments.deliver_at.map(|time| time.to_string()),
        expires_at: arguments.expires_at.map(|time| time.to_string()),
        source: arguments.source.as_deref(),
        content_type: match plain {
            Some(_) => None,
            None => Some(arguments.content_type.as_deref().unwrap_or("application/json")),
        },
        data: plain,
        data_base64: plain.is_none().then(|| STANDARD.encode(bytes)),
    };
    let mut line = serde_json::to_vec(&request).map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}

fn connect(socket: &Path) -> Result<UnixStream, Failure> {
    UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))
}

/// Why a socket of the daemon could not be opened, in words.
pub(super) fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let place = socket.display().to_string();
    let (exit, cause, help) = match error.kind() {
        io::ErrorKind::NotFound => (
            Exit::Unreachable,
            "there is no such socket: the daemon does not run, or listens elsewhere".to_owned(),
            "postrider serve, or name the socket with --socket PATH",
        ),
        io::ErrorKind::ConnectionRefused => {
            (Exit::Unreachable, "nobody listens there: the daemon has stopped".to_owned(), "postrider serve")
        }
        io::ErrorKind::PermissionDenied => (
            Exit::NotPermitted,
            "this user may not open the socket".to_owned(),
            "ls -l on the socket shows its group; join it, or ask the operator",
        ),
        _ => (Exit::Unreachable, error.to_string(), "look at the path"),
    };
    Failure::new(exit, Trouble::new("cannot reach the daemon", place, cause, help))
}

fn no_reply(socket: &Path, error: &io::Error) -> Failure {
    let cause = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "the daemon closed the connection: it is stopping, or crashed".to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no reply within {} s: the disk may be stuck, or the daemon is", REPLY_TIMEOUT.as_secs())
        }
        _ => error.to_string(),
    };
    let help = "send it again: with --id a repeat makes no second event";
    let what = "the acknowledgement did not come; the event may or may not be on disk";
    Failure::new(Exit::TryLater, Trouble::new(what, socket.display().to_string(), cause, help))
}

fn parse_reply(socket: &Path, line: &str) -> Result<Reply, Failure> {
    serde_json::from_str(line).map_err(|error| not_a_reply(socket, &error))
}

fn not_a_reply(socket: &Path, error: &serde_json::Error) -> Failure {
    let trouble = Trouble::new(
        "the reply is not one of the ingest protocol",
        socket.display().to_string(),
        error.to_string(),
        "is it the ingest socket that --socket names?",
    );
    Failure::new(Exit::Failed, trouble)
}
