//! Settings, Webhooks: the story of source 001 through its forms.

use serde_json::json;

use super::*;

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

const WHOLE: [(&str, &str); 7] = [
    ("label", "Shopping cart"),
    ("url", "https://cart.example/hook"),
    ("events", "product.inventory.adjusted"),
    ("events", "transaction.*"),
    ("patterns", "own.type"),
    ("authentication", "none"),
    ("signature", "none"),
];

async fn added(world: &World, pairs: &[(&str, &str)]) -> String {
    let answered = world.act(&viewer(Role::Operate, None), "POST", "/ui/webhooks", &form(pairs)).await;
    assert_eq!((answered.status, answered.location.as_str()), (303, "/ui/webhooks?done=added"), "{}", answered.text);
    let listed = world.done("GET", "/v1/destinations/webhook?limit=1000", Value::Null).await;
    listed["webhook"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
}

fn events_of(world: &World, id: &str) -> Vec<String> {
    let catalog = world.service.catalog();
    let no = catalog.destination_no(id.parse().unwrap()).unwrap();
    let of = catalog.subscriptions().filter(|it| it.destinations.contains(&no));
    let mut all: Vec<_> = of.map(|it| it.pattern.to_string()).collect();
    all.sort();
    all
}

/// S1.3, S1.6, S1.8, S1.9, S1.11, S1.31: a webhook is added through its form with label, URL and one or more events, and is
/// listed then; its events are what it is sent.
#[tokio::test]
async fn a_webhook_is_added_and_listed() {
    let world = World::new();
    let operate = viewer(Role::Operate, None);
    let page = world.look(&operate, "/ui/webhooks").await;
    assert!(page.text.contains("Add Webhook") && page.text.contains(">Settings<"), "{}", page.text);
    let blank = world.look(&operate, "/ui/webhooks/new").await;
    for words in ["Webhook Label", "Hook URL", "Events", "Authentication", "Signature", "Add Hook", "Close"] {
        assert!(blank.text.contains(words), "{words}");
    }
    let id = added(&world, &WHOLE).await;
    assert_eq!(events_of(&world, &id), ["own.type", "product.inventory.adjusted", "transaction.*"]);
    let listed = world.look(&viewer(Role::Read, None), "/ui/webhooks?done=added").await;
    assert!(listed.text.contains("Shopping cart") && listed.text.contains("The webhook was added."));
    let view = world.done("GET", &format!("/v1/destinations/webhook/{id}"), Value::Null).await;
    assert_eq!((&view["format"], &view["auth"]["type"]), (&json!("raw"), &json!("none")));
}

/// S1.7: each field is required; what is missing is said at its place, what was typed stays, and nothing is added.
#[tokio::test]
async fn every_field_is_required() {
    let world = World::new();
    for missing in ["label", "url", "events", "authentication", "signature"] {
        let pairs: Vec<_> = WHOLE
            .into_iter()
            .filter(|(name, _)| *name != missing && (missing != "events" || *name != "patterns"))
            .collect();
        let answered = world.act(&viewer(Role::Operate, None), "POST", "/ui/webhooks", &form(&pairs)).await;
        assert_eq!(answered.status, 400, "{missing}");
        assert!(answered.text.contains(&format!("id=\"e-{missing}\"")), "{missing}: {}", answered.text);
        assert!(missing == "label" || answered.text.contains("value=\"Shopping cart\""), "{missing}");
    }
    let bad = [
        ("url", "https://cart.example/hook"),
        ("label", "x"),
        ("patterns", "a*b"),
        ("authentication", "basic"),
        ("signature", "source"),
    ];
    let answered = world.act(&viewer(Role::Operate, None), "POST", "/ui/webhooks", &form(&bad)).await;
    for field in ["events", "username", "password", "source_key"] {
        assert!(answered.text.contains(&format!("id=\"e-{field}\"")), "{field}: {}", answered.text);
    }
    let listed = world.done("GET", "/v1/destinations/webhook", Value::Null).await;
    assert_eq!(listed["webhook"], json!([]));
}

/// S1.12, S1.21, S1.22, S1.32, S1.34, S1.35: stored credentials are never shown; without a reset they stay as they are, and
/// a reset asks for all of them anew.
#[tokio::test]
async fn authentication_changes_by_a_reset_only() {
    let world = World::new();
    let mut pairs: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != "authentication").collect();
    pairs.extend([("authentication", "basic"), ("username", "cart"), ("password", "pass-word-1")]);
    let id = added(&world, &pairs).await;
    let (operate, path) = (viewer(Role::Operate, None), format!("/ui/webhooks/{id}"));
    let page = world.look(&operate, &path).await;
    for words in ["Reset Webhook Authentication", "Save Changes", "Delete Hook", "Close", "username cart"] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    assert!(!page.text.contains("pass-word-1"));
    let auth = async || world.done("GET", &format!("/v1/destinations/webhook/{id}"), Value::Null).await["auth"].clone();
    // Not reset: whatever the hidden fields say.
    let kept = form(&[
        ("label", "Cart"),
        ("url", "https://cart.example/hook"),
        ("events", "transaction.*"),
        ("signature", "none"),
        ("authentication", "none"),
    ]);
    assert_eq!(world.act(&operate, "POST", &path, &kept).await.location, "/ui/webhooks?done=saved");
    assert_eq!(auth().await, json!({"type": "basic", "username": "cart"}));
    // Reset without a whole new block.
    let half = format!("{kept}&reset=yes").replace("authentication=none", "authentication=basic&username=cart");
    let refused = world.act(&operate, "POST", &path, &half).await;
    assert!(refused.status == 400 && refused.text.contains("id=\"e-password\""), "{}", refused.text);
    assert_eq!(auth().await, json!({"type": "basic", "username": "cart"}));
    assert_eq!(world.act(&operate, "POST", &path, &format!("{kept}&reset=yes")).await.status, 303);
    assert_eq!(auth().await, json!({"type": "none"}));
}

