//! The admin API: what callers write and read over HTTP, and who may.
//!
//! One [`Api`] serves `admin.sock` and TCP. Of each request it finds the route, then who is calling, then whether that
//! role may do this, and only then looks at ids and bodies. Every route is a row of one table that says which role it asks
//! for; whoever adds a row is held to the tests over the whole table.
//!
//! The wire's own types live here and nowhere else: a request becomes a value of the model at the door, or an error that
//! names each wrong field; a view shows a value of the model without its secrets. What is done with them is the
//! service's business.
//!
//! [`native`] is the API of this product; [`dialects`] are those of other systems. A new dialect is a file there and a line in
//! its list, and its section `[dialects.NAME]` in the configuration.

pub mod caller;
pub mod credentials;
pub mod dialects;
pub mod door;
pub mod idempotency;
pub mod metrics;
pub mod native;
mod openapi;
pub mod tail;

use std::pin::Pin;
use std::sync::Arc;

use ::http::Method;

use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::route::{Access, Found, Params, Route, Routes, Takes};
use crate::http::serve::Handler;
use crate::model::Role;
use crate::service::Service;

pub use crate::mouth::page;

use caller::Caller;
use idempotency::{Keyed, UnderWay};
use metrics::Metrics;
use native::destination::Limits;
use tail::Tail;

/// What the admin API has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bounds on destinations.
    pub limits: Limits,
    /// A body's bytes at most, those of events aside; default 1 MiB.
    pub body_bytes_max: usize,
    /// Bytes of a `POST /v1/events` at most, as on the ingest socket (`ingest.line_max`); default 1 MiB.
    pub events_bytes_max: usize,
    /// Which dialects are spoken, and how.
    pub dialects: Arc<dialects::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            limits: Limits::default(),
            body_bytes_max: 1 << 20,
            events_bytes_max: 1 << 20,
            dialects: Arc::default(),
        }
    }
}

/// The admin API. Clones share it.
///
/// A request over a Unix socket that shows no key comes from the operator, since the socket's mode decided who may open it;
/// one over TCP needs a key, but for what is public.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

impl Api {
    /// The API over these verbs.
    pub fn new(service: Service, settings: Settings, metrics: Metrics, tail: Tail) -> Self {
        let routes = Routes::new(routes(&settings)).expect("the tests build the same table");
        let under_way = UnderWay::default();
        Api(Arc::new(Inner { house: House { service, settings, metrics, tail }, routes, under_way }))
    }

    /// What answers the requests of `admin.sock` and of the TCP listener.
    pub fn handler(self) -> impl Handler + Clone {
        move |request: Request| {
            let api = Arc::clone(&self.0);
            async move { api.answer(request).await }
        }
    }

    /// The answer to a request of somebody whom another mouth has let in; which keys the request shows does not matter.
    /// It is not kept for a repetition: `Idempotency-Key` is for callers of the API itself.
    pub async fn answer_for(self, request: Request, caller: Caller) -> Result<Response, Problem> {
        self.0.answer_for(request, caller).await
    }
}

/// Every route that there is.
fn routes(settings: &Settings) -> Vec<Route<Act>> {
    native::routes().into_iter().chain(dialects::routes(&settings.dialects)).collect()
}

struct Inner {
    house: House,
    routes: Routes<Act>,
    under_way: UnderWay,
}

/// What every act has at hand.
#[derive(Clone)]
struct House {
    service: Service,
    settings: Settings,
    metrics: Metrics,
    tail: Tail,
}

/// One request on its way through its act.
struct Call {
    service: Service,
    settings: Settings,
    metrics: Metrics,
    tail: Tail,
    params: Params,
    request: Request,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// What a route does. Only an act that asks for a role is told who is calling, and only once the role has been found to do.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// For anybody.
    Open(fn(Call) -> Answering),
    /// For callers whose role covers the route's.
    Known(fn(Call, Caller) -> Answering),
}

impl Inner {
    async fn answer(&self, mut request: Request) -> Result<Response, Problem> {
        let Found { route, params } = self.routes.find(request.method(), request.path())?;
        let House { service, settings, metrics, tail } = self.house.clone();
        // A parameter that went unnoticed would do more than was asked for: a misspelt filter as much as a
        // `dry_run` that nobody knows. So would a body that nobody reads.
        // What is open to anybody reads no parameter and changes nothing, and probes add their own.
        let known_query = |request: &Request| request.query()?.only(&route.query);
        match route.handler {
            Act::Open(act) => act(Call { service, settings, metrics, tail, params, request }).await,
            Act::Known(act) => {
                let caller = caller::of(&request, route.access, &service)?;
                known_query(&request)?;
                let body_bytes_max = settings.body_bytes_max.max(settings.events_bytes_max);
                match route.takes {
                    Takes::NoBody => door::no_body(&request.body(settings.body_bytes_max).await?)?,
                    Takes::Body => {}
                }
                let keyed = Keyed::of(&mut request, &caller, body_bytes_max).await?;
                let keeper = service.clone();
                let call = Call { service, settings, metrics, tail, params, request };
                match keyed {
                    None => act(call, caller).await,
                    Some(keyed) => keyed.answer(&self.under_way, keeper, move || act(call, caller)).await,
                }
            }
        }
    }

    async fn answer_for(&self, mut request: Request, caller: Caller) -> Result<Response, Problem> {
        let Found { route, params } = self.routes.find(request.method(), request.path())?;
        let House { service, settings, metrics, tail } = self.house.clone();
        caller::lets_in(&caller, route.access)?;
        request.query()?.only(&route.query)?;
        let body_bytes_max = settings.body_bytes_max.max(settings.events_bytes_max);
        let keyed = Keyed::of(&mut request, &caller, body_bytes_max).await?;
        let keeper = service.clone();
        let call = Call { service, settings, metrics, tail, params, request };
        match (route.handler, keyed) {
            (Act::Open(act), _) => act(call).await,
            (Act::Known(act), None) => act(call, caller).await,
            (Act::Known(act), Some(keyed)) => keyed.answer(&self.under_way, keeper, move || act(call, caller)).await,
        }
    }
}

/// A row of the table that anybody may call.
fn open(method: Method, pattern: &'static str, act: fn(Call) -> Answering) -> Route<Act> {
    let (access, takes, handler) = (Access::Public, Takes::NoBody, Act::Open(act));
    Route { method, pattern, access, query: Vec::new(), takes, handler }
}

/// A row of the table that asks for a role.
fn known(method: Method, pattern: &'static str, role: Role, act: fn(Call, Caller) -> Answering) -> Route<Act> {
    let (access, takes, handler) = (Access::Role(role), Takes::NoBody, Act::Known(act));
    Route { method, pattern, access, query: Vec::new(), takes, handler }
}

impl Route<Act> {
    /// This row, of a list: its query may have the names of a page and of these filters.
    fn list(self, filters: &[&'static str]) -> Self {
        Route { query: [&page::PARAMETERS[..], filters].concat(), ..self }
    }

    /// This row, with the names that its query may have.
    fn taking(self, names: &[&'static str]) -> Self {
        Route { query: names.to_vec(), ..self }
    }

    /// This row, with a body that its act reads.
    fn with_body(self) -> Self {
        Route { takes: Takes::Body, ..self }
    }
}

#[cfg(test)]
mod tests;
