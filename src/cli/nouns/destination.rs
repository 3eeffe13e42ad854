//! `destination`: where webhooks go, and how.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::body::{Body, FromJson, secret_of, text_of};
use super::{Column, Console, Noun, Paging, Reach, Sure, cell_text, event, table};
use crate::cli::{Exit, Failure, Form, Trouble};
use crate::model::destination::Preset;
use crate::model::{DestinationId, EventType, TypePattern};

pub(in crate::cli) const PATH: &str = "/v1/destinations/webhook";

pub(super) const NOUN: Noun = Noun {
    name: "destination",
    plural: "webhook",
    columns: &[
        Column::field("ID", "id"),
        Column::field("NAME", "name"),
        Column::field("URL", "http_endpoint_url"),
        Column::made("STATE", state),
        Column::made("SIGNATURE", signatures),
    ],
    first: &["id", "name", "description", "http_endpoint_url", "tenant", "confirmed", "disabled", "lane", "signature"],
    null: &[],
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider destination list --json | jq -r '.webhook[].id'\n  \
postrider destination show ID --json > books.json\n  \
postrider destination create --from-json books.json --name copy\n  \
postrider destination create --name books --endpoint https://books.example/in\n  \
postrider destination update ID --schedule console-72h --timeout 10s\n  \
postrider destination update ID --rate 50/1s --in-flight-max 5\n  \
postrider destination update ID --signature x-signature --secret-file key.txt\n  \
postrider destination delete ID --dry-run\n  \
postrider destination pause ID\n  \
postrider destination resume ID\n  \
postrider destination rotate-secret ID --overlap 24h\n  \
postrider destination stats ID\n  \
postrider destination test ID --type transaction.sale.success\n  \
postrider destination confirm ID")]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List destinations
    List(Paging),
    /// Show one, and how it stands
    Show(One),
    /// Make one of a --name and an --endpoint; a generated secret is shown this once
    Create(Create),
    /// Change what is named and nothing else
    Update(Update),
    /// Delete one; what waits for it is cancelled
    Delete(Delete),
    /// Hold what is to go there
    Pause(One),
    /// Send on, also to one that is shut or gone
    Resume(One),
    /// Give it a new secret, while the one before goes on counting for a time
    RotateSecret(Rotate),
    /// Show how it does: what waits, what succeeded, how quickly
    Stats(One),
    /// Send it a test event, and nobody else
    Test(Test),
    /// Ask it again to confirm itself
    Confirm(One),
}

#[derive(Debug, Args)]
struct One {
    /// The destination
    id: DestinationId,
}

#[derive(Debug, Args)]
#[command(mut_arg("name", |arg| arg.required_unless_present("from_json")))]
#[command(mut_arg("endpoint", |arg| arg.required_unless_present("from_json")))]
struct Create {
    #[command(flatten)]
    fields: Fields,
    /// Whether it counts as confirmed from the start [default: whether the daemon asks for no confirmation]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    confirmed: Option<bool>,
}

/// What the daemon gives, and what stands for another destination than the one to be made.
const GIVEN: [&str; 7] = ["id", "tenant", "created", "url", "lane", "confirmed", "paused"];

#[derive(Debug, Args)]
struct Update {
    /// The destination
    id: DestinationId,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct Delete {
    /// The destination
    id: DestinationId,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Args)]
struct Rotate {
    /// The destination
    id: DestinationId,
    /// How long the secret before goes on counting, such as 24h; 0s ends it at once [default: 24h]
    #[arg(long, value_name = "SPAN")]
    overlap: Option<String>,
    /// A file with the new secret, instead of a generated one; - reads standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Which signature's, by its preset or its header, where they have several secrets
    #[arg(long, value_name = "NAME")]
    signature: Option<String>,
}

#[derive(Debug, Args)]
struct Test {
    /// The destination
    id: DestinationId,
    /// A sample of this type [default: the daemon's choice]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<EventType>,
}

