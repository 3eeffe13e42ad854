//! A store's life on a recording disk: sessions of seeded operations, each beside the model, with what had been acknowledged when.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::clock::Clock;
use postrider::model::delivery::{Ending, Phases};
use postrider::model::event::NewEvent;
use postrider::model::*;
use postrider::store::op::*;
use postrider::store::{self, Audited, LaneHealth, Steer, Store, StoreFailed, Ticket, WriterRuns};

use super::disk::{Act, Disk};
use super::model::{Deed, EPOCH, Model, Picture, Told, outcome_of};

pub const START: Timestamp = Timestamp::from_millis(1_750_000_000_000);

/// Operations that a thread's writer is given at once, at most.
const BURST_MAX: usize = 12;

/// One operation of a life.
#[derive(Debug, Clone)]
pub struct Step {
    pub deed: Deed,
    /// How many acts the disk had seen when it was handed in.
    pub begun: usize,
    /// And when its answer was there.
    pub answered: usize,
}

/// What has been lived through since the disk held `base`.
pub struct Life {
    pub base: Vec<u8>,
    pub acts: Vec<Act>,
    pub steps: Vec<Step>,
    /// The model after so many steps; one more than there are steps.
    pub models: Vec<Model>,
    /// How many acts the disk had seen when the store was first open.
    pub born: usize,
    /// When it was closed and opened again: from the session's end to the next one's beginning.
    pub turns: Vec<Range<usize>>,
}

impl Life {
    /// How many steps must be in an image that was cut there, and how many may be.
    pub fn promised(&self, cut: usize) -> (usize, usize) {
        let acknowledged = self.steps.iter().take_while(|step| step.answered <= cut).count();
        let handed_in = self.steps.iter().take_while(|step| step.begun < cut).count();
        (acknowledged, handed_in.max(acknowledged))
    }
}

/// The keys of every life: each start seals with a key of its own number.
pub fn keys() -> store::Keys {
    store::Keys::new(store::MasterKey::new([7; store::KEY_BYTES]), [9; store::Keys::CHANCE_BYTES])
}

pub fn settings(cache_bytes: usize) -> store::Settings {
    // Small runs: their lists are written, and go, between any two cuts. So does a writer with a thread rest.
    let at = store::Settings::at("the disk of a test", keys());
    let rest_after = Duration::from_micros(300);
    store::Settings { cache_bytes, event_cache_bytes_max: 4096, run_events: 24, rest_after, ..at }
}

/// How a life is led.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    pub runs: WriterRuns,
    pub cache_bytes: usize,
    /// Payloads large enough for the file to grow.
    pub heavy: bool,
}

impl Habits {
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        Habits {
            runs: if rng.u8(..5) == 0 { WriterRuns::InThread } else { WriterRuns::Inline },
            // A small one spills pages before the commit.
            cache_bytes: if rng.bool() { 64 << 10 } else { 1 << 20 },
            heavy: rng.u8(..4) == 0,
        }
    }
}

/// Lives on, from what a disk holds and the model says it holds.
pub async fn live(habits: Habits, base: Vec<u8>, model: Model, clock: Clock, rng: &mut fastrand::Rng) -> Life {
    let disk = Disk::of(base.clone());
    let mut living = Living { habits, disk, model, clock, steps: Vec::new(), models: Vec::new(), leases: Vec::new() };
    living.models.push(living.model.clone());
    let mut born = None;
    let mut turns = Vec::new();
    let mut ended = None;
    for _ in 0..rng.usize(1..=3) {
        let settings = settings(habits.cache_bytes);
        let store = Store::open_on(living.disk.clone(), &settings, clock, EPOCH.0, habits.runs).expect("a whole disk");
        born = born.or(Some(living.disk.acts()));
        turns.extend(ended.map(|ended| ended..living.disk.acts()));
        living.leases.clear();
        living.model = living.model.clone().reopened();
        match habits.runs {
            WriterRuns::Inline => living.session(&store, rng).await,
            WriterRuns::InThread => living.session_in_bursts(&store, rng).await,
        }
        // What the model says is what a store that was never cut off says.
        let differences = living.model.picture.differences(&Picture::of(&store).await.expect("a whole disk"));
        assert!(differences.is_empty(), "without a cut: {differences:#?}");
        ended = Some(living.disk.acts());
        // A store that is dropped without a last commit has no saved allocator. With a thread of its own it always has one.
        if habits.runs == WriterRuns::InThread || rng.bool() {
            store.close().await;
        }
    }
    let born = born.expect("there was a session");
    let acts = living.disk.history();
    turns.extend(ended.map(|ended| ended..acts.len()));
    Life { base, acts, steps: living.steps, models: living.models, born, turns }
}

