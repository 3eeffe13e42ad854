//! The bell: what the engine hears of after each commit.
//!
//! Changes arrive in the order of their commits. Nothing depends on hearing all of them: when the engine has fallen too far
//! behind, the rows in the queue are dropped and replaced by [`Heard::Everything`], and the engine reads the disk again. Two
//! things a walk over the rows cannot tell it, and they are kept: the ends of its own attempts (whether a row is from before such
//! an end or after it), and what operators changed of its lanes.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::model::{DeliveryKey, DestinationNo};

use super::record::DueRow;

/// Changes that are kept for an engine that is busy; about 3 MB.
const CHANGES_MAX: usize = 65_536;

/// What a commit changed, as far as the engine cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A delivery is due at a moment: new, retried or resent.
    Due(DueRow),
    /// The end of an attempt is on disk; its delivery may run again.
    Settled(DeliveryKey),
    /// A waiting delivery's row is gone: cancelled.
    Gone(DueRow),
    /// A destination's settings or its lane's state changed, or it was deleted.
    Lane(DestinationNo),
    /// A destination's lane is opened anew, by an operator or for a new URL: what was known of its receiver is forgotten.
    Opened(DestinationNo),
}

/// What the engine hears when it listens.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// These changes, in order.
    Changes(Vec<Change>),
    /// More than was kept: read the disk again. What had been rung until then and does not lie in the rows, in order.
    Everything(Vec<Change>),
}

/// Rung by the writer, heard by the scheduler.
#[derive(Debug)]
pub struct Bell {
    // Held for a push or a take, never across an await.
    waiting: Mutex<Heard>,
    rung: Notify,
}

impl Default for Bell {
    /// A bell that first says [`Heard::Everything`]: a start takes the same path as falling behind.
    fn default() -> Self {
        Bell { waiting: Mutex::new(Heard::Everything(Vec::new())), rung: Notify::new() }
    }
}

impl Bell {
    /// Adds what a commit changed and wakes the listener.
    pub fn ring(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match &mut *waiting {
                Heard::Changes(kept) if kept.is_empty() && changes.len() <= CHANGES_MAX => *kept = changes,
                Heard::Changes(kept) if kept.len() + changes.len() <= CHANGES_MAX => kept.extend(changes),
                Heard::Changes(kept) => {
                    let others = kept.iter().chain(&changes).filter(|change| !is_row(change)).copied();
                    let others = others.take(CHANGES_MAX).collect();
                    *waiting = Heard::Everything(others);
                }
                // The engine bounds how many attempts have no end on disk; where there is none to listen, nothing is missed.
                Heard::Everything(others) => {
                    let room = CHANGES_MAX.saturating_sub(others.len());
                    others.extend(changes.iter().filter(|change| !is_row(change)).take(room));
                }
            }
        }
        self.rung.notify_one();
    }

    /// Takes what has been rung since the last time.
    pub fn heard(&self) -> Heard {
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::replace(&mut waiting, Heard::Changes(Vec::new()))
    }

    /// Waits until the bell has been rung since the last wait.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }
}

/// Whether a change is one of the rows, which are read again.
fn is_row(change: &Change) -> bool {
    match change {
        Change::Due(_) | Change::Gone(_) => true,
        Change::Settled(_) | Change::Lane(_) | Change::Opened(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_bell_says_everything_and_then_what_was_rung() {
        let bell = Bell::default();
        bell.ring(vec![Change::Lane(DestinationNo(1))]);
        assert_eq!(bell.heard(), Heard::Everything(vec![Change::Lane(DestinationNo(1))]));
        bell.ring(vec![Change::Lane(DestinationNo(2))]);
        bell.ring(vec![Change::Lane(DestinationNo(3))]);
        let both = vec![Change::Lane(DestinationNo(2)), Change::Lane(DestinationNo(3))];
        assert_eq!(bell.heard(), Heard::Changes(both));
        assert_eq!(bell.heard(), Heard::Changes(vec![]));
    }

    #[test]
    fn a_bell_that_nobody_hears_stays_bounded() {
        let bell = Bell::default();
        bell.heard();
        for _ in 0..5 {
            bell.ring(vec![Change::Lane(DestinationNo(1)); CHANGES_MAX / 2]);
        }
        assert!(matches!(bell.heard(), Heard::Everything(kept) if kept.len() == CHANGES_MAX));
    }

    /// One commit of events for many destinations rings more than the bell keeps. The ends of attempts went with it, and their
    /// deliveries were not tried again until the next start; so did a resume, and its lane, shown as open, stayed held.
    #[test]
    fn what_does_not_lie_in_the_rows_is_heard_also_when_everything_else_was_too_much() {
        let bell = Bell::default();
        bell.heard();
        let (no, seq) = (DestinationNo(1), crate::model::Seq(1));
        let row = DueRow {
            destination: no,
            due: crate::model::Timestamp::ZERO,
            seq,
            plan: super::super::record::Plan::FIRST,
        };
        let settled = Change::Settled(row.key());
        bell.ring(vec![settled, Change::Due(row), Change::Lane(no)]);
        let mut many = vec![Change::Due(row); CHANGES_MAX];
        many.push(Change::Opened(no));
        bell.ring(many);
        bell.ring(vec![Change::Gone(row), settled]);
        assert_eq!(bell.heard(), Heard::Everything(vec![settled, Change::Lane(no), Change::Opened(no), settled]));
        assert_eq!(bell.heard(), Heard::Changes(vec![]));
    }
}
