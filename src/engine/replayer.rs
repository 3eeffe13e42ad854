//! Does the bulk replays that stand in the store: a slice of each in turn, as fast as its rate says and its lanes take it.
//!
//! A lane is given more only while few deliveries are due and wait there. So a replay of a million costs a lane what a replay of
//! thirty does, it stops by itself where a receiver is slow, paused or gone, and fresh events pass it (see [`super::lanes`]). The
//! jobs and how far they have come are the store's: a restart goes on where the last slice ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{Rate, Replay, ReplayId};
use crate::store::replays::{Bounds, Found, ReplaySlice, Scope, SetAside};
use crate::store::{ReadError, Store, StoreFailed};

/// The pause between two rounds over all jobs.
const ROUND: Duration = Duration::from_millis(100);
/// Deliveries that one slice makes due, at most.
const SLICE: usize = 100;
/// Rows that are looked at for one slice, about.
const LOOKED_AT: u64 = 2000;
/// Deliveries that are due and wait in a lane, above which it is given none.
const WAITING_MAX: usize = 32;

pub(super) struct Replayer {
    store: Store,
    clock: Clock,
    paces: HashMap<ReplayId, Pace>,
}

/// How much time a job has saved up, to be spent at its rate, and whose turn it is within it.
struct Pace {
    looked: Instant,
    saved: Duration,
    turn: usize,
}

impl Pace {
    /// How many deliveries the rate allows by now.
    ///
    /// What is not used soon is lost: a lane that opens after a while is not flooded.
    fn allows(&mut self, rate: Rate, now: Instant) -> usize {
        let interval = rate.interval().max(Duration::from_nanos(1));
        self.saved = self.saved.saturating_add(now - self.looked).min(interval.max(2 * ROUND));
        self.looked = now;
        usize::try_from(self.saved.as_nanos() / interval.as_nanos()).unwrap_or(SLICE).min(SLICE)
    }

    fn spend(&mut self, rate: Rate, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.saved = self.saved.saturating_sub(rate.interval().saturating_mul(count));
    }
}

impl Replayer {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Replayer { store, clock, paces: HashMap::new() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut running = self.store.replays_running();
        loop {
            let jobs = Arc::clone(&running.borrow_and_update());
            self.paces.retain(|id, _| jobs.contains(id));
            if jobs.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = running.changed() => if changed.is_err() { return },
                }
                continue;
            }
            for id in jobs.iter() {
                if stop.is_cancelled() || self.slice(*id).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    /// One slice of one job, if there is anything to do for it at this moment.
    async fn slice(&mut self, id: ReplayId) -> Result<(), StoreFailed> {
        let now = Instant::now();
        // It begins with what a round saves up, or with one delivery.
        let pace = self.paces.entry(id).or_insert(Pace { looked: now, saved: Duration::MAX, turn: 0 });
        let (catalog, clock_now, turn) = (self.store.catalog(), self.clock.now(), pace.turn);
        let read = self.store.read(move |snapshot| {
            let Some(replay) = snapshot.replay(id)? else { return Ok(None) };
            let scope = Scope::of(&catalog, &replay.wanted);
            Ok(Some((replay, scope)))
        });
        let (replay, scope) = match read.await {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            Err(ReadError::Damaged(_)) => {
                tracing::error!(event = "replay_damaged", replay = %id, "a bulk replay has stopped: its record is damaged");
                return self.store.submit(SetAside { id }).await.map(drop);
            }
            Err(error) => return unreadable(id, &error),
        };
        let allowed = pace.allows(replay.rate, now);
        if allowed == 0 {
            return Ok(());
        }
        let bounds = Bounds { deliveries: allowed, looks: LOOKED_AT, waiting: Some((clock_now, WAITING_MAX)), turn };
        let Replay { wanted, until, walk, step, rate, .. } = replay;
        let before = walk.clone();
        let found = self.store.read(move |snapshot| snapshot.replayable(&wanted, until, &walk, &scope, bounds)).await;
        let found: Found = match found {
            Ok(found) => found,
            Err(error) => return unreadable(id, &error),
        };
        pace.turn = pace.turn.wrapping_add(found.parts.max(1));
        if found.deliveries.is_empty() && found.walk == before && !before.is_over() {
            return Ok(());
        }
        let done = self.store.submit(ReplaySlice { id, step, found }).await?.answer;
        pace.spend(rate, done.unwrap_or(0));
        Ok(())
    }
}

/// The next round tries again.
fn unreadable(id: ReplayId, error: &ReadError) -> Result<(), StoreFailed> {
    tracing::error!(event = "replay_unreadable", replay = %id, %error, "look for the next deliveries of a bulk replay");
    Ok(())
}
