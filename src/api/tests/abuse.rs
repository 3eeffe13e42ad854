//! Whatever is sent, the answer is a problem that repeats nothing, and the API goes on.

use super::access::Things;
use super::*;
use proptest::prelude::*;

/// A parameter that no route knows is refused, so that nothing is done that was not asked for: `?dry_run=true` deletes
/// nothing.
#[tokio::test]
async fn an_unknown_parameter_is_refused_on_every_route_and_changes_nothing() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    let head = world.get("/v1/audit/head").await.text;
    for route in routes(&Settings::default()) {
        let Access::Role(_) = route.access else { continue };
        let path = format!("{}?zz=1", things.path(route.pattern));
        let body = if route.method == Method::GET { Value::Null } else { json!({}) };
        let answered = world.ask(Who::Operator, route.method.as_str(), &path, body).await;
        assert_eq!((answered.status, answered.code()), (400, "bad_query".to_owned()), "{} {path}", route.method);
        // Who may not is not told what there is.
        assert_eq!(world.ask(Who::Nobody, route.method.as_str(), &path, Value::Null).await.status, 401);
    }
    assert_eq!(world.get("/v1/audit/head").await.text, head);
    assert_eq!(world.get(&things.path("/v1/deliveries/{id}")).await.json()["state"], "pending");
    assert_eq!(world.get(&things.path("/v1/events/{id}")).await.json()["erased"], false);
}

/// Bodies have a bound, and the events' is their own.
#[tokio::test]
async fn a_body_over_its_limit_is_a_413() {
    let world = World::with(Settings { body_bytes_max: 200, events_bytes_max: 400, ..Settings::default() });
    let body = |bytes: usize| format!("{:bytes$}", "{}");
    for (path, bytes, status) in [
        (WEBHOOKS, 200, 400),
        (WEBHOOKS, 201, 413),
        ("/v1/events", 400, 400),
        ("/v1/events", 401, 413),
        ("/v1/tenants", 201, 413),
        ("/v1/keys", 201, 413),
    ] {
        let answered = world.send(::http::Request::post(path), body(bytes), operator()).await;
        assert_eq!(answered.status, status, "{path} {bytes}");
    }
}

/// A body that is not JSON by its own word is a 415, before it is read.
#[tokio::test]
async fn a_foreign_content_type_is_a_415() {
    let world = World::new();
    let request = ::http::Request::post(WEBHOOKS).header("content-type", "text/xml");
    assert_eq!(world.send(request, "<a/>", operator()).await.status, 415);
}

/// An event is JSON, and what says that it is something else is not guessed at; `curl -d` calls whatever it sends a form.
#[tokio::test]
async fn an_event_is_taken_as_json_and_as_what_curl_calls_a_form() {
    let world = World::new();
    let event = r#"{"type": "a.b", "data": {}}"#;
    for (content_type, status) in [
        (None, 202),
        (Some("application/json; charset=utf-8"), 202),
        (Some("application/cloudevents+json"), 202),
        (Some("application/x-www-form-urlencoded"), 202),
        (Some("Application/X-WWW-Form-URLEncoded; charset=UTF-8"), 202),
        (Some("text/plain"), 415),
        (Some("text/xml"), 415),
        (Some("multipart/form-data; boundary=x"), 415),
        (Some("application/json; charset=latin1"), 415),
    ] {
        let mut request = ::http::Request::post("/v1/events");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        assert_eq!(world.send(request, event, operator()).await.status, status, "{content_type:?}");
    }
}

/// A list of values in the place of an object was once read as the object's fields, in the order of the source:
/// `"tls": [null, null]` was taken, and so was `[null, null]` as the body of a test.
#[tokio::test]
async fn a_list_is_not_taken_for_an_object() {
    let world = World::new();
    let destination = world.destination("default").await;
    let path = format!("{WEBHOOKS}/{destination}");
    for (field, value, pointer) in [
        ("auth", json!(["none"]), "/auth"),
        ("retry", json!([]), "/retry"),
        ("success", json!([["2xx"]]), "/success"),
        ("success", json!({"body": ["OK"]}), "/success/body"),
        ("rate", json!([1, "1s"]), "/rate"),
        ("tls", json!([null, null]), "/tls"),
        ("signature", json!([["standard"]]), "/signature/0"),
    ] {
        let answered = world.ask(Who::Operator, "PUT", &path, json!({ field: value })).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![pointer.to_owned()]), "{field}: {answered:?}");
    }
    for (method, path) in [("PUT", path.as_str()), ("POST", &format!("{path}/test")), ("POST", "/v1/tenants")] {
        let answered = world.ask(Who::Operator, method, path, json!([null, null])).await;
        assert_eq!((answered.status, answered.pointers()), (400, vec![String::new()]), "{method} {path}");
        assert_eq!(answered.json()["detail"], "is not an object");
    }
}

