//! Who may: every route against every role, keys in their forms, tenants apart.

use super::*;
use crate::model::user::{Failures, PasswordHash};
use crate::model::{Actor, DeliveryId, DestinationNo, Epoch, EventId, KeyId, Seq, SigningKeyId, User, UserId};
use crate::store::people::CreateUser;

/// The ids of one tenant's things.
#[derive(Debug)]
pub(super) struct Things {
    pub(super) tenant: String,
    pub(super) destination: String,
    subscription: String,
    pub(super) event: String,
    delivery: String,
    replay: String,
    key: String,
    event_type: String,
    /// The number of a webhook of the dialect `backoffice`, and the command that made it.
    webhook: String,
    command: String,
    signing_key: String,
    user: String,
}

impl Things {
    pub(super) async fn make(world: &World, tenant: &str) -> Self {
        world.tenant(tenant).await;
        let destination = world.destination(tenant).await;
        let subscription = world.subscription(tenant, "transaction", &[&destination]).await;
        let event = world.event(tenant, "transaction").await;
        let deliveries = world.done(200, "GET", &format!("/v1/events/{event}/deliveries"), Value::Null).await;
        let delivery = text(&deliveries["deliveries"][0]["id"]);
        let replay = world.ask(Who::OperatorFor(tenant), "POST", "/v1/replays", json!({})).await.json();
        let key = world.done(201, "POST", "/v1/keys", json!({"role": "read", "tenant": tenant})).await;
        let event_type = world.done(201, "POST", "/v1/event-types", json!({"name": format!("own.{tenant}")})).await;
        let subscribe = json!({"webhook_url": "https://example.com/status", "retry_attempts": 3});
        world.done(201, "POST", &format!("/webhooks/subscribe/{tenant}"), subscribe).await;
        let command = world.done(200, "POST", &format!("/api/{tenant}/webhooks"), webhook()).await;
        let webhooks = world.done(200, "GET", &format!("/api/{tenant}/webhooks"), Value::Null).await;
        let signing_key = json!({"kind": "source", "name": "till"});
        let signing_key = world.ask(Who::OperatorFor(tenant), "POST", "/v1/signing-keys", signing_key).await;
        let user = Things::user(world, tenant).await;
        Things {
            tenant: tenant.into(),
            destination,
            subscription,
            event,
            delivery,
            replay: text(&replay["id"]),
            key: text(&key["id"]),
            event_type: text(&event_type["name"]),
            webhook: webhooks[0]["id"].to_string(),
            command: text(&command["commandFingerprint"]),
            signing_key: text(&signing_key.json()["id"]),
            user,
        }
    }

    /// A person, without the time that it takes to hash a password.
    async fn user(world: &World, tenant: &str) -> String {
        let user = User {
            id: UserId::from_chance(<[u8; 6]>::try_from(&format!("{tenant}......").as_bytes()[..6]).unwrap()),
            name: format!("anna@{tenant}").parse().unwrap(),
            role: Role::Read,
            tenant: Some(tenant.parse().unwrap()),
            created: START,
            password: PasswordHash::NOBODY,
            one_time: false,
            totp: None,
            recovery: Vec::new(),
            failures: Failures::default(),
            stamp: 0,
        };
        let create = CreateUser { user: user.clone() };
        world.store.steer(&Actor::SYSTEM, create).await.unwrap().answer.unwrap();
        user.id.to_string()
    }

    /// Well-formed ids of nothing.
    pub(super) fn unknown() -> Self {
        let uuid = "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6".to_owned();
        let event = EventId::new(Epoch(7), Seq(1 << 40));
        Things {
            tenant: "nobody".into(),
            destination: uuid.clone(),
            subscription: uuid,
            event: event.to_string(),
            delivery: DeliveryId { event, destination: DestinationNo(1) }.to_string(),
            replay: "rpl_4000000000".into(),
            key: KeyId::from_chance([9; 6]).to_string(),
            event_type: "nobody.knows".into(),
            webhook: "4000000000".into(),
            command: "9603f4b2-1874-82fe-a2bc-f7b45c45a9d6".into(),
            signing_key: SigningKeyId::from_chance([9; 6]).to_string(),
            user: UserId::from_chance([9; 6]).to_string(),
        }
    }

