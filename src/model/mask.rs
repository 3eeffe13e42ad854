//! What people are shown of a payload: without card data, and without the fields that the operator has named by JSON pointers
//! (`events.mask`). What is delivered is another matter.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::card::{mask_card_data, masked_json, masked_text, string_end, value_end};

/// What stands in a JSON text in place of a masked value.
const MASK: &str = "\"***\"";

/// A place in a payload: a JSON pointer (RFC 6901), where `*` also stands for every member of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskPointer {
    text: String,
    tokens: Vec<String>,
}

impl MaskPointer {
    /// It, as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Why a text is no pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a JSON pointer: it begins with /, and ~ stands in it as ~0, / within a name as ~1")]
pub struct BadPointer;

impl std::str::FromStr for MaskPointer {
    type Err = BadPointer;

    fn from_str(text: &str) -> Result<Self, BadPointer> {
        let tokens = text.strip_prefix('/').ok_or(BadPointer)?.split('/');
        let token = |token: &str| {
            let is_escaped = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            is_escaped.then(|| token.replace("~1", "/").replace("~0", "~")).ok_or(BadPointer)
        };
        Ok(MaskPointer { text: text.to_owned(), tokens: tokens.map(token).collect::<Result<_, _>>()? })
    }
}

/// How payloads are masked. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PayloadMask(Arc<[MaskPointer]>);

/// A payload as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masked {
    /// A JSON text: the producer's own, but for what is masked.
    Json(String),
    /// Anything else.
    Other(Vec<u8>),
}

impl PayloadMask {
    /// One that masks what stands at these places.
    pub fn new(pointers: Vec<MaskPointer>) -> Self {
        PayloadMask(pointers.into())
    }

    /// A payload, masked. One without a content type is the producer's JSON; other bytes are masked by pointers when they are JSON.
    pub fn show(&self, payload: &[u8], content_type: Option<&str>) -> Masked {
        let text = std::str::from_utf8(payload).ok();
        let masked = text.map(|text| self.at_pointers(text));
        match masked {
            Some(text) if content_type.is_none() => Masked::Json(masked_json(&text)),
            Some(text) => Masked::Other(without_cards(text.into_owned().into_bytes())),
            None => Masked::Other(without_cards(payload.to_vec())),
        }
    }

    /// The kept part of a receiver's reply, masked. A reply may echo what was sent, alone or inside something of its own: in one
    /// that is JSON, or the beginning of JSON, a pointer leads to what it names from every place. Any other is masked for cards only.
    pub fn show_reply(&self, reply: &[u8]) -> String {
        let text = masked_text(&String::from_utf8_lossy(reply));
        match self.0.is_empty() || !text.trim_start().starts_with(['{', '[']) {
            true => text,
            false => self.masked_everywhere(&text),
        }
    }

    /// The text with every value masked that a pointer leads to from any place above it. A text that ends too early, or is not
    /// quite JSON, is read as far as it can be.
    fn masked_everywhere(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let (mut shown, mut copied, mut place) = (String::with_capacity(text.len()), 0, 0);
        // Where in each object and list that is open the reading stands.
        let mut path: Vec<Step> = Vec::new();
        while let Some(byte) = bytes.get(place) {
            match byte {
                b'"' if matches!(path.last(), Some(Step::BeforeName)) => {
                    let end = (place + string_end(&bytes[place..])).min(text.len());
                    let name = &text[place..end];
                    let decoded = serde_json::from_str(name).unwrap_or_else(|_| name.trim_matches('"').to_owned());
                    path.pop();
                    path.push(Step::Name(decoded));
                    place = end;
                }
                b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z' if self.leads_to(&path) => {
                    let end = (place + value_end(&bytes[place..])).min(text.len());
                    shown.extend([&text[copied..place], MASK]);
                    (copied, place) = (end, end);
                }
                b'"' => place += string_end(&bytes[place..]),
                b'{' | b'[' => {
                    path.push(if *byte == b'{' { Step::BeforeName } else { Step::Member(0) });
                    place += 1;
                }
                b'}' | b']' => {
                    path.pop();
                    place += 1;
                }
                b',' => {
                    match path.last_mut() {
                        Some(Step::Member(index)) => *index += 1,
                        Some(step) => *step = Step::BeforeName,
                        None => {}
                    }
                    place += 1;
                }
                _ => place += 1,
            }
        }
        shown.push_str(&text[copied..]);
        shown
    }

    /// Whether a pointer leads to a path's end from one of its places.
    fn leads_to(&self, path: &[Step]) -> bool {
        self.0.iter().any(|pointer| {
            let from = path.len().checked_sub(pointer.tokens.len());
            from.is_some_and(|from| path[from..].iter().zip(&pointer.tokens).all(|(step, token)| step.is(token)))
        })
    }

    /// The text with what the pointers name masked; one that is no JSON as it is.
    fn at_pointers<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut places: Vec<Range<usize>> = Vec::new();
        if let (false, Ok(root)) = (self.0.is_empty(), serde_json::from_str::<&RawValue>(text)) {
            for pointer in self.0.iter() {
                find(root.get(), &pointer.tokens, &mut |value| {
                    // A value is a piece of the text: where it lies in memory says where in the text.
                    let start = value.as_ptr().addr() - text.as_ptr().addr();
                    places.push(start..start + value.len());
                });
            }
        }
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        // Of two that overlap one holds the other, and comes first.
        places.sort_by_key(|place| (place.start, usize::MAX - place.end));
        let (mut masked, mut end) = (String::with_capacity(text.len()), 0);
        for place in places.into_iter() {
            if place.start >= end {
                masked.push_str(&text[end..place.start]);
                masked.push_str(MASK);
                end = place.end;
            }
        }
        masked.push_str(&text[end..]);
        Cow::Owned(masked)
    }
}