struct Living {
    habits: Habits,
    disk: Disk,
    model: Model,
    clock: Clock,
    steps: Vec<Step>,
    models: Vec<Model>,
    leases: Vec<super::model::Lease>,
}

impl Living {
    async fn session(&mut self, store: &Store, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(6..=24) {
            // Two rows of one delivery must never be due in the same millisecond: the model tells them apart by their turn.
            tokio::time::advance(Duration::from_millis(rng.u64(2..5000))).await;
            let Some(deed) = self.draw(store, rng).await else { continue };
            let begun = self.disk.acts();
            let told = hand_in(store, &deed).await.told().await.expect("a whole disk");
            self.lived(deed, begun, told);
        }
    }

    /// Hands in many at a time, so that the writer's thread commits them in groups.
    async fn session_in_bursts(&mut self, store: &Store, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(2..=5) {
            let mut under_way = Vec::new();
            let begun = self.disk.acts();
            let mut touched = std::collections::BTreeSet::new();
            for _ in 0..rng.usize(1..=BURST_MAX) {
                let Some(deed) = self.draw(store, rng).await else { continue };
                // Rows are read from the store, which does not have the burst's own yet.
                let key = match &deed {
                    Deed::Finish { lease, .. } | Deed::GiveUp { lease } => Some(lease.row.key()),
                    Deed::Start { leases } => Some(leases[0].row.key()),
                    Deed::Cancel { key } | Deed::Resend { key } | Deed::Unstart { key } => Some(*key),
                    Deed::Purge { .. } | Deed::Sweep { .. } if !under_way.is_empty() => continue,
                    _ => None,
                };
                if key.is_some_and(|key| !touched.insert(key)) {
                    continue;
                }
                under_way.push((hand_in(store, &deed).await, self.model.apply(&deed), self.model.clone(), deed));
            }
            for (pending, expected, model, deed) in under_way {
                let told = pending.told().await.expect("a whole disk");
                assert_eq!(told, expected, "{deed:?}");
                self.models.push(model);
                self.steps.push(Step { deed, begun, answered: self.disk.acts() });
            }
        }
    }

    fn lived(&mut self, deed: Deed, begun: usize, told: Told) {
        let expected = self.model.apply(&deed);
        assert_eq!(told, expected, "{deed:?}");
        self.models.push(self.model.clone());
        self.steps.push(Step { deed, begun, answered: self.disk.acts() });
    }

