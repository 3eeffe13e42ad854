//! Subscriptions and what they link.

use super::*;

/// S2.67: subscriptions and destinations are separate things, linked many to many; links come and go by themselves.
#[tokio::test]
async fn links_come_and_go() {
    let world = World::new();
    let (a, b) = (world.destination("default").await, world.destination("default").await);
    let first = world.subscription("default", "transaction", &[&a]).await;
    let second = world.subscription("default", "transaction", &[&a, &b]).await;
    let links = format!("/v1/subscriptions/transaction/{first}/destinations");
    let linked = async || {
        let list = world.done(200, "GET", &links, Value::Null).await;
        list["webhook"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect::<Vec<_>>()
    };
    assert_eq!(linked().await, std::slice::from_ref(&a));
    for _ in 0..2 {
        let view = world.done(201, "POST", &links, json!({"destination": b})).await;
        assert_eq!(view["destinations"], json!([a, b]));
    }
    world.done(204, "DELETE", &format!("{links}/{a}"), Value::Null).await;
    world.done(404, "DELETE", &format!("{links}/{a}"), Value::Null).await;
    assert_eq!(linked().await, std::slice::from_ref(&b));
    world.done(404, "POST", &links, json!({"destination": "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6"})).await;
    world.done(400, "POST", &links, json!({"destination": "x"})).await;
    // A destination that is deleted leaves its subscriptions.
    world.done(204, "DELETE", &format!("{WEBHOOKS}/{b}"), Value::Null).await;
    assert_eq!(linked().await, [""; 0]);
    let other = world.done(200, "GET", &format!("/v1/subscriptions/transaction/{second}"), Value::Null).await;
    assert_eq!(other["destinations"], json!([a]));
}

#[tokio::test]
async fn a_subscription_is_made_read_changed_and_deleted() {
    let world = World::new();
    world.tenant("m1").await;
    let destination = world.destination("m1").await;
    let body = json!({"entity_ksuid": "m1", "name": "books", "roll_up": true, "destinations": [destination]});
    let made = world.done(201, "POST", "/v1/subscriptions/transaction.*", body).await;
    let (id, path) = (text(&made["id"]), text(&made["url"]));
    assert_eq!(path, format!("/v1/subscriptions/transaction.*/{id}"));
    assert_eq!(
        (&made["tenant"], &made["entity_ksuid"], &made["type"]),
        (&json!("m1"), &json!("m1"), &json!("transaction.*"))
    );
    let read = world.done(200, "GET", &path.replace('*', "%2A"), Value::Null).await;
    assert_eq!((&read["name"], read.get("url")), (&json!("books"), None));
    assert_eq!(world.done(200, "PUT", &path, read.clone()).await, read, "what was read can be sent back");
    let changed = world.done(200, "PUT", &path, json!({"name": null, "destinations": []})).await;
    assert_eq!(
        (&changed["name"], &changed["roll_up"], &changed["destinations"]),
        (&Value::Null, &json!(true), &json!([]))
    );
    for (body, pointer) in [
        (json!({"type": "*"}), "/type"),
        (json!({"tenant": "default"}), "/tenant"),
        (json!({"destinations": ["x"]}), "/destinations/0"),
        (json!({"destinations": ["9603F4B2-1874-42FE-A2BC-F7B45C45A9D6"]}), "/destinations/0"),
    ] {
        let answered = world.ask(Who::Operator, "PUT", &path, body.clone()).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![pointer.to_owned()]), "{body}");
    }
    // Its type is part of its name.
    for other in ["transaction", "*"] {
        world.done(404, "GET", &format!("/v1/subscriptions/{other}/{id}"), Value::Null).await;
        world.done(404, "DELETE", &format!("/v1/subscriptions/{other}/{id}"), Value::Null).await;
    }
    world.done(400, "GET", "/v1/subscriptions/a*", Value::Null).await;
    world.done(204, "DELETE", &path, Value::Null).await;
    world.done(404, "GET", &path, Value::Null).await;
}

