//! What the service counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Code, EventResult};

/// Bounds of the buckets from hand-in to acknowledgement, in seconds.
const ACKNOWLEDGEMENT_SECONDS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The service's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    acknowledgements: Family<AcknowledgementLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    acknowledgement_seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AcknowledgementLabels {
    duplicate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            acknowledgements: Family::default(),
            refused: Family::default(),
            acknowledgement_seconds: Histogram::new(ACKNOWLEDGEMENT_SECONDS),
        }
    }
}

impl Metrics {
    /// Enters them under their names.
    pub fn register(&self, registry: &mut Registry) {
        let acknowledgements =
            "Events acknowledged since the start; duplicates had been accepted before, by their producer's id";
        registry.register("acknowledgements", acknowledgements, self.acknowledgements.clone());
        registry.register("events_refused", "Events that were refused, by code", self.refused.clone());
        let acknowledgement = "Time from an event's hand-in to its acknowledgement, the synced commit included";
        registry.register("acknowledgement_seconds", acknowledgement, self.acknowledgement_seconds.clone());
    }

    /// An event was answered, so long after it was handed in.
    pub(super) fn answered(&self, result: &EventResult, after: Duration) {
        match result {
            Ok(accepted) => {
                self.acknowledgements.get_or_create(&AcknowledgementLabels { duplicate: accepted.duplicate }).inc();
                self.acknowledgement_seconds.observe(after.as_secs_f64());
            }
            Err(rejection) => self.refused(rejection.code),
        }
    }

    /// An event was refused.
    pub(super) fn refused(&self, code: Code) {
        self.refused.get_or_create(&RefusedLabels { code: code.as_str() }).inc();
    }
}
