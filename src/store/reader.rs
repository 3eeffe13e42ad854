//! Reading: short transactions, paged, on threads where a cold read may wait.
//!
//! Look-ups by id are a seek. Lists look where [`super::history`] says, from the newest, and at a bounded number of rows per
//! page: a page may be short and still have a next one.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadOnlyTable, ReadableDatabase};

use crate::model::audit::{Chain, Kept, Link, Record, Wanted};
use crate::model::event::{EventHead, ProducerId, Target};
use crate::model::{
    Attempt, DeliveryKey, DeliveryState, DestinationNo, Event, EventId, Milestone, Outcome, Seq, SubscriptionNo,
    TenantId, Timestamp, Trigger, TypePattern, milestone,
};

use super::chapters::{self, Fact};
use super::history::{Candidates, Step};
use super::keyring::Keyring;
use super::op::Ages;
use super::record::{AttemptRow, DueRow, EndedRow, Plan, Tally};
use super::segments::{Answer, Asked, Runs, SegmentKey, Stretch, Time};
use super::standing::BLOCK;
use super::tables::{Read, Records};
use super::writer::{ApplyError, META_AUDIT};
use super::{audit, codec, dedup, op, tables};

/// Rows that one page looks at, at most: events, deliveries, lists. What is asked once to find out where to look comes on top.
pub(super) const LOOKED_AT_MAX: u64 = 20_000;
/// Waiting deliveries at each end of a lane that are asked for the oldest.
const WAITING_ASKED: usize = 1000;
/// Bytes of records on one page, at most, one record aside: payloads and kept replies are chosen by others.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// The newest deliveries of a destination that are asked how it did.
const TELLING: usize = 5;

/// A read did not work.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("read the store: {0}")]
    Storage(String),
    /// What was asked for is damaged. Nothing else is.
    #[error("read the store: {0}; stop the daemon and run `postrider db check`")]
    Damaged(#[from] codec::DecodeError),
    /// The reading thread is gone: the daemon is going down.
    #[error("read the store: the daemon is stopping")]
    Stopped,
}

macro_rules! as_read_error {
    ($($error:ty),*) => { $(impl From<$error> for ReadError {
        fn from(error: $error) -> Self {
            ReadError::Storage(error.to_string())
        }
    })* };
}

as_read_error!(redb::StorageError, redb::TableError, redb::TransactionError, ApplyError);

/// The store as of one commit.
pub struct Snapshot {
    pub(super) events: Read<u64>,
    pub(super) due: Read<(u32, u64, u64)>,
    pub(super) attempts: Read<(u64, u32, u32)>,
    pub(super) ended: Read<(u32, u64)>,
    pub(super) cancelled: Read<(u32, u64)>,
    pub(super) replays: Read<u64>,
    pub(super) commands: Read<u64>,
    pub(super) request_times: Read<(u64, &'static [u8])>,
    failures: ReadOnlyTable<(u32, u64), ()>,
    ordered: ReadOnlyTable<(u32, u64, u64), ()>,
    chapters: ReadOnlyTable<(u32, u64), ()>,
    facts: ReadOnlyTable<(u16, u32, u64), ()>,
    segments: Read<SegmentKey>,
    tallies: Read<u32>,
    audit: Read<u64>,
    audit_terms: ReadOnlyTable<(u64, u64), ()>,
    audit_times: ReadOnlyTable<(u8, u64), (u64, u64)>,
    meta: Read<&'static str>,
    runs: Runs,
    looked_at: Cell<u64>,
    /// The event that was first in a line last, as far as it can be read: all that wait in the line stand behind it.
    first_in_line: Cell<Option<(Seq, Option<EventId>)>>,
}

/// A delivery with everything that the store knows of it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which.
    pub key: DeliveryKey,
    /// Its event, without the payload. Deliveries of one event that were read together share it.
    pub head: Arc<EventHead>,
    /// `Pending` for every one that waits: whether its lane holds it is for the lane to say.
    pub state: DeliveryState,
    /// How it ended without success.
    pub ended: Option<EndedRow>,
    /// What it waits for.
    pub row: Option<DueRow>,
    /// Where it stands in the line of an ordered destination: the event of the delivery that is to end first.
    pub behind: Option<EventId>,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// Its state on a lane that holds what waits, or does not. What asks for a confirmation is not held by the lack of it.
    pub fn state_on_lane(&self, is_held: bool) -> DeliveryState {
        let asks = self.row.is_some_and(|row| row.plan.trigger == Trigger::Confirmation);
        if self.state == DeliveryState::Pending && is_held && !asks { DeliveryState::Held } else { self.state }
    }

    /// Its course so far.
    pub fn course(&self) -> milestone::Course<'_> {
        milestone::Course {
            accepted: self.head.accepted,
            first_due: self.head.due,
            attempts: &self.attempts,
            ended: self.ended.map(|ended| (ended.ending, ended.at)),
            due: self.row.map(|row| row.due),
        }
    }
}

/// Which events to list. Newest first.
#[derive(Debug, Clone, Default)]
pub struct EventsWanted {
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of the types that match only.
    pub kind: Option<TypePattern>,
    /// With this ordering key only.
    pub key: Option<String>,
    /// Accepted at or after.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub to: Option<Timestamp>,
}

