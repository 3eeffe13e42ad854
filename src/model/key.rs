//! API keys: who may call the admin API over TCP, for which tenant, to do what.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::id::{base32, unbase32};
use super::{Invalid, Secret, TenantId, Timestamp};

/// A key's public part: ten characters of base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId([u8; 6]);

impl KeyId {
    /// From six bytes of chance.
    pub fn from_chance(bytes: [u8; 6]) -> Self {
        KeyId(bytes)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl FromStr for KeyId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        unbase32(text).map(KeyId).ok_or_else(|| Invalid::new("not a key's id: ten characters, copied whole"))
    }
}

/// What a key may do. `Ingest` stands apart: it may hand in events and see nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// `POST /v1/events` only.
    Ingest,
    /// Reads everything but payloads.
    Read,
    /// Also emits, resends, cancels, pauses, and changes destinations and subscriptions.
    Operate,
    /// Also tenants, keys, users, signing keys, egress and audit.
    Admin,
}

impl Role {
    /// Whether a key of this role may do what asks for `needed`.
    pub fn covers(self, needed: Role) -> bool {
        match (self, needed) {
            (Role::Ingest, Role::Ingest) => true,
            (Role::Ingest, Role::Read | Role::Operate | Role::Admin) => false,
            (Role::Read, Role::Read) => true,
            (Role::Read, Role::Ingest | Role::Operate | Role::Admin) => false,
            (Role::Operate, Role::Ingest | Role::Read | Role::Operate) => true,
            (Role::Operate, Role::Admin) => false,
            (Role::Admin, _) => true,
        }
    }

    /// The role's name in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Role::Ingest, Role::Read, Role::Operate, Role::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| Invalid::new("a role is one of ingest, read, operate, admin"))
    }
}

/// A key as it is stored: its secret is kept as a SHA-256 only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public part, which stands inside the secret too.
    pub id: KeyId,
    /// For people; up to 124 characters.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one tenant it is bound to; `None` for all.
    pub tenant: Option<TenantId>,
    /// When it was created.
    pub created: Timestamp,
    digest: [u8; 32],
}

const SECRET_PREFIX: &str = "prk_";

impl ApiKey {
    /// A new key from chance, and its secret, which is shown once and not kept.
    ///
    /// The secret reads `prk_`, the id, `_`, 32 random bytes in base32, and a check of four characters, so that scanners for
    /// leaked secrets can find it and a truncated copy is told from a wrong one.
    pub fn generate(
        chance: [u8; 38],
        name: String,
        role: Role,
        tenant: Option<TenantId>,
        created: Timestamp,
    ) -> (ApiKey, Secret) {
        let (id, random) = chance.split_at(6);
        let id = KeyId(id.try_into().expect("split at six"));
        let stem = format!("{SECRET_PREFIX}{id}_{}", base32(random));
        let text = format!("{stem}{}", secret_check(&stem));
        let digest = Sha256::digest(&text).into();
        (ApiKey { id, name, role, tenant, created, digest }, Secret::new(text))
    }

    /// The id that a secret names, when the secret is whole.
    pub fn id_in(secret: &str) -> Option<KeyId> {
        let stem_length = secret.len().checked_sub(4)?;
        let (stem, check) = secret.split_at_checked(stem_length)?;
        let whole: bool = secret_check(stem).as_bytes().ct_eq(check.as_bytes()).into();
        let (id, _) = stem.strip_prefix(SECRET_PREFIX)?.split_once('_')?;
        whole.then(|| id.parse().ok()).flatten()
    }

    /// Whether `secret` is this key's, compared in constant time.
    pub fn is_opened_by(&self, secret: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        self.digest.ct_eq(&digest).into()
    }
}

fn secret_check(stem: &str) -> String {
    base32(&Sha256::digest(stem)[..5])[..4].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_opened_by_its_secret_only() {
        let (key, secret) = ApiKey::generate([7; 38], "till".into(), Role::Read, None, Timestamp::ZERO);
        let text = secret.expose();
        assert_eq!(ApiKey::id_in(text), Some(key.id));
        assert!(key.is_opened_by(text));
        assert!(!key.is_opened_by(&text[..text.len() - 1]));
        assert_eq!(ApiKey::id_in(&text[..text.len() - 1]), None, "a truncated secret names no key");
        assert_eq!(ApiKey::id_in("é"), None);
        assert!(!format!("{key:?}").contains(&text[15..]));
    }

    #[test]
    fn roles_cover_as_the_interfaces_say() {
        use Role::*;
        let covers = |role: Role| [Ingest, Read, Operate, Admin].map(|needed| role.covers(needed));
        assert_eq!(covers(Ingest), [true, false, false, false]);
        assert_eq!(covers(Read), [false, true, false, false]);
        assert_eq!(covers(Operate), [true, true, true, false]);
        assert_eq!(covers(Admin), [true, true, true, true]);
    }
}
