//! What a clock that lies may not do to history.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::model::audit::{Actor, Link};
use crate::model::delivery::Phases;
use crate::model::event::NewEvent;
use crate::model::{Attempt, Headers, Outcome};
use crate::model::{DestinationId, DestinationNo, Subscription, SubscriptionId, SubscriptionNo, TenantId};
use crate::store::op::{Accept, CreateDestination, CreateSubscription, Finish, Next};
use crate::store::{InMemoryBackend, KEY_BYTES, Keys, MasterKey, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_750_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// From START into 2099.
const TO_2099: i64 = 74 * 365 * 24 * 3_600_000;

/// P13, P19: a machine that starts in 2099 and is set right, and one whose clock runs ahead for a while later, lose neither an
/// event nor a record of the audit log; once the clock has kept step for an hour, what has aged goes.
#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_removes_nothing() {
    static BY: AtomicI64 = AtomicI64::new(0);
    let clock = Clock::of_runtime_set_by(START, &BY);
    let settings = crate::store::Settings { cache_bytes: 1 << 20, ..crate::store::Settings::at("memory", keys()) };
    let store = Store::open_on(InMemoryBackend::new(), &settings, clock, 7, WriterRuns::Inline).unwrap();
    let seq = delivered(&store).await;
    let head = store.standing(|standing| standing.audit.head);

    // It starts in 2099.
    BY.store(TO_2099, Ordering::Relaxed);
    let stop = CancellationToken::new();
    let janitor = Janitor::new(store.clone(), clock, Arc::default());
    let keeping = tokio::spawn(janitor.run(stop.clone()));
    let whole = async |when: &str| {
        let event = store.read(move |snapshot| snapshot.event(seq)).await.unwrap();
        assert!(event.is_some_and(|event| event.body.bytes().is_some()), "{when}");
        assert_eq!(store.standing(|standing| standing.audit.anchor), Link::START, "{when}");
    };
    tokio::time::sleep(HOUR / 2).await;
    whole("it ran ahead from the start").await;
    BY.store(0, Ordering::Relaxed);
    tokio::time::sleep(2 * HOUR).await;
    whole("it was set right").await;
    for _ in 0..3 {
        BY.store(TO_2099, Ordering::Relaxed);
        tokio::time::sleep(HOUR - Duration::from_secs(60)).await;
        whole("it ran ahead later").await;
        BY.store(0, Ordering::Relaxed);
        tokio::time::sleep(HOUR - Duration::from_secs(60)).await;
        whole("it was set right again").await;
    }

    stop.cancel();
    keeping.await.unwrap();
    tokio::time::advance(402 * DAY).await;
    let stop = CancellationToken::new();
    let janitor = Janitor::new(store.clone(), clock, Arc::default());
    let keeping = tokio::spawn(janitor.run(stop.clone()));
    tokio::time::sleep(HOUR - Duration::from_secs(60)).await;
    whole("the hour has not passed").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(store.read(move |snapshot| snapshot.event(seq)).await.unwrap().is_none(), "its time has come");
    assert_eq!(store.standing(|standing| standing.audit.anchor), head);
    stop.cancel();
    keeping.await.unwrap();
}

/// A machine that is busy and a clock that is slewed keep step; one that is set, ahead or back, does not for an hour.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_slewed_keeps_step_and_one_that_is_set_does_not() {
    let begin = Instant::now();
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let wall = |seconds: u64| START.after(Duration::from_secs(seconds));
    let mut steps = Steps::new(wall(0), at(0));
    assert!(!steps.keep(wall(3500), at(3500)), "it is not long enough since the start");
    assert!(steps.keep(wall(3609), at(3600)), "slewed");
    assert!(steps.keep(wall(20_000), at(20_000)), "a look that comes late");
    assert!(!steps.keep(wall(20_100), at(20_020)), "set ahead");
    assert!(!steps.keep(wall(23_600), at(23_520)));
    assert!(steps.keep(wall(23_800), at(23_720)));
    assert!(!steps.keep(wall(23_000), at(23_721)), "set back");
    let mut early = Steps::new(Timestamp::ZERO, at(0));
    assert!(!early.keep(Timestamp::ZERO.after(2 * HOUR), at(7200)), "1970 is no moment to remove anything by");
}

fn keys() -> Keys {
    Keys::new(MasterKey::new([7; KEY_BYTES]), [9; Keys::CHANCE_BYTES])
}

/// An event whose only delivery has succeeded.
async fn delivered(store: &Store) -> Seq {
    let tenant = TenantId::default_tenant();
    let id = DestinationId(uuid::Uuid::from_u128(1));
    let destination =
        Destination::new(DestinationNo(0), id, tenant.clone(), "d", "https://hooks.example.com/in", START);
    let made = store.steer(&Actor::SYSTEM, CreateDestination { destination }).await.unwrap().answer.unwrap();
    let subscription = Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(uuid::Uuid::from_u128(2)),
        tenant: tenant.clone(),
        pattern: "*".parse().unwrap(),
        name: None,
        roll_up: false,
        filter: None,
        destinations: vec![made.no],
        registered: None,
        created: START,
    };
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    let event = NewEvent::new(tenant, "a".parse().unwrap(), "secret");
    let accepted =
        store.submit(Accept { events: vec![event], waiting_max: 9 }).await.unwrap().answer.remove(0).unwrap();
    let no = made.no;
    let row = store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), 1)).await.unwrap()[0];
    let attempt = Attempt {
        number: row.plan.number,
        due: row.due,
        started: START,
        duration: Duration::from_millis(3),
        trigger: row.plan.trigger,
        outcome: Outcome::Succeeded,
        reason: None,
        status: Some(200),
        request_headers: Headers::default(),
        response_headers: Headers::default(),
        response_body: vec![],
        error: None,
        address: None,
        phases: Phases::default(),
        reconnected: false,
        next: None,
    };
    let _ = store.submit(Finish { row, attempt, next: Next::Succeeded, health: None }).await.unwrap();
    accepted.id.seq()
}
