//! Settings, Webhooks: as source 001 tells it. A webhook is a destination with its subscriptions.
//!
//! Label, URL, events, authentication and signature are asked for, all of them (S1.7); what else a destination can have
//! folds away. Credentials are never shown: to change them they are reset, and then given anew as a whole (S1.32, S1.34).

use std::borrow::Cow;

use ::http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::act::Visit;
use super::super::form::Form;
use super::super::layout::Page;
use super::super::parts::{Icon, Links, empty, icon, notice, number, standing_badge, text_field};
use super::super::{once, to};
use super::deliveries::tenant_select;
use super::things::tenant_field;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::destination::SignedWith;
use crate::model::id::hex;
use crate::model::signing_key::{SigningKeyId, SigningKeyKind};
use crate::model::{Confirmation, Destination, DestinationId, Role, Subscription, TenantId, TypePattern};
use crate::service::{DestinationHealth, Service};

/// The place in the menu.
pub(super) const PLACE: &str = "/ui/webhooks";
const API: &str = "/v1/destinations/webhook";
/// Rows of one page.
const ROWS: usize = 25;
/// With more webhooks than these there is a search for them.
const SEARCHED_FROM: usize = 20;
/// The button that asks for the keys of the chosen tenant.
const CHANGE_TENANT: &str = "change_tenant";
/// Characters of a URL in the list: the form shows all of it.
const URL_CHARS_SHOWN: usize = 120;

/// `GET /ui/webhooks`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let (sight, service) = (visit.sight()?, visit.service());
    service.recall(&sight).await?;
    let mut healths = service.healths(&sight);
    let (all, search) = (healths.len(), visit.query.text("search").unwrap_or_default().trim().to_owned());
    let words = search.to_lowercase();
    healths.retain(|health| {
        let it = &health.destination;
        it.name.to_lowercase().contains(&words) || it.url.to_lowercase().contains(&words)
    });
    healths.sort_by_cached_key(|health| health.destination.name.to_lowercase());
    let from = visit.asked::<usize>("offset")?.unwrap_or(0).min(healths.len());
    let next =
        (healths.len() > from + ROWS).then(|| Links::of(&visit).with("offset", &(from + ROWS).to_string()).path());
    let may = visit.viewer.may(Role::Operate);
    let body = html! {
        @if all > SEARCHED_FROM || !search.is_empty() {
            form.card method="get" action=(PLACE) role="search" aria-label="Search webhooks" {
                div.filters {
                    (text_field("search", "Label or URL", &search, "", None))
                    @if visit.viewer.caller().reaches_all() { (tenant_select(&visit, &service.catalog())) }
                    div.buttons { button.primary type="submit" { "Search" } a.button href=(PLACE) { "Clear" } }
                }
            }
        }
        section.card.flush {
            @if healths.is_empty() && !search.is_empty() {
                (empty("No webhook matches", html! { "Neither a label nor a URL holds “" (search) "”. " a href=(PLACE) { "Show all" } }))
            } @else if healths.is_empty() {
                (empty("No webhooks yet", html! { "A webhook sends what happens here to another program's URL. " @if may { a href={ (PLACE) "/new" } data-dialog="" { "Add Webhook" } } }))
            } @else {
                div.scroll { table.stack.dense {
                    thead { tr {
                        th scope="col" { "Webhook Label" } th scope="col" { "Hook URL" } th scope="col" { "Events" }
                        th scope="col" { "Authentication" } th scope="col" { "Signature" } th scope="col" { "State" }
                    } }
                    tbody { @for health in healths.iter().skip(from).take(ROWS) { (row(&visit, health, may)) } }
                } }
                @if let Some(next) = next { nav.pager aria-label="Pages" { span.muted { (number(from as u64 + 1)) " to " (number((from + ROWS) as u64)) " of " (number(healths.len() as u64)) } a.button href=(next) rel="next" { "More" } } }
            }
        }
    };
    let actions = html! { @if may { a.button.primary href={ (PLACE) "/new" } data-dialog="" { (icon(Icon::Plus)) "Add Webhook" } } };
    Ok(Page { title: "Webhooks", place: PLACE, actions, body }.show(&visit))
}

fn row(visit: &Visit, health: &DestinationHealth, may: bool) -> Markup {
    let it = &*health.destination;
    let events = patterns(visit.service(), it);
    html! {
        tr {
            th scope="row" {
                div {
                    @if may { a href={ (PLACE) "/" (it.id) } data-dialog="" { (it.name) } } @else { a href={ "/ui/destinations/" (it.id) } { (it.name) } }
                    @if visit.viewer.caller().reaches_all() { span.sub.muted.small { (it.tenant) } }
                }
            }
            td.clip data-label="Hook URL" { code { (shortened(&it.url)) } }
            td data-label="Events" {
                @if events.is_empty() { span.muted { "none" } }
                @else { div { @for (place, pattern) in events.iter().take(3).enumerate() { @if place > 0 { ", " } code { (pattern) } } @if events.len() > 3 { span.muted { " and " (events.len() - 3) " more" } } } }
            }
            td data-label="Authentication" { (authentication_words(it)) }
            td data-label="Signature" { (signature_words(visit.service(), it)) }
            td data-label="State" { div.nowrap { (standing_badge(health)) " " a.small href={ "/ui/destinations/" (it.id) } { "Details" span.hidden { " of " (it.name) } } } }
        }
    }
}

/// The beginning of a URL that is long.
fn shortened(url: &str) -> Cow<'_, str> {
    match url.char_indices().nth(URL_CHARS_SHOWN) {
        None => url.into(),
        Some((end, _)) => format!("{}…", &url[..end]).into(),
    }
}

fn authentication_words(destination: &Destination) -> &'static str {
    use crate::model::Auth;
    match destination.auth {
        Auth::None => "None",
        Auth::Basic { .. } => "Basic",
        Auth::SharedSecret { .. } => "Shared secret",
        Auth::Bearer { .. } => "Bearer",
    }
}

