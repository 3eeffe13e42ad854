//! How a destination does: its tally, what waits, and what its newest deliveries' attempts came to.
//!
//! The tally is exact and known at any time. Everything about attempts is counted over the newest deliveries only, so that
//! it costs the same however much there is; how far back they reach is told beside it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Attempt, DeliveryId, DestinationId, EventId, EventType, Outcome, Reason, Timestamp};
use crate::store::{DeliveriesWanted, Delivery, Lane, Tally, Window};

use super::{Error, Service, Sight, holds};

/// The newest attempts that are told one by one.
pub const NEWEST_MAX: usize = 10;
/// Deliveries whose attempts are counted, at most.
const SAMPLE_MAX: usize = 500;
/// The spans of time over which attempts are counted.
pub const SPANS: [Duration; 3] =
    [Duration::from_secs(3600), Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600)];

/// How a destination does.
#[derive(Debug)]
pub struct Stats {
    /// Its deliveries by state; those that wait are held when `holds` says so.
    pub tally: Tally,
    /// Whether its lane holds what waits.
    pub holds: bool,
    /// Its lane.
    pub lane: Lane,
    /// When the oldest event that waits for it was accepted; where very many wait, of the first and the last in line.
    pub oldest_waiting: Option<Timestamp>,
    /// When an attempt last succeeded, among those that were counted.
    pub last_success: Option<Timestamp>,
    /// When one last failed.
    pub last_failure: Option<Timestamp>,
    /// The newest attempts among these, the newest first, at most [`NEWEST_MAX`].
    pub newest: Vec<Tried>,
    /// How many deliveries were looked at.
    pub sampled: usize,
    /// When the oldest event among these was accepted; `None` when they are all there are.
    pub sampled_from: Option<Timestamp>,
    /// What the attempts came to that began within each of [`SPANS`].
    pub counts: [Counts; SPANS.len()],
}

/// An attempt, and of what.
#[derive(Debug)]
pub struct Tried {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The type of its event.
    pub kind: EventType,
    /// The attempt.
    pub attempt: Attempt,
}

/// What attempts came to.
#[derive(Debug, Default)]
pub struct Counts {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// Of how many the reply was lost.
    pub unknown: u64,
    /// Why those that did not succeed did not.
    pub reasons: BTreeMap<&'static str, u64>,
    // Sorted once all are in.
    durations: Vec<Duration>,
}

impl Counts {
    fn add(&mut self, attempt: &Attempt) {
        match attempt.outcome {
            Outcome::Succeeded => self.succeeded += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unknown => self.unknown += 1,
        }
        if let Some(reason) = attempt.reason {
            *self.reasons.entry(Reason::as_str(reason)).or_default() += 1;
        }
        self.durations.push(attempt.duration);
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u64 {
        self.succeeded + self.failed + self.unknown
    }

    /// The part that succeeded; `None` when there was no attempt.
    pub fn success_rate(&self) -> Option<f64> {
        (self.attempts() > 0).then(|| self.succeeded as f64 / self.attempts() as f64)
    }

    /// The time within which so many of a hundred attempts ended (nearest rank).
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.durations.len() * percent).div_ceil(100).max(1);
        self.durations.get(rank - 1).copied()
    }
}

/// The newest attempts of some deliveries.
fn newest(deliveries: &[Delivery]) -> Vec<Tried> {
    let all = deliveries.iter().flat_map(|delivery| delivery.attempts.iter().map(move |attempt| (delivery, attempt)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(delivery, attempt)| Reverse((attempt.started, delivery.key.seq, attempt.number)));
    let tried = |(delivery, attempt): (&Delivery, &Attempt)| Tried {
        delivery: DeliveryId {
            event: EventId::new(delivery.head.epoch, delivery.key.seq),
            destination: delivery.key.destination,
        },
        kind: delivery.head.kind.clone(),
        attempt: attempt.clone(),
    };
    all.into_iter().take(NEWEST_MAX).map(tried).collect()
}

impl Service {
    /// How a destination does. Bounded work, however many deliveries it has.
    pub async fn stats(&self, sight: &Sight, id: DestinationId) -> Result<Stats, Error> {
        let destination = self.destination(sight, id)?;
        let (no, now) = (destination.no, self.now());
        let wanted = DeliveriesWanted { destination: Some(no), ..DeliveriesWanted::default() };
        let window = Window { after: None, skip: 0, limit: SAMPLE_MAX };
        let read =
            self.store.read(move |snapshot| Ok((snapshot.deliveries(&wanted, window)?, snapshot.oldest_waiting(no)?)));
        let (page, oldest_waiting) = read.await?;
        let (tally, lane) = (self.tally(no), self.lane(no));
        let mut stats = Stats {
            tally,
            holds: holds(&destination, lane),
            lane,
            oldest_waiting,
            last_success: None,
            last_failure: None,
            newest: newest(&page.items),
            sampled: page.items.len(),
            sampled_from: page.next.and(page.items.last()).map(|delivery| delivery.head.accepted),
            counts: Default::default(),
        };
        for attempt in page.items.iter().flat_map(|delivery| &delivery.attempts) {
            let last = match attempt.outcome {
                Outcome::Succeeded => &mut stats.last_success,
                Outcome::Failed | Outcome::Unknown => &mut stats.last_failure,
            };
            *last = (*last).max(Some(attempt.started));
            for (span, counts) in SPANS.iter().zip(&mut stats.counts) {
                if now.since(attempt.started) < *span {
                    counts.add(attempt);
                }
            }
        }
        stats.counts.iter_mut().for_each(|counts| counts.durations.sort_unstable());
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Trigger;
    use crate::model::delivery::{Headers, Phases};

    fn attempt(millis: u64, outcome: Outcome, reason: Option<Reason>) -> Attempt {
        Attempt {
            number: 1,
            due: Timestamp::ZERO,
            started: Timestamp::ZERO,
            duration: Duration::from_millis(millis),
            trigger: Trigger::Schedule,
            outcome,
            reason,
            status: None,
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            response_body: vec![],
            error: None,
            address: None,
            phases: Phases::default(),
            reconnected: false,
            next: None,
        }
    }

    #[test]
    fn attempts_are_counted_by_outcome_and_reason_and_ranked_by_duration() {
        let mut counts = Counts::default();
        assert_eq!((counts.attempts(), counts.success_rate(), counts.percentile(50)), (0, None, None));
        for millis in (1..=97).rev() {
            counts.add(&attempt(millis, Outcome::Succeeded, None));
        }
        counts.add(&attempt(500, Outcome::Failed, Some(Reason::Status)));
        counts.add(&attempt(700, Outcome::Failed, Some(Reason::Status)));
        counts.add(&attempt(900, Outcome::Unknown, Some(Reason::Reset)));
        counts.durations.sort_unstable();
        assert_eq!((counts.attempts(), counts.success_rate()), (100, Some(0.97)));
        assert_eq!(counts.reasons, [("reset", 1), ("status", 2)].into());
        let ranks = [50, 90, 99, 100].map(|percent| counts.percentile(percent).unwrap().as_millis());
        assert_eq!(ranks, [50, 90, 700, 900]);
    }
}
