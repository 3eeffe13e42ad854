//! Dialects: the APIs of other systems, spoken to their letter, so that who integrated with one of those changes an address
//! and no code.
//!
//! A dialect is a file with its wire types, its routes and what they do, and a line in `ALL`. It maps what it is sent to the
//! model and calls the verbs of the service, so whatever is made through it is an ordinary destination and an ordinary
//! subscription, marked with the dialect's name ([`Registered`](crate::model::Registered)), and it keeps nothing that the
//! model lacks. Its routes stand in the one table with the role that they ask for, refusals are problems as everywhere, and
//! `[dialects.NAME]` in the configuration switches it off. `tests/conformance.rs` tells every dialect the same story.

pub mod backoffice;
mod subscribe;

use std::collections::BTreeSet;

use super::caller::{Caller, forbidden};
use super::door::{Faults, plain_text};
use super::{Act, Call};
use crate::http::problem::{FieldError, Problem};
use crate::http::route::Route;
use crate::model::{
    Destination, DestinationId, DestinationNo, Order, Registration, RegistrationChange, Subscription, SubscriptionId,
    SubscriptionNo, TenantId, TypePattern,
};

/// Every dialect.
const ALL: [Dialect; 2] = [backoffice::DIALECT, subscribe::DIALECT];

/// One dialect.
struct Dialect {
    /// In the configuration, and as the mark of what is registered through it.
    name: &'static str,
    /// Its rows of the table.
    routes: fn() -> Vec<Route<Act>>,
}

/// What the dialects have to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The dialects that are switched off, by name.
    pub off: BTreeSet<String>,
    /// The types of webhooks that `backoffice` knows.
    pub types: backoffice::Types,
}

/// The routes of every dialect that is not switched off.
pub(super) fn routes(settings: &Settings) -> Vec<Route<Act>> {
    let spoken = ALL.iter().filter(|dialect| !settings.off.contains(dialect.name));
    spoken.flat_map(|dialect| (dialect.routes)()).collect()
}

/// A plain function that boxes the future of an async one.
macro_rules! act {
    ($act:path) => {
        |call, caller| Box::pin($act(call, caller))
    };
}
use act;

/// The tenant that the parameter `name` of the path names, if the caller may know of it.
fn tenant(call: &Call, caller: &Caller, name: &str) -> Result<TenantId, Problem> {
    let id = call.params.parse::<TenantId>(name)?;
    Ok(call.service.tenant(&caller.sight(), &id)?.id.clone())
}

/// A destination of a tenant as a dialect registers it: the producer's bytes, unsigned, and confirmed, since whoever registers
/// it answers for its receiver. What the dialect has words for is the dialect's to set.
fn destination(call: &Call, tenant: &TenantId, dialect: &str, url: String) -> Destination {
    let (id, now) = (DestinationId(call.service.fresh_uuid()), call.service.now());
    Destination::new(DestinationNo(0), id, tenant.clone(), format!("{dialect} webhook"), url, now)
}

/// The order that registers a destination for events of a type.
fn register(call: &Call, dialect: &str, destination: Destination, pattern: TypePattern, only: bool) -> Order {
    let subscription = Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(call.service.fresh_uuid()),
        tenant: destination.tenant.clone(),
        pattern,
        name: Some(format!("{dialect} webhook")),
        roll_up: false,
        filter: None,
        destinations: Vec::new(),
        registered: None,
        created: destination.created,
    };
    Order::Register { destination: Box::new(destination), subscription: Box::new(subscription), only }
}

/// The order that changes a registration, if this caller may: `url` is how the dialect calls the URL.
fn change(
    caller: &Caller,
    registration: &Registration,
    change: RegistrationChange,
    url: &str,
) -> Result<Order, Problem> {
    let change = RegistrationChange { moves_openings: caller.is_house_admin(), ..change };
    if !change.may_change(&registration.destination) {
        let detail =
            "private addresses are open for the present URL: it is changed by an administrator of all tenants only";
        return Err(forbidden(url, detail));
    }
    Ok(Order::Change { subscription: registration.subscription.id, change })
}

/// Weighs a URL; whether deliveries to it could be made is for the service to say.
fn url(call: &Call, pointer: &str, text: String, faults: &mut Faults) -> Option<String> {
    faults.weigh(pointer, plain_text(text, 1, call.settings.limits.url_chars_max))
}

/// A refusal in the dialect's words: `names` has the native name of a field and the dialect's.
fn in_words(problem: impl Into<Problem>, names: &[(&str, &str)]) -> Problem {
    let problem = problem.into();
    if problem.errors().is_empty() {
        return problem;
    }
    let renamed = |error: &FieldError| {
        let known = names.iter().find(|(native, _)| *native == error.pointer);
        FieldError { pointer: known.map_or(&*error.pointer, |(_, own)| own).to_owned(), detail: error.detail.clone() }
    };
    Problem::of_fields(problem.code(), problem.errors().iter().map(renamed).collect())
}
