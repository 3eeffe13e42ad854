//! Source 000 as its own client sees it: the calls of the document in its order with its bodies, against the real daemon, and
//! what the subscribed endpoints receive. Roles and foreign tenants on the same routes are held in `src/api/tests`.

mod harness;

use std::sync::{Arc, Mutex};

use harness::{Admin, Daemon, Home, Message, Reaction, Receiver, wait_for};
use serde_json::{Value, json};

const WEBHOOKS: &str = "/api/acme/webhooks";

/// A daemon with a tenant and its key, which stands in the two headers of the document and nowhere else.
struct Client {
    admin: Admin,
    key_id: String,
    key_value: String,
    home: Home,
    _daemon: Daemon,
}

impl Client {
    fn start(further: &str) -> Client {
        Client::start_in(further, &[])
    }

    fn start_in(further: &str, environment: &[(&str, &str)]) -> Client {
        let home = Home::new(&format!("[delivery]\nbreaker_failures = 1_000_000\n{further}"));
        let mut daemon = home.spawn_in(environment);
        home.wait_until_ready(&mut daemon);
        let admin = home.admin();
        admin.must("POST", "/v1/tenants", Some(&json!({"id": "acme"})));
        let key = admin.must("POST", "/v1/keys", Some(&json!({"role": "operate", "tenant": "acme", "name": "k"})));
        let (key_id, key_value) = (text(&key["id"]), text(&key["secret"]));
        Client { admin, key_id, key_value, home, _daemon: daemon }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Message {
        let key = [("x-AuthenticationKeyId", &*self.key_id), ("x-AuthenticationKeyValue", &*self.key_value)];
        self.admin.exchange(&key, method, path, Some(body).filter(|body| !body.is_null())).unwrap()
    }

    fn must(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status(), status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    fn list(&self) -> Value {
        self.must(200, "GET", WEBHOOKS, &Value::Null)
    }

    /// Orders something, and waits until it is done.
    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let accepted = self.must(200, method, path, body);
        let lookup = format!("/api/acme/commands/{}", text(&accepted["commandFingerprint"]));
        let ended = wait_for("the command to end", || {
            Some(self.must(200, "GET", &lookup, &Value::Null)).filter(|command| command["status"] != 0)
        });
        assert_eq!(ended["status"], 1, "{ended}");
        ended
    }

    fn emit(&self, kind: &str, data: Value) -> Value {
        let event = json!({"type": kind, "tenant": "acme", "data": data});
        self.admin.must("POST", "/v1/events", Some(&event))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn shared(kind: u32, url: &str, secret: &str) -> Value {
    json!({"Type": kind, "DestinationURL": url, "AuthenticationMethod": {"Method": 1, "SharedSecret": secret}})
}

fn basic(kind: u32, url: &str) -> Value {
    let method = json!({"Method": 0, "Username": "your-username", "Password": "your-password"});
    json!({"Type": kind, "DestinationURL": url, "AuthenticationMethod": method})
}

/// What keeps what comes, and fails at `/down`.
fn receiver() -> (Receiver, Arc<Mutex<Vec<Message>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let receiver = Receiver::start(move |message: &Message| {
        keep.lock().unwrap().push(message.clone());
        Reaction::Answer(if message.path().starts_with("/down") { 302 } else { 204 })
    });
    (receiver, kept)
}

/// ISO 8601 with milliseconds, in UTC.
fn is_time(value: &Value) -> bool {
    let shape: String = text(value).chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

/// S0.3, S0.7, S0.15, S0.17, S0.21, S0.22, S0.23, S0.26, S0.28, S0.31, S0.33, S0.34, S0.35, S0.36, S0.37, S0.38, S0.39, S0.40, S0.42,
/// S0.43: the document's example is accepted as a command, is looked up, and stands in the list, as it says.
#[test]
fn the_calls_of_the_document_are_answered_as_it_says() {
    let client = Client::start("");
    assert_eq!(client.list(), json!([]));
    let url = "https://your-domain.com/webhooks/funding-deposit-funded";
    let accepted = client.must(200, "POST", WEBHOOKS, &shared(6, url, "your-shared-secret-key"));
    let members: Vec<_> = accepted.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["commandFingerprint", "createTime", "endTime", "error", "message", "status"]);
    assert_eq!(accepted["status"], 0);
    assert!(["endTime", "error", "message"].iter().all(|member| accepted[*member].is_null()), "{accepted}");
    assert!(is_time(&accepted["createTime"]), "{accepted}");
    let fingerprint = text(&accepted["commandFingerprint"]);
    let shape: Vec<_> = fingerprint.split('-').map(str::len).collect();
    assert_eq!(shape, [8, 4, 4, 4, 12], "a UUID: {fingerprint}");

    let lookup = format!("/api/acme/commands/{fingerprint}");
    let ended = wait_for("the command to end", || {
        Some(client.must(200, "GET", &lookup, &Value::Null)).filter(|command| command["status"] != 0)
    });
    assert_eq!((&ended["status"], &ended["error"]), (&json!(1), &Value::Null));
    assert_eq!(ended["createTime"], accepted["createTime"]);
    assert!(is_time(&ended["endTime"]), "{ended}");
    let row = json!({"id": 1, "type": 6, "destinationURL": url, "authenticationMethod": 1});
    assert_eq!(client.list(), json!([row]));
    let answer = client.call("GET", WEBHOOKS, &Value::Null);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!String::from_utf8(answer.body).unwrap().contains("your-shared-secret-key"));
    for unknown in ["123e4567-e89b-12d3-a456-426614174000", &fingerprint.replace(&fingerprint[30..], "ffffff")] {
        client.must(404, "GET", &format!("/api/acme/commands/{unknown}"), &Value::Null);
    }
    client.must(400, "GET", "/api/acme/commands/7", &Value::Null);
}

/// S0.44, S0.45, S0.46, S0.47 with D5: a tenant's webhooks are listed, reviewed, updated in part and deleted; an update keeps the
/// number and what it does not name, and a deleted webhook's number is not given again.
#[test]
fn webhooks_are_reviewed_updated_and_deleted() {
    let client = Client::start("");
    for kind in 4..=8 {
        client.done("POST", WEBHOOKS, &basic(kind, &format!("https://your-domain.com/{kind}")));
    }
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(&client.list()), [1, 2, 3, 4, 5]);
    let third = format!("{WEBHOOKS}/3");
    let row = json!({"id": 3, "type": 6, "destinationURL": "https://your-domain.com/6", "authenticationMethod": 0});
    assert_eq!(client.must(200, "GET", &third, &Value::Null), row);
    client.done("PUT", &third, &json!({"destinationUrl": "https://your-domain.com/moved"}));
    let mut moved = row.clone();
    moved["destinationURL"] = json!("https://your-domain.com/moved");
    assert_eq!(client.must(200, "GET", &third, &Value::Null), moved);
    let method = json!({"AuthenticationMethod": {"Method": 1, "SharedSecret": "another"}, "TYPE": 8});
    client.done("PUT", &third, &method);
    (moved["type"], moved["authenticationMethod"]) = (json!(8), json!(1));
    assert_eq!(client.list()[2], moved);

    client.done("DELETE", &format!("{WEBHOOKS}/5"), &Value::Null);
    client.done("DELETE", &third, &Value::Null);
    client.done("POST", WEBHOOKS, &basic(4, "https://your-domain.com/again"));
    assert_eq!(ids(&client.list()), [1, 2, 4, 6]);
    for (method, body) in [("GET", Value::Null), ("PUT", json!({"Type": 4})), ("DELETE", Value::Null)] {
        client.must(404, method, &third, &body);
        client.must(400, method, &format!("{WEBHOOKS}/x"), &body);
    }
}

/// S0.18, S0.19, S0.24, S0.25, S0.27, S0.9 with D3: what is missing or does not belong is a 400 that points at it, and the case of a
/// name does not count.
#[test]
fn a_body_is_taken_whole_or_refused_with_the_reason() {
    let client = Client::start_in("", &[("POSTRIDER__EGRESS__ALLOW_HTTP", "false")]);
    let url = "https://your-domain.com/in";
    let with = |method: Value| json!({"Type": 6, "DestinationURL": url, "AuthenticationMethod": method});
    let table = [
        (json!({}), vec!["/Type", "/DestinationURL", "/AuthenticationMethod"]),
        (
            json!({"Type": "6", "DestinationURL": 1, "AuthenticationMethod": 1}),
            vec!["/Type", "/DestinationURL", "/AuthenticationMethod"],
        ),
        (shared(3, url, "s"), vec!["/Type"]),
        (shared(9, url, "s"), vec!["/Type"]),
        (shared(6, "http://your-domain.com/in", "s"), vec!["/DestinationURL"]),
        (shared(6, "https://10.0.0.1/in", "s"), vec!["/DestinationURL"]),
        (with(json!({})), vec!["/AuthenticationMethod/Method"]),
        (with(json!({"Method": 2})), vec!["/AuthenticationMethod/Method"]),
        (with(json!({"Method": 0, "Username": "u"})), vec!["/AuthenticationMethod/Password"]),
        (with(json!({"Method": 0, "Password": "p"})), vec!["/AuthenticationMethod/Username"]),
        (with(json!({"Method": 0})), vec!["/AuthenticationMethod/Username", "/AuthenticationMethod/Password"]),
        (with(json!({"Method": 0, "Username": "a:b", "Password": "p"})), vec!["/AuthenticationMethod/Username"]),
        (with(json!({"Method": 1})), vec!["/AuthenticationMethod/SharedSecret"]),
        (with(json!({"Method": 1, "SharedSecret": ""})), vec!["/AuthenticationMethod/SharedSecret"]),
        (with(json!({"method": 1, "sharedsecret": 7})), vec!["/AuthenticationMethod/sharedsecret"]),
        (with(json!({"Method": 1, "SharedSecret": "s", "Username": "u"})), vec!["/AuthenticationMethod/Username"]),
        (
            json!({"Type": 6, "type": 6, "DestinationURL": url, "AuthenticationMethod": {"Method": 1, "SharedSecret": "s"}}),
            vec!["/type"],
        ),
        (json!({"Typ": 6}), vec!["/Typ", "/Type", "/DestinationURL", "/AuthenticationMethod"]),
    ];
    for (body, wanted) in &table {
        let problem = client.must(400, "POST", WEBHOOKS, body);
        let errors = problem["errors"].as_array().unwrap();
        let pointers: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(pointers, *wanted, "{body}: {problem}");
    }
    assert_eq!(client.list(), json!([]));
    let any_case = json!({"TYPE": 4, "destinationurl": url, "authenticationMethod": {"METHOD": 0, "userName": "u", "passWord": "p"}});
    client.done("POST", WEBHOOKS, &any_case);
    let row = json!({"id": 1, "type": 4, "destinationURL": url, "authenticationMethod": 0});
    assert_eq!(client.list(), json!([row]));
}

/// S0.2, S0.5, S0.6, S0.8, S0.11, S0.12, S0.14, S0.16: each webhook is sent the events of its one type by POST, as the producer wrote
/// them, with its own credentials; the secret travels in `X-Shared-Secret` (D4).
#[test]
fn each_webhook_receives_its_type_with_its_credentials() {
    let (client, (receiver, kept)) = (Client::start(""), receiver());
    client.done("POST", WEBHOOKS, &shared(6, &receiver.url("/shared"), "your-shared-secret"));
    client.done("POST", WEBHOOKS, &basic(7, &receiver.url("/basic")));
    assert_eq!(client.emit("funding_deposit.funded", json!({"fundingDepositId": 7}))["deliveries"], 1);
    assert_eq!(client.emit("funding_deposit.rejected", json!({"DepositStatus": 6}))["deliveries"], 1);
    assert_eq!(client.emit("funding_deposit.partially_rejected", json!({}))["deliveries"], 0);
    let got =
        |path: &str| wait_for(path, || kept.lock().unwrap().iter().find(|message| message.path() == path).cloned());
    let (shared, basic) = (got("/shared"), got("/basic"));
    assert_eq!((&*shared.start, shared.header("x-shared-secret")), ("POST /shared HTTP/1.1", "your-shared-secret"));
    assert_eq!((shared.header("authorization"), &*shared.body), ("", &br#"{"fundingDepositId":7}"#[..]));
    // your-username:your-password, by RFC 7617.
    assert_eq!(basic.header("authorization"), "Basic eW91ci11c2VybmFtZTp5b3VyLXBhc3N3b3Jk");
    assert_eq!((basic.header("x-shared-secret"), &*basic.body), ("", &br#"{"DepositStatus":6}"#[..]));
    wait_for("both to succeed", || (client.admin.must("GET", "/v1/status", None)["succeeded"] == 2).then_some(()));
}

/// S0.12, S0.13, S0.10, S0.20: what is no 2xx is tried again; another URL takes what waits; a type that the configuration adds is
/// one like the others.
#[test]
fn a_failure_is_tried_again_where_an_update_points_and_types_are_configured() {
    let further = "schedule = \"quick\"\n[schedules]\nquick = { delays = [\"10ms\"], attempts_max = 1000, jitter = 0.0 }\n\
                   [dialects.backoffice]\ntypes = { 9 = \"refund.settled\" }\n";
    let (client, (receiver, kept)) = (Client::start(further), receiver());
    client.done("POST", WEBHOOKS, &shared(9, &receiver.url("/down"), "s"));
    assert_eq!(client.list()[0]["type"], 9);
    assert_eq!(client.emit("refund.settled", json!({}))["deliveries"], 1);
    let count = |path: &str| kept.lock().unwrap().iter().filter(|message| message.path() == path).count();
    wait_for("a second attempt", || (count("/down") >= 2).then_some(()));
    client.done("PUT", &format!("{WEBHOOKS}/1"), &json!({"DestinationURL": receiver.url("/up")}));
    wait_for("the delivery to succeed", || {
        (client.admin.must("GET", "/v1/status", None)["succeeded"] == 1).then_some(())
    });
    assert_eq!(count("/up"), 1);
    assert!(kept.lock().unwrap().iter().all(|message| message.header("x-webhook-event") == "refund.settled"));
}

/// What was made through the dialect is ordinary: it is seen and deleted through the native API, where the dialect no longer shows
/// it; and a restart keeps webhooks, numbers and commands.
#[test]
fn what_is_made_is_ordinary_and_survives_a_restart() {
    let client = Client::start("");
    for kind in [4, 5] {
        client.done("POST", WEBHOOKS, &basic(kind, &format!("https://your-domain.com/{kind}")));
    }
    let command = client.must(200, "DELETE", &format!("{WEBHOOKS}/2"), &Value::Null);
    let Client { admin, key_id, key_value, home, _daemon: daemon } = client;
    home.kill(daemon);
    let client = Client { _daemon: home.start(), admin, key_id, key_value, home };
    let lookup = format!("/api/acme/commands/{}", text(&command["commandFingerprint"]));
    assert_eq!(client.must(200, "GET", &lookup, &Value::Null)["status"], 1, "what was accepted has been carried out");
    assert_eq!(client.list()[1], Value::Null);
    let native = |method: &str, path: &str| client.admin.exchange(&[("x-tenant", "acme")], method, path, None).unwrap();
    let list = native("GET", "/v1/subscriptions/instructional_funding.submitted").json();
    let path = format!("/v1/destinations/webhook/{}", text(&list["subscriptions"][0]["destinations"][0]));
    let shown = native("GET", &path).json();
    let auth = json!({"type": "basic", "username": "your-username"});
    assert_eq!((&shown["auth"], &shown["confirmed"]), (&auth, &json!(true)));
    assert_eq!(native("DELETE", &path).status(), 204);
    assert_eq!(client.list(), json!([]));
    client.done("POST", WEBHOOKS, &basic(4, "https://your-domain.com/again"));
    assert_eq!(client.list()[0]["id"], 3);
    assert!(!client.home.log().contains("your-password"));
}
