//! Source 002's destinations, and what is beyond it.

use super::*;

fn minimal() -> Value {
    json!({"name": "My Webhook", "http_endpoint_url": "https://example.com/webhook"})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = minimal();
    body[field] = value;
    body
}

/// S2.2, S2.3: the types of destinations, and where each is listed.
#[tokio::test]
async fn the_types_of_destinations_are_listed() {
    let world = World::new();
    let types = world.done(200, "GET", "/v1/destinations", Value::Null).await;
    assert_eq!(types, json!({"urls": ["/v1/destinations/webhook"]}));
}

/// S2.9, S2.12, S2.16, S2.18, S2.22, S2.24, S2.25, S2.26, S2.30, S2.31: what is created is answered in full with its `url`,
/// and read again without it.
#[tokio::test]
async fn a_destination_is_created_and_read() {
    let world = World::new();
    let answered = world.ask(Who::Operator, "POST", WEBHOOKS, minimal()).await;
    let made = answered.json();
    assert_eq!(answered.status, 201);
    assert_eq!(answered.headers["location"].to_str().unwrap(), text(&made["url"]));
    let id = text(&made["id"]);
    assert_eq!(id, id.to_uppercase());
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
    assert_eq!(made["url"], format!("{WEBHOOKS}/{id}"));
    let created = text(&made["created"]);
    assert!(created.starts_with("2023-11-14T22:13:2") && created.ends_with('Z'), "{created}");
    assert_eq!((&made["method"], &made["disabled"], &made["headers"]), (&json!("POST"), &json!(false), &json!({})));
    assert_eq!(made["lane"], json!({"state": "open", "until": null}));
    let read = world.done(200, "GET", &format!("{WEBHOOKS}/{}", id.to_lowercase()), Value::Null).await;
    assert!(read.get("url").is_none());
    for field in
        ["id", "name", "description", "http_endpoint_url", "method", "headers", "confirmed", "disabled", "created"]
    {
        assert!(read.get(field).is_some(), "{field}");
        assert_eq!(read[field], made[field], "{field}");
    }
}

/// What is wrong is told as the rule that it breaks: "is not empty" of what is empty would be the opposite of what is so.
#[tokio::test]
async fn a_broken_rule_is_told_as_a_rule() {
    let world = World::new();
    let table = [
        (with("name", json!("x".repeat(125))), "must have 1 to 124 characters"),
        (with("method", json!("GET")), "must be POST or PUT"),
        (with("in_flight_max", json!(1001)), "must be 1 to 1000"),
        (with("timeout", json!("0s")), "must be a span of 1s to 2m"),
        (with("auth", json!({"type": "bearer", "token": ""})), "must not be empty"),
        (with("auth", json!({"type": "basic", "username": "a:b", "password": ""})), "must not have a colon (RFC 7617)"),
        (with("success", json!({"status": ["600"]})), "must lie between 200 and 599"),
    ];
    for (body, rule) in table {
        let answer = world.ask(Who::Operator, "POST", WEBHOOKS, body).await.json();
        assert_eq!(answer["errors"][0]["detail"], rule, "{answer}");
    }
}

