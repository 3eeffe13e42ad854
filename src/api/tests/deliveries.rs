//! Events and deliveries over HTTP.

use super::*;

/// The refusal of an event points at the member that it is about.
#[tokio::test]
async fn the_refusal_of_an_event_has_a_pointer() {
    let world = World::new();
    world.done(202, "POST", "/v1/events", json!({"type": "t", "id": "1", "data": 1})).await;
    for (event, status, pointer) in [
        (json!({"type": "a b", "data": 1}), 400, "/type"),
        (json!({"type": "t"}), 400, "/data"),
        (json!({"type": "t", "data": 1, "deliver_at": "soon"}), 400, "/deliver_at"),
        (json!({"type": "t", "data": 1, "expires_at": "2020-01-01T00:00:00Z"}), 400, "/expires_at"),
        (json!({"type": "t", "data": 1, "tenant": "nobody"}), 400, "/tenant"),
        (json!({"type": "t", "data": 1, "amuont/€": 1}), 400, "/amuont~1€"),
        (json!({"specversion": "1.0", "id": "2", "source": "s", "type": "t", "Not-So": 1}), 400, "/Not-So"),
        (json!({"op": "pong"}), 400, "/op"),
        (json!({"type": "t", "id": "1", "data": 2}), 409, "/id"),
    ] {
        let refused = world.ask(Who::Operator, "POST", "/v1/events", event).await;
        let answer = refused.json();
        assert_eq!((refused.status, &answer["errors"][0]["pointer"]), (status, &json!(pointer)), "{answer}");
        assert!(!answer["errors"][0]["detail"].as_str().unwrap().starts_with(&pointer[1..]), "{answer}");
    }
}

/// A misspelt field is answered with the names that there are, and what is wrong with a batch as a whole with the whole's pointer.
#[tokio::test]
async fn the_refusal_of_an_unknown_field_names_those_there_are() {
    let world = World::new();
    let refused =
        async |body: Value| world.ask(Who::Operator, "POST", "/v1/events", body).await.json()["errors"].take();
    let detail = "is not a field of an event; there are type, tenant, id, time, key, traceparent, deliver_at, expires_at, \
                  source, content_type, data, data_base64";
    let errors = refused(json!({"type": "t", "data": 1, "amuont": 1})).await;
    assert_eq!(errors, json!([{"pointer": "/amuont", "detail": detail}]));
    assert_eq!(refused(json!([])).await, json!([{"pointer": "", "detail": "a batch holds at least one event"}]));
}

/// The doors answer alike: 202 for an event, 200 for a duplicate, a result for each of a batch, a problem for a refusal.
#[tokio::test]
async fn events_are_taken_over_http() {
    let world = World::new();
    let id = world.destination("default").await;
    world.subscription("default", "sale", &[&id]).await;
    let event = json!({"type": "sale", "id": "T-1", "data": {"a": 1}});
    let made = world.done(202, "POST", "/v1/events", event.clone()).await;
    assert_eq!((&made["ok"], &made["duplicate"], &made["deliveries"]), (&json!(true), &json!(false), &json!(1)));
    let again = world.done(200, "POST", "/v1/events", event).await;
    assert_eq!((&again["id"], &again["duplicate"]), (&made["id"], &json!(true)));
    let batch =
        world.done(202, "POST", "/v1/events", json!([{"type": "sale", "data": 1}, {"type": "a b", "data": 1}])).await;
    assert_eq!((&batch[0]["ok"], &batch[1]["error"]["code"]), (&json!(true), &json!("bad_field")));
    for (body, status, code) in [
        (json!({"type": "sale", "id": "T-1", "data": 2}), 409, "id_conflict"),
        (json!({"type": "sale", "data": 1, "tenant": "nobody"}), 400, "unknown_tenant"),
        (json!({"type": "sale", "data": 1, "expires_at": "2020-01-01T00:00:00Z"}), 400, "expired"),
        (json!({"type": "sale", "data": 1, "amuont": 1}), 400, "unknown_field"),
        (json!({"type": "webhook.confirmation", "data": 1}), 400, "bad_field"),
        (json!({"specversion": "1.0", "id": "1", "source": "s", "type": "webhook.confirmation"}), 400, "bad_field"),
        (json!({}), 400, "bad_field"),
        (Value::Null, 400, "bad_json"),
    ] {
        let answered = world.ask(Who::Operator, "POST", "/v1/events", body.clone()).await;
        assert_eq!((answered.status, answered.code().as_str()), (status, code), "{body}");
    }
    world.service.drain();
    let answered = world.ask(Who::Operator, "POST", "/v1/events", json!({"type": "sale", "data": 1})).await;
    assert_eq!((answered.status, answered.code().as_str()), (503, "draining"));
}

