//! Segments against a plain list of everything that happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use redb::{ReadableDatabase, ReadableTableMetadata};

use crate::clock::Clock;
use crate::model::delivery::Ending;
use crate::model::event::{CloudAttributes, NewEvent};
use crate::model::{
    Actor, Attempt, DeliveryKey, DeliveryState, DestinationNo, Milestone, Outcome, Seq, Subscription, SubscriptionNo,
    Tenant, TenantId, Timestamp, Trigger,
};
use crate::store::op::*;
use crate::store::tests::{attempt, destination, event, subscription};
use crate::store::{
    DeliveriesWanted, DueRow, EventsWanted, InMemoryBackend, Settings, StorageBackend, Store, Window, WriterRuns, lock,
    tables,
};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A tenant below the default one.
pub(in crate::store) fn child(id: &str) -> Tenant {
    Tenant {
        id: id.parse().unwrap(),
        name: id.into(),
        parent: Some(TenantId::default_tenant()),
        created: START,
        audit_from: 0,
    }
}

/// A disk that outlives its store.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<InMemoryBackend>);

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

fn open(disk: &Disk, clock: Clock, run_events: usize) -> Store {
    let settings = Settings { cache_bytes: 1 << 20, run_events, ..Settings::at("memory", crate::store::tests::keys()) };
    Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline).unwrap()
}

/// Types of events; which destinations each goes to follows from the patterns of [`PATTERNS`].
const KINDS: [&str; 5] = ["a.one", "a.two", "b", "c.x.y", "lonely"];
/// One destination for each.
const PATTERNS: [&str; 4] = ["*", "a.*", "c.x.*", "b"];
/// Whose the events of each kind are; the destinations are those of the first, to whom all events roll up.
const TENANTS: [&str; 5] = ["default", "default", "one", "two", "default"];

#[derive(Debug, Clone)]
enum Act {
    Accept { kind: usize, id: Option<u8>, key: Option<u8>, body: u8, cloud: bool },
    Finish { pick: usize, how: How, status: usize },
    Cancel { pick: usize },
    Resend { pick: usize },
    Erase { pick: usize },
    Pause { hours: u64 },
    Sweep { days: u64 },
    DeleteDestination,
    Restart { run_events: usize },
    Look { limit: usize, skip: usize },
}

/// What an attempt comes to.
#[derive(Debug, Clone, Copy)]
enum How {
    Succeeds,
    Fails,
    GoesOn,
}

const STATUSES: [Option<u16>; 4] = [Some(200), Some(204), Some(503), None];

fn act() -> impl Strategy<Value = Act> {
    let of_some = |range: std::ops::Range<u8>| prop::option::weighted(0.7, range);
    prop_oneof![
        30 => (0..KINDS.len(), of_some(0..30), of_some(0..4), 0u8..2, prop::bool::weighted(0.2))
            .prop_map(|(kind, id, key, body, cloud)| Act::Accept { kind, id, key, body, cloud }),
        12 => (any::<usize>(), prop_oneof![2 => Just(How::Succeeds), 2 => Just(How::Fails), 1 => Just(How::GoesOn)], 0..STATUSES.len())
            .prop_map(|(pick, how, status)| Act::Finish { pick, how, status }),
        2 => any::<usize>().prop_map(|pick| Act::Cancel { pick }),
        1 => any::<usize>().prop_map(|pick| Act::Resend { pick }),
        2 => any::<usize>().prop_map(|pick| Act::Erase { pick }),
        2 => (1u64..72).prop_map(|hours| Act::Pause { hours }),
        2 => (0u64..9).prop_map(|days| Act::Sweep { days }),
        1 => Just(Act::DeleteDestination),
        2 => prop_oneof![Just(16), Just(5)].prop_map(|run_events| Act::Restart { run_events }),
        3 => (1usize..12, 0usize..4).prop_map(|(limit, skip)| Act::Look { limit, skip }),
    ]
}

/// What is true, as a plain list tells it.
struct Told {
    seq: Seq,
    new: NewEvent,
    accepted: Timestamp,
    deliveries: BTreeMap<DestinationNo, DeliveryState>,
    failed: BTreeSet<DestinationNo>,
    succeeded: BTreeSet<DestinationNo>,
    statuses: BTreeMap<DestinationNo, Option<u16>>,
    erased: bool,
}

