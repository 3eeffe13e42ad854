//! What a producer may write: one event, a batch, a CloudEvent, a ping. Parsed once, here, for every mouth.
//!
//! `data` is kept byte for byte as it was written: it is not parsed beyond finding its end. Fields are checked by name, so that
//! a misspelt one is an error and not a silent loss.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::card::masked_text;
use crate::model::event::{CloudAttributes, NewEvent, is_json_type};
use crate::model::milestone::CONFIRMATION;
use crate::model::{EventType, TenantId, Timestamp};

use super::{Code, Rejection};

/// Events in one batch at most.
pub const BATCH_EVENTS_MAX: usize = 1000;
/// Characters of `source`, `content_type`, `traceparent` at most.
const TEXT_MAX: usize = 1024;

/// What a producer wrote.
#[derive(Debug)]
pub enum Submission {
    /// `{"op":"ping"}`.
    Ping,
    /// One event.
    One(Result<Box<NewEvent>, Rejection>),
    /// An array of events: one commit, one reply with a result each.
    Batch(Vec<Result<Box<NewEvent>, Rejection>>),
}

/// Reads what a producer wrote: one JSON text. `tenant` is whose events are that name none.
pub fn parse(text: &[u8], tenant: &TenantId) -> Result<Submission, Rejection> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let items: Vec<&RawValue> = serde_json::from_slice(text).map_err(bad_json)?;
        if items.is_empty() {
            return Err(Rejection::of_whole(Code::BadField, "a batch holds at least one event"));
        }
        if items.len() > BATCH_EVENTS_MAX {
            let message = format!("a batch holds at most {BATCH_EVENTS_MAX} events; this one has {}", items.len());
            return Err(Rejection::new(Code::TooLarge, message));
        }
        let event = |item: &&RawValue| {
            let fields: Fields<'_> = serde_json::from_str(item.get()).map_err(bad_json)?;
            event(fields, tenant).map(Box::new)
        };
        return Ok(Submission::Batch(items.iter().map(event).collect()));
    }
    let fields: Fields<'_> = serde_json::from_slice(text).map_err(bad_json)?;
    if let [(name, value)] = &fields.0[..]
        && name == "op"
    {
        return match serde_json::from_str::<&str>(value.get()) {
            Ok("ping") => Ok(Submission::Ping),
            _ => Err(bad_field("op", "the only operation is ping")),
        };
    }
    Ok(Submission::One(event(fields, tenant).map(Box::new)))
}

fn bad_json(error: serde_json::Error) -> Rejection {
    let text = error.to_string();
    // Of "invalid type: string "…", expected …" the first half would repeat what was sent, which may be a card number.
    let text = match text.rsplit_once(", expected ") {
        Some((_, expected)) if text.starts_with("invalid ") => format!("is not {expected}"),
        Some(_) | None => text,
    };
    Rejection::new(Code::BadJson, text)
}

/// A name that was sent, as far as it may be repeated.
fn shown(name: &str) -> String {
    masked_text(name).chars().take(64).collect()
}

