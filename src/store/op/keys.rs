//! API keys: made, changed, deleted.

use std::sync::Arc;

use serde_json::Value;

use crate::model::audit::{self, Action};
use crate::model::{ApiKey, KeyId};
use crate::store::audit::{Effect, Steer};
use crate::store::writer::{ApplyError, Batch};

use super::{Rejected, done, kind, refused};

/// Creates a key, or replaces one that is there.
pub struct PutKey {
    /// The key.
    pub key: ApiKey,
    /// Whether it must be there already. A change must never bring back a key that was deleted meanwhile.
    pub must_exist: bool,
}

impl Steer for PutKey {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let before = batch.catalog().key(self.key.id).map(|key| audit::key(key));
        if self.must_exist && before.is_none() {
            return refused(Err(Rejected::Unknown));
        }
        if let Some(tenant) = &self.key.tenant
            && batch.catalog().tenant(tenant).is_none()
        {
            return refused(Err(Rejected::UnknownTenant));
        }
        let (tenant, after) = (self.key.tenant.clone(), audit::key(&self.key));
        let (action, changes) = match before {
            Some(before) => (Action::KeyUpdate, audit::changes(before, after)),
            None => (Action::KeyCreate, (Value::Null, after)),
        };
        let place = self.key.id.to_string();
        batch.things.put((kind::KEY, place.as_bytes()), &self.key)?;
        batch.catalog_mut().put_key(self.key);
        done(Ok(()), action, tenant.as_ref(), place, changes)
    }
}

/// Deletes a key: it opens nothing from the commit on.
pub struct DeleteKey {
    /// Which.
    pub id: KeyId,
}

impl Steer for DeleteKey {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(key) = batch.catalog().key(self.id).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        batch.things.remove((kind::KEY, self.id.to_string().as_bytes()))?;
        batch.catalog_mut().remove_key(self.id);
        done(Ok(()), Action::KeyDelete, key.tenant.as_ref(), self.id, (audit::key(&key), Value::Null))
    }
}
