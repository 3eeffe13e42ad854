//! Subscriptions: `/v1/subscriptions/{type}`, where `{type}` is a type or a pattern, and what each links.
//!
//! `entity_ksuid` is source 002's name for the tenant: both names are taken, and both are shown.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::destination::{self, TestView, Urls};
use super::filter;
use crate::api::caller::Caller;
use crate::api::door::{Faults, Patch, readable};
use crate::api::page::{Cursor, Page};
use crate::api::{Call, native};
use crate::http::problem::{FieldError, Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::audit::Action;
use crate::model::{
    DestinationId, DestinationNo, Filter, Subscription, SubscriptionId, SubscriptionNo, TenantId, TypePattern,
};
use crate::service::{Catalog, Error, Sight};

const NAME_CHARS_MAX: usize = 124;
const DESTINATIONS_MAX: usize = 1000;

/// The path of subscriptions; a type and an id follow.
pub const PATH: &str = "/v1/subscriptions";

/// The body of a create and of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionRequest {
    id: Patch<String>,
    r#type: Patch<String>,
    created: Patch<String>,
    url: Patch<String>,
    tenant: Patch<String>,
    entity_ksuid: Patch<String>,
    dialect: Patch<String>,
    name: Patch<String>,
    roll_up: Patch<bool>,
    filter: Patch<Value>,
    destinations: Patch<Vec<String>>,
}

/// What a create asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// Whose events, when the body says so; otherwise the tenant that the caller acts for.
    pub tenant: Option<TenantId>,
    /// Which of them.
    pub pattern: TypePattern,
    /// For people.
    pub name: Option<String>,
    /// Whether the events of all descendants count as well.
    pub roll_up: bool,
    /// Which of them count; all when there is none.
    pub filter: Option<Filter>,
    /// Where they go, each once; `/destinations/<place>` is the place of each in the body.
    pub destinations: Vec<DestinationId>,
}

/// What an update asks for; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionChange {
    /// The name, or none from now on.
    pub name: Option<Option<String>>,
    /// Whether the events of all descendants count as well.
    pub roll_up: Option<bool>,
    /// Which events count from now on, or all of them.
    pub filter: Option<Option<Filter>>,
    /// Where the events go from now on.
    pub destinations: Option<Vec<DestinationId>>,
}

/// The body of `POST …/{id}/destinations`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkRequest {
    destination: Option<String>,
}

impl LinkRequest {
    /// The destination that is to be linked.
    pub fn destination(self) -> Result<DestinationId, Problem> {
        let mut faults = Faults::default();
        let destination = match self.destination {
            None => {
                faults.note("/destination", "is required");
                None
            }
            Some(text) => faults.weigh("/destination", text.parse()),
        };
        faults.into_result()?;
        Ok(destination.expect("no fault was noted, so it was read"))
    }
}

