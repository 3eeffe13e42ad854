//! The engine over a store in which records go bad, and under a clock that lies: what must end ends, and nothing else stops.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::task::JoinHandle;

use super::*;
use crate::client::{Exchange, Request};
use crate::model::delivery::Ending;
use crate::model::event::NewEvent;
use crate::model::replay::ReplayWanted;
use crate::model::schedule::{Plan, Retry};
use crate::model::{Actor, DeliveryKey, DeliveryState, DestinationNo, Rate, Seq, TenantId, Timestamp, Trigger};
use crate::store::op::*;
use crate::store::replays::CreateReplay;
use crate::store::requests::BeginRequest;
use crate::store::tests::{Disk, Flip, destination, event, keys, subscription};
use crate::store::{DeliveriesWanted, EventsWanted, OpenError, Window, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_750_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Receivers: the first takes everything, the second every third request, the third is paused.
#[derive(Clone, Default)]
struct Receivers(Arc<(AtomicU64, Mutex<HashMap<String, u32>>)>);

impl Receivers {
    /// How often each delivery has been taken.
    fn taken(&self) -> HashMap<String, u32> {
        self.0.1.lock().unwrap().clone()
    }
}

impl Wire for Receivers {
    async fn send(&self, request: Request) -> Exchange {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let turn = self.0.0.fetch_add(1, Ordering::Relaxed);
        if request.lane == DestinationNo(2) && !turn.is_multiple_of(3) {
            return Exchange::replied(500, "");
        }
        let (_, delivery) = request.headers.iter().find(|(name, _)| name == "x-webhook-delivery").unwrap();
        *self.0.1.lock().unwrap().entry(delivery.to_str().unwrap().to_owned()).or_default() += 1;
        Exchange::replied(200, "")
    }
}

fn open(disk: &Disk, clock: Clock) -> Result<Store, OpenError> {
    let settings = crate::store::Settings {
        cache_bytes: 1 << 20,
        // Every event is read from the file, as after a restart.
        event_cache_bytes_max: 0,
        run_events: 8,
        ..crate::store::Settings::at("memory", keys())
    };
    Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline)
}

fn run(store: &Store, receivers: &Receivers, clock: Clock) -> (CancellationToken, JoinHandle<()>) {
    let settings = Settings {
        breaker: BreakerSettings { failures_max: 0, shut_for: Duration::from_secs(30) },
        janitor_round: Duration::from_secs(60),
        ..Settings::default()
    };
    let engine = Engine::new(settings, store.clone(), receivers.clone(), clock, fastrand::Rng::with_seed(1));
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(engine.run(stop)))
}

/// Three destinations that all events go to; the last one is paused.
async fn configured(store: &Store) -> Vec<DestinationNo> {
    let mut nos = Vec::new();
    for name in ["takes", "flaky", "paused"] {
        let retry = Retry { plan: Plan::Delays(vec![Duration::from_secs(60)]), attempts_max: Some(50), jitter: None };
        let destination = Destination { retry, ..destination(name) };
        nos.push(store.steer(&Actor::SYSTEM, CreateDestination { destination }).await.unwrap().answer.unwrap().no);
    }
    let subscription = subscription("*", &nos);
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[2], paused: true }).await.unwrap().answer);
    nos
}

async fn accept(store: &Store, ids: std::ops::Range<u32>) -> Vec<Accepted> {
    let body = "a payload ".repeat(50);
    let events = ids.map(|id| event("order.paid", Some(&format!("T{id}")), &body)).collect();
    let taken = store.submit(Accept { events, waiting_max: 10_000 }).await.unwrap().answer;
    taken.into_iter().map(Result::unwrap).collect()
}

const ALL: Window = Window { after: None, skip: 0, limit: 10_000 };

async fn deliveries(store: &Store) -> Vec<crate::store::Delivery> {
    store.read(|snapshot| snapshot.deliveries(&DeliveriesWanted::default(), ALL)).await.unwrap().items
}