    /// A pattern with these things' ids in it.
    pub(super) fn path(&self, pattern: &str) -> String {
        let id = match pattern.split('/').nth(2) {
            Some("destinations") => &self.destination,
            Some("subscriptions") => &self.subscription,
            Some("events") => &self.event,
            Some("deliveries" | "event_history") => &self.delivery,
            Some("tenants") => &self.tenant,
            Some("keys") => &self.key,
            Some("signing-keys") => &self.signing_key,
            Some("users") => &self.user,
            Some("replays") => &self.replay,
            Some("event-types") => &self.event_type,
            Some("{tenantslug}") => &self.webhook,
            _ if !["{id}", "{name}"].iter().any(|name| pattern.contains(name)) => "",
            _ => panic!("{pattern}: say here how such a thing is named"),
        };
        let path = pattern.replace("{id}", id).replace("{name}", id).replace("{type}", "transaction");
        let path = path.replace("{destination}", &self.destination).replace("{fingerprint}", &self.command);
        let path = path.replace("{tenantslug}", &self.tenant).replace("{tenantId}", &self.tenant);
        assert!(!path.contains('{'), "{pattern}: say here what stands in its place");
        path
    }

    /// The ids of what is one tenant's; event types are everybody's.
    pub(super) fn all(&self) -> [&str; 9] {
        let Things { tenant, destination, subscription, event, delivery, replay, key, signing_key, user, .. } = self;
        [tenant, destination, subscription, event, delivery, replay, key, signing_key, user]
    }
}

/// A webhook of the dialect `backoffice`.
pub(super) fn webhook() -> Value {
    let secret = json!({"Method": 1, "SharedSecret": "s"});
    json!({"Type": 6, "DestinationURL": "https://example.com/hooks", "AuthenticationMethod": secret})
}

const ROLES: [Role; 4] = [Role::Ingest, Role::Read, Role::Operate, Role::Admin];

/// What is asked of one route with one key.
async fn ask(world: &World, who: Who<'_>, route: &Route<Act>, things: &Things) -> Answered {
    let body = if matches!(route.method, Method::POST | Method::PUT) { json!({}) } else { Value::Null };
    world.ask(who, route.method.as_str(), &things.path(route.pattern), body).await
}

/// Tenants and event types are changed, and the audit log's chain is seen, by administrators of all tenants only.
fn is_house_only(route: &Route<Act>) -> bool {
    let is_house = ["/v1/tenants", "/v1/event-types"].iter().any(|path| route.pattern.starts_with(path));
    route.pattern == "/v1/audit/head" || (is_house && route.method != Method::GET)
}

/// The secret of a signing key is shown on the admin socket only, whoever asks.
fn is_socket_only(route: &Route<Act>) -> bool {
    route.pattern == "/v1/signing-keys/{id}/reveal"
}

