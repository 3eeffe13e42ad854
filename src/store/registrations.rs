//! What dialects register: a destination and its subscription in one transaction, and a record of each in the audit log.

use std::sync::Arc;

use redb::ReadableTable;

use crate::model::audit::{Action, Deed};
use crate::model::{
    Destination, Order, Registered, Registration, RegistrationChange, Subscription, SubscriptionId, TenantId,
};

use super::audit::{Effect, Steer};
use super::op::{self, Rejected, kind};
use super::tables::Records;
use super::writer::{ApplyError, Batch};
use super::{Catalog, codec};

impl Catalog {
    /// A tenant's registrations of a dialect, in order of creation.
    pub fn registrations(&self, tenant: &TenantId, dialect: &str) -> Vec<Registration> {
        let of_tenant = self.subscriptions().filter(|subscription| subscription.tenant == *tenant);
        let mut found: Vec<_> = of_tenant.filter_map(|subscription| self.registration(subscription, dialect)).collect();
        found.sort_by_key(|registration| registration.serial);
        found
    }

    fn registration(&self, subscription: &Arc<Subscription>, dialect: &str) -> Option<Registration> {
        let mark = subscription.registered.as_ref().filter(|registered| registered.dialect == dialect)?;
        let destination = Arc::clone(self.destination(mark.destination)?);
        Some(Registration { serial: mark.serial, subscription: Arc::clone(subscription), destination })
    }
}

/// Carries out an order of a dialect at once.
pub struct CarryOut {
    /// Whose registration it is about.
    pub tenant: TenantId,
    /// Which dialect orders it.
    pub dialect: String,
    /// What is to be done.
    pub order: Order,
}

impl Steer for CarryOut {
    /// The registration as it is from now on, or as it was before it was deleted.
    type Answer = Result<Registration, Rejected>;

    fn bytes(&self) -> usize {
        2048
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match carry_out(batch, &self.tenant, &self.dialect, self.order)? {
            Ok((registration, deeds)) => Ok(Effect::Done(Ok(registration), deeds)),
            Err(rejected) => Ok(Effect::Refused(Err(rejected))),
        }
    }
}

/// What was done, with a record for each thing that changed; or why nothing was.
type Done = Result<(Registration, Vec<Deed>), Rejected>;

/// Carries out an order.
pub(super) fn carry_out(
    batch: &mut Batch<'_>,
    tenant: &TenantId,
    dialect: &str,
    order: Order,
) -> Result<Done, ApplyError> {
    match order {
        Order::Register { destination, subscription, only } => {
            register(batch, tenant, dialect, (*destination, *subscription), only)
        }
        Order::Change { subscription, change } => match find(batch, tenant, dialect, subscription) {
            Some(before) => change_one(batch, before, &change),
            None => Ok(Err(Rejected::Unknown)),
        },
        Order::Deregister { subscription } => match find(batch, tenant, dialect, subscription) {
            Some(registration) => {
                // The subscription goes with the destination that it was registered with.
                let deeds = op::delete_destination(batch, &registration.destination)?;
                Ok(Ok((registration, deeds)))
            }
            None => Ok(Err(Rejected::Unknown)),
        },
    }
}

fn find(batch: &Batch<'_>, tenant: &TenantId, dialect: &str, id: SubscriptionId) -> Option<Registration> {
    let subscription = batch.catalog().subscription_by_id(id).filter(|subscription| subscription.tenant == *tenant)?;
    batch.catalog().registration(subscription, dialect)
}

fn register(
    batch: &mut Batch<'_>,
    tenant: &TenantId,
    dialect: &str,
    (destination, mut subscription): (Destination, Subscription),
    only: bool,
) -> Result<Done, ApplyError> {
    let catalog = batch.catalog();
    let is_taken = catalog.destination_no(destination.id).is_some()
        || catalog.subscription_by_id(subscription.id).is_some()
        || (only && !catalog.registrations(tenant, dialect).is_empty());
    if is_taken {
        return Ok(Err(Rejected::Exists));
    }
    if catalog.tenant(tenant).is_none() || destination.tenant != *tenant || subscription.tenant != *tenant {
        return Ok(Err(Rejected::UnknownTenant));
    }
    let (destination, made) = op::create_destination(batch, destination)?;
    let serial = next_serial(batch, tenant)?;
    subscription.destinations = vec![destination.no];
    subscription.registered = Some(Registered { dialect: dialect.to_owned(), serial, destination: destination.no });
    let (subscription, subscribed) = op::create_subscription(batch, subscription)?;
    Ok(Ok((Registration { serial, subscription, destination }, vec![made, subscribed])))
}

/// The next number of a tenant's registrations. A deleted one's is not given again.
fn next_serial(batch: &mut Batch<'_>, tenant: &TenantId) -> Result<u32, ApplyError> {
    let place = (kind::SERIAL, tenant.as_str().as_bytes());
    let kept = match batch.things.get(place)? {
        Some(record) => codec::decode::<u32>(batch.things.place(place), record.value()).ok(),
        None => Some(0),
    };
    // Where the record is damaged, the registrations that are there tell what has been given.
    let last = kept.unwrap_or_else(|| {
        let own = batch.catalog().subscriptions().filter(|it| it.tenant == *tenant);
        own.filter_map(|it| it.registered.as_ref().map(|registered| registered.serial)).max().unwrap_or_default()
    });
    let serial = last + 1;
    batch.things.put(place, &serial)?;
    Ok(serial)
}

fn change_one(batch: &mut Batch<'_>, before: Registration, change: &RegistrationChange) -> Result<Done, ApplyError> {
    let Registration { serial, mut subscription, mut destination } = before;
    if !change.may_change(&destination) {
        // Whoever ordered it saw the destination before private addresses were opened for it.
        return Ok(Err(Rejected::Stale));
    }
    let mut deeds = Vec::new();
    let after = change.of_destination(&destination);
    // Whoever asks for what is there already is in the log all the same.
    if after != *destination || change.of_subscription(&subscription) == *subscription {
        let (stored, deed) = op::replace_destination(batch, &destination, after, Action::DestinationUpdate)?;
        destination = stored;
        deeds.push(deed);
    }
    let after = change.of_subscription(&subscription);
    if after != *subscription {
        let (stored, deed) = op::replace_subscription(batch, &subscription, after, Action::SubscriptionUpdate)?;
        subscription = stored;
        deeds.push(deed);
    }
    Ok(Ok((Registration { serial, subscription, destination }, deeds)))
}
