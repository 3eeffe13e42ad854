use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::destination::{Preset, Scheme, Signature, SignedWith};
use crate::model::{
    ApiKey, Auth, Destination, DestinationId, DestinationNo, Secret, Subscription, SubscriptionId, SubscriptionNo,
    TlsOptions,
};

const THEN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn tenant_id() -> TenantId {
    "m1".parse().unwrap()
}

fn actor() -> Actor {
    let who = Who::Key { id: KeyId::from_chance([7; 6]), role: Role::Operate, tenant: Some(tenant_id()) };
    let from = Origin::Address(([127, 0, 0, 1], 40_000).into());
    Actor { who, from, request: Some("req_1".into()) }
}

fn deed(action: Action, object: &str, before: Value, after: Value) -> Deed {
    Deed { action, tenant: Some(tenant_id()), object: Some(object.into()), before, after }
}

/// A chain of so many records, oldest first, and where it ends.
fn chain(count: u64) -> (Vec<Kept>, Link) {
    let mut head = Link::START;
    let mut records = Vec::new();
    for number in 1..=count {
        let deed = deed(Action::KeyUpdate, "k", json!({"name": number}), json!({"name": number + 1}));
        let text = deed.text(number, THEN.after(Duration::from_secs(number)), &actor());
        records.push(Kept { previous: head.hash, text });
        head = head.next(&records.last().unwrap().text);
    }
    (records, head)
}

fn verify(records: &[Kept], anchor: Link, head: Link) -> Result<u64, Broken> {
    let mut walk = Walk::from(head);
    for record in records.iter().rev() {
        walk.follow(record)?;
    }
    walk.end(anchor).map(|()| walk.checked())
}

