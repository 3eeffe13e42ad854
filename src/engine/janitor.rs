//! Keeps the house: retention, and what still waits for destinations that were deleted. In slices, so that nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{Destination, Seq, Timestamp};
use crate::store::audit::DropAged;
use crate::store::commands::DropCommands;
use crate::store::op::{Ages, BringForward, Purge, PutInOrder, Sweep};
use crate::store::replays::DropReplays;
use crate::store::requests::{self, DropRequests};
use crate::store::{Ahead, Store, StoreFailed};

use super::{Retention, Settings, health};

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
/// Bulk replays, and commands of dialects, are kept this long after their end.
const JOBS_STAY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Before this moment (2024-01-01) the clock is wrong: nothing is removed by its word.
const PLAUSIBLE: Timestamp = Timestamp::from_millis(1_704_067_200_000);

/// For so long the clock must have kept step before anything is removed by its word: a machine may start with a wrong clock, and
/// what is removed does not come back when that is set right.
const KEEPS_STEP: Duration = Duration::from_secs(3600);
/// The wall clock and the monotonic one may differ by so much between two looks: a clock is slewed, and a machine is busy.
pub(super) const OUT_OF_STEP: Duration = Duration::from_secs(10);

/// Whether the wall clock has kept step with one that does not jump.
#[derive(Debug)]
struct Steps {
    /// When it was found out of step last, or the start.
    since: Instant,
    /// Both clocks, at the last look.
    last: (Timestamp, Instant),
    /// Whether it may have run ahead until now: it was set back, or nobody was here to see.
    ran_ahead: bool,
}

impl Steps {
    fn new(now: Timestamp, instant: Instant) -> Self {
        Steps { since: instant, last: (now, instant), ran_ahead: true }
    }

    /// Looks at both clocks. Answers whether the wall clock has kept step for long enough.
    fn keep(&mut self, now: Timestamp, instant: Instant) -> bool {
        let (before, earlier) = std::mem::replace(&mut self.last, (now, instant));
        let expected = before.after(instant.duration_since(earlier));
        if now.since(expected).max(expected.since(now)) > OUT_OF_STEP {
            tracing::warn!(
                event = "clock_stepped",
                expected = %expected,
                found = %now,
                "the clock was set; retention waits until it has kept step for an hour"
            );
            self.since = instant;
            self.ran_ahead |= expected > now;
        }
        instant.duration_since(self.since) >= KEEPS_STEP && now >= PLAUSIBLE
    }
}

pub(super) struct Janitor {
    store: Store,
    clock: Clock,
    steps: Steps,
    settings: Arc<Settings>,
    next: Option<Seq>,
}

impl Janitor {
    pub(super) fn new(store: Store, clock: Clock, settings: Arc<Settings>) -> Self {
        let steps = Steps::new(clock.now(), Instant::now());
        Janitor { store, clock, steps, settings, next: None }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut rounds = 0;
        loop {
            let pause = if self.next.is_some() { BETWEEN_SLICES } else { self.settings.janitor_round };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let trusted_now = self.trusted_now();
            let Ok(()) = self.purge(&stop).await else { return };
            let Ok(()) = self.put_in_order(&stop).await else { return };
            if self.steps.ran_ahead && self.clock.now() >= PLAUSIBLE {
                self.steps.ran_ahead = false;
                let Ok(()) = self.bring_forward(&stop).await else { return };
            }
            if self.next.is_none() {
                // A walk that is due waits for the clock.
                if rounds == 0 {
                    let Some(now) = trusted_now else { continue };
                    self.next = Some(Seq(0));
                    let Ok(()) = self.sweep_audit(now, &stop).await else { return };
                    let Ok(()) = self.sweep_replays(now).await else { return };
                    let Ok(()) = self.sweep_commands(now).await else { return };
                    let Ok(()) = self.sweep_requests(now, &stop).await else { return };
                }
                rounds = (rounds + 1) % WALK_EVERY;
            }
            if let Some(from) = self.next {
                let Some(now) = self.trusted_now() else {
                    (self.next, rounds) = (None, 0);
                    continue;
                };
                let Ok(next) = self.sweep(from, now).await else { return };
                self.next = next;
            }
        }
    }

