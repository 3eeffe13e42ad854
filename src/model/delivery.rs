//! Deliveries and their attempts: one event for one destination, and every try of it.

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DeliveryId, Destination, DestinationNo, EventType, Outcome, Reason, Seq, Timestamp};

/// Which delivery, inside the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// Where it goes.
    pub destination: DestinationNo,
    /// What goes there.
    pub seq: Seq,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeliveryState {
    /// It will be tried when its time comes.
    Pending,
    /// It waits for its lane: paused, unconfirmed or gone.
    Held,
    /// An attempt succeeded.
    Succeeded,
    /// Given up for good.
    Failed,
    /// Ended by an operator.
    Cancelled,
}

impl DeliveryState {
    /// Every state there is.
    pub const ALL: [DeliveryState; 5] = [
        DeliveryState::Pending,
        DeliveryState::Held,
        DeliveryState::Succeeded,
        DeliveryState::Failed,
        DeliveryState::Cancelled,
    ];

    /// The state's name in the API, the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Held => "held",
            DeliveryState::Succeeded => "succeeded",
            DeliveryState::Failed => "failed",
            DeliveryState::Cancelled => "cancelled",
        }
    }
}

/// Why an unfinished delivery is not being sent at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitingReason {
    /// Its first attempt lies ahead (`deliver_at`).
    DueLater,
    /// Its next attempt lies ahead.
    RetryLater,
    /// The receiver asked for time (Retry-After).
    RetryAfter,
    /// The lane's cap is used up.
    LaneFull,
    /// The lane is shut after failures.
    LaneShut,
    /// The lane's pace allows no more right now.
    Rate,
    /// Its destination is an ordered one, and it is not its turn.
    Order,
    /// An operator paused the destination.
    Paused,
    /// The destination awaits its confirmation.
    Unconfirmed,
    /// The receiver said 410.
    Gone,
    /// It is being sent now.
    InFlight,
}

impl WaitingReason {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitingReason::DueLater => "due_later",
            WaitingReason::RetryLater => "retry_later",
            WaitingReason::RetryAfter => "retry_after",
            WaitingReason::LaneFull => "lane_full",
            WaitingReason::LaneShut => "lane_shut",
            WaitingReason::Rate => "rate",
            WaitingReason::Order => "order",
            WaitingReason::Paused => "paused",
            WaitingReason::Unconfirmed => "unconfirmed",
            WaitingReason::Gone => "gone",
            WaitingReason::InFlight => "in_flight",
        }
    }
}

/// What made an attempt happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The schedule, the first attempt included.
    Schedule,
    /// An operator's resend.
    Manual,
    /// A bulk replay.
    Replay,
    /// A test event.
    Test,
    /// A confirmation request.
    Confirmation,
}

impl Trigger {
    /// The trigger's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Schedule => "schedule",
            Trigger::Manual => "manual",
            Trigger::Replay => "replay",
            Trigger::Test => "test",
            Trigger::Confirmation => "confirmation",
        }
    }

    /// What the schedule's next attempt is made by, after one that was made by this. What was asked of a receiver, and what was
    /// a test, stays so.
    #[must_use]
    pub fn of_retry(self) -> Self {
        match self {
            Trigger::Schedule | Trigger::Manual | Trigger::Replay => Trigger::Schedule,
            Trigger::Test | Trigger::Confirmation => self,
        }
    }
}

/// How a delivery ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ending {
    /// Its schedule has no further attempt.
    Exhausted,
    /// Its event's `expires_at` passed.
    Expired,
    /// Its event's payload was erased before it could be delivered.
    Erased,
    /// An operator cancelled it.
    Cancelled,
    /// Its destination was deleted.
    DestinationDeleted,
    /// A record that it needs is damaged on disk: its event's, or the one of its end.
    Damaged,
}

impl Ending {
    /// The ending's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Exhausted => "exhausted",
            Ending::Expired => "expired",
            Ending::Erased => "erased",
            Ending::Cancelled => "cancelled",
            Ending::DestinationDeleted => "destination_deleted",
            Ending::Damaged => "damaged",
        }
    }

    /// The state that the delivery is in after it.
    pub fn state(self) -> DeliveryState {
        match self {
            Ending::Exhausted | Ending::Expired | Ending::Erased | Ending::Damaged => DeliveryState::Failed,
            Ending::Cancelled | Ending::DestinationDeleted => DeliveryState::Cancelled,
        }
    }
}