/// What signs deliveries to a destination: in source 001's words where a signing key does.
pub(super) fn signature_words(service: &Service, destination: &Destination) -> String {
    use crate::model::destination::Scheme;
    let catalog = service.catalog();
    let words = |signature: &SignedWith| match signature.key().and_then(|key| catalog.signing_key(key)) {
        Some(key) if key.kind == SigningKeyKind::Source => format!("Source Key {}", key.name),
        Some(_) => "Signature Key".to_owned(),
        None => match signature.scheme() {
            Scheme::Preset(preset) => preset.as_str().to_owned(),
            Scheme::Custom(custom) => format!("custom in {}", custom.header),
        },
    };
    match destination.signatures.as_slice() {
        [] => "None".to_owned(),
        several => several.iter().map(words).collect::<Vec<_>>().join(", "),
    }
}

/// The subscriptions that send to a destination.
pub(super) fn subscriptions(service: &Service, destination: &Destination) -> Vec<Subscription> {
    let catalog = service.catalog();
    catalog
        .subscriptions()
        .filter(|it| it.destinations.contains(&destination.no))
        .map(|it| Subscription::clone(it))
        .collect()
}

/// Which events go to a destination, each pattern once.
fn patterns(service: &Service, destination: &Destination) -> Vec<String> {
    let mut all: Vec<_> = subscriptions(service, destination).iter().map(|it| it.pattern.to_string()).collect();
    all.sort();
    all.dedup();
    all
}

/// What stands in the form, as it was typed or as it is stored.
#[derive(Debug, Clone, Default)]
struct Draft {
    /// The one that is edited; none while one is added.
    id: Option<DestinationId>,
    tenant: String,
    label: String,
    url: String,
    events: Vec<String>,
    /// `none`, `basic`; empty while nobody has chosen.
    authentication: String,
    username: String,
    /// What is stored, in words; it stays unless it is reset.
    kept: String,
    reset: bool,
    /// `none`, `source`, `signature`, `kept` for what this form does not offer.
    signature: String,
    source_key: String,
    /// What is stored that this form does not offer.
    kept_signature: String,
    further: Further,
    /// What was stored when the form was shown, so that nobody saves over what another has changed meanwhile.
    shown: Shown,
    /// What is stored now where the form says something else: label by label, when it was changed meanwhile.
    stands: Vec<(&'static str, String)>,
    /// Whether it was sent already, though nothing is wrong with it.
    was_sent: bool,
    /// What is wrong, by the field's name; without a name what is wrong with the whole.
    faults: Vec<(String, String)>,
}

/// What a form was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shown {
    /// A hash over all that the form can change; empty in a form that does not say.
    hash: String,
    /// The newest record of the audit log at that moment.
    audited: u64,
}

impl Shown {
    /// The same in a field of the form.
    fn field(&self) -> String {
        format!("{}.{}", self.hash, self.audited)
    }

    fn of_field(text: &str) -> Self {
        let (hash, audited) = text.split_once('.').unwrap_or_default();
        Shown { hash: hash.to_owned(), audited: audited.parse().unwrap_or_default() }
    }
}

/// What folds away.
#[derive(Debug, Clone, Default, PartialEq)]
struct Further {
    description: String,
    format: String,
    schedule: String,
    delays: String,
    attempts_max: String,
    timeout: String,
    in_flight_max: String,
    rate_events: String,
    rate_per: String,
    ordered: bool,
    tls_ca: String,
    tls_pin: String,
}

impl Further {
    fn of_form(form: &Form) -> Self {
        let text = |name: &str| form.text(name).to_owned();
        Further {
            description: text("description"),
            format: text("format"),
            schedule: text("schedule"),
            delays: text("delays"),
            attempts_max: text("attempts_max"),
            timeout: text("timeout"),
            in_flight_max: text("in_flight_max"),
            rate_events: text("rate_events"),
            rate_per: text("rate_per"),
            ordered: form.is_ticked("ordered"),
            tls_ca: text("tls_ca"),
            tls_pin: text("tls_pin"),
        }
    }

    fn of_view(view: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            _ => String::new(),
        };
        Further {
            description: text(&view["description"]),
            format: text(&view["format"]),
            schedule: text(&view["retry"]["schedule"]),
            delays: text(&view["retry"]["delays"]),
            attempts_max: text(&view["retry"]["attempts_max"]),
            timeout: text(&view["timeout"]),
            in_flight_max: text(&view["in_flight_max"]),
            rate_events: text(&view["rate"]["events"]),
            rate_per: text(&view["rate"]["per"]),
            ordered: view["ordered"] == true,
            tls_ca: text(&view["tls"]["ca"]),
            tls_pin: text(&view["tls"]["pin"]),
        }
    }

    /// The same as the API takes it; `before` is what is stored, so that what did not change is left alone.
    fn write(&self, before: &Further, view: &Value, body: &mut Map<String, Value>) {
        let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        // What is no number is for the API to refuse.
        let number = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number));
        let number = |it: &str| if it.is_empty() { Value::Null } else { number(it) };
        let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
        if self.description != before.description {
            set("description", text(&self.description));
        }
        if self.format != before.format {
            set("format", text(&self.format));
        }
        if self.timeout != before.timeout {
            set("timeout", text(&self.timeout));
        }
        if self.in_flight_max != before.in_flight_max {
            set("in_flight_max", number(&self.in_flight_max));
        }
        if self.ordered != before.ordered {
            set("ordered", json!(self.ordered));
        }
        let plan = |it: &Further| (it.schedule.clone(), it.delays.clone(), it.attempts_max.clone());
        if plan(self) != plan(before) {
            let mut retry = Map::new();
            if !self.delays.is_empty() {
                let delays = self.delays.split([',', ' ']).map(str::trim).filter(|delay| !delay.is_empty());
                retry.insert("delays".into(), delays.map(Value::from).collect());
            } else if !self.schedule.is_empty() {
                retry.insert("schedule".into(), json!(self.schedule));
            }
            if !self.attempts_max.is_empty() {
                retry.insert("attempts_max".into(), number(&self.attempts_max));
            }
            if view["retry"]["jitter"].is_number() {
                retry.insert("jitter".into(), view["retry"]["jitter"].clone());
            }
            set("retry", if retry.is_empty() { Value::Null } else { Value::Object(retry) });
        }
        let pace = |it: &Further| (it.rate_events.clone(), it.rate_per.clone());
        if pace(self) != pace(before) {
            let per = if self.rate_per.is_empty() { "1s" } else { &self.rate_per };
            let rate = json!({"events": number(&self.rate_events), "per": per});
            set("rate", if self.rate_events.is_empty() { Value::Null } else { rate });
        }
        let tls = |it: &Further| (it.tls_ca.clone(), it.tls_pin.clone());
        if tls(self) != tls(before) {
            // A client certificate stays as it is: its key is taken back as it is shown.
            let stored = |name: &str| view["tls"][name].clone();
            set(
                "tls",
                json!({
                    "ca": text(&self.tls_ca), "pin": text(&self.tls_pin),
                    "client_cert": stored("client_cert"), "client_key": stored("client_key"),
                }),
            );
        }
    }
}

