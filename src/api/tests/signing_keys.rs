//! Signing keys, and the destinations that sign with them.

use super::*;
use crate::store::op::SOURCE_KEYS_MAX;

const KEYS: &str = "/v1/signing-keys";

impl World {
    /// A new signing key's id and secret.
    async fn signing_key(&self, tenant: &str, body: Value) -> (String, String) {
        let made = self.ask(Who::OperatorFor(tenant), "POST", KEYS, body).await;
        assert_eq!(made.status, 201, "{made:?}");
        (text(&made.json()["id"]), text(&made.json()["secret"]))
    }

    /// What comes of a new destination with this signature.
    async fn signed(&self, tenant: &str, signature: Value) -> Answered {
        let body = json!({"name": "d", "http_endpoint_url": "https://a.example/", "signature": signature});
        self.ask(Who::OperatorFor(tenant), "POST", WEBHOOKS, body).await
    }
}

/// S1.27, S1.28, SX.5: a tenant has one signature key and several source keys by name. A secret is generated and shown once,
/// to whoever made the key; no list and no view shows it later.
#[tokio::test]
async fn a_tenant_has_one_signature_key_and_several_source_keys() {
    let world = World::new();
    world.tenant("m1").await;
    let (own, secret) = world.signing_key("m1", json!({"kind": "signature"})).await;
    assert!(secret.starts_with("whsec_") && secret.len() > 40, "{secret}");
    let second = world.ask(Who::OperatorFor("m1"), "POST", KEYS, json!({"kind": "signature", "name": "two"})).await;
    assert_eq!((second.status, second.code().as_str()), (409, "conflict"));
    let (till, till_secret) = world.signing_key("m1", json!({"kind": "source", "name": "till"})).await;
    let (shop, shop_secret) = world.signing_key("m1", json!({"kind": "source", "name": "shop"})).await;
    assert!(secret != till_secret && till_secret != shop_secret);
    // One that the receivers have already is not shown back.
    let given = json!({"kind": "source", "name": "old till", "secret": "canary-given"});
    let given = world.ask(Who::OperatorFor("m1"), "POST", KEYS, given).await;
    assert_eq!((given.status, given.json()["secret"].is_null()), (201, true));

    let list = world.ask(Who::OperatorFor("m1"), "GET", KEYS, Value::Null).await;
    let rows = list.json()["signing_keys"].as_array().cloned().unwrap();
    let names: std::collections::BTreeSet<_> =
        rows.iter().map(|row| (text(&row["kind"]), text(&row["name"]))).collect();
    let expected = [("signature", "signature"), ("source", "old till"), ("source", "shop"), ("source", "till")];
    assert_eq!(names, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())).into());
    let other = world.ask(Who::Operator, "GET", KEYS, Value::Null).await.json();
    assert_eq!(other["signing_keys"], json!([]), "each tenant lists its own");

    let renamed = world.done(200, "PUT", &format!("{KEYS}/{till}"), json!({"name": "till 2"})).await;
    assert_eq!(
        (&renamed["name"], &renamed["kind"], &renamed["tenant"]),
        (&json!("till 2"), &json!("source"), &json!("m1"))
    );
    world.done(200, "PUT", &format!("{KEYS}/{till}"), renamed).await;
    let read = world.get(&format!("{KEYS}/{till}")).await;
    for answered in [&list, &read] {
        for secret in [&secret, &till_secret, &shop_secret, "canary-given"] {
            assert!(!answered.text.contains(secret), "{answered:?}");
        }
    }
    for (body, pointer) in [
        (json!({"kind": "signature"}), "/kind"),
        (json!({"tenant": "default"}), "/tenant"),
        (json!({"id": own}), "/id"),
        (json!({"secret": "s"}), "/secret"),
        (json!({"destinations": [own]}), "/destinations"),
        (json!({"name": ""}), "/name"),
    ] {
        let answered = world.ask(Who::Operator, "PUT", &format!("{KEYS}/{till}"), body.clone()).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    for (body, pointer) in [
        (json!({"name": "n"}), "/kind"),
        (json!({"kind": "api", "name": "n"}), "/kind"),
        (json!({"kind": "source"}), "/name"),
        (json!({"kind": "source", "name": "n", "secret": "***"}), "/secret"),
        (json!({"kind": "source", "name": "n", "tenant": "m1"}), "/tenant"),
    ] {
        let answered = world.ask(Who::Operator, "POST", KEYS, body.clone()).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    world.done(204, "DELETE", &format!("{KEYS}/{shop}"), Value::Null).await;
    world.done(404, "DELETE", &format!("{KEYS}/{shop}"), Value::Null).await;
    assert_eq!(world.ask(Who::Operator, "DELETE", "/v1/tenants/m1", Value::Null).await.status, 409, "it has keys");
}

/// Source keys are bounded, and the refusal says by how many.
#[tokio::test]
async fn source_keys_are_bounded() {
    let world = World::new();
    for place in 0..SOURCE_KEYS_MAX {
        world.signing_key("default", json!({"kind": "source", "name": format!("till {place}")})).await;
    }
    let refused = world.ask(Who::Operator, "POST", KEYS, json!({"kind": "source", "name": "one more"})).await;
    assert_eq!((refused.status, refused.text.contains("100 source keys")), (409, true), "{refused:?}");
    world.signing_key("default", json!({"kind": "signature"})).await;
}

/// S1.26, S1.27: a destination's signature names a key of its own tenant's, by id or as the tenant's own; any preset may. The
/// view shows the key's id and can be sent back; a secret takes the key's place, and a key that of a secret.
#[tokio::test]
async fn a_destination_names_the_key_that_it_signs_with() {
    let world = World::new();
    world.tenant("m1").await;
    let none = world.signed("m1", json!({"preset": "x-signature", "key": "signature"})).await;
    assert_eq!((none.status, none.pointers()), (400, vec!["/signature/key".to_owned()]), "there is none yet");
    let (own, _) = world.signing_key("m1", json!({"kind": "signature"})).await;
    let (source, _) = world.signing_key("m1", json!({"kind": "source", "name": "till"})).await;
    let (foreign, _) = world.signing_key("default", json!({"kind": "source", "name": "till"})).await;
    for (signature, pointer) in [
        (json!({"preset": "x-signature", "key": foreign}), "/signature/key"),
        (json!({"preset": "x-signature", "key": "sgk_0000000000"}), "/signature/key"),
        (json!({"preset": "x-signature", "key": "till"}), "/signature/key"),
        (json!([{"preset": "standard"}, {"preset": "x-signature", "key": foreign}]), "/signature/1/key"),
        (json!({"preset": "x-signature", "key": own, "secret": "s"}), "/signature/secret"),
        // The key's text is no hex.
        (json!({"preset": "adyen-like", "key": own}), "/signature"),
    ] {
        let refused = world.signed("m1", signature.clone()).await;
        assert_eq!((refused.status, refused.pointers()), (400, vec![pointer.to_owned()]), "{signature}");
    }

    let (hex, _) = {
        let body = json!({"kind": "source", "name": "hex", "secret": "00112233445566778899aabbccddeeff"});
        let made = world.ask(Who::OperatorFor("m1"), "POST", KEYS, body).await.json();
        (text(&made["id"]), ())
    };
    let mut made = Vec::new();
    for preset in crate::model::destination::Preset::ALL {
        let key = if preset.as_str() == "adyen-like" { &hex } else { &own };
        let answered = world.signed("m1", json!({"preset": preset.as_str(), "key": key})).await;
        assert_eq!((answered.status, &answered.json()["signature"]["key"]), (201, &json!(key)), "{answered:?}");
        assert!(answered.json()["signature"]["secret"].is_null(), "{answered:?}");
        made.push(text(&answered.json()["id"]));
    }
    let named =
        world.signed("m1", json!([{"preset": "x-signature", "key": "signature"}, {"preset": "standard"}])).await;
    let (named, path) = (named.json(), format!("{WEBHOOKS}/{}", text(&named.json()["id"])));
    assert_eq!(named["signature"][0], json!({"preset": "x-signature", "header": "x-signature", "key": own}));
    assert!(named["signature"][1]["secret"].is_string() && named["signature"][1]["key"].is_null(), "{named}");

    // What was read is sent back as it is, and a change elsewhere keeps the key.
    let read = world.get(&path).await.json();
    let mut back = read.clone();
    back.as_object_mut().unwrap().remove("lane");
    assert_eq!(world.done(200, "PUT", &path, back).await["signature"], read["signature"]);
    assert_eq!(world.done(200, "PUT", &path, json!({"name": "e"})).await["signature"], read["signature"]);
    let update = async |signature: Value| {
        let changed = world.done(200, "PUT", &path, json!({ "signature": signature })).await;
        changed["signature"].clone()
    };
    assert_eq!(update(json!({"preset": "x-signature"})).await["key"], json!(own), "kept");
    assert_eq!(update(json!({"preset": "x-signature", "key": source})).await["key"], json!(source));
    let masked = json!({"signature": {"preset": "x-signature", "secret": "***"}});
    assert_eq!(world.ask(Who::Operator, "PUT", &path, masked).await.pointers(), ["/signature/secret"]);
    let secret = update(json!({"preset": "x-signature", "secret": "mine-own"})).await;
    assert_eq!(secret, json!({"preset": "x-signature", "header": "x-signature"}));
    update(json!({"preset": "x-signature", "key": source})).await;
    let without = update(json!({"preset": "x-signature", "key": null})).await;
    assert!(without["secret"].is_string() && without["key"].is_null(), "a secret of its own: {without}");

    // A destination's own rotation is not about keys.
    let key_alone = format!("{WEBHOOKS}/{}/secret/rotate", made[0]);
    let refused = world.ask(Who::Operator, "POST", &key_alone, json!({})).await;
    assert_eq!((refused.status, refused.text.contains("/v1/signing-keys")), (409, true), "{refused:?}");
}

/// A key that a destination signs with stays, and the refusal names the destination; once it signs with something else, the
/// key goes.
#[tokio::test]
async fn a_key_in_use_is_not_deleted() {
    let world = World::new();
    let (key, _) = world.signing_key("default", json!({"kind": "source", "name": "till"})).await;
    let path = format!("{KEYS}/{key}");
    let mut destinations = Vec::new();
    for _ in 0..7 {
        let made = world.signed("default", json!({"preset": "x-signature", "key": key})).await.json();
        destinations.push(text(&made["id"]));
    }
    assert_eq!(world.get(&path).await.json()["destinations"], json!(destinations));
    let refused = world.ask(Who::Operator, "DELETE", &path, Value::Null).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
    assert!(refused.text.contains(&destinations[0]) && refused.text.contains("and 2 more"), "{refused:?}");
    world.done(204, "DELETE", &format!("{WEBHOOKS}/{}", destinations[0]), Value::Null).await;
    for destination in &destinations[1..] {
        let none = json!({"signature": {"preset": "none"}});
        world.done(200, "PUT", &format!("{WEBHOOKS}/{destination}"), none).await;
    }
    world.done(204, "DELETE", &path, Value::Null).await;
}

/// S1.28: the secret can be shown again, to whoever may open the admin socket, and each time that is in the audit log. Over TCP
/// no key opens it, and the refusal says what to do; an answer that is kept would show it unnoticed, so none is.
#[tokio::test]
async fn a_secret_is_revealed_on_the_admin_socket_only_and_noted() {
    let world = World::new();
    let (key, secret) = world.signing_key("default", json!({"kind": "signature"})).await;
    let path = format!("{KEYS}/{key}/reveal");
    let admin = world.key("admin", None).await;
    let refused = world.ask(Who::Key(&admin), "POST", &path, Value::Null).await;
    assert_eq!((refused.status, refused.text.contains("postrider signing-key reveal")), (403, true), "{refused:?}");
    assert!(!refused.text.contains(&secret));
    let keyed = ::http::Request::post(&path).header("idempotency-key", "once");
    assert_eq!(world.send(keyed, "", operator()).await.code(), "bad_header");
    let reveals = async || {
        let log = world.get("/v1/audit?action=signing_key.reveal").await;
        assert!(!log.text.contains(&secret), "{log:?}");
        log.json()["records"].as_array().unwrap().clone()
    };
    assert_eq!(reveals().await.len(), 0, "nothing was shown");

    let revealed = world.done(200, "POST", &path, Value::Null).await;
    assert_eq!((&revealed["id"], &revealed["secret"]), (&json!(key), &json!(secret)));
    // A key that is shown on the socket is honoured there.
    let on_socket = ::http::Request::post(&path).header("x-api-key", &admin);
    assert_eq!(world.send(on_socket, "", operator()).await.json()["secret"], json!(secret));
    let records = reveals().await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["record"]["object"], json!({"id": key, "kind": "signing_key"}));
    assert_eq!(records[1]["record"]["actor"]["id"], "uid:1000");
    assert_eq!(
        world.ask(Who::OperatorFor("default"), "GET", &format!("{KEYS}/{key}"), Value::Null).await.json()["secret"],
        Value::Null
    );
}