impl SubscriptionRequest {
    /// A new subscription to `pattern`, which the path names.
    pub fn create(self, pattern: TypePattern) -> Result<NewSubscription, Problem> {
        let mut faults = Faults::default();
        for (pointer, field) in [("/id", &self.id), ("/created", &self.created), ("/url", &self.url)] {
            if *field != Patch::Absent {
                faults.note(pointer, "is given by the daemon");
            }
        }
        // Of a native one this is `null` in every answer: it says the same as nothing.
        if let Patch::Value(_) = self.dialect {
            faults.note("/dialect", "is given by the daemon");
        }
        if self.r#type != Patch::Absent && self.r#type != Patch::Value(pattern.to_string()) {
            faults.note("/type", "must be the one in the path");
        }
        let tenant = tenant(self.tenant.value(), self.entity_ksuid.value(), &mut faults);
        let mut made =
            NewSubscription { tenant, pattern, name: None, roll_up: false, filter: None, destinations: Vec::new() };
        faults.set_or("/name", self.name, &mut made.name, None, name);
        faults.set_or("/roll_up", self.roll_up, &mut made.roll_up, false, Ok);
        if let Patch::Value(filter) = self.filter {
            made.filter = filter::weigh(filter, &made.pattern, &mut faults);
        }
        if let Patch::Value(texts) = self.destinations {
            made.destinations = destinations(texts, &mut faults);
        }
        faults.into_result().map(|()| made)
    }

    /// What is to change of `stored`; read-only fields are taken when they equal what is stored.
    pub fn update(self, stored: &Subscription) -> Result<SubscriptionChange, Problem> {
        let mut faults = Faults::default();
        let own_path = path_of(stored);
        let read_only = [
            ("/id", self.id, stored.id.to_string()),
            ("/type", self.r#type, stored.pattern.to_string()),
            ("/created", self.created, stored.created.to_string()),
            ("/url", self.url, own_path),
            ("/tenant", self.tenant, stored.tenant.to_string()),
            ("/entity_ksuid", self.entity_ksuid, stored.tenant.to_string()),
        ];
        for (pointer, field, own) in read_only {
            // Ids are matched without regard to case, tenants and types with it.
            let is_same = |text: &String| match pointer {
                "/id" | "/url" => text.eq_ignore_ascii_case(&own),
                _ => *text == own,
            };
            faults.read_only(pointer, &field, |sent| sent.is_some_and(is_same));
        }
        faults.read_only("/dialect", &self.dialect, |sent| sent.map(String::as_str) == dialect_of(stored));
        let mut change = SubscriptionChange::default();
        faults.set_or("/name", self.name, &mut change.name, Some(None), |text| name(text).map(Some));
        faults.set("/roll_up", self.roll_up, &mut change.roll_up, |roll_up| Ok(Some(roll_up)));
        match self.filter {
            Patch::Absent => {}
            Patch::Null => change.filter = Some(None),
            Patch::Value(filter) => change.filter = Some(filter::weigh(filter, &stored.pattern, &mut faults)),
        }
        match self.destinations {
            Patch::Absent => {}
            Patch::Null => faults.note("/destinations", "cannot be null; [] links none"),
            Patch::Value(texts) => change.destinations = Some(destinations(texts, &mut faults)),
        }
        faults.into_result().map(|()| change)
    }
}

fn name(text: String) -> Result<Option<String>, crate::model::Invalid> {
    readable(text, 1, NAME_CHARS_MAX).map(Some)
}

fn tenant(tenant: Option<String>, entity_ksuid: Option<String>, faults: &mut Faults) -> Option<TenantId> {
    if let (Some(tenant), Some(entity_ksuid)) = (&tenant, &entity_ksuid)
        && tenant != entity_ksuid
    {
        faults.note("/entity_ksuid", "differs from tenant, whose other name it is");
        return None;
    }
    match (tenant, entity_ksuid) {
        (Some(text), _) => faults.weigh("/tenant", text.parse()),
        (None, Some(text)) => faults.weigh("/entity_ksuid", text.parse()),
        (None, None) => None,
    }
}

fn destinations(texts: Vec<String>, faults: &mut Faults) -> Vec<DestinationId> {
    if texts.len() > DESTINATIONS_MAX {
        faults.note("/destinations", format!("must have at most {DESTINATIONS_MAX} entries"));
        return Vec::new();
    }
    let mut ids: Vec<DestinationId> = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        let pointer = format!("/destinations/{place}");
        match faults.weigh(&pointer, text.parse()) {
            Some(id) if ids.contains(&id) => faults.note(pointer, "stands there twice"),
            Some(id) => ids.push(id),
            None => {}
        }
    }
    ids
}

fn dialect_of(subscription: &Subscription) -> Option<&str> {
    subscription.registered.as_ref().map(|registered| registered.dialect.as_str())
}

fn path_of(subscription: &Subscription) -> String {
    format!("{PATH}/{}/{}", subscription.pattern, subscription.id)
}

