//! Tenants, keys, people, the audit log, the live tail, and lists.

use serde_json::json;

use super::things::Things;
use super::*;

const XSS: &str = "<img src=x onerror=alert(1)>";

fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn admin() -> Viewer {
    viewer(Role::Admin, None)
}

#[tokio::test]
async fn a_tenant_is_added_changed_and_deleted() {
    let world = World::new();
    let form = encoded(&[("id", "shop"), ("name", XSS), ("parent", "default")]);
    let made = world.act(&admin(), "POST", "/ui/tenants", &form).await;
    assert_eq!((made.status, made.location.as_str()), (303, "/ui/tenants?done=created"));
    let listed = world.look(&admin(), "/ui/tenants?done=created").await;
    assert!(listed.text.contains("It was created.") && listed.text.contains("/ui/tenants/shop"));
    assert!(listed.text.contains("&lt;img") && !listed.text.contains("<img"), "{}", listed.text);

    let saved = world.act(&admin(), "POST", "/ui/tenants/shop", "name=Shop&parent=").await;
    assert_eq!((saved.status, saved.location.as_str()), (303, "/ui/tenants/shop?done=saved"));
    let tenant = world.done("GET", "/v1/tenants/shop", Value::Null).await;
    assert_eq!((&tenant["name"], &tenant["parent"]), (&json!("Shop"), &Value::Null));

    let deleted = world.act(&admin(), "POST", "/ui/tenants/shop/delete", "agreed=yes").await;
    assert_eq!((deleted.status, deleted.location.as_str()), (303, "/ui/tenants?done=deleted"));
    assert_eq!(world.look(&admin(), "/ui/tenants/shop").await.status, 404);
}

#[tokio::test]
async fn a_form_that_is_refused_keeps_what_was_typed_and_says_what_is_wrong() {
    let world = World::new();
    let form = encoded(&[("id", "a b"), ("name", "Shop \"1\""), ("parent", "")]);
    let refused = world.act(&admin(), "POST", "/ui/tenants", &form).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text.contains("role=\"alert\"") && refused.text.contains("aria-invalid=\"true\""),
        "{}",
        refused.text
    );
    assert!(refused.text.contains("value=\"a b\"") && refused.text.contains("value=\"Shop &quot;1&quot;\""));
    assert_eq!(world.done("GET", "/v1/tenants", Value::Null).await["tenants"].as_array().unwrap().len(), 1);
}

/// A key's secret stands in the answer to the form that made it and on no other page.
#[tokio::test]
async fn a_keys_secret_is_shown_once() {
    let world = World::new();
    let made = world.act(&admin(), "POST", "/ui/keys", "name=till&role=ingest&tenant=default").await;
    assert_eq!(made.status, 200);
    let keys = world.done("GET", "/v1/keys", Value::Null).await;
    let key = &keys["keys"][0];
    assert_eq!((&key["name"], &key["role"], &key["tenant"]), (&json!("till"), &json!("ingest"), &json!("default")));
    let id = key["id"].as_str().unwrap();
    let secret = made.text.split("<code class=\"secret\" tabindex=\"0\">").nth(1).unwrap().split('<').next().unwrap();
    assert!(secret.len() > 30 && secret.contains(id), "{secret}");
    for path in ["/ui/keys", &format!("/ui/keys/{id}"), "/ui/audit"] {
        let shown = world.look(&admin(), path).await;
        assert!(shown.status == 200 && !shown.text.contains(secret), "{path}");
    }
    let saved = world.act(&admin(), "POST", &format!("/ui/keys/{id}"), "name=till+2&role=read").await;
    assert_eq!(saved.status, 303);
    let deleted = world.act(&admin(), "POST", &format!("/ui/keys/{id}/delete"), "agreed=yes").await;
    assert_eq!((deleted.status, deleted.location.as_str()), (303, "/ui/keys?done=deleted"));
    assert_eq!(world.look(&admin(), &format!("/ui/keys/{id}")).await.status, 404);
}

