//! Commands and registrations through crashes, deletions and every way in which they end.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::model::{
    ApiKey, Auth, DestinationId, Registration, RegistrationChange, Role, Subscription, SubscriptionId, Tenant,
};
use crate::store::op::*;
use crate::store::registrations::CarryOut;
use crate::store::tests::{Kept, destination, event, keys, subscription};
use crate::store::{Settings, Store, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const DIALECT: &str = "backoffice";

fn open(disk: &Kept) -> Store {
    let settings = Settings { cache_bytes: 1 << 20, ..Settings::at("memory", keys()) };
    Store::open_on(disk.clone(), &settings, Clock::of_runtime(START), 7, WriterRuns::Inline).unwrap()
}

fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn register(tenant: &TenantId, only: bool) -> Order {
    let (mut destination, mut subscription) = (destination("d"), subscription("funding_deposit.funded", &[]));
    destination.tenant.clone_from(tenant);
    subscription.tenant.clone_from(tenant);
    Order::Register { destination: Box::new(destination), subscription: Box::new(subscription), only }
}

async fn accept_by(store: &Store, actor: &Actor, tenant: &TenantId, order: Order) -> Command {
    let (tenant, dialect, actor) = (tenant.clone(), DIALECT.to_owned(), actor.clone());
    store.submit(AcceptCommand { tenant, dialect, order, actor, chance: 5 }).await.unwrap().answer.unwrap()
}

async fn command(store: &Store, id: CommandId) -> Command {
    store.read(move |snapshot| snapshot.command(id)).await.unwrap().unwrap()
}

async fn run(store: &Store, id: CommandId) -> Command {
    let _ = store.submit(RunCommand { id }).await.unwrap();
    command(store, id).await
}

async fn carry_out(store: &Store, tenant: &TenantId, order: Order) -> Result<Registration, Rejected> {
    let (tenant, dialect) = (tenant.clone(), DIALECT.to_owned());
    store.steer(&Actor::SYSTEM, CarryOut { tenant, dialect, order }).await.unwrap().answer
}

fn serials(store: &Store, tenant: &TenantId) -> Vec<u32> {
    store.catalog().registrations(tenant, DIALECT).iter().map(|registration| registration.serial).collect()
}

fn records(store: &Store) -> u64 {
    store.standing(|standing| standing.audit.head.number)
}

/// D28 for S0.35, S0.36: what was accepted is carried out once, in the order in which it came, also when the daemon ends between
/// the two; credentials do not stay in the row.
#[tokio::test(start_paused = true)]
async fn a_command_that_a_crash_cut_off_is_carried_out_at_the_next_start() {
    let (disk, home) = (Kept::default(), TenantId::default_tenant());
    let store = open(&disk);
    let first = accept_by(&store, &Actor::SYSTEM, &home, register(&home, false)).await;
    let second = accept_by(&store, &Actor::SYSTEM, &home, register(&home, false)).await;
    assert_eq!((first.state, first.ended, first.created), (CommandState::Processing, None, START));
    assert_ne!(first.id, second.id);
    assert_eq!(serials(&store, &home), [0; 0]);
    let before = records(&store);
    drop(store);

    let store = open(&disk);
    assert_eq!(serials(&store, &home), [1, 2]);
    assert_eq!(records(&store), before + 4, "a destination and a subscription each");
    for (id, serial) in [(first.id, 1), (second.id, 2)] {
        let done = run(&store, id).await;
        assert_eq!((done.state, done.ended, done.error), (CommandState::Completed, Some(START), None));
        assert_eq!(done.message, Some(format!("subscription {serial} was created")));
    }
    assert_eq!(serials(&store, &home), [1, 2], "each was carried out once");
    drop(store);
    assert_eq!(serials(&open(&disk), &home), [1, 2]);
}

/// S0.36: a command fails when what it is about has gone, and is cancelled when whoever gave it may no longer.
#[tokio::test(start_paused = true)]
async fn a_command_ends_as_failed_or_cancelled_with_the_reason() {
    let (store, home) = (open(&Kept::default()), TenantId::default_tenant());
    let made = carry_out(&store, &home, register(&home, false)).await.unwrap();
    let change = RegistrationChange { url: Some("https://other.example/".into()), ..RegistrationChange::default() };
    let change = Order::Change { subscription: made.subscription.id, change };
    let late = accept_by(&store, &Actor::SYSTEM, &home, change).await;
    let order = Order::Deregister { subscription: made.subscription.id };
    carry_out(&store, &home, order.clone()).await.unwrap();
    let failed = run(&store, late.id).await;
    assert_eq!((failed.state, failed.message), (CommandState::Failed, None));
    assert_eq!(failed.error.as_deref(), Some("the subscription has been deleted meanwhile"));
    assert_eq!(carry_out(&store, &home, order).await.unwrap_err(), Rejected::Unknown);

    let (key, _) = ApiKey::generate([5; 38], "k".into(), Role::Operate, Some(home.clone()), START);
    let who = Who::Key { id: key.id, role: key.role, tenant: key.tenant.clone() };
    let actor = Actor { who, ..Actor::SYSTEM };
    let put = |key| store.steer(&Actor::SYSTEM, PutKey { key, must_exist: false });
    put(key.clone()).await.unwrap().answer.unwrap();
    let by_key = accept_by(&store, &actor, &home, register(&home, false)).await;
    let other = accept_by(&store, &actor, &home, register(&home, false)).await;
    let mut promoted = key.clone();
    promoted.role = Role::Admin;
    put(promoted).await.unwrap().answer.unwrap();
    assert_eq!(run(&store, by_key.id).await.state, CommandState::Completed, "the key allows more than it did");
    store.steer(&Actor::SYSTEM, DeleteKey { id: key.id }).await.unwrap().answer.unwrap();
    let before = records(&store);
    let cancelled = run(&store, other.id).await;
    assert_eq!((cancelled.state, cancelled.ended), (CommandState::Cancelled, Some(START)));
    assert!(cancelled.error.unwrap().contains("removed since"));
    assert_eq!((serials(&store, &home).len(), records(&store)), (1, before));
}

/// S0.41: numbers are a tenant's own, count on, and are not given twice, also after a restart; a deleted tenant's go with it.
#[tokio::test(start_paused = true)]
async fn a_registrations_number_is_never_given_twice() {
    let disk = Kept::default();
    let (store, home, other) = (open(&disk), TenantId::default_tenant(), tenant("m1"));
    let create = || Tenant { id: other.clone(), name: "m1".into(), parent: None, created: START, audit_from: 0 };
    store.steer(&Actor::SYSTEM, CreateTenant { tenant: create() }).await.unwrap().answer.unwrap();
    let deregister = |made: &Registration| Order::Deregister { subscription: made.subscription.id };
    let first = carry_out(&store, &home, register(&home, false)).await.unwrap();
    let second = carry_out(&store, &home, register(&home, false)).await.unwrap();
    let foreign = carry_out(&store, &other, register(&other, false)).await.unwrap();
    assert_eq!((first.serial, second.serial, foreign.serial), (1, 2, 1));
    assert_eq!(carry_out(&store, &home, deregister(&foreign)).await.unwrap_err(), Rejected::Unknown);
    carry_out(&store, &home, deregister(&second)).await.unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(carry_out(&store, &home, register(&home, false)).await.unwrap().serial, 3);
    assert_eq!(serials(&store, &home), [1, 3]);

    carry_out(&store, &other, deregister(&foreign)).await.unwrap();
    let waiting = accept_by(&store, &Actor::SYSTEM, &other, register(&other, false)).await;
    store.steer(&Actor::SYSTEM, DeleteTenant { id: other.clone() }).await.unwrap().answer.unwrap();
    assert_eq!(store.read(move |snapshot| snapshot.command(waiting.id)).await.unwrap(), None);
    store.steer(&Actor::SYSTEM, CreateTenant { tenant: create() }).await.unwrap().answer.unwrap();
    assert_eq!(carry_out(&store, &other, register(&other, false)).await.unwrap().serial, 1);
}

/// What is registered and what the rest of the house sees are one: either side's deletion is the other's, and no mark outlives
/// what it stands for.
#[tokio::test(start_paused = true)]
async fn a_registration_ends_with_either_of_its_halves() {
    let (store, home) = (open(&Kept::default()), TenantId::default_tenant());
    let made = carry_out(&store, &home, register(&home, true)).await.unwrap();
    assert_eq!(carry_out(&store, &home, register(&home, true)).await.unwrap_err(), Rejected::Exists);
    let beside = subscription("*", &[made.destination.no]);
    let beside =
        store.steer(&Actor::SYSTEM, CreateSubscription { subscription: beside }).await.unwrap().answer.unwrap();
    let before = records(&store);
    store.steer(&Actor::SYSTEM, DeleteDestination { no: made.destination.no }).await.unwrap().answer.unwrap();
    let left: Vec<_> = store.catalog().subscriptions().map(|it| (it.id, it.destinations.clone())).collect();
    assert_eq!(left, [(beside.id, vec![])]);
    assert_eq!(records(&store), before + 2, "the destination and the subscription that was registered with it");

    let made = carry_out(&store, &home, register(&home, true)).await.unwrap();
    let delete = DeleteSubscription { id: made.subscription.id };
    store.steer(&Actor::SYSTEM, delete).await.unwrap().answer.unwrap();
    assert_eq!(serials(&store, &home), [0; 0]);
    assert!(store.catalog().destination(made.destination.no).is_some(), "an ordinary destination from now on");

    let made = carry_out(&store, &home, register(&home, true)).await.unwrap();
    let after = Subscription { destinations: vec![], ..Subscription::clone(&made.subscription) };
    let unlink = UpdateSubscription {
        before: made.subscription.clone(),
        after,
        action: crate::model::audit::Action::SubscriptionUpdate,
    };
    store.steer(&Actor::SYSTEM, unlink).await.unwrap().answer.unwrap();
    assert!(store.catalog().subscriptions().all(|it| it.registered.is_none()));
    let last = carry_out(&store, &home, register(&home, true)).await.unwrap();
    assert_eq!(serials(&store, &home), [last.serial]);
}

/// A change touches what it names; what waits goes to the new URL, and whoever opened private addresses for one URL did not
/// open them for another.
#[tokio::test(start_paused = true)]
async fn a_change_keeps_what_it_does_not_name() {
    let (store, home) = (open(&Kept::default()), TenantId::default_tenant());
    let made = carry_out(&store, &home, register(&home, false)).await.unwrap();
    let before = records(&store);
    let change = |change: RegistrationChange| Order::Change { subscription: made.subscription.id, change };
    let pattern = RegistrationChange { pattern: Some("refund.settled".parse().unwrap()), ..Default::default() };
    let changed = carry_out(&store, &home, change(pattern)).await.unwrap();
    assert_eq!((changed.subscription.pattern.to_string(), records(&store)), ("refund.settled".into(), before + 1));
    assert_eq!((changed.serial, &*changed.destination), (made.serial, &*made.destination));
    let bearer = Auth::Bearer { token: crate::model::Secret::new("t") };
    let several = RegistrationChange {
        url: Some("https://other.example/".into()),
        auth: Some(bearer.clone()),
        attempts_max: Some(3),
        ..Default::default()
    };
    let changed = carry_out(&store, &home, change(several)).await.unwrap().destination;
    assert_eq!(
        (&*changed.url, &changed.auth, changed.retry.attempts_max, changed.is_confirmed()),
        ("https://other.example/", &bearer, Some(3), true)
    );
    assert_eq!(records(&store), before + 2);
    carry_out(&store, &home, change(RegistrationChange::default())).await.unwrap();
    assert_eq!(records(&store), before + 3, "what changes nothing is in the log as well");

    let opened = crate::model::Destination { allow_private: true, ..(*changed).clone() };
    let action = crate::model::audit::Action::DestinationUpdate;
    let open = UpdateDestination { before: changed, after: opened, action };
    store.steer(&Actor::SYSTEM, open).await.unwrap().answer.unwrap();
    let moved = |moves_openings| {
        let url = Some("https://third.example/".into());
        change(RegistrationChange { url, moves_openings, ..Default::default() })
    };
    assert_eq!(carry_out(&store, &home, moved(false)).await.unwrap_err(), Rejected::Stale);
    assert_eq!(carry_out(&store, &home, moved(true)).await.unwrap().destination.url, "https://third.example/");
}

/// S3.17: what waits for a registration that is deleted is not sent any more.
#[tokio::test(start_paused = true)]
async fn what_waits_goes_with_the_registration() {
    let (store, home) = (open(&Kept::default()), TenantId::default_tenant());
    let made = carry_out(&store, &home, register(&home, false)).await.unwrap();
    let no = made.destination.no;
    let accept = Accept { events: vec![event("funding_deposit.funded", None, "1")], waiting_max: 10 };
    assert_eq!(store.submit(accept).await.unwrap().answer[0].as_ref().unwrap().deliveries, 1);
    carry_out(&store, &home, Order::Deregister { subscription: made.subscription.id }).await.unwrap();
    assert!(store.catalog().destination(no).is_none() && store.catalog().owner(no).is_some());
    assert_eq!(store.submit(Purge { no, limit: 10 }).await.unwrap().answer, 1);
    let tally = store.standing(|standing| standing.tally(no));
    assert_eq!((tally.waiting(), tally.cancelled), (0, 1));
}

/// Commands are bounded in number and in age, and none that waits is dropped for another.
#[tokio::test(start_paused = true)]
async fn old_commands_make_room_for_new_ones() {
    let (store, home) = (open(&Kept::default()), TenantId::default_tenant());
    let nothing = || Order::Deregister { subscription: SubscriptionId(DestinationId(uuid::Uuid::nil()).0) };
    let first = accept_by(&store, &Actor::SYSTEM, &home, nothing()).await.id;
    for _ in 1..KEPT_MAX {
        accept_by(&store, &Actor::SYSTEM, &home, nothing()).await;
    }
    let (dialect, actor) = (DIALECT.to_owned(), Actor::SYSTEM);
    let more = AcceptCommand { tenant: home.clone(), dialect, order: nothing(), actor, chance: 0 };
    assert_eq!(store.submit(more).await.unwrap().answer, Err(NotAccepted::TooMany));
    assert_eq!(run(&store, first).await.state, CommandState::Failed);
    let last = accept_by(&store, &Actor::SYSTEM, &home, nothing()).await.id;
    assert_eq!(store.read(move |snapshot| snapshot.command(first)).await.unwrap(), None);
    run(&store, last).await;
    for (before, aged) in [(START, false), (START.after(Duration::from_millis(1)), true)] {
        assert_eq!(store.read(move |snapshot| snapshot.commands_have_aged(before)).await.unwrap(), aged);
        let _ = store.submit(DropCommands { before }).await.unwrap();
        let kept = store.read(move |snapshot| snapshot.command(last)).await.unwrap();
        assert_eq!(kept.is_none(), aged);
    }
    let guessed = CommandId::new(first.number() + 1, 6);
    assert_eq!(store.read(move |snapshot| snapshot.command(guessed)).await.unwrap(), None, "only its number is right");
}
