//! What can be done to the store. Each operation is total: conditions are checked inside, and answered with a value.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, StorageError};
use serde_json::{Value, json};

use crate::model::audit::{self, Action, Actor, Deed};
use crate::model::delivery::{Ending, Phases};
use crate::model::event::{Body, EventHead, NewEvent, Target};
use crate::model::milestone;
use crate::model::{
    ApiKey, Attempt, Confirmation, DeliveryId, DeliveryKey, DeliveryState, Destination, DestinationId, DestinationNo,
    Event, EventId, EventType, Headers, KeyId, KnownType, Outcome, Reason, Seq, SigningKey, SigningKeyId,
    SigningKeyKind, Subscription, SubscriptionId, SubscriptionNo, Tenant, TenantId, Timestamp, Trigger,
};

use super::audit::{Effect, Steer, note};
use super::bell::Change;
use super::catalog::{Routed, TENANT_DEPTH_MAX};
use super::chapters::Fact;
use super::codec::{Content, DecodeError};
use super::record::{AttemptRow, DueRow, EndedRow, FormerTenant, LaneHealth, Plan, StartedRow, Tombstone};
use super::tables::Records;
use super::writer::{ApplyError, Batch, Op};
use super::{codec, commands, dedup, replays};

/// The keys under which things lie in their one table.
pub(super) mod kind {
    pub const TENANT: u8 = b't';
    pub const DESTINATION: u8 = b'd';
    pub const TOMBSTONE: u8 = b'x';
    pub const FORMER_TENANT: u8 = b'f';
    pub const SUBSCRIPTION: u8 = b's';
    pub const KEY: u8 = b'k';
    pub const SIGNING_KEY: u8 = b'g';
    pub const EVENT_TYPE: u8 = b'e';
    /// By tenant: the number of its last registration.
    pub const SERIAL: u8 = b'n';
    pub const USER: u8 = b'u';
}

/// Nothing has changed, and the answer says why.
pub(super) fn refused<A>(answer: A) -> Result<Effect<A>, ApplyError> {
    Ok(Effect::Refused(answer))
}

/// It is done: to a thing of a tenant's that was as `before` and is as `after`.
pub(super) fn done<A>(
    answer: A,
    action: Action,
    tenant: Option<&TenantId>,
    object: impl ToString,
    (before, after): (Value, Value),
) -> Result<Effect<A>, ApplyError> {
    Ok(Effect::Done(answer, vec![deed_of(action, tenant, object, (before, after))]))
}

/// The record of a thing of a tenant's that was as `before` and is as `after`.
fn deed_of(action: Action, tenant: Option<&TenantId>, object: impl ToString, (before, after): (Value, Value)) -> Deed {
    Deed { action, tenant: tenant.cloned(), object: Some(object.to_string()), before, after }
}

// ---------------------------------------------------------------------------------------------------------- events

/// Takes events: de-duplicates, numbers, routes, and makes their deliveries due. One commit for all of them.
pub struct Accept {
    /// What the producers handed in.
    pub events: Vec<NewEvent>,
    /// Deliveries that may wait on disk; above it events are refused.
    pub waiting_max: u64,
}

/// An event that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: EventId,
    /// Whether it was there already.
    pub duplicate: bool,
    /// How many deliveries it made.
    pub deliveries: usize,
}

/// Why an event was not taken. Nothing of it is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such tenant.
    UnknownTenant,
    /// Its type is not known, and types are strict.
    UnknownType,
    /// The producer's id was used for something else.
    IdConflict(EventId),
    /// `expires_at` has passed.
    Expired,
    /// Too many deliveries wait.
    QueueFull,
}

impl Op for Accept {
    type Answer = Vec<Result<Accepted, Refusal>>;

    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.body.len() + 512).sum()
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Self::Answer, ApplyError> {
        let waiting_max = self.waiting_max;
        self.events.into_iter().map(|event| accept(batch, event, waiting_max)).collect()
    }
}

fn accept(batch: &mut Batch<'_>, new: NewEvent, waiting_max: u64) -> Result<Result<Accepted, Refusal>, ApplyError> {
    if batch.catalog().tenant(&new.tenant).is_none() {
        return Ok(Err(Refusal::UnknownTenant));
    }
    match dedup::look_up(batch, &new)? {
        dedup::Verdict::New => {}
        dedup::Verdict::Same(seq) => {
            let head = head(batch, seq)?.and_then(Result::ok);
            let epoch = head.as_ref().map_or(batch.epoch, |head| head.epoch);
            let deliveries = head.map_or(0, |head| head.targets.len());
            return Ok(Ok(Accepted { id: EventId::new(epoch, seq), duplicate: true, deliveries }));
        }
        dedup::Verdict::Conflict(seq) => {
            let epoch = head(batch, seq)?.and_then(Result::ok).map_or(batch.epoch, |head| head.epoch);
            return Ok(Err(Refusal::IdConflict(EventId::new(epoch, seq))));
        }
    }
    if !batch.catalog().event_types().takes(&new.kind) {
        return Ok(Err(Refusal::UnknownType));
    }
    if new.expires_at.is_some_and(|expires_at| expires_at <= batch.now) {
        return Ok(Err(Refusal::Expired));
    }
    if batch.standing().waiting >= waiting_max {
        return Ok(Err(Refusal::QueueFull));
    }
    let routed = batch.catalog().route(&new.tenant, &new.kind, new.json());
    let event = put_event(batch, new, routed, Trigger::Schedule)?;
    Ok(Ok(Accepted { id: event.id(), duplicate: false, deliveries: event.head.targets.len() }))
}

/// Sends an event to chosen destinations as a test, as far as they are confirmed and not disabled (S2.52, S2.53).
pub struct SendTest {
    /// What is tested.
    pub tested: Tested,
    /// The event; no producer named it.
    pub event: NewEvent,
    /// Where it is to go.
    pub targets: Vec<Target>,
    /// Deliveries that may wait on disk; above it the test is refused.
    pub waiting_max: u64,
}

/// What a test is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tested {
    /// One destination.
    Destination(DestinationId),
    /// A subscription's destinations.
    Subscription(SubscriptionId),
}

