//! Records that cannot be read, as they are met: each is told once, and counted.
//!
//! A store outlives a damaged record. What one costs is decided where it is read, and is the same everywhere:
//!
//! - An **event**: whatever still waits of it is given up as `damaged` when its turn comes, for there is nothing to send. Lists
//!   leave it out, retention leaves it in its place, and its producer's id still counts as used.
//! - What is **due**: its plan is made anew from the attempts before it. The delivery goes on.
//! - An **attempt**: the history leaves it out. Where it is the last one, the row that waits is sought in its lane.
//! - What was **given up**: it stays failed, with `damaged` as the reason. What was **cancelled** stays cancelled, as of its last attempt.
//! - What was **under way** at a crash: nothing is left of that attempt; the delivery is still due.
//! - A destination's **tally**: counted anew at start, from the events that are still there.
//! - A **lane**: paused, for an operator may have paused it. A resume opens it.
//! - A **segment**: all events of its run are looked at instead; a start writes anew what de-duplication needs.
//! - A **command** of a dialect: it is not carried out, and whoever asks for it is told. It goes when room is needed.
//! - A **bulk replay**: it stops. A **request** with a key: its answer is not known. A record of the **audit log**: it stays, and
//!   whoever reads the log is told that it is broken.
//! - What is **configured**, and the store's own numbers: a start ends with their names. Nobody can guess them.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;

use super::tables;

/// Records that are told and counted at most: more is no bit that flipped, and each takes memory.
const TOLD_MAX: usize = 4096;

/// Where a record lies.
type TableAndKey = (&'static str, Box<[u8]>);

/// What has been met so far.
#[derive(Default)]
pub(super) struct Damage {
    records: Counter,
    // Held for a look.
    told: Mutex<HashSet<TableAndKey>>,
}

impl Damage {
    /// How many records were damaged, of those that have been read since the start.
    pub(super) fn records(&self) -> &Counter {
        &self.records
    }

    /// A record cannot be read. Nothing of what it holds is in the error.
    pub(super) fn met(&self, table: &'static str, key: &[u8], error: &dyn Display) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX || !told.insert((table, key.into())) {
            return;
        }
        let count = told.len();
        drop(told);
        self.records.inc();
        let key = tables::shown(table, key);
        tracing::error!(
            event = "record_damaged",
            table,
            key,
            %error,
            "a record is damaged and was left out; stop the daemon and run `postrider db check`"
        );
        if count == TOLD_MAX {
            tracing::error!(event = "records_damaged", count, "further damaged records are neither told nor counted");
        }
    }
}

#[cfg(test)]
mod tests;
