//! HTTP/1.1 on the ingest socket: `POST /v1/events` for one event or a batch, so that `curl --unix-socket` works.

use ::http::StatusCode;

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Peer, Request};
use crate::http::response::Response;
use crate::http::serve::Handler;
use crate::model::TenantId;
use crate::service::submission::{self, Submission};
use crate::service::{Code, EventResult, Rejection, Service};

use super::allow::{self, Allowed, Rule};
use super::lines::{Line, allowed};

/// Answers the requests of the ingest socket.
pub(super) fn handler(service: Service, rules: Vec<Rule>, body_max: usize) -> impl Handler {
    move |mut request: Request| {
        let service = service.clone();
        let peer = match request.peer() {
            Peer::Unix(peer) => Some(peer),
            Peer::Tcp(_) => None,
        };
        let may = peer.as_ref().map_or(Allowed::These(Default::default()), |peer| allow::of(&rules, peer));
        async move {
            match (request.method().as_str(), request.path()) {
                ("POST", "/v1/events") => {}
                (_, "/v1/events") => return Err(Problem::method_not_allowed("POST".to_owned())),
                _ => {
                    let detail = "the ingest socket takes POST /v1/events only; the admin API has a socket of its own";
                    return Err(Problem::new(ProblemCode::NotFound, detail));
                }
            }
            let body = request.body(body_max).await?;
            post(&service, &body, &TenantId::default_tenant(), peer, |event| allowed(&may, event)).await
        }
    }
}

type Parsed = Result<Box<crate::model::event::NewEvent>, Rejection>;

/// Takes what a `POST /v1/events` carries: 202, a duplicate 200; a batch 202 with a result each.
pub async fn post(
    service: &Service,
    body: &[u8],
    tenant: &TenantId,
    peer: Option<crate::model::event::Peer>,
    admit: impl Fn(Parsed) -> Parsed,
) -> Result<Response, Problem> {
    match submission::parse(body, tenant).map_err(problem)? {
        Submission::Ping => Ok(Response::json(StatusCode::OK, &Line::Pong { ok: true })),
        Submission::One(event) => {
            let result = service.hand_in(vec![admit(event)], peer).await.result().await;
            let status = match &result {
                Ok(accepted) if accepted.duplicate => StatusCode::OK,
                Ok(_) => StatusCode::ACCEPTED,
                Err(rejection) => return Err(problem(rejection.clone())),
            };
            Ok(Response::json(status, &Line::of(&result)))
        }
        Submission::Batch(events) => {
            let results: Vec<EventResult> =
                service.hand_in(events.into_iter().map(admit).collect(), peer).await.results().await;
            Ok(Response::json(StatusCode::ACCEPTED, &results.iter().map(Line::of).collect::<Vec<_>>()))
        }
    }
}

/// A rejection as HTTP tells it.
fn problem(rejection: Rejection) -> Problem {
    let Rejection { code, message } = rejection;
    let code = match code {
        Code::BadJson => ProblemCode::BadJson,
        Code::UnknownField => ProblemCode::UnknownField,
        Code::BadField => ProblemCode::BadField,
        Code::TooLarge => ProblemCode::TooLarge,
        Code::UnknownTenant => ProblemCode::UnknownTenant,
        Code::UnknownType => ProblemCode::UnknownType,
        Code::NotAllowed => ProblemCode::NotAllowed,
        Code::IdConflict => ProblemCode::IdConflict,
        Code::Expired => ProblemCode::Expired,
        Code::QueueFull => ProblemCode::QueueFull,
        Code::DiskLow => ProblemCode::DiskLow,
        Code::Draining => ProblemCode::Draining,
        Code::StoreFailed => ProblemCode::StoreFailed,
    };
    Problem::new(code, message)
}
