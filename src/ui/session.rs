//! Who sent a request to the dashboard, and whether it came from one of its own pages.
//!
//! Over `admin.sock` that is the operator, since the socket's mode decided who may open it. Over TCP nobody is let in
//! without a session: every page leads to the login.

use ::http::header::{HOST, ORIGIN};

use super::LOGIN;
use super::viewer::Viewer;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Peer, Request};
use crate::model::Role;
use crate::model::audit::{Actor, Origin, Who};
use crate::mouth::caller::Caller;
use crate::service::Service;

/// Why a request reaches no page.
#[derive(Debug)]
pub enum Turned {
    /// Something else comes first, there.
    To(String),
    /// It is refused.
    Refused(Problem),
}

/// Who sent the request.
pub fn viewer_of(request: &Request, _: &Service) -> Result<Viewer, Turned> {
    match request.peer() {
        Peer::Unix(peer) => {
            let actor = Actor {
                who: Who::Operator { uid: peer.uid },
                from: Origin::Socket(peer),
                request: Some(request.id().to_owned()),
            };
            Ok(Viewer::operator(Caller::new(Role::Admin, None, actor)))
        }
        Peer::Tcp(_) => Err(Turned::To(LOGIN.to_owned())),
    }
}

/// A 403 unless a request that changes something was sent by a page of the dashboard: `Sec-Fetch-Site` says so, or, of
/// browsers that do not tell it, `Origin` is the host that was asked.
pub fn from_own_page(request: &Request) -> Result<(), Problem> {
    let stranger = || Problem::new(ProblemCode::Forbidden, "the form was sent from another site; open the page anew");
    match request.header("sec-fetch-site")? {
        Some("same-origin") => Ok(()),
        Some(_) => Err(stranger()),
        None => {
            let host = request.header(HOST.as_str())?;
            let origin = request.header(ORIGIN.as_str())?.and_then(|origin| origin.split_once("://"));
            match (origin, host) {
                (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
                _ => Err(stranger()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn is_own(headers: &[(&str, &str)]) -> bool {
        let mut request = ::http::Request::builder().method("POST").uri("/ui/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = Peer::Tcp(([127, 0, 0, 1], 9).into());
        from_own_page(&Request::whole(request.body(Bytes::new()).unwrap(), peer, "req_1")).is_ok()
    }

    #[test]
    fn a_form_is_taken_from_the_own_site_only() {
        let host = ("host", "localhost:8470");
        assert!(is_own(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(is_own(&[host, ("origin", "http://localhost:8470")]));
        for site in ["same-site", "cross-site", "none", ""] {
            let headers = [host, ("sec-fetch-site", site), ("origin", "http://localhost:8470")];
            assert!(!is_own(&headers), "{site}");
        }
        for origin in ["null", "http://localhost:8471", "http://evil/localhost:8470", "localhost:8470", ""] {
            assert!(!is_own(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!is_own(&[host]) && !is_own(&[]) && !is_own(&[("origin", "http://localhost")]));
    }
}