/// P17: who belongs to one tenant sees its keys only, and makes none that reaches further.
#[tokio::test]
async fn a_tenants_administrator_keeps_to_it() {
    let world = World::new();
    world.done("POST", "/v1/tenants", json!({"id": "shop"})).await;
    let foreign = world.done("POST", "/v1/keys", json!({"role": "read", "tenant": "default", "name": "foreign"})).await;
    let own = viewer(Role::Admin, Some("shop"));
    let made = world.act(&own, "POST", "/ui/keys", "name=own&role=read&tenant=default").await;
    assert_eq!(made.status, 200, "{}", made.text);
    let keys = world.look(&own, "/ui/keys").await;
    assert!(keys.text.contains("own") && !keys.text.contains("foreign"));
    let id = foreign["id"].as_str().unwrap();
    for (method, path) in [("GET", format!("/ui/keys/{id}")), ("POST", format!("/ui/keys/{id}/delete"))] {
        assert_eq!(world.act(&own, method, &path, "").await.status, 404, "{path}");
    }
    assert_eq!(world.look(&own, "/ui/keys?tenant=default").await.status, 403);
    let tenants = world.look(&own, "/ui/tenants").await;
    assert!(tenants.text.contains("shop") && !tenants.text.contains("/ui/tenants/default"));
    assert!(!tenants.text.contains("Add a tenant"));
    assert_eq!(world.act(&own, "POST", "/ui/tenants", "id=other").await.status, 400);
    assert_eq!(world.done("GET", "/v1/tenants", Value::Null).await["tenants"].as_array().unwrap().len(), 2);
}

async fn user(world: &World, id: &str) -> Value {
    world.done("GET", &format!("/v1/users/{id}"), Value::Null).await
}

/// A password that the daemon made stands in the answer to the form that had it made and on no other page; one that was typed
/// stands nowhere.
#[tokio::test]
async fn a_person_is_added_changed_helped_and_deleted() {
    let world = World::new();
    let shown = |page: &Answered| {
        let secret = page.text.split("<code class=\"secret\" tabindex=\"0\">").nth(1);
        secret.map(|rest| rest.split('<').next().unwrap().to_owned())
    };
    let made = world.act(&admin(), "POST", "/ui/people", "name=anna&role=operate&tenant=default&password=").await;
    let first = shown(&made).expect("a password was made");
    assert!(made.status == 200 && first.len() >= 16, "{first}");
    let users = world.done("GET", "/v1/users", Value::Null).await;
    let person = &users["users"][0];
    assert_eq!((&person["name"], &person["role"]), (&json!("anna"), &json!("operate")));
    assert_eq!((&person["tenant"], &person["one_time_password"]), (&json!("default"), &json!(true)));
    let (id, path) = (person["id"].as_str().unwrap(), format!("/ui/people/{}", person["id"].as_str().unwrap()));

    let saved = world.act(&admin(), "POST", &path, "name=anna2&role=admin").await;
    assert_eq!((saved.status, saved.location), (303, format!("{path}?done=saved")));
    let changed = user(&world, id).await;
    assert_eq!((&changed["name"], &changed["role"]), (&json!("anna2"), &json!("admin")));

    let again = world.act(&admin(), "POST", &format!("{path}/password"), "password=").await;
    let second = shown(&again).expect("a password was made");
    assert_ne!(first, second);
    let typed = "correct horse battery";
    let form = encoded(&[("password", typed)]);
    let taken = world.act(&admin(), "POST", &format!("{path}/password"), &form).await;
    assert_eq!((taken.status, taken.location), (303, format!("{path}?done=saved")));
    assert_eq!(user(&world, id).await["one_time_password"], false);
    let short = world.act(&admin(), "POST", &format!("{path}/password"), "password=hunter2").await;
    assert!(short.status == 400 && short.text.contains("aria-invalid=\"true\"") && !short.text.contains("hunter2"));

    for (verb, done) in [("unlock", "unlocked"), ("reset-totp", "reset")] {
        let helped = world.act(&admin(), "POST", &format!("{path}/{verb}"), "agreed=yes").await;
        assert_eq!((helped.status, helped.location), (303, format!("{path}?done={done}")));
    }
    for place in ["/ui/people", &path, "/ui/audit"] {
        let page = world.look(&admin(), place).await;
        assert_eq!(page.status, 200, "{place}");
        assert!([&first, &second, typed].into_iter().all(|secret| !page.text.contains(secret)), "{place}");
    }
    let deleted = world.act(&admin(), "POST", &format!("{path}/delete"), "agreed=yes").await;
    assert_eq!((deleted.status, deleted.location.as_str()), (303, "/ui/people?done=deleted"));
    assert_eq!(world.look(&admin(), &path).await.status, 404);
}