#[tokio::test]
async fn subscriptions_are_listed_by_their_type() {
    let world = World::new();
    let ids = [
        world.subscription("default", "a.*", &[]).await,
        world.subscription("default", "a.b", &[]).await,
        world.subscription("default", "a.*", &[]).await,
    ];
    let urls = world.done(200, "GET", "/v1/subscriptions", Value::Null).await;
    let known =
        ["merchant_ach_funding_item", "merchant_card_funding_group", "merchant_card_funding_item", "transaction"];
    let expected: Vec<_> =
        ["a.*", "a.b"].iter().chain(&known).map(|kind| format!("/v1/subscriptions/{kind}")).collect();
    assert_eq!(urls, json!({"urls": expected}));
    let list = world.done(200, "GET", "/v1/subscriptions/a.*?limit=1", Value::Null).await;
    assert_eq!(list["subscriptions"][0]["id"], ids[0]);
    let after = text(&list["next"]);
    let list = world.done(200, "GET", &format!("/v1/subscriptions/a.*?after={after}"), Value::Null).await;
    assert_eq!((&list["subscriptions"][0]["id"], &list["next"]), (&json!(ids[2]), &Value::Null));
}

/// A tenant's key makes subscriptions for that tenant, and links that tenant's destinations.
#[tokio::test]
async fn a_bound_key_subscribes_for_its_own_tenant() {
    let world = World::new();
    world.tenant("m1").await;
    world.done(201, "POST", "/v1/tenants", json!({"id": "m2", "parent": "m1"})).await;
    let key = world.key("operate", Some("m2")).await;
    let (above, own) = (world.destination("m1").await, world.destination("m2").await);
    let create = async |body: Value| world.ask(Who::Key(&key), "POST", "/v1/subscriptions/t", body).await;
    assert_eq!(create(json!({"destinations": [own]})).await.json()["tenant"], "m2");
    for tenant in ["m1", "nobody"] {
        let refused = create(json!({"tenant": tenant})).await;
        assert_eq!((refused.status, refused.pointers()), (403, vec!["/tenant".to_owned()]));
    }
    assert_eq!(create(json!({"destinations": [above]})).await.pointers(), ["/destinations/0"]);
}

/// P17, S4.5: a subscription links its own tenant's destinations, whoever makes it: what a tenant above has set up is neither shown
/// nor ended in the lists of one below. It gets the events below by rolling up.
#[tokio::test]
async fn a_subscription_links_no_destination_of_another_tenant() {
    let world = World::new();
    world.tenant("m1").await;
    world.done(201, "POST", "/v1/tenants", json!({"id": "m2", "parent": "m1"})).await;
    let (above, own) = (world.destination("m1").await, world.destination("m2").await);
    let house = world.key("admin", None).await;
    for who in [Who::Operator, Who::Key(&house)] {
        for (tenant, other) in [("m2", &above), ("m1", &own)] {
            let body = json!({"tenant": tenant, "destinations": [other]});
            let refused = world.ask(who, "POST", "/v1/subscriptions/t", body).await;
            assert_eq!((refused.status, refused.pointers()), (400, vec!["/destinations/0".to_owned()]), "{refused:?}");
        }
        let path = format!("/v1/subscriptions/t/{}", world.subscription("m2", "t", &[&own]).await);
        let refused = world.ask(who, "PUT", &path, json!({"destinations": [own, above]})).await;
        assert_eq!((refused.status, refused.pointers()), (400, vec!["/destinations/1".to_owned()]), "{refused:?}");
        let links = format!("{path}/destinations");
        assert_eq!(world.ask(who, "POST", &links, json!({"destination": above})).await.status, 404);
        assert_eq!(world.ask(who, "DELETE", &format!("{links}/{above}"), Value::Null).await.status, 404);
        assert_eq!(world.ask(who, "GET", &path, Value::Null).await.json()["destinations"], json!([own]));
    }
    let roll_up = json!({"tenant": "m1", "destinations": [above], "roll_up": true});
    world.done(201, "POST", "/v1/subscriptions/t", roll_up).await;
    let event = world.event("m2", "t").await;
    let targets = world.done(200, "GET", &format!("/v1/events/{event}"), Value::Null).await["targets"].clone();
    assert_eq!(targets.as_array().unwrap().len(), 2, "{targets}");
    let unknown = json!({"tenant": "nobody", "destinations": [own]});
    assert_eq!(world.ask(Who::Operator, "POST", "/v1/subscriptions/t", unknown).await.pointers(), ["/tenant"]);
}

