//! Requests and views of destinations, without a service.

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::http::problem::ProblemCode;
use crate::http::request::parse_json;
use crate::model::destination::{Format, Preset, Scheme};
use crate::model::{Auth, Confirmation, DestinationNo, Secret, TenantId, Timestamp};

fn identity() -> Identity {
    Identity {
        no: DestinationNo(1),
        id: DestinationId(Uuid::from_u128(0x9603f4b2_1874_42fe_a2bc_f7b45c45a9d6)),
        tenant: TenantId::default_tenant(),
        created: Timestamp::from_millis(1_705_314_600_000),
    }
}

fn header_names(scheme: &Scheme) -> Vec<String> {
    let own: &[&str] = match scheme {
        Scheme::Preset(Preset::Standard) => &["webhook-id", "webhook-timestamp", "webhook-signature"],
        Scheme::Preset(Preset::XWebhookSignature) => &["X-Webhook-Signature"],
        Scheme::Preset(Preset::NmiLike | Preset::GocardlessLike) => &["Webhook-Signature"],
        Scheme::Preset(_) => &["X-Signature"],
        Scheme::Custom(custom) => return vec![custom.header.clone()],
    };
    own.iter().map(|&name| name.to_owned()).collect()
}

/// What the signing room of the tests takes for the tenant's signature key.
fn own_key() -> SigningKeyId {
    SigningKeyId::from_chance([1; 6])
}

