//! Destinations: `/v1/destinations/webhook` and what can be done with one.
//!
//! A request is laid over a destination: over the defaults at creation, over the stored one in an update. So a field has
//! one rule, whichever way it comes. What was read can be sent back as it is: read-only fields are taken when they equal
//! what is stored, and [`MASK`](crate::api::door::MASK) in the place of a secret keeps it.

mod request;
pub(super) mod rotate;
pub(super) mod stats;
mod view;

use ::http::HeaderName;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::api::caller::{Caller, forbidden};
use crate::api::door::Faults;
use crate::api::page::{Cursor, Page};
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::audit::Action;
use crate::model::destination::{Scheme, SignedWith};
use crate::model::{
    Destination, DestinationId, DestinationNo, EventType, Invalid, Secret, SigningKeyId, SigningKeyKind, TenantId,
};
use crate::service::{Accepted, Service, Sight};
use crate::sign;

use super::signature::{SIGNATURES_MAX, Signing};

pub(super) use request::header_name;
pub use request::{DestinationRequest, Identity, Weighed};
pub(in crate::api) use request::{SHARED_SECRET_HEADER, password, sent_verbatim, username};
pub use view::DestinationView;
use view::LaneView;

/// The path of destinations of this type; a destination's own path is this, a slash and its id.
pub const PATH: &str = "/v1/destinations/webhook";

/// The bounds that the installation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A URL in characters (decision D21); default 2048.
    pub url_chars_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { url_chars_max: 2048 }
    }
}

fn path_of(id: DestinationId) -> String {
    format!("{PATH}/{id}")
}

/// `{"urls": […]}`: where things of each type are listed.
#[derive(Debug, Serialize)]
pub(super) struct Urls {
    pub(super) urls: Vec<String>,
}

/// `GET /v1/destinations`
pub(super) async fn kinds(_: Call, _: Caller) -> Result<Response, Problem> {
    Ok(native::ok(&Urls { urls: vec![PATH.to_owned()] }))
}

/// `GET /v1/destinations/webhook`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let (page, sight) = (Page::from_query(call.request.path(), &query)?, Sight::One(caller.tenant()));
    let catalog = call.service.catalog();
    let rows = catalog.destinations().filter(|destination| sight.takes(&destination.tenant));
    Ok(native::ok(&page.of("webhook", rows, |it| cursor(it), |it| view(&call.service, it, &[]))))
}

/// Where a destination stands in lists: they are in order of creation.
pub(super) fn cursor(destination: &Destination) -> Cursor {
    Cursor { place: destination.no.0.into(), second: 0 }
}

/// How a destination is shown; `fresh` says which of its signatures' secrets are shown, this once.
pub(super) fn view(service: &Service, destination: &Destination, fresh: &[bool]) -> DestinationView {
    DestinationView::with_fresh(destination, fresh, &header_names)
        .with_lane(service.lane(destination.no), service.now())
}

fn header_names(scheme: &Scheme) -> Vec<String> {
    sign::header_names(scheme).iter().map(HeaderName::to_string).collect()
}

/// The signing key that a tenant's destination names: by its id, or as `signature` the tenant's own.
fn signing_key(service: &Service, tenant: &TenantId, name: &str) -> Result<SigningKeyId, Invalid> {
    let keys = service.signing_keys(&Sight::One(tenant.clone()));
    if name == SigningKeyKind::Signature.as_str() {
        let own = keys.iter().find(|key| key.kind == SigningKeyKind::Signature);
        let none = || Invalid::new("the tenant has no signature key; make it by POST /v1/signing-keys");
        return own.map(|key| key.id).ok_or_else(none);
    }
    let named = name.parse().ok().and_then(|id| keys.iter().find(|key| key.id == id));
    let none =
        || Invalid::new("must be the id of a signing key of the tenant's, or \"signature\" for its signature key");
    named.map(|key| key.id).ok_or_else(none)
}

/// Chance for the secrets of one request, drawn before it is laid over anything: an update may be laid over twice.
struct Chance([[u8; 32]; SIGNATURES_MAX]);

impl Chance {
    fn draw(service: &Service) -> Self {
        let mut chance = [[0; 32]; SIGNATURES_MAX];
        chance.iter_mut().for_each(|bytes| service.chance(bytes));
        Chance(chance)
    }

