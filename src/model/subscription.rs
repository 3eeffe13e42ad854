//! Subscriptions: which events of a tenant go to which destinations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::event::{EventType, is_type_byte};
use super::{DestinationNo, Filter, Invalid, Registered, SubscriptionId, SubscriptionNo, TenantId, Timestamp};

/// One event type, a whole branch of them (`transaction.*`), or every one (`*`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TypePattern {
    /// `*`
    Any,
    /// `transaction.*`: kept with its dot, so that `transaction.` and what follows match, `transactions` does not.
    Branch(String),
    /// Exactly this type.
    One(EventType),
}

impl TypePattern {
    /// Whether events of this type match.
    pub fn matches(&self, kind: &EventType) -> bool {
        match self {
            TypePattern::Any => true,
            TypePattern::Branch(prefix) => kind.as_str().starts_with(prefix.as_str()),
            TypePattern::One(one) => one == kind,
        }
    }
}

impl FromStr for TypePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "*" {
            return Ok(TypePattern::Any);
        }
        match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('.') && prefix.len() <= 128 && prefix.bytes().all(is_type_byte) => {
                Ok(TypePattern::Branch(prefix.to_owned()))
            }
            Some(_) => Err(Invalid::new("a pattern is *, or a type's first parts and .*, as in transaction.*")),
            None => text.parse().map(TypePattern::One),
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypePattern::Any => f.write_str("*"),
            TypePattern::Branch(prefix) => write!(f, "{prefix}*"),
            TypePattern::One(kind) => kind.fmt(f),
        }
    }
}

/// Which events of a tenant go to which destinations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its number in this store.
    pub no: SubscriptionNo,
    /// Its name outside.
    pub id: SubscriptionId,
    /// Whose events.
    pub tenant: TenantId,
    /// Which of them.
    pub pattern: TypePattern,
    /// For people; up to 124 characters.
    pub name: Option<String>,
    /// Whether the events of all descendants of the tenant count as well.
    pub roll_up: bool,
    /// Which of them count; all when there is none.
    pub filter: Option<Filter>,
    /// Where they go. Many subscriptions may name one destination; an event makes one delivery for it all the same.
    pub destinations: Vec<DestinationNo>,
    /// The mark of what a dialect registered; none for what was made otherwise.
    pub registered: Option<Registered>,
    /// When it was created.
    pub created: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_branches_only() {
        let table = [
            ("*", "a", true),
            ("transaction.*", "transaction.sale.success", true),
            ("transaction.*", "transactions.sale", false),
            ("transaction.*", "transaction", false),
            ("transaction.sale", "transaction.sale", true),
            ("transaction.sale", "transaction.sale.success", false),
        ];
        for (pattern, kind, matches) in table {
            let parsed: TypePattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(&kind.parse().unwrap()), matches, "{pattern} {kind}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for wrong in ["", "**", "a*", "*.a", "a.*.b", " ", "a b"] {
            assert!(wrong.parse::<TypePattern>().is_err(), "{wrong}");
        }
    }
}