/// What is set oftener than once in a while; everything else goes by `--from-json`.
#[derive(Debug, Args)]
struct Fields {
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// The URL that webhooks are sent to
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// What it is for, in words
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// POST or PUT
    #[arg(long, value_parser = ["POST", "PUT"], hide_possible_values = true)]
    method: Option<String>,
    /// A header that is sent along, as 'Name: value'; may be repeated. All of them replace those there were
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Headers out of a file, one a line, for those whose values are secret; - reads standard input
    #[arg(long, value_name = "FILE")]
    header_file: Option<PathBuf>,
    /// The format of the body
    #[arg(long)]
    format: Option<String>,
    /// Retry by this named schedule
    #[arg(long, value_name = "NAME", conflicts_with = "delays")]
    schedule: Option<String>,
    /// Retry after these delays, such as 5s,5m,1h
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    delays: Vec<String>,
    /// Give up after this many attempts
    #[arg(long, value_name = "N")]
    attempts_max: Option<u32>,
    /// For the whole attempt, such as 10s
    #[arg(long, value_name = "SPAN")]
    timeout: Option<String>,
    /// No more than so many in a span, such as 50/1s
    #[arg(long, value_parser = rate)]
    rate: Option<Value>,
    /// No more than so many at once
    #[arg(long, value_name = "N")]
    in_flight_max: Option<u32>,
    /// One at a time, in the order in which events were accepted
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ordered: Option<bool>,
    /// What counts as success, such as 2xx,304
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    success_status: Vec<String>,
    /// Success asks for this text in the reply's body as well
    #[arg(long, value_name = "TEXT", group = "success_body")]
    success_contains: Option<String>,
    /// Success asks for this text as the reply's whole body as well
    #[arg(long, value_name = "TEXT", group = "success_body")]
    success_equals: Option<String>,
    /// Success asks for this text at the beginning of the reply's body as well
    #[arg(long, value_name = "TEXT", group = "success_body")]
    success_prefix: Option<String>,
    /// Sign by this preset; may be repeated. "none" signs nothing
    #[arg(long = "signature", value_name = "PRESET", value_parser = presets(), hide_possible_values = true)]
    signatures: Vec<String>,
    /// A file with the secret to sign with, instead of a generated one; - reads standard input
    #[arg(long, value_name = "FILE", requires = "signatures")]
    secret_file: Option<PathBuf>,
    /// A signing key to sign with, instead of a secret of its own: its id, or "signature" for the tenant's own
    #[arg(long, value_name = "KEY", requires = "signatures", conflicts_with = "secret_file")]
    signing_key: Option<String>,
    /// Log in with this user and the password in --password-file
    #[arg(long, value_name = "USER", requires = "password_file", group = "auth")]
    auth_basic_user: Option<String>,
    /// A file with the password; - reads standard input
    #[arg(long, value_name = "FILE", requires = "auth_basic_user")]
    password_file: Option<PathBuf>,
    /// Send the bearer token in this file; - reads standard input
    #[arg(long, value_name = "FILE", group = "auth")]
    auth_bearer_file: Option<PathBuf>,
    /// Send the shared secret in this file as it is; - reads standard input
    #[arg(long, value_name = "FILE", group = "auth")]
    auth_shared_secret_file: Option<PathBuf>,
    /// The shared secret's header [default: X-Shared-Secret]
    #[arg(long, value_name = "NAME", requires = "auth_shared_secret_file")]
    auth_shared_secret_header: Option<String>,
    /// Log in no more
    #[arg(long, group = "auth")]
    auth_none: bool,
    /// Switch it off: events pass it by
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disabled: Option<bool>,
    /// Let its URL lead to private addresses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_private: Option<bool>,
    #[command(flatten)]
    from_json: FromJson,
}

impl Fields {
    fn body(&self) -> Result<Body, Failure> {
        let mut body = self.from_json.body()?;
        body.set("name", self.name.as_deref());
        body.set("http_endpoint_url", self.endpoint.as_deref());
        body.set("description", self.description.as_deref());
        body.set("method", self.method.as_deref());
        body.set("headers", self.headers()?);
        body.set("format", self.format.as_deref());
        body.set("retry", self.retry());
        body.set("timeout", self.timeout.as_deref());
        body.set("rate", self.rate.clone());
        body.set("in_flight_max", self.in_flight_max);
        body.set("ordered", self.ordered);
        body.set("success", self.success());
        body.set("signature", self.signature()?);
        body.set("auth", self.auth()?);
        body.set("disabled", self.disabled);
        body.set("allow_private", self.allow_private);
        Ok(body)
    }