/// Deep nesting, huge numbers, odd keys: a 400 each, and never a panic.
#[tokio::test]
async fn hostile_json_is_a_400() {
    let world = World::new();
    let deep = "[".repeat(100_000);
    let bodies = [
        deep.clone(),
        format!("{{\"headers\": {deep}"),
        format!("{{\"lane\": {deep}"),
        "{\"name\": \"a\", \"name\": \"b\"}".to_owned(),
        "{\"timeout\": \"99999999999999999999999s\"}".to_owned(),
        "{\"in_flight_max\": 1e400}".to_owned(),
        "{\"in_flight_max\": -1}".to_owned(),
        "{\"\\u0000\": 1}".to_owned(),
        "{\"name\": \"\\ud800\"}".to_owned(),
        "\u{feff}{}".to_owned(),
        "null".to_owned(),
        "true".to_owned(),
        "\"x\"".to_owned(),
    ];
    let subscription = world.subscription("default", "t", &[]).await;
    let destination = world.destination("default").await;
    let doors = [
        ("POST", WEBHOOKS.to_owned()),
        ("PUT", format!("{WEBHOOKS}/{destination}")),
        ("POST", "/v1/subscriptions/t".to_owned()),
        ("PUT", format!("/v1/subscriptions/t/{subscription}")),
        ("POST", format!("/v1/subscriptions/t/{subscription}/destinations")),
        ("POST", "/v1/events".to_owned()),
        ("POST", "/v1/tenants".to_owned()),
        ("PUT", "/v1/tenants/default".to_owned()),
        ("POST", "/v1/keys".to_owned()),
    ];
    for (method, path) in &doors {
        for body in &bodies {
            let request = ::http::Request::builder().method(*method).uri(path);
            let answered = world.send(request, body.clone(), operator()).await;
            assert_eq!(answered.status, 400, "{method} {path} {:.40}", body);
        }
    }
}

/// Two tenants at once, a key twice, a key that is not ASCII: refused, with nothing repeated.
#[tokio::test]
async fn ambiguous_headers_are_refused() {
    let world = World::new();
    let key = world.key("admin", None).await;
    let ask = || ::http::Request::get("/v1/keys");
    let table = [
        (ask().header("x-api-key", &key).header("x-api-key", &key), 401),
        (ask().header("authorization", b"\xff\xfe".as_slice()), 401),
        (ask().header("authorization", ""), 401),
        (ask().header("authorization", format!("Basic {key}")), 401),
        (ask().header("x-api-key", &key).header("x-tenant", "default").header("x-tenant", "default"), 400),
        (ask().header("x-api-key", &key).header("x-tenant", "../default"), 400),
        (ask().header("x-api-key", &key).header("x-tenant", "x".repeat(65)), 400),
    ];
    for (request, status) in table {
        let answered = world.send(request, "", stranger()).await;
        assert_eq!(answered.status, status, "{answered:?}");
        assert!(!answered.text.contains(&key[4..]), "{answered:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the path and the query, the answer is an answer.
    #[test]
    fn any_path_is_answered(path in "/(v1/)?(destinations|subscriptions|events|deliveries|tenants|keys|status)?(/[a-zA-Z0-9%._*-]{0,12}){0,4}(\\?[a-z_]{0,6}=[a-zA-Z0-9%+:-]{0,8})?") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let Ok(uri) = path.parse::<::http::Uri>() else { return };
                let answered = world.send(::http::Request::builder().method(method).uri(uri), "{}", operator()).await;
                assert!(answered.status < 500, "{method} {path}: {answered:?}");
            }
        });
    }
}