struct World {
    disk: Disk,
    clock: Clock,
    store: Store,
    nos: Vec<DestinationNo>,
    deleted: Vec<DestinationNo>,
    told: Vec<Told>,
}

impl World {
    async fn new(run_events: usize) -> Self {
        let (disk, clock) = (Disk::default(), Clock::of_runtime(START));
        let store = open(&disk, clock, run_events);
        for id in ["one", "two"] {
            store.steer(&Actor::SYSTEM, CreateTenant { tenant: child(id) }).await.unwrap().answer.unwrap();
        }
        let mut nos = Vec::new();
        for pattern in PATTERNS {
            let no =
                store.steer(&Actor::SYSTEM, CreateDestination { destination: destination(pattern) }).await.unwrap();
            let no = no.answer.unwrap().no;
            nos.push(no);
            let subscription = Subscription { roll_up: true, ..subscription(pattern, &[no]) };
            store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
        }
        World { disk, clock, store, nos, deleted: Vec::new(), told: Vec::new() }
    }

    /// P3, as a walk over all there is: the newest event of this name decides, for seven days.
    fn verdict(&self, new: &NewEvent) -> Option<Result<Seq, Seq>> {
        let source = |event: &NewEvent| event.cloud.as_ref().map(|cloud| cloud.source.clone());
        let same_name = |told: &&Told| {
            new.producer_id.is_some()
                && told.new.producer_id == new.producer_id
                && told.new.tenant == new.tenant
                && source(&told.new) == source(new)
        };
        let told = self.told.iter().rev().find(same_name)?;
        let same = told.new.kind == new.kind && told.new.key == new.key && told.new.body == new.body;
        let remembered = self.clock.now().since(told.accepted) < Duration::from_secs(7 * 24 * 3600);
        remembered.then_some(if same { Ok(told.seq) } else { Err(told.seq) })
    }

    async fn accept(&mut self, new: NewEvent) {
        let verdict = self.verdict(&new);
        let accepted = Accept { events: vec![new.clone()], waiting_max: u64::MAX };
        let answer = self.store.submit(accepted).await.unwrap().answer.remove(0);
        match verdict {
            Some(Ok(seq)) => assert_eq!(answer.map(|it| (it.id.seq(), it.duplicate)), Ok((seq, true))),
            Some(Err(seq)) => {
                let Err(Refusal::IdConflict(id)) = answer else { panic!("{answer:?}") };
                assert_eq!(id.seq(), seq);
            }
            None => {
                let answer = answer.unwrap();
                assert!(!answer.duplicate);
                let head = self.store.event(answer.id.seq()).await.unwrap().unwrap().head.clone();
                let targets = head.targets.iter().map(|target| (target.destination, DeliveryState::Pending));
                let (seq, accepted) = (answer.id.seq(), head.accepted);
                self.told.push(Told {
                    seq,
                    new,
                    accepted,
                    deliveries: targets.collect(),
                    failed: BTreeSet::new(),
                    succeeded: BTreeSet::new(),
                    statuses: BTreeMap::new(),
                    erased: false,
                });
            }
        }
    }

    /// One of the deliveries in these states.
    fn pick(&self, pick: usize, states: &[DeliveryState]) -> Option<DeliveryKey> {
        let all =
            self.told.iter().flat_map(|told| told.deliveries.iter().map(move |(no, state)| (told.seq, *no, *state)));
        let fitting: Vec<_> = all.filter(|(_, _, state)| states.contains(state)).collect();
        let (seq, destination, _) = *fitting.get(pick.checked_rem(fitting.len())?)?;
        Some(DeliveryKey { destination, seq })
    }

    fn set(&mut self, key: DeliveryKey, state: DeliveryState) {
        let told = self.told.iter_mut().find(|told| told.seq == key.seq).unwrap();
        *told.deliveries.get_mut(&key.destination).unwrap() = state;
    }

