//! The store's rules, each through its own door: operations in, answers out, and the rows that they leave.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::clock::Clock;
use crate::model::audit;
use crate::model::delivery::{Ending, Phases};
use crate::model::destination::Destination;
use crate::model::event::{NewEvent, Skip, Target};
use crate::model::*;

use super::audit::DropAged;
use super::op::*;
use super::*;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn settings() -> Settings {
    Settings { cache_bytes: 1 << 20, ..Settings::at("memory", keys()) }
}

/// The keys of every test: a start seals with a key of its own number all the same.
pub(crate) fn keys() -> Keys {
    Keys::new(MasterKey::new([7; KEY_BYTES]), [9; Keys::CHANCE_BYTES])
}

fn open() -> Store {
    let clock = Clock::of_runtime(START);
    Store::open_on(InMemoryBackend::new(), &settings(), clock, 7, WriterRuns::Inline).unwrap()
}

pub(crate) fn destination(name: &str) -> Destination {
    let id = DestinationId(uuid::Uuid::new_v4());
    Destination::new(DestinationNo(0), id, TenantId::default_tenant(), name, "https://hooks.example.com/in", START)
}

pub(crate) fn subscription(pattern: &str, destinations: &[DestinationNo]) -> Subscription {
    Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(uuid::Uuid::new_v4()),
        tenant: TenantId::default_tenant(),
        pattern: pattern.parse().unwrap(),
        name: None,
        roll_up: false,
        filter: None,
        destinations: destinations.to_vec(),
        registered: None,
        created: START,
    }
}

pub(crate) fn event(kind: &str, id: Option<&str>, body: &str) -> NewEvent {
    let plain = NewEvent::new(TenantId::default_tenant(), kind.parse().unwrap(), body.to_owned());
    NewEvent { producer_id: id.map(|id| id.parse().unwrap()), ..plain }
}

pub(crate) async fn with_destinations(store: &Store, count: usize) -> Vec<DestinationNo> {
    let mut nos = Vec::new();
    for place in 0..count {
        let created =
            store.steer(&Actor::SYSTEM, CreateDestination { destination: destination(&format!("d{place}")) }).await;
        nos.push(created.unwrap().answer.unwrap().no);
    }
    let all = subscription("*", &nos);
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription: all }).await.unwrap().answer.unwrap();
    nos
}

async fn accept(store: &Store, event: NewEvent) -> Result<Accepted, Refusal> {
    store.submit(Accept { events: vec![event], waiting_max: 1000 }).await.unwrap().answer.remove(0)
}

/// Damages the payload of an event on disk, and nothing else of it.
pub(crate) struct DamagePayload(pub Seq);

impl Op for DamagePayload {
    type Answer = ();

    fn bytes(&self) -> usize {
        64
    }

    fn apply(self, batch: &mut writer::Batch<'_>) -> Result<(), writer::ApplyError> {
        let mut record = batch.events.get(self.0.0)?.expect("there is such an event").value().to_vec();
        // The sealed payload ends the record.
        *record.last_mut().expect("a record is longer than its envelope") ^= 1;
        batch.events.insert(self.0.0, record.as_slice())?;
        Ok(())
    }
}

/// Turns a bit of a record, as a disk may. Answers where the record lies, or that the table is empty.
pub(crate) struct Flip {
    pub table: &'static str,
    pub place: usize,
    pub bit: usize,
}

impl Op for Flip {
    type Answer = Option<String>;

    fn bytes(&self) -> usize {
        64
    }

    fn apply(self, batch: &mut writer::Batch<'_>) -> Result<Option<String>, writer::ApplyError> {
        batch.flip(self.table, self.place, self.bit)
    }
}

/// One store's bytes, through several openings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<InMemoryBackend>);

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

async fn rows(store: &Store, no: DestinationNo) -> Vec<DueRow> {
    store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), 1000)).await.unwrap()
}

async fn delivery(store: &Store, row: DueRow) -> Delivery {
    let key = row.key();
    store.read(move |snapshot| snapshot.delivery(key)).await.unwrap().unwrap()
}

async fn conserved(store: &Store) {
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
}

pub(super) fn attempt(row: DueRow, outcome: Outcome, next: Option<Timestamp>) -> Attempt {
    Attempt {
        number: row.plan.number,
        due: row.due,
        started: START,
        duration: Duration::from_millis(3),
        trigger: row.plan.trigger,
        outcome,
        reason: (outcome != Outcome::Succeeded).then_some(Reason::Status),
        status: Some(200),
        request_headers: Headers::default(),
        response_headers: Headers::default(),
        response_body: vec![],
        error: None,
        address: None,
        phases: Phases::default(),
        reconnected: false,
        next,
    }
}

async fn finish(store: &Store, row: DueRow, outcome: Outcome, next: Next) {
    let due = match next {
        Next::Retry(due) | Next::Again(due) => Some(due),
        Next::Succeeded | Next::GivenUp(_) => None,
    };
    let attempt = attempt(row, outcome, due);
    let _ = store.submit(Finish { row, attempt, next, health: None }).await.unwrap();
}

/// S2.67, D29: many subscriptions may name one destination; an event makes one delivery for it and names them both.
#[tokio::test]
async fn two_subscriptions_of_one_destination_make_one_delivery() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    store
        .steer(&Actor::SYSTEM, CreateSubscription { subscription: subscription("a.*", &nos) })
        .await
        .unwrap()
        .answer
        .unwrap();
    let accepted = accept(&store, event("a.b", None, "1")).await.unwrap();
    assert_eq!(accepted.deliveries, 1);
    let stored = store.read(move |snapshot| snapshot.event_by_id(accepted.id)).await.unwrap().unwrap();
    assert_eq!(stored.head.targets[0].subscriptions.len(), 2);
    conserved(&store).await;
}

/// An event's deliveries are read a page at a time and share its head, so that many targets cost no more than the page has rows.
#[tokio::test]
async fn a_page_of_an_events_deliveries_reads_no_more_than_it_shows() {
    let store = open();
    let nos = with_destinations(&store, 2000).await;
    let accepted = accept(&store, event("a", None, "1")).await.unwrap();
    assert_eq!(accepted.deliveries, 2000);
    let seq = accepted.id.seq();
    let page = async |among, window| {
        let read = store.read(move |snapshot| {
            let head = Arc::new(snapshot.event(seq)?.unwrap().head);
            let begun_at = snapshot.looked_at();
            let page = snapshot.deliveries_of(seq, &head, among, window)?;
            assert!(page.items.iter().all(|delivery| Arc::ptr_eq(&delivery.head, &head)));
            Ok((page, snapshot.looked_at() - begun_at))
        });
        let (page, looked_at) = read.await.unwrap();
        assert!(looked_at <= 20, "{looked_at} rows");
        (page.items.iter().map(|delivery| delivery.key.destination).collect::<Vec<_>>(), page.next)
    };
    let first = Window { after: None, skip: 0, limit: 10 };
    let (shown, next) = page(None, first).await;
    assert_eq!(shown, nos[..10]);
    assert_eq!(page(None, Window { after: next, skip: 3, ..first }).await.0, nos[13..23]);
    let last = Place { seq, destination: nos[1994] };
    assert_eq!(page(None, Window { after: Some(last), ..first }).await, (nos[1995..].to_vec(), None));
    let among = Some(nos[1990..].iter().copied().step_by(2).collect());
    assert_eq!(page(among, first).await, (nos[1990..].iter().copied().step_by(2).collect(), None));
}

/// S2.18, S2.68, SX.12, D23, D24: what is disabled or unconfirmed gets no delivery, and the event says so.
#[tokio::test]
async fn a_disabled_or_unconfirmed_destination_is_skipped_and_the_event_says_so() {
    let store = open();
    let mut nos = Vec::new();
    for (disabled, confirmed) in [(true, true), (false, false), (false, true)] {
        let confirmation = if confirmed { Confirmation::Given } else { Confirmation::Awaited };
        let destination = Destination { disabled, confirmation, ..destination("d") };
        nos.push(store.steer(&Actor::SYSTEM, CreateDestination { destination }).await.unwrap().answer.unwrap().no);
    }
    store
        .steer(&Actor::SYSTEM, CreateSubscription { subscription: subscription("*", &nos) })
        .await
        .unwrap()
        .answer
        .unwrap();
    let accepted = accept(&store, event("a", None, "1")).await.unwrap();
    assert_eq!(accepted.deliveries, 1);
    let stored = store.read(move |snapshot| snapshot.event_by_id(accepted.id)).await.unwrap().unwrap();
    assert_eq!(stored.head.skipped, [(nos[0], Skip::Disabled), (nos[1], Skip::Unconfirmed)]);
}

fn request() -> NewEvent {
    NewEvent::new(TenantId::default_tenant(), ConfirmationRequest::event_type(), "{}")
}

async fn asked(store: &Store, no: DestinationNo) -> DueRow {
    store.steer(&Actor::SYSTEM, Ask { no, request: request() }).await.unwrap().answer.unwrap();
    rows(store, no).await.into_iter().find(|row| row.plan.trigger == Trigger::Confirmation).unwrap()
}

