//! The catalogue of event types at `/v1/event-types`: names, what they mean, their other spellings and a sample of each.
//!
//! It is the installation's, not a tenant's: whoever reads sees all of it, and administrators of all tenants add to it.
//! What is built in or configured is read-only here.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::api::caller::Caller;
use crate::api::door::{Faults, Patch};
use crate::api::page::{Cursor, Page, by_creation};
use crate::api::{Call, native};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::event_type::Origin;
use crate::model::{EventType, Invalid, KnownType, Timestamp};

/// The path of event types; a type's own path is this, a slash and its name.
pub const PATH: &str = "/v1/event-types";

/// The body of a create and of an update.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventTypeRequest {
    name: Patch<String>,
    description: Patch<String>,
    aliases: Patch<Vec<String>>,
    sample: Patch<Box<RawValue>>,
    source: Patch<String>,
    origin: Patch<String>,
    read_only: Patch<bool>,
    created: Patch<String>,
}

impl EventTypeRequest {
    /// A new event type.
    pub fn create(self, created: Timestamp) -> Result<KnownType, Problem> {
        let mut faults = Faults::default();
        for (pointer, is_there) in [
            ("/source", self.source != Patch::Absent),
            ("/origin", self.origin != Patch::Absent),
            ("/read_only", self.read_only != Patch::Absent),
            ("/created", self.created != Patch::Absent),
        ] {
            if is_there {
                faults.note(pointer, "is given by the daemon");
            }
        }
        let name = match self.name {
            Patch::Absent | Patch::Null => {
                faults.note("/name", "is required");
                None
            }
            Patch::Value(ref text) => faults.weigh("/name", text.parse::<EventType>()),
        };
        let made = name.map(|name| {
            let mut known = KnownType::new(name, Origin::Added { created });
            self.weigh(&mut known, &mut faults);
            known
        });
        faults.into_result()?;
        Ok(made.expect("no fault was noted, so its name was read"))
    }

    /// The event type `stored` with this request's changes; fields that are not there stay.
    pub fn update(self, stored: &KnownType) -> Result<KnownType, Problem> {
        let mut faults = Faults::default();
        let shown = EventTypeView::of(stored);
        for (pointer, field, own) in [
            ("/name", &self.name, Some(shown.name)),
            ("/source", &self.source, shown.source.map(str::to_owned)),
            ("/origin", &self.origin, Some(shown.origin.to_owned())),
            ("/created", &self.created, shown.created),
        ] {
            faults.read_only(pointer, field, |sent| sent == own.as_ref());
        }
        faults.read_only("/read_only", &self.read_only, |sent| sent == Some(&false));
        let mut known = stored.clone();
        self.weigh(&mut known, &mut faults);
        faults.into_result().map(|()| known)
    }

    fn weigh(self, known: &mut KnownType, faults: &mut Faults) {
        faults.set_or("/description", self.description, &mut known.description, None, KnownType::description);
        let name = known.name.clone();
        let aliases = |texts: Vec<String>| {
            let parsed: Result<Vec<EventType>, Invalid> = texts.iter().map(|text| text.parse()).collect();
            KnownType::aliases(&name, parsed?)
        };
        faults.set_or("/aliases", self.aliases, &mut known.aliases, Vec::new(), aliases);
        let sample = |json: Box<RawValue>| KnownType::sample(json.get().to_owned());
        faults.set_or("/sample", self.sample, &mut known.sample, None, sample);
    }
}

/// An event type in an answer.
#[derive(Debug, Serialize)]
pub struct EventTypeView {
    name: String,
    description: Option<String>,
    aliases: Vec<String>,
    /// As it was written.
    sample: Option<Box<RawValue>>,
    origin: &'static str,
    /// Whose pages name it, of a built-in one.
    source: Option<&'static str>,
    read_only: bool,
    created: Option<String>,
}

impl EventTypeView {
    /// How the event type is shown.
    pub fn of(known: &KnownType) -> Self {
        let KnownType { name, description, aliases, sample, origin } = known;
        let (source, created) = match origin {
            Origin::BuiltIn(source) => (Some(source.as_str()), None),
            Origin::Configured => (None, None),
            Origin::Added { created } => (None, Some(created.to_string())),
        };
        EventTypeView {
            name: name.to_string(),
            description: description.clone(),
            aliases: aliases.iter().map(EventType::to_string).collect(),
            sample: sample.clone().and_then(|json| RawValue::from_string(json).ok()),
            origin: origin.as_str(),
            source,
            read_only: created.is_none(),
            created,
        }
    }
}

