//! Subscriptions: made, changed, deleted.

use std::sync::Arc;

use redb::StorageError;
use serde_json::Value;

use crate::model::audit::{self, Action, Deed};
use crate::model::{Subscription, SubscriptionId, SubscriptionNo};
use crate::store::audit::{Effect, Steer};
use crate::store::writer::{ApplyError, Batch};

use super::{Rejected, deed_of, kind, refused};

/// Creates a subscription; the writer gives its number.
pub struct CreateSubscription {
    /// The new subscription; its `no` is ignored.
    pub subscription: Subscription,
}

impl Steer for CreateSubscription {
    type Answer = Result<Arc<Subscription>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let subscription = self.subscription;
        if batch.catalog().subscription_by_id(subscription.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if let Err(rejected) = may_subscribe(batch, &subscription) {
            return refused(Err(rejected));
        }
        let (stored, deed) = create_subscription(batch, subscription)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a new subscription, under the next number.
pub(in crate::store) fn create_subscription(
    batch: &mut Batch<'_>,
    mut subscription: Subscription,
) -> Result<(Arc<Subscription>, Deed), StorageError> {
    subscription.no = SubscriptionNo(batch.numbers.next_subscription);
    batch.numbers.next_subscription += 1;
    let stored = put_subscription(batch, subscription)?;
    let view = subscription_view(batch, &stored);
    let deed = deed_of(Action::SubscriptionCreate, Some(&stored.tenant), stored.id, (Value::Null, view));
    Ok((stored, deed))
}

/// Replaces a subscription, if it still is what the caller saw.
pub struct UpdateSubscription {
    /// What the caller saw.
    pub before: Arc<Subscription>,
    /// What it is to be; number and id stay.
    pub after: Subscription,
    /// What this is in the audit log.
    pub action: Action,
}

impl Steer for UpdateSubscription {
    type Answer = Result<Arc<Subscription>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().subscription(self.before.no) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        if let Err(rejected) = may_subscribe(batch, &self.after) {
            return refused(Err(rejected));
        }
        let (stored, deed) = replace_subscription(batch, &self.before, self.after, self.action)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a subscription in the place of what it was. One that no longer links what it was registered with is as if it had been
/// made without a dialect.
pub(in crate::store) fn replace_subscription(
    batch: &mut Batch<'_>,
    before: &Subscription,
    mut after: Subscription,
    action: Action,
) -> Result<(Arc<Subscription>, Deed), StorageError> {
    let destinations = &after.destinations;
    after.registered.take_if(|registered| !destinations.contains(&registered.destination));
    let before = subscription_view(batch, before);
    let stored = put_subscription(batch, after)?;
    let changes = audit::changes(before, subscription_view(batch, &stored));
    let deed = deed_of(action, Some(&stored.tenant), stored.id, changes);
    Ok((stored, deed))
}

/// A subscription names destinations of its own tenant. What a tenant above wants of this one's events it takes by a
/// subscription of its own that rolls up: so nobody's list shows, or ends, what another tenant has set up.
fn may_subscribe(batch: &Batch<'_>, subscription: &Subscription) -> Result<(), Rejected> {
    let catalog = batch.catalog();
    if catalog.tenant(&subscription.tenant).is_none() {
        return Err(Rejected::UnknownTenant);
    }
    let is_own = |no| catalog.destination(no).is_some_and(|it| it.tenant == subscription.tenant);
    match subscription.destinations.iter().all(|no| is_own(*no)) {
        true => Ok(()),
        false => Err(Rejected::UnknownDestination),
    }
}

fn subscription_view(batch: &Batch<'_>, subscription: &Subscription) -> Value {
    audit::subscription(subscription, |no| batch.catalog().destination_id(no))
}

pub(super) fn put_subscription(
    batch: &mut Batch<'_>,
    subscription: Subscription,
) -> Result<Arc<Subscription>, StorageError> {
    let key = subscription.no.0.to_be_bytes();
    batch.things.put((kind::SUBSCRIPTION, key.as_slice()), &subscription)?;
    Ok(batch.catalog_mut().put_subscription(subscription))
}

/// Deletes a subscription. Deliveries that it made stay.
pub struct DeleteSubscription {
    /// Which.
    pub id: SubscriptionId,
}

impl Steer for DeleteSubscription {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(stored) = batch.catalog().subscription_by_id(self.id).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        let deed = delete_subscription(batch, &stored)?;
        Ok(Effect::Done(Ok(()), vec![deed]))
    }
}

pub(super) fn delete_subscription(batch: &mut Batch<'_>, subscription: &Subscription) -> Result<Deed, StorageError> {
    let (no, before) = (subscription.no, subscription_view(batch, subscription));
    batch.things.remove((kind::SUBSCRIPTION, no.0.to_be_bytes().as_slice()))?;
    batch.catalog_mut().remove_subscription(no);
    let (tenant, id) = (Some(&subscription.tenant), subscription.id);
    Ok(deed_of(Action::SubscriptionDelete, tenant, id, (before, Value::Null)))
}