/// P17 in short, S2.4, S2.28, S2.29, S3.4, S0.4, SX.11: every route refuses whoever shows no key or an unknown one (401),
/// whose role is too low (403), and who names another tenant's things: by id 404, as for an id of nothing, by X-Tenant 403.
#[tokio::test]
async fn every_route_refuses_whoever_may_not() {
    let world = World::new();
    let (own, foreign, unknown) =
        (Things::make(&world, "m1").await, Things::make(&world, "m2").await, Things::unknown());
    let stranger = world.key("admin", Some("m1")).await.replace(['0', '1', '2', '3'], "4");
    let house = world.key("admin", None).await;
    let before = world.get("/v1/keys?limit=1000").await.text;
    for route in routes(&Settings::default()) {
        let at = format!("{} {}", route.method, route.pattern);
        let Access::Role(needed) = route.access else {
            for who in [Who::Nobody, Who::Key(&stranger)] {
                assert_eq!(ask(&world, who, &route, &own).await.status, 200, "{at}");
            }
            continue;
        };
        for who in [Who::Nobody, Who::Key(&stranger), Who::KeyFor(&stranger, "m1")] {
            for things in [&own, &foreign] {
                assert_eq!(ask(&world, who, &route, things).await.status, 401, "{at}");
            }
        }
        for role in ROLES {
            let at = format!("{at} as {}", role.as_str());
            let key = world.key(role.as_str(), Some("m1")).await;
            if !role.covers(needed) {
                for things in [&own, &foreign, &unknown] {
                    assert_eq!(ask(&world, Who::Key(&key), &route, things).await.status, 403, "{at}");
                }
                continue;
            }
            for tenant in ["m2", "nobody"] {
                let answered = ask(&world, Who::KeyFor(&key, tenant), &route, &own).await;
                assert_eq!((answered.status, answered.code()), (403, "forbidden".into()), "{at}");
            }
            if !["{id}", "{tenantslug}", "{tenantId}"].iter().any(|name| route.pattern.contains(name)) {
                continue;
            }
            let answers = [
                ask(&world, Who::Key(&key), &route, &foreign).await,
                ask(&world, Who::Key(&key), &route, &unknown).await,
                ask(&world, Who::KeyFor(&house, "m1"), &route, &foreign).await,
                ask(&world, Who::KeyFor(&house, "m1"), &route, &unknown).await,
            ];
            let expected = if is_house_only(&route) { 403 } else { 404 };
            assert_eq!(answers.each_ref().map(|answer| answer.status), [expected, expected, 404, 404], "{at}");
            assert_eq!(answers[0].text, answers[1].text, "{at}: a foreign id tells itself from an unknown one");
        }
    }
    // Whatever was refused has changed nothing.
    assert_eq!(world.get(&foreign.path("/v1/events/{id}")).await.json()["erased"], false);
    assert_eq!(world.get(&foreign.path("/v1/deliveries/{id}")).await.json()["state"], "pending");
    let view = world.get(&foreign.path("/v1/subscriptions/{type}/{id}/destinations")).await.json();
    assert_eq!((&view["webhook"][0]["paused"], &view["webhook"][0]["name"]), (&json!(false), &json!("d")));
    let after = world.get("/v1/keys?limit=1000").await.json();
    for key in serde_json::from_str::<Value>(&before).unwrap()["keys"].as_array().unwrap() {
        assert!(after["keys"].as_array().unwrap().contains(key));
    }
}

/// How another tenant stands to one's own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kinship {
    None,
    /// It is above, and what happens here reaches it as well.
    Above,
    Below,
}

impl Kinship {
    async fn make(self, world: &World, foreign: &Things) {
        match self {
            Kinship::None => {}
            Kinship::Above => {
                world.done(200, "PUT", "/v1/tenants/m1", json!({"parent": "m2"})).await;
                let roll_up = json!({"tenant": "m2", "destinations": [foreign.destination], "roll_up": true});
                world.done(201, "POST", "/v1/subscriptions/transaction", roll_up).await;
                world.event("m1", "transaction").await;
            }
            Kinship::Below => {
                world.done(200, "PUT", "/v1/tenants/m2", json!({"parent": "m1"})).await;
            }
        }
    }
}

