//! The verbs: what the mouths (socket, HTTP, command line, dashboard) may ask for. It speaks to the store alone.
//!
//! Whoever calls has been let in already: a verb takes the tenant it acts for, and answers what lies outside it as unknown.
//! One that changes something takes the actor as well, and the store writes the record of it in the same transaction.

mod metrics;
pub mod people;
mod registrations;
pub mod pulse;
mod rotation;
mod samples;
mod signing_keys;
pub mod stats;
pub mod replays;
pub mod submission;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::{Clock, Stopwatch};
use crate::model::audit::{Action, Actor};
use crate::model::card::masked_text;
use crate::model::event::{NewEvent, Peer, Target};
use crate::model::event_type::Origin;
use crate::model::id::hex;
use crate::model::mask::PayloadMask;
use crate::model::schedule::Plan;
use crate::model::{
    ApiKey, Confirmation, ConfirmationMode, ConfirmationRequest, DeliveryId, DeliveryKey, DeliveryState, Destination,
    DestinationId, DestinationNo, Event, EventId, EventType, KeyId, KnownType, Retry, Role, RunId, Schedule, Secret,
    Subscription, SubscriptionId, Tenant, TenantId, Timestamp, Trigger, TypePattern, WaitingReason,
};
use crate::sign;
use crate::store::op::{self, Erased, Refusal, Rejected, Steered};
use crate::store::requests::{self, BeginRequest, EndRequest};
use crate::store::{Committed, ReadError, Store, StoreFailed, Tally, Ticket};

use pulse::{Course, Lately, Pulse, Span};

pub use metrics::Metrics;
pub use rotation::{Rotated, Rotation};
pub use signing_keys::NewSigningKey;

pub use crate::model::audit::{Chain, Kept, Link, Wanted};
pub use crate::store::op::Accepted;
pub use crate::store::requests::{Begun, Fingerprint, KeptAnswer, Scope as RequestScope};
pub use crate::store::{Catalog, DeliveriesWanted, Delivery, EventsWanted, Lane, Page, Place, Receipt, Window};

/// Destinations whose past is looked up with one call, at most.
const RECALLED_MAX: usize = 256;

/// What the service has to know.
#[derive(Clone)]
pub struct Settings {
    /// Deliveries that may wait on disk; above it events are refused as `queue_full`.
    pub pending_max: u64,
    /// The schedules that destinations may use, by name.
    pub schedules: HashMap<String, Schedule>,
    /// The schedule of destinations that name none.
    pub schedule: String,
    /// When receivers are asked for their confirmation.
    pub confirmation: ConfirmationSettings,
    /// What people are shown of a payload.
    pub mask: PayloadMask,
    /// For how long a person's proof of the second factor is fresh.
    pub proof_lasts: Duration,
    /// What the client says of a destination before it is saved: its URL's admission, its TLS options.
    pub policy: Arc<Policy>,
    /// Fills bytes with chance, for ids and secrets.
    pub chance: Arc<Chance>,
}

/// When receivers are asked for their confirmation (decisions D14, D22).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmationSettings {
    /// What confirms a destination.
    pub mode: ConfirmationMode,
    /// Whether a confirmation ends when its URL changes.
    pub reset_on_url_change: bool,
}

impl Default for ConfirmationSettings {
    fn default() -> Self {
        ConfirmationSettings { mode: ConfirmationMode::default(), reset_on_url_change: true }
    }
}

/// Fills bytes with chance.
pub type Chance = dyn Fn(&mut [u8]) + Send + Sync;

/// Whether deliveries to a destination could be made at all.
pub type Policy = dyn Fn(&Destination) -> Result<(), Error> + Send + Sync;

/// Why an event was not taken: the closed list of the ingest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Not JSON, or not an object.
    BadJson,
    /// A field that events do not have.
    UnknownField,
    /// A field with a value it cannot have.
    BadField,
    /// A line or a batch over its limit.
    TooLarge,
    /// No such tenant.
    UnknownTenant,
    /// Not in the catalogue, where types are strict.
    UnknownType,
    /// The peer may not emit for this tenant.
    NotAllowed,
    /// The producer's id was used for something else.
    IdConflict,
    /// `expires_at` has passed.
    Expired,
    /// Too many deliveries wait.
    QueueFull,
    /// The disk is nearly out of space, or of files.
    DiskLow,
    /// The daemon is stopping.
    Draining,
    /// The store has failed.
    StoreFailed,
}

impl Code {
    /// The code's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadJson => "bad_json",
            Code::UnknownField => "unknown_field",
            Code::BadField => "bad_field",
            Code::TooLarge => "too_large",
            Code::UnknownTenant => "unknown_tenant",
            Code::UnknownType => "unknown_type",
            Code::NotAllowed => "not_allowed",
            Code::IdConflict => "id_conflict",
            Code::Expired => "expired",
            Code::QueueFull => "queue_full",
            Code::DiskLow => "disk_low",
            Code::Draining => "draining",
            Code::StoreFailed => "store_failed",
        }
    }

    /// Whether the same event may be taken later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Code::QueueFull | Code::DiskLow | Code::Draining | Code::StoreFailed)
    }
}

/// Why an event was not taken, in a word and in words. Nothing of it is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// In a word.
    pub code: Code,
    /// In words, with what to do; without what it is about.
    pub why: String,
    /// What it is about, where that can be named.
    pub about: Option<About>,
}

/// What of a submission a rejection is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// All of it.
    Whole,
    /// The member of an event that has this name, as it was written but for card numbers.
    Member(String),
}

/// Characters of a member's name in a message at most.
const NAME_CHARS_MAX: usize = 64;

impl Rejection {
    /// A rejection.
    pub fn new(code: Code, why: impl Into<String>) -> Self {
        Rejection { code, why: why.into(), about: None }
    }

    /// A rejection for what the whole of what was handed in is.
    pub fn of_whole(code: Code, why: impl Into<String>) -> Self {
        Rejection { about: Some(About::Whole), ..Rejection::new(code, why) }
    }

    /// A rejection for what one member of the event is.
    pub fn of_member(code: Code, name: &str, why: impl std::fmt::Display) -> Self {
        Rejection { about: Some(About::Member(masked_text(name))), ..Rejection::new(code, why.to_string()) }
    }

    /// In words, with what to do; begins with the member's name, where it is about one, as far as it may be repeated.
    pub fn message(&self) -> String {
        let Rejection { code: _, why, about } = self;
        match about {
            None | Some(About::Whole) => why.clone(),
            Some(About::Member(name)) => {
                let name: String = name.chars().take(NAME_CHARS_MAX).collect();
                format!("{}: {why}", name.escape_debug())
            }
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownTenant => {
                Rejection::of_member(Code::UnknownTenant, "tenant", "there is none of this id; create it first")
            }
            Refusal::UnknownType => {
                let why =
                    "it is not in the catalogue (GET /v1/event-types), and types are strict (events.strict_types)";
                Rejection::of_member(Code::UnknownType, "type", why)
            }
            Refusal::IdConflict(id) => {
                let why = format!("{id} was accepted with this id and another type, key or data");
                Rejection::of_member(Code::IdConflict, "id", why)
            }
            Refusal::Expired => Rejection::of_member(Code::Expired, "expires_at", "has passed already"),
            Refusal::QueueFull => {
                Rejection::new(Code::QueueFull, "too many deliveries wait (ingest.pending_max); try again later")
            }
        }
    }
}

