//! Segments: how events are found by something else than their place, without a row for each.
//!
//! Events belong to runs of [`RUN_EVENTS_MAX`] neighbours. While a run is open, what its events can be found by (the
//! producer's id, destination, type, ordering key) is held in memory. When it is full it is closed, and its lists are
//! written as rows, in slices that ride along with the commits of others ([`seal`]); until the last slice and the mark that
//! the run is sealed are on disk it stays in memory, and a start reads it again from its events. What is removed by retention
//! leaves its lists only when its whole run has gone: a list may name events that are no more, never miss one that is there.
//!
//! Of a sealed run memory keeps its bounds in place and time, 1 KiB for the times, and, while its producers' ids count, a filter: at 5 million ids within seven days
//! 8.4 MiB of filters, and about 1.5 MiB each for the open run and one that is being sealed.
//!
//! What is on disk and what is in memory change places under a reader's eyes. So a reader takes what is in memory first
//! ([`Runs`] is a value whose clones share the runs), and its transaction afterwards: whatever was sealed then is in its rows.

mod filter;
pub mod pack;
pub mod seal;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::model::event::EventHead;
use crate::model::{DestinationNo, EventType, Seq, SubscriptionNo, TenantId, Timestamp, TypePattern};

use super::tables::Records;
use super::writer::ApplyError;
use super::{codec, dedup, lock};

use filter::{Filter, Probe};
pub use pack::RUN_EVENTS_MAX;
use pack::{Hash, Mark};

/// A run is closed early when its lists hold this many entries for each event that it might have had: fan-out shows in the
/// number of runs, not in memory.
const ENTRIES_PER_EVENT: usize = 8;
/// Types with a list of their own in one run; the events of any further type share a list. Of tenants the same.
const TYPES_MAX: usize = 1024;
/// Into so many pieces a run is cut for its times of acceptance, of which each piece has bounds: a list that begins or ends at a
/// moment looks at no more than a piece in vain.
const PIECES: usize = 64;
/// Destinations whose lists are read one by one; of a run that has more of those asked for, all events are as good.
const DESTINATIONS_MAX: usize = 64;