    async fn draw(&mut self, store: &Store, rng: &mut fastrand::Rng) -> Option<Deed> {
        let seen = &self.model.picture;
        let destinations: Vec<DestinationNo> = seen.destinations.keys().copied().collect();
        if destinations.len() < 2 {
            return Some(Deed::CreateDestination { destination: Box::new(destination(rng)) });
        }
        if !seen.subscriptions.values().any(|it| it.destinations.len() > 1) {
            let subscription = subscription("*", destinations, rng);
            return Some(Deed::Subscribe { subscription });
        }
        let any_key = |rng: &mut fastrand::Rng| rng.choice(seen.deliveries.keys()).copied();
        let lasting = self.habits.runs == WriterRuns::Inline;
        Some(match rng.u8(..100) {
            0..30 => {
                let count = if rng.u8(..4) == 0 { rng.usize(2..=5) } else { 1 };
                let waiting_max = if rng.u8(..25) == 0 { 0 } else { 1000 };
                Deed::Accept { events: (0..count).map(|_| self.event(rng)).collect(), waiting_max }
            }
            30..55 => {
                let lease = if lasting && !self.leases.is_empty() && rng.u8(..3) == 0 {
                    self.leases.swap_remove(rng.usize(..self.leases.len()))
                } else {
                    self.lease(store, rng).await?
                };
                let next = match rng.u8(..10) {
                    0..5 => Next::Succeeded,
                    5..8 => Next::Retry(self.clock.now().after(Duration::from_secs(rng.u64(1..10_000_000)))),
                    _ => Next::GivenUp(Ending::Exhausted),
                };
                let failures = rng.u32(0..3);
                // One in three is from before the lane's last resume.
                let resumed = self.model.resumed(lease.row.destination).saturating_sub(u32::from(rng.u8(..3) == 0));
                let health = rng.bool().then_some(LaneHealth { failures, resumed, ..LaneHealth::default() });
                Deed::Finish { lease, next, health, reply: vec![b'r'; rng.usize(..600)] }
            }
            55..58 => {
                let lease = self.lease(store, rng).await?;
                if !lasting {
                    return None;
                }
                self.leases.push(lease);
                return None;
            }
            58..60 => {
                let mut leases = self.leases.clone();
                rng.shuffle(&mut leases);
                leases.truncate(3);
                if leases.is_empty() {
                    leases.push(self.lease(store, rng).await?);
                }
                Deed::Start { leases }
            }
            60 => Deed::Unstart { key: any_key(rng)? },
            61..63 => Deed::GiveUp { lease: self.lease(store, rng).await? },
            63..70 => Deed::Cancel { key: any_key(rng)? },
            70..78 => {
                let key = any_key(rng)?;
                // One that was cut off twice waits a while, and a resend does not let it wait; when that is over there is nothing to
                // bring forward. The model keeps no time.
                let plan = seen.deliveries[&key].plan;
                if plan.is_some_and(|plan| plan.tried == 0 && plan.cut_off > 1) {
                    return None;
                }
                Deed::Resend { key }
            }
            78..80 => Deed::Erase { seq: *rng.choice(seen.events.keys())? },
            80..84 => Deed::SetPaused { no: *rng.choice(&destinations)?, paused: rng.bool() },
            84 => Deed::CreateDestination { destination: Box::new(destination(rng)) },
            85..87 => Deed::DeleteDestination { no: *rng.choice(&destinations)? },
            87..89 => {
                let pattern = ["order.*", "order.paid", "ping"][rng.usize(..3)];
                Deed::Subscribe { subscription: subscription(pattern, vec![*rng.choice(&destinations)?], rng) }
            }
            89 => Deed::Unsubscribe { id: rng.choice(seen.subscriptions.values())?.id },
            90..93 => {
                let no = *rng.choice(seen.tombstones.keys())?;
                let limit = rng.usize(1..20);
                let lane = store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), limit)).await;
                let first = lane.expect("a whole disk").iter().map(|row| row.key()).collect();
                Deed::Purge { no, first, limit }
            }
            93..97 => Deed::Sweep {
                from: Seq(rng.u64(0..self.model.next_seq)),
                limit: rng.usize(1..30),
                payloads: rng.bool(),
                attempts: rng.bool(),
                events: rng.u8(..3) > 0,
            },
            97..99 => Deed::PutKey { key: key(rng), must_exist: rng.u8(..4) == 0 },
            _ => Deed::DeleteKey { id: *rng.choice(seen.keys.keys())? },
        })
    }

    async fn lease(&self, store: &Store, rng: &mut fastrand::Rng) -> Option<super::model::Lease> {
        let waiting = self.model.picture.deliveries.iter().filter(|(_, it)| it.state == DeliveryState::Pending);
        let key = *rng.choice(waiting.map(|(key, _)| key).collect::<Vec<_>>())?;
        let delivery = store.read(move |snapshot| snapshot.delivery(key)).await.expect("a whole disk");
        // The store does not have it yet when it is part of the same burst.
        Some(self.model.lease(delivery?.row?))
    }

    fn event(&self, rng: &mut fastrand::Rng) -> NewEvent {
        if rng.u8(..5) == 0
            && let Some((id, (_, kind, body))) = rng.choice(&self.model.producer_ids)
        {
            // The producer asks again, or uses its id for something else.
            let body = if rng.u8(..3) > 0 { body.clone() } else { Bytes::from_static(b"something else") };
            return event(kind.as_str(), Some(id), body);
        }
        let size = match rng.u8(..20) {
            0 => 0,
            1 | 2 => rng.usize(4_000..20_000),
            3 if self.habits.heavy => rng.usize(100_000..600_000),
            _ => rng.usize(1..1_500),
        };
        let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size.min(64)).collect();
        let body: Bytes = body.into_iter().cycle().take(size).collect();
        let kind = ["order.paid", "order.refunded", "ping"][rng.usize(..3)];
        let id = (rng.u8(..4) > 0).then(|| format!("T-{:x}", rng.u64(..)));
        event(kind, id.as_deref(), body)
    }
}