/// P17 in short: a key with the role does reach its own tenant's things on every route, and sees nothing of another's, be that one a
/// stranger, above or below. That it has one above stands in a tenant's own record, and nothing else of that one.
#[tokio::test]
async fn every_route_lets_in_whoever_may() {
    for (route, kinship) in routes(&Settings::default())
        .into_iter()
        .flat_map(|route| [Kinship::None, Kinship::Above, Kinship::Below].map(|kinship| (route.clone(), kinship)))
    {
        let Access::Role(needed) = route.access else { continue };
        for role in ROLES.into_iter().filter(|role| role.covers(needed)) {
            let world = World::new();
            let (own, foreign) = (Things::make(&world, "m1").await, Things::make(&world, "m2").await);
            kinship.make(&world, &foreign).await;
            let key = world.key(role.as_str(), Some("m1")).await;
            let answered = ask(&world, Who::KeyFor(&key, "m1"), &route, &own).await;
            let at = format!("{} {} as {} ({kinship:?}): {answered:?}", route.method, route.pattern, role.as_str());
            if is_house_only(&route) || is_socket_only(&route) {
                assert_eq!(answered.status, 403, "{at}");
                continue;
            }
            assert!(!matches!(answered.status, 401 | 403 | 404 | 500..), "{at}");
            let shown = answered.text.replace(r#""parent":"m2""#, "");
            for id in foreign.all() {
                assert!(!shown.contains(&format!("\"{id}\"")), "{id} in {at}");
            }
        }
    }
}

/// P17: an id of another tenant's thing in a body, in a query or deeper in a path is as one of nothing.
#[tokio::test]
async fn a_foreign_id_is_as_one_of_nothing_wherever_it_stands() {
    for kinship in [Kinship::None, Kinship::Above, Kinship::Below] {
        let world = World::new();
        let (own, foreign, unknown) =
            (Things::make(&world, "m1").await, Things::make(&world, "m2").await, Things::unknown());
        kinship.make(&world, &foreign).await;
        let key = world.key("admin", Some("m1")).await;
        let house = world.key("admin", None).await;
        let subscription = own.path("/v1/subscriptions/{type}/{id}");
        let asked = |things: &Things| {
            let Things { destination, subscription: other, key, .. } = things;
            vec![
                ("DELETE", format!("{subscription}/destinations/{destination}"), Value::Null),
                ("POST", format!("{subscription}/destinations"), json!({"destination": destination})),
                ("PUT", subscription.clone(), json!({"destinations": [own.destination, destination]})),
                ("POST", "/v1/subscriptions/t".into(), json!({"destinations": [destination]})),
                ("POST", "/v1/replays".into(), json!({"destination": destination})),
                ("POST", "/v1/replays".into(), json!({"destination": destination, "dry_run": true})),
                ("GET", format!("/v1/deliveries?destination={destination}"), Value::Null),
                ("GET", format!("/v1/event_history?destination_id={destination}"), Value::Null),
                ("GET", format!("/v1/event_history?subscription_id={other}"), Value::Null),
                ("GET", format!("/v1/tail?destination={destination}"), Value::Null),
                ("GET", format!("/v1/audit?object={destination}"), Value::Null),
                ("GET", format!("/v1/audit?actor={key}"), Value::Null),
            ]
        };
        for who in [Who::Key(&key), Who::KeyFor(&house, "m1")] {
            for (one, nothing) in asked(&foreign).into_iter().zip(asked(&unknown)) {
                let (method, path, body) = one;
                let answers =
                    [world.ask(who, method, &path, body).await, world.ask(who, method, &nothing.1, nothing.2).await];
                let at = format!("{method} {path} ({kinship:?}): {answers:?}");
                assert_eq!(answers[0].status, answers[1].status, "{at}");
                assert_eq!(answers[0].text, answers[1].text, "{at}");
            }
        }
        let links = world.done(200, "GET", &format!("{subscription}/destinations"), Value::Null).await;
        assert_eq!(links["webhook"].as_array().unwrap().len(), 1, "{links}");
    }
}

/// Whoever may open the socket is the operator: every tenant, every role; a key that is shown is honoured all the same.
#[tokio::test]
async fn the_admin_socket_needs_no_key_and_honours_one() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    for pattern in ["/v1/destinations/webhook/{id}", "/v1/events/{id}", "/v1/keys/{id}"] {
        assert_eq!(world.get(&things.path(pattern)).await.status, 200, "{pattern}");
    }
    let with = async |key: &str, method: &str| {
        let request = ::http::Request::builder().method(method).uri("/v1/keys").header("x-api-key", key);
        world.send(request, "{}", operator()).await.status
    };
    let read = world.key("read", None).await;
    assert_eq!(with(&read, "GET").await, 403);
    assert_eq!(with("prk_nonsense", "GET").await, 401);
    assert_eq!(with(&world.key("admin", None).await, "GET").await, 200);
}