impl Draft {
    /// The stored webhook.
    fn of_view(service: &Service, id: DestinationId, view: &Value, events: Vec<String>) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (signature, source_key, kept_signature) = signature_of(service, &view["signature"]);
        let kept = match view["auth"]["type"].as_str() {
            Some("basic") => format!("Basic, username {}", text(&view["auth"]["username"])),
            Some("shared_secret") => format!("Shared secret in {}", text(&view["auth"]["header"])),
            Some("bearer") => "Bearer token".to_owned(),
            _ => "None".to_owned(),
        };
        let mut draft = Draft {
            id: Some(id),
            tenant: text(&view["tenant"]),
            label: text(&view["name"]),
            url: text(&view["http_endpoint_url"]),
            events,
            kept,
            signature,
            source_key,
            kept_signature,
            further: Further::of_view(view),
            ..Draft::default()
        };
        let all = draft.parts().into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        let hash = Sha256::digest(json!(all).to_string());
        draft.shown = Shown { hash: hex(&hash[..12]), audited: service.chain().head.number };
        draft
    }

    /// Each part that the form can change, by its label and as it stands there.
    fn parts(&self) -> Vec<(&'static str, String)> {
        let signature = match self.signature.as_str() {
            "source" => format!("Source Key {}", self.source_key),
            "signature" => "Signature Key".to_owned(),
            "kept" => self.kept_signature.clone(),
            _ => "None".to_owned(),
        };
        let Further {
            description,
            format,
            schedule,
            delays,
            attempts_max,
            timeout,
            in_flight_max,
            rate_events,
            rate_per,
            ordered,
            tls_ca,
            tls_pin,
        } = &self.further;
        let rate = match rate_events.is_empty() {
            true => String::new(),
            false => format!("{rate_events} in each {}", if rate_per.is_empty() { "1s" } else { rate_per }),
        };
        vec![
            ("Webhook Label", self.label.clone()),
            ("Hook URL", self.url.clone()),
            ("Events", self.events.join(", ")),
            ("Authentication", self.kept.clone()),
            ("Signature", signature),
            ("Description", description.clone()),
            ("Format of the body", format.clone()),
            ("Retry schedule", if delays.is_empty() { schedule } else { delays }.clone()),
            ("Attempts at most", attempts_max.clone()),
            ("Rate", rate),
            ("At once at most", in_flight_max.clone()),
            ("Time limit of an attempt", timeout.clone()),
            ("In order, one at a time", if *ordered { "yes" } else { "no" }.to_owned()),
            ("Further certificate authorities", tls_ca.clone()),
            ("Pinned certificate", tls_pin.clone()),
        ]
    }

    /// Notes that what is stored is not what the form was made from, and how it stands. Saved again, the form goes over it.
    fn overtaken(&mut self, stored: &Draft, by: &str) {
        let words = format!(
            "Nothing was saved: this webhook was changed{by} while you had it open. What you typed is still here. Look at what \
             stands now; Save Changes then puts your form in its place."
        );
        self.fault("", words);
        let both = stored.parts().into_iter().zip(self.parts());
        self.stands = both.filter(|((_, stored), (_, typed))| stored != typed).map(|(stored, _)| stored).collect();
        self.shown = stored.shown.clone();
    }

    /// What somebody typed over it.
    fn typed(mut self, form: &Form) -> Self {
        let text = |name: &str| form.text(name).to_owned();
        self.label = text("label");
        self.url = text("url");
        let patterns = form.text("patterns").split([',', '\n']).map(str::trim).filter(|it| !it.is_empty());
        self.events = form.all("events").chain(patterns).map(str::to_owned).collect();
        self.events.sort();
        self.events.dedup();
        self.authentication = text("authentication");
        self.username = text("username");
        self.reset = form.is_ticked("reset");
        self.signature = text("signature");
        self.source_key = text("source_key");
        self.further = Further::of_form(form);
        if let Some(shown) = form.given("shown") {
            self.shown = Shown::of_field(shown);
        }
        if self.id.is_none() && !text("tenant").is_empty() {
            self.tenant = text("tenant");
        }
        self
    }

    fn fault(&mut self, field: &str, why: impl Into<String>) {
        self.faults.push((field.to_owned(), why.into()));
    }

    /// What is missing: every field is required (S1.7).
    fn check(&mut self, form: &Form) {
        if self.label.is_empty() {
            self.fault("label", "is required");
        }
        if self.url.is_empty() {
            self.fault("url", "is required");
        }
        if self.events.is_empty() {
            self.fault("events", "choose one or more");
        }
        for event in self.events.clone() {
            if let Err(why) = event.parse::<TypePattern>() {
                self.fault("events", format!("{event}: {why}"));
            }
        }
        if self.id.is_none() || self.reset {
            match self.authentication.as_str() {
                "none" => {}
                "basic" => {
                    if self.username.is_empty() {
                        self.fault("username", "is required");
                    }
                    if form.raw("password").is_empty() {
                        self.fault("password", "is required");
                    }
                }
                _ => self.fault("authentication", "choose None or Basic"),
            }
        }
        match self.signature.as_str() {
            "none" | "signature" => {}
            "source" if self.source_key.is_empty() => self.fault("source_key", "choose a source key"),
            "source" => {}
            "kept" if !self.kept_signature.is_empty() => {}
            _ => self.fault("signature", "choose None, Source Key or Signature Key"),
        }
    }

    /// What the API is sent.
    fn body(&self, form: &Form, before: &Draft, view: &Value) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), json!(self.label));
        body.insert("http_endpoint_url".into(), json!(self.url));
        if self.id.is_none() || self.reset {
            let auth = match self.authentication.as_str() {
                "basic" => json!({"type": "basic", "username": self.username, "password": form.raw("password")}),
                _ => json!({"type": "none"}),
            };
            body.insert("auth".into(), auth);
        }
        let chosen = |it: &Draft| (it.signature.clone(), it.source_key.clone());
        if self.signature != "kept" && (self.id.is_none() || chosen(self) != chosen(before)) {
            let signature = match self.signature.as_str() {
                "source" => json!({"preset": "x-signature", "key": self.source_key}),
                "signature" => json!({"preset": "x-signature", "key": "signature"}),
                _ => json!({"preset": "none"}),
            };
            body.insert("signature".into(), signature);
        }
        self.further.write(&before.further, view, &mut body);
        Value::Object(body)
    }

    /// Notes what the API says is wrong, at the field that it is about.
    fn note(&mut self, problem: &Problem) {
        if problem.errors().is_empty() {
            self.fault("", problem.detail());
        }
        for error in problem.errors() {
            let field = match error.pointer.trim_start_matches('/') {
                "name" => "label",
                "http_endpoint_url" => "url",
                "auth/username" => "username",
                "auth/password" => "password",
                "signature/key" if self.signature == "source" => "source_key",
                pointer if pointer.starts_with("auth") => "authentication",
                pointer if pointer.starts_with("signature") => "signature",
                pointer if pointer.starts_with("retry/attempts_max") => "attempts_max",
                pointer if pointer.starts_with("retry/delays") => "delays",
                pointer if pointer.starts_with("retry") => "schedule",
                pointer if pointer.starts_with("rate/per") => "rate_per",
                pointer if pointer.starts_with("rate") => "rate_events",
                "tls/pin" => "tls_pin",
                pointer if pointer.starts_with("tls") => "tls_ca",
                own @ ("format" | "timeout" | "in_flight_max" | "ordered" | "description") => own,
                "tenant" => "tenant",
                _ => "",
            };
            // The API tells of its own routes and ids.
            let why = match field {
                "" => format!("{}: {}", error.pointer, error.detail),
                "signature" if self.signature == "signature" => "the tenant has no signature key yet".to_owned(),
                "source_key" => "choose a source key of this tenant".to_owned(),
                _ => error.detail.clone(),
            };
            self.fault(field, why);
        }
    }

    fn has_fault(&self, field: &str) -> bool {
        self.faults.iter().any(|(name, _)| name == field)
    }

    /// What is wrong with a field, below it.
    fn told(&self, field: &str) -> Markup {
        let mut all = self.faults.iter().filter(|(name, _)| name == field).map(|(_, why)| why).peekable();
        html! {
            @if all.peek().is_some() {
                div.error #{ "e-" (field) } { (icon(Icon::Alert)) span { @for (place, why) in all.enumerate() { @if place > 0 { "; " } (why) } } }
            }
        }
    }
}

