//! Subscriptions on the wire: `/v1/subscriptions/{type}`, where `{type}` is a type or a pattern.
//!
//! `entity_ksuid` is source 002's name for the tenant: both names are taken, and both are shown.

use serde::{Deserialize, Serialize};

use crate::api::door::{Faults, Patch, plain_text};
use crate::http::problem::Problem;
use crate::model::{DestinationId, Subscription, TenantId, TypePattern};

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
    name: Patch<String>,
    roll_up: Patch<bool>,
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
        if self.r#type != Patch::Absent && self.r#type != Patch::Value(pattern.to_string()) {
            faults.note("/type", "is the one in the path");
        }
        let tenant = tenant(self.tenant.value(), self.entity_ksuid.value(), &mut faults);
        let mut made = NewSubscription { tenant, pattern, name: None, roll_up: false, destinations: Vec::new() };
        faults.set_or("/name", self.name, &mut made.name, None, name);
        faults.set_or("/roll_up", self.roll_up, &mut made.roll_up, false, Ok);
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
            match field {
                Patch::Absent => {}
                Patch::Value(text) if is_same(&text) => {}
                Patch::Value(_) | Patch::Null => faults.note(pointer, "is read-only; leave it out or send it as it is"),
            }
        }
        let mut change = SubscriptionChange::default();
        faults.set_or("/name", self.name, &mut change.name, Some(None), |text| name(text).map(Some));
        faults.set("/roll_up", self.roll_up, &mut change.roll_up, |roll_up| Ok(Some(roll_up)));
        match self.destinations {
            Patch::Absent => {}
            Patch::Null => faults.note("/destinations", "cannot be null; [] links none"),
            Patch::Value(texts) => change.destinations = Some(destinations(texts, &mut faults)),
        }
        faults.into_result().map(|()| change)
    }
}

fn name(text: String) -> Result<Option<String>, crate::model::Invalid> {
    plain_text(text, 1, NAME_CHARS_MAX).map(Some)
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
        faults.note("/destinations", format!("has at most {DESTINATIONS_MAX} entries"));
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
    destinations: Vec<String>,
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
            destinations: destinations.iter().map(|id| id.to_string()).collect(),
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
            destinations: vec![DestinationNo(1)],
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
