//! The scheduler in a simulated world: a paused clock, seeded chance, an in-memory wire, and a model beside it.
//!
//! Each run draws receivers (healthy, slow, flaky, hanging, refusing, gone, panicking), producers and operators from its seed,
//! lets months pass in a second, restarts the engine in between, and checks after every attempt and at the end what was
//! promised. A failure prints its seed; `POSTRIDER_SEED=n` runs that one alone, `POSTRIDER_SOAK=1` runs a thousand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::client::{Exchange, Request, Wire};
use postrider::clock::Clock;
use postrider::engine::{BreakerSettings, Engine, Metrics, Settings};
use postrider::model::event::NewEvent;
use postrider::model::schedule::{Plan, Retry};
use postrider::model::*;
use postrider::store::op::*;
use postrider::store::replays::{CancelReplay, CreateReplay};
use postrider::store::{self, DeliveriesWanted, InMemoryBackend, StorageBackend, Store, Window, WriterRuns};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp::from_millis(1_750_000_000_000);
const DELAYS: [u64; 3] = [5, 60, 600];
const ATTEMPTS_MAX: u32 = 6;
const CAP: u32 = 3;
/// The places of the destinations that are ordered from the beginning: a flaky receiver, one that asks for time, one whose
/// attempts panic.
const ORDERED: [usize; 3] = [2, 5, 7];

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Healthy,
    Slow,
    Flaky,
    Hanging,
    Refusing,
    Asking,
    Resetting,
    Panicking,
}

const NATURES: [Nature; 8] = [
    Nature::Healthy,
    Nature::Slow,
    Nature::Flaky,
    Nature::Hanging,
    Nature::Refusing,
    Nature::Asking,
    Nature::Resetting,
    Nature::Panicking,
];

/// The wire and the model of what may be seen on it.
#[derive(Clone)]
struct World(Arc<Mutex<Seen>>, Clock);

struct Seen {
    rng: fastrand::Rng,
    natures: HashMap<DestinationNo, Nature>,
    under_way: HashSet<String>,
    per_lane: HashMap<DestinationNo, u32>,
    /// Per delivery: the number and the end of its last attempt, whether it succeeded, and when its schedule began anew.
    last: HashMap<String, (u32, Timestamp)>,
    hold_until: HashMap<DestinationNo, Timestamp>,
    /// Lanes paused on disk, since when.
    paused: HashSet<DestinationNo>,
    /// Deliveries that an operator resent: the next attempt need not wait for the schedule.
    resent: HashSet<String>,
    /// Ordered lanes, and how far their lines have come.
    ordered: HashMap<DestinationNo, Seq>,
    /// Lanes that become ordered ones when the attempts have ended that are under way.
    ordering: HashSet<DestinationNo>,
    /// Deliveries that stand beside the line of their lane: sent again, or delayed.
    beside: HashSet<String>,
    /// Events that were delayed.
    delayed: HashSet<Seq>,
    store: Option<Store>,
    attempts: u64,
    broken: Vec<String>,
    /// Attempts whose end may be lost by a restart.
    restarts: u32,
}

