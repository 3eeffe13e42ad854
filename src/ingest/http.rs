//! HTTP/1.1 on the ingest socket: `POST /v1/events` for one event or a batch, so that `curl --unix-socket` works.

use std::sync::Arc;

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Peer, Request};
use crate::http::serve::Handler;
use crate::mouth;
use crate::service::Service;

use super::allow::{Allowed, Rules};
use super::lines::allowed;
use super::{LongLines, SHORT_LINE, default_tenant};

/// Answers the requests of the ingest socket.
pub(super) fn handler(service: Service, rules: Arc<Rules>, body_max: usize, long: LongLines) -> impl Handler {
    move |request: Request| {
        let service = service.clone();
        let peer = match request.peer() {
            Peer::Unix(peer) => Some(peer),
            Peer::Tcp(_) => None,
        };
        let (rules, long) = (Arc::clone(&rules), long.clone());
        async move {
            match (request.method().as_str(), request.path()) {
                ("POST", "/v1/events") => {}
                (_, "/v1/events") => return Err(Problem::method_not_allowed("POST".to_owned())),
                _ => {
                    let detail = "the ingest socket takes POST /v1/events only; the admin API has a socket of its own";
                    return Err(Problem::new(ProblemCode::NotFound, detail));
                }
            }
            let may = match peer {
                Some(peer) => rules.allow(peer).await,
                None => Allowed::These(Default::default()),
            };
            let length = request.header("content-length")?.and_then(|length| length.parse::<usize>().ok());
            let _room = match length {
                Some(length) if length <= SHORT_LINE => None,
                Some(_) | None => Some(long.room().await),
            };
            mouth::post_events(&service, request, body_max, &default_tenant(), |event| allowed(&may, event)).await
        }
    }
}