impl Steer for SendTest {
    type Answer = Result<Accepted, Refusal>;

    fn bytes(&self) -> usize {
        self.event.body.len() + 512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let SendTest { tested, event, targets, waiting_max } = self;
        if batch.catalog().tenant(&event.tenant).is_none() {
            return refused(Err(Refusal::UnknownTenant));
        }
        if batch.standing().waiting >= waiting_max {
            return refused(Err(Refusal::QueueFull));
        }
        let routed = batch.catalog().route_test(targets);
        let event = put_event(batch, event, routed, Trigger::Test)?;
        let accepted = Accepted { id: event.id(), duplicate: false, deliveries: event.head.targets.len() };
        let (action, object) = match tested {
            Tested::Destination(id) => (Action::DestinationTest, id.to_string()),
            Tested::Subscription(id) => (Action::SubscriptionTest, id.to_string()),
        };
        let after = json!({"event": event.id().to_string(), "type": event.head.kind.as_str()});
        done(Ok(accepted), action, Some(&event.head.tenant), object, (Value::Null, after))
    }
}

/// Numbers an event, stores it and makes its deliveries due.
fn put_event(batch: &mut Batch<'_>, new: NewEvent, routed: Routed, trigger: Trigger) -> Result<Arc<Event>, ApplyError> {
    let seq = Seq(batch.numbers.next_seq);
    batch.numbers.next_seq += 1;
    let due = new.deliver_at.map_or(batch.now, |deliver_at| deliver_at.max(batch.now));
    let head = EventHead {
        epoch: batch.epoch,
        tenant: new.tenant,
        kind: new.kind,
        producer_id: new.producer_id,
        occurred: new.occurred.unwrap_or(batch.now),
        accepted: batch.now,
        due,
        key: new.key,
        traceparent: new.traceparent,
        expires_at: new.expires_at,
        source: new.source,
        peer: new.peer,
        content_type: new.content_type,
        cloud: new.cloud,
        targets: routed.targets,
        skipped: routed.skipped,
    };
    let event = Arc::new(Event { seq, head, body: Body::Kept(new.body) });
    batch.events.put_with(seq.0, |place| codec::encode_event(place, &event.head, &event.body))?;
    batch.note(seq, &event.head);
    for target in &event.head.targets {
        let tally = batch.tally_mut(target.destination);
        let before = tally.accepted;
        tally.accepted += 1;
        batch.chapters.count(DeliveryKey { destination: target.destination, seq }, before)?;
        batch.begin(seq);
        let plan = Plan { trigger, in_line: trigger == Trigger::Schedule && due <= batch.now, ..Plan::FIRST };
        put_due(batch, DueRow { destination: target.destination, due, seq, plan })?;
    }
    if !event.head.targets.is_empty() {
        batch.fresh.push(Arc::clone(&event));
    }
    Ok(event)
}

/// Erases the payload of one event. Deliveries of it that still wait are given up when their turn comes.
pub struct ErasePayload {
    /// Which event.
    pub seq: Seq,
}

/// What became of an [`ErasePayload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// It is erased.
    Done,
    /// There is no such event.
    Unknown,
    /// What the event says of itself is damaged, and with it everything that would remain.
    Damaged,
}

impl Steer for ErasePayload {
    type Answer = Erased;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Erased>, ApplyError> {
        let head = match head(batch, self.seq)? {
            None => return refused(Erased::Unknown),
            Some(Err(_)) => return refused(Erased::Damaged),
            Some(Ok(head)) => head,
        };
        let erased = |erased: bool| json!({"erased": erased});
        let kept = keeps_body(batch, self.seq)?;
        erase(batch, self.seq, &head)?;
        let id = EventId::new(head.epoch, self.seq);
        done(Erased::Done, Action::EventErasePayload, Some(&head.tenant), id, (erased(!kept), erased(true)))
    }
}

/// Erases the payload of an event that says this of itself.
fn erase(batch: &mut Batch<'_>, seq: Seq, head: &EventHead) -> Result<(), ApplyError> {
    let remains = {
        let Some(record) = batch.events.get(seq.0)? else { return Ok(()) };
        match codec::content(batch.events.place(seq.0), record.value()) {
            Ok(Content::Kept(body)) => dedup::remains(head, &body),
            Ok(Content::Erased(_)) => return Ok(()),
            // What cannot be read is erased all the same.
            Err(_) => None,
        }
    };
    batch.events.put_with(seq.0, |place| codec::encode_erased(place, head, remains))?;
    batch.erased.push(seq);
    Ok(())
}

/// Whether an event's payload is kept, as far as anybody can tell.
fn keeps_body(batch: &Batch<'_>, seq: Seq) -> Result<bool, ApplyError> {
    let record = batch.events.get(seq.0)?;
    Ok(record.is_some_and(|record| codec::keeps_body(record.value()).unwrap_or(false)))
}

/// Notes that somebody is about to be shown payloads.
pub struct NoteRead {
    /// Whose events.
    pub tenant: TenantId,
    /// Which of them, at least one.
    pub events: Vec<EventId>,
}

impl Steer for NoteRead {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.events.len() * 40
    }

    fn steer(self, _: &mut Batch<'_>) -> Result<Effect<()>, ApplyError> {
        let ids: Vec<_> = self.events.iter().map(EventId::to_string).collect();
        let (object, after) = match ids.as_slice() {
            [one] => (Some(one.clone()), Value::Null),
            several => (None, json!({"events": several})),
        };
        let (action, tenant) = (Action::EventReadPayload, Some(self.tenant));
        Ok(Effect::Done((), vec![Deed { action, tenant, object, before: Value::Null, after }]))
    }
}

/// What an event says of itself, if it is there; or that it is damaged.
fn head(batch: &Batch<'_>, seq: Seq) -> Result<Option<Result<EventHead, DecodeError>>, ApplyError> {
    head_in(&batch.events, seq)
}

fn head_in(events: &impl Records<u64>, seq: Seq) -> Result<Option<Result<EventHead, DecodeError>>, ApplyError> {
    let record = events.get(seq.0)?;
    Ok(record.map(|record| codec::decode_event_head(events.place(seq.0), record.value())))
}

