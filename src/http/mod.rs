//! HTTP/1.1 for whoever answers requests: the admin API, the ingest socket, the dashboard.
//!
//! This room owns connections and their bounds, what a request and an answer are, and the one form of an error
//! (RFC 9457). It knows nothing of events or destinations: who is asked and what is done stands in the rooms above,
//! which hand in a [`Handler`]. There is no HTTP/2: it would bring more code that strangers can reach than it is worth
//! to an API of this size.

pub mod problem;
pub mod request;
pub mod response;
pub mod route;
pub mod serve;
pub mod tls;
mod unread;

pub use problem::{FieldError, Problem, ProblemCode};
pub use request::{Peer, Query, Request};
pub use response::{Body, Pieces, Response};
pub use route::{Access, Found, Params, Route, Routes};
pub use serve::{Answer, Handler, Listener, Server, Settings};
