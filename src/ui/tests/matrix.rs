//! Every page, for every role.

use super::*;

const ROLES: [Role; 4] = [Role::Ingest, Role::Read, Role::Operate, Role::Admin];

/// P17: nothing of the dashboard is shown over TCP to whoever has no session, whatever the path: not even whether it exists.
#[tokio::test]
async fn over_tcp_nothing_is_shown_without_a_session() {
    let world = World::new();
    let get = |path: &str| ::http::Request::builder().uri(path);
    for path in ["/ui/", "/ui/nothing", "/ui/webhooks/new", "/ui/deliveries?state=failed"] {
        let answered = world.send(get(path), "", stranger()).await;
        assert_eq!((answered.status, answered.location.as_str()), (303, LOGIN), "{path}");
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
