//! What is old enough to go.

use redb::ReadableTable;

use crate::model::event::EventHead;
use crate::model::{DeliveryKey, Seq, Timestamp};
use crate::store::codec;
use crate::store::tables::Records;
use crate::store::writer::{ApplyError, Batch, Op};

use super::deliveries::find_waiting_of;
use super::events::erase;

/// Removes what has passed its age, a slice at a time, in sequence order, skipping what is unfinished. A run of which no
/// event is left loses its lists.
pub struct Sweep {
    /// Where to begin.
    pub from: Seq,
    /// How many deliveries to look at, an event without any counted as one. At least one event is looked at, with all of its own.
    pub limit: usize,
    /// What has aged.
    pub ages: Ages,
}

/// From when on what has aged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Payloads of events accepted before this moment are erased.
    pub payloads_before: Timestamp,
    /// Attempts of events accepted before this moment are removed.
    pub attempts_before: Timestamp,
    /// Events accepted before this moment are removed whole.
    pub events_before: Timestamp,
    /// The present moment. What was accepted later is from a clock that was wrong, and says nothing of what follows it.
    pub now: Timestamp,
}

impl Ages {
    /// Nothing accepted at or after this moment has aged.
    pub(in crate::store) fn newest(&self) -> Timestamp {
        self.payloads_before.max(self.attempts_before).max(self.events_before)
    }

    /// Whether everything that follows an event accepted at this moment is too young as well.
    pub(in crate::store) fn end_at(&self, accepted: Timestamp) -> bool {
        accepted >= self.newest() && accepted <= self.now
    }
}

/// How far a [`Sweep`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Where the next slice begins; `None` when nothing older remains.
    pub next: Option<Seq>,
    /// Events that were removed or lost their payload.
    pub touched: usize,
}

impl Op for Sweep {
    type Answer = Swept;

    fn bytes(&self) -> usize {
        self.limit * 256
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Swept, ApplyError> {
        let newest = self.ages.newest();
        let (mut slice, mut deliveries) = (Vec::new(), 0);
        let (mut next, mut reached) = (None, Seq(u64::MAX));
        for entry in batch.events.range(self.from.0..)? {
            let (seq, record) = entry?;
            let seq = Seq(seq.value());
            // A damaged event stays where it is: nobody can tell its age, or what still waits of it.
            match codec::decode_event_head(batch.events.place(seq.0), record.value()) {
                Err(_) => deliveries += 1,
                Ok(head) if self.ages.end_at(head.accepted) => {
                    reached = seq;
                    break;
                }
                Ok(head) => {
                    deliveries += head.targets.len().max(1);
                    slice.push((seq, head, codec::keeps_body(record.value()).unwrap_or(false)));
                }
            }
            if deliveries >= self.limit {
                next = Some(Seq(seq.0 + 1));
                reached = Seq(seq.0 + 1);
                break;
            }
        }
        let mut touched = 0;
        for (seq, head, keeps_body) in slice {
            if head.accepted < newest && !is_unfinished(batch, seq, &head)? {
                touched += usize::from(self.age(batch, seq, &head, keeps_body)?);
            }
        }
        batch.drop_runs(reached, self.ages.events_before)?;
        Ok(Swept { next, touched })
    }
}

impl Sweep {
    fn age(&self, batch: &mut Batch<'_>, seq: Seq, head: &EventHead, keeps_body: bool) -> Result<bool, ApplyError> {
        let gone = head.accepted < self.ages.events_before;
        let mut touched = gone;
        if gone || head.accepted < self.ages.attempts_before {
            let rows = (seq.0, 0, 0)..=(seq.0, u32::MAX, u32::MAX);
            batch.attempts.retain_in(rows, |_, _| {
                touched = true;
                false
            })?;
        }
        if gone {
            for target in &head.targets {
                batch.ended.remove((target.destination.0, seq.0))?;
                batch.cancelled.remove((target.destination.0, seq.0))?;
                batch.failures.remove((target.destination.0, seq.0))?;
            }
            batch.events.remove(seq.0)?;
            batch.erased.push(seq);
        } else if keeps_body && head.accepted < self.ages.payloads_before {
            erase(batch, seq, head)?;
            touched = true;
        }
        Ok(touched)
    }
}

fn is_unfinished(batch: &Batch<'_>, seq: Seq, head: &EventHead) -> Result<bool, ApplyError> {
    for target in &head.targets {
        let key = DeliveryKey { destination: target.destination, seq };
        if find_waiting_of(head, &batch.events, &batch.attempts, &batch.due, key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