impl From<StoreFailed> for Rejection {
    fn from(failed: StoreFailed) -> Self {
        Rejection::new(Code::StoreFailed, failed.to_string())
    }
}

/// The result for one event.
pub type EventResult = Result<Accepted, Rejection>;

/// Events on their way to the disk.
#[must_use]
pub struct HandedIn {
    /// What was refused before the store, by place; the others are in the ticket, in order.
    refused: Vec<Option<Rejection>>,
    ticket: Option<Ticket<Vec<Result<Accepted, Refusal>>>>,
    metrics: Arc<Metrics>,
    watch: Stopwatch,
}

impl HandedIn {
    /// Waits for the commit, where one event was handed in.
    pub async fn result(self) -> EventResult {
        self.results().await.pop().unwrap_or_else(|| Err(Rejection::from(StoreFailed)))
    }

    /// Waits for the commit. Each event's result, in order: an acceptance is on stable storage.
    pub async fn results(self) -> Vec<EventResult> {
        let (metrics, watch) = (Arc::clone(&self.metrics), self.watch);
        let results = self.settled().await;
        let after = watch.elapsed();
        results.iter().for_each(|result| metrics.answered(result, after));
        results
    }

    async fn settled(self) -> Vec<EventResult> {
        let HandedIn { refused, ticket, .. } = self;
        let committed = match ticket {
            None => Ok(Vec::new()),
            Some(ticket) => ticket.committed().await.map(|Committed { answer, .. }| answer),
        };
        let mut answers = match committed {
            Ok(answers) => {
                answers.into_iter().map(|answer| answer.map_err(Rejection::from)).collect::<Vec<_>>().into_iter()
            }
            Err(failed) => {
                let failed = Rejection::from(failed);
                return refused.into_iter().map(|early| Err(early.unwrap_or_else(|| failed.clone()))).collect();
            }
        };
        let missing = || Err(Rejection::from(StoreFailed));
        refused.into_iter().map(|early| early.map_or_else(|| answers.next().unwrap_or_else(missing), Err)).collect()
    }
}

/// Why a verb was not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such thing, as far as the caller may know.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It cannot be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// A field has a value it cannot have.
    #[error("{pointer}: {detail}")]
    Invalid {
        /// Which field, as a JSON pointer into what the caller wrote.
        pointer: &'static str,
        /// What is wrong with it, and what would be right.
        detail: String,
    },
    /// The event type is not known, and types are strict.
    #[error("the event type is not in the catalogue (GET /v1/event-types), and types are strict (events.strict_types)")]
    UnknownType,
    /// Too much of it is under way; the same may be done a moment later.
    #[error("{0}")]
    Busy(&'static str),
    /// The store has failed, or cannot be read.
    #[error("{0}")]
    Store(String),
    /// What was asked for is damaged; everything else is as it was.
    #[error("{0}")]
    Damaged(String),
}

/// Why a destination was sent no test event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestError {
    /// It is not there, or is to be sent none as things stand.
    NotNow(Error),
    /// The event was not taken.
    Refused(Rejection),
}

impl From<Error> for TestError {
    fn from(error: Error) -> Self {
        TestError::NotNow(error)
    }
}

impl From<Rejection> for TestError {
    fn from(rejection: Rejection) -> Self {
        TestError::Refused(rejection)
    }
}

impl From<StoreFailed> for Error {
    fn from(failed: StoreFailed) -> Self {
        Error::Store(failed.to_string())
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(_) => Error::Damaged(error.to_string()),
            ReadError::Storage(_) | ReadError::Stopped => Error::Store(error.to_string()),
        }
    }
}

/// Which tenants' things a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Every tenant's.
    All,
    /// One tenant's.
    One(TenantId),
}

impl Sight {
    /// Whether a tenant's things are seen.
    pub fn takes(&self, tenant: &TenantId) -> bool {
        match self {
            Sight::All => true,
            Sight::One(one) => one == tenant,
        }
    }
}

/// A delivery as a caller sees it.
#[derive(Debug, Clone)]
pub struct SeenDelivery {
    /// Its name outside.
    pub id: DeliveryId,
    /// Where it goes; also of a deleted destination.
    pub destination: DestinationId,
    /// Everything that the store knows.
    pub delivery: Delivery,
    /// Its state, with held told apart from pending.
    pub state: DeliveryState,
    /// Why it waits.
    pub waiting: Option<WaitingReason>,
    /// The delivery that is to end before its turn comes, where it stands in the line of an ordered destination.
    pub waits_for: Option<DeliveryId>,
    /// When its next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
}

/// How things stand, for `GET /v1/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Events accepted, ever, over all tenants; they are not counted by tenant.
    pub events: Option<u64>,
    /// Deliveries made, ever.
    pub accepted: u64,
    /// Deliveries that will be tried.
    pub pending: u64,
    /// Deliveries whose lane is held.
    pub held: u64,
    /// Deliveries that ended with success.
    pub succeeded: u64,
    /// Deliveries that were given up.
    pub failed: u64,
    /// Of these, the ones whose destination was deleted: they cannot be sent again.
    pub failed_of_deleted: u64,
    /// Deliveries that an operator ended.
    pub cancelled: u64,
    /// How long ago the oldest event with an unfinished delivery was accepted, over all tenants.
    pub oldest_pending_seconds: Option<u64>,
    /// That event, where the look for it went so far.
    pub oldest_pending: Option<EventId>,
    /// Damaged records that have been met since the start, over all tenants.
    pub damaged_records: Option<u64>,
}

/// The verbs. Clones share the store.
#[derive(Clone)]
pub struct Service {
    settings: Settings,
    store: Store,
    clock: Clock,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    draining: Arc<AtomicBool>,
    disk_low: Arc<AtomicBool>,
    people: Arc<people::People>,
}

impl Service {
    /// The verbs over a store.
    pub fn new(settings: Settings, store: Store, clock: Clock) -> Self {
        let pulse = Arc::new(Pulse::new(clock.now()));
        Service {
            settings,
            store,
            clock,
            metrics: Arc::default(),
            pulse,
            draining: Arc::default(),
            disk_low: Arc::default(),
            people: Arc::default(),
        }
    }

