//! Requests: what a handler is given, and how a body is read within its bounds.
//!
//! A body is read only when a handler asks for it, up to the limit that the handler names, within the server's
//! deadline. JSON is parsed strictly: a wrong type, an unknown field or a malformed text is answered with its place in
//! the body, and never with the value that stood there.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use http::{Method, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_path_to_error::{Path, Segment};
use tokio::time::Instant;

use super::problem::{FieldError, Problem, ProblemCode};
use crate::model::card::masked_text;
use crate::model::event;

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, as the kernel says.
    Unix(event::Peer),
    /// An address.
    Tcp(SocketAddr),
}

/// A request as a handler gets it.
#[derive(Debug)]
pub struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    peer: Peer,
    id: String,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Wire { slot: BodySlot, deadline: Instant },
    Whole(Bytes),
}

/// The body on its way, shared with the server so that it can read away what a handler left.
///
/// The lock is held for moving the body in or out only, never while it is read.
#[derive(Debug, Clone)]
pub(super) struct BodySlot(Arc<Mutex<Option<Unread>>>);

/// A body, or the rest of one, that nobody has read.
#[derive(Debug)]
pub(super) struct Unread {
    /// The rest.
    pub(super) incoming: Incoming,
    /// Whether reading has begun, so that a client that waits for `100 Continue` has been told to go on.
    pub(super) begun: bool,
}

impl BodySlot {
    pub(super) fn new(incoming: Incoming) -> Self {
        BodySlot(Arc::new(Mutex::new(Some(Unread { incoming, begun: false }))))
    }

    pub(super) fn take(&self) -> Option<Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, incoming: Incoming, begun: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Unread { incoming, begun });
    }
}

impl Request {
    /// A request that came over a connection, whose body must be there by `deadline`.
    pub(super) fn from_wire(
        head: http::request::Parts,
        body: BodySlot,
        deadline: Instant,
        peer: Peer,
        id: String,
    ) -> Self {
        let http::request::Parts { method, uri, headers, .. } = head;
        Request { method, uri, headers, peer, id, body: Body::Wire { slot: body, deadline } }
    }