/// S1.30: any field can be edited, events added and removed; what further settings say is kept.
#[tokio::test]
async fn every_field_can_be_edited() {
    let world = World::new();
    let mut pairs = WHOLE.to_vec();
    pairs.extend([
        ("format", "console"),
        ("delays", "5s, 1m"),
        ("rate_events", "5"),
        ("rate_per", "2s"),
        ("timeout", "10s"),
    ]);
    let id = added(&world, &pairs).await;
    let path = format!("/ui/webhooks/{id}");
    let view = async || world.done("GET", &format!("/v1/destinations/webhook/{id}"), Value::Null).await;
    let before = view().await;
    assert_eq!((&before["format"], &before["retry"]["delays"]), (&json!("console"), &json!(["5s", "1m"])));
    assert_eq!((&before["rate"], &before["timeout"]), (&json!({"events": 5, "per": "2s"}), &json!("10s")));
    let edited = [
        ("label", "Cart 2"),
        ("url", "https://cart.example/2"),
        ("events", "ach.returned"),
        ("events", "transaction.*"),
        ("signature", "none"),
        ("format", "console"),
        ("delays", "5s, 1m"),
        ("rate_events", ""),
        ("rate_per", ""),
        ("timeout", "10s"),
        ("description", "of the shop"),
    ];
    let saved = world.act(&viewer(Role::Operate, None), "POST", &path, &form(&edited)).await;
    assert_eq!(saved.location, "/ui/webhooks?done=saved", "{}", saved.text);
    let after = view().await;
    assert_eq!((&after["name"], &after["http_endpoint_url"]), (&json!("Cart 2"), &json!("https://cart.example/2")));
    assert_eq!(
        (&after["rate"], &after["timeout"], &after["description"]),
        (&Value::Null, &json!("10s"), &json!("of the shop"))
    );
    assert_eq!(after["retry"], before["retry"]);
    assert_eq!(events_of(&world, &id), ["ach.returned", "transaction.*"]);
}

