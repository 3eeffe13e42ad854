//! `GET /openapi.json`: the description of this API, an OpenAPI 3.1 document that is kept by hand beside the code.
//!
//! The tests hold it to the routes in both directions, and every answer that they get to its schemas.

use ::http::StatusCode;
use bytes::Bytes;

use super::Call;
use crate::http::problem::Problem;
use crate::http::response::Response;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn read(_: Call) -> Result<Response, Problem> {
    Ok(Response::bytes(StatusCode::OK, "application/json", Bytes::from_static(DOCUMENT.as_bytes())))
}
