//! JSON that others wrote: read as far as it is legal, also where a Rust value cannot hold it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The text of a JSON string, which comes with its quotation marks; `None` for anything else.
///
/// It is bytes, since JSON may escape half of a surrogate pair (RFC 8259, section 8.2), which is no character: its three bytes are no
/// UTF-8. A reader that asks for a `String` fails there, and with it the reading of everything around.
pub fn text(json: &[u8]) -> Option<Cow<'_, [u8]>> {
    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Cow<'de, [u8]>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(bytes))
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(Cow::Owned(bytes.to_vec()))
        }
    }

    // A list of numbers is bytes as well.
    if json.first() != Some(&b'"') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let text = reader.deserialize_bytes(Bytes).ok()?;
    reader.end().ok().map(|()| text)
}

/// Levels of lists and objects that are taken apart around what no value holds.
const LEVELS_MAX: usize = 8;

/// JSON as a value. What a value cannot hold (a number beyond the doubles, more than a hundred levels, half of a surrogate pair)
/// stands in it as a text: a text as far as it is one, anything else as it was written.
///
/// # Errors
///
/// It is not JSON.
pub fn value(json: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(json).or_else(|_| serde_json::from_slice(json).map(|json| part(json, LEVELS_MAX)))
}

fn part(json: &RawValue, levels: usize) -> Value {
    let json = json.get();
    let first = json.as_bytes().first();
    let whole = serde_json::from_str(json).ok();
    let taken_apart = || match first {
        Some(b'{') if levels > 0 => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            Some(members.into_iter().map(|(name, member)| (name, part(member, levels - 1))).collect())
        }
        Some(b'[') if levels > 0 => {
            let members: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            Some(members.into_iter().map(|member| part(member, levels - 1)).collect())
        }
        _ => text(json.as_bytes()).map(|text| String::from_utf8_lossy(&text).into()),
    };
    whole.or_else(taken_apart).unwrap_or_else(|| json.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_read_also_where_no_string_holds_it() {
        let table: [(&str, Option<&[u8]>); 8] = [
            (r#""a""#, Some(b"a")),
            (r#""\u00e9\n\"\ud83d\ude00""#, Some("é\n\"😀".as_bytes())),
            (r#""a\ud800b""#, Some(b"a\xed\xa0\x80b")),
            (r#""\udc00\ud800""#, Some(b"\xed\xb0\x80\xed\xa0\x80")),
            (r#""a"#, None),
            (r#""a"b"#, None),
            ("[97]", None),
            ("7", None),
        ];
        for (json, text) in table {
            assert_eq!(super::text(json.as_bytes()).as_deref(), text, "{json}");
        }
    }

    #[test]
    fn a_value_holds_all_that_is_legal() {
        let deep = ["[".repeat(200), "]".repeat(200)].concat();
        let table = [
            (r#"{"a": [1, "b"], "c": null}"#.to_owned(), json!({"a": [1, "b"], "c": null})),
            (
                r#"{"id": "i", "data": {"x": 1e999, "y": 1}}"#.to_owned(),
                json!({"id": "i", "data": {"x": "1e999", "y": 1}}),
            ),
            (r#"[{"data": "\ud800"}, 7]"#.to_owned(), json!([{"data": "\u{fffd}\u{fffd}\u{fffd}"}, 7])),
            (r#"{"data": {"\ud800": 1}}"#.to_owned(), json!({"data": r#"{"\ud800": 1}"#})),
            (deep.clone(), json!([[[[[[[[&deep[8..deep.len() - 8]]]]]]]]])),
        ];
        for (json, expected) in table {
            assert_eq!(value(json.as_bytes()).unwrap(), expected, "{json}");
        }
        assert!(value(b"").is_err() && value(b"{} x").is_err() && value(b"[1e999").is_err());
    }
}
