//! What is told of attempts as they end, to whom, and what becomes of whoever does not listen.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::response::Stream;
use crate::http::serve::{Server, Settings as ServerSettings};
use crate::model::delivery::Phases;
use crate::model::{Attempt, DeliveryId, Epoch, EventId, Outcome, Reason, Seq, Trigger};
use crate::service::Sight;

const TAIL: &str = "/v1/tail";

/// The `number`th attempt of a world, which ended like this.
fn ended(world: &World, destination: &str, kind: &str, outcome: Outcome, number: u64) -> Ended {
    let destination = world.service.destination(&Sight::All, destination.parse().unwrap()).unwrap();
    let failed = outcome != Outcome::Succeeded;
    let attempt = Attempt {
        number: 2,
        due: START,
        started: START,
        duration: Duration::from_millis(12),
        trigger: Trigger::Schedule,
        outcome,
        reason: failed.then_some(Reason::Status),
        status: Some(if failed { 503 } else { 200 }),
        request_headers: [("authorization", "canary-request")].into_iter().collect(),
        response_headers: [("x-echo", "canary-reply")].into_iter().collect(),
        response_body: b"canary-body".to_vec(),
        error: None,
        address: Some(([10, 0, 0, 1], 443).into()),
        phases: Phases { head: Some(Duration::from_micros(1_500)), ..Phases::default() },
        reconnected: false,
        next: failed.then_some(START),
    };
    let delivery = DeliveryId { event: EventId::new(Epoch(7), Seq(number)), destination: destination.no };
    Ended { delivery, destination, kind: kind.parse().unwrap(), attempt }
}

impl World {
    /// A stream of attempts, behind its opening.
    async fn tail(&self, who: Who<'_>, query: &str) -> Stream {
        let (request, peer) = request(who, "GET", &format!("{TAIL}{query}"));
        let request = Request::whole(request.body(Bytes::new()).unwrap(), peer, "req_1");
        let response = self.handler.answer(request).await.unwrap();
        assert_eq!(response.header(&::http::header::CONTENT_TYPE).unwrap(), "text/event-stream");
        let Body::Stream(mut stream) = response.into_body() else { panic!("the tail has an end") };
        assert!(piece(&mut stream).await.unwrap().starts_with(": attempts from now on"));
        stream
    }

    fn tell(&self, ended: Ended) {
        self.attempts.send(Arc::new(ended)).unwrap();
    }
}

async fn piece(stream: &mut Stream) -> Option<String> {
    stream.next().await.map(|piece| String::from_utf8(piece.to_vec()).unwrap())
}

/// The objects of a piece without named events.
fn objects(piece: &str) -> Vec<Value> {
    piece
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event}"))).unwrap())
        .collect()
}

/// Roles: what an attempt came to may be read by all who read; what was sent and answered stands in the delivery.
#[tokio::test]
async fn an_attempt_is_told_without_headers_and_bodies() {
    let world = World::new();
    let destination = world.destination("default").await;
    let mut stream = world.tail(Who::Operator, "").await;
    let told = ended(&world, &destination, "transaction.sale", Outcome::Failed, 1);
    let (event, delivery) = (told.delivery.event.to_string(), told.delivery.to_string());
    world.tell(told);
    let text = piece(&mut stream).await.unwrap();
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(
        objects(&text),
        [json!({
            "delivery_id": delivery,
            "event_id": event,
            "type": "transaction.sale",
            "tenant": "default",
            "destination_id": destination,
            "destination_name": "d",
            "attempt": {
                "number": 2,
                "due_at": "2023-11-14T22:13:20.000Z",
                "started_at": "2023-11-14T22:13:20.000Z",
                "duration_ms": 12,
                "trigger": "schedule",
                "outcome": "failed",
                "reason": "status",
                "status": 503,
                "error": null,
                "address": "10.0.0.1:443",
                "phases": {"dns_ms": null, "connect_ms": null, "tls_ms": null, "head_ms": 1.5, "body_ms": null},
                "reconnected": false,
            },
            "next_attempt_at": "2023-11-14T22:13:20.000Z",
        })]
    );
}

