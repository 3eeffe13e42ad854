//! Tenants: made, changed, deleted.

use redb::{ReadableTable, StorageError};
use serde_json::Value;

use crate::model::audit::{self, Action};
use crate::model::{Seq, Tenant, TenantId};
use crate::store::audit::{Effect, Steer};
use crate::store::catalog::TENANT_DEPTH_MAX;
use crate::store::record::FormerTenant;
use crate::store::tables::Records;
use crate::store::writer::{ApplyError, Batch};
use crate::store::{codec, commands, replays};

use super::{Rejected, done, kind, refused};

/// Creates a tenant; the writer gives its place in the audit log.
pub struct CreateTenant {
    /// The new tenant; its `audit_from` is ignored.
    pub tenant: Tenant,
}

impl Steer for CreateTenant {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        if batch.catalog().tenant(&self.tenant.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if let Err(rejected) = may_nest(batch, &self.tenant) {
            return refused(Err(rejected));
        }
        if !forget_former_tenant(batch, &self.tenant.id)? {
            return refused(Err(Rejected::TenantRemembered));
        }
        let (id, view) = (self.tenant.id.clone(), audit::tenant(&self.tenant));
        // The record of this very creation is the next one. What stands before it is of whoever had the id before.
        let audit_from = batch.standing().audit.head.number + 1;
        put_tenant(batch, Tenant { audit_from, ..self.tenant })?;
        done(Ok(()), Action::TenantCreate, Some(&id), &id, (Value::Null, view))
    }
}

/// Events that are looked at for one of a former tenant. Where more remain from its time, its id stays taken.
const FORMER_EVENTS_MAX: usize = 1000;

/// Frees the id of a deleted tenant, if nothing remains that whoever takes the id would see. Answers whether the id is free.
fn forget_former_tenant(batch: &mut Batch<'_>, id: &TenantId) -> Result<bool, ApplyError> {
    let place = (kind::FORMER_TENANT, id.as_str().as_bytes());
    let FormerTenant { until } = match batch.things.get(place)? {
        Some(record) => match codec::decode(batch.things.place(place), record.value()) {
            Ok(former) => former,
            // Until when its events reach is not known any more: the id stays taken.
            Err(_) => return Ok(false),
        },
        None => return Ok(true),
    };
    let mut buried = Vec::new();
    for tombstone in batch.catalog().tombstones().filter(|tombstone| tombstone.tenant == *id) {
        buried.push(tombstone.no);
    }
    for (looked_at, entry) in batch.events.range(..until.0)?.enumerate() {
        let (seq, record) = entry?;
        // A damaged event is nobody's that anybody sees.
        let head = codec::decode_event_head(batch.events.place(seq.value()), record.value()).ok();
        let is_seen = head.is_some_and(|head| {
            head.tenant == *id || head.targets.iter().any(|target| buried.contains(&target.destination))
        });
        if is_seen || looked_at + 1 >= FORMER_EVENTS_MAX {
            return Ok(false);
        }
    }
    for no in buried {
        batch.things.remove((kind::TOMBSTONE, no.0.to_be_bytes().as_slice()))?;
        batch.catalog_mut().unbury(no);
        *batch.tally_mut(no) = Default::default();
        batch.chapters.forget(no)?;
    }
    batch.things.remove(place)?;
    Ok(true)
}

/// Replaces a tenant's name and parent.
pub struct UpdateTenant {
    /// The tenant as it is to be; its `audit_from` is ignored and stays.
    pub tenant: Tenant,
}

impl Steer for UpdateTenant {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let present = batch.catalog().tenant(&self.tenant.id);
        let Some((before, audit_from)) = present.map(|present| (audit::tenant(present), present.audit_from)) else {
            return refused(Err(Rejected::Unknown));
        };
        if let Err(rejected) = may_nest(batch, &self.tenant) {
            return refused(Err(rejected));
        }
        let (id, after) = (self.tenant.id.clone(), audit::tenant(&self.tenant));
        put_tenant(batch, Tenant { audit_from, ..self.tenant })?;
        done(Ok(()), Action::TenantUpdate, Some(&id), &id, audit::changes(before, after))
    }
}

fn may_nest(batch: &Batch<'_>, tenant: &Tenant) -> Result<(), Rejected> {
    let Some(parent) = &tenant.parent else { return Ok(()) };
    if batch.catalog().tenant(parent).is_none() {
        return Err(Rejected::UnknownTenant);
    }
    let above: Vec<_> = batch.catalog().ancestors(parent).collect();
    let ring = *parent == tenant.id || above.contains(&&tenant.id);
    let height = below(batch, &tenant.id);
    if ring || above.len() + height + 2 > TENANT_DEPTH_MAX { Err(Rejected::TenantNesting) } else { Ok(()) }
}

/// How many levels of tenants lie below this one.
fn below(batch: &Batch<'_>, id: &TenantId) -> usize {
    let catalog = batch.catalog();
    catalog
        .tenants()
        .filter_map(|tenant| catalog.ancestors(&tenant.id).position(|above| above == id))
        .map(|place| place + 1)
        .max()
        .unwrap_or(0)
}

fn put_tenant(batch: &mut Batch<'_>, tenant: Tenant) -> Result<(), StorageError> {
    batch.things.put((kind::TENANT, tenant.id.as_str().as_bytes()), &tenant)?;
    batch.catalog_mut().put_tenant(tenant);
    Ok(())
}

/// Deletes a tenant that owns nothing. Its id stays taken while events of it may remain.
pub struct DeleteTenant {
    /// Which.
    pub id: TenantId,
}

impl Steer for DeleteTenant {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let catalog = batch.catalog();
        let Some(before) = catalog.tenant(&self.id).map(|tenant| audit::tenant(tenant)) else {
            return refused(Err(Rejected::Unknown));
        };
        let in_use = self.id == TenantId::default_tenant()
            || catalog.tenants().any(|tenant| tenant.parent.as_ref() == Some(&self.id))
            || catalog.destinations().any(|destination| destination.tenant == self.id)
            || catalog.subscriptions().any(|subscription| subscription.tenant == self.id)
            || catalog.keys().any(|key| key.tenant.as_ref() == Some(&self.id))
            || catalog.signing_keys().any(|key| key.tenant == self.id)
            || catalog.users().any(|user| user.tenant.as_ref() == Some(&self.id));
        if in_use {
            return refused(Err(Rejected::TenantInUse));
        }
        let name = self.id.as_str().as_bytes();
        let former = FormerTenant { until: Seq(batch.numbers.next_seq) };
        batch.things.remove((kind::TENANT, name))?;
        batch.things.put((kind::FORMER_TENANT, name), &former)?;
        batch.catalog_mut().remove_tenant(&self.id);
        replays::forget_tenant(batch, &self.id)?;
        commands::forget_tenant(batch, &self.id)?;
        batch.things.remove((kind::SERIAL, name))?;
        done(Ok(()), Action::TenantDelete, Some(&self.id), &self.id, (before, Value::Null))
    }
}
