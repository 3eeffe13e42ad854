//! How much lists look at: counted in rows, not in time, and the same at a million events as at twenty thousand.
//!
//! The store of the short form has runs of a thousand events, the long form's are as long as a daemon's: so both have about as
//! many runs, and what is rare has one event in each. `POSTRIDER_SOAK=1` asks for the long form.

use std::collections::HashSet;

use crate::clock::Clock;
use crate::model::audit::{Action, Deed, Wanted};
use crate::model::delivery::Ending;
use crate::model::event::NewEvent;
use crate::model::{
    Actor, Attempt, DeliveryKey, DeliveryState, DestinationNo, Milestone, Outcome, Seq, Subscription, SubscriptionNo,
    Timestamp,
};

use super::audit::{Effect, Steer};
use super::chapters::Fact;
use super::history;
use super::op::*;
use super::segments::pack::Hash;
use super::segments::tests::{child, soak};
use super::tests::{attempt, destination, event, subscription};
use super::writer::{ApplyError, Batch};
use super::{
    DeliveriesWanted, DueRow, EventsWanted, InMemoryBackend, Place, Plan, Settings, Store, Window, WriterRuns, lock,
    tables,
};

/// Runs that either form has, the open one included.
const RUNS: usize = 21;
/// What a first page looks at, at most, when lists lead to what it shows: a few rows of each run, what lies in vain in the pieces of
/// a run at both ends of a time, and the page itself.
const LOOKS_MAX: u64 = 4 * RUNS as u64 + 2 * 1024 + 60;
/// The same without a time.
const LOOKS_WITHOUT_TIME_MAX: u64 = 4 * RUNS as u64 + 60;
/// What is looked at in a chapter, at most: of each of its deliveries the event, and itself.
const LOOKS_PER_DELIVERY: u64 = 2;

const PAGE: Window = Window { after: None, skip: 0, limit: 10 };

/// A store in which everything is rare in some way.
struct World {
    store: Store,
    total: usize,
    run_events: usize,
    /// Of what is usual, of what is rare, of what never comes.
    nos: Vec<DestinationNo>,
    _folder: tempfile::TempDir,
}

/// How the delivery of an event to the first destination ends, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds(u16),
    Fails(u16),
    IsCancelled,
    Waits,
    /// Its first attempt fails, with this status, and it is tried once more, or waits for that.
    Recovers(u16),
    GoesOn(u16),
}

/// The destination of what mostly fails.
const FAILING: usize = 3;

impl World {
    async fn new() -> Self {
        let (total, run_events) = if soak() { (1_000_000, 65_536) } else { (20_000, 1000) };
        let folder = tempfile::tempdir().unwrap();
        let settings =
            Settings { run_events, ..Settings::at(folder.path().join("postrider.redb"), super::tests::keys()) };
        let clock = Clock::of_runtime(Timestamp::from_millis(1_700_000_000_000));
        let store = Store::open(&settings, clock, 7).unwrap();
        store.steer(&Actor::SYSTEM, CreateTenant { tenant: child("small") }).await.unwrap().answer.unwrap();
        let mut nos = Vec::new();
        for pattern in ["*", "rare.*", "never", "failing"] {
            let created = store.steer(&Actor::SYSTEM, CreateDestination { destination: destination(pattern) }).await;
            nos.push(created.unwrap().answer.unwrap().no);
            let subscription = Subscription { roll_up: true, ..subscription(pattern, &nos[nos.len() - 1..]) };
            store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
        }
        let world = World { store, total, run_events, nos, _folder: folder };
        for start in (0..total).step_by(500) {
            world.fill(start..start + 500).await;
        }
        while lock(&world.store.0.shared.runs).counts().0 > 1 {
            let carry = SetPaused { no: DestinationNo(u32::MAX), paused: true };
            let _ = world.store.steer(&Actor::SYSTEM, carry).await.unwrap();
        }
        world
    }

