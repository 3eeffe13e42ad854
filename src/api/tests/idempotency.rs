//! `Idempotency-Key` through the whole API.

use std::time::Duration;

use super::*;
use crate::api::idempotency::{Keyed, UnderWay};
use crate::http::problem::ProblemCode;
use crate::http::response::Body;

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

impl World {
    async fn keyed(&self, key: &str, who: Who<'_>, path: &str, body: &Value) -> Answered {
        let request = ::http::Request::builder().method("POST").uri(path).header("idempotency-key", key);
        let (request, peer) = match who {
            Who::Key(secret) => (request.header("authorization", secret), stranger()),
            Who::OperatorFor(tenant) => (request.header("x-tenant", tenant), operator()),
            _ => (request, operator()),
        };
        self.send(request, body.to_string(), peer).await
    }

    async fn keys(&self) -> usize {
        self.get("/v1/keys?limit=1000").await.json()["keys"].as_array().unwrap().len()
    }
}

fn whole(response: &Response) -> &Bytes {
    match response.body() {
        Body::Whole(bytes) => bytes,
        Body::Stream(_) => panic!("a stream"),
    }
}

fn is_replayed(answered: &Answered) -> bool {
    answered.headers.get("idempotency-replayed").is_some_and(|it| it == "true")
}

/// `Idempotency-Key`: a repeat gets the first answer, with its secret, and nothing is done twice; another body is refused.
#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_is_not_done_again() {
    let world = World::new();
    let body = json!({"role": "read", "name": "n", "tenant": null});
    let first = world.keyed(KEY, Who::Operator, "/v1/keys", &body).await;
    assert_eq!((first.status, is_replayed(&first)), (201, false));
    let again = world.keyed(KEY, Who::Operator, "/v1/keys", &body).await;
    assert_eq!((again.status, is_replayed(&again), &again.text), (201, true, &first.text));
    for name in ["content-type", "location"] {
        assert_eq!(again.headers.get(name), first.headers.get(name), "{name}");
    }
    assert_eq!(world.keys().await, 1);
    let log = world.get("/v1/audit?limit=1000").await.text;
    assert!(!log.contains(&text(&first.json()["secret"])), "the log shows a secret");

    let other = world.keyed(KEY, Who::Operator, "/v1/keys", &json!({"role": "admin", "name": "n"})).await;
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_key_reused"));
    let other = world.keyed(KEY, Who::Operator, "/v1/keys?x=1", &body).await;
    assert_eq!(other.code(), "bad_query", "what is not taken is not answered for the first time's sake");
    assert_eq!(world.keys().await, 1);
}

/// A key is its caller's, for one tenant and one path. P17: nobody is shown another's answer.
#[tokio::test]
async fn a_key_of_another_caller_tenant_or_path_is_another_key() {
    let world = World::new();
    world.tenant("m1").await;
    let (one, two) = (world.key("admin", Some("m1")).await, world.key("admin", Some("m1")).await);
    let body = json!({"type": "a", "data": 1});
    let mut ids = std::collections::HashSet::new();
    for who in [Who::Operator, Who::OperatorFor("default"), Who::OperatorFor("m1"), Who::Key(&one), Who::Key(&two)] {
        let answered = world.keyed(KEY, who, "/v1/events", &body).await;
        assert_eq!((answered.status, is_replayed(&answered)), (202, false), "{who:?}");
        assert!(ids.insert(text(&answered.json()["id"])));
        let again = world.keyed(KEY, who, "/v1/events", &body).await;
        assert_eq!((is_replayed(&again), again.text), (true, answered.text), "{who:?}");
    }
    let elsewhere = world.keyed(KEY, Who::Key(&one), "/v1/replays", &json!({})).await;
    assert_eq!((elsewhere.status, is_replayed(&elsewhere)), (202, false));
    let again = world.keyed(KEY, Who::Key(&one), "/v1/replays", &json!({})).await;
    assert_eq!((again.status, is_replayed(&again), &again.text), (202, true, &elsewhere.text));
    // A key that has been taken away opens no kept answer either.
    let id = world.service.key_of(&one, None).unwrap().id;
    world.done(204, "DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!(world.keyed(KEY, Who::Key(&one), "/v1/events", &body).await.status, 401);
}

/// What was refused has changed nothing: its key is free for the request as it should have been.
#[tokio::test]
async fn a_refusal_leaves_the_key_free() {
    let world = World::new();
    let refused = world.keyed(KEY, Who::Operator, "/v1/tenants", &json!({"id": "not an id"})).await;
    assert_eq!(refused.status, 400);
    let made = world.keyed(KEY, Who::Operator, "/v1/tenants", &json!({"id": "m1"})).await;
    assert_eq!((made.status, is_replayed(&made)), (201, false));
    let conflict = world.keyed("other", Who::Operator, "/v1/tenants", &json!({"id": "m1"})).await;
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "conflict"));
}

