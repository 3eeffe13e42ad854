//! Deliveries: begun, ended, steered, and found.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, StorageError};
use serde_json::json;

use crate::model::audit::{self, Action, Actor, Deed};
use crate::model::delivery::{Ending, Phases};
use crate::model::event::EventHead;
use crate::model::milestone;
use crate::model::{
    Attempt, Confirmation, DeliveryId, DeliveryKey, DeliveryState, Destination, DestinationNo, EventId, Headers,
    Outcome, Reason, Timestamp, Trigger,
};
use crate::store::audit::{Effect, Steer, note};
use crate::store::bell::Change;
use crate::store::chapters::Fact;
use crate::store::codec;
use crate::store::codec::DecodeError;
use crate::store::record::{AttemptRow, DueRow, EndedRow, LaneHealth, Plan, StartedRow};
use crate::store::tables::Records;
use crate::store::writer::{ApplyError, Batch, Op};

use super::destinations::put_destination;
use super::events::{head, head_in, keeps_body};
use super::{done, refused};

/// Notes that attempts are under way. If the daemon ends before they do, the next start finds the notes and ends the attempts
/// with an unknown outcome. For attempts that take their time: one that is over at once is not worth the write.
pub struct Start {
    /// The attempts.
    pub attempts: Vec<Started>,
}

/// An attempt that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The row that it was leased from.
    pub row: DueRow,
    /// When it began.
    pub at: Timestamp,
    /// How long it has run.
    pub ran: Duration,
}

impl Op for Start {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.attempts.len() * 64
    }

    fn lingers(&self) -> bool {
        true
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        for Started { row, at, ran } in self.attempts {
            if batch.events.get(row.seq.0)?.is_some() {
                batch.mark(row.key(), &StartedRow { due: row.due, plan: row.plan, started: at, ran })?;
            }
        }
        Ok(())
    }
}

/// Takes back what [`Start`] noted: nothing has been sent after all.
pub struct Unstart {
    /// Which delivery.
    pub key: DeliveryKey,
}

impl Op for Unstart {
    type Answer = ();

    fn bytes(&self) -> usize {
        64
    }

    fn lingers(&self) -> bool {
        true
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        batch.unmark(self.key)?;
        Ok(())
    }
}

/// Attempts of one delivery in a row that may end with the daemon's own end. A delivery that ends the daemon each time must
/// not keep it from all others for ever, so the last of these gives it up.
pub(in crate::store) const CUT_OFF_MAX: u32 = 8;
/// The wait after the second such attempt in a row; it doubles with each further one. After the first there is none.
const CUT_OFF_DELAY: Duration = Duration::from_secs(60);

/// Ends the attempts that were under way when the daemon ended: the first thing that a start does. They spend nothing of their
/// schedules, for the daemon's end is no failure of theirs.
pub(in crate::store) struct EndCutOff {
    /// Of a damaged row only the place is known: its delivery is due as if that attempt had not been.
    pub(in crate::store) attempts: Vec<(DeliveryKey, Option<StartedRow>)>,
}

impl Op for EndCutOff {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.attempts.len() * 512
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        for (key, started) in self.attempts {
            batch.unmark(key)?;
            if let Some(started) = started {
                end_cut_off(batch, key, started)?;
            }
        }
        Ok(())
    }
}