fn confirmation(store: &Store, no: DestinationNo) -> Confirmation {
    store.catalog().destination(no).unwrap().confirmation
}

/// S2.43, S2.44, S2.46, decision D22: the request is made with the destination, waits once at most, keeps its trigger when it is
/// tried again or resent, and confirms in the commit that records its success. An older one confirms nothing.
#[tokio::test]
async fn the_last_request_confirms_its_destination_and_no_other() {
    let store = open();
    let destination = Destination { confirmation: Confirmation::Awaited, ..destination("d") };
    let made = AndAsk { change: CreateDestination { destination }, request: Some(request()) };
    let no = store.steer(&Actor::SYSTEM, made).await.unwrap().answer.unwrap().no;
    let first = rows(&store, no).await.pop().unwrap();
    assert_eq!((first.plan.trigger, confirmation(&store, no)), (Trigger::Confirmation, Confirmation::Awaited));

    // Asked again while the first one is under way: the first one's success counts, and confirms nothing.
    let second = asked(&store, no).await;
    assert_eq!(rows(&store, no).await, [second]);
    assert_eq!(delivery(&store, first).await.state, DeliveryState::Cancelled);
    finish(&store, first, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(delivery(&store, first).await.state, DeliveryState::Succeeded);
    assert_eq!(confirmation(&store, no), Confirmation::Awaited);

    finish(&store, second, Outcome::Failed, Next::Retry(START.after(Duration::from_secs(5)))).await;
    let retry = rows(&store, no).await.pop().unwrap();
    assert_eq!((retry.plan.number, retry.plan.trigger), (2, Trigger::Confirmation));
    finish(&store, retry, Outcome::Failed, Next::GivenUp(Ending::Exhausted)).await;
    let resend = |row: DueRow| Resend { key: row.key(), trigger: Trigger::Manual };
    let _ = store.steer(&Actor::SYSTEM, resend(second)).await.unwrap();
    let resent = rows(&store, no).await.pop().unwrap();
    assert_eq!((resent.plan.number, resent.plan.trigger), (3, Trigger::Confirmation));
    finish(&store, resent, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(confirmation(&store, no), Confirmation::Given);
    let _ = store.steer(&Actor::SYSTEM, resend(first)).await.unwrap();
    assert_eq!(rows(&store, no).await.pop().unwrap().plan.trigger, Trigger::Manual);

    // P19: that it has confirmed stands in the audit log, once, in the daemon's own name.
    let wanted = audit::Wanted { action: "destination.confirmed".parse().ok(), ..audit::Wanted::default() };
    let whole = Window { after: None, skip: 0, limit: 10 };
    let records = store.read(move |snapshot| snapshot.audit(&wanted, whole)).await.unwrap().items;
    let [(_, record)] = &records[..] else { panic!("{records:?}") };
    let record: serde_json::Value = serde_json::from_str(&record.text).unwrap();
    assert_eq!((&record["actor"]["id"], &record["tenant"]), (&json!("system"), &json!("default")));
    assert_eq!(record["object"]["id"], store.catalog().destination_id(no).unwrap().to_string());
    assert_eq!((&record["before"], &record["after"]), (&json!({"confirmed": false}), &json!({"confirmed": true})));
    conserved(&store).await;
}

/// S2.44: a request that is asked for is sent, also where the receiver had said that it is gone, or had asked for time. A pause
/// is an operator's own word and stays.
#[tokio::test]
async fn whoever_asks_for_a_confirmation_opens_the_lane_for_the_request() {
    let store = open();
    let no = with_destinations(&store, 1).await[0];
    let lane = || store.standing(|standing| standing.lane(no));
    let known = [
        LaneHealth { gone: true, ..LaneHealth::default() },
        LaneHealth { hold_until: Some(START.after(Duration::from_secs(3600))), ..LaneHealth::unknown(1) },
    ];
    for (known, paused) in known.into_iter().zip([false, true]) {
        accept(&store, event("a", None, "1")).await.unwrap();
        let row = *rows(&store, no).await.last().unwrap();
        let attempt = attempt(row, Outcome::Failed, None);
        let next = Next::GivenUp(Ending::Exhausted);
        let _ = store.submit(Finish { row, attempt, next, health: Some(known) }).await.unwrap();
        assert_eq!(lane().health, known);
        if paused {
            assert!(store.steer(&Actor::SYSTEM, SetPaused { no, paused }).await.unwrap().answer);
        }
        let _ = store.bell().heard();
        let row = asked(&store, no).await;
        let Heard::Changes(heard) = store.bell().heard() else { panic!("it heard too much") };
        assert!(heard.ends_with(&[Change::Opened(no)]) && heard.contains(&Change::Due(row)), "{heard:?}");
        assert_eq!(lane(), Lane { paused, ordering: None, health: LaneHealth::unknown(known.resumed + 1) });
    }
}

/// Decision D14: for whoever had confirmed another URL events wait, test events do not; the request for the old URL is withdrawn,
/// and what was known of the old receiver is forgotten.
#[tokio::test]
async fn a_moved_destination_keeps_what_comes_and_its_old_request_confirms_nothing() {
    let store = open();
    let no = with_destinations(&store, 1).await[0];
    let subscription = subscription("*", &[no]);
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    let old = asked(&store, no).await;
    let health = || store.standing(|standing| standing.lane(no)).health;
    let gone = LaneHealth { gone: true, ..health() };
    let first = accept(&store, event("a", None, "1")).await.unwrap();
    let row = rows(&store, no).await.into_iter().find(|row| row.seq == first.id.seq()).unwrap();
    let cut = Finish {
        row,
        attempt: attempt(row, Outcome::Failed, None),
        next: Next::GivenUp(Ending::Exhausted),
        health: Some(gone),
    };
    let _ = store.submit(cut).await.unwrap();
    assert!(health().gone);
    let under_way = *rows(&store, no).await.last().unwrap();

    let before = Arc::clone(store.catalog().destination(no).unwrap());
    let url = "https://elsewhere.example.com/".to_owned();
    let after = Destination { url, confirmation: Confirmation::Lapsed, asked: None, ..Destination::clone(&before) };
    let change = UpdateDestination { before, after, action: audit::Action::DestinationUpdate };
    store.steer(&Actor::SYSTEM, AndAsk { change, request: Some(request()) }).await.unwrap().answer.unwrap();
    let moved = LaneHealth::unknown(gone.resumed + 1);
    assert_eq!(health(), moved);
    // What an attempt that was under way found out is of the old receiver, too.
    let attempt = attempt(under_way, Outcome::Failed, None);
    let late = Finish { row: under_way, attempt, next: Next::GivenUp(Ending::Exhausted), health: Some(gone) };
    let _ = store.submit(late).await.unwrap();
    assert_eq!(health(), moved);
    finish(&store, old, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(confirmation(&store, no), Confirmation::Lapsed);

    assert_eq!(accept(&store, event("a", None, "2")).await.unwrap().deliveries, 1, "it waits");
    let target = Target { destination: no, subscriptions: vec![] };
    let test = async || {
        let tested = Tested::Destination(store.catalog().destination(no).unwrap().id);
        let (event, targets) = (request(), vec![target.clone()]);
        let test = SendTest { tested, event, targets, waiting_max: 1000 };
        store.steer(&Actor::SYSTEM, test).await.unwrap().answer.unwrap()
    };
    let tested = test().await;
    let stored = store.read(move |snapshot| snapshot.event_by_id(tested.id)).await.unwrap().unwrap();
    assert_eq!(stored.head.skipped, [(no, Skip::Unconfirmed)]);

    let new = rows(&store, no).await.into_iter().find(|row| row.plan.trigger == Trigger::Confirmation).unwrap();
    finish(&store, new, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(confirmation(&store, no), Confirmation::Given);
    assert_eq!(test().await.deliveries, 1);
    let tested = rows(&store, no).await.pop().unwrap();
    assert_eq!(tested.plan.trigger, Trigger::Test);

    // S2.60: in the history the request is told by what made it, not by its type.
    let steps = async |row: DueRow| {
        let delivery = delivery(&store, row).await;
        delivery.course().passed().iter().map(|step| step.milestone.as_str()).collect::<Vec<_>>()
    };
    finish(&store, tested, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(steps(tested).await, ["SUCCESS", "QUEUED", "CREATE"]);
    assert_eq!(steps(new).await, ["CONFIRMED", "CONFIRM", "QUEUED", "CREATE"]);
    conserved(&store).await;
}

/// S4.5: an event of a portfolio reaches the hooks of that portfolio and those of its reseller that roll up.
#[tokio::test]
async fn a_subscription_above_sees_a_childs_events_only_when_it_rolls_up() {
    let store = open();
    for (id, parent) in [("reseller", None), ("portfolio", Some("reseller")), ("merchant", Some("portfolio"))] {
        let parent = parent.map(|parent| parent.parse().unwrap());
        let tenant = Tenant { id: id.parse().unwrap(), name: id.into(), parent, created: START, audit_from: 0 };
        store.steer(&Actor::SYSTEM, CreateTenant { tenant }).await.unwrap().answer.unwrap();
    }
    for (tenant, roll_up) in [("reseller", true), ("portfolio", false), ("merchant", false)] {
        let tenant: TenantId = tenant.parse().unwrap();
        let destination = Destination { tenant: tenant.clone(), ..destination("d") };
        let no = store.steer(&Actor::SYSTEM, CreateDestination { destination }).await.unwrap().answer.unwrap().no;
        let subscription = Subscription { tenant, roll_up, ..subscription("*", &[no]) };
        store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
    }
    for (tenant, deliveries) in [("merchant", 2), ("portfolio", 2), ("reseller", 1)] {
        let event = NewEvent { tenant: tenant.parse().unwrap(), ..event("a", None, "1") };
        assert_eq!(accept(&store, event).await.unwrap().deliveries, deliveries, "{tenant}");
    }
    let ring = Tenant {
        id: "reseller".parse().unwrap(),
        name: "r".into(),
        parent: "merchant".parse().ok(),
        created: START,
        audit_from: 0,
    };
    assert_eq!(
        store.steer(&Actor::SYSTEM, UpdateTenant { tenant: ring }).await.unwrap().answer,
        Err(Rejected::TenantNesting)
    );
}

/// P3: the same id answers with the first event; with other content it is a conflict; after seven days it is new.
#[tokio::test(start_paused = true)]
async fn a_producers_id_names_one_event_for_seven_days() {
    let store = open();
    with_destinations(&store, 2).await;
    let first = accept(&store, event("a", Some("T-1"), "1")).await.unwrap();
    let again = accept(&store, event("a", Some("T-1"), "1")).await.unwrap();
    assert_eq!(again, Accepted { duplicate: true, ..first });
    assert_eq!(accept(&store, event("a", Some("T-1"), "2")).await, Err(Refusal::IdConflict(first.id)));
    assert_eq!(accept(&store, event("b", Some("T-1"), "1")).await, Err(Refusal::IdConflict(first.id)));
    let keyed = NewEvent { key: Some("k".parse().unwrap()), ..event("a", Some("T-1"), "1") };
    assert_eq!(accept(&store, keyed).await, Err(Refusal::IdConflict(first.id)));
    tokio::time::advance(Duration::from_secs(7 * 24 * 3600 - 1)).await;
    assert!(accept(&store, event("a", Some("T-1"), "1")).await.unwrap().duplicate);
    tokio::time::advance(Duration::from_secs(1)).await;
    let later = accept(&store, event("a", Some("T-1"), "2")).await.unwrap();
    assert!(!later.duplicate && later.id != first.id);
    conserved(&store).await;
}

#[tokio::test]
async fn a_batch_is_one_commit_and_sees_its_own_duplicates() {
    let store = open();
    with_destinations(&store, 1).await;
    let events = vec![event("a", Some("1"), "x"), event("a", Some("1"), "x"), event("a", Some("1"), "y")];
    let committed = store.submit(Accept { events, waiting_max: 1000 }).await.unwrap();
    let [first, second, third] = &committed.answer[..] else { panic!() };
    assert_eq!(second.unwrap().id, first.unwrap().id);
    assert_eq!(*third, Err(Refusal::IdConflict(first.unwrap().id)));
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_and_leaves_nothing() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    let stranger = NewEvent { tenant: "nobody".parse().unwrap(), ..event("a", None, "1") };
    assert_eq!(accept(&store, stranger).await, Err(Refusal::UnknownTenant));
    let expired = NewEvent { expires_at: Some(START), ..event("a", None, "1") };
    assert_eq!(accept(&store, expired).await, Err(Refusal::Expired));
    let full = store.submit(Accept { events: vec![event("a", Some("1"), "1")], waiting_max: 0 }).await.unwrap();
    assert_eq!(full.answer, [Err(Refusal::QueueFull)]);
    assert!(rows(&store, nos[0]).await.is_empty());
    assert_eq!(store.standing(|standing| (standing.events, standing.waiting)), (0, 0));
    assert!(!accept(&store, event("a", Some("1"), "2")).await.unwrap().duplicate, "a refused id is not taken");
}

/// Invariant 2: the due row leaves only in the transaction that records what became of it.
#[tokio::test]
async fn a_delivery_goes_from_row_to_row_until_it_ends() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let [first] = rows(&store, nos[0]).await[..] else { panic!() };
    let later = START.after(Duration::from_secs(60));
    finish(&store, first, Outcome::Failed, Next::Retry(later)).await;
    let [second] = rows(&store, nos[0]).await[..] else { panic!() };
    assert_eq!((second.due, second.plan.number, second.plan.tried), (later, 2, 1));
    conserved(&store).await;
    finish(&store, second, Outcome::Succeeded, Next::Succeeded).await;
    assert!(rows(&store, nos[0]).await.is_empty());
    let ended = delivery(&store, second).await;
    assert_eq!((ended.state, ended.attempts.len()), (DeliveryState::Succeeded, 2));
    conserved(&store).await;
    finish(&store, second, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(store.standing(|standing| standing.tally(nos[0]).succeeded), 1, "an end that comes twice counts once");
    conserved(&store).await;
}

/// D26, SX.10: a resend is attempt n + 1 of the same delivery, on a fresh schedule.
#[tokio::test]
async fn a_resend_goes_on_counting_attempts_on_a_fresh_schedule() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let [first] = rows(&store, nos[0]).await[..] else { panic!() };
    let key = first.key();
    let resend = || Resend { key, trigger: Trigger::Manual };
    assert_eq!(store.steer(&Actor::SYSTEM, resend()).await.unwrap().answer, Steered::DueAlready);
    finish(&store, first, Outcome::Failed, Next::GivenUp(Ending::Exhausted)).await;
    assert_eq!(delivery(&store, first).await.state, DeliveryState::Failed);
    assert_eq!(store.steer(&Actor::SYSTEM, resend()).await.unwrap().answer, Steered::Done);
    conserved(&store).await;
    let [second] = rows(&store, nos[0]).await[..] else { panic!() };
    assert_eq!(second.plan, Plan { number: 2, tried: 0, trigger: Trigger::Manual, cut_off: 0, in_line: false });
    finish(&store, second, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(
        store.steer(&Actor::SYSTEM, resend()).await.unwrap().answer,
        Steered::Done,
        "a success can be sent again, too"
    );
    assert_eq!(rows(&store, nos[0]).await[0].plan.number, 3);
    assert_eq!(delivery(&store, first).await.attempts.len(), 2);
    conserved(&store).await;
}

/// S2.61, D26: a delivery that failed and waits for its retry is sent at once, on a fresh schedule: its one due row moves, and
/// its attempts go on counting. What has not been tried and is due already is on its way.
#[tokio::test]
async fn a_resend_brings_a_retry_forward_on_a_fresh_schedule() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let [first] = rows(&store, nos[0]).await[..] else { panic!() };
    let resend = async || {
        let resend = Resend { key: first.key(), trigger: Trigger::Manual };
        store.steer(&Actor::SYSTEM, resend).await.unwrap().answer
    };
    let later = START.after(Duration::from_secs(3600));
    finish(&store, first, Outcome::Failed, Next::Retry(later)).await;
    let [waiting] = rows(&store, nos[0]).await[..] else { panic!() };
    assert_eq!((waiting.due, waiting.plan.number, waiting.plan.tried), (later, 2, 1));
    assert_eq!(resend().await, Steered::Done);
    conserved(&store).await;
    let [now] = rows(&store, nos[0]).await[..] else { panic!("{:?}", rows(&store, nos[0]).await) };
    assert!(now.due < later);
    assert_eq!(now.plan, Plan { number: 2, tried: 0, trigger: Trigger::Manual, cut_off: 0, in_line: true });
    assert_eq!(delivery(&store, first).await.row, Some(now), "it is found where it lies");
    assert_eq!(resend().await, Steered::DueAlready, "it is on its way");
    // An attempt that the resend overtook is noted, and the one that was asked for still comes.
    finish(&store, waiting, Outcome::Failed, Next::Retry(later)).await;
    conserved(&store).await;
    let [last] = rows(&store, nos[0]).await[..] else { panic!("{:?}", rows(&store, nos[0]).await) };
    assert_eq!((last.plan.number, last.plan.tried, last.plan.trigger), (3, 0, Trigger::Manual));
    finish(&store, last, Outcome::Succeeded, Next::Succeeded).await;
    let ended = delivery(&store, first).await;
    assert_eq!((ended.state, ended.attempts.len()), (DeliveryState::Succeeded, 3));
    assert!(rows(&store, nos[0]).await.is_empty());
    conserved(&store).await;
}

#[tokio::test]
async fn a_cancelled_delivery_stays_cancelled_unless_its_last_attempt_succeeds() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    for outcome in [Outcome::Failed, Outcome::Succeeded] {
        accept(&store, event("a", None, "1")).await.unwrap();
        let [row] = rows(&store, nos[0]).await[..] else { panic!() };
        assert_eq!(store.steer(&Actor::SYSTEM, Cancel { key: row.key() }).await.unwrap().answer, Steered::Done);
        assert_eq!(delivery(&store, row).await.state, DeliveryState::Cancelled);
        let again = store.steer(&Actor::SYSTEM, Cancel { key: row.key() }).await.unwrap().answer;
        assert_eq!(again, Steered::NotFrom(DeliveryState::Cancelled));
        // The attempt was under way when the operator cancelled.
        let next = if outcome == Outcome::Succeeded { Next::Succeeded } else { Next::Retry(START) };
        finish(&store, row, outcome, next).await;
        assert!(rows(&store, nos[0]).await.is_empty());
        let ended = delivery(&store, row).await;
        let state = if outcome == Outcome::Succeeded { DeliveryState::Succeeded } else { DeliveryState::Cancelled };
        assert_eq!((ended.state, ended.attempts.len()), (state, 1));
        conserved(&store).await;
    }
}

#[tokio::test]
async fn a_delivery_that_is_cancelled_and_resent_during_its_attempt_keeps_its_numbers_apart() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let [row] = rows(&store, nos[0]).await[..] else { panic!() };
    let key = row.key();
    assert_eq!(store.steer(&Actor::SYSTEM, Cancel { key }).await.unwrap().answer, Steered::Done);
    assert_eq!(
        store.steer(&Actor::SYSTEM, Resend { key, trigger: Trigger::Manual }).await.unwrap().answer,
        Steered::Done
    );
    let [planned] = rows(&store, nos[0]).await[..] else { panic!() };
    assert_eq!(planned.plan.number, 1, "the attempt under way has not been recorded yet");
    finish(&store, row, Outcome::Failed, Next::Retry(START.after(Duration::from_secs(9)))).await;
    conserved(&store).await;
    let [moved] = rows(&store, nos[0]).await[..] else { panic!("{:?}", rows(&store, nos[0]).await) };
    assert_eq!(moved.plan, Plan { number: 2, tried: 0, trigger: Trigger::Manual, cut_off: 0, in_line: false });
    finish(&store, moved, Outcome::Succeeded, Next::Succeeded).await;
    let ended = delivery(&store, row).await;
    let numbers: Vec<_> = ended.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!((ended.state, numbers), (DeliveryState::Succeeded, vec![1, 2]));
    conserved(&store).await;
}

/// An attempt that ended just before an operator resumed its lane is recorded just after: it must not close the lane again.
#[tokio::test]
async fn what_was_found_out_before_a_resume_does_not_undo_it() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    let health = || store.standing(|standing| standing.lane(nos[0]).health);
    let told = async |health: LaneHealth| {
        accept(&store, event("a", None, "1")).await.unwrap();
        let row = *rows(&store, nos[0]).await.last().unwrap();
        let attempt = attempt(row, Outcome::Succeeded, None);
        let _ = store.submit(Finish { row, attempt, next: Next::Succeeded, health: Some(health) }).await.unwrap();
    };
    let gone = LaneHealth { gone: true, ..health() };
    told(gone).await;
    assert_eq!(health(), gone);
    for resumed in [1, 2] {
        assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[0], paused: false }).await.unwrap().answer);
        assert_eq!(health(), LaneHealth::unknown(resumed));
        told(LaneHealth { resumed: resumed - 1, ..gone }).await;
        assert_eq!(health(), LaneHealth::unknown(resumed), "it was leased before the resume");
    }
    told(LaneHealth { resumed: 2, ..gone }).await;
    assert!(health().gone, "and this one after it");
    assert_eq!(store.standing(|standing| standing.tally(nos[0]).succeeded), 4, "the outcomes stand all the same");
}

