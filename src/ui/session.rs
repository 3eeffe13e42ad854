//! Who sent a request to the dashboard, whether it came from one of its own pages, and what keeps it so: cookies and hosts.
//!
//! Over `admin.sock` that is the operator, since the socket's mode decided who may open it. Over TCP nobody is let in
//! without a session, which is known by a cookie: every page leads to the login. A key opens no page, and a cookie no route
//! of the API.
//!
//! The cookie is `__Host-postrider`: sent back over HTTPS only, to this host only, never with a request that another site caused,
//! and no script reads it. Browsers differ in whether they keep such a cookie of a plain `http://localhost`. So where the
//! daemon speaks plain HTTP and the browser says that it asks this very machine, the cookie is called `postrider-local` and
//! lacks the one attribute `Secure`. Beyond this machine there is no such thing: without TLS, or a proxy that does it, nobody
//! can sign in.

use std::net::IpAddr;

use ::http::header::{COOKIE, HOST, HeaderValue, ORIGIN, REFERER};
use ::http::{HeaderMap, Method};

use super::viewer::{Proof, Viewer};
use super::{LOGIN, Settings};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Peer, Request};
use crate::model::audit::{Actor, Origin, Who};
use crate::model::{Role, Secret};
use crate::mouth::caller::Caller;
use crate::service::Service;
use crate::service::people::{Knock, Seen, Stage};

/// Where the second factor is asked for.
pub const CODE: &str = "/ui/login/totp";
/// Where a second factor is enrolled.
pub const ENROL: &str = "/ui/enrol";
/// Where a password that the daemon made is replaced.
pub const PASSWORD: &str = "/ui/password";
/// Where a fresh proof of the second factor is asked for.
pub const STEP_UP: &str = "/ui/step-up";

/// The parameter of the login by which it tells that a form came from nobody who is signed in.
pub const UNDONE: &str = "undone";

const SECURE: &str = "__Host-postrider";
const LOCAL: &str = "postrider-local";

/// Why a request reaches no page.
#[derive(Debug)]
pub enum Turned {
    /// Something else comes first, there.
    To(String),
    /// It is refused.
    Refused(Problem),
}

/// Who sent the request.
pub fn viewer_of(request: &Request, service: &Service, settings: &Settings) -> Result<Viewer, Turned> {
    match request.peer() {
        Peer::Unix(peer) => {
            let actor = Actor {
                who: Who::Operator { uid: peer.uid },
                from: Origin::Socket(peer),
                request: Some(request.id().to_owned()),
            };
            Ok(Viewer::operator(Caller::new(Role::Admin, None, actor)))
        }
        Peer::Tcp(_) => {
            let seen = token(request, settings).and_then(|token| service.seen(token.expose()));
            let Some(Seen { user, stage, fresh_for }) = seen else { return Err(Turned::To(login_for(request))) };
            match place_of(stage) {
                Some(place) => Err(Turned::To(place.to_owned())),
                None => {
                    let caller = Caller::new(user.role, user.tenant.clone(), knock(request).of(&user));
                    let proof = if fresh_for.is_some() { Proof::Fresh } else { Proof::Stale };
                    Ok(Viewer::person(user.name.as_str(), caller, proof))
                }
            }
        }
    }
}

/// Where somebody belongs who is not inside yet.
pub fn place_of(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Code => Some(CODE),
        Stage::Enrol => Some(ENROL),
        Stage::NewPassword => Some(PASSWORD),
        Stage::Inside => None,
    }
}

/// Who knocks with a request.
pub fn knock(request: &Request) -> Knock {
    let from = match request.peer() {
        Peer::Unix(peer) => Origin::Socket(peer),
        Peer::Tcp(address) => Origin::Address(address),
    };
    Knock { from, request: Some(request.id().to_owned()) }
}

/// The login, which leads back to the page that was asked for.
fn login_for(request: &Request) -> String {
    let asked = match (request.method(), request.query_text()) {
        // What a form asks for cannot be looked at.
        (&Method::GET | &Method::HEAD, "") => request.path().to_owned(),
        (&Method::GET | &Method::HEAD, query) => format!("{}?{query}", request.path()),
        _ => page_of(request),
    };
    let login = match asked.as_str() {
        super::ROOT => LOGIN.to_owned(),
        _ => with_next(LOGIN, &asked),
    };
    match *request.method() {
        Method::GET | Method::HEAD => login,
        _ => format!("{login}{}{UNDONE}=yes", if login.contains('?') { '&' } else { '?' }),
    }
}