/// What this form offers of a stored signature: its choice, the source key, and what else there is, in words.
fn signature_of(service: &Service, view: &Value) -> (String, String, String) {
    let catalog = service.catalog();
    let key = |one: &Value| {
        let id: SigningKeyId = one["key"].as_str()?.parse().ok()?;
        catalog.signing_key(id).map(|key| (key.kind, id.to_string()))
    };
    let name = |one: &Value| one["preset"].as_str().unwrap_or("custom").to_owned();
    let words = match view {
        Value::Array(several) => several.iter().map(name).collect::<Vec<_>>().join(", "),
        one => match (name(one).as_str(), key(one)) {
            ("none", _) => return ("none".into(), String::new(), String::new()),
            ("x-signature", Some((SigningKeyKind::Signature, _))) => {
                return ("signature".into(), String::new(), String::new());
            }
            ("x-signature", Some((SigningKeyKind::Source, id))) => return ("source".into(), id, String::new()),
            (name, _) => name.to_owned(),
        },
    };
    ("kept".into(), String::new(), words)
}

/// What the form offers to choose from.
struct Offer {
    types: Vec<(String, Vec<(String, String)>)>,
    source_keys: Vec<(String, String)>,
    has_signature_key: bool,
    makes_keys: bool,
    /// The choice of the tenant, where there is one.
    tenants: Option<Markup>,
    schedules: Vec<&'static str>,
}

