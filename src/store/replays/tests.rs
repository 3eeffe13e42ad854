//! Bulk replays against a plain list of deliveries, and through crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::model::delivery::Ending;
use crate::model::{Actor, Outcome, TypePattern};
use crate::store::op::*;
use crate::store::tests::{Kept, attempt, event, keys, with_destinations};
use crate::store::{DeliveriesWanted, DueRow, EventsWanted, Settings, Store, Window, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const UNBOUNDED: Bounds = Bounds { deliveries: usize::MAX, looks: u64::MAX / 2, waiting: None, turn: 0 };

fn open(disk: &Kept, clock: Clock) -> Store {
    let settings = Settings { cache_bytes: 1 << 20, run_events: 16, ..Settings::at("memory", keys()) };
    Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline).unwrap()
}

fn wanted(state: DeliveryState) -> ReplayWanted {
    ReplayWanted { tenant: TenantId::default_tenant(), destination: None, kind: None, from: None, to: None, state }
}

async fn rows(store: &Store, no: DestinationNo) -> Vec<DueRow> {
    store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), 10_000)).await.unwrap()
}

/// One more event, whose deliveries are ended as `how` says.
async fn ended(store: &Store, kind: &str, how: impl Fn(DestinationNo) -> DeliveryState) -> Seq {
    let accept = Accept { events: vec![event(kind, None, "1")], waiting_max: u64::MAX };
    let seq = store.submit(accept).await.unwrap().answer.remove(0).unwrap().id.seq();
    for no in store.catalog().destinations().map(|it| it.no).collect::<Vec<_>>() {
        let Some(row) = rows(store, no).await.into_iter().find(|row| row.seq == seq) else { continue };
        let (outcome, next) = match how(no) {
            DeliveryState::Succeeded => (Outcome::Succeeded, Next::Succeeded),
            DeliveryState::Failed => (Outcome::Failed, Next::GivenUp(Ending::Exhausted)),
            DeliveryState::Cancelled => {
                assert_eq!(store.steer(&Actor::SYSTEM, Cancel { key: row.key() }).await.unwrap().answer, Steered::Done);
                continue;
            }
            DeliveryState::Pending | DeliveryState::Held => continue,
        };
        let finish = Finish { row, attempt: attempt(row, outcome, None), next, health: None };
        let _ = store.submit(finish).await.unwrap();
    }
    seq
}

async fn create(store: &Store, wanted: ReplayWanted) -> Result<Replay, Refused> {
    let create = CreateReplay { wanted, rate: Replay::RATE_DEFAULT, matched: 0, exact: false };
    store.steer(&Actor::SYSTEM, create).await.unwrap().answer
}

async fn job(store: &Store, id: ReplayId) -> Replay {
    store.read(move |snapshot| snapshot.replay(id)).await.unwrap().unwrap()
}

async fn find(store: &Store, replay: &Replay, bounds: Bounds) -> Found {
    let (replay, scope) = (replay.clone(), Scope::of(&store.catalog(), &replay.wanted));
    let Replay { wanted, until, walk, .. } = replay;
    store.read(move |snapshot| snapshot.replayable(&wanted, until, &walk, &scope, bounds)).await.unwrap()
}

async fn slice(store: &Store, id: ReplayId, step: u64, found: Found) -> Option<usize> {
    store.submit(ReplaySlice { id, step, found }).await.unwrap().answer
}

/// Slices until the job has ended.
async fn finish(store: &Store, id: ReplayId, bounds: Bounds) -> Replay {
    loop {
        let replay = job(store, id).await;
        if replay.state != ReplayState::Running {
            return replay;
        }
        let found = find(store, &replay, bounds).await;
        assert!(slice(store, id, replay.step, found).await.is_some());
    }
}

