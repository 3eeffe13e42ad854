//! Destinations: made, changed, asked for their confirmation, deleted.

use std::sync::Arc;

use redb::StorageError;
use serde_json::Value;

use crate::model::audit::{self, Action, Deed};
use crate::model::event::{NewEvent, Target};
use crate::model::{DeliveryKey, Destination, DestinationNo, Seq, Subscription, Timestamp, Trigger};
use crate::store::audit::{Effect, Steer};
use crate::store::bell::Change;
use crate::store::catalog::Routed;
use crate::store::record::Tombstone;
use crate::store::writer::{ApplyError, Batch};

use super::deliveries::{cancel, waiting_row};
use super::events::put_event;
use super::lanes::{IN_ORDER_AT_ONCE, open_anew, put_in_order};
use super::subscriptions::{delete_subscription, put_subscription};
use super::{Rejected, deed_of, done, kind, refused};

/// Creates a destination; the writer gives its number.
pub struct CreateDestination {
    /// The new destination; its `no` is ignored.
    pub destination: Destination,
}

impl Steer for CreateDestination {
    type Answer = Result<Arc<Destination>, Rejected>;

    fn bytes(&self) -> usize {
        1024
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let destination = self.destination;
        if batch.catalog().tenant(&destination.tenant).is_none() {
            return refused(Err(Rejected::UnknownTenant));
        }
        if batch.catalog().destination_no(destination.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if !may_sign(batch, &destination) {
            return refused(Err(Rejected::UnknownSigningKey));
        }
        let (stored, deed) = create_destination(batch, destination)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a new destination, under the next number.
pub(in crate::store) fn create_destination(
    batch: &mut Batch<'_>,
    mut destination: Destination,
) -> Result<(Arc<Destination>, Deed), StorageError> {
    destination.no = DestinationNo(batch.numbers.next_destination);
    batch.numbers.next_destination += 1;
    let stored = put_destination(batch, destination)?;
    let view = audit::destination(&stored, None);
    let deed = deed_of(Action::DestinationCreate, Some(&stored.tenant), stored.id, (Value::Null, view));
    Ok((stored, deed))
}

/// Replaces a destination, if it still is what the caller saw.
pub struct UpdateDestination {
    /// What the caller saw.
    pub before: Arc<Destination>,
    /// What it is to be; number, id and tenant stay.
    pub after: Destination,
    /// What this is in the audit log.
    pub action: Action,
}

impl Steer for UpdateDestination {
    type Answer = Result<Arc<Destination>, Rejected>;

    fn bytes(&self) -> usize {
        1024
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().destination(self.before.no) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        if !may_sign(batch, &self.after) {
            return refused(Err(Rejected::UnknownSigningKey));
        }
        let (stored, deed) = replace_destination(batch, &self.before, self.after, self.action)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a destination in the place of what it was.
pub(in crate::store) fn replace_destination(
    batch: &mut Batch<'_>,
    before: &Destination,
    after: Destination,
    action: Action,
) -> Result<(Arc<Destination>, Deed), ApplyError> {
    let moved = after.url != before.url;
    if after.asked != before.asked {
        withdraw(batch, before)?;
    }
    let stored = put_destination(batch, after)?;
    if moved {
        // What was found out is of the receiver at the old URL.
        open_anew(batch, stored.no);
    }
    if stored.ordered != before.ordered {
        batch.lane_mut(stored.no).ordering = stored.ordered.then_some((Timestamp::ZERO, Seq(0)));
        put_in_order(batch, stored.no, IN_ORDER_AT_ONCE)?;
    }
    let changes = audit::changes(audit::destination(before, None), audit::destination(&stored, Some(before)));
    let deed = deed_of(action, Some(&stored.tenant), stored.id, changes);
    Ok((stored, deed))
}

/// Asks a destination's receiver for its confirmation, in the place of whatever request still waits (decision D22). It also
/// opens a lane that is gone, shut or held, as a resume does; a paused one stays paused.
pub struct Ask {
    /// Which.
    pub no: DestinationNo,
    /// The request; it goes to this destination, whatever it says of where it goes.
    pub request: NewEvent,
}

impl Steer for Ask {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        2048
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(destination) = batch.catalog().destination(self.no).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        ask(batch, &destination, self.request)?;
        // The operator says go: a lane that is gone, shut or held would keep the request for as long.
        open_anew(batch, destination.no);
        let (tenant, id) = (destination.tenant.clone(), destination.id);
        done(Ok(()), Action::DestinationConfirm, Some(&tenant), id, (Value::Null, Value::Null))
    }
}

fn ask(batch: &mut Batch<'_>, destination: &Destination, request: NewEvent) -> Result<Arc<Destination>, ApplyError> {
    withdraw(batch, destination)?;
    let targets = vec![Target { destination: destination.no, subscriptions: Vec::new() }];
    let event = put_event(batch, request, Routed { targets, skipped: Vec::new() }, Trigger::Confirmation)?;
    Ok(put_destination(batch, Destination { asked: Some(event.seq), ..destination.clone() })?)
}

/// Ends the request for a confirmation that still waits, if there is one: at most one waits for a destination.
fn withdraw(batch: &mut Batch<'_>, destination: &Destination) -> Result<(), ApplyError> {
    let Some(seq) = destination.asked else { return Ok(()) };
    match waiting_row(batch, DeliveryKey { destination: destination.no, seq })? {
        Some(row) => cancel(batch, &row),
        None => Ok(()),
    }
}

/// A change of a destination, and the request for its confirmation that follows from it: both or neither.
pub struct AndAsk<S> {
    /// The change.
    pub change: S,
    /// The request, where one follows.
    pub request: Option<NewEvent>,
}

impl<S: Steer<Answer = Result<Arc<Destination>, Rejected>>> Steer for AndAsk<S> {
    type Answer = Result<Arc<Destination>, Rejected>;

    fn bytes(&self) -> usize {
        self.change.bytes() + 2048
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match (self.change.steer(batch)?, self.request) {
            (Effect::Done(Ok(destination), deeds), Some(request)) => {
                Ok(Effect::Done(Ok(ask(batch, &destination, request)?), deeds))
            }
            (effect, _) => Ok(effect),
        }
    }
}

/// Whether each signing key that a destination names is there, and its own tenant's.
fn may_sign(batch: &Batch<'_>, destination: &Destination) -> bool {
    batch.catalog().signatures_of(destination).is_ok()
}

pub(super) fn put_destination(
    batch: &mut Batch<'_>,
    destination: Destination,
) -> Result<Arc<Destination>, StorageError> {
    let key = destination.no.0.to_be_bytes();
    batch.things.put((kind::DESTINATION, key.as_slice()), &destination)?;
    batch.changes.push(Change::Lane(destination.no));
    Ok(batch.catalog_mut().put_destination(destination))
}

/// Deletes a destination: it leaves its subscriptions at once, and a [`super::Purge`] cancels what still waits for it.
pub struct DeleteDestination {
    /// Which.
    pub no: DestinationNo,
}

impl Steer for DeleteDestination {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(destination) = batch.catalog().destination(self.no).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        let deeds = delete_destination(batch, &destination)?;
        Ok(Effect::Done(Ok(()), deeds))
    }
}

/// Deletes a destination. A subscription that was registered with it goes too: whoever registered the two knows them as one.
pub(in crate::store) fn delete_destination(
    batch: &mut Batch<'_>,
    destination: &Destination,
) -> Result<Vec<Deed>, ApplyError> {
    let no = destination.no;
    let naming: Vec<_> = batch
        .catalog()
        .subscriptions()
        .filter(|subscription| subscription.destinations.contains(&no))
        .map(|subscription| Subscription::clone(subscription))
        .collect();
    let mut before = audit::destination(destination, None);
    before["subscriptions"] = naming.iter().map(|subscription| subscription.id.to_string()).collect();
    let mut deeds = Vec::new();
    for mut subscription in naming {
        if subscription.registered.as_ref().is_some_and(|registered| registered.destination == no) {
            deeds.push(delete_subscription(batch, &subscription)?);
            continue;
        }
        subscription.destinations.retain(|other| *other != no);
        put_subscription(batch, subscription)?;
    }
    let Destination { id, tenant, name, .. } = destination;
    let tombstone = Tombstone { no, id: *id, tenant: tenant.clone(), name: name.clone(), deleted: batch.now };
    let key = no.0.to_be_bytes();
    batch.things.remove((kind::DESTINATION, key.as_slice()))?;
    batch.things.put((kind::TOMBSTONE, key.as_slice()), &tombstone)?;
    *batch.lane_mut(no) = Default::default();
    batch.catalog_mut().bury(tombstone);
    batch.changes.push(Change::Lane(no));
    deeds.push(deed_of(Action::DestinationDelete, Some(tenant), id, (before, Value::Null)));
    Ok(deeds)
}
