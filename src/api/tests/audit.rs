//! What the audit log tells of each request, to whom, and that it can be verified with what the API gives away.

use super::access::{Things, webhook};
use super::*;
use crate::model::KeyId;
use crate::model::audit::{Kept, Link, Walk};

impl World {
    /// The records that somebody sees, newest first.
    async fn audit(&self, who: Who<'_>, query: &str) -> Vec<Value> {
        let answered = self.ask(who, "GET", &format!("/v1/audit?limit=1000{query}"), Value::Null).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        answered.json()["records"].as_array().cloned().unwrap()
    }

    async fn records(&self) -> u64 {
        self.get("/v1/audit/head").await.json()["head"]["number"].as_u64().unwrap()
    }
}

/// What is asked of a route so that it changes something.
fn body(route: &Route<Act>, things: &Things) -> Value {
    match (route.method.as_str(), route.pattern) {
        ("POST", WEBHOOKS) => json!({"name": "n", "http_endpoint_url": "https://a.example/"}),
        ("POST", "/v1/destinations/webhook/{id}/secret/rotate") => json!({"overlap": "1h"}),
        ("POST", "/v1/subscriptions/{type}/{id}/destinations") => json!({"destination": things.destination}),
        ("POST", "/v1/tenants") => json!({"id": "m9"}),
        ("POST", "/v1/event-types") => json!({"name": "n"}),
        ("PUT", "/v1/event-types/{name}") => json!({"description": "other"}),
        ("POST", "/v1/signing-keys") => json!({"kind": "source", "name": "n"}),
        ("POST", "/v1/signing-keys/{id}/rotate") => json!({}),
        ("POST", "/v1/keys") => json!({"role": "read", "name": "n", "tenant": things.tenant}),
        ("POST", "/v1/users") => json!({"role": "read", "name": "ben", "tenant": things.tenant}),
        ("POST", "/v1/subscriptions/{type}" | "/v1/replays") => json!({}),
        ("POST", "/webhooks/subscribe/{tenantId}") | ("PUT", "/webhooks/subscribe/{tenantId}") => {
            json!({"webhook_url": "https://a.example/", "retry_attempts": 1})
        }
        ("POST", "/api/{tenantslug}/webhooks") => webhook(),
        ("PUT", "/api/{tenantslug}/webhooks/{id}") => json!({"DestinationURL": "https://a.example/"}),
        ("PUT", "/v1/keys/{id}") => json!({"role": "operate"}),
        ("PUT", _) => json!({"name": "other"}),
        ("POST", _) | ("DELETE", _) => Value::Null,
        (method, pattern) => panic!("{method} {pattern}: say here what it is asked"),
    }
}

/// The path of the dialect `subscribe`.
const SUBSCRIBE: &str = "/webhooks/subscribe/{tenantId}";

/// How many things a request makes, changes or deletes: what a dialect registers are two.
fn things_changed(route: &Route<Act>) -> u64 {
    let is_dialect = !route.pattern.starts_with("/v1/");
    if is_dialect && route.method != Method::PUT { 2 } else { 1 }
}