/// The fields of one JSON object, each as it was written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event: a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(8);
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    if fields.iter().any(|(other, _)| *other == name.0) {
                        return Err(serde::de::Error::custom(format_args!("field {:?} stands twice", shown(&name.0))));
                    }
                    if fields.len() == FIELDS_MAX {
                        return Err(serde::de::Error::custom(format_args!("more than {FIELDS_MAX} fields")));
                    }
                    fields.push((name.0, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// Fields in one event at most; CloudEvents may carry extensions.
const FIELDS_MAX: usize = 64;

/// A field's name: borrowed unless it holds an escape.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn event(fields: Fields<'_>, tenant: &TenantId) -> Result<NewEvent, Rejection> {
    if fields.0.iter().any(|(name, _)| name == "specversion") {
        cloud_event(fields, tenant)
    } else {
        native(fields, tenant)
    }
}

fn native(fields: Fields<'_>, tenant: &TenantId) -> Result<NewEvent, Rejection> {
    let mut draft = Draft::new(tenant);
    let mut data_base64 = None;
    for (name, raw) in fields.0 {
        match &*name {
            "type" => draft.kind = Some(parsed("type", raw)?),
            "tenant" => draft.tenant = parsed("tenant", raw)?,
            "id" => draft.event.producer_id = Some(parsed("id", raw)?),
            "time" => draft.event.occurred = Some(parsed("time", raw)?),
            "key" => draft.event.key = Some(parsed("key", raw)?),
            "traceparent" => draft.event.traceparent = Some(traceparent(raw)?),
            "deliver_at" => draft.event.deliver_at = Some(parsed("deliver_at", raw)?),
            "expires_at" => draft.event.expires_at = Some(parsed("expires_at", raw)?),
            "source" => draft.event.source = Some(bounded("source", raw)?),
            "content_type" => draft.event.content_type = Some(content_type("content_type", raw)?),
            "data" => draft.data = Some(raw),
            "data_base64" => data_base64 = Some(base64("data_base64", raw)?),
            other => return Err(unknown_field(other, NATIVE)),
        }
    }
    let body = match (draft.data, data_base64) {
        (Some(_), Some(_)) => return Err(bad_field("data_base64", "data and data_base64 exclude one another")),
        (None, None) => return Err(bad_field("data", "is required: any JSON, or data_base64 for other bytes")),
        (Some(_), None) if draft.event.content_type.is_some() => {
            return Err(bad_field("content_type", "goes with data_base64; data is JSON"));
        }
        (Some(data), None) => Bytes::copy_from_slice(data.get().as_bytes()),
        (None, Some(bytes)) => {
            draft.event.content_type.get_or_insert_with(|| "application/octet-stream".to_owned());
            bytes
        }
    };
    draft.finish(body)
}

/// CloudEvents 1.0 in JSON: its `data` is what is delivered, its attributes are kept.
fn cloud_event(fields: Fields<'_>, tenant: &TenantId) -> Result<NewEvent, Rejection> {
    let mut draft = Draft::new(tenant);
    let (mut id, mut source, mut data_base64, mut others) = (None, None, None, Vec::new());
    for (name, raw) in fields.0 {
        match &*name {
            "specversion" => {
                if text("specversion", raw)? != "1.0" {
                    return Err(bad_field("specversion", "must be 1.0; other versions are not read"));
                }
            }
            "id" => {
                draft.event.producer_id = Some(parsed("id", raw)?);
                id = Some(text("id", raw)?.into_owned());
            }
            "source" => source = Some(bounded("source", raw)?),
            "type" => draft.kind = Some(parsed("type", raw)?),
            "time" => draft.event.occurred = Some(parsed("time", raw)?),
            "tenant" => draft.tenant = parsed("tenant", raw)?,
            "partitionkey" => draft.event.key = Some(parsed("partitionkey", raw)?),
            "traceparent" => draft.event.traceparent = Some(traceparent(raw)?),
            "datacontenttype" => draft.event.content_type = Some(content_type("datacontenttype", raw)?),
            "data" => draft.data = Some(raw),
            "data_base64" => data_base64 = Some(base64("data_base64", raw)?),
            other => {
                // Context attributes are simple values with names of a-z and 0-9 (CloudEvents 1.0, 3.1).
                let named =
                    !other.is_empty() && other.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
                let simple = !raw.get().starts_with(['{', '[']);
                if !named || !simple {
                    return Err(unknown_field(other, EXTENSION));
                }
                if raw.get().len() > TEXT_MAX {
                    return Err(bad_field(other, format_args!("must have at most {TEXT_MAX} bytes, as it is written")));
                }
                others.push((other.to_owned(), raw.get().to_owned()));
            }
        }
    }
    let id = id.ok_or_else(|| bad_field("id", "is required in a CloudEvent"))?;
    let source = source.ok_or_else(|| bad_field("source", "is required in a CloudEvent"))?;
    let is_json = draft.event.content_type.as_deref().is_none_or(is_json_type);
    let body = match (draft.data, data_base64) {
        (Some(_), Some(_)) => return Err(bad_field("data_base64", "data and data_base64 exclude one another")),
        (None, None) => Bytes::new(),
        // Of a content that is not JSON, a JSON string is the text itself (CloudEvents JSON format, 3.1.1).
        (Some(data), None) if !is_json && data.get().starts_with('"') => Bytes::from(text("data", data)?.into_owned()),
        (Some(data), None) => Bytes::copy_from_slice(data.get().as_bytes()),
        (None, Some(bytes)) => bytes,
    };
    draft.event.source = Some(source.clone());
    draft.event.cloud = Some(CloudAttributes { id, source, others });
    draft.finish(body)
}

/// An event on its way: everything optional until the end.
struct Draft<'a> {
    kind: Option<EventType>,
    tenant: TenantId,
    data: Option<&'a RawValue>,
    event: Optional,
}