/// Where the reading of a JSON text stands within one object or list.
enum Step {
    /// In an object, before a member's name.
    BeforeName,
    /// In the value of the member of this name.
    Name(String),
    /// In the member of a list, counted from 0.
    Member(usize),
}

impl Step {
    fn is(&self, token: &str) -> bool {
        match self {
            Step::BeforeName => false,
            Step::Name(name) => name == token,
            Step::Member(index) => token == "*" || token == index.to_string(),
        }
    }
}

fn without_cards(mut bytes: Vec<u8>) -> Vec<u8> {
    mask_card_data(&mut bytes);
    bytes
}

/// Tells of every value below `json` that the tokens lead to: of members with one name, of each.
fn find<'a>(json: &'a str, tokens: &[String], tell: &mut impl FnMut(&'a str)) {
    let Some((token, rest)) = tokens.split_first() else { return tell(json) };
    match json.as_bytes().first() {
        Some(b'{') => {
            let Ok(Members(members)) = serde_json::from_str(json) else { return };
            members.iter().filter(|(name, _)| name == token).for_each(|(_, value)| find(value.get(), rest, tell));
        }
        Some(b'[') => {
            let Ok(members) = serde_json::from_str::<Vec<&RawValue>>(json) else { return };
            let own = |place: usize| token == "*" || *token == place.to_string();
            let members = members.iter().enumerate().filter(|(place, _)| own(*place));
            members.for_each(|(_, value)| find(value.get(), rest, tell));
        }
        Some(_) | None => {}
    }
}