fn end_cut_off(batch: &mut Batch<'_>, key: DeliveryKey, started: StartedRow) -> Result<(), ApplyError> {
    let StartedRow { due, plan, started, ran } = started;
    let row = DueRow { destination: key.destination, due, seq: key.seq, plan };
    let cut_off = plan.cut_off + 1;
    let gives_up = cut_off >= CUT_OFF_MAX;
    let wait = match plan.cut_off.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => CUT_OFF_DELAY * (1 << doublings.min(CUT_OFF_MAX)),
    };
    let next = batch.now.after(wait);
    let attempt = Attempt {
        number: plan.number,
        due,
        started,
        duration: ran,
        trigger: plan.trigger,
        outcome: Outcome::Unknown,
        reason: Some(Reason::Interrupted),
        status: None,
        request_headers: Headers::default(),
        response_headers: Headers::default(),
        response_body: Vec::new(),
        error: Some("the daemon ended during the attempt; the receiver may have taken the event".to_owned()),
        address: None,
        phases: Phases::default(),
        reconnected: false,
        next: (!gives_up).then_some(next),
    };
    if !take_due(batch, &row)? {
        return finish_of_another_time(batch, row, attempt);
    }
    put_attempt(batch, key, plan.number, &AttemptRow::Done(Box::new(attempt)))?;
    if gives_up {
        tracing::error!(
            event = "delivery_cut_off",
            seq = key.seq.0,
            destination = key.destination.0,
            attempts = cut_off,
            "given up: the daemon ended during each of its last attempts"
        );
        return end(batch, key, Ending::Exhausted);
    }
    let plan = Plan { number: plan.number + 1, cut_off, ..plan };
    put_due(batch, DueRow { due: next, plan, ..row })
}

/// Records what became of an attempt, and in the same transaction what becomes of its delivery.
pub struct Finish {
    /// The row that the attempt was leased from.
    pub row: DueRow,
    /// What happened.
    pub attempt: Attempt,
    /// What it means.
    pub next: Next,
    /// What it told about the receiver, when that changed.
    pub health: Option<LaneHealth>,
}

/// What an attempt means for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Done.
    Succeeded,
    /// Another attempt at this moment.
    Retry(Timestamp),
    /// Another attempt at this moment; the one that ended was cut off by us, and does not count on the schedule.
    Again(Timestamp),
    /// Given up.
    GivenUp(Ending),
}

impl Op for Finish {
    type Answer = ();

    fn bytes(&self) -> usize {
        768
    }

    fn lingers(&self) -> bool {
        true
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        let Finish { row, attempt, next, health } = self;
        let key = row.key();
        batch.unmark(key)?;
        // Where the lane has been opened anew meanwhile, the outcome stands, but what it told of the receiver is old.
        if let Some(health) = health
            && batch.catalog().destination(row.destination).is_some()
            && batch.standing().lane(row.destination).health.resumed == health.resumed
        {
            batch.lane_mut(row.destination).health = health;
        }
        let (number, status) = (attempt.number, attempt.status);
        if take_due(batch, &row)? {
            put_attempt(batch, key, number, &AttemptRow::Done(Box::new(attempt)))?;
            batch.settled(key);
            note_status(batch, key, status, matches!(next, Next::Retry(_) | Next::Again(_)))?;
            match next {
                Next::Succeeded => {
                    batch.tally_mut(row.destination).succeeded += 1;
                    batch.finish(row.seq);
                    confirm(batch, &row)?;
                }
                Next::Retry(due) => {
                    let (tried, trigger) = (row.plan.tried + 1, row.plan.trigger.of_retry());
                    let plan = Plan { number: number + 1, tried, trigger, cut_off: 0, ..row.plan };
                    put_due(batch, DueRow { due, plan, ..row })?;
                }
                Next::Again(due) => {
                    put_due(batch, DueRow { due, plan: Plan { number: number + 1, cut_off: 0, ..row.plan }, ..row })?
                }
                Next::GivenUp(ending) => end(batch, key, ending)?,
            }
            return Ok(());
        }
        finish_of_another_time(batch, row, attempt)
    }
}

/// The same operation, which does not wait for others: somebody waits for its commit.
pub struct AtOnce<O>(pub O);

impl<O: Op> Op for AtOnce<O> {
    type Answer = O::Answer;

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<O::Answer, ApplyError> {
        self.0.apply(batch)
    }
}