/// S2.4, S3.3, S0.29, S0.30, S0.32, SX.11: one key, four ways to show it; a pair that does not fit is refused.
#[tokio::test]
async fn a_key_may_be_shown_in_four_ways() {
    let world = World::new();
    let made = world.done(201, "POST", "/v1/keys", json!({"role": "read", "tenant": null, "name": "till"})).await;
    let (id, secret) = (text(&made["id"]), text(&made["secret"]));
    let bearer = format!("Bearer {secret}");
    let forms: [(&[(&str, &str)], u16); 7] = [
        (&[("authorization", &secret)], 200),
        (&[("authorization", &bearer)], 200),
        (&[("x-api-key", &secret)], 200),
        (&[("x-authenticationkeyid", &id), ("x-authenticationkeyvalue", &secret)], 200),
        (&[("x-authenticationkeyid", "0000000000"), ("x-authenticationkeyvalue", &secret)], 401),
        (&[("x-authenticationkeyid", &id), ("x-authenticationkeyvalue", &secret[1..])], 401),
        (&[("authorization", &secret[..secret.len() - 1])], 401),
    ];
    for (form, status) in forms {
        let start = ::http::Request::get("/v1/destinations");
        let request = form.iter().fold(start, |request, (name, value)| request.header(*name, *value));
        let answered = world.send(request, "", stranger()).await;
        assert_eq!(answered.status, status, "{form:?}");
        assert!(!answered.text.contains(&secret[20..]), "{answered:?}");
    }
}

/// An all-tenant key acts for the default tenant unless it names another, and reaches by id what it does not narrow.
#[tokio::test]
async fn an_all_tenant_key_names_its_tenant() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    let key = world.key("operate", None).await;
    let count =
        async |who| world.ask(who, "GET", WEBHOOKS, Value::Null).await.json()["webhook"].as_array().unwrap().len();
    assert_eq!((count(Who::Key(&key)).await, count(Who::KeyFor(&key, "m1")).await), (0, 3));
    let path = things.path("/v1/destinations/webhook/{id}");
    for (who, status) in [(Who::Key(&key), 200), (Who::KeyFor(&key, "m1"), 200), (Who::KeyFor(&key, "default"), 404)] {
        assert_eq!(world.ask(who, "GET", &path, Value::Null).await.status, status, "{who:?}");
    }
    let unknown = world.ask(Who::KeyFor(&key, "m9"), "GET", WEBHOOKS, Value::Null).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "unknown_tenant"));
    let malformed = world.ask(Who::KeyFor(&key, "a b"), "GET", WEBHOOKS, Value::Null).await;
    assert_eq!((malformed.status, malformed.code().as_str()), (400, "bad_header"));
    let made = world
        .ask(Who::KeyFor(&key, "m1"), "POST", WEBHOOKS, json!({"name": "n", "http_endpoint_url": "https://a.example/"}))
        .await;
    assert_eq!(made.json()["tenant"], "m1");
}