/// The page offers to unlock a login that is locked, and to reset a second factor that is there, and neither otherwise.
#[tokio::test(start_paused = true)]
async fn a_locked_login_is_told_and_unlocked() {
    let world = World::new();
    let made =
        world.act(&admin(), "POST", "/ui/people", "name=ben&role=read&tenant=&password=correct+horse+battery").await;
    let path = made.location.split('?').next().unwrap().to_owned();
    let before = world.look(&admin(), &path).await;
    assert!(!before.text.contains("/unlock") && !before.text.contains("/reset-totp"), "{}", before.text);
    let knock = crate::service::people::Knock { from: Origin::Inside, request: None };
    while user(&world, path.rsplit('/').next().unwrap()).await["locked"] == false {
        world.service.sign_in(&knock, "ben", crate::model::Secret::new("wrong")).await.unwrap_err();
    }
    let locked = world.look(&admin(), &path).await;
    assert!(locked.text.contains(&format!("action=\"{path}/unlock\"")), "{}", locked.text);
    assert!(world.look(&admin(), "/ui/people").await.text.contains("locked"));
    assert_eq!(world.act(&admin(), "POST", &format!("{path}/unlock"), "").await.status, 303);
    assert!(!world.look(&admin(), &path).await.text.contains("/unlock"));
}

/// An administrator's session shows a signing key's secret after a fresh proof, which is noted; without one the proof comes first.
#[tokio::test]
async fn a_signing_key_is_shown_to_whoever_has_just_shown_a_second_factor() {
    let world = World::new();
    let made = world.done("POST", "/v1/signing-keys", json!({"kind": "source", "name": "till"})).await;
    let (secret, id) = (made["secret"].as_str().unwrap(), made["id"].as_str().unwrap());
    let path = format!("/ui/signing-keys/{id}/reveal");
    let stale = Viewer::person("anna", Caller::new(Role::Admin, None, admin().caller().actor().clone()), Proof::Stale);
    let asked = world.act(&stale, "POST", &path, "").await;
    assert!(asked.status == 200 && asked.text.contains("Is it you?") && !asked.text.contains(secret), "{}", asked.text);
    let shown = world.act(&admin(), "POST", &path, "").await;
    assert!(shown.status == 200 && shown.text.contains(secret), "{}", shown.text);
    let records = world.done("GET", "/v1/audit?action=signing_key.reveal", Value::Null).await;
    assert_eq!(records["records"].as_array().unwrap().len(), 1);
    for role in [Role::Read, Role::Operate] {
        assert_eq!(world.act(&viewer(role, None), "POST", &path, "").await.status, 403);
    }
}

