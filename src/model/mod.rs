//! The words of the product as types: what a tenant, a destination, an event, a delivery and an attempt are.
//!
//! Everything here is plain data with the rules that need nothing else: how an id is written, when a schedule is due
//! again, which patterns match which event types. The model reads no clock, draws no chance, opens no file; it knows
//! none of the other rooms. A value that exists is valid: parsing happens in the constructors.

pub mod audit;
pub mod card;
pub mod command;
pub mod confirmation;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod event_type;
pub mod filter;
pub mod id;
pub mod json;
pub mod key;
pub mod mask;
pub mod milestone;
pub mod outcome;
pub mod registration;
pub mod replay;
pub mod schedule;
pub mod secret;
pub mod signing_key;
pub mod subscription;
pub mod tenant;
pub mod time;
pub mod user;
pub mod words;

pub use audit::Actor;
pub use command::{Command, CommandState};
pub use confirmation::{Confirmation, ConfirmationMode, ConfirmationRequest};
pub use delivery::{Attempt, DeliveryKey, DeliveryState, Ended, Headers, Trigger, WaitingReason};
pub use destination::{Auth, Destination, Rate, Success, TlsOptions};
pub use event::{Event, EventType};
pub use event_type::{EventTypes, KnownType};
pub use filter::Filter;
pub use id::{
    CommandId, DeliveryId, DestinationId, DestinationNo, Epoch, EventId, NumberMap, NumberSet, RunId, Seq,
    SubscriptionId, SubscriptionNo,
};
pub use key::{ApiKey, KeyId, Role};
pub use milestone::Milestone;
pub use outcome::{Outcome, Reason};
pub use registration::{Order, Registered, Registration, RegistrationChange};
pub use replay::{Replay, ReplayId, ReplayState, ReplayWanted};
pub use schedule::{Retry, Schedule};
pub use secret::Secret;
pub use signing_key::{SigningKey, SigningKeyId, SigningKeyKind};
pub use subscription::{Subscription, TypePattern};
pub use tenant::{Tenant, TenantId};
pub use time::Timestamp;
pub use user::{User, UserId, UserName};

/// Why a text was not accepted as a value of the model: which bound it broke, in words a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// An [`Invalid`] from anything that prints.
    pub fn new(why: impl std::fmt::Display) -> Self {
        Invalid(why.to_string())
    }
}