    /// What attempts came to lately.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What attempts came to over a span, of the destinations in sight.
    pub fn course(&self, sight: &Sight, span: Span) -> Course {
        let now = self.clock.now();
        match sight {
            Sight::All => self.pulse.of_house(span, now),
            Sight::One(_) => self.pulse.of_destinations(|no| self.sees(sight, no), span, now),
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// From now on events are refused as `draining`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Says whether the disk is nearly full: events are refused as `disk_low` while it is.
    pub fn note_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Relaxed);
    }

    /// Why events are not taken at this moment, if they are not.
    pub fn refuses_events(&self) -> Option<Rejection> {
        if self.store.has_failed() {
            Some(StoreFailed.into())
        } else if self.draining.load(Ordering::Relaxed) {
            Some(Rejection::new(Code::Draining, "the daemon is stopping; try again when it is back"))
        } else if self.disk_low.load(Ordering::Relaxed) {
            Some(Rejection::new(
                Code::DiskLow,
                "the store's disk is nearly out of space (limits.disk_reserve) or of files; try again later",
            ))
        } else {
            None
        }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What people are shown of a payload.
    pub fn mask(&self) -> &PayloadMask {
        &self.settings.mask
    }

    /// Fills bytes with chance.
    pub fn chance(&self, bytes: &mut [u8]) {
        (self.settings.chance)(bytes);
    }

    fn chance_of<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.chance(&mut bytes);
        bytes
    }