/// A subscription in an answer.
#[derive(Debug, Serialize)]
pub struct SubscriptionView {
    id: String,
    r#type: String,
    name: Option<String>,
    tenant: String,
    entity_ksuid: String,
    roll_up: bool,
    filter: Option<Value>,
    destinations: Vec<String>,
    /// Through which dialect it was registered.
    dialect: Option<String>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl SubscriptionView {
    /// How the subscription is shown; `destinations` are the ids of those that it links and that exist.
    pub fn of(subscription: &Subscription, destinations: &[DestinationId]) -> Self {
        SubscriptionView {
            id: subscription.id.to_string(),
            r#type: subscription.pattern.to_string(),
            name: subscription.name.clone(),
            tenant: subscription.tenant.to_string(),
            entity_ksuid: subscription.tenant.to_string(),
            roll_up: subscription.roll_up,
            filter: subscription.filter.as_ref().map(Filter::view),
            destinations: destinations.iter().map(|id| id.to_string()).collect(),
            dialect: dialect_of(subscription).map(str::to_owned),
            created: subscription.created.to_string(),
            url: None,
        }
    }

    /// The same with its own path, as the answer to a create has it.
    #[must_use]
    pub fn with_url(mut self) -> Self {
        self.url = Some(format!("{PATH}/{}/{}", self.r#type, self.id));
        self
    }
}

/// The subscription types of source 002: always listed, so that its callers find what they know.
const KNOWN_TYPES: [&str; 4] =
    ["merchant_ach_funding_item", "merchant_card_funding_group", "merchant_card_funding_item", "transaction"];

/// `GET /v1/subscriptions`: where the subscriptions of each type are listed.
pub(super) async fn kinds(call: Call, caller: Caller) -> Result<Response, Problem> {
    let (catalog, tenant) = (call.service.catalog(), caller.tenant());
    let used = catalog.subscriptions().filter(|subscription| subscription.tenant == tenant);
    let mut types: BTreeSet<String> = used.map(|subscription| subscription.pattern.to_string()).collect();
    types.extend(KNOWN_TYPES.map(str::to_owned));
    Ok(native::ok(&Urls { urls: types.iter().map(|kind| format!("{PATH}/{kind}")).collect() }))
}

/// `GET /v1/subscriptions/{type}`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let (pattern, tenant) = (call.params.parse::<TypePattern>("type")?, caller.tenant());
    let query = call.request.query()?;
    let (page, catalog) = (Page::from_query(call.request.path(), &query)?, call.service.catalog());
    let rows = catalog.subscriptions().filter(|it| it.tenant == tenant && it.pattern == pattern);
    let cursor = |it: &&Arc<Subscription>| Cursor { place: it.no.0.into(), second: 0 };
    Ok(native::ok(&page.of("subscriptions", rows, cursor, |it| view(&catalog, it))))
}

fn view(catalog: &Catalog, subscription: &Subscription) -> SubscriptionView {
    let linked = subscription.destinations.iter().filter_map(|&no| catalog.destination(no));
    let ids: Vec<_> = linked.map(|destination| destination.id).collect();
    SubscriptionView::of(subscription, &ids)
}

/// The subscription that a path names, by its type and its id.
fn named(call: &Call, sight: &Sight) -> Result<Arc<Subscription>, Problem> {
    let (pattern, id) = (call.params.parse::<TypePattern>("type")?, call.params.parse::<SubscriptionId>("id")?);
    let subscription = call.service.subscription(sight, id)?;
    // Under another type there is no such subscription.
    if subscription.pattern == pattern { Ok(subscription) } else { Err(Error::NotFound("subscription").into()) }
}

/// The numbers of the destinations of this tenant that a body names.
fn numbers(catalog: &Catalog, tenant: &TenantId, ids: &[DestinationId]) -> Result<Vec<DestinationNo>, Problem> {
    let mut unknown = Vec::new();
    let mut numbers = Vec::with_capacity(ids.len());
    for (place, &id) in ids.iter().enumerate() {
        match catalog.destination_by_id(id).filter(|it| it.tenant == *tenant) {
            Some(destination) => numbers.push(destination.no),
            // Whether it is another tenant's is not told.
            None => unknown.push(FieldError {
                pointer: format!("/destinations/{place}"),
                detail: "the subscription's tenant has no such destination".to_owned(),
            }),
        }
    }
    if unknown.is_empty() { Ok(numbers) } else { Err(Problem::of_fields(ProblemCode::BadField, unknown)) }
}

/// `POST /v1/subscriptions/{type}`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let pattern = call.params.parse::<TypePattern>("type")?;
    let request: SubscriptionRequest = call.request.json(call.settings.body_bytes_max).await?;
    let NewSubscription { tenant, pattern, name, roll_up, filter, destinations } = request.create(pattern)?;
    let (service, tenant) = (&call.service, caller.tenant_in_body(tenant)?);
    let catalog = service.catalog();
    if catalog.tenant(&tenant).is_none() {
        return Err(Error::Invalid {
            pointer: "/tenant",
            detail: "there is no tenant of this id; create it first".into(),
        }
        .into());
    }
    let subscription = Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(service.fresh_uuid()),
        destinations: numbers(&catalog, &tenant, &destinations)?,
        tenant,
        pattern,
        name,
        roll_up,
        filter,
        registered: None,
        created: service.now(),
    };
    let subscription = service.create_subscription(caller.actor(), subscription).await?;
    Ok(native::created(&path_of(&subscription), &view(&service.catalog(), &subscription).with_url()))
}

