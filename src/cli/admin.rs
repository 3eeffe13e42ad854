//! How commands speak to a running daemon: the admin API, over its Unix socket or over TCP with a key.

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

use super::emit::{socket_path, unreachable};
use super::{Details, Exit, Failure, FieldError, Trouble, unreadable};
use crate::config::Places;
use crate::model::{Secret, TenantId, json};

/// Longest answer that is read; the API pages its lists well below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest line of an answer that comes line by line.
const LINE_BYTES_MAX: usize = 1 << 20;
/// For the whole call; of an answer that does not end, for its beginning.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Which daemon to speak to. What goes with what is judged by `Admin::new`: clap counts a variable of the environment as
/// an option that was typed, and looks at one level of subcommands at a time.
#[derive(Debug, Args)]
pub(super) struct DaemonArguments {
    /// The admin socket [env: POSTRIDER__ADMIN__SOCKET]
    #[arg(long, value_name = "PATH", global = true, help_heading = HEADING)]
    socket: Option<PathBuf>,
    /// The admin API's address, instead of the socket: https://host:8470
    #[arg(long, global = true, help_heading = HEADING)]
    url: Option<Url>,
    /// A file with the API key: --url asks for one, and over the socket it stands in the place of the operator
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING)]
    key_file: Option<PathBuf>,
    /// A PEM file with the authority of the address's certificate, beside the system's
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING)]
    ca: Option<PathBuf>,
}

/// Where the admin socket is when no option says so, as the daemon takes it.
const SOCKET_VARIABLE: &str = "POSTRIDER__ADMIN__SOCKET";

/// What stands above these options in a help.
pub(super) const HEADING: &str = "Which daemon";

/// A way to the admin API.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    way: Way,
    /// What it shows; over a socket there need be none, and the process's user counts then.
    key: Option<Secret>,
    /// Whom to act for, when that is not the key's own tenant or the default one.
    tenant: Option<TenantId>,
}

/// An answer as it came. The body of a 204 is empty.
#[derive(Debug)]
pub(super) struct Answer {
    body: Bytes,
    place: String,
}

impl Answer {
    /// What the body says; nothing is null. An event may carry what no value holds: see [`json::value`].
    pub(super) fn value(&self) -> Result<Value, Failure> {
        match self.body.is_empty() {
            true => Ok(Value::Null),
            false => json::value(&self.body).map_err(|error| broken(&self.place, &error)),
        }
    }

