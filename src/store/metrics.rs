//! What the writer counts.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Bounds of the buckets for one commit, in seconds: a fast disk's sync to a disk in trouble.
const COMMIT_SECONDS: [f64; 12] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The store's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    commit_seconds: Histogram,
    operations: Counter,
    damaged_records: Counter,
}

impl Metrics {
    /// Nothing has been counted yet, but for damaged records.
    pub(super) fn new(damaged_records: Counter) -> Self {
        Metrics { commit_seconds: Histogram::new(COMMIT_SECONDS), operations: Counter::default(), damaged_records }
    }

    /// Enters them under their names.
    pub fn register(&self, registry: &mut Registry) {
        let commit = "Time that a commit took: its operations, its write, its sync";
        registry.register("store_commit_seconds", commit, self.commit_seconds.clone());
        registry.register("store_operations", "Operations in commits", self.operations.clone());
        let damaged = "Records that were read since the start and are damaged, each counted once; it should be 0";
        registry.register("store_damaged_records", damaged, self.damaged_records.clone());
    }

    pub(super) fn committed(&self, operations: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.operations.inc_by(operations as u64);
    }
}