impl World {
    fn new(seed: u64, clock: Clock) -> Self {
        let seen = Seen {
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            natures: HashMap::new(),
            under_way: HashSet::new(),
            per_lane: HashMap::new(),
            last: HashMap::new(),
            hold_until: HashMap::new(),
            paused: HashSet::new(),
            resent: HashSet::new(),
            ordered: HashMap::new(),
            ordering: HashSet::new(),
            beside: HashSet::new(),
            delayed: HashSet::new(),
            store: None,
            attempts: 0,
            broken: Vec::new(),
            restarts: 0,
        };
        World(Arc::new(Mutex::new(seen)), clock)
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// The rules of an ordered lane: one attempt at a time, and in its line nothing begins while anything that was accepted before
    /// it has not ended, by what is on disk.
    async fn keeps_order(&self, lane: DestinationNo, delivery: &str) {
        let seq = delivery.parse::<DeliveryId>().unwrap().event.seq();
        let (is_ordered, in_line, store) = self.seen(|seen| {
            if seen.per_lane.get(&lane).copied().unwrap_or_default() == 0 && seen.ordering.remove(&lane) {
                seen.ordered.insert(lane, Seq(0));
            }
            let in_line = !seen.beside.contains(delivery) && !seen.delayed.contains(&seq);
            (seen.ordered.contains_key(&lane), in_line, seen.store.clone())
        });
        let (Some(store), true, true) = (store, is_ordered, self.seen(|seen| seen.attempts.is_multiple_of(2))) else {
            return;
        };
        let rows =
            store.read(move |snapshot| snapshot.lane(lane, (Timestamp::ZERO, Seq(0)), usize::MAX)).await.unwrap();
        self.seen(|seen| {
            let mut say = |what: String| seen.broken.push(format!("{delivery} of an ordered lane: {what}"));
            if seen.per_lane.get(&lane).is_some_and(|running| *running > 0) {
                say("runs beside another one".into());
            }
            if !in_line {
                return;
            }
            if let Some(before) = rows.iter().find(|row| row.plan.in_line && row.seq < seq) {
                say(format!("began before {before:?} has ended"));
            }
            if let Some(reached) = seen.ordered.get_mut(&lane) {
                if seq < *reached {
                    say(format!("came after {reached:?}"));
                }
                *reached = seq.max(*reached);
            }
        });
    }

    fn check(&self, seed: u64) {
        let broken = self.seen(|seen| std::mem::take(&mut seen.broken));
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
    }
}

/// Ends an attempt in the model, however it ends.
struct UnderWay {
    world: World,
    delivery: String,
    number: u32,
    lane: DestinationNo,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.world.1.now();
        self.world.seen(|seen| {
            seen.under_way.remove(&self.delivery);
            *seen.per_lane.entry(self.lane).or_default() -= 1;
            seen.last.insert(self.delivery.clone(), (self.number, now));
        });
    }
}

impl Wire for World {
    async fn send(&self, request: Request) -> Exchange {
        let header = |name: &str| {
            let header = request.headers.iter().find(|(other, _)| other == name);
            header.unwrap().1.to_str().unwrap().to_owned()
        };
        let (delivery, lane) = (header("x-webhook-delivery"), request.lane);
        let number: u32 = header("x-webhook-attempt").parse().unwrap();
        self.keeps_order(lane, &delivery).await;
        let now = self.1.now();
        let (nature, dice, latency) = self.seen(|seen| {
            seen.attempts += 1;
            let mut say = |what: String| seen.broken.push(format!("{delivery} attempt {number} at {now}: {what}"));
            if !seen.under_way.insert(delivery.clone()) {
                say("runs twice at a time".into());
            }
            let running = seen.per_lane.entry(lane).or_default();
            *running += 1;
            if *running > CAP {
                say(format!("{running} at once in a lane of {CAP}"));
            }
            if seen.paused.contains(&lane) {
                say("was sent while its lane was paused".into());
            }
            if seen.hold_until.get(&lane).is_some_and(|until| now < *until) {
                say("came earlier than the receiver's Retry-After".into());
            }
            let resent = seen.resent.remove(&delivery);
            if let Some(&(before, ended)) = seen.last.get(&delivery) {
                // A restart may repeat an attempt whose end had not been written.
                if number <= before && seen.restarts == 0 {
                    say(format!("follows attempt {before}"));
                }
                let least = Duration::from_secs(DELAYS[(before.min(3) - 1) as usize].min(DELAYS[0]));
                if !resent && seen.restarts == 0 && now.since(ended) < least {
                    say(format!("came {:?} after the one before", now.since(ended)));
                }
            } else if number != 1 {
                say("has no attempt before it".into());
            }
            (seen.natures[&lane], seen.rng.u32(..100), seen.rng.u64(1..50))
        });
        let _under_way = UnderWay { world: self.clone(), delivery, number, lane };
        let latency = Duration::from_millis(if nature == Nature::Slow { latency * 100 } else { latency });
        tokio::time::sleep(latency).await;
        match nature {
            Nature::Healthy | Nature::Slow => Exchange::replied(200, ""),
            Nature::Flaky if dice < 50 => Exchange::replied(200, ""),
            Nature::Flaky => Exchange::replied(500, ""),
            Nature::Refusing => Exchange::replied(if dice < 10 { 204 } else { 400 }, ""),
            Nature::Hanging => {
                tokio::time::sleep(request.timeout).await;
                Exchange::failed(Reason::TimeoutTotal, "hung")
            }
            Nature::Resetting => Exchange::failed(Reason::Reset, "reset"),
            Nature::Asking if dice < 60 => Exchange::replied(200, ""),
            Nature::Asking => {
                let until = self.1.now().after(Duration::from_secs(120));
                self.seen(|seen| seen.hold_until.insert(lane, until));
                let headers = [("retry-after", "120")].into_iter().collect();
                Exchange { headers, ..Exchange::replied(503, "") }
            }
            Nature::Panicking if dice < 70 => Exchange::replied(200, ""),
            Nature::Panicking => panic!("a panicking receiver's attempt, as the simulation wants it"),
        }
    }
}

