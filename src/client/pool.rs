//! Connections kept for the next request of the same lane.
//!
//! Owns the idle connections: few, for seconds, bounded over all lanes. A connection is handed out only while it is open
//! and silent; one with bytes waiting is dropped, for they would be read as the next reply. Connections in use belong to
//! their exchanges. One task closes what has expired; it starts with the first idle connection and ends with the last.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::exchange::Link;
use super::guard::{Host, Scheme, TargetUrl};
use super::tls::Identity;
use crate::model::DestinationNo;

/// What must be the same for a connection to serve again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    lane: DestinationNo,
    scheme: Scheme,
    host: Host,
    port: u16,
    tls: Option<Identity>,
}

impl Key {
    pub(super) fn new(lane: DestinationNo, target: &TargetUrl, tls: Option<Identity>) -> Self {
        Key { lane, scheme: target.scheme(), host: target.host().clone(), port: target.port(), tls }
    }
}

pub(super) struct Pool {
    keep_alive: Duration,
    total_max: usize,
    /// Locked for a few lines without waiting; connections are closed outside.
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    idle: HashMap<Key, Vec<Idle>>,
    total: usize,
    swept: bool,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    pub(super) fn new(keep_alive: Duration, total_max: usize) -> Arc<Self> {
        Arc::new(Pool { keep_alive, total_max, shelf: Mutex::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.shelf().total
    }

    /// The youngest idle connection that still serves and whose address is still open; what no longer serves is closed.
    pub(super) fn take(&self, key: &Key, still_open: impl Fn(SocketAddr) -> bool) -> Option<Link> {
        let mut idle = {
            let mut shelf = self.shelf();
            let idle = shelf.idle.remove(key)?;
            shelf.total -= idle.len();
            idle
        };
        let mut found = None;
        while let Some(Idle { link, since }) = idle.pop() {
            if since.elapsed() < self.keep_alive && link.is_quiet() && still_open(link.address()) {
                found = Some(link);
                break;
            }
        }
        if !idle.is_empty() {
            let mut shelf = self.shelf();
            shelf.total += idle.len();
            // Others may have come back meanwhile: they are younger.
            let place = shelf.idle.entry(key.clone()).or_default();
            idle.append(place);
            *place = idle;
        }
        found
    }

    /// Keeps a connection, unless the lane or the house has enough of them.
    pub(super) fn put(self: &Arc<Self>, key: Key, link: Link, lane_max: u32) {
        let mut shelf = self.shelf();
        if shelf.total >= self.total_max || self.keep_alive.is_zero() {
            return;
        }
        let place = shelf.idle.entry(key).or_default();
        if place.len() >= lane_max.max(1) as usize {
            return;
        }
        place.push(Idle { link, since: Instant::now() });
        shelf.total += 1;
        if !shelf.swept {
            shelf.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), self.keep_alive));
        }
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
