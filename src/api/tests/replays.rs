//! Bulk replays over HTTP. The engine does not run here, so that jobs stay as they were begun.

use super::*;

/// Deliveries that were cancelled, as what ended and can be replayed.
async fn cancelled(world: &World, tenant: &str, kinds: &[&str]) -> String {
    let destination = world.destination(tenant).await;
    world.subscription(tenant, "*", &[&destination]).await;
    for kind in kinds {
        let event = world.event(tenant, kind).await;
        let deliveries = world.done(200, "GET", &format!("/v1/events/{event}/deliveries"), Value::Null).await;
        let id = text(&deliveries["deliveries"][0]["id"]);
        world.done(200, "POST", &format!("/v1/deliveries/{id}/cancel"), Value::Null).await;
    }
    destination
}

/// Issue item "bulk replay": a dry run counts and changes nothing; a job is begun, shown, listed and cancelled; the audit log
/// tells of it.
#[tokio::test]
async fn a_replay_is_counted_begun_shown_and_cancelled() {
    let world = World::new();
    let destination = cancelled(&world, "default", &["a.one", "a.two", "b"]).await;
    for (body, matched) in [
        (json!({"dry_run": true}), 0),
        (json!({"dry_run": true, "state": "cancelled"}), 3),
        (json!({"dry_run": true, "state": "cancelled", "type": "a.*", "destination": destination}), 2),
        (json!({"dry_run": true, "state": "cancelled", "from": "2024-01-01T00:00:00Z"}), 0),
    ] {
        let counted = world.done(200, "POST", "/v1/replays", body).await;
        assert_eq!(counted, json!({"dry_run": true, "matched": matched, "matched_at_least": false}));
    }
    assert_eq!(world.get("/v1/replays").await.json(), json!({"replays": [], "next": null}));
    let body =
        json!({"state": "cancelled", "type": "a.*", "rate": {"events": 5, "per": "1m"}, "destination": destination});
    let made = world.ask(Who::Operator, "POST", "/v1/replays", body).await;
    assert_eq!((made.status, made.headers["location"].to_str().unwrap()), (202, "/v1/replays/rpl_1"));
    let made = made.json();
    assert_eq!(
        (&made["id"], &made["state"], &made["matched"], &made["done"]),
        (&json!("rpl_1"), &json!("running"), &json!(2), &json!(0))
    );
    assert_eq!(made["rate"], json!({"events": 5, "per": "1m"}));
    assert_eq!(made["filter"]["destination"], json!(destination));
    assert_eq!(world.get("/v1/replays/rpl_1").await.json(), made);
    world.done(202, "POST", "/v1/replays", json!({})).await;
    let list = world.get("/v1/replays?limit=1").await.json();
    assert_eq!(list["replays"][0]["id"], "rpl_2", "newest first");
    let next = world.get(&format!("/v1/replays?limit=1&after={}", text(&list["next"]))).await.json();
    assert_eq!((&next["replays"][0]["id"], &next["next"]), (&json!("rpl_1"), &Value::Null));
    let stopped = world.done(200, "POST", "/v1/replays/rpl_1/cancel", Value::Null).await;
    assert_eq!(stopped["state"], "cancelled");
    assert!(stopped["ended"].is_string());
    assert_eq!(world.ask(Who::Operator, "POST", "/v1/replays/rpl_1/cancel", Value::Null).await.status, 409);
    let log = world.get("/v1/audit?object=rpl_1").await.json();
    let actions: Vec<_> =
        log["records"].as_array().unwrap().iter().map(|record| text(&record["record"]["action"])).collect();
    assert_eq!(actions, ["replay.cancel", "replay.create"]);
    assert_eq!(log["records"][1]["record"]["after"]["type"], "a.*");
}

/// A replay is its tenant's: whoever sees another tenant neither sees it nor replays its deliveries; P17.
#[tokio::test]
async fn a_replay_stays_within_its_tenant() {
    let world = World::new();
    for tenant in ["m1", "m2"] {
        world.tenant(tenant).await;
    }
    let foreign = cancelled(&world, "m2", &["a"]).await;
    let key = world.key("operate", Some("m1")).await;
    let ask = async |body| world.ask(Who::Key(&key), "POST", "/v1/replays", body).await;
    let own = ask(json!({"state": "cancelled"})).await.json();
    assert_eq!((&own["matched"], &own["tenant"]), (&json!(0), &json!("m1")));
    let refused = ask(json!({"state": "cancelled", "destination": foreign})).await;
    assert_eq!((refused.status, refused.pointers()), (400, vec!["/destination".to_owned()]));
    let theirs = world.done(202, "POST", "/v1/replays", json!({"state": "cancelled", "destination": foreign})).await;
    assert_eq!((&theirs["matched"], &theirs["tenant"]), (&json!(1), &json!("m2")));
    assert_eq!(
        world.ask(Who::Key(&key), "GET", "/v1/replays", Value::Null).await.json()["replays"].as_array().unwrap().len(),
        1
    );
}