impl Offer {
    /// What there is for the draft's tenant, and the chosen events that are no entry of the list.
    async fn of(visit: &Visit, draft: &Draft) -> Result<(Self, Vec<String>), Problem> {
        let (reaches_all, chosen) = (visit.viewer.caller().reaches_all(), &draft.events);
        let tenant: Option<TenantId> = draft.tenant.parse().ok();
        // Of one that there is not nothing is offered but the choice of another.
        let tenant = tenant.filter(|tenant| reaches_all && visit.service().catalog().tenant(tenant).is_some());
        let tenant = tenant.as_ref();
        let known = visit.ask(Method::GET, "/v1/event-types?limit=1000", tenant, None).await?;
        let mut types: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for known in known["event_types"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (name, words) = (text(&known["name"]), text(&known["description"]));
            let group = name.split(['.', '_']).next().unwrap_or_default().to_owned();
            match types.iter_mut().find(|(known, _)| *known == group) {
                Some((_, entries)) => entries.push((name, words)),
                None => types.push((group, vec![(name, words)])),
            }
        }
        // Whole branches come first, and what has one entry needs none.
        for (group, entries) in &mut types {
            let is_branch = |(name, _): &&(String, String)| {
                name.strip_prefix(group.as_str()).is_some_and(|rest| rest.starts_with('.'))
            };
            if entries.iter().filter(is_branch).count() > 1 {
                entries.insert(0, (format!("{group}.*"), "all of these, and those to come".to_owned()));
            }
        }
        types.insert(0, ("everything".to_owned(), vec![("*".to_owned(), "every event, whatever its type".to_owned())]));
        let is_offered =
            |pattern: &String| types.iter().any(|(_, entries)| entries.iter().any(|(name, _)| name == pattern));
        let others: Vec<String> = chosen.iter().filter(|pattern| !is_offered(pattern)).cloned().collect();
        let keys = visit.ask(Method::GET, "/v1/signing-keys?limit=1000", tenant, None).await?;
        let keys = keys["signing_keys"].as_array().cloned().unwrap_or_default();
        let kind = |key: &Value, kind: &str| key["kind"] == kind;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let sources = keys.iter().filter(|key| kind(key, "source"));
        let has_choice = draft.id.is_none() && reaches_all && visit.service().catalog().tenants().count() > 1;
        let offer = Offer {
            types,
            source_keys: sources.map(|key| (text(&key["id"]), text(&key["name"]))).collect(),
            has_signature_key: keys.iter().any(|key| kind(key, "signature")),
            makes_keys: visit.viewer.may(Role::Admin),
            tenants: has_choice.then(|| tenant_field(visit, "w-tenant", &draft.tenant)),
            schedules: crate::model::Schedule::named().into_iter().map(|(name, _)| name).collect(),
        };
        Ok((offer, others))
    }
}

/// `GET /ui/webhooks/new`
pub(super) async fn new(visit: Visit) -> Result<Response, Problem> {
    let further = Further { format: "console".into(), ..Further::default() };
    let tenant = visit.tenant_asked()?.unwrap_or_else(|| visit.viewer.caller().tenant());
    let draft = Draft { further, tenant: tenant.to_string(), ..Draft::default() };
    show(&visit, StatusCode::OK, draft).await
}

/// `POST /ui/webhooks`
pub(super) async fn create(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let own = visit.viewer.caller().tenant().to_string();
    let mut draft = Draft { tenant: own, ..Draft::default() }.typed(&form);
    // Another tenant has other keys: the form comes again with those, and all that was typed.
    if form.is_ticked(CHANGE_TENANT) {
        return show(&visit, StatusCode::OK, Draft { was_sent: true, ..draft }).await;
    }
    draft.check(&form);
    let tenant = draft.tenant.parse::<TenantId>().ok();
    let tenant = tenant.filter(|it| visit.service().catalog().tenant(it).is_some());
    if tenant.is_none() {
        draft.fault("tenant", "there is no tenant of this id");
    }
    let Some(tenant) = tenant.filter(|_| draft.faults.is_empty()) else {
        return show(&visit, StatusCode::BAD_REQUEST, draft).await;
    };
    let body = draft.body(&form, &Draft::default(), &Value::Null);
    let made = match visit.make(API, Some(&tenant), body).await {
        Ok(made) => made,
        Err(problem) => return again(&visit, draft, None, problem).await,
    };
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    let added = add_events(&visit, &tenant, &draft.events, &id).await;
    if let Some((event, problem)) = added.refused {
        // Whoever is told that it was not added must not find it, nor what was to send to it.
        let mut made: Vec<_> = added.made.into_iter().map(|(_, path)| path).collect();
        made.push(format!("{API}/{id}"));
        for path in made {
            if visit.ask(Method::DELETE, &path, Some(&tenant), None).await.is_err() {
                draft.fault("", format!("A part of it could not be taken back and is there all the same: {path}"));
            }
        }
        return again(&visit, draft, Some(&event), problem).await;
    }
    let done = if made["confirmed"] == false { "added_unconfirmed" } else { "added" };
    Ok(to(&format!("{PLACE}?done={done}")))
}

/// Sends events of a type to a destination. Answers the path of the subscription that was made for it.
async fn subscribe(visit: &Visit, tenant: &TenantId, pattern: &str, id: &str) -> Result<String, Problem> {
    let (body, path) = (json!({"destinations": [id]}), format!("/v1/subscriptions/{pattern}"));
    let made = visit.make(&path, Some(tenant), body).await?;
    Ok(format!("{path}/{}", made["id"].as_str().unwrap_or_default()))
}

/// What came of subscriptions that were to be made.
struct Added {
    /// Each event, and the path of its subscription.
    made: Vec<(String, String)>,
    /// The first that was refused; those behind it were not tried.
    refused: Option<(String, Problem)>,
}

/// Sends events of these types to a destination, until one is refused.
async fn add_events(visit: &Visit, tenant: &TenantId, events: &[String], id: &str) -> Added {
    let mut added = Added { made: Vec::new(), refused: None };
    for event in events {
        match subscribe(visit, tenant, event, id).await {
            Ok(path) => added.made.push((event.clone(), path)),
            Err(problem) => {
                added.refused = Some((event.clone(), problem));
                break;
            }
        }
    }
    added
}

/// The form again, with what the API says is wrong, with all of it or with one event. What is no fault of the form is passed on.
async fn again(visit: &Visit, mut draft: Draft, event: Option<&str>, problem: Problem) -> Result<Response, Problem> {
    let status = problem.code().status();
    if once::ends_the_form(&problem)
        || problem.code() == ProblemCode::StepUp
        || (problem.code() == ProblemCode::NotFound && event.is_none())
    {
        return Err(problem);
    }
    match event {
        // Nobody who fills in the form knows that an event is a request of its own.
        Some(event) => draft.fault("events", format!("{event}: {}", problem.detail())),
        None => draft.note(&problem),
    }
    show(visit, status, draft).await
}

/// `GET /ui/webhooks/{id}`
pub(super) async fn edit(visit: Visit) -> Result<Response, Problem> {
    let (draft, _) = stored(&visit).await?;
    show(&visit, StatusCode::OK, draft).await
}

