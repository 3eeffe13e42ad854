//! Signing keys: secrets of a tenant that several destinations sign with, so that a rotation reaches all of them at once.
//!
//! Source 001 knows two kinds (decision D25): the one signature key that is unique to a merchant, and any number of source
//! keys, each with a name, of which a destination is told one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::destination::{Scheme, Signature};
use super::id::{base32, unbase32};
use super::{Invalid, Secret, TenantId, Timestamp};

/// A signing key's name outside: `sgk_` and ten characters of base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SigningKeyId([u8; 6]);

const PREFIX: &str = "sgk_";

impl SigningKeyId {
    /// From six bytes of chance.
    pub fn from_chance(bytes: [u8; 6]) -> Self {
        SigningKeyId(bytes)
    }
}

impl fmt::Display for SigningKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base32(&self.0))
    }
}

impl FromStr for SigningKeyId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = text.strip_prefix(PREFIX).and_then(unbase32);
        bytes
            .map(SigningKeyId)
            .ok_or_else(|| Invalid::new("not a signing key's id: sgk_ and ten characters, copied whole"))
    }
}

/// What a signing key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SigningKeyKind {
    /// The tenant's own: there is one at most.
    Signature,
    /// One of several, known by its name.
    Source,
}

impl SigningKeyKind {
    /// The kind's name in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            SigningKeyKind::Signature => "signature",
            SigningKeyKind::Source => "source",
        }
    }
}

impl FromStr for SigningKeyKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [SigningKeyKind::Signature, SigningKeyKind::Source]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Invalid::new("a signing key's kind is one of signature, source"))
    }
}

/// A signing key as it is stored. Its secret lies in its own record only: destinations name the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Its name outside.
    pub id: SigningKeyId,
    /// Whose it is: destinations of no other tenant sign with it.
    pub tenant: TenantId,
    /// What it stands for.
    pub kind: SigningKeyKind,
    /// For people; 1 to 124 characters.
    pub name: String,
    /// The present secret.
    pub secret: Secret,
    /// The secret before a rotation and until when it still counts, as in [`Signature::previous`].
    pub previous: Option<(Secret, Timestamp)>,
    /// When it was created.
    pub created: Timestamp,
}

impl SigningKey {
    /// A signature by this scheme with this key's secrets.
    pub fn signature(&self, scheme: &Scheme) -> Signature {
        Signature { scheme: scheme.clone(), secret: self.secret.clone(), previous: self.previous.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SigningKeyId::from_chance([7; 6]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 14);
        for wrong in ["", "signature", "sgk_", "sgk_aaaaaaaaa", &id.to_string()[4..]] {
            assert!(wrong.parse::<SigningKeyId>().is_err(), "{wrong}");
        }
    }
}