/// Runs `act` with a signing room whose secrets are `made-1`, `made-2`, ….
fn signing<T>(act: impl FnOnce(&mut Signing<'_>) -> T) -> T {
    let mut made = 0;
    let mut generate = |_: &Scheme| {
        made += 1;
        Secret::new(format!("made-{made}"))
    };
    let key = |name: &str| match name {
        "signature" => Ok(own_key()),
        name => name.parse().map_err(|_| Invalid::new("is no key's id")),
    };
    act(&mut Signing { generate: &mut generate, header_names: &header_names, key: &key })
}

fn create(body: &Value) -> Result<Weighed, Problem> {
    let request: DestinationRequest = parse_json(body.to_string().as_bytes())?;
    signing(|signing| request.create(identity(), true, Limits::default(), signing))
}

fn update(stored: &Destination, body: &Value) -> Result<Weighed, Problem> {
    let request: DestinationRequest = parse_json(body.to_string().as_bytes())?;
    let lane = LaneView::of(crate::service::Lane::default(), Timestamp::ZERO);
    signing(|signing| request.update(stored, &lane, Limits::default(), signing))
}

fn minimal() -> Value {
    json!({"name": "My Webhook", "http_endpoint_url": "https://example.com/webhook"})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = minimal();
    body[field] = value;
    body
}

fn show(weighed: &Weighed) -> Value {
    serde_json::to_value(DestinationView::with_fresh(&weighed.destination, &weighed.fresh, &header_names)).unwrap()
}

fn pointers(problem: &Problem) -> Vec<&str> {
    problem.errors().iter().map(|error| error.pointer.as_str()).collect()
}

fn full() -> Value {
    json!({
        "name": "Full",
        "description": "Everything set",
        "http_endpoint_url": "https://example.com/webhook",
        "method": "PUT",
        "headers": {"X-Key": "header-secret", "Content-Type": "application/json"},
        "disabled": true,
        "confirmed": false,
        "auth": {"type": "basic", "username": "till", "password": "basic-secret"},
        "signature": [
            {"preset": "x-signature", "secret": "text-secret"},
            {"preset": "custom", "header": "X-Sign", "prefix": "t={ts},", "message": "{ts}.{body}",
             "algorithm": "sha512", "encoding": "HEX", "key_encoding": "hex", "secret": "00ff00ff00ff00ff"},
        ],
        "format": "raw",
        "retry": {"delays": ["1s", "5s"], "attempts_max": 7, "jitter": 0.5},
        "success": {"status": ["2xx", "404", "500-504"], "body": {"contains": "OK"}},
        "timeout": "15s",
        "in_flight_max": 3,
        "rate": {"events": 10, "per": "1s"},
        "tls": {"pin": "ab".repeat(32)},
        "allow_private": true,
        "gone_at_once": true,
    })
}

/// S2.9, S2.16, S2.18, S2.22, S2.24, S2.25, S2.26: a new destination has the documented fields and defaults.
#[test]
fn a_create_answers_with_the_whole_object() {
    let weighed = create(&minimal()).unwrap();
    let view = DestinationView::with_fresh(&weighed.destination, &weighed.fresh, &header_names).with_url();
    assert_eq!(
        serde_json::to_value(view).unwrap(),
        json!({
            "id": "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6",
            "name": "My Webhook",
            "description": null,
            "http_endpoint_url": "https://example.com/webhook",
            "method": "POST",
            "headers": {},
            "confirmed": true,
            "disabled": false,
            "created": "2024-01-15T10:30:00.000Z",
            "url": "/v1/destinations/webhook/9603F4B2-1874-42FE-A2BC-F7B45C45A9D6",
            "tenant": "default",
            "auth": {"type": "none"},
            "signature": [
                {"preset": "standard", "header": "webhook-signature", "secret": "made-1"},
                {"preset": "x-webhook-signature", "header": "X-Webhook-Signature", "secret": "made-1"},
            ],
            "format": "raw",
            "retry": {},
            "success": {"status": ["2xx"]},
            "timeout": null,
            "in_flight_max": null,
            "rate": null,
            "ordered": false,
            "tls": null,
            "allow_private": false,
            "gone_at_once": false,
            "paused": false,
        })
    );
}

/// S2.31, S2.33, SX.5, decision D11: a view holds no secret and no `url`; header names are shown, values are not.
#[test]
fn a_view_holds_no_secret() {
    let weighed = create(&full()).unwrap();
    let view = show(&weighed);
    let text = view.to_string();
    for secret in ["header-secret", "basic-secret", "text-secret", "00ff"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(view.get("url").is_none());
    assert_eq!(view["headers"], json!({"Content-Type": "***", "X-Key": "***"}));
    assert_eq!(view["auth"], json!({"type": "basic", "username": "till"}));
    assert_eq!(view["signature"][0], json!({"preset": "x-signature", "header": "X-Signature"}));
    assert_eq!(view["success"], json!({"status": ["2xx", "404", "500-504"], "body": {"contains": "OK"}}));
    assert_eq!(view["retry"], json!({"delays": ["1s", "5s"], "attempts_max": 7, "jitter": 0.5}));
    assert_eq!(view["tls"]["pin"], "ab".repeat(32));
    assert_eq!(format!("{:?}", weighed.destination.headers[0].1), "Secret(***)");
}

/// S2.36, S2.37, S2.38, decisions D11 and D12: what was read, sent back whole or in part, changes nothing else.
#[test]
fn an_update_is_partial_and_what_was_read_can_be_sent_back() {
    let bearer = with("auth", json!({"type": "bearer", "token": "t"}));
    let shared = with("auth", json!({"type": "shared_secret", "secret": "s3cret-0"}));
    let unsigned = with("signature", json!({"preset": "none"}));
    for body in [minimal(), full(), bearer, shared, unsigned] {
        let stored = create(&body).unwrap().destination;
        assert_eq!(update(&stored, &json!({})).unwrap().destination, stored);
        let shown = serde_json::to_value(DestinationView::of(&stored, &header_names).with_url()).unwrap();
        let weighed = update(&stored, &shown).unwrap();
        assert_eq!(weighed.destination, stored, "{shown}");
        assert!(weighed.fresh.iter().all(|fresh| !fresh), "nothing was generated anew");
        let renamed = update(&stored, &json!({"name": "New"})).unwrap().destination;
        assert_eq!(renamed, Destination { name: "New".into(), ..stored });
    }
}

/// S2.36: read-only fields may not change, and say so at their place.
#[test]
fn a_read_only_field_that_would_change_is_refused() {
    let stored = create(&minimal()).unwrap().destination;
    let table = [
        ("id", json!("9603F4B2-1874-42FE-A2BC-F7B45C45A9D7")),
        ("tenant", json!("other")),
        ("created", json!("2024-01-15T10:30:01Z")),
        ("url", json!("/v1/destinations/webhook/x")),
        ("confirmed", json!(false)),
        ("confirmed", json!(null)),
    ];
    for (field, value) in table {
        let problem = update(&stored, &json!({field: value})).unwrap_err();
        assert_eq!(pointers(&problem), [format!("/{field}")]);
    }
    let same =
        json!({"id": "9603f4b2-1874-42fe-a2bc-f7b45c45a9d6", "created": "2024-01-15T10:30:00Z", "confirmed": true});
    assert!(update(&stored, &same).is_ok());
    for field in ["id", "tenant", "created", "url"] {
        assert_eq!(pointers(&create(&with(field, json!("x"))).unwrap_err()), [format!("/{field}")]);
    }
}

/// What is said of order and of how many at once must fit: neither is left out in silence.
#[test]
fn an_ordered_destination_has_one_attempt_at_a_time() {
    for (body, fits) in [
        (json!({"ordered": true}), true),
        (json!({"ordered": true, "in_flight_max": 1}), true),
        (json!({"ordered": true, "in_flight_max": 2}), false),
        (json!({"ordered": false, "in_flight_max": 2}), true),
    ] {
        let mut whole = minimal();
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let made = create(&whole);
        assert_eq!(made.as_ref().map_err(pointers).err(), (!fits).then(|| vec!["/in_flight_max"]), "{body}");
    }
    let several = create(&with("in_flight_max", json!(3))).unwrap().destination;
    assert_eq!(pointers(&update(&several, &json!({"ordered": true})).unwrap_err()), ["/in_flight_max"]);
    let ordered = update(&several, &json!({"ordered": true, "in_flight_max": null})).unwrap().destination;
    assert!(ordered.ordered);
    assert_eq!(pointers(&update(&ordered, &json!({"in_flight_max": 3})).unwrap_err()), ["/in_flight_max"]);
    assert!(!update(&ordered, &json!({"ordered": false, "in_flight_max": 3})).unwrap().destination.ordered);
}

#[test]
fn null_goes_back_to_the_default_where_there_is_one() {
    let stored = create(&full()).unwrap().destination;
    let body = json!({
        "description": null, "method": null, "headers": null, "auth": null, "format": null, "retry": null,
        "success": null, "timeout": null, "in_flight_max": null, "rate": null, "tls": null,
    });
    let cleared = update(&stored, &body).unwrap().destination;
    let blank = create(&minimal()).unwrap().destination;
    let kept = Destination {
        name: blank.name.clone(),
        signatures: blank.signatures.clone(),
        disabled: false,
        confirmation: Confirmation::Given,
        allow_private: false,
        gone_at_once: false,
        ordered: false,
        ..cleared
    };
    assert_eq!(kept, blank);
    for field in ["name", "http_endpoint_url", "disabled", "signature", "ordered", "allow_private", "gone_at_once"] {
        assert_eq!(pointers(&update(&stored, &json!({field: null})).unwrap_err()), [format!("/{field}")]);
    }
}

/// S2.13 to S2.21, S2.27, S2.39: each field has its bounds, and a 400 names the place that breaks them.
#[test]
fn each_field_has_its_bounds() {
    let long = |characters: usize| json!("ä".repeat(characters));
    let fits = [
        ("name", long(124)),
        ("description", long(256)),
        ("http_endpoint_url", long(2048)),
        ("method", json!("PUT")),
        ("headers", json!({"Authorization": "Bearer my-secret-token", "X-Empty": ""})),
        ("auth", json!({"type": "none"})),
        ("auth", json!({"type": "basic", "username": "", "password": ""})),
        ("auth", json!({"type": "shared_secret", "secret": "s3cret-0", "header": "X-Own"})),
        ("retry", json!({"schedule": "nmi-3d", "attempts_max": 3})),
        ("retry", json!({"delays": [], "attempts_max": 1})),
        ("retry", json!({"delays": ["0s", "31d"], "jitter": 0})),
        ("success", json!({"status": [200, "204"]})),
        ("success", json!({"body": {"equals": "OK"}})),
        ("timeout", json!("2m")),
        ("in_flight_max", json!(1000)),
        ("rate", json!({"events": 5})),
        ("tls", json!({})),
        ("tls", json!({"pin": vec!["AB"; 32].join(":")})),
        ("signature", json!([])),
        ("signature", json!({"preset": "custom", "header": "X-Webhook-Own"})),
    ];
    for (field, value) in fits {
        let made = create(&with(field, value.clone()));
        assert!(made.is_ok(), "{field} {value}: {:?}", made.unwrap_err());
    }
    let breaks = [
        ("name", json!(""), "/name"),
        ("name", long(125), "/name"),
        ("name", json!(7), "/name"),
        ("description", json!(""), "/description"),
        ("description", long(257), "/description"),
        ("http_endpoint_url", long(2049), "/http_endpoint_url"),
        ("http_endpoint_url", json!(""), "/http_endpoint_url"),
        ("method", json!("GET"), "/method"),
        ("method", json!("post"), "/method"),
        ("headers", json!([]), "/headers"),
        ("headers", json!({"X-A": 1}), "/headers/X-A"),
        ("headers", json!({"X-A": "***"}), "/headers/X-A"),
        ("headers", json!({"X-A": "a\r\nb"}), "/headers/X-A"),
        ("headers", json!({"X-A": "a\u{0}"}), "/headers/X-A"),
        ("headers", json!({"X-A": " a"}), "/headers/X-A"),
        ("headers", json!({"X A": "a"}), "/headers/X A"),
        ("headers", json!({"a/b": "a"}), "/headers/a~1b"),
        ("headers", json!({"": "a"}), "/headers/"),
        ("headers", json!({"X-A": "1", "x-a": "2"}), "/headers/x-a"),
        ("headers", json!({"Host": "a"}), "/headers/Host"),
        ("headers", json!({"content-length": "1"}), "/headers/content-length"),
        ("headers", json!({"Transfer-Encoding": "chunked"}), "/headers/Transfer-Encoding"),
        ("headers", json!({"Connection": "close"}), "/headers/Connection"),
        ("headers", json!({"X-Webhook-Id": "1"}), "/headers/X-Webhook-Id"),
        ("headers", json!({"x-webhook-anything": "1"}), "/headers/x-webhook-anything"),
        ("headers", json!({"Webhook-Signature": "1"}), "/headers/Webhook-Signature"),
        ("disabled", json!("yes"), "/disabled"),
        ("confirmed", json!("yes"), "/confirmed"),
        ("auth", json!({}), "/auth/type"),
        ("auth", json!({"type": "digest"}), "/auth/type"),
        ("auth", json!({"type": "none", "token": "t"}), "/auth/token"),
        ("auth", json!({"type": "basic", "username": "a:b", "password": "p"}), "/auth/username"),
        ("auth", json!({"type": "basic", "username": "a"}), "/auth/password"),
        ("auth", json!({"type": "basic", "username": "a", "password": "***"}), "/auth/password"),
        ("auth", json!({"type": "bearer", "token": "a\nb"}), "/auth/token"),
        ("auth", json!({"type": "bearer", "token": ""}), "/auth/token"),
        ("auth", json!({"type": "shared_secret", "secret": "s3cret-0", "header": "Host"}), "/auth/header"),
        ("auth", json!({"type": "shared_secret", "secret": "1234567"}), "/auth/secret"),
        ("auth", json!("basic"), "/auth"),
        ("format", json!("xml"), "/format"),
        ("retry", json!({"schedule": "standard", "delays": ["1s"]}), "/retry/delays"),
        ("retry", json!({"delays": ["1s", "soon"]}), "/retry/delays/1"),
        ("retry", json!({"delays": ["32d"]}), "/retry/delays/0"),
        ("retry", json!({"delays": [], "attempts_max": 2}), "/retry/delays"),
        ("retry", json!({"attempts_max": 0}), "/retry/attempts_max"),
        ("retry", json!({"attempts_max": -1}), "/retry/attempts_max"),
        ("retry", json!({"jitter": 11}), "/retry/jitter"),
        ("retry", json!({"schedule": "a b"}), "/retry/schedule"),
        ("retry", json!({"wait": 1}), "/retry/wait"),
        ("success", json!({"status": []}), "/success/status"),
        ("success", json!({"status": ["3xx"]}), "/success/status/0"),
        ("success", json!({"status": ["2xx", "250-310"]}), "/success/status/1"),
        ("success", json!({"status": ["204-200"]}), "/success/status/0"),
        ("success", json!({"status": ["20"]}), "/success/status/0"),
        ("success", json!({"status": ["600"]}), "/success/status/0"),
        ("success", json!({"body": {}}), "/success/body"),
        ("success", json!({"body": {"equals": "a", "prefix": "b"}}), "/success/body"),
        ("success", json!({"body": {"equals": ""}}), "/success/body/equals"),
        ("timeout", json!("999ms"), "/timeout"),
        ("timeout", json!("121s"), "/timeout"),
        ("timeout", json!(10), "/timeout"),
        ("in_flight_max", json!(0), "/in_flight_max"),
        ("in_flight_max", json!(1001), "/in_flight_max"),
        ("rate", json!({"per": "1s"}), "/rate/events"),
        ("rate", json!({"events": 0}), "/rate/events"),
        ("rate", json!({"events": 1, "per": "0s"}), "/rate/per"),
        ("tls", json!({"ca": "no pem"}), "/tls/ca"),
        ("tls", json!({"pin": "abc"}), "/tls/pin"),
        ("tls", json!({"client_key": "***"}), "/tls/client_key"),
        ("tls", json!({"client_cert": "x"}), "/tls/client_key"),
        ("allow_private", json!(1), "/allow_private"),
        ("ordered", json!(1), "/ordered"),
        ("priority", json!(1), "/priority"),
    ];
    for (field, value, place) in breaks {
        let problem = create(&with(field, value.clone())).unwrap_err();
        assert_eq!(pointers(&problem), [place], "{field} {value}");
        assert_eq!(problem.code().status(), 400);
    }
    assert_eq!(pointers(&create(&json!({})).unwrap_err()), ["/name", "/http_endpoint_url"]);
    assert_eq!(create(&with("priority", json!(1))).unwrap_err().code(), ProblemCode::UnknownField);
}

/// S2.15, decision D21: the documented 124 characters are one setting away.
#[test]
fn the_length_of_a_url_is_the_installations() {
    let request: DestinationRequest =
        parse_json(with("http_endpoint_url", json!("x".repeat(125))).to_string().as_bytes()).unwrap();
    let made = signing(|signing| request.create(identity(), true, Limits { url_chars_max: 124 }, signing));
    assert_eq!(pointers(&made.unwrap_err()), ["/http_endpoint_url"]);
}

/// Every format has a name, and the headers that one writes are not the destination's to set.
#[test]
fn a_format_is_named_and_owns_its_headers() {
    for format in Format::ALL {
        let stored = create(&with("format", json!(format.as_str()))).unwrap();
        assert_eq!((stored.destination.format, &show(&stored)["format"]), (format, &json!(format.as_str())));
    }
    let mut body = with("headers", json!({"CE-Source": "x"}));
    assert!(create(&body).is_ok());
    body["format"] = json!("cloudevents-binary");
    assert_eq!(pointers(&create(&body).unwrap_err()), ["/headers/CE-Source"]);
}

/// S2.19, S2.23: `confirmed` can be given at creation, over what the installation would say.
#[test]
fn confirmed_is_given_at_creation_only() {
    let confirmed = |body: &Value, default| {
        let request: DestinationRequest = parse_json(body.to_string().as_bytes()).unwrap();
        signing(|signing| request.create(identity(), default, Limits::default(), signing))
            .map(|weighed| weighed.destination.is_confirmed())
    };
    assert_eq!(confirmed(&minimal(), true), Ok(true));
    assert_eq!(confirmed(&minimal(), false), Ok(false));
    assert_eq!(confirmed(&with("confirmed", json!(false)), true), Ok(false));
    assert_eq!(confirmed(&with("confirmed", json!(true)), false), Ok(true));
}

/// Decision D11: `"***"` keeps one value while others change; a name that is left out goes.
#[test]
fn masked_headers_keep_what_is_stored() {
    let stored = create(&with("headers", json!({"X-A": "1", "X-B": "2", "X-C": "3"}))).unwrap().destination;
    let changed = update(&stored, &json!({"headers": {"x-a": "***", "X-B": "new"}})).unwrap().destination;
    let headers: Vec<_> = changed.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("X-B", "new"), ("x-a", "1")]);
}