/// The page that a request came from, as far as it says so, or the page that it asks for.
pub fn page_of(request: &Request) -> String {
    let from =
        request.headers().get(REFERER).and_then(|from| from.to_str().ok()).and_then(|from| url::Url::parse(from).ok());
    match (request.method(), from) {
        (&Method::GET | &Method::HEAD, _) => request.path().to_owned(),
        (_, Some(from)) => from.query().map_or(from.path().to_owned(), |query| format!("{}?{query}", from.path())),
        (_, None) => super::ROOT.to_owned(),
    }
}

/// A path that leads on to another one.
pub fn with_next(path: &str, next: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    format!("{path}?{query}")
}

/// Where a fresh proof leads on: as from the door, and also to what replaces the second factor, which asks for one.
pub fn next_proved(request: &Request) -> String {
    let query = url::form_urlencoded::parse(request.query_text().as_bytes());
    let asks_to_enrol = query.into_iter().find(|(name, _)| name == "next").is_some_and(|(_, next)| next == ENROL);
    if asks_to_enrol { ENROL.to_owned() } else { next_of(request) }
}

/// Where a request says to lead on: a page of the dashboard that is behind the door, or its first one. Nothing else, so that
/// nobody's link leads from the login to another site.
pub fn next_of(request: &Request) -> String {
    let query = url::form_urlencoded::parse(request.query_text().as_bytes());
    let next = query.into_iter().find(|(name, _)| name == "next").map(|(_, value)| value.into_owned());
    next.filter(|next| is_page(next)).unwrap_or_else(|| super::ROOT.to_owned())
}

/// Whether a path is a page's that is behind the door.
pub fn is_page(path: &str) -> bool {
    let plain = path.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'\\');
    let door = [LOGIN, ENROL, PASSWORD, STEP_UP, "/ui/logout"];
    plain && path.starts_with(super::ROOT) && path.len() <= 2048 && !door.iter().any(|door| path.starts_with(door))
}

/// The session's token that a request shows, if it shows exactly one.
pub fn token(request: &Request, settings: &Settings) -> Option<Secret> {
    let name = cookie_name(request.headers(), settings);
    let mut found =
        request.headers().get_all(COOKIE).iter().filter_map(|header| header.to_str().ok()).flat_map(|header| {
            header.split(';').filter_map(|pair| pair.trim().split_once('=')).filter(|(known, _)| *known == name)
        });
    let (_, token) = found.next()?;
    found.next().is_none().then(|| Secret::new(token))
}

/// What makes a browser keep a session's token, until it is closed.
pub fn cookie(request: &Request, settings: &Settings, token: &Secret) -> HeaderValue {
    cookie_value(request, settings, token.expose(), "")
}

/// What makes a browser forget it.
pub fn no_cookie(request: &Request, settings: &Settings) -> HeaderValue {
    cookie_value(request, settings, "", "; Max-Age=0")
}

fn cookie_value(request: &Request, settings: &Settings, value: &str, end: &str) -> HeaderValue {
    let name = cookie_name(request.headers(), settings);
    let secure = if name == SECURE { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/{secure}; HttpOnly; SameSite=Strict{end}");
    let mut value = HeaderValue::from_str(&text).expect("a token is base32");
    value.set_sensitive(true);
    value
}

fn cookie_name(headers: &HeaderMap, settings: &Settings) -> &'static str {
    let is_local = headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(is_this_machine);
    if is_local && !settings.tls { LOCAL } else { SECURE }
}

