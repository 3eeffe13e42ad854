//! How a closed run becomes rows, how its rows go again, and how a start finds out what there is.
//!
//! All of it is done in slices that ride along with commits: no commit waits for a whole run, and none is made for it. A
//! run's own row says how far it has come. [`Stage::Sealing`] is written with its first slice, names all rows there will be,
//! and counts for nothing: a start that finds it removes those rows, and seals the run anew from its events.
//! [`Stage::Sealed`] is written with the last. [`Stage::Dropping`] is written when no event of the run is left.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::model::{DestinationNo, EventType, Seq, SubscriptionNo, TenantId, Timestamp};
use crate::store::chapters::{Chapters, Outside};
use crate::store::codec::DecodeError;
use crate::store::keyring::Keyring;
use crate::store::tables::{Records, Write};
use crate::store::writer::ApplyError;
use crate::store::{LoadError, codec, lock, tables};

use super::filter::Filter;
use super::pack::{self, Chunks};
use super::{Pieces, RUN_EVENTS_MAX, Run, Runs, Sealed, SegmentChange, SegmentKey, kind};

/// What the removal of a row counts for.
const REMOVAL_BYTES: usize = 1 << 10;

type Segments<'tx> = Write<'tx, SegmentKey>;

/// A run's own row: what it is, and which rows it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct RunRow {
    stage: Stage,
    end: Seq,
    accepted: (Timestamp, Timestamp),
    pieces: Pieces,
    ids: u32,
    id_chunks: u32,
    key_chunks: u32,
    destinations: Vec<DestinationNo>,
    subscriptions: Vec<SubscriptionNo>,
    types: Vec<EventType>,
    tenants: Tenants,
}

/// Whose the events of a run are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Tenants {
    /// All of them this one's, so that there is no list.
    One(TenantId),
    /// These have lists; the others share one.
    Several(Vec<TenantId>),
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Some of its rows may be there.
    Sealing,
    /// All of its rows are there.
    Sealed,
    /// None of its events is there, and some of its rows may not be.
    Dropping,
}

/// One of a run's rows.
enum ListOf<'row> {
    Ids(u32),
    Keys(u32),
    Destination(DestinationNo),
    Subscription(SubscriptionNo),
    Type(&'row EventType),
    TypesBeyond,
    Tenant(&'row TenantId),
    TenantsBeyond,
}

impl RunRow {
    /// The rows one after the other; `None` after the last.
    fn list(&self, step: usize) -> Option<ListOf<'_>> {
        let tenants: &[TenantId] = match &self.tenants {
            Tenants::One(_) => &[],
            Tenants::Several(tenants) => tenants,
        };
        let beyond = usize::from(matches!(self.tenants, Tenants::Several(_)));
        let mut left = step;
        // Each kind of row in turn: whether the step lies within so many, and if not, how far beyond.
        let mut within = |count: usize| match left.checked_sub(count) {
            Some(beyond) => {
                left = beyond;
                None
            }
            None => Some(left),
        };
        if let Some(chunk) = within(self.id_chunks as usize) {
            Some(ListOf::Ids(chunk as u32))
        } else if let Some(chunk) = within(self.key_chunks as usize) {
            Some(ListOf::Keys(chunk as u32))
        } else if let Some(place) = within(self.destinations.len()) {
            Some(ListOf::Destination(self.destinations[place]))
        } else if let Some(place) = within(self.subscriptions.len()) {
            Some(ListOf::Subscription(self.subscriptions[place]))
        } else if let Some(place) = within(self.types.len()) {
            Some(ListOf::Type(&self.types[place]))
        } else if within(1).is_some() {
            Some(ListOf::TypesBeyond)
        } else if let Some(place) = within(tenants.len()) {
            Some(ListOf::Tenant(&tenants[place]))
        } else {
            within(beyond).map(|_| ListOf::TenantsBeyond)
        }
    }
}

