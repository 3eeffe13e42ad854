//! Source 002 as its own client sees it: the calls of the document in its order, against the real daemon, and what its webhooks
//! receive. Bounds, roles and foreign ids of the same routes are held in `src/api/tests`.

mod harness;

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use harness::{Admin, Home, Message, Reaction, Receiver, wait_for};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const WEBHOOKS: &str = "/v1/destinations/webhook";
const CONFIRMATION: &str = "webhook.confirmation";

/// A home whose lanes are not shut by a receiver that fails for a while.
fn home(further: &str) -> Home {
    Home::new(&format!("[delivery]\nbreaker_failures = 1_000_000\n{further}"))
}

/// A receiver that keeps what comes and reacts as it is told at the moment, to confirmations and to everything else.
struct Shop {
    receiver: Receiver,
    kept: Arc<Mutex<Vec<Message>>>,
    to_confirmations: Arc<AtomicU16>,
    to_others: Arc<AtomicU16>,
}

/// In the place of a status: answers with the request's body.
const ECHO: u16 = 1;

impl Shop {
    fn open(to_confirmations: u16) -> Shop {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (asked, others) = (Arc::new(AtomicU16::new(to_confirmations)), Arc::new(AtomicU16::new(200)));
        let receiver = {
            let (kept, asked, others) = (Arc::clone(&kept), Arc::clone(&asked), Arc::clone(&others));
            Receiver::start(move |message| {
                let about = if message.header("x-webhook-event") == CONFIRMATION { &asked } else { &others };
                let reaction = match about.load(Ordering::SeqCst) {
                    ECHO => Reaction::Echo,
                    status => Reaction::Answer(status),
                };
                kept.lock().unwrap().push(message.clone());
                reaction
            })
        };
        Shop { receiver, kept, to_confirmations: asked, to_others: others }
    }

    /// What has come to a path, about this type.
    fn got(&self, path: &str, kind: &str) -> Vec<Message> {
        let is_it = |message: &&Message| message.path() == path && message.header("x-webhook-event") == kind;
        self.kept.lock().unwrap().iter().filter(is_it).cloned().collect()
    }

    fn wait_for(&self, path: &str, kind: &str, count: usize) -> Vec<Message> {
        wait_for(&format!("{count} of {kind} at {path}"), || {
            let got = self.got(path, kind);
            (got.len() >= count).then_some(got)
        })
    }
}

fn wanted(shop: &Shop, path: &str, further: Value) -> Value {
    let retry = json!({"delays": ["10ms"], "attempts_max": 1000, "jitter": 0});
    let mut wanted = json!({"name": "My Webhook", "http_endpoint_url": shop.receiver.url(path), "retry": retry});
    wanted.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    wanted
}

fn create(admin: &Admin, wanted: &Value) -> Value {
    let (status, made) = admin.call("POST", WEBHOOKS, Some(wanted)).unwrap();
    assert_eq!(status, 201, "{made}");
    made
}