/// The webhook that the path names, as the form and as the API shows it.
async fn stored(visit: &Visit) -> Result<(Draft, Value), Problem> {
    let id: DestinationId = visit.params.parse("id")?;
    let destination = visit.service().destination(&visit.sight()?, id)?;
    let view = visit.ask(Method::GET, &format!("{API}/{id}"), Some(&destination.tenant), None).await?;
    let draft = Draft::of_view(visit.service(), id, &view, patterns(visit.service(), &destination));
    Ok((draft, view))
}

/// `POST /ui/webhooks/{id}`
pub(super) async fn save(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let (before, view) = stored(&visit).await?;
    let id: DestinationId = visit.params.parse("id")?;
    let destination = visit.service().destination(&visit.sight()?, id)?;
    let tenant = destination.tenant.clone();
    let mut draft = before.clone().typed(&form);
    if !draft.shown.hash.is_empty() && draft.shown.hash != before.shown.hash {
        let by = changed_by(&visit, &destination, draft.shown.audited).await?;
        draft.overtaken(&before, &by);
        return show(&visit, StatusCode::CONFLICT, draft).await;
    }
    draft.check(&form);
    if !draft.faults.is_empty() {
        return show(&visit, StatusCode::BAD_REQUEST, draft).await;
    }
    let body = draft.body(&form, &before, &view);
    // First what can be taken back, then the change that is made as a whole, and at last what is hardly ever refused: so whatever
    // the API says no to leaves the webhook as it was.
    let new: Vec<_> = draft.events.iter().filter(|event| !before.events.contains(event)).cloned().collect();
    let added = add_events(&visit, &tenant, &new, &id.to_string()).await;
    let refused = match added.refused {
        Some((event, problem)) => Some((Some(event), problem)),
        None => {
            let saved = visit.ask(Method::PUT, &format!("{API}/{id}"), Some(&tenant), Some(body)).await;
            saved.err().map(|problem| (None, problem))
        }
    };
    if let Some((event, problem)) = refused {
        for (event, path) in added.made {
            if visit.ask(Method::DELETE, &path, Some(&tenant), None).await.is_err() {
                draft.fault(
                    "",
                    format!("{event} is sent already, though the rest was not saved: save again, or take it off"),
                );
            }
        }
        return again(&visit, draft, event.as_deref(), problem).await;
    }
    for subscription in subscriptions(visit.service(), &destination) {
        if !draft.events.contains(&subscription.pattern.to_string()) {
            let path = format!("/v1/subscriptions/{}/{}", subscription.pattern, subscription.id);
            // One that sends elsewhere, too, goes on without this destination.
            let path = match subscription.destinations.as_slice() {
                [_] => path,
                _ => format!("{path}/destinations/{id}"),
            };
            match visit.ask(Method::DELETE, &path, Some(&subscription.tenant), None).await {
                Err(problem) if problem.code() != ProblemCode::NotFound => {
                    let pattern = &subscription.pattern;
                    draft.fault("", format!("All is saved but this: {pattern} is still sent. Save it once more."));
                    return again(&visit, draft, Some(&pattern.to_string()), problem).await;
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    let after = visit.service().destination(&visit.sight()?, id)?;
    let done = match after.confirmation {
        Confirmation::Lapsed if after.url != destination.url => "moved",
        Confirmation::Awaited if after.url != destination.url => "moved_unconfirmed",
        _ => "saved",
    };
    Ok(to(&format!("{PLACE}?done={done}")))
}

/// Who has changed a webhook or what is sent to it since that record of the audit log, for viewers who may read that.
async fn changed_by(visit: &Visit, destination: &Destination, since: u64) -> Result<String, Problem> {
    if !visit.viewer.may(Role::Admin) {
        return Ok(String::new());
    }
    let found = visit.ask(Method::GET, "/v1/audit?limit=100", Some(&destination.tenant), None).await?;
    let id = destination.id.to_string();
    let changes = |record: &Value| {
        let action = record["action"].as_str().unwrap_or_default();
        // A subscription names its destinations before or after.
        action == "destination.update" && record["object"]["id"] == id.as_str()
            || action.starts_with("subscription.") && record.to_string().contains(&id)
    };
    let mut records = found["records"].as_array().into_iter().flatten();
    let newest = records.find(|row| row["number"].as_u64().is_some_and(|it| it > since) && changes(&row["record"]));
    let Some(record) = newest.map(|row| &row["record"]) else { return Ok(String::new()) };
    let who = &record["actor"];
    let key = |id: &str| visit.service().catalog().key(id.parse().ok()?).map(|key| key.name.clone());
    Ok(match (who["type"].as_str(), who["name"].as_str(), who["id"].as_str().unwrap_or_default()) {
        (Some("user"), Some(name), _) => format!(" by {name}"),
        (Some("key"), _, id) => {
            format!(" with the key {}", key(id).filter(|it| !it.is_empty()).unwrap_or(id.to_owned()))
        }
        (_, _, id) => format!(" by {id}"),
    })
}

/// `GET /ui/webhooks/{id}/delete`: the second confirmation.
pub(super) async fn confirm_delete(visit: Visit) -> Result<Response, Problem> {
    let id: DestinationId = visit.params.parse("id")?;
    let destination = visit.service().destination(&visit.sight()?, id)?;
    let waiting = visit.service().tally(destination.no).waiting();
    let body = html! {
        section.card.narrow data-dialog-body="small" {
            h2.hidden { "Delete webhook" }
            p { "Delete the webhook " strong { (destination.name) } "? Nothing is sent to " code { (destination.url) } " any more." }
            @if waiting > 0 { (notice(Icon::Alert, "warn", html! { @if waiting == 1 { "One delivery waits for it. It is given up." } @else { (number(waiting)) " deliveries wait for it. They are given up." } })) }
            form method="post" action={ (PLACE) "/" (id) "/delete" } {
                div.buttons {
                    a.button.left href={ (PLACE) "/" (id) } data-close="" { "Keep Hook" }
                    button.danger.primary type="submit" { "Delete Hook" }
                }
            }
        }
    };
    Ok(Page { title: "Delete webhook?", place: PLACE, actions: html! {}, body }.show(&visit))
}

/// `POST /ui/webhooks/{id}/delete`
pub(super) async fn delete(visit: Visit) -> Result<Response, Problem> {
    let id: DestinationId = visit.params.parse("id")?;
    let destination = visit.service().destination(&visit.sight()?, id)?;
    // Subscriptions of its own go with it.
    let own = subscriptions(visit.service(), &destination);
    visit.ask(Method::DELETE, &format!("{API}/{id}"), Some(&destination.tenant), None).await?;
    for subscription in own.iter().filter(|it| it.destinations.len() == 1) {
        let path = format!("/v1/subscriptions/{}/{}", subscription.pattern, subscription.id);
        match visit.ask(Method::DELETE, &path, Some(&subscription.tenant), None).await {
            Err(problem) if problem.code() != ProblemCode::NotFound => return Err(problem),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(to(&format!("{PLACE}?done=deleted")))
}

async fn show(visit: &Visit, status: StatusCode, draft: Draft) -> Result<Response, Problem> {
    let (offer, others) = Offer::of(visit, &draft).await?;
    let title = if draft.id.is_some() { "Edit Webhook" } else { "Add Webhook" };
    let once = once::field(visit);
    let body = form_card(&draft, &offer, &others, once);
    Ok(Page { title, place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

fn form_card(draft: &Draft, offer: &Offer, others: &[String], once: Markup) -> Markup {
    let action = match draft.id {
        None => PLACE.to_owned(),
        Some(id) => format!("{PLACE}/{id}"),
    };
    html! {
        section.card.narrow data-dialog-body="" {
            @if !draft.faults.is_empty() {
                div role="alert" { (notice(Icon::Alert, "bad", html! {
                    @if draft.has_fault("") { @for (_, why) in draft.faults.iter().filter(|(field, _)| field.is_empty()) { p { (why) } } }
                    @else { "Not saved yet: see what is marked below." }
                    @if !draft.stands.is_empty() {
                        dl.facts { @for (label, value) in &draft.stands { dt { (label) " now" } dd { @if value.is_empty() { "–" } @else { (shortened(value)) } } } }
                        @if let Some(id) = draft.id { p { a href={ (PLACE) "/" (id) } target="_blank" { "Open what stands now in another tab" } } }
                    }
                })) }
            }
            form method="post" action=(action) data-dirty=(if draft.faults.is_empty() && !draft.was_sent { "" } else { "refused" }) novalidate[!draft.faults.is_empty()] {
                // The first button is what Enter in a field presses.
                button type="submit" hidden {}
                p.hint { "All fields are required." }
                (once)
                @if draft.id.is_some() { input type="hidden" name="shown" value=(draft.shown.field()); }
                @if let Some(tenants) = &offer.tenants {
                    div.field { label for="w-tenant" { "Tenant" } (tenants)
                        button type="submit" name=(CHANGE_TENANT) value="yes" formnovalidate data-chosen="w-tenant" { "Use its signing keys" } (draft.told("tenant")) }
                }
                (line(draft, "label", "Webhook Label", &draft.label, "The name of the webhook.", "text", 124))
                (line(draft, "url", "Hook URL", &draft.url, "Where the data is sent when an event happens. The other application gives it to you.", "url", 2048))
                (events(draft, offer, others))
                (authentication(draft))
                (signature(draft, offer))
                (further(draft, offer))
                div.buttons {
                    a.button.left href=(PLACE) data-close="" { "Close" }
                    @if let Some(id) = draft.id {
                        a.button.danger href={ (PLACE) "/" (id) "/delete" } data-dialog="" { "Delete Hook" }
                        button.primary type="submit" { "Save Changes" }
                    } @else {
                        button.primary type="submit" { "Add Hook" }
                    }
                }
            }
        }
    }
}

fn line(draft: &Draft, name: &str, label: &str, value: &str, hint: &str, kind: &str, max: usize) -> Markup {
    html! {
        div.field {
            label for={ "w-" (name) } { (label) }
            input #{ "w-" (name) } type=(kind) name=(name) value=(value) required maxlength=(max) autocomplete="off" aria-describedby={ "h-" (name) " e-" (name) } aria-invalid=[draft.has_fault(name).then_some("true")];
            p.hint #{ "h-" (name) } { (hint) }
            (draft.told(name))
        }
    }
}

fn events(draft: &Draft, offer: &Offer, others: &[String]) -> Markup {
    html! {
        fieldset.field data-types="" aria-describedby="e-events" {
            legend { "Events" }
            div.types-search hidden { label.hidden for="w-search" { "Search events" } input #w-search type="search" placeholder="Search events" autocomplete="off" aria-controls="w-types"; }
            div.types #w-types tabindex="0" role="group" aria-label="Known events" {
                @for (group, entries) in &offer.types {
                    div.group {
                        h3 { (group) }
                        @for (name, words) in entries {
                            label.choice { input type="checkbox" name="events" value=(name) checked[draft.events.contains(name)]; span { code { (name) } @if !words.is_empty() { span.sub { (words) } } } }
                        }
                    }
                }
            }
            ul.chosen hidden aria-label="Chosen events" {}
            div { label.hint for="w-patterns" { "Further types or patterns, with commas" }
                input #w-patterns type="text" name="patterns" value=(others.join(", ")) placeholder="invoice.*, refund.settled" autocomplete="off" spellcheck="false" aria-describedby="h-patterns";
                p.hint #h-patterns { "A type that is not in the list above is taken as it is written. Events of it go out once a program hands them in." } }
            (draft.told("events"))
        }
    }
}

fn choice(name: &str, value: &str, chosen: &str, words: &str, sub: &str) -> Markup {
    html! { label.choice { input type="radio" name=(name) value=(value) checked[value == chosen] required; span { (words) span.sub { (sub) } } } }
}

fn authentication(draft: &Draft) -> Markup {
    let fields = html! {
        (choice("authentication", "none", &draft.authentication, "None", "No authentication header is sent."))
        (choice("authentication", "basic", &draft.authentication, "Basic", "The Authorization header with a username and a password."))
        (draft.told("authentication"))
        div.row.only-basic {
            div.field { label for="w-username" { "Username" } input #w-username type="text" name="username" value=(draft.username) autocomplete="off" spellcheck="false" aria-invalid=[draft.has_fault("username").then_some("true")]; (draft.told("username")) }
            div.field { label for="w-password" { "Password" } input #w-password type="password" name="password" autocomplete="new-password" aria-invalid=[draft.has_fault("password").then_some("true")]; (draft.told("password"))
                @if (draft.was_sent || !draft.faults.is_empty()) && draft.authentication == "basic" { p.hint data-retype="" { "A password is not sent back: type it once more." } } }
        }
    };
    html! {
        fieldset.field {
            legend { "Authentication" }
            @if draft.id.is_none() { (fields) }
            @else {
                div.reset data-reset="" {
                    p.kept { (draft.kept) span.muted { " (stored; a password is never shown)" } }
                    label.choice.reset-switch { input type="checkbox" name="reset" value="yes" checked[draft.reset]; span { "Reset Webhook Authentication" } }
                    div.reset-panel { (fields) }
                }
            }
        }
    }
}

fn signature(draft: &Draft, offer: &Offer) -> Markup {
    html! {
        fieldset.field {
            legend { "Signature" }
            @if !draft.kept_signature.is_empty() { (choice("signature", "kept", &draft.signature, "As it is", &format!("Signs with: {}.", draft.kept_signature))) }
            (choice("signature", "none", &draft.signature, "None", "No signature is sent."))
            (choice("signature", "source", &draft.signature, "Source Key", "The chosen source key signs; the signature stands in X-Signature."))
            div.field.only-source {
                @if offer.source_keys.is_empty() { p.hint { "There is no source key yet. " (make_key(draft, offer, "Make one")) } }
                @else { label.hidden for="w-source" { "Source key" } select #w-source name="source_key" { option value="" { "Choose a source key" } @for (id, name) in &offer.source_keys { option value=(id) selected[*id == draft.source_key] { (name) } } } }
                (draft.told("source_key"))
            }
            (choice("signature", "signature", &draft.signature, "Signature Key", "The key that is unique to the tenant signs; the signature stands in X-Signature."))
            div.field.only-signature { @if !offer.has_signature_key { p.hint { "The tenant has no signature key yet. " (make_key(draft, offer, "Make it")) } } }
            (draft.told("signature"))
        }
    }
}

/// Where a signing key comes from, for whoever may make one and whoever may not.
fn make_key(draft: &Draft, offer: &Offer, words: &str) -> Markup {
    let tenant = url::form_urlencoded::byte_serialize(draft.tenant.as_bytes()).collect::<String>();
    // Beside the form, so that what was typed stays.
    html! {
        @if offer.makes_keys { a href={ "/ui/signing-keys?tenant=" (tenant) } target="_blank" { (words) " in another tab" } " first." }
        @else { "An administrator can make one." }
    }
}

fn further(draft: &Draft, offer: &Offer) -> Markup {
    let it = &draft.further;
    let has_fault = [
        "description",
        "format",
        "schedule",
        "delays",
        "attempts_max",
        "timeout",
        "in_flight_max",
        "rate_events",
        "rate_per",
        "ordered",
        "tls_ca",
        "tls_pin",
    ]
    .iter()
    .any(|field| draft.has_fault(field));
    let field = |name: &str, label: &str, value: &str, placeholder: &str, hint: &str| {
        html! {
            div.field {
                label for={ "w-" (name) } { (label) }
                input #{ "w-" (name) } type="text" name=(name) value=(value) placeholder=(placeholder) autocomplete="off" spellcheck="false" aria-invalid=[draft.has_fault(name).then_some("true")];
                @if !hint.is_empty() { p.hint { (hint) } }
                (draft.told(name))
            }
        }
    };
    html! {
        details.fold open[has_fault] {
            summary { "Further settings" }
            (field("description", "Description", &it.description, "", ""))
            div.row {
                div.field { label for="w-format" { "Format of the body" }
                    select #w-format name="format" { @for format in crate::model::destination::Format::ALL { option value=(format.as_str()) selected[format.as_str() == it.format] { (format_words(format.as_str())) } } } (draft.told("format")) }
                div.field { label for="w-schedule" { "Retry schedule" }
                    select #w-schedule name="schedule" { option value="" { "the installation's default" } @for name in &offer.schedules { option value=(name) selected[*name == it.schedule] { (name) } }
                        @if !it.schedule.is_empty() && !offer.schedules.contains(&it.schedule.as_str()) { option value=(it.schedule) selected { (it.schedule) } } } (draft.told("schedule")) }
            }
            div.row {
                (field("delays", "Or own delays", &it.delays, "5s, 1m, 30m", "Between the attempts; they take the schedule's place."))
                (field("attempts_max", "Attempts at most", &it.attempts_max, "", ""))
            }
            div.row {
                (field("rate_events", "Rate: deliveries", &it.rate_events, "no limit", ""))
                (field("rate_per", "Rate: in each", &it.rate_per, "1s", ""))
            }
            div.row {
                (field("in_flight_max", "At once at most", &it.in_flight_max, "the default", ""))
                (field("timeout", "Time limit of an attempt", &it.timeout, "30s", ""))
            }
            div.field {
                label.choice { input type="checkbox" name="ordered" value="yes" checked[it.ordered]; span { "In order, one at a time" span.sub { "Each delivery waits until the one before it has ended, also while that waits for a retry." } } }
                (draft.told("ordered"))
            }
            div.field { label for="w-tls-ca" { "Further certificate authorities (PEM)" } textarea #w-tls-ca name="tls_ca" spellcheck="false" { (it.tls_ca) } (draft.told("tls_ca")) }
            (field("tls_pin", "Pinned certificate (SHA-256)", &it.tls_pin, "", ""))
        }
    }
}

fn format_words(format: &str) -> &str {
    match format {
        "raw" => "raw: the producer's bytes",
        "console" => "console: type, event_type, event_body, event_id",
        "notification" => "notification: id, type, attempts, data",
        "standard" => "standard: Standard Webhooks",
        "cloudevents" => "cloudevents: CloudEvents 1.0",
        "cloudevents-binary" => "cloudevents-binary: attributes in headers",
        other => other,
    }
}
