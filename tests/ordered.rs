//! An ordered destination of the real daemon: what a receiver sees of it under failures, kills and restarts.

mod harness;

use std::sync::{Arc, Mutex};

use harness::{Home, Reaction, Receiver, emit, wait_for};
use serde_json::{Value, json};

/// Events that are handed in, in two halves.
const EVENTS: usize = 120;

/// What arrived: the event's place among those that were accepted, and the number of the attempt.
type Arrivals = Arc<Mutex<Vec<(usize, u32)>>>;

fn lines(places: std::ops::Range<usize>) -> Vec<String> {
    places.map(|place| json!({"type": "order.moved", "data": {"place": place}}).to_string()).collect()
}

/// With `ordered`, receipts never go backwards: not over failures, which hold back what is behind them, not over a kill and a
/// restart, after which what was sent last may come again, and nothing older.
#[test]
fn receipts_of_an_ordered_destination_never_go_backwards() {
    let arrivals: Arrivals = Arc::default();
    let receiver = {
        let arrivals = Arc::clone(&arrivals);
        Receiver::start(move |request| {
            let place = request.json()["place"].as_u64().unwrap() as usize;
            let number: u32 = request.header("x-webhook-attempt").parse().unwrap();
            let mut arrivals = arrivals.lock().unwrap();
            arrivals.push((place, number));
            // One in seven fails at first, and one in fifty is never taken.
            Reaction::Answer(if place % 50 == 30 || (place % 7 == 3 && number == 1) { 500 } else { 200 })
        })
    };
    let home = Home::new("[delivery]\nbreaker_failures = 1000000\n");
    let (daemon, admin) = (home.start(), home.admin());
    let wanted = json!({
        "name": "ledger", "http_endpoint_url": receiver.url("/in"), "confirmed": true, "ordered": true,
        "retry": {"delays": ["50ms", "50ms"], "attempts_max": 3},
    });
    let made = admin.must("POST", "/v1/destinations/webhook", Some(&wanted));
    assert_eq!(made["ordered"], true);
    let id = made["id"].as_str().unwrap();
    admin.must("POST", "/v1/subscriptions/*", Some(&json!({"destinations": [id]})));
    emit(&home.ingest_socket(), &lines(0..EVENTS / 2));
    wait_for("some deliveries", || (arrivals.lock().unwrap().len() > 20).then_some(()));
    home.kill(daemon);
    let killed_at = arrivals.lock().unwrap().len();
    let daemon = home.start();
    emit(&home.ingest_socket(), &lines(EVENTS / 2..EVENTS));
    let ended = |admin: &harness::Admin| {
        let status = admin.must("GET", "/v1/status", None);
        (status["pending"] == 0).then_some((status["succeeded"].clone(), status["failed"].clone()))
    };
    let (succeeded, failed) = wait_for("all deliveries to end", || ended(&admin));
    assert_eq!((succeeded, failed), (json!(EVENTS - 2), json!(2)));
    let arrivals = arrivals.lock().unwrap().clone();
    for (turn, pair) in arrivals.windows(2).enumerate() {
        let [(before, number), (after, next)] = pair else { unreachable!("windows of two") };
        let follows = *after == before + 1 && *next == 1 || after == before && *next == number + 1;
        // The end of what was under way at the kill may not have been written.
        let repeats = turn + 1 == killed_at && after == before && next == number;
        assert!(follows || repeats, "{before} attempt {number}, then {after} attempt {next}");
    }
    assert_eq!(arrivals.last().map(|(place, _)| *place), Some(EVENTS - 1));
    assert!(daemon.stop().success());
}

/// A delivery behind another one says which, and a person who gives that one up lets the others go. A destination that becomes an
/// ordered one takes what waits for it in order, too.
#[test]
fn what_waits_in_line_says_for_what_and_goes_on_when_that_is_given_up() {
    let arrivals: Arrivals = Arc::default();
    let receiver = {
        let arrivals = Arc::clone(&arrivals);
        Receiver::start(move |request| {
            let place = request.json()["place"].as_u64().unwrap() as usize;
            arrivals.lock().unwrap().push((place, 1));
            Reaction::Answer(if place == 0 { 500 } else { 200 })
        })
    };
    let home = Home::new("[delivery]\nbreaker_failures = 1000000\n");
    let (daemon, admin) = (home.start(), home.admin());
    let retry = json!({"delays": ["1h"]});
    let wanted = json!({
        "name": "ledger", "http_endpoint_url": receiver.url("/in"), "confirmed": true, "in_flight_max": 5, "retry": retry,
    });
    let made = admin.must("POST", "/v1/destinations/webhook", Some(&wanted));
    let path = format!("/v1/destinations/webhook/{}", made["id"].as_str().unwrap());
    admin.must("POST", "/v1/subscriptions/*", Some(&json!({"destinations": [made["id"]]})));
    admin.must("POST", &format!("{path}/pause"), None);
    let accepted = emit(&home.ingest_socket(), &lines(0..50));
    let delivery = |place: usize| -> Value {
        let event = accepted[place]["id"].as_str().unwrap();
        admin.must("GET", &format!("/v1/events/{event}/deliveries"), None)["deliveries"][0].clone()
    };
    let (status, refused) = admin.call("PUT", &path, Some(&json!({"ordered": true}))).unwrap();
    assert_eq!((status, &refused["errors"][0]["pointer"]), (400, &json!("/in_flight_max")));
    admin.must("PUT", &path, Some(&json!({"ordered": true, "in_flight_max": null})));
    admin.must("POST", &format!("{path}/resume"), None);
    let first =
        wait_for("the first one's retry", || Some(delivery(0)).filter(|it| it["waiting_reason"] == "retry_later"));
    for place in [1, 49] {
        let behind = delivery(place);
        assert_eq!((&behind["waiting_reason"], &behind["waits_for"]), (&json!("order"), &first["id"]));
    }
    assert_eq!((&first["waits_for"], arrivals.lock().unwrap().len()), (&Value::Null, 1));
    admin.must("POST", &format!("/v1/deliveries/{}/cancel", first["id"].as_str().unwrap()), None);
    wait_for("the others", || (arrivals.lock().unwrap().len() == 50).then_some(()));
    let order: Vec<_> = arrivals.lock().unwrap().iter().map(|(place, _)| *place).collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
    // What is sent again stands beside the line.
    admin.must("POST", &format!("/v1/deliveries/{}/resend", first["id"].as_str().unwrap()), None);
    wait_for("the first one again", || (arrivals.lock().unwrap().len() == 51).then_some(()));
    emit(&home.ingest_socket(), &lines(50..51));
    wait_for("the next", || (arrivals.lock().unwrap().last() == Some(&(50, 1))).then_some(()));
    assert_eq!(delivery(0)["waiting_reason"], "retry_later");
    assert!(daemon.stop().success());
}