#[test]
fn a_record_reads_as_the_manual_says() {
    let deed = deed(Action::DestinationPause, "D1", json!({"paused": false}), json!({"paused": true}));
    let text = deed.text(7, THEN, &actor());
    let key = KeyId::from_chance([7; 6]);
    let expected = format!(
        r#"{{"action":"destination.pause","actor":{{"id":"{key}","role":"operate","tenant":"m1","type":"key"}},"after":{{"paused":true}},"at":"2023-11-14T22:13:20.000Z","before":{{"paused":false}},"from":{{"address":"127.0.0.1:40000"}},"number":7,"object":{{"id":"D1","kind":"destination"}},"request":"req_1","tenant":"m1"}}"#
    );
    assert_eq!(text, expected);
    let peer = Peer { uid: 1000, gid: 100, pid: Some(42) };
    let operator = Actor { who: Who::Operator { uid: 1000 }, from: Origin::Socket(peer), request: None };
    let text = deed.text(7, THEN, &operator);
    assert!(text.contains(r#""actor":{"id":"uid:1000","role":"admin","tenant":null,"type":"operator"}"#), "{text}");
    assert!(text.contains(r#""from":{"gid":100,"pid":42,"uid":1000}"#), "{text}");
    assert!(deed.text(7, THEN, &Actor::SYSTEM).contains(r#""actor":{"id":"system","#));
}

/// The first hashes, computed elsewhere: whoever verifies the log with other means gets the same.
#[test]
fn a_hash_is_of_the_hash_before_and_the_text() {
    let first = Link::START.next("{}");
    assert_eq!(first.to_string(), "1:fb1634c4e6cd4b1f1afe3ce2d6ef080f7ac5d1f357d723ad4dfca782733b62db");
    assert_eq!(
        first.next("{\"number\":2}").to_string(),
        "2:4bf742943eab2e67fedd89fc844d8b7a6477672ca7b843fd94ddb42d89995eb4"
    );
    assert_eq!(first.to_string().parse(), Ok(first));
    for wrong in ["", "1", "1:", "x:00", "1:0a1b", &format!("1:{}", "g".repeat(64)), &format!("-1:{}", "0".repeat(64))]
    {
        assert!(wrong.parse::<Link>().is_err(), "{wrong}");
    }
}

#[test]
fn every_action_names_a_kind_and_a_verb() {
    let mut names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Action::ALL.len());
    for action in Action::ALL {
        let (kind, verb) = action.as_str().split_once('.').unwrap();
        assert!(action.kind() == kind && !kind.is_empty() && !verb.is_empty() && !verb.contains('.'), "{action:?}");
    }
}

proptest! {
    /// P19: whatever single record is changed, left out, moved or cut off, verification finds it.
    #[test]
    fn whatever_is_done_to_a_record_is_found(
        count in 2u64..12,
        dropped in 0u64..6,
        at: prop::sample::Index,
        other: prop::sample::Index,
        byte: prop::sample::Index,
        flip in 1u8..,
    ) {
        let (mut records, head) = chain(count);
        let dropped = dropped.min(count - 2) as usize;
        let mut anchor = Link::START;
        for record in records.drain(..dropped) {
            anchor = anchor.next(&record.text);
        }
        prop_assert_eq!(verify(&records, anchor, head), Ok(records.len() as u64));
        let (place, other) = (at.index(records.len()), other.index(records.len()));

        let mut left_out = records.clone();
        left_out.remove(place);
        prop_assert!(verify(&left_out, anchor, head).is_err(), "left out");

        let mut moved = records.clone();
        moved.swap(place, other);
        prop_assert_eq!(verify(&moved, anchor, head).is_err(), place != other, "moved");

        let mut cut_off = records.clone();
        cut_off.truncate(place);
        prop_assert!(verify(&cut_off, anchor, head).is_err(), "cut off");

        let mut doubled = records.clone();
        doubled.insert(place, records[place].clone());
        prop_assert!(verify(&doubled, anchor, head).is_err(), "doubled");

        let mut changed = records.clone();
        let mut bytes = changed[place].text.clone().into_bytes();
        let at = byte.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(text) = String::from_utf8(bytes) {
            changed[place].text = text;
            prop_assert!(verify(&changed, anchor, head).is_err(), "changed");
        }

        let mut rechained = records.clone();
        rechained[place].previous.0[byte.index(32)] ^= flip;
        prop_assert!(verify(&rechained, anchor, head).is_err(), "another hash before it");

        // Whoever has noted a place finds a log that was written anew from there on.
        let mut noted = Walk::from(anchor.next(&changed[0].text));
        prop_assert_eq!(noted.follow(&records[0]).is_err(), changed[0] != records[0]);
    }
}

fn standard(secret: &str) -> SignedWith {
    SignedWith::Own(Signature {
        scheme: Scheme::Preset(Preset::Standard),
        secret: Secret::new(secret),
        previous: Some((Secret::new("whsec_old_hunter2"), THEN)),
    })
}

fn full() -> Destination {
    let id = DestinationId(Uuid::from_u128(1));
    Destination {
        headers: vec![("X-Api".into(), Secret::new("header-hunter2"))],
        auth: Auth::Basic { username: "u".into(), password: Secret::new("auth-hunter2") },
        signatures: vec![standard("whsec_hunter2")],
        tls: TlsOptions {
            ca: Some("ca-pem".into()),
            client_cert: Some("cert-pem".into()),
            client_key: Some(Secret::new("key-hunter2")),
            pin: Some([1; 32]),
        },
        ..Destination::new(DestinationNo(1), id, tenant_id(), "d", "https://a.example/", THEN)
    }
}

/// P16: no secret stands in a record, and that one was changed does.
#[test]
fn a_secret_is_masked_and_its_change_is_told() {
    let before = full();
    let view = destination(&before, None);
    for (pointer, shown) in [
        ("/headers/X-Api", MASK),
        ("/auth/password", MASK),
        ("/auth/username", "u"),
        ("/signature/0/secret", MASK),
        ("/signature/0/previous_expires_at", "2023-11-14T22:13:20.000Z"),
        ("/tls/client_key", MASK),
    ] {
        assert_eq!(view.pointer(pointer).and_then(Value::as_str), Some(shown), "{pointer} of {view}");
    }
    let mut after = before.clone();
    after.headers[0].1 = Secret::new("other-hunter2");
    after.signatures[0] = standard("whsec_other_hunter2");
    after.tls.client_key = Some(Secret::new("other-key-hunter2"));
    after.auth = Auth::Bearer { token: Secret::new("token-hunter2") };
    let (was, is) = changes(destination(&before, None), destination(&after, Some(&before)));
    let names: Vec<_> = is.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["auth", "headers", "signature", "tls"], "only what differs");
    for pointer in ["/headers/X-Api", "/signature/0/secret", "/tls/client_key"] {
        assert_eq!(was.pointer(pointer).and_then(Value::as_str), Some(MASK), "{pointer}");
        assert_eq!(is.pointer(pointer).and_then(Value::as_str), Some(CHANGED), "{pointer}");
    }
    assert_eq!(is["auth"], json!({"token": MASK, "type": "bearer"}));
    for view in [view, was, is] {
        assert!(!view.to_string().contains("hunter2"), "{view}");
    }
}

#[test]
fn a_key_shows_no_digest_and_a_subscription_names_its_destinations() {
    let (it, secret) = ApiKey::generate([3; 38], "till".into(), Role::Read, Some(tenant_id()), THEN);
    assert_eq!(key(&it), json!({"id": it.id.to_string(), "name": "till", "role": "read", "tenant": "m1"}));
    assert!(!key(&it).to_string().contains(&secret.expose()[15..]));
    let it = Subscription {
        no: SubscriptionNo(1),
        id: SubscriptionId(Uuid::from_u128(2)),
        tenant: tenant_id(),
        pattern: "transaction.*".parse().unwrap(),
        name: None,
        roll_up: true,
        filter: None,
        destinations: vec![DestinationNo(1), DestinationNo(9)],
        registered: None,
        created: THEN,
    };
    let view = subscription(&it, |no| (no.0 == 1).then_some(DestinationId(Uuid::from_u128(1))));
    assert_eq!(view["destinations"], json!(["00000000-0000-0000-0000-000000000001"]));
    assert_eq!(view["type"], "transaction.*");
}

#[test]
fn a_list_is_filtered_by_who_what_and_when() {
    let text = deed(Action::DestinationUpdate, "AB-1", json!({}), json!({})).text(3, THEN, &actor());
    let record = Record::of(&text).unwrap();
    let key = KeyId::from_chance([7; 6]).to_string();
    let some = |text: &str| Some(text.to_owned());
    let table = [
        (Wanted::default(), true),
        (Wanted { tenant: Some(tenant_id()), ..Wanted::default() }, true),
        (Wanted { tenant: Some("m2".parse().unwrap()), ..Wanted::default() }, false),
        (Wanted { actor: Some(key), ..Wanted::default() }, true),
        (Wanted { actor: some("uid:0"), ..Wanted::default() }, false),
        (Wanted { action: Some("destination.*".parse().unwrap()), ..Wanted::default() }, true),
        (Wanted { action: Some("destination.update".parse().unwrap()), ..Wanted::default() }, true),
        (Wanted { action: Some("destination.delete".parse().unwrap()), ..Wanted::default() }, false),
        (Wanted { action: Some("*".parse().unwrap()), ..Wanted::default() }, true),
        (Wanted { action: Some("destination.update.*".parse().unwrap()), ..Wanted::default() }, false),
        (Wanted { object: some("ab-1"), ..Wanted::default() }, true),
        (Wanted { object: some("destination"), ..Wanted::default() }, true),
        (Wanted { object: some("key"), ..Wanted::default() }, false),
        (Wanted { from: Some(THEN), ..Wanted::default() }, true),
        (Wanted { to: Some(THEN), ..Wanted::default() }, false),
    ];
    for (wanted, takes) in table {
        assert_eq!(wanted.takes(&record), takes, "{wanted:?}");
        let is_found = wanted.terms().iter().all(|term| record.terms().contains(term));
        assert!(is_found || !takes, "{wanted:?} does not lead to what it takes");
        let is_by_time = wanted.from.is_some() || wanted.to.is_some();
        assert!(takes || is_by_time || !is_found, "{wanted:?} leads to what it does not take");
    }
}