/// The rows of segments: `(kind, key, first sequence of the run) -> packed list`.
pub(super) type SegmentKey = (u8, &'static [u8], u64);

/// What a segment's row holds.
mod kind {
    /// What the run is and which rows it has; its key is empty.
    pub const RUN: u8 = b'r';
    /// A chunk of producers' ids, by its number.
    pub const IDS: u8 = b'i';
    /// A chunk of ordering keys, by its number.
    pub const KEYS: u8 = b'k';
    /// The events of one destination, by its number.
    pub const DESTINATION: u8 = b'd';
    /// The events that went out by one subscription, by its number.
    pub const SUBSCRIPTION: u8 = b's';
    /// The events of one tenant, in a run that has several; the empty key holds those of the tenants that have no list.
    pub const TENANT: u8 = b'o';
    /// The events of one type; the empty key holds those of the types that have no list.
    pub const TYPE: u8 = b't';
}

/// All runs there are, oldest first: those whose lists are on disk, and after them those that are in memory.
#[derive(Clone)]
pub(super) struct Runs {
    sealed: Arc<Vec<Arc<Sealed>>>,
    // The last one is open.
    memory: VecDeque<Arc<Run>>,
    /// What lies before this has been committed.
    end: Seq,
    run_events: usize,
}

impl Runs {
    fn new(run_events: usize, end: Seq) -> Self {
        let run_events = run_events.clamp(1, RUN_EVENTS_MAX);
        Runs { sealed: Arc::default(), memory: VecDeque::new(), end, run_events }
    }

    /// Adds an event to the open run. Readers see it when it has been committed ([`Runs::publish`]).
    pub(super) fn note(&mut self, seq: Seq, head: &EventHead) {
        let has_room = |run: &Arc<Run>| run.has_room(seq, self.run_events);
        if !self.memory.back().is_some_and(has_room) {
            self.memory.push_back(Arc::new(Run::new(seq, head.accepted, self.run_events)));
        }
        if let Some(open) = self.memory.back() {
            open.note(seq, head);
        }
    }

    /// The oldest run that is closed and not sealed, and how many there are.
    fn closed(&self) -> Option<(Arc<Run>, usize)> {
        let closed = self.memory.len().saturating_sub(1);
        self.memory.front().filter(|_| closed > 0).map(|run| (Arc::clone(run), closed))
    }

    /// Shows readers what a commit has made true.
    pub(super) fn publish(&mut self, end: Seq, changes: Vec<SegmentChange>, now: Timestamp) {
        self.end = end;
        if changes.is_empty() {
            return;
        }
        let mut sealed = Vec::clone(&self.sealed);
        for change in changes {
            match change {
                SegmentChange::Sealed(fresh) => {
                    self.memory.retain(|run| run.first != fresh.first);
                    sealed.push(Arc::new(fresh));
                }
                SegmentChange::Dropping(first) => sealed.retain(|run| run.first != first),
            }
        }
        for run in &mut sealed {
            if run.filter.is_some() && !run.is_remembered(now) {
                *run = Arc::new(Sealed { filter: None, ..run.bounds() });
            }
        }
        self.sealed = Arc::new(sealed);
    }

    /// The sealed runs that end not after a place, and whose events were all accepted before a moment.
    pub(super) fn sealed_until(&self, until: Seq, before: Timestamp) -> Vec<Arc<Sealed>> {
        self.sealed.iter().filter(|run| run.end <= until && run.newest() < before).map(Arc::clone).collect()
    }

    /// Where events with this hash of a producer's id may lie. With `now`, only those that are still remembered.
    pub(super) fn places_of(&self, hash: Hash, now: Option<Timestamp>) -> Places {
        let memory = self.memory.iter().rev().flat_map(|run| run.with_id(hash)).collect();
        let probe = Probe::of(hash);
        let is_asked = |run: &&Arc<Sealed>| {
            run.id_chunks > 0
                && now.is_none_or(|now| run.is_remembered(now))
                && run.filter.as_ref().is_none_or(|filter| filter.may_hold(&probe))
        };
        Places { hash, memory, sealed: self.sealed.iter().rev().filter(is_asked).map(Arc::clone).collect() }
    }

    /// The runs, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = Stretch> {
        let memory = self.memory.iter().rev().map(|run| Stretch::Memory(Arc::clone(run)));
        memory.chain(self.sealed.iter().rev().map(|run| Stretch::Sealed(Arc::clone(run))))
    }

    /// Events in a run at most.
    pub(super) fn run_events(&self) -> usize {
        self.run_events
    }

    /// What lies before this has been committed.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// How many runs are in memory and how many are sealed.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.memory.len(), self.sealed.len())
    }

    /// Bytes of the filters.
    #[cfg(test)]
    pub(super) fn filter_bytes(&self) -> usize {
        self.sealed.iter().filter_map(|run| run.filter.as_ref()).map(Filter::bytes).sum()
    }
}

/// What a commit changes about segments, for readers.
pub(super) enum SegmentChange {
    /// A run's lists are on disk.
    Sealed(Sealed),
    /// The sealed run that begins here holds no events any more.
    Dropping(Seq),
}

/// A run whose lists are on disk.
pub(super) struct Sealed {
    first: Seq,
    end: Seq,
    accepted: (Timestamp, Timestamp),
    pieces: Arc<Pieces>,
    id_chunks: u32,
    key_chunks: u32,
    /// The one tenant whose events these are.
    sole_tenant: Option<TenantId>,
    // Without one every look-up asks the disk.
    filter: Option<Filter>,
}

impl Sealed {
    /// When its newest event was accepted.
    fn newest(&self) -> Timestamp {
        self.accepted.1
    }

    /// Its first event's place.
    pub(super) fn first(&self) -> Seq {
        self.first
    }

