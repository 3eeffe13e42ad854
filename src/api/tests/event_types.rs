//! The catalogue of event types: what it tells, who changes it, what it decides.

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::model::{Actor, EventType, EventTypes, KnownType, event_type};

const PATH: &str = "/v1/event-types";

fn kind(name: &str) -> EventType {
    name.parse().unwrap()
}

/// A catalogue with a configured type, where only known types are taken.
fn strict() -> EventTypes {
    let mut types = EventTypes::default().strict(true);
    types.put(KnownType::new(kind("till.opened"), event_type::Origin::Configured)).unwrap();
    types
}

impl World {
    /// How many deliveries an event of this type makes.
    async fn deliveries_of(&self, kind: &str) -> u64 {
        let told = self.done(202, "POST", "/v1/events", json!({"type": kind, "data": {}})).await;
        told["deliveries"].as_u64().unwrap()
    }
}

/// S4.10: the list of all supported events is there for whoever may read, with what each means, and is read in pages.
#[tokio::test]
async fn the_catalogue_is_read_in_pages_by_anybody_who_may_read() {
    let world = World::strict(strict());
    world.tenant("m1").await;
    let added = json!({"name": "refund.settled", "description": "A refund was settled", "aliases": ["refund.done"]});
    world.done(201, "POST", PATH, added.clone()).await;
    let key = world.key("read", Some("m1")).await;
    let (mut names, mut path) = (Vec::new(), format!("{PATH}?limit=9"));
    loop {
        let page = world.ask(Who::Key(&key), "GET", &path, Value::Null).await.json();
        names.extend(page["event_types"].as_array().unwrap().iter().map(|known| text(&known["name"])));
        match page["next"].as_str() {
            Some(next) => path = format!("{PATH}?limit=9&after={next}"),
            None => break,
        }
    }
    assert_eq!(names.len(), EventTypes::default().iter().count() + 2);
    assert_eq!(names[names.len() - 2..], ["till.opened", "refund.settled"]);
    let built_in = world.get(&format!("{PATH}/processing.chargeback-processed")).await.json();
    assert_eq!((&built_in["source"], &built_in["read_only"]), (&json!("gateway"), &json!(true)));
    assert_eq!(built_in["description"], "A chargeback was processed");
    let by_alias = world.get(&format!("{PATH}/refund.done")).await.json();
    assert_eq!((&by_alias["name"], &by_alias["origin"]), (&json!("refund.settled"), &json!("api")));
    assert_eq!((&by_alias["read_only"], by_alias["created"].is_string()), (&json!(false), true));
}