    /// The present moment, if it is one to remove anything by.
    fn trusted_now(&mut self) -> Option<Timestamp> {
        let now = self.clock.now();
        self.steps.keep(now, Instant::now()).then_some(now)
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

    /// Puts in order what waits for destinations that became ordered ones. Their lanes stand still until it is done.
    async fn put_in_order(&self, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let waiting: Vec<_> = self.store.standing(|standing| {
            let ordering = standing.lanes.iter().filter(|(_, lane)| lane.ordering.is_some());
            ordering.map(|(no, _)| *no).collect()
        });
        for no in waiting {
            while !stop.is_cancelled() && !self.store.submit(PutInOrder { no, limit: LOOKED_AT }).await?.answer {}
        }
        Ok(())
    }

    /// Brings forward what a clock that ran ahead has made due too late. Looks at all that is due in the future.
    async fn bring_forward(&self, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let lanes = match self.store.read(|snapshot| snapshot.lanes_with_work()).await {
            Ok(lanes) => lanes,
            Err(error) => {
                tracing::error!(event = "lanes_unreadable", %error, "look for what a clock that ran ahead made due");
                return Ok(());
            }
        };
        let mut count = 0;
        for no in lanes {
            let Some(longest) = self.store.catalog().destination(no).map(|it| longest_wait(&self.settings, it)) else {
                continue;
            };
            let mut from = Some((self.clock.now().after(OUT_OF_STEP), Seq(0)));
            while let Some(place) = from
                && !stop.is_cancelled()
            {
                let clock = (self.clock.now(), OUT_OF_STEP, longest);
                let look = self.store.read(move |snapshot| snapshot.set_ahead(no, place, SLICE, clock)).await;
                let Ahead { mut rows, next } = match look {
                    Ok(found) => found,
                    Err(error) => {
                        tracing::error!(event = "lane_unreadable", destination = no.0, %error, "look for what a clock that ran ahead made due");
                        break;
                    }
                };
                // An attempt that is under way tells itself when the next one is due.
                rows.retain(|(row, _)| !self.store.is_under_way(row.key()));
                count += rows.len();
                if !rows.is_empty() {
                    let _ = self.store.submit(BringForward { rows }).await?;
                }
                from = next;
                tokio::time::sleep(BETWEEN_SLICES).await;
            }
        }
        if count > 0 {
            tracing::warn!(
                event = "deliveries_brought_forward",
                count,
                "a clock that ran ahead had made them due too late"
            );
        }
        Ok(())
    }

    /// Forgets requests whose keys have passed their day.
    async fn sweep_requests(&mut self, now: Timestamp, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let before = now.before(requests::KEPT_FOR);
        while !stop.is_cancelled() && self.trusted_now().is_some() {
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
    async fn sweep_replays(&self, now: Timestamp) -> Result<(), StoreFailed> {
        let before = now.before(JOBS_STAY);
        let aged = self.store.read(move |snapshot| {
            Ok(snapshot.replays(None)?.iter().any(|replay| replay.ended.is_some_and(|ended| ended < before)))
        });
        match aged.await {
            Ok(true) => {
                let _ = self.store.submit(DropReplays { before }).await?;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(event = "replays_unreadable", %error, "look for bulk replays that have aged"),
        }
        Ok(())
    }

    /// Drops commands that ended long ago, likewise.
    async fn sweep_commands(&self, now: Timestamp) -> Result<(), StoreFailed> {
        let before = now.before(JOBS_STAY);
        match self.store.read(move |snapshot| snapshot.commands_have_aged(before)).await {
            Ok(true) => {
                let _ = self.store.submit(DropCommands { before }).await?;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(event = "commands_unreadable", %error, "look for commands that have aged"),
        }
        Ok(())
    }

    /// Drops what has passed its age in the audit log, and says in the daemon's own log from where it goes on.
    async fn sweep_audit(&mut self, now: Timestamp, stop: &CancellationToken) -> Result<(), StoreFailed> {
        let before = now.before(self.settings.retention.audit);
        let mut dropped = false;
        while !stop.is_cancelled() && self.trusted_now().is_some() {
            match self.store.read(move |snapshot| snapshot.audit_has_aged(before, now, SLICE)).await {
                Ok(true) => dropped = true,
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(event = "audit_unreadable", %error, "look for what has aged in the audit log");
                    break;
                }
            }
            let _ = self.store.submit(DropAged { before, now, limit: SLICE }).await?;
            tokio::time::sleep(BETWEEN_SLICES).await;
        }
        if dropped {
            let anchor = self.store.standing(|standing| standing.audit.anchor);
            tracing::info!(event = "audit_anchor", %anchor, "records of the audit log have passed their age");
        }
        Ok(())
    }

    /// One slice of retention: looks, and changes only where there is something to change. Answers where to go on.
    async fn sweep(&self, from: Seq, now: Timestamp) -> Result<Option<Seq>, StoreFailed> {
        let Retention { events, attempts, .. } = self.settings.retention;
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

/// The longest that a delivery may wait after an attempt: by its schedule with its jitter, by the receiver's wish, or after the
/// daemon's own end.
fn longest_wait(settings: &Settings, destination: &Destination) -> Duration {
    let schedule = settings.schedule_of(destination);
    let longest = schedule.delays().iter().max().copied().unwrap_or_default();
    (2 * longest).max(health::RETRY_AFTER_MAX)
}

#[cfg(test)]
mod tests;
