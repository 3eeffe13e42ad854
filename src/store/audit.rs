//! The audit log on disk: what is done on somebody's behalf, and the record of it in the same transaction.
//!
//! An operation of that kind is no [`Op`] by itself, so the writer does not take it: only [`Audited`], which names the actor,
//! makes one of it. It either refuses or tells what it did; there is no third way.

use redb::{ReadableTable, StorageError};

use crate::model::Timestamp;
use crate::model::audit::{Actor, Chain, Deed, Kept, Link, Record};

use super::codec;
use super::tables::Records;
use super::writer::{ApplyError, Batch, Op};

/// About what a record takes, beside what it shows of the thing itself.
const RECORD_BYTES: usize = 1024;

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
pub(super) fn note(batch: &mut Batch<'_>, actor: &Actor, deed: &Deed) -> Result<(), StorageError> {
    let now = batch.now;
    let chain = batch.chain_mut();
    let row = Kept { previous: chain.head.hash, text: deed.text(chain.head.number + 1, now, actor) };
    chain.head = chain.head.next(&row.text);
    let number = chain.head.number;
    batch.audit.put(number, &row)?;
    Ok(())
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