/// P17: who belongs to one tenant sees its people only, and adds none who reaches further; who is no administrator adds nobody.
#[tokio::test]
async fn a_tenants_administrator_sees_its_people_only() {
    let world = World::new();
    world.done("POST", "/v1/tenants", json!({"id": "shop"})).await;
    let add = |name: &str, tenant: Value| json!({"name": name, "role": "read", "tenant": tenant});
    let everywhere = world.done("POST", "/v1/users", add("everywhere", Value::Null)).await;
    let foreign = world.done("POST", "/v1/users", add("foreign", json!("default"))).await;
    let own = viewer(Role::Admin, Some("shop"));
    let made = world.act(&own, "POST", "/ui/people", "name=own&role=admin&tenant=default&password=").await;
    assert_eq!(made.status, 200, "{}", made.text);
    let listed = world.look(&own, "/ui/people").await;
    assert!(listed.text.contains(">own<") && !listed.text.contains("foreign") && !listed.text.contains("everywhere"));
    assert!(!listed.text.contains("name=\"tenant\""), "the tenant is the own one");
    let users = world.done("GET", "/v1/users", Value::Null).await;
    let user = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "own").unwrap();
    assert_eq!(user["tenant"], "shop");
    for id in [&everywhere["id"], &foreign["id"]].map(|id| id.as_str().unwrap()) {
        assert_eq!(world.look(&own, &format!("/ui/people/{id}")).await.status, 404);
        for verb in ["", "/password", "/unlock", "/reset-totp", "/delete"] {
            let refused = world.act(&own, "POST", &format!("/ui/people/{id}{verb}"), "name=x&role=read").await;
            assert_eq!(refused.status, 404, "{verb}");
        }
    }
    for role in [Role::Read, Role::Operate] {
        let refused = world.act(&viewer(role, None), "POST", "/ui/people", "name=own2&role=read&tenant=").await;
        assert_eq!(refused.status, 403, "nobody gives more than he has");
    }
    assert_eq!(world.done("GET", "/v1/users", Value::Null).await["users"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_audit_log_is_filtered_and_paged() {
    let world = World::new();
    for number in 0..30 {
        world.done("POST", "/v1/tenants", json!({"id": format!("t{number}")})).await;
    }
    world.done("POST", "/v1/keys", json!({"role": "read", "tenant": null, "name": XSS})).await;
    let all = world.look(&admin(), "/ui/audit").await;
    assert!(all.text.contains("key.create") && all.text.contains("uid:1000") && !all.text.contains("<img"));
    let filtered = world.look(&admin(), "/ui/audit?action=tenant.create&object=&from=").await;
    assert!(filtered.text.contains("tenant.create") && !filtered.text.contains("<td data-label=\"What\">key.create"));
    let next = filtered.next().unwrap();
    assert!(next.starts_with("/ui/audit?action=tenant.create&after="), "{next}");
    let second = world.look(&admin(), &next).await;
    assert!(second.status == 200 && second.text.contains("t0") && second.next().is_none());
    // The world began in 2023.
    let later = world.look(&admin(), "/ui/audit?from=2024-01-31").await;
    assert!(later.status == 200 && later.text.contains("No records"), "{}", later.text);
    assert!(world.look(&admin(), "/ui/audit?from=+&to=2024-01-31+09:30").await.text.contains("tenant.create"));
}

#[tokio::test]
async fn moments_are_read_as_people_write_them() {
    let world = World::new();
    for path in ["/ui/deliveries", "/ui/events", "/ui/audit", "/ui/replays/new"] {
        for from in ["2023-01-31", "2023-01-31+09:30", "2023-01-31T09:30:15", "2023-01-31T10:30:00%2B01:00"] {
            let page = world.look(&admin(), &format!("{path}?from={from}&to=2023-02-01")).await;
            assert_eq!(page.status, 200, "{path} {from}: {}", page.text);
            assert!(page.text.contains("value=\"2023-02-01"), "{path}: what was asked for stays");
        }
        let refused = world.look(&admin(), &format!("{path}?from=yesterday")).await;
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.text.contains("not a time such as 2026-01-31 09:30"), "{path}: {}", refused.text);
    }
}

#[tokio::test]
async fn a_filter_that_is_wrong_is_told_beside_its_field_and_the_others_stay() {
    let world = World::new();
    for (path, why) in [
        ("/ui/deliveries?key=7&status=5xx", "must be a status of HTTP, such as 503"),
        ("/ui/deliveries?key=7&type=trans*", "pattern"),
        ("/ui/deliveries?key=7&state=lost", "there is none of this name"),
        ("/ui/deliveries?key=7&from=now", "not a time"),
        ("/ui/deliveries?key=7&destination=x", "UUID"),
        ("/ui/deliveries?key=7&id=sale-1", "no delivery and no event has this id"),
        ("/ui/events?key=7&type=trans*", "pattern"),
        ("/ui/audit?object=7&to=2026-13-01", "not a time"),
        ("/ui/tail?outcome=failed&type=***", "pattern"),
    ] {
        let page = world.look(&admin(), path).await;
        assert_eq!(page.status, 400, "{path}");
        let (_, field) = page.text.split_once("aria-invalid=\"true\"").expect(path);
        assert!(field.contains("role=\"alert\"") && page.text.contains(why), "{path}: {}", page.text);
        assert!(page.text.contains("value=\"7\"") || page.text.contains("value=\"failed\" selected"), "{path}");
        assert!(!page.text.contains("data-tail"), "no stream is opened that would be refused");
    }
    let none = world.look(&admin(), "/ui/events?type=none").await;
    assert!(none.text.contains("None match these filters"), "{}", none.text);
}

#[tokio::test]
async fn an_id_that_several_tenants_gave_leads_to_each() {
    let world = World::new();
    world.done("POST", "/v1/tenants", json!({"id": "shop"})).await;
    let submit = async |tenant: &str, id: &str| {
        let event = json!({"type": "sale", "id": id, "tenant": tenant, "data": {}});
        world.done("POST", "/v1/events", event).await["id"].as_str().unwrap().to_owned()
    };
    let (own, shops, one) =
        (submit("default", "both").await, submit("shop", "both").await, submit("shop", "one").await);
    let found = world.look(&admin(), "/ui/deliveries?id=one").await;
    assert_eq!((found.status, found.location), (303, format!("/ui/events/{one}")));
    let both = world.look(&admin(), "/ui/deliveries?id=both").await;
    assert_eq!(both.status, 200);
    for (tenant, event) in [("default", &own), ("shop", &shops)] {
        let link = format!("<a href=\"/ui/events/{event}\">both</a> of the tenant {tenant}");
        assert!(both.text.contains(&link), "{}", both.text);
    }
    let bound = world.look(&viewer(Role::Read, Some("shop")), "/ui/deliveries?id=both").await;
    assert_eq!(bound.location, format!("/ui/events/{shops}"));
}

#[tokio::test]
async fn the_live_tail_is_the_apis_stream() {
    let world = World::new();
    let page = world.look(&viewer(Role::Read, None), "/ui/tail?type=transaction.*&outcome=failed").await;
    assert!(page.text.contains("data-tail=\"/ui/tail/stream\"") && page.text.contains("value=\"transaction.*\""));
    assert!(page.text.contains("value=\"failed\" selected"));
    let stream = world.look(&viewer(Role::Read, None), "/ui/tail/stream?type=transaction.*&outcome=").await;
    assert_eq!((stream.status, stream.content_type.as_str()), (200, "text/event-stream"));
    assert!(stream.text.starts_with(": attempts"), "{}", stream.text);
    assert_eq!(world.look(&viewer(Role::Read, Some("default")), "/ui/tail/stream?tenant=other").await.status, 403);
}

#[tokio::test]
async fn an_events_deliveries_are_paged_by_destination() {
    let world = World::new();
    for number in 0..30 {
        let body =
            json!({"name": format!("hook {number}"), "http_endpoint_url": "https://a.example/", "confirmed": true});
        let id = world.done("POST", "/v1/destinations/webhook", body).await["id"].as_str().unwrap().to_owned();
        world.done("POST", "/v1/subscriptions/sale", json!({"destinations": [id]})).await;
    }
    let event =
        world.done("POST", "/v1/events", json!({"type": "sale", "data": {}})).await["id"].as_str().unwrap().to_owned();
    let path = format!("/ui/events/{event}");
    let of = |page: &Answered| page.text.matches("href=\"/ui/deliveries/dlv_").count();
    let first = world.look(&viewer(Role::Operate, None), &path).await;
    let next = first.next().unwrap();
    assert!(of(&first) == 25 && next.starts_with(&format!("{path}?after=")), "{next}");
    let second = world.look(&viewer(Role::Operate, None), &next).await;
    assert_eq!((of(&second), second.next()), (5, None), "{}", second.text);
    // What the event carries is shown on the same page by a form: its list goes on at the page.
    let shown = world.act(&viewer(Role::Operate, None), "POST", &format!("{path}/payload"), "").await;
    assert_eq!((of(&shown), shown.next()), (25, Some(next)));
}

/// Whoever sees all tenants and names none is shown what all of them have; what is of one tenant only says so.
#[tokio::test]
async fn all_tenants_are_all_of_them() {
    let world = World::new();
    let own = Things::make(&world, "shop").await;
    for number in 0..30 {
        let key = json!({"kind": "source", "name": format!("till {number:02}")});
        world.done("POST", "/v1/signing-keys", key).await;
    }
    let (all, bound) = (viewer(Role::Admin, None), viewer(Role::Admin, Some("default")));
    let mut page = world.look(&all, "/ui/signing-keys").await;
    assert_eq!(page.text.matches("/reveal\"").count(), 25);
    page = world.look(&all, &page.next().unwrap()).await;
    assert!(page.next().is_none() && page.text.contains(&own.signing_key) && page.text.contains("till 29"));
    assert!(!world.look(&all, "/ui/signing-keys?tenant=default").await.text.contains(&own.signing_key));
    assert!(!world.look(&bound, "/ui/signing-keys?offset=25").await.text.contains(&own.signing_key));
    assert!(world.look(&all, "/ui/replays").await.text.contains(&format!("/ui/replays/{}/", own.replay)));
    assert!(!world.look(&bound, "/ui/replays").await.text.contains(&format!("/ui/replays/{}/", own.replay)));

    // A key for any of them; what is refused keeps what was typed.
    let made = world.act(&all, "POST", "/ui/signing-keys", "tenant=shop&kind=source&name=other").await;
    assert!(made.status == 200 && made.text.contains("The signing key was made"), "{}", made.text);
    let refused = world.act(&all, "POST", "/ui/signing-keys", "tenant=shop&kind=source&name=").await;
    assert!(refused.status == 400 && refused.text.contains("role=\"alert\""), "{}", refused.text);
    assert!(refused.text.contains("<option value=\"shop\" selected>"), "{}", refused.text);

    // The count is of one tenant; the others stand beside it.
    world.act(&all, "POST", &own.path("/ui/deliveries/{id}/cancel"), "agreed=yes").await;
    let counted = world.look(&all, "/ui/replays/new?state=cancelled").await;
    assert!(counted.text.contains("of the tenant <strong>default</strong>"), "{}", counted.text);
    let other = "href=\"/ui/replays/new?state=cancelled&amp;tenant=shop\">shop</a>: 1 cancelled";
    assert!(counted.text.contains(other) && !counted.text.contains("deleted webhooks"), "{}", counted.text);
    let one = world.look(&all, "/ui/replays/new?state=cancelled&tenant=default").await;
    assert!(!one.text.contains("each by itself"), "{}", one.text);
    world.act(&all, "POST", &own.path("/ui/webhooks/{id}/delete"), "").await;
    let counted = world.look(&all, "/ui/replays/new?state=cancelled").await;
    assert!(counted.text.contains("Deliveries of deleted webhooks are left out"), "{}", counted.text);
}

/// A form that is sent twice, or whose answer is loaded anew, makes one thing: the second time the first answer comes again, with
/// the same secret. Another form makes another one, and so does a form that comes with something else in it once it is sent again.
#[tokio::test]
async fn a_form_acts_once() {
    let world = World::new();
    let count = async |path: &str, plural: &str| {
        world.done("GET", &format!("{path}?limit=1000"), Value::Null).await[plural].as_array().unwrap().len()
    };
    let once = async |path: &str| encoded(&[("once", &world.look(&admin(), path).await.hidden("once"))]);
    for (path, typed, api, plural) in [
        ("/ui/keys", "name=till&role=ingest&tenant=", "/v1/keys", "keys"),
        ("/ui/people", "name=anna&role=read&tenant=&password=", "/v1/users", "users"),
        ("/ui/signing-keys", "tenant=default&kind=source&name=till", "/v1/signing-keys", "signing_keys"),
    ] {
        let typed = format!("{typed}&{}", once(path).await);
        let first = world.act(&admin(), "POST", path, &typed).await;
        assert!(first.status == 200 && first.text.contains("class=\"secret\""), "{path}: {}", first.text);
        let again = world.act(&admin(), "POST", path, &typed).await;
        assert_eq!((again.status, &again.text), (200, &first.text), "{path}");
        assert_eq!(count(api, plural).await, 1, "{path}");
        // As a browser does after "Back": the same form, filled in anew.
        let other = world.act(&admin(), "POST", path, &typed.replace("till", "till2").replace("anna", "ben")).await;
        assert!(other.status == 400 && other.text.contains("this form was sent before"), "{path}: {}", other.text);
        assert_eq!(count(api, plural).await, 1, "{path}");
        let next = typed.replace("till", "till2").replace("anna", "ben");
        let (old, new) = (next.split("once=").nth(1).unwrap().to_owned(), other.hidden("once"));
        assert_eq!(world.act(&admin(), "POST", path, &next.replace(&old, &new)).await.status, 200, "{path}");
        assert_eq!(count(api, plural).await, 2, "{path}");
    }
    let typed = format!(
        "label=Cart&url=https%3A%2F%2Fcart.example%2F&events=a&patterns=b&authentication=none&signature=none&{}",
        once("/ui/webhooks/new").await
    );
    for _ in 0..2 {
        let added = world.act(&admin(), "POST", "/ui/webhooks", &typed).await;
        assert_eq!((added.status, added.location.as_str()), (303, "/ui/webhooks?done=added"), "{}", added.text);
    }
    assert_eq!(count("/v1/destinations/webhook", "webhook").await, 1);
    assert_eq!(world.service.catalog().subscriptions().count(), 2);
    // Another's form of the same token is another one.
    let own = viewer(Role::Admin, Some("default"));
    let typed = format!("name=till&role=read&{}", once("/ui/keys").await);
    assert_eq!(world.act(&admin(), "POST", "/ui/keys", &typed).await.status, 200);
    assert_eq!(world.act(&own, "POST", "/ui/keys", &typed).await.status, 200);
    assert_eq!(count("/v1/keys", "keys").await, 4);
}

/// A name that turns the text around it is refused wherever a name is given: it would read as another one.
#[tokio::test]
async fn no_name_reads_as_another_one() {
    let world = World::new();
    let own = Things::make(&world, "shop").await;
    let turned = "\u{202e}evil\u{202c}";
    for (path, pairs) in [
        ("/ui/keys", vec![("name", turned), ("role", "read"), ("tenant", "")]),
        ("/ui/people", vec![("name", turned), ("role", "read"), ("tenant", ""), ("password", "")]),
        ("/ui/tenants", vec![("id", "other"), ("name", turned), ("parent", "")]),
        ("/ui/signing-keys", vec![("tenant", "shop"), ("kind", "source"), ("name", turned)]),
        (
            "/ui/webhooks",
            vec![
                ("label", turned),
                ("url", "https://a.example/"),
                ("events", "a"),
                ("authentication", "none"),
                ("signature", "none"),
            ],
        ),
        (&own.path("/ui/keys/{id}"), vec![("name", turned), ("role", "read")]),
        (&own.path("/ui/tenants/{id}"), vec![("name", turned), ("parent", "")]),
    ] {
        let refused = world.act(&admin(), "POST", path, &encoded(&pairs)).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.text);
        let words = if path == "/ui/people" { "a login name is" } else { "U+202E, which changes the direction" };
        assert!(refused.text.contains(words), "{path}: {}", refused.text);
    }
    let right_to_left = encoded(&[("name", "\u{5e7}\u{5d5}\u{5e4}\u{5d4}"), ("role", "read"), ("tenant", "")]);
    assert_eq!(world.act(&admin(), "POST", "/ui/keys", &right_to_left).await.status, 200);
}

