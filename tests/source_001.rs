//! Source 001 but for its dialogs: the console's events in their envelope, its two kinds of authentication, and what an edit
//! keeps, against the real daemon. Its schedule of 72 hours is held where schedules are; the dialogs are the dashboard's.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::{Admin, Home, Message, Reaction, Receiver, emit, wait_for};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::Sha256;

const WEBHOOKS: &str = "/v1/destinations/webhook";
/// The page's table: each event and its description.
const PAGE: &str = include_str!("vectors/console_events.txt");
/// The page's example, but for its white space.
const EXAMPLE: &str = concat!(
    r#"{"type":"event","event_triggered":"2021-04-07 15:14:26","event_type":"transaction.sale.success","event_body":"#,
    r#"{"merchant":{"merch_key":"7qwnw4j2kmqvrb3"},"object":{"type":"transaction","key":"1nftvzx7xtcggm3","#,
    r#""amount_detail":{"amount":"5.00"},"authcode":"538228"}},"#,
    r#""event_id":"c088bc2884a2c3b4043991b04d96ceda7c65043778233dedb26bfd5853705dfd"}"#
);

/// A shopping cart: keeps what comes, and answers as it is told at the moment.
struct Cart {
    receiver: Receiver,
    kept: Arc<Mutex<Vec<Message>>>,
    status: Arc<AtomicU16>,
}

impl Cart {
    fn open() -> Cart {
        let (kept, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU16::new(200)));
        let receiver = {
            let (kept, status) = (Arc::clone(&kept), Arc::clone(&status));
            Receiver::start(move |message| {
                kept.lock().unwrap().push(message.clone());
                Reaction::Answer(status.load(Ordering::SeqCst))
            })
        };
        Cart { receiver, kept, status }
    }

    fn wait_for(&self, path: &str, count: usize) -> Vec<Message> {
        wait_for(&format!("{count} requests at {path}"), || {
            let kept = self.kept.lock().unwrap();
            let got: Vec<_> = kept.iter().filter(|message| message.path() == path).cloned().collect();
            (got.len() >= count).then_some(got)
        })
    }
}

fn home() -> Home {
    Home::new("[confirmation]\nmode = \"off\"\n[delivery]\nbreaker_failures = 1_000_000\n")
}

/// A webhook of the console: a label, a URL, its events, its authentication and its signature. Its path in the API.
fn add_hook(admin: &Admin, cart: &Cart, path: &str, events: &[&str], further: Value) -> String {
    let mut hook = json!({
        "name": "Shopping cart", "http_endpoint_url": cart.receiver.url(path), "format": "console",
        "auth": {"type": "none"}, "signature": {"preset": "none"},
        "retry": {"delays": ["10ms"], "attempts_max": 1000, "jitter": 0},
    });
    hook.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let made = admin.must("POST", WEBHOOKS, Some(&hook));
    for event in events {
        let chosen = json!({"destinations": [made["id"]]});
        admin.must("POST", &format!("/v1/subscriptions/{event}"), Some(&chosen));
    }
    format!("{WEBHOOKS}/{}", made["id"].as_str().unwrap())
}

/// The members of an envelope as they were written.
fn envelope(message: &Message) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_slice(&message.body).unwrap()
}

