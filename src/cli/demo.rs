//! `demo`: the main job before one's eyes. A throw-away store, a receiver of our own, two destinations, events of the five
//! sources through the real socket. The delays are short; everything else is the product, spoken to as anybody would.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::admin::Admin;
use super::receiver::{Answer, Behaviour, Delivery, Receiver};
use super::scratch::Scratch;
use super::signature::{NotVerified, Proof, verdict_text};
use super::{Exit, Failure, Form, Trouble, serve};
use crate::config::{Loaded, Places, Sources};
use crate::daemon::{self, Daemon};
use crate::model::destination::Preset;
use crate::model::{Ended, Secret};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider demo\n  \
postrider demo --exit-after-delivery")]
pub(super) struct Arguments {
    /// End with a summary once every delivery has ended, instead of running until stopped
    #[arg(long)]
    exit_after_delivery: bool,
}

/// How long the demonstration's deliveries may take in all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts that the second destination refuses before it takes its first delivery.
const REFUSED_AT_FIRST: u64 = 2;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const FAINT: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// One event of each of the five documented sources.
fn samples() -> [Value; 5] {
    [
        json!({
            "type": "funding_deposit.funded", "id": "deposit-1207-2",
            "data": { "tenantSlug": "acme", "fundingDepositId": 1207, "fundingStatus": 2 },
        }),
        json!({
            "type": "transaction.sale.success", "id": "sale-1nftvzx7xtcggm3",
            "data": {
                "merchant": { "merch_key": "7qwnw4j2kmqvrb3" },
                "object": {
                    "type": "transaction", "key": "1nftvzx7xtcggm3",
                    "amount_detail": { "amount": "5.00" }, "authcode": "538228",
                },
            },
        }),
        json!({
            "type": "transaction", "id": "auth-88213",
            "data": { "status": "Tran approved", "type": "Authorization", "amount": "12.50", "currency_code": "840" },
        }),
        json!({
            "type": "transaction.status_updated", "id": "payout-5521-paid",
            "data": {
                "transaction_id": "5521", "status": "PAID", "updated_at": "2026-03-16T10:00:00Z", "tenant_id": "acme",
                "corridor_id": "ZA-ZW",
            },
        }),
        json!({
            "type": "processing.chargeback-processed", "id": "chargeback-907",
            "data": { "transactionId": 907, "amount": 4200, "reasonCode": "4853" },
        }),
    ]
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let scratch = Scratch::make("demo")?;
    super::runtime()?.block_on(show(arguments, form, &scratch))
}

async fn show(arguments: &Arguments, form: Form, scratch: &Scratch) -> Result<Exit, Failure> {
    let loaded = configuration(scratch.path())?;
    let config = &loaded.config;
    daemon::start_log(&config.log);
    let stage = Arc::new(Stage::default());
    let receiver = Receiver::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = receiver.address();
    let daemon = Daemon::start(&loaded).await.map_err(serve::failure)?;
    let api = daemon.admin_address().map_or_else(String::new, |address| format!("http://{address}"));
    let watcher = daemon.watch().ok_or_else(|| std::io::Error::other("the engine has ended already"))?;
    let stop = CancellationToken::new();
    let (running, receiving) = {
        let (stopped, behaviour) = (stop.clone(), behaviour(Arc::clone(&stage)));
        let untold = |_: &Delivery, _: &Answer| std::ops::ControlFlow::<()>::Continue(());
        let receiving = tokio::spawn(receiver.run(behaviour, untold, stopped.cancelled_owned()));
        (tokio::spawn(daemon.run_until(stop.clone())), receiving)
    };
    let acts = Acts { arguments, form, stage: &stage, api, config, exit: Cell::new(Exit::Failed) };
    let told = tokio::select! {
        told = acts.play(address, watcher) => told,
        interrupted = interrupted() => interrupted,
    };
    stop.cancel();
    // However the play ended, what was started ends with it.
    let _ = tokio::join!(running, receiving);
    told.map(|()| acts.exit.get())
}

