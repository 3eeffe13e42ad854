//! The only place that reads a clock.
//!
//! Everything that decides takes `now` as an argument; whoever acts asks a `Clock`. In the daemon that is the system's
//! wall clock; in a simulation it is a start moment plus the paused runtime's time, so that both tell the same story.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Tells the wall-clock time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Source);

#[derive(Debug, Clone, Copy)]
enum Source {
    System,
    Runtime {
        start: Timestamp,
        origin: tokio::time::Instant,
    },
    /// The runtime's, which a test sets ahead or back by so many milliseconds.
    #[cfg(test)]
    Set {
        start: Timestamp,
        origin: tokio::time::Instant,
        by: &'static std::sync::atomic::AtomicI64,
    },
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// A clock that stands at `start` now and moves with the tokio runtime, also while that is paused.
    pub fn of_runtime(start: Timestamp) -> Self {
        Clock(Source::Runtime { start, origin: tokio::time::Instant::now() })
    }

    /// The same, set ahead or back by so many milliseconds.
    #[cfg(test)]
    pub fn of_runtime_set_by(start: Timestamp, by: &'static std::sync::atomic::AtomicI64) -> Self {
        Clock(Source::Set { start, origin: tokio::time::Instant::now(), by })
    }

    /// The present moment. A system clock before 1970 reads as 1970.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the place")]
            Source::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                Timestamp::ZERO.after(since_epoch)
            }
            Source::Runtime { start, origin } => start.after(origin.elapsed()),
            #[cfg(test)]
            Source::Set { start, origin, by } => {
                let by = by.load(std::sync::atomic::Ordering::Relaxed);
                Timestamp::from_millis(start.after(origin.elapsed()).as_millis().saturating_add_signed(by))
            }
        }
    }
}

/// Measures how long a plain thread has waited or worked. A simulation has no such threads.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn start() -> Self {
        Stopwatch(std::time::Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
