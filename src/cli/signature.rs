//! `sign` and `verify`: what a delivery's signature headers are, and whether those at hand are right. Also the proof
//! that `listen` asks of what comes in.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::{Exit, Failure, Form, Trouble, unreadable};
use crate::clock::Clock;
use crate::model::destination::{Preset, Scheme, Signature};
use crate::model::id::hex;
use crate::model::{Secret, Timestamp};
use crate::sign::{self, Message, SignError};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider sign --preset x-signature --secret-file key.txt < body.json\n  \
postrider sign --preset standard --secret-file key.txt --id evt_1 < body.json\n  \
postrider sign --preset square-like --secret-file key.txt \\\n    --url https://example.com/in < body.json")]
pub(super) struct SignArguments {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    inputs: Inputs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider verify --preset x-signature --secret-file key.txt \\\n    --header 'X-Signature: 4b15…' < body.json\n\n\
Id, time and nonce are read from the headers where the preset carries them there; when the option is given too, the \
two must agree. Whether the time is recent is not judged.")]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    key: Key,
    /// A header as it was received; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", required = true)]
    headers: Vec<Header>,
    #[command(flatten)]
    inputs: Inputs,
}

#[derive(Debug, Args)]
struct Key {
    /// The signature's scheme
    #[arg(long, value_parser = preset_parser())]
    preset: Preset,
    /// A file with the secret on one line, in the form that the preset asks for
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
}

/// What is signed beside the body. What a preset does not sign is left aside.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is signed beside the body, which is read from standard input")]
struct Inputs {
    /// The event's id (standard)
    #[arg(long)]
    id: Option<String>,
    /// When the attempt is made: Unix seconds or RFC 3339 (standard, stripe-like) [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    timestamp: Option<Timestamp>,
    /// Fresh for each attempt (nmi-like) [default: a random one]
    #[arg(long)]
    nonce: Option<String>,
    /// The destination's URL as it is stored (square-like)
    #[arg(long)]
    url: Option<String>,
    /// The request's method (no preset signs it)
    #[arg(long, default_value = "POST", hide_default_value = true)]
    method: String,
}

/// A header as a person writes it.
#[derive(Debug, Clone)]
struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("a header is written NAME: VALUE")?;
        let name = name.trim().parse().map_err(|_| format!("{name:?} is not the name of a header"))?;
        let value = value.trim().parse().map_err(|_| "the value holds what no header may".to_owned())?;
        Ok(Header { name, value })
    }
}

/// Takes the names of all presets, and lists them in the help.
pub(super) fn preset_parser() -> impl TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(Preset::ALL.map(Preset::as_str))
        .map(|name| Preset::named(&name).expect("the parser takes the names of presets only"))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Timestamp::from_millis(seconds.saturating_mul(1000))),
        Err(_) => text.parse().map_err(|error| format!("not Unix seconds, and {error}")),
    }
}