/// Two who change a type at once both have their way, as with everything else that is changed: nobody is told to try again.
#[tokio::test]
async fn changes_of_one_type_at_the_same_time_are_all_made() {
    let world = World::new();
    world.done(201, "POST", PATH, json!({"name": "refund.settled"})).await;
    let (name, calls) = (kind("refund.settled"), Cell::new(0));
    let named = |stored: &KnownType| {
        Ok::<_, service::Error>(KnownType { aliases: vec![kind("refund.done")], ..stored.clone() })
    };
    let described = |stored: &KnownType| {
        // Between its look and its change the other one's is made.
        if calls.replace(calls.get() + 1) == 0 {
            let mut other = pin!(world.service.update_event_type(&Actor::SYSTEM, &name, named));
            let _ = other.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        Ok::<_, service::Error>(KnownType { description: Some("A refund".into()), ..stored.clone() })
    };
    let known = world.service.update_event_type(&Actor::SYSTEM, &name, described).await.unwrap();
    assert_eq!((calls.get(), known.description.as_deref()), (2, Some("A refund")));
    assert_eq!(known.aliases, [kind("refund.done")]);
}

/// What is built in or configured is read-only and says so; a spelling belongs to one type; what is added is changed and
/// deleted by its name.
#[tokio::test]
async fn added_types_alone_are_changed() {
    let world = World::strict(strict());
    for (name, word) in [("transaction", "built in"), ("till.opened", "configuration")] {
        for (method, body) in [("PUT", json!({"description": "x"})), ("DELETE", Value::Null)] {
            let answered = world.ask(Who::Operator, method, &format!("{PATH}/{name}"), body).await;
            assert_eq!((answered.status, answered.code().as_str()), (409, "conflict"), "{method} {name}");
            assert!(answered.text.contains(word), "{answered:?}");
        }
    }
    let add = async |name: &str, aliases: Value| {
        world.ask(Who::Operator, "POST", PATH, json!({"name": name, "aliases": aliases})).await.status
    };
    assert_eq!(add("refund.settled", json!(["refund.done"])).await, 201);
    for (name, aliases) in [
        ("refund.settled", json!([])),
        ("refund.done", json!([])),
        ("transaction", json!([])),
        ("other", json!(["cardupdate.created"])),
    ] {
        assert_eq!(add(name, aliases.clone()).await, 409, "{name} {aliases}");
    }
    let own = format!("{PATH}/refund.settled");
    assert_eq!(world.done(409, "PUT", &own, json!({"aliases": ["transaction"]})).await["code"], "conflict");
    let shown = world.get(&own).await;
    world.done(200, "PUT", &own, shown.json()).await;
    assert_eq!(world.get(&own).await.text, shown.text);
    world.done(200, "PUT", &own, json!({"aliases": ["refund.paid"]})).await;
    world.done(404, "GET", &format!("{PATH}/refund.done"), Value::Null).await;
    for (method, body) in [("PUT", json!({})), ("DELETE", Value::Null)] {
        world.done(404, method, &format!("{PATH}/refund.paid"), body).await;
    }
    world.done(204, "DELETE", &own, Value::Null).await;
    world.done(404, "GET", &own, Value::Null).await;
}

/// Decisions D6, D8, D9: where it is decided who gets an event, all spellings of its type count; nowhere is one rewritten.
#[tokio::test]
async fn either_spelling_reaches_a_subscription_to_either() {
    let world = World::new();
    let destination = world.destination("default").await;
    for pattern in ["cau.submitted", "cardupdate.created", "cau.*"] {
        let id = world.subscription("default", pattern, &[&destination]).await;
        for (kind, deliveries) in [
            ("cau.submitted", pattern != "cardupdate.created"),
            ("cardupdate.submitted", pattern != "cardupdate.created"),
            ("cau.created", pattern != "cau.submitted"),
            ("ach.failed", false),
        ] {
            assert_eq!(world.deliveries_of(kind).await, u64::from(deliveries), "{pattern} {kind}");
        }
        let stored = world.get(&format!("/v1/subscriptions/{pattern}/{id}")).await.json();
        assert_eq!(stored["type"], pattern);
        world.done(204, "DELETE", &format!("/v1/subscriptions/{pattern}/{id}"), Value::Null).await;
    }
    let written = world.get("/v1/events?type=cardupdate.submitted").await.json();
    assert_eq!(written["events"].as_array().unwrap().len(), 3);
    // Two subscriptions to two spellings are one delivery (decision D29), as two to one are.
    world.subscription("default", "cau.submitted", &[&destination]).await;
    world.subscription("default", "cardupdate.submitted", &[&destination]).await;
    assert_eq!(world.deliveries_of("cardupdate.submitted").await, 1);
    // An alias counts from the moment that it is there, and no longer than it is.
    let orders = world.destination("default").await;
    world.subscription("default", "order.paid", &[&orders]).await;
    assert_eq!(world.deliveries_of("order.settled").await, 0);
    world.done(201, "POST", PATH, json!({"name": "order.paid", "aliases": ["order.settled"]})).await;
    assert_eq!(world.deliveries_of("order.settled").await, 1);
    world.done(204, "DELETE", &format!("{PATH}/order.paid"), Value::Null).await;
    assert_eq!((world.deliveries_of("order.settled").await, world.deliveries_of("order.paid").await), (0, 1));
}

/// Strict types: what nobody knows is refused as an event, as a subscription to one type and as a test; a pattern may match
/// what comes later. A repeat of an event that was taken is told of as one, whatever has become of its type.
#[tokio::test]
async fn strict_types_take_what_the_catalogue_knows() {
    let world = World::strict(strict());
    let destination = world.destination("default").await;
    let event = |kind: &str| json!({"type": kind, "id": kind, "data": {}});
    let refused = world.ask(Who::Operator, "POST", "/v1/events", event("refund.settled")).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "unknown_type"));
    assert_eq!(refused.pointers(), ["/type"]);
    let batch = json!([event("transaction"), event("refund.settled"), event("till.opened")]);
    let told = world.done(202, "POST", "/v1/events", batch).await;
    let codes: Vec<_> = told.as_array().unwrap().iter().map(|line| line["error"]["code"].as_str()).collect();
    assert_eq!(codes, [None, Some("unknown_type"), None]);
    assert_eq!(told[1]["error"]["retryable"], false);

    let subscribe = async |pattern: &str| {
        world.ask(Who::Operator, "POST", &format!("/v1/subscriptions/{pattern}"), json!({})).await
    };
    let unknown = subscribe("refund.settled").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "unknown_type"));
    for known in ["transaction", "cardupdate.created", "till.opened", "refund.*", "*"] {
        assert_eq!(subscribe(known).await.status, 201, "{known}");
    }
    let test = format!("{WEBHOOKS}/{destination}/test");
    assert_eq!(world.done(400, "POST", &test, json!({"type": "refund.settled"})).await["code"], "unknown_type");
    world.done(202, "POST", &test, Value::Null).await;

    world.done(201, "POST", PATH, json!({"name": "refund.settled", "sample": {"refund": 1}})).await;
    assert_eq!(subscribe("refund.settled").await.status, 201);
    world.done(202, "POST", &test, json!({"type": "refund.settled"})).await;
    assert_eq!(world.done(202, "POST", "/v1/events", event("refund.settled")).await["duplicate"], false);
    world.done(204, "DELETE", &format!("{PATH}/refund.settled"), Value::Null).await;
    assert_eq!(world.done(200, "POST", "/v1/events", event("refund.settled")).await["duplicate"], true);
    assert_eq!(
        world.done(400, "POST", "/v1/events", json!({"type": "refund.settled", "data": 1})).await["code"],
        "unknown_type"
    );
}