/// One store's bytes through several openings.
#[derive(Debug, Clone)]
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

fn open(disk: &Disk, clock: Clock) -> Store {
    let keys = store::Keys::new(store::MasterKey::new([7; store::KEY_BYTES]), [9; store::Keys::CHANCE_BYTES]);
    let settings =
        store::Settings { cache_bytes: 1 << 20, event_cache_bytes_max: 4096, ..store::Settings::at("memory", keys) };
    Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline).unwrap()
}

struct Running {
    stop: CancellationToken,
    metrics: Metrics,
    task: JoinHandle<()>,
}

fn run(store: &Store, world: &World, seed: u64) -> Running {
    let settings = Settings {
        breaker: BreakerSettings { failures_max: 5, shut_for: Duration::from_secs(30) },
        in_flight_total: 16,
        look_at_clock: Duration::from_secs(3600),
        janitor_round: Duration::from_secs(600),
        ..Settings::default()
    };
    let engine = Engine::new(settings, store.clone(), world.clone(), world.1, fastrand::Rng::with_seed(seed));
    let (stop, metrics) = (CancellationToken::new(), engine.metrics().clone());
    Running { task: tokio::spawn(engine.run(stop.clone())), stop, metrics }
}

fn destination(no: usize) -> Destination {
    let delays = DELAYS.map(Duration::from_secs).to_vec();
    let id = DestinationId(uuid::Uuid::from_u128(no as u128 + 1));
    let (tenant, url) = (TenantId::default_tenant(), "https://hooks.example.com/in");
    Destination {
        retry: Retry { plan: Plan::Delays(delays), attempts_max: Some(ATTEMPTS_MAX), jitter: Some(0.2) },
        timeout: Some(Duration::from_secs(10)),
        in_flight_max: Some(CAP),
        ordered: ORDERED.contains(&no),
        rate: (no % 4 == 3).then_some(Rate { events: 1, per: Duration::from_millis(200) }),
        ..Destination::new(DestinationNo(0), id, tenant, format!("d{no}"), url, START)
    }
}

fn event(kind: &str, rng: &mut fastrand::Rng, now: Timestamp) -> NewEvent {
    let seconds = |rng: &mut fastrand::Rng| now.after(Duration::from_secs(rng.u64(1..3000)));
    let (deliver_at, expires_at) = (
        (rng.u32(..10) == 0).then(|| seconds(rng)),
        (rng.u32(..10) == 0).then(|| seconds(rng).after(Duration::from_secs(3000))),
    );
    let body = vec![b'7'; rng.usize(1..3000)];
    NewEvent { deliver_at, expires_at, ..NewEvent::new(TenantId::default_tenant(), kind.parse().unwrap(), body) }
}

async fn deliveries(store: &Store) -> Vec<store::Delivery> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let window = Window { after, skip: 0, limit: usize::MAX };
        let wanted = DeliveriesWanted::default();
        let page = store.read(move |snapshot| snapshot.deliveries(&wanted, window)).await.unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// P4, P5, P6; invariants 2, 3, 4, 8 of the design: see the module's own words.
