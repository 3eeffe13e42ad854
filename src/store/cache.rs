//! Fresh events in memory, so that a first attempt needs no read: bounded in bytes, oldest out first.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Event, NumberMap, Seq};

/// What an event costs besides its body, roughly.
const OVERHEAD: usize = 512;

/// The cache. Its events' bodies are copies of their own: a slice of a connection's buffer would pin the whole of it.
pub(super) struct EventCache {
    events: NumberMap<Seq, Arc<Event>>,
    order: VecDeque<(Seq, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl EventCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        EventCache { events: NumberMap::default(), order: VecDeque::new(), bytes: 0, bytes_max }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::event;
    use super::*;
    use crate::model::event::{Body, EventHead};
    use crate::model::{Epoch, Timestamp};

    fn stored(seq: u64, body_bytes: usize) -> Arc<Event> {
        let new = event("a", None, "");
        let head = EventHead {
            epoch: Epoch(1),
            tenant: new.tenant,
            kind: new.kind,
            producer_id: None,
            occurred: Timestamp::ZERO,
            accepted: Timestamp::ZERO,
            due: Timestamp::ZERO,
            key: None,
            traceparent: None,
            expires_at: None,
            source: None,
            peer: None,
            content_type: None,
            cloud: None,
            targets: vec![],
            skipped: vec![],
        };
        Arc::new(Event { seq: Seq(seq), head, body: Body::Kept(Bytes::from(vec![0; body_bytes])) })
    }

    /// Invariant 5: the bodies in memory are bounded in bytes, whatever comes in, and the youngest are those that stay.
    #[test]
    fn bodies_in_memory_are_bounded_and_the_oldest_leave_first() {
        const BYTES_MAX: usize = 64 << 10;
        for body_bytes in [0, 100, 1500, 10_000] {
            let mut cache = EventCache::new(BYTES_MAX);
            (1..=1000).for_each(|seq| cache.put(stored(seq, body_bytes)));
            let kept: Vec<u64> = (1..=1000).filter(|seq| cache.find(Seq(*seq)).is_some()).collect();
            let room = BYTES_MAX / (OVERHEAD + body_bytes);
            assert_eq!(kept, (1001 - room as u64..=1000).collect::<Vec<_>>(), "bodies of {body_bytes} bytes");
            assert_eq!((cache.events.len(), cache.order.len()), (room, room));
        }
    }

    /// Erased events leave at once; what is larger than the whole cache is not kept and pushes nothing out.
    #[test]
    fn what_is_erased_or_too_large_is_not_kept() {
        let mut cache = EventCache::new(8 << 10);
        (1..=2).for_each(|seq| cache.put(stored(seq, 1000)));
        cache.put(stored(3, 8 << 10));
        cache.remove(Seq(1));
        assert_eq!([1, 2, 3].map(|seq| cache.find(Seq(seq)).is_some()), [false, true, false]);
        for seq in 4..100 {
            cache.put(stored(seq, 1000));
            cache.remove(Seq(seq));
        }
        assert!(cache.events.is_empty() && cache.order.len() <= 8, "{} places are kept", cache.order.len());
    }
}