/// What cannot be done as it was asked for says why, where to go on, and what was typed.
#[tokio::test]
async fn a_refusal_is_no_dead_end() {
    let world = World::new();
    let own = Things::make(&world, "shop").await;
    // A key that a webhook signs with.
    let key = world.done("POST", "/v1/signing-keys", json!({"kind": "source", "name": "till"})).await["id"].clone();
    let path = format!("/ui/signing-keys/{}", key.as_str().unwrap());
    let hook = json!({
        "name": "the cart's", "http_endpoint_url": "https://a.example/", "signature": {"preset": "x-signature", "key": key},
    });
    let hook = world.done("POST", "/v1/destinations/webhook", hook).await["id"].as_str().unwrap().to_owned();
    for typed in ["", "agreed=yes"] {
        let kept = world.act(&admin(), "POST", &format!("{path}/delete"), typed).await;
        assert!(kept.status == 409 && kept.text.contains("The signing key till is in use"), "{}", kept.text);
        assert!(
            kept.text.contains(&format!("href=\"/ui/webhooks/{hook}\">the cart&#39;s<"))
                || kept.text.contains(&format!("href=\"/ui/webhooks/{hook}\">the cart's<")),
            "{}",
            kept.text
        );
    }
    // A second rotation while the secret before the first one counts.
    let rotated = world.act(&admin(), "POST", &format!("{path}/rotate"), "agreed=yes").await;
    assert!(rotated.text.contains("One webhook signs with it."), "{}", rotated.text);
    for typed in ["", "agreed=yes"] {
        let lately = world.act(&admin(), "POST", &format!("{path}/rotate"), typed).await;
        assert!(lately.status == 409 && lately.text.contains("was rotated lately"), "{}", lately.text);
        assert!(lately.text.contains("name=\"overlap\" value=\"0s\""), "{}", lately.text);
    }
    let once = "once=8e03978e-40d5-43e8-bc93-6894a57f9324";
    let now = world.act(&admin(), "POST", &format!("{path}/rotate"), &format!("overlap=0s&{once}")).await;
    assert!(now.status == 200 && now.text.contains("The secret before it counts no more."), "{}", now.text);
    let again = world.act(&admin(), "POST", &format!("{path}/rotate"), &format!("overlap=0s&{once}")).await;
    assert_eq!(again.text, now.text, "loaded anew");

    // A rate that is no number, or too high.
    for (rate, why) in
        [("abc", "is not a whole number"), ("10001", "must be 1 to 10000"), ("-1", "is not a whole number")]
    {
        let typed =
            encoded(&[("tenant", "shop"), ("state", "failed"), ("destination", &own.destination), ("rate", rate)]);
        let refused = world.act(&admin(), "POST", "/ui/replays", &typed).await;
        assert!(refused.status == 400 && refused.text.contains(why), "{rate}: {}", refused.text);
        assert!(refused.text.contains(&format!("value=\"{rate}\"")) && refused.text.contains("aria-invalid"), "{rate}");
        let back = format!("/ui/replays/new?tenant=shop&amp;state=failed&amp;destination={}", own.destination);
        assert!(refused.text.contains(&back), "{}", refused.text);
    }
    // A replay that has ended already.
    let path = own.path("/ui/replays/{id}/cancel");
    assert_eq!(world.act(&admin(), "POST", &path, "agreed=yes").await.status, 303);
    let ended = world.act(&admin(), "POST", &path, "agreed=yes").await;
    assert!(ended.status == 409 && ended.text.contains("the replay has ended: it is cancelled"), "{}", ended.text);
    assert!(ended.text.contains(&own.replay) && ended.text.contains("<h1>Replays</h1>"), "{}", ended.text);
}

/// Whoever is asked whether something is to be deleted reads which, also in the dialog that script opens.
#[tokio::test]
async fn a_question_names_its_thing() {
    let world = World::new();
    let own = Things::make(&world, "shop").await;
    world.done("POST", "/v1/tenants", json!({"id": "other"})).await;
    for (path, question) in [
        (own.path("/ui/keys/{id}"), "Delete the key "),
        (own.path("/ui/people/{id}"), "Delete the person "),
        ("/ui/tenants/other".to_owned(), "Delete the tenant other? "),
        ("/ui/signing-keys".to_owned(), "Rotate the signing key "),
        ("/ui/signing-keys".to_owned(), "Delete the signing key "),
        ("/ui/replays".to_owned(), &format!("Stop the replay {}? ", own.replay)),
    ] {
        let page = world.look(&admin(), &path).await;
        assert!(page.text.contains(&format!("data-confirm=\"{question}")), "{path}: {}", page.text);
    }
    let one = world.look(&admin(), &own.path("/ui/webhooks/{id}/delete")).await;
    assert!(one.text.contains("One delivery waits for it. It is given up."), "{}", one.text);
}