pub(super) fn sign(arguments: &SignArguments, form: Form) -> Result<Exit, Failure> {
    let SignArguments { key, inputs } = arguments;
    let signature = signature(key.preset, &key.secret_file)?;
    // Before the body is waited for: the arguments alone may be at fault.
    let id = needed(key.preset, Preset::Standard, inputs.id.as_deref(), "--id", "the event's id")?;
    let url = needed(key.preset, Preset::SquareLike, inputs.url.as_deref(), "--url", "the destination's URL")?;
    let now = Clock::system().now();
    let nonce = match &inputs.nonce {
        Some(nonce) => nonce.clone(),
        None => random_nonce()?,
    };
    let body = standard_input()?;
    let timestamp = inputs.timestamp.unwrap_or(now);
    let message = Message { id, timestamp, nonce: &nonce, url, method: &inputs.method, body: &body };
    let headers = sign::headers(&[signature], &message, now).map_err(|error| unusable(&key.secret_file, &error))?;
    let mut out = anstream::stdout();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    match form {
        Form::Json => {
            let object: serde_json::Map<_, _> =
                headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect();
            writeln!(out, "{}", serde_json::Value::Object(object))?;
        }
        Form::Text => {
            for (name, value) in &headers {
                writeln!(out, "{name}: {}", text(value))?;
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) fn verify(arguments: &VerifyArguments, form: Form) -> Result<Exit, Failure> {
    let VerifyArguments { key, headers, inputs } = arguments;
    let proof = Proof { signatures: vec![signature(key.preset, &key.secret_file)?] };
    let url = needed(key.preset, Preset::SquareLike, inputs.url.as_deref(), "--url", "the destination's URL")?;
    let headers: HeaderMap = headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
    let body = standard_input()?;
    let message = Message {
        id: inputs.id.as_deref().unwrap_or_default(),
        timestamp: inputs.timestamp.unwrap_or(Timestamp::ZERO),
        nonce: inputs.nonce.as_deref().unwrap_or_default(),
        url,
        method: &inputs.method,
        body: &body,
    };
    let verdict = proof.verify(&message, &headers).and_then(|()| agree(key.preset, inputs, &headers));
    let mut out = anstream::stdout();
    match form {
        Form::Json => writeln!(out, "{}", verdict_json(&verdict))?,
        Form::Text => writeln!(out, "{}", verdict_text(&verdict))?,
    }
    Ok(if verdict.is_ok() { Exit::Done } else { Exit::Failed })
}

/// What a preset carries in its headers must be what the command line says, when that says anything.
fn agree(preset: Preset, inputs: &Inputs, headers: &HeaderMap) -> Result<(), NotVerified> {
    let timestamp = inputs.timestamp.map(|timestamp| timestamp.as_secs().to_string());
    let nonce = inputs.nonce.clone();
    let stated = match preset {
        Preset::Standard => {
            vec![("--id", "webhook-id", "", inputs.id.clone()), ("--timestamp", "webhook-timestamp", "", timestamp)]
        }
        Preset::StripeLike => vec![("--timestamp", "stripe-signature", "t=", timestamp)],
        Preset::NmiLike => vec![("--nonce", "webhook-signature", "t=", nonce)],
        Preset::XSignature
        | Preset::XWebhookSignature
        | Preset::GithubLike
        | Preset::AuthorizeNetLike
        | Preset::SquareLike
        | Preset::AdyenLike
        | Preset::CheckoutLike
        | Preset::GocardlessLike => Vec::new(),
    };
    for (option, header, before, stated) in stated {
        let carried = headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let carried = carried.strip_prefix(before).unwrap_or(carried);
        let carried = carried.split(',').next().unwrap_or(carried);
        if let Some(stated) = stated.filter(|stated| stated != carried) {
            return Err(NotVerified(format!("{header} carries {carried:?}, and {option} says {stated:?}")));
        }
    }
    Ok(())
}

/// What is asked of a delivery: that each of these signatures is right.
#[derive(Debug)]
pub(super) struct Proof {
    signatures: Vec<Signature>,
}

/// Why a delivery is not believed, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotVerified(pub(super) String);

impl Proof {
    /// The signatures that the options name: as many secret files as presets, or one for all.
    pub(super) fn of_files(presets: &[Preset], secret_files: &[PathBuf]) -> Result<Proof, Failure> {
        let presets = if presets.is_empty() { &[Preset::Standard][..] } else { presets };
        let signatures = match secret_files {
            [one] => presets.iter().map(|preset| signature(*preset, one)).collect::<Result<_, _>>()?,
            many if many.len() == presets.len() => {
                let pairs = presets.iter().zip(many);
                pairs.map(|(preset, file)| signature(*preset, file)).collect::<Result<_, _>>()?
            }
            many => {
                let cause = format!("{} presets, and {} secret files", presets.len(), many.len());
                let help = "give one --secret-file for all presets, or one for each, in their order";
                return Err(usage("presets and secrets do not pair", "--secret-file", cause, help));
            }
        };
        Ok(Proof { signatures })
    }

    /// These presets, with secrets that are at hand.
    pub(super) fn of(signatures: impl IntoIterator<Item = (Preset, Secret)>) -> Proof {
        let signature = |(preset, secret)| Signature { scheme: Scheme::Preset(preset), secret, previous: None };
        Proof { signatures: signatures.into_iter().map(signature).collect() }
    }

    /// Whether all signatures are right. Id, time and nonce count as the headers carry them.
    pub(super) fn verify(&self, message: &Message<'_>, headers: &HeaderMap) -> Result<(), NotVerified> {
        for signature in &self.signatures {
            sign::verify(signature, message, headers).map_err(|error| NotVerified(format!("cannot {error}")))?;
        }
        Ok(())
    }
}

/// The verdict as one line for people.
pub(super) fn verdict_text(verdict: &Result<(), NotVerified>) -> String {
    match verdict {
        Ok(()) => "signature verified".to_owned(),
        Err(NotVerified(why)) => format!("signature NOT verified: {why}"),
    }
}

/// The verdict for programs.
pub(super) fn verdict_json(verdict: &Result<(), NotVerified>) -> serde_json::Value {
    match verdict {
        Ok(()) => json!({ "verified": true }),
        Err(NotVerified(why)) => json!({ "verified": false, "why": why }),
    }
}

/// The preset with the secret from its file. A line's end is no part of the secret.
fn signature(preset: Preset, secret_file: &Path) -> Result<Signature, Failure> {
    let text = std::fs::read_to_string(secret_file).map_err(|error| unreadable("the secret", secret_file, &error))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    let signature = Signature { scheme: Scheme::Preset(preset), secret: Secret::new(text), previous: None };
    // A public key verifies although it does not sign: `sign` finds that itself.
    match sign::check(&signature) {
        Err(error) if !text.starts_with("whpk_") => Err(unusable(secret_file, &error)),
        _ => Ok(signature),
    }
}

fn needed<'a>(
    preset: Preset,
    signs_it: Preset,
    value: Option<&'a str>,
    option: &str,
    what: &str,
) -> Result<&'a str, Failure> {
    match value {
        None if preset == signs_it => {
            let cause = format!("the preset {} signs {what}", preset.as_str());
            Err(usage(format!("{option} is missing"), option, cause, format!("add {option}")))
        }
        value => Ok(value.unwrap_or_default()),
    }
}

fn random_nonce() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(hex(&bytes))
}

fn standard_input() -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body)?;
    Ok(body)
}

fn unusable(secret_file: &Path, error: &SignError) -> Failure {
    let help = "look at the secret's form: postrider sign --help";
    usage("cannot sign with this", secret_file.display().to_string(), format!("cannot {error}"), help)
}

fn usage(
    what: impl Into<String>,
    place: impl Into<String>,
    cause: impl Into<String>,
    help: impl Into<String>,
) -> Failure {
    Failure::new(Exit::Usage, Trouble::new(what, place, cause, help))
}