    /// The place after its last event.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    fn is_remembered(&self, now: Timestamp) -> bool {
        now.since(self.newest()) < dedup::REMEMBERED
    }

    /// The same without its filter.
    fn bounds(&self) -> Sealed {
        Sealed { filter: None, sole_tenant: self.sole_tenant.clone(), pieces: Arc::clone(&self.pieces), ..*self }
    }
}

/// When the events of a run were accepted: the oldest and the newest of so many neighbours. A clock may be set back, so that no
/// order is taken for granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pieces {
    length: u64,
    bounds: Vec<(Timestamp, Timestamp)>,
}

impl Pieces {
    /// Of a piece in which nothing lies.
    const EMPTY: (Timestamp, Timestamp) = (Timestamp::from_millis(u64::MAX), Timestamp::ZERO);

    /// Of a run of at most so many events.
    fn of(run_events: usize) -> Self {
        Pieces { length: run_events.div_ceil(PIECES).max(1) as u64, bounds: Vec::new() }
    }

    fn note(&mut self, offset: u16, accepted: Timestamp) {
        let piece = usize::from(offset) / self.length as usize;
        if self.bounds.len() <= piece {
            self.bounds.resize(piece + 1, Self::EMPTY);
        }
        let (oldest, newest) = self.bounds[piece];
        self.bounds[piece] = (oldest.min(accepted), newest.max(accepted));
    }

    /// The offsets between which pieces lie that may hold something of a time, in ascending order, neighbours as one.
    fn within(&self, time: &Time) -> Vec<(u64, u64)> {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for (piece, _) in self.bounds.iter().enumerate().filter(|(_, bounds)| time.may_hold(**bounds)) {
            let (first, end) = (piece as u64 * self.length, (piece as u64 + 1) * self.length);
            match spans.last_mut().filter(|last| last.1 == first) {
                Some(last) => last.1 = end,
                None => spans.push((first, end)),
            }
        }
        spans
    }
}

/// A time of acceptance that is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Time {
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

impl Time {
    /// This millisecond.
    pub(super) fn at(moment: Timestamp) -> Self {
        Time { from: Some(moment), to: Some(moment.after(std::time::Duration::from_millis(1))) }
    }

    /// Whether something between these two, both included, may lie in it.
    pub(super) fn may_hold(&self, (oldest, newest): (Timestamp, Timestamp)) -> bool {
        self.from.is_none_or(|from| newest >= from) && self.to.is_none_or(|to| oldest < to)
    }
}

/// A run whose lists are in memory.
pub(super) struct Run {
    first: Seq,
    // Held to note an event or to copy a list, never across a read or a write.
    lists: Mutex<Lists>,
}

struct Lists {
    end: Seq,
    accepted: (Timestamp, Timestamp),
    pieces: Pieces,
    // A mark's upper half leads to its lower half: eight bytes an id.
    ids: HashMap<u32, u32>,
    // Marks that lost their place in the map to a later one: an id that came again after seven days, or a chance meeting.
    ids_again: Vec<Mark>,
    keys: Vec<Mark>,
    destinations: HashMap<DestinationNo, Vec<u16>>,
    subscriptions: HashMap<SubscriptionNo, Vec<u16>>,
    tenants: HashMap<TenantId, Vec<u16>>,
    tenants_beyond: Vec<u16>,
    types: HashMap<EventType, Vec<u16>>,
    types_beyond: Vec<u16>,
    entries: usize,
}

impl Run {
    fn new(first: Seq, accepted: Timestamp, run_events: usize) -> Self {
        let lists = Lists {
            end: first,
            accepted: (accepted, accepted),
            pieces: Pieces::of(run_events),
            ids: HashMap::new(),
            ids_again: Vec::new(),
            keys: Vec::new(),
            destinations: HashMap::new(),
            subscriptions: HashMap::new(),
            tenants: HashMap::new(),
            tenants_beyond: Vec::new(),
            types: HashMap::new(),
            types_beyond: Vec::new(),
            entries: 0,
        };
        Run { first, lists: Mutex::new(lists) }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        lock(&self.lists)
    }