    /// A fresh UUID of version 4.
    pub fn fresh_uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.chance_of()).into_uuid()
    }

    /// What is configured at this moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.store.catalog()
    }

    // ---------------------------------------------------------------------------------------------------- requests

    /// Begins a request with a key, unless the key stands for one already.
    pub async fn begin_request(&self, scope: RequestScope, fingerprint: Fingerprint) -> Result<Begun, Error> {
        Ok(self.store.submit(BeginRequest { scope, fingerprint, kept_max: requests::KEPT_MAX }).await?.answer)
    }

    /// Keeps the answer to a request with a key; without one forgets the request, which has changed nothing.
    pub async fn end_request(&self, scope: RequestScope, answer: Option<KeptAnswer>) -> Result<(), Error> {
        let _ = self.store.submit(EndRequest { scope, answer }).await?;
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------------ events

    /// Hands events to the writer: one commit for all of them. Waits while too much is on its way already.
    pub async fn hand_in(&self, events: Vec<Result<Box<NewEvent>, Rejection>>, peer: Option<Peer>) -> HandedIn {
        let watch = Stopwatch::start();
        let handed_in = |refused, ticket| HandedIn { refused, ticket, metrics: Arc::clone(&self.metrics), watch };
        let closed = self.refuses_events();
        let mut refused = Vec::with_capacity(events.len());
        let mut taken = Vec::with_capacity(events.len());
        for event in events {
            match (event, &closed) {
                (Err(rejection), _) => refused.push(Some(rejection)),
                (Ok(_), Some(rejection)) => refused.push(Some(rejection.clone())),
                (Ok(mut event), None) => {
                    event.peer = peer;
                    taken.push(*event);
                    refused.push(None);
                }
            }
        }
        if taken.is_empty() {
            return handed_in(refused, None);
        }
        match self.store.enqueue(op::Accept { events: taken, waiting_max: self.settings.pending_max }).await {
            Ok(ticket) => handed_in(refused, Some(ticket)),
            Err(failed) => {
                let rejection = Rejection::from(failed);
                let refused = refused.into_iter().map(|early| early.or_else(|| Some(rejection.clone()))).collect();
                handed_in(refused, None)
            }
        }
    }

    /// Sends a sample of what a subscription is about to those of its destinations that are confirmed and not disabled (S2.49).
    pub async fn test_subscription(
        &self,
        actor: &Actor,
        subscription: &Subscription,
    ) -> Result<(EventType, Accepted), Rejection> {
        let (kind, data) = samples::of_pattern(self.catalog().event_types(), &subscription.pattern);
        let target = |&destination: &DestinationNo| Target { destination, subscriptions: vec![subscription.no] };
        let targets = subscription.destinations.iter().map(target).collect();
        let event = NewEvent::new(subscription.tenant.clone(), kind, data);
        self.test(actor, op::Tested::Subscription(subscription.id), event, targets).await
    }

    /// Sends a test event to one destination: of this type, or of one that says that it is a test; with this data, or with a
    /// sample of that type. Whoever has not confirmed, or is disabled, is sent none.
    pub async fn test_destination(
        &self,
        actor: &Actor,
        sight: &Sight,
        id: DestinationId,
        kind: Option<EventType>,
        data: Option<Bytes>,
    ) -> Result<(EventType, Accepted), TestError> {
        let destination = self.destination(sight, id)?;
        let conflict = |why: &str| Err(TestError::NotNow(Error::Conflict(why.into())));
        if destination.disabled {
            return conflict("the destination is disabled, and nothing is sent to it; enable it first");
        }
        if !destination.is_confirmed() {
            return conflict("the destination is not confirmed; its receiver is asked again by POST …/confirm");
        }
        let pattern = kind.map_or(TypePattern::Any, TypePattern::One);
        let (kind, sample) = samples::of_pattern(self.catalog().event_types(), &pattern);
        if !self.catalog().event_types().takes(&kind) {
            return Err(TestError::Refused(Refusal::UnknownType.into()));
        }
        let data = data.unwrap_or(sample);
        let targets = vec![Target { destination: destination.no, subscriptions: Vec::new() }];
        let event = NewEvent::new(destination.tenant.clone(), kind, data);
        Ok(self.test(actor, op::Tested::Destination(destination.id), event, targets).await?)
    }

    async fn test(
        &self,
        actor: &Actor,
        tested: op::Tested,
        event: NewEvent,
        targets: Vec<Target>,
    ) -> Result<(EventType, Accepted), Rejection> {
        let (watch, kind) = (Stopwatch::start(), event.kind.clone());
        let result = match self.refuses_events() {
            Some(rejection) => Err(rejection),
            None => {
                let test = op::SendTest { tested, event, targets, waiting_max: self.settings.pending_max };
                let sent = self.store.steer(actor, test).await.map_err(Rejection::from);
                sent.and_then(|committed| committed.answer.map_err(Rejection::from))
            }
        };
        self.metrics.answered(&result, watch.elapsed());
        Ok((kind, result?))
    }

    /// An event by its id.
    pub async fn event(&self, sight: &Sight, id: EventId) -> Result<Event, Error> {
        let found = self.store.read(move |snapshot| snapshot.event_by_id(id)).await?;
        found.filter(|event| sight.takes(&event.head.tenant)).ok_or(Error::NotFound("event"))
    }

    /// The event that a tenant's producer named.
    pub async fn event_by_producer_id(
        &self,
        tenant: TenantId,
        id: crate::model::event::ProducerId,
    ) -> Result<Option<Event>, Error> {
        Ok(self.store.read(move |snapshot| snapshot.event_by_producer_id(&tenant, &id)).await?)
    }

    /// A page of events, newest first.
    pub async fn events(&self, wanted: EventsWanted, window: Window) -> Result<Page<Event>, Error> {
        Ok(self.store.read(move |snapshot| snapshot.events(&wanted, window)).await?)
    }

    /// Notes in the audit log that somebody is about to be shown these events' payloads. The receipt is the proof, and what a
    /// view asks for.
    pub async fn note_read(&self, actor: &Actor, tenant: TenantId, events: Vec<EventId>) -> Result<Receipt, Error> {
        Ok(self.store.steer(actor, op::NoteRead { tenant, events }).await?.receipt)
    }

    /// Erases an event's payload now.
    pub async fn erase_payload(&self, actor: &Actor, sight: &Sight, id: EventId) -> Result<(), Error> {
        let head = self.store.read(move |snapshot| snapshot.head_by_id(id)).await?;
        if !head.is_some_and(|head| sight.takes(&head.tenant)) {
            return Err(Error::NotFound("event"));
        }
        match self.store.steer(actor, op::ErasePayload { seq: id.seq() }).await?.answer {
            Erased::Done => Ok(()),
            Erased::Unknown => Err(Error::NotFound("event")),
            Erased::Damaged => Err(damaged("event")),
        }
    }

    // -------------------------------------------------------------------------------------------------- deliveries

    /// A page of the deliveries of one event, by destination, as far as those are in sight.
    ///
    /// A delivery is its destination's owner's: with `roll_up` that may be a tenant above the event's, whose addresses and
    /// replies are not the event's tenant's to see.
    pub async fn deliveries_of(&self, sight: &Sight, id: EventId, window: Window) -> Result<Page<SeenDelivery>, Error> {
        let (sight, among) = (sight.clone(), self.among(sight));
        let read = self.store.read(move |snapshot| match snapshot.head_by_id(id)? {
            Some(head) if sight.takes(&head.tenant) => {
                snapshot.deliveries_of(id.seq(), &Arc::new(head), among, window).map(Some)
            }
            Some(_) | None => Ok(None),
        });
        Ok(self.see_page(read.await?.ok_or(Error::NotFound("event"))?, |no| self.is_held(no)))
    }

    /// A delivery by its id, with its attempts.
    pub async fn delivery(&self, sight: &Sight, id: DeliveryId) -> Result<SeenDelivery, Error> {
        let key = self.delivery_key(sight, id).await?;
        let found = self.store.read(move |snapshot| snapshot.delivery(key)).await?;
        found.map(|delivery| self.see(delivery, |no| self.is_held(no))).ok_or(Error::NotFound("delivery"))
    }

    /// A page of the deliveries to destinations in sight, newest event first. `state` tells held and pending apart.
    pub async fn deliveries(
        &self,
        sight: &Sight,
        mut wanted: DeliveriesWanted,
        window: Window,
    ) -> Result<Page<SeenDelivery>, Error> {
        let held: Vec<_> = self.store.catalog().destinations().map(|it| it.no).filter(|no| self.is_held(*no)).collect();
        wanted.held.clone_from(&held);
        wanted.among = self.among(sight);
        let page = self.store.read(move |snapshot| snapshot.deliveries(&wanted, window)).await?;
        // Each is shown in the state that it was found by, whatever has happened to its lane since.
        Ok(self.see_page(page, |no| held.contains(&no)))
    }

    /// The destinations in sight, present and deleted; `None` when all are.
    fn among(&self, sight: &Sight) -> Option<HashSet<DestinationNo>> {
        match sight {
            Sight::All => None,
            Sight::One(owner) => Some(self.store.catalog().destinations_of(owner).collect()),
        }
    }

    fn see_page(&self, page: Page<Delivery>, is_held: impl Fn(DestinationNo) -> bool) -> Page<SeenDelivery> {
        let Page { items, skipped, next } = page;
        Page { items: items.into_iter().map(|delivery| self.see(delivery, &is_held)).collect(), skipped, next }
    }

    /// Makes the next attempt of a delivery due now, on a fresh schedule, with its destination's present settings (decision
    /// D26): whether it has ended, or failed and waits for its retry.
    pub async fn resend(&self, actor: &Actor, sight: &Sight, id: DeliveryId) -> Result<(), Error> {
        let key = self.delivery_key(sight, id).await?;
        if self.store.is_under_way(key) {
            return Err(Error::Conflict("an attempt is under way; see what comes of it first".into()));
        }
        steered(self.store.steer(actor, op::Resend { key, trigger: Trigger::Manual }).await?.answer, "resent")
    }

    /// Ends a delivery that has not ended.
    pub async fn cancel(&self, actor: &Actor, sight: &Sight, id: DeliveryId) -> Result<(), Error> {
        let key = self.delivery_key(sight, id).await?;
        steered(self.store.steer(actor, op::Cancel { key }).await?.answer, "cancelled")
    }

    /// The delivery that the event history calls so. Whether the caller sees it is for the next verb to say.
    pub async fn delivery_of_run(&self, run: RunId) -> Result<DeliveryId, Error> {
        let (seq, destination) = run.hint();
        let head = self.store.read(move |snapshot| snapshot.head(seq)).await?;
        let delivery = head.map(|head| DeliveryId { event: EventId::new(head.epoch, seq), destination });
        delivery.filter(|delivery| RunId::of(*delivery) == run).ok_or(Error::NotFound("delivery"))
    }

    async fn delivery_key(&self, sight: &Sight, id: DeliveryId) -> Result<DeliveryKey, Error> {
        let head = self.store.read(move |snapshot| snapshot.head_by_id(id.event)).await?;
        if head.is_none() || !self.sees(sight, id.destination) {
            return Err(Error::NotFound("delivery"));
        }
        Ok(DeliveryKey { destination: id.destination, seq: id.event.seq() })
    }

    /// Whether a destination, present or deleted, is in sight.
    fn sees(&self, sight: &Sight, no: DestinationNo) -> bool {
        self.store.catalog().owner(no).is_some_and(|owner| sight.takes(owner))
    }

    /// Whether a delivery that waits is held is for its lane alone to say; why it waits may be that it is under way all the same.
    fn see(&self, delivery: Delivery, is_held: impl Fn(DestinationNo) -> bool) -> SeenDelivery {
        let catalog = self.store.catalog();
        let no = delivery.key.destination;
        let lane = self.store.standing(|standing| standing.lane(no));
        let destination = catalog.destination(no);
        let is_ordered = destination.is_some_and(|destination| destination.ordered);
        let waits_for = delivery.behind.filter(|_| is_ordered).map(|event| DeliveryId { event, destination: no });
        let waiting = delivery.row.map(|row| {
            let under_way = self.store.is_under_way(row.key());
            // What waits here though it is due, and nothing holds its lane, waits for one of those under way, if for anything.
            let in_lane = if under_way { 0 } else { self.store.under_way_of(no) };
            let attempts = Attempts { this: under_way, in_lane, is_behind: waits_for.is_some() };
            why_waiting(destination.map(|it| &**it), lane, row.due, row.plan, attempts, self.clock.now())
        });
        SeenDelivery {
            id: DeliveryId { event: EventId::new(delivery.head.epoch, delivery.key.seq), destination: no },
            destination: catalog.destination_id(no).unwrap_or(DestinationId(Uuid::nil())),
            state: delivery.state_on_lane(is_held(no)),
            waiting,
            waits_for,
            next_attempt_at: delivery.row.map(|row| row.due),
            delivery,
        }
    }

    /// Whether a destination's lane holds what waits for it.
    fn is_held(&self, no: DestinationNo) -> bool {
        self.store.catalog().destination(no).is_some_and(|destination| holds(destination, self.lane(no)))
    }

    // ------------------------------------------------------------------------------------------------ destinations

    /// The destination of an id.
    pub fn destination(&self, sight: &Sight, id: DestinationId) -> Result<Arc<Destination>, Error> {
        let found = self.store.catalog().destination_by_id(id).map(Arc::clone);
        found.filter(|destination| sight.takes(&destination.tenant)).ok_or(Error::NotFound("destination"))
    }

    /// The lane of a destination.
    pub fn lane(&self, no: DestinationNo) -> Lane {
        self.store.standing(|standing| standing.lane(no))
    }

    /// The schedule that a destination's deliveries follow, and its name where the installation has one for it. `None` when the
    /// installation does not know it any more.
    pub fn schedule_of(&self, destination: &Destination) -> Option<(Option<&str>, Schedule)> {
        let name = match &destination.retry.plan {
            Plan::Default => self.settings.schedule.as_str(),
            Plan::Named(name) => name,
            // Nothing but the jitter is taken from the default.
            Plan::Delays(_) => {
                let of_default = self.settings.schedules.get(&self.settings.schedule)?;
                return Some((None, destination.retry.resolve(of_default).ok()?));
            }
        };
        let (name, named) = self.settings.schedules.get_key_value(name)?;
        Some((Some(name), destination.retry.resolve(named).ok()?))
    }

    /// The tally of a destination.
    pub fn tally(&self, no: DestinationNo) -> Tally {
        self.store.standing(|standing| standing.tally(no))
    }

    /// Creates a destination. Its number is given by the store; its id by [`Service::fresh_uuid`].
    pub async fn create_destination(&self, actor: &Actor, destination: Destination) -> Result<Arc<Destination>, Error> {
        self.check(&destination)?;
        let asks = !destination.is_confirmed() && !destination.disabled;
        let request = asks.then(|| self.confirmation_request(&destination));
        let change = op::CreateDestination { destination };
        created(self.store.steer(actor, op::AndAsk { change, request }).await?.answer, "destination")
    }

    /// Whether a new destination is confirmed when nobody says otherwise.
    pub fn confirms_at_creation(&self) -> bool {
        self.settings.confirmation.mode == ConfirmationMode::Off
    }

    /// Asks a destination's receiver for its confirmation, once more where that has been asked already (S2.42).
    pub async fn ask_for_confirmation(&self, actor: &Actor, sight: &Sight, id: DestinationId) -> Result<(), Error> {
        let destination = self.destination(sight, id)?;
        if destination.disabled {
            return Err(Error::Conflict(
                "the destination is disabled, and nothing is sent to it; enable it first".into(),
            ));
        }
        let request = self.confirmation_request(&destination);
        let asked = self.store.steer(actor, op::Ask { no: destination.no, request }).await?.answer;
        created(asked, "destination").map(drop)
    }

    fn confirmation_request(&self, destination: &Destination) -> NewEvent {
        let challenge = hex(&self.chance_of::<16>());
        let request = ConfirmationRequest { challenge, destination_id: destination.id.to_string() };
        let data = serde_json::to_vec(&request).expect("two texts are JSON");
        NewEvent::new(destination.tenant.clone(), ConfirmationRequest::event_type(), data)
    }

    /// What a change means for the confirmation: whether it ends (decision D14), and whether the receiver is asked.
    fn weigh_confirmation(&self, before: &Destination, after: &mut Destination) -> Option<NewEvent> {
        let ConfirmationSettings { mode, reset_on_url_change } = self.settings.confirmation;
        let moved = before.url != after.url;
        if moved {
            // A request that is under way to the old URL confirms nothing any more.
            after.asked = None;
            if after.is_confirmed() && reset_on_url_change && mode != ConfirmationMode::Off {
                after.confirmation = Confirmation::Lapsed;
            }
        }
        let asks = !after.is_confirmed() && !after.disabled && (moved || before.disabled);
        asks.then(|| self.confirmation_request(after))
    }

    /// Changes a destination. The change is a function, so that it applies to what is there when it is made.
    ///
    /// It may run more than once, when somebody else changes the destination meanwhile. `action` is what it is in the audit log.
    pub async fn update_destination<E: From<Error>>(
        &self,
        actor: &Actor,
        action: Action,
        sight: &Sight,
        id: DestinationId,
        change: impl Fn(&mut Destination) -> Result<(), E>,
    ) -> Result<Arc<Destination>, E> {
        loop {
            let before = self.destination(sight, id)?;
            let mut after = Destination::clone(&before);
            change(&mut after)?;
            self.check(&after)?;
            let request = self.weigh_confirmation(&before, &mut after);
            let change = op::UpdateDestination { before, after, action };
            match self.store.steer(actor, op::AndAsk { change, request }).await.map_err(Error::from)?.answer {
                Err(Rejected::Stale) => {}
                answer => return created(answer, "destination").map_err(E::from),
            }
        }
    }

    /// Deletes a destination; what still waits for it is cancelled.
    pub async fn delete_destination(&self, actor: &Actor, sight: &Sight, id: DestinationId) -> Result<(), Error> {
        let no = self.destination(sight, id)?.no;
        created(self.store.steer(actor, op::DeleteDestination { no }).await?.answer, "destination")
    }

    /// Pauses a destination, or resumes it. A resume also opens a lane that is gone, shut, or held by a Retry-After.
    pub async fn set_paused(&self, actor: &Actor, sight: &Sight, id: DestinationId, paused: bool) -> Result<(), Error> {
        let no = self.destination(sight, id)?.no;
        let known = self.store.steer(actor, op::SetPaused { no, paused }).await?.answer;
        if known { Ok(()) } else { Err(Error::NotFound("destination")) }
    }

    /// What the types alone cannot say of a destination: its URL's admission, its signatures' keys, its schedule's name.
    fn check(&self, destination: &Destination) -> Result<(), Error> {
        let invalid = |pointer, detail| Err(Error::Invalid { pointer, detail });
        (self.settings.policy)(destination)?;
        let Ok(mut signatures) = self.catalog().signatures_of(destination) else {
            return created(Err(Rejected::UnknownSigningKey), "destination");
        };
        // What no longer counts need not serve: a signing key's last secret may have been of another form.
        for signature in &mut signatures {
            signature.previous.take_if(|(_, until)| *until <= self.now());
        }
        if let Err(error) = sign::check_all(&signatures) {
            return invalid("/signature", error.to_string());
        }
        let Retry { plan, .. } = &destination.retry;
        if let Plan::Named(name) = plan
            && !self.settings.schedules.contains_key(name)
        {
            let mut known: Vec<_> = self.settings.schedules.keys().map(String::as_str).collect();
            known.sort_unstable();
            return invalid(
                "/retry/schedule",
                format!("there is no schedule {name:?}; there are {}", known.join(", ")),
            );
        }
        Ok(())
    }

    // ----------------------------------------------------------------------------------------------- subscriptions

    /// The subscription of an id.
    pub fn subscription(&self, sight: &Sight, id: SubscriptionId) -> Result<Arc<Subscription>, Error> {
        let found = self.store.catalog().subscription_by_id(id).map(Arc::clone);
        found.filter(|subscription| sight.takes(&subscription.tenant)).ok_or(Error::NotFound("subscription"))
    }

    /// Creates a subscription. Its number is given by the store; its id by [`Service::fresh_uuid`]. Where types are strict,
    /// one type that nobody knows is refused; a pattern may match what comes later.
    pub async fn create_subscription(
        &self,
        actor: &Actor,
        subscription: Subscription,
    ) -> Result<Arc<Subscription>, Error> {
        self.check_pattern(&subscription.pattern)?;
        created(self.store.steer(actor, op::CreateSubscription { subscription }).await?.answer, "subscription")
    }

    /// Where types are strict, one type that nobody knows is none.
    fn check_pattern(&self, pattern: &TypePattern) -> Result<(), Error> {
        match pattern {
            TypePattern::One(kind) if !self.catalog().event_types().takes(kind) => Err(Error::UnknownType),
            TypePattern::One(_) | TypePattern::Branch(_) | TypePattern::Any => Ok(()),
        }
    }

    /// Changes a subscription. The change is a function, so that it applies to what is there when it is made.
    ///
    /// It may run more than once, when somebody else changes the subscription meanwhile. `action` is what it is in the audit log.
    pub async fn update_subscription<E: From<Error>>(
        &self,
        actor: &Actor,
        action: Action,
        sight: &Sight,
        id: SubscriptionId,
        change: impl Fn(&mut Subscription) -> Result<(), E>,
    ) -> Result<Arc<Subscription>, E> {
        loop {
            let before = self.subscription(sight, id)?;
            let mut after = Subscription::clone(&before);
            change(&mut after)?;
            match self
                .store
                .steer(actor, op::UpdateSubscription { before, after, action })
                .await
                .map_err(Error::from)?
                .answer
            {
                Err(Rejected::Stale) => {}
                answer => return created(answer, "subscription").map_err(E::from),
            }
        }
    }

    /// Deletes a subscription. Deliveries that it made stay.
    pub async fn delete_subscription(&self, actor: &Actor, sight: &Sight, id: SubscriptionId) -> Result<(), Error> {
        self.subscription(sight, id)?;
        created(self.store.steer(actor, op::DeleteSubscription { id }).await?.answer, "subscription")
    }

    // ------------------------------------------------------------------------------------------------- event types

    /// The event type that is spelled so, by its name or by an alias.
    pub fn event_type(&self, spelling: &EventType) -> Result<Arc<KnownType>, Error> {
        self.catalog().event_types().find(spelling).map(Arc::clone).ok_or(Error::NotFound("event type"))
    }

    /// The event type of this name, which must be one that was added: what is built in or configured is not changed here.
    pub fn event_type_to_change(&self, name: &EventType) -> Result<Arc<KnownType>, Error> {
        let catalog = self.catalog();
        let known = catalog.event_types().named(name).ok_or(Error::NotFound("event type"))?;
        match known.origin {
            Origin::Added { .. } => Ok(Arc::clone(known)),
            Origin::BuiltIn(_) => Err(Error::Conflict("the event type is built in, and cannot be changed".into())),
            Origin::Configured => Err(Error::Conflict(
                "the event type is of the configuration (events.type); change it there, and start the daemon anew"
                    .into(),
            )),
        }
    }

    /// Adds an event type to the catalogue.
    pub async fn create_event_type(&self, actor: &Actor, known: KnownType) -> Result<Arc<KnownType>, Error> {
        created(self.store.steer(actor, op::CreateEventType { known }).await?.answer, "event type")
    }

    /// Changes an event type that was added. The change is a function, as of a destination.
    pub async fn update_event_type<E: From<Error>>(
        &self,
        actor: &Actor,
        name: &EventType,
        change: impl Fn(&KnownType) -> Result<KnownType, E>,
    ) -> Result<Arc<KnownType>, E> {
        loop {
            let before = self.event_type_to_change(name)?;
            let after = change(&before)?;
            match self.store.steer(actor, op::UpdateEventType { before, after }).await.map_err(Error::from)?.answer {
                Err(Rejected::Stale) => {}
                answer => return created(answer, "event type").map_err(E::from),
            }
        }
    }

    /// Takes an event type that was added out of the catalogue. Events and subscriptions of it stay.
    pub async fn delete_event_type(&self, actor: &Actor, name: &EventType) -> Result<(), Error> {
        let name = self.event_type_to_change(name)?.name.clone();
        created(self.store.steer(actor, op::DeleteEventType { name }).await?.answer, "event type")
    }

    // ------------------------------------------------------------------------------------------------------- house

    /// Creates a tenant.
    pub async fn create_tenant(&self, actor: &Actor, tenant: Tenant) -> Result<(), Error> {
        created(self.store.steer(actor, op::CreateTenant { tenant }).await?.answer, "tenant")
    }

    /// Replaces a tenant's name and parent.
    pub async fn update_tenant(&self, actor: &Actor, tenant: Tenant) -> Result<(), Error> {
        created(self.store.steer(actor, op::UpdateTenant { tenant }).await?.answer, "tenant")
    }

    /// Deletes a tenant that owns nothing.
    pub async fn delete_tenant(&self, actor: &Actor, id: TenantId) -> Result<(), Error> {
        created(self.store.steer(actor, op::DeleteTenant { id }).await?.answer, "tenant")
    }

    /// The keys in sight.
    ///
    /// Whoever sees one tenant sees the keys that are bound to it.
    pub fn keys(&self, sight: &Sight) -> Vec<Arc<ApiKey>> {
        let sees = |key: &&Arc<ApiKey>| match sight {
            Sight::All => true,
            Sight::One(one) => key.tenant.as_ref() == Some(one),
        };
        self.store.catalog().keys().filter(sees).map(Arc::clone).collect()
    }

    /// The key of an id.
    pub fn key(&self, sight: &Sight, id: KeyId) -> Result<Arc<ApiKey>, Error> {
        self.keys(sight).into_iter().find(|key| key.id == id).ok_or(Error::NotFound("key"))
    }

    /// The tenant of an id.
    pub fn tenant(&self, sight: &Sight, id: &TenantId) -> Result<Arc<Tenant>, Error> {
        let found = self.store.catalog().tenant(id).map(Arc::clone);
        found.filter(|tenant| sight.takes(&tenant.id)).ok_or(Error::NotFound("tenant"))
    }

    /// Creates a key. The secret is shown once and not kept.
    pub async fn create_key(
        &self,
        actor: &Actor,
        name: String,
        role: Role,
        tenant: Option<TenantId>,
    ) -> Result<(ApiKey, Secret), Error> {
        let (key, secret) = ApiKey::generate(self.chance_of(), name, role, tenant, self.clock.now());
        created(self.store.steer(actor, op::PutKey { key: key.clone(), must_exist: false }).await?.answer, "key")?;
        Ok((key, secret))
    }

    /// Replaces a key's name and role; its secret stays.
    pub async fn update_key(&self, actor: &Actor, key: ApiKey) -> Result<(), Error> {
        created(self.store.steer(actor, op::PutKey { key, must_exist: true }).await?.answer, "key")
    }

    /// Deletes a key: it opens nothing from now on.
    pub async fn delete_key(&self, actor: &Actor, id: KeyId) -> Result<(), Error> {
        created(self.store.steer(actor, op::DeleteKey { id }).await?.answer, "key")
    }

    /// The key that a secret opens. `id`, where the caller names one beside the secret, must be the key's own.
    pub fn key_of(&self, secret: &str, id: Option<&str>) -> Option<Arc<ApiKey>> {
        let named = ApiKey::id_in(secret)?;
        let key = self.store.catalog().key(named).map(Arc::clone)?;
        let right_id = id.is_none_or(|id| id.parse() == Ok(named));
        (key.is_opened_by(secret) && right_id).then_some(key)
    }

    /// How each destination in sight stands, in the order of their creation.
    pub fn healths(&self, sight: &Sight) -> Vec<DestinationHealth> {
        let (catalog, now) = (self.store.catalog(), self.clock.now());
        self.store.standing(|standing| {
            let seen = catalog.destinations().filter(|destination| sight.takes(&destination.tenant));
            let health = |destination: &Arc<Destination>| {
                let (lane, tally) = (standing.lane(destination.no), standing.tally(destination.no));
                let state = LaneState::of(destination, lane, now);
                let lately = self.pulse.lately(destination.no);
                DestinationHealth { destination: Arc::clone(destination), state, lane, tally, lately }
            };
            seen.map(health).collect()
        })
    }

    /// Looks up how destinations in sight did before the daemon's start, where [`DestinationHealth::lately`] knows nothing yet
    /// and something waits or has failed: a few seeks for each, once, and for so many at most with each call.
    pub async fn recall(&self, sight: &Sight) -> Result<(), Error> {
        let unknown = self
            .healths(sight)
            .into_iter()
            .filter(|health| health.lately.is_none() && (health.tally.failed > 0 || health.tally.waiting() > 0));
        let unknown: Vec<_> = unknown.map(|health| health.destination.no).take(RECALLED_MAX).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let read = self.store.read(move |snapshot| {
            let attempts = |no| {
                // The oldest first, also where two ended in one moment.
                let deliveries = snapshot.telling(no)?.into_iter().rev();
                let mut attempts: Vec<_> = deliveries.flat_map(|delivery| delivery.attempts).collect();
                attempts.sort_by_key(|attempt| attempt.started.after(attempt.duration));
                Ok((no, attempts))
            };
            unknown.into_iter().map(attempts).collect::<Result<Vec<_>, ReadError>>()
        });
        let (found, catalog) = (read.await?, self.store.catalog());
        self.pulse.recall(found, |no| catalog.destination(no).is_some());
        Ok(())
    }

    /// How many lanes do what, over all tenants.
    pub fn lanes_by_state(&self) -> HashMap<LaneState, u64> {
        let (catalog, now) = (self.store.catalog(), self.clock.now());
        let mut counts = HashMap::new();
        self.store.standing(|standing| {
            for destination in catalog.destinations() {
                let state = LaneState::of(destination, standing.lane(destination.no), now);
                *counts.entry(state).or_default() += 1;
            }
        });
        counts
    }

    /// A page of the audit log, newest record first.
    pub async fn audit(&self, wanted: Wanted, window: Window) -> Result<Page<(Link, Kept)>, Error> {
        Ok(self.store.read(move |snapshot| snapshot.audit(&wanted, window)).await?)
    }

    /// Where the audit log begins and ends.
    pub fn chain(&self) -> Chain {
        self.store.standing(|standing| standing.audit)
    }

    /// How things stand, over the tenants in sight.
    pub async fn status(&self, sight: &Sight) -> Result<Status, Error> {
        let catalog = self.store.catalog();
        let (events, oldest, lanes) = self.store.standing(|standing| {
            let lanes: Vec<_> = standing.tallies.iter().map(|(no, tally)| (*no, *tally, standing.lane(*no))).collect();
            (standing.events, standing.oldest, lanes)
        });
        let mut status = Status {
            events: (*sight == Sight::All).then_some(events),
            accepted: 0,
            pending: 0,
            held: 0,
            succeeded: 0,
            failed: 0,
            failed_of_deleted: 0,
            cancelled: 0,
            oldest_pending_seconds: None,
            oldest_pending: None,
            damaged_records: (*sight == Sight::All).then(|| self.store.damaged_records()),
        };
        for (no, tally, lane) in lanes {
            let destination = catalog.destination(no);
            if !catalog.owner(no).is_some_and(|owner| sight.takes(owner)) {
                continue;
            }
            status.accepted += tally.accepted;
            status.succeeded += tally.succeeded;
            status.failed += tally.failed;
            status.failed_of_deleted += if destination.is_none() { tally.failed } else { 0 };
            status.cancelled += tally.cancelled;
            match destination {
                // Of who has never confirmed nothing waits but the request for it, which is not held.
                Some(it) if it.confirmation != Confirmation::Awaited && holds(it, lane) => {
                    status.held += tally.waiting()
                }
                Some(_) | None => status.pending += tally.waiting(),
            }
        }
        if let Some(block) = oldest
            && *sight == Sight::All
        {
            let found = self.store.read(move |snapshot| snapshot.oldest_unfinished(block)).await?;
            status.oldest_pending_seconds = found.map(|(accepted, _)| self.clock.now().since(accepted).as_secs());
            status.oldest_pending = found.and_then(|(_, event)| event);
        }
        Ok(status)
    }
}