/// P19: whoever changes something through a route leaves exactly one record of each thing, in his name; whoever is refused
/// leaves none.
#[tokio::test]
async fn each_change_leaves_one_record_and_a_refusal_none() {
    // An event says itself where it came from.
    let is_event = |route: &Route<Act>| route.pattern == "/v1/events";
    // It is refused over TCP, and has a test of its own.
    let is_reveal = |route: &Route<Act>| route.pattern.ends_with("/reveal");
    let is_change = |route: &Route<Act>| route.method != Method::GET && !is_event(route) && !is_reveal(route);
    for route in routes(&Settings::default()).into_iter().filter(is_change) {
        let at = format!("{} {}", route.method, route.pattern);
        let Access::Role(needed) = route.access else { panic!("{at}: anybody changes something") };
        let world = World::new();
        let (things, unknown) = (Things::make(&world, "m1").await, Things::unknown());
        if route.pattern.ends_with("/resend") {
            world.done(200, "POST", &things.path("/v1/deliveries/{id}/cancel"), Value::Null).await;
        }
        if route.pattern == "/v1/tenants/{id}" && route.method == Method::DELETE {
            // Only one that owns nothing is deleted.
            for pattern in [
                "/v1/keys/{id}",
                "/v1/signing-keys/{id}",
                "/v1/users/{id}",
                "/v1/subscriptions/{type}/{id}",
                "/v1/destinations/webhook/{id}",
            ] {
                world.done(204, "DELETE", &things.path(pattern), Value::Null).await;
            }
        }
        let is_subscribe = (route.method == Method::POST) && route.pattern == SUBSCRIBE;
        if is_subscribe || (route.pattern == "/v1/tenants/{id}" && route.method == Method::DELETE) {
            for pattern in [SUBSCRIBE, "/api/{tenantslug}/webhooks/{id}"] {
                world.done(200, "DELETE", &things.path(pattern), Value::Null).await;
            }
        }
        let made = world.done(201, "POST", "/v1/keys", json!({"role": "admin", "tenant": null, "name": "a"})).await;
        let (id, secret) = (text(&made["id"]), text(&made["secret"]));
        let low = world.key(if needed == Role::Admin { "operate" } else { "read" }, None).await;
        let (path, method) = (things.path(route.pattern), route.method.as_str());
        let before = world.records().await;

        let mut refused = vec![
            (world.ask(Who::Nobody, method, &path, body(&route, &things)).await, 401),
            (world.ask(Who::KeyFor(&low, "m1"), method, &path, body(&route, &things)).await, 403),
        ];
        if !body(&route, &things).is_null() {
            refused.push((world.ask(Who::KeyFor(&secret, "m1"), method, &path, json!({"nonsense": 1})).await, 400));
        }
        if route.pattern.contains("{id}") || route.pattern.contains("{name}") {
            let (nowhere, body) = (unknown.path(route.pattern), body(&route, &unknown));
            refused.push((world.ask(Who::KeyFor(&secret, "m1"), method, &nowhere, body).await, 404));
        }
        for (answered, status) in refused {
            assert_eq!(answered.status, status, "{at}: {answered:?}");
        }
        assert_eq!(world.records().await, before, "{at}: a refusal left a record");

        let answered = world.ask(Who::KeyFor(&secret, "m1"), method, &path, body(&route, &things)).await;
        assert!(answered.status < 300, "{at}: {answered:?}");
        let changed = things_changed(&route);
        assert_eq!(world.records().await, before + changed, "{at}");
        let record = &world.audit(Who::Operator, "").await[0]["record"];
        let tenant = match route.pattern {
            "/v1/tenants" => json!("m9"),
            // They are everybody's.
            "/v1/event-types" | "/v1/event-types/{name}" => Value::Null,
            _ => json!("m1"),
        };
        assert_eq!((&record["actor"]["id"], &record["tenant"]), (&json!(id), &tenant), "{at}: {record}");
        assert_eq!(
            (&record["request"], &record["number"]),
            (&json!("req_1"), &json!(before + changed)),
            "{at}: {record}"
        );
        assert_eq!(record["from"]["address"], "127.0.0.1:40000", "{at}: {record}");
        let kind = text(&record["object"]["kind"]);
        assert!(
            path.contains(&format!("/{}s", kind.replace('_', "-")))
                || path.contains("deliveries")
                || path.contains("event_history")
                || (!path.starts_with("/v1/") && ["destination", "subscription"].contains(&&*kind)),
            "{at}: {record}"
        );
        assert!(text(&record["action"]).starts_with(&format!("{kind}.")), "{at}: {record}");
    }
}

/// P19: a test names the event that it sent, which carries what its sender chose; a refused test is in no record.
#[tokio::test]
async fn a_test_names_what_it_sent() {
    let world = World::new();
    let destination = world.destination("default").await;
    let path = format!("{WEBHOOKS}/{destination}/test");
    let body = json!({"type": "sale", "data": {"note": "canary-data"}});
    world.done(202, "POST", &path, body.clone()).await;
    let event = text(&world.get("/v1/events").await.json()["events"][0]["id"]);
    let records = world.audit(Who::Operator, "&action=destination.test").await;
    let record = &records[0]["record"];
    assert_eq!(record["object"], json!({"id": destination, "kind": "destination"}));
    assert_eq!((&record["before"], &record["after"]), (&Value::Null, &json!({"event": event, "type": "sale"})));
    world.service.drain();
    assert_eq!(world.ask(Who::Operator, "POST", &path, body).await.code(), "draining");
    assert_eq!(world.audit(Who::Operator, "&action=destination.test").await.len(), 1);
}

