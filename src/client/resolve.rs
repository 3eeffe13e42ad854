//! Name look-ups with a budget of their own.
//!
//! Owns the threads that call the system's resolver. A look-up blocks for as long as the slowest name server likes, so it
//! runs on none of the runtime's threads; a name is looked up once at a time, however many ask for it; and when all
//! threads are busy and the queue is full, the answer is an error and not a wait. Nothing is cached: the guard weighs a
//! fresh answer for every new connection. How long to wait for one is the caller's to say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The resolver said so, in its own words.
    #[error("{0}")]
    Failed(String),
    /// More names wait than can be asked for.
    #[error("too many look-ups are waiting")]
    Busy,
}

/// A look-up under way.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'a>>;

/// What turns names into addresses.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a name, in the order of preference. May take for ever; dropping it is always safe.
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a>;
}

/// The system's resolver, with its hosts file and its configuration.
pub struct System {
    queue: SyncSender<String>,
    waiting: Arc<Mutex<Waiting>>,
}

type Answer = Result<Vec<IpAddr>, ResolveError>;
/// Who waits for which name; locked only to look or to change, never over a look-up.
type Waiting = HashMap<String, Vec<oneshot::Sender<Answer>>>;

/// Names that may wait for a thread. Askers of a name that already waits do not count.
const QUEUE_MAX: usize = 1024;

impl System {
    /// Starts `threads` threads (at least one), which end when the resolver is dropped and their look-up is over.
    ///
    /// # Errors
    ///
    /// When a thread does not start.
    pub fn start(threads: usize) -> io::Result<Self> {
        let (queue, names) = sync_channel(QUEUE_MAX);
        let names = Arc::new(Mutex::new(names));
        let waiting = Arc::new(Mutex::new(Waiting::new()));
        for _ in 0..threads.max(1) {
            let (names, waiting) = (Arc::clone(&names), Arc::clone(&waiting));
            thread::Builder::new().name("postrider-dns".to_owned()).spawn(move || serve(&names, &waiting))?;
        }
        Ok(System { queue, waiting })
    }
}

impl Resolve for System {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            {
                let mut waiting = lock(&self.waiting);
                if let Some(askers) = waiting.get_mut(name) {
                    askers.retain(|asker| !asker.is_closed());
                    askers.push(sender);
                } else {
                    match self.queue.try_send(name.to_owned()) {
                        Ok(()) => waiting.insert(name.to_owned(), vec![sender]),
                        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return Err(ResolveError::Busy),
                    };
                }
            }
            answer.await.unwrap_or(Err(ResolveError::Busy))
        })
    }
}

fn serve(names: &Mutex<Receiver<String>>, waiting: &Mutex<Waiting>) {
    loop {
        let Ok(name) = lock(names).recv() else { return };
        let wanted = {
            let mut waiting = lock(waiting);
            let wanted = waiting.get(&name).is_some_and(|askers| askers.iter().any(|asker| !asker.is_closed()));
            if !wanted {
                waiting.remove(&name);
            }
            wanted
        };
        if !wanted {
            continue;
        }
        let answer = look_up(&name);
        for asker in lock(waiting).remove(&name).unwrap_or_default() {
            // Whoever has gone away meanwhile does not want to know.
            let _ = asker.send(answer.clone());
        }
    }
}

/// The name goes to the system as it is, without a trailing dot, so that the hosts file is heard; an answer that a search
/// domain brought in is weighed by the guard like any other.
fn look_up(name: &str) -> Answer {
    let found = (name, 0).to_socket_addrs().map_err(|error| ResolveError::Failed(error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

/// No thread panics while it holds one of these locks, and if one did, the map would still be a map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_askers_of_one_name_share_a_look_up() {
        let resolver = System::start(1).unwrap();
        let asks: Vec<_> = (0..50).map(|_| resolver.resolve("localhost")).collect();
        for ask in asks {
            assert!(ask.await.unwrap().iter().all(IpAddr::is_loopback));
        }
        assert!(lock(&resolver.waiting).is_empty());
    }

    #[tokio::test]
    async fn a_full_queue_is_an_error_and_not_a_wait() {
        // No thread serves this one.
        let (queue, _names) = sync_channel(1);
        let resolver = System { queue, waiting: Arc::default() };
        let first = resolver.resolve("a.example");
        let second = resolver.resolve("b.example");
        let (first, second) = (tokio::time::timeout(std::time::Duration::ZERO, first).await, second.await);
        assert!(first.is_err());
        assert_eq!(second, Err(ResolveError::Busy));
    }
}