/// How a destination stands.
#[derive(Debug, Clone)]
pub struct DestinationHealth {
    /// Which.
    pub destination: Arc<Destination>,
    /// What its lane does.
    pub state: LaneState,
    /// Its lane.
    pub lane: Lane,
    /// Its deliveries by state.
    pub tally: Tally,
    /// How it did lately, where that is known.
    pub lately: Option<Lately>,
}

/// What a lane does at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneState {
    /// Deliveries go out.
    Open,
    /// An operator paused or disabled the destination.
    Paused,
    /// The destination awaits its confirmation.
    Unconfirmed,
    /// The receiver said that it is gone.
    Gone,
    /// The receiver asked for time.
    Held,
    /// Shut after failures.
    Shut,
    /// One delivery at a time tries whether the receiver is back.
    Probing,
}

impl LaneState {
    /// Every state there is.
    pub const ALL: [LaneState; 7] = [
        LaneState::Open,
        LaneState::Paused,
        LaneState::Unconfirmed,
        LaneState::Gone,
        LaneState::Held,
        LaneState::Shut,
        LaneState::Probing,
    ];

    /// The state's name in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            LaneState::Open => "open",
            LaneState::Paused => "paused",
            LaneState::Unconfirmed => "unconfirmed",
            LaneState::Gone => "gone",
            LaneState::Held => "held",
            LaneState::Shut => "shut",
            LaneState::Probing => "probing",
        }
    }

    fn of(destination: &Destination, lane: Lane, now: Timestamp) -> Self {
        if lane.is_stopped(destination) {
            LaneState::Paused
        } else if !destination.is_confirmed() {
            LaneState::Unconfirmed
        } else if lane.health.gone {
            LaneState::Gone
        } else if lane.health.hold_until.is_some_and(|until| until > now) {
            LaneState::Held
        } else {
            match lane.health.shut_until {
                Some(until) if until > now => LaneState::Shut,
                Some(_) => LaneState::Probing,
                None => LaneState::Open,
            }
        }
    }
}