/// The row was cancelled (and perhaps made due again) while its attempt was under way. The attempt did happen: it is
/// recorded, and a success counts.
fn finish_of_another_time(batch: &mut Batch<'_>, row: DueRow, mut attempt: Attempt) -> Result<(), ApplyError> {
    let key = row.key();
    attempt.next = None;
    let (number, status) = (attempt.number, attempt.status);
    if head(batch, row.seq)?.is_none() {
        batch.settled(key);
        return Ok(());
    }
    let succeeded = attempt.outcome == Outcome::Succeeded;
    let planned = waiting_row(batch, key)?;
    put_attempt(batch, key, number, &AttemptRow::Done(Box::new(attempt)))?;
    batch.settled(key);
    note_status(batch, key, status, planned.is_some())?;
    if succeeded {
        confirm(batch, &row)?;
    }
    if let Some(waiting) = planned {
        // Made due again meanwhile: the plan took this attempt's number, so it moves up by one.
        take_due(batch, &waiting)?;
        if waiting.plan.number > number {
            batch.attempts.remove((row.seq.0, row.destination.0, waiting.plan.number))?;
        }
        let plan = Plan { number: waiting.plan.number.max(number + 1), ..waiting.plan };
        put_attempt(batch, key, plan.number, &AttemptRow::Planned { due: waiting.due })?;
        put_due(batch, DueRow { plan, ..waiting })?;
    } else if succeeded && let Some(ended) = take_ended(batch, key)? {
        uncount(batch, key.destination, ended.ending.state());
        batch.tally_mut(key.destination).succeeded += 1;
    }
    Ok(())
}

/// A receiver has taken what was sent. If that was the request that its destination waits for, it has confirmed; the request
/// of before a change of the URL confirms nothing.
fn confirm(batch: &mut Batch<'_>, row: &DueRow) -> Result<(), ApplyError> {
    if row.plan.trigger != Trigger::Confirmation {
        return Ok(());
    }
    let Some(before) = batch.catalog().destination(row.destination).map(Arc::clone) else { return Ok(()) };
    if before.asked != Some(row.seq) || before.is_confirmed() {
        return Ok(());
    }
    let after =
        put_destination(batch, Destination { confirmation: Confirmation::Given, ..Destination::clone(&before) })?;
    let (tenant, object) = (Some(after.tenant.clone()), Some(after.id.to_string()));
    let changes = audit::changes(audit::destination(&before, None), audit::destination(&after, Some(&before)));
    let deed = Deed { action: Action::DestinationConfirmed, tenant, object, before: changes.0, after: changes.1 };
    note(batch, &Actor::SYSTEM, &deed)
}

/// Gives a delivery up without an attempt: its event has expired, or its payload is gone.
pub struct GiveUp {
    /// The row that was leased.
    pub row: DueRow,
    /// Why.
    pub ending: Ending,
}

impl Op for GiveUp {
    type Answer = ();

    fn bytes(&self) -> usize {
        128
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        batch.unmark(self.row.key())?;
        if end_waiting(batch, &self.row, self.ending)? {
            batch.settled(self.row.key());
            return Ok(());
        }
        batch.settled(self.row.key());
        // Cancelled and made due again meanwhile: the engine did not listen to that row while it held this one.
        if let Some(row) = waiting_row(batch, self.row.key())? {
            batch.changes.push(Change::Due(row));
        }
        Ok(())
    }
}

/// Ends a delivery that has not ended.
pub struct Cancel {
    /// Which.
    pub key: DeliveryKey,
}

/// Makes the next attempt of a delivery due now, on a fresh schedule (decision D26): of one that has ended, which becomes
/// pending again, and of one that waits for its retry.
pub struct Resend {
    /// Which.
    pub key: DeliveryKey,
    /// What makes it happen.
    pub trigger: Trigger,
}

/// What became of a [`Cancel`] or a [`Resend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// It is done.
    Done,
    /// There is no such delivery.
    Unknown,
    /// Its state does not allow it.
    NotFrom(DeliveryState),
    /// It is due, and no attempt has been made yet: there is nothing to send again.
    DueAlready,
    /// Its payload has been erased.
    Erased,
    /// Its destination has been deleted.
    NoDestination,
    /// Its event is damaged.
    Damaged,
}

impl Steer for Cancel {
    type Answer = Steered;