    /// Of each run the first event is rare, and a few others have a fate that no other has.
    fn fate(&self, n: usize) -> Fate {
        match n % self.run_events {
            0 => Fate::Fails(503),
            2 => Fate::IsCancelled,
            3 => Fate::Waits,
            4 => Fate::Succeeds(404),
            5 => Fate::Succeeds(204),
            6 => Fate::Fails(500),
            7 => Fate::GoesOn(418),
            n if n % 10 == 1 => Fate::Fails(502),
            n if n % 10 == 2 => Fate::Recovers(418),
            _ => Fate::Succeeds(200),
        }
    }

    async fn fill(&self, events: std::ops::Range<usize>) {
        let new = |n: usize| match n.is_multiple_of(self.run_events) {
            true => {
                let plain = event("rare.one", Some(&n.to_string()), "1");
                NewEvent { key: "few".parse().ok(), tenant: "small".parse().unwrap(), ..plain }
            }
            false if n % self.run_events % 10 == 8 => event("failing", Some(&n.to_string()), "1"),
            false => event("usual", Some(&n.to_string()), "1"),
        };
        let accept = Accept { events: events.clone().map(new).collect(), waiting_max: u64::MAX };
        assert!(self.store.submit(accept).await.unwrap().answer.iter().all(Result::is_ok));
        let mut tickets = Vec::new();
        let later = self.accepted(events.start).await.after(std::time::Duration::from_secs(3600));
        let given_up = |status| (Outcome::Failed, status, Next::GivenUp(Ending::Exhausted));
        let mut rows: Vec<_> = self.rows(self.nos[0], events.clone()).await;
        rows.extend(self.rows(self.nos[FAILING], events.clone()).await);
        for row in rows {
            let n = row.seq.0 as usize - 1;
            let Some((outcome, status, next)) = (match self.fate(n) {
                // Of those that mostly fail one in a run succeeds.
                _ if row.destination == self.nos[FAILING] => Some(match n % self.run_events {
                    8 => (Outcome::Succeeded, 202, Next::Succeeded),
                    _ => given_up(503),
                }),
                Fate::Succeeds(status) => Some((Outcome::Succeeded, status, Next::Succeeded)),
                Fate::Fails(status) => Some(given_up(status)),
                Fate::Recovers(status) | Fate::GoesOn(status) => Some((Outcome::Failed, status, Next::Retry(later))),
                Fate::IsCancelled | Fate::Waits => None,
            }) else {
                continue;
            };
            let due = if let Next::Retry(due) = next { Some(due) } else { None };
            let made = Attempt { status: Some(status), ..attempt(row, outcome, due) };
            tickets.push(self.store.enqueue(Finish { row, attempt: made, next, health: None }).await.unwrap());
            if let Fate::Recovers(_) = self.fate(n)
                && let Next::Retry(due) = next
            {
                let row = DueRow { due, plan: Plan { number: 2, tried: 1, ..row.plan }, ..row };
                let attempt = attempt(row, Outcome::Succeeded, None);
                let finish = Finish { row, attempt, next: Next::Succeeded, health: None };
                tickets.push(self.store.enqueue(finish).await.unwrap());
            }
        }
        for ticket in tickets {
            let _ = ticket.committed().await.unwrap();
        }
        for n in events.filter(|n| self.fate(*n) == Fate::IsCancelled) {
            let key = DeliveryKey { destination: self.nos[0], seq: Seq(n as u64 + 1) };
            assert_eq!(self.store.steer(&Actor::SYSTEM, Cancel { key }).await.unwrap().answer, Steered::Done);
        }
    }

    /// The waiting deliveries of these events to a destination.
    async fn rows(&self, lane: DestinationNo, events: std::ops::Range<usize>) -> Vec<DueRow> {
        let limit = 500 + 3 * RUNS;
        let rows =
            self.store.read(move |snapshot| snapshot.lane(lane, (Timestamp::ZERO, Seq(0)), limit)).await.unwrap();
        rows.into_iter().filter(|row| events.contains(&(row.seq.0 as usize - 1))).collect()
    }

