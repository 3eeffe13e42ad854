//! JSON that others wrote: read as far as it is legal, also where a Rust value cannot hold it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};

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

#[cfg(test)]
mod tests {
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
}
