//! Signing keys: made, changed, shown, deleted.

use std::sync::Arc;

use redb::StorageError;
use serde_json::Value;

use crate::model::audit::{self, Action};
use crate::model::{DestinationId, SigningKey, SigningKeyId, SigningKeyKind};
use crate::store::audit::{Effect, Steer};
use crate::store::bell::Change;
use crate::store::writer::{ApplyError, Batch};

use super::{Rejected, done, kind, refused};

/// Source keys that a tenant may have.
pub const SOURCE_KEYS_MAX: usize = 100;

/// Creates a signing key.
pub struct CreateSigningKey {
    /// The new key.
    pub key: SigningKey,
}

impl Steer for CreateSigningKey {
    type Answer = Result<Arc<SigningKey>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let key = self.key;
        let catalog = batch.catalog();
        if catalog.tenant(&key.tenant).is_none() {
            return refused(Err(Rejected::UnknownTenant));
        }
        if catalog.signing_key(key.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        let alike = catalog.signing_keys().filter(|other| other.tenant == key.tenant && other.kind == key.kind).count();
        match key.kind {
            SigningKeyKind::Signature if alike > 0 => return refused(Err(Rejected::SignatureKeyExists)),
            SigningKeyKind::Source if alike >= SOURCE_KEYS_MAX => return refused(Err(Rejected::TooManySigningKeys)),
            SigningKeyKind::Signature | SigningKeyKind::Source => {}
        }
        let stored = put_signing_key(batch, key)?;
        let (tenant, view) = (stored.tenant.clone(), audit::signing_key(&stored, None));
        let id = stored.id;
        done(Ok(stored), Action::SigningKeyCreate, Some(&tenant), id, (Value::Null, view))
    }
}

/// Replaces a signing key, if it still is what the caller saw. The destinations that name it sign with the new one from the
/// commit on.
pub struct UpdateSigningKey {
    /// What the caller saw.
    pub before: Arc<SigningKey>,
    /// What it is to be; id, tenant and kind stay.
    pub after: SigningKey,
    /// What this is in the audit log.
    pub action: Action,
}

impl Steer for UpdateSigningKey {
    type Answer = Result<Arc<SigningKey>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().signing_key(self.before.id) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        let stored = put_signing_key(batch, self.after)?;
        let signed: Vec<_> = batch.catalog().signed_with(stored.id).map(|destination| destination.no).collect();
        batch.changes.extend(signed.into_iter().map(Change::Lane));
        let before = audit::signing_key(&self.before, None);
        let changes = audit::changes(before, audit::signing_key(&stored, Some(&self.before)));
        let (tenant, id) = (stored.tenant.clone(), stored.id);
        done(Ok(stored), self.action, Some(&tenant), id, changes)
    }
}

/// Notes that somebody is about to be shown a signing key's secret.
pub struct NoteReveal {
    /// Which key.
    pub id: SigningKeyId,
}

impl Steer for NoteReveal {
    /// The key as it is at the moment of the note.
    type Answer = Result<Arc<SigningKey>, Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(key) = batch.catalog().signing_key(self.id).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        let (tenant, id) = (key.tenant.clone(), key.id);
        done(Ok(key), Action::SigningKeyReveal, Some(&tenant), id, (Value::Null, Value::Null))
    }
}

fn put_signing_key(batch: &mut Batch<'_>, key: SigningKey) -> Result<Arc<SigningKey>, StorageError> {
    let place = key.id.to_string();
    batch.things.put((kind::SIGNING_KEY, place.as_bytes()), &key)?;
    Ok(batch.catalog_mut().put_signing_key(key))
}

/// Deletes a signing key that no destination signs with.
pub struct DeleteSigningKey {
    /// Which.
    pub id: SigningKeyId,
}

/// Why a signing key was not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKeyKept {
    /// There is no such key.
    Unknown,
    /// These destinations sign with it.
    Signs(Vec<DestinationId>),
}

impl Steer for DeleteSigningKey {
    type Answer = Result<(), SigningKeyKept>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(key) = batch.catalog().signing_key(self.id).map(Arc::clone) else {
            return refused(Err(SigningKeyKept::Unknown));
        };
        let signed: Vec<_> = batch.catalog().signed_with(self.id).map(|destination| destination.id).collect();
        if !signed.is_empty() {
            return refused(Err(SigningKeyKept::Signs(signed)));
        }
        batch.things.remove((kind::SIGNING_KEY, self.id.to_string().as_bytes()))?;
        batch.catalog_mut().remove_signing_key(self.id);
        let before = audit::signing_key(&key, None);
        done(Ok(()), Action::SigningKeyDelete, Some(&key.tenant), self.id, (before, Value::Null))
    }
}
