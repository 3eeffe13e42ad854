//! Signing keys on the wire: what receivers of source 001 see and can verify, through rotations and restarts. Bounds, roles
//! and foreign ids of the routes are held in `src/api/tests`.

mod harness;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Admin, Home, Message, Reaction, Receiver, wait_for};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const WEBHOOKS: &str = "/v1/destinations/webhook";
const KEYS: &str = "/v1/signing-keys";

/// A receiver that keeps what comes.
struct Shop {
    receiver: Receiver,
    kept: Arc<Mutex<Vec<Message>>>,
}

impl Shop {
    fn open() -> Shop {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&kept);
        let receiver = Receiver::start(move |message| {
            taken.lock().unwrap().push(message.clone());
            Reaction::Answer(200)
        });
        Shop { receiver, kept }
    }

    /// What has come to a path last, once so many have come.
    fn wait_for(&self, path: &str, count: usize) -> Message {
        wait_for(&format!("{count} at {path}"), || {
            let kept = self.kept.lock().unwrap();
            let mut got = kept.iter().filter(|message| message.path() == path);
            got.nth(count - 1).cloned()
        })
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// A new signing key's id and secret.
fn signing_key(admin: &Admin, body: &Value) -> (String, String) {
    let made = admin.must("POST", KEYS, Some(body));
    (text(&made["id"]).to_owned(), text(&made["secret"]).to_owned())
}

/// A destination at a path of the shop's that every event goes to; its id.
fn destination(admin: &Admin, shop: &Shop, path: &str, further: &Value) -> String {
    let mut wanted = json!({"name": path, "http_endpoint_url": shop.receiver.url(path), "confirmed": true});
    wanted.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let made = admin.must("POST", WEBHOOKS, Some(&wanted));
    admin.must("POST", "/v1/subscriptions/*", Some(&json!({"destinations": [made["id"]]})));
    text(&made["id"]).to_owned()
}

fn emit(admin: &Admin) {
    let data = json!({"merchant": {"merch_key": "7qwnw4j2kmqvrb3"}, "amount": "5.00"});
    admin.must("POST", "/v1/events", Some(&json!({"type": "transaction.sale.success", "data": data})));
}

/// The lower-case hex HMAC-SHA256 of a body with a key's text, as a receiver of source 001 computes it.
fn hex_code(secret: &str, body: &[u8]) -> String {
    let code = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize().into_bytes();
    code.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A code of Standard Webhooks, as its receiver computes it.
fn standard_code(secret: &str, message: &Message) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = [message.header("webhook-id"), ".", message.header("webhook-timestamp"), "."].concat();
    let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(signed).chain_update(&message.body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// S1.20, S1.21, S1.22, S1.23, S1.24, S1.25, S1.26, S1.27, S1.28, S1.29, SX.1: authentication and signature are chosen apart from
/// one another. Each of the six combinations sends the Authorization header that was asked for, or none; and X-Signature as the
/// lower-case hex HMAC-SHA256 of the very body under the text of the chosen source key or of the tenant's signature key, or
/// none. Two source keys are two keys.
#[test]
fn authentication_and_signature_combine_freely() {
    let (home, shop) = (Home::new(""), Shop::open());
    let _daemon = home.start();
    let admin = home.admin();
    let (_, own) = signing_key(&admin, &json!({"kind": "signature"}));
    let (_, other) = signing_key(&admin, &json!({"kind": "source", "name": "web shop"}));
    let (till, source) = signing_key(&admin, &json!({"kind": "source", "name": "till"}));
    assert!(own != source && source != other);
    let auths = [
        ("none", json!({"type": "none"}), None),
        // RFC 7617, section 2: this pair and its encoding stand there.
        (
            "basic",
            json!({"type": "basic", "username": "Aladdin", "password": "open sesame"}),
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
    ];
    let signatures = [
        ("none", json!({"preset": "none"}), None),
        ("source", json!({"preset": "x-signature", "key": till}), Some(&source)),
        ("signature", json!({"preset": "x-signature", "key": "signature"}), Some(&own)),
    ];
    for (auth_name, auth, _) in &auths {
        for (signature_name, signature, _) in &signatures {
            let further = json!({"auth": auth, "signature": signature});
            destination(&admin, &shop, &format!("/{auth_name}/{signature_name}"), &further);
        }
    }
    emit(&admin);
    for (auth_name, _, credentials) in &auths {
        for (signature_name, _, key) in &signatures {
            let path = format!("/{auth_name}/{signature_name}");
            let got = shop.wait_for(&path, 1);
            assert_eq!(got.headers.get("authorization").map(String::as_str), *credentials, "{path}");
            let expected = key.map(|secret| hex_code(secret, &got.body));
            assert_eq!(got.headers.get("x-signature"), expected.as_ref(), "{path}");
            let code = got.headers.get("x-signature");
            assert!(code.is_none_or(|code| *code != hex_code(&other, &got.body)), "{path}: the other source key");
            for secret in [&own, &source, &other] {
                let shown = got.headers.values().any(|value| value.contains(secret.as_str()));
                assert!(!shown, "{path}: the key itself was sent");
            }
        }
    }
}

/// S1.28, decision D27: a rotated key reaches every destination that names it with the next attempt, and no destination is
/// touched for it. Through the overlap single-valued schemes sign with the old secret and list-valued ones with both; without
/// an overlap the new one counts at once. It holds over a restart, and the secret can be shown again on the admin socket.
#[test]
fn a_rotated_key_reaches_every_destination_and_survives_a_restart() {
    let (home, shop) = (Home::new(""), Shop::open());
    let daemon = home.start();
    let admin = home.admin();
    let (key, first) = signing_key(&admin, &json!({"kind": "source", "name": "till"}));
    let ids = [("/one", "x-signature"), ("/two", "standard")]
        .map(|(path, preset)| destination(&admin, &shop, path, &json!({"signature": {"preset": preset, "key": key}})));
    let views = || ids.each_ref().map(|id| admin.must("GET", &format!("{WEBHOOKS}/{id}"), None)["signature"].clone());
    let begun = views();
    let got = |count| (shop.wait_for("/one", count), shop.wait_for("/two", count));
    let changes = || {
        let log = admin.list("/v1/audit", "records");
        log.iter().filter(|row| row["record"]["action"] == "destination.update").count()
    };

    emit(&admin);
    let (one, two) = got(1);
    assert_eq!(one.header("x-signature"), hex_code(&first, &one.body));
    assert_eq!(two.header("webhook-signature"), standard_code(&first, &two));

    let rotate = |body: Value| {
        let rotated = admin.must("POST", &format!("{KEYS}/{key}/rotate"), Some(&body));
        let told: Vec<_> = rotated["destinations"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(told, ids, "whose receivers need it");
        text(&rotated["secret"]).to_owned()
    };
    let second = rotate(json!({"overlap": "1h"}));
    emit(&admin);
    let (one, two) = got(2);
    assert_eq!(one.header("x-signature"), hex_code(&first, &one.body), "single-valued: the old one");
    let both = format!("{} {}", standard_code(&second, &two), standard_code(&first, &two));
    assert_eq!(two.header("webhook-signature"), both);

    let third = rotate(json!({"overlap": "0s"}));
    emit(&admin);
    let (one, two) = got(3);
    assert_eq!(one.header("x-signature"), hex_code(&third, &one.body));
    assert_eq!(two.header("webhook-signature"), standard_code(&third, &two));

    assert!(daemon.stop().success(), "{}", home.log_end());
    let _daemon = home.start();
    emit(&admin);
    let (one, two) = got(4);
    assert_eq!(one.header("x-signature"), hex_code(&third, &one.body));
    assert_eq!(two.header("webhook-signature"), standard_code(&third, &two));
    let revealed = admin.must("POST", &format!("{KEYS}/{key}/reveal"), None);
    assert_eq!(text(&revealed["secret"]), third);
    assert_eq!((views(), changes()), (begun, 0), "no destination was written for it");
    let (status, refused) = admin.call("DELETE", &format!("{KEYS}/{key}"), None).unwrap();
    assert_eq!((status, text(&refused["detail"]).contains(&ids[0])), (409, true), "{refused}");
}