fn simulate(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async move {
        let clock = Clock::of_runtime(START);
        let disk = Disk(Arc::new(InMemoryBackend::new()));
        let world = World::new(seed, clock);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut store = open(&disk, clock);
        let mut nos = Vec::new();
        for (place, nature) in NATURES.into_iter().enumerate() {
            let created =
                store.steer(&Actor::SYSTEM, CreateDestination { destination: destination(place) }).await.unwrap();
            let no = created.answer.unwrap().no;
            world.seen(|seen| seen.natures.insert(no, nature));
            if ORDERED.contains(&place) {
                world.seen(|seen| seen.ordered.insert(no, Seq(0)));
            }
            let subscription = Subscription {
                no: SubscriptionNo(0),
                id: SubscriptionId(uuid::Uuid::from_u128(place as u128 + 1)),
                tenant: TenantId::default_tenant(),
                pattern: if place % 2 == 0 { "*".parse().unwrap() } else { "even.*".parse().unwrap() },
                name: None,
                roll_up: false,
                filter: None,
                destinations: vec![no],
                registered: None,
                created: START,
            };
            store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
            nos.push(no);
        }
        world.seen(|seen| seen.store = Some(store.clone()));
        let mut engine = run(&store, &world, seed);
        let with_restarts = seed % 2 == 1;
        for step in 0..120 {
            match rng.u32(..100) {
                0..60 => {
                    let kind = if rng.bool() { "even.one" } else { "odd" };
                    let events: Vec<_> = (0..rng.usize(1..6)).map(|_| event(kind, &mut rng, clock.now())).collect();
                    let delayed: Vec<_> = events.iter().map(|event| event.deliver_at.is_some()).collect();
                    let accepted = store.submit(Accept { events, waiting_max: u64::MAX }).await.unwrap().answer;
                    for (accepted, _) in accepted.into_iter().zip(delayed).filter(|(_, delayed)| *delayed) {
                        world.seen(|seen| seen.delayed.insert(accepted.unwrap().id.seq()));
                    }
                }
                60..75 => {
                    let all = deliveries(&store).await;
                    if !all.is_empty() {
                        let chosen = &all[rng.usize(..all.len())];
                        let key = chosen.key;
                        let answer = if rng.bool() {
                            store.steer(&Actor::SYSTEM, Cancel { key }).await.unwrap().answer
                        } else {
                            let name = delivery_name(&store, key).await;
                            world.seen(|seen| seen.resent.insert(name.clone()));
                            let ended = chosen.state != DeliveryState::Pending;
                            if ended {
                                world.seen(|seen| seen.beside.insert(name.clone()));
                            }
                            let answer = store
                                .steer(&Actor::SYSTEM, Resend { key, trigger: Trigger::Manual })
                                .await
                                .unwrap()
                                .answer;
                            if answer != Steered::Done {
                                world.seen(|seen| seen.resent.remove(&name));
                            }
                            answer
                        };
                        assert_ne!(answer, Steered::Unknown, "seed {seed}");
                    }
                }
                75..85 => {
                    let no = nos[rng.usize(..nos.len())];
                    let paused = rng.bool();
                    if !paused {
                        world.seen(|seen| (seen.paused.remove(&no), seen.hold_until.remove(&no)));
                    }
                    let _ = store.steer(&Actor::SYSTEM, SetPaused { no, paused }).await.unwrap();
                    if paused {
                        // The engine hears of it by the bell, in its next beat.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        world.seen(|seen| seen.paused.insert(no));
                    }
                }
                90..93 => {
                    let no = nos[rng.usize(..nos.len())];
                    let before = Arc::clone(store.catalog().destination(no).unwrap());
                    let ordered = !before.ordered;
                    let after = Destination { ordered, ..Destination::clone(&before) };
                    if !ordered {
                        world.seen(|seen| (seen.ordered.remove(&no), seen.ordering.remove(&no)));
                    }
                    let update = UpdateDestination { before, after, action: audit::Action::DestinationUpdate };
                    let _ = store.steer(&Actor::SYSTEM, update).await.unwrap().answer.unwrap();
                    if ordered {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        world.seen(|seen| seen.ordering.insert(no));
                    }
                }
                85..90 if with_restarts => {
                    if rng.bool() {
                        engine.stop.cancel();
                        engine.task.await.unwrap();
                    } else {
                        engine.task.abort();
                        let _ = engine.task.await;
                    }
                    // Whatever ran has been dropped with its engine.
                    tokio::task::yield_now().await;
                    store.close().await;
                    world.seen(|seen| seen.store = None);
                    drop(store);
                    store = open(&disk, clock);
                    world.seen(|seen| (seen.restarts += 1, seen.store = Some(store.clone())));
                    engine = run(&store, &world, seed + step);
                }
                _ => tokio::time::sleep(Duration::from_millis(rng.u64(1..200_000))).await,
            }
            store.read(|snapshot| snapshot.conservation()).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            world.check(seed);
        }
        for no in &nos {
            world.seen(|seen| (seen.paused.remove(no), seen.hold_until.remove(no)));
            let _ = store.steer(&Actor::SYSTEM, SetPaused { no: *no, paused: false }).await.unwrap();
        }
        // Two weeks are enough for every schedule, breaker and wish of a receiver.
        for _ in 0..14 * 24 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            if store.standing(|standing| standing.waiting) == 0 {
                break;
            }
        }
        world.check(seed);
        store.read(|snapshot| snapshot.conservation()).await.unwrap();
        let all = deliveries(&store).await;
        let mut states = BTreeMap::<_, usize>::new();
        for delivery in &all {
            *states.entry(delivery.state.as_str()).or_default() += 1;
            let numbers: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
            let whole: Vec<_> = (1..=numbers.len() as u32).collect();
            assert_eq!(numbers, whole, "seed {seed}: {:?}", delivery.key);
            if delivery.ended.is_none() {
                let last =
                    delivery.attempts.last().unwrap_or_else(|| panic!("seed {seed}: success without an attempt"));
                assert_eq!(last.outcome, Outcome::Succeeded, "seed {seed}");
            }
        }
        let waiting = states.get("pending").copied().unwrap_or(0);
        assert_eq!(waiting, 0, "seed {seed}: every delivery ends: {states:?}");
        assert_eq!(store.standing(|standing| standing.oldest), None, "seed {seed}");
        engine.stop.cancel();
        engine.task.await.unwrap();
        world.check(seed);
        assert!(world.seen(|seen| seen.under_way.is_empty()), "seed {seed}: whatever starts ends");
        world.seen(|seen| seen.attempts)
    })
}

