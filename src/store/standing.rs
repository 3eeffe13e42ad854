//! How things stand, in memory: deliveries by state, lanes, and where the oldest unfinished one lies.
//!
//! The tallies and the lanes have rows of their own. What is unfinished is counted per block of sequences from the due rows
//! at start; the same walk counts each destination's waiting deliveries, and that must agree with its tally.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::audit::Chain;
use crate::model::{DestinationNo, Seq};

use super::record::{Lane, Tally};

/// Sequences per block of the unfinished count. Whoever asks for the oldest unfinished event walks over no more than this, and
/// may ask every few seconds; only blocks with something unfinished are counted, so a hundred million events take a few MB at most.
pub const BLOCK: u64 = 1024;

/// How things stand after a commit.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Deliveries by state, per destination, deleted ones included.
    pub tallies: HashMap<DestinationNo, Tally>,
    /// Lanes that are not simply open.
    pub lanes: HashMap<DestinationNo, Lane>,
    /// Events ever accepted.
    pub events: u64,
    /// Deliveries that have not ended, over all destinations.
    pub waiting: u64,
    /// The first sequence of the oldest block with an unfinished delivery.
    pub oldest: Option<Seq>,
    /// Where the audit log begins and ends.
    pub audit: Chain,
    // Only the writer's own copy is kept up to date.
    unfinished: BTreeMap<u64, u32>,
}

impl Standing {
    pub(super) fn new(events: u64, audit: Chain) -> Self {
        Standing { events, audit, ..Standing::default() }
    }

    /// The lane of a destination.
    pub fn lane(&self, no: DestinationNo) -> Lane {
        self.lanes.get(&no).copied().unwrap_or_default()
    }

    /// The tally of a destination.
    pub fn tally(&self, no: DestinationNo) -> Tally {
        self.tallies.get(&no).copied().unwrap_or_default()
    }

    /// Takes over what changed in the writer's own copy.
    pub(super) fn follow(&mut self, now: &Standing, tallies: &HashSet<DestinationNo>, lanes: &HashSet<DestinationNo>) {
        self.events = now.events;
        self.waiting = now.waiting;
        self.audit = now.audit;
        for no in tallies {
            match now.tallies.get(no) {
                Some(tally) => self.tallies.insert(*no, *tally),
                None => self.tallies.remove(no),
            };
        }
        for no in lanes {
            match now.lanes.get(no) {
                Some(lane) => self.lanes.insert(*no, *lane),
                None => self.lanes.remove(no),
            };
        }
        self.oldest = now.oldest;
    }

    pub(super) fn begin(&mut self, seq: Seq) {
        self.waiting += 1;
        *self.unfinished.entry(seq.0 / BLOCK).or_default() += 1;
        self.oldest = self.oldest();
    }

    pub(super) fn finish(&mut self, seq: Seq) {
        self.waiting = self.waiting.saturating_sub(1);
        let block = seq.0 / BLOCK;
        if let Some(count) = self.unfinished.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.unfinished.remove(&block);
            }
        }
        self.oldest = self.oldest();
    }

    fn oldest(&self) -> Option<Seq> {
        self.unfinished.first_key_value().map(|(block, _)| Seq(block * BLOCK))
    }
}
