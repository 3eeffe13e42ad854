//! The whole dashboard through its one handler, over a store in memory. The engine does not run here: deliveries stay pending.

mod house;
mod door;
mod matrix;
mod things;
mod trouble;
mod webhooks;

use std::sync::{Arc, Mutex};

use ::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::broadcast;

use super::viewer::Proof;
use super::*;
use crate::api::{self, Api};
use crate::clock::Clock;
use crate::http::request::Peer;
use crate::http::response::Body;
use crate::model::audit::{Actor, Origin, Who};
use crate::model::{Ended, Role, Timestamp, event};
use crate::service;
use crate::store::{self, InMemoryBackend, Store, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A daemon's dashboard and what stands behind it.
struct World {
    service: Service,
    store: Store,
    api: Api,
    ui: Ui,
    /// Requests that the API says no to, whatever they ask: by method, and by how their paths begin.
    refusals: Refusals,
    /// Where the engine would tell of attempts: as long as it is there, the live tail goes on.
    _attempts: broadcast::Sender<Arc<Ended>>,
}

type Refusals = Arc<Mutex<Vec<(Method, &'static str)>>>;

#[derive(Debug)]
struct Answered {
    status: u16,
    location: String,
    policy: String,
    content_type: String,
    text: String,
}

fn operator() -> Peer {
    Peer::Unix(event::Peer { uid: 1000, gid: 1000, pid: Some(1) })
}

fn stranger() -> Peer {
    Peer::Tcp(([127, 0, 0, 1], 40_000).into())
}

impl Answered {
    /// Where the list on the page goes on.
    fn next(&self) -> Option<String> {
        let link = self.text.split("href=\"").filter(|it| it.contains("rel=\"next\"")).last()?;
        Some(link.split('"').next()?.replace("&amp;", "&"))
    }

    /// The value of a form's hidden field.
    fn hidden(&self, name: &str) -> String {
        let field = format!("type=\"hidden\" name=\"{name}\" value=\"");
        let value = self.text.split(&field).nth(1).unwrap_or_else(|| panic!("no {name}: {}", self.text));
        value.split('"').next().unwrap().to_owned()
    }
}

/// Somebody with this role, bound to this tenant or to none.
fn viewer(role: Role, tenant: Option<&str>) -> Viewer {
    let actor = Actor { who: Who::Operator { uid: 7 }, from: Origin::Inside, request: None };
    Viewer::person(role.as_str(), Caller::new(role, tenant.map(|tenant| tenant.parse().unwrap()), actor), Proof::Fresh)
}

impl World {
    fn new() -> Self {
        World::asking(crate::model::ConfirmationMode::Off)
    }

    /// One that asks receivers for their confirmation so.
    fn asking(mode: crate::model::ConfirmationMode) -> Self {
        let clock = Clock::of_runtime(START);
        let keys = store::Keys::new(store::MasterKey::new([7; store::KEY_BYTES]), [9; store::Keys::CHANCE_BYTES]);
        let at = store::Settings { cache_bytes: 1 << 20, ..store::Settings::at("memory", keys) };
        let store = Store::open_on(InMemoryBackend::new(), &at, clock, 7, WriterRuns::Inline).unwrap();
        let rng = Mutex::new(fastrand::Rng::with_seed(7));
        let service = Service::new(
            service::Settings {
                pending_max: 1000,
                schedules: crate::model::Schedule::named()
                    .into_iter()
                    .map(|(name, it)| (name.to_owned(), it))
                    .collect(),
                schedule: "standard".to_owned(),
                confirmation: service::ConfirmationSettings { mode, reset_on_url_change: true },
                mask: crate::model::mask::PayloadMask::new(vec!["/customer/email".parse().unwrap()]),
                proof_lasts: crate::model::user::PROOF_LASTS,
                policy: Arc::new(|_| Ok(())),
                chance: Arc::new(move |bytes| rng.lock().unwrap().fill(bytes)),
            },
            store.clone(),
            clock,
        );
        let attempts = broadcast::Sender::new(4);
        let tail = api::tail::Tail::new(attempts.downgrade());
        let api = Api::new(service.clone(), api::Settings::default(), api::metrics::Metrics::default(), tail);
        let behind = api.clone();
        let refusals = Refusals::default();
        let refused = Arc::clone(&refusals);
        let desk: Arc<Desk> = Arc::new(move |request, caller| {
            let is_refused =
                |(method, path): &(Method, &str)| request.method() == *method && request.path().starts_with(path);
            let problem = Problem::new(ProblemCode::Conflict, "there is no room for another one");
            match refused.lock().unwrap().iter().any(is_refused) {
                true => Box::pin(async { Err(problem) }) as Answer,
                false => Box::pin(behind.clone().answer_for(request, caller)) as Answer,
            }
        });
        let facts: Arc<Look> = Arc::new(|| Box::pin(async { facts::Facts::default() }));
        let ui = Ui::new(service.clone(), Settings::default(), desk, facts);
        World { service, store, api, ui, refusals, _attempts: attempts }
    }

    /// What a peer is answered, as the daemon would.
    async fn send(&self, request: ::http::request::Builder, body: impl Into<Bytes>, peer: Peer) -> Answered {
        let mut request = request.body(body.into()).unwrap();
        request.headers_mut().entry("host").or_insert(HeaderValue::from_static("localhost"));
        let request = Request::whole(request, peer, "req_1");
        answered(self.ui.clone().handler().answer(request).await.unwrap()).await
    }

    /// What a viewer is shown.
    async fn look(&self, viewer: &Viewer, path: &str) -> Answered {
        self.act(viewer, "GET", path, "").await
    }

    /// What a viewer's form leads to, sent from a page of the dashboard.
    async fn act(&self, viewer: &Viewer, method: &str, path: &str, form: &str) -> Answered {
        let request = ::http::Request::builder()
            .method(method)
            .uri(path)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form.to_owned()))
            .unwrap();
        let request = Request::whole(request, stranger(), "req_1");
        answered(fenced(self.ui.0.serve(request, Ok(viewer.clone())).await)).await
    }

    /// Asks the API as the operator, with success.
    async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = ::http::Request::builder().method(method).uri(path).body(body).unwrap();
        let request = Request::whole(request, operator(), "req_1");
        let response = self.api.clone().handler().answer(request).await.unwrap();
        let Body::Whole(body) = response.into_body() else { panic!("a stream") };
        serde_json::from_slice(&body).unwrap_or(Value::Null)
    }
}

async fn answered(response: Response) -> Answered {
    let header =
        |name: &HeaderName| response.header(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let (status, location) = (response.status().as_u16(), header(&LOCATION));
    let (policy, content_type) = (header(&CONTENT_SECURITY_POLICY), header(&CONTENT_TYPE));
    let text = match response.into_body() {
        Body::Whole(body) => String::from_utf8(body.to_vec()).unwrap(),
        Body::Stream(mut stream) => String::from_utf8(stream.next().await.unwrap_or_default().to_vec()).unwrap(),
    };
    Answered { status, location, policy, content_type, text }
}