async fn delivery_name(store: &Store, key: DeliveryKey) -> String {
    let event = store.event(key.seq).await.unwrap().unwrap();
    DeliveryId { event: event.id(), destination: key.destination }.to_string()
}

/// Retention by age, and S3.17: the engine's own janitor erases what has aged, removes it in the end, and ends what waits for a
/// destination that was deleted.
#[test]
fn the_janitor_keeps_the_house() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = Clock::of_runtime(START);
        let world = World::new(1, clock);
        let store = open(&Disk(Arc::new(InMemoryBackend::new())), clock);
        let mut nos = Vec::new();
        for (place, nature) in [Nature::Healthy, Nature::Healthy].into_iter().enumerate() {
            let no = store
                .steer(&Actor::SYSTEM, CreateDestination { destination: destination(place) })
                .await
                .unwrap()
                .answer
                .unwrap()
                .no;
            world.seen(|seen| seen.natures.insert(no, nature));
            nos.push(no);
        }
        let subscription = Subscription {
            no: SubscriptionNo(0),
            id: SubscriptionId(uuid::Uuid::from_u128(1)),
            tenant: TenantId::default_tenant(),
            pattern: "*".parse().unwrap(),
            name: None,
            roll_up: false,
            filter: None,
            destinations: nos.clone(),
            registered: None,
            created: START,
        };
        store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
        assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[1], paused: true }).await.unwrap().answer);
        let engine = run(&store, &world, 1);
        let plain = NewEvent::new(TenantId::default_tenant(), "a".parse().unwrap(), "secret");
        let accepted = store.submit(Accept { events: vec![plain], waiting_max: 9 }).await.unwrap().answer.remove(0);
        let seq = accepted.unwrap().id.seq();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(store.standing(|standing| (standing.tally(nos[0]).succeeded, standing.waiting)), (1, 1));

        store.steer(&Actor::SYSTEM, DeleteDestination { no: nos[1] }).await.unwrap().answer.unwrap();
        tokio::time::sleep(DAY).await;
        assert_eq!(store.standing(|standing| (standing.tally(nos[1]).cancelled, standing.waiting)), (1, 0));
        let look = async || store.read(move |snapshot| snapshot.event(seq)).await.unwrap();
        assert!(look().await.unwrap().body.bytes().is_some());
        // A walk over what has aged begins every 25 days at this pace of rounds.
        tokio::time::sleep(60 * DAY).await;
        assert!(look().await.unwrap().body.bytes().is_none(), "the payload has aged");
        tokio::time::sleep(60 * DAY).await;
        assert!(look().await.is_none(), "and so has the event");
        store.read(|snapshot| snapshot.conservation()).await.unwrap();
        engine.stop.cancel();
        engine.task.await.unwrap();
    });
}