    /// The body as a type of its own.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| broken(&self.place, &error))
    }

    /// The answer, when it is none that refuses.
    fn unless_refused(self, path: &str, status: StatusCode) -> Result<Answer, Failure> {
        match status.is_success() {
            true => Ok(self),
            false => Err(refused(path, &self.place, status, &self.body)),
        }
    }

    /// Writes the body as it came, on a line of its own; nothing when there is none.
    pub(super) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.body.is_empty() {
            out.write_all(&self.body)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Way {
    Socket(PathBuf),
    Url { url: Url, ca: Option<PathBuf> },
}

/// What the API says when it refuses (RFC 9457).
#[derive(Debug, Deserialize)]
struct Refusal {
    title: Option<String>,
    detail: Option<String>,
    #[serde(flatten)]
    details: Details,
}

impl Admin {
    pub(super) fn new(arguments: &DaemonArguments) -> Result<Admin, Failure> {
        let DaemonArguments { socket, url, key_file, ca } = arguments;
        let way = match (url, socket) {
            (Some(_), Some(_)) => {
                return Err(misused("--socket", "--url names another way to a daemon", "give one of them"));
            }
            (Some(_), None) if key_file.is_none() => {
                let cause = "the admin API at an address asks for an API key";
                return Err(misused("--url", cause, "add --key-file FILE; postrider key create makes a key"));
            }
            (Some(url), None) => {
                safe_for_a_key(url)?;
                Way::Url { url: url.clone(), ca: ca.clone() }
            }
            (None, _) if ca.is_some() => {
                let cause = "there is no certificate to judge on a socket";
                return Err(misused("--ca", cause, "add --url https://HOST:8470, or leave --ca out"));
            }
            (None, named) => {
                let named = named.clone().or_else(|| Some(std::env::var_os(SOCKET_VARIABLE)?.into()));
                Way::Socket(socket_path(named.as_deref(), Places::admin_socket))
            }
        };
        let read = |path: &PathBuf| match std::fs::read_to_string(path) {
            Ok(key) => Ok(Secret::new(key.trim())),
            Err(error) => Err(unreadable("the key", path, &error)),
        };
        Ok(Admin { way, key: key_file.as_ref().map(read).transpose()?, tenant: None })
    }

    /// The same, acting for this tenant.
    pub(super) fn acting_for(self, tenant: Option<&TenantId>) -> Admin {
        Admin { tenant: tenant.cloned(), ..self }
    }

    /// The way over a socket.
    pub(super) fn over(socket: PathBuf) -> Admin {
        Admin { way: Way::Socket(socket), key: None, tenant: None }
    }

    /// One call.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        super::runtime()?.block_on(self.answer(method, path, body))
    }

    /// What the resource at `path` is, byte for byte.
    pub(super) fn read_bytes(&self, path: &str) -> Result<Bytes, Failure> {
        Ok(self.call(Method::GET, path, None)?.body)
    }

    /// What is at `path`, if anything is.
    pub(super) fn find(&self, path: &str) -> Result<Option<Answer>, Failure> {
        match super::runtime()?.block_on(self.exchange_in_time(Method::GET, path, None))? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, answer) => answer.unless_refused(path, status).map(Some),
        }
    }

    /// What one call answers, for whoever runs in a runtime already. An answer without a body is null.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.answer(method, path, body).await?.value()
    }

    async fn answer(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let (status, answer) = self.exchange_in_time(method, path, body).await?;
        answer.unless_refused(path, status)
    }

    /// What is told at `path` for as long as somebody listens; only its beginning is waited for.
    pub(super) async fn follow(&self, path: &str) -> Result<Lines, Failure> {
        let place = self.place(&Method::GET, path);
        let opening = self.open(Method::GET, path, None, &place);
        let opened = tokio::time::timeout(CALL_TIMEOUT, opening).await.map_err(|_| late(&place))??;
        if opened.status.is_success() {
            return Ok(Lines { opened, read: BytesMut::new() });
        }
        let status = opened.status;
        let whole = tokio::time::timeout(CALL_TIMEOUT, opened.whole(&place)).await;
        Err(refused(path, &place, status, &whole.map_err(|_| late(&place))??))
    }

    async fn exchange_in_time(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Answer), Failure> {
        let place = self.place(&method, path);
        let exchange = async {
            let opened = self.open(method, path, body, &place).await?;
            Ok::<_, Failure>((opened.status, opened.whole(&place).await?))
        };
        let (status, body) = tokio::time::timeout(CALL_TIMEOUT, exchange).await.map_err(|_| late(&place))??;
        Ok((status, Answer { body, place }))
    }

    fn place(&self, method: &Method, path: &str) -> String {
        format!("{method} {path} at {}", self.name())
    }

    fn name(&self) -> String {
        match &self.way {
            Way::Socket(path) => path.display().to_string(),
            Way::Url { url, .. } => url.as_str().trim_end_matches('/').to_owned(),
        }
    }

    /// Asks, and reads the answer's head.
    async fn open(&self, method: Method, path: &str, body: Option<&Value>, place: &str) -> Result<Opened, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json, text/event-stream");
        if let Some(tenant) = &self.tenant {
            request = request.header("x-tenant", tenant.as_str());
        }
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, authorization(key)?);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        match &self.way {
            Way::Socket(socket) => {
                let stream = tokio::net::UnixStream::connect(socket).await.map_err(|e| unreachable(socket, &e))?;
                send(stream, request.header(header::HOST, "postrider"), body, place).await
            }
            Way::Url { url, ca } => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or_default();
                let request = request.header(header::HOST, format!("{host}:{port}"));
                let far = |error: io::Error| {
                    let help = "is admin.listen that address, and the daemon running?";
                    let trouble = Trouble::new("cannot reach the daemon", url.as_str(), error.to_string(), help);
                    Failure::new(Exit::Unreachable, trouble)
                };
                let stream = dial(host, port).await.map_err(far)?;
                match url.scheme() {
                    "http" => send(stream, request, body, place).await,
                    _ => {
                        let name = host.trim_matches(['[', ']']).to_owned();
                        let name = ServerName::try_from(name).map_err(|e| far(io::Error::other(e)))?;
                        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(ca.as_deref())?));
                        let stream = connector.connect(name, stream).await.map_err(far)?;
                        send(stream, request, body, place).await
                    }
                }
            }
        }
    }
}

fn authorization(key: &Secret) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|error| {
        let help = "the file holds the secret of an API key on one line";
        Failure::new(Exit::Usage, Trouble::new("the key is not a key", "--key-file", error.to_string(), help))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An API key travels in clear only where nobody else listens.
fn safe_for_a_key(url: &Url) -> Result<(), Failure> {
    let stays_here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if stays_here => Ok(()),
        "http" => Err(misused("--url", "over http the API key is readable on its way", "use https, or the socket")),
        other => Err(misused("--url", &format!("{other} is not a way to the admin API"), "use https, or the socket")),
    }
}