    fn has_room(&self, seq: Seq, run_events: usize) -> bool {
        seq.0 - self.first.0 < run_events as u64 && self.lists().entries < run_events * ENTRIES_PER_EVENT
    }

    fn note(&self, seq: Seq, head: &EventHead) {
        let offset = u16::try_from(seq.0 - self.first.0).expect("a run spans no more than an offset can say");
        let mut lists = self.lists();
        let lists = &mut *lists;
        lists.end = Seq(seq.0 + 1);
        lists.accepted = (lists.accepted.0.min(head.accepted), lists.accepted.1.max(head.accepted));
        lists.pieces.note(offset, head.accepted);
        lists.entries += 1 + head.targets.len();
        if let Some(hash) = dedup::hash_of(head) {
            let (upper, lower) = Mark::new(hash, offset).halves();
            if let Some(before) = lists.ids.insert(upper, lower) {
                lists.ids_again.push(Mark::from_halves((upper, before)));
            }
        }
        if let Some(key) = &head.key {
            lists.keys.push(Mark::new(hash_of_key(key.as_str()), offset));
        }
        for target in &head.targets {
            lists.destinations.entry(target.destination).or_default().push(offset);
            for no in &target.subscriptions {
                let list = lists.subscriptions.entry(*no).or_default();
                if list.last() != Some(&offset) {
                    list.push(offset);
                    lists.entries += 1;
                }
            }
        }
        let has_room = lists.tenants.len() < TYPES_MAX;
        match lists.tenants.get_mut(&head.tenant) {
            Some(list) => list.push(offset),
            None if has_room => {
                lists.tenants.insert(head.tenant.clone(), vec![offset]);
            }
            None => lists.tenants_beyond.push(offset),
        }
        let has_room = lists.types.len() < TYPES_MAX;
        match lists.types.get_mut(&head.kind) {
            Some(list) => list.push(offset),
            None if has_room => {
                lists.types.insert(head.kind.clone(), vec![offset]);
            }
            None => lists.types_beyond.push(offset),
        }
    }

    /// The events with this hash of a producer's id, newest first.
    fn with_id(&self, hash: Hash) -> Vec<Seq> {
        let lists = self.lists();
        let upper = Mark::new(hash, 0).halves().0;
        let Some(lower) = lists.ids.get(&upper) else { return Vec::new() };
        let marks = std::iter::once(Mark::from_halves((upper, *lower))).chain(lists.ids_again.iter().rev().copied());
        marks.filter(|mark| mark.hash() == hash).map(|mark| self.place(mark.offset())).collect()
    }

    fn place(&self, offset: u16) -> Seq {
        Seq(self.first.0 + u64::from(offset))
    }
}

impl Lists {
    /// The tenant, where all events are one's.
    fn sole_tenant(&self) -> Option<&TenantId> {
        match self.tenants.len() {
            1 => self.tenants.keys().next(),
            _ => None,
        }
    }

    fn id_marks(&self) -> impl Iterator<Item = Mark> + Clone {
        let latest = self.ids.iter().map(|(upper, lower)| Mark::from_halves((*upper, *lower)));
        latest.chain(self.ids_again.iter().copied())
    }
}

/// The hash of an ordering key.
fn hash_of_key(key: &str) -> Hash {
    Hash::of(&[b"key", key.as_bytes()])
}

/// What leads to an event that may have a producer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Led {
    /// Its id has the hash that was asked for.
    ByHash,
    /// The list of hashes is damaged, so that every event of its run is looked at.
    ByWalk,
}

/// Where a producer's id may be found.
pub(super) struct Places {
    hash: Hash,
    memory: Vec<Seq>,
    sealed: Vec<Arc<Sealed>>,
}