// ------------------------------------------------------------------------------------------------------ deliveries

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
pub(super) const CUT_OFF_MAX: u32 = 8;
/// The wait after the second such attempt in a row; it doubles with each further one. After the first there is none.
const CUT_OFF_DELAY: Duration = Duration::from_secs(60);

/// Ends the attempts that were under way when the daemon ended: the first thing that a start does. They spend nothing of their
/// schedules, for the daemon's end is no failure of theirs.
pub(super) struct EndCutOff {
    /// Of a damaged row only the place is known: its delivery is due as if that attempt had not been.
    pub(super) attempts: Vec<(DeliveryKey, Option<StartedRow>)>,
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

fn cancel(batch: &mut Batch<'_>, row: &DueRow) -> Result<(), ApplyError> {
    if end_waiting(batch, row, Ending::Cancelled)? {
        batch.changes.push(Change::Gone(*row));
    }
    Ok(())
}

/// Ends a delivery that waits, without an attempt. Nothing changes when this is not the row that waits.
fn end_waiting(batch: &mut Batch<'_>, row: &DueRow, ending: Ending) -> Result<bool, ApplyError> {
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
        return Ok(Err(Steered::NotFrom(DeliveryState::Pending)));
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
pub(super) fn resend(
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

/// Brings deliveries forward that a clock that ran ahead made due too late; see [`super::Snapshot::set_ahead`].
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
pub(super) fn due_instead(
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

fn put_due(batch: &mut Batch<'_>, row: DueRow) -> Result<(), ApplyError> {
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
pub(super) fn end_of(
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

fn waiting_row(batch: &Batch<'_>, key: DeliveryKey) -> Result<Option<DueRow>, ApplyError> {
    find_waiting(&batch.events, &batch.attempts, &batch.due, key)
}

fn last_attempt(batch: &Batch<'_>, key: DeliveryKey) -> Result<Option<LastAttempt>, ApplyError> {
    last_attempt_in(&batch.attempts, key)
}

/// The last attempt of a delivery, or the plan of its next: its number, and its row where that can be read.
type LastAttempt = (u32, Result<AttemptRow, DecodeError>);

/// The key range of a delivery's attempts.
pub(super) fn attempts_of(key: DeliveryKey) -> RangeInclusive<(u64, u32, u32)> {
    (key.seq.0, key.destination.0, 0)..=(key.seq.0, key.destination.0, u32::MAX)
}

fn last_attempt_in(
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
pub(super) fn find_waiting(
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
pub(super) fn find_waiting_of(
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
fn plan_after(last: Option<LastAttempt>, events: &impl Records<u64>, key: DeliveryKey) -> Result<Plan, ApplyError> {
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

// ----------------------------------------------------------------------------------------------------------- lanes

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
fn open_anew(batch: &mut Batch<'_>, no: DestinationNo) {
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
const IN_ORDER_AT_ONCE: usize = 500;

fn put_in_order(batch: &mut Batch<'_>, no: DestinationNo, limit: usize) -> Result<bool, ApplyError> {
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
pub(super) fn lined(ordered: &impl ReadableTable<(u32, u64, u64), ()>) -> Result<HashSet<DestinationNo>, StorageError> {
    let mut found = HashSet::new();
    let mut from = Some(0);
    while let Some(no) = from
        && let Some(entry) = ordered.range((no, 0, 0)..)?.next()
    {
        let (no, _, _) = entry?.0.value();
        found.insert(DestinationNo(no));
        from = no.checked_add(1);
    }
    Ok(found)
}

/// The next deliveries of an ordered destination: the first in its line, and the first of those beside it.
pub(super) fn heads(
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
pub(super) fn due_rows(
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

// ------------------------------------------------------------------------------------------------------- retention

/// Removes what has passed its age, a slice at a time, in sequence order, skipping what is unfinished. A run of which no
/// event is left loses its lists.
pub struct Sweep {
    /// Where to begin.
    pub from: Seq,
    /// How many deliveries to look at, an event without any counted as one. At least one event is looked at, with all of its own.
    pub limit: usize,
    /// What has aged.
    pub ages: Ages,
}

/// From when on what has aged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Payloads of events accepted before this moment are erased.
    pub payloads_before: Timestamp,
    /// Attempts of events accepted before this moment are removed.
    pub attempts_before: Timestamp,
    /// Events accepted before this moment are removed whole.
    pub events_before: Timestamp,
    /// The present moment. What was accepted later is from a clock that was wrong, and says nothing of what follows it.
    pub now: Timestamp,
}

impl Ages {
    /// Nothing accepted at or after this moment has aged.
    pub(super) fn newest(&self) -> Timestamp {
        self.payloads_before.max(self.attempts_before).max(self.events_before)
    }

    /// Whether everything that follows an event accepted at this moment is too young as well.
    pub(super) fn end_at(&self, accepted: Timestamp) -> bool {
        accepted >= self.newest() && accepted <= self.now
    }
}

/// How far a [`Sweep`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Where the next slice begins; `None` when nothing older remains.
    pub next: Option<Seq>,
    /// Events that were removed or lost their payload.
    pub touched: usize,
}

impl Op for Sweep {
    type Answer = Swept;

    fn bytes(&self) -> usize {
        self.limit * 256
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Swept, ApplyError> {
        let newest = self.ages.newest();
        let (mut slice, mut deliveries) = (Vec::new(), 0);
        let (mut next, mut reached) = (None, Seq(u64::MAX));
        for entry in batch.events.range(self.from.0..)? {
            let (seq, record) = entry?;
            let seq = Seq(seq.value());
            // A damaged event stays where it is: nobody can tell its age, or what still waits of it.
            match codec::decode_event_head(batch.events.place(seq.0), record.value()) {
                Err(_) => deliveries += 1,
                Ok(head) if self.ages.end_at(head.accepted) => {
                    reached = seq;
                    break;
                }
                Ok(head) => {
                    deliveries += head.targets.len().max(1);
                    slice.push((seq, head, codec::keeps_body(record.value()).unwrap_or(false)));
                }
            }
            if deliveries >= self.limit {
                next = Some(Seq(seq.0 + 1));
                reached = Seq(seq.0 + 1);
                break;
            }
        }
        let mut touched = 0;
        for (seq, head, keeps_body) in slice {
            if head.accepted < newest && !is_unfinished(batch, seq, &head)? {
                touched += usize::from(self.age(batch, seq, &head, keeps_body)?);
            }
        }
        batch.drop_runs(reached, self.ages.events_before)?;
        Ok(Swept { next, touched })
    }
}

impl Sweep {
    fn age(&self, batch: &mut Batch<'_>, seq: Seq, head: &EventHead, keeps_body: bool) -> Result<bool, ApplyError> {
        let gone = head.accepted < self.ages.events_before;
        let mut touched = gone;
        if gone || head.accepted < self.ages.attempts_before {
            let rows = (seq.0, 0, 0)..=(seq.0, u32::MAX, u32::MAX);
            batch.attempts.retain_in(rows, |_, _| {
                touched = true;
                false
            })?;
        }
        if gone {
            for target in &head.targets {
                batch.ended.remove((target.destination.0, seq.0))?;
                batch.cancelled.remove((target.destination.0, seq.0))?;
                batch.failures.remove((target.destination.0, seq.0))?;
            }
            batch.events.remove(seq.0)?;
            batch.erased.push(seq);
        } else if keeps_body && head.accepted < self.ages.payloads_before {
            erase(batch, seq, head)?;
            touched = true;
        }
        Ok(touched)
    }
}

fn is_unfinished(batch: &Batch<'_>, seq: Seq, head: &EventHead) -> Result<bool, ApplyError> {
    for target in &head.targets {
        let key = DeliveryKey { destination: target.destination, seq };
        if find_waiting_of(head, &batch.events, &batch.attempts, &batch.due, key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

// --------------------------------------------------------------------------------------------------- configuration

/// Why a change to the configuration was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The id is taken.
    Exists,
    /// There is no such thing.
    Unknown,
    /// A tenant that is named does not exist.
    UnknownTenant,
    /// A destination that is named does not exist, or is another tenant's.
    UnknownDestination,
    /// It changed since the caller looked.
    Stale,
    /// The tenant's parents would form a ring, or nest too deep.
    TenantNesting,
    /// The tenant still owns things, or has children, or is the default tenant.
    TenantInUse,
    /// A deleted tenant had this id, and events of it may remain.
    TenantRemembered,
    /// A signing key that is named does not exist, or is another tenant's.
    UnknownSigningKey,
    /// The tenant has its one signature key already.
    SignatureKeyExists,
    /// The tenant has as many source keys as it may.
    TooManySigningKeys,
    /// The name or an alias is another event type's.
    SpellingTaken,
    /// A person has this login name.
    NameTaken,
    /// Nobody would be left who administers the whole installation.
    LastAdmin,
}

/// Creates a tenant; the writer gives its place in the audit log.
pub struct CreateTenant {
    /// The new tenant; its `audit_from` is ignored.
    pub tenant: Tenant,
}

impl Steer for CreateTenant {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        if batch.catalog().tenant(&self.tenant.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if let Err(rejected) = may_nest(batch, &self.tenant) {
            return refused(Err(rejected));
        }
        if !forget_former_tenant(batch, &self.tenant.id)? {
            return refused(Err(Rejected::TenantRemembered));
        }
        let (id, view) = (self.tenant.id.clone(), audit::tenant(&self.tenant));
        // The record of this very creation is the next one. What stands before it is of whoever had the id before.
        let audit_from = batch.standing().audit.head.number + 1;
        put_tenant(batch, Tenant { audit_from, ..self.tenant })?;
        done(Ok(()), Action::TenantCreate, Some(&id), &id, (Value::Null, view))
    }
}

/// Events that are looked at for one of a former tenant. Where more remain from its time, its id stays taken.
const FORMER_EVENTS_MAX: usize = 1000;

/// Frees the id of a deleted tenant, if nothing remains that whoever takes the id would see. Answers whether the id is free.
fn forget_former_tenant(batch: &mut Batch<'_>, id: &TenantId) -> Result<bool, ApplyError> {
    let place = (kind::FORMER_TENANT, id.as_str().as_bytes());
    let FormerTenant { until } = match batch.things.get(place)? {
        Some(record) => match codec::decode(batch.things.place(place), record.value()) {
            Ok(former) => former,
            // Until when its events reach is not known any more: the id stays taken.
            Err(_) => return Ok(false),
        },
        None => return Ok(true),
    };
    let mut buried = Vec::new();
    for tombstone in batch.catalog().tombstones().filter(|tombstone| tombstone.tenant == *id) {
        buried.push(tombstone.no);
    }
    for (looked_at, entry) in batch.events.range(..until.0)?.enumerate() {
        let (seq, record) = entry?;
        // A damaged event is nobody's that anybody sees.
        let head = codec::decode_event_head(batch.events.place(seq.value()), record.value()).ok();
        let is_seen = head.is_some_and(|head| {
            head.tenant == *id || head.targets.iter().any(|target| buried.contains(&target.destination))
        });
        if is_seen || looked_at + 1 >= FORMER_EVENTS_MAX {
            return Ok(false);
        }
    }
    for no in buried {
        batch.things.remove((kind::TOMBSTONE, no.0.to_be_bytes().as_slice()))?;
        batch.catalog_mut().unbury(no);
        *batch.tally_mut(no) = Default::default();
    }
    batch.things.remove(place)?;
    Ok(true)
}

/// Replaces a tenant's name and parent.
pub struct UpdateTenant {
    /// The tenant as it is to be; its `audit_from` is ignored and stays.
    pub tenant: Tenant,
}

impl Steer for UpdateTenant {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let present = batch.catalog().tenant(&self.tenant.id);
        let Some((before, audit_from)) = present.map(|present| (audit::tenant(present), present.audit_from)) else {
            return refused(Err(Rejected::Unknown));
        };
        if let Err(rejected) = may_nest(batch, &self.tenant) {
            return refused(Err(rejected));
        }
        let (id, after) = (self.tenant.id.clone(), audit::tenant(&self.tenant));
        put_tenant(batch, Tenant { audit_from, ..self.tenant })?;
        done(Ok(()), Action::TenantUpdate, Some(&id), &id, audit::changes(before, after))
    }
}

fn may_nest(batch: &Batch<'_>, tenant: &Tenant) -> Result<(), Rejected> {
    let Some(parent) = &tenant.parent else { return Ok(()) };
    if batch.catalog().tenant(parent).is_none() {
        return Err(Rejected::UnknownTenant);
    }
    let above: Vec<_> = batch.catalog().ancestors(parent).collect();
    let ring = *parent == tenant.id || above.contains(&&tenant.id);
    let height = below(batch, &tenant.id);
    if ring || above.len() + height + 2 > TENANT_DEPTH_MAX { Err(Rejected::TenantNesting) } else { Ok(()) }
}

/// How many levels of tenants lie below this one.
fn below(batch: &Batch<'_>, id: &TenantId) -> usize {
    let catalog = batch.catalog();
    catalog
        .tenants()
        .filter_map(|tenant| catalog.ancestors(&tenant.id).position(|above| above == id))
        .map(|place| place + 1)
        .max()
        .unwrap_or(0)
}

fn put_tenant(batch: &mut Batch<'_>, tenant: Tenant) -> Result<(), StorageError> {
    batch.things.put((kind::TENANT, tenant.id.as_str().as_bytes()), &tenant)?;
    batch.catalog_mut().put_tenant(tenant);
    Ok(())
}

/// Deletes a tenant that owns nothing. Its id stays taken while events of it may remain.
pub struct DeleteTenant {
    /// Which.
    pub id: TenantId,
}

impl Steer for DeleteTenant {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let catalog = batch.catalog();
        let Some(before) = catalog.tenant(&self.id).map(|tenant| audit::tenant(tenant)) else {
            return refused(Err(Rejected::Unknown));
        };
        let in_use = self.id == TenantId::default_tenant()
            || catalog.tenants().any(|tenant| tenant.parent.as_ref() == Some(&self.id))
            || catalog.destinations().any(|destination| destination.tenant == self.id)
            || catalog.subscriptions().any(|subscription| subscription.tenant == self.id)
            || catalog.keys().any(|key| key.tenant.as_ref() == Some(&self.id))
            || catalog.signing_keys().any(|key| key.tenant == self.id)
            || catalog.users().any(|user| user.tenant.as_ref() == Some(&self.id));
        if in_use {
            return refused(Err(Rejected::TenantInUse));
        }
        let name = self.id.as_str().as_bytes();
        let former = FormerTenant { until: Seq(batch.numbers.next_seq) };
        batch.things.remove((kind::TENANT, name))?;
        batch.things.put((kind::FORMER_TENANT, name), &former)?;
        batch.catalog_mut().remove_tenant(&self.id);
        replays::forget_tenant(batch, &self.id)?;
        commands::forget_tenant(batch, &self.id)?;
        batch.things.remove((kind::SERIAL, name))?;
        done(Ok(()), Action::TenantDelete, Some(&self.id), &self.id, (before, Value::Null))
    }
}

/// Creates a destination; the writer gives its number.
pub struct CreateDestination {
    /// The new destination; its `no` is ignored.
    pub destination: Destination,
}

impl Steer for CreateDestination {
    type Answer = Result<Arc<Destination>, Rejected>;

    fn bytes(&self) -> usize {
        1024
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let destination = self.destination;
        if batch.catalog().tenant(&destination.tenant).is_none() {
            return refused(Err(Rejected::UnknownTenant));
        }
        if batch.catalog().destination_no(destination.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if !may_sign(batch, &destination) {
            return refused(Err(Rejected::UnknownSigningKey));
        }
        let (stored, deed) = create_destination(batch, destination)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a new destination, under the next number.
pub(super) fn create_destination(
    batch: &mut Batch<'_>,
    mut destination: Destination,
) -> Result<(Arc<Destination>, Deed), StorageError> {
    destination.no = DestinationNo(batch.numbers.next_destination);
    batch.numbers.next_destination += 1;
    let stored = put_destination(batch, destination)?;
    let view = audit::destination(&stored, None);
    let deed = deed_of(Action::DestinationCreate, Some(&stored.tenant), stored.id, (Value::Null, view));
    Ok((stored, deed))
}

/// Replaces a destination, if it still is what the caller saw.
pub struct UpdateDestination {
    /// What the caller saw.
    pub before: Arc<Destination>,
    /// What it is to be; number, id and tenant stay.
    pub after: Destination,
    /// What this is in the audit log.
    pub action: Action,
}

impl Steer for UpdateDestination {
    type Answer = Result<Arc<Destination>, Rejected>;

    fn bytes(&self) -> usize {
        1024
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().destination(self.before.no) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        if !may_sign(batch, &self.after) {
            return refused(Err(Rejected::UnknownSigningKey));
        }
        let (stored, deed) = replace_destination(batch, &self.before, self.after, self.action)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a destination in the place of what it was.
pub(super) fn replace_destination(
    batch: &mut Batch<'_>,
    before: &Destination,
    after: Destination,
    action: Action,
) -> Result<(Arc<Destination>, Deed), ApplyError> {
    let moved = after.url != before.url;
    if after.asked != before.asked {
        withdraw(batch, before)?;
    }
    let stored = put_destination(batch, after)?;
    if moved {
        // What was found out is of the receiver at the old URL.
        open_anew(batch, stored.no);
    }
    if stored.ordered != before.ordered {
        batch.lane_mut(stored.no).ordering = stored.ordered.then_some((Timestamp::ZERO, Seq(0)));
        put_in_order(batch, stored.no, IN_ORDER_AT_ONCE)?;
    }
    let changes = audit::changes(audit::destination(before, None), audit::destination(&stored, Some(before)));
    let deed = deed_of(action, Some(&stored.tenant), stored.id, changes);
    Ok((stored, deed))
}

/// Asks a destination's receiver for its confirmation, in the place of whatever request still waits (decision D22). It also
/// opens a lane that is gone, shut or held, as a resume does; a paused one stays paused.
pub struct Ask {
    /// Which.
    pub no: DestinationNo,
    /// The request; it goes to this destination, whatever it says of where it goes.
    pub request: NewEvent,
}

impl Steer for Ask {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        2048
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(destination) = batch.catalog().destination(self.no).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        ask(batch, &destination, self.request)?;
        // The operator says go: a lane that is gone, shut or held would keep the request for as long.
        open_anew(batch, destination.no);
        let (tenant, id) = (destination.tenant.clone(), destination.id);
        done(Ok(()), Action::DestinationConfirm, Some(&tenant), id, (Value::Null, Value::Null))
    }
}

fn ask(batch: &mut Batch<'_>, destination: &Destination, request: NewEvent) -> Result<Arc<Destination>, ApplyError> {
    withdraw(batch, destination)?;
    let targets = vec![Target { destination: destination.no, subscriptions: Vec::new() }];
    let event = put_event(batch, request, Routed { targets, skipped: Vec::new() }, Trigger::Confirmation)?;
    Ok(put_destination(batch, Destination { asked: Some(event.seq), ..destination.clone() })?)
}

/// Ends the request for a confirmation that still waits, if there is one: at most one waits for a destination.
fn withdraw(batch: &mut Batch<'_>, destination: &Destination) -> Result<(), ApplyError> {
    let Some(seq) = destination.asked else { return Ok(()) };
    match waiting_row(batch, DeliveryKey { destination: destination.no, seq })? {
        Some(row) => cancel(batch, &row),
        None => Ok(()),
    }
}

/// A change of a destination, and the request for its confirmation that follows from it: both or neither.
pub struct AndAsk<S> {
    /// The change.
    pub change: S,
    /// The request, where one follows.
    pub request: Option<NewEvent>,
}

impl<S: Steer<Answer = Result<Arc<Destination>, Rejected>>> Steer for AndAsk<S> {
    type Answer = Result<Arc<Destination>, Rejected>;

    fn bytes(&self) -> usize {
        self.change.bytes() + 2048
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match (self.change.steer(batch)?, self.request) {
            (Effect::Done(Ok(destination), deeds), Some(request)) => {
                Ok(Effect::Done(Ok(ask(batch, &destination, request)?), deeds))
            }
            (effect, _) => Ok(effect),
        }
    }
}

/// Whether each signing key that a destination names is there, and its own tenant's.
fn may_sign(batch: &Batch<'_>, destination: &Destination) -> bool {
    batch.catalog().signatures_of(destination).is_ok()
}

fn put_destination(batch: &mut Batch<'_>, destination: Destination) -> Result<Arc<Destination>, StorageError> {
    let key = destination.no.0.to_be_bytes();
    batch.things.put((kind::DESTINATION, key.as_slice()), &destination)?;
    batch.changes.push(Change::Lane(destination.no));
    Ok(batch.catalog_mut().put_destination(destination))
}

/// Deletes a destination: it leaves its subscriptions at once, and a [`Purge`] cancels what still waits for it.
pub struct DeleteDestination {
    /// Which.
    pub no: DestinationNo,
}

impl Steer for DeleteDestination {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(destination) = batch.catalog().destination(self.no).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        let deeds = delete_destination(batch, &destination)?;
        Ok(Effect::Done(Ok(()), deeds))
    }
}

/// Deletes a destination. A subscription that was registered with it goes too: whoever registered the two knows them as one.
pub(super) fn delete_destination(batch: &mut Batch<'_>, destination: &Destination) -> Result<Vec<Deed>, ApplyError> {
    let no = destination.no;
    let naming: Vec<_> = batch
        .catalog()
        .subscriptions()
        .filter(|subscription| subscription.destinations.contains(&no))
        .map(|subscription| Subscription::clone(subscription))
        .collect();
    let mut before = audit::destination(destination, None);
    before["subscriptions"] = naming.iter().map(|subscription| subscription.id.to_string()).collect();
    let mut deeds = Vec::new();
    for mut subscription in naming {
        if subscription.registered.as_ref().is_some_and(|registered| registered.destination == no) {
            deeds.push(delete_subscription(batch, &subscription)?);
            continue;
        }
        subscription.destinations.retain(|other| *other != no);
        put_subscription(batch, subscription)?;
    }
    let Destination { id, tenant, name, .. } = destination;
    let tombstone = Tombstone { no, id: *id, tenant: tenant.clone(), name: name.clone(), deleted: batch.now };
    let key = no.0.to_be_bytes();
    batch.things.remove((kind::DESTINATION, key.as_slice()))?;
    batch.things.put((kind::TOMBSTONE, key.as_slice()), &tombstone)?;
    *batch.lane_mut(no) = Default::default();
    batch.catalog_mut().bury(tombstone);
    batch.changes.push(Change::Lane(no));
    deeds.push(deed_of(Action::DestinationDelete, Some(tenant), id, (before, Value::Null)));
    Ok(deeds)
}

/// Creates a subscription; the writer gives its number.
pub struct CreateSubscription {
    /// The new subscription; its `no` is ignored.
    pub subscription: Subscription,
}

impl Steer for CreateSubscription {
    type Answer = Result<Arc<Subscription>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let subscription = self.subscription;
        if batch.catalog().subscription_by_id(subscription.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if let Err(rejected) = may_subscribe(batch, &subscription) {
            return refused(Err(rejected));
        }
        let (stored, deed) = create_subscription(batch, subscription)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a new subscription, under the next number.
pub(super) fn create_subscription(
    batch: &mut Batch<'_>,
    mut subscription: Subscription,
) -> Result<(Arc<Subscription>, Deed), StorageError> {
    subscription.no = SubscriptionNo(batch.numbers.next_subscription);
    batch.numbers.next_subscription += 1;
    let stored = put_subscription(batch, subscription)?;
    let view = subscription_view(batch, &stored);
    let deed = deed_of(Action::SubscriptionCreate, Some(&stored.tenant), stored.id, (Value::Null, view));
    Ok((stored, deed))
}

/// Replaces a subscription, if it still is what the caller saw.
pub struct UpdateSubscription {
    /// What the caller saw.
    pub before: Arc<Subscription>,
    /// What it is to be; number and id stay.
    pub after: Subscription,
    /// What this is in the audit log.
    pub action: Action,
}

impl Steer for UpdateSubscription {
    type Answer = Result<Arc<Subscription>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().subscription(self.before.no) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        if let Err(rejected) = may_subscribe(batch, &self.after) {
            return refused(Err(rejected));
        }
        let (stored, deed) = replace_subscription(batch, &self.before, self.after, self.action)?;
        Ok(Effect::Done(Ok(stored), vec![deed]))
    }
}

/// Puts a subscription in the place of what it was. One that no longer links what it was registered with is as if it had been
/// made without a dialect.
pub(super) fn replace_subscription(
    batch: &mut Batch<'_>,
    before: &Subscription,
    mut after: Subscription,
    action: Action,
) -> Result<(Arc<Subscription>, Deed), StorageError> {
    let destinations = &after.destinations;
    after.registered.take_if(|registered| !destinations.contains(&registered.destination));
    let before = subscription_view(batch, before);
    let stored = put_subscription(batch, after)?;
    let changes = audit::changes(before, subscription_view(batch, &stored));
    let deed = deed_of(action, Some(&stored.tenant), stored.id, changes);
    Ok((stored, deed))
}

/// A subscription names destinations of its own tenant. What a tenant above wants of this one's events it takes by a
/// subscription of its own that rolls up: so nobody's list shows, or ends, what another tenant has set up.
fn may_subscribe(batch: &Batch<'_>, subscription: &Subscription) -> Result<(), Rejected> {
    let catalog = batch.catalog();
    if catalog.tenant(&subscription.tenant).is_none() {
        return Err(Rejected::UnknownTenant);
    }
    let is_own = |no| catalog.destination(no).is_some_and(|it| it.tenant == subscription.tenant);
    match subscription.destinations.iter().all(|no| is_own(*no)) {
        true => Ok(()),
        false => Err(Rejected::UnknownDestination),
    }
}

fn subscription_view(batch: &Batch<'_>, subscription: &Subscription) -> Value {
    audit::subscription(subscription, |no| batch.catalog().destination_id(no))
}

fn put_subscription(batch: &mut Batch<'_>, subscription: Subscription) -> Result<Arc<Subscription>, StorageError> {
    let key = subscription.no.0.to_be_bytes();
    batch.things.put((kind::SUBSCRIPTION, key.as_slice()), &subscription)?;
    Ok(batch.catalog_mut().put_subscription(subscription))
}

/// Deletes a subscription. Deliveries that it made stay.
pub struct DeleteSubscription {
    /// Which.
    pub id: SubscriptionId,
}

impl Steer for DeleteSubscription {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(stored) = batch.catalog().subscription_by_id(self.id).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        let deed = delete_subscription(batch, &stored)?;
        Ok(Effect::Done(Ok(()), vec![deed]))
    }
}

fn delete_subscription(batch: &mut Batch<'_>, subscription: &Subscription) -> Result<Deed, StorageError> {
    let (no, before) = (subscription.no, subscription_view(batch, subscription));
    batch.things.remove((kind::SUBSCRIPTION, no.0.to_be_bytes().as_slice()))?;
    batch.catalog_mut().remove_subscription(no);
    let (tenant, id) = (Some(&subscription.tenant), subscription.id);
    Ok(deed_of(Action::SubscriptionDelete, tenant, id, (before, Value::Null)))
}

/// Creates a key, or replaces one that is there.
pub struct PutKey {
    /// The key.
    pub key: ApiKey,
    /// Whether it must be there already. A change must never bring back a key that was deleted meanwhile.
    pub must_exist: bool,
}

impl Steer for PutKey {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let before = batch.catalog().key(self.key.id).map(|key| audit::key(key));
        if self.must_exist && before.is_none() {
            return refused(Err(Rejected::Unknown));
        }
        if let Some(tenant) = &self.key.tenant
            && batch.catalog().tenant(tenant).is_none()
        {
            return refused(Err(Rejected::UnknownTenant));
        }
        let (tenant, after) = (self.key.tenant.clone(), audit::key(&self.key));
        let (action, changes) = match before {
            Some(before) => (Action::KeyUpdate, audit::changes(before, after)),
            None => (Action::KeyCreate, (Value::Null, after)),
        };
        let place = self.key.id.to_string();
        batch.things.put((kind::KEY, place.as_bytes()), &self.key)?;
        batch.catalog_mut().put_key(self.key);
        done(Ok(()), action, tenant.as_ref(), place, changes)
    }
}

/// Deletes a key: it opens nothing from the commit on.
pub struct DeleteKey {
    /// Which.
    pub id: KeyId,
}

impl Steer for DeleteKey {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(key) = batch.catalog().key(self.id).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        batch.things.remove((kind::KEY, self.id.to_string().as_bytes()))?;
        batch.catalog_mut().remove_key(self.id);
        done(Ok(()), Action::KeyDelete, key.tenant.as_ref(), self.id, (audit::key(&key), Value::Null))
    }
}

/// Adds an event type to the catalogue.
pub struct CreateEventType {
    /// The type.
    pub known: KnownType,
}

impl Steer for CreateEventType {
    type Answer = Result<Arc<KnownType>, Rejected>;

    fn bytes(&self) -> usize {
        1024 + self.known.sample.as_ref().map_or(0, String::len)
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        // One of this name would be replaced.
        if batch.catalog().event_types().named(&self.known.name).is_some() {
            return refused(Err(Rejected::SpellingTaken));
        }
        let Some(known) = put_event_type(batch, self.known)? else { return refused(Err(Rejected::SpellingTaken)) };
        let view = audit::event_type(&known, None);
        let name = known.name.clone();
        done(Ok(known), Action::EventTypeCreate, None, name, (Value::Null, view))
    }
}

/// Replaces an event type that was added, if it still is what the caller saw.
pub struct UpdateEventType {
    /// What the caller saw.
    pub before: Arc<KnownType>,
    /// What it is to be; the name stays.
    pub after: KnownType,
}

impl Steer for UpdateEventType {
    type Answer = Result<Arc<KnownType>, Rejected>;

    fn bytes(&self) -> usize {
        1024 + self.after.sample.as_ref().map_or(0, String::len)
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().event_types().added(&self.before.name) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        let Some(known) = put_event_type(batch, self.after)? else { return refused(Err(Rejected::SpellingTaken)) };
        let before = audit::event_type(&self.before, None);
        let changes = audit::changes(before, audit::event_type(&known, Some(&self.before)));
        let name = known.name.clone();
        done(Ok(known), Action::EventTypeUpdate, None, name, changes)
    }
}

/// Nothing has changed when a spelling is another type's.
fn put_event_type(batch: &mut Batch<'_>, known: KnownType) -> Result<Option<Arc<KnownType>>, StorageError> {
    let Ok(known) = batch.catalog_mut().put_event_type(known) else { return Ok(None) };
    batch.things.put((kind::EVENT_TYPE, known.name.as_str().as_bytes()), &*known)?;
    Ok(Some(known))
}

/// Takes an event type that was added out of the catalogue. Events and subscriptions of it stay.
pub struct DeleteEventType {
    /// Which.
    pub name: EventType,
}

impl Steer for DeleteEventType {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        256
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(known) = batch.catalog().event_types().added(&self.name).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        batch.catalog_mut().remove_event_type(&known.name);
        batch.things.remove((kind::EVENT_TYPE, known.name.as_str().as_bytes()))?;
        done(Ok(()), Action::EventTypeDelete, None, &known.name, (audit::event_type(&known, None), Value::Null))
    }
}

/// Source keys that a tenant may have.
pub const SOURCE_KEYS_MAX: usize = 100;

/// Creates a signing key.
pub struct CreateSigningKey {
    /// The new key.
    pub key: SigningKey,
}

impl Steer for CreateSigningKey {
    type Answer = Result<Arc<SigningKey>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let key = self.key;
        let catalog = batch.catalog();
        if catalog.tenant(&key.tenant).is_none() {
            return refused(Err(Rejected::UnknownTenant));
        }
        if catalog.signing_key(key.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        let alike = catalog.signing_keys().filter(|other| other.tenant == key.tenant && other.kind == key.kind).count();
        match key.kind {
            SigningKeyKind::Signature if alike > 0 => return refused(Err(Rejected::SignatureKeyExists)),
            SigningKeyKind::Source if alike >= SOURCE_KEYS_MAX => return refused(Err(Rejected::TooManySigningKeys)),
            SigningKeyKind::Signature | SigningKeyKind::Source => {}
        }
        let stored = put_signing_key(batch, key)?;
        let (tenant, view) = (stored.tenant.clone(), audit::signing_key(&stored, None));
        let id = stored.id;
        done(Ok(stored), Action::SigningKeyCreate, Some(&tenant), id, (Value::Null, view))
    }
}

/// Replaces a signing key, if it still is what the caller saw. The destinations that name it sign with the new one from the
/// commit on.
pub struct UpdateSigningKey {
    /// What the caller saw.
    pub before: Arc<SigningKey>,
    /// What it is to be; id, tenant and kind stay.
    pub after: SigningKey,
    /// What this is in the audit log.
    pub action: Action,
}

impl Steer for UpdateSigningKey {
    type Answer = Result<Arc<SigningKey>, Rejected>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        match batch.catalog().signing_key(self.before.id) {
            None => return refused(Err(Rejected::Unknown)),
            Some(present) if **present != *self.before => return refused(Err(Rejected::Stale)),
            Some(_) => {}
        }
        let stored = put_signing_key(batch, self.after)?;
        let signed: Vec<_> = batch.catalog().signed_with(stored.id).map(|destination| destination.no).collect();
        batch.changes.extend(signed.into_iter().map(Change::Lane));
        let before = audit::signing_key(&self.before, None);
        let changes = audit::changes(before, audit::signing_key(&stored, Some(&self.before)));
        let (tenant, id) = (stored.tenant.clone(), stored.id);
        done(Ok(stored), self.action, Some(&tenant), id, changes)
    }
}

/// Notes that somebody is about to be shown a signing key's secret.
pub struct NoteReveal {
    /// Which key.
    pub id: SigningKeyId,
}

impl Steer for NoteReveal {
    /// The key as it is at the moment of the note.
    type Answer = Result<Arc<SigningKey>, Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(key) = batch.catalog().signing_key(self.id).map(Arc::clone) else {
            return refused(Err(Rejected::Unknown));
        };
        let (tenant, id) = (key.tenant.clone(), key.id);
        done(Ok(key), Action::SigningKeyReveal, Some(&tenant), id, (Value::Null, Value::Null))
    }
}

fn put_signing_key(batch: &mut Batch<'_>, key: SigningKey) -> Result<Arc<SigningKey>, StorageError> {
    let place = key.id.to_string();
    batch.things.put((kind::SIGNING_KEY, place.as_bytes()), &key)?;
    Ok(batch.catalog_mut().put_signing_key(key))
}

/// Deletes a signing key that no destination signs with.
pub struct DeleteSigningKey {
    /// Which.
    pub id: SigningKeyId,
}

/// Why a signing key was not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKeyKept {
    /// There is no such key.
    Unknown,
    /// These destinations sign with it.
    Signs(Vec<DestinationId>),
}

impl Steer for DeleteSigningKey {
    type Answer = Result<(), SigningKeyKept>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(key) = batch.catalog().signing_key(self.id).map(Arc::clone) else {
            return refused(Err(SigningKeyKept::Unknown));
        };
        let signed: Vec<_> = batch.catalog().signed_with(self.id).map(|destination| destination.id).collect();
        if !signed.is_empty() {
            return refused(Err(SigningKeyKept::Signs(signed)));
        }
        batch.things.remove((kind::SIGNING_KEY, self.id.to_string().as_bytes()))?;
        batch.catalog_mut().remove_signing_key(self.id);
        let before = audit::signing_key(&key, None);
        done(Ok(()), Action::SigningKeyDelete, Some(&key.tenant), self.id, (before, Value::Null))
    }
}