impl ListOf<'_> {
    /// Where it lies, but for the run.
    fn key(&self) -> (u8, Vec<u8>) {
        match self {
            ListOf::Ids(chunk) => (kind::IDS, chunk.to_be_bytes().to_vec()),
            ListOf::Keys(chunk) => (kind::KEYS, chunk.to_be_bytes().to_vec()),
            ListOf::Destination(no) => (kind::DESTINATION, no.0.to_be_bytes().to_vec()),
            ListOf::Subscription(no) => (kind::SUBSCRIPTION, no.0.to_be_bytes().to_vec()),
            ListOf::Type(kind) => (kind::TYPE, kind.as_str().as_bytes().to_vec()),
            ListOf::TypesBeyond => (kind::TYPE, Vec::new()),
            ListOf::Tenant(tenant) => (kind::TENANT, tenant.as_str().as_bytes().to_vec()),
            ListOf::TenantsBeyond => (kind::TENANT, Vec::new()),
        }
    }
}

#[cfg(test)]
impl RunRow {
    /// A row with something in each of its fields.
    pub(in crate::store) fn sample() -> Self {
        RunRow {
            stage: Stage::Sealed,
            end: Seq(131_072),
            accepted: (Timestamp::from_millis(1_750_000_000_123), Timestamp::from_millis(1_750_000_009_999)),
            pieces: Pieces {
                length: 1024,
                bounds: vec![
                    (Timestamp::from_millis(1_750_000_000_123), Timestamp::from_millis(1_750_000_000_123)),
                    Pieces::EMPTY,
                    (Timestamp::from_millis(1_750_000_000_124), Timestamp::from_millis(1_750_000_009_999)),
                ],
            },
            ids: 60_000,
            id_chunks: 150,
            key_chunks: 7,
            destinations: vec![DestinationNo(3), DestinationNo(4)],
            subscriptions: vec![SubscriptionNo(5)],
            types: vec!["transaction.sale".parse().unwrap()],
            tenants: Tenants::Several(vec![TenantId::default_tenant()]),
        }
    }
}

fn put_run(segments: &mut Segments<'_>, first: Seq, row: &RunRow) -> Result<(), ApplyError> {
    segments.put((kind::RUN, [].as_slice(), first.0), row)?;
    Ok(())
}

fn run_row(segments: &impl Records<SegmentKey>, first: Seq) -> Result<Option<Result<RunRow, DecodeError>>, ApplyError> {
    let place = (kind::RUN, [].as_slice(), first.0);
    Ok(segments.get(place)?.map(|record| codec::decode(segments.place(place), record.value())))
}

/// The types that have lists in a sealed run; `None` when what names them is damaged.
pub(super) fn types_of(segments: &impl Records<SegmentKey>, first: Seq) -> Result<Option<Vec<EventType>>, ApplyError> {
    Ok(run_row(segments, first)?.map_or(Some(Vec::new()), |row| row.ok().map(|row| row.types)))
}

/// The destinations that have lists in a sealed run, in ascending order; `None` when what names them is damaged.
pub(super) fn destinations_of(
    segments: &impl Records<SegmentKey>,
    first: Seq,
) -> Result<Option<Vec<DestinationNo>>, ApplyError> {
    Ok(run_row(segments, first)?.map_or(Some(Vec::new()), |row| row.ok().map(|row| row.destinations)))
}

/// The writer's work on segments, in the order in which it is done.
#[derive(Default)]
pub(in crate::store) struct Sealer {
    chores: VecDeque<Chore>,
    /// When there is nothing else to do, the chapters go that end in no run.
    outside: Option<Outside>,
}

enum Chore {
    Seal(Box<Sealing>),
    Drop(Box<Dropping>),
}

/// A run whose rows go, those of its chapters included, unless it was never sealed.
struct Dropping {
    first: Seq,
    row: RunRow,
    step: usize,
    /// The places that are left of the present destination's.
    chapters: Option<Range<u64>>,
}

struct Sealing {
    run: Arc<Run>,
    row: RunRow,
    ids: Chunks,
    keys: Chunks,
    filter: Filter,
    step: usize,
}