/// Roles: payloads are shown from `operate` on.
#[tokio::test]
async fn payloads_are_hidden_from_read() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    for (role, shown) in [("read", false), ("operate", true), ("admin", true)] {
        let key = world.key(role, Some("m1")).await;
        let one = world.ask(Who::Key(&key), "GET", &things.path("/v1/events/{id}"), Value::Null).await;
        assert_eq!((one.status, one.text.contains("5.00")), (200, shown), "{role}");
        for (query, status, shown) in [("false", 200, false), ("true", if shown { 200 } else { 403 }, shown)] {
            let path = format!("{}?payload={query}", things.path("/v1/events/{id}"));
            let one = world.ask(Who::Key(&key), "GET", &path, Value::Null).await;
            assert_eq!((one.status, one.text.contains("5.00")), (status, shown), "{role} {query}");
        }
        // In a list where it is asked for only.
        for path in ["/v1/events", "/v1/events?payload=false"] {
            let list = world.ask(Who::Key(&key), "GET", path, Value::Null).await;
            assert_eq!((list.status, list.text.contains("5.00")), (200, false), "{role} {path}");
        }
        let list = world.ask(Who::Key(&key), "GET", "/v1/events?payload=true", Value::Null).await;
        assert_eq!((list.status, list.text.contains("5.00")), (if shown { 200 } else { 403 }, shown), "{role}");
        assert_eq!(list.pointers(), if shown { vec![] } else { vec!["?payload"] });
    }
    assert_eq!(world.get("/v1/events?payload=yes").await.pointers(), ["?payload"]);
}

/// What later versions will serve, and what nobody ever will, is a 404; a method that does not apply is a 405 that says which do.
#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let world = World::new();
    let paths = ["/", "/v1", "/v1/", "/v1/nothing", "/v1/destinations/", "/healthz/"];
    for path in paths {
        for who in [Who::Operator, Who::Nobody] {
            let answered = world.ask(who, "GET", path, Value::Null).await;
            assert_eq!((answered.status, answered.code().as_str()), (404, "not_found"), "{path}");
        }
    }
    for (method, path, allow) in [
        ("PATCH", WEBHOOKS, "GET, HEAD, POST"),
        ("DELETE", "/v1/status", "GET, HEAD"),
        ("GET", "/v1/deliveries/x/resend", "POST"),
        ("OPTIONS", "/v1/events", "POST, GET, HEAD"),
    ] {
        let answered = world.ask(Who::Nobody, method, path, Value::Null).await;
        assert_eq!((answered.status, answered.headers["allow"].to_str().unwrap()), (405, allow), "{method} {path}");
    }
}

/// S2.32, S2.41, decision D13: a malformed id is a 400 on every route that takes one, before any body is read.
#[tokio::test]
async fn a_malformed_id_is_a_400_everywhere() {
    let world = World::new();
    for route in routes(&Settings::default())
        .into_iter()
        .filter(|route| ["{id}", "{fingerprint}", "{tenantId}"].iter().any(|it| route.pattern.contains(it)))
    {
        let path = route.pattern.replace("{id}", "x%20y").replace("{fingerprint}", "x").replace("{tenantId}", "x%20y");
        let path =
            path.replace("{type}", "transaction").replace("{destination}", "x").replace("{tenantslug}", "default");
        let answered = world.ask(Who::Operator, route.method.as_str(), &path, Value::Null).await;
        assert_eq!((answered.status, answered.code().as_str()), (400, "bad_id"), "{} {path}", route.method);
        let pointers = answered.pointers();
        assert!(pointers.len() == 1 && route.pattern.contains(&pointers[0]), "{answered:?}");
    }
}

/// A wrong parameter is named where programs look for it, as a wrong field is.
#[tokio::test]
async fn a_wrong_parameter_of_a_query_is_pointed_to() {
    let world = World::new();
    let table = [
        ("/v1/events", "from=x", "?from"),
        ("/v1/events", "type=a**", "?type"),
        ("/v1/events", "nothing=1", "?nothing"),
        ("/v1/events", "limit=1&limit=2", "?limit"),
        ("/v1/deliveries", "state=sent", "?state"),
        ("/v1/deliveries", "status=99", "?status"),
        ("/v1/deliveries", "after=x", "?after"),
        ("/v1/deliveries", "offset=10001", "?offset"),
        ("/v1/event_history", "event_type=sent", "?event_type"),
        ("/v1/event_history", "date_to=x", "?date_to"),
        ("/v1/tail", "outcome=lost", "?outcome"),
        ("/v1/audit", "action=nope", "?action"),
        ("/v1/audit", "action=nope.*", "?action"),
        ("/v1/status", "x=1", "?x"),
    ];
    for (path, query, pointer) in table {
        let answered = world.get(&format!("{path}?{query}")).await;
        assert_eq!((answered.status, answered.code().as_str()), (400, "bad_query"), "{path}?{query}");
        assert_eq!(answered.pointers(), [pointer], "{answered:?}");
    }
}

