//! `listen`: a receiver on this machine that prints what is delivered to it, for a first try and for looking at requests.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Exit, Failure, Form, Trouble};
use crate::clock::Clock;
use crate::model::Timestamp;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider listen --port 9000\n  \
postrider listen --fail 2 --once 3    # refuses two, takes the third, ends")]
pub(super) struct Arguments {
    /// Listen on 127.0.0.1 and this port; 0 takes a free one
    #[arg(long, default_value_t = 9000, conflicts_with = "addr")]
    port: u16,
    /// Listen on this address and port
    #[arg(long, value_name = "IP:PORT")]
    addr: Option<SocketAddr>,
    /// Answer with this status
    #[arg(long, default_value = "200")]
    status: StatusCode,
    /// Answer the first N with status 500
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    fail: u64,
    /// Answer with this body
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    body: String,
    /// End after N deliveries
    #[arg(long, value_name = "N")]
    once: Option<NonZeroU64>,
}

/// Longer bodies are answered with 413; the daemon's own limit for an event is far below.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Deliveries that were answered and are not yet printed; beyond it answers wait for the printer.
const PRINT_QUEUE: usize = 64;
/// How long an open connection may take to end after the last delivery.
const GOODBYE: Duration = Duration::from_secs(2);

/// One request that came in.
struct Delivery {
    received: Timestamp,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    answered: StatusCode,
}

/// How requests are answered.
struct Answers {
    status: StatusCode,
    fail: u64,
    body: Bytes,
    once: Option<NonZeroU64>,
    seen: AtomicU64,
}

impl Answers {
    /// The answer to the next request; `None` when none is expected any more.
    fn next(&self) -> Option<StatusCode> {
        let number = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        match self.once {
            Some(once) if number > once.get() => None,
            _ if number <= self.fail => Some(StatusCode::INTERNAL_SERVER_ERROR),
            _ => Some(self.status),
        }
    }
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    super::runtime()?.block_on(receive(arguments, form))?;
    Ok(Exit::Done)
}

async fn receive(arguments: &Arguments, form: Form) -> Result<(), Failure> {
    let address = arguments.addr.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)));
    let listener = TcpListener::bind(address).await.map_err(|error| taken(address, &error))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let mut out = anstream::stdout();
    match form {
        Form::Json => writeln!(out, "{}", json!({ "listening": url }))?,
        Form::Text => writeln!(anstream::stderr(), "listening on {url}")?,
    }
    let answers = Arc::new(Answers {
        status: arguments.status,
        fail: arguments.fail,
        body: Bytes::from(arguments.body.clone()),
        once: arguments.once,
        seen: AtomicU64::new(0),
    });
    let (sender, mut deliveries) = mpsc::channel(PRINT_QUEUE);
    let connections = GracefulShutdown::new();
    let mut left = arguments.once.map(NonZeroU64::get);
    while left != Some(0) {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that is gone before it was accepted is none of ours.
                let Ok((stream, _)) = accepted else { continue };
                let (answers, sender) = (answers.clone(), sender.clone());
                let service = service_fn(move |request| answer(answers.clone(), sender.clone(), request));
                let connection =
                    hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connections.watch(connection));
            }
            delivery = deliveries.recv() => {
                let delivery: Delivery = delivery.expect("this function holds a sender");
                print(&mut out, &delivery, form)?;
                left = left.map(|left| left - 1);
            }
        }
    }
    // The last answer is still on its way.
    let _ = tokio::time::timeout(GOODBYE, connections.shutdown()).await;
    Ok(())
}

async fn answer(
    answers: Arc<Answers>,
    printer: mpsc::Sender<Delivery>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let received = Clock::system().now();
    let reply = |status: StatusCode, body: Bytes| {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        Ok(response)
    };
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return reply(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new());
    };
    let Some(status) = answers.next() else {
        return reply(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
    };
    let path = head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let delivery = Delivery {
        received,
        method: head.method,
        path,
        headers: head.headers,
        body: body.to_bytes(),
        answered: status,
    };
    // The printer is gone only when the command is ending.
    let _ = printer.send(delivery).await;
    reply(status, answers.body.clone())
}

fn print(out: &mut impl Write, delivery: &Delivery, form: Form) -> io::Result<()> {
    match form {
        Form::Json => writeln!(out, "{}", as_json(delivery))?,
        Form::Text => print_text(out, delivery)?,
    }
    out.flush()
}

fn print_text(out: &mut impl Write, delivery: &Delivery) -> io::Result<()> {
    const LINE: Style = Style::new().bold();
    const NAME: Style = AnsiColor::Cyan.on_default();
    let Delivery { received, method, path, headers, body, answered } = delivery;
    writeln!(out, "{LINE}{method} {path}{LINE:#}  {received}, answered {}", answered.as_u16())?;
    for (name, value) in headers.iter().filter(|(name, _)| tells_about_the_delivery(name)) {
        writeln!(out, "  {NAME}{name}{NAME:#}: {}", String::from_utf8_lossy(value.as_bytes()).escape_debug())?;
    }
    match std::str::from_utf8(body) {
        Ok("") => writeln!(out, "  (no body)")?,
        // A control character in a body must not steer the terminal.
        Ok(text) => writeln!(out, "{}", text.replace(|c: char| c.is_control() && !"\n\t".contains(c), "\u{fffd}"))?,
        Err(_) => writeln!(out, "  ({} bytes that are not text)", body.len())?,
    }
    writeln!(out)
}

/// Not what every HTTP request has anyway.
fn tells_about_the_delivery(name: &HeaderName) -> bool {
    !["host", "content-length", "accept", "accept-encoding", "connection"].contains(&name.as_str())
}

fn as_json(delivery: &Delivery) -> serde_json::Value {
    let Delivery { received, method, path, headers, body, answered } = delivery;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect();
    let mut object = json!({
        "received_at": received.to_string(),
        "method": method.as_str(),
        "path": path,
        "headers": headers,
        "answered": answered.as_u16(),
    });
    match std::str::from_utf8(body) {
        Ok(text) => object["body"] = text.into(),
        Err(_) => object["body_base64"] = STANDARD.encode(body).into(),
    }
    object
}

fn taken(address: SocketAddr, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Failed,
    };
    let help = "choose another with --port N; --port 0 takes a free one";
    Failure::new(exit, Trouble::new("cannot listen", address.to_string(), error.to_string(), help))
}