/// A key emits for the tenant that it is bound to; an all-tenant key for any, or for the one that it names.
#[tokio::test]
async fn a_key_emits_for_its_tenant() {
    let world = World::new();
    world.tenant("m1").await;
    world.tenant("m2").await;
    let (bound, all) = (world.key("ingest", Some("m1")).await, world.key("ingest", None).await);
    let table = [
        (Who::Key(&bound), None, Ok("m1")),
        (Who::Key(&bound), Some("m1"), Ok("m1")),
        (Who::Key(&bound), Some("m2"), Err(403)),
        (Who::Key(&bound), Some("nobody"), Err(403)),
        (Who::Key(&all), None, Ok("default")),
        (Who::Key(&all), Some("m2"), Ok("m2")),
        (Who::KeyFor(&all, "m1"), None, Ok("m1")),
        (Who::KeyFor(&all, "m1"), Some("m2"), Err(403)),
        (Who::Operator, Some("m2"), Ok("m2")),
    ];
    for (who, tenant, expected) in table {
        let mut body = json!({"type": "t", "data": 1});
        if let Some(tenant) = tenant {
            body["tenant"] = json!(tenant);
        }
        let answered = world.ask(who, "POST", "/v1/events", body).await;
        match expected {
            Ok(tenant) => {
                let event = world.get(&format!("/v1/events/{}", text(&answered.json()["id"]))).await.json();
                assert_eq!(event["tenant"], tenant, "{who:?}");
                let peer = matches!(who, Who::Operator).then_some(1000);
                assert_eq!(event["peer"]["uid"].as_u64(), peer, "{who:?}");
            }
            Err(status) => {
                assert_eq!((answered.status, answered.code().as_str()), (status, "not_allowed"), "{who:?} {tenant:?}");
            }
        }
    }
}

/// What became of transaction X: events are found by the producer's id, by key, by type, by time, in pages.
#[tokio::test]
async fn events_are_looked_up() {
    let world = World::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        let kind = if n % 2 == 0 { "sale.made" } else { "refund.made" };
        let body = json!({"type": kind, "id": format!("T-{n}"), "key": format!("K-{}", n % 2), "data": n});
        ids.push(text(&world.done(202, "POST", "/v1/events", body).await["id"]));
    }
    let list = async |query: &str| {
        let list = world.done(200, "GET", &format!("/v1/events?{query}"), Value::Null).await;
        let rows = list["events"].as_array().unwrap().iter();
        let places = rows.map(|row| ids.iter().position(|id| *id == row["id"]).unwrap());
        (places.collect::<Vec<_>>(), list["next"].as_str().map(str::to_owned))
    };
    for (query, expected) in [
        ("", &[4, 3, 2, 1, 0][..]),
        ("limit=0", &[]),
        ("limit=2&offset=1", &[3, 2]),
        ("offset=5", &[]),
        ("offset=9", &[]),
        ("type=sale.made", &[4, 2, 0]),
        ("type=sale.*&offset=1", &[2, 0]),
        ("key=K-1", &[3, 1]),
        ("producer_id=T-3", &[3]),
        ("producer_id=T-3&type=sale.*", &[]),
        ("producer_id=T-3&offset=1", &[]),
        ("producer_id=T-9", &[]),
        ("from=2023-11-14T22:13:00Z&to=2023-11-14T23:00:00Z&limit=1", &[4]),
        ("from=2024-01-01T00:00:00Z", &[]),
        ("to=2023-01-01T00:00:00Z", &[]),
    ] {
        assert_eq!(list(query).await.0, expected, "{query}");
    }
    let (_, next) = list("limit=2&type=sale.*").await;
    assert_eq!(list(&format!("type=sale.*&after={}", next.unwrap())).await, (vec![0], None));
    for wrong in ["type=a*", "from=today", "producer_id=", "key=", "limit=1001", "status=200"] {
        assert_eq!(world.get(&format!("/v1/events?{wrong}")).await.code(), "bad_query", "{wrong}");
    }
    let uuid = ids[0].parse::<crate::model::EventId>().unwrap().as_uuid().to_string();
    assert_eq!(world.get(&format!("/v1/events/{uuid}")).await.json()["id"], ids[0]);
}