/// Where an event type stands in the list: built-in and configured ones by their rank, then the others by creation.
fn cursor(rank: usize, known: &KnownType) -> Cursor {
    match known.origin {
        Origin::BuiltIn(_) => Cursor { place: 0, second: rank as u64 },
        Origin::Configured => Cursor { place: 1, second: rank as u64 },
        Origin::Added { created } => {
            let Cursor { place, second } = by_creation(created, known.name.as_str());
            Cursor { place: place.max(2), second }
        }
    }
}

/// `GET /v1/event-types`
pub(super) async fn list(call: Call, _: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let (page, catalog) = (Page::from_query(call.request.path(), &query)?, call.service.catalog());
    let mut types: Vec<_> = catalog.event_types().iter().enumerate().collect();
    types.sort_by_cached_key(|(rank, known)| cursor(*rank, known));
    let list = page.of("event_types", types, |(rank, known)| cursor(*rank, known), |(_, it)| EventTypeView::of(it));
    Ok(native::ok(&list))
}

/// A key that is bound to a tenant does not change what is everybody's.
fn may_change(caller: &Caller) -> Result<(), Problem> {
    match caller.reaches_all() {
        true => Ok(()),
        false => Err(Problem::new(ProblemCode::Forbidden, "event types are for administrators of all tenants")),
    }
}

/// `POST /v1/event-types`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    may_change(&caller)?;
    let request: EventTypeRequest = call.request.json(call.settings.body_bytes_max).await?;
    let known = request.create(call.service.now())?;
    let known = call.service.create_event_type(caller.actor(), known).await?;
    Ok(native::created(&format!("{PATH}/{}", known.name), &EventTypeView::of(&known)))
}

/// `GET /v1/event-types/{name}`; an alias leads to its type.
pub(super) async fn read(call: Call, _: Caller) -> Result<Response, Problem> {
    let known = call.service.event_type(&call.params.parse("name")?)?;
    Ok(native::ok(&EventTypeView::of(&known)))
}

/// `PUT /v1/event-types/{name}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    may_change(&caller)?;
    let name = call.params.parse::<EventType>("name")?;
    // What cannot be changed is refused before its change is read.
    call.service.event_type_to_change(&name)?;
    let request: EventTypeRequest = call.request.json(call.settings.body_bytes_max).await?;
    let change = |stored: &KnownType| request.clone().update(stored);
    let known = call.service.update_event_type(caller.actor(), &name, change).await?;
    Ok(native::ok(&EventTypeView::of(&known)))
}

/// `DELETE /v1/event-types/{name}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    may_change(&caller)?;
    call.service.delete_event_type(caller.actor(), &call.params.parse("name")?).await?;
    Ok(native::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse_json;

    fn create(text: &str) -> Result<KnownType, Problem> {
        parse_json::<EventTypeRequest>(text.as_bytes()).unwrap().create(Timestamp::ZERO)
    }

    #[test]
    fn an_event_type_is_made_changed_and_shown() {
        let known = create(r#"{"name": "refund.settled", "aliases": ["refund.done"], "sample": {"b" : 1.0}}"#).unwrap();
        let view = serde_json::to_string(&EventTypeView::of(&known)).unwrap();
        assert!(view.contains(r#""sample":{"b" : 1.0}"#) && view.contains(r#""read_only":false"#), "{view}");
        let update = |text: &str| parse_json::<EventTypeRequest>(text.as_bytes()).unwrap().update(&known);
        assert_eq!(update(&view), Ok(known.clone()), "what is shown can be sent back");
        assert_eq!(update("{}"), Ok(known.clone()));
        let bare = update(r#"{"sample": null, "aliases": null}"#).unwrap();
        assert_eq!((bare.sample, bare.aliases.len()), (None, 0));
        assert_eq!(update(r#"{"description": "Paid back"}"#).unwrap().description.as_deref(), Some("Paid back"));
        for (wrong, pointer) in [
            (r#"{"name": "other"}"#, "/name"),
            (r#"{"origin": "built_in"}"#, "/origin"),
            (r#"{"read_only": true}"#, "/read_only"),
            (r#"{"aliases": ["refund.settled"]}"#, "/aliases"),
            (r#"{"aliases": ["a b"]}"#, "/aliases"),
            (r#"{"description": ""}"#, "/description"),
        ] {
            assert_eq!(update(wrong).unwrap_err().errors()[0].pointer, pointer, "{wrong}");
        }
        for wrong in ["{}", r#"{"name": "a b"}"#, r#"{"name": "a", "created": "x"}"#, r#"{"name": "a", "source": "x"}"#]
        {
            assert!(create(wrong).is_err(), "{wrong}");
        }
    }
}