/// S1.34: stored credentials stay as they are until a complete new block comes.
#[test]
fn credentials_change_as_a_whole() {
    let stored = create(&full()).unwrap().destination;
    let table = [
        (json!({"type": "basic", "username": "till"}), Ok(stored.auth.clone())),
        (json!({"type": "basic", "username": "till", "password": "***"}), Ok(stored.auth.clone())),
        (json!({"type": "basic", "username": "other"}), Err("/auth/password")),
        (json!({"type": "bearer"}), Err("/auth/token")),
        (json!({"type": "bearer", "token": "new"}), Ok(Auth::Bearer { token: Secret::new("new") })),
    ];
    for (auth, expected) in table {
        let made = update(&stored, &json!({"auth": auth}));
        let made =
            made.as_ref().map(|weighed| weighed.destination.auth.clone()).map_err(|problem| pointers(problem)[0]);
        assert_eq!(made, expected, "{auth}");
    }
}

/// Decision D27; S2.57: signatures are one or a list, and a secret that is not given is made and shown once.
#[test]
fn a_secret_that_is_not_given_is_made_and_shown_once() {
    let one = create(&with("signature", json!({"preset": "x-signature"}))).unwrap();
    assert_eq!(show(&one)["signature"], json!({"preset": "x-signature", "header": "X-Signature", "secret": "made-1"}));
    let given = create(&with("signature", json!({"preset": "x-signature", "secret": "mine-own"}))).unwrap();
    assert_eq!(show(&given)["signature"], json!({"preset": "x-signature", "header": "X-Signature"}));
    let none = create(&with("signature", json!({"preset": "none"}))).unwrap();
    assert_eq!(show(&none)["signature"], json!({"preset": "none"}));
    let added = json!({"signature": [{"preset": "x-signature"}, {"preset": "standard"}]});
    let more = update(&given.destination, &added).unwrap();
    let first = more.destination.signatures[0].own().unwrap();
    assert_eq!((more.fresh.as_slice(), first.secret.expose()), (&[false, true][..], "mine-own"));
    assert_eq!(show(&more)["signature"][1]["secret"], "made-1");
}

