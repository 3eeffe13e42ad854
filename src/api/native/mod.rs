//! The native API under `/v1`: one file for each thing, with its wire types and what its routes do; and the table of routes.

pub mod audit;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod event_type;
mod filter;
mod history;
pub mod key;
pub mod replay;
pub mod signature;
pub mod signing_key;
pub mod status;
pub mod subscription;
pub mod tenant;
pub mod user;

use ::http::Method;
use ::http::header::{HeaderValue, LOCATION};
use serde::Serialize;

use crate::http::response::Response;
use crate::http::route::Route;
use crate::model::Role::{Admin, Ingest, Operate, Read};

use super::{Act, known, open};

/// Every route of the native API, with the role that it asks for.
pub(super) fn routes() -> Vec<Route<Act>> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const DELETE: Method = Method::DELETE;
    /// A plain function that boxes the future of an async one.
    macro_rules! act {
        ($act:path) => {
            |call, caller| Box::pin($act(call, caller))
        };
    }
    vec![
        known(GET, "/v1/destinations", Read, act!(destination::kinds)),
        known(GET, "/v1/destinations/webhook", Read, act!(destination::list)).list(&[]),
        known(POST, "/v1/destinations/webhook", Operate, act!(destination::create)).with_body(),
        known(GET, "/v1/destinations/webhook/{id}", Read, act!(destination::read)),
        known(PUT, "/v1/destinations/webhook/{id}", Operate, act!(destination::update)).with_body(),
        known(DELETE, "/v1/destinations/webhook/{id}", Operate, act!(destination::delete)),
        known(POST, "/v1/destinations/webhook/{id}/confirm", Operate, act!(destination::confirm)),
        known(POST, "/v1/destinations/webhook/{id}/test", Operate, act!(destination::test)).with_body(),
        known(POST, "/v1/destinations/webhook/{id}/pause", Operate, act!(destination::pause)),
        known(POST, "/v1/destinations/webhook/{id}/resume", Operate, act!(destination::resume)),
        known(POST, "/v1/destinations/webhook/{id}/secret/rotate", Operate, act!(destination::rotate::rotate))
            .with_body(),
        known(GET, "/v1/destinations/webhook/{id}/stats", Read, act!(destination::stats::read)),
        known(GET, "/v1/subscriptions", Read, act!(subscription::kinds)),
        known(GET, "/v1/subscriptions/{type}", Read, act!(subscription::list)).list(&[]),
        known(POST, "/v1/subscriptions/{type}", Operate, act!(subscription::create)).with_body(),
        known(GET, "/v1/subscriptions/{type}/{id}", Read, act!(subscription::read)),
        known(PUT, "/v1/subscriptions/{type}/{id}", Operate, act!(subscription::update)).with_body(),
        known(DELETE, "/v1/subscriptions/{type}/{id}", Operate, act!(subscription::delete)),
        known(GET, "/v1/subscriptions/{type}/{id}/destinations", Read, act!(subscription::links)).list(&[]),
        known(POST, "/v1/subscriptions/{type}/{id}/destinations", Operate, act!(subscription::link)).with_body(),
        known(DELETE, "/v1/subscriptions/{type}/{id}/destinations/{destination}", Operate, act!(subscription::unlink)),
        known(POST, "/v1/subscriptions/{type}/{id}/test", Operate, act!(subscription::test)),
        known(POST, "/v1/events", Ingest, act!(event::post)).with_body(),
        known(GET, "/v1/events", Read, act!(event::list)).list(&event::PARAMETERS),
        known(GET, "/v1/events/{id}", Read, act!(event::read)).taking(&[event::PAYLOAD]),
        known(GET, "/v1/events/{id}/deliveries", Read, act!(event::deliveries)).list(&[]),
        known(DELETE, "/v1/events/{id}/payload", Operate, act!(event::erase)),
        known(GET, "/v1/deliveries", Read, act!(delivery::list)).list(&delivery::Filter::PARAMETERS),
        known(GET, "/v1/deliveries/{id}", Read, act!(delivery::read)),
        known(POST, "/v1/deliveries/{id}/resend", Operate, act!(delivery::resend)),
        known(POST, "/v1/deliveries/{id}/cancel", Operate, act!(delivery::cancel)),
        known(GET, "/v1/event_history", Read, act!(history::list)).list(&history::PARAMETERS),
        known(POST, "/v1/event_history/{id}/resend", Operate, act!(history::resend)),
        known(GET, "/v1/replays", Read, act!(replay::list)).list(&[]),
        known(POST, "/v1/replays", Operate, act!(replay::create)).with_body(),
        known(GET, "/v1/replays/{id}", Read, act!(replay::read)),
        known(POST, "/v1/replays/{id}/cancel", Operate, act!(replay::cancel)),
        // Whoever is bound to a tenant may read that one; the rest is for who administers all of them.
        known(GET, "/v1/tenants", Read, act!(tenant::list)).list(&[]),
        known(POST, "/v1/tenants", Admin, act!(tenant::create)).with_body(),
        known(GET, "/v1/tenants/{id}", Read, act!(tenant::read)),
        known(PUT, "/v1/tenants/{id}", Admin, act!(tenant::update)).with_body(),
        known(DELETE, "/v1/tenants/{id}", Admin, act!(tenant::delete)),
        // Everybody's; changed by who administers all tenants.
        known(GET, "/v1/event-types", Read, act!(event_type::list)).list(&[]),
        known(POST, "/v1/event-types", Admin, act!(event_type::create)).with_body(),
        known(GET, "/v1/event-types/{name}", Read, act!(event_type::read)),
        known(PUT, "/v1/event-types/{name}", Admin, act!(event_type::update)).with_body(),
        known(DELETE, "/v1/event-types/{name}", Admin, act!(event_type::delete)),
        known(GET, "/v1/keys", Admin, act!(key::list)).list(&[]),
        known(POST, "/v1/keys", Admin, act!(key::create)).with_body(),
        known(GET, "/v1/keys/{id}", Admin, act!(key::read)),
        known(PUT, "/v1/keys/{id}", Admin, act!(key::update)).with_body(),
        known(DELETE, "/v1/keys/{id}", Admin, act!(key::delete)),
        known(GET, "/v1/signing-keys", Read, act!(signing_key::list)).list(&[]),
        known(POST, "/v1/signing-keys", Admin, act!(signing_key::create)).with_body(),
        known(GET, "/v1/signing-keys/{id}", Read, act!(signing_key::read)),
        known(PUT, "/v1/signing-keys/{id}", Admin, act!(signing_key::update)).with_body(),
        known(DELETE, "/v1/signing-keys/{id}", Admin, act!(signing_key::delete)),
        known(POST, "/v1/signing-keys/{id}/rotate", Admin, act!(signing_key::rotate)).with_body(),
        known(POST, "/v1/signing-keys/{id}/reveal", Admin, act!(signing_key::reveal)),
        known(GET, "/v1/users", Admin, act!(user::list)).list(&[]),
        known(POST, "/v1/users", Admin, act!(user::create)).with_body(),
        known(GET, "/v1/users/{id}", Admin, act!(user::read)),
        known(PUT, "/v1/users/{id}", Admin, act!(user::update)).with_body(),
        known(DELETE, "/v1/users/{id}", Admin, act!(user::delete)),
        known(POST, "/v1/users/{id}/unlock", Admin, act!(user::unlock)),
        known(POST, "/v1/users/{id}/reset-totp", Admin, act!(user::reset_totp)),
        known(GET, "/v1/audit", Admin, act!(audit::list)).list(&audit::PARAMETERS),
        known(GET, "/v1/audit/head", Admin, act!(audit::head)),
        known(GET, "/v1/status", Read, act!(status::read)),
        known(GET, "/v1/tail", Read, act!(super::tail::read)).taking(&super::tail::Filter::PARAMETERS),
        open(GET, "/healthz", |call| Box::pin(status::healthz(call))),
        open(GET, "/readyz", |call| Box::pin(status::readyz(call))),
        open(GET, "/metrics", |call| Box::pin(super::metrics::read(call))),
        open(GET, "/openapi.json", |call| Box::pin(super::openapi::read(call))),
    ]
}

/// A 200 with a view.
pub(super) fn ok(view: &impl Serialize) -> Response {
    Response::json(::http::StatusCode::OK, view)
}

/// A 201 with a view, and where the new thing is.
pub(super) fn created(path: &str, view: &impl Serialize) -> Response {
    located(::http::StatusCode::CREATED, path, view)
}

/// A 202 with a view, and where what goes on from here can be watched.
fn accepted(path: &str, view: &impl Serialize) -> Response {
    located(::http::StatusCode::ACCEPTED, path, view)
}

fn located(status: ::http::StatusCode, path: &str, view: &impl Serialize) -> Response {
    let response = Response::json(status, view);
    match HeaderValue::from_str(path) {
        Ok(path) => response.with_header(LOCATION, path),
        Err(_) => response,
    }
}

/// A 204.
fn no_content() -> Response {
    Response::empty(::http::StatusCode::NO_CONTENT)
}