    async fn row(&self, key: DeliveryKey) -> DueRow {
        let delivery = self.store.read(move |snapshot| snapshot.delivery(key)).await.unwrap().unwrap();
        delivery.row.unwrap()
    }

    async fn act(&mut self, act: &Act) {
        use DeliveryState::{Cancelled, Failed, Pending, Succeeded};
        match *act {
            Act::Accept { kind, id, key, body, cloud } => {
                let id = id.map(|id| format!("T-{id}"));
                let mut new = event(KINDS[kind], id.as_deref(), &body.to_string());
                new.tenant = TENANTS[kind].parse().unwrap();
                new.key = key.map(|key| format!("k{key}").parse().unwrap());
                new.cloud = cloud.then(|| CloudAttributes { id: "1".into(), source: "/till".into(), others: vec![] });
                self.accept(new).await;
            }
            Act::Finish { pick, how, status } => {
                let Some(key) = self.pick(pick, &[Pending]) else { return };
                let row = self.row(key).await;
                let later = self.clock.now().after(Duration::from_secs(3600));
                let (outcome, next, due, state) = match how {
                    How::Succeeds => (Outcome::Succeeded, Next::Succeeded, None, Succeeded),
                    How::Fails => (Outcome::Failed, Next::GivenUp(Ending::Exhausted), None, Failed),
                    How::GoesOn => (Outcome::Failed, Next::Retry(later), Some(later), Pending),
                };
                let status = STATUSES[status];
                let attempt = Attempt { status, ..attempt(row, outcome, due) };
                let _ = self.store.submit(Finish { row, attempt, next, health: None }).await.unwrap();
                self.set(key, state);
                let told = self.told.iter_mut().find(|told| told.seq == key.seq).unwrap();
                told.statuses.insert(key.destination, status);
                match outcome {
                    Outcome::Succeeded => told.succeeded.insert(key.destination),
                    Outcome::Failed | Outcome::Unknown => told.failed.insert(key.destination),
                };
            }
            Act::Cancel { pick } => {
                let Some(key) = self.pick(pick, &[Pending]) else { return };
                assert_eq!(self.store.steer(&Actor::SYSTEM, Cancel { key }).await.unwrap().answer, Steered::Done);
                self.set(key, Cancelled);
            }
            Act::Resend { pick } => {
                let Some(key) = self.pick(pick, &[Pending, Succeeded, Failed, Cancelled]) else { return };
                let answer =
                    self.store.steer(&Actor::SYSTEM, Resend { key, trigger: Trigger::Manual }).await.unwrap().answer;
                if answer == Steered::Done {
                    self.set(key, Pending);
                }
            }
            Act::Erase { pick } => {
                let Some(place) = pick.checked_rem(self.told.len()) else { return };
                let told = &mut self.told[place];
                told.erased = true;
                let erased = self.store.steer(&Actor::SYSTEM, ErasePayload { seq: told.seq }).await.unwrap().answer;
                assert_eq!(erased, Erased::Done);
            }
            Act::Pause { hours } => tokio::time::advance(Duration::from_secs(hours * 3600)).await,
            Act::Sweep { days } => {
                let before = self.clock.now().before(Duration::from_secs(days * 24 * 3600));
                let mut from = Some(Seq(0));
                while let Some(place) = from {
                    let ages = Ages {
                        payloads_before: before,
                        attempts_before: before,
                        events_before: before,
                        now: Timestamp::MAX,
                    };
                    let sweep = Sweep { from: place, limit: 7, ages };
                    from = self.store.submit(sweep).await.unwrap().answer.next;
                }
                let waits = |told: &Told| told.deliveries.values().any(|state| *state == Pending);
                self.told.retain(|told| told.accepted >= before || waits(told));
            }
            Act::DeleteDestination => {
                if self.deleted.len() < 2 {
                    let no = self.nos[self.deleted.len() + 1];
                    self.store.steer(&Actor::SYSTEM, DeleteDestination { no }).await.unwrap().answer.unwrap();
                    while self.store.submit(Purge { no, limit: 5 }).await.unwrap().answer == 5 {}
                    self.deleted.push(no);
                    let states = self.told.iter_mut().filter_map(|told| told.deliveries.get_mut(&no));
                    states.filter(|state| **state == Pending).for_each(|state| *state = Cancelled);
                }
            }
            Act::Restart { run_events } => {
                // A store that is dropped has not been closed: what has not been committed is gone.
                let elsewhere = open(&Disk::default(), self.clock, run_events);
                drop(std::mem::replace(&mut self.store, elsewhere));
                self.store = open(&self.disk, self.clock, run_events);
            }
            Act::Look { limit, skip } => self.look(limit, skip).await,
        }
    }