/// S1.1, S1.44, and S1.38, S1.39, S1.40, S1.41, S1.42, S1.43 over the wire: the page's own example comes out as it stands there, but for
/// the id; with neither Authorization nor X-Signature; and with the same id again when it is sent again.
#[test]
fn the_example_of_the_page_is_delivered_as_it_stands() {
    let (home, cart) = (home(), Cart::open());
    let (_daemon, admin) = (home.start(), home.admin());
    add_hook(&admin, &cart, "/cart", &["transaction.sale.success"], json!({}));
    cart.status.store(500, Ordering::SeqCst);
    let example: BTreeMap<String, Box<RawValue>> = serde_json::from_str(EXAMPLE).unwrap();
    let data = example["event_body"].get();
    let line = format!(r#"{{"type":"transaction.sale.success","time":"2021-04-07T15:14:26Z","data":{data}}}"#);
    emit(&home.ingest_socket(), &[line]);
    cart.wait_for("/cart", 2);
    cart.status.store(200, Ordering::SeqCst);
    wait_for("success", || (admin.must("GET", "/v1/status", None)["succeeded"] == 1).then_some(()));
    let mut ids = BTreeSet::new();
    for message in cart.wait_for("/cart", 3) {
        let got = envelope(&message);
        let id: String = serde_json::from_str(got["event_id"].get()).unwrap();
        assert!(id.len() == 64 && id.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{id}");
        let wanted = EXAMPLE.replace("c088bc2884a2c3b4043991b04d96ceda7c65043778233dedb26bfd5853705dfd", &id);
        assert_eq!(String::from_utf8(message.body.clone()).unwrap(), wanted);
        assert_eq!((message.header("authorization"), message.header("x-signature")), ("", ""));
        assert!(message.start.starts_with("POST ") && message.header("content-type") == "application/json");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 1);
}

/// S1.2, S1.10, S1.14, S1.15, S1.16, S1.17, S1.18, S1.19, S1.45: each of the 23 events reaches every hook that chose it and no
/// other, each with its own data; an inventory adjustment reaches the shopping cart as JSON.
#[test]
fn each_of_the_23_events_reaches_the_hooks_that_chose_it() {
    let (home, cart) = (home(), Cart::open());
    let (_daemon, admin) = (home.start(), home.admin());
    let all: Vec<&str> = PAGE.lines().map(|line| line.split_once(" | ").unwrap().0).collect();
    assert_eq!(all.len(), 23);
    let inventory = ["product.inventory.ordered", "product.inventory.adjusted"];
    add_hook(&admin, &cart, "/books", &all, json!({}));
    add_hook(&admin, &cart, "/cart", &inventory, json!({}));
    add_hook(&admin, &cart, "/stock", &["product.inventory.adjusted"], json!({}));

    let mut samples = BTreeMap::new();
    for event in &all {
        let known = admin.must("GET", &format!("/v1/event-types/{event}"), None);
        assert_eq!((&known["source"], &known["name"]), (&json!("console"), &json!(event)));
        samples.insert(*event, known["sample"].to_string());
    }
    let line = |(event, sample): (&&str, &String)| format!(r#"{{"type":"{event}","data":{sample}}}"#);
    let told = emit(&home.ingest_socket(), &samples.iter().map(line).collect::<Vec<_>>());
    let deliveries: u64 = told.iter().map(|reply| reply["deliveries"].as_u64().unwrap()).sum();
    assert_eq!(deliveries, 23 + 2 + 1);
    wait_for("all of them", || (admin.must("GET", "/v1/status", None)["succeeded"] == deliveries).then_some(()));
    for (path, events) in [("/books", &all[..]), ("/cart", &inventory), ("/stock", &inventory[1..])] {
        let mut got = BTreeSet::new();
        for message in cart.wait_for(path, events.len()) {
            let envelope = envelope(&message);
            let event: String = serde_json::from_str(envelope["event_type"].get()).unwrap();
            assert_eq!(envelope["event_body"].get(), samples[event.as_str()], "{path} {event}");
            assert_eq!(message.header("x-webhook-event"), event);
            got.insert(event);
        }
        assert_eq!(got, events.iter().map(|event| (*event).to_owned()).collect(), "{path}");
    }
    let adjusted = cart.wait_for("/stock", 1).remove(0);
    let body: Value = serde_json::from_slice(&adjusted.body).unwrap();
    assert_eq!(
        (&body["event_body"]["object"]["type"], &body["event_body"]["object"]["qtyonhand"]),
        (&json!("product"), &json!(94))
    );
}

/// The page's two choices of authentication.
fn authentications() -> [Value; 2] {
    [json!({"type": "none"}), json!({"type": "basic", "username": "cart", "password": "pa:ss wörd"})]
}

/// S1.20, S1.21, S1.22: None sends no Authorization, Basic the user and password in base64; with a signature and without.
#[test]
fn authentication_sets_the_authorization_header_whatever_the_signature() {
    let (home, cart) = (home(), Cart::open());
    let (_daemon, admin) = (home.start(), home.admin());
    let basic = format!("Basic {}", BASE64.encode("cart:pa:ss wörd"));
    let mut hooks = Vec::new();
    for (auth, header) in authentications().into_iter().zip(["", basic.as_str()]) {
        for signature in [json!({"preset": "none"}), json!({"preset": "x-signature", "secret": "a source key"})] {
            let (path, signed) = (format!("/{}", hooks.len()), signature["preset"] == "x-signature");
            add_hook(&admin, &cart, &path, &["ach.settled"], json!({"auth": auth, "signature": signature}));
            hooks.push((path, header, signed));
        }
    }
    emit(&home.ingest_socket(), &[r#"{"type":"ach.settled","data":{"merchant":{"merch_key":"k"}}}"#.to_owned()]);
    for (path, header, signed) in hooks {
        let message = cart.wait_for(&path, 1).remove(0);
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a source key").unwrap();
        mac.update(&message.body);
        let code: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(message.header("authorization"), header, "{path}");
        assert_eq!(message.header("x-signature"), if signed { &code } else { "" }, "{path}");
    }
}

/// S1.34 over the wire: an edit of anything else keeps the authentication; one that resets it says all of it, or is refused and
/// changes nothing; what is stored is never shown.
#[test]
fn an_edit_keeps_the_authentication_unless_it_resets_all_of_it() {
    let (home, cart) = (home(), Cart::open());
    let (_daemon, admin) = (home.start(), home.admin());
    let [none, basic] = authentications();
    let hook = add_hook(&admin, &cart, "/cart", &["ach.settled"], json!({"auth": basic}));
    let sent = |count: usize| {
        emit(&home.ingest_socket(), &[r#"{"type":"ach.settled","data":{}}"#.to_owned()]);
        cart.wait_for("/cart", count).remove(count - 1).header("authorization").to_owned()
    };
    let first = sent(1);
    assert_eq!(first, format!("Basic {}", BASE64.encode("cart:pa:ss wörd")));

    let shown = admin.must("PUT", &hook, Some(&json!({"name": "Cart of the shop"})));
    assert_eq!(shown["auth"], json!({"type": "basic", "username": "cart"}));
    assert_eq!(sent(2), first);
    // What was shown may be sent back, and is no reset.
    let same = json!({"auth": shown["auth"], "name": shown["name"]});
    admin.must("PUT", &hook, Some(&same));
    assert_eq!(sent(3), first);

    for half in [json!({"type": "basic"}), json!({"type": "basic", "username": "other"}), json!({"username": "other"})]
    {
        let (status, problem) = admin.call("PUT", &hook, Some(&json!({"auth": half}))).unwrap();
        assert_eq!((status, &problem["code"]), (400, &json!("bad_field")), "{half}: {problem}");
    }
    assert_eq!(sent(4), first);

    let other = json!({"type": "basic", "username": "other", "password": "new"});
    admin.must("PUT", &hook, Some(&json!({"auth": other})));
    assert_eq!(sent(5), format!("Basic {}", BASE64.encode("other:new")));
    admin.must("PUT", &hook, Some(&json!({"auth": none})));
    assert_eq!(sent(6), "");
}
