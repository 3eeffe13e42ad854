//! Connections kept for the next request of the same lane.
//!
//! Owns the idle connections: few, for seconds, bounded over all lanes. A connection is handed out only while it is open
//! and silent; one with bytes waiting is dropped, for they would be read as the next reply. Connections in use belong to
//! their exchanges. One task closes what has expired; it starts with the first idle connection and ends with the last.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::exchange::Link;
use super::targets::Target;
use crate::model::{DestinationNo, NumberMap};

pub(super) struct Pool {
    keep_alive: Duration,
    total_max: usize,
    /// Locked for a few lines without waiting; connections are closed outside.
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    idle: NumberMap<DestinationNo, Vec<Idle>>,
    total: usize,
    swept: bool,
}

struct Idle {
    link: Link,
    target: Arc<Target>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(keep_alive: Duration, total_max: usize) -> Arc<Self> {
        Arc::new(Pool { keep_alive, total_max, shelf: Mutex::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.shelf().total
    }

    /// The youngest idle connection of a lane that still serves its target and whose address is still open; what no longer
    /// serves is closed.
    pub(super) fn take(
        &self,
        lane: DestinationNo,
        target: &Arc<Target>,
        still_open: impl Fn(SocketAddr) -> bool,
    ) -> Option<Link> {
        while let Some(Idle { link, target: its, since }) = self.pop(lane) {
            if (Arc::ptr_eq(&its, target) || its.shares_connections_with(target))
                && since.elapsed() < self.keep_alive
                && link.is_quiet()
                && still_open(link.address())
            {
                return Some(link);
            }
        }
        None
    }

    fn pop(&self, lane: DestinationNo) -> Option<Idle> {
        let mut shelf = self.shelf();
        let idle = shelf.idle.get_mut(&lane)?.pop()?;
        shelf.total -= 1;
        Some(idle)
    }

    /// Keeps a connection, unless the lane or the house has enough of them.
    pub(super) fn put(self: &Arc<Self>, lane: DestinationNo, target: Arc<Target>, link: Link, lane_max: u32) {
        let mut shelf = self.shelf();
        if shelf.total >= self.total_max || self.keep_alive.is_zero() {
            return;
        }
        let place = shelf.idle.entry(lane).or_default();
        if place.len() >= lane_max.max(1) as usize {
            return;
        }
        place.push(Idle { link, target, since: Instant::now() });
        shelf.total += 1;
        if !shelf.swept {
            shelf.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), self.keep_alive));
        }
    }

    /// Closes what is kept for a lane.
    pub(super) fn forget(&self, lane: DestinationNo) {
        let mut shelf = self.shelf();
        let idle = shelf.idle.remove(&lane).unwrap_or_default();
        shelf.total -= idle.len();
        drop(shelf);
        drop(idle);
    }

    /// Closes what is kept for all lanes.
    pub(super) fn forget_all(&self) {
        let mut shelf = self.shelf();
        let idle = std::mem::take(&mut shelf.idle);
        shelf.total = 0;
        drop(shelf);
        drop(idle);
    }

    /// Closes what has expired; says whether anything is left.
    fn close_expired(&self) -> bool {
        let mut expired = Vec::new();
        let mut shelf = self.shelf();
        shelf.idle.retain(|_, idle| {
            let first_young = idle.iter().position(|idle| idle.since.elapsed() < self.keep_alive).unwrap_or(idle.len());
            expired.extend(idle.drain(..first_young));
            !idle.is_empty()
        });
        shelf.total -= expired.len();
        shelf.swept = shelf.total > 0;
        shelf.swept
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>, keep_alive: Duration) {
    loop {
        sleep(keep_alive / 2).await;
        match pool.upgrade() {
            Some(pool) if pool.close_expired() => {}
            Some(_) | None => return,
        }
    }
}