impl EventsWanted {
    /// Whether an event is wanted.
    pub fn takes(&self, head: &EventHead) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == head.tenant)
            && self.kind.as_ref().is_none_or(|kind| kind.matches(&head.kind))
            && self.key.as_ref().is_none_or(|key| head.key.as_ref().is_some_and(|own| own.as_str() == key))
            && self.from.is_none_or(|from| head.accepted >= from)
            && self.to.is_none_or(|to| head.accepted < to)
    }
}

/// Which deliveries to list. Newest event first, then by destination.
#[derive(Debug, Clone, Default)]
pub struct DeliveriesWanted {
    /// Of which events.
    pub events: EventsWanted,
    /// To this destination only.
    pub destination: Option<DestinationNo>,
    /// To one of these destinations only.
    pub among: Option<HashSet<DestinationNo>>,
    /// In one of these states only; `Held` is told apart from `Pending` by `held`.
    pub state: Option<DeliveryState>,
    /// The destinations whose lanes hold.
    pub held: Vec<DestinationNo>,
    /// With this status at the last attempt only.
    pub status: Option<u16>,
    /// Made by this subscription, perhaps among others, only.
    pub subscription: Option<SubscriptionNo>,
    /// Whose course has this step only.
    pub milestone: Option<Milestone>,
}

/// Which table of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// Of deliveries that were given up.
    Failed,
    /// Of deliveries that were cancelled.
    Cancelled,
    /// Of deliveries that have failed at some time.
    Failures,
}

/// Where a page begins: after this place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The event.
    pub seq: Seq,
    /// The destination, in a list of deliveries.
    pub destination: DestinationNo,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// After this place; from the newest when there is none.
    pub after: Option<Place>,
    /// How many to leave out first.
    pub skip: usize,
    /// How many, at most. A page ends sooner when much has been looked at, or when its items are large.
    pub limit: usize,
}

/// What a look for aged events found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aged {
    /// The first event that retention would change.
    pub found: Option<Seq>,
    /// Where to go on looking, when nothing was found and something older remains.
    pub next: Option<Seq>,
}

/// Part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many were left out, as the window asked; fewer only when the list, or the looking, ended before.
    pub skipped: usize,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Place>,
}

/// A page that is being filled.
struct Filling<T> {
    window: Window,
    items: Vec<T>,
    skipped: usize,
    bytes: usize,
}

impl<T> Filling<T> {
    fn new(window: Window) -> Self {
        Filling { window, items: Vec::new(), skipped: 0, bytes: 0 }
    }

    /// Whether nothing more fits: whatever comes next belongs on the next page.
    fn is_full(&self) -> bool {
        self.skipped == self.window.skip && (self.items.len() == self.window.limit || self.bytes >= PAGE_BYTES_MAX)
    }

    /// Leaves an item out, if there is still one to leave out.
    fn skips(&mut self) -> bool {
        let skips = self.skipped < self.window.skip;
        self.skipped += usize::from(skips);
        skips
    }

    fn put(&mut self, item: T, bytes: usize) {
        self.items.push(item);
        self.bytes += bytes;
    }

    fn page(self, next: Option<Place>) -> Page<T> {
        Page { items: self.items, skipped: self.skipped, next }
    }
}

/// What a look at a lane found of deliveries that are due too late; see [`Snapshot::set_ahead`].
#[derive(Debug)]
pub struct Ahead {
    /// Which, and when each is due instead.
    pub rows: Vec<(DueRow, Timestamp)>,
    /// Where to go on, unless the lane has ended.
    pub next: Option<(Timestamp, Seq)>,
}

impl Snapshot {
    /// `runs` as they were before the transaction begins.
    pub(super) fn open(db: &Database, keys: &Arc<Keyring>, runs: Runs) -> Result<Self, ReadError> {
        let transaction = db.begin_read()?;
        Ok(Snapshot {
            events: tables::EVENTS.read(&transaction, keys)?,
            due: tables::DUE.read(&transaction, keys)?,
            attempts: tables::ATTEMPTS.read(&transaction, keys)?,
            ended: tables::ENDED.read(&transaction, keys)?,
            cancelled: tables::CANCELLED.read(&transaction, keys)?,
            failures: transaction.open_table(tables::FAILURES)?,
            ordered: transaction.open_table(tables::ORDERED)?,
            chapters: transaction.open_table(tables::CHAPTERS)?,
            facts: transaction.open_table(tables::FACTS)?,
            replays: tables::REPLAYS.read(&transaction, keys)?,
            commands: tables::COMMANDS.read(&transaction, keys)?,
            request_times: tables::REQUEST_TIMES.read(&transaction, keys)?,
            segments: tables::SEGMENTS.read(&transaction, keys)?,
            tallies: tables::TALLIES.read(&transaction, keys)?,
            audit: tables::AUDIT.read(&transaction, keys)?,
            audit_terms: transaction.open_table(tables::AUDIT_TERMS)?,
            audit_times: transaction.open_table(tables::AUDIT_TIMES)?,
            meta: tables::META.read(&transaction, keys)?,
            runs,
            looked_at: Cell::new(0),
            first_in_line: Cell::new(None),
        })
    }