    /// When an event was accepted.
    async fn accepted(&self, n: usize) -> Timestamp {
        let head = self.store.read(move |snapshot| snapshot.head(Seq(n as u64 + 1))).await.unwrap();
        head.unwrap().accepted
    }

    /// How many there are on a page, where the next one begins, and what was looked at.
    async fn deliveries(&self, wanted: &DeliveriesWanted, window: Window) -> (usize, Option<Place>, u64) {
        let asked = wanted.clone();
        let look = self.store.read(move |snapshot| Ok((snapshot.deliveries(&asked, window)?, snapshot.looked_at())));
        let (page, looked_at) = look.await.unwrap();
        (page.items.len(), page.next, looked_at)
    }
}

fn one(text: &str) -> EventsWanted {
    EventsWanted { kind: Some(text.parse().unwrap()), ..EventsWanted::default() }
}

fn all() -> DeliveriesWanted {
    DeliveriesWanted::default()
}

fn of(events: EventsWanted) -> DeliveriesWanted {
    DeliveriesWanted { events, ..all() }
}

fn state(state: DeliveryState) -> DeliveriesWanted {
    DeliveriesWanted { state: Some(state), ..all() }
}

fn milestone(milestone: Milestone) -> DeliveriesWanted {
    DeliveriesWanted { milestone: Some(milestone), ..all() }
}

fn status(status: u16) -> DeliveriesWanted {
    DeliveriesWanted { status: Some(status), ..all() }
}