/// A crash between two slices neither skips nor repeats a delivery, and a slice that was found before it is not done after it if
/// it had been done.
#[tokio::test(start_paused = true)]
async fn a_crash_between_two_slices_neither_skips_nor_repeats_a_delivery() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let mut store = open(&disk, clock);
    let nos = with_destinations(&store, 2).await;
    for _ in 0..40 {
        ended(&store, "a", |_| DeliveryState::Failed).await;
    }
    let id = create(&store, wanted(DeliveryState::Failed)).await.unwrap().id;
    // Newer than the job: none of its business.
    ended(&store, "a", |_| DeliveryState::Failed).await;
    let bounds = Bounds { deliveries: 7, looks: 9, waiting: None, turn: 1 };
    let mut slices = 0;
    loop {
        let replay = job(&store, id).await;
        if replay.state != ReplayState::Running {
            break;
        }
        let found = find(&store, &replay, bounds).await;
        if slices % 2 == 0 {
            // The daemon ends before it has done what it found: it finds the same again.
            drop(store);
            store = open(&disk, clock);
            assert_eq!(*store.replays_running().borrow().to_vec(), [id]);
            assert_eq!(find(&store, &job(&store, id).await, bounds).await, found);
        }
        assert_eq!(slice(&store, id, replay.step, found.clone()).await, Some(found.deliveries.len()));
        assert_eq!(slice(&store, id, replay.step, found).await, None, "a slice is done once");
        drop(store);
        store = open(&disk, clock);
        slices += 1;
    }
    let replay = job(&store, id).await;
    assert_eq!((replay.state, replay.done, replay.skipped), (ReplayState::Done, 80, 0));
    assert_eq!((replay.matched, replay.exact), (80, true));
    assert!(store.replays_running().borrow().is_empty());
    for no in nos {
        let rows = rows(&store, no).await;
        let seqs: BTreeSet<_> = rows.iter().map(|row| row.seq).collect();
        assert_eq!((rows.len(), seqs), (40, (1..=40).map(Seq).collect()));
        assert!(
            rows.iter().all(|row| row.plan.trigger == Trigger::Replay && row.plan.number == 2 && row.plan.tried == 0)
        );
    }
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

/// What a walk in slices finds is what a plain list of all deliveries has, for each state and filter.
#[tokio::test(start_paused = true)]
async fn a_replay_finds_what_a_plain_list_of_deliveries_has() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    let nos = with_destinations(&store, 3).await;
    let rng = std::cell::RefCell::new(fastrand::Rng::with_seed(3));
    for step in 0..100u64 {
        tokio::time::advance(Duration::from_secs(60)).await;
        let kind = ["a.one", "a.two", "b"][(step % 3) as usize];
        ended(&store, kind, |_| DeliveryState::ALL[rng.borrow_mut().usize(..5)]).await;
    }
    let all = EventsWanted::default();
    let list = DeliveriesWanted { events: all, ..DeliveriesWanted::default() };
    let window = Window { after: None, skip: 0, limit: usize::MAX };
    let all = store.read(move |snapshot| snapshot.deliveries(&list, window)).await.unwrap().items;
    assert_eq!(all.len(), 300);
    let moment = |minutes: u64| Some(START.after(Duration::from_secs(minutes * 60 + 30)));
    let spans = [(None, None), (moment(20), None), (None, moment(60)), (moment(30), moment(50)), (moment(200), None)];
    for state in [DeliveryState::Failed, DeliveryState::Cancelled, DeliveryState::Succeeded] {
        for kind in [None, Some("*"), Some("a.*"), Some("b"), Some("none")] {
            let kind: Option<TypePattern> = kind.map(|kind| kind.parse().unwrap());
            for destination in [None, Some(nos[1])] {
                for (from, to) in spans {
                    let wanted = ReplayWanted { destination, kind: kind.clone(), from, to, ..wanted(state) };
                    let plain: BTreeSet<_> = all
                        .iter()
                        .filter(|it| it.state == state && destination.is_none_or(|no| no == it.key.destination))
                        .filter(|it| kind.as_ref().is_none_or(|kind| kind.matches(&it.head.kind)))
                        .filter(|it| from.is_none_or(|from| it.head.accepted >= from))
                        .filter(|it| to.is_none_or(|to| it.head.accepted < to))
                        .map(|it| it.key)
                        .collect();
                    for (deliveries, looks) in [(usize::MAX, u64::MAX / 2), (3, 5), (1, 1)] {
                        let scope = Scope::of(&store.catalog(), &wanted);
                        let (mut walk, mut found, mut turn) = (ReplayWalk::START, Vec::new(), 0);
                        while !walk.is_over() {
                            let bounds = Bounds { deliveries, looks, waiting: None, turn };
                            let (wanted, scope) = (wanted.clone(), scope.clone());
                            let read = move |snapshot: &Snapshot| {
                                let found = snapshot.replayable(&wanted, Seq(u64::MAX), &walk, &scope, bounds)?;
                                Ok((found, snapshot.looked_at()))
                            };
                            let (slice, looked_at) = store.read(read).await.unwrap();
                            assert!(slice.deliveries.len() <= deliveries);
                            assert!(looked_at < looks.saturating_add(30), "{looked_at} rows");
                            (walk, turn) = (slice.walk, turn + slice.parts);
                            found.extend(slice.deliveries);
                        }
                        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), plain, "{wanted:?}");
                        assert_eq!(found.len(), plain.len(), "each once: {wanted:?}");
                    }
                }
            }
        }
    }
}