    /// How many rows its lists have looked at: events, deliveries, and the rows that lead to them.
    pub fn looked_at(&self) -> u64 {
        self.looked_at.get()
    }

    pub(super) fn look(&self) {
        self.looked_at.set(self.looked_at.get() + 1);
    }

    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(super) fn segments(&self) -> &Read<SegmentKey> {
        &self.segments
    }

    pub(super) fn event_rows(
        &self,
        from: Seq,
        until: Seq,
    ) -> Result<redb::Range<'static, u64, &'static [u8]>, ReadError> {
        Ok(self.events.range(from.0..until.0.max(from.0))?)
    }

    /// The events that wait for one destination, or for any, in no particular order; at most so many.
    pub(super) fn waiting(&self, no: Option<DestinationNo>, limit: usize) -> Result<Vec<Seq>, ReadError> {
        let (from, to) = no.map_or((0, u32::MAX), |no| (no.0, no.0));
        let rows = self.due.range((from, 0, 0)..=(to, u64::MAX, u64::MAX))?;
        let seq = |row: Result<_, redb::StorageError>| {
            self.look();
            let (key, _): (redb::AccessGuard<'_, (u32, u64, u64)>, _) = row?;
            Ok(Seq(key.value().2))
        };
        rows.take(limit).map(seq).collect()
    }

    /// When the oldest event that waits for a destination was accepted. Where very many wait, the first and the last in line
    /// are asked: what is tried for the first time comes first, what failed most often last.
    pub fn oldest_waiting(&self, no: DestinationNo) -> Result<Option<Timestamp>, ReadError> {
        let rows = || self.due.range((no.0, 0, 0)..=(no.0, u64::MAX, u64::MAX));
        let mut oldest: Option<u64> = None;
        for row in rows()?.take(WAITING_ASKED).chain(rows()?.rev().take(WAITING_ASKED)) {
            self.look();
            let (key, _) = row?;
            let seq = key.value().2;
            oldest = Some(oldest.map_or(seq, |oldest| oldest.min(seq)));
        }
        let Some(seq) = oldest else { return Ok(None) };
        // Of a damaged event nobody knows it.
        Ok(self.readable_head(Seq(seq))?.map(|head| head.accepted))
    }

    /// Some deliveries of a destination whose attempts tell how it did last: the newest, the newest that was given up, and the
    /// newest that has failed at all. A few seeks, however many there are.
    pub fn telling(&self, no: DestinationNo) -> Result<Vec<Delivery>, ReadError> {
        let wanted = DeliveriesWanted { destination: Some(no), ..DeliveriesWanted::default() };
        let mut found = self.deliveries(&wanted, Window { after: None, skip: 0, limit: TELLING })?.items;
        for ends in [Ends::Failed, Ends::Failures] {
            if let Some(seq) = self.ended_before(ends, no, Seq(u64::MAX))?
                && !found.iter().any(|delivery| delivery.key.seq == seq)
                && let Some(delivery) = self.delivery(DeliveryKey { destination: no, seq })?
            {
                found.push(delivery);
            }
        }
        Ok(found)
    }

    /// The newest event before a place that this table has for a destination.
    pub(super) fn ended_before(&self, ends: Ends, no: DestinationNo, before: Seq) -> Result<Option<Seq>, ReadError> {
        self.look();
        let range = (no.0, 0)..(no.0, before.0);
        let row = match ends {
            Ends::Failed => self.ended.range(range)?.next_back().map(|row| row.map(|(key, _)| key.value())),
            Ends::Cancelled => self.cancelled.range(range)?.next_back().map(|row| row.map(|(key, _)| key.value())),
            Ends::Failures => self.failures.range(range)?.next_back().map(|row| row.map(|(key, _)| key.value())),
        };
        Ok(row.transpose()?.map(|(_, seq)| Seq(seq)))
    }

    /// The destinations that this table has events for, found by one seek each.
    pub(super) fn destinations_with_ends(&self, ends: Ends) -> Result<Vec<DestinationNo>, ReadError> {
        let first_from = |from: u32| -> Result<Option<u32>, ReadError> {
            self.look();
            let row = match ends {
                Ends::Failed => self.ended.range((from, 0)..)?.next().map(|row| row.map(|(key, _)| key.value())),
                Ends::Cancelled => self.cancelled.range((from, 0)..)?.next().map(|row| row.map(|(key, _)| key.value())),
                Ends::Failures => self.failures.range((from, 0)..)?.next().map(|row| row.map(|(key, _)| key.value())),
            };
            Ok(row.transpose()?.map(|(no, _)| no))
        };
        let nos = tables::leading(usize::MAX, first_from)?;
        Ok(nos.into_iter().map(DestinationNo).collect())
    }

    /// The newest chapter of a destination, at or before a place, of which one of these facts is true.
    pub(super) fn chapter_with(
        &self,
        facts: &[Fact],
        no: DestinationNo,
        until: Seq,
    ) -> Result<Option<Range<u64>>, ReadError> {
        let mut newest: Option<Range<u64>> = None;
        for fact in facts {
            self.look();
            let found = chapters::newest_with(&self.chapters, &self.facts, (*fact, no), until)?;
            if found.is_some() {
                self.look();
            }
            if newest.as_ref().map(|it| it.start) < found.as_ref().map(|it| it.start) {
                newest = found;
            }
        }
        Ok(newest)
    }

    /// The destinations of which this fact is true, found by one seek each; at most so many.
    pub(super) fn destinations_with(&self, fact: Fact, limit: usize) -> Result<Vec<DestinationNo>, ReadError> {
        Ok(chapters::destinations_with(&self.facts, fact, limit, || self.look())?)
    }

    /// The events that wait for another attempt to one destination, or to any, in no particular order; `None` when more than so
    /// many wait at all.
    pub(super) fn going_on(&self, no: Option<DestinationNo>, limit: usize) -> Result<Option<Vec<Seq>>, ReadError> {
        let (from, to) = no.map_or((0, u32::MAX), |no| (no.0, no.0));
        let mut places = Vec::new();
        for (count, entry) in self.due.range((from, 0, 0)..=(to, u64::MAX, u64::MAX))?.enumerate() {
            if count == limit {
                return Ok(None);
            }
            self.look();
            let (key, record) = entry?;
            // What a damaged plan says is not known.
            let plan = codec::decode::<Plan>(self.due.place(key.value()), record.value());
            if plan.map_or(true, |plan| plan.number > 1) {
                places.push(Seq(key.value().2));
            }
        }
        Ok(Some(places))
    }

    /// The event at a place.
    pub fn event(&self, seq: Seq) -> Result<Option<Event>, ReadError> {
        match self.events.get(seq.0)? {
            Some(record) => Ok(Some(codec::decode_event(self.events.place(seq.0), seq, record.value())?)),
            None => Ok(None),
        }
    }

    /// What the event at a place says of itself. Its payload is not opened.
    pub fn head(&self, seq: Seq) -> Result<Option<EventHead>, ReadError> {
        match self.events.get(seq.0)? {
            Some(record) => Ok(Some(codec::decode_event_head(self.events.place(seq.0), record.value())?)),
            None => Ok(None),
        }
    }

    /// The same, where it can be read.
    fn readable_head(&self, seq: Seq) -> Result<Option<EventHead>, ReadError> {
        match self.head(seq) {
            Err(ReadError::Damaged(_)) => Ok(None),
            other => other,
        }
    }

    /// The same by the event's id, when its epoch is the id's.
    pub fn head_by_id(&self, id: EventId) -> Result<Option<EventHead>, ReadError> {
        Ok(self.head(id.seq())?.filter(|head| EventId::new(head.epoch, id.seq()) == id))
    }

    /// The event of an id, when its epoch is the id's.
    pub fn event_by_id(&self, id: EventId) -> Result<Option<Event>, ReadError> {
        Ok(self.event(id.seq())?.filter(|event| event.id() == id))
    }

    /// The event that a tenant's producer named.
    pub fn event_by_producer_id(&self, tenant: &TenantId, id: &ProducerId) -> Result<Option<Event>, ReadError> {
        match dedup::find(&self.runs, &self.segments, &self.events, tenant, id)? {
            Some(seq) => self.event(seq),
            None => Ok(None),
        }
    }

    /// A page of a lane: its first waiting deliveries from a place on, in order.
    pub fn lane(&self, no: DestinationNo, from: (Timestamp, Seq), limit: usize) -> Result<Vec<DueRow>, ReadError> {
        Ok(op::due_rows(&self.events, &self.attempts, &self.due, (no, from), limit)?)
    }

    /// The next deliveries of an ordered destination: the first in its line, and the first of those beside it.
    pub fn heads(&self, no: DestinationNo) -> Result<Vec<DueRow>, ReadError> {
        Ok(op::heads(&self.events, &self.attempts, &self.due, &self.ordered, no)?)
    }

    /// The event of the first delivery in a line, where that is another one's.
    fn before_in_line(&self, key: DeliveryKey) -> Result<Option<EventId>, ReadError> {
        let no = key.destination.0;
        let Some(first) = self.ordered.range((no, 0, 0)..=(no, 0, u64::MAX))?.next().transpose()? else {
            return Ok(None);
        };
        let seq = Seq(first.0.value().2);
        if seq >= key.seq {
            return Ok(None);
        }
        match self.first_in_line.get() {
            Some((last, id)) if last == seq => Ok(id),
            Some(_) | None => {
                let id = self.readable_head(seq)?.map(|head| EventId::new(head.epoch, seq));
                self.first_in_line.set(Some((seq, id)));
                Ok(id)
            }
        }
    }

    /// Looks at so many deliveries of a lane that are due after a place, for those that a clock that ran ahead made due later than
    /// they can be.
    pub fn set_ahead(
        &self,
        no: DestinationNo,
        from: (Timestamp, Seq),
        limit: usize,
        clock: (Timestamp, Duration, Duration),
    ) -> Result<Ahead, ReadError> {
        let rows = self.lane(no, from, limit)?;
        let next = rows.last().filter(|_| rows.len() == limit).map(|last| (last.due, Seq(last.seq.0 + 1)));
        let mut found = Vec::new();
        for row in rows {
            if let Some(due) = op::due_instead(&self.events, &self.attempts, &row, clock)? {
                found.push((row, due));
            }
        }
        Ok(Ahead { rows: found, next })
    }

    /// The row of a waiting delivery.
    pub fn waiting_row(&self, key: DeliveryKey) -> Result<Option<DueRow>, ReadError> {
        Ok(op::find_waiting(&self.events, &self.attempts, &self.due, key)?)
    }

    /// The destinations that have waiting deliveries, found by one seek each.
    pub fn lanes_with_work(&self) -> Result<Vec<DestinationNo>, ReadError> {
        let nos = tables::leading(usize::MAX, |no| -> Result<_, ReadError> {
            let row = self.due.range((no, 0, 0)..)?.next().transpose()?;
            Ok(row.map(|(key, _)| key.value().0))
        })?;
        Ok(nos.into_iter().map(DestinationNo).collect())
    }

    /// One delivery with its attempts.
    pub fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, ReadError> {
        let Some(head) = self.head(key.seq)? else { return Ok(None) };
        if !head.targets.iter().any(|target| target.destination == key.destination) {
            return Ok(None);
        }
        self.delivery_of(key, &Arc::new(head)).map(Some)
    }

    /// A page of the deliveries of one event, by destination; with `among`, of those to these destinations.
    pub fn deliveries_of(
        &self,
        seq: Seq,
        head: &Arc<EventHead>,
        among: Option<HashSet<DestinationNo>>,
        window: Window,
    ) -> Result<Page<Delivery>, ReadError> {
        let mut filling = Filling::new(window);
        let wanted = DeliveriesWanted { among, ..DeliveriesWanted::default() };
        let after = window.after.map(|place| place.destination);
        let next = self.take_deliveries(&wanted, seq, head, after, &mut filling)?;
        Ok(filling.page(next))
    }

    fn delivery_of(&self, key: DeliveryKey, head: &Arc<EventHead>) -> Result<Delivery, ReadError> {
        let row = op::find_waiting_of(head, &self.events, &self.attempts, &self.due, key)?;
        let mut attempts = Vec::new();
        for entry in self.attempts.range(op::attempts_of(key))? {
            let (place, record) = entry?;
            // A damaged one is missing in the numbers.
            if let Ok(AttemptRow::Done(attempt)) = codec::decode(self.attempts.place(place.value()), record.value()) {
                attempts.push(*attempt);
            }
        }
        // When it ended is not known where its row is damaged: not before this.
        let last = attempts.last().map_or(head.accepted, |last| last.started.after(last.duration));
        let ended = op::end_of(&self.ended, &self.cancelled, key, last)?;
        let state = match (&row, &ended) {
            (Some(_), _) => DeliveryState::Pending,
            (None, Some(ended)) => ended.ending.state(),
            (None, None) => DeliveryState::Succeeded,
        };
        let behind = match row {
            Some(row) if row.plan.in_line => self.before_in_line(key)?,
            Some(_) | None => None,
        };
        Ok(Delivery { key, head: Arc::clone(head), state, ended, row, behind, attempts })
    }

    /// When the attempts of a delivery were made, by number, those that are still kept.
    pub fn attempt_times(&self, key: DeliveryKey) -> Result<Vec<(u32, Timestamp)>, ReadError> {
        let mut times = Vec::new();
        for entry in self.attempts.range(op::attempts_of(key))? {
            let (place, record) = entry?;
            if let Ok(AttemptRow::Done(attempt)) = codec::decode(self.attempts.place(place.value()), record.value()) {
                times.push((attempt.number, attempt.started));
            }
        }
        Ok(times)
    }

    /// A page of events, newest first.
    pub fn events(&self, wanted: &EventsWanted, window: Window) -> Result<Page<Event>, ReadError> {
        let mut filling = Filling::new(window);
        let candidates = Candidates::of_events(self, wanted, window.after.map(|place| place.seq));
        let next = self.walk(wanted, candidates, |seq, record, _| {
            if filling.is_full() {
                return Ok(Walk::Stop);
            }
            // One with a damaged payload is left out, like one that says nothing of itself.
            if let Ok(event) = codec::decode_event(self.events.place(seq.0), seq, record)
                && !filling.skips()
            {
                filling.put(event, record.len());
            }
            Ok(Walk::On)
        })?;
        Ok(filling.page(next))
    }

    /// A page of deliveries, newest event first.
    pub fn deliveries(&self, wanted: &DeliveriesWanted, window: Window) -> Result<Page<Delivery>, ReadError> {
        let mut filling = Filling::new(window);
        let mut within = None;
        if let Some(place) = window.after {
            // The place may lie between two deliveries of one event: that event's further ones come first.
            if let Some(head) = self.readable_head(place.seq)?.map(Arc::new)
                && wanted.events.takes(&head)
            {
                within = self.take_deliveries(wanted, place.seq, &head, Some(place.destination), &mut filling)?;
            }
        }
        if within.is_some() {
            return Ok(filling.page(within));
        }
        let candidates = Candidates::of_deliveries(self, wanted, window.after.map(|place| place.seq))?;
        let next = self.walk(&wanted.events, candidates, |seq, _, head| {
            if filling.is_full() {
                return Ok(Walk::Stop);
            }
            within = self.take_deliveries(wanted, seq, &Arc::new(head), None, &mut filling)?;
            Ok(if within.is_some() { Walk::Stop } else { Walk::On })
        })?;
        Ok(filling.page(within.or(next)))
    }

    /// Adds an event's wanted deliveries to a page; the place of the last one when the page is full before the event ends.
    fn take_deliveries(
        &self,
        wanted: &DeliveriesWanted,
        seq: Seq,
        head: &Arc<EventHead>,
        after: Option<DestinationNo>,
        filling: &mut Filling<Delivery>,
    ) -> Result<Option<Place>, ReadError> {
        let mut last = after;
        // The event's deliveries share it: it counts once.
        let mut bytes_of_head = head_bytes(head);
        for target in &head.targets {
            let destination = target.destination;
            if after.is_some_and(|after| destination <= after)
                || wanted.destination.is_some_and(|it| it != destination)
                || wanted.among.as_ref().is_some_and(|among| !among.contains(&destination))
                || wanted.subscription.is_some_and(|it| !target.subscriptions.contains(&it))
            {
                continue;
            }
            if filling.is_full() {
                // A page of no items still has to move on from somewhere: destinations are numbered from one.
                let destination = last.unwrap_or(DestinationNo(0));
                return Ok(Some(Place { seq, destination }));
            }
            last = Some(destination);
            self.look();
            let delivery = self.delivery_of(DeliveryKey { destination, seq }, head)?;
            let state = delivery.state_on_lane(wanted.held.contains(&destination));
            let status = delivery.attempts.last().and_then(|attempt| attempt.status);
            let has = |milestone| delivery.course().passed().iter().any(|step| step.milestone == milestone);
            let is_wanted = wanted.state.is_none_or(|it| it == state)
                && wanted.status.is_none_or(|it| Some(it) == status)
                && wanted.milestone.is_none_or(has);
            if is_wanted && !filling.skips() {
                let bytes_of_attempts: usize = delivery.attempts.iter().map(kept_bytes).sum();
                filling.put(delivery, bytes_of_attempts + std::mem::take(&mut bytes_of_head));
            }
        }
        Ok(None)
    }

    /// Looks at candidates for wanted events, until the visitor stops or enough has been looked at. Answers where to go on.
    fn walk(
        &self,
        wanted: &EventsWanted,
        mut candidates: Candidates,
        mut visit: impl FnMut(Seq, &[u8], EventHead) -> Result<Walk, ReadError>,
    ) -> Result<Option<Place>, ReadError> {
        let begun_at = self.looked_at();
        loop {
            let here = candidates.reached().map(|seq| Place { seq, destination: DestinationNo(u32::MAX) });
            if self.looked_at() - begun_at - candidates.aside() >= LOOKED_AT_MAX {
                return Ok(here);
            }
            let seq = match candidates.step(self)? {
                Step::Look(seq) => seq,
                Step::On(_) => continue,
                Step::End => return Ok(None),
            };
            self.look();
            let Some(record) = self.events.get(seq.0)? else { continue };
            let Ok(head) = codec::decode_event_head(self.events.place(seq.0), record.value()) else { continue };
            if wanted.takes(&head) {
                match visit(seq, record.value(), head)? {
                    Walk::On => {}
                    Walk::Stop => return Ok(here),
                }
            }
        }
    }

    /// Where the audit log begins and ends.
    pub fn chain(&self) -> Result<Chain, ReadError> {
        match self.meta.get(META_AUDIT)? {
            Some(record) => Ok(codec::decode(self.meta.place(META_AUDIT), record.value())?),
            None => Ok(Chain::default()),
        }
    }

    /// A page of the audit log, newest record first. A place is a record's number.
    ///
    /// What cannot be read, or be read as a record, is an error: nobody may take what is left for the whole.
    pub fn audit(&self, wanted: &Wanted, window: Window) -> Result<Page<(Link, Kept)>, ReadError> {
        let mut filling = Filling::new(window);
        let begun_at = self.looked_at();
        let mut trail = audit::Trail::of(wanted);
        // Nothing from this number on comes any more.
        let mut reached = window.after.map(|place| place.seq.0).unwrap_or(u64::MAX);
        loop {
            let here = Some(Place { seq: Seq(reached), destination: DestinationNo(0) });
            if self.looked_at() - begun_at >= LOOKED_AT_MAX {
                return Ok(filling.page(here));
            }
            let rest = wanted.first.min(reached)..reached;
            let Some(newest) = self.audit.range(rest)?.next_back().transpose()? else { return Ok(filling.page(None)) };
            let until = newest.0.value();
            let number = match trail.newest(&self.audit_terms, &self.audit_times, until, || self.look())? {
                audit::Next::At(number) => number,
                audit::Next::Until(number) => {
                    reached = number.saturating_add(1);
                    continue;
                }
                audit::Next::End => return Ok(filling.page(None)),
            };
            self.look();
            let record = newest.1;
            let damaged = |why: &dyn std::fmt::Display| ReadError::Storage(format!("audit record {number}: {why}"));
            let kept: Kept =
                codec::decode(self.audit.place(number), record.value()).map_err(|error| damaged(&error))?;
            let read = Record::of(&kept.text).map_err(|error| damaged(&error))?;
            if wanted.takes(&read) {
                if filling.is_full() {
                    return Ok(filling.page(here));
                }
                if !filling.skips() {
                    let place = Link { number: number.saturating_sub(1), hash: kept.previous }.next(&kept.text);
                    filling.put((place, kept), record.value().len());
                }
            }
            reached = number;
        }
    }

    /// Whether one of the oldest records of the audit log was written before a moment; looks at so many.
    pub fn audit_has_aged(&self, before: Timestamp, now: Timestamp, limit: usize) -> Result<bool, ReadError> {
        Ok(audit::aged(&self.audit, before, now, limit)?.is_some())
    }

    /// Looks for the first event, from a place on, that retention would change. Looks at so many deliveries, an event without any
    /// counted as one.
    pub fn first_aged(&self, from: Seq, limit: usize, ages: Ages) -> Result<Aged, ReadError> {
        let mut looked_at = 0;
        for entry in self.events.range(from.0..)? {
            let (key, record) = entry?;
            let seq = Seq(key.value());
            if looked_at >= limit {
                return Ok(Aged { found: None, next: Some(seq) });
            }
            let Ok(head) = codec::decode_event_head(self.events.place(seq.0), record.value()) else {
                looked_at += 1;
                continue;
            };
            looked_at += head.targets.len().max(1);
            if ages.end_at(head.accepted) {
                break;
            }
            if self.has_aged(seq, &head, record.value(), ages)? {
                return Ok(Aged { found: Some(seq), next: None });
            }
        }
        Ok(Aged { found: None, next: None })
    }

    fn has_aged(&self, seq: Seq, head: &EventHead, record: &[u8], ages: Ages) -> Result<bool, ReadError> {
        let attempts = (seq.0, 0, 0)..=(seq.0, u32::MAX, u32::MAX);
        let touched = head.accepted < ages.events_before
            || (head.accepted < ages.payloads_before && codec::keeps_body(record).unwrap_or(false))
            || (head.accepted < ages.attempts_before && self.attempts.range(attempts)?.next().is_some());
        if !touched {
            return Ok(false);
        }
        for target in &head.targets {
            let key = DeliveryKey { destination: target.destination, seq };
            if op::find_waiting_of(head, &self.events, &self.attempts, &self.due, key)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// When the oldest unfinished event was accepted, and which it is, given the first sequence of the block that holds it. Looks at the events of
    /// that block only. Where their deliveries are too many to look at, the answer is when the event that was reached was
    /// accepted: none before it is unfinished; which is, is not known then.
    pub fn oldest_unfinished(&self, block: Seq) -> Result<Option<(Timestamp, Option<EventId>)>, ReadError> {
        let begun_at = self.looked_at();
        for entry in self.events.range(block.0..block.0.saturating_add(BLOCK))? {
            self.look();
            let (key, record) = entry?;
            let seq = Seq(key.value());
            let Ok(head) = codec::decode_event_head(self.events.place(seq.0), record.value()) else { continue };
            for target in &head.targets {
                if self.looked_at() - begun_at >= LOOKED_AT_MAX {
                    return Ok(Some((head.accepted, None)));
                }
                self.look();
                let key = DeliveryKey { destination: target.destination, seq };
                if op::find_waiting_of(&head, &self.events, &self.attempts, &self.due, key)?.is_some() {
                    return Ok(Some((head.accepted, Some(EventId::new(head.epoch, seq)))));
                }
            }
        }
        Ok(None)
    }

    /// Checks that nothing is lost or counted twice: each destination's tally agrees with its due and ended rows, each due
    /// row has its event, and each event is found by all that it can be found by. What a damaged record would say is not asked for.
    /// Walks everything: for tests and for `doctor`.
    pub fn conservation(&self) -> Result<(), ReadError> {
        let mut waiting = std::collections::BTreeMap::<u32, u64>::new();
        let broken = |what: String| Err(ReadError::Storage(format!("conservation is broken: {what}")));
        for entry in self.due.range::<(u32, u64, u64)>(..)? {
            let (key, _) = entry?;
            let (destination, due, seq) = key.value();
            *waiting.entry(destination).or_default() += 1;
            let key = DeliveryKey { destination: DestinationNo(destination), seq: Seq(seq) };
            match op::find_waiting(&self.events, &self.attempts, &self.due, key)? {
                Some(row) if row.due.as_millis() == due => {}
                other => {
                    return broken(format!(
                        "the due row of {key:?} at {due} is not the one found by its id: {other:?}"
                    ));
                }
            }
        }
        for entry in self.ordered.range::<(u32, u64, u64)>(..)? {
            let (destination, place, seq) = entry?.0.value();
            let key = DeliveryKey { destination: DestinationNo(destination), seq: Seq(seq) };
            let row = op::find_waiting(&self.events, &self.attempts, &self.due, key)?;
            if row.is_none_or(|row| place != 0 && place != row.due.as_millis().max(1)) {
                return broken(format!("the place of {key:?} in order, {place}, is not that of its due row: {row:?}"));
            }
        }
        let mut tallied = std::collections::BTreeMap::new();
        for entry in self.tallies.range::<u32>(..)? {
            let (no, record) = entry?;
            let tally = codec::decode(self.tallies.place(no.value()), record.value());
            // A damaged one is counted anew at the next start.
            tallied.insert(
                no.value(),
                tally.as_ref().map_or(waiting.get(&no.value()).copied().unwrap_or(0), Tally::waiting),
            );
        }
        tallied.retain(|_, waiting| *waiting > 0);
        if tallied != waiting {
            return broken(format!("tallies say {tallied:?} wait, due rows say {waiting:?}"));
        }
        for entry in self.attempts.range::<(u64, u32, u32)>(..)? {
            let (key, record) = entry?;
            let (seq, destination, number) = key.value();
            let row = codec::decode(self.attempts.place(key.value()), record.value());
            let Ok(AttemptRow::Done(attempt)) = row else { continue };
            let chapter = chapters::places_of(&self.chapters, DestinationNo(destination), seq)?;
            let is_true = |fact: &Fact| self.facts.get((fact.number(), destination, chapter.start));
            if attempt.outcome == Outcome::Succeeded {
                if is_true(&Fact::SUCCEEDED)?.is_none() {
                    return broken(format!(
                        "no chapter knows that attempt {number} of {seq} to {destination} succeeded"
                    ));
                }
            } else if self.failures.get((destination, seq))?.is_none() {
                return broken(format!("attempt {number} of {seq} to {destination} is missing among the failures"));
            }
            if let Some(status) = attempt.status
                && is_true(&Fact::ended_with(status))?.or(is_true(&Fact::went_on_after(status))?).is_none()
            {
                return broken(format!("no chapter knows the status of attempt {number} of {seq} to {destination}"));
            }
        }
        for entry in self.facts.range::<(u16, u32, u64)>(..)? {
            let (fact, destination, start) = entry?.0.value();
            if start > 0 && self.chapters.get((destination, start))?.is_none() {
                return broken(format!("no chapter to {destination} begins at {start}, of which {fact} is to be true"));
            }
        }
        self.check_runs()
    }

    /// Checks that the lists of the runs name each event.
    pub(super) fn check_runs(&self) -> Result<(), ReadError> {
        let broken = |what: String| Err(ReadError::Storage(format!("conservation is broken: {what}")));
        let mut in_runs = 0;
        for run in self.runs.newest_first() {
            in_runs += self.check_run(&run)?;
        }
        let mut until_view = 0;
        for entry in self.events.range(..self.runs.end().0)? {
            let (seq, record) = entry?;
            // A damaged event may be in none, for a start cannot read where it belongs.
            until_view += usize::from(codec::decode_event_head(self.events.place(seq.value()), record.value()).is_ok());
        }
        if in_runs != until_view {
            return broken(format!("{until_view} events are there, {in_runs} of them in runs"));
        }
        Ok(())
    }

    /// Checks that the lists of a run name each of its events that can be read; answers how many there are.
    fn check_run(&self, run: &Stretch) -> Result<usize, ReadError> {
        let mut lists = HashMap::<Asked, Vec<Seq>>::new();
        let mut count = 0;
        for entry in self.event_rows(run.first(), run.end().min(self.runs.end()))? {
            let (place, record) = entry?;
            let seq = Seq(place.value());
            let Ok(head) = codec::decode_event_head(self.events.place(seq.0), record.value()) else { continue };
            count += 1;
            if !run.spans(&Time::at(head.accepted)).iter().any(|(from, until)| (*from..*until).contains(&seq)) {
                return Err(ReadError::Storage(format!("the times of its run leave out the event at {}", seq.0)));
            }
            if !dedup::leads_to(&self.runs, &self.segments, &head, seq)? {
                return Err(ReadError::Storage(format!("the id of the event at {} does not lead to it", seq.0)));
            }
            let mut asked: Vec<_> = head.targets.iter().map(|target| Asked::destination(target.destination)).collect();
            asked.push(Asked { tenant: Some(head.tenant.clone()), ..Asked::default() });
            let subscriptions: HashSet<_> = head.targets.iter().flat_map(|target| &target.subscriptions).collect();
            asked.extend(subscriptions.into_iter().map(|no| Asked { subscription: Some(*no), ..Asked::default() }));
            asked.push(Asked { kind: Some(TypePattern::One(head.kind)), ..Asked::default() });
            asked.extend(head.key.map(|key| Asked { key: Some(key.as_str().to_owned()), ..Asked::default() }));
            asked.into_iter().for_each(|asked| lists.entry(asked).or_default().push(seq));
        }
        for (asked, wanted) in lists {
            let Answer::These(named) = run.ask(&asked, &self.segments, || {})? else { continue };
            if let Some(missing) = wanted.iter().find(|seq| named.binary_search(seq).is_err()) {
                return Err(ReadError::Storage(format!(
                    "the event at {} is missing in the list of {}",
                    missing.0,
                    asked.what()
                )));
            }
        }
        Ok(count)
    }
}

/// Roughly what an event without its payload takes in memory: it is long when it has many targets.
fn head_bytes(head: &EventHead) -> usize {
    let target = |target: &Target| size_of::<Target>() + target.subscriptions.len() * size_of::<SubscriptionNo>();
    size_of::<EventHead>() + head.targets.iter().map(target).sum::<usize>()
}

/// Roughly what an attempt takes in memory.
fn kept_bytes(attempt: &Attempt) -> usize {
    let headers = attempt.request_headers.as_str().len() + attempt.response_headers.as_str().len();
    size_of::<Attempt>() + headers + attempt.response_body.len()
}

enum Walk {
    On,
    Stop,
}
