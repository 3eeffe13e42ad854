//! The audit log on disk: what is done on somebody's behalf, and the record of it in the same transaction.
//!
//! An operation of that kind is no [`Op`] by itself, so the writer does not take it: only [`Audited`], which names the actor,
//! makes one of it. It either refuses or tells what it did; there is no third way.
//!
//! A record is found by what it says: a row without a value leads to it from each of its terms, and so that nobody looks at what
//! was written before or after the time that is asked for, each block of neighbours has bounds. Both are written and dropped
//! with the record. A clock may be set back, so that no order of times is taken for granted.

use redb::{ReadableTable, StorageError, TableError, WriteTransaction};

use crate::model::Timestamp;
use crate::model::audit::{Actor, Chain, Deed, Kept, Link, Record, Wanted};

use super::segments::Time;
use super::segments::pack::digest;
use super::tables::Records;
use super::writer::{ApplyError, Batch, Op};
use super::{codec, tables};

/// About what a record takes, beside what it shows of the thing itself.
const RECORD_BYTES: usize = 1024;
/// Records in a block that has bounds, for each level.
const BLOCKS: [(u8, u64); 2] = [(1, 1 << 16), (0, 1 << 8)];

/// Something that is done on somebody's behalf.
pub trait Steer: Send + 'static {
    /// What the caller learns, also when it was refused.
    type Answer: Send + 'static;

    /// About how many bytes it writes.
    fn bytes(&self) -> usize;

    /// Does it, within the transaction, and tells what it did.
    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError>;
}

/// What came of a [`Steer`].
#[derive(Debug)]
pub enum Effect<A> {
    /// It is done, and goes into the log, also when everything is as it was before: a record for each thing that it was done to.
    Done(A, Vec<Deed>),
    /// Nothing has changed.
    Refused(A),
}

/// An operation and on whose behalf it is done.
#[derive(Debug)]
pub struct Audited<S> {
    /// On whose.
    pub actor: Actor,
    /// What.
    pub op: S,
}

impl<S: Steer> Op for Audited<S> {
    type Answer = S::Answer;

    fn bytes(&self) -> usize {
        self.op.bytes() + RECORD_BYTES
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<S::Answer, ApplyError> {
        match self.op.steer(batch)? {
            Effect::Refused(answer) => Ok(answer),
            Effect::Done(answer, deeds) => {
                deeds.iter().try_for_each(|deed| note(batch, &self.actor, deed))?;
                Ok(answer)
            }
        }
    }
}

/// Writes the record of what was done.
pub(super) fn note(batch: &mut Batch<'_>, actor: &Actor, deed: &Deed) -> Result<(), ApplyError> {
    let now = batch.now;
    let chain = batch.chain_mut();
    let row = Kept { previous: chain.head.hash, text: deed.text(chain.head.number + 1, now, actor) };
    chain.head = chain.head.next(&row.text);
    let number = chain.head.number;
    batch.audit.put(number, &row)?;
    batch.audit_leads()?.add(number, &deed.terms(actor), now)?;
    Ok(())
}

/// What leads to records, as the writer sees it.
pub(super) struct Leads<'tx> {
    terms: redb::Table<'tx, (u64, u64), ()>,
    times: redb::Table<'tx, (u8, u64), (u64, u64)>,
}

impl<'tx> Leads<'tx> {
    pub(super) fn open(transaction: &'tx WriteTransaction) -> Result<Self, TableError> {
        let (terms, times) =
            (transaction.open_table(tables::AUDIT_TERMS)?, transaction.open_table(tables::AUDIT_TIMES)?);
        Ok(Leads { terms, times })
    }

    /// A record is new: what it can be found by, and when it was written.
    fn add(&mut self, number: u64, terms: &[String], at: Timestamp) -> Result<(), StorageError> {
        for term in terms {
            self.terms.insert((hash_of(term), number), ())?;
        }
        let at = at.as_millis();
        for (level, records) in BLOCKS {
            let block = (level, number / records);
            let known = self.times.get(block)?.map(|row| row.value());
            let (oldest, newest) = known.map_or((at, at), |(oldest, newest)| (oldest.min(at), newest.max(at)));
            if known != Some((oldest, newest)) {
                self.times.insert(block, (oldest, newest))?;
            }
        }
        Ok(())
    }

    /// The records up to this number, which can all be read, are about to be dropped.
    fn remove_until(&mut self, last: u64, rows: &impl Records<u64>) -> Result<(), ApplyError> {
        for entry in rows.range(..=last)? {
            let (number, record) = entry?;
            let kept = codec::decode::<Kept>(rows.place(number.value()), record.value());
            let Some(record) = kept.ok().and_then(|kept| Record::of(&kept.text).ok()) else { continue };
            for term in record.terms() {
                self.terms.remove((hash_of(&term), number.value()))?;
            }
        }
        for (level, records) in BLOCKS {
            self.times.retain_in((level, 0)..(level, (last + 1) / records), |_, _| false)?;
        }
        Ok(())
    }
}

/// What a term is found by.
pub(super) fn hash_of(term: &str) -> u64 {
    u64::from_be_bytes(*digest(&[b"audit", term.as_bytes()]).first_chunk().expect("a SHA-256 has 32 bytes"))
}

