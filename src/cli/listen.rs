//! `listen`: a receiver on this machine that prints what is delivered to it, for a first try and for looking at requests.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use http::{HeaderName, StatusCode};
use serde_json::json;

use super::receiver::{Answer, Behaviour, Delivery, Receiver};
use super::signature::{Proof, preset_parser, verdict_json, verdict_text};
use super::{Exit, Failure, Form, Trouble};
use crate::model::destination::Preset;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider listen --port 9000\n  \
postrider listen --fail 2 --once 3    # refuses two, takes the third, ends\n  \
postrider listen --secret-file secret.txt --preset x-signature")]
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
    /// Verify signatures with the secret in this file; what does not verify is answered with 401
    ///
    /// With several presets give one file for all, or one for each in their order. All signatures must be right.
    #[arg(long = "secret-file", value_name = "FILE")]
    secret_files: Vec<PathBuf>,
    /// The signature's scheme; may be repeated [default: standard]
    #[arg(long = "preset", value_parser = preset_parser(), requires = "secret_files", hide_possible_values = true)]
    presets: Vec<Preset>,
    /// The destination's URL, for the presets that sign it [default: as requested]
    #[arg(long, requires = "secret_files")]
    url: Option<String>,
    /// Say that a signature does not verify, but answer as if it did
    #[arg(long, requires = "secret_files")]
    accept_all: bool,
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let proof = match arguments.secret_files.as_slice() {
        [] => None,
        files => Some(Proof::of_files(&arguments.presets, files)?),
    };
    super::runtime()?.block_on(receive(arguments, proof, form))?;
    Ok(Exit::Done)
}

async fn receive(arguments: &Arguments, proof: Option<Proof>, form: Form) -> Result<(), Failure> {
    let address = arguments.addr.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)));
    let receiver = Receiver::bind(address).await.map_err(|error| taken(address, &error))?;
    let url = format!("http://{}/", receiver.address());
    let mut out = anstream::stdout();
    match form {
        Form::Json => writeln!(out, "{}", json!({ "listening": url }))?,
        Form::Text => writeln!(anstream::stderr(), "listening on {url}")?,
    }
    let mut left = arguments.once.map(NonZeroU64::get);
    let on_delivery = |delivery: &Delivery, answer: &Answer| {
        if let Err(error) = print(&mut out, delivery, answer, form) {
            return ControlFlow::Break(Err(error));
        }
        left = left.map(|left| left - 1);
        if left == Some(0) { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
    };
    match receiver.run(behaviour(arguments, proof), on_delivery, std::future::pending()).await {
        Some(ended) => Ok(ended?),
        None => Ok(()),
    }
}

/// Answers as the options say.
fn behaviour(arguments: &Arguments, proof: Option<Proof>) -> Behaviour {
    let Arguments { status, fail, once, accept_all, .. } = *arguments;
    let (body, url) = (Bytes::from(arguments.body.clone()), arguments.url.clone());
    Arc::new(move |delivery| {
        if once.is_some_and(|once| delivery.number > once.get()) {
            return None;
        }
        let signature = proof.as_ref().map(|proof| delivery.verify(proof, url.as_deref()));
        let status = match &signature {
            Some(Err(_)) if !accept_all => StatusCode::UNAUTHORIZED,
            _ if delivery.number <= fail => StatusCode::INTERNAL_SERVER_ERROR,
            _ => status,
        };
        Some(Answer { status, body: body.clone(), signature })
    })
}

fn print(out: &mut impl Write, delivery: &Delivery, answer: &Answer, form: Form) -> io::Result<()> {
    match form {
        Form::Json => writeln!(out, "{}", as_json(delivery, answer))?,
        Form::Text => print_text(out, delivery, answer)?,
    }
    out.flush()
}

fn print_text(out: &mut impl Write, delivery: &Delivery, answer: &Answer) -> io::Result<()> {
    const LINE: Style = Style::new().bold();
    const NAME: Style = AnsiColor::Cyan.on_default();
    const BAD: Style = AnsiColor::Red.on_default().bold();
    let Delivery { received, method, path, headers, body, .. } = delivery;
    writeln!(out, "{LINE}{method} {path}{LINE:#}  {received}, answered {}", answer.status.as_u16())?;
    for (name, value) in headers.iter().filter(|(name, _)| tells_about_the_delivery(name)) {
        writeln!(out, "  {NAME}{name}{NAME:#}: {}", String::from_utf8_lossy(value.as_bytes()).escape_debug())?;
    }
    if let Some(verdict) = &answer.signature {
        let style = if verdict.is_ok() { LINE } else { BAD };
        writeln!(out, "  {style}{}{style:#}", verdict_text(verdict))?;
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

fn as_json(delivery: &Delivery, answer: &Answer) -> serde_json::Value {
    let Delivery { received, method, path, headers, body, .. } = delivery;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect();
    let mut object = json!({
        "received_at": received.to_string(),
        "method": method.as_str(),
        "path": path,
        "headers": headers,
        "answered": answer.status.as_u16(),
    });
    match std::str::from_utf8(body) {
        Ok(text) => object["body"] = text.into(),
        Err(_) => object["body_base64"] = STANDARD.encode(body).into(),
    }
    if let Some(verdict) = &answer.signature {
        object["signature"] = verdict_json(verdict);
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