    /// A request whose body is at hand, for callers without a connection.
    pub fn whole(request: http::Request<Bytes>, peer: Peer, id: impl Into<String>) -> Self {
        let (http::request::Parts { method, uri, headers, .. }, body) = request.into_parts();
        Request { method, uri, headers, peer, id: id.into(), body: Body::Whole(body) }
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its path, as it stands in the request line, without the query.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The header of this name as text: `None` when there is none, a 400 when it stands there twice or is not ASCII.
    pub fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Problem::new(ProblemCode::BadHeader, format!("{name} stands there more than once")));
        }
        let text = value.to_str().map_err(|_| Problem::new(ProblemCode::BadHeader, format!("{name} is not ASCII")))?;
        Ok(Some(text))
    }

    /// Who sent it.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Its id, made by the server: the same one stands in a problem and in the log.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its query, as it stands in the request line.
    pub fn query_text(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// Its query, decoded.
    pub fn query(&self) -> Result<Query, Problem> {
        Query::parse_text(self.uri.query().unwrap_or_default())
    }

    /// The whole body, of at most `limit` bytes; empty when it has been read before.
    ///
    /// A 413 when it is longer, a 408 when it is not there by the server's deadline, a 400 when it breaks off or is not
    /// framed as HTTP asks.
    pub async fn body(&mut self, limit: usize) -> Result<Bytes, Problem> {
        match &mut self.body {
            Body::Whole(bytes) if bytes.len() > limit => Err(too_large(limit)),
            Body::Whole(bytes) => Ok(std::mem::take(bytes)),
            Body::Wire { slot, deadline } => match slot.take() {
                None => Ok(Bytes::new()),
                Some(Unread { incoming, begun }) => read(incoming, begun, slot, *deadline, limit).await,
            },
        }
    }

    /// The body as JSON of this shape, where there is one. Problems as of [`Request::json`].
    pub async fn optional_json<T: DeserializeOwned>(&mut self, limit: usize) -> Result<Option<T>, Problem> {
        let encoded = self.is_plain();
        let content_type = self.header(CONTENT_TYPE.as_str())?;
        let is_other = content_type.is_some_and(|content_type| !is_json(content_type));
        let body = self.body(limit).await?;
        match body.is_empty() {
            true => Ok(None),
            false if is_other => Err(not_json()),
            false => encoded.and_then(|()| parse_json(&body)).map(Some),
        }
    }

    /// The body as [`Request::body`] reads it, which stays to be read again.
    pub async fn hold_body(&mut self, limit: usize) -> Result<Bytes, Problem> {
        let body = self.body(limit).await?;
        self.body = Body::Whole(body.clone());
        Ok(body)
    }

    /// A 415 when the content type is given and is neither JSON nor `application/x-www-form-urlencoded`, which `curl -d` says of
    /// whatever it sends.
    pub fn says_json_or_form(&self) -> Result<(), Problem> {
        self.is_plain()?;
        match self.header(CONTENT_TYPE.as_str())? {
            Some(content_type) if !is_json(content_type) && !is_form(content_type) => Err(not_json()),
            Some(_) | None => Ok(()),
        }
    }

    /// A 415 when the body says to be compressed: nothing here would unpack it, and what is packed is no JSON.
    fn is_plain(&self) -> Result<(), Problem> {
        match self.header(CONTENT_ENCODING.as_str())? {
            Some(encoding) if !encoding.trim().eq_ignore_ascii_case("identity") => {
                let detail = "send the body as it is, without Content-Encoding";
                Err(Problem::new(ProblemCode::UnsupportedMediaType, detail))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The body as JSON of this shape.
    ///
    /// Besides the problems of [`Request::body`]: a 415 when the content type is given and is not JSON, or the body is compressed, and
    /// those of [`parse_json`].
    pub async fn json<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, Problem> {
        self.is_plain()?;
        if let Some(content_type) = self.header(CONTENT_TYPE.as_str())?
            && !is_json(content_type)
        {
            return Err(not_json());
        }
        parse_json(&self.body(limit).await?)
    }
}

fn not_json() -> Problem {
    Problem::new(ProblemCode::UnsupportedMediaType, "send application/json")
}

async fn read(
    mut incoming: Incoming,
    begun: bool,
    slot: &BodySlot,
    deadline: Instant,
    limit: usize,
) -> Result<Bytes, Problem> {
    let announced = incoming.size_hint().lower();
    if announced > limit as u64 {
        slot.put_back(incoming, begun);
        return Err(too_large(limit));
    }
    // Copied out of the connection's buffers: a body that is kept must not keep them alive with it.
    let mut body = BytesMut::with_capacity(announced as usize);
    loop {
        let frame = match tokio::time::timeout_at(deadline, incoming.frame()).await {
            Err(_) => return Err(Problem::new(ProblemCode::RequestTimeout, "the body did not arrive in time")),
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(Err(_))) => {
                return Err(Problem::new(ProblemCode::BadBody, "the body broke off or is not framed as HTTP/1.1 asks"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers carry nothing that anybody here would read.
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > limit {
            slot.put_back(incoming, true);
            return Err(too_large(limit));
        }
        body.extend_from_slice(&data);
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ProblemCode::TooLarge, format!("a body here has at most {limit} bytes"))
}

/// Whether a content type is that of a form, whatever its charset.
fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether a content type says JSON: `application/json` or any `+json`, in UTF-8 if it names a charset.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = essence == "application/json"
        || essence.split_once('/').is_some_and(|(_, subtype)| subtype.len() > 5 && subtype.ends_with("+json"));
    let utf_8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    json && utf_8
}

/// `body` as JSON of this shape: `bad_json` when it is not JSON, `unknown_field` or `bad_field` with the JSON pointer of
/// the place when it is not of the shape.
///
/// Every body here is an object, see [`Object`].
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(Problem::new(ProblemCode::BadJson, "the body is empty"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer_of(error.path());
        shape_problem(pointer, error.inner())
    })?;
    reader.end().map_err(|error| shape_problem(String::new(), &error))?;
    Ok(value)
}

/// Fields that are written as a JSON object, and in no other way.
///
/// What serde derives for a struct would also take a list of its fields' values, in an order that no document tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

fn shape_problem(pointer: String, error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => Problem::new(ProblemCode::BadJson, text),
        Category::Data => {
            let text = text.strip_suffix(&place).unwrap_or(&text);
            // What serde's derive found is known by its words only. Of "invalid type: string "…", expected …" the first half
            // would repeat what was sent, which may be a secret: it is left out.
            let unknown = text.starts_with("unknown field");
            let twice = text.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`'));
            let mut pointer = pointer;
            let detail = match (twice, text.rsplit_once(", expected ")) {
                (Some(name), _) => {
                    push_segment(&mut pointer, name);
                    "stands there more than once".to_owned()
                }
                (None, Some((_, expected))) if !unknown => format!("is not {}", in_words_of_json(expected)),
                (None, _) => text.to_owned(),
            };
            let code = if unknown { ProblemCode::UnknownField } else { ProblemCode::BadField };
            // A name is repeated, so that it is found; whoever writes a card number for a name must not find that.
            let (pointer, detail) = (masked_text(&pointer), masked_text(&detail));
            Problem::of_fields(code, vec![FieldError { pointer, detail }])
        }
    }
}

/// What was expected, for those who write JSON and not Rust.
fn in_words_of_json(expected: &str) -> String {
    match expected {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number from 0 on".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        other => other.to_owned(),
    }
}

fn pointer_of(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => push_segment(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_segment(&mut pointer, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Adds one segment to a JSON pointer, escaped as RFC 6901 says.
pub fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
}

/// A query, decoded: each name at most once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`: `+` is a space, `%XX` a byte of UTF-8. A 400 for malformed escapes and for a name that stands there twice.
    pub fn parse_text(text: &str) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Problem::new(ProblemCode::BadQuery, "the query is not percent-encoded UTF-8"));
            };
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Problem::of_parameter(&masked_text(&name), "stands there more than once"));
            }
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    /// The value of `name`, if it stands there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` as a `T`; what it cannot read is a 400 in the words of its error.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|why| {
            // Most often the offset of a time, in a query that was written by hand.
            let meant_plus = text.contains(' ') && text.replace(' ', "+").parse::<T>().is_ok();
            match meant_plus {
                true => {
                    Problem::of_parameter(name, format_args!("{why}; a + stands for a space in a query: write %2B"))
                }
                false => Problem::of_parameter(name, why),
            }
        })
    }

    /// The names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A 400 that lists what exists, unless every name is one of `names`.
    ///
    /// A misspelt filter that went unnoticed would answer with more than was asked for.
    pub fn only(&self, names: &[&str]) -> Result<(), Problem> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !names.contains(&name.as_str())) else { return Ok(()) };
        let why = match names {
            [] => "is not known here, where there are no parameters".to_owned(),
            names => format!("is not known here; there are {}", names.join(", ")),
        };
        Err(Problem::of_parameter(&masked_text(name), why))
    }
}

fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let escapes_whole = (0..bytes.len())
        .filter(|&at| bytes[at] == b'%')
        .all(|at| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    let spaced = text.replace('+', " ");
    escapes_whole.then(|| percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn request(builder: http::request::Builder, body: &'static str) -> Request {
        let peer = Peer::Tcp(([127, 0, 0, 1], 9).into());
        Request::whole(builder.body(Bytes::from_static(body.as_bytes())).unwrap(), peer, "req_1")
    }

    #[test]
    fn a_query_is_decoded_and_each_name_stands_once() {
        let query =
            Query::parse_text("limit=5&type=transaction.%2a&from=2024-01-15T10%3A30%3A00%2B01%3A00&note=a+b&flag")
                .unwrap();
        assert_eq!(query.parse("limit"), Ok(Some(5u32)));
        assert_eq!(query.text("type"), Some("transaction.*"));
        assert_eq!(query.text("from"), Some("2024-01-15T10:30:00+01:00"));
        assert_eq!(query.text("note"), Some("a b"));
        assert_eq!(query.text("flag"), Some(""));
        assert_eq!(query.parse::<u32>("offset"), Ok(None));
        for wrong in ["a=1&a=2", "a=%", "a=%f", "a=%zz", "a=%ff"] {
            assert_eq!(Query::parse_text(wrong).unwrap_err().code(), ProblemCode::BadQuery, "{wrong}");
        }
        assert_eq!(query.parse::<u32>("type").unwrap_err().code(), ProblemCode::BadQuery);
        let unescaped = Query::parse_text("from=2024-01-15T10:30:00+01:00&type=a+b").unwrap();
        let hinted = |problem: Problem| problem.detail().ends_with("a + stands for a space in a query: write %2B");
        assert!(hinted(unescaped.parse::<crate::model::Timestamp>("from").unwrap_err()));
        assert!(!hinted(unescaped.parse::<crate::model::EventType>("type").unwrap_err()));
        assert!(query.only(&["limit", "type", "from", "note", "flag"]).is_ok());
        assert!(query.only(&["limit"]).unwrap_err().detail().contains("there are limit"));
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only its place matters")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its place matters")]
    struct Inner {
        #[serde(rename = "a/b~c")]
        odd: Option<u32>,
        secret: Option<String>,
    }

    /// SX.5: what was sent is not repeated, for it may be a secret.
    #[test]
    fn a_wrong_body_is_answered_with_its_place_and_without_its_value() {
        use ProblemCode::{BadField, BadJson, UnknownField};
        let table = [
            (
                r#"{"list": [{}, {"a/b~c": "hunter2"}]}"#,
                BadField,
                Some("/list/1/a~1b~0c"),
                "is not a whole number from 0 to 4294967295",
            ),
            (r#"{"list": [{"a/b~c": -1}]}"#, BadField, Some("/list/0/a~1b~0c"), "is not a whole number from 0"),
            (r#"{"list": [{"a/b~c": 1.5}]}"#, BadField, Some("/list/0/a~1b~0c"), "is not a whole number from 0"),
            (
                r#"{"list": [{"a/b~c": 1, "a/b~c": 2}]}"#,
                BadField,
                Some("/list/0/a~1b~0c"),
                "stands there more than once",
            ),
            (r#"{"list": [], "list": []}"#, BadField, Some("/list"), "stands there more than once"),
            (r#"{"list": [{"secret": {"k": "hunter2"}}]}"#, BadField, Some("/list/0/secret"), "is not a string"),
            (r#"{"list": [{"sekret": "hunter2"}]}"#, UnknownField, Some("/list/0/sekret"), "unknown field `sekret`"),
            (r#"{"4111111111111111": 1}"#, UnknownField, Some("/************1111"), "`************1111`"),
            (r#"{"list": "hunter2"}"#, BadField, Some("/list"), "is not a list"),
            (r#"{}"#, BadField, Some(""), "missing field `list`"),
            (r#"["hunter2"]"#, BadField, Some(""), "is not an object"),
            (r#"[[]]"#, BadField, Some(""), "is not an object"),
            (r#"{"list": []} hunter2"#, BadJson, None, "trailing characters"),
            (r#"{"list": [hunter2"#, BadJson, None, "expected value"),
            ("  ", BadJson, None, "the body is empty"),
        ];
        for (body, code, pointer, detail) in table {
            let problem = parse_json::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), code, "{body}");
            assert_eq!(problem.errors().first().map(|error| error.pointer.as_str()), pointer, "{body}");
            assert!(problem.detail().contains(detail), "{body}: {problem}");
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }

    #[tokio::test]
    async fn a_content_type_says_json_or_nothing() {
        let table = [
            (None, true),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=UTF-8"), true),
            (Some("application/cloudevents+json; charset=\"utf-8\""), true),
            (Some("application/json; charset=latin1"), false),
            (Some("text/plain"), false),
            (Some("application/+json"), false),
            (Some("application/x-www-form-urlencoded"), false),
        ];
        for (content_type, taken) in table {
            let builder = http::Request::post("/");
            let builder = match content_type {
                Some(content_type) => builder.header("content-type", content_type),
                None => builder,
            };
            let parsed = request(builder, "{}").json::<serde_json::Value>(10).await;
            match taken {
                true => assert!(parsed.is_ok(), "{content_type:?}"),
                false => assert_eq!(parsed.unwrap_err().code(), ProblemCode::UnsupportedMediaType, "{content_type:?}"),
            }
        }
    }

    /// "expected value at line 1 column 1" would be all that whoever compresses learns of it.
    #[tokio::test]
    async fn a_compressed_body_is_told_to_come_plain() {
        for (encoding, status) in [("gzip", 415), ("identity", 200), ("br, gzip", 415)] {
            let asked = || request(http::Request::post("/").header("content-encoding", encoding), "{}");
            let status_of =
                |read: Result<(), Problem>| read.map_or_else(|refused| refused.code().status().as_u16(), |()| 200);
            let value = |read: Result<serde_json::Value, Problem>| status_of(read.map(drop));
            assert_eq!(value(asked().json(10).await), status, "{encoding}");
            let optional = asked().optional_json::<serde_json::Value>(10).await;
            assert_eq!(status_of(optional.map(drop)), status, "{encoding}");
            assert_eq!(status_of(asked().says_json_or_form()), status, "{encoding}");
        }
        let mut empty = request(http::Request::post("/").header("content-encoding", "gzip"), "");
        assert_eq!(empty.optional_json::<serde_json::Value>(10).await, Ok(None));
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_once() {
        let mut fits = request(http::Request::post("/"), "12345");
        assert_eq!(fits.body(5).await.unwrap(), "12345");
        assert_eq!(fits.body(5).await.unwrap(), "");
        let over = request(http::Request::post("/"), "12345").body(4).await.unwrap_err();
        assert_eq!((over.code(), over.code().status().as_u16()), (ProblemCode::TooLarge, 413));
    }

    #[test]
    fn a_header_that_stands_twice_is_refused() {
        let twice = request(http::Request::get("/").header("x-tenant", "a").header("x-tenant", "b"), "");
        assert_eq!(twice.header("x-tenant").unwrap_err().code(), ProblemCode::BadHeader);
        assert_eq!(twice.header("x-other"), Ok(None));
    }
}