/// Decision D27 for keys: a rotation is one change for all destinations, told with its secrets masked; a second one within the
/// overlap is refused unless it has none; a secret that a destination's scheme cannot use is refused whole.
#[tokio::test]
async fn a_key_is_rotated_with_an_overlap() {
    let world = World::new();
    let (key, old) = world.signing_key("default", json!({"kind": "source", "name": "till"})).await;
    let rotate = format!("{KEYS}/{key}/rotate");
    let destination = world.signed("default", json!({"preset": "standard", "key": key})).await.json();
    let before = world.get(&format!("{WEBHOOKS}/{}", text(&destination["id"]))).await.text;
    let rotated = world.done(200, "POST", &rotate, json!({"overlap": "1h"})).await;
    let new = text(&rotated["secret"]);
    assert!(new.starts_with("whsec_") && new != old);
    assert_eq!(rotated["destinations"], json!([destination["id"]]));
    assert_eq!(world.get(&format!("{WEBHOOKS}/{}", text(&destination["id"]))).await.text, before, "it is as it was");
    let read = world.get(&format!("{KEYS}/{key}")).await.json();
    assert_eq!(read["previous_expires_at"], rotated["previous_expires_at"]);
    assert_eq!(world.done(200, "POST", &format!("{KEYS}/{key}/reveal"), Value::Null).await["secret"], json!(new));
    assert_eq!(world.ask(Who::Operator, "POST", &rotate, json!({})).await.status, 409, "the overlap lasts");
    let unfit = world.ask(Who::Operator, "POST", &rotate, json!({"overlap": "0s", "secret": "no base64"})).await;
    assert_eq!((unfit.status, unfit.pointers()), (400, vec!["/secret".to_owned()]));
    for (body, pointer) in [(json!({"signature": "standard"}), "/signature"), (json!({"secret": "***"}), "/secret")] {
        assert_eq!(world.ask(Who::Operator, "POST", &rotate, body).await.pointers(), [pointer]);
    }
    world.done(200, "POST", &rotate, json!({"overlap": "0s"})).await;
    assert_eq!(world.get(&format!("{KEYS}/{key}")).await.json()["previous_expires_at"], Value::Null);

    let log = world.get("/v1/audit?object=signing_key&limit=100").await;
    let records = log.json()["records"].as_array().unwrap().clone();
    let told = |place: usize| (records[place]["record"]["action"].clone(), records[place]["record"]["after"].clone());
    assert_eq!(records.len(), 4, "{log:?}");
    assert_eq!(told(0).1["secret"], "*** (changed)");
    assert_eq!(told(3).0, "signing_key.create");
    assert_eq!(
        told(3).1,
        json!({"id": key, "kind": "source", "name": "till", "previous_expires_at": null, "secret": "***", "tenant": "default"})
    );
    assert!(!log.text.contains(&old) && !log.text.contains(&new), "{log:?}");
}
