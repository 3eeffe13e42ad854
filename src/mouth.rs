//! What the mouths share: how the service's answers are written, on a line of the socket and over HTTP.
//!
//! `POST /v1/events` is one protocol with two doors, the ingest socket and the admin API; its body lives here, so that both
//! answer alike. Who may emit for which tenant is each door's own business.

pub mod caller;
pub mod page;

use ::http::StatusCode;
use serde::Serialize;

use crate::http::problem::{FieldError, Problem, ProblemCode};
use crate::http::request::{Peer, Request, push_segment};
use crate::http::response::Response;
use crate::model::TenantId;
use crate::model::event::NewEvent;
use crate::service::submission::{self, Submission};
use crate::service::{About, Code, Error, EventResult, Rejection, Service, TestError};

/// An event as it was read, or why it cannot be one.
pub type Parsed = Result<Box<NewEvent>, Rejection>;

/// A reply, as it is written: a line of the socket, or a body over HTTP.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// To a ping.
    Pong {
        /// `true`.
        ok: bool,
    },
    /// To an event that is on disk.
    Accepted {
        /// `true`.
        ok: bool,
        /// The event's id.
        id: String,
        /// Whether it had been accepted before.
        duplicate: bool,
        /// How many deliveries it made.
        deliveries: usize,
    },
    /// To whatever was not taken.
    Refused {
        /// `false`.
        ok: bool,
        /// Why.
        error: LineError,
    },
}

/// Why something was not taken, as it is written.
#[derive(Debug, Serialize)]
pub struct LineError {
    code: &'static str,
    message: String,
    retryable: bool,
}

impl Line {
    /// The reply to a ping.
    pub const PONG: Line = Line::Pong { ok: true };

    /// The reply to one event.
    pub fn of(result: &EventResult) -> Self {
        match result {
            Ok(accepted) => Line::Accepted {
                ok: true,
                id: accepted.id.to_string(),
                duplicate: accepted.duplicate,
                deliveries: accepted.deliveries,
            },
            Err(rejection) => Line::refused(rejection),
        }
    }

    /// The reply to what was not taken.
    pub fn refused(rejection: &Rejection) -> Self {
        let (code, message) = (rejection.code, rejection.message());
        Line::Refused { ok: false, error: LineError { code: code.as_str(), message, retryable: code.is_retryable() } }
    }
}

/// Takes what a `POST /v1/events` carries: 202, a duplicate 200; a batch 202 with a result each.
///
/// The body has so many bytes at most. `tenant` is whose events are that name none; `admit` refuses those that this caller may not
/// emit.
pub async fn post_events(
    service: &Service,
    mut request: Request,
    body_max: usize,
    tenant: &TenantId,
    admit: impl Fn(Parsed) -> Parsed,
) -> Result<Response, Problem> {
    let peer = match request.peer() {
        Peer::Unix(peer) => Some(peer),
        Peer::Tcp(_) => None,
    };
    request.says_json_or_form()?;
    let body = request.body(body_max).await?;
    match submission::parse(&body, tenant)? {
        Submission::Ping => Ok(Response::json(StatusCode::OK, &Line::PONG)),
        Submission::One(event) => {
            let result = service.hand_in(vec![admit(event)], peer).await.result().await;
            let status = match &result {
                Ok(accepted) if accepted.duplicate => StatusCode::OK,
                Ok(_) => StatusCode::ACCEPTED,
                Err(rejection) => return Err(rejection.clone().into()),
            };
            Ok(Response::json(status, &Line::of(&result)))
        }
        Submission::Batch(events) => {
            let events = events.into_iter().map(admit).collect();
            let results = service.hand_in(events, peer).await.results().await;
            Ok(Response::json(StatusCode::ACCEPTED, &results.iter().map(Line::of).collect::<Vec<_>>()))
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let Rejection { code, why, about } = rejection;
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
        match about {
            None => Problem::new(code, why),
            Some(About::Whole) => Problem::of_fields(code, vec![FieldError { pointer: String::new(), detail: why }]),
            Some(About::Member(name)) => {
                let mut pointer = String::new();
                push_segment(&mut pointer, &name);
                Problem::of_fields(code, vec![FieldError { pointer, detail: why }])
            }
        }
    }
}

impl From<TestError> for Problem {
    fn from(error: TestError) -> Self {
        match error {
            TestError::NotNow(error) => error.into(),
            TestError::Refused(rejection) => rejection.into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) => Problem::new(ProblemCode::NotFound, error.to_string()),
            Error::Conflict(detail) => Problem::new(ProblemCode::Conflict, detail),
            Error::Invalid { pointer, detail } => {
                Problem::of_fields(ProblemCode::BadField, vec![FieldError { pointer: pointer.to_owned(), detail }])
            }
            Error::UnknownType => Problem::new(ProblemCode::UnknownType, error.to_string()),
            Error::Busy(detail) => Problem::new(ProblemCode::Busy, detail),
            Error::Store(detail) => Problem::new(ProblemCode::StoreFailed, detail),
            Error::Damaged(detail) => Problem::new(ProblemCode::Internal, detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 6901: the pointer of a field is the name as it was sent, however it is written in words and however long it is. Only a
    /// card number is not repeated.
    #[test]
    fn the_pointer_of_a_member_names_it() {
        let long = "n".repeat(200);
        let table = [
            (json!({"a\"b": 1}), "/a\"b"),
            (json!({"": 1}), "/"),
            (json!({"a/b~c": 1}), "/a~1b~0c"),
            (json!({"\u{1}ä": 1}), "/\u{1}ä"),
            (json!({&long: 1}), &format!("/{long}")),
            (json!({"4111111111111111": 1}), "/************1111"),
            (json!({"specversion": "1.0", "A": 1}), "/A"),
            (json!({"type": 1}), "/type"),
            (json!([]), ""),
        ];
        for (sent, pointer) in table {
            let rejection = match submission::parse(sent.to_string().as_bytes(), &TenantId::default_tenant()) {
                Err(rejection) | Ok(Submission::One(Err(rejection))) => rejection,
                other => panic!("{sent}: {other:?}"),
            };
            let problem = Problem::from(rejection);
            let pointers: Vec<_> = problem.errors().iter().map(|error| error.pointer.as_str()).collect();
            assert_eq!(pointers, [pointer], "{sent}");
            assert!(!problem.errors()[0].detail.contains(&sent.to_string()), "{problem:?}");
        }
    }
}