impl Places {
    /// How many events and chunks would be looked at.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.memory.len() + self.sealed.len()
    }

    /// What `check` finds first among the events that may have the id, newest first. It looks at the event itself: a hash
    /// only points. Where a chunk is damaged, all events of its run may have the id.
    pub(super) fn first<T>(
        self,
        segments: &impl Records<SegmentKey>,
        mut check: impl FnMut(Seq, Led) -> Result<Option<T>, ApplyError>,
    ) -> Result<Option<T>, ApplyError> {
        for seq in self.memory {
            if let Some(found) = check(seq, Led::ByHash)? {
                return Ok(Some(found));
            }
        }
        for run in self.sealed {
            let chunk = self.hash.chunk(run.id_chunks).to_be_bytes();
            let place = (kind::IDS, chunk.as_slice(), run.first.0);
            let Some(record) = segments.get(place)? else { continue };
            let unpack = |packed: &[u8]| pack::offsets_of(packed, self.hash);
            let (places, led) = match codec::decode_packed(segments.place(place), record.value(), unpack) {
                Ok(offsets) => {
                    (offsets.into_iter().map(|offset| Seq(run.first.0 + u64::from(offset))).collect(), Led::ByHash)
                }
                Err(_) => ((run.first.0..run.end.0).map(Seq).collect::<Vec<_>>(), Led::ByWalk),
            };
            for seq in places.into_iter().rev() {
                if let Some(found) = check(seq, led)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

/// Whether the record of a row of this kind is what it should be.
pub(super) fn check_row(kind: u8, place: codec::Place, record: &[u8]) -> Result<(), codec::DecodeError> {
    match kind {
        kind::RUN => drop(codec::decode::<seal::RunRow>(place, record)?),
        kind::IDS | kind::KEYS => codec::decode_packed(place, record, |packed| pack::unpack_chunk(packed).map(drop))?,
        kind::DESTINATION | kind::SUBSCRIPTION | kind::TENANT | kind::TYPE => {
            codec::decode_packed(place, record, |packed| pack::unpack_list(packed).map(drop))?
        }
        _ => return Err(codec::DecodeError::Damaged("no row of this kind is known".into())),
    }
    Ok(())
}

/// What a list is asked for, as far as runs know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// To one of these destinations.
    pub destinations: Option<Vec<DestinationNo>>,
    /// By this subscription.
    pub subscription: Option<SubscriptionNo>,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of the types that match.
    pub kind: Option<TypePattern>,
    /// With this ordering key.
    pub key: Option<String>,
}

impl Asked {
    /// For one destination.
    pub(super) fn destination(no: DestinationNo) -> Self {
        Asked { destinations: Some(vec![no]), ..Asked::default() }
    }

    /// In words, for errors: what producers choose is not in them.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Asked { destinations: Some(_), .. } => "its destination",
            Asked { subscription: Some(_), .. } => "its subscription",
            Asked { tenant: Some(_), .. } => "its tenant",
            Asked { kind: Some(_), .. } => "its type",
            Asked { key: Some(_), .. } => "its ordering key",
            Asked { .. } => "its run",
        }
    }
}

/// What a run answers.
pub(super) enum Answer {
    /// It was asked for nothing in particular, or what it was asked for is damaged: all of its events.
    All,
    /// Among these are all that were asked for, in ascending order.
    These(Vec<Seq>),
}

/// A run, wherever its lists are.
pub(super) enum Stretch {
    /// In memory.
    Memory(Arc<Run>),
    /// On disk.
    Sealed(Arc<Sealed>),
}

impl Stretch {
    /// Its first event's place.
    pub(super) fn first(&self) -> Seq {
        match self {
            Stretch::Memory(run) => run.first,
            Stretch::Sealed(run) => run.first,
        }
    }

    /// The place after its last event.
    pub(super) fn end(&self) -> Seq {
        match self {
            Stretch::Memory(run) => run.lists().end,
            Stretch::Sealed(run) => run.end,
        }
    }

    /// When its oldest and its newest event were accepted.
    pub(super) fn accepted(&self) -> (Timestamp, Timestamp) {
        match self {
            Stretch::Memory(run) => run.lists().accepted,
            Stretch::Sealed(run) => run.accepted,
        }
    }

