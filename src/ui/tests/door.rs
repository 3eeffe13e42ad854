//! The door of the dashboard, as a browser goes through it: cookies, headers, and what is refused.

use ::http::header::{CACHE_CONTROL, REFERRER_POLICY, SET_COOKIE};

use super::*;
use crate::model::Secret;
use crate::model::user::TotpKey;
use crate::service::people::NewUser;

const PASSWORD: &str = "correct horse battery";

/// A browser that keeps its one cookie.
struct Browser<'a> {
    world: &'a World,
    cookie: String,
}

impl Browser<'_> {
    async fn send(&mut self, request: ::http::request::Builder, body: String) -> (Response, Answered) {
        let request = request.header("host", "localhost:8470").header("cookie", &self.cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = Request::whole(request.body(Bytes::from(body)).unwrap(), stranger(), "req_1");
        let response = self.world.ui.clone().handler().answer(request).await.unwrap();
        if let Some(set) = response.header(&SET_COOKIE) {
            self.cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
        let headers = Response::empty(response.status());
        let headers = [SET_COOKIE, CACHE_CONTROL, REFERRER_POLICY].into_iter().fold(headers, |headers, name| {
            match response.header(&name).cloned() {
                Some(value) => headers.with_header(name, value),
                None => headers,
            }
        });
        (headers, answered(response).await)
    }

    async fn look(&mut self, path: &str) -> Answered {
        self.send(::http::Request::get(path), String::new()).await.1
    }

    async fn fill(&mut self, path: &str, fields: &[(&str, &str)]) -> (Response, Answered) {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(::http::Request::post(path).header("sec-fetch-site", "same-origin"), body).await
    }
}

async fn person(world: &World, name: &str, role: Role) {
    let new = NewUser { name: name.parse().unwrap(), role, tenant: None, password: Some(Secret::new(PASSWORD)) };
    let actor = Actor { who: Who::Operator { uid: 7 }, from: Origin::Inside, request: None };
    world.service.create_user(&actor, new).await.unwrap();
}

/// The key that the page of the enrolment shows.
fn key_in(text: &str) -> TotpKey {
    let shown = text.split("Or type this key into the app: <code>").nth(1).unwrap().split('<').next().unwrap();
    let key = totp_rs::Secret::try_from_base32(shown.replace(' ', "")).unwrap();
    TotpKey::from_chance(key.as_bytes().try_into().unwrap())
}

/// Signs somebody in for the first time; his key.
async fn enrol(browser: &mut Browser<'_>, name: &str) -> TotpKey {
    browser.fill("/ui/login", &[("name", name), ("password", PASSWORD)]).await;
    let key = key_in(&browser.look("/ui/enrol").await.text);
    let code = key.code_at(browser.world.service.now());
    let done = browser.fill("/ui/enrol", &[("code", &code)]).await.1;
    assert_eq!(done.status, 200, "{}", done.text);
    key
}

/// S1.4, S1.5, decision D20, P18: nothing is shown before the second factor is enrolled; each step gives another cookie, and the
/// one of before is worth nothing; whoever has signed out is out.
#[tokio::test(start_paused = true)]
async fn the_door_leads_by_steps_to_the_page_that_was_asked_for() {
    let world = World::new();
    person(&world, "anna", Role::Admin).await;
    let mut browser = Browser { world: &world, cookie: "postrider-local=planted".to_owned() };
    let asked = browser.look("/ui/tail?type=a").await;
    assert_eq!((asked.status, asked.location.as_str()), (303, "/ui/login?next=%2Fui%2Ftail%3Ftype%3Da"));
    assert_eq!(browser.look(&asked.location).await.status, 200);
    let (headers, step) = browser.fill(&asked.location, &[("name", "anna"), ("password", PASSWORD)]).await;
    assert_eq!((step.status, step.location.as_str()), (303, "/ui/enrol?next=%2Fui%2Ftail%3Ftype%3Da"));
    let set = headers.header(&SET_COOKIE).unwrap().to_str().unwrap();
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict") && !set.contains("planted"), "{set}");
    let first = browser.cookie.clone();
    for path in ["/ui/", "/ui/keys", "/ui/account", "/ui/step-up", "/ui/login", "/ui/login/totp", "/ui/password"] {
        let turned = browser.look(path).await;
        assert_eq!((turned.status, turned.location.as_str()), (303, "/ui/enrol"), "{path}");
    }
    let page = browser.look("/ui/enrol").await;
    assert!(page.text.contains("<svg") && page.text.contains("<path") && !page.text.contains("<?xml"), "{}", page.text);
    let key = key_in(&page.text);
    let wrong = browser.fill("/ui/enrol", &[("code", "000000")]).await.1;
    assert!(wrong.status == 403 && wrong.text.contains("The code is wrong"), "{}", wrong.text);
    let code = key.code_at(world.service.now());
    let (headers, codes) = browser.fill(&step.location, &[("code", &code)]).await;
    assert_eq!((codes.status, codes.text.matches("<li><code>").count()), (200, 10), "{}", codes.text);
    assert!(
        codes.text.contains("href=\"/ui/tail?type=a\"")
            && headers.header(&CACHE_CONTROL).is_none_or(|it| it == "no-store")
    );
    let second = browser.cookie.clone();
    assert_ne!(first, second);
    assert_eq!(browser.look("/ui/tail?type=a").await.status, 200);
    let inside = browser.look("/ui/account").await;
    assert!(inside.text.contains("anna") && inside.text.contains("Log out") && inside.text.contains("<dd>10</dd>"));
    let mut old = Browser { world: &world, cookie: first };
    assert_eq!(old.look("/ui/").await.location, LOGIN);
    let (headers, out) = browser.fill("/ui/logout", &[]).await;
    assert_eq!((out.status, out.location.as_str()), (303, LOGIN));
    assert!(headers.header(&SET_COOKIE).unwrap().to_str().unwrap().contains("Max-Age=0"));
    let mut stolen = Browser { world: &world, cookie: second };
    assert_eq!(stolen.look("/ui/").await.location, LOGIN, "signed out is signed out");

    let step = browser.fill("/ui/login", &[("name", "anna"), ("password", PASSWORD)]).await.1;
    assert_eq!(step.location, "/ui/login/totp");
    let half = browser.cookie.clone();
    assert_eq!(browser.look("/ui/").await.location, "/ui/login/totp");
    let replayed = browser.fill("/ui/login/totp", &[("code", &code)]).await.1;
    assert!(replayed.status == 403 && replayed.text.contains("used already"), "{}", replayed.text);
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    let code = key.code_at(world.service.now());
    let step = browser.fill("/ui/login/totp", &[("code", &code)]).await.1;
    assert_eq!((step.status, step.location.as_str()), (303, ROOT));
    assert_ne!(browser.cookie, half);
    assert_eq!(browser.look("/ui/").await.status, 200);
}

/// P18: every form of the dashboard, the door's included, is taken from its own pages only, whatever the cookie; every page is
/// served under the daemon's own names only.
#[tokio::test(start_paused = true)]
async fn every_unsafe_route_refuses_other_sites_and_every_page_other_names() {
    let world = World::new();
    person(&world, "anna", Role::Admin).await;
    let mut browser = Browser { world: &world, cookie: String::new() };
    enrol(&mut browser, "anna").await;
    let records = world.done("GET", "/v1/audit/head", Value::Null).await;
    for route in pages::routes() {
        let path = route.pattern.replace("{id}", "default");
        if route.method != Method::GET {
            for headers in [
                &[("sec-fetch-site", "cross-site")][..],
                &[("sec-fetch-site", "same-site")],
                &[("sec-fetch-site", "none")],
                &[("origin", "https://evil.example")],
                &[("origin", "null")],
                &[("origin", "http://localhost:8471")],
                &[],
            ] {
                let request = ::http::Request::builder().method(route.method.clone()).uri(&path);
                let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
                let refused = browser.send(request, "name=anna".to_owned()).await.1;
                assert_eq!(refused.status, 403, "{} {path} {headers:?}: {}", route.method, refused.text);
            }
        }
        let request = ::http::Request::builder().method(route.method.clone()).uri(&path);
        let request = request.header("host", "evil.example").header("sec-fetch-site", "same-origin");
        let request = request.header("cookie", &browser.cookie);
        let refused = world.send(request, "", stranger()).await;
        assert!(refused.status == 403 && refused.text.contains("admin.hosts"), "{} {path}: {refused:?}", route.method);
    }
    assert_eq!(
        world.done("GET", "/v1/audit/head", Value::Null).await,
        records,
        "whatever was refused has changed nothing"
    );
}

/// P18: a key opens no page, and a cookie no route of the API.
#[tokio::test(start_paused = true)]
async fn keys_open_no_page_and_cookies_no_route() {
    let world = World::new();
    person(&world, "anna", Role::Admin).await;
    let mut browser = Browser { world: &world, cookie: String::new() };
    enrol(&mut browser, "anna").await;
    let body = serde_json::json!({"role": "admin", "tenant": null, "name": "k"});
    let secret = world.done("POST", "/v1/keys", body).await["secret"].as_str().unwrap().to_owned();
    let request = ::http::Request::get("/ui/").header("x-api-key", &secret).header("authorization", &secret);
    let turned = world.send(request, "", stranger()).await;
    assert_eq!((turned.status, turned.location.as_str()), (303, LOGIN));
    let request = ::http::Request::get("/v1/keys").header("cookie", &browser.cookie).header("host", "localhost:8470");
    let request = Request::whole(request.body(Bytes::new()).unwrap(), stranger(), "req_1");
    assert_eq!(world.api.clone().handler().answer(request).await.unwrap_err().code(), ProblemCode::Unauthorized);
}

/// P18: every answer at the door keeps a page from running, framing and telling anything; refusals say the same of everybody.
#[tokio::test(start_paused = true)]
async fn the_door_tells_strangers_nothing() {
    let world = World::new();
    person(&world, "anna", Role::Admin).await;
    let mut browser = Browser { world: &world, cookie: String::new() };
    let mut texts = Vec::new();
    for name in ["anna", "nobody", "<script>", ""] {
        let (headers, refused) = browser.fill("/ui/login", &[("name", name), ("password", "wrong")]).await;
        assert_eq!((refused.status, refused.policy.as_str()), (403, POLICY));
        assert_eq!(headers.header(&REFERRER_POLICY).unwrap(), "same-origin");
        assert!(headers.header(&SET_COOKIE).is_none(), "nobody is given a session");
        texts.push(refused.text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "what was typed is not written back, and everybody is told the same");
    for path in ["/ui/login", "/ui/login/recovery"] {
        let page = browser.look(path).await;
        assert!(page.status == 200 && page.policy == POLICY && !page.text.contains("<nav"), "{path}");
    }
    // From another site no cookie comes along: the page loads itself anew, from here.
    let request = ::http::Request::get("/ui/login?next=/ui/keys").header("sec-fetch-site", "cross-site");
    let page = browser.send(request, String::new()).await.1;
    assert!(
        page.text.contains("http-equiv=\"refresh\" content=\"0; url=/ui/login?next=%2Fui%2Fkeys\""),
        "{}",
        page.text
    );
}

/// P18: whatever lets somebody in or replaces a secret asks for a proof of the last five minutes, and then goes on to what was
/// asked, with all that was typed but secrets.
#[tokio::test(start_paused = true)]
async fn what_is_grave_asks_for_a_fresh_proof() {
    let world = World::new();
    person(&world, "anna", Role::Admin).await;
    let mut browser = Browser { world: &world, cookie: String::new() };
    let key = enrol(&mut browser, "anna").await;
    tokio::time::advance(crate::model::user::PROOF_LASTS).await;
    let keys = async || world.done("GET", "/v1/keys", Value::Null).await["keys"].as_array().unwrap().len();
    let form = [("role", "read"), ("tenant", ""), ("name", "till \"1\"")];
    let asked = browser.fill("/ui/keys", &form).await.1;
    assert!(asked.status == 200 && asked.text.contains("Is it you?"), "{}", asked.text);
    assert!(asked.text.contains("action=\"/ui/keys\"") && asked.text.contains("value=\"till &quot;1&quot;\""));
    let wrong = browser.fill("/ui/keys", &[&form[..], &[("proof", "000000")]].concat()).await.1;
    assert!(wrong.text.contains("The code is wrong") && wrong.text.contains("till &quot;1&quot;"), "{}", wrong.text);
    assert_eq!(keys().await, 0);
    let code = key.code_at(world.service.now());
    let made = browser.fill("/ui/keys", &[&form[..], &[("proof", &code)]].concat()).await.1;
    assert!(made.status == 200 && made.text.contains("A new key"), "{}", made.text);
    assert_eq!(keys().await, 1);
    // The proof counts for what comes next, too, and no longer than it does.
    assert_eq!((browser.fill("/ui/keys", &form).await.1.status, keys().await), (200, 2));

    tokio::time::advance(crate::model::user::PROOF_LASTS).await;
    let form = [("name", "ben"), ("role", "read"), ("tenant", ""), ("password", "a secret of ben's")];
    let asked = browser.fill("/ui/people", &form).await.1;
    assert!(asked.text.contains("Is it you?") && !asked.text.contains("a secret of"), "no secret is written back");
    assert!(asked.text.contains("type=\"password\" name=\"password\""), "it is typed again: {}", asked.text);
    let code = key.code_at(world.service.now());
    let made = browser.fill("/ui/people", &[&form[..], &[("proof", &code)]].concat()).await.1;
    assert_eq!((made.status, made.location.starts_with("/ui/people/usr_")), (303, true), "{made:?}");

    // What is asked for by looking: another app.
    tokio::time::advance(crate::model::user::PROOF_LASTS).await;
    let turned = browser.look("/ui/enrol").await;
    assert_eq!((turned.status, turned.location.as_str()), (303, "/ui/step-up?next=%2Fui%2Fenrol"));
    assert!(browser.look(&turned.location).await.text.contains("Is it you?"));
    let code = key.code_at(world.service.now());
    let proved = browser.fill(&turned.location, &[("code", &code)]).await.1;
    assert_eq!((proved.status, proved.location.as_str()), (303, "/ui/enrol"));
    assert_eq!(browser.look("/ui/enrol").await.status, 200);
}

/// A form of a session that has ended leads to the login, which says that nothing was done, and that back to the page that the form
/// stood on.
#[tokio::test(start_paused = true)]
async fn a_form_of_an_ended_session_leads_back_to_its_page() {
    let world = World::new();
    let request = ::http::Request::post("/ui/keys").header("sec-fetch-site", "same-origin");
    let request = request.header("referer", "http://localhost/ui/keys?tenant=shop");
    let turned = world.send(request, "", stranger()).await;
    assert_eq!(
        (turned.status, turned.location.as_str()),
        (303, "/ui/login?next=%2Fui%2Fkeys%3Ftenant%3Dshop&undone=yes")
    );
    let login = world.send(::http::Request::get(turned.location), "", stranger()).await;
    assert!(login.status == 200 && login.text.contains("You were signed out before this was done"), "{}", login.text);
    let looked = world.send(::http::Request::get("/ui/keys"), "", stranger()).await;
    assert_eq!(looked.location, "/ui/login?next=%2Fui%2Fkeys");
}

/// What a form asks for in vain is told with the way back to where the form was.
#[tokio::test(start_paused = true)]
async fn what_is_refused_leads_back_to_its_form() {
    let world = World::new();
    let request = ::http::Request::post("/ui/replays/rpl_1/cancel")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("referer", "http://localhost/ui/replays?tenant=default");
    let refused = world.send(request, "agreed=yes", operator()).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    assert!(refused.text.contains("href=\"/ui/replays?tenant=default\">Back</a>"), "{}", refused.text);
    let looked = world.send(::http::Request::get("/ui/deliveries/dlv_none"), "", operator()).await;
    assert!(!looked.text.contains(">Back</a>"), "a page that was looked for has none: {}", looked.text);
}

/// Whoever changes his own password shows the present one, and stays signed in under another cookie.
#[tokio::test(start_paused = true)]
async fn a_person_changes_his_own_password() {
    let world = World::new();
    person(&world, "anna", Role::Read).await;
    let mut browser = Browser { world: &world, cookie: String::new() };
    enrol(&mut browser, "anna").await;
    let before = browser.cookie.clone();
    let new = "another horse battery";
    let wrong = [("present", "wrong"), ("new", new), ("again", new)];
    let refused = browser.fill("/ui/account/password", &wrong).await.1;
    assert!(refused.status == 403 && refused.text.contains("present password is wrong"), "{}", refused.text);
    let unlike = [("present", PASSWORD), ("new", new), ("again", "other")];
    assert!(browser.fill("/ui/account/password", &unlike).await.1.text.contains("not the same"));
    let short = [("present", PASSWORD), ("new", "short"), ("again", "short")];
    assert!(browser.fill("/ui/account/password", &short).await.1.text.contains("A password is 12 to 256 characters"));
    let done = browser.fill("/ui/account/password", &[("present", PASSWORD), ("new", new), ("again", new)]).await.1;
    assert_eq!((done.status, done.location.as_str()), (303, "/ui/account?done=password"));
    assert!(browser.cookie != before && browser.look(&done.location).await.text.contains("Your password was changed"));
}

/// P18: what a session was shown without an end ends with it.
#[tokio::test(start_paused = true)]
async fn the_live_tail_ends_with_the_session() {
    let world = World::new();
    person(&world, "anna", Role::Read).await;
    let mut browser = Browser { world: &world, cookie: String::new() };
    enrol(&mut browser, "anna").await;
    let request = ::http::Request::get("/ui/tail/stream").header("host", "localhost").header("cookie", &browser.cookie);
    let request = Request::whole(request.body(Bytes::new()).unwrap(), stranger(), "req_1");
    let response = world.ui.clone().handler().answer(request).await.unwrap();
    let Body::Stream(mut stream) = response.into_body() else { panic!("no stream") };
    assert!(stream.next().await.unwrap().starts_with(b": attempts"));
    assert_eq!(stream.next().await.as_deref(), Some(&b":\n\n"[..]), "nothing happens, and it goes on");
    browser.fill("/ui/logout", &[]).await;
    assert_eq!(stream.next().await, None);
}