/// P17: a tenant's key is told of the tenant's own destinations, whatever it asks for; filters narrow that.
#[tokio::test]
async fn each_watcher_is_told_what_it_may_see_and_asked_for() {
    let world = World::new();
    for tenant in ["m1", "m2"] {
        world.tenant(tenant).await;
    }
    let (one, other) = (world.destination("m1").await, world.destination("m2").await);
    let further = world.destination("m1").await;
    let attempts = [
        (&one, "a.b", Outcome::Succeeded),
        (&one, "a.c", Outcome::Failed),
        (&further, "b", Outcome::Unknown),
        (&other, "a.b", Outcome::Failed),
    ];
    let bound = world.key("read", Some("m1")).await;
    let house = world.key("read", None).await;
    let at_one = format!("?destination={one}");
    let table: [(Who<'_>, &str, &[usize]); 9] = [
        (Who::Operator, "", &[0, 1, 2, 3]),
        (Who::OperatorFor("m2"), "", &[3]),
        (Who::Key(&house), "?type=a.b", &[0, 3]),
        (Who::KeyFor(&house, "m1"), "?type=*", &[0, 1, 2]),
        (Who::Key(&bound), "", &[0, 1, 2]),
        (Who::Key(&bound), "?type=a.*", &[0, 1]),
        (Who::Key(&bound), "?outcome=failed", &[1]),
        (Who::Key(&bound), &at_one, &[0, 1]),
        (Who::Key(&bound), "?outcome=unknown&type=b", &[2]),
    ];
    for (who, query, expected) in table {
        let mut stream = world.tail(who, query).await;
        for (number, (destination, kind, outcome)) in (0..).zip(attempts) {
            world.tell(ended(&world, destination, kind, outcome, number));
        }
        let told = objects(&piece(&mut stream).await.unwrap());
        let ids: Vec<_> = told.iter().map(|told| text(&told["event_id"])).collect();
        let wanted: Vec<_> = expected.iter().map(|at| EventId::new(Epoch(7), Seq(*at as u64)).to_string()).collect();
        assert_eq!(ids, wanted, "{who:?} {query}");
    }
}

/// One tenant's watchers leave room for the others', and a stream that has ended makes room for the next.
#[tokio::test]
async fn a_tenant_watches_with_a_few_streams_at_a_time() {
    let world = World::new();
    for tenant in ["m1", "m2"] {
        world.tenant(tenant).await;
    }
    let [one, other] = [world.key("read", Some("m1")).await, world.key("operate", Some("m2")).await];
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(world.tail(Who::Key(&one), "").await);
    }
    for who in [Who::Key(&one), Who::OperatorFor("m1")] {
        let refused = world.ask(who, "GET", TAIL, Value::Null).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "too_many_streams"), "{who:?}");
    }
    for who in [Who::Key(&other), Who::OperatorFor("m2"), Who::Operator, Who::Operator] {
        drop(world.tail(who, "").await);
    }
    streams.pop();
    drop(world.tail(Who::Key(&one), "").await);
    streams.push(world.tail(Who::Key(&one), "").await);
    assert_eq!(world.ask(Who::Key(&one), "GET", TAIL, Value::Null).await.status, 503);
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_at_once() {
    let world = World::new();
    for tenant in ["m1", "m2"] {
        world.tenant(tenant).await;
    }
    let foreign = world.destination("m2").await;
    let key = world.key("read", Some("m1")).await;
    for (query, status, code) in [
        (format!("destination={foreign}"), 404, "not_found"),
        ("destination=9603F4B2-1874-42FE-A2BC-F7B45C45A9D6".to_owned(), 404, "not_found"),
        ("destination=x".to_owned(), 400, "bad_query"),
        ("outcome=well".to_owned(), 400, "bad_query"),
        ("type=a*".to_owned(), 400, "bad_query"),
        ("limit=1".to_owned(), 400, "bad_query"),
    ] {
        let answered = world.ask(Who::Key(&key), "GET", &format!("{TAIL}?{query}"), Value::Null).await;
        assert_eq!((answered.status, answered.code().as_str()), (status, code), "{query}");
    }
    let World { service, handler, attempts, store } = world;
    drop(attempts);
    let over = World { service, handler, attempts: broadcast::Sender::new(1), store };
    let answered = over.ask(Who::Key(&key), "GET", TAIL, Value::Null).await;
    assert_eq!((answered.status, answered.code().as_str()), (503, "draining"));
}

