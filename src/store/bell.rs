//! The bell: what the engine hears of after each commit.
//!
//! Changes arrive in the order of their commits. Nothing depends on hearing all of them: when the engine has fallen too far
//! behind, the queue is dropped and replaced by [`Heard::Everything`], and the engine reads the disk again. The ends of its own
//! attempts are the one thing that the disk cannot tell it: whether a row is from before such an end or after it. They are kept.

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
    /// An operator resumed a destination: what was known against its receiver is forgotten.
    Opened(DestinationNo),
}

/// What the engine hears when it listens.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// These changes, in order.
    Changes(Vec<Change>),
    /// More than was kept: read the disk again. The ends of attempts that had been rung until then.
    Everything(Vec<DeliveryKey>),
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
                    let ends = kept.iter().chain(&changes).filter_map(end_of).collect();
                    *waiting = Heard::Everything(ends);
                }
                // The engine bounds how many attempts have no end on disk; where there is none to listen, nothing is missed.
                Heard::Everything(ends) => {
                    let room = CHANGES_MAX.saturating_sub(ends.len());
                    ends.extend(changes.iter().filter_map(end_of).take(room));
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

fn end_of(change: &Change) -> Option<DeliveryKey> {
    match change {
        Change::Settled(key) => Some(*key),
        Change::Due(_) | Change::Gone(_) | Change::Lane(_) | Change::Opened(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_bell_says_everything_and_then_what_was_rung() {
        let bell = Bell::default();
        bell.ring(vec![Change::Lane(DestinationNo(1))]);
        assert_eq!(bell.heard(), Heard::Everything(vec![]));
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
        for _ in 0..3 {
            bell.ring(vec![Change::Lane(DestinationNo(1)); CHANGES_MAX / 2]);
        }
        assert_eq!(bell.heard(), Heard::Everything(vec![]));
    }

    /// A commit that changed more than the bell keeps took the ends of attempts along: the engine held their deliveries for
    /// unsettled and did not try them again until the next start.
    #[test]
    fn the_ends_of_attempts_are_heard_also_when_everything_else_was_too_much() {
        let bell = Bell::default();
        bell.heard();
        let key = |seq| DeliveryKey { destination: DestinationNo(1), seq: crate::model::Seq(seq) };
        bell.ring(vec![Change::Settled(key(1)), Change::Lane(DestinationNo(1))]);
        let mut many = vec![Change::Lane(DestinationNo(1)); CHANGES_MAX];
        many.push(Change::Settled(key(2)));
        bell.ring(many);
        bell.ring(vec![Change::Lane(DestinationNo(1)), Change::Settled(key(3))]);
        assert_eq!(bell.heard(), Heard::Everything(vec![key(1), key(2), key(3)]));
        assert_eq!(bell.heard(), Heard::Changes(vec![]));
    }
}