    /// The places between which everything lies that was accepted in a time, in ascending order. What was not, lies there as
    /// well, at most in the pieces at either end.
    pub(super) fn spans(&self, time: &Time) -> Vec<(Seq, Seq)> {
        let (first, end) = (self.first(), self.end());
        if *time == Time::default() {
            return vec![(first, end)];
        }
        let spans = match self {
            Stretch::Memory(run) => run.lists().pieces.within(time),
            Stretch::Sealed(run) => run.pieces.within(time),
        };
        let place = |offset: u64| Seq(first.0 + offset).min(end);
        spans.into_iter().map(|(from, until)| (place(from), place(until))).collect()
    }

    /// Which of its events are asked for. `looked_at` is told of each row that is read.
    pub(super) fn ask(
        &self,
        asked: &Asked,
        segments: &impl Records<SegmentKey>,
        looked_at: impl Fn(),
    ) -> Result<Answer, ApplyError> {
        let lists = match self {
            Stretch::Memory(run) => run.ask(asked),
            Stretch::Sealed(run) => run.ask(asked, segments, looked_at)?,
        };
        let place = |offset: u16| Seq(self.first().0 + u64::from(offset));
        let mut lists = lists.into_iter().flatten();
        let Some(first) = lists.next() else { return Ok(Answer::All) };
        let common = lists.fold(first, |common, list| intersection(&common, &list));
        Ok(Answer::These(common.into_iter().map(place).collect()))
    }
}

/// For destinations, subscription, tenant, type and key, as far as each was asked for and can be read.
type ListsAsked = [Option<Vec<u16>>; 5];

impl Run {
    fn ask(&self, asked: &Asked) -> ListsAsked {
        let lists = self.lists();
        let of_destination = |no: &DestinationNo| lists.destinations.get(no).cloned();
        let destinations =
            asked.destinations.as_ref().map(|nos| union(nos.iter().filter_map(of_destination).collect()));
        let subscription = asked.subscription.map(|no| lists.subscriptions.get(&no).cloned().unwrap_or_default());
        let tenant = asked.tenant.as_ref().filter(|tenant| lists.sole_tenant() != Some(tenant)).map(|tenant| {
            let own = lists.tenants.get(tenant).cloned();
            union(own.into_iter().chain([lists.tenants_beyond.clone()]).collect())
        });
        let beyond = || std::iter::once(lists.types_beyond.clone());
        let kind = match &asked.kind {
            None | Some(TypePattern::Any) => None,
            Some(TypePattern::One(one)) => {
                Some(union(lists.types.get(one).cloned().into_iter().chain(beyond()).collect()))
            }
            Some(branch @ TypePattern::Branch(_)) => {
                let matching =
                    lists.types.iter().filter(|(kind, _)| branch.matches(kind)).map(|(_, list)| list.clone());
                Some(union(matching.chain(beyond()).collect()))
            }
        };
        let key = asked.key.as_ref().map(|key| {
            let hash = hash_of_key(key);
            lists.keys.iter().filter(|mark| mark.hash() == hash).map(|mark| mark.offset()).collect()
        });
        [destinations, subscription, tenant, kind, key]
    }
}

