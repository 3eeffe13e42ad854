//! Source 003 as its own client sees it: its four calls, against the real daemon, and what the subscribed URL receives. Roles and
//! foreign tenants on the same routes are held in `src/api/tests`.

mod harness;

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use harness::{Admin, Daemon, Home, Message, Reaction, Receiver, wait_for};
use serde_json::{Value, json};

const PATH: &str = "/webhooks/subscribe/acme";

/// Retries come at once, and a receiver that fails is tried on.
const QUICK: &str = "[delivery]\nbreaker_failures = 1_000_000\nschedule = \"quick\"\n\
                     [schedules]\nquick = { delays = [\"10ms\"], attempts_max = 2, jitter = 0.0 }\n";
/// Retries come at no time that a test sees.
const LATE: &str = "[delivery]\nbreaker_failures = 1_000_000\nschedule = \"late\"\n\
                    [schedules]\nlate = { delays = [\"10ms\", \"1h\"], attempts_max = 2, jitter = 0.0 }\n";

/// A daemon with a tenant and its key, which stands in `x-api-key` and nowhere else.
struct Client {
    admin: Admin,
    key: String,
    home: Home,
    _daemon: Daemon,
}

impl Client {
    fn start(further: &str) -> Client {
        let home = Home::new(further);
        let (daemon, admin) = (home.start(), home.admin());
        admin.must("POST", "/v1/tenants", Some(&json!({"id": "acme"})));
        let key = key(&admin, "operate", "acme");
        Client { admin, key, home, _daemon: daemon }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Message {
        let body = (!body.is_null()).then_some(body);
        self.admin.exchange(&[("x-api-key", &self.key)], method, path, body).unwrap()
    }

    fn must(&self, status: u16, method: &str, body: &Value) -> Message {
        let answer = self.call(method, PATH, body);
        assert_eq!(answer.status(), status, "{method}: {}", String::from_utf8_lossy(&answer.body));
        answer
    }

    fn emit(&self, data: &str) -> String {
        let line = format!("{{\"type\":\"transaction.status_updated\",\"tenant\":\"acme\",\"data\":{data}}}\n");
        let mut stream = std::os::unix::net::UnixStream::connect(self.home.ingest_socket()).unwrap();
        std::io::Write::write_all(&mut stream, line.as_bytes()).unwrap();
        let mut reply = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut reply).unwrap();
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["ok"], true, "{reply}");
        reply["id"].as_str().unwrap().to_owned()
    }

    /// The deliveries in a state.
    fn deliveries(&self, state: &str) -> Vec<Value> {
        let list =
            self.admin.exchange(&[("x-tenant", "acme")], "GET", "/v1/deliveries?limit=100", None).unwrap().json();
        list["deliveries"].as_array().unwrap().iter().filter(|delivery| delivery["state"] == state).cloned().collect()
    }
}

fn key(admin: &Admin, role: &str, tenant: &str) -> String {
    let made = admin.must("POST", "/v1/keys", Some(&json!({"role": role, "tenant": tenant, "name": "k"})));
    made["secret"].as_str().unwrap().to_owned()
}

/// What answers with the status that it is told, and keeps what came.
struct Shop {
    receiver: Receiver,
    kept: Arc<Mutex<Vec<Message>>>,
    answers: Arc<AtomicU16>,
}

impl Shop {
    fn open(status: u16) -> Shop {
        let (kept, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU16::new(status)));
        let receiver = {
            let (kept, answers) = (Arc::clone(&kept), Arc::clone(&answers));
            Receiver::start(move |message| {
                kept.lock().unwrap().push(message.clone());
                Reaction::Answer(answers.load(Ordering::SeqCst))
            })
        };
        Shop { receiver, kept, answers }
    }

    fn got(&self) -> Vec<Message> {
        self.kept.lock().unwrap().clone()
    }

    fn wait_for(&self, count: usize) -> Vec<Message> {
        wait_for(&format!("{count} notifications"), || Some(self.got()).filter(|got| got.len() >= count))
    }
}