async fn conserved(store: &Store, what: &str) {
    assert!(!store.has_failed(), "{what}");
    store.read(|snapshot| snapshot.conservation()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// P4: a delivery whose event is damaged is given up with that reason, wherever it stands in its lane. Those behind it go on, and
/// those of a lane that is held wait for it to open.
#[tokio::test(start_paused = true)]
async fn deliveries_of_a_damaged_event_fail_with_the_reason_and_stop_no_lane() {
    for bit in [5, 160, 3000] {
        let (disk, clock, receivers) = (Disk::default(), Clock::of_runtime(START), Receivers::default());
        let store = open(&disk, clock).unwrap();
        let nos = configured(&store).await;
        accept(&store, 0..30).await;
        for place in [0, 7, 29] {
            let _ = store.submit(Flip { table: "events", place, bit }).await.unwrap();
        }
        let (stop, running) = run(&store, &receivers, clock);
        tokio::time::sleep(HOUR).await;
        let tally = |no| store.standing(|standing| standing.tally(no));
        for no in &nos[..2] {
            assert_eq!((tally(*no).succeeded, tally(*no).failed), (27, 3), "bit {bit}");
        }
        assert_eq!(tally(nos[2]).waiting(), 30);
        assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[2], paused: false }).await.unwrap().answer);
        tokio::time::sleep(HOUR).await;
        assert_eq!((tally(nos[2]).waiting(), tally(nos[2]).failed), (0, 3));
        for delivery in deliveries(&store).await {
            let ending = delivery.ended.map(|ended| ended.ending);
            assert!(ending.is_none_or(|ending| ending == Ending::Damaged), "{delivery:?}");
        }
        assert!(receivers.taken().values().all(|times| *times == 1));
        conserved(&store, "deliveries of a damaged event").await;
        stop.cancel();
        running.await.unwrap();
    }
}

/// P13: a clock that runs ahead, by an hour, a day, or into 2099, and is set right, leaves nothing behind it: what it made due
/// comes when its wait is over, by a clock that is right, with or without a restart in between, and with no more attempts than
/// each jump explains.
#[tokio::test(start_paused = true)]
async fn what_a_clock_that_ran_ahead_made_due_is_brought_forward() {
    static BY: AtomicI64 = AtomicI64::new(0);
    const HOURS: i64 = 3_600_000;
    for by in [HOURS, 24 * HOURS, 74 * 365 * 24 * HOURS, -HOURS, -24 * HOURS, -(START.as_millis() as i64)] {
        for restarts in [false, true] {
            BY.store(0, Ordering::Relaxed);
            let (disk, clock, receivers) =
                (Disk::default(), Clock::of_runtime_set_by(START, &BY), Receivers::default());
            let mut store = open(&disk, clock).unwrap();
            let nos = configured(&store).await;
            let (mut stop, mut running) = run(&store, &receivers, clock);
            accept(&store, 0..20).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            BY.store(by, Ordering::Relaxed);
            accept(&store, 20..40).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            if restarts {
                stop.cancel();
                running.await.unwrap();
                store.close().await;
                drop(store);
                BY.store(0, Ordering::Relaxed);
                store = open(&disk, clock).unwrap();
                (stop, running) = run(&store, &receivers, clock);
            }
            BY.store(0, Ordering::Relaxed);
            tokio::time::sleep(HOUR).await;
            for no in &nos[..2] {
                let tally = store.standing(|standing| standing.tally(*no));
                assert_eq!((tally.succeeded, tally.waiting()), (40, 0), "{by} {restarts}: {tally:?}");
            }
            assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[2], paused: false }).await.unwrap().answer);
            tokio::time::sleep(HOUR).await;
            assert_eq!(store.standing(|standing| standing.waiting), 0, "{by} {restarts}");
            let attempts = receivers.0.0.load(Ordering::Relaxed);
            assert!(attempts <= 2 * (40 + 3 * 40 + 40), "{by} {restarts}: {attempts}");
            conserved(&store, "a clock that ran ahead").await;
            stop.cancel();
            running.await.unwrap();
        }
    }
}

