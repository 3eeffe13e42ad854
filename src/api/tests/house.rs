//! Tenants, keys, status.

use super::*;

#[tokio::test]
async fn a_tenant_is_made_read_changed_and_deleted() {
    let world = World::new();
    let made = world.done(201, "POST", "/v1/tenants", json!({"id": "reseller"})).await;
    assert_eq!((&made["name"], &made["parent"]), (&json!("reseller"), &Value::Null));
    world.done(201, "POST", "/v1/tenants", json!({"id": "m1", "name": "Shop", "parent": "reseller"})).await;
    world.done(409, "POST", "/v1/tenants", json!({"id": "m1"})).await;
    for (method, path, body, pointer) in [
        ("POST", "/v1/tenants", json!({"id": "m2", "parent": "nobody"}), "/parent"),
        ("POST", "/v1/tenants", json!({"id": "a b"}), "/id"),
        ("PUT", "/v1/tenants/reseller", json!({"parent": "m1"}), "/parent"),
        ("PUT", "/v1/tenants/m1", json!({"id": "m9"}), "/id"),
    ] {
        let answered = world.ask(Who::Operator, method, path, body.clone()).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    assert_eq!(world.done(200, "PUT", "/v1/tenants/m1", json!({"name": "Books"})).await["parent"], "reseller");
    let list = world.done(200, "GET", "/v1/tenants", Value::Null).await;
    let mut ids: Vec<_> = list["tenants"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["default", "m1", "reseller"]);
    world.done(409, "DELETE", "/v1/tenants/reseller", Value::Null).await;
    world.done(409, "DELETE", "/v1/tenants/default", Value::Null).await;
    world.done(204, "DELETE", "/v1/tenants/m1", Value::Null).await;
    world.done(204, "DELETE", "/v1/tenants/reseller", Value::Null).await;
    world.done(404, "DELETE", "/v1/tenants/reseller", Value::Null).await;
    world.done(201, "POST", "/v1/tenants", json!({"id": "m1"})).await;
}

/// Lists without numbers are in a stable order too: every page goes on where the one before ended.
#[tokio::test]
async fn tenants_are_listed_in_pages() {
    let world = World::new();
    for n in 0..9 {
        world.tenant(&format!("m{n}")).await;
    }
    let (mut seen, mut query) = (Vec::new(), "limit=4".to_owned());
    loop {
        let list = world.done(200, "GET", &format!("/v1/tenants?{query}"), Value::Null).await;
        seen.extend(list["tenants"].as_array().unwrap().iter().map(|row| text(&row["id"])));
        let Some(next) = list["next"].as_str() else { break };
        query = format!("limit=4&after={next}");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

/// SX.5: a key's secret is shown when it is made, and never again; deleted, it opens nothing.
#[tokio::test]
async fn a_key_shows_its_secret_once_and_opens_until_it_is_deleted() {
    let world = World::new();
    let made = world.done(201, "POST", "/v1/keys", json!({"role": "operate", "tenant": null, "name": "till"})).await;
    let (id, secret) = (text(&made["id"]), text(&made["secret"]));
    let path = format!("/v1/keys/{id}");
    let read = world.done(200, "GET", &path, Value::Null).await;
    assert_eq!((&read["role"], &read["tenant"], read.get("secret")), (&json!("operate"), &Value::Null, None));
    assert_eq!(world.done(200, "PUT", &path, read.clone()).await, read, "what was read can be sent back");
    for text in [world.get("/v1/keys").await.text, world.get(&path).await.text] {
        assert!(!text.contains(&secret[16..]));
    }
    let opens =
        async || world.ask(Who::Key(&secret), "POST", "/v1/events", json!({"type": "t", "data": 1})).await.status;
    assert_eq!(opens().await, 202);
    let changed = world.done(200, "PUT", &path, json!({"role": "read", "name": "kiosk"})).await;
    assert_eq!((&changed["role"], &changed["name"]), (&json!("read"), &json!("kiosk")));
    assert_eq!(opens().await, 403, "the new role counts at once");
    for (body, pointer) in [
        (json!({"tenant": "m1"}), "/tenant"),
        (json!({"role": "root"}), "/role"),
        (json!({"role": null}), "/role"),
        (json!({"name": null}), "/name"),
        (json!({"id": "x"}), "/id"),
    ] {
        assert_eq!(world.ask(Who::Operator, "PUT", &path, body).await.pointers(), [pointer]);
    }
    world.done(204, "DELETE", &path, Value::Null).await;
    assert_eq!(opens().await, 401);
    world.done(404, "PUT", &path, json!({"role": "admin"})).await;
}

/// Nobody makes a key that reaches further than his own.
#[tokio::test]
async fn a_bound_administrator_makes_keys_for_its_tenant_only() {
    let world = World::new();
    world.tenant("m1").await;
    world.tenant("m2").await;
    let admin = world.key("admin", Some("m1")).await;
    let foreign = world.done(201, "POST", "/v1/keys", json!({"role": "read", "tenant": "m2"})).await;
    let house = world.done(201, "POST", "/v1/keys", json!({"role": "read", "tenant": null})).await;
    let make = async |body: Value| world.ask(Who::Key(&admin), "POST", "/v1/keys", body).await;
    assert_eq!(make(json!({"role": "read"})).await.json()["tenant"], "m1");
    assert_eq!(make(json!({"role": "admin", "tenant": "m1"})).await.status, 201);
    for tenant in [json!(null), json!("m2"), json!("nobody")] {
        let refused = make(json!({"role": "read", "tenant": tenant})).await;
        assert_eq!((refused.status, refused.pointers()), (403, vec!["/tenant".to_owned()]), "{tenant}");
    }
    assert_eq!(make(json!({"role": "root"})).await.status, 400);
    for key in [foreign, house] {
        let path = format!("/v1/keys/{}", text(&key["id"]));
        for method in ["GET", "DELETE"] {
            assert_eq!(world.ask(Who::Key(&admin), method, &path, Value::Null).await.status, 404);
        }
    }
    let seen = world.ask(Who::Key(&admin), "GET", "/v1/keys", Value::Null).await.json();
    assert!(seen["keys"].as_array().unwrap().iter().all(|key| key["tenant"] == "m1"));
    let tenants = world.ask(Who::Key(&admin), "GET", "/v1/tenants", Value::Null).await.json();
    assert_eq!(tenants["tenants"].as_array().unwrap().len(), 1);
    let all = world.key("admin", None).await;
    for who in [Who::Operator, Who::Key(&all)] {
        let vague = world.ask(who, "POST", "/v1/keys", json!({"role": "read"})).await;
        assert_eq!((vague.status, vague.pointers()), (400, vec!["/tenant".to_owned()]), "{who:?}");
    }
    let named = world.ask(Who::KeyFor(&all, "m2"), "POST", "/v1/keys", json!({"role": "read"})).await;
    assert_eq!(named.json()["tenant"], "m2");
    let unknown = world.ask(Who::Key(&all), "POST", "/v1/keys", json!({"role": "read", "tenant": "nobody"})).await;
    assert_eq!((unknown.status, unknown.pointers()), (400, vec!["/tenant".to_owned()]));
}

/// Status counts what the caller sees, and only that.
#[tokio::test]
async fn status_counts_what_the_caller_sees() {
    let world = World::new();
    for tenant in ["m1", "m2"] {
        world.tenant(tenant).await;
        let id = world.destination(tenant).await;
        world.subscription(tenant, "*", &[&id]).await;
        world.event(tenant, "t").await;
    }
    let all = world.done(200, "GET", "/v1/status", Value::Null).await;
    assert_eq!((&all["events"], &all["accepted"], &all["pending"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!((&all["oldest_pending_seconds"], &all["failed"], &all["held"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(all["damaged_records"], 0);
    assert_eq!(all["tenant"], Value::Null);
    let (bound, house) = (world.key("read", Some("m1")).await, world.key("read", None).await);
    assert_eq!(world.ask(Who::Key(&house), "GET", "/v1/status", Value::Null).await.json(), all);
    for who in [Who::Key(&bound), Who::KeyFor(&house, "m1"), Who::OperatorFor("m1")] {
        let one = world.ask(who, "GET", "/v1/status", Value::Null).await.json();
        assert_eq!(
            (&one["tenant"], &one["accepted"], &one["pending"]),
            (&json!("m1"), &json!(1), &json!(1)),
            "{who:?}"
        );
        assert_eq!((&one["events"], &one["oldest_pending_seconds"]), (&Value::Null, &Value::Null), "{who:?}");
    }
    let none = world.ask(Who::OperatorFor("default"), "GET", "/v1/status", Value::Null).await.json();
    assert_eq!((&none["tenant"], &none["accepted"]), (&json!("default"), &json!(0)));
}

/// Supervisors ask without a key; a daemon that takes no events is alive and not ready, and says why.
#[tokio::test]
async fn a_daemon_that_drains_is_alive_and_not_ready() {
    let world = World::new();
    let ask = async |path: &str| world.ask(Who::Nobody, "GET", path, Value::Null).await;
    for path in ["/healthz", "/readyz"] {
        let answered = ask(path).await;
        assert_eq!((answered.status, answered.json()), (200, json!({"status": "ok"})));
        assert_eq!(world.ask(Who::Nobody, "HEAD", path, Value::Null).await.status, 200);
    }
    let (whole, head) = (ask("/metrics").await, world.ask(Who::Nobody, "HEAD", "/metrics", Value::Null).await);
    assert_eq!((whole.status, head.status), (200, 200));
    assert_eq!(whole.headers.get(CONTENT_TYPE), head.headers.get(CONTENT_TYPE));
    world.service.note_disk_low(true);
    let answered = ask("/readyz").await;
    assert_eq!((answered.status, answered.code().as_str()), (503, "disk_low"));
    world.service.drain();
    assert_eq!((ask("/readyz").await.code().as_str(), ask("/healthz").await.status), ("draining", 200));
}

/// A command whose record is damaged is told as that, with what to do; those around it, and new ones, are none the worse.
#[tokio::test]
async fn a_damaged_command_is_told_over_http() {
    let world = World::new();
    let order = async || {
        let accepted = world.done(200, "POST", "/api/default/webhooks", access::webhook()).await;
        format!("/api/default/commands/{}", text(&accepted["commandFingerprint"]))
    };
    let (first, second) = (order().await, order().await);
    let flip = crate::store::tests::Flip { table: "commands", place: 0, bit: 200 };
    assert!(world.store.submit(flip).await.unwrap().answer.is_some());
    let told = world.get(&first).await;
    assert_eq!((told.status, told.code().as_str()), (500, "internal"), "{}", told.text);
    let detail = text(&told.json()["detail"]);
    assert!(detail.contains("postrider db check"), "{detail}");
    assert_eq!(world.get(&second).await.json()["status"], world.get(&order().await).await.json()["status"]);
    let status = world.get("/v1/status").await.json();
    assert_eq!(status["damaged_records"], 1, "{status}");
}