/// An option that cannot be meant as it stands.
fn misused(option: &str, cause: &str, help: &str) -> Failure {
    Failure::new(Exit::Usage, Trouble::new(format!("{option} cannot be used like this"), option, cause, help))
}

/// To an address of the operator's own choice: this is the operator's tool, not a delivery, so no guard stands here.
async fn dial(host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
    let host = host.trim_matches(['[', ']']).to_owned();
    let found = tokio::task::spawn_blocking(move || (host.as_str(), port).to_socket_addrs()).await;
    let addresses: Vec<_> = found.map_err(io::Error::other)??.collect();
    tokio::net::TcpStream::connect(addresses.as_slice()).await
}

fn tls(ca: Option<&Path>) -> Result<rustls::ClientConfig, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        let unusable = |error: rustls::pki_types::pem::Error| unreadable("the authority", ca, &io::Error::other(error));
        let found = CertificateDer::pem_file_iter(ca).map_err(unusable)?;
        roots.add_parsable_certificates(found.collect::<Result<Vec<_>, _>>().map_err(unusable)?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An answer whose body is still to come.
#[derive(Debug)]
struct Opened {
    status: StatusCode,
    body: Incoming,
    /// Runs the connection.
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

impl Opened {
    async fn whole(self, place: &str) -> Result<Bytes, Failure> {
        let body = Limited::new(self.body, ANSWER_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| broken(place, &*error))?.to_bytes())
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(super) struct Lines {
    opened: Opened,
    /// The beginning of the next line.
    read: BytesMut,
}

impl Lines {
    /// The next line; `None` at the end. When it breaks off, or a line is longer than any should be: why.
    pub(super) async fn next(&mut self) -> Result<Option<String>, String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.read.split_to(searched + end + 1);
                line.truncate(searched + end);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()));
            }
            searched = self.read.len();
            if searched > LINE_BYTES_MAX {
                return Err(format!("a line of more than {LINE_BYTES_MAX} bytes came"));
            }
            match self.opened.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(frame)) => self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::request::Builder,
    body: Bytes,
    place: &str,
) -> Result<Opened, Failure> {
    let fail = |error: &(dyn std::error::Error + 'static)| broken(place, error);
    let request = request.body(Full::new(body)).map_err(|error| fail(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail(&error))?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(|error| match error.is_parse() {
        true => fail(&error),
        false => unanswered(place, &error),
    })?;
    Ok(Opened { status: answer.status(), body: answer.into_body(), _driver: driver })
}

fn late(place: &str) -> Failure {
    let cause = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
    Failure::new(Exit::TryLater, Trouble::new("the daemon does not answer", place, cause, "look at its log"))
}

fn unanswered(place: &str, error: &hyper::Error) -> Failure {
    let help = "is it starting or stopping? look at its log, and at what the call would have changed";
    let trouble = Trouble::new("the connection ended before an answer", place, error.to_string(), help);
    Failure::new(Exit::TryLater, trouble)
}

fn refused(path: &str, place: &str, status: StatusCode, answer: &[u8]) -> Failure {
    let (what, mut cause, details) = match serde_json::from_slice::<Refusal>(answer) {
        Ok(refusal) => {
            let (title, cause) = (refusal.title.clone(), refusal.in_words());
            (title.unwrap_or_else(|| status.to_string()), cause, refusal.details)
        }
        Err(_) => (format!("the daemon answered {status}"), String::new(), Details::default()),
    };
    if cause.is_empty() {
        cause = format!("status {}", status.as_u16());
    }
    let (exit, help) = match status {
        StatusCode::UNAUTHORIZED => (Exit::NotPermitted, "use a key that exists: --key-file FILE".to_owned()),
        StatusCode::FORBIDDEN => (Exit::NotPermitted, "use a key with a higher role, or of that tenant".to_owned()),
        StatusCode::NOT_FOUND => (Exit::Failed, list_of(path).to_owned()),
        StatusCode::CONFLICT => (Exit::Failed, state_of(path)),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            (Exit::TryLater, "try again later".to_owned())
        }
        _ if status.is_server_error() => (Exit::Failed, "look at the daemon's log".to_owned()),
        _ => (Exit::Failed, mending(&details).to_owned()),
    };
    Failure { details, ..Failure::new(exit, Trouble::new(what, place, cause, help)) }
}

/// The command that helps whoever wanted of a thing what its state does not allow: most often the one that shows how it stands.
fn state_of(path: &str) -> String {
    let mut parts = path.split(['/', '?']).skip(2);
    let (kind, mut id) = (parts.next().unwrap_or_default(), parts.next());
    if kind == "destinations" {
        id = parts.next();
    }
    let deed = path.split('?').next().and_then(|path| path.rsplit('/').next());
    match (kind, id) {
        ("destinations", Some(id)) if deed == Some("rotate") => {
            format!("postrider destination rotate-secret {id}{AT_ONCE}")
        }
        ("signing-keys", Some(id)) if deed == Some("rotate") => format!("postrider signing-key rotate {id}{AT_ONCE}"),
        ("deliveries" | "destinations", Some(id)) => {
            format!("postrider explain {id}    # says where it stands, and what can be done")
        }
        ("replays", None) => {
            "postrider replay list    # those that run; postrider replay cancel ID ends one".to_owned()
        }
        ("replays", Some(id)) => format!("postrider replay show {id}    # says how far it has come"),
        ("tenants", Some(id)) => format!("postrider tenant delete {id} --dry-run    # names what belongs to it"),
        ("tenants", None) => "postrider tenant list    # those there are".to_owned(),
        ("signing-keys", Some(id)) => format!("postrider signing-key show {id}    # names who signs with it"),
        ("signing-keys", None) => "postrider signing-key list    # those there are".to_owned(),
        ("event-types", Some(name)) => format!("postrider event-type show {name}    # says where it comes from"),
        ("event-types", None) => "postrider event-type list    # those there are, with their aliases".to_owned(),
        ("users", _) => "postrider user list    # those there are".to_owned(),
        _ => "mend what the cause names".to_owned(),
    }
}

/// What a rotation is repeated with while the overlap of the one before it lasts.
const AT_ONCE: &str = " --overlap 0s    # does so while an earlier overlap lasts: that ends at once";

/// What helps whoever said something that cannot be.
fn mending(details: &Details) -> &'static str {
    let names = |part: &str| details.errors.iter().any(|error| error.pointer.split('/').nth(1) == Some(part));
    match details.code.as_deref() {
        Some("unknown_tenant") => "postrider tenant list    # those there are",
        Some("bad_field") if names("tenant") || names("parent") => "postrider tenant list    # those there are",
        Some("bad_field") if names("destination") || names("destinations") => {
            "postrider destination list    # those there are; --tenant ID for another tenant's"
        }
        _ => "mend what the cause names; the same command with --help says what it takes",
    }
}