fn wanted(url: &str, retries: i64) -> Value {
    json!({"webhook_url": url, "retry_attempts": retries})
}

/// S3.1, S3.3, S3.5, S3.6, S3.7, S3.12, S3.14, S3.15, S3.16, S3.25 with D16 and D17: the four calls in the order in which a
/// client makes them, each with the status and the body that the document names.
#[test]
fn the_calls_of_the_document_are_answered_as_it_says() {
    let client = Client::start("");
    for (method, body) in [("GET", Value::Null), ("PUT", wanted("https://a.example/", 1)), ("DELETE", Value::Null)] {
        assert_eq!(client.must(404, method, &body).json()["code"], "not_found", "{method}");
    }
    let first = json!({"tenant_id": "acme", "webhook_url": "https://hooks.example.com/status", "retry_attempts": 3});
    let made = client.must(201, "POST", &wanted("https://hooks.example.com/status", 3));
    assert_eq!((made.json(), made.header("location")), (first.clone(), PATH));
    let shown = client.must(200, "GET", &Value::Null);
    assert_eq!((shown.json(), shown.header("content-type")), (first, "application/json"));
    let again = client.must(409, "POST", &wanted("https://other.example.com/", 1));
    assert_eq!(again.json()["code"], "conflict");

    let second = json!({"tenant_id": "acme", "webhook_url": "https://hooks.example.com/v2", "retry_attempts": 0});
    let changed = client.must(200, "PUT", &wanted("https://hooks.example.com/v2", 0));
    assert_eq!((changed.json(), changed.header("content-type")), (second.clone(), "application/json"));
    assert_eq!(client.must(200, "GET", &Value::Null).json(), second);
    assert_eq!(client.must(200, "DELETE", &Value::Null).body, b"");
    for method in ["GET", "DELETE"] {
        client.must(404, method, &Value::Null);
    }
    client.must(201, "POST", &wanted("https://hooks.example.com/third", 5));
}

/// S3.9, S3.10, S3.11, S3.13: both fields are required, in both calls; what is wrong is a 400 that points at it.
#[test]
fn a_body_is_taken_whole_or_refused_with_the_reason() {
    let client = Client::start("");
    client.must(201, "POST", &wanted("https://hooks.example.com/status", 3));
    let url = "https://hooks.example.com/status";
    let table = [
        (json!({"webhook_url": url}), "/retry_attempts"),
        (json!({"retry_attempts": 3}), "/webhook_url"),
        (json!({"webhook_url": null, "retry_attempts": 3}), "/webhook_url"),
        (wanted("", 3), "/webhook_url"),
        (wanted("not a url", 3), "/webhook_url"),
        (wanted("ftp://hooks.example.com/", 3), "/webhook_url"),
        (wanted("https://169.254.169.254/latest", 3), "/webhook_url"),
        (wanted(url, -1), "/retry_attempts"),
        (wanted(url, 101), "/retry_attempts"),
        (json!({"webhook_url": url, "retry_attempts": "3"}), "/retry_attempts"),
        (json!({"webhook_url": url, "retry_attempts": 1.5}), "/retry_attempts"),
        (json!({"webhook_url": url, "retry_attempts": 3, "events": []}), "/events"),
    ];
    for method in ["POST", "PUT"] {
        for (body, pointer) in &table {
            let problem = client.must(400, method, body);
            assert_eq!(problem.header("content-type"), "application/problem+json");
            assert_eq!(problem.json()["errors"][0]["pointer"], *pointer, "{method} {body}: {}", problem.json());
        }
    }
    for retries in [0, 100] {
        assert_eq!(client.must(200, "PUT", &wanted(url, retries)).json()["retry_attempts"], retries);
    }
}

