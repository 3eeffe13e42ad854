//! One story, told to every API by which a receiver can be registered: what is registered is shown and delivered to, a failure is
//! retried and given up, a resend reaches the receiver, and after a deletion nothing does.
//!
//! A new dialect adds an implementation of [`Dialect`] and a line in `stories!`.

mod harness;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use harness::{Admin, Home, Message, Reaction, Receiver, wait_for};
use serde_json::{Value, json};

const TENANT: &str = "acme";
/// Attempts that a delivery gets, in each dialect's words.
const ATTEMPTS: usize = 3;

/// An API by which a receiver is registered, in its own words.
trait Dialect: Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;
    /// The type of event that the story is about.
    fn kind(&self) -> &'static str;
    /// Registers a URL for it, and returns once it stands; answers how the API calls what it made.
    fn register(&self, admin: &Admin, url: &str) -> String;
    /// The URL that it shows; `None` when there is nothing.
    fn shown(&self, admin: &Admin, name: &str) -> Option<String>;
    /// Has the same go to another URL, and returns once that is so.
    fn redirect(&self, admin: &Admin, name: &str, url: &str);
    /// Deletes it, and returns once it is gone.
    fn delete(&self, admin: &Admin, name: &str);
}

macro_rules! stories {
    ($($test:ident: $dialect:ident;)*) => {
        const ALL: &[&dyn Dialect] = &[$(&$dialect),*];

        $(#[test]
        fn $test() {
            tell(&$dialect);
        })*
    };
}

stories! {
    the_native_api_tells_the_story: Native;
    backoffice_tells_the_story: Backoffice;
    subscribe_tells_the_story: Subscribe;
}

/// A call for the tenant, with the status that it must have.
fn call(admin: &Admin, status: u16, method: &str, path: &str, body: Value) -> Value {
    let answer = exchange(admin, method, path, &body);
    assert_eq!(answer.status(), status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

fn exchange(admin: &Admin, method: &str, path: &str, body: &Value) -> Message {
    admin.exchange(&[("x-tenant", TENANT)], method, path, Some(body).filter(|body| !body.is_null())).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn kind(&self) -> &'static str {
        "transaction.sale.success"
    }

    fn register(&self, admin: &Admin, url: &str) -> String {
        let wanted = json!({"name": "shop", "http_endpoint_url": url, "confirmed": true});
        let id = text(&call(admin, 201, "POST", "/v1/destinations/webhook", wanted)["id"]);
        call(admin, 201, "POST", &format!("/v1/subscriptions/{}", self.kind()), json!({"destinations": [id]}));
        format!("/v1/destinations/webhook/{id}")
    }

    fn shown(&self, admin: &Admin, name: &str) -> Option<String> {
        exchange(admin, "GET", name, &Value::Null).json()["http_endpoint_url"].as_str().map(str::to_owned)
    }

    fn redirect(&self, admin: &Admin, name: &str, url: &str) {
        call(admin, 200, "PUT", name, json!({"http_endpoint_url": url}));
    }

    fn delete(&self, admin: &Admin, name: &str) {
        call(admin, 204, "DELETE", name, Value::Null);
    }
}

/// Source 000.
struct Backoffice;

impl Backoffice {
    /// Orders a change, and waits for its command to be completed.
    fn order(admin: &Admin, method: &str, path: &str, body: Value) {
        let command = call(admin, 200, method, path, body);
        let path = format!("/api/{TENANT}/commands/{}", text(&command["commandFingerprint"]));
        wait_for("the command to be completed", || {
            let seen = call(admin, 200, "GET", &path, Value::Null);
            assert!([0, 1].map(Value::from).contains(&seen["status"]), "{seen}");
            (seen["status"] == 1).then_some(())
        });
    }
}

impl Dialect for Backoffice {
    fn name(&self) -> &'static str {
        "backoffice"
    }

    fn kind(&self) -> &'static str {
        "funding_deposit.funded"
    }

    fn register(&self, admin: &Admin, url: &str) -> String {
        let method = json!({"Method": 1, "SharedSecret": "secret"});
        let wanted = json!({"Type": 6, "DestinationURL": url, "AuthenticationMethod": method});
        let webhooks = format!("/api/{TENANT}/webhooks");
        Backoffice::order(admin, "POST", &webhooks, wanted);
        let list = call(admin, 200, "GET", &webhooks, Value::Null);
        format!("{webhooks}/{}", list.as_array().unwrap().last().unwrap()["id"])
    }

    fn shown(&self, admin: &Admin, name: &str) -> Option<String> {
        exchange(admin, "GET", name, &Value::Null).json()["destinationURL"].as_str().map(str::to_owned)
    }

    fn redirect(&self, admin: &Admin, name: &str, url: &str) {
        Backoffice::order(admin, "PUT", name, json!({"DestinationURL": url}));
    }

    fn delete(&self, admin: &Admin, name: &str) {
        Backoffice::order(admin, "DELETE", name, Value::Null);
    }
}

/// Source 003.
struct Subscribe;

impl Subscribe {
    fn wanted(url: &str) -> Value {
        json!({"webhook_url": url, "retry_attempts": ATTEMPTS - 1})
    }
}

impl Dialect for Subscribe {
    fn name(&self) -> &'static str {
        "subscribe"
    }

    fn kind(&self) -> &'static str {
        "transaction.status_updated"
    }

    fn register(&self, admin: &Admin, url: &str) -> String {
        let path = format!("/webhooks/subscribe/{TENANT}");
        call(admin, 201, "POST", &path, Subscribe::wanted(url));
        path
    }

    fn shown(&self, admin: &Admin, name: &str) -> Option<String> {
        exchange(admin, "GET", name, &Value::Null).json()["webhook_url"].as_str().map(str::to_owned)
    }

    fn redirect(&self, admin: &Admin, name: &str, url: &str) {
        call(admin, 200, "PUT", name, Subscribe::wanted(url));
    }

    fn delete(&self, admin: &Admin, name: &str) {
        call(admin, 200, "DELETE", name, Value::Null);
    }
}