/// Payloads are audited: whoever is shown some is in the log before he sees them, with the events' ids, once a request.
#[tokio::test]
async fn whoever_is_shown_payloads_is_in_the_log() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    let (other, erased) = (world.event("m1", "t").await, world.event("m1", "t").await);
    world.done(204, "DELETE", &format!("/v1/events/{erased}/payload"), Value::Null).await;
    let (read, operate) = (world.key("read", Some("m1")).await, world.key("operate", Some("m1")).await);
    let begun = world.records().await;
    let one = things.path("/v1/events/{id}");
    let nothing_shown = [
        "/v1/events?type=none&payload=true",
        "/v1/events?limit=0&payload=true",
        "/v1/events",
        "/v1/events?payload=false",
    ];
    let nothing_shown = nothing_shown.map(str::to_owned).into_iter();
    let nothing_shown = nothing_shown.chain([format!("/v1/events/{erased}"), format!("{one}?payload=false")]);
    let nothing_shown: Vec<_> = nothing_shown.collect();
    for (key, path) in nothing_shown.iter().map(|path| (&operate, path)).chain([(&read, &one)]) {
        assert_eq!(world.ask(Who::Key(key), "GET", path, Value::Null).await.status, 200, "{path}");
    }
    assert_eq!(world.records().await, begun, "nothing was shown");
    assert_eq!(world.ask(Who::Key(&operate), "GET", &one, Value::Null).await.status, 200);
    assert_eq!(world.ask(Who::Key(&operate), "GET", "/v1/events?payload=true", Value::Null).await.status, 200);
    assert_eq!(world.get("/v1/events?producer_id=none&payload=true").await.status, 200);
    let records = world.audit(Who::OperatorFor("m1"), "&action=event.read_payload").await;
    assert_eq!((records.len(), world.records().await), (2, begun + 2));
    assert_eq!(records[1]["record"]["object"], json!({"id": things.event, "kind": "event"}));
    assert_eq!(records[0]["record"]["after"], json!({"events": [other, things.event]}));
}

/// P19, P17: the log's text and hashes are enough to verify it; whoever is bound to a tenant sees that one's part.
#[tokio::test]
async fn the_log_is_read_in_pages_and_verified_from_outside() {
    let world = World::new();
    let (own, foreign) = (Things::make(&world, "m1").await, Things::make(&world, "m2").await);
    world.done(200, "PUT", &own.path("/v1/destinations/webhook/{id}"), json!({"name": "other"})).await;
    let head = world.get("/v1/audit/head").await.json()["head"].clone();
    let head: Link = format!("{}:{}", head["number"], text(&head["hash"])).parse().unwrap();
    let (mut walk, mut path) = (Walk::from(head), "/v1/audit?limit=3".to_owned());
    loop {
        let page = world.get(&path).await;
        for row in page.json()["records"].as_array().unwrap() {
            // What is hashed stands in the answer as it is.
            let record = row["record"].to_string();
            assert!(page.text.contains(&record), "{record}");
            walk.follow(&Kept { previous: text(&row["previous"]).parse().unwrap(), text: record }).unwrap();
        }
        match page.json()["next"].as_str() {
            Some(next) => path = format!("/v1/audit?limit=3&after={next}"),
            None => break,
        }
    }
    walk.end(Link::START).unwrap();

    let key = world.key("admin", Some("m1")).await;
    let seen = world.audit(Who::Key(&key), "").await;
    assert!(!seen.is_empty() && seen.iter().all(|row| row["record"]["tenant"] == "m1"), "{seen:?}");
    for row in &seen {
        assert!(foreign.all()[1..].iter().all(|id| !row.to_string().contains(id)), "{row}");
    }
    for (path, status) in [("/v1/audit/head", 403), ("/v1/audit?tenant=m2", 403), ("/v1/audit?tenant=m1", 200)] {
        assert_eq!(world.ask(Who::Key(&key), "GET", path, Value::Null).await.status, status, "{path}");
    }
    let found = async |query: String| world.audit(Who::Operator, &query).await.len();
    assert_eq!(found(format!("&object={}", own.destination.to_lowercase())).await, 2);
    assert_eq!(found("&action=destination.create&tenant=m2".into()).await, 3);
    assert_eq!(found("&actor=uid:1000&object=subscription".into()).await, 6);
    assert_eq!(found("&to=2000-01-01T00:00:00Z".into()).await, 0);
    let update = &world.audit(Who::Operator, "&action=destination.update").await[0]["record"];
    assert_eq!((&update["before"], &update["after"]), (&json!({"name": "d"}), &json!({"name": "other"})));
    assert_eq!(update["from"], json!({"uid": 1000, "gid": 1000, "pid": 1}));
    for wrong in ["&action=a*", "&from=today", "&nonsense=1"] {
        assert_eq!(world.get(&format!("/v1/audit?limit=1{wrong}")).await.status, 400, "{wrong}");
    }
}