/// S2.13, S2.14, S2.15, S2.16, S2.17, S2.20, S2.21, S2.27: what breaks a rule is a 400 that names its place.
#[tokio::test]
async fn a_wrong_create_names_its_fields() {
    let world = World::new();
    let table = [
        (json!({}), vec!["/name", "/http_endpoint_url"]),
        (with("name", json!("")), vec!["/name"]),
        (with("name", json!("x".repeat(125))), vec!["/name"]),
        (with("description", json!("")), vec!["/description"]),
        (with("description", json!("x".repeat(257))), vec!["/description"]),
        (with("http_endpoint_url", json!("")), vec!["/http_endpoint_url"]),
        (with("http_endpoint_url", json!("https://example.com:1/")), vec!["/http_endpoint_url"]),
        (with("method", json!("GET")), vec!["/method"]),
        (with("headers", json!({"Host": "x"})), vec!["/headers/Host"]),
        (with("headers", json!({"X-A": "a\r\nb"})), vec!["/headers/X-A"]),
        (with("headers", json!({"X-A": 1})), vec!["/headers/X-A"]),
        (with("disabled", json!("yes")), vec!["/disabled"]),
        (with("auth", json!({"type": "basic"})), vec!["/auth/username", "/auth/password"]),
        (with("auth", json!({"type": "shared_secret", "header": "Host"})), vec!["/auth/header", "/auth/secret"]),
        (with("retry", json!({"schedule": "weekly"})), vec!["/retry/schedule"]),
        (with("signature", json!({"preset": "adyen-like", "secret": "this is not hex"})), vec!["/signature"]),
        (with("signature", json!({"preset": "adyen-like", "secret": "00112233445566"})), vec!["/signature"]),
        (
            with("signature", json!([{"preset": "standard"}, {"preset": "x-signature", "secret": "seven77"}])),
            vec!["/signature/1/secret"],
        ),
        (with("id", json!("9603F4B2-1874-42FE-A2BC-F7B45C45A9D6")), vec!["/id"]),
        (with("paused", json!(true)), vec!["/paused"]),
        (with("lane", json!({"state": "open"})), vec!["/lane"]),
        (with("nmae", json!("x")), vec!["/nmae"]),
        (json!([]), vec!["/0"]),
    ];
    for (body, pointers) in table {
        let answered = world.ask(Who::Operator, "POST", WEBHOOKS, body.clone()).await;
        assert_eq!(answered.status, 400, "{body}: {answered:?}");
        if body.is_object() {
            assert_eq!(answered.pointers(), pointers, "{body}: {answered:?}");
        }
    }
    assert_eq!(world.get(WEBHOOKS).await.json()["webhook"], json!([]));
}

/// S2.19, S2.23, decision D22: unconfirmed where receivers are asked, confirmed in the mode `off`, unless the creator says
/// otherwise.
#[tokio::test]
async fn a_destination_is_confirmed_from_its_creation_only_where_nobody_asks() {
    for (world, confirmed) in [(World::new(), true), (World::confirming(), false)] {
        assert_eq!(world.done(201, "POST", WEBHOOKS, minimal()).await["confirmed"], confirmed);
        for said in [true, false] {
            assert_eq!(world.done(201, "POST", WEBHOOKS, with("confirmed", json!(said))).await["confirmed"], said);
        }
    }
}

/// S2.5, S2.6, S2.7, S2.8, S2.10, S2.11: pages by limit and offset, by cursor, in a stable order.
#[tokio::test]
async fn destinations_are_listed_in_pages() {
    let world = World::new();
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(world.destination("default").await);
    }
    let page = async |query: &str| {
        let list = world.done(200, "GET", &format!("{WEBHOOKS}{query}"), Value::Null).await;
        let rows: Vec<_> = list["webhook"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect();
        (rows, list["next"].as_str().map(str::to_owned))
    };
    assert_eq!(page("").await.0, ids[..10]);
    assert_eq!(page("?limit=0").await, (vec![], None));
    assert_eq!(page("?limit=1000").await, (ids.clone(), None));
    assert_eq!(page("?limit=3&offset=10").await, (ids[10..].to_vec(), None));
    assert_eq!(page("?offset=12").await, (vec![], None));
    let (mut seen, mut query) = (Vec::new(), "?limit=5".to_owned());
    loop {
        let (rows, next) = page(&query).await;
        seen.extend(rows);
        let Some(next) = next else { break };
        query = format!("?limit=5&after={next}");
    }
    assert_eq!(seen, ids);
    // What is deleted in between moves nothing that a cursor has passed.
    let (_, next) = page("?limit=5").await;
    world.done(204, "DELETE", &format!("{WEBHOOKS}/{}", ids[4]), Value::Null).await;
    assert_eq!(page(&format!("?after={}", next.unwrap())).await.0, ids[5..]);
    for wrong in ["limit=1001", "limit=-1", "offset=-1", "offset=10001", "after=x", "limit=1&limit=2", "page=2"] {
        let answered = world.get(&format!("{WEBHOOKS}?{wrong}")).await;
        assert_eq!((answered.status, answered.code().as_str()), (400, "bad_query"), "{wrong}");
    }
}

