//! What lies on disk stays readable: the bytes of each kind of record, and what happens to bytes that are none.
//!
//! A file under `tests/golden/` holds one record in hex. When a record changes on purpose it gets a new version and a new
//! file beside the old one; `POSTRIDER_BLESS=1` writes files that are missing, and never one that is there.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::audit::{Chain, Kept, Link};
use crate::model::delivery::{Ending, Phases};
use crate::model::destination::{
    Algorithm, BodyRule, CustomScheme, Encoding, Format, KeyEncoding, Method, Preset, Rate, Scheme, Signature,
    SignedWith,
};
use crate::model::event::{CloudAttributes, Peer, Skip, Target};
use crate::model::filter::{Bound, Condition, Mode, Plain, Test};
use crate::model::schedule::{self, Retry};
use crate::model::user::{Factor, Failures, PasswordHash, RecoveryDigest, Totp, TotpKey};
use crate::model::*;
use crate::store::people::Strangers;
use crate::store::record::{AttemptRow, EndedRow, FormerTenant, Lane, LaneHealth, Plan, StartedRow, Tally, Tombstone};

const THEN: Timestamp = Timestamp::from_millis(1_750_000_000_123);

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

/// The bytes of a golden file: hex digits, with white space for people.
fn read(name: &str) -> Vec<u8> {
    let path = golden(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn compare(name: &str, record: &[u8]) {
    let path = golden(name);
    if std::env::var_os("POSTRIDER_BLESS").is_some() && !path.exists() {
        let lines: Vec<_> = record.chunks(32).map(crate::model::id::hex).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    assert_eq!(read(name), record, "{name}: what is written now is not what was written then");
}

/// A place in a table, under keys that every test has.
fn place(table: &'static str, key: u64) -> Place {
    let keyring = Keyring::open(&crate::store::tests::keys(), std::iter::empty()).unwrap();
    Place::new(&Arc::new(keyring), table, &key.to_le_bytes(), false)
}

fn here() -> Place {
    place("events", 5)
}

fn plain_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    plain(value, &mut bytes);
    bytes
}

/// A record's bytes before it is sealed are what they were, read as what they were, and every part of them is no record.
fn holds<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    compare(name, &plain_of(value));
    let bytes = read(name);
    assert_eq!(super::value::<T>(&bytes).unwrap(), *value, "{name}");
    for length in 0..bytes.len() {
        assert!(super::value::<T>(&bytes[..length]).is_err(), "{name}: its first {length} bytes are read as a whole");
    }
    let trailing = [&bytes[..], &[0]].concat();
    assert!(matches!(super::value::<T>(&trailing), Err(DecodeError::Damaged(_))), "{name}: trailing byte");
    // Whatever length a damaged record claims, what is not there is not read, let alone made room for.
    for place in 0..bytes.len().saturating_sub(8) {
        let mut other = bytes.clone();
        other[place..place + 8].fill(0xff);
        let _ = super::value::<T>(&other);
    }
    let record = encode(here(), value);
    assert_eq!(decode::<T>(here(), &record).unwrap(), *value, "{name}");
    for (other, what) in changed(&record) {
        assert!(decode::<T>(here(), &other).is_err(), "{name}: {what}");
    }
}

/// A record with each of its bits turned, each of its beginnings, and one with a byte too many.
fn changed(record: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> {
    let turned = (0..record.len() * 8).map(|bit| {
        let mut other = record.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        (other, format!("bit {bit}"))
    });
    let shorter = (0..record.len()).map(|length| (record[..length].to_vec(), format!("its first {length} bytes")));
    let longer = ([record, &[0]].concat(), "a trailing byte".to_owned());
    turned.chain(shorter).chain(std::iter::once(longer))
}

fn tenant_id(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn head() -> EventHead {
    EventHead {
        epoch: Epoch(0x0102_0304),
        tenant: tenant_id("merchant-1"),
        kind: "transaction.sale.success".parse().unwrap(),
        producer_id: Some("T 1/7".parse().unwrap()),
        occurred: THEN,
        accepted: THEN.after(Duration::from_secs(1)),
        due: THEN.after(Duration::from_secs(2)),
        key: Some("card ä".parse().unwrap()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        expires_at: Some(THEN.after(Duration::from_secs(3600))),
        source: Some("till 4".into()),
        peer: Some(Peer { uid: 1000, gid: 100, pid: Some(4242) }),
        content_type: Some("application/json".into()),
        cloud: Some(CloudAttributes {
            id: "c-1".into(),
            source: "/till".into(),
            others: vec![("subject".into(), "\"x\"".into())],
        }),
        targets: vec![Target {
            destination: DestinationNo(3),
            subscriptions: vec![SubscriptionNo(5), SubscriptionNo(6)],
        }],
        skipped: vec![
            (DestinationNo(4), Skip::Disabled),
            (DestinationNo(9), Skip::Unconfirmed),
            (DestinationNo(10), Skip::Filtered),
        ],
    }
}

fn bare_head() -> EventHead {
    EventHead {
        producer_id: None,
        key: None,
        traceparent: None,
        expires_at: None,
        source: None,
        peer: None,
        content_type: None,
        cloud: None,
        targets: vec![],
        skipped: vec![],
        ..head()
    }
}

fn attempt() -> Attempt {
    Attempt {
        number: 2,
        due: THEN,
        started: THEN,
        duration: Duration::from_micros(1_234_567),
        trigger: Trigger::Manual,
        outcome: Outcome::Failed,
        reason: Some(Reason::Status),
        status: Some(503),
        request_headers: [("x-webhook-id", "evt_1"), ("authorization", "***")].into_iter().collect(),
        response_headers: [("retry-after", "120")].into_iter().collect(),
        response_body: b"busy\xff".to_vec(),
        error: Some("status 503".into()),
        address: Some("[2001:db8::1]:443".parse().unwrap()),
        phases: Phases {
            dns: Some(Duration::from_millis(1)),
            connect: Some(Duration::from_millis(2)),
            tls: Some(Duration::from_millis(3)),
            head: Some(Duration::from_millis(4)),
            body: None,
        },
        reconnected: true,
        next: Some(THEN.after(Duration::from_secs(300))),
    }
}

fn destination() -> Destination {
    let custom = CustomScheme {
        header: "X-Own".into(),
        prefix: "v={ts};".into(),
        message: "{ts}.{body}".into(),
        algorithm: Algorithm::Sha512,
        encoding: Encoding::HexUpper,
        key_encoding: KeyEncoding::Base64,
    };
    Destination {
        no: DestinationNo(3),
        id: "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6".parse().unwrap(),
        tenant: tenant_id("merchant-1"),
        name: "till".into(),
        description: Some("the till".into()),
        url: "https://hooks.example.com/in?x=1".into(),
        method: Method::Put,
        headers: vec![("x-own".into(), Secret::new("header value"))],
        auth: Auth::Basic { username: "user".into(), password: Secret::new("password") },
        signatures: vec![
            SignedWith::Own(Signature {
                scheme: Scheme::Preset(Preset::Standard),
                secret: Secret::new("whsec_AAAA"),
                previous: Some((Secret::new("whsec_BBBB"), THEN)),
            }),
            SignedWith::Own(Signature { scheme: Scheme::Custom(custom), secret: Secret::new("AAAA"), previous: None }),
            SignedWith::Key { scheme: Scheme::Preset(Preset::XSignature), key: SigningKeyId::from_chance([5; 6]) },
        ],
        format: Format::Raw,
        retry: Retry {
            plan: schedule::Plan::Delays(vec![Duration::from_secs(1), Duration::from_secs(5)]),
            attempts_max: Some(7),
            jitter: Some(0.25),
        },
        success: Success { status: vec![(200, 204), (409, 409)], body: Some(BodyRule::Prefix("OK".into())) },
        timeout: Some(Duration::from_secs(10)),
        in_flight_max: Some(4),
        rate: Some(Rate { events: 10, per: Duration::from_secs(1) }),
        ordered: true,
        tls: TlsOptions {
            ca: Some("ca".into()),
            client_cert: Some("cert".into()),
            client_key: Some(Secret::new("key")),
            pin: Some([7; 32]),
        },
        allow_private: true,
        gone_at_once: true,
        confirmation: Confirmation::Lapsed,
        asked: Some(Seq(77)),
        disabled: true,
        created: THEN,
    }
}

/// A filter with each test and each plain value.
fn filter() -> Filter {
    let number = || Plain::Number("1.50".into());
    let text = || Plain::Text("VISA".into());
    let tests = [
        Test::Eq(Plain::Null),
        Test::Ne(Plain::Bool(true)),
        Test::In(vec![number(), text()]),
        Test::Prefix("V".into()),
        Test::Exists(false),
        Test::Gt(Bound::try_from(number()).unwrap()),
        Test::Lt(Bound::try_from(number()).unwrap()),
    ];
    let condition = |test| Condition { pointer: "/a~1b".parse().unwrap(), test };
    Filter { mode: Mode::Any, conditions: tests.map(condition).into() }
}

fn user() -> User {
    let mut failures = Failures::default();
    failures.note(Factor::Password, THEN);
    failures.note(Factor::Code, THEN);
    User {
        id: UserId::from_chance([9; 6]),
        name: "anna@example.com".parse().unwrap(),
        role: Role::Admin,
        tenant: Some(tenant_id("merchant-1")),
        created: THEN,
        password: PasswordHash::NOBODY,
        one_time: true,
        totp: Some(Totp { key: TotpKey::from_chance([7; 20]), step: 58_333_333 }),
        recovery: vec![RecoveryDigest::generate([1; 10]).1, RecoveryDigest::generate([2; 10]).1],
        failures,
        stamp: 3,
    }
}

#[test]
fn each_kind_of_record_keeps_its_bytes() {
    let health = LaneHealth {
        hold_until: Some(THEN),
        gone_since: Some(THEN),
        gone: true,
        failures: 11,
        shut_until: Some(THEN.after(Duration::from_secs(30))),
        proven: true,
        slow: true,
        resumed: 2,
    };
    let (key, _) = ApiKey::generate([9; 38], "ops".into(), Role::Operate, Some(tenant_id("merchant-1")), THEN);
    let signing_key = SigningKey {
        id: SigningKeyId::from_chance([5; 6]),
        tenant: tenant_id("merchant-1"),
        kind: SigningKeyKind::Source,
        name: "till".into(),
        secret: Secret::new("whsec_CCCC"),
        previous: Some((Secret::new("whsec_DDDD"), THEN)),
        created: THEN,
    };
    let subscription = Subscription {
        no: SubscriptionNo(5),
        id: "9603F4B2-1874-42FE-A2BC-F7B45C45A9D7".parse().unwrap(),
        tenant: tenant_id("merchant-1"),
        pattern: "transaction.*".parse().unwrap(),
        name: Some("all sales".into()),
        roll_up: true,
        filter: Some(filter()),
        destinations: vec![DestinationNo(3), DestinationNo(4)],
        registered: Some(Registered { dialect: "backoffice".into(), serial: 6, destination: DestinationNo(3) }),
        created: THEN,
    };
    let tombstone = Tombstone {
        no: DestinationNo(3),
        id: destination().id,
        tenant: tenant_id("merchant-1"),
        name: "till".into(),
        deleted: THEN,
    };
    let tenant = Tenant {
        id: tenant_id("merchant-1"),
        name: "Mérchant".into(),
        parent: Some(tenant_id("reseller")),
        created: THEN,
        audit_from: 300,
    };
    let plan = Plan { number: 3, tried: 2, trigger: Trigger::Replay, cut_off: 1, in_line: true };
    holds("plan-1", &plan);
    holds("started-1", &StartedRow { due: THEN, plan, started: THEN, ran: Duration::from_millis(101) });
    let hash = Link::START.next("{}").hash;
    holds("audit-1", &Kept { previous: hash, text: r#"{"number":2}"#.into() });
    holds("chain-1", &Chain { anchor: Link { number: 1, hash }, head: Link { number: 2, hash } });
    holds("attempt-planned-1", &AttemptRow::Planned { due: THEN });
    holds("attempt-done-1", &AttemptRow::Done(Box::new(attempt())));
    holds("ended-1", &EndedRow { ending: Ending::DestinationDeleted, at: THEN });
    holds("tally-1", &Tally { accepted: 10, succeeded: 4, failed: 3, cancelled: 2 });
    holds("lane-1", &Lane { paused: true, ordering: Some((THEN, Seq(7))), health });
    holds("tenant-1", &tenant);
    holds("destination-1", &destination());
    holds("subscription-1", &subscription);
    holds("key-1", &key);
    let known = KnownType {
        name: "refund.settled".parse().unwrap(),
        description: Some("A refund was settled".into()),
        aliases: vec!["refund.done".parse().unwrap()],
        sample: Some(r#"{"refund": 1}"#.into()),
        origin: event_type::Origin::Added { created: THEN },
    };
    holds("event-type-1", &known);
    holds("signing-key-1", &signing_key);
    holds("user-1", &user());
    holds("strangers-1", &Strangers { count: 7, told: THEN });
    holds("tombstone-1", &tombstone);
    holds("former-tenant-1", &FormerTenant { until: Seq(1 << 40) });
    holds("run-1", &crate::store::segments::seal::RunRow::sample());
    let replay = Replay {
        id: ReplayId(2),
        wanted: ReplayWanted {
            tenant: tenant_id("merchant-1"),
            destination: Some(DestinationNo(3)),
            kind: Some("transaction.*".parse().unwrap()),
            from: Some(THEN),
            to: Some(THEN.after(Duration::from_secs(60))),
            state: DeliveryState::Failed,
        },
        rate: Replay::RATE_DEFAULT,
        created: THEN,
        until: Seq(1 << 40),
        state: ReplayState::Running,
        ended: Some(THEN),
        matched: 9,
        exact: true,
        done: 4,
        skipped: 1,
        step: 2,
        walk: replay::ReplayWalk { parts: vec![(DestinationNo(3), Seq(7))], next: Some(DestinationNo(4)) },
    };
    holds("replay-1", &replay);
    let command = Command {
        id: CommandId::new(3, 1 << 70),
        tenant: tenant_id("merchant-1"),
        dialect: "backoffice".into(),
        state: CommandState::Failed,
        created: THEN,
        ended: Some(THEN),
        error: Some("gone".into()),
        message: Some("done".into()),
    };
    let row = |work| crate::store::commands::CommandRow { command: command.clone(), work };
    let (who, from) = (audit::Who::Operator { uid: 5 }, audit::Origin::Address(([127, 0, 0, 1], 5).into()));
    let by = Actor { who, from, request: Some("req_1".into()) };
    let who = audit::Who::Key { id: key.id, role: key.role, tenant: None };
    let by_key = Actor { who, from: audit::Origin::Socket(Peer { uid: 1, gid: 2, pid: Some(3) }), request: None };
    let change = RegistrationChange {
        pattern: Some("a.b".parse().unwrap()),
        url: Some("https://hooks.example.com/in".into()),
        auth: Some(Auth::None),
        attempts_max: Some(4),
        moves_openings: true,
    };
    let (destination, subscription) = (Box::new(destination()), Box::new(subscription));
    let id = subscription.id;
    holds("command-1", &row(None));
    holds("command-register-1", &row(Some((Order::Register { destination, subscription, only: true }, by))));
    holds("command-change-1", &row(Some((Order::Change { subscription: id, change }, by_key))));
    holds("command-deregister-1", &row(Some((Order::Deregister { subscription: id }, Actor::SYSTEM))));
    let answer = crate::store::requests::KeptAnswer {
        status: 201,
        content_type: Some("application/json".into()),
        location: Some("/v1/keys/k".into()),
        body: Some(b"{}".to_vec()),
    };
    let answer = Some(answer);
    holds("request-1", &crate::store::requests::RequestRow { begun: THEN, fingerprint: [7; 32], answer });
    holds("epoch-1", &Epoch(0x0102_0304));
    holds(
        "numbers-1",
        &crate::store::writer::Numbers {
            next_seq: 1 << 40,
            next_destination: 7,
            next_subscription: 9,
            next_replay: 3,
            next_command: 4,
        },
    );
}

#[test]
fn an_events_head_keeps_its_bytes() {
    holds("head-1", &head());
    holds("head-bare-1", &bare_head());
}

/// The whole of it: the envelope, and what the cipher makes of a known key, counter and place.
#[test]
fn a_sealed_record_keeps_its_bytes() {
    let tally = Tally { accepted: 10, succeeded: 4, failed: 3, cancelled: 2 };
    compare("sealed-tally-1", &encode(here(), &tally));
    assert_eq!(decode::<Tally>(here(), &read("sealed-tally-1")).unwrap(), tally);
    let body = Body::Kept(Bytes::from_static(b"{ \"n\" : 1.0 }\xff\0"));
    for (name, head, body) in [
        ("sealed-event-1", head(), body.clone()),
        ("sealed-event-bare-1", bare_head(), body),
        ("sealed-event-erased-1", head(), Body::Erased),
    ] {
        compare(name, &encode_event(here(), &head, &body));
        let record = read(name);
        let event = Event { seq: Seq(5), head: head.clone(), body: body.clone() };
        assert_eq!(decode_event(here(), Seq(5), &record).unwrap(), event, "{name}");
        assert_eq!(decode_event_head(here(), &record).unwrap(), head, "{name}");
        assert_eq!(keeps_body(&record).unwrap(), body.bytes().is_some(), "{name}");
        for (other, what) in changed(&record) {
            assert!(decode_event(here(), Seq(5), &other).is_err(), "{name}: {what}");
        }
        // A reader of heads hears of whatever the head depends on, and of nothing in the body.
        let head_ends = EVENT_HEADER_BYTES + plain_of(&head).len() + TAG_BYTES;
        for (place, (other, what)) in changed(&record).take(record.len() * 8).enumerate() {
            assert_eq!(decode_event_head(here(), &other).is_err(), place / 8 < head_ends, "{name}: {what}");
        }
    }
}

#[test]
fn what_remains_of_an_erased_body_keeps_its_bytes() {
    compare("sealed-event-erased-remains-1", &encode_erased(here(), &head(), Some([7; 16])));
    let record = read("sealed-event-erased-remains-1");
    assert_eq!(decode_event(here(), Seq(5), &record).unwrap().body, Body::Erased);
    assert_eq!(decode_event_head(here(), &record).unwrap(), head());
    assert!(matches!(content(here(), &record), Ok(Content::Erased(Some(remains))) if remains == [7; 16]));
}

/// Whoever can write to the file cannot move a record to another key or another table, or swap parts of two records.
#[test]
fn a_record_opens_at_its_own_place_only() {
    let plan = Plan { number: 3, tried: 2, trigger: Trigger::Replay, cut_off: 0, in_line: true };
    let record = encode(here(), &plan);
    for elsewhere in [place("events", 6), place("event", 5), place("audit", 5), place("", 5)] {
        assert!(matches!(decode::<Plan>(elsewhere, &record), Err(DecodeError::Broken)));
    }
    let body = Body::Kept(Bytes::from_static(b"a body of a payment"));
    let keyring = Arc::new(Keyring::open(&crate::store::tests::keys(), std::iter::empty()).unwrap());
    let there = || Place::new(&keyring, "events", &1_u64.to_le_bytes(), false);
    let (one, two) = (encode_event(there(), &head(), &body), encode_event(there(), &head(), &body));
    let cut = one.len() - 19 - TAG_BYTES;
    let swapped = [&one[..cut], &two[cut..]].concat();
    assert!(decode_event_head(there(), &swapped).is_ok());
    assert!(matches!(decode_event(there(), Seq(1), &swapped), Err(DecodeError::Broken)));
}

/// A record that claims more than there is, or more than the limit, is refused before anything is made for it.
#[test]
fn lengths_that_cannot_be_are_refused() {
    for length in [1, 9, 1 << 20, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1, u64::from(u32::MAX), u64::MAX] {
        let bytes = length.to_le_bytes();
        assert!(value::<String>(&bytes).is_err());
        assert!(value::<Vec<u8>>(&bytes).is_err());
        assert!(value::<Vec<(u64, String)>>(&bytes).is_err());
    }
}

proptest! {
    #[test]
    fn bytes_of_chance_never_panic_a_reader(bytes: Vec<u8>, enveloped: bool) {
        let record = if enveloped { [&[VERSION, CODEC][..], &bytes].concat() } else { bytes.clone() };
        let _ = decode_event(here(), Seq(1), &record);
        let _ = decode_event_head(here(), &record);
        let _ = keeps_body(&record);
        let _ = decode::<Plan>(here(), &record);
        let _ = value::<EventHead>(&bytes);
        let _ = value::<Plan>(&bytes);
        let _ = value::<StartedRow>(&bytes);
        let _ = value::<AttemptRow>(&bytes);
        let _ = value::<EndedRow>(&bytes);
        let _ = value::<Lane>(&bytes);
        let _ = value::<Destination>(&bytes);
        let _ = value::<Subscription>(&bytes);
        let _ = value::<ApiKey>(&bytes);
        let _ = value::<User>(&bytes);
        let _ = value::<Tenant>(&bytes);
        let _ = value::<Tombstone>(&bytes);
    }

    /// True bytes with some of them changed come closer to what damage looks like.
    #[test]
    fn a_damaged_record_never_panics_a_reader(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let damage = |mut record: Vec<u8>| {
            for (place, byte) in &places {
                let place = place.index(record.len());
                record[place] = *byte;
            }
            record
        };
        let _ = value::<Destination>(&damage(plain_of(&destination())));
        let _ = value::<User>(&damage(plain_of(&user())));
        let _ = value::<AttemptRow>(&damage(plain_of(&AttemptRow::Done(Box::new(attempt())))));
        let _ = value::<EventHead>(&damage(plain_of(&head())));
        let body = Body::Kept(Bytes::from_static(b"body"));
        let _ = decode_event(here(), Seq(1), &damage(encode_event(here(), &head(), &body)));
    }
}