/// How many the others made is none of a tenant's business.
#[tokio::test]
async fn a_watcher_that_lags_behind_is_told_that_it_missed_some() {
    let world = World::new();
    world.tenant("m1").await;
    let destination = world.destination("m1").await;
    let key = world.key("read", Some("m1")).await;
    for (who, missed) in [(Who::Operator, json!(2)), (Who::Key(&key), Value::Null)] {
        let mut stream = world.tail(who, "").await;
        for number in 0..6 {
            world.tell(ended(&world, &destination, "t", Outcome::Succeeded, number));
        }
        let told = piece(&mut stream).await.unwrap();
        let (first, rest) = told.split_once("\n\n").unwrap();
        assert_eq!(first, format!("event: missed\ndata: {}", json!({"missed": missed})));
        assert_eq!(objects(rest).len(), 4);
    }
}

/// What a filter holds back does not keep the line awake.
#[tokio::test(start_paused = true)]
async fn silence_is_broken_every_15_seconds() {
    let world = World::new();
    let destination = world.destination("default").await;
    let mut stream = world.tail(Who::Operator, "?type=other").await;
    for _ in 0..3 {
        let silent_since = Instant::now();
        let mut next = std::pin::pin!(piece(&mut stream));
        assert!(tokio::time::timeout(Duration::from_secs(10), next.as_mut()).await.is_err());
        world.tell(ended(&world, &destination, "t", Outcome::Failed, 1));
        assert_eq!(next.await.unwrap(), ":\n\n");
        assert_eq!(silent_since.elapsed().as_secs(), 15);
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_key_and_with_the_engine() {
    let world = World::new();
    let destination = world.destination("default").await;
    let made = world.done(201, "POST", "/v1/keys", json!({"role": "read", "tenant": null, "name": "screen"})).await;
    let secret = text(&made["secret"]);
    let mut stream = world.tail(Who::Key(&secret), "").await;
    world.tell(ended(&world, &destination, "t", Outcome::Succeeded, 1));
    assert!(piece(&mut stream).await.is_some());
    world.done(204, "DELETE", &format!("/v1/keys/{}", text(&made["id"])), Value::Null).await;
    world.tell(ended(&world, &destination, "t", Outcome::Succeeded, 2));
    assert_eq!(piece(&mut stream).await, None, "a key that is gone is told nothing more");
    drop(stream);
    assert_eq!(world.attempts.receiver_count(), 0, "nobody watches, so nothing is made to be told");
    let mut stream = world.tail(Who::Operator, "").await;
    drop(world.attempts);
    assert_eq!(piece(&mut stream).await, None);
}

/// Telling never waits, the other watcher gets everything, and of what the first one does not take only the last few are kept.
#[tokio::test]
async fn a_watcher_that_never_reads_holds_little_and_delays_nobody() {
    const ATTEMPTS: u64 = 2000;
    let world = World::new();
    let destination = world.destination("default").await;
    let handler = Arc::clone(&world.handler);
    let server = Server::new(ServerSettings::default(), move |request: Request| handler.answer(request));
    let watch = async || {
        let (mut near, far) = tokio::io::duplex(1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(far, operator(), CancellationToken::new()).await });
        near.write_all(format!("GET {TAIL} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut lines = BufReader::new(near).lines();
        while !lines.next_line().await.unwrap().unwrap().starts_with(": attempts") {}
        lines
    };
    let _stuck = watch().await;
    let mut reading = watch().await;
    let mut told = Vec::new();
    for number in 0..ATTEMPTS {
        let attempt = Arc::new(ended(&world, &destination, "t", Outcome::Succeeded, number));
        told.push(Arc::downgrade(&attempt));
        world.attempts.send(attempt).unwrap();
        let id = EventId::new(Epoch(7), Seq(number)).to_string();
        while !reading.next_line().await.unwrap().unwrap().contains(&id) {}
    }
    let held = told.iter().filter(|attempt| attempt.strong_count() > 0).count();
    assert!(held <= 4, "{held} are held, of a channel of 4");
}
