//! Bodies: how an event becomes the bytes that a receiver gets, in each of the formats.
//!
//! A format is a frame around the producer's data. The data is put into the frame byte for byte, as the producer wrote it,
//! and never read into values and written again (SX.1). A body is made for each attempt, before it is signed, since a
//! frame may tell of the attempt (SX.2).
//!
//! Data that is not JSON cannot stand in a frame of JSON. In its place stands an object that says so:
//! `{"content_type": …, "data_base64": …}`, by the names that a producer uses for it. CloudEvents has its own rule for
//! that (JSON format 1.0.2, 3.1.1), and `raw` needs none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::model::destination::Format;
use crate::model::event::EventHead;
use crate::model::{Event, Timestamp, json};

const JSON: &str = "application/json";
const CLOUD_JSON: &str = "application/cloudevents+json";

/// A body and what has to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered<'a> {
    /// The bytes that are signed and sent.
    pub body: Bytes,
    /// What they are.
    pub content_type: &'a str,
    /// Headers that belong to the format.
    pub headers: Vec<(String, String)>,
}

/// One attempt, as the format `notification` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Its number, from 1.
    #[serde(rename = "attempt")]
    pub number: u32,
    /// When it was made.
    #[serde(rename = "timestamp", serialize_with = "as_text")]
    pub at: Timestamp,
}

/// The body of an attempt. `data` is what the producer handed in, and `attempts` those of this delivery until now, the
/// present one included; only the format `notification` looks at them.
pub fn render<'a>(format: Format, event: &'a Event, data: &Bytes, attempts: &[Tried]) -> Rendered<'a> {
    let head = &event.head;
    let (kind, own_type) = (head.kind.as_str(), head.content_type.as_deref().unwrap_or(JSON));
    let framed = || Data::of(head, data);
    let own = |headers| Rendered { body: data.clone(), content_type: own_type, headers };
    let json = |body: Vec<u8>| Rendered { body: body.into(), content_type: JSON, headers: Vec::new() };
    match format {
        Format::Raw => own(Vec::new()),
        Format::Console => json(written(&Console {
            r#type: "event",
            event_triggered: head.occurred.to_civil_text(),
            event_type: kind,
            event_body: framed(),
            event_id: event.id().as_hex_64(),
        })),
        Format::Notification => json(written(&Notification {
            // Source 002 writes its ids in capitals.
            id: event.id().as_uuid().hyphenated().encode_upper(&mut uuid::Uuid::encode_buffer()),
            r#type: kind,
            timestamp: head.occurred,
            attempts,
            data: match framed() {
                Data::Nothing => Vec::new(),
                data @ (Data::Json(_) | Data::Bytes { .. }) => vec![data],
            },
        })),
        Format::Standard => json(written(&Standard { r#type: kind, timestamp: head.occurred, data: framed() })),
        Format::CloudEvents => Rendered {
            content_type: CLOUD_JSON,
            ..json(written(&CloudEvent { event, content_type: own_type, data: framed() }))
        },
        Format::CloudEventsBinary => own(ce_headers(event)),
    }
}

fn written(frame: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(frame).expect("a frame is text, numbers and JSON that was read before")
}

fn as_text<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

/// What the producer handed in, as it can stand in a frame.
#[derive(Debug, Clone, Copy)]
enum Data<'a> {
    /// A CloudEvent may carry none.
    Nothing,
    Json(&'a RawValue),
    Bytes {
        content_type: &'a str,
        bytes: &'a [u8],
    },
}

impl<'a> Data<'a> {
    fn of(head: &'a EventHead, bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            return Data::Nothing;
        }
        // Bytes that came in base64 may claim to be JSON without being it.
        let json = if head.carries_json() { serde_json::from_slice(bytes).ok() } else { None };
        let content_type = head.content_type.as_deref().unwrap_or(JSON);
        json.map_or(Data::Bytes { content_type, bytes }, Data::Json)
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Data::Nothing => serializer.serialize_unit(),
            Data::Json(raw) => raw.serialize(serializer),
            Data::Bytes { content_type, bytes } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("content_type", content_type)?;
                map.serialize_entry("data_base64", &BASE64.encode(bytes))?;
                map.end()
            }
        }
    }
}