/// Whoever takes the id of a deleted tenant must not see that tenant's past: the id is free only when nothing of it remains.
#[tokio::test(start_paused = true)]
async fn the_id_of_a_deleted_tenant_is_taken_while_events_of_it_remain() {
    let kept = Kept::default();
    let mut store = kept.open();
    let id: TenantId = "m1".parse().unwrap();
    let tenant = || Tenant { id: id.clone(), name: "m1".into(), parent: None, created: START, audit_from: 0 };
    let create =
        async |store: &Store| store.steer(&Actor::SYSTEM, CreateTenant { tenant: tenant() }).await.unwrap().answer;
    let delete =
        async |store: &Store| store.steer(&Actor::SYSTEM, DeleteTenant { id: id.clone() }).await.unwrap().answer;
    for _ in 0..2 {
        assert_eq!(create(&store).await, Ok(()), "nothing was ever accepted for it");
        assert_eq!(delete(&store).await, Ok(()));
    }
    create(&store).await.unwrap();
    let own = Destination { tenant: id.clone(), ..destination("d") };
    let no = store.steer(&Actor::SYSTEM, CreateDestination { destination: own }).await.unwrap().answer.unwrap().no;
    let own = Subscription { tenant: id.clone(), ..subscription("*", &[no]) };
    let subscription =
        store.steer(&Actor::SYSTEM, CreateSubscription { subscription: own }).await.unwrap().answer.unwrap().id;
    accept(&store, event("a", None, "somebody else's")).await.unwrap();
    accept(&store, NewEvent { tenant: id.clone(), ..event("a", None, "1") }).await.unwrap();
    store.steer(&Actor::SYSTEM, DeleteSubscription { id: subscription }).await.unwrap().answer.unwrap();
    store.steer(&Actor::SYSTEM, DeleteDestination { no }).await.unwrap().answer.unwrap();
    assert_eq!(store.submit(Purge { no, limit: 9 }).await.unwrap().answer, 1);
    assert_eq!(delete(&store).await, Ok(()));
    assert_eq!(create(&store).await, Err(Rejected::TenantRemembered));
    drop(store);
    store = kept.open();
    assert_eq!(create(&store).await, Err(Rejected::TenantRemembered), "also after a restart");

    tokio::time::advance(Duration::from_secs(60)).await;
    let now = START.after(Duration::from_secs(60));
    let ages = Ages { payloads_before: now, attempts_before: now, events_before: now, now };
    assert_eq!(store.submit(Sweep { from: Seq(0), limit: 9, ages }).await.unwrap().answer.touched, 2);
    assert_eq!(create(&store).await, Ok(()));
    assert!(store.catalog().owner(no).is_none(), "what it had owned is not the new one's");
    assert_eq!(store.standing(|standing| standing.tally(no)), Tally::default());
    conserved(&store).await;
}

