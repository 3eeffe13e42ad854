//! What one damaged record costs, kind by kind. A bit of it flips under a store that is open, and nothing else changes.

use std::time::Duration;

use crate::clock::Clock;
use crate::model::delivery::Ending;
use crate::model::{
    Actor, CommandState, DeliveryKey, DeliveryState, DestinationNo, Order, Outcome, Seq, SubscriptionId, TenantId,
    Timestamp, Trigger,
};
use crate::store::commands::{AcceptCommand, DropCommands, RunCommand};
use crate::store::op::*;
use crate::store::requests::{BeginRequest, Begun};
use crate::store::tests::{Disk, Flip, attempt, event, keys, with_destinations};
use crate::store::*;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// A bit of each part of a record: of its envelope, of what follows, and of the last tag.
const BITS: [usize; 4] = [3, 17, 200, usize::MAX / 16 * 8 - 1];

fn try_open(disk: &Disk) -> Result<Store, OpenError> {
    let settings = Settings { cache_bytes: 1 << 20, run_events: 8, ..Settings::at("memory", keys()) };
    Store::open_on(disk.clone(), &settings, Clock::of_runtime(START), 7, WriterRuns::Inline)
}

fn open(disk: &Disk) -> Store {
    try_open(disk).unwrap()
}

async fn reopened(store: Store, disk: &Disk) -> Store {
    store.close().await;
    drop(store);
    open(disk)
}

async fn flip(store: &Store, table: &'static str, place: usize, bit: usize) -> String {
    store.submit(Flip { table, place, bit }).await.unwrap().answer.unwrap()
}

async fn accept(store: &Store, id: &str) -> Result<Accepted, Refusal> {
    let event = event("order.paid", Some(id), &format!("the payload of {id}"));
    store.submit(Accept { events: vec![event], waiting_max: 1000 }).await.unwrap().answer.remove(0)
}

async fn lane(store: &Store, no: DestinationNo) -> Vec<DueRow> {
    store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), 1000)).await.unwrap()
}

async fn finish(store: &Store, row: DueRow, outcome: Outcome, next: Next) {
    let due = match next {
        Next::Retry(due) | Next::Again(due) => Some(due),
        Next::Succeeded | Next::GivenUp(_) => None,
    };
    let done = Finish { row, attempt: attempt(row, outcome, due), next, health: None };
    let _ = store.submit(done).await.unwrap();
}

async fn delivery(store: &Store, key: DeliveryKey) -> Delivery {
    store.read(move |snapshot| snapshot.delivery(key)).await.unwrap().unwrap()
}

async fn steer<S: Steer>(store: &Store, op: S) -> S::Answer {
    store.steer(&Actor::SYSTEM, op).await.unwrap().answer
}