/// Source 001, in the order of its example.
#[derive(Serialize)]
struct Console<'a> {
    r#type: &'static str,
    event_triggered: String,
    event_type: &'a str,
    event_body: Data<'a>,
    event_id: String,
}

/// Source 002 (NOTES 3.5).
#[derive(Serialize)]
struct Notification<'a> {
    id: &'a str,
    r#type: &'a str,
    #[serde(serialize_with = "as_text")]
    timestamp: Timestamp,
    attempts: &'a [Tried],
    data: Vec<Data<'a>>,
}

/// The body that Standard Webhooks recommends.
#[derive(Serialize)]
struct Standard<'a> {
    r#type: &'a str,
    #[serde(serialize_with = "as_text")]
    timestamp: Timestamp,
    data: Data<'a>,
}

/// CloudEvents 1.0 in JSON.
struct CloudEvent<'a> {
    event: &'a Event,
    content_type: &'a str,
    data: Data<'a>,
}

impl Serialize for CloudEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in Attributes::of(self.event).0 {
            match value {
                Attribute::Text(text) => map.serialize_entry(name, &text)?,
                Attribute::Json(raw) => map.serialize_entry(name, raw)?,
            }
        }
        match self.data {
            Data::Nothing => {}
            Data::Json(raw) => {
                map.serialize_entry("datacontenttype", self.content_type)?;
                map.serialize_entry("data", raw)?;
            }
            Data::Bytes { content_type, bytes } => {
                map.serialize_entry("datacontenttype", content_type)?;
                map.serialize_entry("data_base64", &BASE64.encode(bytes))?;
            }
        }
        map.end()
    }
}

/// The context attributes of a CloudEvent, but for its content type. One that came as a CloudEvent leaves as the same one.
struct Attributes<'a>(Vec<(&'a str, Attribute<'a>)>);

enum Attribute<'a> {
    Text(String),
    /// As the producer wrote it.
    Json(&'a RawValue),
}

impl<'a> Attributes<'a> {
    fn of(event: &'a Event) -> Self {
        let head = &event.head;
        let (id, source) = match (&head.cloud, &head.source) {
            (Some(cloud), _) => (cloud.id.clone(), cloud.source.clone()),
            // What a producer says of its provenance may be any text; an attribute is a URI reference.
            (None, Some(source)) => (event.id().to_string(), utf8_percent_encode(source, NOT_IN_URI).to_string()),
            (None, None) => (event.id().to_string(), format!("postrider/{}", head.tenant)),
        };
        let mut attributes: Vec<_> = [
            ("specversion", "1.0".to_owned()),
            ("id", id),
            ("source", source),
            ("type", head.kind.to_string()),
            ("time", head.occurred.to_string()),
        ]
        .into_iter()
        .map(|(name, text)| (name, Attribute::Text(text)))
        .collect();
        if let Some(key) = &head.key {
            attributes.push(("partitionkey", Attribute::Text(key.as_str().to_owned())));
        }
        if let Some(traceparent) = &head.traceparent {
            attributes.push(("traceparent", Attribute::Text(traceparent.clone())));
        }
        for (name, json) in head.cloud.iter().flat_map(|cloud| &cloud.others) {
            // An attribute that is null is one that is not there.
            if let Ok(raw) = serde_json::from_str::<&RawValue>(json)
                && raw.get() != "null"
            {
                attributes.push((name, Attribute::Json(raw)));
            }
        }
        Attributes(attributes)
    }
}