#[test]
fn a_wrong_signature_is_told_at_its_place() {
    let table = [
        (json!({}), "/signature/preset"),
        (json!("standard"), "/signature"),
        (json!({"preset": "md5"}), "/signature/preset"),
        (json!({"preset": "standard", "message": "{body}"}), "/signature/message"),
        (json!({"preset": "standard", "header": "X-Other"}), "/signature/header"),
        (json!({"preset": "standard", "secret": ""}), "/signature/secret"),
        (json!({"preset": "x-signature", "secret": "1234567"}), "/signature/secret"),
        (json!({"preset": "standard", "secret": "***"}), "/signature/secret"),
        (json!({"preset": "x-signature", "key": "k"}), "/signature/key"),
        (json!({"preset": "none", "secret": "s"}), "/signature"),
        (json!([{"preset": "standard"}, {"preset": "none"}]), "/signature/1/preset"),
        (json!([{"preset": "standard"}, {"preset": "nmi-like"}]), "/signature/1"),
        (json!([{"preset": "standard"}, {"preset": 7}]), "/signature/1/preset"),
        (json!({"preset": "custom"}), "/signature/header"),
        (json!({"preset": "custom", "header": "Content-Length"}), "/signature/header"),
        (json!({"preset": "custom", "header": "X-Webhook-Id"}), "/signature/header"),
        (json!({"preset": "custom", "header": "X-A", "message": "{ts}"}), "/signature/message"),
        (json!({"preset": "custom", "header": "X-A", "algorithm": "md5"}), "/signature/algorithm"),
        (json!({"preset": "custom", "header": "X-A", "encoding": "base32"}), "/signature/encoding"),
        (json!({"preset": "custom", "header": "X-A", "key_encoding": "HEX"}), "/signature/key_encoding"),
        (
            json!({"preset": "standard", "previous_expires_at": "2024-01-15T10:30:00Z"}),
            "/signature/previous_expires_at",
        ),
    ];
    for (signature, place) in table {
        assert_eq!(pointers(&create(&with("signature", signature.clone())).unwrap_err()), [place], "{signature}");
    }
}