/// S2.21, S2.65, P3: a first page and a look-up cost the same however much there is. Every filter of `/v1/events`, `/v1/deliveries`
/// and `/v1/event_history` is asked, alone and with others, each where it is usual and where it is rare; the dashboard's pages and a
/// destination's statistics ask the same lists.
#[tokio::test]
async fn a_first_page_looks_at_few_rows_however_many_there_are() {
    let world = World::new().await;
    let (nos, total) = (world.nos.clone(), world.total);
    // In the middle of a run, with most of the store before it and after it.
    let middle = world.accepted(total / 2 + world.run_events / 3).await;
    let later = world.accepted(total / 2 + world.run_events / 3 + 600).await;
    let (early, late) =
        (world.accepted(world.run_events / 2).await, world.accepted(total - world.run_events / 3).await);
    let beyond = world.accepted(total - 1).await.after(std::time::Duration::from_secs(1));
    let within =
        |from: Option<Timestamp>, to: Option<Timestamp>, events: EventsWanted| EventsWanted { from, to, ..events };
    let key = |key: &str| EventsWanted { key: Some(key.into()), ..EventsWanted::default() };
    let whose = |tenant: &str| EventsWanted { tenant: tenant.parse().ok(), ..EventsWanted::default() };
    let any = EventsWanted::default;
    let times = [
        within(Some(middle), None, any()),
        within(None, Some(middle), any()),
        within(Some(middle), Some(later), any()),
        within(Some(late), None, any()),
        within(None, Some(early), any()),
        within(None, Some(middle), one("rare.one")),
        within(None, Some(middle), one("rare.*")),
        within(None, Some(middle), key("few")),
        within(None, Some(middle), whose("small")),
        within(Some(beyond), None, any()),
        within(Some(beyond), None, one("rare.one")),
        within(None, Some(Timestamp::from_millis(1)), any()),
        within(Some(later), Some(middle), any()),
    ];
    let found_in_time = [10, 10, 10, 10, 10, 8, 8, 8, 8, 0, 0, 0, 0];
    let of_events = [
        (any(), 10),
        (one("rare.one"), 10),
        (one("rare.*"), 10),
        (one("rar.*"), 0),
        (one("no"), 0),
        (one("*"), 10),
        (key("few"), 10),
        (key("none"), 0),
        (whose("small"), 10),
        (whose("default"), 10),
        (whose("nobody"), 0),
        (EventsWanted { tenant: whose("default").tenant, ..key("few") }, 0),
        (EventsWanted { tenant: whose("small").tenant, key: key("few").key, ..one("rare.*") }, 10),
        (EventsWanted { tenant: whose("small").tenant, ..one("usual") }, 0),
    ];
    let timed = times.iter().cloned().zip(found_in_time);
    let mut most = (0, String::new());
    for (wanted, found) in of_events.into_iter().chain(timed) {
        let asked = wanted.clone();
        let look = world.store.read(move |snapshot| Ok((snapshot.events(&asked, PAGE)?, snapshot.looked_at())));
        let (page, looked_at) = look.await.unwrap();
        assert!(
            page.items.len() >= found && (found > 0 || page.items.is_empty()),
            "{} for {wanted:?}",
            page.items.len()
        );
        let has_time = wanted.from.is_some() || wanted.to.is_some();
        let bound = if has_time { LOOKS_MAX } else { LOOKS_WITHOUT_TIME_MAX };
        assert!(looked_at <= bound, "{looked_at} rows for {wanted:?}");
        most = most.max((looked_at, format!("{wanted:?}")));
    }
    println!("{total} events: {} rows at most for a first page of events, for {}", most.0, most.1);

    let to = |no| DeliveriesWanted { destination: Some(no), ..all() };
    let by = |no| DeliveriesWanted { subscription: Some(SubscriptionNo(no)), ..all() };
    // A tenant with a thousand destinations, of which one was ever delivered to.
    let many = |no| Some((1000..2000).map(DestinationNo).chain([no]).collect::<HashSet<_>>());
    let (failed, cancelled) = (state(DeliveryState::Failed), state(DeliveryState::Cancelled));
    let (pending, has_failed) = (state(DeliveryState::Pending), milestone(Milestone::Failed));
    let rare = || one("rare.one");
    let wants = [
        (all(), 10),
        (to(nos[0]), 10),
        (to(nos[1]), 10),
        (to(nos[2]), 0),
        (of(one("rare.*")), 10),
        (of(one("usual")), 10),
        (of(one("no")), 0),
        (DeliveriesWanted { events: rare(), ..to(nos[0]) }, 10),
        (DeliveriesWanted { events: one("usual"), ..to(nos[1]) }, 0),
        (DeliveriesWanted { events: one("rare.*"), ..to(nos[2]) }, 0),
        // By state, and with each of the other filters.
        (pending.clone(), 10),
        (DeliveriesWanted { destination: Some(nos[0]), ..pending.clone() }, 10),
        (DeliveriesWanted { destination: Some(nos[2]), ..pending.clone() }, 0),
        (DeliveriesWanted { events: one("usual"), ..pending.clone() }, 10),
        (DeliveriesWanted { events: rare(), destination: Some(nos[0]), ..pending.clone() }, 0),
        (DeliveriesWanted { status: Some(503), ..pending.clone() }, 0),
        (DeliveriesWanted { state: Some(DeliveryState::Held), held: vec![nos[1]], ..all() }, 10),
        (state(DeliveryState::Held), 0),
        (state(DeliveryState::Succeeded), 10),
        (DeliveriesWanted { destination: Some(nos[1]), ..state(DeliveryState::Succeeded) }, 0),
        (failed.clone(), 10),
        (DeliveriesWanted { destination: Some(nos[0]), ..failed.clone() }, 10),
        (DeliveriesWanted { destination: Some(nos[1]), ..failed.clone() }, 0),
        (DeliveriesWanted { events: rare(), ..failed.clone() }, 10),
        (DeliveriesWanted { events: one("rare.*"), destination: Some(nos[0]), ..failed.clone() }, 10),
        (DeliveriesWanted { events: key("few"), ..failed.clone() }, 10),
        (DeliveriesWanted { events: whose("small"), ..failed.clone() }, 10),
        (DeliveriesWanted { events: one("no"), ..failed.clone() }, 0),
        (DeliveriesWanted { events: rare(), status: Some(503), ..failed.clone() }, 10),
        (DeliveriesWanted { status: Some(500), ..failed.clone() }, 10),
        (DeliveriesWanted { status: Some(404), ..failed.clone() }, 0),
        (cancelled.clone(), 10),
        (DeliveriesWanted { destination: Some(nos[0]), ..cancelled.clone() }, 10),
        (DeliveriesWanted { destination: Some(nos[FAILING]), ..state(DeliveryState::Succeeded) }, 10),
        (DeliveriesWanted { destination: Some(nos[FAILING]), ..milestone(Milestone::Success) }, 10),
        (of(one("failing")), 10),
        (DeliveriesWanted { events: one("failing"), ..state(DeliveryState::Succeeded) }, 10),
        (DeliveriesWanted { destination: Some(nos[FAILING]), ..failed.clone() }, 10),
        (DeliveriesWanted { destination: Some(nos[FAILING]), ..status(200) }, 0),
        (DeliveriesWanted { destination: Some(nos[FAILING]), ..status(202) }, 10),
        (DeliveriesWanted { among: many(nos[FAILING]), ..status(202) }, 10),
        (DeliveriesWanted { among: many(nos[FAILING]), ..state(DeliveryState::Succeeded) }, 10),
        (DeliveriesWanted { status: Some(299), ..state(DeliveryState::Succeeded) }, 0),
        (DeliveriesWanted { status: Some(299), ..milestone(Milestone::Success) }, 0),
        (DeliveriesWanted { events: rare(), ..cancelled.clone() }, 0),
        (DeliveriesWanted { destination: Some(nos[1]), ..cancelled.clone() }, 0),
        // By status.
        (status(200), 10),
        (status(404), 10),
        (status(204), 10),
        (status(500), 10),
        (status(202), 10),
        (status(299), 0),
        (status(418), 10),
        (DeliveriesWanted { status: Some(418), ..state(DeliveryState::Succeeded) }, 0),
        (DeliveriesWanted { destination: Some(nos[0]), ..status(204) }, 10),
        (DeliveriesWanted { destination: Some(nos[0]), ..status(418) }, 10),
        (DeliveriesWanted { status: Some(418), ..has_failed.clone() }, 10),
        (status(502), 10),
        (DeliveriesWanted { destination: Some(nos[1]), ..status(404) }, 0),
        (DeliveriesWanted { events: rare(), ..status(503) }, 10),
        (DeliveriesWanted { events: rare(), ..status(502) }, 0),
        // The history's.
        (milestone(Milestone::Create), 10),
        (milestone(Milestone::Queued), 10),
        (milestone(Milestone::Success), 10),
        (milestone(Milestone::Confirm), 0),
        (milestone(Milestone::Confirmed), 0),
        (has_failed.clone(), 10),
        (DeliveriesWanted { destination: Some(nos[1]), ..has_failed.clone() }, 0),
        (DeliveriesWanted { subscription: Some(SubscriptionNo(2)), ..has_failed.clone() }, 0),
        (DeliveriesWanted { events: one("rare.*"), subscription: Some(SubscriptionNo(1)), ..has_failed.clone() }, 10),
        (by(1), 10),
        (by(2), 10),
        (by(3), 0),
        (by(9), 0),
        (DeliveriesWanted { destination: Some(nos[1]), ..by(1) }, 0),
        // A tenant's own.
        (DeliveriesWanted { among: many(nos[1]), ..all() }, 10),
        (DeliveriesWanted { among: many(nos[2]), ..all() }, 0),
    ];
    // A time with each filter.
    let until = |wanted: &DeliveriesWanted| DeliveriesWanted {
        events: within(None, Some(middle), wanted.events.clone()),
        ..wanted.clone()
    };
    let later_than = |from, wanted: &DeliveriesWanted| DeliveriesWanted {
        events: within(Some(from), None, wanted.events.clone()),
        ..wanted.clone()
    };
    let timed = times.iter().map(|events| of(events.clone())).zip(found_in_time);
    let also_timed = wants.iter().flat_map(|(wanted, found)| {
        // Half of what is rare lies before the middle.
        [(until(wanted), found * 7 / 10), (later_than(beyond, wanted), 0)]
    });
    let timed: Vec<_> = timed.chain(also_timed).collect();
    let mut most = (0, String::new());
    for (wanted, found) in wants.into_iter().chain(timed) {
        let (count, _, looked_at) = world.deliveries(&wanted, PAGE).await;
        assert!(count >= found && (found > 0 || count == 0), "{count} for {wanted:?}");
        let has_time = wanted.events.from.is_some() || wanted.events.to.is_some();
        // Each of many destinations is one seek, or one look for its list.
        let seeks = wanted.among.as_ref().map_or(0, |among| among.len() as u64);
        let mut bound = if has_time { LOOKS_MAX } else { LOOKS_WITHOUT_TIME_MAX } + seeks;
        let has_succeeded =
            wanted.state == Some(DeliveryState::Succeeded) || wanted.milestone == Some(Milestone::Success);
        if has_succeeded || wanted.status.is_some() {
            // Of each delivery that is found its chapter, after a look at what is newest and, for a status, at all that waits.
            let chapter = world.run_events.div_ceil(1024).max(4) as u64;
            let first = history::TRIED_FIRST + history::GOING_ON_MAX as u64;
            bound += first + 3 * RUNS as u64 + 10 * LOOKS_PER_DELIVERY * chapter;
        }
        assert!(looked_at <= bound, "{looked_at} rows, more than {bound}, for {wanted:?}");
        most =
            most.max((looked_at - seeks.min(looked_at), format!("{:?}", DeliveriesWanted { among: None, ..wanted })));
    }
    println!("{total} events: {} rows at most for a first page of deliveries, for {}", most.0, most.1);

    // And all of what is rare, page after page.
    let rare_in = |n: usize| (0..total).filter(|event| event % world.run_events == n).count();
    let alone = [
        (status(404), rare_in(4)),
        (status(204), rare_in(5)),
        (status(202), rare_in(8)),
        (status(418), rare_in(7)),
        (DeliveriesWanted { status: Some(500), ..state(DeliveryState::Failed) }, rare_in(6)),
        (state(DeliveryState::Cancelled), rare_in(2)),
        (DeliveriesWanted { destination: Some(nos[FAILING]), ..state(DeliveryState::Succeeded) }, rare_in(8)),
    ];
    for (wanted, expected) in alone {
        let (mut after, mut pages, mut found) = (None, 0, 0);
        loop {
            let (count, next, _) = world.deliveries(&wanted, Window { after, limit: 4, ..PAGE }).await;
            (pages, found, after) = (pages + 1, found + count, next);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{wanted:?}");
        assert!(pages <= expected / 4 + 1, "{pages} pages for {wanted:?}");
    }

    // P3: by the producer's id.
    let known = lock(&world.store.0.shared.runs).clone();
    let hash = |id: usize| {
        let tenant: &[u8] = if id < total && id.is_multiple_of(world.run_events) { b"small" } else { b"default" };
        Hash::of(&[b"native", tenant, b"", id.to_string().as_bytes()])
    };
    let now = world.accepted(total - 1).await;
    let looks =
        |ids: std::ops::Range<usize>| -> usize { ids.map(|id| known.places_of(hash(id), Some(now)).len()).sum() };
    let (acquainted, strangers) = (looks(0..1000), looks(total..total + 1000));
    assert!((1000..1100).contains(&acquainted), "a known id leads to one place: {acquainted}");
    assert!(strangers < 4 * RUNS + 20, "an unknown id leads nowhere: {strangers} in a thousand do");
    println!(
        "{total} events: a thousand known ids lead to {acquainted} places, a thousand unknown ones to {strangers}"
    );
    world.store.close().await;
}

/// Records of the audit log, so many in one commit.
struct Note(Vec<Deed>);

impl Steer for Note {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.0.len() * 512
    }

    fn steer(self, _: &mut Batch<'_>) -> Result<Effect<()>, ApplyError> {
        Ok(Effect::Done((), self.0))
    }
}