    /// Weighs with secrets made of this chance, the same ones each time, and with the signing keys of a tenant.
    fn weigh<T>(&self, service: &Service, tenant: &TenantId, weigh: impl FnOnce(&mut Signing<'_>) -> T) -> T {
        let mut unused = self.0.iter();
        let mut generate = |scheme: &Scheme| {
            let chance = unused.next().expect("a destination has no more signatures than there is chance for");
            sign::generate(scheme, chance)
        };
        let key = |name: &str| signing_key(service, tenant, name);
        weigh(&mut Signing { generate: &mut generate, header_names: &header_names, key: &key })
    }

    /// For each signature whether its secret was made of this chance.
    fn made(&self, signatures: &[SignedWith]) -> Vec<bool> {
        let is_made = |signature: &SignedWith| {
            let made = |chance: &[u8; 32]| -> Secret { sign::generate(signature.scheme(), chance) };
            signature.own().is_some_and(|own| self.0.iter().any(|chance| made(chance) == own.secret))
        };
        signatures.iter().map(is_made).collect()
    }
}

/// Private addresses are opened by who administers the whole installation, and nobody else may move such an opening.
fn may_reach(caller: &Caller, before: Option<&Destination>, after: &Destination) -> Result<(), Problem> {
    let stays = before.is_some_and(|before| before.allow_private && before.url == after.url);
    if !after.allow_private || stays || caller.is_house_admin() {
        return Ok(());
    }
    let detail = match before {
        Some(before) if before.allow_private => "is set: the URL is changed by an administrator of all tenants only",
        Some(_) | None => "is for administrators of all tenants",
    };
    Err(forbidden("/allow_private", detail))
}

/// `POST /v1/destinations/webhook`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let request: DestinationRequest = call.request.json(call.settings.body_bytes_max).await?;
    let service = &call.service;
    let identity = Identity {
        no: DestinationNo(0),
        id: DestinationId(service.fresh_uuid()),
        tenant: caller.tenant(),
        created: service.now(),
    };
    let (confirmed, limits) = (service.confirms_at_creation(), call.settings.limits);
    let (chance, tenant) = (Chance::draw(service), identity.tenant.clone());
    let weighed = chance.weigh(service, &tenant, |signing| request.create(identity, confirmed, limits, signing))?;
    let Weighed { destination, fresh } = weighed;
    may_reach(&caller, None, &destination)?;
    let destination = service.create_destination(caller.actor(), destination).await?;
    Ok(native::created(&path_of(destination.id), &view(service, &destination, &fresh).with_url()))
}

/// `GET /v1/destinations/webhook/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let destination = call.service.destination(&caller.sight(), call.params.parse("id")?)?;
    Ok(native::ok(&view(&call.service, &destination, &[])))
}

/// `PUT /v1/destinations/webhook/{id}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id, limits) = (caller.sight(), call.params.parse("id")?, call.settings.limits);
    call.service.destination(&sight, id)?;
    let request: DestinationRequest = call.request.json(call.settings.body_bytes_max).await?;
    let service = &call.service;
    let chance = Chance::draw(service);
    let change = |destination: &mut Destination| -> Result<(), Problem> {
        let lane = LaneView::of(service.lane(destination.no), service.now());
        let weigh = |signing: &mut Signing<'_>| request.clone().update(destination, &lane, limits, signing);
        let weighed = chance.weigh(service, &destination.tenant, weigh)?;
        may_reach(&caller, Some(destination), &weighed.destination)?;
        *destination = weighed.destination;
        Ok(())
    };
    let destination = service.update_destination(caller.actor(), Action::DestinationUpdate, &sight, id, change).await?;
    Ok(native::ok(&view(service, &destination, &chance.made(&destination.signatures))))
}

/// `DELETE /v1/destinations/webhook/{id}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    call.service.delete_destination(caller.actor(), &caller.sight(), call.params.parse("id")?).await?;
    Ok(native::no_content())
}

/// The answer to what has been queued, in source 002's words.
#[derive(Debug, Serialize)]
struct Queued {
    status: &'static str,
    message: &'static str,
}

/// `POST /v1/destinations/webhook/{id}/confirm`
pub(super) async fn confirm(call: Call, caller: Caller) -> Result<Response, Problem> {
    call.service.ask_for_confirmation(caller.actor(), &caller.sight(), call.params.parse("id")?).await?;
    Ok(native::ok(&Queued { status: "success", message: "Confirmation event queued for webhook" }))
}

/// The body of a test: what the event says, when it is not to be a sample.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TestRequest {
    r#type: Option<String>,
    data: Option<Box<RawValue>>,
}

/// `POST /v1/destinations/webhook/{id}/test`
pub(super) async fn test(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.destination(&sight, id)?;
    let request: Option<TestRequest> = call.request.optional_json(call.settings.body_bytes_max).await?;
    let TestRequest { r#type, data } = request.unwrap_or_default();
    let mut faults = Faults::default();
    let kind = r#type.and_then(|text| faults.weigh("/type", text.parse::<EventType>()));
    faults.into_result()?;
    let data = data.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
    Ok(TestView::of(call.service.test_destination(caller.actor(), &sight, id, kind, data).await?))
}

/// The answer to a test.
#[derive(Debug, Serialize)]
pub(super) struct TestView {
    id: String,
    r#type: String,
    deliveries: usize,
}

impl TestView {
    /// The event, its type, and how many destinations it goes to.
    pub(super) fn of((kind, accepted): (EventType, Accepted)) -> Response {
        let view = TestView { id: accepted.id.to_string(), r#type: kind.to_string(), deliveries: accepted.deliveries };
        Response::json(::http::StatusCode::ACCEPTED, &view)
    }
}

/// `POST /v1/destinations/webhook/{id}/pause`
pub(super) async fn pause(call: Call, caller: Caller) -> Result<Response, Problem> {
    set_paused(call, caller, true).await
}

/// `POST /v1/destinations/webhook/{id}/resume`
pub(super) async fn resume(call: Call, caller: Caller) -> Result<Response, Problem> {
    set_paused(call, caller, false).await
}

async fn set_paused(call: Call, caller: Caller, paused: bool) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.set_paused(caller.actor(), &sight, id, paused).await?;
    let destination = call.service.destination(&sight, id)?;
    Ok(native::ok(&view(&call.service, &destination, &[])))
}

#[cfg(test)]
mod tests;
