//! Errors as a caller sees them: RFC 9457 `application/problem+json`, with a closed list of codes.
//!
//! A [`Problem`] is what a handler returns instead of an answer; the server adds the request's id and writes it. Its
//! texts are shown to the caller and may be logged by him, so they never repeat a value that was sent: they name the
//! place and the rule.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use super::response::Response;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $title:literal;)*) => {
        /// What kind of problem it is: decides the status and the title, and is what a program should compare.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemCode { $($(#[$doc])* $variant,)* }

        impl ProblemCode {
            /// Every code there is.
            pub const ALL: &[ProblemCode] = &[$(ProblemCode::$variant,)*];

            /// The code's name in the body.
            pub fn as_str(self) -> &'static str {
                match self { $(ProblemCode::$variant => $name,)* }
            }

            /// The status that goes with it.
            pub fn status(self) -> http::StatusCode {
                let status: u16 = match self { $(ProblemCode::$variant => $status,)* };
                http::StatusCode::from_u16(status).expect("the table holds statuses of HTTP only")
            }

            /// The same for every occurrence: what is wrong, without the particulars.
            pub fn title(self) -> &'static str {
                match self { $(ProblemCode::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    BadJson = "bad_json", 400, "The body is not valid JSON";
    /// The body has a field that does not exist.
    UnknownField = "unknown_field", 400, "The body has an unknown field";
    /// A field of the body breaks its rule.
    BadField = "bad_field", 400, "A field of the body is not valid";
    /// The query string, or a parameter in it, breaks its rule.
    BadQuery = "bad_query", 400, "The query is not valid";
    /// A request header breaks its rule.
    BadHeader = "bad_header", 400, "A request header is not valid";
    /// The request is not what HTTP/1.1 asks for.
    BadRequest = "bad_request", 400, "The request is not valid HTTP/1.1";
    /// An id in the path is malformed.
    BadId = "bad_id", 400, "The id is malformed";
    /// The body could not be read to its end.
    BadBody = "bad_body", 400, "The body could not be read";
    /// The tenant does not exist.
    UnknownTenant = "unknown_tenant", 400, "The tenant does not exist";
    /// The event type does not exist, and only known types are taken.
    UnknownType = "unknown_type", 400, "The event type does not exist";
    /// The event had already expired.
    Expired = "expired", 400, "The event has expired";
    /// No key, an unknown one, or several that differ.
    Unauthorized = "unauthorized", 401, "A valid key is required";
    /// The key's role or tenant does not allow it.
    Forbidden = "forbidden", 403, "The key does not allow this";
    /// The installation's rules do not let this caller do it.
    NotAllowed = "not_allowed", 403, "The caller is not allowed to do this";
    /// Nothing is there, or nothing that this caller may know of.
    NotFound = "not_found", 404, "There is nothing here";
    /// It asks for a fresh proof of the person's second factor.
    StepUp = "step_up", 403, "A fresh proof of the second factor is required";
    /// The path exists, the method does not apply to it.
    MethodNotAllowed = "method_not_allowed", 405, "The method does not apply here";
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", 408, "The request took too long to arrive";
    /// The thing's present state does not allow it.
    Conflict = "conflict", 409, "The present state does not allow this";
    /// The producer's id is taken by another event.
    IdConflict = "id_conflict", 409, "The id belongs to another event";
    /// A request with this key is under way.
    IdempotencyInProgress = "idempotency_in_progress", 409, "The first request with this key is under way";
    /// Whether a request with this key was done is not known.
    IdempotencyUnknown = "idempotency_unknown", 409, "Whether the first request with this key was done is not known";
    /// A request with this key was done, and its answer was too large to be kept.
    IdempotencyNotKept = "idempotency_not_kept", 409, "The answer to the first request with this key was not kept";
    /// The body is over its limit.
    TooLarge = "too_large", 413, "The body is too large";
    /// The body is not of a type that is read here.
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not read here";
    /// The request line and the headers are over their limit.
    HeadTooLarge = "head_too_large", 431, "The request's head is too large";
    /// The key stands for another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The key stands for another request";
    /// A fault of ours.
    Internal = "internal", 500, "Something went wrong here";
    /// As many answers without an end are being given as may be.
    TooManyStreams = "too_many_streams", 503, "Too many streams are open";
    /// As much of this as may be is under way.
    Busy = "busy", 503, "Too much of this is under way";
    /// Too much waits already.
    QueueFull = "queue_full", 503, "The queue is full";
    /// The disk is too full to take more.
    DiskLow = "disk_low", 503, "The disk is low";
    /// The daemon is stopping.
    Draining = "draining", 503, "The daemon is stopping";
    /// The store has failed and takes nothing until it has been reopened.
    StoreFailed = "store_failed", 503, "The store has failed";
}

impl ProblemCode {
    /// Whether the same request may succeed a little later; such answers carry `Retry-After`.
    pub fn is_retryable(self) -> bool {
        self.status() == http::StatusCode::SERVICE_UNAVAILABLE || self == ProblemCode::IdempotencyInProgress
    }
}

/// One field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: a JSON pointer (RFC 6901) into the body, the empty text for the whole of it; `?name` for a parameter of the query,
    /// `{name}` for one of the path. Neither can be taken for a pointer, which begins with a slash.
    pub pointer: String,
    /// What rule it breaks, in words; never the value.
    pub detail: String,
}