/// The command that shows what there is, for whoever named what there is not.
fn list_of(path: &str) -> &'static str {
    const LISTS: [(&str, &str); 11] = [
        // Nothing else is named there.
        ("/v1/tail", "postrider destination list    # those there are; --tenant ID for another tenant's"),
        ("/v1/destinations", "postrider destination list    # those there are; --tenant ID for another tenant's"),
        ("/v1/subscriptions", "postrider subscription list    # those there are; --tenant ID for another tenant's"),
        ("/v1/events", "postrider event list    # those there are; --tenant ID for another tenant's"),
        ("/v1/deliveries", "postrider delivery list    # those there are; --tenant ID for another tenant's"),
        ("/v1/tenants", "postrider tenant list    # those there are"),
        ("/v1/keys", "postrider key list    # those there are"),
        ("/v1/replays", "postrider replay list    # those there are; --tenant ID for another tenant's"),
        ("/v1/signing-keys", "postrider signing-key list    # those there are; --tenant ID for another tenant's"),
        ("/v1/event-types", "postrider event-type list --limit 1000    # those there are"),
        ("/v1/users", "postrider user list    # those there are"),
    ];
    let list = LISTS.iter().find(|(start, _)| path.starts_with(start));
    list.map_or("look at the id, and at the tenant it belongs to", |(_, command)| command)
}

impl Refusal {
    /// All that is wrong, each with the name of its field.
    fn in_words(&self) -> String {
        let detail = self.detail.as_deref().unwrap_or_default();
        let fields = self.details.errors.iter().map(|error| match field_name(&error.pointer) {
            whole if whole.is_empty() => error.detail.clone(),
            field => format!("{field}: {}", error.detail),
        });
        // A detail that only counts the fields, or repeats the one there is, says nothing beside them.
        let repeats = |error: &FieldError| detail.ends_with(&error.detail) || detail.ends_with("see errors");
        let said = Some(detail.to_owned()).filter(|text| !text.is_empty() && !self.details.errors.iter().any(repeats));
        said.into_iter().chain(fields).collect::<Vec<_>>().join("; ")
    }
}

