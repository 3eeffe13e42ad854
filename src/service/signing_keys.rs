//! The signing keys of a tenant: made, renamed, shown to who may see them, and deleted when no destination signs with them.
//! How one is rotated stands in [`super::rotation`].

use std::sync::Arc;

use crate::model::audit::{Action, Actor};
use crate::model::destination::{Preset, Scheme};
use crate::model::{Secret, SigningKey, SigningKeyId, SigningKeyKind, TenantId};
use crate::sign;
use crate::store::op::{self, Rejected, SigningKeyKept};

use super::{Error, Service, Sight, created};

/// What a new signing key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSigningKey {
    /// Whose.
    pub tenant: TenantId,
    /// What it stands for.
    pub kind: SigningKeyKind,
    /// For people.
    pub name: String,
    /// Its secret; generated when absent.
    pub secret: Option<Secret>,
}

/// Destinations that an error names, at most.
const NAMED_MAX: usize = 5;

impl Service {
    /// The signing keys in sight.
    pub fn signing_keys(&self, sight: &Sight) -> Vec<Arc<SigningKey>> {
        self.store.catalog().signing_keys().filter(|key| sight.takes(&key.tenant)).map(Arc::clone).collect()
    }

    /// The signing key of an id.
    pub fn signing_key(&self, sight: &Sight, id: SigningKeyId) -> Result<Arc<SigningKey>, Error> {
        let found = self.store.catalog().signing_key(id).map(Arc::clone);
        found.filter(|key| sight.takes(&key.tenant)).ok_or(Error::NotFound("signing key"))
    }

    /// Creates a signing key: the one signature key of a tenant, or one more source key.
    ///
    /// # Errors
    ///
    /// A conflict when the tenant has its signature key, or as many source keys as it may. Nothing has changed then.
    pub async fn create_signing_key(&self, actor: &Actor, new: NewSigningKey) -> Result<Arc<SigningKey>, Error> {
        let NewSigningKey { tenant, kind, name, secret } = new;
        // What serves Standard Webhooks serves every scheme that takes a text.
        let secret =
            secret.unwrap_or_else(|| sign::generate(&Scheme::Preset(Preset::Standard), &self.chance_of::<32>()));
        let id = SigningKeyId::from_chance(self.chance_of());
        let key = SigningKey { id, tenant, kind, name, secret, previous: None, created: self.now() };
        created(self.store.steer(actor, op::CreateSigningKey { key }).await?.answer, "signing key")
    }

    /// Changes a signing key. The change is a function, so that it applies to what is there when it is made.
    ///
    /// It may run more than once, when somebody else changes the key meanwhile. `action` is what it is in the audit log.
    pub async fn update_signing_key<E: From<Error>>(
        &self,
        actor: &Actor,
        action: Action,
        sight: &Sight,
        id: SigningKeyId,
        change: impl Fn(&mut SigningKey) -> Result<(), E>,
    ) -> Result<Arc<SigningKey>, E> {
        loop {
            let before = self.signing_key(sight, id)?;
            let mut after = SigningKey::clone(&before);
            change(&mut after)?;
            let change = op::UpdateSigningKey { before, after, action };
            match self.store.steer(actor, change).await.map_err(Error::from)?.answer {
                Err(Rejected::Stale) => {}
                answer => return created(answer, "signing key").map_err(E::from),
            }
        }
    }

    /// A signing key whose secret is about to be shown: that is in the audit log before anybody sees it.
    pub async fn reveal_signing_key(
        &self,
        actor: &Actor,
        sight: &Sight,
        id: SigningKeyId,
    ) -> Result<Arc<SigningKey>, Error> {
        self.signing_key(sight, id)?;
        created(self.store.steer(actor, op::NoteReveal { id }).await?.answer, "signing key")
    }

    /// Deletes a signing key.
    ///
    /// # Errors
    ///
    /// A conflict that names destinations that sign with it. Nothing has changed then.
    pub async fn delete_signing_key(&self, actor: &Actor, sight: &Sight, id: SigningKeyId) -> Result<(), Error> {
        self.signing_key(sight, id)?;
        match self.store.steer(actor, op::DeleteSigningKey { id }).await?.answer {
            Ok(()) => Ok(()),
            Err(SigningKeyKept::Unknown) => Err(Error::NotFound("signing key")),
            Err(SigningKeyKept::Signs(destinations)) => {
                let named: Vec<_> = destinations.iter().take(NAMED_MAX).map(ToString::to_string).collect();
                let further = match destinations.len().saturating_sub(NAMED_MAX) {
                    0 => String::new(),
                    further => format!(" and {further} more"),
                };
                Err(Error::Conflict(format!(
                    "destinations sign with the key: {}{further}; give them another signature first",
                    named.join(", ")
                )))
            }
        }
    }
}