impl Sealed {
    fn ask(
        &self,
        asked: &Asked,
        segments: &impl Records<SegmentKey>,
        looked_at: impl Fn(),
    ) -> Result<ListsAsked, ApplyError> {
        // A damaged list narrows nothing down: whoever asks looks at each event itself.
        let list = |kind: u8, key: &[u8]| -> Result<Option<Vec<u16>>, ApplyError> {
            looked_at();
            let place = (kind, key, self.first.0);
            match segments.get(place)? {
                Some(record) => Ok(codec::decode_packed(segments.place(place), record.value(), pack::unpack_list).ok()),
                None => Ok(Some(Vec::new())),
            }
        };
        let union_of = |lists: &mut dyn Iterator<Item = Result<Option<Vec<u16>>, ApplyError>>| {
            let lists: Result<Option<Vec<_>>, _> = lists.map(Result::transpose).map(Option::transpose).collect();
            lists.map(|lists| lists.map(union))
        };
        // Where one list is empty the others are not read: they are many for a branch of types, or for a tenant's destinations.
        let is_nothing = |list: &Option<Vec<u16>>| list.as_ref().is_some_and(Vec::is_empty);
        let nothing = || [Some(Vec::new()), None, None, None, None];
        let tenant = match (&asked.tenant, &self.sole_tenant) {
            (None, _) => None,
            (Some(tenant), Some(sole)) => (tenant != sole).then(Vec::new),
            (Some(tenant), None) => {
                let own = tenant.as_str().as_bytes();
                union_of(&mut [own, &[]].into_iter().map(|key| list(kind::TENANT, key)))?
            }
        };
        if is_nothing(&tenant) {
            return Ok(nothing());
        }
        let subscription = match asked.subscription {
            Some(no) => list(kind::SUBSCRIPTION, &no.0.to_be_bytes())?,
            None => None,
        };
        if is_nothing(&subscription) {
            return Ok(nothing());
        }
        let key = match &asked.key {
            None => None,
            Some(_) if self.key_chunks == 0 => Some(Vec::new()),
            Some(key) => {
                looked_at();
                let hash = hash_of_key(key);
                let chunk = hash.chunk(self.key_chunks).to_be_bytes();
                let place = (kind::KEYS, chunk.as_slice(), self.first.0);
                match segments.get(place)? {
                    Some(record) => {
                        let unpack = |packed: &[u8]| pack::offsets_of(packed, hash);
                        codec::decode_packed(segments.place(place), record.value(), unpack).ok()
                    }
                    None => Some(Vec::new()),
                }
            }
        };
        if is_nothing(&key) {
            return Ok(nothing());
        }
        let mut nos = asked.destinations.clone();
        if let Some(nos) = nos.as_mut().filter(|nos| nos.len() > DESTINATIONS_MAX) {
            looked_at();
            if let Some(there) = seal::destinations_of(segments, self.first)? {
                nos.retain(|no| there.binary_search(no).is_ok());
            }
        }
        let destinations = match nos {
            Some(nos) if nos.len() <= DESTINATIONS_MAX => {
                union_of(&mut nos.iter().map(|no| list(kind::DESTINATION, &no.0.to_be_bytes())))?
            }
            Some(_) | None => None,
        };
        if is_nothing(&destinations) {
            return Ok(nothing());
        }
        let kinds = match &asked.kind {
            None | Some(TypePattern::Any) => None,
            Some(TypePattern::One(one)) => Some(vec![one.as_str().to_owned()]),
            Some(branch @ TypePattern::Branch(_)) => {
                looked_at();
                let matching = |types: Vec<EventType>| {
                    let matching = types.into_iter().filter(|kind| branch.matches(kind));
                    matching.map(|kind| kind.as_str().to_owned()).collect::<Vec<_>>()
                };
                seal::types_of(segments, self.first)?.map(matching)
            }
        };
        let kind = match kinds {
            None => None,
            Some(mut kinds) => {
                kinds.push(String::new());
                union_of(&mut kinds.iter().map(|kind| list(kind::TYPE, kind.as_bytes())))?
            }
        };
        Ok([destinations, subscription, tenant, kind, key])
    }
}

fn union(mut lists: Vec<Vec<u16>>) -> Vec<u16> {
    lists.retain(|list| !list.is_empty());
    if lists.len() > 1 {
        let mut all = lists.concat();
        all.sort_unstable();
        all.dedup();
        return all;
    }
    lists.pop().unwrap_or_default()
}

fn intersection(left: &[u16], right: &[u16]) -> Vec<u16> {
    let mut others = right.iter().copied().peekable();
    let is_common = |offset: &u16| {
        while others.next_if(|other| other < offset).is_some() {}
        others.peek() == Some(offset)
    };
    left.iter().copied().filter(is_common).collect()
}
