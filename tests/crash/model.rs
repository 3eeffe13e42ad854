//! What the store must hold: a plain model of each operation, and the picture of a store that is compared with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use postrider::model::audit::{Broken, Chain, Walk, Wanted};
use postrider::model::delivery::Ending;
use postrider::model::event::NewEvent;
use postrider::model::*;
use postrider::store::op::*;
use postrider::store::{DueRow, EventsWanted, Lane, LaneHealth, Plan, ReadError, Snapshot, Store, Tally, Window};

pub const EPOCH: Epoch = Epoch(7);
/// So many attempts in a row may end with the daemon.
const CUT_OFF_MAX: u32 = 8;

/// Everything about a store that can be seen from outside and does not depend on a clock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Picture {
    pub events: BTreeMap<Seq, Arc<EventSeen>>,
    pub deliveries: BTreeMap<DeliveryKey, DeliverySeen>,
    pub destinations: BTreeMap<DestinationNo, Arc<Destination>>,
    pub tombstones: BTreeMap<DestinationNo, String>,
    pub subscriptions: BTreeMap<SubscriptionNo, Arc<Subscription>>,
    pub keys: BTreeMap<KeyId, Arc<ApiKey>>,
    pub lanes: BTreeMap<DestinationNo, Lane>,
    pub tallies: BTreeMap<DestinationNo, Tally>,
    pub events_ever: u64,
    pub waiting: u64,
    /// Records of the audit log, each followed from the head.
    pub audited: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EventSeen {
    pub id: EventId,
    pub tenant: TenantId,
    pub kind: EventType,
    pub producer_id: Option<String>,
    /// `None` once it has been erased.
    pub body: Option<Bytes>,
    pub targets: Vec<(DestinationNo, Vec<SubscriptionNo>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeliverySeen {
    pub state: DeliveryState,
    pub ending: Option<Ending>,
    pub plan: Option<Plan>,
    pub attempts: BTreeMap<u32, Outcome>,
}

impl Picture {
    pub async fn of(store: &Store) -> Result<Picture, ReadError> {
        let mut picture = store
            .read(|snapshot| {
                let mut picture = Picture::default();
                add_events(&mut picture, snapshot)?;
                add_audit(&mut picture, snapshot)?;
                Ok(picture)
            })
            .await?;
        let catalog = store.catalog();
        picture.destinations = catalog.destinations().map(|it| (it.no, Arc::clone(it))).collect();
        picture.tombstones = catalog.tombstones().map(|it| (it.no, it.name.clone())).collect();
        picture.subscriptions = catalog.subscriptions().map(|it| (it.no, Arc::clone(it))).collect();
        picture.keys = catalog.keys().map(|it| (it.id, Arc::clone(it))).collect();
        store.standing(|standing| {
            picture.lanes = standing.lanes.iter().map(|(no, lane)| (*no, *lane)).collect();
            let tallies = standing.tallies.iter().map(|(no, tally)| (*no, *tally));
            picture.tallies = tallies.filter(|(_, tally)| *tally != Tally::default()).collect();
            picture.events_ever = standing.events;
            picture.waiting = standing.waiting;
        });
        Ok(picture)
    }

    /// Where another picture is not this one, in words; the names of what was lost come first.
    pub fn differences(&self, other: &Picture) -> Vec<String> {
        let mut found = Vec::new();
        differences(&mut found, "event", &self.events, &other.events);
        differences(&mut found, "delivery", &self.deliveries, &other.deliveries);
        differences(&mut found, "destination", &self.destinations, &other.destinations);
        differences(&mut found, "tombstone", &self.tombstones, &other.tombstones);
        differences(&mut found, "subscription", &self.subscriptions, &other.subscriptions);
        differences(&mut found, "key", &self.keys, &other.keys);
        differences(&mut found, "lane", &self.lanes, &other.lanes);
        differences(&mut found, "tally", &self.tallies, &other.tallies);
        for (what, should, is) in [
            ("events ever", self.events_ever, other.events_ever),
            ("deliveries that wait", self.waiting, other.waiting),
            ("records of the audit log", self.audited, other.audited),
        ] {
            if should != is {
                found.push(format!("{what}: {is}, should be {should}"));
            }
        }
        found
    }
}

fn differences<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    found: &mut Vec<String>,
    what: &str,
    should: &BTreeMap<K, V>,
    is: &BTreeMap<K, V>,
) {
    let short = |value: &V| format!("{value:?}").chars().take(400).collect::<String>();
    for (key, value) in should {
        match is.get(key) {
            None => found.push(format!("{what} {key:?} is gone")),
            Some(other) if other != value => {
                found.push(format!("{what} {key:?} is {}, should be {}", short(other), short(value)));
            }
            Some(_) => {}
        }
    }
    for key in is.keys().filter(|key| !should.contains_key(key)) {
        found.push(format!("{what} {key:?} came from nowhere"));
    }
}

fn add_audit(picture: &mut Picture, snapshot: &Snapshot) -> Result<(), ReadError> {
    let Chain { anchor, head } = snapshot.chain()?;
    let mut walk = Walk::from(head);
    let broken = |error: Broken| ReadError::Storage(format!("the audit log is broken: {error}"));
    let mut after = None;
    loop {
        let page = snapshot.audit(&Wanted::default(), Window { after, skip: 0, limit: 1000 })?;
        for (_, kept) in &page.items {
            walk.follow(kept).map_err(broken)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    walk.end(anchor).map_err(broken)?;
    picture.audited = walk.checked();
    Ok(())
}

fn add_events(picture: &mut Picture, snapshot: &Snapshot) -> Result<(), ReadError> {
    let mut after = None;
    loop {
        let page = snapshot.events(&EventsWanted::default(), Window { after, skip: 0, limit: 1000 })?;
        for event in page.items {
            for target in &event.head.targets {
                let key = DeliveryKey { destination: target.destination, seq: event.seq };
                let Some(delivery) = snapshot.delivery(key)? else { continue };
                let seen = DeliverySeen {
                    state: delivery.state,
                    ending: delivery.ended.map(|ended| ended.ending),
                    plan: delivery.row.map(|row| row.plan),
                    attempts: delivery.attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect(),
                };
                picture.deliveries.insert(delivery.key, seen);
            }
            let targets = event.head.targets.iter().map(|target| {
                // In which order it names them is not said.
                let mut subscriptions = target.subscriptions.clone();
                subscriptions.sort();
                (target.destination, subscriptions)
            });
            let seen = EventSeen {
                id: event.id(),
                tenant: event.head.tenant.clone(),
                kind: event.head.kind.clone(),
                producer_id: event.head.producer_id.as_ref().map(|id| id.as_str().to_owned()),
                body: event.body.bytes().cloned(),
                targets: targets.collect(),
            };
            picture.events.insert(event.seq, Arc::new(seen));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// A delivery's row as an attempt was leased from it.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    pub row: DueRow,
    /// Which of the delivery's rows it was: a later one may look the same.
    pub turn: u32,
}

/// One operation, with all that it was told.
#[derive(Debug, Clone)]
pub enum Deed {
    Accept {
        events: Vec<NewEvent>,
        waiting_max: u64,
    },
    Finish {
        lease: Lease,
        next: Next,
        health: Option<LaneHealth>,
        reply: Vec<u8>,
    },
    GiveUp {
        lease: Lease,
    },
    Start {
        leases: Vec<Lease>,
    },
    Unstart {
        key: DeliveryKey,
    },
    Cancel {
        key: DeliveryKey,
    },
    Resend {
        key: DeliveryKey,
    },
    Erase {
        seq: Seq,
    },
    SetPaused {
        no: DestinationNo,
        paused: bool,
    },
    CreateDestination {
        destination: Box<Destination>,
    },
    DeleteDestination {
        no: DestinationNo,
    },
    Subscribe {
        subscription: Subscription,
    },
    Unsubscribe {
        id: SubscriptionId,
    },
    /// `first` are the lane's first deliveries, as many as the limit.
    Purge {
        no: DestinationNo,
        first: Vec<DeliveryKey>,
        limit: usize,
    },
    Sweep {
        from: Seq,
        limit: usize,
        payloads: bool,
        attempts: bool,
        events: bool,
    },
    PutKey {
        key: ApiKey,
        must_exist: bool,
    },
    DeleteKey {
        id: KeyId,
    },
}

/// An operation's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Accepted(Vec<Result<Accepted, Refusal>>),
    Steered(Steered),
    Created(Result<u32, Rejected>),
    Done(Result<(), Rejected>),
    Found(bool),
    Purged(usize),
    Swept(Swept),
    Nothing,
}

/// The picture, and what is behind it.
#[derive(Debug, Clone)]
pub struct Model {
    pub picture: Picture,
    pub next_seq: u64,
    next_destination: u32,
    next_subscription: u32,
    pub producer_ids: BTreeMap<String, (Seq, EventType, Bytes)>,
    turns: HashMap<DeliveryKey, u32>,
    /// Attempts that the store was told of while they were under way.
    started: BTreeMap<DeliveryKey, Lease>,
}

impl Model {
    pub fn new() -> Self {
        Model {
            picture: Picture::default(),
            next_seq: 1,
            next_destination: 1,
            next_subscription: 1,
            producer_ids: BTreeMap::new(),
            turns: HashMap::new(),
            started: BTreeMap::new(),
        }
    }

    /// A lease on a delivery's present row.
    pub fn lease(&self, row: DueRow) -> Lease {
        Lease { row, turn: self.turns.get(&row.key()).copied().unwrap_or(0) }
    }

    /// What is done on somebody's behalf, and not refused, is in the audit log.
    pub fn apply(&mut self, deed: &Deed) -> Told {
        let told = self.do_it(deed);
        let is_audited = match &told {
            Told::Steered(steered) => *steered == Steered::Done,
            Told::Created(created) => created.is_ok(),
            Told::Done(done) => done.is_ok(),
            Told::Found(found) => *found,
            Told::Accepted(_) | Told::Purged(_) | Told::Swept(_) | Told::Nothing => false,
        };
        self.picture.audited += u64::from(is_audited);
        told
    }

    fn do_it(&mut self, deed: &Deed) -> Told {
        match deed {
            Deed::Accept { events, waiting_max } => {
                Told::Accepted(events.iter().map(|event| self.accept(event, *waiting_max)).collect())
            }
            Deed::Finish { lease, next, health, .. } => {
                self.finish(lease, *next, *health);
                Told::Nothing
            }
            Deed::Start { leases } => {
                for lease in leases.iter().filter(|lease| self.picture.events.contains_key(&lease.row.seq)) {
                    self.started.insert(lease.row.key(), *lease);
                }
                Told::Nothing
            }
            Deed::Unstart { key } => {
                self.started.remove(key);
                Told::Nothing
            }
            Deed::GiveUp { lease } => {
                self.started.remove(&lease.row.key());
                if self.takes(lease) {
                    self.end(lease.row.key(), Ending::Expired);
                }
                Told::Nothing
            }
            Deed::Cancel { key } => Told::Steered(self.cancel(*key)),
            Deed::Resend { key } => Told::Steered(self.resend(*key)),
            Deed::Erase { seq } => Told::Found(self.erase(*seq)),
            Deed::SetPaused { no, paused } => Told::Found(self.set_paused(*no, *paused)),
            Deed::CreateDestination { destination } => {
                let no = self.next_destination;
                self.next_destination += 1;
                let destination = Destination { no: DestinationNo(no), ..(**destination).clone() };
                self.picture.destinations.insert(destination.no, Arc::new(destination));
                Told::Created(Ok(no))
            }
            Deed::DeleteDestination { no } => Told::Done(self.delete_destination(*no)),
            Deed::Subscribe { subscription } => Told::Created(self.subscribe(subscription)),
            Deed::Unsubscribe { id } => {
                let before = self.picture.subscriptions.len();
                self.picture.subscriptions.retain(|_, it| it.id != *id);
                Told::Done(if self.picture.subscriptions.len() < before { Ok(()) } else { Err(Rejected::Unknown) })
            }
            Deed::Purge { no, first, .. } => {
                if self.picture.destinations.contains_key(no) {
                    return Told::Purged(0);
                }
                first.iter().for_each(|key| self.end(*key, Ending::DestinationDeleted));
                Told::Purged(first.len())
            }
            Deed::Sweep { from, limit, payloads, attempts, events } => {
                Told::Swept(self.sweep(*from, *limit, *payloads, *attempts, *events))
            }
            Deed::PutKey { key, must_exist } => {
                if *must_exist && !self.picture.keys.contains_key(&key.id) {
                    return Told::Done(Err(Rejected::Unknown));
                }
                self.picture.keys.insert(key.id, Arc::new(key.clone()));
                Told::Done(Ok(()))
            }
            Deed::DeleteKey { id } => {
                let removed = self.picture.keys.remove(id).is_some();
                Told::Done(if removed { Ok(()) } else { Err(Rejected::Unknown) })
            }
        }
    }

    fn accept(&mut self, event: &NewEvent, waiting_max: u64) -> Result<Accepted, Refusal> {
        let producer_id = event.producer_id.as_ref().map(|id| id.as_str().to_owned());
        if let Some((seq, kind, body)) = producer_id.as_ref().and_then(|id| self.producer_ids.get(id)) {
            let id = EventId::new(EPOCH, *seq);
            if *kind != event.kind || *body != event.body {
                return Err(Refusal::IdConflict(id));
            }
            let deliveries = self.picture.events.get(seq).map_or(0, |event| event.targets.len());
            return Ok(Accepted { id, duplicate: true, deliveries });
        }
        if self.picture.waiting >= waiting_max {
            return Err(Refusal::QueueFull);
        }
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        let mut targets = BTreeMap::<DestinationNo, Vec<SubscriptionNo>>::new();
        let subscriptions = self.picture.subscriptions.values();
        for subscription in subscriptions.filter(|subscription| subscription.pattern.matches(&event.kind)) {
            for no in &subscription.destinations {
                targets.entry(*no).or_default().push(subscription.no);
            }
        }
        for no in targets.keys() {
            self.picture.tallies.entry(*no).or_default().accepted += 1;
            let key = DeliveryKey { destination: *no, seq };
            let attempts = BTreeMap::new();
            let seen = DeliverySeen { state: DeliveryState::Pending, ending: None, plan: None, attempts };
            self.picture.deliveries.insert(key, seen);
            self.put_row(key, Plan::FIRST);
            self.picture.waiting += 1;
        }
        if let Some(id) = &producer_id {
            self.producer_ids.insert(id.clone(), (seq, event.kind.clone(), event.body.clone()));
        }
        let id = EventId::new(EPOCH, seq);
        let deliveries = targets.len();
        let seen = EventSeen {
            id,
            tenant: event.tenant.clone(),
            kind: event.kind.clone(),
            producer_id,
            body: Some(event.body.clone()),
            targets: targets.into_iter().collect(),
        };
        self.picture.events.insert(seq, Arc::new(seen));
        self.picture.events_ever += 1;
        Ok(Accepted { id, duplicate: false, deliveries })
    }

    fn put_row(&mut self, key: DeliveryKey, plan: Plan) {
        *self.turns.entry(key).or_default() += 1;
        self.delivery(key).plan = Some(plan);
    }

    fn delivery(&mut self, key: DeliveryKey) -> &mut DeliverySeen {
        self.picture.deliveries.get_mut(&key).expect("the delivery is there")
    }

    /// Whether the leased row still is the delivery's.
    fn takes(&self, lease: &Lease) -> bool {
        let key = lease.row.key();
        self.picture.deliveries.get(&key).is_some_and(|it| it.state == DeliveryState::Pending)
            && self.turns.get(&key) == Some(&lease.turn)
    }

    /// What an opening makes of it: attempts that were under way have ended, nobody knows how.
    pub fn reopened(mut self) -> Model {
        for (key, lease) in std::mem::take(&mut self.started) {
            let plan = lease.row.plan;
            if !self.picture.deliveries.contains_key(&key) {
                continue;
            }
            let takes = self.takes(&lease);
            self.delivery(key).attempts.insert(plan.number, Outcome::Unknown);
            let cut_off = plan.cut_off + 1;
            if !takes {
                self.move_on(key, plan.number);
            } else if cut_off == CUT_OFF_MAX {
                self.end(key, Ending::Exhausted);
            } else {
                self.put_row(key, Plan { number: plan.number + 1, cut_off, ..plan });
            }
        }
        self
    }

    /// A row that was made during an attempt takes the number after it.
    fn move_on(&mut self, key: DeliveryKey, number: u32) -> bool {
        let Some(planned) = self.delivery(key).plan else { return false };
        self.put_row(key, Plan { number: planned.number.max(number + 1), ..planned });
        true
    }

    fn finish(&mut self, lease: &Lease, next: Next, health: Option<LaneHealth>) {
        let (key, plan) = (lease.row.key(), lease.row.plan);
        self.started.remove(&key);
        if let Some(health) = health
            && self.picture.destinations.contains_key(&key.destination)
            && self.resumed(key.destination) == health.resumed
        {
            let paused = self.picture.lanes.get(&key.destination).is_some_and(|lane| lane.paused);
            self.put_lane(key.destination, Lane { paused, ordering: None, health });
        }
        if !self.picture.deliveries.contains_key(&key) {
            return;
        }
        let takes = self.takes(lease);
        self.delivery(key).attempts.insert(plan.number, outcome_of(next));
        if takes {
            match next {
                Next::Succeeded => {
                    let delivery = self.delivery(key);
                    (delivery.state, delivery.plan) = (DeliveryState::Succeeded, None);
                    self.tally(key.destination).succeeded += 1;
                    self.picture.waiting -= 1;
                }
                Next::Retry(_) => {
                    let plan = Plan {
                        number: plan.number + 1,
                        tried: plan.tried + 1,
                        trigger: Trigger::Schedule,
                        cut_off: 0,
                        ..plan
                    };
                    self.put_row(key, plan);
                }
                Next::Again(_) => self.put_row(key, Plan { number: plan.number + 1, cut_off: 0, ..plan }),
                Next::GivenUp(ending) => self.end(key, ending),
            }
        } else if !self.move_on(key, plan.number) && next == Next::Succeeded && self.delivery(key).ending.is_some() {
            self.uncount(key);
            let delivery = self.delivery(key);
            (delivery.state, delivery.ending) = (DeliveryState::Succeeded, None);
            self.tally(key.destination).succeeded += 1;
        }
    }

    fn tally(&mut self, no: DestinationNo) -> &mut Tally {
        self.picture.tallies.entry(no).or_default()
    }

    /// How often a lane has been resumed.
    pub fn resumed(&self, no: DestinationNo) -> u32 {
        self.picture.lanes.get(&no).map_or(0, |lane| lane.health.resumed)
    }

    fn put_lane(&mut self, no: DestinationNo, lane: Lane) {
        if lane == Lane::default() {
            self.picture.lanes.remove(&no);
        } else {
            self.picture.lanes.insert(no, lane);
        }
    }

    fn end(&mut self, key: DeliveryKey, ending: Ending) {
        let state = ending.state();
        let delivery = self.delivery(key);
        (delivery.state, delivery.ending, delivery.plan) = (state, Some(ending), None);
        match state {
            DeliveryState::Failed => self.tally(key.destination).failed += 1,
            _ => self.tally(key.destination).cancelled += 1,
        }
        self.picture.waiting -= 1;
    }

    fn uncount(&mut self, key: DeliveryKey) {
        let state = self.delivery(key).state;
        let tally = self.tally(key.destination);
        match state {
            DeliveryState::Succeeded => tally.succeeded -= 1,
            DeliveryState::Failed => tally.failed -= 1,
            DeliveryState::Cancelled => tally.cancelled -= 1,
            DeliveryState::Pending | DeliveryState::Held => {}
        }
    }

    fn cancel(&mut self, key: DeliveryKey) -> Steered {
        match self.picture.deliveries.get(&key).map(|delivery| delivery.state) {
            None => Steered::Unknown,
            Some(DeliveryState::Pending) => {
                self.end(key, Ending::Cancelled);
                Steered::Done
            }
            Some(state) => Steered::NotFrom(state),
        }
    }

    fn resend(&mut self, key: DeliveryKey) -> Steered {
        let Some(delivery) = self.picture.deliveries.get(&key) else { return Steered::Unknown };
        let waiting = match (delivery.state, delivery.plan) {
            // What waits for its first attempt is due here: there is nothing to bring forward.
            (DeliveryState::Pending, Some(plan)) if plan.tried > 0 => Some(plan),
            (DeliveryState::Pending, _) => return Steered::DueAlready,
            (_, _) => None,
        };
        if !self.picture.destinations.contains_key(&key.destination) {
            return Steered::NoDestination;
        }
        if self.picture.events[&key.seq].body.is_none() {
            return Steered::Erased;
        }
        if let Some(plan) = waiting {
            self.put_row(key, Plan { tried: 0, trigger: Trigger::Manual, cut_off: 0, ..plan });
            return Steered::Done;
        }
        let number = delivery.attempts.last_key_value().map_or(1, |(number, _)| number + 1);
        self.uncount(key);
        let delivery = self.delivery(key);
        (delivery.state, delivery.ending) = (DeliveryState::Pending, None);
        self.put_row(key, Plan { number, trigger: Trigger::Manual, in_line: false, ..Plan::FIRST });
        self.picture.waiting += 1;
        Steered::Done
    }

    fn erase(&mut self, seq: Seq) -> bool {
        match self.picture.events.get_mut(&seq) {
            Some(event) => {
                Arc::make_mut(event).body = None;
                true
            }
            None => false,
        }
    }

    fn set_paused(&mut self, no: DestinationNo, paused: bool) -> bool {
        if !self.picture.destinations.contains_key(&no) {
            return false;
        }
        let mut lane = self.picture.lanes.get(&no).copied().unwrap_or_default();
        lane.paused = paused;
        if !paused {
            lane.health = LaneHealth { resumed: lane.health.resumed + 1, ..LaneHealth::default() };
        }
        self.put_lane(no, lane);
        true
    }

    fn delete_destination(&mut self, no: DestinationNo) -> Result<(), Rejected> {
        let destination = self.picture.destinations.remove(&no).ok_or(Rejected::Unknown)?;
        for subscription in self.picture.subscriptions.values_mut() {
            if subscription.destinations.contains(&no) {
                Arc::make_mut(subscription).destinations.retain(|other| *other != no);
            }
        }
        self.picture.tombstones.insert(no, destination.name.clone());
        self.put_lane(no, Lane::default());
        Ok(())
    }

    fn subscribe(&mut self, subscription: &Subscription) -> Result<u32, Rejected> {
        if !subscription.destinations.iter().all(|no| self.picture.destinations.contains_key(no)) {
            return Err(Rejected::UnknownDestination);
        }
        let no = self.next_subscription;
        self.next_subscription += 1;
        let subscription = Subscription { no: SubscriptionNo(no), ..subscription.clone() };
        self.picture.subscriptions.insert(subscription.no, Arc::new(subscription));
        Ok(no)
    }

    fn sweep(&mut self, from: Seq, limit: usize, payloads: bool, attempts: bool, events: bool) -> Swept {
        // A slice ends with the event that brings it to its limit of deliveries, one without any counted as one.
        let (mut slice, mut deliveries) = (Vec::new(), 0);
        for (seq, event) in self.picture.events.range(from..) {
            deliveries += event.targets.len().max(1);
            slice.push(*seq);
            if deliveries >= limit {
                break;
            }
        }
        if !(payloads || attempts || events) {
            return Swept { next: None, touched: 0 };
        }
        let next = slice.last().filter(|_| deliveries >= limit).map(|seq| Seq(seq.0 + 1));
        let mut touched = 0;
        for seq in slice {
            let event = Arc::clone(&self.picture.events[&seq]);
            let keys = event.targets.iter().map(|(destination, _)| DeliveryKey { destination: *destination, seq });
            let keys: BTreeSet<DeliveryKey> = keys.collect();
            if keys.iter().any(|key| self.picture.deliveries[key].state == DeliveryState::Pending) {
                continue;
            }
            let mut touches = events;
            if attempts || events {
                for key in &keys {
                    let attempts = std::mem::take(&mut self.delivery(*key).attempts);
                    touches |= !attempts.is_empty();
                }
            }
            if events {
                keys.iter().for_each(|key| drop(self.picture.deliveries.remove(key)));
                self.picture.events.remove(&seq);
                if let Some(id) = &event.producer_id
                    && self.producer_ids.get(id).is_some_and(|(own, ..)| *own == seq)
                {
                    self.producer_ids.remove(id);
                }
            } else if payloads && event.body.is_some() {
                touches |= self.erase(seq);
            }
            touched += usize::from(touches);
        }
        Swept { next, touched }
    }
}

/// What an attempt came to, that means this for its delivery.
pub fn outcome_of(next: Next) -> Outcome {
    match next {
        Next::Succeeded => Outcome::Succeeded,
        Next::Retry(_) | Next::GivenUp(_) => Outcome::Failed,
        Next::Again(_) => Outcome::Unknown,
    }
}
