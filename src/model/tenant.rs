//! Tenants: who owns things.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Invalid, Timestamp};

/// A tenant's id, of the caller's choice: 1 to 64 of `A-Za-z0-9_-.`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of everything that names none; made with the store.
    pub fn default_tenant() -> Self {
        TenantId("default".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(TenantId(text.into()))
        } else {
            Err(Invalid::new("a tenant's id is 1 to 64 of A-Z a-z 0-9 _ - ."))
        }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Who owns destinations, subscriptions, events and keys: a merchant, a portfolio, a reseller, an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Chosen by whoever created it.
    pub id: TenantId,
    /// For people; up to 124 characters.
    pub name: String,
    /// The tenant above it; subscriptions there with `roll_up` see this tenant's events too.
    pub parent: Option<TenantId>,
    /// When it was created.
    pub created: Timestamp,
    /// The number of the audit record that tells of its creation; 0 for the default tenant. What was written before is of
    /// another tenant that had this id. Given by the store.
    pub audit_from: u64,
}