/// S1.37: a webhook is deleted after a second confirmation, and its own subscriptions with it; one that sends elsewhere, too, stays.
#[tokio::test]
async fn deleting_takes_a_second_confirmation() {
    let world = World::new();
    let (id, other) = (added(&world, &WHOLE).await, added(&world, &WHOLE).await);
    world.done("POST", "/v1/subscriptions/shared", json!({"destinations": [id, other]})).await;
    let (operate, path) = (viewer(Role::Operate, None), format!("/ui/webhooks/{id}/delete"));
    let page = world.look(&operate, &path).await;
    assert!(page.text.contains("Delete Hook") && page.text.contains("Keep Hook"), "{}", page.text);
    let deleted = world.act(&operate, "POST", &path, "").await;
    assert_eq!((deleted.status, deleted.location.as_str()), (303, "/ui/webhooks?done=deleted"));
    assert_eq!(world.look(&operate, &format!("/ui/webhooks/{id}")).await.status, 404);
    let left: Vec<_> = world.service.catalog().subscriptions().map(|it| it.pattern.to_string()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(events_of(&world, &other), ["own.type", "product.inventory.adjusted", "shared", "transaction.*"]);
}

/// S1.13: the signature is a field of the webhook: none, a source key or the tenant's signature key, and what was chosen is
/// shown again.
#[tokio::test]
async fn a_source_key_or_the_signature_key_signs() {
    let world = World::new();
    let source = world.done("POST", "/v1/signing-keys", json!({"kind": "source", "name": "till"})).await;
    world.done("POST", "/v1/signing-keys", json!({"kind": "signature", "name": "own"})).await;
    let source = source["id"].as_str().unwrap();
    let without: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != "signature").collect();
    let with = |pairs: &[(&'static str, &str)]| {
        let pairs: Vec<_> = without.iter().copied().chain(pairs.iter().copied()).collect();
        form(&pairs)
    };
    let operate = viewer(Role::Operate, None);
    for (pairs, preset, words) in [
        (vec![("signature", "source"), ("source_key", source)], "x-signature", "Source Key till"),
        (vec![("signature", "signature")], "x-signature", "Signature Key"),
        (vec![("signature", "none")], "none", "None"),
    ] {
        let added = world.act(&operate, "POST", "/ui/webhooks", &with(&pairs)).await;
        assert_eq!(added.status, 303, "{}", added.text);
        let listed = world.done("GET", "/v1/destinations/webhook?limit=1000", Value::Null).await;
        let view = listed["webhook"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(view["signature"]["preset"], preset, "{view}");
        assert!(world.look(&operate, "/ui/webhooks").await.text.contains(words), "{words}");
        let edit = world.look(&operate, &format!("/ui/webhooks/{}", view["id"].as_str().unwrap())).await;
        let chosen = format!("name=\"signature\" value=\"{}\" checked", pairs[0].1);
        assert!(edit.text.contains(&chosen), "{words}: {}", edit.text);
    }
}

/// Whoever sees all tenants is offered the keys of the tenant that he has chosen, also without script; what is missing is told in
/// the dashboard's words, with the page where it is made.
#[tokio::test]
async fn a_form_offers_the_keys_of_its_tenant() {
    let world = World::new();
    world.done("POST", "/v1/tenants", json!({"id": "shop"})).await;
    world.done("POST", "/v1/signing-keys", json!({"kind": "source", "name": "of the house"})).await;
    let source = json!({"kind": "source", "name": "of the shop"});
    let source = world.done_for("shop", "POST", "/v1/signing-keys", source).await;
    let source = source["id"].as_str().unwrap();
    let admin = viewer(Role::Admin, None);
    let is_of_shop = |page: &Answered| page.text.contains(">of the shop<") && !page.text.contains(">of the house<");
    let first = world.look(&admin, "/ui/webhooks/new").await;
    assert!(first.text.contains(">of the house<") && !first.text.contains(">of the shop<"), "{}", first.text);
    assert!(is_of_shop(&world.look(&admin, "/ui/webhooks/new?tenant=shop").await));
    // The button without script: another tenant's keys, and all that was typed.
    let mut typed: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != "signature").collect();
    typed.extend([("tenant", "shop"), ("signature", "source"), ("change_tenant", "yes")]);
    let changed = world.act(&admin, "POST", "/ui/webhooks", &form(&typed)).await;
    assert!(changed.status == 200 && is_of_shop(&changed), "{}", changed.text);
    assert!(changed.text.contains("value=\"Shopping cart\"") && !changed.text.contains("role=\"alert\""));
    typed.retain(|(name, _)| *name != "change_tenant");
    let refused = world.act(&admin, "POST", "/ui/webhooks", &form(&typed)).await;
    assert!(refused.status == 400 && is_of_shop(&refused), "{}", refused.text);
    typed.push(("source_key", source));
    let made = world.act(&admin, "POST", "/ui/webhooks", &form(&typed)).await;
    assert_eq!(made.status, 303, "{}", made.text);
    // A key of another tenant, a key that there is not, a tenant that there is not.
    let with = |tenant: &'static str, signature: &'static str| {
        let mut pairs = typed.clone();
        pairs.retain(|(name, _)| !["tenant", "signature"].contains(name));
        pairs.extend([("tenant", tenant), ("signature", signature)]);
        form(&pairs)
    };
    let foreign = world.act(&admin, "POST", "/ui/webhooks", &with("default", "source")).await;
    assert!(foreign.status == 400 && foreign.text.contains("choose a source key of this tenant"), "{}", foreign.text);
    let none = world.act(&admin, "POST", "/ui/webhooks", &with("shop", "signature")).await;
    assert!(none.status == 400 && none.text.contains("the tenant has no signature key yet"), "{}", none.text);
    assert!(none.text.contains("/ui/signing-keys?tenant=shop") && !none.text.contains("/v1/"), "{}", none.text);
    let nobody = world.act(&admin, "POST", "/ui/webhooks", &with("nobody", "none")).await;
    assert!(nobody.status == 400 && nobody.text.contains("id=\"e-tenant\""), "{}", nobody.text);
}

/// A save that is refused leaves the webhook as it was: also the events that were ticked with what was refused.
#[tokio::test]
async fn a_refused_save_changes_nothing() {
    let world = World::new();
    let id = added(&world, &WHOLE).await;
    let (before, path) = (events_of(&world, &id), format!("/ui/webhooks/{id}"));
    let view = world.done("GET", &format!("/v1/destinations/webhook/{id}"), Value::Null).await;
    let mut pairs = WHOLE.to_vec();
    pairs[0] = ("label", "Another label");
    pairs[2] = ("events", "refund.settled");
    pairs.push(("timeout", "forever"));
    let refused = world.act(&viewer(Role::Operate, None), "POST", &path, &form(&pairs)).await;
    assert!(refused.status == 400 && refused.text.contains("id=\"e-timeout\""), "{}", refused.text);
    assert_eq!(events_of(&world, &id), before);
    assert_eq!(world.done("GET", &format!("/v1/destinations/webhook/{id}"), Value::Null).await, view);
    pairs.pop();
    let saved = world.act(&viewer(Role::Operate, None), "POST", &path, &form(&pairs)).await;
    assert_eq!((saved.status, saved.location.as_str()), (303, "/ui/webhooks?done=saved"), "{}", saved.text);
    assert_eq!(events_of(&world, &id), ["own.type", "refund.settled", "transaction.*"]);
}

/// Two people edit a webhook at once: whoever saves later is told that it was changed, by whom where he may know that, and how it
/// stands; what he typed stays, and nothing is lost before he has seen it. The same where only a subscription was changed.
#[tokio::test]
async fn nobody_saves_over_what_another_changed_meanwhile() {
    let world = World::new();
    let id = added(&world, &WHOLE).await;
    let (operate, admin, path) = (viewer(Role::Operate, None), viewer(Role::Admin, None), format!("/ui/webhooks/{id}"));
    let view = async || world.done("GET", &format!("/v1/destinations/webhook/{id}"), Value::Null).await;
    let typed = |page: &Answered, label: &'static str, url: &'static str| {
        let shown = page.hidden("shown");
        let mut pairs = WHOLE.to_vec();
        pairs[0] = ("label", label);
        pairs[1] = ("url", url);
        pairs.push(("shown", &shown));
        form(&pairs)
    };
    let mine = world.look(&admin, &path).await;
    let theirs = world.look(&operate, &path).await;
    let saved = world.act(&operate, "POST", &path, &typed(&theirs, "Cart", "https://new.example/hook")).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let late = typed(&mine, "Basket", "https://cart.example/hook");
    let refused = world.act(&admin, "POST", &path, &late).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains("was changed by uid:7 while you had it open"), "{}", refused.text);
    assert!(refused.text.contains("value=\"Basket\"") && refused.text.contains("https://new.example/hook"));
    assert!(refused.text.contains("Hook URL now") && refused.text.contains(&format!("href=\"{path}\" target")));
    assert_eq!(view().await["http_endpoint_url"], "https://new.example/hook");
    // The audit log is for administrators; that something was changed is for everybody.
    let untold = world.act(&operate, "POST", &path, &late).await;
    assert!(untold.status == 409 && untold.text.contains("was changed while you had it open"), "{}", untold.text);
    // Seen and meant: then it is saved.
    let again = world.act(&admin, "POST", &path, &typed(&refused, "Basket", "https://cart.example/hook")).await;
    assert_eq!(again.status, 303, "{}", again.text);
    assert_eq!(view().await["name"], "Basket");

    // A subscription alone, and what is no change of the form: a pause.
    let mine = world.look(&admin, &path).await;
    world.done("POST", "/v1/subscriptions/refund.settled", json!({"destinations": [id]})).await;
    let refused = world.act(&admin, "POST", &path, &typed(&mine, "Basket", "https://cart.example/hook")).await;
    assert!(refused.status == 409 && refused.text.contains("was changed by uid:1000"), "{}", refused.text);
    assert!(refused.text.contains("Events now") && events_of(&world, &id).contains(&"refund.settled".to_owned()));
    world.done("POST", &format!("/v1/destinations/webhook/{id}/pause"), json!({})).await;
    let saved = world.act(&admin, "POST", &path, &typed(&refused, "Basket 2", "https://cart.example/hook")).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    // A form that was refused for something else still knows what it was made from.
    let mine = world.look(&admin, &path).await;
    let faulty = world.act(&admin, "POST", &path, &typed(&mine, "", "https://cart.example/hook")).await;
    assert_eq!((faulty.status, faulty.hidden("shown")), (400, mine.hidden("shown")));
}