#[derive(Default)]
struct Optional {
    producer_id: Option<crate::model::event::ProducerId>,
    occurred: Option<Timestamp>,
    key: Option<crate::model::event::OrderingKey>,
    traceparent: Option<String>,
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    source: Option<String>,
    content_type: Option<String>,
    cloud: Option<CloudAttributes>,
}

impl Draft<'_> {
    fn new(tenant: &TenantId) -> Self {
        Draft { kind: None, tenant: tenant.clone(), data: None, event: Optional::default() }
    }

    fn finish(self, body: Bytes) -> Result<NewEvent, Rejection> {
        let Draft { kind, tenant, data: _, event } = self;
        let kind = kind.ok_or_else(|| bad_field("type", "is required"))?;
        if kind.as_str() == CONFIRMATION {
            return Err(bad_field("type", "is what receivers are asked for their confirmation with; choose another"));
        }
        if let (Some(deliver_at), Some(expires_at)) = (event.deliver_at, event.expires_at)
            && deliver_at >= expires_at
        {
            return Err(bad_field("expires_at", "lies before deliver_at"));
        }
        Ok(NewEvent {
            tenant,
            kind,
            producer_id: event.producer_id,
            occurred: event.occurred,
            key: event.key,
            traceparent: event.traceparent,
            deliver_at: event.deliver_at,
            expires_at: event.expires_at,
            source: event.source,
            peer: None,
            content_type: event.content_type,
            cloud: event.cloud,
            body,
        })
    }
}

fn bad_field(field: &str, why: impl fmt::Display) -> Rejection {
    Rejection::of_member(Code::BadField, field, why)
}

/// What there is instead of a field that an event does not have.
const NATIVE: &str = "is not a field of an event; there are type, tenant, id, time, key, traceparent, deliver_at, expires_at, \
source, content_type, data, data_base64";
const EXTENSION: &str = "is not an attribute of a CloudEvent, whose names are of a-z and 0-9 and whose values are texts, numbers, \
true or false";

fn unknown_field(name: &str, why: &str) -> Rejection {
    Rejection::of_member(Code::UnknownField, name, why)
}

fn text<'a>(field: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Rejection> {
    serde_json::from_str::<Name<'a>>(raw.get()).map(|name| name.0).map_err(|_| bad_field(field, "is not a string"))
}

fn parsed<T: FromStr<Err = crate::model::Invalid>>(field: &str, raw: &RawValue) -> Result<T, Rejection> {
    text(field, raw)?.parse().map_err(|error| bad_field(field, error))
}

fn bounded(field: &str, raw: &RawValue) -> Result<String, Rejection> {
    let text = text(field, raw)?;
    if text.is_empty() || text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err(bad_field(field, format_args!("must have 1 to {TEXT_MAX} bytes without control characters")));
    }
    Ok(text.into_owned())
}

/// A content type goes into a header as it is.
fn content_type(field: &str, raw: &RawValue) -> Result<String, Rejection> {
    let text = bounded(field, raw)?;
    if text.contains('/') && text.is_ascii() {
        Ok(text)
    } else {
        Err(bad_field(field, "must be a media type such as text/plain"))
    }
}

/// A W3C trace context: version, trace id, parent id, flags, all in lower-case hex.
fn traceparent(raw: &RawValue) -> Result<String, Rejection> {
    let text = text("traceparent", raw)?;
    let widths = [2, 32, 16, 2];
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<_> = text.split('-').collect();
    let right = parts.len() == 4 && parts.iter().zip(widths).all(|(part, width)| part.len() == width && is_hex(part));
    if right { Ok(text.into_owned()) } else { Err(bad_field("traceparent", "is not a W3C trace context")) }
}