    fn headers(&self) -> Result<Option<Value>, Failure> {
        let mut headers = self.headers.clone();
        if let Some(path) = &self.header_file {
            let wrong = |cause| {
                let place = path.display().to_string();
                let help = "the file holds one header a line, as Name: value";
                Failure::new(Exit::Usage, Trouble::new("cannot read the headers", place, cause, help))
            };
            let text = text_of("the headers", path)?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            // The line itself is not told: it may hold a secret.
            headers.extend(lines.map(header).collect::<Result<Vec<_>, _>>().map_err(wrong)?);
        }
        let object = headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        Ok(Some(Value::Object(object)).filter(|headers| *headers != json!({})))
    }

    fn retry(&self) -> Option<Value> {
        let mut retry = serde_json::Map::new();
        if let Some(schedule) = &self.schedule {
            retry.insert("schedule".into(), schedule.as_str().into());
        }
        if !self.delays.is_empty() {
            retry.insert("delays".into(), self.delays.clone().into());
        }
        if let Some(attempts_max) = self.attempts_max {
            retry.insert("attempts_max".into(), attempts_max.into());
        }
        Some(Value::Object(retry)).filter(|retry| *retry != json!({}))
    }

    fn success(&self) -> Option<Value> {
        let mut success = serde_json::Map::new();
        if !self.success_status.is_empty() {
            success.insert("status".into(), self.success_status.clone().into());
        }
        for (rule, text) in
            [("contains", &self.success_contains), ("equals", &self.success_equals), ("prefix", &self.success_prefix)]
        {
            if let Some(text) = text {
                success.insert("body".into(), json!({ rule: text }));
            }
        }
        Some(Value::Object(success)).filter(|success| *success != json!({}))
    }

    fn signature(&self) -> Result<Option<Value>, Failure> {
        let secret = self.secret_file.as_deref().map(secret_of).transpose()?;
        let of = |preset: &String| match &secret {
            Some(secret) => json!({ "preset": preset, "secret": secret }),
            None => match &self.signing_key {
                Some(key) => json!({ "preset": preset, "key": key }),
                None => json!({ "preset": preset }),
            },
        };
        Ok(match self.signatures.as_slice() {
            [] => None,
            [one] => Some(of(one)),
            several => Some(several.iter().map(of).collect()),
        })
    }

    fn auth(&self) -> Result<Option<Value>, Failure> {
        let secret = |path: &Option<PathBuf>| path.as_deref().map(secret_of).transpose();
        if let (Some(user), Some(password)) = (&self.auth_basic_user, secret(&self.password_file)?) {
            return Ok(Some(json!({ "type": "basic", "username": user, "password": password })));
        }
        if let Some(token) = secret(&self.auth_bearer_file)? {
            return Ok(Some(json!({ "type": "bearer", "token": token })));
        }
        if let Some(secret) = secret(&self.auth_shared_secret_file)? {
            let mut auth = json!({ "type": "shared_secret", "secret": secret });
            if let Some(header) = &self.auth_shared_secret_header {
                auth["header"] = header.as_str().into();
            }
            return Ok(Some(auth));
        }
        Ok(self.auth_none.then(|| json!({ "type": "none" })))
    }
}

/// `Name: value`
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written as Name: value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `50/1s`
fn rate(text: &str) -> Result<Value, String> {
    let form = || "a rate is written as 50/1s: so many in a span".to_owned();
    let (events, per) = text.split_once('/').ok_or_else(form)?;
    let events: u32 = events.trim().parse().map_err(|_| form())?;
    Ok(json!({ "events": events, "per": per.trim() }))
}

fn presets() -> clap::builder::PossibleValuesParser {
    let names = Preset::ALL.iter().map(|preset| preset.as_str());
    names.chain(["none"]).collect::<Vec<_>>().into()
}