    fn events_wanted(&self) -> Vec<EventsWanted> {
        let kind = |text: &str| Some(text.parse().unwrap());
        let middle = self.told.get(self.told.len() / 2).map(|told| told.accepted);
        vec![
            EventsWanted::default(),
            EventsWanted { kind: kind("a.one"), ..EventsWanted::default() },
            EventsWanted { kind: kind("a.*"), ..EventsWanted::default() },
            EventsWanted { kind: kind("nothing.such"), ..EventsWanted::default() },
            EventsWanted { key: Some("k1".into()), ..EventsWanted::default() },
            EventsWanted { kind: kind("c.*"), key: Some("k2".into()), ..EventsWanted::default() },
            EventsWanted { from: middle, ..EventsWanted::default() },
            EventsWanted { tenant: "one".parse().ok(), ..EventsWanted::default() },
            EventsWanted { tenant: "two".parse().ok(), key: Some("k2".into()), ..EventsWanted::default() },
            EventsWanted { tenant: "none".parse().ok(), ..EventsWanted::default() },
            EventsWanted { to: middle, kind: kind("b"), ..EventsWanted::default() },
        ]
    }

    fn takes(&self, wanted: &EventsWanted, told: &Told) -> bool {
        wanted.tenant.as_ref().is_none_or(|tenant| *tenant == told.new.tenant)
            && wanted.kind.as_ref().is_none_or(|kind| kind.matches(&told.new.kind))
            && wanted.key.as_ref().is_none_or(|key| told.new.key.as_ref().is_some_and(|own| own.as_str() == key))
            && wanted.from.is_none_or(|from| told.accepted >= from)
            && wanted.to.is_none_or(|to| told.accepted < to)
    }

