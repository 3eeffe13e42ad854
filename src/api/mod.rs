//! The admin API: what callers write and read over HTTP, and who may.
//!
//! The wire's own types live here and nowhere else: a request becomes a value of the model at the door, or an error that
//! names each wrong field; a view shows a value of the model without its secrets. What is done with them is the
//! service's business.

pub mod credentials;
pub mod door;
pub mod native;
pub mod page;
/// The bounds of the API.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The longest URL of a destination, in characters.
    pub url_chars_max: usize,
    /// The largest body of `POST /v1/events`, in bytes.
    pub event_bytes_max: usize,
}

/// Answers the admin API's requests: whether the daemon lives, until its routes are there.
pub fn handler(_service: crate::service::Service, _settings: Settings) -> impl crate::http::Handler {
    |request: crate::http::Request| async move {
        match request.path() {
            "/healthz" => Ok(crate::http::Response::json(http::StatusCode::OK, &serde_json::json!({ "status": "ok" }))),
            _ => Err(crate::http::Problem::new(crate::http::ProblemCode::NotFound, "there is nothing at this path")),
        }
    }
}