/// A subscription's filter decides which events make deliveries; what it keeps out is told in the event's record. A
/// destination that another subscription names is not kept out.
#[tokio::test]
async fn a_filter_decides_which_events_are_delivered() {
    let world = World::new();
    let (a, b) = (world.destination("default").await, world.destination("default").await);
    let filter = json!({"all": [{"pointer": "/amount", "op": "gt", "value": "100.00"}]});
    let body = json!({"destinations": [a], "filter": filter});
    let made = world.done(201, "POST", "/v1/subscriptions/transaction", body).await;
    assert_eq!(made["filter"], filter);
    let path = text(&made["url"]);
    world.subscription("default", "transaction.*", &[&b]).await;
    let emit = async |kind: &str, body: Value| {
        let mut event = json!({"type": kind});
        event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let taken = world.done(202, "POST", "/v1/events", event).await;
        let event = world.get(&format!("/v1/events/{}", text(&taken["id"]))).await.json();
        assert_eq!(event["targets"].as_array().unwrap().len() as u64, taken["deliveries"].as_u64().unwrap());
        (event["targets"].clone(), event["skipped"].clone())
    };
    let kept_out = json!([{"destination_id": a, "reason": "filtered"}]);
    let (targets, skipped) = emit("transaction", json!({"data": {"amount": "100.01"}})).await;
    assert_eq!((&targets[0]["destination_id"], &skipped), (&json!(a), &json!([])));
    for body in [
        json!({"data": {"amount": "100.00"}}),
        json!({"data": {}}),
        json!({"data": "100.01"}),
        json!({"data_base64": "eyJhbW91bnQiOiAxMDF9"}),
    ] {
        assert_eq!(emit("transaction", body.clone()).await, (json!([]), kept_out.clone()), "{body}");
    }
    let json = json!({"data_base64": "eyJhbW91bnQiOiAxMDF9", "content_type": "application/json"});
    assert_eq!(emit("transaction", json).await.1, json!([]));
    // Read, sent back, changed, taken away.
    let read = world.done(200, "GET", &path, Value::Null).await;
    assert_eq!(world.done(200, "PUT", &path, read.clone()).await, read);
    let changed = world.done(200, "PUT", &path, json!({"filter": {"amount_less_than": "1"}})).await;
    assert_eq!(changed["filter"]["all"][0], json!({"pointer": "/amount", "op": "lt", "value": "1"}));
    let wrong = json!({"filter": {"all": [{"pointer": "/a", "op": "eq"}]}});
    let refused = world.ask(Who::Operator, "PUT", &path, wrong.clone()).await;
    assert_eq!((refused.status, refused.pointers()), (400, vec!["/filter/all/0/value".to_owned()]));
    let refused = world.ask(Who::Operator, "POST", "/v1/subscriptions/other", wrong).await;
    assert_eq!((refused.status, refused.pointers()), (400, vec!["/filter/all/0/value".to_owned()]));
    // Another subscription without a filter names the same destination.
    world.subscription("default", "transaction", &[&a]).await;
    let (targets, skipped) = emit("transaction", json!({"data": {"amount": "50"}})).await;
    assert_eq!((targets[0]["subscription_ids"].as_array().unwrap().len(), &skipped), (1, &json!([])));
    assert_eq!(world.done(200, "PUT", &path, json!({"filter": null})).await["filter"], Value::Null);
    let (targets, _) = emit("transaction", json!({"data": {}})).await;
    assert_eq!(targets[0]["subscription_ids"].as_array().unwrap().len(), 2);
}

/// What a dialect has registered is seen among the native subscriptions, with the dialect's name, which nobody changes.
#[tokio::test]
async fn a_subscription_names_the_dialect_that_registered_it() {
    let world = World::new();
    let destination = world.destination("default").await;
    let own = world.subscription("default", "t", &[&destination]).await;
    world.done(200, "POST", "/api/default/webhooks", access::webhook()).await;
    let registered = world.get("/v1/subscriptions/funding_deposit.funded").await.json()["subscriptions"][0].clone();
    assert_eq!(registered["dialect"], "backoffice", "{registered}");
    let paths = [
        (format!("/v1/subscriptions/t/{own}"), Value::Null),
        (format!("/v1/subscriptions/funding_deposit.funded/{}", text(&registered["id"])), json!("backoffice")),
    ];
    for (path, dialect) in paths {
        assert_eq!(world.get(&path).await.json()["dialect"], dialect);
        world.done(200, "PUT", &path, json!({"dialect": dialect})).await;
        let refused = world.ask(Who::Operator, "PUT", &path, json!({"dialect": "subscribe"})).await;
        assert_eq!((refused.status, refused.pointers()), (400, vec!["/dialect".to_owned()]));
    }
    let made = world.ask(Who::Operator, "POST", "/v1/subscriptions/t", json!({"dialect": "backoffice"})).await;
    assert_eq!((made.status, made.pointers()), (400, vec!["/dialect".to_owned()]));
    world.done(201, "POST", "/v1/subscriptions/t", json!({"dialect": null})).await;
}
