//! Keeps the house: retention, and what still waits for destinations that were deleted. In slices, so that nobody waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{Seq, Timestamp};
use crate::store::audit::DropAged;
use crate::store::op::{Ages, Purge, Sweep};
use crate::store::replays::DropReplays;
use crate::store::requests::{self, DropRequests};
use crate::store::{Store, StoreFailed};

use super::Retention;

/// Deliveries that one slice of a walk looks at, about; an event without any counts as one.
const LOOKED_AT: usize = 2000;
/// Deliveries that one operation changes, about; an event without any counts as one.
const SLICE: usize = 500;
/// The pause between two slices of one walk: room for everybody else.
const BETWEEN_SLICES: Duration = Duration::from_millis(20);
/// Rounds between two walks over what has aged.
const WALK_EVERY: u32 = 3600;
/// Producers' ids are remembered this long, so their events stay at least as long.
const EVENTS_STAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bulk replays are kept this long after their end.
const REPLAYS_STAY: Duration = Duration::from_secs(30 * 24 * 3600);
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
            let Ok(()) = self.purge(&stop).await else { return };
            if self.next.is_none() {
                if rounds == 0 {
                    self.next = Some(Seq(0));
                    let Ok(()) = self.sweep_audit(&stop).await else { return };
                    let Ok(()) = self.sweep_replays().await else { return };
                    let Ok(()) = self.sweep_requests(&stop).await else { return };
                }
                rounds = (rounds + 1) % WALK_EVERY;
            }
            if let Some(from) = self.next {
                let Ok(next) = self.sweep(from).await else { return };
                self.next = next;
            }
        }
    }

    /// Cancels what waits for deleted destinations.
    async fn purge(&self, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let catalog = self.store.catalog();
        let waiting: Vec<_> = self.store.standing(|standing| {
            let deleted = catalog.tombstones().map(|tombstone| tombstone.no);
            deleted.filter(|no| standing.tally(*no).waiting() > 0).collect()
        });
        for no in waiting {
            while !stop.is_cancelled() && self.store.submit(Purge { no, limit: SLICE }).await?.answer == SLICE {}
        }
        Ok(())
    }

    /// Forgets requests whose keys have passed their day.
    async fn sweep_requests(&self, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let now = self.clock.now();
        let before = now.before(requests::KEPT_FOR);
        while now >= PLAUSIBLE && !stop.is_cancelled() {
            match self.store.read(move |snapshot| snapshot.requests_have_aged(before)).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(event = "requests_unreadable", %error, "look for requests whose keys have aged");
                    break;
                }
            }
            let _ = self.store.submit(DropRequests { before, limit: SLICE }).await?;
            tokio::time::sleep(BETWEEN_SLICES).await;
        }
        Ok(())
    }

    /// Drops bulk replays that ended long ago. There are few of them: one look, and one operation where there is something to drop.
    async fn sweep_replays(&self) -> Result<(), StoreFailed> {
        let now = self.clock.now();
        let before = now.before(REPLAYS_STAY);
        let aged = self.store.read(move |snapshot| {
            Ok(snapshot.replays(None)?.iter().any(|replay| replay.ended.is_some_and(|ended| ended < before)))
        });
        match aged.await {
            Ok(true) if now >= PLAUSIBLE => {
                let _ = self.store.submit(DropReplays { before }).await?;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(event = "replays_unreadable", %error, "look for bulk replays that have aged"),
        }
        Ok(())
    }

    /// Drops what has passed its age in the audit log, and says in the daemon's own log from where it goes on.
    async fn sweep_audit(&self, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let now = self.clock.now();
        let before = now.before(self.retention.audit);
        let mut dropped = false;
        while now >= PLAUSIBLE && !stop.is_cancelled() {
            match self.store.read(move |snapshot| snapshot.audit_has_aged(before, now, SLICE)).await {
                Ok(true) => dropped = true,
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(event = "audit_unreadable", %error, "look for what has aged in the audit log");
                    break;
                }
            }
            let _ = self.store.submit(DropAged { before, limit: SLICE }).await?;
            tokio::time::sleep(BETWEEN_SLICES).await;
        }
        if dropped {
            let anchor = self.store.standing(|standing| standing.audit.anchor);
            tracing::info!(event = "audit_anchor", %anchor, "records of the audit log have passed their age");
        }
        Ok(())
    }

    /// One slice of retention: looks, and changes only where there is something to change. Answers where to go on.
    async fn sweep(&self, from: Seq) -> Result<Option<Seq>, StoreFailed> {
        let now = self.clock.now();
        if now < PLAUSIBLE {
            return Ok(None);
        }
        let Retention { events, attempts, .. } = self.retention;
        let ages = Ages {
            payloads_before: now.before(events),
            attempts_before: now.before(attempts),
            events_before: now.before(events.max(attempts).max(EVENTS_STAY)),
            now,
        };
        let aged = match self.store.read(move |snapshot| snapshot.first_aged(from, LOOKED_AT, ages)).await {
            Ok(aged) => aged,
            Err(error) => {
                tracing::error!(event = "retention_unreadable", %error, "look for what has aged; the next walk tries again");
                return Ok(None);
            }
        };
        match aged.found {
            Some(from) => Ok(self.store.submit(Sweep { from, limit: SLICE, ages }).await?.answer.next),
            None => Ok(aged.next),
        }
    }
}
