//! The engine: when, where and how many. It reads the store, makes attempts, and records what became of them.
//!
//! The scheduler is a loop of three beats: wait, decide, act. What decides ([`lanes`], [`verdict`], [`health`]) is plain code
//! that takes `now` and chance as arguments. The engine is steered only through the store: a pause, a resend, a new secret or a
//! deletion reaches it by the bell, so a crash forgets nothing.

mod attempt;
pub mod health;
mod janitor;
pub mod lanes;
mod mask;
mod metrics;
mod receiver;
mod replayer;
mod scheduler;
pub mod spread;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Wire;
use crate::clock::Clock;
use crate::model::schedule::Plan;
use crate::model::{ConfirmationMode, Destination, Ended, Schedule};
use crate::store::Store;

pub use health::BreakerSettings;
pub use metrics::Metrics;

/// How the engine works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The whole attempt's deadline, where a destination does not name its own.
    pub timeout: Duration,
    /// Attempts at once per destination, where it does not name its own.
    pub in_flight_max: u32,
    /// Attempts at once over all destinations.
    pub in_flight_total: usize,
    /// The schedules that destinations may name.
    pub schedules: HashMap<String, Schedule>,
    /// The schedule of destinations that name none; one of `schedules`.
    pub schedule: String,
    /// When a lane is shut, and for how long.
    pub breaker: BreakerSettings,
    /// What is removed when.
    pub retention: Retention,
    /// How long attempts under way may go on when the daemon stops.
    pub drain_max: Duration,
    /// How often the clock is looked at while nothing happens: a bound on how late a clock's jump is noticed.
    pub look_at_clock: Duration,
    /// How often the janitor looks for deleted destinations; what has aged is looked for every 3,600 times.
    pub janitor_round: Duration,
    /// The `User-Agent` of deliveries.
    pub user_agent: String,
    /// What confirms a destination.
    pub confirmation: ConfirmationMode,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout: Duration::from_secs(30),
            in_flight_max: 20,
            in_flight_total: 1024,
            schedules: Schedule::named().into_iter().map(|(name, schedule)| (name.to_owned(), schedule)).collect(),
            schedule: "standard".to_owned(),
            breaker: BreakerSettings { failures_max: 10, shut_for: Duration::from_secs(30) },
            retention: Retention::default(),
            drain_max: Duration::from_secs(25),
            look_at_clock: Duration::from_secs(1),
            janitor_round: Duration::from_secs(1),
            user_agent: concat!("Postrider/", env!("CARGO_PKG_VERSION")).to_owned(),
            confirmation: ConfirmationMode::default(),
        }
    }
}

/// What is removed when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age at which an event's payload is erased.
    pub events: Duration,
    /// Age at which attempts are removed.
    pub attempts: Duration,
    /// Age at which records of the audit log are dropped.
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Retention { events: 30 * DAY, attempts: 90 * DAY, audit: 400 * DAY }
    }
}

impl Settings {
    /// The schedule of a destination. A name that is no longer configured falls back to the default: deliveries go on.
    pub fn schedule_of(&self, destination: &Destination) -> Schedule {
        let name = match &destination.retry.plan {
            Plan::Named(name) => name,
            Plan::Default | Plan::Delays(_) => &self.schedule,
        };
        let standard = || Schedule::named().swap_remove(0).1;
        let named = self.schedules.get(name).or_else(|| self.schedules.get(&self.schedule)).cloned();
        let named = named.unwrap_or_else(standard);
        destination.retry.resolve(&named).unwrap_or(named)
    }
}

/// Attempts that a slow watcher may lag behind before it misses some.
const WATCH_LAG_MAX: usize = 1024;

/// The engine, before it runs.
pub struct Engine<W> {
    settings: Arc<Settings>,
    store: Store,
    wire: Arc<W>,
    clock: Clock,
    rng: fastrand::Rng,
    watchers: broadcast::Sender<Arc<Ended>>,
    metrics: Metrics,
}

impl<W: Wire> Engine<W> {
    /// An engine over a store and a wire. `rng` is the chance in jitter and nonces.
    pub fn new(settings: Settings, store: Store, wire: W, clock: Clock, rng: fastrand::Rng) -> Self {
        let watchers = broadcast::Sender::new(WATCH_LAG_MAX);
        Engine {
            settings: Arc::new(settings),
            store,
            wire: Arc::new(wire),
            clock,
            rng,
            watchers,
            metrics: Metrics::default(),
        }
    }

    /// Where attempts are told of as they end. Watching never delays them: a slow watcher misses some, and while nobody
    /// watches nothing is made to be told.
    pub fn watchers(&self) -> broadcast::WeakSender<Arc<Ended>> {
        self.watchers.downgrade()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Runs until `stop` is cancelled, then lets attempts under way end within the drain's bound.
    pub async fn run(self, stop: CancellationToken) {
        let Engine { settings, store, wire, clock, mut rng, watchers, metrics } = self;
        let keeper = janitor::Janitor::new(store.clone(), clock, Arc::clone(&settings));
        let keeping = AbortOnDropHandle::new(tokio::spawn(keeper.run(stop.clone())));
        let replayer = replayer::Replayer::new(store.clone(), clock);
        let replaying = AbortOnDropHandle::new(tokio::spawn(replayer.run(stop.clone())));
        let attempts = attempt::Attempts::new(Arc::clone(&settings), store.clone(), wire, clock, rng.fork());
        scheduler::Scheduler::new(settings, store, clock, attempts, rng, watchers, metrics).run(stop).await;
        // The janitor ends by the same token; if it panicked, retention waits for the next start.
        if let Err(error) = keeping.await {
            tracing::error!(event = "janitor_failed", %error, "the janitor ended early");
        }
        if let Err(error) = replaying.await {
            tracing::error!(event = "replayer_failed", %error, "bulk replays go on at the next start");
        }
    }
}