/// The way from record to record of those that are wanted, newest first.
pub(super) struct Trail {
    terms: Vec<u64>,
    time: Time,
    first: u64,
    /// The blocks that have been found to hold something of the time, for each level.
    within: [Option<u64>; BLOCKS.len()],
}

/// Where a [`Trail`] leads.
pub(super) enum Next {
    /// To this record, as far as anybody can tell without it.
    At(u64),
    /// To none after this number.
    Until(u64),
    /// To none at all.
    End,
}

impl Trail {
    pub(super) fn of(wanted: &Wanted) -> Self {
        let terms = wanted.terms().iter().map(|term| hash_of(term)).collect();
        let time = Time { from: wanted.from, to: wanted.to };
        Trail { terms, time, first: wanted.first, within: [None; BLOCKS.len()] }
    }

    /// The newest at or before a number. `looked_at` is told of each row that is read.
    pub(super) fn newest(
        &mut self,
        terms: &impl ReadableTable<(u64, u64), ()>,
        times: &impl ReadableTable<(u8, u64), (u64, u64)>,
        until: u64,
        looked_at: impl Fn(),
    ) -> Result<Next, StorageError> {
        for term in &self.terms {
            looked_at();
            let row = terms.range((*term, self.first)..=(*term, until.max(self.first)))?.next_back().transpose()?;
            match row.map(|(key, _)| key.value().1) {
                None => return Ok(Next::End),
                Some(number) if number < until => return Ok(Next::Until(number)),
                Some(_) => {}
            }
        }
        if self.time == Time::default() {
            return Ok(Next::At(until));
        }
        for ((level, records), within) in BLOCKS.into_iter().zip(&mut self.within) {
            let block = until / records;
            if *within == Some(block) {
                continue;
            }
            looked_at();
            let bounds = times.get((level, block))?.map(|row| row.value());
            let bounds =
                bounds.map(|(oldest, newest)| (Timestamp::from_millis(oldest), Timestamp::from_millis(newest)));
            if bounds.is_some_and(|bounds| !self.time.may_hold(bounds)) {
                let before = (block * records).checked_sub(1).filter(|before| *before >= self.first);
                return Ok(before.map_or(Next::End, Next::Until));
            }
            *within = Some(block);
        }
        Ok(Next::At(until))
    }
}

/// Whether what leads to records leads to this one.
pub(super) fn leads_to(
    terms: &impl ReadableTable<(u64, u64), ()>,
    times: &impl ReadableTable<(u8, u64), (u64, u64)>,
    record: &Record,
) -> Result<bool, StorageError> {
    for term in record.terms() {
        if terms.get((hash_of(&term), record.number))?.is_none() {
            return Ok(false);
        }
    }
    let Some(at) = record.at().map(Timestamp::as_millis) else { return Ok(true) };
    for (level, records) in BLOCKS {
        let bounds = times.get((level, record.number / records))?.map(|row| row.value());
        if !bounds.is_some_and(|(oldest, newest)| (oldest..=newest).contains(&at)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The last record, where that is not the chain's head.
pub(super) fn cut_at(rows: &impl Records<u64>, chain: Chain) -> Result<Option<u64>, StorageError> {
    let last = rows.last()?.map_or(chain.anchor.number, |(number, _)| number.value());
    Ok((last != chain.head.number).then_some(last))
}

/// Drops records that have passed their age, the oldest first, a slice at a time. The last one that is dropped stays known
/// as the anchor.
pub struct DropAged {
    /// Records written before this moment have passed their age.
    pub before: Timestamp,
    /// The present moment, as whoever set `before` knows it. What was written later is from a clock that was wrong.
    pub now: Timestamp,
    /// How many records to look at.
    pub limit: usize,
}

impl Op for DropAged {
    /// The anchor from now on.
    type Answer = Link;

    fn bytes(&self) -> usize {
        self.limit * 64
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Link, ApplyError> {
        let Some(anchor) = aged(&batch.audit, self.before, self.now, self.limit)? else {
            return Ok(batch.standing().audit.anchor);
        };
        batch.audit_leads()?.remove_until(anchor.number, &batch.audit)?;
        batch.audit.retain_in(..=anchor.number, |_, _| false)?;
        batch.chain_mut().anchor = anchor;
        Ok(anchor)
    }
}

/// The last of the oldest records that has passed its age; looks at so many.
///
/// A record of a later moment than the present one is from a clock that was wrong, and does not keep those behind it.
pub(super) fn aged(
    rows: &impl Records<u64>,
    before: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<Option<Link>, ApplyError> {
    let mut aged = None;
    for entry in rows.iter()?.take(limit) {
        let (number, record) = entry?;
        // What cannot be read is kept: somebody has to look at it.
        let Ok(Kept { previous, text }) = codec::decode(rows.place(number.value()), record.value()) else { break };
        let Some(at) = Record::of(&text).ok().and_then(|record| record.at()) else { break };
        if at < before {
            aged = Some(Link { number: number.value() - 1, hash: previous }.next(&text));
        } else if at <= now {
            break;
        }
    }
    Ok(aged)
}

#[cfg(test)]
mod tests;
