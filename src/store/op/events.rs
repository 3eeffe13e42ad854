//! Events: taken, sent as tests, erased.

use std::sync::Arc;

use serde_json::{Value, json};

use redb::ReadableTable;

use crate::model::audit::{Action, Deed};
use crate::model::event::{Body, EventHead, NewEvent, Target};
use crate::model::{DeliveryKey, DestinationId, Event, EventId, Seq, SubscriptionId, TenantId, Trigger};
use crate::store::audit::{Effect, Steer};
use crate::store::catalog::Routed;
use crate::store::codec::{Content, DecodeError};
use crate::store::record::{DueRow, Plan};
use crate::store::tables::Records;
use crate::store::writer::{ApplyError, Batch, Op};
use crate::store::{codec, dedup};

use super::deliveries::put_due;
use super::{done, refused};

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
pub(super) fn put_event(
    batch: &mut Batch<'_>,
    new: NewEvent,
    routed: Routed,
    trigger: Trigger,
) -> Result<Arc<Event>, ApplyError> {
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
pub(super) fn erase(batch: &mut Batch<'_>, seq: Seq, head: &EventHead) -> Result<(), ApplyError> {
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
pub(super) fn keeps_body(batch: &Batch<'_>, seq: Seq) -> Result<bool, ApplyError> {
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
pub(super) fn head(batch: &Batch<'_>, seq: Seq) -> Result<Option<Result<EventHead, DecodeError>>, ApplyError> {
    head_in(&batch.events, seq)
}

pub(super) fn head_in(
    events: &impl Records<u64>,
    seq: Seq,
) -> Result<Option<Result<EventHead, DecodeError>>, ApplyError> {
    let record = events.get(seq.0)?;
    Ok(record.map(|record| codec::decode_event_head(events.place(seq.0), record.value())))
}