async fn conserved(store: &Store) {
    assert!(!store.has_failed());
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

const ALL: Window = Window { after: None, skip: 0, limit: 1000 };

async fn listed(store: &Store) -> Vec<u64> {
    let page = store.read(|snapshot| snapshot.events(&EventsWanted::default(), ALL)).await.unwrap();
    page.items.iter().map(|event| event.seq.0).collect()
}

/// P3, P4: lists leave a damaged event out, retention leaves it where it is, its id still counts, and nothing is done with it. What
/// lies around it goes on.
#[tokio::test]
async fn a_damaged_event_is_left_out_and_its_id_still_counts() {
    for bit in BITS {
        let disk = Disk::default();
        let store = open(&disk);
        let no = with_destinations(&store, 1).await[0];
        for id in ["T1", "T2", "T3"] {
            accept(&store, id).await.unwrap();
        }
        assert_eq!(flip(&store, "events", 1, bit).await, "2");
        assert_eq!(listed(&store).await, [3, 1]);
        assert!(
            store.read(|snapshot| snapshot.event(Seq(2))).await.is_err_and(|it| matches!(it, ReadError::Damaged(_)))
        );
        for id in ["T1", "T2", "T3"] {
            assert!(accept(&store, id).await.unwrap().duplicate, "bit {bit}: {id}");
        }
        assert_eq!(lane(&store, no).await.len(), 3);

        let key = DeliveryKey { destination: no, seq: Seq(2) };
        let is_head = store.read(|snapshot| snapshot.head(Seq(2))).await.is_err();
        let row = lane(&store, no).await[1];
        let _ = store.submit(GiveUp { row, ending: Ending::Damaged }).await.unwrap();
        if is_head {
            for trigger in [Trigger::Manual, Trigger::Replay] {
                assert_eq!(steer(&store, Resend { key, trigger }).await, Steered::Damaged);
            }
            assert_eq!(steer(&store, Cancel { key }).await, Steered::Damaged);
            assert_eq!(steer(&store, ErasePayload { seq: Seq(2) }).await, Erased::Damaged);
        } else {
            let delivery = delivery(&store, key).await;
            let ending = delivery.ended.map(|ended| ended.ending);
            assert_eq!((delivery.state, ending), (DeliveryState::Failed, Some(Ending::Damaged)));
        }
        assert_eq!(store.standing(|standing| standing.tally(no)).failed, 1);
        for row in lane(&store, no).await {
            finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
        }
        conserved(&store).await;

        let later = START.after(Duration::from_secs(1));
        let ages = Ages { payloads_before: later, attempts_before: later, events_before: later, now: later };
        let aged = store.read(move |snapshot| snapshot.first_aged(Seq(0), 100, ages)).await.unwrap();
        assert_eq!(aged.found, Some(Seq(1)));
        let swept = store.submit(Sweep { from: Seq(0), limit: 100, ages }).await.unwrap().answer;
        assert_eq!((swept.next, swept.touched), (None, if is_head { 2 } else { 3 }), "bit {bit}");
        let store = reopened(store, &disk).await;
        assert_eq!(listed(&store).await, [] as [u64; 0]);
        accept(&store, "T4").await.unwrap();
        conserved(&store).await;
        assert_eq!(store.damaged_records(), u64::from(is_head), "it is counted once a start");
    }
}

/// A damaged plan is made anew: the delivery goes on with the number that follows, and by its id it is found as before.
#[tokio::test]
async fn a_damaged_due_row_costs_its_delivery_nothing() {
    for bit in BITS {
        let disk = Disk::default();
        let store = open(&disk);
        let no = with_destinations(&store, 1).await[0];
        for id in ["T1", "T2", "T3", "T4"] {
            accept(&store, id).await.unwrap();
        }
        let first = lane(&store, no).await;
        finish(&store, first[0], Outcome::Failed, Next::Retry(START.after(Duration::from_secs(5)))).await;
        let before = lane(&store, no).await;
        assert_eq!(before.last().unwrap().plan, Plan { number: 2, tried: 1, ..Plan::FIRST });
        for place in 0..4 {
            flip(&store, "due", place, bit).await;
        }
        assert_eq!(lane(&store, no).await, before, "bit {bit}");
        conserved(&store).await;
        let store = reopened(store, &disk).await;
        // One was leased before its row was damaged, one is cancelled, one resent, one read anew.
        finish(&store, before[0], Outcome::Succeeded, Next::Succeeded).await;
        assert_eq!(steer(&store, Cancel { key: before[1].key() }).await, Steered::Done);
        assert_eq!(steer(&store, Resend { key: before[3].key(), trigger: Trigger::Manual }).await, Steered::Done);
        for row in lane(&store, no).await {
            finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
        }
        let tally = store.standing(|standing| standing.tally(no));
        assert_eq!(tally, Tally { accepted: 4, succeeded: 3, failed: 0, cancelled: 1 });
        conserved(&store).await;
    }
}

/// The history leaves a damaged attempt out. Where it is the last one, the delivery is found in its lane all the same.
#[tokio::test]
async fn a_damaged_attempt_is_missing_in_the_history_and_nowhere_else() {
    for bit in BITS {
        let disk = Disk::default();
        let store = open(&disk);
        let no = with_destinations(&store, 1).await[0];
        for id in ["T1", "T2", "T3"] {
            accept(&store, id).await.unwrap();
        }
        for row in lane(&store, no).await {
            finish(&store, row, Outcome::Failed, Next::Retry(START.after(Duration::from_secs(5)))).await;
        }
        for place in 0..3 {
            flip(&store, "attempts", place, bit).await;
        }
        let rows = lane(&store, no).await;
        for row in &rows {
            let delivery = delivery(&store, row.key()).await;
            assert_eq!(
                (delivery.state, delivery.row, delivery.attempts.len()),
                (DeliveryState::Pending, Some(*row), 0)
            );
        }
        assert_eq!(steer(&store, Cancel { key: rows[0].key() }).await, Steered::Done);
        assert_eq!(steer(&store, Resend { key: rows[1].key(), trigger: Trigger::Manual }).await, Steered::Done);
        conserved(&store).await;
        // The due row may be damaged as well: its number follows all the same.
        flip(&store, "due", 1, bit).await;
        let row = *lane(&store, no).await.iter().find(|row| row.seq == rows[2].seq).unwrap();
        assert_eq!(row.plan.number, 2);
        for row in lane(&store, no).await {
            finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
        }
        assert_eq!(steer(&store, Resend { key: rows[0].key(), trigger: Trigger::Manual }).await, Steered::Done);
        let tally = store.standing(|standing| standing.tally(no));
        assert_eq!(tally, Tally { accepted: 3, succeeded: 2, failed: 0, cancelled: 0 });
        conserved(&store).await;
    }
}

/// An end that cannot be read stays a failure, a cancellation stays one, and both can be sent again and are listed; what was
/// counted stays counted once.
#[tokio::test]
async fn a_damaged_end_stays_what_it_was_and_can_be_resent() {
    for bit in BITS {
        let disk = Disk::default();
        let store = open(&disk);
        let no = with_destinations(&store, 1).await[0];
        for id in ["T1", "T2"] {
            accept(&store, id).await.unwrap();
        }
        let rows = lane(&store, no).await;
        finish(&store, rows[0], Outcome::Failed, Next::GivenUp(Ending::Exhausted)).await;
        assert_eq!(steer(&store, Cancel { key: rows[1].key() }).await, Steered::Done);
        for (row, table, state, shown) in [
            (rows[0], "ended", DeliveryState::Failed, Ending::Damaged),
            (rows[1], "cancelled", DeliveryState::Cancelled, Ending::Cancelled),
        ] {
            flip(&store, table, 0, bit).await;
            let delivery = delivery(&store, row.key()).await;
            let ending = delivery.ended.map(|ended| ended.ending);
            assert_eq!((delivery.state, ending), (state, Some(shown)));
            let wanted = DeliveriesWanted { state: Some(state), ..DeliveriesWanted::default() };
            let page = store.read(move |snapshot| snapshot.deliveries(&wanted, ALL)).await.unwrap();
            assert_eq!(page.items.iter().map(|item| item.key).collect::<Vec<_>>(), [row.key()], "bit {bit}");
        }
        let store = reopened(store, &disk).await;
        for row in &rows {
            assert_eq!(steer(&store, Resend { key: row.key(), trigger: Trigger::Manual }).await, Steered::Done);
        }
        conserved(&store).await;
        for row in lane(&store, no).await {
            finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
        }
        let tally = store.standing(|standing| standing.tally(no));
        assert_eq!(tally, Tally { accepted: 2, succeeded: 2, failed: 0, cancelled: 0 });
        conserved(&store).await;
    }
}

/// What is only known of a start's own: a tally is counted anew, a lane is paused, an attempt that was under way is forgotten.
#[tokio::test]
async fn a_start_over_a_damaged_tally_lane_or_started_row_goes_on() {
    for bit in BITS {
        let disk = Disk::default();
        let store = open(&disk);
        let nos = with_destinations(&store, 2).await;
        for id in ["T1", "T2", "T3", "T4"] {
            accept(&store, id).await.unwrap();
        }
        let rows = lane(&store, nos[0]).await;
        finish(&store, rows[0], Outcome::Succeeded, Next::Succeeded).await;
        finish(&store, rows[1], Outcome::Failed, Next::GivenUp(Ending::Exhausted)).await;
        let attempts = vec![Started { row: rows[2], at: START, ran: Duration::from_secs(1) }];
        let _ = store.submit(Start { attempts }).await.unwrap();
        assert!(steer(&store, SetPaused { no: nos[1], paused: true }).await);
        let before =
            nos.clone().into_iter().map(|no| store.standing(|standing| standing.tally(no))).collect::<Vec<_>>();
        for (table, places) in [("tallies", 2), ("lanes", 1), ("started", 1)] {
            for place in 0..places {
                flip(&store, table, place, bit).await;
            }
        }
        let store = reopened(store, &disk).await;
        for (no, before) in nos.iter().zip(before) {
            assert_eq!(store.standing(|standing| standing.tally(*no)), before, "bit {bit}");
        }
        assert_eq!(
            store.standing(|standing| nos.clone().into_iter().map(|no| standing.lane(no).paused).collect::<Vec<_>>()),
            [false, true]
        );
        assert!(delivery(&store, rows[2].key()).await.attempts.is_empty(), "nothing is known of the attempt");
        assert_eq!(store.damaged_records(), 4);
        for no in &nos {
            for row in lane(&store, *no).await {
                finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
            }
        }
        conserved(&store).await;
        assert!(steer(&store, SetPaused { no: nos[1], paused: false }).await);
        let store = reopened(store, &disk).await;
        assert_eq!(store.damaged_records(), 0, "all of it was written anew");
        conserved(&store).await;
    }
}

/// P3: whichever row of the runs is damaged, each list names all its events, and each id leads to its event: while the store is
/// open, where all events of the run are looked at instead, and after a start, which writes anew what de-duplication needs.
#[tokio::test]
async fn damaged_lists_are_made_up_for_by_the_events() {
    let disk = Disk::default();
    let store = open(&disk);
    let nos = with_destinations(&store, 2).await;
    for place in 0..40 {
        accept(&store, &format!("T{place}")).await.unwrap();
    }
    let segments = {
        let mut keys = std::collections::BTreeSet::new();
        // Turned twice a bit is as it was.
        for place in 0..1000 {
            let key = flip(&store, "segments", place, 9).await;
            flip(&store, "segments", place, 9).await;
            if !keys.insert(key) {
                break;
            }
        }
        keys.len()
    };
    assert!(segments >= 20, "{segments}");
    let wholly_found = async |store: &Store, when: &str| {
        for place in 0..40 {
            assert!(accept(store, &format!("T{place}")).await.unwrap().duplicate, "{when}: T{place}");
        }
        for no in &nos {
            for kind in [None, Some("order.paid".parse().unwrap())] {
                let events = EventsWanted {
                    kind,
                    tenant: Some(crate::model::TenantId::default_tenant()),
                    ..EventsWanted::default()
                };
                let wanted = DeliveriesWanted { events, destination: Some(*no), ..DeliveriesWanted::default() };
                let page = store.read(move |snapshot| snapshot.deliveries(&wanted, ALL)).await.unwrap();
                assert_eq!(page.items.len(), 40, "{when}");
            }
        }
        assert_eq!(listed(store).await.len(), 40, "{when}");
    };
    let mut store = store;
    for place in 0..segments {
        let key = flip(&store, "segments", place, BITS[place % BITS.len()]).await;
        wholly_found(&store, &format!("{key} is damaged")).await;
        store = reopened(store, &disk).await;
        wholly_found(&store, &format!("{key} was damaged before the start")).await;
        let id_or_run = key.starts_with("i/") || key.starts_with("r/");
        conserved(&store).await;
        store = reopened(store, &disk).await;
        if id_or_run {
            assert_eq!(store.damaged_records(), 0, "{key} is whole again");
        } else {
            // A list that nobody needs for a start stays: it is turned back for the next.
            flip(&store, "segments", place, BITS[place % BITS.len()]).await;
        }
    }
    // Retention lets go of runs whose rows are damaged, too.
    for place in 0..segments {
        flip(&store, "segments", place, 30).await;
    }
    for no in &nos {
        for row in lane(&store, *no).await {
            finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
        }
    }
    let later = START.after(Duration::from_secs(1));
    let ages = Ages { payloads_before: later, attempts_before: later, events_before: later, now: later };
    let _ = store.submit(Sweep { from: Seq(0), limit: 1000, ages }).await.unwrap();
    assert_eq!(listed(&store).await, [] as [u64; 0]);
    let store = reopened(store, &disk).await;
    assert!(!accept(&store, "T1").await.unwrap().duplicate);
    conserved(&store).await;
}

/// A request with a key whose record is damaged may have been done: that is the answer, and it ages like any other. A damaged
/// record of the audit log stays where it is, and keeps what follows it.
#[tokio::test]
async fn a_damaged_request_is_one_of_unknown_answer_and_a_damaged_audit_record_stays() {
    let disk = Disk::default();
    let store = open(&disk);
    with_destinations(&store, 1).await;
    let begin = || BeginRequest { scope: [1; 32], fingerprint: [2; 32], kept_max: 10 };
    assert_eq!(store.submit(begin()).await.unwrap().answer, Begun::New);
    flip(&store, "requests", 0, 100).await;
    assert_eq!(store.submit(begin()).await.unwrap().answer, Begun::Unanswered);
    let before = START.after(Duration::from_secs(1));
    assert_eq!(store.submit(requests::DropRequests { before, limit: 5 }).await.unwrap().answer, 1);
    assert_eq!(store.submit(begin()).await.unwrap().answer, Begun::New);

    flip(&store, "audit", 0, 100).await;
    let dropped = audit::DropAged { before, now: before, limit: 10 };
    assert_eq!(store.submit(dropped).await.unwrap().answer, crate::model::audit::Link::START);
    conserved(&store).await;
    conserved(&reopened(store, &disk).await).await;
}

/// Nobody can guess what was configured, or which numbers were given out: a start says which record it misses, and how to go on.
#[tokio::test]
async fn a_start_over_a_damaged_configuration_ends_with_the_name_of_the_record() {
    let disk = Disk::default();
    let store = open(&disk);
    with_destinations(&store, 1).await;
    store.close().await;
    drop(store);
    let whole = |table: &'static str, place: usize, bit: usize| {
        let disk = disk.clone();
        async move {
            let store = open(&disk);
            let key = flip(&store, table, place, bit).await;
            assert!(accept(&store, "T1").await.is_ok(), "a store that is open has read it already");
            store.close().await;
            key
        }
    };
    for (table, places) in [("things", 3), ("meta", 3)] {
        for (place, bit) in BITS.into_iter().enumerate().take(places) {
            let key = whole(table, place, bit).await;
            let why = try_open(&disk).map(drop).unwrap_err().to_string();
            for part in [&key, table, "postrider db check", "last copy"] {
                assert!(why.contains(part), "{part} in {why}");
            }
            assert!(matches!(try_open(&disk), Err(OpenError::Damaged { .. })));
            turn_back(&disk, table, place, bit);
        }
    }
    conserved(&open(&disk)).await;
}