/// What RFC 3986 allows nowhere in a reference; a percent sign may be an escape already.
const NOT_IN_URI: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
/// What an attribute's value is escaped of in a header (CloudEvents HTTP binding 1.0.2, 3.1.3.2).
const NOT_IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The attributes as headers, for the binary mode. The content type has a header of its own.
fn ce_headers(event: &Event) -> Vec<(String, String)> {
    // A simple value of JSON as text: a string without its quotes and escapes, a number or a flag as it stands.
    let text = |raw: &RawValue| match json::text(raw.get().as_bytes()) {
        Some(text) => String::from_utf8_lossy(&text).into_owned(),
        None => raw.get().to_owned(),
    };
    let header = |(name, value)| {
        let value = match value {
            Attribute::Text(text) => text,
            Attribute::Json(raw) => text(raw),
        };
        (format!("ce-{name}"), utf8_percent_encode(&value, NOT_IN_HEADER).to_string())
    };
    Attributes::of(event).0.into_iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Body, CloudAttributes};
    use crate::model::{Epoch, Seq, TenantId};

    const THEN: Timestamp = Timestamp::from_millis(1_705_314_600_123);

    fn event() -> Event {
        let head = EventHead {
            epoch: Epoch(1),
            tenant: TenantId::default_tenant(),
            kind: "transaction.sale.success".parse().unwrap(),
            producer_id: Some("T-1".parse().unwrap()),
            occurred: THEN,
            accepted: THEN,
            due: THEN,
            key: None,
            traceparent: None,
            expires_at: None,
            source: None,
            peer: None,
            content_type: None,
            cloud: None,
            targets: vec![],
            skipped: vec![],
        };
        Event { seq: Seq(1), head, body: Body::Erased }
    }

    fn text(format: Format, event: &Event, data: &str) -> String {
        let rendered = render(format, event, &Bytes::copy_from_slice(data.as_bytes()), &[]);
        String::from_utf8(rendered.body.to_vec()).unwrap()
    }

    /// White space, number forms, escapes and names that stand twice: whoever reads and writes again changes one of them.
    const ODD: &str = r#"{"b" : 1.10,"a":[1e2, "\u00e4\/"],"b":null }"#;

    /// SX.1: in every format the producer's data stands as it was written.
    #[test]
    fn data_goes_into_each_frame_byte_for_byte() {
        for format in Format::ALL {
            for data in [ODD, "null", "0", "\"x\"", "[]"] {
                let body = text(format, &event(), data);
                assert!(body.contains(data), "{format:?} {data}: {body}");
                if format != Format::Raw && format != Format::CloudEventsBinary {
                    serde_json::from_str::<serde_json::Value>(&body).unwrap();
                }
            }
        }
    }

    /// S1.38, S1.39, S1.40, S1.41, S1.42, S1.43: source 001's envelope, in its order.
    #[test]
    fn console_is_the_envelope_of_source_001() {
        let id = event().id().as_hex_64();
        assert_eq!(id.len(), 64);
        assert_eq!(
            text(Format::Console, &event(), r#"{"merchant":{"merch_key":"k"}}"#),
            r#"{"type":"event","event_triggered":"2024-01-15 10:30:00","event_type":"transaction.sale.success","#
                .to_owned()
                + &format!(r#""event_body":{{"merchant":{{"merch_key":"k"}}}},"event_id":"{id}"}}"#)
        );
    }

    /// S2.56, S2.62, S2.64: source 002's wrapper; `attempts` holds what it is given, `id` is the event's, in every attempt.
    #[test]
    fn notification_tells_of_its_attempts() {
        let event = event();
        let (first, second) =
            (Tried { number: 1, at: THEN }, Tried { number: 2, at: THEN.after(std::time::Duration::from_secs(5)) });
        let id = event.id().as_uuid().to_string().to_uppercase();
        let body =
            render(Format::Notification, &event, &Bytes::from_static(b"{\"amount\":1.10}"), &[first, second]).body;
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            format!(r#"{{"id":"{id}","type":"transaction.sale.success","timestamp":"2024-01-15T10:30:00.123Z","#)
                + r#""attempts":[{"attempt":1,"timestamp":"2024-01-15T10:30:00.123Z"},"#
                + r#"{"attempt":2,"timestamp":"2024-01-15T10:30:05.123Z"}],"data":[{"amount":1.10}]}"#
        );
    }

    #[test]
    fn standard_is_type_timestamp_and_data() {
        assert_eq!(
            text(Format::Standard, &event(), "[1]"),
            r#"{"type":"transaction.sale.success","timestamp":"2024-01-15T10:30:00.123Z","data":[1]}"#
        );
    }

    #[test]
    fn an_event_of_our_own_leaves_as_a_cloud_event() {
        let mut event = event();
        let id = event.id();
        assert_eq!(
            text(Format::CloudEvents, &event, "[1]"),
            format!(r#"{{"specversion":"1.0","id":"{id}","source":"postrider/default","#)
                + r#""type":"transaction.sale.success","time":"2024-01-15T10:30:00.123Z","#
                + r#""datacontenttype":"application/json","data":[1]}"#
        );
        event.head.source = Some("till 7 <ä>".into());
        event.head.key = Some("order 1".parse().unwrap());
        let body: serde_json::Value = serde_json::from_str(&text(Format::CloudEvents, &event, "1")).unwrap();
        assert_eq!((&body["source"], &body["partitionkey"]), (&"till%207%20%3C%C3%A4%3E".into(), &"order 1".into()));
    }

    /// What came as a CloudEvent leaves with the same id, source and further attributes, in both modes.
    #[test]
    fn a_cloud_event_leaves_as_the_one_that_came() {
        let mut event = event();
        event.head.content_type = Some("application/vnd.shop+json".into());
        let others = [("subject", "\"ä 1%\""), ("priority", "3"), ("gone", "null"), ("dry", "true")];
        event.head.cloud = Some(CloudAttributes {
            id: "A-1".into(),
            source: "/shop".into(),
            others: others.map(|(name, json)| (name.to_owned(), json.to_owned())).to_vec(),
        });
        assert_eq!(
            text(Format::CloudEvents, &event, ODD),
            r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"transaction.sale.success","#.to_owned()
                + r#""time":"2024-01-15T10:30:00.123Z","subject":"ä 1%","priority":3,"dry":true,"#
                + &format!(r#""datacontenttype":"application/vnd.shop+json","data":{ODD}}}"#)
        );
        let binary = render(Format::CloudEventsBinary, &event, &Bytes::from_static(b"1"), &[]);
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", "A-1"),
            ("ce-source", "/shop"),
            ("ce-type", "transaction.sale.success"),
            ("ce-time", "2024-01-15T10:30:00.123Z"),
            ("ce-subject", "%C3%A4%201%25"),
            ("ce-priority", "3"),
            ("ce-dry", "true"),
        ];
        assert_eq!(binary.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((binary.content_type, &binary.body[..]), ("application/vnd.shop+json", &b"1"[..]));
        // Half of a surrogate pair is no character, which a header could hold.
        event.head.cloud.as_mut().unwrap().others = vec![("odd".to_owned(), r#""a\ud800 b""#.to_owned())];
        let binary = render(Format::CloudEventsBinary, &event, &Bytes::from_static(b"1"), &[]);
        assert_eq!(binary.headers.last().unwrap().1, ["a", &"%EF%BF%BD".repeat(3), "%20b"].concat());
    }

    #[test]
    fn what_is_not_json_stands_in_base64_and_says_so() {
        let mut event = event();
        let with = |event: &Event, data: &[u8]| {
            Format::ALL.map(|format| {
                let rendered = render(format, event, &Bytes::copy_from_slice(data), &[]);
                (String::from_utf8_lossy(&rendered.body).into_owned(), rendered.content_type.to_owned())
            })
        };
        event.head.content_type = Some("text/plain".into());
        let framed = r#"{"content_type":"text/plain","data_base64":"MQ=="}"#;
        let [raw, console, notification, standard, cloud, binary] = with(&event, b"1");
        assert_eq!((raw, binary), (("1".into(), "text/plain".into()), ("1".into(), "text/plain".into())));
        assert!(console.0.contains(&format!(r#""event_body":{framed},"#)), "{console:?}");
        assert!(notification.0.ends_with(&format!(r#""data":[{framed}]}}"#)), "{notification:?}");
        assert!(standard.0.ends_with(&format!(r#""data":{framed}}}"#)), "{standard:?}");
        assert!(cloud.0.ends_with(r#""datacontenttype":"text/plain","data_base64":"MQ=="}"#), "{cloud:?}");
        assert_eq!((console.1.as_str(), cloud.1.as_str()), (JSON, CLOUD_JSON));

        // What claims to be JSON and is not must not break the frame.
        event.head.content_type = Some("application/json".into());
        for (body, _) in &with(&event, b"{\"a\":")[1..5] {
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok() && body.contains("eyJhIjo="), "{body}");
        }
        // A CloudEvent without data.
        let [_, console, notification, standard, cloud, _] = with(&event, b"");
        assert!(console.0.contains(r#""event_body":null"#) && standard.0.ends_with(r#""data":null}"#));
        assert!(notification.0.ends_with(r#""data":[]}"#), "{notification:?}");
        assert!(!cloud.0.contains("data"), "{cloud:?}");
    }
}