/// What is added outlives a restart. One that the configuration has come to name is left out, and is back when it no longer does.
#[tokio::test]
async fn an_added_type_is_there_after_a_restart_unless_the_configuration_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = || store::Keys::new(store::MasterKey::new([7; store::KEY_BYTES]), [9; store::Keys::CHANCE_BYTES]);
    let opened = |types: EventTypes| {
        let at = store::Settings::at(folder.path().join("store.redb"), keys());
        let at = store::Settings { event_types: Arc::new(types), ..at };
        Store::open(&at, Clock::of_runtime(START), 7).unwrap()
    };
    let store = opened(EventTypes::default());
    let added = KnownType::new(kind("refund.settled"), event_type::Origin::Added { created: START });
    let known = KnownType { sample: Some("[1]".into()), aliases: vec![kind("refund.done")], ..added };
    let actor = crate::model::Actor::SYSTEM;
    let create = store::op::CreateEventType { known: known.clone() };
    assert!(store.steer(&actor, create).await.unwrap().answer.is_ok());
    store.close().await;
    drop(store);

    let mut configured = EventTypes::default();
    configured.put(KnownType::new(kind("refund.done"), event_type::Origin::Configured)).unwrap();
    let store = opened(configured);
    let catalog = store.catalog();
    assert_eq!(catalog.event_types().named(&kind("refund.settled")), None);
    assert_eq!(catalog.event_types().find(&kind("refund.done")).unwrap().origin, event_type::Origin::Configured);
    store.close().await;
    drop((store, catalog));

    let store = opened(EventTypes::default());
    assert_eq!(**store.catalog().event_types().named(&kind("refund.settled")).unwrap(), known);
    store.close().await;
}