/// The members of an object in order, those of one name all of them.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(pointers: &[&str]) -> PayloadMask {
        PayloadMask::new(pointers.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn json(pointers: &[&str], text: &str) -> String {
        match mask(pointers).show(text.as_bytes(), None) {
            Masked::Json(text) => text,
            Masked::Other(_) => panic!("no JSON: {text}"),
        }
    }

    #[test]
    fn a_pointer_masks_the_value_it_names_and_nothing_else() {
        let table: [(&[&str], &str, &str); 14] = [
            (
                &["/card/holder"],
                r#"{"card": {"holder": "A B", "x": 1.10}}"#,
                r#"{"card": {"holder": "***", "x": 1.10}}"#,
            ),
            (&["/a"], r#"{"a":{"b":[1,2]},  "c":[ ]}"#, r#"{"a":"***",  "c":[ ]}"#),
            (&["/a"], r#"{"a":1,"a":null,"A":3}"#, r#"{"a":"***","a":"***","A":3}"#),
            (&["/a/b", "/a"], r#"{"a":{"b":1}}"#, r#"{"a":"***"}"#),
            (&["/a", "/a/b"], r#"{"a":{"b":1}}"#, r#"{"a":"***"}"#),
            (&["/l/1"], r#"{"l":[1, 2 ,3]}"#, r#"{"l":[1, "***" ,3]}"#),
            (&["/l/*/e"], r#"{"l":[{"e":1},{"f":2},{"e":3}]}"#, r#"{"l":[{"e":"***"},{"f":2},{"e":"***"}]}"#),
            (&["/*"], r#"{"*":1,"a":2}"#, r#"{"*":"***","a":2}"#),
            (&["/x~1y/~01"], r#"{"x/y":{"~1":1,"/":2}}"#, r#"{"x/y":{"~1":"***","/":2}}"#),
            (&["/é"], r#"{"\u00e9":1,"é":"ü"}"#, r#"{"\u00e9":"***","é":"***"}"#),
            (&["/"], r#"{"":1}"#, r#"{"":"***"}"#),
            (&["/a/b", "/0"], r#"{"a":"text"}"#, r#"{"a":"text"}"#),
            (&["/0/a"], r#"[{"a":true}]"#, r#"[{"a":"***"}]"#),
            (&["/a"], r#"  {"a":1,"cvv":123}"#, r#"  {"a":"***","cvv":"***"}"#),
        ];
        for (pointers, text, masked) in table {
            assert_eq!(json(pointers, text), masked);
        }
    }

    #[test]
    fn what_is_no_json_keeps_its_fields_and_loses_its_cards() {
        let mask = mask(&["/a"]);
        assert_eq!(mask.show(b"a=1&cvc=123", Some("text/plain")), Masked::Other(b"a=1&cvc=***".to_vec()));
        let json = br#"{"a":1}"#;
        assert_eq!(mask.show(json, Some("application/json")), Masked::Other(br#"{"a":"***"}"#.to_vec()));
        assert_eq!(mask.show(&[0xff, b'a'], None), Masked::Other(vec![0xff, b'a']));
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["", "a", "a/b", "#/a", "/a~", "/a~2", "$.a"] {
            assert_eq!(text.parse::<MaskPointer>(), Err(BadPointer), "{text}");
        }
        assert_eq!("/a~0~1/b".parse::<MaskPointer>().unwrap().tokens, ["a~/", "b"]);
    }

    proptest! {
        /// Whatever the payload is: JSON stays JSON, and no value is left where a pointer leads.
        #[test]
        fn masked_json_is_json_without_what_was_named(text in r#"[\[\]{}",:0-9a-b \\]{0,40}"#, secret in "[a-z]{12,20}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let payload = format!(r#"{{"{}":0,{quoted}:1,"hidden":{{"x":"{secret}"}},"l":["{secret}"]}}"#, "b");
            let shown = json(&["/hidden/x", "/l/*"], &payload);
            prop_assert!(serde_json::from_str::<&RawValue>(&shown).is_ok() && !shown.contains(&secret), "{shown}");
        }
    }

    /// P16: what an echo holds of a payload is masked wherever it lies in a reply, also where the kept part of it breaks off.
    #[test]
    fn an_echo_is_masked_as_the_payload_is() {
        let pointers = ["/customer/email", "/items/*/pin", "/x~1y"];
        let table = [
            (r#"{"customer":{"email":"anna@shop","name":"A"}}"#, r#"{"customer":{"email":"***","name":"A"}}"#),
            (
                r#"{"got": {"event_body": {"customer": {"email": "anna@shop"}}}, "ok": true}"#,
                r#"{"got": {"event_body": {"customer": {"email": "***"}}}, "ok": true}"#,
            ),
            (r#"[{"items":[{"pin":1},{"pin":[2,{}]},3]}]"#, r#"[{"items":[{"pin":"***"},{"pin":"***"},3]}]"#),
            (r#"{"x/y":null,"email":"b@shop","a":"},{"}"#, r#"{"x/y":"***","email":"b@shop","a":"},{"}"#),
            (r#"{"customer":{"\u0065mail":-1.5e3}}"#, r#"{"customer":{"\u0065mail":"***"}}"#),
            (r#"{"customer":{"a":{"b":1},"email":true}}"#, r#"{"customer":{"a":{"b":1},"email":"***"}}"#),
            // Cut off, or not quite JSON.
            (r#"{"customer":{"email":"anna@sh"#, r#"{"customer":{"email":"***"#),
            (r#"{"customer":{"email":{"now":"anna@sh"#, r#"{"customer":{"email":"***"#),
            (r#"{"customer":{"email":"anna\"#, r#"{"customer":{"email":"***"#),
            (r#"{"customer":{"email":"#, r#"{"customer":{"email":"#),
            (r#"{"customer":{"emai"#, r#"{"customer":{"emai"#),
            (r#"}}]{"customer":{"email":"anna"}}"#, r#"}}]{"customer":{"email":"anna"}}"#),
            // Of another kind.
            ("customer anna@shop, card 4111111111111111", "customer anna@shop, card ************1111"),
            ("", ""),
        ];
        for (reply, shown) in table {
            let ended = if shown.ends_with("\"***") { format!("{shown}\"") } else { shown.to_owned() };
            assert_eq!(mask(&pointers).show_reply(reply.as_bytes()), ended, "{reply}");
        }
        assert_eq!(
            PayloadMask::default().show_reply(b"{\"customer\":{\"email\":\"\xff\"}}"),
            "{\"customer\":{\"email\":\"\u{fffd}\"}}"
        );
    }

    proptest! {
        /// P16: wherever a JSON echo is cut off, nothing of the value is shown; and no reply can upset the reader.
        #[test]
        fn no_part_of_a_masked_value_is_shown(cut in 0usize..90, deep in 0usize..40, noise in any::<Vec<u8>>()) {
            let text = format!("{}{}{}", "[".repeat(deep), r#"{"a":[1,{"customer":{"email":"QQQQ@QQQQ","x":1}}],"b":"c"}"#, "]".repeat(deep));
            let text = &text.as_bytes()[..text.len().min(cut + deep)];
            let shown = mask(&["/customer/email"]).show_reply(text);
            prop_assert!(!shown.contains('Q'), "{}", shown);
            let json_like = [b"{".as_slice(), &noise].concat();
            mask(&["/a", "/0"]).show_reply(&json_like);
        }
    }
}
