//! The whole API through its one handler, over a store in memory. The engine does not run here: deliveries stay pending.

mod abuse;
mod access;
mod audit;
mod deliveries;
mod destinations;
mod event_types;
mod house;
mod idempotency;
mod openapi;
mod replays;
mod signing_keys;
mod subscriptions;
mod tail;
mod users;

use std::sync::{Arc, Mutex};

use ::http::HeaderMap;
use ::http::header::{ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use bytes::Bytes;
use serde_json::{Value, json};

use tokio::sync::broadcast;

use super::*;
use crate::api::idempotency::IDEMPOTENCY_REPLAYED;
use crate::clock::Clock;
use crate::http::request::Peer;
use crate::http::response::Body;
use crate::model::event;
use crate::model::{Ended, EventTypes, Schedule, Timestamp};
use crate::service;
use crate::store::{self, InMemoryBackend, Store, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const WEBHOOKS: &str = "/v1/destinations/webhook";

/// A daemon's API and what stands behind it.
struct World {
    service: Service,
    store: Store,
    handler: Arc<dyn Handler>,
    /// Where the engine would tell of attempts.
    attempts: broadcast::Sender<Arc<Ended>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Who<'a> {
    /// On the admin socket, without a key.
    Operator,
    /// The operator, for one tenant.
    OperatorFor(&'a str),
    /// Over TCP, without a key.
    Nobody,
    /// Over TCP, with a key.
    Key(&'a str),
    /// With a key and `X-Tenant`.
    KeyFor(&'a str, &'a str),
}

#[derive(Debug)]
struct Answered {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The code of a problem.
    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The pointers of a problem.
    fn pointers(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn operator() -> Peer {
    Peer::Unix(event::Peer { uid: 1000, gid: 1000, pid: Some(1) })
}

fn stranger() -> Peer {
    Peer::Tcp(([127, 0, 0, 1], 40_000).into())
}

/// Destinations at port 1 are against this installation's policy.
fn policy(destination: &crate::model::Destination) -> Result<(), service::Error> {
    match destination.url.contains(":1/") {
        false => Ok(()),
        true => Err(service::Error::Invalid { pointer: "/http_endpoint_url", detail: "port 1 is blocked".into() }),
    }
}

impl World {
    fn new() -> Self {
        World::with(Settings::default())
    }

    /// One that asks receivers for their confirmation.
    fn confirming() -> Self {
        World::build(Settings::default(), service::ConfirmationSettings::default())
    }

    /// One where destinations are confirmed from creation.
    fn with(settings: Settings) -> Self {
        let mode = crate::model::ConfirmationMode::Off;
        World::build(settings, service::ConfirmationSettings { mode, reset_on_url_change: true })
    }

    /// One with these event types.
    fn strict(event_types: EventTypes) -> Self {
        let mode = crate::model::ConfirmationMode::Off;
        let confirmation = service::ConfirmationSettings { mode, reset_on_url_change: true };
        World::build_on(Settings::default(), confirmation, event_types)
    }

    fn build(settings: Settings, confirmation: service::ConfirmationSettings) -> Self {
        World::build_on(settings, confirmation, EventTypes::default())
    }

    fn build_on(settings: Settings, confirmation: service::ConfirmationSettings, event_types: EventTypes) -> Self {
        let clock = Clock::of_runtime(START);
        let keys = store::Keys::new(store::MasterKey::new([7; store::KEY_BYTES]), [9; store::Keys::CHANCE_BYTES]);
        let at = store::Settings::at("memory", keys);
        let at = store::Settings { cache_bytes: 1 << 20, event_types: Arc::new(event_types), ..at };
        let store = Store::open_on(InMemoryBackend::new(), &at, clock, 7, WriterRuns::Inline).unwrap();
        let rng = Mutex::new(fastrand::Rng::with_seed(7));
        let service = Service::new(
            service::Settings {
                pending_max: 1000,
                schedules: Schedule::named().into_iter().take(1).map(|(name, it)| (name.to_owned(), it)).collect(),
                schedule: "standard".to_owned(),
                confirmation,
                mask: crate::model::mask::PayloadMask::default(),
                proof_lasts: crate::model::user::PROOF_LASTS,
                policy: Arc::new(policy),
                chance: Arc::new(move |bytes| rng.lock().unwrap().fill(bytes)),
            },
            store.clone(),
            clock,
        );
        let attempts = broadcast::Sender::new(4);
        let tail = Tail::new(attempts.downgrade());
        let handler = Arc::new(Api::new(service.clone(), settings, Metrics::default(), tail).handler());
        World { handler, service, store, attempts }
    }

    async fn send(&self, request: ::http::request::Builder, body: impl Into<Bytes>, peer: Peer) -> Answered {
        let request = request.body(body.into()).unwrap();
        let (method, path, sent) = (request.method().clone(), request.uri().path().to_owned(), request.body().clone());
        let request = Request::whole(request, peer, "req_1");
        let response = self.handler.answer(request).await.unwrap_or_else(|problem| problem.into_response("req_1"));
        let mut headers = HeaderMap::new();
        for name in [CONTENT_TYPE, LOCATION, ALLOW, RETRY_AFTER, WWW_AUTHENTICATE, IDEMPOTENCY_REPLAYED] {
            headers.extend(response.header(&name).map(|value| (name.clone(), value.clone())));
        }
        let status = response.status().as_u16();
        let text = match response.into_body() {
            Body::Whole(body) => String::from_utf8(body.to_vec()).unwrap(),
            Body::Stream(mut stream) => String::from_utf8(stream.next().await.unwrap_or_default().to_vec()).unwrap(),
        };
        let answered = Answered { status, headers, text };
        assert!(answered.status < 400 || is_problem(&answered), "{answered:?}");
        openapi::hold(method.as_str(), &path, &sent, &answered);
        answered
    }

    async fn ask(&self, who: Who<'_>, method: &str, path: &str, body: Value) -> Answered {
        let (request, peer) = request(who, method, path);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(request, body, peer).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.ask(Who::Operator, "GET", path, Value::Null).await
    }

    /// As the operator, with the status that it must have.
    async fn done(&self, status: u16, method: &str, path: &str, body: Value) -> Value {
        let answered = self.ask(Who::Operator, method, path, body).await;
        assert_eq!(answered.status, status, "{method} {path}: {answered:?}");
        answered.json()
    }

    async fn tenant(&self, id: &str) {
        self.done(201, "POST", "/v1/tenants", json!({"id": id})).await;
    }

    /// A key's secret.
    async fn key(&self, role: &str, tenant: Option<&str>) -> String {
        let made = self.done(201, "POST", "/v1/keys", json!({"role": role, "tenant": tenant, "name": role})).await;
        text(&made["secret"])
    }

    /// The id of a new person, whose password the daemon made.
    async fn user(&self, name: &str, role: &str, tenant: Option<&str>) -> String {
        let body = json!({"name": name, "role": role, "tenant": tenant});
        text(&self.done(201, "POST", "/v1/users", body).await["id"])
    }

    /// The id of a new destination.
    async fn destination(&self, tenant: &str) -> String {
        let body = json!({"name": "d", "http_endpoint_url": "https://example.com/in"});
        let made = self.ask(Who::OperatorFor(tenant), "POST", WEBHOOKS, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        text(&made.json()["id"])
    }

    /// The id of a new subscription.
    async fn subscription(&self, tenant: &str, pattern: &str, destinations: &[&str]) -> String {
        let body = json!({"destinations": destinations, "tenant": tenant});
        text(&self.done(201, "POST", &format!("/v1/subscriptions/{pattern}"), body).await["id"])
    }

    /// The id of a new event.
    async fn event(&self, tenant: &str, kind: &str) -> String {
        let body = json!({"type": kind, "tenant": tenant, "data": {"amount": "5.00"}});
        text(&self.done(202, "POST", "/v1/events", body).await["id"])
    }
}

/// The beginning of a request, and where it comes from.
fn request(who: Who<'_>, method: &str, path: &str) -> (::http::request::Builder, Peer) {
    let mut request = ::http::Request::builder().method(method).uri(path);
    let peer = match who {
        Who::Operator | Who::OperatorFor(_) => operator(),
        Who::Nobody | Who::Key(_) | Who::KeyFor(..) => stranger(),
    };
    if let Who::Key(key) | Who::KeyFor(key, _) = who {
        request = request.header("authorization", key);
    }
    if let Who::OperatorFor(tenant) | Who::KeyFor(_, tenant) = who {
        request = request.header("x-tenant", tenant);
    }
    (request, peer)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// Every refusal is problem+json with all its members.
fn is_problem(answered: &Answered) -> bool {
    let problem = answered.json();
    answered.headers.get("content-type").is_some_and(|it| it == "application/problem+json")
        && ["type", "title", "detail", "code", "request_id"].iter().all(|member| problem[*member].is_string())
        && problem["status"] == answered.status
        && problem["errors"].is_array()
}
