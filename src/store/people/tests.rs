//! Tries at the door, as the writer weighs them: what is counted, what is told, and what a restart keeps.

use super::*;
use crate::clock::Clock;
use crate::model::Actor;
use crate::model::audit::Wanted;
use crate::model::user::{FAILURES_MAX, Failures};
use crate::store::tests::{Kept, keys};
use crate::store::{Settings, Store, Window, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn open(disk: &Kept, clock: Clock) -> Store {
    let settings = Settings { cache_bytes: 1 << 20, ..Settings::at("memory", keys()) };
    Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline).unwrap()
}

fn key() -> TotpKey {
    TotpKey::from_chance([5; 20])
}

async fn anna(store: &Store) -> Tried {
    let user = User {
        id: UserId::from_chance([1; 6]),
        name: "anna".parse().unwrap(),
        role: Role::Admin,
        tenant: None,
        created: START,
        password: PasswordHash::NOBODY,
        one_time: false,
        totp: Some(Totp { key: key(), step: 0 }),
        recovery: vec![RecoveryDigest::generate([1; 10]).1],
        failures: Failures::default(),
        stamp: 0,
    };
    let tried = Tried { id: user.id, stamp: 0 };
    store.steer(&Actor::SYSTEM, CreateUser { user }).await.unwrap().answer.unwrap();
    tried
}

async fn code(store: &Store, tried: Tried, code: &str) -> LetIn {
    let try_code = TryCode { tried, code: Secret::new(code), purpose: Purpose::SignIn };
    store.steer(&Actor::SYSTEM, try_code).await.unwrap().answer
}

async fn password(store: &Store, tried: Option<Tried>, is_right: bool) -> LetIn {
    store.steer(&Actor::SYSTEM, TryPassword { tried, is_right }).await.unwrap().answer
}

/// The records that tell of tries, newest first.
async fn told(store: &Store) -> Vec<Value> {
    let wanted = Wanted { action: Some("user.sign_in_refused".parse().unwrap()), ..Wanted::default() };
    let page = store.read(move |snapshot| snapshot.audit(&wanted, Window { after: None, skip: 0, limit: 1000 }));
    let texts = page.await.unwrap().items.into_iter().map(|(_, kept)| kept.text);
    texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

/// P18: a step is accepted once, and none after a later one, also when the daemon was started anew in between; replay 0.
#[tokio::test(start_paused = true)]
async fn a_code_is_accepted_once_also_after_a_restart() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    let tried = anna(&store).await;
    let (before, now, next) = (START.before(Duration::from_secs(30)), START, START.after(Duration::from_secs(30)));
    let [before, now, next] = [before, now, next].map(|at| key().code_at(at));
    assert!(code(&store, tried, &now).await.is_some());
    assert!(code(&store, tried, &now).await.is_none());
    drop(store);
    let store = open(&disk, clock);
    assert!(code(&store, tried, &now).await.is_none(), "a restart forgot the step");
    assert!(code(&store, tried, &before).await.is_none(), "one before an accepted one");
    assert!(code(&store, tried, &next).await.is_some());
    assert!(code(&store, tried, &now).await.is_none());
}

/// P18: the tenth failure locks, the right code or password does not open it any more, a restart forgets nothing, and only an
/// administrator or a recovery code unlocks.
#[tokio::test(start_paused = true)]
async fn ten_failures_lock_until_somebody_unlocks() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    let tried = anna(&store).await;
    for failure in 0..FAILURES_MAX {
        assert!(password(&store, Some(tried), true).await.is_some(), "locked after {failure}");
        let wrong = if failure % 2 == 0 {
            code(&store, tried, "000000").await
        } else {
            password(&store, Some(tried), false).await
        };
        assert!(wrong.is_none());
    }
    drop(store);
    let store = open(&disk, clock);
    assert!(password(&store, Some(tried), true).await.is_none());
    assert!(code(&store, tried, &key().code_at(START)).await.is_none());
    let recover = async |is_right, chance| {
        let digest = Some(RecoveryDigest::generate([chance; 10]).1);
        let recovery = TryRecovery { tried: Some(tried), is_right, digest, purpose: Purpose::SignIn };
        store.steer(&Actor::SYSTEM, recovery).await.unwrap().answer
    };
    assert!(recover(false, 1).await.is_none() && recover(true, 9).await.is_none());
    assert!(recover(true, 1).await.is_some());
    assert!(recover(true, 1).await.is_none(), "a recovery code is used once");
    assert!(password(&store, Some(tried), true).await.is_some());
    for _ in 0..FAILURES_MAX {
        password(&store, Some(tried), false).await;
    }
    assert!(password(&store, Some(tried), true).await.is_none());
    store.steer(&Actor::SYSTEM, UnlockUser { id: tried.id }).await.unwrap().answer.unwrap();
    assert!(password(&store, Some(tried), true).await.is_some());
    let last = &told(&store).await[0];
    assert_eq!(last["after"], json!({"failures": 10, "locked": true, "wrong": "password"}), "{last}");
}

/// However many tries come at once, no more are weighed than until the lock: each is weighed where the count is kept.
#[tokio::test]
async fn tries_at_once_are_counted_one_by_one() {
    let store = open(&Kept::default(), Clock::of_runtime(START));
    let tried = anna(&store).await;
    let right = key().code_at(START);
    let tries = (0..50).map(|place| {
        let (store, typed) = (store.clone(), if place == 40 { right.clone() } else { format!("{place:06}") });
        tokio::spawn(async move { code(&store, tried, &typed).await })
    });
    let mut let_in = 0;
    for one in tries.collect::<Vec<_>>() {
        let_in += usize::from(one.await.unwrap().is_some());
    }
    assert_eq!(let_in, 0, "the right one came after the lock");
    assert_eq!(store.catalog().user(tried.id).unwrap().failures.count(), FAILURES_MAX);
}

/// Whoever knocks for ever does not fill the disk: what is about nobody is told once a minute, with its count.
#[tokio::test(start_paused = true)]
async fn tries_about_nobody_are_told_once_a_minute() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    for _ in 0..100 {
        assert!(password(&store, None, false).await.is_none());
    }
    assert_eq!(told(&store).await.len(), 1);
    drop(store);
    let store = open(&disk, clock);
    tokio::time::advance(TOLD_EVERY).await;
    password(&store, None, false).await;
    let told = told(&store).await;
    assert_eq!((told.len(), &told[0]["after"]), (2, &json!({"refused": 100})));
    assert_eq!((&told[0]["object"]["id"], &told[1]["after"]["refused"]), (&Value::Null, &json!(1)));
}

/// What was tried with an old password or an old role is about nobody.
#[tokio::test]
async fn a_try_of_before_a_change_lets_nobody_in() {
    let store = open(&Kept::default(), Clock::of_runtime(START));
    let tried = anna(&store).await;
    let change = ChangePassword { tried, password: PasswordHash::NOBODY };
    let user = store.steer(&Actor::SYSTEM, change).await.unwrap().answer.unwrap();
    assert_ne!(user.stamp, tried.stamp);
    assert!(password(&store, Some(tried), true).await.is_none());
    assert!(code(&store, tried, &key().code_at(START)).await.is_none());
    assert_eq!(store.catalog().user(tried.id).unwrap().failures.count(), 0);
}