fn in_flight(engine: &Running) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    engine.metrics.register(&mut registry);
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("attempts_in_flight "));
    line.expect("the engine counts them").to_owned()
}

/// An attempt that has run for 100 ms leaves a trace when the daemon is killed, and the next one has the next number. One that
/// has not may be repeated as if it had never been, and one that ends in time costs no row.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_its_time_survives_a_kill_in_the_history() {
    let clock = Clock::of_runtime(START);
    let disk = Disk(Arc::new(InMemoryBackend::new()));
    let world = World::new(1, clock);
    let mut store = open(&disk, clock);
    let no = store
        .steer(&Actor::SYSTEM, CreateDestination { destination: destination(0) })
        .await
        .unwrap()
        .answer
        .unwrap()
        .no;
    world.seen(|seen| seen.natures.insert(no, Nature::Hanging));
    let subscription = Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(uuid::Uuid::from_u128(1)),
        tenant: TenantId::default_tenant(),
        pattern: "*".parse().unwrap(),
        name: None,
        roll_up: false,
        filter: None,
        destinations: vec![no],
        registered: None,
        created: START,
    };
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    let event = NewEvent::new(TenantId::default_tenant(), "a".parse().unwrap(), "1");
    store.submit(Accept { events: vec![event], waiting_max: 9 }).await.unwrap().answer.remove(0).unwrap();

    for (runs_for, attempts, number) in [(90, 0, 1), (110, 1, 2), (130, 2, 3)] {
        let engine = run(&store, &world, 1);
        // Opened again after a second kill, it waits for its turn.
        while world.seen(|seen| seen.under_way.is_empty()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(in_flight(&engine), "1", "it is counted from its beginning");
        tokio::time::sleep(Duration::from_millis(runs_for)).await;
        engine.task.abort();
        let _ = engine.task.await;
        tokio::task::yield_now().await;
        drop(store);
        store = open(&disk, clock);
        world.seen(|seen| seen.restarts += 1);
        let all = deliveries(&store).await;
        assert_eq!((all[0].attempts.len(), all[0].row.unwrap().plan.number), (attempts, number), "after {runs_for} ms");
        let interrupted = |attempt: &Attempt| attempt.reason == Some(Reason::Interrupted);
        assert!(all[0].attempts.iter().all(interrupted));
    }
    let last = world.seen(|seen| seen.last.values().next().copied());
    assert_eq!(last.map(|(number, _)| number), Some(2), "the wire saw 1, 1 and 2");
    world.check(1);
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

/// A receiver that takes a while, and what it saw: each delivery's attempts with their numbers, and when each began.
#[derive(Clone)]
struct Steady(Arc<Mutex<Vec<(String, u32, Timestamp)>>>, Clock);

const TAKES: Duration = Duration::from_millis(50);

impl Wire for Steady {
    async fn send(&self, request: Request) -> Exchange {
        let header = |name: &str| {
            let (_, value) = request.headers.iter().find(|(own, _)| own == name).unwrap();
            value.to_str().unwrap().to_owned()
        };
        let (delivery, number) = (header("x-webhook-delivery"), header("x-webhook-attempt").parse().unwrap());
        self.0.lock().unwrap().push((delivery, number, self.1.now()));
        tokio::time::sleep(TAKES).await;
        Exchange::replied(200, "")
    }
}

impl Steady {
    fn seen(&self) -> Vec<(String, u32, Timestamp)> {
        self.0.lock().unwrap().clone()
    }
}

/// A store with one destination, and deliveries to it that have failed for good.
async fn with_failures(store: &Store, count: usize) -> DestinationNo {
    let create = CreateDestination { destination: destination(0) };
    let no = store.steer(&Actor::SYSTEM, create).await.unwrap().answer.unwrap().no;
    let subscription = Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(uuid::Uuid::from_u128(1)),
        tenant: TenantId::default_tenant(),
        pattern: "*".parse().unwrap(),
        name: None,
        roll_up: false,
        filter: None,
        destinations: vec![no],
        registered: None,
        created: START,
    };
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    let plain = || NewEvent::new(TenantId::default_tenant(), "old".parse().unwrap(), "1");
    let events = (0..count).map(|_| plain()).collect();
    let _ = store.submit(Accept { events, waiting_max: u64::MAX }).await.unwrap();
    let rows = store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), usize::MAX)).await.unwrap();
    for row in rows {
        let attempt = Attempt {
            number: 1,
            due: row.due,
            started: START,
            duration: TAKES,
            trigger: Trigger::Schedule,
            outcome: Outcome::Failed,
            reason: Some(Reason::Status),
            status: Some(500),
            request_headers: Default::default(),
            response_headers: Default::default(),
            response_body: vec![],
            error: None,
            address: None,
            phases: Default::default(),
            reconnected: false,
            next: None,
        };
        let next = Next::GivenUp(postrider::model::delivery::Ending::Exhausted);
        let _ = store.submit(Finish { row, attempt, next, health: None }).await.unwrap();
    }
    no
}