    /// Every list in pages of `limit`, against the plain walk.
    async fn look(&self, limit: usize, skip: usize) {
        self.store.read(|snapshot| snapshot.conservation()).await.unwrap();
        for wanted in self.events_wanted() {
            let newest_first = self.told.iter().rev().filter(|told| self.takes(&wanted, told));
            let all: Vec<_> = newest_first.map(|told| told.seq).skip(skip).collect();
            let (mut seen, mut after, mut skip) = (Vec::new(), None, skip);
            loop {
                let (window, asked) = (Window { after, skip, limit }, wanted.clone());
                let page = self.store.read(move |snapshot| snapshot.events(&asked, window)).await.unwrap();
                seen.extend(page.items.iter().map(|event| event.seq));
                (after, skip) = (page.next, 0);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all, "{wanted:?}");
        }
        let held = vec![self.nos[0]];
        for (subscription, milestone) in [(Some(1), None), (Some(3), None), (None, Some(0)), (Some(2), Some(0))] {
            for destination in [None, Some(self.nos[1])] {
                let wanted = DeliveriesWanted {
                    subscription: subscription.map(SubscriptionNo),
                    milestone: milestone.map(|_: u8| Milestone::Failed),
                    destination,
                    ..DeliveriesWanted::default()
                };
                self.look_at(&wanted, limit, skip).await;
            }
        }
        for events in self.events_wanted() {
            for (state, destination) in [(None, None), (Some(DeliveryState::Failed), Some(self.nos[0]))] {
                let milestone = Some(Milestone::Failed);
                let wanted = DeliveriesWanted {
                    events: events.clone(),
                    state,
                    destination,
                    milestone,
                    ..DeliveriesWanted::default()
                };
                self.look_at(&wanted, limit, skip).await;
            }
        }
        let some_statuses = [(Some(200), None), (Some(204), None), (Some(503), None), (None, Some(Milestone::Success))];
        use DeliveryState::{Cancelled, Pending, Succeeded};
        let all = self.events_wanted();
        for (status, milestone) in some_statuses.into_iter().chain([(Some(200), Some(Milestone::Failed))]) {
            for (turn, (state, among, destination)) in [
                (None, None, None),
                (None, Some([0, 2]), None),
                (None, None, Some(3)),
                (Some(Succeeded), None, Some(0)),
                (Some(Cancelled), None, None),
                (Some(Pending), Some([0, 1]), None),
            ]
            .into_iter()
            .enumerate()
            {
                for events in [EventsWanted::default(), all[(turn * 2 + 1) % all.len()].clone()] {
                    let wanted = DeliveriesWanted {
                        events,
                        destination: destination.map(|place: usize| self.nos[place]),
                        among: among.map(|places: [usize; 2]| places.map(|place| self.nos[place]).into()),
                        state,
                        status,
                        milestone,
                        ..DeliveriesWanted::default()
                    };
                    self.look_at(&wanted, limit, skip).await;
                }
            }
        }
        let states = [None, Some(DeliveryState::Pending), Some(DeliveryState::Held), Some(DeliveryState::Succeeded)];
        let states = states.into_iter().chain([Some(DeliveryState::Failed), Some(DeliveryState::Cancelled)]);
        for state in states {
            for events in self.events_wanted().into_iter().take(9) {
                for (destination, among) in [(None, None), (Some(0), None), (Some(1), None), (None, Some([0, 2]))] {
                    let wanted = DeliveriesWanted {
                        events: events.clone(),
                        destination: destination.map(|place: usize| self.nos[place]),
                        among: among.map(|places: [usize; 2]| places.map(|place| self.nos[place]).into()),
                        state,
                        held: held.clone(),
                        ..DeliveriesWanted::default()
                    };
                    self.look_at(&wanted, limit, skip).await;
                }
            }
        }
    }

    async fn look_at(&self, wanted: &DeliveriesWanted, limit: usize, skip: usize) {
        let told = self.told.iter().rev().filter(|told| self.takes(&wanted.events, told));
        let of_told = |told: &'_ Told| {
            let has = |no: &DestinationNo| {
                (told.failed.contains(no), told.succeeded.contains(no), told.statuses.get(no).copied().flatten())
            };
            told.deliveries.iter().map(|(no, state)| (told.seq, *no, *state, has(no))).collect::<Vec<_>>()
        };
        let deliveries = told.flat_map(of_told);
        // Each destination has one subscription, of the same place.
        let subscribed =
            |no| self.nos.iter().position(|other| *other == no).map(|place| SubscriptionNo(place as u32 + 1));
        type Row = (Seq, DestinationNo, DeliveryState, (bool, bool, Option<u16>));
        let is_wanted = |(_, no, state, (has_failed, has_succeeded, status)): &Row| {
            let held = *state == DeliveryState::Pending && wanted.held.contains(no);
            let state = if held { DeliveryState::Held } else { *state };
            wanted.destination.is_none_or(|wanted| wanted == *no)
                && wanted.among.as_ref().is_none_or(|among| among.contains(no))
                && wanted.state.is_none_or(|wanted| wanted == state)
                && wanted.subscription.is_none_or(|wanted| Some(wanted) == subscribed(*no))
                && (wanted.milestone != Some(Milestone::Failed) || *has_failed)
                && (wanted.milestone != Some(Milestone::Success) || *has_succeeded)
                && wanted.status.is_none_or(|wanted| *status == Some(wanted))
        };
        let all: Vec<_> = deliveries.filter(is_wanted).map(|(seq, no, _, _)| (seq, no)).skip(skip).collect();
        let (mut seen, mut after, mut skip) = (Vec::new(), None, skip);
        loop {
            let (window, asked) = (Window { after, skip, limit }, wanted.clone());
            let page = self.store.read(move |snapshot| snapshot.deliveries(&asked, window)).await.unwrap();
            seen.extend(page.items.iter().map(|delivery| (delivery.key.seq, delivery.key.destination)));
            (after, skip) = (page.next, 0);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "{wanted:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// P3, S2.21: whatever happens in between, restarts between two slices included, ids and lists are what a plain walk
    /// over everything finds.
    #[test]
    fn segments_tell_what_a_plain_walk_tells(acts in prop::collection::vec(act(), 1..250)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(16).await;
            for act in &acts {
                world.act(act).await;
            }
            world.act(&Act::Restart { run_events: 16 }).await;
            world.look(100, 0).await;
        });
    }
}