impl Sealer {
    /// Does the next slice. Answers what it made true, once it is committed. With the list of a destination its chapters go.
    pub(in crate::store) fn step(
        &mut self,
        runs: &Mutex<Runs>,
        segments: &mut Segments<'_>,
        (chapters, events): (&mut Chapters<'_>, &Write<'_, u64>),
    ) -> Result<Option<SegmentChange>, ApplyError> {
        let (closed, run_events) = {
            let runs = lock(runs);
            (runs.closed(), runs.run_events)
        };
        // A slice has a byte for each event of a run, 64 KiB, and as much again for each run that has to wait.
        let mut budget = run_events * closed.as_ref().map_or(1, |(_, count)| *count);
        if self.chores.is_empty()
            && let Some((run, _)) = closed
        {
            self.chores.push_back(Chore::Seal(Box::new(Sealing::begin(run, segments)?)));
        }
        while let Some(chore) = self.chores.front_mut() {
            match chore {
                Chore::Seal(sealing) => {
                    if !sealing.advance(segments, &mut budget)? {
                        return Ok(None);
                    }
                    let Some(Chore::Seal(sealing)) = self.chores.pop_front() else { return Ok(None) };
                    return Ok(Some(SegmentChange::Sealed(sealing.finish(segments)?)));
                }
                Chore::Drop(dropping) => {
                    if !dropping.advance(segments, (&mut *chapters, events), &mut budget)? {
                        return Ok(None);
                    }
                    self.chores.pop_front();
                }
            }
        }
        if let Some(outside) = &mut self.outside
            && chapters.drop_outside(outside, events, &mut budget)?
        {
            self.outside = None;
        }
        Ok(None)
    }

    /// Lets the rows of a sealed run go that has no events any more.
    pub(in crate::store) fn drop_run(&mut self, segments: &mut Segments<'_>, run: &Sealed) -> Result<(), ApplyError> {
        // Where the run's own row is damaged, nobody knows which others there are: the next start finds out.
        if let Some(Ok(mut row)) = run_row(segments, run.first)? {
            row.stage = Stage::Dropping;
            put_run(segments, run.first, &row)?;
            self.chores.push_back(Chore::Drop(Box::new(Dropping::begin(run.first, row))));
        }
        Ok(())
    }
}

impl Dropping {
    fn begin(first: Seq, row: RunRow) -> Self {
        Dropping { first, row, step: 0, chapters: None }
    }

    /// Removes rows as far as the budget goes; whether all are removed.
    fn advance(
        &mut self,
        segments: &mut Segments<'_>,
        (chapters, events): (&mut Chapters<'_>, &Write<'_, u64>),
        budget: &mut usize,
    ) -> Result<bool, ApplyError> {
        while let Some(list) = self.row.list(self.step) {
            if *budget == 0 {
                return Ok(false);
            }
            if let (Stage::Dropping, ListOf::Destination(no)) = (self.row.stage, &list) {
                let left = self.chapters.get_or_insert(self.first.0..self.row.end.0);
                if !chapters.drop_within(*no, left, events, budget)? {
                    return Ok(false);
                }
                self.chapters = None;
            }
            let (kind, key) = list.key();
            segments.remove((kind, key.as_slice(), self.first.0))?;
            self.step += 1;
            *budget = budget.saturating_sub(REMOVAL_BYTES);
        }
        segments.remove((kind::RUN, [].as_slice(), self.first.0))?;
        Ok(true)
    }
}

impl Sealing {
    fn begin(run: Arc<Run>, segments: &mut Segments<'_>) -> Result<Self, ApplyError> {
        let sealing = {
            let lists = run.lists();
            let ids = Chunks::of(lists.id_marks());
            let keys = Chunks::of(lists.keys.iter().copied());
            let mut destinations: Vec<_> = lists.destinations.keys().copied().collect();
            destinations.sort_unstable();
            let mut types: Vec<_> = lists.types.keys().cloned().collect();
            types.sort_unstable();
            let mut subscriptions: Vec<_> = lists.subscriptions.keys().copied().collect();
            subscriptions.sort_unstable();
            let tenants = match lists.sole_tenant() {
                Some(sole) => Tenants::One(sole.clone()),
                None => Tenants::Several(lists.tenants.keys().cloned().collect()),
            };
            let row = RunRow {
                stage: Stage::Sealing,
                end: lists.end,
                accepted: lists.accepted,
                pieces: lists.pieces.clone(),
                ids: ids.marks() as u32,
                id_chunks: ids.count(),
                key_chunks: keys.count(),
                destinations,
                subscriptions,
                types,
                tenants,
            };
            let filter = Filter::with_room_for(ids.marks());
            Sealing { run: Arc::clone(&run), row, ids, keys, filter, step: 0 }
        };
        put_run(segments, run.first, &sealing.row)?;
        Ok(sealing)
    }