/// Resolves when the person has seen enough.
pub(super) async fn interrupted() -> Result<(), Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        heard = tokio::signal::ctrl_c() => Ok(heard?),
        _ = terminate.recv() => Ok(()),
    }
}

/// What the receiver and the storyteller share.
#[derive(Default)]
struct Stage {
    // Each held for a look or a change, never across an await.
    proofs: Mutex<HashMap<String, Proof>>,
    verdicts: Mutex<HashMap<(String, String), Result<(), NotVerified>>>,
    /// The delivery that `/flaky` refuses, and how often it has.
    refused: Mutex<(String, u64)>,
}

impl Stage {
    /// Whether this request is one of the first two of the first delivery that came.
    fn refuses(&self, delivery: String) -> bool {
        let mut refused = lock(&self.refused);
        let (first, times) = &mut *refused;
        if first.is_empty() {
            *first = delivery.clone();
        }
        *times += u64::from(*first == delivery);
        *first == delivery && *times <= REFUSED_AT_FIRST
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The receiver looks at the signatures, notes what it found, and answers: `/flaky` refuses the first delivery that comes, twice.
fn behaviour(stage: Arc<Stage>) -> Behaviour {
    Arc::new(move |delivery: &Delivery| {
        let verdict = match lock(&stage.proofs).get(&delivery.path) {
            Some(proof) => delivery.verify(proof, None),
            None => Err(NotVerified("nobody expects deliveries at this path".to_owned())),
        };
        let header = |name: &str| {
            let value = delivery.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let attempt = (header("x-webhook-delivery"), header("x-webhook-attempt"));
        lock(&stage.verdicts).insert(attempt, verdict.clone());
        let status = match &verdict {
            Err(_) => StatusCode::UNAUTHORIZED,
            Ok(()) if delivery.path == "/flaky" && stage.refuses(header("x-webhook-delivery")) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Ok(()) => StatusCode::OK,
        };
        Some(Answer { status, body: Bytes::from_static(b"ok"), signature: Some(verdict) })
    })
}

/// The story, from the first destination to the last delivery.
struct Acts<'a> {
    arguments: &'a Arguments,
    form: Form,
    stage: &'a Stage,
    api: String,
    config: &'a crate::config::Config,
    /// How the demonstration would end at this moment.
    exit: Cell<Exit>,
}

impl Acts<'_> {
    async fn play(&self, receiver: SocketAddr, mut watcher: broadcast::Receiver<Arc<Ended>>) -> Result<(), Failure> {
        let admin = Admin::over(self.config.admin.socket.clone());
        self.say(format_args!("{STRONG}A throw-away daemon and a receiver on http://{receiver}/{STRONG:#}\n"))?;
        let mut ids = Vec::new();
        for (name, presets) in
            [("healthy", &[Preset::Standard, Preset::XWebhookSignature][..]), ("flaky", &[Preset::XSignature][..])]
        {
            let signature: Vec<_> = presets.iter().map(|preset| json!({ "preset": preset.as_str() })).collect();
            let wanted = json!({
                "name": name,
                "http_endpoint_url": format!("http://{receiver}/{name}"),
                // The demonstration's own receiver need not be asked.
                "confirmed": true,
                "signature": signature,
                "retry": { "delays": ["500ms", "1s", "2s", "4s"] },
            });
            let made = admin.ask(Method::POST, "/v1/destinations/webhook", Some(&wanted)).await?;
            let secrets = secrets_of(&made);
            let proof = Proof::of(presets.iter().copied().zip(secrets));
            lock(&self.stage.proofs).insert(format!("/{name}"), proof);
            ids.push(made["id"].clone());
        }
        admin.ask(Method::POST, "/v1/subscriptions/*", Some(&json!({ "destinations": ids }))).await?;

        let deliveries = self.emit().await?;
        let (mut ended, mut attempts, mut unverified) = (0, 0, 0);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while ended < deliveries {
            match tokio::time::timeout_at(deadline, watcher.recv()).await {
                Ok(Ok(attempt)) => {
                    attempts += 1;
                    unverified += u64::from(!self.tell(&attempt)?);
                    ended += usize::from(attempt.attempt.next.is_none());
                }
                Ok(Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => break,
            }
        }
        let (status, done) = settled(&admin, deliveries).await?;
        let events = &status["events"];
        let (succeeded, accepted) = (&status["succeeded"], &status["accepted"]);
        let well = done && unverified == 0;
        self.exit.set(if well { Exit::Done } else { Exit::Failed });
        let word = if well { "every signature verified" } else { "NOT as it should be" };
        match self.form {
            Form::Json => self.data(&json!({
                "events": events, "deliveries": accepted, "succeeded": succeeded,
                "attempts": attempts, "unverified": unverified,
            }))?,
            Form::Text => {
                let line = format!(
                    "{events} events, {succeeded} of {accepted} deliveries succeeded in {attempts} attempts, {word}"
                );
                self.say(format_args!("\n{STRONG}{line}{STRONG:#}\n"))?;
            }
        }
        if self.arguments.exit_after_delivery {
            return Ok(());
        }
        self.stay(&admin, watcher).await
    }

    /// Hands the sample events in through the ingest socket; how many deliveries they made.
    async fn emit(&self) -> Result<usize, Failure> {
        let socket = &self.config.ingest.socket;
        let (reader, mut writer) = tokio::net::UnixStream::connect(socket).await?.into_split();
        let mut replies = BufReader::new(reader).lines();
        let mut deliveries = 0;
        for sample in samples() {
            writer.write_all(format!("{sample}\n").as_bytes()).await?;
            let reply = replies.next_line().await?.unwrap_or_default();
            let reply: Value = serde_json::from_str(&reply).map_err(std::io::Error::other)?;
            let Some(made) = reply["deliveries"].as_u64() else {
                let help = "this is a fault of the demonstration; please report it";
                let trouble =
                    Trouble::new("an event was refused", socket.display().to_string(), reply.to_string(), help);
                return Err(Failure::new(Exit::Failed, trouble));
            };
            deliveries += made as usize;
            let (kind, id) = (sample["type"].as_str().unwrap_or_default(), reply["id"].as_str().unwrap_or_default());
            match self.form {
                Form::Json => self.data(&json!({ "accepted": id, "type": kind, "deliveries": made }))?,
                Form::Text => self.say(format_args!("accepted   {kind:<32} {FAINT}{id}{FAINT:#}"))?,
            }
        }
        self.say(format_args!(""))?;
        Ok(deliveries)
    }

    /// Tells of an attempt; whether its signature was verified by the receiver.
    fn tell(&self, ended: &Ended) -> Result<bool, Failure> {
        let attempt = &ended.attempt;
        let name = (ended.delivery.to_string(), attempt.number.to_string());
        let verdict = lock(&self.stage.verdicts).remove(&name);
        let verdict = verdict.unwrap_or_else(|| Err(NotVerified("the receiver did not see it".to_owned())));
        let outcome = attempt.outcome.as_str();
        let millis = attempt.duration.as_secs_f64() * 1000.0;
        let retry = attempt.next.map(|next| next.since(attempt.started).as_millis());
        match self.form {
            Form::Json => self.data(&json!({
                "time": attempt.started.to_string(), "destination": ended.destination.name, "type": ended.kind.as_str(),
                "delivery": name.0, "attempt": attempt.number, "outcome": outcome, "status": attempt.status,
                "duration_ms": millis, "verified": verdict.is_ok(), "retry_in_ms": retry,
            }))?,
            Form::Text => {
                let style = if retry.is_none() && outcome == "succeeded" { GOOD } else { BAD };
                let status = attempt.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                let later = retry.map_or_else(String::new, |millis| format!(", again in {millis} ms"));
                let time = &attempt.started.to_string()[11..23];
                self.say(format_args!(
                    "{time}  {:<8} {:<32} attempt {}  {style}{status} {outcome}{style:#} in {millis:.1} ms, {}{later}",
                    ended.destination.name,
                    ended.kind.as_str(),
                    attempt.number,
                    verdict_text(&verdict),
                ))?;
            }
        }
        Ok(verdict.is_ok())
    }

    /// Says where everything is, and goes on telling until it is stopped.
    async fn stay(&self, admin: &Admin, mut watcher: broadcast::Receiver<Arc<Ended>>) -> Result<(), Failure> {
        let key = admin
            .ask(Method::POST, "/v1/keys", Some(&json!({ "role": "admin", "tenant": null, "name": "demo" })))
            .await?;
        let key = key["secret"].as_str().unwrap_or_default();
        let program = std::env::args().next().unwrap_or_else(|| "postrider".to_owned());
        let (ingest, operator) = (self.config.ingest.socket.display(), self.config.admin.socket.display());
        match self.form {
            Form::Json => self.data(&json!({
                "api": self.api, "key": key, "ingest_socket": ingest.to_string(), "admin_socket": operator.to_string(),
            }))?,
            Form::Text => self.say(format_args!(
                "The daemon goes on until Ctrl-C, and what it knows is gone then.\n\n\
                 {STRONG}API{STRONG:#}            {api}   (key: {key})\n\
                 {STRONG}ingest socket{STRONG:#}  {ingest}\n\
                 {STRONG}admin socket{STRONG:#}   {operator}\n\n\
                 Try, in another terminal:\n  \
                 {program} emit transaction.sale.success --data '{{\"amount\": \"5.00\"}}' --socket {ingest}\n  \
                 {program} status --socket {operator}\n  \
                 curl -H 'Authorization: {key}' {api}/v1/deliveries\n",
                api = self.api,
            ))?,
        }
        loop {
            match watcher.recv().await {
                Ok(attempt) => {
                    self.tell(&attempt)?;
                }
                Err(RecvError::Lagged(missed)) => {
                    self.say(format_args!("({missed} attempts passed too fast to be told)"))?
                }
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// A line for people.
    fn say(&self, line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        match self.form {
            Form::Text => Ok(writeln!(anstream::stdout().lock(), "{line}")?),
            Form::Json => Ok(()),
        }
    }

    /// A line for programs.
    fn data(&self, line: &Value) -> Result<(), Failure> {
        Ok(writeln!(anstream::stdout().lock(), "{line}")?)
    }
}

/// The last outcomes may still be on their way to the disk when their attempts have been told.
async fn settled(admin: &Admin, deliveries: usize) -> Result<(Value, bool), Failure> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let status = admin.ask(Method::GET, "/v1/status", None).await?;
        let done = status["succeeded"].as_u64() == Some(deliveries as u64);
        let unfinished = status["pending"] != json!(0) || status["held"] != json!(0);
        if done || !unfinished || tokio::time::Instant::now() >= deadline {
            return Ok((status, done));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The secrets that a create shows, in the order of its signatures.
pub(super) fn secrets_of(made: &Value) -> Vec<Secret> {
    let text = |signature: &Value| Secret::new(signature["secret"].as_str().unwrap_or_default());
    match &made["signature"] {
        Value::Array(signatures) => signatures.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

fn configuration(scratch: &Path) -> Result<Loaded, Failure> {
    let inside = |name: &str| scratch.join(name).display().to_string();
    let flags = [
        ("store.path", inside("postrider.redb")),
        ("ingest.socket", inside("ingest.sock")),
        ("admin.socket", inside("admin.sock")),
        ("admin.listen", "127.0.0.1:0".to_owned()),
        ("egress.allow_loopback", "true".to_owned()),
        ("egress.allow_http", "true".to_owned()),
        ("limits.disk_reserve", "0B".to_owned()),
        ("log.level", "error".to_owned()),
    ];
    let flags = flags.map(|(key, value)| (key.to_owned(), value)).to_vec();
    // Nothing of this machine's own configuration or environment reaches in.
    let places = Places { config: scratch.join("none"), state: scratch.to_owned(), runtime: scratch.to_owned() };
    Ok(Loaded::load(&Sources { file: None, env: Vec::new(), flags, places })?)
}