/// A `Host` without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A 403 unless the browser asks for a host that is the daemon's: this machine, any address (nobody but us can have let that
/// lead here), or a name of the configuration. A name that somebody else lets point here (DNS rebinding) must not make a
/// browser take the dashboard for a page of his site.
pub fn knows_host(request: &Request, settings: &Settings) -> Result<(), Problem> {
    if matches!(request.peer(), Peer::Unix(_)) {
        return Ok(());
    }
    let name = name_of(request.header(HOST.as_str())?.unwrap_or_default());
    let is_known = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || settings.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    match is_known {
        true => Ok(()),
        false => {
            let detail = "the dashboard is not served under this host name; add it to admin.hosts in the configuration";
            Err(Problem::new(ProblemCode::Forbidden, detail))
        }
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

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = ::http::Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = Peer::Tcp(([127, 0, 0, 1], 9).into());
        Request::whole(request.body(Bytes::new()).unwrap(), peer, "req_1")
    }

    fn is_own(headers: &[(&str, &str)]) -> bool {
        from_own_page(&request("/ui/x", headers)).is_ok()
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

    /// P18: a name that somebody lets point at the daemon (DNS rebinding) is no host of it.
    #[test]
    fn a_page_is_served_under_the_daemons_own_names_only() {
        let settings = Settings { hosts: vec!["postrider.example".to_owned()].into(), ..Settings::default() };
        let knows = |host: &str| knows_host(&request("/ui/", &[("host", host)]), &settings).is_ok();
        let own = ["localhost", "LOCALHOST:8470", "127.0.0.1:8470", "[::1]:8470", "192.0.2.7:8470", "[2001:db8::7]"];
        for host in own.into_iter().chain(["postrider.example", "Postrider.Example:443"]) {
            assert!(knows(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "postrider.example.evil", "[::1"]
        {
            assert!(!knows(host), "{host}");
        }
        assert!(knows_host(&request("/ui/", &[]), &settings).is_err());
    }

    /// P18: the cookie goes back over HTTPS only, to this host only, never from another site, and to no script; only plain
    /// HTTP on this very machine does without `Secure`.
    #[test]
    fn a_cookie_is_bound_to_its_host() {
        let (plain, tls) = (Settings::default(), Settings { tls: true, ..Settings::default() });
        let made = |host: &str, settings: &Settings| {
            let value = cookie(&request("/ui/", &[("host", host)]), settings, &Secret::new("t0ken"));
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        };
        let secure = "__Host-postrider=t0ken; Path=/; Secure; HttpOnly; SameSite=Strict";
        assert_eq!(made("postrider.example", &plain), secure);
        assert_eq!(made("localhost:8470", &tls), secure);
        for host in ["localhost:8470", "127.0.0.1", "[::1]:8470"] {
            assert_eq!(made(host, &plain), "postrider-local=t0ken; Path=/; HttpOnly; SameSite=Strict");
        }
        let shown = |host: &str, cookies: &[(&str, &str)]| {
            let headers: Vec<_> = [("host", host)].into_iter().chain(cookies.iter().copied()).collect();
            token(&request("/ui/", &headers), &plain).map(|token| token.expose().to_owned())
        };
        assert_eq!(shown("a.example", &[("cookie", "x=1; __Host-postrider=t1 ;y=2")]).as_deref(), Some("t1"));
        assert_eq!(shown("localhost", &[("cookie", "postrider-local=t2")]).as_deref(), Some("t2"));
        assert_eq!(shown("a.example", &[("cookie", "postrider-local=t2")]), None, "not beyond this machine");
        assert_eq!(shown("localhost", &[("cookie", "postrider-local=a; postrider-local=b")]), None, "which one?");
        assert_eq!(shown("localhost", &[("cookie", "postrider-local=a"), ("cookie", "postrider-local=b")]), None);
        assert_eq!(shown("localhost", &[("cookie", "postrider-locals=a; xpostrider-local=b")]), None);
    }

    #[test]
    fn the_login_leads_to_pages_of_the_dashboard_only() {
        let next = |query: &str| next_of(&request(&format!("/ui/login?{query}"), &[]));
        assert_eq!(next("next=%2Fui%2Fdeliveries%3Fstate%3Dfailed%26x%3D1"), "/ui/deliveries?state=failed&x=1");
        for wrong in [
            "",
            "next=",
            "next=https://evil.example",
            "next=//evil.example",
            "next=/ui",
            "next=/v1/keys",
            "next=/ui/login",
            "next=%2Fui%2F%0d%0aSet-Cookie:x",
            "next=/ui/%5cevil",
            "next=/ui/logout",
        ] {
            assert_eq!(next(wrong), "/ui/", "{wrong}");
        }
        let looked = |uri: &str| {
            let request = ::http::Request::get(uri).body(Bytes::new()).unwrap();
            login_for(&Request::whole(request, Peer::Tcp(([127, 0, 0, 1], 9).into()), "req_1"))
        };
        assert_eq!(looked("/ui/events?key=a%20b"), "/ui/login?next=%2Fui%2Fevents%3Fkey%3Da%2520b");
        assert_eq!(looked("/ui/"), "/ui/login");
    }
}