/// A delivery as it stands once it is in a state.
fn wait_until(admin: &Admin, delivery: &str, state: &str) -> Value {
    wait_for(&format!("the delivery to be {state}"), || {
        Some(call(admin, 200, "GET", delivery, Value::Null)).filter(|seen| seen["state"] == state)
    })
}

/// Hands an event in; answers the event's id and its deliveries' paths.
fn emit(admin: &Admin, kind: &str, data: Value) -> (String, Vec<String>) {
    let accepted = call(admin, 202, "POST", "/v1/events", json!({"type": kind, "tenant": TENANT, "data": data}));
    let id = text(&accepted["id"]);
    let list = call(admin, 200, "GET", &format!("/v1/events/{id}/deliveries"), Value::Null);
    let path = |delivery: &Value| format!("/v1/deliveries/{}", text(&delivery["id"]));
    (id, list["deliveries"].as_array().unwrap().iter().map(path).collect())
}

/// The one delivery that an event of this type makes.
fn emit_one(admin: &Admin, kind: &str, data: Value) -> (String, String) {
    let (id, mut deliveries) = emit(admin, kind, data);
    assert_eq!(deliveries.len(), 1, "{kind}");
    (id, deliveries.remove(0))
}

/// The story. Receivers change their confirmation when they move in the native API only, so it asks for none.
fn tell(dialect: &dyn Dialect) {
    let home = Home::new(&format!(
        "[delivery]\nbreaker_failures = 1_000_000\nschedule = \"quick\"\n[confirmation]\nmode = \"off\"\n\
         [schedules]\nquick = {{ delays = [\"10ms\"], attempts_max = {ATTEMPTS}, jitter = 0.0 }}\n"
    ));
    let (_daemon, admin) = (home.start(), home.admin());
    admin.must("POST", "/v1/tenants", Some(&json!({"id": TENANT})));
    let (kept, answers) = (Arc::new(Mutex::new(Vec::<Message>::new())), Arc::new(AtomicU16::new(200)));
    let receiver = {
        let (kept, answers) = (Arc::clone(&kept), Arc::clone(&answers));
        Receiver::start(move |message| {
            kept.lock().unwrap().push(message.clone());
            Reaction::Answer(if message.path() == "/first" { answers.load(Ordering::SeqCst) } else { 200 })
        })
    };
    let got = |path: &str| -> Vec<Message> {
        kept.lock().unwrap().iter().filter(|message| message.path() == path).cloned().collect()
    };

    // Registered and delivered: the producer's bytes, under the event's id.
    let (first, second) = (receiver.url("/first"), receiver.url("/second"));
    let name = dialect.register(&admin, &first);
    assert_eq!(dialect.shown(&admin, &name), Some(first));
    let (event, delivery) = emit_one(&admin, dialect.kind(), json!({"amount": "5.00"}));
    wait_until(&admin, &delivery, "succeeded");
    let came = got("/first").remove(0);
    assert_eq!((came.header("x-webhook-id"), &*came.body), (&*event, &br#"{"amount":"5.00"}"#[..]));
    assert_eq!(came.start, "POST /first HTTP/1.1");
    let (_, others) = emit(&admin, "something.else", json!({}));
    assert_eq!(others, [""; 0], "another type is nobody's");

    // Failed, retried, given up.
    answers.store(503, Ordering::SeqCst);
    let (event, delivery) = emit_one(&admin, dialect.kind(), json!({"amount": "6.00"}));
    let failed = wait_until(&admin, &delivery, "failed");
    assert_eq!(failed["attempts"].as_array().unwrap().len(), ATTEMPTS, "{failed}");

    // Resent: the same event, one attempt more, to where it goes by now.
    dialect.redirect(&admin, &name, &second);
    assert_eq!(dialect.shown(&admin, &name), Some(second));
    call(&admin, 202, "POST", &format!("{delivery}/resend"), Value::Null);
    wait_until(&admin, &delivery, "succeeded");
    let resent = got("/second").remove(0);
    assert_eq!(resent.header("x-webhook-id"), event);
    assert_eq!(resent.header("x-webhook-attempt"), (ATTEMPTS + 1).to_string());

    // Deleted: nothing is shown, nothing is made, nothing that waits is sent.
    dialect.redirect(&admin, &name, &receiver.url("/first"));
    let (_, delivery) = emit_one(&admin, dialect.kind(), json!({"amount": "7.00"}));
    wait_until(&admin, &delivery, "failed");
    dialect.delete(&admin, &name);
    assert_eq!(dialect.shown(&admin, &name), None);
    let refused = exchange(&admin, "POST", &format!("{delivery}/resend"), &Value::Null);
    assert_eq!(refused.status(), 409, "there is nobody to send it to");
    let before = kept.lock().unwrap().len();
    assert_eq!(emit(&admin, dialect.kind(), json!({})).1, [""; 0]);
    assert_eq!(kept.lock().unwrap().len(), before);
}

/// Whoever adds a dialect tells it the story, too.
#[test]
fn every_dialect_is_told_the_story() {
    let example = include_str!("../config.example.toml");
    let sections = example.lines().filter_map(|line| line.strip_prefix("[dialects.")?.strip_suffix(']'));
    let told: BTreeSet<&str> = ALL.iter().map(|dialect| dialect.name()).collect();
    assert_eq!(told, sections.chain(["native"]).collect());
}
