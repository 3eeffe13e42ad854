//! Keeps the house: retention, and what still waits for destinations that were deleted. In slices, so that nobody waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{DestinationNo, Seq, Timestamp};
use crate::store::op::{Purge, Sweep};
use crate::store::{Store, StoreFailed};

use super::Retention;

/// Events that one slice looks at.
const SLICE: usize = 500;
/// The pause between two slices of one sweep: 25,000 events a second at most, and room for everybody else.
const BETWEEN_SLICES: Duration = Duration::from_millis(20);
/// Rounds between two sweeps once nothing is left to do.
const SWEEP_EVERY: u32 = 60;
/// Producers' ids are remembered this long, so their events stay at least as long.
const EVENTS_STAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Before this moment (2024-01-01) the clock is wrong: nothing is removed by its word.
const PLAUSIBLE: Timestamp = Timestamp::from_millis(1_704_067_200_000);

pub(super) struct Janitor {
    store: Store,
    clock: Clock,
    retention: Retention,
    round: Duration,
    next: Option<Seq>,
}

impl Janitor {
    pub(super) fn new(store: Store, clock: Clock, retention: Retention, round: Duration) -> Self {
        Janitor { store, clock, retention, round, next: None }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut rounds = 0;
        loop {
            let pause = if self.next.is_some() { BETWEEN_SLICES } else { self.round };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if self.next.is_some() {
                let Ok(()) = self.sweep().await else { return };
                continue;
            }
            let Ok(()) = self.purge(&stop).await else { return };
            if rounds == 0 {
                let Ok(()) = self.sweep().await else { return };
            }
            rounds = (rounds + 1) % SWEEP_EVERY;
        }
    }

    /// Cancels what waits for deleted destinations.
    async fn purge(&self, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let catalog = self.store.catalog();
        let deleted = catalog.tombstones().map(|tombstone| tombstone.no);
        let waits = |no: &DestinationNo| self.store.standing(|standing| standing.tally(*no).waiting() > 0);
        for no in deleted.filter(waits).collect::<Vec<_>>() {
            while !stop.is_cancelled() && self.store.submit(Purge { no, limit: SLICE }).await?.answer == SLICE {}
        }
        Ok(())
    }

    /// One slice of retention.
    async fn sweep(&mut self) -> Result<(), StoreFailed> {
        let now = self.clock.now();
        if now < PLAUSIBLE {
            return Ok(());
        }
        let Retention { events, attempts } = self.retention;
        let sweep = Sweep {
            from: self.next.unwrap_or(Seq(0)),
            limit: SLICE,
            payloads_before: now.before(events),
            attempts_before: now.before(attempts),
            events_before: now.before(events.max(attempts).max(EVENTS_STAY)),
        };
        self.next = self.store.submit(sweep).await?.answer.next;
        Ok(())
    }
}
