//! Lanes: paused, put in order, emptied.

use std::collections::HashSet;
use std::sync::Arc;

use redb::{ReadableTable, StorageError};
use serde_json::json;

use crate::model::audit::Action;
use crate::model::delivery::Ending;
use crate::model::{DeliveryKey, DestinationNo, Seq, Timestamp};
use crate::store::audit::{Effect, Steer};
use crate::store::bell::Change;
use crate::store::codec;
use crate::store::record::{DueRow, LaneHealth, Plan};
use crate::store::tables::{self, Records};
use crate::store::writer::{ApplyError, Batch, Op};

use super::deliveries::{end_waiting, find_waiting, last_attempt_in, plan_after};
use super::{done, refused};

/// An operator pauses or resumes a destination. A resume also opens a lane that is gone, shut or held: the operator says go.
pub struct SetPaused {
    /// Which.
    pub no: DestinationNo,
    /// Whether it is paused from now on.
    pub paused: bool,
}

impl Steer for SetPaused {
    /// Whether there is such a destination.
    type Answer = bool;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<bool>, ApplyError> {
        let Some(destination) = batch.catalog().destination(self.no).map(Arc::clone) else { return refused(false) };
        let lane = batch.lane_mut(self.no);
        let paused = |paused: bool| json!({"paused": paused});
        let changes = (paused(lane.paused), paused(self.paused));
        lane.paused = self.paused;
        if self.paused {
            batch.changes.push(Change::Lane(self.no));
        } else {
            open_anew(batch, self.no);
        }
        let action = if self.paused { Action::DestinationPause } else { Action::DestinationResume };
        done(true, action, Some(&destination.tenant), destination.id, changes)
    }
}

/// Forgets what was found out of a lane's receiver, also by attempts that are still under way.
pub(super) fn open_anew(batch: &mut Batch<'_>, no: DestinationNo) {
    let health = &mut batch.lane_mut(no).health;
    *health = LaneHealth::unknown(health.resumed.wrapping_add(1));
    batch.changes.push(Change::Opened(no));
}

/// Puts deliveries in order that waited for a destination when it became an ordered one, a slice at a time.
pub struct PutInOrder {
    /// Which destination's.
    pub no: DestinationNo,
    /// How many at most.
    pub limit: usize,
}

impl Op for PutInOrder {
    /// Whether all of them are in order now.
    type Answer = bool;

    fn bytes(&self) -> usize {
        self.limit * 32
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<bool, ApplyError> {
        put_in_order(batch, self.no, self.limit)
    }
}

/// Deliveries that are put in order in the very operation that makes their destination an ordered one. A slice does the rest.
pub(super) const IN_ORDER_AT_ONCE: usize = 500;

pub(super) fn put_in_order(batch: &mut Batch<'_>, no: DestinationNo, limit: usize) -> Result<bool, ApplyError> {
    let Some(from) = batch.standing().lane(no).ordering else { return Ok(true) };
    let is_ordered = batch.catalog().destination(no).is_some_and(|destination| destination.ordered);
    let rows =
        if is_ordered { due_rows(&batch.events, &batch.attempts, &batch.due, (no, from), limit)? } else { Vec::new() };
    for row in &rows {
        batch.put_in_order(row)?;
    }
    // Whatever comes to wait meanwhile has its place from the beginning, wherever the walk has come.
    let next = rows.last().filter(|_| rows.len() == limit).map(|last| (last.due, Seq(last.seq.0.saturating_add(1))));
    batch.lane_mut(no).ordering = next;
    if next.is_none() {
        batch.changes.push(Change::Lane(no));
    }
    Ok(next.is_none())
}

/// The destinations that have rows in the table of what is ordered, found by one seek each.
pub(in crate::store) fn lined(
    ordered: &impl ReadableTable<(u32, u64, u64), ()>,
) -> Result<HashSet<DestinationNo>, StorageError> {
    let nos = tables::leading(usize::MAX, |no| -> Result<_, StorageError> {
        let row = ordered.range((no, 0, 0)..)?.next().transpose()?;
        Ok(row.map(|(key, _)| key.value().0))
    })?;
    Ok(nos.into_iter().map(DestinationNo).collect())
}

/// The next deliveries of an ordered destination: the first in its line, and the first of those beside it.
pub(in crate::store) fn heads(
    events: &impl Records<u64>,
    attempts: &impl Records<(u64, u32, u32)>,
    due: &impl Records<(u32, u64, u64)>,
    ordered: &impl ReadableTable<(u32, u64, u64), ()>,
    no: DestinationNo,
) -> Result<Vec<DueRow>, ApplyError> {
    let mut heads = Vec::new();
    for (in_line, places) in [(true, 0..=0), (false, 1..=u64::MAX)] {
        for entry in ordered.range((no.0, *places.start(), 0)..=(no.0, *places.end(), u64::MAX))? {
            let (_, _, seq) = entry?.0.value();
            if let Some(row) = find_waiting(events, attempts, due, DeliveryKey { destination: no, seq: Seq(seq) })? {
                // Of a damaged row only its place is known.
                heads.push(DueRow { plan: Plan { in_line, ..row.plan }, ..row });
                break;
            }
        }
    }
    Ok(heads)
}

/// Cancels waiting deliveries of a deleted destination, a slice at a time.
pub struct Purge {
    /// Which.
    pub no: DestinationNo,
    /// How many deliveries at most.
    pub limit: usize,
}

impl Op for Purge {
    /// How many were cancelled; fewer than the limit means none is left.
    type Answer = usize;

    fn bytes(&self) -> usize {
        self.limit * 128
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<usize, ApplyError> {
        if batch.catalog().destination(self.no).is_some() {
            return Ok(0);
        }
        let lane = (self.no, (Timestamp::ZERO, Seq(0)));
        let rows = due_rows(&batch.events, &batch.attempts, &batch.due, lane, self.limit)?;
        for row in &rows {
            end_waiting(batch, row, Ending::DestinationDeleted)?;
        }
        Ok(rows.len())
    }
}

/// The first due rows of a lane from a place on.
pub(in crate::store) fn due_rows(
    events: &impl Records<u64>,
    attempts: &impl Records<(u64, u32, u32)>,
    rows: &impl Records<(u32, u64, u64)>,
    (no, (from, seq)): (DestinationNo, (Timestamp, Seq)),
    limit: usize,
) -> Result<Vec<DueRow>, ApplyError> {
    let lane = (no.0, from.as_millis(), seq.0)..=(no.0, u64::MAX, u64::MAX);
    rows.range(lane)?
        .take(limit)
        .map(|entry| {
            let (place, record) = entry?;
            let (_, due, seq) = place.value();
            let key = DeliveryKey { destination: no, seq: Seq(seq) };
            let plan = match codec::decode(rows.place(place.value()), record.value()) {
                Ok(plan) => plan,
                Err(_) => plan_after(last_attempt_in(attempts, key)?, events, key)?,
            };
            Ok(DueRow { destination: no, due: Timestamp::from_millis(due), seq: key.seq, plan })
        })
        .collect()
}
