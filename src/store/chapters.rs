//! Chapters: what came of deliveries, so that whoever looks for what is rare passes over what is not it.
//!
//! The deliveries of a destination are divided into chapters of so many neighbours. A chapter has facts: what is true of one of
//! its deliveries at least, or was once. A fact is written with the first delivery that it is true of, so that it costs a row
//! without a value for a whole chapter, whatever becomes of the others, and however late. Facts only point: whoever follows one
//! looks at each delivery of the chapter, and finds one as a rule. No fact is missing, and a fact may be left over. Only where a
//! delivery's last attempt is damaged, so that it shows the status of the one before, nothing may point to that.
//!
//! A destination's first chapter has no row of its own: it begins at 0. Its last one stays as long as its number is known.
//! Any other goes with the run of events that it ends in, unless one of its deliveries is left; what then ends in no run is
//! sought at the next start.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use redb::{ReadableTable, StorageError, WriteTransaction};

use crate::model::{DeliveryKey, DestinationNo, Seq};

use super::codec;
use super::tables::{self, Records};

/// Deliveries in a chapter: what a fact leads to in vain at most, but for the one that it is true of. Where a damaged tally was
/// counted anew, one chapter may have nearly twice as many.
const DELIVERIES: usize = 64;
/// Of a run of so many events, whatever it holds, a chapter is one part: that is [`DELIVERIES`] of a run as long as a daemon's.
const PER_RUN: usize = 1024;
/// Chapters at hand of each destination: attempts that were begun together end in different ones.
const KNOWN_MAX: usize = 4;
/// Destinations whose chapters are at hand, at most.
const DESTINATIONS_KNOWN_MAX: usize = 4096;
/// Events of others that are looked at in a chapter's place before it is kept for them.
const OTHERS_MAX: usize = 64;
/// Chapters whose rows are removed at once, at most: those that follow each other go together.
const TOGETHER: usize = 16;
/// What a look counts for in a slice of the writer's work; see [`super::segments::seal`].
const LOOK_BYTES: usize = 64;
/// The same of the removal of a row that has no value.
const REMOVAL_BYTES: usize = 256;

/// Something that is true of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fact(u16);

impl Fact {
    /// An attempt of it has succeeded.
    pub(super) const SUCCEEDED: Fact = Fact(0);

    /// It ended, and its last attempt had a reply of this status.
    pub(super) fn ended_with(status: u16) -> Fact {
        Fact(status)
    }

    /// It went on waiting after an attempt that had a reply of this status.
    pub(super) fn went_on_after(status: u16) -> Fact {
        // A status has three digits.
        Fact(1000 + status % 1000)
    }

    /// As it stands in a row.
    pub(super) fn number(self) -> u16 {
        self.0
    }
}

/// A chapter that the writer has at hand: from its first place to before the next one's, and the facts that are written.
struct Chapter {
    places: Range<u64>,
    facts: Vec<Fact>,
}

/// The chapters that the writer has at hand, the last that were asked for.
pub(super) struct Known {
    length: u64,
    by_destination: HashMap<DestinationNo, VecDeque<Chapter>>,
    /// Every fact that has rows, and some that have none any more; read when chapters go for the first time.
    written: Option<BTreeSet<u16>>,
}

impl Known {
    /// None yet, for a store with runs of so many events.
    pub(super) fn new(run_events: usize) -> Self {
        let length = (run_events / PER_RUN).clamp(4, DELIVERIES) as u64;
        Known { length, by_destination: HashMap::new(), written: None }
    }
}

/// A walk over the chapters of every destination that end where no run is: retention took the events before a start, and the run
/// that they were in begins after them now, or their run went when one of their deliveries had not.
pub(super) struct Outside {
    places: Vec<Range<u64>>,
    no: DestinationNo,
    /// What is left of the places for this destination.
    left: Vec<Range<u64>>,
    /// The destinations that have not had their turn.
    from: Option<u32>,
}

impl Outside {
    /// `places` are those in no run, in ascending order.
    pub(super) fn new(places: Vec<Range<u64>>) -> Self {
        Outside { places, no: DestinationNo(0), left: Vec::new(), from: Some(0) }
    }
}

/// The rows of chapters and facts, as the writer sees them.
pub(super) struct Chapters<'tx> {
    starts: redb::Table<'tx, (u32, u64), ()>,
    facts: redb::Table<'tx, (u16, u32, u64), ()>,
    known: &'tx mut Known,
}