pub(in crate::cli) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let console = Console::new(&arguments.reach, form)?;
    let at = |id: &DestinationId| format!("{PATH}/{id}");
    match &arguments.command {
        Command::List(paging) => console.list(&NOUN, &paging.query().behind(PATH)),
        Command::Show(One { id }) => console.show_at(&NOUN, &at(id)),
        Command::Create(Create { fields, confirmed }) => {
            let mut body = fields.body()?;
            // Only what was shown says when it was made.
            if body.has("created") {
                let left_out = body.leave_out(&GIVEN).join(", ");
                console.say(format_args!("the document is of another destination; not taken from it: {left_out}"));
            }
            body.set("confirmed", *confirmed);
            let made = save(&console, Method::POST, PATH, &body.into_value())?;
            let id = made["id"].as_str().unwrap_or("ID");
            match made["confirmed"] == false {
                true => console.next(format_args!("postrider explain {id}    # it has to confirm itself first")),
                false => console.next(format_args!("postrider subscription create '*' --destination {id}")),
            }
            Ok(Exit::Done)
        }
        Command::Update(Update { id, fields }) => {
            save(&console, Method::PUT, &at(id), &fields.body()?.into_change()?)?;
            Ok(Exit::Done)
        }
        Command::Delete(Delete { id, sure }) => console.delete(&NOUN, &at(id), sure),
        Command::Pause(One { id }) => {
            console.show(&NOUN, &console.change(Method::POST, &format!("{}/pause", at(id)), None)?)?;
            console.next(format_args!("postrider destination resume {id}"));
            Ok(Exit::Done)
        }
        Command::Resume(One { id }) => {
            console.show(&NOUN, &console.change(Method::POST, &format!("{}/resume", at(id)), None)?)?;
            console.next(format_args!("postrider explain {id}"));
            Ok(Exit::Done)
        }
        Command::RotateSecret(rotate) => rotate_secret(&console, &at(&rotate.id), rotate),
        Command::Stats(One { id }) => stats(&console, &at(id)),
        Command::Test(Test { id, kind }) => {
            let body = kind.as_ref().map(|kind| json!({ "type": kind.as_str() }));
            test(&console, &at(id), body.as_ref())
        }
        Command::Confirm(One { id }) => {
            console.show(&NOUN, &console.change(Method::POST, &format!("{}/confirm", at(id)), None)?)?;
            console.next(format_args!("postrider explain {id}"));
            Ok(Exit::Done)
        }
    }
}

fn rotate_secret(console: &Console, path: &str, rotate: &Rotate) -> Result<Exit, Failure> {
    let mut body = Body::default();
    body.set("overlap", rotate.overlap.as_deref());
    body.set("secret", rotate.secret_file.as_deref().map(secret_of).transpose()?);
    body.set("signature", rotate.signature.as_deref());
    let answer = console.change(Method::POST, &format!("{path}/secret/rotate"), Some(&body.into_value()))?;
    console.show(&NOUN, &answer)?;
    if rotate.secret_file.is_none() {
        console.remark_secret()?;
    }
    console.next("give the receiver the new secret before the one before it ends");
    Ok(Exit::Done)
}

/// Sends a test event to what stands at `path`, and says how to follow it.
pub(super) fn test(console: &Console, path: &str, body: Option<&Value>) -> Result<Exit, Failure> {
    let sent = console.show(&event::NOUN, &console.change(Method::POST, &format!("{path}/test"), body)?)?;
    if let Some(event) = sent["id"].as_str() {
        if sent["deliveries"] == 0 && console.form() == Form::Text {
            say_why_nowhere(console, event)?;
        }
        console.next(format_args!("postrider explain {event}"));
    }
    Ok(Exit::Done)
}