/// S3.4: a key acts for its own tenant; another tenant is to it as one that does not exist.
#[test]
fn a_key_does_not_act_for_another_tenant() {
    let client = Client::start("");
    client.admin.must("POST", "/v1/tenants", Some(&json!({"id": "other"})));
    let subscribe = wanted("https://hooks.example.com/status", 3);
    client.must(201, "POST", &subscribe);
    let foreign = key(&client.admin, "admin", "other");
    let as_other = |method: &str, path: &str| {
        let body = matches!(method, "POST" | "PUT").then_some(&subscribe);
        client.admin.exchange(&[("x-api-key", &foreign)], method, path, body).unwrap()
    };
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let [refused, unknown] = [PATH, "/webhooks/subscribe/nobody"]
            .map(|path| (as_other(method, path).status(), as_other(method, path).json()["detail"].clone()));
        assert_eq!(refused, (404, json!("there is no such tenant")), "{method}");
        assert_eq!(refused, unknown, "{method}");
        let wrong = client.admin.exchange(&[("x-api-key", "prk_nonsense")], method, PATH, None).unwrap();
        assert_eq!(wrong.status(), 401, "{method}");
    }
    assert_eq!(client.must(200, "GET", &Value::Null).json()["retry_attempts"], 3);
    assert_eq!(as_other("POST", "/webhooks/subscribe/other").status(), 201, "each tenant has its own");
}

/// S3.2, S3.8, S3.18, S3.19, S3.20, S3.21, S3.22, S3.23, S3.24, S3.26: whenever a status changes it is posted to the URL, with the
/// fields of the document as the producer wrote them; a 200 ends it; what tells two notifications apart is in a header.
#[test]
fn a_status_change_is_posted_as_the_producer_wrote_it() {
    let (client, shop) = (Client::start(""), Shop::open(200));
    client.must(201, "POST", &wanted(&shop.receiver.url("/status"), 3));
    let required =
        r#"{ "transaction_id":"tx-1", "status":"PENDING", "updated_at":"2026-01-31T09:30:00Z", "tenant_id":"acme" }"#;
    let whole = r#"{"transaction_id":"tx-1","status":"PAID","updated_at":"2026-01-31T09:31:00Z","tenant_id":"acme","sender_id":"s-1","beneficiary_id":"b-1","corridor_id":"c-1","payout_method_id":"p-1"}"#;
    let (first, second) = (client.emit(required), client.emit(whole));
    let got = shop.wait_for(2);
    for (id, data) in [(&first, required), (&second, whole)] {
        let message = got.iter().find(|message| message.header("x-webhook-id") == id).unwrap();
        assert_eq!(message.start, "POST /status HTTP/1.1");
        assert_eq!(message.body, data.as_bytes(), "not a byte is another one");
        assert_eq!(message.header("content-type"), "application/json");
    }
    wait_for("both to succeed", || (client.deliveries("succeeded").len() == 2).then_some(()));
    assert_eq!(shop.got().len(), 2);
}