pub fn event(kind: &str, id: Option<&str>, body: Bytes) -> NewEvent {
    let plain = NewEvent::new(TenantId::default_tenant(), kind.parse().unwrap(), body);
    NewEvent { producer_id: id.map(|id| id.parse().unwrap()), ..plain }
}

fn destination(rng: &mut fastrand::Rng) -> Destination {
    let id = DestinationId(uuid::Uuid::from_u128(rng.u128(..)));
    let name = format!("d{}", rng.u16(..));
    Destination::new(DestinationNo(0), id, TenantId::default_tenant(), name, "https://hooks.example.com/in", START)
}

fn subscription(pattern: &str, destinations: Vec<DestinationNo>, rng: &mut fastrand::Rng) -> Subscription {
    Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(uuid::Uuid::from_u128(rng.u128(..))),
        tenant: TenantId::default_tenant(),
        pattern: pattern.parse().unwrap(),
        name: None,
        roll_up: false,
        filter: None,
        destinations,
        registered: None,
        created: START,
    }
}

fn key(rng: &mut fastrand::Rng) -> ApiKey {
    let mut chance = [0; 38];
    rng.fill(&mut chance);
    // Few, so that they meet again.
    chance[..6].copy_from_slice(&[0, 0, 0, 0, 0, rng.u8(..4)]);
    ApiKey::generate(chance, "till".into(), Role::Operate, None, START).0
}

/// An operation that has been handed in.
enum Pending {
    Accept(Ticket<Vec<Result<Accepted, Refusal>>>),
    Steered(Ticket<Steered>),
    Destination(Ticket<Result<Arc<Destination>, Rejected>>),
    Subscription(Ticket<Result<Arc<Subscription>, Rejected>>),
    Done(Ticket<Result<(), Rejected>>),
    Found(Ticket<bool>),
    Erased(Ticket<Erased>),
    Purged(Ticket<usize>),
    Swept(Ticket<Swept>),
    Nothing(Ticket<()>),
}

impl Pending {
    async fn told(self) -> Result<Told, StoreFailed> {
        Ok(match self {
            Pending::Accept(ticket) => Told::Accepted(ticket.committed().await?.answer),
            Pending::Steered(ticket) => Told::Steered(ticket.committed().await?.answer),
            Pending::Destination(ticket) => Told::Created(ticket.committed().await?.answer.map(|it| it.no.0)),
            Pending::Subscription(ticket) => Told::Created(ticket.committed().await?.answer.map(|it| it.no.0)),
            Pending::Done(ticket) => Told::Done(ticket.committed().await?.answer),
            Pending::Found(ticket) => Told::Found(ticket.committed().await?.answer),
            Pending::Erased(ticket) => Told::Found(ticket.committed().await?.answer == Erased::Done),
            Pending::Purged(ticket) => Told::Purged(ticket.committed().await?.answer),
            Pending::Swept(ticket) => Told::Swept(ticket.committed().await?.answer),
            Pending::Nothing(ticket) => {
                let () = ticket.committed().await?.answer;
                Told::Nothing
            }
        })
    }
}