/// `GET /v1/subscriptions/{type}/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let subscription = named(&call, &caller.sight())?;
    Ok(native::ok(&view(&call.service.catalog(), &subscription)))
}

/// `PUT /v1/subscriptions/{type}/{id}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let sight = caller.sight();
    let stored = named(&call, &sight)?;
    let request: SubscriptionRequest = call.request.json(call.settings.body_bytes_max).await?;
    let SubscriptionChange { name, roll_up, filter, destinations } = request.update(&stored)?;
    let service = &call.service;
    let change = |subscription: &mut Subscription| -> Result<(), Problem> {
        if let Some(name) = &name {
            subscription.name.clone_from(name);
        }
        if let Some(roll_up) = roll_up {
            subscription.roll_up = roll_up;
        }
        if let Some(filter) = &filter {
            subscription.filter.clone_from(filter);
        }
        if let Some(ids) = &destinations {
            subscription.destinations = numbers(&service.catalog(), &subscription.tenant, ids)?;
        }
        Ok(())
    };
    let subscription =
        service.update_subscription(caller.actor(), Action::SubscriptionUpdate, &sight, stored.id, change).await?;
    Ok(native::ok(&view(&service.catalog(), &subscription)))
}

/// `DELETE /v1/subscriptions/{type}/{id}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    let sight = caller.sight();
    let id = named(&call, &sight)?.id;
    call.service.delete_subscription(caller.actor(), &sight, id).await?;
    Ok(native::no_content())
}

/// `GET /v1/subscriptions/{type}/{id}/destinations`
pub(super) async fn links(call: Call, caller: Caller) -> Result<Response, Problem> {
    let subscription = named(&call, &caller.sight())?;
    let query = call.request.query()?;
    let (page, service, catalog) =
        (Page::from_query(call.request.path(), &query)?, &call.service, call.service.catalog());
    let mut linked: Vec<_> = subscription.destinations.iter().filter_map(|&no| catalog.destination(no)).collect();
    linked.sort_by_key(|destination| destination.no);
    let show = |it: &Arc<_>| destination::view(service, it, &[]);
    Ok(native::ok(&page.of("webhook", linked, |it| destination::cursor(it), show)))
}

/// `POST /v1/subscriptions/{type}/{id}/destinations`: answers with the subscription. What is linked already stays linked.
pub(super) async fn link(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let sight = caller.sight();
    let stored = named(&call, &sight)?;
    let request: LinkRequest = call.request.json(call.settings.body_bytes_max).await?;
    let service = &call.service;
    let id = request.destination()?;
    let own = service.destination(&Sight::One(stored.tenant.clone()), id);
    let no = own.map_err(|_| Error::NotFound("destination of the subscription's tenant"))?.no;
    let change = |subscription: &mut Subscription| -> Result<(), Problem> {
        if subscription.destinations.contains(&no) {
            return Ok(());
        }
        if subscription.destinations.len() == DESTINATIONS_MAX {
            let detail = format!("a subscription links at most {DESTINATIONS_MAX} destinations");
            return Err(Problem::new(ProblemCode::Conflict, detail));
        }
        subscription.destinations.push(no);
        Ok(())
    };
    let subscription =
        service.update_subscription(caller.actor(), Action::SubscriptionLink, &sight, stored.id, change).await?;
    Ok(native::created(&format!("{}/destinations", path_of(&stored)), &view(&service.catalog(), &subscription)))
}

/// `DELETE /v1/subscriptions/{type}/{id}/destinations/{destination}`
pub(super) async fn unlink(call: Call, caller: Caller) -> Result<Response, Problem> {
    let sight = caller.sight();
    let id = call.params.parse::<DestinationId>("destination")?;
    let stored = named(&call, &sight)?;
    let service = &call.service;
    let no = service.catalog().destination_by_id(id).map(|destination| destination.no);
    let change = |subscription: &mut Subscription| -> Result<(), Problem> {
        let place = subscription.destinations.iter().position(|linked| Some(*linked) == no);
        let place = place.ok_or(Error::NotFound("destination in this subscription"))?;
        subscription.destinations.remove(place);
        Ok(())
    };
    service.update_subscription(caller.actor(), Action::SubscriptionUnlink, &sight, stored.id, change).await?;
    Ok(native::no_content())
}