fn base64(field: &str, raw: &RawValue) -> Result<Bytes, Rejection> {
    let decoded = BASE64.decode(text(field, raw)?.as_bytes());
    // The decoder's own words hold a byte of what was sent.
    decoded.map(Bytes::from).map_err(|_| bad_field(field, "is not base64 (RFC 4648, section 4, padded)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<NewEvent, Rejection> {
        match parse(text.as_bytes(), &TenantId::default_tenant())? {
            Submission::One(event) => event.map(|event| *event),
            other => panic!("{other:?}"),
        }
    }

    /// P16: what was sent is not repeated where it may be a card number: a whole text, an item of a batch, a name, a name twice.
    #[test]
    fn a_rejection_repeats_no_card_number() {
        let tenant = TenantId::default_tenant();
        for text in [
            r#""4111111111111111""#,
            "4111111111111111",
            r#"["4111111111111111"]"#,
            "[4111111111111111]",
            r#"{"4111111111111111": 1}"#,
            r#"{"x 4111 1111 1111 1111, expected y": 1}"#,
            r#"{"4111111111111111": 1, "4111111111111111": 2}"#,
            r#"{"4111111111111111, expected ": 1, "4111111111111111, expected ": 2}"#,
            r#"[{"4111111111111111": 1}]"#,
            r#"[{"4111111111111111": 1, "4111111111111111": 2}]"#,
            r#"{"specversion": "1.0", "4111111111111111": {}}"#,
            r#"{"type": "4111111111111111 ", "data": 1}"#,
            r#"{"type": 4111111111111111, "data": 1}"#,
            r#"{"type": "t", "time": "4111111111111111", "data": 1}"#,
            r#"{"type": "t", "data_base64": "4111111111111111-"}"#,
            r#"{"op": "4111111111111111"}"#,
        ] {
            let rejections: Vec<Rejection> = match parse(text.as_bytes(), &tenant) {
                Err(rejection) | Ok(Submission::One(Err(rejection))) => vec![rejection],
                Ok(Submission::Batch(events)) => events.into_iter().filter_map(Result::err).collect(),
                Ok(other) => panic!("{text}: {other:?}"),
            };
            assert_eq!(rejections.len(), 1, "{text}");
            let message = rejections[0].message();
            assert!(!message.contains("411111111111") && !message.contains("4111 1111 1111"), "{text}: {message}");
        }
    }

    /// SX.1: the producer's bytes are kept as they were written, white space, number forms and escapes included.
    #[test]
    fn data_is_kept_byte_for_byte() {
        for data in [r#"{"b" : 1.0,"a":[1e2, "\u00e4"]}"#, "null", "0", "\"x\"", "[]", "{\"a\":{\"a\":1,\"a\":2}}"] {
            let event = one(&format!(r#"{{"type":"t","data": {data} }}"#)).unwrap();
            assert_eq!(event.body, data.as_bytes(), "{data}");
        }
    }

    #[test]
    fn every_field_reaches_the_event() {
        let event = one(
            r#"{"type":"transaction.sale.success","tenant":"m1","id":"T-1","time":"2026-01-02T03:04:05Z","key":"K",
            "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","deliver_at":"2026-01-03T00:00:00Z",
            "expires_at":"2026-01-04T00:00:00Z","source":"till","data_base64":"AAEC","content_type":"application/x-binary"}"#,
        )
        .unwrap();
        assert_eq!(event.tenant.as_str(), "m1");
        assert_eq!(event.producer_id.unwrap().as_str(), "T-1");
        assert_eq!(event.occurred.unwrap().to_string(), "2026-01-02T03:04:05.000Z");
        assert_eq!(event.key.unwrap().as_str(), "K");
        assert!(event.traceparent.is_some() && event.deliver_at.is_some() && event.expires_at.is_some());
        assert_eq!(event.source.unwrap(), "till");
        assert_eq!(
            (event.body.as_ref(), event.content_type.as_deref()),
            (&[0, 1, 2][..], Some("application/x-binary"))
        );
    }

    #[test]
    fn a_cloud_event_is_taken_as_it_is() {
        let event = one(
            r#"{"specversion":"1.0","id":"A 1","source":"/till/7","type":"sale","tenant":"m1","subject":"x","myext":5,
            "datacontenttype":"application/json","data":{"a": 1}}"#,
        )
        .unwrap();
        let cloud = event.cloud.unwrap();
        assert_eq!((cloud.id.as_str(), cloud.source.as_str()), ("A 1", "/till/7"));
        assert_eq!(cloud.others, [("subject".into(), "\"x\"".into()), ("myext".into(), "5".into())]);
        assert_eq!(event.body, r#"{"a": 1}"#.as_bytes());
        assert_eq!(event.tenant.as_str(), "m1");
        let plain =
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":"a\nb"}"#;
        assert_eq!(one(plain).unwrap().body, "a\nb".as_bytes());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let extension = |bytes: usize| {
            let text = "x".repeat(bytes - 2);
            format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"{text}"}}"#)
        };
        assert!(one(&extension(TEXT_MAX)).is_ok());
        let table = [
            ("", Code::BadJson, "EOF"),
            ("{", Code::BadJson, "EOF"),
            ("7", Code::BadJson, "JSON object"),
            ("{} x", Code::BadJson, "trailing"),
            ("\"x\"", Code::BadJson, "JSON object"),
            (r#"{"type":"t","data":{]}}"#, Code::BadJson, "line 1"),
            (r#"{"type":"t","type":"u","data":1}"#, Code::BadJson, "twice"),
            (r#"{"data":1}"#, Code::BadField, "type: is required"),
            (r#"{"type":"t"}"#, Code::BadField, "data: is required"),
            (r#"{"type":7,"data":1}"#, Code::BadField, "type: is not a string"),
            (r#"{"type":"a b","data":1}"#, Code::BadField, "type:"),
            (r#"{"type":"t","data":1,"idd":"x"}"#, Code::UnknownField, "idd: is not a field"),
            (r#"{"type":"t","data":1,"id":""}"#, Code::BadField, "id:"),
            (r#"{"type":"t","data":1,"tenant":"a/b"}"#, Code::BadField, "tenant:"),
            (r#"{"type":"t","data":1,"time":"now"}"#, Code::BadField, "time:"),
            (r#"{"type":"t","data":1,"traceparent":"x"}"#, Code::BadField, "traceparent:"),
            (r#"{"type":"t","data":1,"data_base64":"AA=="}"#, Code::BadField, "exclude"),
            (r#"{"type":"t","data_base64":"*"}"#, Code::BadField, "base64"),
            (r#"{"type":"t","data":1,"content_type":"text/plain"}"#, Code::BadField, "goes with data_base64"),
            (
                r#"{"type":"t","data":1,"deliver_at":"2026-01-02T00:00:00Z","expires_at":"2026-01-01T00:00:00Z"}"#,
                Code::BadField,
                "expires_at",
            ),
            (r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#, Code::BadField, "specversion"),
            (r#"{"specversion":"1.0","source":"s","type":"t"}"#, Code::BadField, "id:"),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","x":{}}"#,
                Code::UnknownField,
                "x: is not an attribute",
            ),
            (&extension(TEXT_MAX + 1), Code::BadField, "subject: must have at most 1024 bytes"),
            (r#"{"op":"pong"}"#, Code::BadField, "ping"),
            ("[]", Code::BadField, "at least one"),
        ];
        for (text, code, part) in table {
            let outcome = match parse(text.as_bytes(), &TenantId::default_tenant()) {
                Err(rejection) => rejection,
                Ok(Submission::One(Err(rejection))) => rejection,
                Ok(other) => panic!("{text}: {other:?}"),
            };
            let message = outcome.message();
            assert_eq!(outcome.code, code, "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_batch_has_a_result_for_each_of_its_events() {
        let text = br#" [{"type":"a","data":1},{"type":"b"},7]"#;
        let Submission::Batch(items) = parse(text, &TenantId::default_tenant()).unwrap() else { panic!() };
        let codes: Vec<_> = items.iter().map(|item| item.as_ref().err().map(|rejection| rejection.code)).collect();
        assert_eq!(codes, [None, Some(Code::BadField), Some(Code::BadJson)]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, &TenantId::default_tenant());
        }

        #[test]
        fn any_json_survives_as_it_was_written(data in json(), spaces in "[ \t]{0,3}") {
            let text = format!("{{{spaces}\"type\":\"t\",\"data\":{spaces}{data}{spaces}}}");
            proptest::prop_assert_eq!(one(&text).unwrap().body, data.as_bytes());
        }
    }

    fn json() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|it| it.to_string()),
            any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(|it| format!("{it:e}")),
            any::<String>().prop_map(|it| serde_json::to_string(&it).unwrap()),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
                proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(|fields| {
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(name, value)| format!("{} :{value}", serde_json::to_string(name).unwrap()))
                        .collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        })
    }
}
