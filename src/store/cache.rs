//! Fresh events in memory, so that a first attempt needs no read: bounded in bytes, oldest out first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{Event, Seq};

/// What an event costs besides its body, roughly.
const OVERHEAD: usize = 512;

/// The cache. Its events' bodies are copies of their own: a slice of a connection's buffer would pin the whole of it.
pub(super) struct EventCache {
    events: HashMap<Seq, Arc<Event>>,
    order: VecDeque<(Seq, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl EventCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        EventCache { events: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(super) fn put(&mut self, event: Arc<Event>) {
        let bytes = OVERHEAD + event.body.bytes().map_or(0, |body| body.len());
        if bytes > self.bytes_max {
            return;
        }
        self.order.push_back((event.seq, bytes));
        self.events.insert(event.seq, event);
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some((seq, bytes)) = self.order.pop_front()
        {
            self.events.remove(&seq);
            self.bytes -= bytes;
        }
    }

    pub(super) fn find(&self, seq: Seq) -> Option<Arc<Event>> {
        self.events.get(&seq).map(Arc::clone)
    }

    /// Drops an event whose payload was erased. Its bytes count until its turn to leave comes.
    pub(super) fn remove(&mut self, seq: Seq) {
        self.events.remove(&seq);
    }
}