/// A bulk replay whose record is damaged stops, and the others go on.
#[tokio::test(start_paused = true)]
async fn a_damaged_bulk_replay_stops_and_another_goes_on() {
    let (disk, clock, receivers) = (Disk::default(), Clock::of_runtime(START), Receivers::default());
    let store = open(&disk, clock).unwrap();
    let nos = configured(&store).await;
    accept(&store, 0..30).await;
    let (stop, running) = run(&store, &receivers, clock);
    tokio::time::sleep(HOUR).await;
    let replay = |no| CreateReplay {
        wanted: ReplayWanted {
            tenant: TenantId::default_tenant(),
            destination: Some(no),
            kind: None,
            state: DeliveryState::Succeeded,
            from: None,
            to: None,
        },
        rate: Rate { events: 1, per: Duration::from_secs(1) },
        matched: 30,
        exact: true,
    };
    for no in &nos[..2] {
        assert!(store.steer(&Actor::SYSTEM, replay(*no)).await.unwrap().answer.is_ok());
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _ = store.submit(Flip { table: "replays", place: 1, bit: 200 }).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert!(store.replays_running().borrow().is_empty());
    let left = store.read(|snapshot| snapshot.replays(None)).await.unwrap();
    assert_eq!((left.len(), left[0].done), (1, 30));
    conserved(&store, "a damaged replay").await;
    stop.cancel();
    running.await.unwrap();
    store.close().await;
    drop(store);
    conserved(&open(&disk, clock).unwrap(), "a start over it").await;
}

/// Tables whose records may go bad while the daemon goes on.
const TABLES: [&str; 11] =
    ["events", "due", "attempts", "started", "ended", "segments", "lanes", "tallies", "audit", "replays", "requests"];

/// P3, P4: whatever record goes bad, and whenever in a little life of traffic, steering, retention and restarts: the store does
/// not fail, each start goes on, counts are conserved, no lane stops, and what is not damaged itself is delivered.
#[test]
fn a_flipped_bit_costs_what_it_hits_and_nothing_else() {
    let (from, count) = match std::env::var("POSTRIDER_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0, if std::env::var_os("POSTRIDER_SOAK").is_some() { 2000 } else { 22 }),
    };
    let mut met = HashSet::new();
    for seed in from..from + count {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        met.extend(runtime.block_on(little_life(seed)));
    }
    assert!(count == 1 || met.len() >= 7, "{met:?}");
}

/// Answers the table that was hit.
async fn little_life(seed: u64) -> Option<&'static str> {
    let (mut rng, disk, receivers) = (fastrand::Rng::with_seed(seed), Disk::default(), Receivers::default());
    let clock = Clock::of_runtime(START);
    let mut store = open(&disk, clock).unwrap();
    let nos = configured(&store).await;
    let table = TABLES[seed as usize % TABLES.len()];
    let (hit_in, mut hit, mut accepted) = (rng.u32(1..6), None, 0);
    let what = format!("seed {seed}, {table}");
    let (mut stop, mut running) = run(&store, &receivers, clock);
    for round in 0..8_u8 {
        accept(&store, accepted..accepted + 6).await;
        accepted += 6;
        let _ = store.submit(BeginRequest { scope: [round; 32], fingerprint: [0; 32], kept_max: 8 }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(rng.u64(1..200))).await;
        for _ in 0..2 {
            let key = DeliveryKey { destination: nos[rng.usize(..3)], seq: Seq(rng.u64(1..=u64::from(accepted))) };
            if rng.bool() {
                let _ = store.steer(&Actor::SYSTEM, Cancel { key }).await.unwrap();
            } else {
                let _ = store.steer(&Actor::SYSTEM, Resend { key, trigger: Trigger::Manual }).await.unwrap();
            }
        }
        if u32::from(round) == hit_in {
            let flip = Flip { table, place: rng.usize(..1000), bit: rng.usize(..1 << 20) };
            hit = store.submit(flip).await.unwrap().answer;
        }
        let page = store.read(|snapshot| snapshot.events(&EventsWanted::default(), ALL)).await.unwrap();
        let least = accepted as usize - usize::from(table == "events" && hit.is_some());
        assert!(page.items.len() >= least, "{what}: {} of {accepted}", page.items.len());
        deliveries(&store).await;
        // Whoever sends them all again makes none: but for one whose record was damaged before a start could read its id.
        let events = store.standing(|standing| standing.events);
        let again = accept(&store, 0..accepted).await;
        let fresh = again.iter().filter(|accepted| !accepted.duplicate).count();
        assert!(fresh <= usize::from(table == "events" && hit.is_some()), "{what}: {fresh} again");
        assert_eq!(store.standing(|standing| standing.events), events + fresh as u64);
        conserved(&store, &what).await;
        if rng.bool() {
            let ages = Ages { payloads_before: START, attempts_before: START, events_before: START, now: clock.now() };
            let _ = store.submit(Sweep { from: Seq(0), limit: 1000, ages }).await.unwrap();
        }
        if rng.bool() {
            stop.cancel();
            running.await.unwrap();
            store.close().await;
            drop(store);
            store = open(&disk, clock).unwrap_or_else(|error| panic!("{what}: {error}"));
            (stop, running) = run(&store, &receivers, clock);
        }
    }
    // Everything is let go, and comes to its end.
    for no in &nos {
        assert!(store.steer(&Actor::SYSTEM, SetPaused { no: *no, paused: false }).await.unwrap().answer);
    }
    tokio::time::sleep(2 * HOUR).await;
    for no in &nos {
        let tally = store.standing(|standing| standing.tally(*no));
        assert_eq!(tally.waiting(), 0, "{what}: {tally:?}");
        // What failed, failed by the damage alone: one event's delivery, or one end.
        assert!(tally.failed <= 1, "{what}: {tally:?}");
    }
    conserved(&store, &what).await;
    for delivery in deliveries(&store).await {
        let ending = delivery.ended.map(|ended| ended.ending);
        let is_fine = match delivery.state {
            DeliveryState::Succeeded => true,
            DeliveryState::Cancelled => ending == Some(Ending::Cancelled),
            DeliveryState::Failed => ending == Some(Ending::Damaged),
            DeliveryState::Pending | DeliveryState::Held => false,
        };
        assert!(is_fine, "{what}: {delivery:?}");
    }
    stop.cancel();
    running.await.unwrap();
    store.close().await;
    drop(store);
    conserved(&open(&disk, clock).unwrap(), &what).await;
    hit.map(|_| table)
}