/// A page ends at four megabytes, whatever its limit: payloads are chosen by others.
#[tokio::test]
async fn a_page_of_large_events_is_cut_and_goes_on() {
    let world = World::new();
    for _ in 0..12 {
        let body = json!({"type": "t", "data": "x".repeat(900_000)});
        world.done(202, "POST", "/v1/events", body).await;
    }
    let (mut sizes, mut query) = (Vec::new(), String::new());
    loop {
        let list = world.done(200, "GET", &format!("/v1/events?limit=1000{query}"), Value::Null).await;
        sizes.push(list["events"].as_array().unwrap().len());
        let Some(next) = list["next"].as_str() else { break };
        query = format!("&after={next}");
    }
    assert_eq!(sizes, [5, 5, 2]);
}

/// An erased payload is gone at once, and what still waits for it is given up.
#[tokio::test]
async fn a_payload_is_erased() {
    let world = World::new();
    let destination = world.destination("default").await;
    world.subscription("default", "t", &[&destination]).await;
    let id = world.event("default", "t").await;
    world.done(204, "DELETE", &format!("/v1/events/{id}/payload"), Value::Null).await;
    let event = world.get(&format!("/v1/events/{id}")).await;
    assert_eq!((&event.json()["erased"], event.text.contains("5.00")), (&json!(true), false));
    let deliveries = world.get(&format!("/v1/events/{id}/deliveries")).await.json();
    let delivery = text(&deliveries["deliveries"][0]["id"]);
    world.done(409, "POST", &format!("/v1/deliveries/{delivery}/resend"), Value::Null).await;
}

/// SX.10, S2.61: a delivery is cancelled while it waits and resent when it has ended; anything else is a 409 that says why.
#[tokio::test]
async fn a_delivery_is_cancelled_and_resent() {
    let world = World::new();
    let destination = world.destination("default").await;
    world.subscription("default", "t", &[&destination]).await;
    let event = world.event("default", "t").await;
    let list = world.get(&format!("/v1/events/{event}/deliveries")).await.json();
    let delivery = &list["deliveries"][0];
    assert_eq!((&delivery["event_id"], &delivery["destination_id"]), (&json!(event), &json!(destination)));
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!([])));
    let path = format!("/v1/deliveries/{}", text(&delivery["id"]));
    let steer = async |verb: &str| world.ask(Who::Operator, "POST", &format!("{path}/{verb}"), Value::Null).await;
    assert_eq!((steer("resend").await.status, steer("resend").await.code().as_str()), (409, "conflict"));
    let cancelled = steer("cancel").await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(cancelled.json()["ending"], "cancelled");
    assert_eq!(steer("cancel").await.status, 409);
    let resent = steer("resend").await;
    assert_eq!((resent.status, &resent.json()["state"]), (202, &json!("pending")));
    world.done(204, "DELETE", &format!("{WEBHOOKS}/{destination}"), Value::Null).await;
    let left = world.get(&path).await.json();
    assert_eq!(left["destination_id"], destination, "a deleted destination keeps its name in the past");
    assert_eq!(steer("resend").await.status, 409);
}