/// A page of the audit log looks at little, whatever it is asked for: a few rows for each record that it shows, and what
/// lies in the blocks at both ends of a time. What is rare is one page, found at once.
#[tokio::test]
async fn a_page_of_the_audit_log_looks_at_few_rows_however_many_there_are() {
    let total = if soak() { 1_000_000 } else { 45_000 };
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::at(folder.path().join("postrider.redb"), super::tests::keys());
    static LATER: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let clock = Clock::of_runtime_set_by(Timestamp::from_millis(1_700_000_000_000), &LATER);
    let store = Store::open(&settings, clock, 7).unwrap();
    let plain = |action, tenant: &str, object: &str| Deed {
        action,
        tenant: tenant.parse().ok(),
        object: Some(object.into()),
        before: serde_json::Value::Null,
        after: serde_json::Value::Null,
    };
    // The oldest record is unlike all others.
    let rare = Actor { who: crate::model::audit::Who::Operator { uid: 77 }, ..Actor::SYSTEM };
    let first = Note(vec![plain(Action::TenantCreate, "small", "small")]);
    let _ = store.steer(&rare, first).await.unwrap();
    let since = store.read(|snapshot| snapshot.audit(&Wanted::default(), PAGE)).await.unwrap();
    let oldest = crate::model::audit::Record::of(&since.items[0].1.text).unwrap();
    LATER.store(1000, std::sync::atomic::Ordering::Relaxed);
    for _ in (0..total).step_by(1000) {
        let deeds = vec![plain(Action::DestinationPause, "default", "many"); 1000];
        let _ = store.steer(&Actor::SYSTEM, Note(deeds)).await.unwrap();
    }
    let any = Wanted::default;
    let after_it = oldest.at().map(|at| at.after(std::time::Duration::from_millis(2)));
    let beyond = oldest.at().map(|at| at.after(std::time::Duration::from_secs(3600)));
    let of_rare = |wanted: Wanted| Wanted { tenant: "small".parse().ok(), ..wanted };
    let wants = [
        (any(), 10),
        (Wanted { tenant: "default".parse().ok(), ..any() }, 10),
        (Wanted { actor: Some("system".into()), ..any() }, 10),
        (Wanted { action: "destination.*".parse().ok(), ..any() }, 10),
        (Wanted { action: "*".parse().ok(), ..any() }, 10),
        (Wanted { object: Some("MANY".into()), ..any() }, 10),
        (Wanted { object: Some("destination".into()), ..any() }, 10),
        (Wanted { from: after_it, ..any() }, 10),
        (Wanted { from: after_it, to: beyond, actor: Some("system".into()), ..any() }, 10),
        (Wanted { from: beyond, ..any() }, 0),
        (Wanted { to: oldest.at(), ..any() }, 0),
        (of_rare(any()), 1),
        (Wanted { actor: Some(rare.who.to_string()), ..any() }, 1),
        (Wanted { action: "tenant.create".parse().ok(), ..any() }, 1),
        (Wanted { action: "tenant.*".parse().ok(), ..any() }, 1),
        (Wanted { action: "key.*".parse().ok(), ..any() }, 0),
        (Wanted { object: Some("small".into()), ..any() }, 1),
        (Wanted { object: Some("tenant".into()), ..any() }, 1),
        (Wanted { to: after_it, ..any() }, 1),
        (of_rare(Wanted { actor: Some("system".into()), ..any() }), 0),
        (of_rare(Wanted { to: after_it, object: Some("small".into()), ..any() }), 1),
        (of_rare(Wanted { from: beyond, ..any() }), 0),
        (Wanted { tenant: "nobody".parse().ok(), ..any() }, 0),
    ];
    let mut most = (0, String::new());
    for (wanted, found) in wants {
        let asked = wanted.clone();
        let look = store.read(move |snapshot| Ok((snapshot.audit(&asked, PAGE)?, snapshot.looked_at())));
        let (page, looked_at) = look.await.unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (found, found == 10), "{wanted:?}");
        // Ten records and the one that is next, with a look for each term; or the blocks of a time.
        let blocks = total as u64 / 65_536 + 2 * 256;
        let bound = if wanted.from.or(wanted.to).is_some() { 11 * 4 + blocks + 2 * 256 } else { 11 * 4 };
        assert!(looked_at <= bound, "{looked_at} rows, more than {bound}, for {wanted:?}");
        most = most.max((looked_at, format!("{wanted:?}")));
    }
    println!("{total} records: {} rows at most for a page of the audit log, for {}", most.0, most.1);
    store.close().await;
}