/// Whom a test that went nowhere passed by, and why.
fn say_why_nowhere(console: &Console, event: &str) -> Result<(), Failure> {
    let event = console.read(&format!("{}/{event}", event::PATH))?.value()?;
    let skipped = event["skipped"].as_array().map(Vec::as_slice).unwrap_or_default();
    if skipped.is_empty() {
        console.say("it goes nowhere: no destination is linked");
    }
    for skipped in skipped {
        let (destination, reason) = (cell_text(&skipped["destination_id"]), cell_text(&skipped["reason"]));
        console.say(format_args!("not sent to {destination}, which is {reason}"));
    }
    Ok(())
}

/// The attempts of each span of time.
const ATTEMPTS: &[Column] = &[
    Column::field("WITHIN", "within"),
    Column::field("ATTEMPTS", "attempts"),
    Column::field("SUCCEEDED", "succeeded"),
    Column::field("FAILED", "failed"),
    Column::field("UNKNOWN", "unknown"),
    Column::made("MEDIAN", |span| millis(&span["duration_ms"]["p50"])),
    Column::made("99 %", |span| millis(&span["duration_ms"]["p99"])),
    Column::made("BECAUSE", |span| {
        let reasons = span["reasons"].as_object().into_iter().flatten();
        let told = reasons.map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
        if told.is_empty() { "-".to_owned() } else { told.join(", ") }
    }),
];

fn millis(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |millis| format!("{millis:.0} ms"))
}

fn stats(console: &Console, path: &str) -> Result<Exit, Failure> {
    let answer = console.read(&format!("{path}/stats"))?;
    let mut out = anstream::stdout().lock();
    if console.form() == Form::Json {
        answer.write_to(&mut out)?;
        return Ok(Exit::Done);
    }
    let mut stats = answer.value()?;
    let spans = stats["attempts"].take();
    write!(out, "{}", table::card(&stats, &["destination_id", "lane", "deliveries"], &[]))?;
    if let Some(spans) = spans.as_array() {
        write!(out, "\n{}", table::table(ATTEMPTS, spans))?;
    }
    Ok(Exit::Done)
}

fn save(console: &Console, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
    let saved = console.show(&NOUN, &console.change(method, path, Some(body))?)?;
    if each_signature(&saved).any(|signature| signature["secret"].is_string()) {
        console.remark_secret()?;
    }
    Ok(saved)
}

/// `signature` is one or a list.
fn each_signature(destination: &Value) -> impl Iterator<Item = &Value> {
    match &destination["signature"] {
        Value::Array(several) => several.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

fn signatures(destination: &Value) -> String {
    each_signature(destination).map(|signature| cell_text(&signature["preset"])).collect::<Vec<_>>().join(", ")
}

/// How it stands: what keeps it from being sent to, or that nothing does.
pub(in crate::cli) fn state(destination: &Value) -> String {
    if destination["disabled"] == true {
        return "disabled".to_owned();
    }
    if destination["confirmed"] == false {
        return "unconfirmed".to_owned();
    }
    let lane = &destination["lane"];
    match lane["until"].as_str() {
        Some(until) => format!("{} until {until}", cell_text(&lane["state"])),
        None => cell_text(&lane["state"]),
    }
}

/// A type that a pattern takes, to try it with.
pub(super) fn example_type(pattern: &TypePattern) -> String {
    pattern.to_string().replace('*', "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_rates_are_read_or_refused() {
        assert_eq!(header("X-A: b: c "), Ok(("X-A".into(), "b: c".into())));
        assert!(header("X-A").is_err());
        assert_eq!(rate("50/1s"), Ok(json!({"events": 50, "per": "1s"})));
        assert!(rate("50").is_err() && rate("x/1s").is_err());
    }

    #[test]
    fn a_state_is_the_first_thing_that_stands_in_the_way() {
        let lane = json!({"state": "shut", "until": "T"});
        assert_eq!(state(&json!({"disabled": true, "confirmed": false, "lane": lane})), "disabled");
        assert_eq!(state(&json!({"disabled": false, "confirmed": false, "lane": lane})), "unconfirmed");
        assert_eq!(state(&json!({"disabled": false, "confirmed": true, "lane": lane})), "shut until T");
        assert_eq!(state(&json!({"confirmed": true, "lane": {"state": "open", "until": null}})), "open");
    }
}