/// S2.34, S2.35, S2.36, S2.37, S2.38, S2.39: an update changes what it says, answers with the whole, and refuses the rest.
#[tokio::test]
async fn a_destination_is_updated_in_part() {
    let world = World::new();
    let id = world.destination("default").await;
    let path = format!("{WEBHOOKS}/{id}");
    let changed =
        world.done(200, "PUT", &path, json!({"name": "New", "description": "Changed", "disabled": true})).await;
    assert_eq!((&changed["name"], &changed["disabled"]), (&json!("New"), &json!(true)));
    assert_eq!((&changed["http_endpoint_url"], &changed["method"]), (&json!("https://example.com/in"), &json!("POST")));
    let changes = json!({"http_endpoint_url": "https://b.example/", "method": "PUT", "headers": {"X-A": "s3cret"}});
    let changed = world.done(200, "PUT", &path, changes).await;
    assert_eq!((&changed["method"], &changed["headers"]), (&json!("PUT"), &json!({"X-A": "***"})));
    // What was read can be sent back as it is.
    let read = world.done(200, "GET", &path, Value::Null).await;
    assert_eq!(world.done(200, "PUT", &path, read.clone()).await, read);
    let table = [
        (json!({"confirmed": false}), "/confirmed"),
        (json!({"id": "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6"}), "/id"),
        (json!({"created": "2020-01-01T00:00:00Z"}), "/created"),
        (json!({"paused": true}), "/paused"),
        (json!({"name": null}), "/name"),
        (json!({"method": "PATCH"}), "/method"),
        (json!({"http_endpoint_url": "https://b.example:1/"}), "/http_endpoint_url"),
        (json!({"retry": {"schedule": "weekly"}}), "/retry/schedule"),
    ];
    for (body, pointer) in table {
        let answered = world.ask(Who::Operator, "PUT", &path, body.clone()).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    assert_eq!(world.done(200, "GET", &path, Value::Null).await, read, "a refused update changes nothing");
}

/// S2.40, S2.41: a delete is a 204 without a body; afterwards there is nothing.
#[tokio::test]
async fn a_destination_is_deleted() {
    let world = World::new();
    let path = format!("{WEBHOOKS}/{}", world.destination("default").await);
    let answered = world.ask(Who::Operator, "DELETE", &path, Value::Null).await;
    assert_eq!((answered.status, answered.text.as_str()), (204, ""));
    for method in ["GET", "DELETE"] {
        assert_eq!(world.ask(Who::Operator, method, &path, Value::Null).await.status, 404, "{method}");
    }
}

/// SX.5, S2.33, S0.43, S1.34, decision D11: secrets go in and do not come out, but for one that was made here, once.
#[tokio::test]
async fn secrets_do_not_come_out() {
    let world = World::new();
    let body = json!({
        "name": "n", "http_endpoint_url": "https://example.com/",
        "headers": {"X-Key": "canary-header"},
        "auth": {"type": "basic", "username": "till", "password": "canary-password"},
        "signature": {"preset": "x-signature", "secret": "canary-signature"},
    });
    let made = world.ask(Who::Operator, "POST", WEBHOOKS, body).await;
    let path = text(&made.json()["url"]);
    let rename = json!({"name": "m"});
    let mut shown = vec![made.text, world.get(&path).await.text, world.get(WEBHOOKS).await.text];
    shown.push(world.ask(Who::Operator, "PUT", &path, rename.clone()).await.text);
    shown.push(world.ask(Who::Operator, "POST", &format!("{path}/pause"), Value::Null).await.text);
    for text in shown {
        assert!(!text.contains("canary"), "{text}");
    }
    let made = world.done(201, "POST", WEBHOOKS, minimal()).await;
    let (path, secret) = (text(&made["url"]), text(&made["signature"][0]["secret"]));
    assert!(secret.starts_with("whsec_"));
    assert_eq!(made["signature"][1]["secret"], *secret, "decision D27: one secret for both");
    assert!(!world.get(&path).await.text.contains(&secret));
    assert!(!world.ask(Who::Operator, "PUT", &path, rename).await.text.contains(&secret));
    let anew = world.done(200, "PUT", &path, json!({"signature": {"preset": "github-like"}})).await;
    let fresh = text(&anew["signature"]["secret"]);
    assert!(fresh != secret && !world.get(&path).await.text.contains(&fresh));
}

/// Only an administrator of all tenants opens private addresses, and nobody else moves what one opened.
#[tokio::test]
async fn private_addresses_are_opened_by_house_administrators_only() {
    let world = World::new();
    world.tenant("m1").await;
    let house = world.key("admin", None).await;
    let body = with("allow_private", json!(true));
    for key in [world.key("admin", Some("m1")).await, world.key("operate", None).await] {
        let refused = world.ask(Who::Key(&key), "POST", WEBHOOKS, body.clone()).await;
        assert_eq!((refused.status, refused.pointers()), (403, vec!["/allow_private".to_owned()]));
    }
    let made = world.ask(Who::KeyFor(&house, "m1"), "POST", WEBHOOKS, body).await;
    assert_eq!(made.status, 201);
    let path = text(&made.json()["url"]);
    let bound = world.key("admin", Some("m1")).await;
    let put = async |key: &str, body: Value| world.ask(Who::Key(key), "PUT", &path, body).await.status;
    assert_eq!(put(&bound, json!({"name": "renamed", "allow_private": true})).await, 200);
    assert_eq!(put(&bound, json!({"http_endpoint_url": "https://10.0.0.9/"})).await, 403);
    assert_eq!(put(&house, json!({"http_endpoint_url": "https://10.0.0.9/"})).await, 200);
    assert_eq!(put(&bound, json!({"allow_private": false, "http_endpoint_url": "https://b.example/"})).await, 200);
    assert_eq!(put(&bound, json!({"allow_private": true})).await, 403);
}

/// A pause holds what waits and says so; a resume lets it go on.
#[tokio::test]
async fn a_destination_is_paused_and_resumed() {
    let world = World::new();
    let id = world.destination("default").await;
    world.subscription("default", "t", &[&id]).await;
    world.event("default", "t").await;
    let steer = async |verb: &str| world.done(200, "POST", &format!("{WEBHOOKS}/{id}/{verb}"), Value::Null).await;
    let waiting = async || {
        let list = world.get("/v1/deliveries").await.json();
        let status = world.get("/v1/status").await.json();
        (list["deliveries"][0]["state"].clone(), status["held"].clone(), status["pending"].clone())
    };
    for _ in 0..2 {
        let view = steer("pause").await;
        assert_eq!((&view["paused"], &view["lane"]["state"]), (&json!(true), &json!("paused")));
        assert_eq!(waiting().await, (json!("held"), json!(1), json!(0)));
    }
    // What is shown of a lane can be sent back, and is not how it is changed.
    let path = format!("{WEBHOOKS}/{id}");
    let put = async |body: Value| world.ask(Who::Operator, "PUT", &path, body).await;
    assert_eq!(put(world.get(&path).await.json()).await.status, 200);
    assert_eq!(put(json!({"lane": {"state": "paused", "until": "2030-01-01T00:00:00Z"}})).await.status, 200);
    for (body, pointer) in [
        (json!({"lane": {"state": "open"}}), "/lane/state"),
        (json!({"lane": {}}), "/lane/state"),
        (json!({"lane": null}), "/lane"),
        (json!({"lane": "paused"}), "/lane"),
        (json!({"lane": {"state": "paused", "x": 1}}), "/lane/x"),
        (json!({"paused": false}), "/paused"),
    ] {
        let refused = put(body.clone()).await;
        assert_eq!((refused.status, refused.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    let view = steer("resume").await;
    assert_eq!((&view["paused"], &view["lane"]["state"]), (&json!(false), &json!("open")));
    assert_eq!(waiting().await, (json!("pending"), json!(0), json!(1)));
}

/// Two signatures with one secret rotate together; the answer shows the new secret this once, and the view when the old one
/// ends.
#[tokio::test(start_paused = true)]
async fn a_secret_is_rotated_with_an_overlap() {
    let world = World::new();
    let body = json!({"name": "d", "http_endpoint_url": "https://example.com/in"});
    let made = world.done(201, "POST", WEBHOOKS, body).await;
    let path = format!("{WEBHOOKS}/{}", text(&made["id"]));
    let rotate = async |body: Value| world.ask(Who::Operator, "POST", &format!("{path}/secret/rotate"), body).await;
    let rotated = rotate(json!({})).await;
    assert_eq!((rotated.status, &rotated.json()["previous_expires_at"]), (200, &json!("2023-11-15T22:13:20.000Z")));
    let secret = text(&rotated.json()["secret"]);
    assert!(secret.starts_with("whsec_") && made["signature"][0]["secret"] != secret);
    let view = world.get(&path).await;
    for place in 0..2 {
        assert_eq!(view.json()["signature"][place]["previous_expires_at"], "2023-11-15T22:13:20.000Z");
    }
    assert!(!view.text.contains(&secret));
    assert_eq!(world.done(200, "PUT", &path, view.json()).await, view.json(), "what was read can be sent back");
    assert_eq!(rotate(json!({"overlap": "1h"})).await.code(), "conflict");
    let own = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let rotated = rotate(json!({"overlap": "0s", "secret": own})).await.json();
    assert_eq!(
        (&rotated["secret"], &rotated["previous_expires_at"]),
        (&json!(own), &json!("2023-11-14T22:13:20.000Z"))
    );
    for (body, pointer) in [
        (json!({"overlap": "32d"}), "/overlap"),
        (json!({"overlap": null}), "/overlap"),
        (json!({"secret": ""}), "/secret"),
        (json!({"secret": "***"}), "/secret"),
        (json!({"secret": own}), "/secret"),
        (json!({"secret": "short"}), "/secret"),
        (json!({"secret": "no whsec_"}), "/secret"),
        (json!({"signature": "x-signature"}), "/signature"),
        (json!({"signature": ""}), "/signature"),
    ] {
        let refused = rotate(body.clone()).await;
        assert_eq!((refused.status, refused.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    world.done(200, "PUT", &path, json!({"signature": {"preset": "none"}})).await;
    let refused = rotate(json!({})).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
}

#[tokio::test(start_paused = true)]
async fn a_destination_tells_how_it_does() {
    let world = World::new();
    let id = world.destination("default").await;
    world.subscription("default", "t", &[&id]).await;
    let stats = async || world.done(200, "GET", &format!("{WEBHOOKS}/{id}/stats"), Value::Null).await;
    let empty = stats().await;
    assert_eq!((&empty["destination_id"], &empty["oldest_waiting_at"]), (&json!(id), &Value::Null));
    assert_eq!((&empty["attempts"][0]["success_rate"], &empty["sample"]["deliveries"]), (&Value::Null, &json!(0)));
    for _ in 0..3 {
        world.event("default", "t").await;
    }
    let delivery = text(&world.get("/v1/deliveries").await.json()["deliveries"][0]["id"]);
    world.done(200, "POST", &format!("/v1/deliveries/{delivery}/cancel"), Value::Null).await;
    let now = stats().await;
    let deliveries = json!({"accepted": 3, "pending": 2, "held": 0, "succeeded": 0, "failed": 0, "cancelled": 1});
    assert_eq!((&now["deliveries"], &now["lane"]["state"]), (&deliveries, &json!("open")));
    assert_eq!(now["oldest_waiting_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(now["sample"], json!({"deliveries": 3, "complete": true, "from": null}));
    let within: Vec<_> = now["attempts"].as_array().unwrap().iter().map(|it| it["within"].clone()).collect();
    assert_eq!(within, ["1h", "24h", "168h"]);
    world.done(200, "POST", &format!("{WEBHOOKS}/{id}/pause"), Value::Null).await;
    assert_eq!(stats().await["deliveries"]["held"], 2);
}