/// How long each part of an attempt took; absent where it did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phases {
    /// Name look-up.
    pub dns: Option<Duration>,
    /// TCP connect.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// From the request's first byte to the reply's head.
    pub head: Option<Duration>,
    /// The reply's body.
    pub body: Option<Duration>,
}

/// The headers of a request or a reply, as one text: a delivery has two dozen of them, and hardly anybody looks.
///
/// Each stands in a line of its own, `name: value`. HTTP keeps them apart: no name holds a colon, no value a line feed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Headers(String);

impl Headers {
    /// None yet, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Headers(String::with_capacity(bytes))
    }

    /// Adds one at the end. Answers where in [`Headers::as_str`] its value stands.
    pub fn push(&mut self, name: &str, value: impl Display) -> Range<usize> {
        self.push_with(name, |text| write!(text, "{value}").expect("a String takes every write"))
    }

    /// Adds one at the end, whose value is appended by `write`. Answers where in [`Headers::as_str`] it stands.
    pub fn push_with(&mut self, name: &str, write: impl FnOnce(&mut String)) -> Range<usize> {
        self.0.push_str(name);
        self.0.push_str(": ");
        let start = self.0.len();
        write(&mut self.0);
        let end = self.0.len();
        self.0.push('\n');
        start..end
    }

    /// Adds all of `others` at the end.
    pub fn extend(&mut self, others: &Headers) {
        self.0.push_str(&others.0);
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_terminator('\n').map(|line| line.split_once(": ").unwrap_or((line, "")))
    }

    /// The value of the first header of this name, in whatever case it is written.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All of them, a line each.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<N: AsRef<str>, V: Display> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Headers::default();
        for (name, value) in headers {
            all.push(name.as_ref(), value);
        }
        all
    }
}

/// One try of one delivery, with everything seen on the wire. Secrets in request headers are masked before they get here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1; goes on through resends.
    pub number: u32,
    /// For which moment it was due: what the attempt before it named as the next, or when it was ordered.
    pub due: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// What made it happen.
    pub trigger: Trigger,
    /// What it came to.
    pub outcome: Outcome,
    /// Why it did not succeed.
    pub reason: Option<Reason>,
    /// The reply's status.
    pub status: Option<u16>,
    /// What was sent, with secrets masked.
    pub request_headers: Headers,
    /// What came back.
    pub response_headers: Headers,
    /// The first bytes of the reply's body (4 KiB at most).
    pub response_body: Vec<u8>,
    /// The failure in words.
    pub error: Option<String>,
    /// The address that was dialled.
    pub address: Option<SocketAddr>,
    /// Where the time went.
    pub phases: Phases,
    /// Whether a kept connection had closed and one fresh one was dialled inside this attempt.
    pub reconnected: bool,
    /// When the next attempt is due, if there is one.
    pub next: Option<Timestamp>,
}

impl Attempt {
    /// The same without headers and bodies: what may be told to whoever may read, and little to hold on to.
    pub fn bare(&self) -> Attempt {
        Attempt {
            number: self.number,
            due: self.due,
            started: self.started,
            duration: self.duration,
            trigger: self.trigger,
            outcome: self.outcome,
            reason: self.reason,
            status: self.status,
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            response_body: Vec::new(),
            error: self.error.clone(),
            address: self.address,
            phases: self.phases,
            reconnected: self.reconnected,
            next: self.next,
        }
    }
}

/// An attempt that has just ended, as it is told to whoever watches.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// To where.
    pub destination: Arc<Destination>,
    /// Of which type its event is.
    pub kind: EventType,
    /// What happened; [bare](Attempt::bare), for a slow watcher lags behind by many of these.
    pub attempt: Attempt,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SX.4: what an attempt shows is what was pushed, in order, also empty values and names that come twice.
    #[test]
    fn headers_come_out_as_they_went_in() {
        let pushed =
            [("x-a", "1: 2"), ("set-cookie", "b"), ("x-empty", ""), ("set-cookie", "\u{e4} : \r"), ("y", " z ")];
        let mut headers: Headers = pushed[..3].iter().copied().collect();
        let more: Headers = pushed[3..4].iter().copied().collect();
        headers.extend(&more);
        let place = headers.push("y", " z ");
        assert_eq!(headers.iter().collect::<Vec<_>>(), pushed);
        assert_eq!(&headers.as_str()[place], " z ");
        assert_eq!(
            (headers.find("SET-COOKIE"), headers.find("x-empty"), headers.find("x")),
            (Some("b"), Some(""), None)
        );
        assert_eq!(Headers::default().iter().count(), 0);
    }
}
