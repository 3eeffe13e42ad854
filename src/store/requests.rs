//! Requests that bear an `Idempotency-Key`: which have been begun, and how they were answered, for a day.
//!
//! A request is begun in one commit and answered in another, and between the two it is done. So there is a moment in which a crash
//! leaves it begun and nobody knows whether it was done: it is told apart from one that is under way by whoever keeps those that
//! are, in memory.
//!
//! So many are kept at most: beyond that the oldest make room, also before their day is over. A day of them is far below that, and
//! whoever floods the daemon with keys shortens their life and fills no disk.
//!
//! A row lies under a hash of who asked what with which key; a second one, in the order of time, lets what has aged be found
//! without a walk.

use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

use super::codec::{self, DecodeError};
use super::tables::Records;
use super::writer::{ApplyError, Batch, Op};

/// For how long a key stands for its first request.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many requests are kept, at most.
pub const KEPT_MAX: u64 = 100_000;

/// Who asked what with which key, as a hash.
pub type Scope = [u8; 32];

/// What was asked, as a hash.
pub type Fingerprint = [u8; 32];

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Its content type.
    pub content_type: Option<String>,
    /// Where what was made is.
    pub location: Option<String>,
    /// Its body; none where that was too large to be kept.
    pub body: Option<Vec<u8>>,
}

/// A request, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RequestRow {
    pub(super) begun: Timestamp,
    pub(super) fingerprint: Fingerprint,
    pub(super) answer: Option<KeptAnswer>,
}

/// Begins a request, unless its key stands for one already.
pub struct BeginRequest {
    /// Who asks what with which key.
    pub scope: Scope,
    /// What is asked.
    pub fingerprint: Fingerprint,
    /// How many are kept with it, at most: [`KEPT_MAX`].
    pub kept_max: u64,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// This request, from now on.
    New,
    /// The same request, and its answer.
    Answered(KeptAnswer),
    /// The same request, of which no answer is known.
    Unanswered,
    /// Another request.
    Other,
}

/// Requests that one new one makes room by forgetting, at most.
const MAKE_ROOM_MAX: usize = 16;

impl Op for BeginRequest {
    type Answer = Begun;

    fn bytes(&self) -> usize {
        256
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Begun, ApplyError> {
        let row = match find(batch, &self.scope)? {
            // Whether it was done, and what it was, is not known any more.
            Some(Err(_)) => return Ok(Begun::Unanswered),
            Some(Ok(row)) => Some(row),
            None => None,
        };
        if let Some(row) = row {
            let is_kept = batch.now.since(row.begun) < KEPT_FOR;
            if is_kept {
                let begun = match &row {
                    RequestRow { fingerprint, .. } if *fingerprint != self.fingerprint => Begun::Other,
                    RequestRow { answer: Some(answer), .. } => Begun::Answered(answer.clone()),
                    RequestRow { answer: None, .. } => Begun::Unanswered,
                };
                return Ok(begun);
            }
            remove(batch, &self.scope, row.begun)?;
        }
        let over = (batch.requests()?.len()? + 1).saturating_sub(self.kept_max);
        let over = usize::try_from(over).unwrap_or(usize::MAX).min(MAKE_ROOM_MAX);
        let oldest = aged(&batch.request_times()?, Timestamp::MAX, over)?;
        for (begun, scope) in &oldest {
            remove(batch, scope, *begun)?;
        }
        let row = RequestRow { begun: batch.now, fingerprint: self.fingerprint, answer: None };
        put(batch, &self.scope, &row)?;
        Ok(Begun::New)
    }
}

/// Keeps how a request was answered, or forgets the request, for it changed nothing.
pub struct EndRequest {
    /// Who asked what with which key.
    pub scope: Scope,
    /// The answer, where it is to be kept.
    pub answer: Option<KeptAnswer>,
}

impl Op for EndRequest {
    type Answer = ();

    fn bytes(&self) -> usize {
        256 + self.answer.as_ref().and_then(|answer| answer.body.as_ref()).map_or(0, Vec::len)
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        // What is damaged stays so until its day has passed.
        let Some(Ok(row)) = find(batch, &self.scope)? else { return Ok(()) };
        match self.answer {
            Some(answer) => put(batch, &self.scope, &RequestRow { answer: Some(answer), ..row }),
            None => remove(batch, &self.scope, row.begun),
        }
    }
}

/// Forgets requests that were begun before a moment, the oldest first, a slice at a time.
pub struct DropRequests {
    /// Which moment.
    pub before: Timestamp,
    /// How many at most.
    pub limit: usize,
}

impl Op for DropRequests {
    /// How many were forgotten; fewer than the limit means none is left.
    type Answer = usize;

    fn bytes(&self) -> usize {
        self.limit * 64
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<usize, ApplyError> {
        let aged = aged(&batch.request_times()?, self.before, self.limit)?;
        for (begun, scope) in &aged {
            remove(batch, scope, *begun)?;
        }
        Ok(aged.len())
    }
}

/// The oldest requests that were begun before a moment; so many at most.
pub(super) fn aged(
    times: &impl Records<(u64, &'static [u8])>,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<(Timestamp, Scope)>, ApplyError> {
    let mut aged = Vec::new();
    for entry in times.range::<(u64, &[u8])>(..(before.as_millis(), &[][..]))?.take(limit) {
        let (place, _) = entry?;
        // Every row was written with a whole hash.
        let (begun, scope) = place.value();
        aged.extend(Scope::try_from(scope).ok().map(|scope| (Timestamp::from_millis(begun), scope)));
    }
    Ok(aged)
}

fn find(batch: &Batch<'_>, scope: &Scope) -> Result<Option<Result<RequestRow, DecodeError>>, ApplyError> {
    let rows = batch.requests()?;
    let record = rows.get(&scope[..])?;
    Ok(record.map(|record| codec::decode(rows.place(&scope[..]), record.value())))
}

fn remove(batch: &Batch<'_>, scope: &Scope, begun: Timestamp) -> Result<(), ApplyError> {
    batch.requests()?.remove(&scope[..])?;
    batch.request_times()?.remove((begun.as_millis(), &scope[..]))?;
    Ok(())
}

fn put(batch: &Batch<'_>, scope: &Scope, row: &RequestRow) -> Result<(), ApplyError> {
    batch.requests()?.put(&scope[..], row)?;
    batch.request_times()?.put((row.begun.as_millis(), &scope[..]), &())?;
    Ok(())
}

impl super::Snapshot {
    /// Whether requests were begun before a moment that are still kept.
    pub fn requests_have_aged(&self, before: Timestamp) -> Result<bool, super::ReadError> {
        Ok(!aged(&self.request_times, before, 1)?.is_empty())
    }
}

#[cfg(test)]
mod tests;
