//! Source 003: `/webhooks/subscribe/{tenantId}`, where a tenant has one subscription to the status of its transactions.
//!
//! `retry_attempts` counts the attempts after the first, on the installation's schedule, whose last delay repeats. The
//! notification is the producer's data, byte for byte.

use ::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Dialect, act, change, destination, in_words, register, tenant, url};
use crate::api::caller::Caller;
use crate::api::door::Faults;
use crate::api::{Act, Call, known, native};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::http::route::Route;
use crate::model::Role::{Operate, Read};
use crate::model::{Order, Registration, RegistrationChange, Retry, TenantId, TypePattern};
use crate::service::{self, Service};

pub(super) const DIALECT: Dialect = Dialect { name: NAME, routes };

const NAME: &str = "subscribe";
const PATH: &str = "/webhooks/subscribe/{tenantId}";
/// The one type of event that there is.
const TYPE: &str = "transaction.status_updated";
/// Attempts after the first, at most.
const RETRIES_MAX: u32 = 100;
/// Native names of fields, and these.
const NAMES: [(&str, &str); 1] = [("/http_endpoint_url", "/webhook_url")];

fn routes() -> Vec<Route<Act>> {
    vec![
        known(Method::GET, PATH, Read, act!(read)),
        known(Method::POST, PATH, Operate, act!(create)).with_body(),
        known(Method::PUT, PATH, Operate, act!(update)).with_body(),
        known(Method::DELETE, PATH, Operate, act!(delete)),
    ]
}

/// The body of a create and of an update: both fields are required.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SubscriptionRequest {
    webhook_url: Option<String>,
    retry_attempts: Option<i64>,
}

impl SubscriptionRequest {
    /// The URL, and how many attempts there are in all.
    fn weigh(self, call: &Call) -> Result<(String, u32), Problem> {
        let mut faults = Faults::default();
        let webhook_url = match self.webhook_url {
            Some(text) => url(call, "/webhook_url", text, &mut faults),
            None => {
                faults.note("/webhook_url", "is required");
                None
            }
        };
        let retries = self.retry_attempts.map(|number| u32::try_from(number).ok().filter(|it| *it <= RETRIES_MAX));
        match retries {
            None => faults.note("/retry_attempts", "is required"),
            Some(None) => faults.note("/retry_attempts", format!("must be 0 to {RETRIES_MAX}")),
            Some(Some(_)) => {}
        }
        faults.into_result()?;
        let (webhook_url, retries) = webhook_url.zip(retries.flatten()).expect("no fault was noted, so both were read");
        Ok((webhook_url, retries + 1))
    }
}

/// A subscription in an answer.
#[derive(Debug, Serialize)]
struct SubscriptionView {
    tenant_id: String,
    webhook_url: String,
    retry_attempts: u32,
}

impl SubscriptionView {
    fn of(service: &Service, registration: &Registration) -> Self {
        let destination = &registration.destination;
        SubscriptionView {
            tenant_id: destination.tenant.to_string(),
            webhook_url: destination.url.clone(),
            retry_attempts: service.attempts_max(&destination.retry).saturating_sub(1),
        }
    }
}

/// The subscription of a tenant, if it has one.
fn present(service: &Service, tenant: &TenantId) -> Result<Registration, Problem> {
    let found = service.registrations(tenant, NAME).into_iter().next();
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "the tenant has no subscription"))
}

/// `GET /webhooks/subscribe/{tenantId}`
async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let registration = present(&call.service, &tenant(&call, &caller, "tenantId")?)?;
    Ok(native::ok(&SubscriptionView::of(&call.service, &registration)))
}

/// `POST /webhooks/subscribe/{tenantId}`
async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantId")?;
    let request: SubscriptionRequest = call.request.json(call.settings.body_bytes_max).await?;
    let (webhook_url, attempts_max) = request.weigh(&call)?;
    let mut destination = destination(&call, &tenant, NAME, webhook_url);
    destination.retry = Retry { attempts_max: Some(attempts_max), ..Retry::default() };
    let pattern = TypePattern::One(TYPE.parse().expect("it is within the bounds of an event's type"));
    let order = register(&call, NAME, destination, pattern, true);
    let made = call.service.carry_out(caller.actor(), &tenant, NAME, order).await.map_err(|error| match error {
        service::Error::Conflict(_) => {
            Problem::new(ProblemCode::Conflict, "the tenant has a subscription already; PUT changes it")
        }
        error => in_words(error, &NAMES),
    })?;
    Ok(native::created(&PATH.replace("{tenantId}", tenant.as_str()), &SubscriptionView::of(&call.service, &made)))
}

/// `PUT /webhooks/subscribe/{tenantId}`
async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantId")?;
    let registration = present(&call.service, &tenant)?;
    let request: SubscriptionRequest = call.request.json(call.settings.body_bytes_max).await?;
    let (webhook_url, attempts_max) = request.weigh(&call)?;
    let wanted = RegistrationChange {
        url: Some(webhook_url),
        attempts_max: Some(attempts_max),
        ..RegistrationChange::default()
    };
    let order = change(&caller, &registration, wanted, "/webhook_url")?;
    let changed = call.service.carry_out(caller.actor(), &tenant, NAME, order).await;
    let changed = changed.map_err(|error| in_words(error, &NAMES))?;
    Ok(native::ok(&SubscriptionView::of(&call.service, &changed)))
}

/// `DELETE /webhooks/subscribe/{tenantId}`
async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantId")?;
    let order = Order::Deregister { subscription: present(&call.service, &tenant)?.subscription.id };
    call.service.carry_out(caller.actor(), &tenant, NAME, order).await?;
    Ok(Response::empty(StatusCode::OK))
}
