//! Requests with a key through a restart, and their ageing.

use super::*;
use crate::clock::Clock;
use crate::store::tests::{Kept, keys};
use crate::store::{Settings, Store, WriterRuns};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn open(disk: &Kept, clock: Clock) -> Store {
    let settings = Settings { cache_bytes: 1 << 20, ..Settings::at("memory", keys()) };
    Store::open_on(disk.clone(), &settings, clock, 7, WriterRuns::Inline).unwrap()
}

async fn begin(store: &Store, scope: u8, fingerprint: u8) -> Begun {
    let begin = BeginRequest { scope: [scope; 32], fingerprint: [fingerprint; 32], kept_max: 10 };
    store.submit(begin).await.unwrap().answer
}

async fn end(store: &Store, scope: u8, answer: Option<KeptAnswer>) {
    let _ = store.submit(EndRequest { scope: [scope; 32], answer }).await.unwrap();
}

fn answer(body: &[u8]) -> KeptAnswer {
    KeptAnswer { status: 201, content_type: None, location: Some("/v1/keys/1".into()), body: Some(body.to_vec()) }
}

#[tokio::test(start_paused = true)]
async fn a_request_and_its_answer_survive_a_restart() {
    let (disk, clock) = (Kept::default(), Clock::of_runtime(START));
    let store = open(&disk, clock);
    assert_eq!(begin(&store, 1, 1).await, Begun::New);
    assert_eq!(begin(&store, 1, 1).await, Begun::Unanswered);
    assert_eq!(begin(&store, 1, 2).await, Begun::Other);
    end(&store, 1, Some(answer(b"one"))).await;
    assert_eq!(begin(&store, 2, 1).await, Begun::New);
    end(&store, 2, None).await;
    assert_eq!(begin(&store, 2, 5).await, Begun::New, "a refusal frees its key");
    drop(store);
    let store = open(&disk, clock);
    assert_eq!(begin(&store, 1, 1).await, Begun::Answered(answer(b"one")));
    assert_eq!(begin(&store, 1, 2).await, Begun::Other);
    assert_eq!(begin(&store, 2, 5).await, Begun::Unanswered);
}

#[tokio::test(start_paused = true)]
async fn requests_age_in_slices_the_oldest_first() {
    let store = open(&Kept::default(), Clock::of_runtime(START));
    for scope in 0..10 {
        assert_eq!(begin(&store, scope, 1).await, Begun::New);
        end(&store, scope, Some(answer(b"x"))).await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    let before = START.after(Duration::from_secs(7 * 60));
    let slice = async || store.submit(DropRequests { before, limit: 4 }).await.unwrap().answer;
    assert!(store.read(move |snapshot| snapshot.requests_have_aged(before)).await.unwrap());
    assert_eq!((slice().await, slice().await, slice().await), (4, 3, 0));
    assert!(!store.read(move |snapshot| snapshot.requests_have_aged(before)).await.unwrap());
    for scope in 0..10 {
        let is_known = begin(&store, scope, 1).await != Begun::New;
        assert_eq!(is_known, scope >= 7, "{scope}");
    }
}

/// Keys are kept up to a number, whatever their age; the oldest make room.
#[tokio::test(start_paused = true)]
async fn the_oldest_requests_make_room_for_new_ones() {
    let store = open(&Kept::default(), Clock::of_runtime(START));
    for scope in 0..13 {
        assert_eq!(begin(&store, scope, 1).await, Begun::New);
        end(&store, scope, Some(answer(b"x"))).await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    for scope in (0..13).rev() {
        let is_known = begin(&store, scope, 1).await == Begun::Answered(answer(b"x"));
        assert_eq!(is_known, scope >= 3, "{scope}");
        if scope == 3 {
            break;
        }
    }
    assert_eq!(begin(&store, 2, 1).await, Begun::New);
}