impl<'tx> Chapters<'tx> {
    pub(super) fn open(transaction: &'tx WriteTransaction, known: &'tx mut Known) -> Result<Self, redb::TableError> {
        let (starts, facts) = (transaction.open_table(tables::CHAPTERS)?, transaction.open_table(tables::FACTS)?);
        Ok(Chapters { starts, facts, known })
    }

    /// A destination that has had so many deliveries gets one more, here.
    pub(super) fn count(&mut self, key: DeliveryKey, before: u64) -> Result<(), StorageError> {
        if before == 0 || !before.is_multiple_of(self.known.length) {
            return Ok(());
        }
        self.starts.insert((key.destination.0, key.seq.0), ())?;
        let known = self.known.by_destination.get_mut(&key.destination);
        if let Some(open) = known.and_then(|known| known.iter_mut().find(|chapter| chapter.places.end == u64::MAX)) {
            open.places.end = key.seq.0;
        }
        Ok(())
    }

    /// Something is true of a delivery from now on.
    pub(super) fn note(&mut self, key: DeliveryKey, fact: Fact) -> Result<(), StorageError> {
        let (no, seq) = (key.destination, key.seq.0);
        if self.known.by_destination.len() >= DESTINATIONS_KNOWN_MAX && !self.known.by_destination.contains_key(&no) {
            self.known.by_destination.clear();
        }
        let known = self.known.by_destination.entry(no).or_default();
        let at_hand = known.iter().position(|chapter| chapter.places.contains(&seq));
        let chapter = match at_hand.and_then(|place| known.get_mut(place)) {
            Some(chapter) => chapter,
            None => {
                let places = places_of(&self.starts, no, seq)?;
                known.truncate(KNOWN_MAX - 1);
                known.push_front(Chapter { places, facts: Vec::new() });
                &mut known[0]
            }
        };
        if chapter.facts.contains(&fact) {
            return Ok(());
        }
        chapter.facts.push(fact);
        let row = (fact.0, no.0, chapter.places.start);
        if self.facts.get(row)?.is_none() {
            self.facts.insert(row, ())?;
            self.known.written.as_mut().map(|written| written.insert(fact.0));
        }
        Ok(())
    }

    /// Lets the chapters of a destination go that end between these places, unless one of their deliveries is still there. Passes
    /// over the places as far as the budget goes; whether over all of them. A destination's last chapter stays, as its tally does.
    pub(super) fn drop_within(
        &mut self,
        no: DestinationNo,
        within: &mut Range<u64>,
        events: &impl Records<u64>,
        budget: &mut usize,
    ) -> Result<bool, StorageError> {
        loop {
            let mut gone: Option<Range<u64>> = None;
            let mut is_done = false;
            for _ in 0..TOGETHER {
                let places = places_of(&self.starts, no, within.start)?;
                spend(budget, 2 * LOOK_BYTES);
                is_done = places.end > within.end;
                if is_done {
                    break;
                }
                within.start = places.end;
                if is_gone(no, &places, events, budget)? {
                    gone.get_or_insert(places.clone()).end = places.end;
                } else if gone.is_some() {
                    break;
                }
            }
            if let Some(places) = gone {
                self.remove(no, places, budget)?;
            }
            if is_done || *budget == 0 {
                return Ok(is_done);
            }
        }
    }

    /// The same of every destination, between the places of a walk; whether it has come to its end.
    pub(super) fn drop_outside(
        &mut self,
        outside: &mut Outside,
        events: &impl Records<u64>,
        budget: &mut usize,
    ) -> Result<bool, StorageError> {
        while *budget > 0 {
            while let Some(within) = outside.left.last_mut() {
                if !self.drop_within(outside.no, within, events, budget)? {
                    return Ok(false);
                }
                outside.left.pop();
            }
            spend(budget, 2 * LOOK_BYTES);
            let Some(from) = outside.from else { return Ok(true) };
            let Some((key, _)) = self.starts.range((from, 0)..)?.next().transpose()? else { return Ok(true) };
            let (no, second) = key.value();
            outside.no = DestinationNo(no);
            outside.from = no.checked_add(1);
            // Whether the facts of the first chapter have gone, which has no row, one seek for each would tell: they go with the
            // second.
            let third = end_of(&self.starts, outside.no, second)?;
            let is_asked = |places: &&Range<u64>| places.start >= second || places.end >= third;
            outside.left = outside.places.iter().filter(is_asked).cloned().collect();
        }
        Ok(false)
    }

    /// A destination is one that nobody knows any more, and none of its events is left: all of its chapters go, the last as well.
    pub(super) fn forget(&mut self, no: DestinationNo) -> Result<(), StorageError> {
        self.remove(no, 0..u64::MAX, &mut 0)
    }