/// Where thousands of destinations have had a status, to ask where each leads was most of what a page may look at, and
/// each page moved on by a few hundred rows.
#[tokio::test]
async fn a_status_that_thousands_of_destinations_have_had_is_found_on_the_first_page() {
    let settings = Settings { run_events: 1000, ..Settings::at("memory", super::tests::keys()) };
    let clock = Clock::of_runtime(Timestamp::from_millis(1_700_000_000_000));
    let store = Store::open_on(InMemoryBackend::new(), &settings, clock, 7, WriterRuns::Inline).unwrap();
    let created = store.steer(&Actor::SYSTEM, CreateDestination { destination: destination("d") }).await;
    let no = created.unwrap().answer.unwrap().no;
    let all = subscription("*", &[no]);
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription: all }).await.unwrap().answer.unwrap();
    for _ in 0..5 {
        let events = (0..500).map(|_| event("a", None, "1")).collect();
        let accepted = store.submit(Accept { events, waiting_max: u64::MAX }).await.unwrap().answer;
        assert!(accepted.iter().all(Result::is_ok));
    }
    let lane = move |snapshot: &super::Snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), 2500);
    for row in store.read(lane).await.unwrap() {
        // The oldest is the only one with this status.
        let status = if row.seq == Seq(1) { 503 } else { 200 };
        let attempt = Attempt { status: Some(status), ..attempt(row, Outcome::Succeeded, None) };
        let _ = store.submit(Finish { row, attempt, next: Next::Succeeded, health: None }).await.unwrap();
    }
    // Of others the fact is left over, or leads far back.
    let others = |nos: std::ops::Range<u32>| {
        let transaction = store.0.db.begin_write().unwrap();
        let mut facts = transaction.open_table(tables::FACTS).unwrap();
        for no in nos {
            facts.insert((Fact::ended_with(503).number(), no, 0), ()).unwrap();
        }
        drop(facts);
        transaction.commit().unwrap();
    };
    for nos in [1000..1100, 1100..4000, 4000..8000] {
        others(nos.clone());
        let look = |snapshot: &super::Snapshot| Ok((snapshot.deliveries(&status(503), PAGE)?, snapshot.looked_at()));
        let (page, looked_at) = store.read(look).await.unwrap();
        println!("{looked_at} rows for a status of {} destinations", nos.end - 1000 + 1);
        assert_eq!((page.items.len(), page.next), (1, None), "with {nos:?}, after {looked_at} rows");
    }
}