/// A receiver that is down, and when each attempt came, by a clock that does not jump.
#[derive(Clone)]
struct Down(Arc<Mutex<Vec<(DestinationNo, String, tokio::time::Instant)>>>);

impl Wire for Down {
    async fn send(&self, request: Request) -> Exchange {
        let (_, kind) = request.headers.iter().find(|(name, _)| name == "x-webhook-event").unwrap();
        let kind = kind.to_str().unwrap().to_owned();
        self.0.lock().unwrap().push((request.lane, kind, tokio::time::Instant::now()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        Exchange::replied(500, "")
    }
}

impl Down {
    /// The most attempts in any such span since a moment.
    fn most_in(&self, span: Duration, since: tokio::time::Instant) -> usize {
        let came: Vec<_> = self.0.lock().unwrap().iter().map(|(_, _, at)| *at).filter(|at| *at >= since).collect();
        let within = |first: usize| came[first..].iter().take_while(|at| **at < came[first] + span).count();
        (0..came.len()).map(within).max().unwrap_or(0)
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Many destinations with few deliveries each, and one with many, all of which fail and are tried again after an hour. Events come
/// for an hour, so that their retries are spread over each hour that follows.
async fn steadily_failing(store: &Store) {
    let mut nos = Vec::new();
    let retry = Retry { plan: Plan::Delays(vec![HOUR]), attempts_max: Some(100), jitter: Some(0.0) };
    for place in 0..31 {
        let destination = Destination { retry: retry.clone(), ..destination(&format!("d{place}")) };
        nos.push(store.steer(&Actor::SYSTEM, CreateDestination { destination }).await.unwrap().answer.unwrap().no);
    }
    for (pattern, nos) in [("one", &nos[..1]), ("all", &nos[..])] {
        let subscription = subscription(pattern, nos);
        store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    }
    for minute in 0..60 {
        let kinds = [vec!["one"; 6], vec!["all"; usize::from(minute % 6 == 0)]].concat();
        let events = kinds.into_iter().map(|kind| event(kind, None, "1")).collect();
        let _ = store.submit(Accept { events, waiting_max: 100_000 }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

/// PROMISES, overload; P13: a clock that is set ahead, by an hour, a day or to 2099, makes all retries due at once. They come as if
/// it had not been set: at most twice as many attempts as before, none forgotten, and what is fresh or sent again goes at once.
#[tokio::test(start_paused = true)]
async fn retries_that_a_clock_made_due_at_once_do_not_come_at_once() {
    static BY: AtomicI64 = AtomicI64::new(0);
    const SPAN: Duration = Duration::from_secs(900);
    for by in [HOUR.as_millis() as i64, 24 * HOUR.as_millis() as i64, 74 * 365 * 24 * HOUR.as_millis() as i64] {
        BY.store(0, Ordering::Relaxed);
        let (disk, clock, wire) = (Disk::default(), Clock::of_runtime_set_by(START, &BY), Down(Arc::default()));
        let store = open(&disk, clock).unwrap();
        let settings = Settings {
            breaker: BreakerSettings { failures_max: 0, shut_for: Duration::from_secs(30) },
            janitor_round: Duration::from_secs(60),
            look_at_clock: Duration::from_secs(2),
            ..Settings::default()
        };
        let engine = Engine::new(settings, store.clone(), wire.clone(), clock, fastrand::Rng::with_seed(1));
        let stop = CancellationToken::new();
        let running = tokio::spawn(engine.run(stop.clone()));
        steadily_failing(&store).await;
        let begun = tokio::time::Instant::now();
        tokio::time::sleep(2 * HOUR).await;
        let normal = wire.most_in(SPAN, begun);
        BY.store(by, Ordering::Relaxed);
        // The next look at the clock is two seconds away at most.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (jumped, before) = (tokio::time::Instant::now(), wire.count());
        let waiting = store.standing(|standing| standing.waiting);
        assert_eq!(waiting, 60 * 6 + 10 * 31);

        let resent = deliveries(&store).await[0].key;
        let again = Resend { key: resent, trigger: Trigger::Manual };
        assert_eq!(store.steer(&Actor::SYSTEM, again).await.unwrap().answer, Steered::Done);
        let fresh = vec![event("one", None, "1")];
        let _ = store.submit(Accept { events: fresh, waiting_max: 100_000 }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!((2..=8).contains(&(wire.count() - before)), "{} at once", wire.count() - before);

        tokio::time::sleep(2 * HOUR).await;
        let most = wire.most_in(SPAN, jumped);
        assert!(most <= 2 * normal, "{by}: {most} attempts in a quarter of an hour, {normal} before");
        // Within two hours each has been tried again, twice but for what lies at the edges.
        let tried = wire.count() - before;
        assert!(
            (waiting as usize * 15 / 10..=waiting as usize * 25 / 10).contains(&tried),
            "{by}: {tried} of {waiting}"
        );

        // Set right again, nothing that was put off stays so.
        BY.store(0, Ordering::Relaxed);
        let before = wire.count();
        tokio::time::sleep(3 * HOUR).await;
        assert!(wire.count() - before >= 2 * waiting as usize, "{by}: {} of {waiting}", wire.count() - before);
        conserved(&store, "a clock that was set ahead").await;
        stop.cancel();
        running.await.unwrap();
    }
}

/// PROMISES, overload: the retries that are overdue after hours without the daemon come within five minutes, one after the other,
/// in a lane of many as over many lanes; what is fresh does not wait for them.
#[tokio::test(start_paused = true)]
async fn retries_that_are_overdue_at_a_start_are_spread() {
    let (disk, clock, wire) = (Disk::default(), Clock::of_runtime(START), Down(Arc::default()));
    let mut store = open(&disk, clock).unwrap();
    let settings = Settings {
        breaker: BreakerSettings { failures_max: 0, shut_for: Duration::from_secs(30) },
        ..Settings::default()
    };
    let start = |store: &Store| {
        let rng = fastrand::Rng::with_seed(1);
        let engine = Engine::new(settings.clone(), store.clone(), wire.clone(), clock, rng);
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(engine.run(stop)))
    };
    let (stop, running) = start(&store);
    steadily_failing(&store).await;
    stop.cancel();
    running.await.unwrap();
    store.close().await;
    drop(store);
    tokio::time::sleep(3 * HOUR).await;
    store = open(&disk, clock).unwrap();
    let (begun, before) = (tokio::time::Instant::now(), wire.count());
    let (stop, running) = start(&store);
    let fresh = vec![event("one", None, "1")];
    let _ = store.submit(Accept { events: fresh, waiting_max: 100_000 }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!((1..=30).contains(&(wire.count() - before)), "{} at once", wire.count() - before);
    tokio::time::sleep(spread::AFTER_START_MAX + Duration::from_secs(10)).await;
    let overdue = 60 * 6 + 10 * 31;
    assert_eq!(wire.count() - before, overdue + 1, "all of them have come");
    let most = wire.most_in(Duration::from_secs(30), begun);
    assert!(most <= 2 * overdue / 10, "{most} of {overdue} within half a minute");
    conserved(&store, "a start after three hours").await;
    stop.cancel();
    running.await.unwrap();
}

/// P13: nothing expires because a clock was wrong for a while, whether it was tried before or waits for its first attempt; what a
/// clock says that has gone on for an hour since is believed.
#[tokio::test(start_paused = true)]
async fn nothing_expires_on_the_word_of_a_clock_that_was_just_set_ahead() {
    static BY: AtomicI64 = AtomicI64::new(0);
    for by in [HOUR.as_millis() as i64, 24 * HOUR.as_millis() as i64, 74 * 365 * 24 * HOUR.as_millis() as i64] {
        for stays in [false, true] {
            BY.store(0, Ordering::Relaxed);
            let (disk, clock, receivers) =
                (Disk::default(), Clock::of_runtime_set_by(START, &BY), Receivers::default());
            let store = open(&disk, clock).unwrap();
            let nos = configured(&store).await;
            let (stop, running) = run(&store, &receivers, clock);
            let half_an_hour = clock.now().after(HOUR / 2);
            let five_minutes = clock.now().after(HOUR / 12);
            let new =
                |deliver_at| NewEvent { expires_at: Some(half_an_hour), deliver_at, ..event("order.paid", None, "1") };
            let events = (0..30).map(|nth| new((nth % 3 == 0).then_some(five_minutes))).collect();
            assert!(store.submit(Accept { events, waiting_max: 1000 }).await.unwrap().answer.iter().all(Result::is_ok));
            tokio::time::sleep(Duration::from_secs(30)).await;
            BY.store(by, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(60)).await;
            let failed = || nos.iter().map(|no| store.standing(|standing| standing.tally(*no)).failed).sum::<u64>();
            assert_eq!(failed(), 0, "{by}");
            // The paused one is opened while the clock is wrong, and takes what waits there.
            assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[2], paused: false }).await.unwrap().answer);
            if stays {
                // By both clocks they have expired: whatever has not been delivered by then is given up.
                assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[2], paused: true }).await.unwrap().answer);
                tokio::time::sleep(2 * HOUR).await;
                let late =
                    NewEvent { expires_at: Some(clock.now().after(HOUR / 60)), ..event("order.paid", None, "1") };
                store.submit(Accept { events: vec![late], waiting_max: 1000 }).await.unwrap().answer.remove(0).unwrap();
                tokio::time::sleep(HOUR / 30).await;
                assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[2], paused: false }).await.unwrap().answer);
                tokio::time::sleep(HOUR).await;
                let tally = store.standing(|standing| standing.tally(nos[2]));
                assert!(tally.failed >= 1 && tally.waiting() == 0, "{by}: {tally:?}");
            } else {
                BY.store(0, Ordering::Relaxed);
                tokio::time::sleep(HOUR / 3).await;
                for no in &nos {
                    let tally = store.standing(|standing| standing.tally(*no));
                    assert_eq!((tally.succeeded, tally.failed), (30, 0), "{by}: {tally:?}");
                }
            }
            conserved(&store, "expiry by a clock that was set ahead").await;
            stop.cancel();
            running.await.unwrap();
        }
    }
}