fn path_of(webhook: &Value) -> String {
    format!("{WEBHOOKS}/{}", text(&webhook["id"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn subscribe(admin: &Admin, kind: &str, webhooks: &[&Value]) -> String {
    let ids: Vec<_> = webhooks.iter().map(|webhook| &webhook["id"]).collect();
    let made = admin.must("POST", &format!("/v1/subscriptions/{kind}"), Some(&json!({"destinations": ids})));
    format!("/v1/subscriptions/{kind}/{}", text(&made["id"]))
}

fn wait_until_confirmed(admin: &Admin, path: &str) {
    wait_for("the webhook to be confirmed", || (admin.must("GET", path, None)["confirmed"] == true).then_some(()));
}

fn emit(admin: &Admin, kind: &str) -> (String, u64) {
    let made = admin.must("POST", "/v1/events", Some(&json!({"type": kind, "data": {"amount": "5.00"}})));
    (text(&made["id"]), made["deliveries"].as_u64().unwrap())
}

/// Lower-case hex HMAC-SHA256, by none of the product's own code.
fn hex_hmac(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The secret that a create shows.
fn secret(made: &Value) -> String {
    text(&made["signature"][0]["secret"])
}

/// S2.1, S2.2, S2.5, S2.9, S2.12, S2.22, S2.23, S2.24, S2.30, S2.31, S2.34, S2.37, S2.38, S2.40, S2.42, S2.45, S2.66, and D13 for
/// S2.32, S2.39, S2.41, S2.47: the document's own calls, in its order, with its bodies, are answered with its statuses.
#[test]
fn the_calls_of_the_document_are_answered_as_it_says() {
    let (home, shop) = (home(""), Shop::open(500));
    let (_daemon, admin) = (home.start(), home.admin());
    assert_eq!(admin.must("GET", "/v1/destinations", None), json!({"urls": [WEBHOOKS]}));
    assert_eq!(admin.must("GET", &format!("{WEBHOOKS}?limit=10&offset=0"), None)["webhook"], json!([]));

    let body = json!({
        "name": "My Webhook",
        "description": "Production webhook endpoint",
        "http_endpoint_url": shop.receiver.url("/webhook"),
        "method": "POST",
        "headers": {"Authorization": "Bearer my-secret-token"},
    });
    let made = create(&admin, &body);
    let path = path_of(&made);
    let shown = json!({
        "id": made["id"], "name": "My Webhook", "description": "Production webhook endpoint",
        "http_endpoint_url": body["http_endpoint_url"], "method": "POST", "headers": {"Authorization": "***"},
        "confirmed": false, "disabled": false, "created": made["created"],
    });
    let is_shown = |answer: &Value, shown: &Value| {
        for (field, value) in shown.as_object().unwrap() {
            assert_eq!(&answer[field], value, "{field}");
        }
    };
    is_shown(&made, &shown);
    assert_eq!(made["url"], path);
    let listed = admin.must("GET", &format!("{WEBHOOKS}?limit=10&offset=0"), None);
    is_shown(&listed["webhook"][0], &shown);
    let read = admin.must("GET", &path, None);
    is_shown(&read, &shown);
    assert!(read.get("url").is_none());
    // D11: a header's value is sent, and not shown again.
    assert_eq!(shop.wait_for("/webhook", CONFIRMATION, 1)[0].header("authorization"), "Bearer my-secret-token");

    let change = json!({"name": "Updated Webhook Name", "description": "Updated description", "disabled": false});
    let mut changed = shown.clone();
    changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    is_shown(&admin.must("PUT", &path, Some(&change)), &changed);

    let (status, answer) = admin.call("POST", &format!("{path}/confirm"), None).unwrap();
    let queued = json!({"status": "success", "message": "Confirmation event queued for webhook"});
    assert_eq!((status, answer), (200, queued));
    assert_eq!(admin.call("DELETE", &path, None).unwrap(), (204, Value::Null));

    let unknown = format!("{WEBHOOKS}/9603F4B2-1874-42FE-A2BC-F7B45C45A9D6");
    for (method, below) in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/confirm")] {
        let empty = (method == "PUT").then(|| json!({}));
        for (path, status) in [(&path, 404), (&unknown, 404), (&format!("{WEBHOOKS}/not-a-uuid"), 400)] {
            let answered = admin.call(method, &format!("{path}{below}"), empty.as_ref()).unwrap();
            assert_eq!(answered.0, status, "{method} {path}{below}: {}", answered.1);
        }
    }
    assert_eq!(admin.call("POST", WEBHOOKS, Some(&json!({"name": ""}))).unwrap().0, 400);
}

/// S2.43, S2.44, S2.46, S2.54, S2.68, decisions D22 and D24: the request goes through the ordinary queue at creation, signed; it is
/// tried again; until a success nothing else is queued, and the event's record says so; from then on events are.
#[test]
fn a_webhook_gets_no_event_before_it_has_confirmed() {
    let (home, shop) = (home(""), Shop::open(500));
    let (_daemon, admin) = (home.start(), home.admin());
    let made = create(&admin, &wanted(&shop, "/in", json!({})));
    let path = path_of(&made);
    subscribe(&admin, "transaction", &[&made]);
    let request = shop.wait_for("/in", CONFIRMATION, 2).remove(1);
    assert_eq!(request.header("x-webhook-signature"), hex_hmac(&secret(&made), &request.body));
    let data: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(data["destination_id"], made["id"]);
    assert_eq!(text(&data["challenge"]).len(), 32);

    let (early, deliveries) = emit(&admin, "transaction");
    assert_eq!(deliveries, 0);
    let skipped = &admin.must("GET", &format!("/v1/events/{early}"), None)["skipped"];
    assert_eq!(*skipped, json!([{"destination_id": made["id"], "reason": "unconfirmed"}]));

    admin.must("POST", &format!("{path}/confirm"), None);
    shop.to_confirmations.store(204, Ordering::SeqCst);
    wait_until_confirmed(&admin, &path);
    // The newest first. The other one made room for it, at most with an attempt that was under way.
    let rows = admin.list("/v1/deliveries", "deliveries");
    assert_eq!((rows.len(), &rows[0]["state"]), (2, &json!("succeeded")));
    assert!(["cancelled", "succeeded"].contains(&rows[1]["state"].as_str().unwrap()));
    let attempts = rows.iter().flat_map(|row| row["attempts"].as_array().unwrap());
    assert!(attempts.clone().count() >= 2 && attempts.into_iter().all(|attempt| attempt["trigger"] == "confirmation"));

    let (event, deliveries) = emit(&admin, "transaction");
    assert_eq!(deliveries, 1);
    assert_eq!(shop.wait_for("/in", "transaction", 1)[0].header("x-webhook-id"), event);
}

/// Decision D22, mode `echo`: a success alone does not confirm; a reply that contains the challenge does.
#[test]
fn an_echo_confirms_where_one_is_asked_for() {
    let (home, shop) = (home("[confirmation]\nmode = \"echo\"\n"), Shop::open(200));
    let (_daemon, admin) = (home.start(), home.admin());
    let success = json!({"success": {"status": ["200"], "body": {"equals": "ok"}}});
    let made = create(&admin, &wanted(&shop, "/in", success));
    let path = path_of(&made);
    shop.wait_for("/in", CONFIRMATION, 3);
    assert_eq!(admin.must("GET", &path, None)["confirmed"], false);
    let reasons = &admin.list("/v1/deliveries", "deliveries")[0]["attempts"];
    assert_eq!((&reasons[0]["status"], &reasons[0]["reason"]), (&json!(200), &json!("predicate")));
    shop.to_confirmations.store(ECHO, Ordering::SeqCst);
    wait_until_confirmed(&admin, &path);
}

/// Decision D22, mode `off`, and S2.19: nobody is asked, unless the creator says so.
#[test]
fn nobody_is_asked_in_the_mode_off() {
    let (home, shop) = (home("[confirmation]\nmode = \"off\"\n"), Shop::open(200));
    let (_daemon, admin) = (home.start(), home.admin());
    let made = create(&admin, &wanted(&shop, "/in", json!({})));
    assert_eq!(made["confirmed"], true);
    let said = create(&admin, &wanted(&shop, "/said", json!({"confirmed": false})));
    assert_eq!(said["confirmed"], false);
    wait_until_confirmed(&admin, &path_of(&said));
    let moved = json!({"http_endpoint_url": shop.receiver.url("/moved")});
    assert_eq!(admin.must("PUT", &path_of(&made), Some(&moved))["confirmed"], true);
    assert_eq!(admin.list("/v1/deliveries", "deliveries").len(), 1, "one was asked, as its creator said");
}

/// Decision D14: after a change of the URL events wait, held as unconfirmed, also over a restart of the daemon; the request passes
/// them and goes to the new URL, and its success lets them go.
#[test]
fn after_a_change_of_its_url_a_webhooks_events_wait_for_its_confirmation() {
    let (home, shop) = (home(""), Shop::open(500));
    let (daemon, admin) = (home.start(), home.admin());
    let made = create(&admin, &wanted(&shop, "/old", json!({"confirmed": true})));
    let path = path_of(&made);
    subscribe(&admin, "transaction", &[&made]);
    let moved = admin.must("PUT", &path, Some(&json!({"http_endpoint_url": shop.receiver.url("/new")})));
    assert_eq!(moved["confirmed"], false);
    let events: Vec<_> = (0..3).map(|_| emit(&admin, "transaction")).collect();
    assert!(events.iter().all(|(_, deliveries)| *deliveries == 1));
    let held = admin.must("GET", "/v1/deliveries?state=held", None);
    let held = held["deliveries"].as_array().unwrap();
    assert_eq!(held.len(), 3);
    assert!(held.iter().all(|row| row["waiting_reason"] == "unconfirmed"), "{held:?}");
    shop.wait_for("/new", CONFIRMATION, 1);

    assert_eq!(daemon.stop().code(), Some(0));
    let before = shop.got("/new", CONFIRMATION).len();
    let _daemon = home.start();
    shop.wait_for("/new", CONFIRMATION, before + 2);
    assert_eq!(shop.got("/new", "transaction").len(), 0);
    shop.to_confirmations.store(200, Ordering::SeqCst);
    wait_until_confirmed(&admin, &path);
    let ids: Vec<_> =
        shop.wait_for("/new", "transaction", 3).iter().map(|it| it.header("x-webhook-id").to_owned()).collect();
    assert!(events.iter().all(|(id, _)| ids.contains(id)), "{ids:?}");
    assert_eq!(shop.kept.lock().unwrap().iter().filter(|message| message.path() == "/old").count(), 0);
}

/// S2.10, S2.11, S2.16, S2.48, S2.49, S2.50, S2.51, S2.52, S2.53, S2.54, S2.55, S2.56, S2.57, S2.58, S2.67: a test event is a sample of the
/// subscription's type, to all of its webhooks that are confirmed and not disabled, as POST or PUT, signed as live events are.
#[test]
fn a_test_event_is_a_signed_sample_to_all_confirmed_webhooks_of_its_subscription() {
    let (home, shop) = (home(""), Shop::open(500));
    let (_daemon, admin) = (home.start(), home.admin());
    let make = |path: &str, further: Value| create(&admin, &wanted(&shop, path, further));
    let posted = make("/post", json!({"confirmed": true}));
    let put = make("/put", json!({"confirmed": true, "method": "PUT", "format": "notification"}));
    let unconfirmed = make("/unconfirmed", json!({}));
    let disabled = make("/disabled", json!({"confirmed": true, "disabled": true}));
    let linked = [&posted, &put, &unconfirmed, &disabled];
    let _other = make("/other", json!({"confirmed": true}));

    for kind in
        ["transaction", "merchant_ach_funding_item", "merchant_card_funding_group", "merchant_card_funding_item"]
    {
        let path = subscribe(&admin, kind, &linked);
        let (status, answer) = admin.call("POST", &format!("{path}/test"), None).unwrap();
        assert_eq!((status, &answer["type"], &answer["deliveries"]), (202, &json!(kind), &json!(2)), "{answer}");
        let (first, second) = (shop.wait_for("/post", kind, 1).remove(0), shop.wait_for("/put", kind, 1).remove(0));
        assert!(first.start.starts_with("POST ") && second.start.starts_with("PUT "));
        for (message, webhook) in [(&first, &posted), (&second, &put)] {
            assert_eq!(message.header("x-webhook-signature"), hex_hmac(&secret(webhook), &message.body), "{kind}");
            assert_eq!(message.header("content-type"), "application/json");
            assert_eq!(answer["id"], message.header("x-webhook-id"));
        }
        let sample: Value = serde_json::from_slice(&first.body).unwrap();
        let wrapped: Value = serde_json::from_slice(&second.body).unwrap();
        assert_eq!((&wrapped["data"], &wrapped["type"]), (&json!([sample]), &json!(kind)));
        let event = admin.must("GET", &format!("/v1/events/{}", text(&answer["id"])), None);
        let skipped = [(&unconfirmed, "unconfirmed"), (&disabled, "disabled")]
            .map(|(webhook, reason)| json!({"destination_id": webhook["id"], "reason": reason}));
        assert_eq!(event["skipped"], json!(skipped));
        let rows = wait_for("the outcomes", || {
            let rows = admin.list(&format!("/v1/events/{}/deliveries", text(&answer["id"])), "deliveries");
            rows.iter().all(|row| row["state"] == "succeeded").then_some(rows)
        });
        assert!(rows.iter().all(|row| row["attempts"][0]["trigger"] == "test"));
        assert_eq!(admin.call("POST", &format!("{path}/test/x"), None).unwrap().0, 404);
    }
    for path in ["/unconfirmed", "/disabled", "/other"] {
        let is_it = |message: &&Message| message.path() == path && message.header("x-webhook-event") != CONFIRMATION;
        assert_eq!(shop.kept.lock().unwrap().iter().filter(is_it).count(), 0, "{path}");
    }
}

/// One webhook is tested with a sample, or with what the caller says; who is unconfirmed or disabled is not.
#[test]
fn one_webhook_is_tested_with_what_the_caller_says() {
    let (home, shop) = (home(""), Shop::open(500));
    let (_daemon, admin) = (home.start(), home.admin());
    let webhook = create(&admin, &wanted(&shop, "/in", json!({"confirmed": true})));
    let path = format!("{}/test", path_of(&webhook));
    assert_eq!(admin.must("POST", &path, None)["type"], "webhook.test");
    shop.wait_for("/in", "webhook.test", 1);
    admin.must("POST", &path, Some(&json!({"type": "own.type", "data": {"a": [1, null]}})));
    assert_eq!(shop.wait_for("/in", "own.type", 1)[0].body, br#"{"a":[1,null]}"#);
    for (wrong, pointer) in [(json!({"type": "a b"}), "/type"), (json!({"kind": "a"}), "/kind")] {
        let (status, problem) = admin.call("POST", &path, Some(&wrong)).unwrap();
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!(pointer)));
    }
    for further in [json!({"confirmed": false}), json!({"confirmed": true, "disabled": true})] {
        let webhook = create(&admin, &wanted(&shop, "/no", further));
        assert_eq!(admin.call("POST", &format!("{}/test", path_of(&webhook)), None).unwrap().0, 409);
    }
}

/// S2.59, S2.60, S2.62, S2.64, SX.2, SX.3: what is not answered with a 2xx is tried again, with the same id and the attempts until then,
/// and each body carries its own signature.
#[test]
fn each_attempt_tells_of_those_before_it_and_is_signed_by_itself() {
    let (home, shop) = (home(""), Shop::open(200));
    let (_daemon, admin) = (home.start(), home.admin());
    let webhook = create(&admin, &wanted(&shop, "/in", json!({"confirmed": true, "format": "notification"})));
    subscribe(&admin, "transaction", &[&webhook]);
    shop.to_others.store(503, Ordering::SeqCst);
    let (event, _) = emit(&admin, "transaction");
    shop.wait_for("/in", "transaction", 3);
    shop.to_others.store(200, Ordering::SeqCst);
    let row = wait_for("the delivery to succeed", || {
        let row = admin.list(&format!("/v1/events/{event}/deliveries"), "deliveries").remove(0);
        (row["state"] == "succeeded").then_some(row)
    });
    let recorded = row["attempts"].as_array().unwrap();
    let got = shop.got("/in", "transaction");
    assert_eq!(got.len(), recorded.len());
    let mut ids = Vec::new();
    for (place, message) in got.iter().enumerate() {
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let told: Vec<_> = recorded[..=place]
            .iter()
            .map(|attempt| json!({"attempt": attempt["number"], "timestamp": attempt["started_at"]}))
            .collect();
        assert_eq!(body["attempts"], json!(told));
        assert_eq!(body["data"], json!([{"amount": "5.00"}]));
        assert_eq!(message.header("x-webhook-signature"), hex_hmac(&secret(&webhook), &message.body));
        ids.push((body["id"].clone(), body["timestamp"].clone()));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = uuid::Uuid::parse_str(ids[0].0.as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 8);
}