pub(in crate::store) fn soak() -> bool {
    std::env::var("POSTRIDER_SOAK").is_ok_and(|set| set == "1")
}

fn cases() -> u32 {
    if soak() { 2000 } else { 24 }
}

impl World {
    /// A commit that does nothing but carry a slice.
    async fn carry(&self) {
        assert!(
            !self
                .store
                .steer(&Actor::SYSTEM, SetPaused { no: DestinationNo(u32::MAX), paused: true })
                .await
                .unwrap()
                .answer
        );
    }

    /// What is older than a day goes, and there is a start.
    async fn pass_a_day(&mut self) {
        tokio::time::advance(Duration::from_secs(24 * 3600)).await;
        for act in [Act::Sweep { days: 1 }, Act::Restart { run_events: 64 }] {
            for _ in 0..200 {
                self.carry().await;
            }
            self.act(&act).await;
        }
        for _ in 0..200 {
            self.carry().await;
        }
    }

    /// Rows of chapters, and of facts.
    fn chapter_rows(&self) -> (u64, u64) {
        let transaction = self.store.0.db.begin_read().unwrap();
        let rows = (transaction.open_table(tables::CHAPTERS).unwrap(), transaction.open_table(tables::FACTS).unwrap());
        (rows.0.len().unwrap(), rows.1.len().unwrap())
    }

    fn segment_rows(&self) -> u64 {
        let transaction = self.store.0.db.begin_read().unwrap();
        transaction.open_table(tables::SEGMENTS.table()).unwrap().len().unwrap()
    }
}

