//! Every page, for every role.

use super::things::{REPLY, Things};
use super::*;

const ROLES: [Role; 4] = [Role::Ingest, Role::Read, Role::Operate, Role::Admin];

/// P17: nothing of the dashboard is shown over TCP to whoever has no session, whatever the path: not even whether it exists.
#[tokio::test]
async fn over_tcp_nothing_is_shown_without_a_session() {
    let world = World::new();
    let get = |path: &str| ::http::Request::builder().uri(path);
    for path in ["/ui/", "/ui/nothing", "/ui/webhooks/new", "/ui/deliveries?state=failed"] {
        let answered = world.send(get(path), "", stranger()).await;
        assert!(answered.status == 303 && answered.location.starts_with(LOGIN), "{path}: {answered:?}");
        assert!(answered.text.is_empty() && answered.policy == POLICY);
    }
    for path in ["/", "/ui"] {
        let answered = world.send(get(path), "", stranger()).await;
        assert_eq!((answered.status, answered.location.as_str()), (303, "/ui/"), "{path}");
    }
    assert_eq!(world.send(get("/ui/"), "", operator()).await.status, 200);
}

/// The files of the dashboard may be kept for good, since their names change with what they say.
#[tokio::test]
async fn assets_are_kept_for_good_under_a_name_that_changes_with_them() {
    let world = World::new();
    for asset in [&*assets::STYLE, &*assets::SCRIPT, &*assets::TAIL, &*assets::ICON] {
        let request = Request::whole(
            ::http::Request::builder().uri(asset.path()).body(Bytes::new()).unwrap(),
            stranger(),
            "req_1",
        );
        let response = world.ui.clone().handler().answer(request).await.unwrap();
        assert_eq!(response.status(), 200, "{}", asset.path());
        let etag = response.header(&::http::header::ETAG).unwrap().clone();
        assert!(response.header(&::http::header::CACHE_CONTROL).unwrap().to_str().unwrap().contains("immutable"));
        let again = ::http::Request::builder().uri(asset.path()).header("if-none-match", etag);
        let again = world.send(again, "", stranger()).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""));
    }
    assert_eq!(world.send(::http::Request::builder().uri("/ui/assets/app-0.js"), "", stranger()).await.status, 303);
}

