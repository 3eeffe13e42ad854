//! Records that only the store knows, and the small ones that the engine shares.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::delivery::Ending;
use crate::model::{
    Attempt, DeliveryKey, Destination, DestinationId, DestinationNo, Seq, TenantId, Timestamp, Trigger,
};

/// One waiting delivery: the key of its due row and what the row says. This is all that memory holds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRow {
    /// Which lane.
    pub destination: DestinationNo,
    /// When it is due.
    pub due: Timestamp,
    /// Which event.
    pub seq: Seq,
    /// What its next attempt is.
    pub plan: Plan,
}

impl DueRow {
    /// Which delivery.
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { destination: self.destination, seq: self.seq }
    }
}

/// What the next attempt of a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The attempt's number, from 1; goes on through resends.
    pub number: u32,
    /// How many attempts its present schedule has had; a resend begins a fresh one.
    pub tried: u32,
    /// What makes it happen.
    pub trigger: Trigger,
    /// How many attempts in a row, just before this one, ended with the daemon's own end.
    pub cut_off: u32,
    /// Whether it has a place in its lane's line, should its destination be ordered: it was due when its event was accepted, and
    /// has not ended since. What was to come later, is a test, or was sent again after its end stands beside the line.
    pub in_line: bool,
}

impl Plan {
    /// The first attempt of a delivery.
    pub const FIRST: Plan = Plan { number: 1, tried: 0, trigger: Trigger::Schedule, cut_off: 0, in_line: true };
}

/// A row of the attempts table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptRow {
    /// A resend made the delivery due again at this moment; replaced by the attempt when that has run.
    Planned {
        /// When it is due.
        due: Timestamp,
    },
    /// What happened.
    Done(Box<Attempt>),
}

/// A row of the started table: an attempt that was under way when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRow {
    /// When the delivery was due: with its place and its plan this is the due row that the attempt was leased from.
    pub due: Timestamp,
    /// What the attempt is.
    pub plan: Plan,
    /// When it began.
    pub started: Timestamp,
    /// How long it had run by then.
    pub ran: Duration,
}

/// A row of the ended or the cancelled table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRow {
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub at: Timestamp,
}

impl EndedRow {
    /// What is known of a failure whose row is damaged, shown as of a moment.
    pub(super) fn damaged(at: Timestamp) -> EndedRow {
        EndedRow { ending: Ending::Damaged, at }
    }

    /// What is known of a cancellation whose row is damaged, likewise: its table says that it was one.
    pub(super) fn cancelled(at: Timestamp) -> EndedRow {
        EndedRow { ending: Ending::Cancelled, at }
    }
}

/// How many deliveries of a destination are in which state; waiting ones (pending or held) are what remains of `accepted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Deliveries ever made for it.
    pub accepted: u64,
    /// Of these, ended with success.
    pub succeeded: u64,
    /// Of these, given up.
    pub failed: u64,
    /// Of these, ended by an operator.
    pub cancelled: u64,
}

impl Tally {
    /// Deliveries that have not ended.
    pub fn waiting(&self) -> u64 {
        self.accepted.saturating_sub(self.succeeded + self.failed + self.cancelled)
    }
}

/// What is known of a lane beyond its rows: an operator's pause and what the engine found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lane {
    /// Whether an operator paused it.
    pub paused: bool,
    /// From where on its deliveries have still to be put in order, where its destination became an ordered one while they waited.
    /// Nothing is sent meanwhile.
    pub ordering: Option<(Timestamp, Seq)>,
    /// What the engine found out.
    pub health: LaneHealth,
}

impl Lane {
    /// Whether an operator has stopped it: paused it, or disabled its destination.
    pub fn is_stopped(&self, destination: &Destination) -> bool {
        self.paused || destination.disabled
    }
}

/// What the engine found out about a receiver. It is kept on disk, so that a restart neither forgets a Retry-After nor
/// hammers a dead receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneHealth {
    /// The receiver asked for no request before this moment (Retry-After).
    pub hold_until: Option<Timestamp>,
    /// When the first of the 410s in a row came.
    pub gone_since: Option<Timestamp>,
    /// Whether the lane is held because the receiver is gone.
    pub gone: bool,
    /// Failures of the receiver in a row.
    pub failures: u32,
    /// Shut until this moment; afterwards one probe at a time goes through until one succeeds.
    pub shut_until: Option<Timestamp>,
    /// Whether it has ever answered as a receiver does.
    pub proven: bool,
    /// Whether it kept us waiting until a limit, last.
    pub slow: bool,
    /// How often it has been opened anew: an operator resumed it or asked for its confirmation, or its URL changed. What was
    /// found out before the last time does not count any more.
    pub resumed: u32,
}

/// What is remembered of a deleted tenant, so that nobody who takes its id sees its past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerTenant {
    /// Its events lie before this place.
    pub until: Seq,
}

impl LaneHealth {
    /// Nothing is known: a lane that has been opened anew so often.
    pub fn unknown(resumed: u32) -> LaneHealth {
        LaneHealth { resumed, ..LaneHealth::default() }
    }
}

/// What is remembered of a deleted destination, so that its past deliveries keep their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Its number.
    pub no: DestinationNo,
    /// Its name outside.
    pub id: DestinationId,
    /// Whose it was.
    pub tenant: TenantId,
    /// Its name for people.
    pub name: String,
    /// When it was deleted.
    pub deleted: Timestamp,
}