/// A run's own row names all rows before the first of them is written, so that a crash between two slices leaves none that
/// nobody knows of.
#[tokio::test(start_paused = true)]
async fn a_run_that_was_cut_short_is_written_anew_and_leaves_nothing_when_its_events_go() {
    let mut world = World::new(16).await;
    for round in 0..120u8 {
        world.act(&Act::Accept { kind: 0, id: Some(round), key: Some(round % 3), body: 0, cloud: false }).await;
        if round % 3 == 0 {
            world.act(&Act::Restart { run_events: if round % 2 == 0 { 16 } else { 9 } }).await;
        }
    }
    assert!(world.segment_rows() > 0);
    world.look(100, 0).await;
    while world.pick(0, &[DeliveryState::Pending]).is_some() {
        world.act(&Act::Cancel { pick: 0 }).await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..2 {
        world.act(&Act::Sweep { days: 0 }).await;
        for _ in 0..300 {
            world.carry().await;
        }
    }
    assert!(world.told.is_empty());
    // Of each destination the last chapter stays.
    let rows = world.chapter_rows();
    assert!(rows.0 <= 2 && rows.1 <= 2, "{rows:?}");
    assert_eq!((world.segment_rows(), lock(&world.store.0.shared.runs).counts()), (0, (1, 0)));
}

/// A busy destination has a thousand chapters in one run, which all go with it. They went in a single commit, for what the
/// removal of a run's list counts for.
#[tokio::test(start_paused = true)]
async fn the_chapters_of_a_run_go_a_slice_at_a_time() {
    let (world, total) = (World::new(1024).await, 1030);
    for start in (0..total).step_by(103) {
        let events = (start..start + 103).map(|n: usize| event("lonely", Some(&n.to_string()), "1"));
        let accept = Accept { events: events.collect(), waiting_max: u64::MAX };
        assert!(world.store.submit(accept).await.unwrap().answer.iter().all(Result::is_ok));
    }
    let no = world.nos[0];
    world.store.steer(&Actor::SYSTEM, DeleteDestination { no }).await.unwrap().answer.unwrap();
    assert_eq!(world.store.submit(Purge { no, limit: 2 * total }).await.unwrap().answer, total);
    while lock(&world.store.0.shared.runs).counts() != (1, 1) {
        world.carry().await;
    }
    let (chapters, _) = world.chapter_rows();
    assert_eq!(chapters, total as u64 / 4);
    tokio::time::advance(Duration::from_secs(1)).await;
    let now = world.clock.now();
    let ages = Ages { payloads_before: now, attempts_before: now, events_before: now, now: Timestamp::MAX };
    let mut before = chapters;
    let swept = world.store.submit(Sweep { from: Seq(0), limit: 2 * total, ages }).await.unwrap().answer;
    assert_eq!(swept.touched, total);
    for _ in 0..1000 {
        let (after, _) = world.chapter_rows();
        assert!(before - after <= 16, "{} of {chapters} went in one commit", before - after);
        before = after;
        world.carry().await;
    }
    assert_eq!((before, world.segment_rows()), (2, 0), "those that do not end in the run stay");
}

/// Retention took the oldest events of the open run, a start began the run at the first that was left, and the chapters before
/// it belonged to no run any more: nobody ever asked for them again.
#[tokio::test(start_paused = true)]
async fn the_chapters_of_events_that_went_before_a_start_go_after_it() {
    let mut world = World::new(64).await;
    // One delivery waits the whole time, and its event with it, in a run that is sealed.
    world.act(&Act::Accept { kind: 4, id: None, key: None, body: 0, cloud: false }).await;
    for round in 0..30 {
        for turn in 0..if round == 0 { 64 } else { 10 } {
            world.act(&Act::Accept { kind: 0, id: None, key: None, body: 0, cloud: false }).await;
            let (how, status) = if turn % 2 == 0 { (How::Succeeds, 0) } else { (How::Fails, 2) };
            world.act(&Act::Finish { pick: 1, how, status }).await;
            world.act(&Act::Finish { pick: 1, how, status }).await;
        }
        world.pass_a_day().await;
        world.store.read(|snapshot| snapshot.conservation()).await.unwrap();
        // Of both destinations four deliveries have a chapter, and a chapter three facts: those of the sealed run, and of two rounds.
        let (chapters, facts) = world.chapter_rows();
        let is_bounded = chapters <= 2 * (16 + 5) && facts <= 3 * 2 * (16 + 6);
        assert!(is_bounded, "{chapters} chapters and {facts} facts in round {round}");
    }
    assert_eq!(lock(&world.store.0.shared.runs).counts(), (1, 1));
    world.act(&Act::Finish { pick: 0, how: How::Succeeds, status: 0 }).await;
    world.pass_a_day().await;
    world.pass_a_day().await;
    assert!(world.told.is_empty());
    let (chapters, facts) = world.chapter_rows();
    assert!(chapters <= 2 && facts <= 2 * 3, "of each destination the last stays: {chapters} chapters, {facts} facts");
}

#[tokio::test(start_paused = true)]
async fn filters_go_when_their_ids_are_no_longer_remembered() {
    let mut world = World::new(16).await;
    let fill = async |world: &mut World, ids: std::ops::Range<u8>| {
        for id in ids {
            world.act(&Act::Accept { kind: 0, id: Some(id), key: None, body: 0, cloud: false }).await;
        }
        for _ in 0..50 {
            world.carry().await;
        }
    };
    fill(&mut world, 0..40).await;
    let runs = || lock(&world.store.0.shared.runs).clone();
    assert_eq!((runs().counts().1, runs().filter_bytes()), (2, 2 * 64));
    tokio::time::advance(Duration::from_secs(8 * 24 * 3600)).await;
    fill(&mut world, 40..80).await;
    let runs = || lock(&world.store.0.shared.runs).clone();
    assert_eq!(runs().counts().1, 4);
    assert!(runs().filter_bytes() < 4 * 64, "the two of the first week are gone");
    let named = world
        .store
        .read(|snapshot| snapshot.event_by_producer_id(&TenantId::default_tenant(), &"T-3".parse().unwrap()));
    assert_eq!(named.await.unwrap().unwrap().seq, world.told[3].seq, "an old id is still found, without its filter");
}
