//! Bulk replays: jobs that make many deliveries that have ended due again, a few at a time.
//!
//! A job walks its destinations side by side, each from its oldest event to the newest that was there when the job began.
//! How far it has come is part of the job, so that it is kept together with what it did.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DeliveryState, DestinationNo, Invalid, Rate, Seq, TenantId, Timestamp, TypePattern};

/// A job's name: `rpl_` and its number, from 1, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplayId(pub u64);

const PREFIX: &str = "rpl_";

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl FromStr for ReplayId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = text.strip_prefix(PREFIX).filter(|digits| !digits.starts_with(['+', '0']));
        let number = number.and_then(|digits| digits.parse().ok());
        number.map(ReplayId).ok_or_else(|| Invalid::new("not a replay's id: rpl_ and a number, such as rpl_7"))
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReplayState {
    /// It goes on, or waits for its lanes.
    Running,
    /// Everything that matched is due again.
    Done,
    /// An operator stopped it. What it has made due stays due.
    Cancelled,
    /// It cannot go on: its destination was deleted.
    Failed,
}

impl ReplayState {
    /// The state's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ReplayState::Running => "running",
            ReplayState::Done => "done",
            ReplayState::Cancelled => "cancelled",
            ReplayState::Failed => "failed",
        }
    }
}

/// Which deliveries a job is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayWanted {
    /// To destinations of this tenant.
    pub tenant: TenantId,
    /// To this destination only.
    pub destination: Option<DestinationNo>,
    /// Of events whose type matches only.
    pub kind: Option<TypePattern>,
    /// Of events that were accepted at this moment or later only.
    pub from: Option<Timestamp>,
    /// Of events that were accepted before this moment only.
    pub to: Option<Timestamp>,
    /// That have ended in this state: failed, cancelled or succeeded.
    pub state: DeliveryState,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayWalk {
    /// The destinations that it is at work on, and from where on in each.
    pub parts: Vec<(DestinationNo, Seq)>,
    /// Its further destinations have this number or a higher one; `None` when there are no further ones.
    pub next: Option<DestinationNo>,
}

impl ReplayWalk {
    /// Nothing has been looked at.
    pub const START: ReplayWalk = ReplayWalk { parts: Vec::new(), next: Some(DestinationNo(0)) };

    /// Whether everything has been looked at.
    pub fn is_over(&self) -> bool {
        self.parts.is_empty() && self.next.is_none()
    }
}

/// A bulk replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its name.
    pub id: ReplayId,
    /// Which deliveries it is about.
    pub wanted: ReplayWanted,
    /// How many deliveries it makes due in how long, at most.
    pub rate: Rate,
    /// When it was created.
    pub created: Timestamp,
    /// Events from this one on are newer than the job, and none of its business.
    pub until: Seq,
    /// Where it stands.
    pub state: ReplayState,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Deliveries that match, as far as they have been counted.
    pub matched: u64,
    /// Whether that is all of them; otherwise there are at least so many.
    pub exact: bool,
    /// Deliveries that it has made due.
    pub done: u64,
    /// Deliveries that matched and could not be made due, for their payload has been erased.
    pub skipped: u64,
    /// How many slices have been done.
    pub step: u64,
    /// How far it has come.
    pub walk: ReplayWalk,
}

impl Replay {
    /// The pace of a job that names none: a hundred deliveries a second.
    pub const RATE_DEFAULT: Rate = Rate { events: 100, per: Duration::from_secs(1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replays_id_is_read_in_its_one_form() {
        assert_eq!(ReplayId(17).to_string(), "rpl_17");
        assert_eq!("rpl_17".parse(), Ok(ReplayId(17)));
        for wrong in ["", "17", "rpl_", "rpl_017", "rpl_+1", "rpl_-1", "rpl_1 ", "RPL_1", "rpl_99999999999999999999"] {
            assert!(wrong.parse::<ReplayId>().is_err(), "{wrong}");
        }
    }
}
