//! Answers: a status, a few headers, a body that is known in full.
//!
//! Every answer carries `Content-Length` (204 aside, which has no body), `X-Content-Type-Options: nosniff`,
//! `Cache-Control: no-store` (unless the handler said otherwise) and `X-Request-Id`.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::Full;
use serde::Serialize;

const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer to one request.
#[derive(Debug, Clone)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Response { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// `view` as JSON.
    ///
    /// # Panics
    ///
    /// When `view` cannot be written as JSON: views are made of texts, numbers, lists and maps with text keys, and those always can.
    pub fn json<T: Serialize>(status: StatusCode, view: &T) -> Self {
        let body = serde_json::to_vec(view).expect("views are plain data with text keys");
        Response::bytes(status, "application/json", Bytes::from(body))
    }

    /// These bytes, of this content type.
    pub fn bytes(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Response { status, headers, body }
    }

    /// The same with this header set.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A header of it, if it was set.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// Its body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The answer in the form that hyper writes, to a request of this method and id. A HEAD gets the head only.
    pub(super) fn into_hyper(self, method: &Method, request_id: &str) -> http::Response<Full<Bytes>> {
        let Response { status, mut headers, body } = self;
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Ok(request_id) = HeaderValue::from_str(request_id) {
            headers.insert(X_REQUEST_ID, request_id);
        }
        if status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let body = if method == Method::HEAD { Bytes::new() } else { body };
        let mut response = http::Response::new(Full::new(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_carries_its_length_and_the_security_headers() {
        let answer = Response::json(StatusCode::OK, &serde_json::json!({"a": 1})).into_hyper(&Method::GET, "req_1");
        let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(header("content-length"), "7");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-request-id"), "req_1");
    }

    #[test]
    fn a_204_has_no_length() {
        let answer = Response::empty(StatusCode::NO_CONTENT).into_hyper(&Method::DELETE, "req_1");
        assert!(!answer.headers().contains_key("content-length"));
    }
}