/// No event led to them any more, and a destination's last chapter stays as long as its number: they stayed for ever.
#[tokio::test(start_paused = true)]
async fn the_chapters_of_a_deleted_tenants_destinations_go_with_its_id() {
    let settings = Settings { run_events: 16, ..settings() };
    let clock = Clock::of_runtime(START);
    let store = Store::open_on(InMemoryBackend::new(), &settings, clock, 7, WriterRuns::Inline).unwrap();
    let id: TenantId = "m1".parse().unwrap();
    let tenant = || Tenant { id: id.clone(), name: "m1".into(), parent: None, created: START, audit_from: 0 };
    store.steer(&Actor::SYSTEM, CreateTenant { tenant: tenant() }).await.unwrap().answer.unwrap();
    let mut nos = Vec::new();
    for owner in [TenantId::default_tenant(), id.clone()] {
        let own = Destination { tenant: owner.clone(), ..destination("d") };
        let no = store.steer(&Actor::SYSTEM, CreateDestination { destination: own }).await.unwrap().answer.unwrap().no;
        let own = Subscription { tenant: owner.clone(), ..subscription("*", &[no]) };
        let subscription = store.steer(&Actor::SYSTEM, CreateSubscription { subscription: own }).await.unwrap();
        nos.push((no, subscription.answer.unwrap().id));
        for _ in 0..6 {
            accept(&store, NewEvent { tenant: owner.clone(), ..event("a", None, "1") }).await.unwrap();
            let row = rows(&store, no).await[0];
            let attempt = attempt(row, Outcome::Succeeded, None);
            let _ = store.submit(Finish { row, attempt, next: Next::Succeeded, health: None }).await.unwrap();
        }
    }
    let owned = || {
        let transaction = store.0.db.begin_read().unwrap();
        let chapters = transaction.open_table(tables::CHAPTERS).unwrap();
        let facts = transaction.open_table(tables::FACTS).unwrap();
        let chapters = chapters.iter().unwrap().map(|row| row.unwrap().0.value().0);
        let facts = facts.iter().unwrap().map(|row| row.unwrap().0.value().1);
        chapters.chain(facts).map(DestinationNo).collect::<Vec<_>>()
    };
    let (no, subscription) = nos.pop().unwrap();
    store.steer(&Actor::SYSTEM, DeleteSubscription { id: subscription }).await.unwrap().answer.unwrap();
    store.steer(&Actor::SYSTEM, DeleteDestination { no }).await.unwrap().answer.unwrap();
    store.steer(&Actor::SYSTEM, DeleteTenant { id: id.clone() }).await.unwrap().answer.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    let now = START.after(Duration::from_secs(60));
    let ages = Ages { payloads_before: now, attempts_before: now, events_before: now, now };
    assert_eq!(store.submit(Sweep { from: Seq(0), limit: 99, ages }).await.unwrap().answer.touched, 12);
    assert!(owned().contains(&no));
    store.steer(&Actor::SYSTEM, CreateTenant { tenant: tenant() }).await.unwrap().answer.unwrap();
    // Of two chapters a start and two facts each: what is somebody else's stays.
    assert_eq!(owned(), [nos[0].0; 5]);
}