    fn bytes(&self) -> usize {
        128
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Steered>, ApplyError> {
        match state(batch, self.key)? {
            Trail::None => refused(Steered::Unknown),
            Trail::Damaged => refused(Steered::Damaged),
            Trail::Ended(state) => refused(Steered::NotFrom(state)),
            Trail::Waiting(row) => {
                cancel(batch, &row)?;
                steered(batch, self.key, Action::DeliveryCancel, (DeliveryState::Pending, DeliveryState::Cancelled))
            }
        }
    }
}

pub(super) fn cancel(batch: &mut Batch<'_>, row: &DueRow) -> Result<(), ApplyError> {
    if end_waiting(batch, row, Ending::Cancelled)? {
        batch.changes.push(Change::Gone(*row));
    }
    Ok(())
}

/// Ends a delivery that waits, without an attempt. Nothing changes when this is not the row that waits.
pub(super) fn end_waiting(batch: &mut Batch<'_>, row: &DueRow, ending: Ending) -> Result<bool, ApplyError> {
    let waits = take_due(batch, row)?;
    if waits {
        remove_plan(batch, row)?;
        if row.plan.number > 1
            && let Some((_, Ok(AttemptRow::Done(last)))) = last_attempt(batch, row.key())?
        {
            note_status(batch, row.key(), last.status, false)?;
        }
        end(batch, row.key(), ending)?;
    }
    Ok(waits)
}

impl Steer for Resend {
    type Answer = Steered;