fn run_on(store: &Store, wire: impl Wire, clock: Clock) -> (CancellationToken, JoinHandle<()>) {
    let settings = Settings { look_at_clock: Duration::from_secs(3600), ..Settings::default() };
    let engine = Engine::new(settings, store.clone(), wire, clock, fastrand::Rng::with_seed(1));
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(engine.run(stop)))
}

async fn replay_all(store: &Store, rate: u32) -> ReplayId {
    let tenant = TenantId::default_tenant();
    let state = DeliveryState::Failed;
    let wanted = ReplayWanted { tenant, destination: None, kind: None, from: None, to: None, state };
    let rate = Rate { events: rate, per: Duration::from_secs(1) };
    let create = CreateReplay { wanted, rate, matched: 0, exact: false };
    store.steer(&Actor::SYSTEM, create).await.unwrap().answer.unwrap().id
}

async fn replay_of(store: &Store, id: ReplayId) -> Replay {
    store.read(move |snapshot| snapshot.replay(id)).await.unwrap().unwrap()
}

/// PROMISES, overload: a replay of thousands, as fast as it may, does not delay fresh events of the same lane by more than a few
/// attempts, and comes to its end beside them. A lane of three slots and attempts of 50 ms takes sixty a second; the ten fresh
/// ones a second leave fifty for the replay.
#[tokio::test(start_paused = true)]
async fn a_replay_of_thousands_does_not_starve_fresh_events() {
    let clock = Clock::of_runtime(START);
    let store = open(&Disk(Arc::new(InMemoryBackend::new())), clock);
    let wire = Steady(Arc::default(), clock);
    with_failures(&store, 3000).await;
    let (stop, engine) = run_on(&store, wire.clone(), clock);
    let id = replay_all(&store, 10_000).await;
    let mut accepted = HashMap::new();
    let begun = clock.now();
    while replay_of(&store, id).await.state == ReplayState::Running {
        let fresh = NewEvent::new(TenantId::default_tenant(), "new".parse().unwrap(), "1");
        let seq = store.submit(Accept { events: vec![fresh], waiting_max: u64::MAX }).await.unwrap().answer.remove(0);
        let key = DeliveryKey { destination: DestinationNo(1), seq: seq.unwrap().id.seq() };
        accepted.insert(delivery_name(&store, key).await, clock.now());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = clock.now().since(begun);
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.cancel();
    engine.await.unwrap();
    let seen = wire.seen();
    let worst = seen.iter().filter_map(|(name, _, at)| accepted.get(name).map(|accepted| at.since(*accepted))).max();
    assert!(accepted.len() > 500, "{} fresh ones", accepted.len());
    assert!(worst.is_some_and(|worst| worst <= 3 * TAKES), "a fresh one waited {worst:?}");
    assert_eq!(seen.len(), 3000 + accepted.len());
    assert!(took < Duration::from_secs(90), "the replay took {took:?}");
    let replay = replay_of(&store, id).await;
    assert_eq!((replay.state, replay.matched, replay.done), (ReplayState::Done, 3000, 3000));
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

/// A replay keeps its rate, goes on after a kill where its last slice ended, waits while its lane is paused, and stops when it is
/// cancelled.
#[tokio::test(start_paused = true)]
async fn a_replay_keeps_its_rate_and_goes_on_after_a_kill() {
    let (clock, disk) = (Clock::of_runtime(START), Disk(Arc::new(InMemoryBackend::new())));
    let mut store = open(&disk, clock);
    let wire = Steady(Arc::default(), clock);
    let no = with_failures(&store, 300).await;
    let id = replay_all(&store, 20).await;
    for round in 1..=5 {
        let (_, engine) = run_on(&store, wire.clone(), clock);
        tokio::time::sleep(Duration::from_secs(2)).await;
        engine.abort();
        let _ = engine.await;
        tokio::task::yield_now().await;
        drop(store);
        store = open(&disk, clock);
        let done = replay_of(&store, id).await.done;
        assert!((round * 36..=round * 44).contains(&done), "{done} after {round} times two seconds at 20 a second");
    }
    let (stop, engine) = run_on(&store, wire.clone(), clock);
    assert!(store.steer(&Actor::SYSTEM, SetPaused { no, paused: true }).await.unwrap().answer);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let paused = replay_of(&store, id).await;
    assert_eq!(paused.state, ReplayState::Running);
    let waiting = store.standing(|standing| standing.waiting);
    assert!((1..=40).contains(&waiting), "{waiting} wait in a paused lane");
    assert!(store.steer(&Actor::SYSTEM, SetPaused { no, paused: false }).await.unwrap().answer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.steer(&Actor::SYSTEM, CancelReplay { id }).await.unwrap().answer.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let cancelled = replay_of(&store, id).await;
    assert!(cancelled.done >= paused.done && cancelled.done < 300, "{} of {}", cancelled.done, paused.done);
    let second = replay_all(&store, 10_000).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(replay_of(&store, second).await.done, 300 - cancelled.done, "what is left is what was not done");
    stop.cancel();
    engine.await.unwrap();
    // The wire may have seen what a kill cut off twice, but each time as the second attempt of its delivery.
    assert!(wire.seen().iter().all(|(_, number, _)| *number == 2));
    assert_eq!(store.standing(|standing| (standing.tally(no).succeeded, standing.waiting)), (300, 0));
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

#[test]
fn the_scheduler_keeps_its_promises_in_a_simulated_world() {
    // The panics that the world asks for are not news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let wanted =
            info.payload().downcast_ref::<&str>().is_some_and(|text| text.contains("as the simulation wants it"));
        if !wanted {
            hook(info);
        }
    }));
    let seeds = match std::env::var("POSTRIDER_SEED") {
        Ok(seed) => vec![seed.parse().expect("POSTRIDER_SEED is a number")],
        Err(_) if std::env::var_os("POSTRIDER_SOAK").is_some() => (0..1000).collect(),
        Err(_) => (0..20).collect(),
    };
    let attempts: u64 = seeds.iter().map(|seed| simulate(*seed)).sum();
    assert!(attempts > 100 * seeds.len() as u64, "the world was not idle: {attempts} attempts");
}