/// Why a request was not answered as it wished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldError>,
    /// The methods that do apply, on a 405.
    allow: Option<String>,
}

#[derive(Serialize)]
struct View<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    errors: &'a [FieldError],
    request_id: &'a str,
}

impl Problem {
    /// A problem of this kind; `detail` says what the matter is this time.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into(), errors: Vec::new(), allow: None }
    }

    /// A problem with fields of the body, each with its place. The detail counts them when there are several.
    pub fn of_fields(code: ProblemCode, errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [FieldError { pointer, detail }] if pointer.is_empty() => detail.clone(),
            [FieldError { pointer, detail }] => format!("{}: {detail}", pointer.escape_debug()),
            several => format!("{} fields are not valid; see errors", several.len()),
        };
        Problem { code, detail, errors, allow: None }
    }

    /// A problem with one parameter of the query: its pointer is `?` and its name.
    pub fn of_parameter(name: &str, why: impl fmt::Display) -> Self {
        let (pointer, detail) = (format!("?{name}"), format!("{name}: {why}"));
        Problem {
            errors: vec![FieldError { pointer, detail: why.to_string() }],
            ..Problem::new(ProblemCode::BadQuery, detail)
        }
    }

    /// A problem with one parameter of the path: its pointer is the name in braces.
    pub fn of_path(name: &str, why: impl fmt::Display) -> Self {
        let (pointer, detail) = (format!("{{{name}}}"), format!("{name}: {why}"));
        Problem {
            errors: vec![FieldError { pointer, detail: why.to_string() }],
            ..Problem::new(ProblemCode::BadId, detail)
        }
    }

    /// A 405 that names the methods that do apply.
    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("this path takes {allow}");
        Problem { allow: Some(allow), ..Problem::new(ProblemCode::MethodNotAllowed, detail) }
    }

    /// What kind it is.
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// What the matter is this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields and parameters that are wrong, if it is about some.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The problem as an answer to the request of this id.
    pub fn into_response(self, request_id: &str) -> Response {
        let view = View {
            r#type: format!("urn:postrider:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            errors: &self.errors,
            request_id,
        };
        let body = serde_json::to_vec(&view).expect("a problem is plain texts and numbers");
        let mut response = Response::bytes(self.code.status(), "application/problem+json", Bytes::from(body));
        // RFC 9110 asks for each of these with its status.
        if let Some(Ok(allow)) = self.allow.as_deref().map(HeaderValue::from_str) {
            response = response.with_header(ALLOW, allow);
        }
        if self.code == ProblemCode::Unauthorized {
            response = response.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"postrider\""));
        }
        if self.code.is_retryable() {
            response = response.with_header(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::Body;
    use super::*;
    use http::header::CONTENT_TYPE;

    fn body(response: &Response) -> serde_json::Value {
        let Body::Whole(body) = response.body() else { panic!("a problem is no stream") };
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn a_problem_has_every_member_of_the_interface() {
        let errors = vec![FieldError { pointer: "/name".into(), detail: "must have 1 to 124 characters".into() }];
        let response = Problem::of_fields(ProblemCode::BadField, errors).into_response("req_1");
        assert_eq!(response.status(), 400);
        assert_eq!(response.header(&CONTENT_TYPE).unwrap(), "application/problem+json");
        assert_eq!(
            body(&response),
            serde_json::json!({
                "type": "urn:postrider:problem:bad_field",
                "title": "A field of the body is not valid",
                "status": 400,
                "detail": "/name: must have 1 to 124 characters",
                "code": "bad_field",
                "errors": [{"pointer": "/name", "detail": "must have 1 to 124 characters"}],
                "request_id": "req_1",
            })
        );
    }

    #[test]
    fn codes_are_distinct_and_carry_the_headers_that_http_asks_for() {
        let mut names: Vec<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ProblemCode::ALL.len());
        for &code in ProblemCode::ALL {
            let response = Problem::new(code, "so").into_response("r");
            assert_eq!(response.header(&RETRY_AFTER).is_some(), code.is_retryable(), "{code:?}");
            assert_eq!(response.header(&WWW_AUTHENTICATE).is_some(), code == ProblemCode::Unauthorized, "{code:?}");
        }
        let refused = Problem::method_not_allowed("GET, HEAD".into()).into_response("r");
        assert_eq!(refused.header(&ALLOW).unwrap(), "GET, HEAD");
    }

    #[test]
    fn retryable_codes_are_those_of_the_ingest_list_and_of_what_is_busy() {
        let retryable: Vec<_> =
            ProblemCode::ALL.iter().filter(|code| code.is_retryable()).map(|code| code.as_str()).collect();
        assert_eq!(
            retryable,
            [
                "idempotency_in_progress",
                "too_many_streams",
                "busy",
                "queue_full",
                "disk_low",
                "draining",
                "store_failed"
            ]
        );
    }
}