/// S2.21: the destination's headers, credentials and signatures do not write over each other.
#[test]
fn one_header_has_one_writer() {
    let mut both = with("auth", json!({"type": "bearer", "token": "t"}));
    both["headers"] = json!({"authorization": "Basic x"});
    assert_eq!(pointers(&create(&both).unwrap_err()), ["/headers/authorization"]);
    let mut signed = with("signature", json!({"preset": "x-signature"}));
    signed["headers"] = json!({"x-signature": "1"});
    assert_eq!(pointers(&create(&signed).unwrap_err()), ["/headers/x-signature"]);
    let mut shared = with("auth", json!({"type": "shared_secret", "secret": "s3cret-0", "header": "X-Signature"}));
    shared["signature"] = json!({"preset": "x-signature"});
    assert_eq!(pointers(&create(&shared).unwrap_err()), ["/auth"]);
}

#[test]
fn a_client_certificate_needs_its_own_key() {
    let own = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["b".into()]).unwrap();
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let tls = json!({"ca": cert, "client_cert": cert, "client_key": key});
    let stored = create(&with("tls", tls)).unwrap();
    let shown = show(&stored)["tls"].clone();
    assert_eq!((&shown["client_key"], &shown["client_cert"]), (&json!("***"), &json!(cert)));
    let kept = update(&stored.destination, &json!({"tls": shown})).unwrap();
    assert_eq!(kept.destination.tls, stored.destination.tls);
    let foreign = json!({"client_cert": cert, "client_key": other.signing_key.serialize_pem()});
    assert_eq!(pointers(&create(&with("tls", foreign)).unwrap_err()), ["/tls/client_key"]);
    let alone = json!({"client_key": key});
    assert_eq!(pointers(&create(&with("tls", alone)).unwrap_err()), ["/tls/client_cert"]);
}

/// SX.5: a refusal repeats nothing that was sent.
#[test]
fn a_refusal_repeats_no_value() {
    for body in [
        with("headers", json!({"X-A": "hunter2\n"})),
        with("auth", json!({"type": "basic", "username": "hunter2:", "password": 2})),
        with("auth", json!("hunter2")),
        with("signature", json!({"preset": "hunter2"})),
        with("method", json!("hunter2")),
        with("success", json!({"status": ["hunter2"]})),
    ] {
        let problem = create(&body).unwrap_err();
        assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
    }
}