/// A JSON pointer (RFC 6901) as people write a field's name: `retry.delays[0]`. A parameter of the query or of the path is called by
/// its name.
fn field_name(pointer: &str) -> String {
    if let Some(name) = pointer.strip_prefix('?') {
        return name.to_owned();
    }
    if let Some(name) = pointer.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        return name.to_owned();
    }
    let mut name = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() {
            name.push_str(&format!("[{part}]"));
        } else {
            let dot = if name.is_empty() { "" } else { "." };
            name.push_str(&format!("{dot}{part}"));
        }
    }
    name
}

fn broken(place: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let help = "is it the admin API that answers there?";
    Failure::new(Exit::Failed, Trouble::new("the answer cannot be understood", place, error.to_string(), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_told_as_the_name_of_a_field() {
        let table = [
            ("", ""),
            ("/name", "name"),
            ("/retry/delays/0", "retry.delays[0]"),
            ("/headers/X~1Y~0", "headers.X/Y~"),
            ("/0/type", "0.type"),
            ("?limit", "limit"),
            ("{id}", "id"),
        ];
        for (pointer, name) in table {
            assert_eq!(field_name(pointer), name);
        }
    }

    /// Whatever the API refuses because of how a thing stands, and whatever is not there, is told with a command that shows it.
    #[test]
    fn a_refusal_ends_with_the_command_that_helps() {
        let help = |path: &str, status: u16, answer: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            refused(path, "", status, answer.as_bytes()).troubles.remove(0).help
        };
        let table = [
            ("/v1/deliveries/dlv_1/cancel", 409, "{}", "postrider explain dlv_1 "),
            ("/v1/destinations/webhook/A-B/test", 409, "{}", "postrider explain A-B "),
            (
                "/v1/destinations/webhook/A-B/secret/rotate",
                409,
                "{}",
                "postrider destination rotate-secret A-B --overlap 0s ",
            ),
            ("/v1/signing-keys/sgk_1/rotate", 409, "{}", "postrider signing-key rotate sgk_1 --overlap 0s "),
            ("/v1/signing-keys/sgk_1", 409, "{}", "postrider signing-key show sgk_1 "),
            ("/v1/replays", 409, "{}", "postrider replay list "),
            ("/v1/replays/rpl_7/cancel", 409, "{}", "postrider replay show rpl_7 "),
            ("/v1/tenants/m1", 409, "{}", "postrider tenant delete m1 --dry-run "),
            ("/v1/tenants", 409, "{}", "postrider tenant list "),
            ("/v1/signing-keys", 409, "{}", "postrider signing-key list "),
            ("/v1/event-types/ach.settled", 409, "{}", "postrider event-type show ach.settled "),
            ("/v1/users", 409, "{}", "postrider user list "),
            ("/v1/replays/rpl_7", 404, "{}", "postrider replay list "),
            ("/v1/signing-keys/sgk_1", 404, "{}", "postrider signing-key list "),
            ("/v1/destinations/webhook?limit=1", 400, r#"{"code": "unknown_tenant"}"#, "postrider tenant list "),
            (
                "/v1/keys",
                400,
                r#"{"code": "bad_field", "errors": [{"pointer": "/tenant", "detail": "x"}]}"#,
                "postrider tenant list ",
            ),
            (
                "/v1/subscriptions/a",
                400,
                r#"{"code": "bad_field", "errors": [{"pointer": "/destinations/0", "detail": "x"}]}"#,
                "postrider destination list ",
            ),
        ];
        for (path, status, answer, start) in table {
            assert!(help(path, status, answer).starts_with(start), "{path}: {}", help(path, status, answer));
        }
        assert!(help("/v1/destinations/webhook", 400, r#"{"code": "bad_field"}"#).contains("--help"));
    }

    #[test]
    fn a_refusal_says_each_thing_once() {
        let told = |text: &str| serde_json::from_str::<Refusal>(text).unwrap().in_words();
        let one = r#"{"detail": "/name: is required", "errors": [{"pointer": "/name", "detail": "is required"}]}"#;
        assert_eq!(told(one), "name: is required");
        let two = r#"{"detail": "2 fields are not valid; see errors", "errors":
            [{"pointer": "/name", "detail": "is required"}, {"pointer": "/tls/pin", "detail": "is no hash"}]}"#;
        assert_eq!(told(two), "name: is required; tls.pin: is no hash");
        assert_eq!(told(r#"{"detail": "the queue is full"}"#), "the queue is full");
        let both = r#"{"detail": "too low", "errors": [{"pointer": "", "detail": "bad"}]}"#;
        assert_eq!(told(both), "too low; bad");
    }
}