    /// Removes the chapters of a destination that begin between these places, with their facts.
    fn remove(&mut self, no: DestinationNo, places: Range<u64>, budget: &mut usize) -> Result<(), StorageError> {
        let written = match &mut self.known.written {
            Some(written) => written,
            unread => unread.insert(every(&self.facts)?),
        };
        let mut removed = 0;
        for fact in written.iter() {
            let rows = (*fact, no.0, places.start)..(*fact, no.0, places.end);
            if self.facts.range(rows.clone())?.next().is_some() {
                self.facts.retain_in(rows, |_, ()| {
                    removed += 1;
                    false
                })?;
            }
        }
        self.starts.retain_in((no.0, places.start)..(no.0, places.end), |_, ()| {
            removed += 1;
            false
        })?;
        self.known.by_destination.remove(&no);
        spend(budget, written.len() * LOOK_BYTES + removed * REMOVAL_BYTES);
        Ok(())
    }
}

fn spend(budget: &mut usize, bytes: usize) {
    *budget = budget.saturating_sub(bytes);
}

/// Whether no delivery to a destination is left between these places. Where too many events are, nobody looks at them all.
fn is_gone(
    no: DestinationNo,
    places: &Range<u64>,
    events: &impl Records<u64>,
    budget: &mut usize,
) -> Result<bool, StorageError> {
    spend(budget, LOOK_BYTES);
    for (others, entry) in events.range(places.clone())?.enumerate() {
        let (seq, record) = entry?;
        spend(budget, LOOK_BYTES);
        let head = codec::decode_event_head(events.place(seq.value()), record.value());
        if others == OTHERS_MAX || head.map_or(true, |head| head.targets.iter().any(|target| target.destination == no))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The places of the chapter that a destination's delivery belongs to.
pub(super) fn places_of(
    starts: &impl ReadableTable<(u32, u64), ()>,
    no: DestinationNo,
    seq: u64,
) -> Result<Range<u64>, StorageError> {
    let start = starts.range((no.0, 0)..=(no.0, seq))?.next_back().transpose()?.map_or(0, |(key, _)| key.value().1);
    Ok(start..end_of(starts, no, start)?)
}

/// Where the chapter that begins at a place ends.
fn end_of(starts: &impl ReadableTable<(u32, u64), ()>, no: DestinationNo, start: u64) -> Result<u64, StorageError> {
    let next = starts.range((no.0, start.saturating_add(1))..=(no.0, u64::MAX))?.next().transpose()?;
    Ok(next.map_or(u64::MAX, |(key, _)| key.value().1))
}

/// The newest chapter of a destination, at or before a place, of which something is true; where it ends is one more look.
pub(super) fn newest_with(
    starts: &impl ReadableTable<(u32, u64), ()>,
    facts: &impl ReadableTable<(u16, u32, u64), ()>,
    (fact, no): (Fact, DestinationNo),
    until: Seq,
) -> Result<Option<Range<u64>>, StorageError> {
    let row = facts.range((fact.0, no.0, 0)..=(fact.0, no.0, until.0))?.next_back().transpose()?;
    let Some(start) = row.map(|(key, _)| key.value().2) else { return Ok(None) };
    Ok(Some(start..end_of(starts, no, start)?))
}

/// The destinations that something is true of, found by one seek each, so many of them. `looked_at` is told of each.
pub(super) fn destinations_with(
    facts: &impl ReadableTable<(u16, u32, u64), ()>,
    fact: Fact,
    limit: usize,
    looked_at: impl Fn(),
) -> Result<Vec<DestinationNo>, StorageError> {
    let nos = tables::leading(limit, |no| -> Result<_, StorageError> {
        looked_at();
        let row = facts.range((fact.0, no, 0)..=(fact.0, u32::MAX, u64::MAX))?.next().transpose()?;
        Ok(row.map(|(key, _)| key.value().1))
    })?;
    Ok(nos.into_iter().map(DestinationNo).collect())
}

/// Every fact that is true of anything, found by one seek each.
fn every(facts: &impl ReadableTable<(u16, u32, u64), ()>) -> Result<BTreeSet<u16>, StorageError> {
    let found = tables::leading(usize::MAX, |fact| -> Result<_, StorageError> {
        let Ok(fact) = u16::try_from(fact) else { return Ok(None) };
        let row = facts.range((fact, 0, 0)..)?.next().transpose()?;
        Ok(row.map(|(key, _)| u32::from(key.value().0)))
    })?;
    Ok(found.into_iter().filter_map(|fact| u16::try_from(fact).ok()).collect())
}