/// Whoever's role does not do gets a page that says so, and nothing of what the page would show.
#[tokio::test]
async fn every_page_is_for_those_whose_role_covers_it() {
    let world = World::new();
    for route in pages::routes() {
        let Access::Role(needed) = route.access else { continue };
        // The stream is none to be looked at.
        if route.pattern.contains('{') || route.pattern.ends_with("/stream") || route.method != Method::GET {
            continue;
        }
        for role in ROLES {
            let answered = world.look(&viewer(role, None), route.pattern).await;
            let at = format!("{} as {}: {}", route.pattern, role.as_str(), answered.text);
            assert_eq!(answered.status, if role.covers(needed) { 200 } else { 403 }, "{at}");
            assert_eq!(
                (answered.policy.as_str(), answered.content_type.as_str()),
                (POLICY, "text/html; charset=utf-8")
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_page_that_says_so() {
    let world = World::new();
    let answered = world.look(&viewer(Role::Read, None), "/ui/nothing").await;
    assert_eq!(answered.status, 404);
    assert!(answered.text.contains("There is nothing here") && answered.text.contains("<nav"));
}

/// What a browser would run of a page: nothing that came from outside may stand there as markup.
fn runs(text: &str) -> bool {
    let markup = text.to_lowercase();
    let own = assets::SCRIPT.path().to_lowercase();
    let scripts: Vec<_> = markup.match_indices("<script").collect();
    markup.contains("<img")
        || markup.contains("style=")
        || [" onerror=", " onclick=", "javascript:"].iter().any(|it| markup.contains(&format!("<a{it}")))
        || scripts.iter().any(|(at, _)| {
            let tag = &markup[*at..];
            !(tag.starts_with(&format!("<script src=\"{own}\" defer></script>"))
                || tag.starts_with(&format!("<script src=\"{}\" defer></script>", assets::TAIL.path())))
        })
}

fn is_page(route: &crate::http::route::Route<Act>) -> bool {
    // The door has tests of its own: it is there for whoever is not yet known.
    route.method == Method::GET && !route.pattern.ends_with("/stream") && route.access != Access::Public
}

/// Every page with everything on it that others chose: names, URLs, payloads, keys, replies. It is shown, and none of it
/// is markup; no page with its files is heavier than it may be.
#[tokio::test]
async fn what_others_wrote_is_text_on_every_page() {
    let world = World::new();
    let own = Things::make(&world, "m1").await;
    let assets = assets::STYLE.len() + assets::SCRIPT.len() + assets::ICON.len();
    let mut seen = 0;
    for role in ROLES {
        for tenant in [None, Some("m1")] {
            let viewer = viewer(role, tenant);
            for route in pages::routes().into_iter().filter(is_page) {
                let answered = world.look(&viewer, &own.path(route.pattern)).await;
                let at = format!("{} as {} of {tenant:?}: {}", route.pattern, role.as_str(), answered.text);
                assert!(matches!(answered.status, 200 | 403), "{} {at}", answered.status);
                assert!(!runs(&answered.text), "{at}");
                assert!(!answered.text.contains("secret-password"), "{at}");
                assert!(answered.text.len() + assets < 150_000, "{} bytes: {at}", answered.text.len());
                assert_eq!(answered.policy, POLICY);
                seen += usize::from(answered.text.contains("&lt;img src=x onerror=alert(1)&gt;"));
            }
        }
    }
    assert!(seen > 40, "the canaries were there to be seen: {seen}");
    let payload = world.act(&viewer(Role::Operate, None), "POST", &own.path("/ui/events/{id}/payload"), "").await;
    assert!(payload.text.contains("&lt;img") && payload.text.contains("************1111") && !runs(&payload.text));
    let log = world.look(&viewer(Role::Admin, None), "/ui/audit?action=event.read_payload").await;
    assert!(log.text.contains("event.read_payload"), "{}", log.text);
}

/// P17: a reply may echo what was sent, so whoever sees no payloads sees none of it, as over the API.
#[tokio::test]
async fn what_receivers_wrote_back_is_for_those_who_see_payloads() {
    let world = World::new();
    let own = Things::make(&world, "m1").await;
    for role in [Role::Read, Role::Operate, Role::Admin] {
        let page = world.look(&viewer(role, None), &own.path("/ui/deliveries/{id}")).await;
        assert!(page.status == 200 && page.text.contains("X-Evil"), "{}", page.text);
        assert_eq!(page.text.contains(REPLY), role != Role::Read, "{}", page.text);
    }
}

/// What the configuration names by pointers is masked in every view of a payload, and in no stored byte.
#[tokio::test]
async fn fields_that_the_configuration_names_are_shown_to_nobody() {
    let world = World::new();
    let event = serde_json::json!({"type": "sale", "data": {"customer": {"email": "anna@shop", "name": "Anna"}}});
    let id = world.done("POST", "/v1/events", event).await["id"].as_str().unwrap().to_owned();
    let page = world.act(&viewer(Role::Admin, None), "POST", &format!("/ui/events/{id}/payload"), "").await;
    assert!(page.text.contains("Anna") && !page.text.contains("anna@shop"), "{}", page.text);
    for path in [format!("/v1/events/{id}"), "/v1/events?payload=true&type=sale".to_owned()] {
        let view = world.done("GET", &path, Value::Null).await.to_string();
        assert!(view.contains(r#""email":"***""#) && view.contains("Anna"), "{view}");
    }
    // A receiver may echo it, inside something of its own.
    let own = Things::make(&world, "m1").await;
    for echo in
        [r#"{"got":{"customer":{"email":"anna@shop","name":"Anna"}}}"#, r#"[{"customer":{"name":"Anna","email":"anna@"#]
    {
        world.answer(&own.delivery, echo.as_bytes().to_vec()).await;
        let page = world.look(&viewer(Role::Admin, None), &own.path("/ui/deliveries/{id}")).await;
        assert!(page.text.contains("Anna") && !page.text.contains("anna@"), "{}", page.text);
        for path in [format!("/v1/deliveries/{}", own.delivery), format!("/v1/events/{}/deliveries", own.event)] {
            let view = world.done("GET", &path, Value::Null).await.to_string();
            assert!(view.contains("Anna") && !view.contains("anna@"), "{view}");
        }
    }
    let kept = world.service.event(&service::Sight::All, id.parse().unwrap()).await.unwrap();
    assert!(kept.body.bytes().unwrap().windows(9).any(|bytes| bytes == b"anna@shop"));
}

/// Tenants apart: whoever is bound to one sees, and moves, nothing of another's; a foreign id is told from no unknown one.
#[tokio::test]
async fn whoever_is_bound_to_a_tenant_meets_nothing_of_anothers() {
    let world = World::new();
    let (own, foreign) = (Things::make(&world, "m1").await, Things::make(&world, "m2").await);
    let before = world.done("GET", "/v1/audit?limit=1", Value::Null).await["records"][0]["number"].clone();
    for role in [Role::Read, Role::Operate, Role::Admin] {
        let viewer = viewer(role, Some("m1"));
        for route in pages::routes() {
            let at = format!("{} {} as {}", route.method, route.pattern, role.as_str());
            let Access::Role(needed) = route.access else { continue };
            if route.pattern.contains("{id}") {
                let answered = world.act(&viewer, route.method.as_str(), &foreign.path(route.pattern), "").await;
                assert!(matches!(answered.status, 403 | 404), "{} {at}: {}", answered.status, answered.text);
            } else if is_page(&route) && role.covers(needed) {
                let answered = world.look(&viewer, &own.path(route.pattern)).await;
                for id in [&foreign.destination, &foreign.event, &foreign.delivery, &foreign.key, &foreign.person] {
                    assert!(!answered.text.contains(id.as_str()), "{id} in {at}");
                }
                assert!(
                    !answered.text.contains("m2 &#39;") && !answered.text.contains(">m2<"),
                    "{at}: {}",
                    answered.text
                );
            }
        }
        for path in ["/ui/deliveries?tenant=m2", "/ui/?tenant=m2", "/ui/webhooks?tenant=m2", "/ui/events?tenant=nobody"]
        {
            assert_eq!(world.look(&viewer, path).await.status, 403, "{path}");
        }
    }
    let after = world.done("GET", "/v1/audit?limit=1", Value::Null).await["records"][0]["number"].clone();
    assert_eq!(before, after, "whatever was refused has changed nothing");
}

/// What cannot be undone is asked for twice, also without script: the first form changes nothing, and its answer is a page that
/// names what it is about and sends all that was in the form once more.
#[tokio::test]
async fn what_cannot_be_undone_is_asked_for_twice() {
    let world = World::new();
    let own = Things::make(&world, "m1").await;
    let admin = viewer(Role::Admin, None);
    let head = async || world.done("GET", "/v1/audit/head", Value::Null).await;
    let grave = [
        ("/ui/destinations/{id}/rotate", "overlap=1h&signature="),
        ("/ui/signing-keys/{id}/rotate", ""),
        ("/ui/signing-keys/{id}/delete", ""),
        ("/ui/replays/{id}/cancel", ""),
        ("/ui/deliveries/{id}/cancel", ""),
        ("/ui/events/{id}/erase", ""),
        ("/ui/people/{id}/reset-totp", ""),
        ("/ui/people/{id}/delete", ""),
        ("/ui/keys/{id}/delete", ""),
    ];
    for (pattern, form) in grave {
        let (path, before) = (own.path(pattern), head().await);
        let page = world.act(&admin, "POST", &path, form).await;
        assert_eq!((page.status, head().await), (200, before.clone()), "{path}: {}", page.text);
        assert!(page.text.contains(&format!("method=\"post\" action=\"{path}\"")), "{path}: {}", page.text);
        assert!(page.text.contains("name=\"agreed\" value=\"yes\"") && page.text.contains("Leave it"), "{}", page.text);
        let is_carried = |field: &str| match field.split_once('=') {
            Some((name, value)) => page.text.contains(&format!("name=\"{name}\" value=\"{value}\"")),
            None => true,
        };
        assert!(form.split('&').all(is_carried), "{path}: {}", page.text);
        let done = world.act(&admin, "POST", &path, &format!("{form}&agreed=yes")).await;
        assert!(matches!(done.status, 200 | 303) && head().await != before, "{path}: {} {}", done.status, done.text);
    }
    world.done("POST", "/v1/tenants", serde_json::json!({"id": "empty"})).await;
    let page = world.act(&admin, "POST", "/ui/tenants/empty/delete", "").await;
    assert!(page.status == 200 && page.text.contains("Delete the tenant empty?"), "{}", page.text);
    assert_eq!(world.act(&admin, "POST", "/ui/tenants/empty/delete", "agreed=yes").await.status, 303);
}

/// What a bulk resend would send is told before: at a glance, or, asked for it, as the API counts it.
#[tokio::test]
async fn a_bulk_resend_is_counted_at_a_glance_or_as_a_whole() {
    let world = World::new();
    let own = Things::make(&world, "m1").await;
    world.act(&viewer(Role::Operate, None), "POST", &own.path("/ui/deliveries/{id}/cancel"), "agreed=yes").await;
    for (query, words) in [
        (
            "state=cancelled&tenant=m1".to_owned(),
            "This matches <strong>1</strong> cancelled delivery of the tenant <strong>m1",
        ),
        ("state=cancelled&tenant=m1&count=all".to_owned(), "This matches <strong>1</strong> cancelled delivery"),
        (format!("state=cancelled&destination={}&type=sale", own.destination), "<strong>1</strong> cancelled delivery"),
        ("state=cancelled&tenant=m1&type=other".to_owned(), "<strong>0</strong> cancelled deliveries"),
        ("state=failed&tenant=m1".to_owned(), "There is nothing to send."),
    ] {
        let page = world.look(&viewer(Role::Operate, None), &format!("/ui/replays/new?{query}")).await;
        assert!(page.status == 200 && page.text.contains(words), "{query}: {}", page.text);
        assert!(!page.text.contains("Count them all"), "it was counted: {}", page.text);
    }
}

/// A form that another site sent changes nothing, whoever's browser sent it.
#[tokio::test]
async fn a_form_from_another_site_is_refused_everywhere() {
    let world = World::new();
    let own = Things::make(&world, "m1").await;
    for route in pages::routes().into_iter().filter(|route| route.method == Method::POST) {
        let request = ::http::Request::builder().method("POST").uri(own.path(route.pattern));
        let request = request.header("sec-fetch-site", "cross-site").header("host", "localhost");
        let answered = world.send(request, "", operator()).await;
        assert_eq!(answered.status, 403, "{}", route.pattern);
        assert!(answered.text.contains("another site"), "{}", answered.text);
    }
}