/// S2.61, D26: a delivery that failed and waits for its retry is resent, not while its attempt is under way; what is due and
/// held by nothing does not say that its idle lane is full.
#[tokio::test]
async fn a_delivery_that_waits_for_its_retry_is_resent() {
    let world = World::new();
    let destination = world.destination("default").await;
    world.subscription("default", "t", &[&destination]).await;
    let event = world.event("default", "t").await;
    let list = world.get(&format!("/v1/events/{event}/deliveries")).await.json();
    let path = format!("/v1/deliveries/{}", text(&list["deliveries"][0]["id"]));
    let id: crate::model::DeliveryId = text(&list["deliveries"][0]["id"]).parse().unwrap();
    let key = crate::model::DeliveryKey { destination: id.destination, seq: id.event.seq() };
    let seen = world.service.delivery(&service::Sight::All, id).await.unwrap();
    let later = START.after(std::time::Duration::from_secs(3600));
    let attempt = crate::model::Attempt {
        number: 1,
        due: START,
        started: START,
        duration: Default::default(),
        trigger: crate::model::Trigger::Schedule,
        outcome: crate::model::Outcome::Failed,
        reason: Some(crate::model::Reason::Status),
        status: Some(503),
        request_headers: Default::default(),
        response_headers: Default::default(),
        response_body: b"we are busy".to_vec(),
        error: None,
        address: None,
        phases: Default::default(),
        reconnected: false,
        next: Some(later),
    };
    let next = store::op::Next::Retry(later);
    let finish = store::op::Finish { row: seen.delivery.row.unwrap(), attempt, next, health: None };
    let _ = world.store.submit(finish).await.unwrap();
    let waiting = world.get(&path).await.json();
    assert_eq!((&waiting["state"], &waiting["waiting_reason"]), (&json!("pending"), &json!("retry_later")));
    // What a receiver wrote back may be what it was sent.
    for (role, body) in [("read", Value::Null), ("operate", json!("we are busy")), ("admin", json!("we are busy"))] {
        let own = world.key(role, Some("default")).await;
        let lists = [format!("/v1/events/{event}/deliveries"), "/v1/deliveries".into()];
        for list in lists {
            let shown = world.ask(Who::Key(&own), "GET", &list, Value::Null).await.json();
            assert_eq!(shown["deliveries"][0]["attempts"][0]["response_body"], body, "{role} {list}");
        }
        let shown = world.ask(Who::Key(&own), "GET", &path, Value::Null).await.json();
        assert_eq!(shown["attempts"][0]["response_body"], body, "{role}");
        let history = world.ask(Who::Key(&own), "GET", "/v1/event_history", Value::Null).await;
        assert!(history.status == 200 && !history.text.contains("busy"), "{history:?}");
    }
    let resend = async || world.ask(Who::Operator, "POST", &format!("{path}/resend"), Value::Null).await;
    world.store.note_attempt(key, true);
    let refused = resend().await;
    assert_eq!((refused.status, refused.json()["detail"].as_str().unwrap().contains("under way")), (409, true));
    world.store.note_attempt(key, false);
    let resent = resend().await;
    assert_eq!((resent.status, &resent.json()["state"]), (202, &json!("pending")));
    assert_eq!(resent.json()["waiting_reason"], "in_flight", "nothing holds it");
    assert!(text(&resent.json()["next_attempt_at"]) < later.to_string());
    assert_eq!(resent.json()["attempts"].as_array().unwrap().len(), 1);
    world.done(200, "PUT", &format!("{WEBHOOKS}/{destination}"), json!({"in_flight_max": 1})).await;
    world.event("default", "t").await;
    world.store.note_attempt(key, true);
    let list = world.get("/v1/deliveries").await.json();
    let reasons: Vec<_> = list["deliveries"].as_array().unwrap().iter().map(|row| &row["waiting_reason"]).collect();
    assert_eq!(reasons, ["lane_full", "in_flight"]);
}

