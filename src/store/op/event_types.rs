//! Known event types: added, changed, deleted.

use std::sync::Arc;

use redb::StorageError;
use serde_json::Value;

use crate::model::audit::{self, Action};
use crate::model::{EventType, KnownType};
use crate::store::audit::{Effect, Steer};
use crate::store::writer::{ApplyError, Batch};

use super::{Rejected, done, kind, refused};

/// Adds an event type to the catalogue.
pub struct CreateEventType {
    /// The type.
    pub known: KnownType,
}

impl Steer for CreateEventType {
    type Answer = Result<Arc<KnownType>, Rejected>;

    fn bytes(&self) -> usize {
        1024 + self.known.sample.as_ref().map_or(0, String::len)
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        // One of this name would be replaced.
        if batch.catalog().event_types().named(&self.known.name).is_some() {
            return refused(Err(Rejected::SpellingTaken));
        }
        let Some(known) = put_event_type(batch, self.known)? else { return refused(Err(Rejected::SpellingTaken)) };
        let view = audit::event_type(&known, None);
        let name = known.name.clone();
        done(Ok(known), Action::EventTypeCreate, None, name, (Value::Null, view))
    }
}

/// Replaces an event type that was added, if it still is what the caller saw.
pub struct UpdateEventType {
    /// What the caller saw.
    pub before: Arc<KnownType>,
    /// What it is to be; the name stays.
    pub after: KnownType,
}

impl Steer for UpdateEventType {
    type Answer = Result<Arc<KnownType>, Rejected>;

    fn bytes(&self) -> usize {
        1024 + self.after.sample.as_ref().map_or(0, String::len)
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().event_types().added(&self.before.name) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        let Some(known) = put_event_type(batch, self.after)? else { return refused(Err(Rejected::SpellingTaken)) };
        let before = audit::event_type(&self.before, None);
        let changes = audit::changes(before, audit::event_type(&known, Some(&self.before)));
        let name = known.name.clone();
        done(Ok(known), Action::EventTypeUpdate, None, name, changes)
    }
}

/// Nothing has changed when a spelling is another type's.
fn put_event_type(batch: &mut Batch<'_>, known: KnownType) -> Result<Option<Arc<KnownType>>, StorageError> {
    let Ok(known) = batch.catalog_mut().put_event_type(known) else { return Ok(None) };
    batch.things.put((kind::EVENT_TYPE, known.name.as_str().as_bytes()), &*known)?;
    Ok(Some(known))
}

/// Takes an event type that was added out of the catalogue. Events and subscriptions of it stay.
pub struct DeleteEventType {
    /// Which.
    pub name: EventType,
}

impl Steer for DeleteEventType {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(known) = batch.catalog().event_types().added(&self.name).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        batch.catalog_mut().remove_event_type(&known.name);
        batch.things.remove((kind::EVENT_TYPE, known.name.as_str().as_bytes()))?;
        done(Ok(()), Action::EventTypeDelete, None, &known.name, (audit::event_type(&known, None), Value::Null))
    }
}
