//! What a page is given, and what it is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::Method;
use bytes::Bytes;
use serde_json::Value;

use super::facts::Look;
use super::form::Form;
use super::viewer::Viewer;
use super::{Desk, Settings, once};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Query, Request};
use crate::http::response::{Body, Response};
use crate::http::route::{Access, Params, Route, Takes};
use crate::model::{Role, TenantId, json};
use crate::service::{Service, Sight};

/// What every page has at hand.
#[derive(Clone)]
pub(super) struct House {
    pub(super) service: Service,
    pub(super) settings: Settings,
    pub(super) desk: Arc<Desk>,
    pub(super) facts: Arc<Look>,
}

/// A request of somebody who need not be known.
pub(super) struct Door {
    pub(super) house: House,
    pub(super) request: Request,
}

/// A request of somebody whose role covers the page's.
pub(super) struct Visit {
    pub(super) house: House,
    pub(super) viewer: Viewer,
    pub(super) params: Params,
    pub(super) query: Query,
    pub(super) request: Request,
    /// The form that was sent; an empty one where none was.
    pub(super) form: Form,
    /// Set when something was refused for want of a fresh proof: whatever the page says then, the proof comes first.
    pub(super) wants_proof: Arc<AtomicBool>,
}

/// A page in the making.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// What a route does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// For anybody.
    Open(fn(Door) -> Answering),
    /// For viewers whose role covers the route's.
    Known(fn(Visit) -> Answering),
}

/// A row of the table that anybody may ask for: the door.
pub(super) fn open(method: Method, pattern: &'static str, act: fn(Door) -> Answering) -> Route<Act> {
    let takes = if method == Method::GET { Takes::NoBody } else { Takes::Body };
    Route { method, pattern, access: Access::Public, query: Vec::new(), takes, handler: Act::Open(act) }
}

/// A row of the table that asks for a role.
pub(super) fn known(method: Method, pattern: &'static str, role: Role, act: fn(Visit) -> Answering) -> Route<Act> {
    // What changes something is a form.
    let takes = if method == Method::GET { Takes::NoBody } else { Takes::Body };
    let (access, handler) = (Access::Role(role), Act::Known(act));
    Route { method, pattern, access, query: Vec::new(), takes, handler }
}

impl Route<Act> {
    /// This row, with the names that its query may have.
    pub(super) fn asking(self, names: &[&'static str]) -> Self {
        Route { query: names.to_vec(), ..self }
    }
}

impl Visit {
    /// The verbs.
    pub(super) fn service(&self) -> &Service {
        &self.house.service
    }

    /// What the viewer sees: of a list that names a tenant (`?tenant=`) that one, if he may.
    pub(super) fn sight(&self) -> Result<Sight, Problem> {
        let caller = self.viewer.caller().clone();
        Ok(caller.naming(self.tenant_asked()?, self.service())?.sight())
    }

    /// The tenant that the query names.
    pub(super) fn tenant_asked(&self) -> Result<Option<TenantId>, Problem> {
        self.asked("tenant")
    }

    /// A value of the query; an empty one, which a form sends for a field that was left alone, is none.
    pub(super) fn asked<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        if self.query.text(name).is_none_or(|text| text.trim().is_empty()) {
            return Ok(None);
        }
        self.query.parse(name)
    }

    /// Asks the API for something in the viewer's name, for a tenant or for his own; what it answers.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        tenant: Option<&TenantId>,
        body: Option<Value>,
    ) -> Result<Value, Problem> {
        let response = self.ask_raw(method, path, tenant, body).await?;
        Ok(json_of(&response))
    }

    /// Asks the API to make something, once for each form that was shown ([`once::field`]): a form that comes again, because it
    /// was sent twice or its answer loaded anew, gets the first answer.
    pub(super) async fn make(&self, path: &str, tenant: Option<&TenantId>, body: Value) -> Result<Value, Problem> {
        let once = once::of(&self.form);
        let made = self.ask_keyed(Method::POST, path, tenant, Some(body), once).await;
        made.map(|response| json_of(&response)).map_err(once::in_words)
    }

    /// As [`Visit::ask`], with the answer as it is.
    pub(super) async fn ask_raw(
        &self,
        method: Method,
        path: &str,
        tenant: Option<&TenantId>,
        body: Option<Value>,
    ) -> Result<Response, Problem> {
        self.ask_keyed(method, path, tenant, body, None).await
    }

    async fn ask_keyed(
        &self,
        method: Method,
        path: &str,
        tenant: Option<&TenantId>,
        body: Option<Value>,
        once: Option<String>,
    ) -> Result<Response, Problem> {
        if asks_for_proof(&method, path, body.as_ref()) && !self.viewer.is_proved() {
            self.wants_proof.store(true, Ordering::Relaxed);
            return Err(Problem::new(ProblemCode::StepUp, "show a code of your authenticator app first"));
        }
        let caller = self.viewer.caller().clone().naming(tenant.cloned(), self.service())?;
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = ::http::Request::builder().method(method).uri(path);
        let request = match once {
            Some(once) => request.header(once::HEADER, once),
            None => request,
        };
        let request = request.body(body);
        let request = request.map_err(|_| Problem::new(ProblemCode::BadId, "the path is malformed"))?;
        (self.house.desk)(Request::whole(request, self.request.peer(), self.request.id()), caller).await
    }
}

fn json_of(response: &Response) -> Value {
    match response.body() {
        // The sample of an event type may be any JSON.
        Body::Whole(bytes) => json::value(bytes).unwrap_or(Value::Null),
        Body::Stream(_) => Value::Null,
    }
}

/// Whether a request to the API asks for a fresh proof of the second factor: what replaces or shows a secret, lets somebody in
/// or gives him more, or opens the network to a destination.
fn asks_for_proof(method: &Method, path: &str, body: Option<&Value>) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    let below = |place: &str| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let changes = *method != Method::GET && *method != Method::HEAD;
    let lets_in = ["/v1/keys", "/v1/users", "/v1/signing-keys"].into_iter().any(below);
    let opens = body.is_some_and(|body| body["allow_private"].as_bool() == Some(true));
    changes && (lets_in || path.ends_with("/secret/rotate") || (below("/v1/destinations") && opens))
}