/// S2.65: deliveries are found by state, destination, type and time.
#[tokio::test]
async fn deliveries_are_listed_by_what_they_are() {
    let world = World::new();
    let (a, b) = (world.destination("default").await, world.destination("default").await);
    world.subscription("default", "*", &[&a, &b]).await;
    for kind in ["sale.made", "refund.made", "sale.made"] {
        world.event("default", kind).await;
    }
    let first = text(&world.get("/v1/deliveries").await.json()["deliveries"][0]["id"]);
    world.done(200, "POST", &format!("/v1/deliveries/{first}/cancel"), Value::Null).await;
    world.done(200, "POST", &format!("{WEBHOOKS}/{b}/pause"), Value::Null).await;
    let count = async |query: &str| {
        let list = world.done(200, "GET", &format!("/v1/deliveries?{query}"), Value::Null).await;
        list["deliveries"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("".to_owned(), 6),
        ("limit=4&offset=4".to_owned(), 2),
        ("offset=6".to_owned(), 0),
        ("state=cancelled".to_owned(), 1),
        ("state=held".to_owned(), 3),
        ("state=pending".to_owned(), 2),
        ("state=failed".to_owned(), 0),
        (format!("destination={a}"), 3),
        (format!("destination={}&state=held&type=sale.*", b.to_lowercase()), 2),
        ("destination=9603F4B2-1874-42FE-A2BC-F7B45C45A9D6".to_owned(), 0),
        ("status=503".to_owned(), 0),
        ("type=refund.made".to_owned(), 2),
        ("from=2024-01-01T00:00:00Z".to_owned(), 0),
    ] {
        assert_eq!(count(&query).await, expected, "{query}");
    }
    let (mut seen, mut query) = (Vec::new(), "limit=4".to_owned());
    loop {
        let list = world.done(200, "GET", &format!("/v1/deliveries?{query}"), Value::Null).await;
        seen.extend(list["deliveries"].as_array().unwrap().iter().map(|row| text(&row["id"])));
        let Some(next) = list["next"].as_str() else { break };
        query = format!("limit=4&after={next}");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 6);
    for wrong in ["state=done", "destination=x", "status=7", "kind=a"] {
        assert_eq!(world.get(&format!("/v1/deliveries?{wrong}")).await.code(), "bad_query", "{wrong}");
    }
}

/// What is shown and done of a delivery needs its event's head: the payload, however large, is not opened for it.
#[tokio::test]
async fn deliveries_of_an_event_with_a_damaged_payload_are_shown_and_steered() {
    let world = World::new();
    let destination = world.destination("default").await;
    world.subscription("default", "t", &[&destination]).await;
    let event: crate::model::EventId = world.event("default", "t").await.parse().unwrap();
    let _ = world.store.submit(crate::store::tests::DamagePayload(event.seq())).await.unwrap();
    assert!(world.service.event(&service::Sight::All, event).await.is_err(), "its payload cannot be read");
    let run = &world.get("/v1/event_history").await.json()["events"][0];
    let path = format!("/v1/deliveries/{}", text(&run["delivery_id"]));
    assert_eq!(world.get(&path).await.json()["state"], "pending");
    assert_eq!(world.get(&format!("/v1/events/{event}/deliveries")).await.json()["deliveries"][0]["state"], "pending");
    world.done(200, "POST", &format!("{path}/cancel"), Value::Null).await;
    world.done(202, "POST", &format!("/v1/event_history/{}/resend", text(&run["run_id"])), Value::Null).await;
    world.done(204, "DELETE", &format!("/v1/events/{event}/payload"), Value::Null).await;
}

/// S2.65: what a filter finds is shown in the state that was asked for, also while an attempt of it is under way.
#[tokio::test]
async fn the_state_that_is_shown_is_the_one_that_is_filtered_by() {
    let world = World::new();
    let (paused, open, gone) =
        (world.destination("default").await, world.destination("default").await, world.destination("default").await);
    world.subscription("default", "t", &[&paused, &open, &gone]).await;
    for _ in 0..2 {
        world.event("default", "t").await;
    }
    // An attempt of one of each lane's is under way; the last lane is deleted, and what waits for it not yet ended.
    for row in world.get("/v1/deliveries").await.json()["deliveries"].as_array().unwrap().iter().take(3) {
        let id: crate::model::DeliveryId = text(&row["id"]).parse().unwrap();
        world.store.note_attempt(crate::model::DeliveryKey { destination: id.destination, seq: id.event.seq() }, true);
    }
    world.done(200, "POST", &format!("{WEBHOOKS}/{paused}/pause"), Value::Null).await;
    world.done(204, "DELETE", &format!("{WEBHOOKS}/{gone}"), Value::Null).await;
    let mut found = 0;
    for state in ["pending", "held", "succeeded", "failed", "cancelled"] {
        let list = world.get(&format!("/v1/deliveries?state={state}")).await.json();
        for row in list["deliveries"].as_array().unwrap() {
            assert_eq!(row["state"], state, "{row}");
            let one = world.get(&format!("/v1/deliveries/{}", text(&row["id"]))).await.json();
            assert_eq!((&one["state"], &one["waiting_reason"]), (&row["state"], &row["waiting_reason"]));
            assert_eq!(row["state"] == "held", row["destination_id"] == paused, "{row}");
            found += 1;
        }
    }
    assert_eq!(found, 6);
    let held = world.get("/v1/deliveries?state=held").await.json();
    let reasons: Vec<_> = held["deliveries"].as_array().unwrap().iter().map(|row| &row["waiting_reason"]).collect();
    assert_eq!(reasons, ["in_flight", "paused"]);
}

/// S2.60, S2.65: the event history tells each delivery's steps, and is asked by subscription, destination, date and step.
#[tokio::test(start_paused = true)]
async fn the_event_history_tells_the_steps_of_deliveries() {
    let world = World::new();
    let (a, b) = (world.destination("default").await, world.destination("default").await);
    let named = json!({"destinations": [a], "name": "Sales"});
    let sales = text(&world.done(201, "POST", "/v1/subscriptions/sale", named).await["id"]);
    let all = world.subscription("default", "*", &[&a, &b]).await;
    let first = world.event("default", "sale").await;
    tokio::time::advance(std::time::Duration::from_secs(24 * 3600)).await;
    world.event("default", "refund").await;
    let expires = json!({"type": "sale", "data": 1, "expires_at": "2024-01-01T00:00:00Z"});
    world.done(202, "POST", "/v1/events", expires).await;
    let list = async |query: &str| world.done(200, "GET", &format!("/v1/event_history?{query}"), Value::Null).await;
    let count = async |query: &str| list(query).await["events"].as_array().unwrap().len();
    let oldest = &list("limit=2&offset=4").await["events"];
    let row = &oldest[0];
    assert_eq!((&row["event_id"], &row["destination_id"]), (&json!(first), &json!(a)));
    assert_eq!((&row["subscription_id"], &row["subscription_name"]), (&json!(sales), &json!("Sales")));
    assert_eq!(
        (&row["destination_name"], &row["state"], &row["type"]),
        (&json!("d"), &json!("pending"), &json!("sale"))
    );
    assert_eq!((&row["date"], &row["events"]), (&json!("2023-11-14T22:13:20.000Z"), &json!(["QUEUED", "CREATE"])));
    let step = &row["data"][1];
    assert_eq!((&step["event_type"], &step["data"]), (&json!("CREATE"), &json!({})));
    assert_eq!(step["date"], "2023-11-14 22:13:20.000 +0000");
    assert_eq!(text(&step["event_id"]).len(), 36);
    assert_eq!(oldest[1]["subscription_id"], all);
    for (query, expected) in [
        ("".to_owned(), 6),
        (format!("subscription_id={}", sales.to_lowercase()), 2),
        (format!("subscription_id={all}"), 6),
        ("subscription_id=9603F4B2-1874-42FE-A2BC-F7B45C45A9D6".to_owned(), 0),
        (format!("destination_id={b}"), 3),
        (format!("destination_id={b}&subscription_id={sales}"), 0),
        ("destination_id=9603F4B2-1874-42FE-A2BC-F7B45C45A9D6".to_owned(), 0),
        ("date_from=2023-11-15".to_owned(), 4),
        ("date_to=2023-11-14".to_owned(), 2),
        ("date_from=2023-11-14T22:13:20Z&date_to=2023-11-14T22:13:20Z".to_owned(), 2),
        ("event_type=QUEUED".to_owned(), 6),
        ("event_type=FAILED".to_owned(), 0),
        ("event_type=CONFIRM".to_owned(), 0),
        ("limit=0".to_owned(), 0),
    ] {
        assert_eq!(count(&query).await, expected, "{query}");
    }
    for wrong in ["event_type=DELIVERED", "destination_id=x", "date_from=now", "limit=1001", "type=sale"] {
        assert_eq!(world.get(&format!("/v1/event_history?{wrong}")).await.code(), "bad_query", "{wrong}");
    }
    let next = text(&list("limit=5").await["next"]);
    let rest = list(&format!("after={next}")).await;
    assert_eq!((rest["events"][0]["run_id"].clone(), &rest["next"]), (oldest[1]["run_id"].clone(), &Value::Null));
}

/// S2.61: what has ended is resent through the event history, by its run's id or by its delivery's.
#[tokio::test]
async fn a_run_is_resent_by_either_of_its_names() {
    let world = World::new();
    world.tenant("m1").await;
    let destination = world.destination("default").await;
    world.subscription("default", "t", &[&destination]).await;
    world.event("default", "t").await;
    let row = world.get("/v1/event_history").await.json()["events"][0].clone();
    let (run, delivery) = (text(&row["run_id"]), text(&row["delivery_id"]));
    let resend = async |id: &str| {
        let path = format!("/v1/event_history/{id}/resend");
        world.ask(Who::Operator, "POST", &path, Value::Null).await
    };
    assert_eq!((resend(&run).await.status, resend(&delivery).await.status), (409, 409), "it still waits");
    for id in [run.to_lowercase(), delivery.clone()] {
        world.done(200, "POST", &format!("/v1/deliveries/{delivery}/cancel"), Value::Null).await;
        let resent = resend(&id).await;
        assert_eq!((resent.status, &resent.json()["state"]), (202, &json!("pending")));
        assert_eq!(resent.json()["run_id"], run);
    }
    let mut near = run.clone();
    near.replace_range(35.., if run.ends_with('0') { "1" } else { "0" });
    for (id, status) in
        [(near.as_str(), 404), ("9603F4B2-1874-42FE-A2BC-F7B45C45A9D6", 404), ("x", 400), ("dlv_x", 400)]
    {
        assert_eq!(resend(id).await.status, status, "{id}");
    }
    let foreign = format!("/v1/event_history/{run}/resend");
    assert_eq!(world.ask(Who::OperatorFor("m1"), "POST", &foreign, Value::Null).await.status, 404);
}

/// D10, D26: a resend is queued when it is ordered, also when its attempt has to wait for a paused destination.
#[tokio::test(start_paused = true)]
async fn the_history_dates_a_resend_by_its_order() {
    use crate::model::{Outcome, Reason};
    let world = World::new();
    let destination = world.destination("default").await;
    world.subscription("default", "t", &[&destination]).await;
    world.event("default", "t").await;
    let row = world.get("/v1/event_history").await.json()["events"][0].clone();
    let (run, delivery) = (text(&row["run_id"]), text(&row["delivery_id"]));
    let id: crate::model::DeliveryId = delivery.parse().unwrap();
    let later = async |seconds| tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
    // What the engine does: an attempt of the row that waits, now.
    let attempt = async |number, seconds, outcome, next| {
        let seen = world.service.delivery(&service::Sight::All, id).await.unwrap();
        let row = seen.delivery.row.unwrap();
        let failed = outcome != Outcome::Succeeded;
        let attempt = crate::model::Attempt {
            number,
            due: row.due,
            started: START.after(std::time::Duration::from_secs(seconds)),
            duration: std::time::Duration::from_secs(1),
            trigger: row.plan.trigger,
            outcome,
            reason: failed.then_some(Reason::Status),
            status: Some(if failed { 503 } else { 200 }),
            request_headers: Default::default(),
            response_headers: Default::default(),
            response_body: Vec::new(),
            error: None,
            address: None,
            phases: Default::default(),
            reconnected: false,
            next: None,
        };
        let _ = world.store.submit(store::op::Finish { row, attempt, next, health: None }).await.unwrap();
    };
    let told = async || {
        let row = world.get("/v1/event_history").await.json()["events"][0].clone();
        let steps = row["data"].as_array().unwrap().iter();
        steps.map(|step| format!("{} {}", text(&step["event_type"]), &text(&step["date"])[11..19])).collect::<Vec<_>>()
    };
    attempt(1, 0, Outcome::Failed, store::op::Next::GivenUp(crate::model::delivery::Ending::Exhausted)).await;
    later(60).await;
    world.done(200, "POST", &format!("{WEBHOOKS}/{destination}/pause"), Value::Null).await;
    world.done(202, "POST", &format!("/v1/event_history/{run}/resend"), Value::Null).await;
    let before = ["FAILED 22:13:21", "QUEUED 22:13:20", "CREATE 22:13:20"];
    let queued: Vec<_> = ["QUEUED 22:14:20"].into_iter().chain(before).collect();
    assert_eq!(told().await, queued, "it waits for the destination");
    later(3600).await;
    world.done(200, "POST", &format!("{WEBHOOKS}/{destination}/resume"), Value::Null).await;
    attempt(2, 3660, Outcome::Succeeded, store::op::Next::Succeeded).await;
    let sent: Vec<_> = ["SUCCESS 23:14:21"].into_iter().chain(queued).collect();
    assert_eq!(told().await, sent);
    let shown = world.get(&format!("/v1/deliveries/{delivery}")).await.json()["attempts"][1].clone();
    assert_eq!(
        (&shown["trigger"], &shown["due_at"], &shown["started_at"]),
        (&json!("manual"), &json!("2023-11-14T22:14:20.000Z"), &json!("2023-11-14T23:14:20.000Z"))
    );
}