/// What nobody would read is refused before anything is done: a reason that is kept nowhere, a filter beside the query.
#[tokio::test]
async fn a_body_that_no_route_reads_is_refused() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    let routes: Vec<_> =
        routes(&Settings::default()).into_iter().filter(|route| route.takes == Takes::NoBody).collect();
    let known = routes.iter().filter(|route| route.access != Access::Public);
    for route in known.clone() {
        let (method, path) = (route.method.as_str(), things.path(route.pattern));
        for body in [json!({"reason": "x"}), json!(["x"])] {
            let answered = world.ask(Who::Operator, method, &path, body).await;
            assert_eq!(answered.status, 400, "{method} {path}: {answered:?}");
            assert!(answered.text.contains("takes no body; leave it out, or send {}"), "{answered:?}");
        }
    }
    for route in known.filter(|route| !route.pattern.starts_with("/v1/tail")) {
        let answered = world.ask(Who::Operator, route.method.as_str(), &things.path(route.pattern), json!({})).await;
        assert_ne!(answered.status, 400, "{} {}: {answered:?}", route.method, route.pattern);
    }
}

/// P17, S4.5: what a tenant's events do at a destination of the tenant above is that one's to see and to steer.
#[tokio::test]
async fn a_rolled_up_delivery_is_its_destinations_owners() {
    let world = World::new();
    world.tenant("reseller").await;
    world.done(201, "POST", "/v1/tenants", json!({"id": "m1", "parent": "reseller"})).await;
    let (above, own) = (world.destination("reseller").await, world.destination("m1").await);
    let roll_up = json!({"tenant": "reseller", "destinations": [above], "roll_up": true});
    let subscription = text(&world.done(201, "POST", "/v1/subscriptions/*", roll_up).await["id"]);
    world.subscription("m1", "*", &[&own]).await;
    let event = world.event("m1", "t").await;
    let (m1, reseller) = (world.key("operate", Some("m1")).await, world.key("operate", Some("reseller")).await);
    let rows = async |key: &str, path: &str| {
        let list = world.ask(Who::Key(key), "GET", path, Value::Null).await.json();
        let rows = list["deliveries"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| (text(&row["id"]), text(&row["destination_id"]))).collect::<Vec<_>>()
    };
    let (mine, theirs) = (rows(&m1, "/v1/deliveries").await, rows(&reseller, "/v1/deliveries").await);
    assert_eq!((mine.len(), theirs.len()), (1, 1));
    assert_eq!((&mine[0].1, &theirs[0].1), (&own, &above));
    assert_eq!(rows(&m1, &format!("/v1/events/{event}/deliveries")).await, mine);
    let shown = world.ask(Who::Key(&m1), "GET", &format!("/v1/events/{event}"), Value::Null).await.text;
    assert!(shown.contains(&own) && !shown.contains(&above) && !shown.contains(&subscription), "{shown}");
    assert_eq!(world.ask(Who::Key(&reseller), "GET", &format!("/v1/events/{event}"), Value::Null).await.status, 404);
    let cancel = format!("/v1/deliveries/{}/cancel", theirs[0].0);
    for (key, status) in [(&m1, 404), (&reseller, 200)] {
        assert_eq!(world.ask(Who::Key(key), "POST", &cancel, Value::Null).await.status, status);
    }
}
