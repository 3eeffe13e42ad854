//! Events: what happened, as the producer told it, and where it goes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DestinationNo, Epoch, EventId, Invalid, Seq, SubscriptionNo, TenantId, Timestamp};

/// An event's type: 1 to 128 of `A-Za-z0-9_.-`, otherwise opaque. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventType(Arc<str>);

/// Whether a byte may stand in an event's type.
pub(super) fn is_type_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

impl EventType {
    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if (1..=128).contains(&text.len()) && text.bytes().all(is_type_byte) {
            Ok(EventType(text.into()))
        } else {
            Err(Invalid::new("an event's type is 1 to 128 of A-Z a-z 0-9 _ . -"))
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The producer's own id of an event: 1 to 255 printable ASCII characters, unique per tenant for seven days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerId(String);

impl ProducerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProducerId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(ProducerId(text.to_owned()))
        } else {
            Err(Invalid::new("an id is 1 to 255 printable ASCII characters"))
        }
    }
}

/// The ordering key of an event: 1 to 255 characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderingKey(String);

impl OrderingKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OrderingKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            Ok(OrderingKey(text.to_owned()))
        } else {
            Err(Invalid::new("a key is 1 to 255 characters without control characters"))
        }
    }
}

/// Who wrote to the socket, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The process's user.
    pub uid: u32,
    /// The process's group.
    pub gid: u32,
    /// The process, where the kernel tells.
    pub pid: Option<i32>,
}

/// The attributes of an event that came as a CloudEvent (CloudEvents 1.0): kept so that it can leave as the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudAttributes {
    /// The CloudEvent's own `id`.
    pub id: String,
    /// Its `source`.
    pub source: String,
    /// Every other attribute that has no field of its own here, as (name, JSON text).
    pub others: Vec<(String, String)>,
}

/// What a producer hands in: an event before the store has numbered and routed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Whose it is.
    pub tenant: TenantId,
    /// What happened.
    pub kind: EventType,
    /// The producer's own id, for de-duplication.
    pub producer_id: Option<ProducerId>,
    /// When it happened, when the producer said so.
    pub occurred: Option<Timestamp>,
    /// The ordering key.
    pub key: Option<OrderingKey>,
    /// W3C trace context, passed on to receivers.
    pub traceparent: Option<String>,
    /// Not delivered before.
    pub deliver_at: Option<Timestamp>,
    /// Given up after.
    pub expires_at: Option<Timestamp>,
    /// Provenance as the producer tells it.
    pub source: Option<String>,
    /// Provenance as the kernel tells it.
    pub peer: Option<Peer>,
    /// What kind of bytes the body is; JSON when absent.
    pub content_type: Option<String>,
    /// The attributes of a CloudEvent.
    pub cloud: Option<CloudAttributes>,
    /// The producer's bytes, exactly.
    pub body: Bytes,
}

impl NewEvent {
    /// An event with nothing but what it must have.
    pub fn new(tenant: TenantId, kind: EventType, body: impl Into<Bytes>) -> Self {
        NewEvent {
            tenant,
            kind,
            producer_id: None,
            occurred: None,
            key: None,
            traceparent: None,
            deliver_at: None,
            expires_at: None,
            source: None,
            peer: None,
            content_type: None,
            cloud: None,
            body: body.into(),
        }
    }
}

/// Whether a content type is JSON's.
pub fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

impl NewEvent {
    /// The body, where it is JSON by what the producer says of it.
    pub fn json(&self) -> Option<&[u8]> {
        self.content_type.as_deref().is_none_or(is_json_type).then_some(&*self.body)
    }
}

/// One destination that an event goes to, and the subscriptions that say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where.
    pub destination: DestinationNo,
    /// By which subscriptions; several may name one destination, and make one delivery.
    pub subscriptions: Vec<SubscriptionNo>,
}

/// Why a matching destination was not given a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// An operator had switched it off (decision D23).
    Disabled,
    /// It had never been confirmed (decision D24).
    Unconfirmed,
    /// Each subscription that names it has a filter that the event did not pass.
    Filtered,
}

impl Skip {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Skip::Disabled => "disabled",
            Skip::Unconfirmed => "unconfirmed",
            Skip::Filtered => "filtered",
        }
    }
}

/// The producer's bytes, or the fact that they are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// As they came.
    Kept(Bytes),
    /// Erased by retention or by an operator.
    Erased,
}

impl Body {
    /// The bytes, while they are kept.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Body::Kept(bytes) => Some(bytes),
            Body::Erased => None,
        }
    }
}

/// An event as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the store.
    pub seq: Seq,
    /// Everything but the body.
    pub head: EventHead,
    /// What is delivered.
    pub body: Body,
}

/// Everything of an event but its place and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHead {
    /// The store's epoch when it was written; part of its id.
    pub epoch: Epoch,
    /// Whose it is.
    pub tenant: TenantId,
    /// What happened.
    pub kind: EventType,
    /// The producer's own id.
    pub producer_id: Option<ProducerId>,
    /// When it happened.
    pub occurred: Timestamp,
    /// When the store took it.
    pub accepted: Timestamp,
    /// When its deliveries are first due.
    pub due: Timestamp,
    /// The ordering key.
    pub key: Option<OrderingKey>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Given up after.
    pub expires_at: Option<Timestamp>,
    /// Provenance as the producer tells it.
    pub source: Option<String>,
    /// Provenance as the kernel tells it.
    pub peer: Option<Peer>,
    /// What kind of bytes the body is; JSON when absent.
    pub content_type: Option<String>,
    /// The attributes of a CloudEvent.
    pub cloud: Option<CloudAttributes>,
    /// Where it goes.
    pub targets: Vec<Target>,
    /// Where it would have gone, and why it does not; of those that a filter kept out the first few.
    pub skipped: Vec<(DestinationNo, Skip)>,
}

impl EventHead {
    /// Whether the body is JSON, as far as its content type tells.
    pub fn carries_json(&self) -> bool {
        self.content_type.as_deref().is_none_or(is_json_type)
    }
}

impl Event {
    /// Its name outside.
    pub fn id(&self) -> EventId {
        EventId::new(self.head.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_an_events_fields_hold() {
        assert!("transaction.sale.success".parse::<EventType>().is_ok());
        assert!("merchant_ach-item.1".parse::<EventType>().is_ok());
        for wrong in ["", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(wrong.parse::<EventType>().is_err(), "{wrong}");
        }
        assert!("T 1/ä".parse::<ProducerId>().is_err());
        assert!("T 1/~".parse::<ProducerId>().is_ok());
        assert!("ä".repeat(255).parse::<OrderingKey>().is_ok());
        assert!("ä".repeat(256).parse::<OrderingKey>().is_err());
        assert!("a\nb".parse::<OrderingKey>().is_err());
    }
}