    /// Writes rows as far as the budget goes; whether all are written.
    fn advance(&mut self, segments: &mut Segments<'_>, budget: &mut usize) -> Result<bool, ApplyError> {
        let lists = self.run.lists();
        while let Some(list) = self.row.list(self.step) {
            if *budget == 0 {
                return Ok(false);
            }
            let (kind, key) = list.key();
            let packed = match list {
                ListOf::Ids(chunk) => {
                    let sorted = self.ids.sorted(chunk);
                    sorted.iter().for_each(|mark| self.filter.add(mark.hash()));
                    pack::pack_chunk(sorted)
                }
                ListOf::Keys(chunk) => pack::pack_chunk(self.keys.sorted(chunk)),
                ListOf::Destination(no) => pack::pack_list(lists.destinations.get(&no).map_or(&[][..], |list| list)),
                ListOf::Type(kind) => pack::pack_list(lists.types.get(kind).map_or(&[][..], |list| list)),
                ListOf::TypesBeyond => pack::pack_list(&lists.types_beyond),
                ListOf::Subscription(no) => pack::pack_list(lists.subscriptions.get(&no).map_or(&[][..], |list| list)),
                ListOf::Tenant(tenant) => pack::pack_list(lists.tenants.get(tenant).map_or(&[][..], |list| list)),
                ListOf::TenantsBeyond => pack::pack_list(&lists.tenants_beyond),
            };
            let row = (kind, key.as_slice(), self.run.first.0);
            let bytes = segments.put_with(row, |place| codec::encode_packed(place, &packed))?;
            self.step += 1;
            *budget = budget.saturating_sub(bytes);
        }
        Ok(true)
    }

    fn finish(mut self: Box<Self>, segments: &mut Segments<'_>) -> Result<Sealed, ApplyError> {
        self.row.stage = Stage::Sealed;
        put_run(segments, self.run.first, &self.row)?;
        Ok(sealed(self.run.first, &self.row, Some(self.filter)))
    }
}

fn sealed(first: Seq, row: &RunRow, filter: Option<Filter>) -> Sealed {
    let RunRow { end, accepted, id_chunks, key_chunks, .. } = *row;
    let sole_tenant = match &row.tenants {
        Tenants::One(sole) => Some(sole.clone()),
        Tenants::Several(_) => None,
    };
    let pieces = Arc::new(row.pieces.clone());
    Sealed { first, end, accepted, pieces, id_chunks, key_chunks, sole_tenant, filter }
}

/// What a start has found.
pub(in crate::store) enum LoadedRuns {
    /// All there is.
    Whole(Box<(Runs, Sealer)>),
    /// The runs that begin here cannot be used as they are: see [`mend`].
    Broken(Vec<Seq>),
}

