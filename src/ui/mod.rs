//! The dashboard: pages that the daemon writes itself, for people.
//!
//! Everything of it lies below `/ui`, and `/` leads there. A page is made from the service's verbs, as an answer of the API
//! is. A form is a request to the API ([`Desk`]), made for the person who is logged in: so each change is weighed, allowed,
//! refused and noted in one place, and a page can do nothing that the API cannot.
//!
//! Pages work without script, as far as a page can; `assets/app.js` adds what it cannot. There is no markup but what
//! [`maud`] writes, which escapes every text by default; the content security policy lets nothing run or be styled but the
//! files of this room.

mod act;
mod assets;
mod between;
mod chart;
pub mod facts;
mod fields;
mod form;
mod layout;
mod once;
mod pages;
mod filters;
mod parts;
pub mod session;
pub mod viewer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY};
use ::http::{Method, StatusCode};

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Query, Request};
use crate::http::response::Response;
use crate::http::route::{Access, Found, Route, Routes, Takes};
use crate::http::serve::{Answer, Handler};
use crate::mouth::caller::Caller;
use crate::service::Service;

use act::{Act, Door, House, Visit};
use between::Proving;
use facts::Look;
use form::Form;
use session::Turned;
use viewer::Viewer;

/// Where the dashboard begins.
pub const ROOT: &str = "/ui/";
/// The person's first page, when there is none yet.
pub const LOGIN: &str = "/ui/login";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// What the dashboard has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A form's bytes at most; default 1 MiB, as a body of the API.
    pub form_bytes_max: usize,
    /// Host names, beside `localhost` and addresses, under which browsers reach the dashboard (`admin.hosts`).
    pub hosts: Arc<[String]>,
    /// Whether the listener itself speaks TLS.
    pub tls: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { form_bytes_max: 1 << 20, hosts: Arc::default(), tls: false }
    }
}

/// Takes requests to the API for somebody whom the dashboard has let in.
pub type Desk = dyn Fn(Request, Caller) -> Answer + Send + Sync;

/// The dashboard. Clones share it.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    house: House,
    routes: Routes<Act>,
}

impl Ui {
    /// The dashboard over these verbs; its forms go to this desk, and what only the daemon knows is looked up so.
    pub fn new(service: Service, settings: Settings, desk: Arc<Desk>, facts: Arc<Look>) -> Self {
        let routes = Routes::new(pages::routes()).expect("the tests build the same table");
        Ui(Arc::new(Inner { house: House { service, settings, desk, facts }, routes }))
    }

    /// Whether a path is the dashboard's: `/`, `/ui` and everything below.
    pub fn owns(path: &str) -> bool {
        path == "/" || path == "/ui" || path.starts_with(ROOT)
    }

    /// What answers requests to such paths.
    pub fn handler(self) -> impl Handler + Clone {
        move |request: Request| {
            let ui = Arc::clone(&self.0);
            async move { Ok(ui.answer(request).await) }
        }
    }
}

impl Inner {
    async fn answer(&self, request: Request) -> Response {
        fenced(match request.path() {
            "/" | "/ui" => to(ROOT),
            path => match assets::find(path) {
                Some(asset) => assets::answer(asset, &request),
                None => self.route(request).await,
            },
        })
    }

    async fn route(&self, request: Request) -> Response {
        if let Err(problem) = session::knows_host(&request, &self.house.settings) {
            return layout::failure(None, &problem, None);
        }
        let viewer = session::viewer_of(&request, &self.house.service, &self.house.settings);
        self.serve(request, viewer).await
    }

    async fn serve(&self, request: Request, viewer: Result<Viewer, Turned>) -> Response {
        let found = self.routes.find(request.method(), request.path());
        if let Ok(Found { route, params: _ }) = &found
            && let Act::Open(act) = route.handler
        {
            let door = Door { house: self.house.clone(), request };
            return act(door).await.unwrap_or_else(|problem| layout::failure(None, &problem, None));
        }
        // Whoever is not known is not told what is there and what is not.
        let viewer = match viewer {
            Ok(viewer) => viewer,
            Err(Turned::To(path)) => return to(&path),
            Err(Turned::Refused(problem)) => return layout::failure(None, &problem, None),
        };
        let known = viewer.clone();
        let back = matches!(*request.method(), Method::POST).then(|| session::page_of(&request));
        let back = back.filter(|back| session::is_page(back));
        let answered = match found {
            Ok(found) => self.serve_known(found, request, viewer).await,
            Err(problem) => Err(problem),
        };
        answered
            .unwrap_or_else(|problem| layout::failure(Some((&known, &self.house.service)), &problem, back.as_deref()))
    }

    async fn serve_known(
        &self,
        Found { route, params }: Found<'_, Act>,
        mut request: Request,
        viewer: Viewer,
    ) -> Result<Response, Problem> {
        let Act::Known(act) = route.handler else {
            return Err(Problem::new(ProblemCode::Internal, "an open page was met twice"));
        };
        self.lets_in(route.access, &viewer, &request)?;
        let (query, form) = self.read(&mut request, route).await?;
        let proving = Proving::of(&self.house, &request, &form);
        let viewer = match proving.weigh(viewer, &request).await {
            Ok(viewer) => viewer,
            Err(page) => return Ok(page),
        };
        let (house, wants_proof) = (self.house.clone(), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&wants_proof);
        let visit = Visit { house, viewer: viewer.clone(), params, query, request, form, wants_proof };
        let answered = act(visit).await;
        match asked.load(Ordering::Relaxed) {
            true => Ok(proving.page(&viewer, None)),
            false => answered,
        }
    }

    /// What a request asks for by its query, and the form that it brings.
    async fn read(&self, request: &mut Request, route: &Route<Act>) -> Result<(Query, Form), Problem> {
        let query = request.query()?;
        query.only(&route.query)?;
        let form = match route.takes {
            Takes::Body => Form::read(request, self.house.settings.form_bytes_max).await?,
            Takes::NoBody => Form::default(),
        };
        Ok((query, form))
    }

    fn lets_in(&self, access: Access, viewer: &Viewer, request: &Request) -> Result<(), Problem> {
        if let Access::Role(needed) = access
            && !viewer.role().covers(needed)
        {
            let detail = format!("this asks for the role {}; yours is {}", needed.as_str(), viewer.role().as_str());
            return Err(Problem::new(ProblemCode::Forbidden, detail));
        }
        match *request.method() {
            Method::GET | Method::HEAD => Ok(()),
            _ => session::from_own_page(request),
        }
    }
}

/// See other: what a form leads to, or where something else is to be seen.
fn to(path: &str) -> Response {
    let place = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static(ROOT));
    Response::empty(StatusCode::SEE_OTHER).with_header(LOCATION, place)
}

/// The answer, with what keeps a page from running anything, being framed, and telling others where it is.
fn fenced(response: Response) -> Response {
    response
        .with_header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
        // Not less: a form that tells no origin at all could not be told from a stranger's.
        .with_header(REFERRER_POLICY, HeaderValue::from_static("same-origin"))
        .with_header(OPENER_POLICY, HeaderValue::from_static("same-origin"))
}

#[cfg(test)]
mod tests;
