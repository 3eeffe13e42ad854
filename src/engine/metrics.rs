//! What the engine counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::{Attempt, Outcome, Reason, Timestamp};

/// Bounds of the buckets for one attempt, in seconds: a reply on the same machine to the longest time-out in use.
const ATTEMPT_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0];
/// Bounds of the buckets from acceptance to success, in seconds: at once, the steps of the standard schedule, its end.
const DELIVERY_SECONDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 400.0, 3600.0, 14_400.0, 86_400.0, 280_000.0];

/// The engine's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histogram,
    delivery_seconds: Histogram,
    in_flight: Gauge,
}

/// Labels of attempts: closed lists, so that their number is bounded whatever receivers do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
    reason: &'static str,
    class: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            attempts: Family::default(),
            attempt_seconds: Histogram::new(ATTEMPT_SECONDS),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
            in_flight: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Enters them under their names.
    pub fn register(&self, registry: &mut Registry) {
        let attempts = "Attempts by outcome, reason (empty for none) and class of the reply's status";
        registry.register("attempts", attempts, self.attempts.clone());
        registry.register("attempt_seconds", "Time that an attempt took", self.attempt_seconds.clone());
        let delivery = "Time from an event's acceptance to the success of a delivery of it";
        registry.register("delivery_seconds", delivery, self.delivery_seconds.clone());
        registry.register("attempts_in_flight", "Attempts under way", self.in_flight.clone());
    }

    /// An attempt of a delivery of an event that was accepted at that moment has ended.
    pub(super) fn ended(&self, attempt: &Attempt, accepted: Timestamp, now: Timestamp) {
        let labels = AttemptLabels {
            outcome: attempt.outcome.as_str(),
            reason: attempt.reason.map_or("", Reason::as_str),
            class: class_of(attempt.status),
        };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.observe(attempt.duration.as_secs_f64());
        if attempt.outcome == Outcome::Succeeded {
            self.delivery_seconds.observe(now.since(accepted).as_secs_f64());
        }
    }

    /// So many attempts are under way.
    pub(super) fn under_way(&self, attempts: usize) {
        self.in_flight.set(attempts as i64);
    }
}

fn class_of(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(100..200) => "1xx",
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(500..600) => "5xx",
        Some(_) => "other",
    }
}