    fn bytes(&self) -> usize {
        128
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Steered>, ApplyError> {
        let resent = match waiting_row(batch, self.key)? {
            Some(row) => hasten(batch, &row, self.trigger)?,
            None => resend(batch, self.key, self.trigger, |_| true)?,
        };
        match resent {
            Err(why) => refused(why),
            Ok(before) => steered(batch, self.key, Action::DeliveryResend, (before, DeliveryState::Pending)),
        }
    }
}

/// Brings the next attempt of a delivery that waits for a retry, or for its time, to now, on a fresh schedule. One that is
/// due already and has not been tried is on its way, so there is nothing to send again.
fn hasten(batch: &mut Batch<'_>, row: &DueRow, trigger: Trigger) -> Result<Result<DeliveryState, Steered>, ApplyError> {
    if row.due <= batch.now && row.plan.tried == 0 {
        return Ok(Err(Steered::DueAlready));
    }
    let trigger = match sendable(batch, row.key(), trigger)? {
        Ok(trigger) => trigger,
        Err(why) => return Ok(Err(why)),
    };
    take_due(batch, row)?;
    batch.changes.push(Change::Gone(*row));
    make_due(batch, row.key(), Plan { trigger, tried: 0, cut_off: 0, ..row.plan })?;
    Ok(Ok(DeliveryState::Pending))
}

/// What an attempt that is made due by hand is, or why there can be none.
fn sendable(batch: &Batch<'_>, key: DeliveryKey, trigger: Trigger) -> Result<Result<Trigger, Steered>, ApplyError> {
    let Some(destination) = batch.catalog().destination(key.destination) else {
        return Ok(Err(Steered::NoDestination));
    };
    // The request that a destination waits for stays one.
    let trigger = if destination.asked == Some(key.seq) { Trigger::Confirmation } else { trigger };
    if matches!(head(batch, key.seq)?, Some(Err(_))) {
        return Ok(Err(Steered::Damaged));
    }
    Ok(if keeps_body(batch, key.seq)? { Ok(trigger) } else { Err(Steered::Erased) })
}

/// Makes the next attempt of a delivery due now, on a fresh schedule.
fn make_due(batch: &mut Batch<'_>, key: DeliveryKey, plan: Plan) -> Result<(), ApplyError> {
    let due = batch.now;
    put_attempt(batch, key, plan.number, &AttemptRow::Planned { due })?;
    put_due(batch, DueRow { destination: key.destination, due, seq: key.seq, plan })
}

/// Makes a delivery pending again that ended in a state that is wanted. Answers that state, or why it was not done.
pub(in crate::store) fn resend(
    batch: &mut Batch<'_>,
    key: DeliveryKey,
    trigger: Trigger,
    wanted: impl Fn(DeliveryState) -> bool,
) -> Result<Result<DeliveryState, Steered>, ApplyError> {
    let before = match state(batch, key)? {
        Trail::None => return Ok(Err(Steered::Unknown)),
        Trail::Damaged => return Ok(Err(Steered::Damaged)),
        Trail::Waiting(_) => return Ok(Err(Steered::NotFrom(DeliveryState::Pending))),
        Trail::Ended(state) if !wanted(state) => return Ok(Err(Steered::NotFrom(state))),
        Trail::Ended(state) => state,
    };
    let trigger = match sendable(batch, key, trigger)? {
        Ok(trigger) => trigger,
        Err(why) => return Ok(Err(why)),
    };
    let number = last_attempt(batch, key)?.map_or(1, |(number, _)| number + 1);
    take_ended(batch, key)?;
    uncount(batch, key.destination, before);
    batch.begin(key.seq);
    make_due(batch, key, Plan { number, trigger, in_line: false, ..Plan::FIRST })?;
    Ok(Ok(before))
}

/// A delivery has been steered from one state to another. It is its destination's owner's.
fn steered(
    batch: &Batch<'_>,
    key: DeliveryKey,
    action: Action,
    (before, after): (DeliveryState, DeliveryState),
) -> Result<Effect<Steered>, ApplyError> {
    let epoch = head(batch, key.seq)?.and_then(Result::ok).map_or(batch.epoch, |head| head.epoch);
    let id = DeliveryId { event: EventId::new(epoch, key.seq), destination: key.destination };
    let state = |state: DeliveryState| json!({"state": state.as_str()});
    done(Steered::Done, action, batch.catalog().owner(key.destination), id, (state(before), state(after)))
}

/// Brings deliveries forward that a clock that ran ahead made due too late; see [`crate::store::Snapshot::set_ahead`].
pub struct BringForward {
    /// The rows, and when each is due instead.
    pub rows: Vec<(DueRow, Timestamp)>,
}

impl Op for BringForward {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.rows.len() * 512
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        for (row, due) in self.rows {
            // It may have been steered since.
            if due >= row.due || !take_due(batch, &row)? {
                continue;
            }
            batch.changes.push(Change::Gone(row));
            // A delivery is found by what its last attempt says, or its plan.
            match last_attempt(batch, row.key())? {
                Some((number, Ok(AttemptRow::Done(mut attempt)))) => {
                    attempt.next = Some(due);
                    put_attempt(batch, row.key(), number, &AttemptRow::Done(attempt))?;
                }
                Some((_, Ok(AttemptRow::Planned { .. }) | Err(_))) | None => {
                    put_attempt(batch, row.key(), row.plan.number, &AttemptRow::Planned { due })?;
                }
            }
            put_due(batch, DueRow { due, ..row })?;
        }
        Ok(())
    }
}

/// When a delivery is due whose row says a later moment than it can: `None` where the row may be right.
///
/// What came before tells: an attempt, an acceptance or a resend of the future was timed by a clock that ran ahead, and so was
/// what is due longer after its attempt than any schedule waits. The wait stays as long as it was, `longest` at most.
pub(in crate::store) fn due_instead(
    events: &impl Records<u64>,
    attempts: &impl Records<(u64, u32, u32)>,
    row: &DueRow,
    (now, slack, longest): (Timestamp, Duration, Duration),
) -> Result<Option<Timestamp>, ApplyError> {
    let is_ahead = |moment: Timestamp| moment > now.after(slack);
    Ok(match last_attempt_in(attempts, row.key())? {
        Some((_, Ok(AttemptRow::Done(attempt)))) => {
            let ended = attempt.started.after(attempt.duration);
            let wait = row.due.since(ended);
            (is_ahead(attempt.started) || wait > longest).then(|| now.after(wait.min(longest)))
        }
        Some((_, Ok(AttemptRow::Planned { due }))) => is_ahead(due).then_some(now),
        Some((_, Err(_))) => None,
        None => match head_in(events, row.seq)? {
            // A moment that the producer asked for stays that moment.
            Some(Ok(head)) => (is_ahead(head.accepted) && head.due == head.accepted).then_some(now),
            Some(Err(_)) | None => None,
        },
    })
}

pub(super) fn put_due(batch: &mut Batch<'_>, row: DueRow) -> Result<(), ApplyError> {
    let key = (row.destination.0, row.due.as_millis(), row.seq.0);
    batch.due.put(key, &row.plan)?;
    batch.put_in_order(&row)?;
    batch.changes.push(Change::Due(row));
    Ok(())
}

fn take_due(batch: &mut Batch<'_>, row: &DueRow) -> Result<bool, ApplyError> {
    let key = (row.destination.0, row.due.as_millis(), row.seq.0);
    let place = batch.due.place(key);
    let Some(record) = batch.due.remove(key)? else { return Ok(false) };
    // A cancelled and resent delivery may be due in the same millisecond: the plan tells the two rows apart. A damaged one
    // tells nothing, so that its place alone counts.
    let plan: Result<Plan, _> = codec::decode(place, record.value());
    drop(record);
    match plan {
        Ok(plan) if plan != row.plan => {
            batch.due.put(key, &plan)?;
            Ok(false)
        }
        Ok(_) | Err(_) => {
            batch.take_from_order(row)?;
            Ok(true)
        }
    }
}

fn put_attempt(batch: &mut Batch<'_>, key: DeliveryKey, number: u32, row: &AttemptRow) -> Result<(), StorageError> {
    batch.attempts.put((key.seq.0, key.destination.0, number), row)?;
    match row {
        AttemptRow::Done(attempt) => match attempt.outcome {
            Outcome::Succeeded => batch.chapters.note(key, Fact::SUCCEEDED),
            Outcome::Failed | Outcome::Unknown => note_failure(batch, key),
        },
        AttemptRow::Planned { .. } => Ok(()),
    }
}

/// The last attempt of a delivery had this status, if any: of one that waits for another attempt, or has ended.
fn note_status(
    batch: &mut Batch<'_>,
    key: DeliveryKey,
    status: Option<u16>,
    goes_on: bool,
) -> Result<(), StorageError> {
    match status {
        Some(status) if goes_on => batch.chapters.note(key, Fact::went_on_after(status)),
        Some(status) => batch.chapters.note(key, Fact::ended_with(status)),
        None => Ok(()),
    }
}

fn note_failure(batch: &mut Batch<'_>, key: DeliveryKey) -> Result<(), StorageError> {
    batch.failures.insert((key.destination.0, key.seq.0), ())?;
    Ok(())
}

/// The plan of an attempt that will not happen: only a resend leaves one.
fn remove_plan(batch: &mut Batch<'_>, row: &DueRow) -> Result<(), ApplyError> {
    let key = (row.seq.0, row.destination.0, row.plan.number);
    let planned = match batch.attempts.get(key)? {
        // No attempt has this number yet, so that a damaged row is a plan, too.
        Some(record) => {
            matches!(codec::decode(batch.attempts.place(key), record.value()), Ok(AttemptRow::Planned { .. }) | Err(_))
        }
        None => false,
    };
    if planned {
        batch.attempts.remove(key)?;
    }
    Ok(())
}

fn end(batch: &mut Batch<'_>, key: DeliveryKey, ending: Ending) -> Result<(), ApplyError> {
    let (place, row) = ((key.destination.0, key.seq.0), EndedRow { ending, at: batch.now });
    match ending.state() {
        DeliveryState::Failed => {
            batch.ended.put(place, &row)?;
            batch.tally_mut(key.destination).failed += 1;
            note_failure(batch, key)?;
        }
        DeliveryState::Cancelled => {
            batch.cancelled.put(place, &row)?;
            batch.tally_mut(key.destination).cancelled += 1;
        }
        DeliveryState::Pending | DeliveryState::Held | DeliveryState::Succeeded => {
            unreachable!("an ending is a failure or a cancellation")
        }
    }
    batch.finish(key.seq);
    Ok(())
}

fn take_ended(batch: &mut Batch<'_>, key: DeliveryKey) -> Result<Option<EndedRow>, ApplyError> {
    let ended = end_of(&batch.ended, &batch.cancelled, key, batch.now)?;
    if ended.is_some() {
        batch.ended.remove((key.destination.0, key.seq.0))?;
        batch.cancelled.remove((key.destination.0, key.seq.0))?;
    }
    Ok(ended)
}

/// How a delivery ended without success. Where that cannot be read, it is shown as of `at`.
pub(in crate::store) fn end_of(
    ended: &impl Records<(u32, u64)>,
    cancelled: &impl Records<(u32, u64)>,
    key: DeliveryKey,
    at: Timestamp,
) -> Result<Option<EndedRow>, ApplyError> {
    let place = (key.destination.0, key.seq.0);
    if let Some(record) = ended.get(place)? {
        return Ok(Some(codec::decode(ended.place(place), record.value()).unwrap_or(EndedRow::damaged(at))));
    }
    let record = cancelled.get(place)?;
    let known = |record: &[u8]| codec::decode(cancelled.place(place), record).unwrap_or(EndedRow::cancelled(at));
    Ok(record.map(|record| known(record.value())))
}

fn uncount(batch: &mut Batch<'_>, no: DestinationNo, state: DeliveryState) {
    let tally = batch.tally_mut(no);
    let counts = match state {
        DeliveryState::Succeeded => [&mut tally.succeeded, &mut tally.failed, &mut tally.cancelled],
        DeliveryState::Failed => [&mut tally.failed, &mut tally.cancelled, &mut tally.succeeded],
        DeliveryState::Cancelled => [&mut tally.cancelled, &mut tally.failed, &mut tally.succeeded],
        DeliveryState::Pending | DeliveryState::Held => return,
    };
    // A tally that was counted anew may have counted it as something else. It was counted once: the sum stays right.
    if let Some(count) = counts.into_iter().find(|count| **count > 0) {
        *count -= 1;
    }
}

/// Where a delivery stands, by its rows.
enum Trail {
    None,
    /// Its event is damaged, so that nobody knows whether it is one.
    Damaged,
    Waiting(DueRow),
    Ended(DeliveryState),
}

fn state(batch: &Batch<'_>, key: DeliveryKey) -> Result<Trail, ApplyError> {
    match head(batch, key.seq)? {
        Some(Err(_)) => return Ok(Trail::Damaged),
        Some(Ok(head)) if head.targets.iter().any(|target| target.destination == key.destination) => {}
        Some(Ok(_)) | None => return Ok(Trail::None),
    }
    if let Some(row) = waiting_row(batch, key)? {
        return Ok(Trail::Waiting(row));
    }
    let ended = end_of(&batch.ended, &batch.cancelled, key, batch.now)?;
    Ok(Trail::Ended(ended.map_or(DeliveryState::Succeeded, |ended| ended.ending.state())))
}

pub(super) fn waiting_row(batch: &Batch<'_>, key: DeliveryKey) -> Result<Option<DueRow>, ApplyError> {
    find_waiting(&batch.events, &batch.attempts, &batch.due, key)
}

fn last_attempt(batch: &Batch<'_>, key: DeliveryKey) -> Result<Option<LastAttempt>, ApplyError> {
    last_attempt_in(&batch.attempts, key)
}

/// The last attempt of a delivery, or the plan of its next: its number, and its row where that can be read.
type LastAttempt = (u32, Result<AttemptRow, DecodeError>);

/// The key range of a delivery's attempts.
pub(in crate::store) fn attempts_of(key: DeliveryKey) -> RangeInclusive<(u64, u32, u32)> {
    (key.seq.0, key.destination.0, 0)..=(key.seq.0, key.destination.0, u32::MAX)
}

pub(super) fn last_attempt_in(
    attempts: &impl Records<(u64, u32, u32)>,
    key: DeliveryKey,
) -> Result<Option<LastAttempt>, ApplyError> {
    match attempts.range(attempts_of(key))?.next_back() {
        Some(entry) => {
            let (place, record) = entry?;
            Ok(Some((place.value().2, codec::decode(attempts.place(place.value()), record.value()))))
        }
        None => Ok(None),
    }
}

/// The due row of a delivery: the last attempt, or before the first the event, holds its due time.
pub(in crate::store) fn find_waiting(
    events: &impl Records<u64>,
    attempts: &impl Records<(u64, u32, u32)>,
    due: &impl Records<(u32, u64, u64)>,
    key: DeliveryKey,
) -> Result<Option<DueRow>, ApplyError> {
    let first_due = || match head_in(events, key.seq)? {
        Some(Ok(head)) => Ok(Due::At(head.due)),
        Some(Err(_)) => Ok(Due::Unknown),
        None => Ok(Due::Never),
    };
    find_waiting_from(first_due, events, attempts, due, key)
}

/// The due row of a delivery of an event whose head is at hand: a head of many targets is not read again for each.
pub(in crate::store) fn find_waiting_of(
    head: &EventHead,
    events: &impl Records<u64>,
    attempts: &impl Records<(u64, u32, u32)>,
    due: &impl Records<(u32, u64, u64)>,
    key: DeliveryKey,
) -> Result<Option<DueRow>, ApplyError> {
    find_waiting_from(|| Ok(Due::At(head.due)), events, attempts, due, key)
}

/// When a delivery is due, as what came before says.
enum Due {
    At(Timestamp),
    /// It has ended.
    Never,
    /// What would say it is damaged.
    Unknown,
}

fn find_waiting_from(
    first_due: impl FnOnce() -> Result<Due, ApplyError>,
    events: &impl Records<u64>,
    attempts: &impl Records<(u64, u32, u32)>,
    due: &impl Records<(u32, u64, u64)>,
    key: DeliveryKey,
) -> Result<Option<DueRow>, ApplyError> {
    let last = last_attempt_in(attempts, key)?;
    let moment = match &last {
        Some((_, Ok(AttemptRow::Planned { due }))) => Due::At(*due),
        Some((_, Ok(AttemptRow::Done(attempt)))) => attempt.next.map_or(Due::Never, Due::At),
        Some((_, Err(_))) => Due::Unknown,
        None => first_due()?,
    };
    let place = match moment {
        Due::Never => return Ok(None),
        Due::At(moment) => (key.destination.0, moment.as_millis(), key.seq.0),
        Due::Unknown => match sought_in_lane(due, key)? {
            Some(place) => place,
            None => return Ok(None),
        },
    };
    let Some(record) = due.get(place)? else { return Ok(None) };
    let plan = match codec::decode(due.place(place), record.value()) {
        Ok(plan) => plan,
        Err(_) => plan_after(last, events, key)?,
    };
    Ok(Some(DueRow { destination: key.destination, due: Timestamp::from_millis(place.1), seq: key.seq, plan }))
}

/// The place of a delivery's due row, by a walk over its lane: for the one whose last attempt cannot be read.
fn sought_in_lane(
    due: &impl Records<(u32, u64, u64)>,
    key: DeliveryKey,
) -> Result<Option<(u32, u64, u64)>, ApplyError> {
    for entry in due.range((key.destination.0, 0, 0)..=(key.destination.0, u64::MAX, u64::MAX))? {
        let place = entry?.0.value();
        if place.2 == key.seq.0 {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The plan of a waiting delivery whose due row is damaged, made anew from what came before: its number follows the last
/// attempt's, and each attempt counts on its schedule. Where a resend had begun a fresh one, that is shorter by as many.
pub(super) fn plan_after(
    last: Option<LastAttempt>,
    events: &impl Records<u64>,
    key: DeliveryKey,
) -> Result<Plan, ApplyError> {
    let is_request = || -> Result<bool, ApplyError> {
        let head = head_in(events, key.seq)?.and_then(Result::ok);
        Ok(head.is_some_and(|head| head.kind.as_str() == milestone::CONFIRMATION))
    };
    let first =
        || -> Result<Trigger, ApplyError> { Ok(if is_request()? { Trigger::Confirmation } else { Trigger::Schedule }) };
    let plan = match last {
        None => Plan { trigger: first()?, ..Plan::FIRST },
        Some((number, Ok(AttemptRow::Planned { .. }))) => {
            let trigger = if is_request()? { Trigger::Confirmation } else { Trigger::Manual };
            Plan { number, trigger, in_line: false, ..Plan::FIRST }
        }
        Some((number, Ok(AttemptRow::Done(attempt)))) => {
            Plan { number: number + 1, tried: number, trigger: attempt.trigger.of_retry(), ..Plan::FIRST }
        }
        Some((number, Err(_))) => Plan { number: number + 1, tried: number, trigger: first()?, ..Plan::FIRST },
    };
    Ok(Plan { in_line: plan.in_line && plan.trigger == Trigger::Schedule, ..plan })
}