async fn hand_in(store: &Store, deed: &Deed) -> Pending {
    try_hand_in(store, deed.clone()).await.expect("a whole disk")
}

fn by_system<S: Steer>(op: S) -> Audited<S> {
    Audited { actor: Actor::SYSTEM, op }
}

async fn try_hand_in(store: &Store, deed: Deed) -> Result<Pending, StoreFailed> {
    Ok(match deed {
        Deed::Accept { events, waiting_max } => Pending::Accept(store.enqueue(Accept { events, waiting_max }).await?),
        Deed::Finish { lease, next, health, reply } => {
            let attempt = attempt(&lease, next, reply);
            Pending::Nothing(store.enqueue(Finish { row: lease.row, attempt, next, health }).await?)
        }
        Deed::Start { leases } => {
            let started =
                |lease: super::model::Lease| Started { row: lease.row, at: START, ran: Duration::from_millis(100) };
            let attempts = leases.into_iter().map(started).collect();
            Pending::Nothing(store.enqueue(Start { attempts }).await?)
        }
        Deed::Unstart { key } => Pending::Nothing(store.enqueue(Unstart { key }).await?),
        Deed::GiveUp { lease } => {
            Pending::Nothing(store.enqueue(GiveUp { row: lease.row, ending: Ending::Expired }).await?)
        }
        Deed::Cancel { key } => Pending::Steered(store.enqueue(by_system(Cancel { key })).await?),
        Deed::Resend { key } => {
            Pending::Steered(store.enqueue(by_system(Resend { key, trigger: Trigger::Manual })).await?)
        }
        Deed::Erase { seq } => Pending::Erased(store.enqueue(by_system(ErasePayload { seq })).await?),
        Deed::SetPaused { no, paused } => Pending::Found(store.enqueue(by_system(SetPaused { no, paused })).await?),
        Deed::CreateDestination { destination } => {
            Pending::Destination(store.enqueue(by_system(CreateDestination { destination: *destination })).await?)
        }
        Deed::DeleteDestination { no } => Pending::Done(store.enqueue(by_system(DeleteDestination { no })).await?),
        Deed::Subscribe { subscription } => {
            Pending::Subscription(store.enqueue(by_system(CreateSubscription { subscription })).await?)
        }
        Deed::Unsubscribe { id } => Pending::Done(store.enqueue(by_system(DeleteSubscription { id })).await?),
        Deed::Purge { no, limit, .. } => Pending::Purged(store.enqueue(Purge { no, limit }).await?),
        Deed::Sweep { from, limit, payloads, attempts, events } => {
            let before = |all| if all { Timestamp::MAX } else { Timestamp::ZERO };
            let (payloads_before, attempts_before) = (before(payloads), before(attempts));
            let ages = Ages { payloads_before, attempts_before, events_before: before(events), now: Timestamp::MAX };
            let sweep = Sweep { from, limit, ages };
            Pending::Swept(store.enqueue(sweep).await?)
        }
        Deed::PutKey { key, must_exist } => Pending::Done(store.enqueue(by_system(PutKey { key, must_exist })).await?),
        Deed::DeleteKey { id } => Pending::Done(store.enqueue(by_system(DeleteKey { id })).await?),
    })
}

fn attempt(lease: &super::model::Lease, next: Next, reply: Vec<u8>) -> Attempt {
    let outcome = outcome_of(next);
    Attempt {
        number: lease.row.plan.number,
        due: lease.row.due,
        started: START,
        duration: Duration::from_millis(3),
        trigger: lease.row.plan.trigger,
        outcome,
        reason: (outcome != Outcome::Succeeded).then_some(Reason::Status),
        status: Some(200),
        request_headers: [("content-type", "application/json")].into_iter().collect(),
        response_headers: Headers::default(),
        response_body: reply,
        error: None,
        address: None,
        phases: Phases::default(),
        reconnected: false,
        next: match next {
            Next::Retry(due) | Next::Again(due) => Some(due),
            Next::Succeeded | Next::GivenUp(_) => None,
        },
    }
}