/// A lane is given no more than has room before it, and one that has none keeps no other from getting its own.
#[tokio::test(start_paused = true)]
async fn a_lane_that_is_full_gets_nothing_and_keeps_no_other_from_its_own() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    let nos = with_destinations(&store, 2).await;
    for _ in 0..20 {
        ended(&store, "a", |_| DeliveryState::Failed).await;
    }
    for _ in 0..8 {
        ended(&store, "a", |no| if no == nos[0] { DeliveryState::Pending } else { DeliveryState::Succeeded }).await;
    }
    let replay = create(&store, wanted(DeliveryState::Failed)).await.unwrap();
    let bounds = Bounds { waiting: Some((clock.now(), 8)), ..UNBOUNDED };
    let found = find(&store, &replay, bounds).await;
    let of = |no| found.deliveries.iter().filter(|key| key.destination == no).count();
    assert_eq!((of(nos[0]), of(nos[1])), (0, 8));
    assert_eq!(slice(&store, replay.id, 0, found.clone()).await, Some(8));
    let replay = job(&store, replay.id).await;
    let none = find(&store, &replay, bounds).await;
    assert_eq!((none.deliveries.len(), none.walk), (0, replay.walk), "nothing moves until something has gone");
}

/// What cannot be sent any more is counted apart, what has been resent meanwhile is left alone, and an end is an end.
#[tokio::test(start_paused = true)]
async fn a_replay_skips_what_is_erased_and_leaves_what_has_changed() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    let no = with_destinations(&store, 1).await[0];
    let mut seqs = Vec::new();
    for _ in 0..3 {
        seqs.push(ended(&store, "a", |_| DeliveryState::Failed).await);
    }
    let replay = create(&store, wanted(DeliveryState::Failed)).await.unwrap();
    let found = find(&store, &replay, UNBOUNDED).await;
    let erased = store.steer(&Actor::SYSTEM, ErasePayload { seq: seqs[0] }).await.unwrap().answer;
    assert_eq!(erased, Erased::Done);
    let key = DeliveryKey { destination: no, seq: seqs[1] };
    let resend = Resend { key, trigger: Trigger::Manual };
    assert_eq!(store.steer(&Actor::SYSTEM, resend).await.unwrap().answer, Steered::Done);
    assert_eq!(slice(&store, replay.id, 0, found).await, Some(1));
    let replay = job(&store, replay.id).await;
    assert_eq!((replay.state, replay.done, replay.skipped, replay.matched), (ReplayState::Done, 1, 1, 2));
    let stopped = store.steer(&Actor::SYSTEM, CancelReplay { id: replay.id }).await.unwrap().answer;
    assert_eq!(stopped, Err(NotStopped::Ended(ReplayState::Done)));
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

