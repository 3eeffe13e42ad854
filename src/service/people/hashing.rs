//! Where passwords are hashed: two at a time on threads of their own, a bounded number waiting, the others turned away.
//!
//! A hash costs 19 MiB and some tens of milliseconds of a core, and whoever knocks needs no password to have one made. So after
//! each hash its place rests for as long as the hash took: a flood at the door takes one core of two, and deliveries go on.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::clock::Stopwatch;
use crate::service::Error;

/// Hashes at a time.
pub(super) const AT_ONCE_MAX: usize = 2;
/// Hashes that are made, rest or wait, at most.
pub(super) const WAITING_MAX: usize = 32;

#[derive(Debug, Clone)]
pub(super) struct Hashing {
    waiting: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for Hashing {
    fn default() -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Hashing { waiting: semaphore(WAITING_MAX), turns: semaphore(AT_ONCE_MAX) }
    }
}

impl Hashing {
    /// Does the work of a hash when it is its turn. [`Error::Busy`] when too many wait already.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let busy = |_| Error::Busy("too many sign-ins are under way; try again in a moment");
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy(()))?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| busy(()))?;
        // The place and the turn go along: whoever asked may have gone, the thread works all the same.
        let (answer, ready) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let worked = tokio::task::spawn_blocking(move || {
                let watch = Stopwatch::start();
                let done = work();
                (done, watch.elapsed())
            });
            // A hash that panics has no answer: whoever waits is told so.
            if let Ok((done, took)) = worked.await {
                let _ = answer.send(done);
                drop(place);
                tokio::time::sleep(took).await;
            }
            drop(turn);
        });
        ready.await.map_err(|_| Error::Store("a password could not be hashed; see the daemon's log".to_owned()))
    }
}