/// A webhook is made by several requests to the API. When a later one is refused, there is one message, at the events, everything
/// typed is still in the form, and nothing of the webhook is there: neither it nor what was to send to it.
#[tokio::test]
async fn an_event_that_is_refused_takes_the_whole_back() {
    let world = World::new();
    let operate = viewer(Role::Operate, None);
    world.done("POST", "/v1/subscriptions/other", json!({"destinations": []})).await;
    let there = async || {
        let catalog = world.service.catalog();
        let destinations = world.done("GET", "/v1/destinations/webhook?limit=1000", Value::Null).await;
        let subscriptions: Vec<_> =
            catalog.subscriptions().map(|it| (it.pattern.to_string(), it.destinations.len())).collect();
        (destinations, subscriptions)
    };
    let before = there().await;
    let mut typed: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != "authentication").collect();
    typed.extend([("authentication", "basic"), ("username", "cart"), ("password", "pass-word-1"), ("timeout", "9s")]);
    let is_whole = |answered: &Answered| {
        let text = &answered.text;
        assert_eq!(answered.status, 409, "{text}");
        assert_eq!(text.matches("role=\"alert\"").count(), 1, "{text}");
        assert_eq!(text.matches("there is no room for another one").count(), 1, "{text}");
        assert!(text.contains("id=\"e-events\"") && text.contains("transaction.*: there is no room"), "{text}");
        for kept in ["Shopping cart", "https://cart.example/hook", "cart", "9s", "own.type"] {
            assert!(text.contains(&format!("value=\"{kept}\"")), "{kept}: {text}");
        }
        for ticked in ["transaction.*", "product.inventory.adjusted"] {
            assert!(text.contains(&format!("name=\"events\" value=\"{ticked}\" checked")), "{ticked}: {text}");
        }
        assert!(text.contains("name=\"signature\" value=\"none\" checked") && !text.contains("pass-word-1"), "{text}");
    };
    // The third of three: two subscriptions have been made by then.
    *world.refusals.lock().unwrap() = vec![(Method::POST, "/v1/subscriptions/transaction.*")];
    is_whole(&world.act(&operate, "POST", "/ui/webhooks", &form(&typed)).await);
    assert_eq!(there().await, before);

    // What cannot be taken back is told.
    world.refusals.lock().unwrap().push((Method::DELETE, "/v1/destinations/webhook/"));
    let left = world.act(&operate, "POST", "/ui/webhooks", &form(&typed)).await;
    assert!(left.status == 409 && left.text.contains("could not be taken back"), "{}", left.text);
    world.refusals.lock().unwrap().clear();
    let listed = world.done("GET", "/v1/destinations/webhook", Value::Null).await;
    let id = listed["webhook"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(events_of(&world, &id), [""; 0]);

    // An existing one stays as it was.
    let saved = world.act(&operate, "POST", &format!("/ui/webhooks/{id}"), &form(&WHOLE)).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let before = there().await;
    let mut more: Vec<_> = typed.iter().copied().filter(|(_, value)| *value != "transaction.*").collect();
    more.extend([("events", "ach.settled"), ("events", "cau.submitted")]);
    *world.refusals.lock().unwrap() = vec![(Method::POST, "/v1/subscriptions/cau.submitted")];
    let refused = world.act(&operate, "POST", &format!("/ui/webhooks/{id}"), &form(&more)).await;
    assert!(refused.status == 409 && refused.text.contains("cau.submitted: there is no room"), "{}", refused.text);
    assert!(refused.text.contains("value=\"9s\"") && refused.text.contains("value=\"ach.settled\" checked"));
    assert_eq!(there().await, before);

    // An event that cannot be taken off is told when all else is saved.
    *world.refusals.lock().unwrap() = vec![(Method::DELETE, "/v1/subscriptions/transaction.*")];
    let still = world.act(&operate, "POST", &format!("/ui/webhooks/{id}"), &form(&more)).await;
    assert!(still.status == 409 && still.text.contains("transaction.* is still sent"), "{}", still.text);
    world.refusals.lock().unwrap().clear();
    let saved = world.act(&operate, "POST", &format!("/ui/webhooks/{id}"), &form(&more)).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    assert_eq!(events_of(&world, &id), ["ach.settled", "cau.submitted", "own.type", "product.inventory.adjusted"]);
}

