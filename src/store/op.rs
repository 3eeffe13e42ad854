//! What can be done to the store. Each operation is total: conditions are checked inside, and answered with a value.

mod deliveries;
mod destinations;
mod event_types;
mod events;
mod keys;
mod lanes;
mod retention;
mod signing_keys;
mod subscriptions;
mod tenants;

use serde_json::Value;

use crate::model::TenantId;
use crate::model::audit::{Action, Deed};

use super::audit::Effect;
use super::writer::ApplyError;

pub use deliveries::{AtOnce, BringForward, Cancel, Finish, GiveUp, Next, Resend, Start, Started, Steered, Unstart};
pub(super) use deliveries::{EndCutOff, attempts_of, due_instead, end_of, find_waiting, find_waiting_of, resend};
pub use destinations::{AndAsk, Ask, CreateDestination, DeleteDestination, UpdateDestination};
pub(super) use destinations::{create_destination, delete_destination, replace_destination};
pub use event_types::{CreateEventType, DeleteEventType, UpdateEventType};
pub use events::{Accept, Accepted, ErasePayload, Erased, NoteRead, Refusal, SendTest, Tested};
pub use keys::{DeleteKey, PutKey};
pub use lanes::{Purge, PutInOrder, SetPaused};
pub(super) use lanes::{due_rows, heads, lined};
pub use retention::{Ages, Sweep, Swept};
pub use signing_keys::{
    CreateSigningKey, DeleteSigningKey, NoteReveal, SOURCE_KEYS_MAX, SigningKeyKept, UpdateSigningKey,
};
pub use subscriptions::{CreateSubscription, DeleteSubscription, UpdateSubscription};
pub(super) use subscriptions::{create_subscription, replace_subscription};
pub use tenants::{CreateTenant, DeleteTenant, UpdateTenant};

/// The keys under which things lie in their one table.
pub(super) mod kind {
    pub const TENANT: u8 = b't';
    pub const DESTINATION: u8 = b'd';
    pub const TOMBSTONE: u8 = b'x';
    pub const FORMER_TENANT: u8 = b'f';
    pub const SUBSCRIPTION: u8 = b's';
    pub const KEY: u8 = b'k';
    pub const SIGNING_KEY: u8 = b'g';
    pub const EVENT_TYPE: u8 = b'e';
    /// By tenant: the number of its last registration.
    pub const SERIAL: u8 = b'n';
    pub const USER: u8 = b'u';
}

/// Nothing has changed, and the answer says why.
pub(super) fn refused<A>(answer: A) -> Result<Effect<A>, ApplyError> {
    Ok(Effect::Refused(answer))
}

/// It is done: to a thing of a tenant's that was as `before` and is as `after`.
pub(super) fn done<A>(
    answer: A,
    action: Action,
    tenant: Option<&TenantId>,
    object: impl ToString,
    (before, after): (Value, Value),
) -> Result<Effect<A>, ApplyError> {
    Ok(Effect::Done(answer, vec![deed_of(action, tenant, object, (before, after))]))
}

/// The record of a thing of a tenant's that was as `before` and is as `after`.
fn deed_of(action: Action, tenant: Option<&TenantId>, object: impl ToString, (before, after): (Value, Value)) -> Deed {
    Deed { action, tenant: tenant.cloned(), object: Some(object.to_string()), before, after }
}

/// Why a change to the configuration was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The id is taken.
    Exists,
    /// There is no such thing.
    Unknown,
    /// A tenant that is named does not exist.
    UnknownTenant,
    /// A destination that is named does not exist, or is another tenant's.
    UnknownDestination,
    /// It changed since the caller looked.
    Stale,
    /// The tenant's parents would form a ring, or nest too deep.
    TenantNesting,
    /// The tenant still owns things, or has children, or is the default tenant.
    TenantInUse,
    /// A deleted tenant had this id, and events of it may remain.
    TenantRemembered,
    /// A signing key that is named does not exist, or is another tenant's.
    UnknownSigningKey,
    /// The tenant has its one signature key already.
    SignatureKeyExists,
    /// The tenant has as many source keys as it may.
    TooManySigningKeys,
    /// The name or an alias is another event type's.
    SpellingTaken,
    /// A person has this login name.
    NameTaken,
    /// Nobody would be left who administers the whole installation.
    LastAdmin,
}