/// Turns a bit back in a store that does not open.
fn turn_back(disk: &Disk, table: &'static str, place: usize, bit: usize) {
    fn turn<K: redb::Key + 'static>(db: &redb::Database, definition: &tables::Definition<K>, place: usize, bit: usize) {
        let transaction = db.begin_write().unwrap();
        {
            let mut rows = transaction.open_table(definition.table()).unwrap();
            let (key, mut record) = {
                let (key, record) = rows.iter().unwrap().nth(place).unwrap().unwrap();
                (K::as_bytes(&key.value()).as_ref().to_vec(), record.value().to_vec())
            };
            let bit = bit % (record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            rows.insert(K::from_bytes(&key), record.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let db = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
    match table {
        "meta" => turn(&db, &tables::META, place, bit),
        _ => turn(&db, &tables::THINGS, place, bit),
    }
}

/// Whoever keeps a damaged record in front of everybody's eyes does not fill the log: each is told once, and counted once.
#[tokio::test]
async fn each_damaged_record_is_counted_once() {
    let store = open(&Disk::default());
    let no = with_destinations(&store, 1).await[0];
    for id in ["T1", "T2"] {
        accept(&store, id).await.unwrap();
    }
    flip(&store, "events", 0, 150).await;
    for _ in 0..10 {
        listed(&store).await;
        lane(&store, no).await;
    }
    assert_eq!(store.damaged_records(), 1);
    flip(&store, "events", 1, 150).await;
    listed(&store).await;
    assert_eq!(store.damaged_records(), 2);
}

/// A damaged command is never carried out, whoever asks for it is told, and those around it are done and dropped as ever.
#[tokio::test]
async fn a_damaged_command_is_told_and_keeps_no_other_from_its_turn() {
    for bit in BITS {
        let disk = Disk::default();
        let store = open(&disk);
        let home = TenantId::default_tenant();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let subscription = SubscriptionId(uuid::Uuid::nil());
            let (order, actor) = (Order::Deregister { subscription }, Actor::SYSTEM);
            let (tenant, dialect) = (home.clone(), "backoffice".to_owned());
            let accepted = store.submit(AcceptCommand { tenant, dialect, order, actor, chance: 5 }).await.unwrap();
            ids.push(accepted.answer.unwrap().id);
        }
        let state = async |store: &Store, place: usize| {
            let id = ids[place];
            store.read(move |snapshot| snapshot.command(id)).await.map(|found| found.map(|command| command.state))
        };
        flip(&store, "commands", 0, bit).await;
        for id in &ids[..2] {
            let _ = store.submit(RunCommand { id: *id }).await.unwrap();
        }
        for again in [false, true] {
            // What has not been carried out by then is carried out by the start.
            let store = if again { reopened(store.clone(), &disk).await } else { store.clone() };
            assert!(matches!(state(&store, 0).await, Err(ReadError::Damaged(_))), "bit {bit}");
            assert_eq!(state(&store, 1).await.unwrap(), Some(CommandState::Failed));
            let last = if again { CommandState::Failed } else { CommandState::Processing };
            assert_eq!(state(&store, 2).await.unwrap(), Some(last));
            assert_eq!(store.damaged_records(), 1);
            if again {
                let before = START.after(Duration::from_secs(1));
                assert!(store.read(move |snapshot| snapshot.commands_have_aged(before)).await.unwrap());
                let _ = store.submit(DropCommands { before }).await.unwrap();
                assert!(!store.read(move |snapshot| snapshot.commands_have_aged(before)).await.unwrap());
                assert!(matches!(state(&store, 0).await, Err(ReadError::Damaged(_))), "it is still told");
                conserved(&store).await;
            }
        }
    }
}