/// `POST /v1/subscriptions/{type}/{id}/test`
pub(super) async fn test(call: Call, caller: Caller) -> Result<Response, Problem> {
    let subscription = named(&call, &caller.sight())?;
    Ok(TestView::of(call.service.test_subscription(caller.actor(), &subscription).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse_json;
    use crate::model::{DestinationNo, SubscriptionNo, Timestamp};
    use uuid::Uuid;

    fn read(text: &str) -> SubscriptionRequest {
        parse_json(text.as_bytes()).unwrap()
    }

    fn stored() -> Subscription {
        Subscription {
            no: SubscriptionNo(1),
            id: crate::model::SubscriptionId(Uuid::from_u128(0xabc)),
            tenant: "m1".parse().unwrap(),
            pattern: "transaction.*".parse().unwrap(),
            name: Some("books".into()),
            roll_up: true,
            filter: None,
            destinations: vec![DestinationNo(1)],
            registered: None,
            created: Timestamp::from_millis(1_700_000_000_000),
        }
    }

    fn pointers(problem: &Problem) -> Vec<&str> {
        problem.errors().iter().map(|error| error.pointer.as_str()).collect()
    }

    #[test]
    fn a_create_takes_either_name_of_the_tenant() {
        let pattern: TypePattern = "transaction".parse().unwrap();
        for body in [r#"{"tenant": "m1"}"#, r#"{"entity_ksuid": "m1"}"#, r#"{"tenant": "m1", "entity_ksuid": "m1"}"#] {
            let made = read(body).create(pattern.clone()).unwrap();
            assert_eq!(made.tenant, Some("m1".parse().unwrap()), "{body}");
        }
        let made = read(r#"{"destinations": ["9603f4b2-1874-42fe-a2bc-f7b45c45a9d6"], "roll_up": true, "name": "n"}"#)
            .create(pattern.clone())
            .unwrap();
        assert_eq!(
            (made.tenant, made.roll_up, made.name.as_deref(), made.destinations.len()),
            (None, true, Some("n"), 1)
        );
        let wrong = read(
            r#"{"tenant": "a", "entity_ksuid": "b", "name": "", "id": "x", "type": "other",
                "destinations": ["9603f4b2-1874-42fe-a2bc-f7b45c45a9d6", "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6", "x"]}"#,
        );
        let problem = wrong.create(pattern).unwrap_err();
        assert_eq!(
            pointers(&problem),
            ["/id", "/type", "/entity_ksuid", "/name", "/destinations/1", "/destinations/2"]
        );
    }

    #[test]
    fn what_was_read_can_be_sent_back_and_changes_only_what_it_says() {
        let view =
            serde_json::to_string(&SubscriptionView::of(&stored(), &[DestinationId(Uuid::from_u128(7))]).with_url());
        let change = read(&view.unwrap()).update(&stored()).unwrap();
        assert_eq!(
            change,
            SubscriptionChange {
                name: Some(Some("books".into())),
                roll_up: Some(true),
                filter: Some(None),
                destinations: Some(vec![DestinationId(Uuid::from_u128(7))]),
            }
        );
        assert_eq!(read("{}").update(&stored()), Ok(SubscriptionChange::default()));
        assert_eq!(read(r#"{"name": null}"#).update(&stored()).unwrap().name, Some(None));
        let moved = read(r#"{"tenant": "m2", "type": "*", "roll_up": null, "destinations": null}"#);
        assert_eq!(pointers(&moved.update(&stored()).unwrap_err()), ["/type", "/tenant", "/roll_up", "/destinations"]);
    }

    #[test]
    fn a_link_names_a_destination() {
        let link = |text: &str| parse_json::<LinkRequest>(text.as_bytes()).unwrap().destination();
        assert!(link(r#"{"destination": "9603f4b2-1874-42fe-a2bc-f7b45c45a9d6"}"#).is_ok());
        assert_eq!(pointers(&link("{}").unwrap_err()), ["/destination"]);
        assert_eq!(pointers(&link(r#"{"destination": "x"}"#).unwrap_err()), ["/destination"]);
    }
}