fn holds(destination: &Destination, lane: Lane) -> bool {
    lane.is_stopped(destination) || lane.health.gone || !destination.is_confirmed()
}

/// What is under way at this moment.
#[derive(Debug, Clone, Copy)]
struct Attempts {
    /// Whether an attempt of the delivery is.
    this: bool,
    /// How many of its lane are.
    in_lane: usize,
    /// Whether another one is before it in the line of an ordered destination.
    is_behind: bool,
}

/// A lane that is paced and not full takes what is due within this time, or the pace is why it does not.
const PACE_SHOWS: Duration = Duration::from_secs(1);

/// Why an unfinished delivery is not being sent at this moment. What is due and held by nothing is as good as under way: the
/// engine takes it up at once.
fn why_waiting(
    destination: Option<&Destination>,
    lane: Lane,
    due: Timestamp,
    plan: crate::store::Plan,
    attempts: Attempts,
    now: Timestamp,
) -> WaitingReason {
    if attempts.this {
        return WaitingReason::InFlight;
    }
    let Some(destination) = destination else { return WaitingReason::Gone };
    if lane.is_stopped(destination) {
        WaitingReason::Paused
    } else if !destination.is_confirmed() && plan.trigger != Trigger::Confirmation {
        WaitingReason::Unconfirmed
    } else if lane.health.gone {
        WaitingReason::Gone
    } else if due > now && !attempts.is_behind {
        if plan.tried == 0 { WaitingReason::DueLater } else { WaitingReason::RetryLater }
    } else if lane.health.hold_until.is_some_and(|until| until > now) {
        WaitingReason::RetryAfter
    } else if lane.health.shut_until.is_some() {
        WaitingReason::LaneShut
    } else if attempts.is_behind || (destination.ordered && (attempts.in_lane > 0 || lane.ordering.is_some())) {
        WaitingReason::Order
    } else if attempts.in_lane > 0 && destination.in_flight_max.is_none_or(|max| attempts.in_lane >= max as usize) {
        WaitingReason::LaneFull
    } else if destination.rate.is_some() && now.since(due) > PACE_SHOWS {
        WaitingReason::Rate
    } else {
        WaitingReason::InFlight
    }
}