/// A long past is not walked for one event: the id stays taken until that past is gone.
#[tokio::test(start_paused = true)]
async fn the_id_of_a_deleted_tenant_with_a_long_past_stays_taken() {
    let store = open();
    let id: TenantId = "m1".parse().unwrap();
    let tenant = || Tenant { id: id.clone(), name: "m1".into(), parent: None, created: START, audit_from: 0 };
    for (events, expected) in [(999, Ok(())), (1, Err(Rejected::TenantRemembered))] {
        if events > 1 {
            store.steer(&Actor::SYSTEM, CreateTenant { tenant: tenant() }).await.unwrap().answer.unwrap();
        }
        let events = (0..events).map(|_| event("a", None, "1")).collect();
        let _ = store.submit(Accept { events, waiting_max: 9 }).await.unwrap();
        store.steer(&Actor::SYSTEM, DeleteTenant { id: id.clone() }).await.unwrap().answer.unwrap();
        assert_eq!(store.steer(&Actor::SYSTEM, CreateTenant { tenant: tenant() }).await.unwrap().answer, expected);
    }
}

/// S3.17: deleting a destination ends what waits for it, and it leaves its subscriptions.
#[tokio::test]
async fn a_deleted_destination_keeps_its_past_and_cancels_its_future() {
    let store = open();
    let nos = with_destinations(&store, 2).await;
    for _ in 0..5 {
        accept(&store, event("a", None, "1")).await.unwrap();
    }
    let id = store.catalog().destination(nos[0]).unwrap().id;
    store.steer(&Actor::SYSTEM, DeleteDestination { no: nos[0] }).await.unwrap().answer.unwrap();
    assert_eq!(accept(&store, event("a", None, "1")).await.unwrap().deliveries, 1);
    let row = rows(&store, nos[0]).await[0];
    assert_eq!(store.submit(Purge { no: nos[0], limit: 3 }).await.unwrap().answer, 3);
    conserved(&store).await;
    assert_eq!(store.submit(Purge { no: nos[0], limit: 3 }).await.unwrap().answer, 2);
    conserved(&store).await;
    let past = delivery(&store, row).await;
    assert_eq!(past.ended.unwrap().ending, Ending::DestinationDeleted);
    assert_eq!(store.catalog().destination_id(nos[0]), Some(id));
    let resend = Resend { key: row.key(), trigger: Trigger::Manual };
    assert_eq!(store.steer(&Actor::SYSTEM, resend).await.unwrap().answer, Steered::NoDestination);
    assert_eq!(store.submit(Purge { no: nos[1], limit: 9 }).await.unwrap().answer, 0, "only what is deleted is purged");
}

#[tokio::test(start_paused = true)]
async fn retention_erases_then_removes_and_skips_what_is_unfinished() {
    let store = open();
    let nos = with_destinations(&store, 1).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(accept(&store, event("a", Some(&format!("T-{n}")), "secret")).await.unwrap().id);
    }
    let due = rows(&store, nos[0]).await;
    finish(&store, due[0], Outcome::Succeeded, Next::Succeeded).await;
    finish(&store, due[2], Outcome::Failed, Next::GivenUp(Ending::Exhausted)).await;
    let now = START.after(Duration::from_secs(10));
    let sweep = |payloads_before, attempts_before, events_before| Sweep {
        from: Seq(0),
        limit: 2,
        ages: Ages { payloads_before, attempts_before, events_before, now: Timestamp::MAX },
    };
    let look = |ages: Ages| {
        let store = store.clone();
        async move { store.read(move |snapshot| snapshot.first_aged(Seq(0), 2, ages)).await.unwrap() }
    };
    let payloads = sweep(now, Timestamp::ZERO, Timestamp::ZERO).ages;
    assert_eq!(look(payloads).await, Aged { found: Some(Seq(1)), next: None });
    let swept = store.submit(sweep(now, Timestamp::ZERO, Timestamp::ZERO)).await.unwrap().answer;
    assert_eq!(swept, Swept { next: Some(Seq(3)), touched: 1 }, "the second is unfinished");
    let kept = |id| {
        let store = store.clone();
        async move {
            store
                .read(move |snapshot| snapshot.event_by_id(id))
                .await
                .unwrap()
                .map(|event| event.body.bytes().is_some())
        }
    };
    assert_eq!([kept(ids[0]).await, kept(ids[1]).await, kept(ids[2]).await], [Some(false), Some(true), Some(true)]);
    assert_eq!(look(payloads).await, Aged { found: None, next: Some(Seq(3)) }, "what is done is not done again");
    let resend = Resend { key: due[0].key(), trigger: Trigger::Manual };
    assert_eq!(store.steer(&Actor::SYSTEM, resend).await.unwrap().answer, Steered::Erased);
    assert!(store.event(ids[0].seq()).await.unwrap().unwrap().body.bytes().is_none(), "memory forgets as well");
    let mut from = Some(Seq(0));
    while let Some(place) = from {
        from = store.submit(Sweep { from: place, ..sweep(now, now, now) }).await.unwrap().answer.next;
    }
    assert_eq!([kept(ids[0]).await, kept(ids[1]).await, kept(ids[2]).await], [None, Some(true), None]);
    assert!(!accept(&store, event("a", Some("T-0"), "other")).await.unwrap().duplicate, "its id went with it");
    conserved(&store).await;
}

/// A slice of retention is one commit, and everybody waits for it: it is bounded in deliveries, not only in events.
#[tokio::test]
async fn a_slice_of_retention_ends_after_so_many_deliveries() {
    let store = open();
    with_destinations(&store, 300).await;
    let events = (0..10).map(|_| event("a", None, "1")).collect();
    let accepted = store.submit(Accept { events, waiting_max: 10_000 }).await.unwrap().answer;
    assert!(accepted.iter().all(|it| it.unwrap().deliveries == 300));
    let now = START.after(Duration::from_secs(10));
    let ages = Ages { payloads_before: now, attempts_before: now, events_before: now, now };
    let swept = store.submit(Sweep { from: Seq(0), limit: 500, ages }).await.unwrap().answer;
    assert_eq!(swept, Swept { next: Some(accepted[2].unwrap().id.seq()), touched: 0 });
    let aged = store.read(move |snapshot| snapshot.first_aged(Seq(0), 500, ages)).await.unwrap();
    assert_eq!(aged, Aged { found: None, next: swept.next });
}

#[tokio::test]
async fn pages_of_deliveries_cover_the_list_once_whatever_their_size() {
    let store = open();
    let nos = with_destinations(&store, 3).await;
    for _ in 0..7 {
        accept(&store, event("a", None, "1")).await.unwrap();
    }
    for row in rows(&store, nos[1]).await.into_iter().step_by(2) {
        finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
    }
    let wants = [
        (DeliveriesWanted::default(), 21),
        (DeliveriesWanted { destination: Some(nos[2]), ..Default::default() }, 7),
        (DeliveriesWanted { state: Some(DeliveryState::Succeeded), ..Default::default() }, 4),
        (DeliveriesWanted { state: Some(DeliveryState::Held), held: vec![nos[0]], ..Default::default() }, 7),
    ];
    for (wanted, total) in wants {
        for limit in [1, 2, 3, 4, 100] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let wanted = wanted.clone();
                let page = store
                    .read(move |snapshot| snapshot.deliveries(&wanted, Window { after, skip: 0, limit }))
                    .await
                    .unwrap();
                assert!(page.items.len() <= limit);
                seen.extend(page.items.iter().map(|item| item.key));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
            assert_eq!((seen.len(), distinct.len()), (total, total), "{wanted:?} by {limit}");
        }
    }
}

/// SX.8: everything that was there is there again, from the same file.
#[tokio::test]
async fn a_store_that_is_opened_again_stands_as_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::at(folder.path().join("sub/postrider.redb"), keys());
    let clock = Clock::system();
    let store = Store::open(&settings, clock, 1).unwrap();
    assert!(matches!(Store::open(&settings, clock, 1), Err(OpenError::Locked { .. })), "one process at a time");
    let nos = with_destinations(&store, 2).await;
    let accepted = accept(&store, event("a", Some("T"), "1")).await.unwrap();
    let row = rows(&store, nos[0]).await[0];
    let health = LaneHealth { failures: 3, ..LaneHealth::default() };
    let attempt = attempt(row, Outcome::Succeeded, None);
    store.record(Finish { row, attempt, next: Next::Succeeded, health: Some(health) }).unwrap();
    assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[1], paused: true }).await.unwrap().answer);
    let before = store.standing(Standing::clone);
    store.close().await;
    assert_eq!(
        store.steer(&Actor::SYSTEM, SetPaused { no: nos[1], paused: true }).await,
        Err(StoreFailed),
        "closed is closed"
    );
    drop(store);

    let store = Store::open(&settings, clock, 2).unwrap();
    let after = store.standing(Standing::clone);
    assert_eq!((after.events, after.waiting, &after.tallies), (1, 1, &before.tallies));
    assert_eq!(after.lane(nos[0]).health.failures, 3);
    assert!(after.lane(nos[1]).paused);
    assert_eq!(accept(&store, event("a", Some("T"), "1")).await.unwrap(), Accepted { duplicate: true, ..accepted });
    assert_eq!(store.bell().heard(), Heard::Everything(vec![]));
    conserved(&store).await;
    store.close().await;
}