/// Finds out at start what there is: reads the sealed runs' own rows, makes their filters anew, and reads the events after
/// them into memory.
pub(in crate::store) fn load(
    transaction: &ReadTransaction,
    keys: &Arc<Keyring>,
    run_events: usize,
    end: Seq,
    now: Timestamp,
) -> Result<LoadedRuns, LoadError> {
    let segments = tables::SEGMENTS.read(transaction, keys)?;
    let mut runs = Runs::new(run_events, end);
    let mut sealer = Sealer::default();
    let (mut known, mut broken, mut unsealed_from) = (Vec::new(), Vec::new(), Seq(0));
    for entry in segments.range((kind::RUN, [].as_slice(), 0)..=(kind::RUN, [].as_slice(), u64::MAX))? {
        let (key, record) = entry?;
        let first = Seq(key.value().2);
        let Ok(row) = codec::decode::<RunRow>(segments.place(key.value()), record.value()) else {
            broken.push(first);
            continue;
        };
        match row.stage {
            Stage::Sealed => {
                unsealed_from = unsealed_from.max(row.end);
                let mut run = sealed(first, &row, None);
                if run.is_remembered(now) {
                    run.filter = filter_of(&segments, first, &row)?;
                    if run.filter.is_none() {
                        broken.push(first);
                    }
                }
                known.push(Arc::new(run));
            }
            Stage::Sealing | Stage::Dropping => {
                sealer.chores.push_back(Chore::Drop(Box::new(Dropping::begin(first, row))));
            }
        }
    }
    if !broken.is_empty() {
        return Ok(LoadedRuns::Broken(broken));
    }
    let events = tables::EVENTS.read(transaction, keys)?;
    for entry in events.range(unsealed_from.0..)? {
        let (seq, record) = entry?;
        // A damaged event is in no list.
        if let Ok(head) = codec::decode_event_head(events.place(seq.value()), record.value()) {
            runs.note(Seq(seq.value()), &head);
        }
    }
    // What retention took from the beginning of the open run is in none from now on.
    let (mut outside, mut until) = (Vec::new(), 0);
    let open = runs.memory.front().map_or((end, end), |run| (run.first, end));
    for (first, end) in known.iter().map(|run| (run.first, run.end)).chain([open]) {
        outside.extend((until < first.0).then_some(until..first.0));
        until = end.0;
    }
    sealer.outside = Some(Outside::new(outside));
    runs.sealed = Arc::new(known);
    Ok(LoadedRuns::Whole(Box::new((runs, sealer))))
}

/// The filter of a run; `None` when a chunk of its ids is damaged or missing.
fn filter_of(segments: &impl Records<SegmentKey>, first: Seq, row: &RunRow) -> Result<Option<Filter>, LoadError> {
    let mut filter = Filter::with_room_for(row.ids as usize);
    for chunk in 0..row.id_chunks {
        let key = chunk.to_be_bytes();
        let place = (kind::IDS, key.as_slice(), first.0);
        let Some(record) = segments.get(place)? else { return Ok(None) };
        let add = |packed: &[u8]| {
            pack::unpack_chunk(packed)?.iter().for_each(|packed| filter.add(pack::mark(packed).hash()));
            Ok(())
        };
        if codec::decode_packed(segments.place(place), record.value(), add).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(filter))
}

/// Makes runs anew from their events, all of them in one transaction: those whose own rows are damaged, and those that do not
/// know their producers' ids any more. The rows of the last run there is only go: its events are read at each start, and it is
/// sealed again in its turn.
pub(in crate::store) fn mend(
    transaction: &WriteTransaction,
    keys: &Arc<Keyring>,
    broken: &[Seq],
) -> Result<(), LoadError> {
    let mut segments = tables::SEGMENTS.write(transaction, keys)?;
    let events = tables::EVENTS.write(transaction, keys)?;
    for first in broken {
        let after = (kind::RUN, [].as_slice(), first.0 + 1)..=(kind::RUN, [].as_slice(), u64::MAX);
        let end = match segments.range(after)?.next() {
            Some(next) => Some(next?.0.value().2.min(first.0 + RUN_EVENTS_MAX as u64)),
            None => None,
        };
        segments.retain(|(_, _, run), _| run != first.0)?;
        let mut run: Option<Run> = None;
        for entry in events.range(first.0..end.unwrap_or(first.0))? {
            let (seq, record) = entry?;
            let Ok(head) = codec::decode_event_head(events.place(seq.value()), record.value()) else { continue };
            run.get_or_insert_with(|| Run::new(*first, head.accepted, RUN_EVENTS_MAX)).note(Seq(seq.value()), &head);
        }
        tracing::warn!(event = "run_mended", first = first.0, "lists of events were damaged, and are written anew");
        let Some(run) = run else { continue };
        let mut sealing = Box::new(Sealing::begin(Arc::new(run), &mut segments)?);
        while !sealing.advance(&mut segments, &mut usize::MAX.clone())? {}
        sealing.finish(&mut segments)?;
    }
    Ok(())
}