fn steered(steered: Steered, participle: &str) -> Result<(), Error> {
    match steered {
        Steered::Done => Ok(()),
        Steered::Unknown => Err(Error::NotFound("delivery")),
        Steered::NotFrom(state) => {
            Err(Error::Conflict(format!("the delivery is {} and cannot be {participle}", state.as_str())))
        }
        Steered::DueAlready => Err(Error::Conflict(
            "the delivery is due and has not been tried: it goes as soon as its destination takes it".into(),
        )),
        Steered::Erased => Err(Error::Conflict("the event's payload has been erased; there is nothing to send".into())),
        Steered::NoDestination => Err(Error::Conflict("the delivery's destination has been deleted".into())),
        Steered::Damaged => Err(damaged("delivery's event")),
    }
}

/// Why nothing can be done to something.
fn damaged(what: &str) -> Error {
    Error::Conflict(format!("the record of the {what} is damaged on disk; there is nothing left to act on"))
}

fn created<T>(answer: Result<T, Rejected>, noun: &'static str) -> Result<T, Error> {
    answer.map_err(|rejected| match rejected {
        Rejected::Exists => Error::Conflict(format!("a {noun} with this id exists already")),
        Rejected::Unknown => Error::NotFound(noun),
        Rejected::UnknownTenant => {
            let pointer = if noun == "tenant" { "/parent" } else { "/tenant" };
            Error::Invalid { pointer, detail: "there is no tenant of this id; create it first".into() }
        }
        Rejected::UnknownDestination => Error::Invalid {
            pointer: "/destinations",
            detail: "a destination is not there, or is another tenant's than the subscription".into(),
        },
        Rejected::SpellingTaken => {
            Error::Conflict("the name or an alias is another event type's already (GET /v1/event-types)".into())
        }
        Rejected::Stale => Error::Conflict("it was changed by somebody else at the same time; try again".into()),
        Rejected::TenantNesting => Error::Invalid {
            pointer: "/parent",
            detail: "the parents would form a ring or nest deeper than sixteen".into(),
        },
        Rejected::TenantRemembered => Error::Conflict(
            "a tenant of this id was deleted and events of it may remain, which the new one would see; choose another id, or wait until retention has removed them".into(),
        ),
        Rejected::NameTaken => Error::Conflict("a person with this login name exists already".into()),
        Rejected::LastAdmin => Error::Conflict(
            "this is the last administrator of all tenants; make another one first, or do it over the admin socket".into(),
        ),
        Rejected::TenantInUse => Error::Conflict(
            "the tenant has children, destinations, subscriptions, keys, signing keys or people, or is the default tenant; remove these first".into(),
        ),
        Rejected::UnknownSigningKey => Error::Invalid {
            pointer: "/signature",
            detail: "names a signing key that is not there, or not the tenant's own".into(),
        },
        Rejected::SignatureKeyExists => Error::Conflict(
            "the tenant has its signature key already, and there is one at most; rotate that one, or make a source key".into(),
        ),
        Rejected::TooManySigningKeys => Error::Conflict(format!(
            "the tenant has {} source keys already, and may have no more; delete one that nothing signs with",
            op::SOURCE_KEYS_MAX
        )),
    })
}