/// With hundreds of webhooks and tenants no page grows beyond what it may weigh: the list is searched and goes on on further pages,
/// and a filter takes an id where a choice would be endless.
#[tokio::test]
async fn many_webhooks_make_no_page_heavy() {
    let world = World::new();
    let read = viewer(Role::Operate, None);
    for number in 0..210 {
        let url = format!("https://receiver-{number}.example/{}", "x".repeat(1900));
        let body =
            json!({"name": format!("{number:03} {}", "n".repeat(100)), "http_endpoint_url": url, "confirmed": true});
        world.done("POST", "/v1/destinations/webhook", body).await;
    }
    for number in 0..110 {
        world.done("POST", "/v1/tenants", json!({"id": format!("t{number}{}", "x".repeat(50))})).await;
    }
    let assets = assets::STYLE.len() + assets::SCRIPT.len() + assets::ICON.len();
    for path in
        ["/ui/", "/ui/webhooks", "/ui/deliveries", "/ui/events", "/ui/replays", "/ui/replays/new", "/ui/signing-keys"]
    {
        let page = world.look(&read, path).await;
        if path != "/ui/signing-keys" {
            assert_eq!(page.status, 200, "{path}: {}", page.text);
        }
        assert!(page.text.len() + assets < 150_000, "{path}: {} bytes", page.text.len());
    }
    let labels = async |path: &str| {
        let page = world.look(&read, path).await;
        let labels = page.text.split("data-dialog=\"\">").skip(1).filter_map(|it| it.get(..3)).map(str::to_owned);
        let next = page.next();
        (labels.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit())).collect::<Vec<_>>(), next)
    };
    let (mut seen, mut path) = (Vec::new(), "/ui/webhooks".to_owned());
    loop {
        let (labels, next) = labels(&path).await;
        seen.extend(labels);
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(seen, (0..210).map(|number| format!("{number:03}")).collect::<Vec<_>>());
    assert_eq!(labels("/ui/webhooks?search=RECEIVER-209.").await, (vec!["209".to_owned()], None));
    let none = world.look(&read, "/ui/webhooks?search=%3Cb%3E").await;
    assert!(none.text.contains("No webhook matches") && none.text.contains("&lt;b&gt;"), "{}", none.text);
    let filter = world.look(&read, "/ui/deliveries?destination=").await;
    assert!(
        filter.text.contains("Destination&#39;s id") || filter.text.contains("Destination's id"),
        "{}",
        filter.text
    );
}

/// Further types stand between commas. A space is a slip of the pen, and is told as one instead of making two types.
#[tokio::test]
async fn further_types_stand_between_commas() {
    let world = World::new();
    let typed = |patterns: &'static str| {
        let mut pairs = WHOLE.to_vec();
        pairs.retain(|(name, _)| *name != "patterns");
        pairs.push(("patterns", patterns));
        pairs
    };
    let refused =
        world.act(&viewer(Role::Operate, None), "POST", "/ui/webhooks", &form(&typed("own.type other"))).await;
    assert!(refused.status == 400 && refused.text.contains("own.type other: "), "{}", refused.text);
    assert!(refused.text.contains("name=\"patterns\" value=\"own.type other\""), "{}", refused.text);
    let id = added(&world, &typed(" own.type ,other,, ")).await;
    assert_eq!(events_of(&world, &id), ["other", "own.type", "product.inventory.adjusted", "transaction.*"]);
}