/// Invariant 8: a job whose destination is deleted ends with that; one over several goes on with the others.
#[tokio::test(start_paused = true)]
async fn a_replay_of_a_deleted_destination_fails_and_one_of_several_goes_on() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    let nos = with_destinations(&store, 2).await;
    for _ in 0..5 {
        ended(&store, "a", |_| DeliveryState::Failed).await;
    }
    let one = ReplayWanted { destination: Some(nos[0]), ..wanted(DeliveryState::Failed) };
    let one_id = create(&store, one.clone()).await.unwrap().id;
    let both_id = create(&store, wanted(DeliveryState::Failed)).await.unwrap().id;
    store.steer(&Actor::SYSTEM, DeleteDestination { no: nos[0] }).await.unwrap().answer.unwrap();
    assert_eq!(finish(&store, one_id, UNBOUNDED).await.state, ReplayState::Failed);
    let both = finish(&store, both_id, UNBOUNDED).await;
    assert_eq!((both.state, both.done), (ReplayState::Done, 5));
    assert_eq!(create(&store, one).await, Err(Refused::UnknownDestination));
}

/// Jobs are bounded in number, and age; a list of them looks at no more than there can be.
#[tokio::test(start_paused = true)]
async fn only_so_many_replays_run_and_old_ones_go() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    with_destinations(&store, 1).await;
    let of = |tenant: &TenantId| ReplayWanted { tenant: tenant.clone(), ..wanted(DeliveryState::Failed) };
    let mut first = None;
    for tenant in 0..RUNNING_MAX / RUNNING_PER_TENANT_MAX {
        let id: TenantId = format!("m{tenant}").parse().unwrap();
        let tenant =
            crate::model::Tenant { id: id.clone(), name: "m".into(), parent: None, created: START, audit_from: 0 };
        let made = store.steer(&Actor::SYSTEM, crate::store::op::CreateTenant { tenant }).await.unwrap();
        assert_eq!(made.answer, Ok(()));
        for _ in 0..RUNNING_PER_TENANT_MAX {
            first.get_or_insert(create(&store, of(&id)).await.unwrap().id);
        }
        // The last tenant's own bound is where everybody's is.
        let refused = create(&store, of(&id)).await.unwrap_err();
        assert!([Refused::TooManyOfTenant, Refused::TooMany].contains(&refused), "{refused:?}");
    }
    assert_eq!(create(&store, wanted(DeliveryState::Failed)).await, Err(Refused::TooMany));
    for _ in 0..KEPT_MAX {
        let id = store.replays_running().borrow()[1];
        let tenant = job(&store, id).await.wanted.tenant;
        assert!(store.steer(&Actor::SYSTEM, CancelReplay { id }).await.unwrap().answer.is_ok());
        create(&store, of(&tenant)).await.unwrap();
    }
    let own = first.unwrap();
    let own = job(&store, own).await.wanted.tenant;
    for (tenant, count) in [(None, KEPT_MAX), (Some(own), RUNNING_PER_TENANT_MAX as u64)] {
        let look = store.read(move |snapshot| Ok((snapshot.replays(tenant.as_ref())?.len(), snapshot.looked_at())));
        let (found, looked_at) = look.await.unwrap();
        assert!(found as u64 >= count, "{found}");
        assert_eq!(looked_at, KEPT_MAX);
    }
    let kept = store.read(|snapshot| snapshot.replays(None)).await.unwrap();
    assert_eq!((kept.len() as u64, kept.last().map(|oldest| oldest.id)), (KEPT_MAX, first), "what runs stays");
    tokio::time::advance(Duration::from_secs(1)).await;
    let _ = store.submit(DropReplays { before: clock.now() }).await.unwrap();
    let kept = store.read(|snapshot| snapshot.replays(None)).await.unwrap();
    assert_eq!(kept.len(), RUNNING_MAX);
    assert!(kept.iter().all(|replay| replay.state == ReplayState::Running));
}