/// S3.11: `retry_attempts` counts the attempts after the first: none of them for 0.
#[test]
fn a_failed_delivery_is_retried_as_often_as_was_asked() {
    let (client, shop) = (Client::start(QUICK), Shop::open(500));
    client.must(201, "POST", &wanted(&shop.receiver.url("/status"), 3));
    let id = client.emit(r#"{"transaction_id":"tx-1"}"#);
    wait_for("the first to be given up", || (client.deliveries("failed").len() == 1).then_some(()));
    let attempts: Vec<_> = shop.got().iter().map(|message| message.header("x-webhook-attempt").to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3", "4"]);
    assert!(shop.got().iter().all(|message| message.header("x-webhook-id") == id), "one id for all attempts");
    client.must(200, "PUT", &wanted(&shop.receiver.url("/status"), 0));
    client.emit(r#"{"transaction_id":"tx-2"}"#);
    wait_for("the second to be given up", || (client.deliveries("failed").len() == 2).then_some(()));
    assert_eq!(shop.got().len(), 5, "a single attempt");
}

/// S3.15, S3.17: after a deletion the tenant hears nothing more, also not what waited for its retry.
#[test]
fn a_deletion_ends_what_waits() {
    let (client, shop) = (Client::start(LATE), Shop::open(500));
    client.must(201, "POST", &wanted(&shop.receiver.url("/status"), 9));
    client.emit(r#"{"transaction_id":"tx-1"}"#);
    shop.wait_for(2);
    let waiting = client.deliveries("pending").pop().unwrap();
    let path = format!("/v1/deliveries/{}", waiting["id"].as_str().unwrap());
    wait_for("the next retry to wait", || {
        (client.admin.must("GET", &path, None)["attempts"][1]["status"] == 500).then_some(())
    });
    client.must(200, "DELETE", &Value::Null);
    let ended = wait_for("the retry to be cancelled", || client.deliveries("cancelled").pop());
    shop.answers.store(200, Ordering::SeqCst);
    let unheard = client.emit(r#"{"transaction_id":"tx-2"}"#);
    let deliveries = client.admin.must("GET", &format!("/v1/events/{unheard}/deliveries"), None);
    assert_eq!(deliveries["deliveries"], json!([]));
    let resend = format!("/v1/deliveries/{}/resend", ended["id"].as_str().unwrap());
    assert_eq!(client.admin.call("POST", &resend, None).unwrap().0, 409, "there is nobody to send it to");
    assert_eq!(shop.got().len(), 2);
}

/// A restart keeps a subscription, and what was made through the dialect is ordinary: its parts are seen, changed and deleted
/// through the native API, and the dialect shows the change.
#[test]
fn what_is_subscribed_is_an_ordinary_destination_and_survives_a_restart() {
    let client = Client::start("");
    client.must(201, "POST", &wanted("https://hooks.example.com/status", 3));
    let Client { admin, key, home, _daemon: daemon } = client;
    assert!(daemon.stop().success());
    let client = Client { _daemon: home.start(), admin, key, home };
    let native = |method: &str, path: &str, body: Value| {
        client
            .admin
            .exchange(&[("x-tenant", "acme")], method, path, Some(&body).filter(|body| !body.is_null()))
            .unwrap()
    };
    let list = native("GET", "/v1/subscriptions/transaction.status_updated", Value::Null).json();
    let destination = list["subscriptions"][0]["destinations"][0].as_str().unwrap().to_owned();
    let path = format!("/v1/destinations/webhook/{destination}");
    let shown = native("GET", &path, Value::Null).json();
    assert_eq!(
        (&shown["http_endpoint_url"], &shown["confirmed"]),
        (&json!("https://hooks.example.com/status"), &json!(true))
    );
    let change = json!({"http_endpoint_url": "https://hooks.example.com/moved", "retry": {"schedule": "console-72h"}});
    assert_eq!(native("PUT", &path, change).status(), 200);
    let seen = json!({"tenant_id": "acme", "webhook_url": "https://hooks.example.com/moved", "retry_attempts": 35});
    assert_eq!(client.must(200, "GET", &Value::Null).json(), seen);
    assert_eq!(native("DELETE", &path, Value::Null).status(), 204);
    client.must(404, "GET", &Value::Null);
    let list = native("GET", "/v1/subscriptions/transaction.status_updated", Value::Null).json();
    assert_eq!(list["subscriptions"], json!([]));
    client.must(201, "POST", &wanted("https://hooks.example.com/status", 3));
}

/// The configuration switches the dialect off: then there is no such path.
#[test]
fn a_dialect_that_is_off_is_not_there() {
    let client = Client::start("[dialects.subscribe]\nenabled = false\n");
    let refused = client.must(404, "GET", &Value::Null);
    assert_eq!(refused.json()["detail"], "no such path");
    assert_eq!(client.call("GET", "/api/acme/webhooks", &Value::Null).json(), json!([]));
}