/// One store's bytes through several openings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<InMemoryBackend>);

impl StorageBackend for Kept {
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

impl Kept {
    /// The bytes as they are: what an opening before this one still writes when it is let go does not reach them.
    pub(crate) fn copied(&self) -> Kept {
        let copy = InMemoryBackend::new();
        let mut bytes = vec![0; self.len().unwrap() as usize];
        self.read(0, &mut bytes).unwrap();
        copy.set_len(bytes.len() as u64).unwrap();
        copy.write(0, &bytes).unwrap();
        Kept(Arc::new(copy))
    }

    fn open(&self) -> Store {
        let clock = Clock::of_runtime(START);
        Store::open_on(self.clone(), &settings(), clock, 7, WriterRuns::Inline).unwrap()
    }
}

async fn start(store: &Store, row: DueRow) {
    let started = Started { row, at: START, ran: Duration::from_millis(120) };
    let _ = store.submit(Start { attempts: vec![started] }).await.unwrap();
}

fn rows_of_started(store: &Store) -> u64 {
    let transaction = store.0.db.begin_read().unwrap();
    redb::ReadableTableMetadata::len(&transaction.open_table(tables::STARTED.table()).unwrap()).unwrap()
}

/// P4: what a crash cut off is in the history, spends nothing of the schedule, and the next attempt has the next number.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_crash_cut_off_ends_at_the_next_start_with_an_unknown_outcome() {
    let kept = Kept::default();
    let store = kept.open();
    let nos = with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let [first] = rows(&store, nos[0]).await[..] else { panic!() };
    finish(&store, first, Outcome::Failed, Next::Retry(START)).await;
    let [row] = rows(&store, nos[0]).await[..] else { panic!() };
    start(&store, row).await;
    assert_eq!(delivery(&store, row).await.attempts.len(), 1, "while it is under way it is no attempt yet");
    drop(store);

    let store = kept.open();
    conserved(&store).await;
    assert_eq!(rows_of_started(&store), 0);
    let seen = delivery(&store, row).await;
    let last = seen.attempts.last().unwrap();
    assert_eq!((seen.state, seen.attempts.len(), last.number), (DeliveryState::Pending, 2, 2));
    assert_eq!((last.outcome, last.reason), (Outcome::Unknown, Some(Reason::Interrupted)));
    assert_eq!((last.started, last.duration), (START, Duration::from_millis(120)));
    let [next] = rows(&store, nos[0]).await[..] else { panic!() };
    assert_eq!(next.plan, Plan { number: 3, tried: 1, trigger: Trigger::Schedule, cut_off: 1, in_line: true });
    assert_eq!((last.next, next.due), (Some(next.due), START), "it goes at once");
    start(&store, next).await;
    finish(&store, next, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(rows_of_started(&store), 0, "its own end takes the row away");
    drop(store);
    assert_eq!(delivery(&kept.open(), row).await.attempts.len(), 3);
}

/// A delivery that ends the daemon each time waits longer each time and is given up, so that all others get their turn. An end
/// of its own, whatever it says, begins the count anew.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_ends_the_daemon_again_and_again_is_given_up() {
    let kept = Kept::default();
    let mut store = kept.open();
    let nos = with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let [row] = rows(&store, nos[0]).await[..] else { panic!() };
    start(&store, row).await;
    drop(store);
    store = kept.open();
    let [row] = rows(&store, nos[0]).await[..] else { panic!() };
    finish(&store, row, Outcome::Unknown, Next::Again(START)).await;
    let mut waits = Vec::new();
    loop {
        let [row] = rows(&store, nos[0]).await[..] else { break };
        waits.push(row.due.since(START).as_secs() / 60);
        start(&store, row).await;
        drop(store);
        store = kept.open();
        conserved(&store).await;
    }
    assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32]);
    let seen = delivery(&store, row).await;
    assert_eq!((seen.state, seen.attempts.len()), (DeliveryState::Failed, 10));
    assert_eq!(seen.ended.unwrap().ending, Ending::Exhausted);
}

/// What happens to a delivery while its attempt is under way stays, and the attempt is in its history all the same.
#[tokio::test(start_paused = true)]
async fn a_crash_changes_nothing_of_what_an_operator_did_during_the_attempt() {
    let kept = Kept::default();
    let store = kept.open();
    let nos = with_destinations(&store, 3).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let mut leased = Vec::new();
    for no in &nos {
        let [row] = rows(&store, *no).await[..] else { panic!() };
        start(&store, row).await;
        assert_eq!(store.steer(&Actor::SYSTEM, Cancel { key: row.key() }).await.unwrap().answer, Steered::Done);
        leased.push(row);
    }
    let again = Resend { key: leased[1].key(), trigger: Trigger::Manual };
    assert_eq!(store.steer(&Actor::SYSTEM, again).await.unwrap().answer, Steered::Done);
    let _ = store.submit(Unstart { key: leased[2].key() }).await.unwrap();
    drop(store);

    let store = kept.open();
    conserved(&store).await;
    let seen = async |row| {
        let seen = delivery(&store, row).await;
        (seen.state, seen.attempts.len(), seen.row.map(|row| row.plan.number))
    };
    assert_eq!(seen(leased[0]).await, (DeliveryState::Cancelled, 1, None));
    assert_eq!(seen(leased[1]).await, (DeliveryState::Pending, 1, Some(2)));
    assert_eq!(seen(leased[2]).await, (DeliveryState::Cancelled, 0, None), "nothing had been sent");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a store, but somebody's notes\n".repeat(300)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&Settings::at(&path, keys()), Clock::system(), 1).err().unwrap();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// A link whose target is not there was taken for no store: a new, empty one took its name, and the daemon said that it was
/// ready. What cannot be seen for another reason is no more taken for nothing.
#[tokio::test]
async fn a_link_to_a_disk_that_is_not_mounted_is_no_place_for_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("s.redb"), folder.path().join("mount/s.redb"));
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let try_open = || Store::open(&Settings::at(&path, keys()), Clock::system(), 1);
    let error = try_open().err().unwrap();
    assert!(matches!(&error, OpenError::Dangling { target: named, .. } if *named == target), "{error}");
    assert_eq!(std::fs::read_link(&path).unwrap(), target);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made beside it");

    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(try_open(), Err(OpenError::Io { .. })), "a link to itself");
    assert_eq!(std::fs::read_link(&path).unwrap(), path);

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(target.parent().unwrap()).unwrap();
    let there = Settings::at(&target, keys());
    Store::open(&there, Clock::system(), 1).unwrap().close().await;
    std::os::unix::fs::symlink(&target, &path).unwrap();
    try_open().unwrap().close().await;
    assert_eq!(std::fs::read_link(&path).unwrap(), target, "a link to a store is as good as its name");
}

/// Invariant 1 and 9: a failed sync acknowledges nothing, and nothing is acknowledged after it.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let backend = Failing::default();
    let broken = backend.broken.clone();
    let store = Store::open_on(backend, &settings(), Clock::of_runtime(START), 7, WriterRuns::InThread).unwrap();
    with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let lost = store.submit(Accept { events: vec![event("a", None, "2")], waiting_max: 1000 }).await;
    assert_eq!(lost.err(), Some(StoreFailed));
    assert!(store.failure().await.contains("made to fail"));
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    let later = store.submit(Accept { events: vec![event("a", None, "3")], waiting_max: 1000 }).await;
    assert_eq!(later.err(), Some(StoreFailed), "a disk that recovers is trusted after a new start only");
    store.close().await;
}

/// A disk that does what it is asked so many times, and then fails: once, or from then on.
#[derive(Debug)]
struct Tired {
    memory: Kept,
    left: std::sync::atomic::AtomicI64,
    for_good: bool,
}

