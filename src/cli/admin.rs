//! How commands speak to a running daemon: the admin API, over its Unix socket or over TCP with a key.

use std::io;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::emit::{socket_path, unreachable};
use super::{Exit, Failure, Trouble, unreadable};
use crate::config::Places;
use crate::model::Secret;

/// Longest answer that is read; the API pages its lists well below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// For the whole call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Which daemon to speak to.
#[derive(Debug, Args)]
pub(super) struct DaemonArguments {
    /// The admin socket
    #[arg(long, value_name = "PATH", env = "POSTRIDER__ADMIN__SOCKET", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// The admin API's address, instead of the socket: https://host:8470
    #[arg(long, requires = "key_file")]
    url: Option<Url>,
    /// A file with the API key
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,
    /// A PEM file with the authority of the address's certificate, beside the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
}

/// A way to the admin API.
#[derive(Debug)]
pub(super) struct Admin {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Socket(PathBuf),
    Url { url: Url, key: Secret, ca: Option<PathBuf> },
}

/// What the API says when it refuses (RFC 9457).
#[derive(Debug, Deserialize)]
struct Refusal {
    title: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    pointer: String,
    detail: String,
}

impl Admin {
    pub(super) fn new(arguments: &DaemonArguments) -> Result<Admin, Failure> {
        let way = match (&arguments.url, &arguments.key_file) {
            (Some(url), Some(key_file)) => {
                let key = std::fs::read_to_string(key_file).map_err(|error| unreadable("the key", key_file, &error))?;
                Way::Url { url: url.clone(), key: Secret::new(key.trim()), ca: arguments.ca.clone() }
            }
            _ => Way::Socket(socket_path(arguments.socket.as_deref(), Places::admin_socket)),
        };
        Ok(Admin { way })
    }

    /// The way over a socket.
    pub(super) fn over(socket: PathBuf) -> Admin {
        Admin { way: Way::Socket(socket) }
    }

    /// What the resource at `path` is.
    pub(super) fn read(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None)
    }

    /// What the resource at `path` is, byte for byte.
    pub(super) fn read_bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let place = format!("GET {path} at {}", self.name());
        super::runtime()?.block_on(self.answer(Method::GET, path, None, &place))
    }

    /// One call. An answer without a body is null.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        super::runtime()?.block_on(self.ask(method, path, body))
    }

    /// One call, for whoever runs in a runtime already.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let place = format!("{method} {path} at {}", self.name());
        let answer = self.answer(method, path, body, &place).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|error| broken(&place, &error))
    }

    async fn answer(&self, method: Method, path: &str, body: Option<&Value>, place: &str) -> Result<Bytes, Failure> {
        let late = |_| {
            let cause = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            let trouble = Trouble::new("the daemon does not answer", place, cause, "look at its log");
            Failure::new(Exit::TryLater, trouble)
        };
        let exchange = self.exchange(method, path, body, place);
        let (status, answer) = tokio::time::timeout(CALL_TIMEOUT, exchange).await.map_err(late)??;
        if !status.is_success() {
            return Err(refused(place, status, &answer));
        }
        Ok(answer)
    }

    fn name(&self) -> String {
        match &self.way {
            Way::Socket(path) => path.display().to_string(),
            Way::Url { url, .. } => url.as_str().trim_end_matches('/').to_owned(),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        place: &str,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
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
            Way::Url { url, key, ca } => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or_default();
                let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|error| {
                    let help = "the file holds the secret of an API key on one line";
                    Failure::new(
                        Exit::Usage,
                        Trouble::new("the key is not a key", "--key-file", error.to_string(), help),
                    )
                })?;
                value.set_sensitive(true);
                let request =
                    request.header(header::HOST, format!("{host}:{port}")).header(header::AUTHORIZATION, value);
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

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::request::Builder,
    body: Bytes,
    place: &str,
) -> Result<(StatusCode, Bytes), Failure> {
    let fail = |error: &(dyn std::error::Error + 'static)| broken(place, error);
    let request = request.body(Full::new(body)).map_err(|error| fail(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail(&error))?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| fail(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| fail(&*error))?;
    driver.abort();
    Ok((status, body.to_bytes()))
}

fn refused(place: &str, status: StatusCode, answer: &[u8]) -> Failure {
    let (what, mut cause) = match serde_json::from_slice::<Refusal>(answer) {
        Ok(refusal) => {
            let title = refusal.title.unwrap_or_else(|| status.to_string());
            let fields = refusal.errors.iter().map(|error| format!("; {}: {}", error.pointer, error.detail));
            (title, refusal.detail.unwrap_or_default() + &fields.collect::<String>())
        }
        Err(_) => (format!("the daemon answered {status}"), String::new()),
    };
    if cause.is_empty() {
        cause = format!("status {}", status.as_u16());
    }
    let (exit, help) = match status {
        StatusCode::UNAUTHORIZED => (Exit::NotPermitted, "use a key that exists: --key-file FILE"),
        StatusCode::FORBIDDEN => (Exit::NotPermitted, "use a key with a higher role, or of that tenant"),
        StatusCode::NOT_FOUND => (Exit::Failed, "look at the id, and at the tenant it belongs to"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => (Exit::TryLater, "try again later"),
        _ if status.is_server_error() => (Exit::Failed, "look at the daemon's log"),
        _ => (Exit::Failed, "mend what the cause names"),
    };
    Failure::new(exit, Trouble::new(what, place, cause, help))
}

fn broken(place: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let help = "is it the admin API that answers there?";
    Failure::new(Exit::Failed, Trouble::new("the answer cannot be understood", place, error.to_string(), help))
}