#[tokio::test]
async fn a_key_is_1_to_255_printable_characters_and_stands_there_once() {
    let world = World::new();
    let longest = "k".repeat(255);
    for right in ["k", "\"quoted, as the draft has it\"", longest.as_str()] {
        assert_eq!(
            world.keyed(right, Who::Operator, "/v1/events", &json!({"type": "a", "data": 1})).await.status,
            202,
            "{right}"
        );
    }
    for wrong in [String::new(), "k".repeat(256), "a\tb".into(), "é".into()] {
        let answered = world.keyed(&wrong, Who::Operator, "/v1/events", &json!({"type": "a", "data": 1})).await;
        assert_eq!((answered.status, answered.code().as_str()), (400, "bad_header"), "{wrong:?}");
    }
    let twice = ::http::Request::builder().method("POST").uri("/v1/events");
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "b");
    assert_eq!(world.send(twice, r#"{"type": "a", "data": 1}"#, operator()).await.code(), "bad_header");
    // Elsewhere it says nothing.
    let get = ::http::Request::builder().uri("/v1/events").header("idempotency-key", "");
    assert_eq!(world.send(get, "", operator()).await.status, 200);
}

/// The caller hangs up: what he asked for is done all the same, and he gets the answer when he asks again.
#[tokio::test]
async fn a_request_goes_on_when_its_caller_has_hung_up() {
    let world = World::new();
    let body = json!({"role": "read", "name": "n", "tenant": null});
    tokio::select! {
        biased;
        answered = world.keyed(KEY, Who::Operator, "/v1/keys", &body) => panic!("answered at once: {answered:?}"),
        () = std::future::ready(()) => {}
    }
    let early = world.keyed(KEY, Who::Operator, "/v1/keys", &body).await;
    assert_eq!((early.status, early.code().as_str()), (409, "idempotency_in_progress"));
    assert!(early.headers.contains_key("retry-after"));
    let other = world.keyed(KEY, Who::Operator, "/v1/keys", &json!({})).await;
    assert_eq!(other.code(), "idempotency_key_reused");
    while world.keys().await == 0 {
        tokio::task::yield_now().await;
    }
    let again = world.keyed(KEY, Who::Operator, "/v1/keys", &body).await;
    assert_eq!((again.status, is_replayed(&again), world.keys().await), (201, true, 1));
}

/// At most once: what had been begun when the daemon ended is not done again, and the caller is told so.
#[tokio::test]
async fn what_a_crash_left_in_doubt_is_not_done_again() {
    let world = World::new();
    let keyed = || Keyed { scope: [1; 32], fingerprint: [2; 32] };
    assert_eq!(world.service.begin_request([1; 32], [2; 32]).await, Ok(service::Begun::New));
    let act = || -> Answering { panic!("it is done again") };
    let problem = keyed().answer(&UnderWay::default(), world.service.clone(), act).await.unwrap_err();
    assert_eq!((problem.code(), problem.code().status().as_u16()), (ProblemCode::IdempotencyUnknown, 409));
    let act = || -> Answering { panic!("it is done again") };
    let problem = keyed().answer(&UnderWay::default(), world.service.clone(), act).await.unwrap_err();
    assert_eq!(problem.code(), ProblemCode::IdempotencyUnknown, "however often");

    // The same where the act itself could not tell whether it was done.
    let keyed = || Keyed { scope: [3; 32], fingerprint: [2; 32] };
    let fails = || -> Answering { Box::pin(async { Err(Problem::new(ProblemCode::StoreFailed, "so")) }) };
    let problem = keyed().answer(&UnderWay::default(), world.service.clone(), fails).await.unwrap_err();
    assert_eq!(problem.code(), ProblemCode::StoreFailed);
    let problem = keyed().answer(&UnderWay::default(), world.service.clone(), fails).await.unwrap_err();
    assert_eq!(problem.code(), ProblemCode::IdempotencyUnknown);
}

/// An answer that is too large to be kept is not given twice, and what it answered is not done twice.
#[tokio::test]
async fn a_large_answer_is_not_kept_and_its_request_not_done_again() {
    let world = World::new();
    for (length, is_kept) in [(256 * 1024, true), (256 * 1024 + 1, false)] {
        let scope = [u8::from(is_kept); 32];
        let keyed = || Keyed { scope, fingerprint: [2; 32] };
        let under_way = UnderWay::default();
        let act = move || -> Answering {
            let body = Bytes::from(vec![b' '; length]);
            Box::pin(async { Ok(Response::bytes(::http::StatusCode::OK, "application/json", body)) })
        };
        let first = keyed().answer(&under_way, world.service.clone(), act).await.unwrap();
        assert_eq!(whole(&first).len(), length);
        let act = || -> Answering { panic!("it is done again") };
        let again = keyed().answer(&under_way, world.service.clone(), act).await;
        match again {
            Ok(again) => assert_eq!((whole(&again), is_kept), (whole(&first), true)),
            Err(problem) => assert_eq!((problem.code(), is_kept), (ProblemCode::IdempotencyNotKept, false)),
        }
    }
}

/// After a day the key is free.
#[tokio::test(start_paused = true)]
async fn a_key_stands_for_its_request_for_a_day() {
    let world = World::new();
    let ask = async || world.keyed(KEY, Who::Operator, "/v1/events", &json!({"type": "a", "data": 1})).await;
    let first = ask().await;
    tokio::time::advance(Duration::from_secs(24 * 3600 - 1)).await;
    assert_eq!(ask().await.text, first.text);
    tokio::time::advance(Duration::from_secs(1)).await;
    let later = ask().await;
    assert_eq!((later.status, is_replayed(&later)), (202, false));
    assert_ne!(later.text, first.text);
}