impl Tired {
    fn ask(&self) -> std::io::Result<()> {
        match self.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) {
            1.. => Ok(()),
            0 => Err(nix::errno::Errno::EIO.into()),
            _ if self.for_good => Err(nix::errno::Errno::EIO.into()),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Tired {
    fn len(&self) -> std::io::Result<u64> {
        self.ask()?;
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.ask()?;
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.ask()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.ask()?;
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.ask()?;
        self.memory.write(offset, data)
    }
}

/// P10: a start over a disk that fails told of a damaged file, and the service gave up, wherever the disk failed after redb's own
/// opening. At each of a start's reads, writes and syncs, in a new store and in one that a crash left with attempts under way, it
/// is the disk that failed, and the next start finds everything.
#[tokio::test(start_paused = true)]
async fn a_start_over_a_disk_that_fails_says_so_wherever_it_fails() {
    let crashed = Kept::default();
    let store = crashed.open();
    let no = with_destinations(&store, 1).await[0];
    accept(&store, event("a", None, "1")).await.unwrap();
    let [row] = rows(&store, no).await[..] else { panic!() };
    start(&store, row).await;
    let image = crashed.copied();
    drop(store);

    for (image, is_new) in [(image, false), (Kept::default(), true)] {
        for for_good in [true, false] {
            let mut failed = 0;
            for asked in 0.. {
                let memory = image.copied();
                let disk = Tired { memory: memory.clone(), left: asked.into(), for_good };
                let clock = Clock::of_runtime(START);
                match Store::open_on(disk, &settings(), clock, 7, WriterRuns::Inline) {
                    Ok(_) => break,
                    Err(OpenError::Io { .. }) => failed += 1,
                    Err(error) => panic!("after {asked} of what a start asks of the disk: {error}"),
                }
                // A new store's file is a draft until the opening has ended.
                if !is_new {
                    let store = memory.open();
                    assert_eq!((store.standing(|it| it.events), rows_of_started(&store)), (1, 0), "after {asked}");
                }
            }
            assert!(failed > 20, "{failed}");
        }
    }
}

/// A crash of an idle store leaves nothing to walk: a moment after the last commit, and from the start on, too. A store that
/// has work leaves its file to be walked, so that work never waits for this.
#[tokio::test]
async fn a_store_that_was_idle_opens_without_a_walk_after_a_crash() {
    for (rest_after, rests) in [(Duration::from_millis(1), true), (Duration::from_secs(3600), false)] {
        let backend = Synced::default();
        let (memory, mut syncs) = (backend.memory.clone(), backend.syncs.subscribe());
        let settings = Settings { rest_after, ..settings() };
        let store = Store::open_on(backend, &settings, Clock::of_runtime(START), 7, WriterRuns::InThread).unwrap();
        for count in [0, 1, 2] {
            if count > 0 {
                accept(&store, event("a", None, "1")).await.unwrap();
            }
            while rests && walks(&memory) {
                syncs.changed().await.unwrap();
            }
            assert_eq!(walks(&memory), !rests, "after {count} events");
        }
        store.close().await;
        assert!(!walks(&memory), "nor does one that was closed");
    }
}

/// Whether the store, cut off here, has to be walked when it is opened.
fn walks(memory: &Kept) -> bool {
    let (image, length) = (InMemoryBackend::new(), memory.len().unwrap());
    let mut bytes = vec![0; length as usize];
    memory.read(0, &mut bytes).unwrap();
    image.set_len(length).unwrap();
    image.write(0, &bytes).unwrap();
    let walked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&walked);
    let mut builder = Builder::new();
    builder.set_repair_callback(move |_| told.store(true, std::sync::atomic::Ordering::SeqCst));
    // Between two writes of a commit it may not open at all.
    let opened = builder.create_with_backend(image);
    walked.load(std::sync::atomic::Ordering::SeqCst) || opened.is_err()
}

/// A disk that tells of its syncs.
#[derive(Debug, Default)]
struct Synced {
    memory: Kept,
    syncs: watch::Sender<u64>,
}

impl StorageBackend for Synced {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.memory.sync_data()?;
        self.syncs.send_modify(|syncs| *syncs += 1);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// A client that hangs up frees no turn of a read that goes on: many of them would otherwise read at once.
#[tokio::test]
async fn a_read_that_nobody_waits_for_keeps_its_turn_until_it_ends() {
    let store =
        Store::open_on(InMemoryBackend::new(), &settings(), Clock::of_runtime(START), 7, WriterRuns::InThread).unwrap();
    let mut lets_go = Vec::new();
    for _ in 0..READERS_MAX {
        let (let_go, wait) = std::sync::mpsc::channel::<()>();
        let (begin, is_begun) = oneshot::channel();
        let reader = store.clone();
        let reading = tokio::spawn(async move {
            let look = move |_: &Snapshot| {
                begin.send(()).unwrap();
                Ok(wait.recv().is_err())
            };
            reader.read(look).await
        });
        is_begun.await.unwrap();
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled());
        lets_go.push(let_go);
    }
    let turns = Arc::clone(&store.0.readers.others);
    assert_eq!(turns.available_permits(), 0);
    assert!(store.read_for_engine(|_| Ok(true)).await.unwrap(), "the engine has turns of its own");
    drop(lets_go);
    assert!(store.read(|_| Ok(true)).await.unwrap());
    store.close().await;
}

/// `GET /v1/status` and metrics ask for the age of the oldest unfinished event again and again: it takes a look at a thousand
/// events at most, however many are younger or finished, and finds one that an operator resent.
#[tokio::test(start_paused = true)]
async fn the_oldest_unfinished_event_is_found_with_few_looks() {
    let store = open();
    let no = store
        .steer(&Actor::SYSTEM, CreateDestination { destination: destination("d") })
        .await
        .unwrap()
        .answer
        .unwrap()
        .no;
    store
        .steer(&Actor::SYSTEM, CreateSubscription { subscription: subscription("wanted", &[no]) })
        .await
        .unwrap()
        .answer
        .unwrap();
    let oldest = async || match store.standing(|standing| standing.oldest) {
        Some(block) => store.read(move |it| Ok(Some((it.oldest_unfinished(block)?, it.looked_at())))).await.unwrap(),
        None => None,
    };
    let first = accept(&store, event("wanted", None, "1")).await.unwrap().id.seq();
    let [row] = rows(&store, no).await[..] else { panic!() };
    finish(&store, row, Outcome::Succeeded, Next::Succeeded).await;
    assert_eq!(oldest().await, None);
    for _ in 0..4 {
        let events = (0..1000).map(|_| event("other", None, "1")).collect();
        let _ = store.submit(Accept { events, waiting_max: 9 }).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    accept(&store, event("wanted", None, "1")).await.unwrap();
    accept(&store, event("wanted", None, "1")).await.unwrap();
    let (accepted, looks) = oldest().await.unwrap();
    assert_eq!(accepted.map(|(at, _)| at), Some(START.after(Duration::from_secs(60))));
    assert!((1..=standing::BLOCK).contains(&looks), "{looks}");
    let resend = Resend { key: DeliveryKey { destination: no, seq: first }, trigger: Trigger::Manual };
    assert_eq!(store.steer(&Actor::SYSTEM, resend).await.unwrap().answer, Steered::Done);
    let (found, looks) = oldest().await.unwrap();
    let found = found.map(|(at, event)| (at, event.unwrap().seq()));
    assert_eq!((found, looks), (Some((START, first)), 2), "the event, and its delivery");
}

/// Events to many destinations cost a bounded look as well; the answer then is that of an event as old or older.
#[tokio::test(start_paused = true)]
async fn the_look_for_the_oldest_unfinished_event_is_bounded_in_deliveries() {
    let store = open();
    let nos = with_destinations(&store, 300).await;
    let events = (0..99).map(|_| event("a", None, "1")).collect();
    let accepted = store.submit(Accept { events, waiting_max: 100_000 }).await.unwrap().answer;
    assert!(accepted.iter().all(|it| it.unwrap().deliveries == 300));
    for no in nos {
        store.steer(&Actor::SYSTEM, DeleteDestination { no }).await.unwrap().answer.unwrap();
        assert_eq!(store.submit(Purge { no, limit: 100 }).await.unwrap().answer, 99);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    with_destinations(&store, 1).await;
    accept(&store, event("a", None, "1")).await.unwrap();
    let block = store.standing(|standing| standing.oldest).unwrap();
    let look = store.read(move |it| Ok((it.oldest_unfinished(block)?, it.looked_at()))).await.unwrap();
    assert_eq!(look, (Some((START, None)), reader::LOOKED_AT_MAX));
}

/// A disk whose syncs fail on demand, and last for as long as somebody holds their gate.
#[derive(Debug, Default)]
struct Failing {
    memory: InMemoryBackend,
    broken: Arc<std::sync::atomic::AtomicBool>,
    gate: Arc<Mutex<()>>,
}

impl StorageBackend for Failing {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        drop(lock(&self.gate));
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::Error::other("made to fail"));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// A batch that changes much is several commits, and each answer comes from the one that its operation is in.
#[tokio::test]
async fn a_batch_that_changes_much_is_split_and_every_answer_stands() {
    let store =
        Store::open_on(InMemoryBackend::new(), &settings(), Clock::of_runtime(START), 7, WriterRuns::InThread).unwrap();
    let nos = with_destinations(&store, 50).await;
    let mut tickets = Vec::new();
    for n in 0..1000 {
        let events = vec![event("a", Some(&n.to_string()), "1")];
        tickets.push(store.enqueue(Accept { events, waiting_max: u64::MAX }).await.unwrap());
    }
    let mut ids = std::collections::HashSet::new();
    for ticket in tickets {
        let accepted = ticket.committed().await.unwrap().answer.remove(0).unwrap();
        assert_eq!((accepted.duplicate, accepted.deliveries), (false, 50));
        assert!(store.event(accepted.id.seq()).await.unwrap().is_some());
        ids.insert(accepted.id);
    }
    assert_eq!(ids.len(), 1000);
    assert_eq!(store.standing(|standing| (standing.events, standing.tally(nos[49]).accepted)), (1000, 1000));
    conserved(&store).await;
    store.close().await;
}

/// Invariant 5 at the door: while the disk takes its time, no more is taken in than the queue holds.
#[tokio::test]
async fn what_waits_for_a_slow_disk_is_bounded() {
    let settings = Settings { queue_bytes_max: 64 << 10, ..settings() };
    let backend = Failing::default();
    let gate = backend.gate.clone();
    let store = Store::open_on(backend, &settings, Clock::of_runtime(START), 7, WriterRuns::InThread).unwrap();
    let mut tickets = Vec::new();
    let waiting = {
        let _closed = lock(&gate);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            assert!(tickets.len() <= 8, "eight times eight kilobytes are all that there is room for");
            let events = vec![event("a", None, &"x".repeat(8 << 10))];
            let operation = Accept { events, waiting_max: u64::MAX };
            let mut enqueued = Box::pin(store.enqueue(operation));
            match enqueued.as_mut().poll(&mut context) {
                std::task::Poll::Ready(ticket) => tickets.push(ticket.unwrap()),
                std::task::Poll::Pending => break enqueued,
            }
        }
    };
    assert!(!tickets.is_empty());
    tickets.push(waiting.await.unwrap());
    for ticket in tickets {
        ticket.committed().await.unwrap().answer.remove(0).unwrap();
    }
    store.close().await;
}

/// Invariant 5 at the door: whoever has more than the queue holds waits, and all of it is answered.
#[tokio::test]
async fn more_than_the_queue_holds_waits_at_the_door() {
    let settings = Settings { queue_bytes_max: 16 << 10, ..settings() };
    let store =
        Store::open_on(InMemoryBackend::new(), &settings, Clock::of_runtime(START), 7, WriterRuns::InThread).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        let event = event("a", Some(&n.to_string()), &"x".repeat(8 << 10));
        tasks.spawn(async move { accept(&store, event).await.unwrap() });
    }
    let mut ids = std::collections::HashSet::new();
    while let Some(accepted) = tasks.join_next().await {
        ids.insert(accepted.unwrap().id);
    }
    assert_eq!(ids.len(), 64);
    let huge = event("a", None, &"x".repeat(64 << 10));
    assert!(accept(&store, huge).await.is_ok(), "what is larger than the whole queue still passes, alone");
    store.close().await;
}

/// The whole audit log as the file holds it, followed from its head to its anchor; how many records there are.
async fn verified(store: &Store) -> Result<u64, String> {
    let followed = store
        .read(|snapshot| {
            let mut walk = audit::Walk::from(snapshot.chain()?.head);
            let mut after = None;
            loop {
                let page = snapshot.audit(&audit::Wanted::default(), Window { after, skip: 0, limit: 2 })?;
                for (_, kept) in &page.items {
                    if let Err(broken) = walk.follow(kept) {
                        return Ok(Err(broken));
                    }
                }
                after = page.next;
                if after.is_none() {
                    return Ok(walk.end(snapshot.chain()?.anchor).map(|()| walk.checked()));
                }
            }
        })
        .await;
    followed.map_err(|error| error.to_string())?.map_err(|broken| broken.to_string())
}

/// P19: the chain goes on after a restart; whatever is done to the file behind the daemon's back is found, also when only
/// the last record is gone.
#[tokio::test]
async fn the_audit_log_survives_a_restart_and_shows_what_was_done_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { cache_bytes: 1 << 20, ..Settings::at(folder.path().join("s.redb"), keys()) };
    let clock = Clock::of_runtime(START);
    let open = || Store::open(&settings, clock, 7).unwrap();
    let store = open();
    let nos = with_destinations(&store, 3).await;
    store.close().await;
    drop(store);
    let store = open();
    let head = store.standing(|standing| standing.audit.head);
    assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[0], paused: true }).await.unwrap().answer);
    assert!(!store.steer(&Actor::SYSTEM, SetPaused { no: DestinationNo(99), paused: true }).await.unwrap().answer);
    assert_eq!(store.standing(|standing| standing.audit.head.number), head.number + 1, "a refusal leaves none");
    assert_eq!(verified(&store).await, Ok(5));
    store.close().await;
    drop(store);
    let whole = std::fs::read(&settings.path).unwrap();

    // By somebody who holds the master key, too: nobody else gets as far as the chain.
    type Damage = fn(&mut tables::Write<'_, u64>);
    fn kept(rows: &tables::Write<'_, u64>, number: u64) -> audit::Kept {
        codec::decode(rows.place(number), rows.get(number).unwrap().unwrap().value()).unwrap()
    }
    let damages: [(&str, Damage); 6] = [
        ("the last record is cut off", |rows| drop(rows.remove(5).unwrap())),
        ("one in the middle is gone", |rows| drop(rows.remove(3).unwrap())),
        ("the first is gone", |rows| drop(rows.remove(1).unwrap())),
        ("two have changed places", |rows| {
            let [second, third] = [2, 3].map(|number| rows.get(number).unwrap().unwrap().value().to_vec());
            rows.insert(2, third.as_slice()).unwrap();
            rows.insert(3, second.as_slice()).unwrap();
        }),
        ("two have changed places and were sealed there", |rows| {
            let [second, third] = [2, 3].map(|number| kept(rows, number));
            rows.put(2, &third).unwrap();
            rows.put(3, &second).unwrap();
        }),
        ("one was changed", |rows| {
            let mut changed = kept(rows, 4);
            changed.text = changed.text.replace("\"roll_up\":false", "\"roll_up\":true");
            rows.put(4, &changed).unwrap();
        }),
    ];
    for (what, damage) in damages {
        std::fs::write(&settings.path, &whole).unwrap();
        let db = Database::open(&settings.path).unwrap();
        let transaction = db.begin_write().unwrap();
        let keyring = unlock(&db, &settings).unwrap();
        writer::keep_key(&transaction, &keyring).unwrap();
        damage(&mut tables::AUDIT.write(&transaction, &keyring).unwrap());
        transaction.commit().unwrap();
        drop(db);
        let store = open();
        assert!(verified(&store).await.is_err(), "{what}");
        // The log goes on all the same, and what was missing stays missing.
        assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[0], paused: false }).await.unwrap().answer);
        assert!(verified(&store).await.is_err(), "{what}, and a further record");
        store.close().await;
    }
}