/// P17: whoever takes the id of a deleted tenant sees what was done since, and nothing of the one that had it before, also when
/// he asks by the cursor of an older page. Whoever administers all tenants sees both.
#[tokio::test]
async fn a_tenant_that_took_a_deleted_ones_id_does_not_see_its_audit_log() {
    let world = World::new();
    world.done(201, "POST", "/v1/tenants", json!({"id": "m1", "name": "before"})).await;
    world.done(200, "PUT", "/v1/tenants/m1", json!({"name": "after"})).await;
    world.done(204, "DELETE", "/v1/tenants/m1", Value::Null).await;
    world.done(201, "POST", "/v1/tenants", json!({"id": "m1", "name": "another"})).await;
    world.done(200, "PUT", "/v1/tenants/m1", json!({"name": "a name that changes"})).await;
    let admin = world.key("admin", Some("m1")).await;
    let actions = |seen: &[Value]| seen.iter().map(|row| text(&row["record"]["action"])).collect::<Vec<_>>();
    let own = ["key.create", "tenant.update", "tenant.create"];
    for query in ["", "&tenant=m1"] {
        let seen = world.audit(Who::Key(&admin), query).await;
        assert_eq!(actions(&seen), own);
        assert_eq!(seen[2]["record"]["after"]["name"], "another");
    }
    assert_eq!(actions(&world.audit(Who::OperatorFor("m1"), "").await), own);
    let oldest = world.ask(Who::Operator, "GET", "/v1/audit?limit=5&tenant=m1", Value::Null).await.json();
    let beyond = format!("&tenant=m1&after={}", text(&oldest["next"]));
    assert_eq!(actions(&world.audit(Who::Key(&admin), &beyond).await), [""; 0]);
    let all = actions(&world.audit(Who::Operator, "&tenant=m1").await);
    assert_eq!(all[..3], own);
    assert_eq!(all[3..], ["tenant.delete", "tenant.update", "tenant.create"]);
}

/// P16: what is secret in a request is in no record, as it is, in parts or hashed.
#[tokio::test]
async fn no_secret_is_in_the_log() {
    let world = World::new();
    let body = json!({
        "name": "d",
        "http_endpoint_url": "https://example.com/in",
        "headers": {"X-Api": "canary-header"},
        "auth": {"type": "basic", "username": "u", "password": "canary-password"},
        "signature": {"preset": "x-signature", "secret": "canary-signature"},
    });
    let id = text(&world.done(201, "POST", WEBHOOKS, body).await["id"]);
    let change = json!({"headers": {"X-Api": "canary-other"}, "auth": {"type": "bearer", "token": "canary-token"}});
    let path = format!("{WEBHOOKS}/{id}");
    world.done(200, "PUT", &path, change).await;
    let key = world.key("admin", None).await;
    world.done(204, "DELETE", &path, Value::Null).await;
    let log = world.get("/v1/audit?limit=1000").await.text;
    assert!(log.contains("*** (changed)") && log.contains("X-Api"), "{log}");
    let secrets = ["canary", &key[15..], &key];
    for secret in secrets {
        let digest = crate::model::id::hex(&<sha2::Sha256 as sha2::Digest>::digest(secret));
        assert!(!log.contains(secret) && !log.contains(&digest), "{secret}");
    }
    let id: KeyId =
        text(&serde_json::from_str::<Value>(&log).unwrap()["records"][1]["record"]["object"]["id"]).parse().unwrap();
    assert!(key.contains(&id.to_string()), "the key's public part names it");
}