/// Retention drops the oldest records in slices; the last one that is gone stays as the anchor, and the rest verifies.
#[tokio::test(start_paused = true)]
async fn aged_records_leave_their_anchor() {
    let store = open();
    with_destinations(&store, 4).await;
    let anchor_of = |store: &Store| store.standing(|standing| standing.audit.anchor);
    tokio::time::advance(Duration::from_secs(10)).await;
    let before = START.after(Duration::from_secs(5));
    assert!(store.read(move |snapshot| snapshot.audit_has_aged(before, before, 1)).await.unwrap());
    let none = audit::Link::START;
    assert_eq!(
        store.submit(DropAged { before: START, now: before, limit: 10 }).await.unwrap().answer,
        none,
        "nothing is so old"
    );
    let third = store.submit(DropAged { before, now: before, limit: 3 }).await.unwrap().answer;
    assert_eq!((third.number, anchor_of(&store)), (3, third));
    let led = |store: &Store| {
        let transaction = store.0.db.begin_read().unwrap();
        let terms = transaction.open_table(tables::AUDIT_TERMS).unwrap();
        let numbers: BTreeSet<u64> = terms.iter().unwrap().map(|row| row.unwrap().0.value().1).collect();
        (numbers, transaction.open_table(tables::AUDIT_TIMES).unwrap().iter().unwrap().count())
    };
    assert_eq!(led(&store), (BTreeSet::from([4, 5]), 2), "what led to them is gone too");
    let window = Window { after: None, skip: 0, limit: 10 };
    let rest = store
        .read(move |snapshot| snapshot.audit(&audit::Wanted { from: Some(START), ..Default::default() }, window))
        .await;
    assert_eq!(rest.unwrap().items.len(), 2);
    assert_eq!(verified(&store).await, Ok(2));
    let last = store.submit(DropAged { before, now: before, limit: 10 }).await.unwrap().answer;
    assert_eq!(Ok(last.number), verified(&store).await.map(|count| count + 5));
    with_destinations(&store, 1).await;
    assert!(!store.read(move |snapshot| snapshot.audit_has_aged(before, before, 9)).await.unwrap());
    assert_eq!(
        store.submit(DropAged { before, now: before, limit: 10 }).await.unwrap().answer,
        last,
        "what is young stays"
    );
    assert_eq!(verified(&store).await, Ok(2));
}
