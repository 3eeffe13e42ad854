//! What people are shown of a payload: without card data, and without the fields that the operator has named by JSON pointers
//! (`events.mask`). What is delivered is another matter.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::card::{mask_card_data, masked_json, masked_text};
use super::json;

/// What stands in a JSON text in place of a masked value, but for its quotation marks.
const MASK: &str = "***";

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

    /// A payload, masked. One without a content type is the producer's JSON; other bytes are masked as far as they read as JSON.
    pub fn show(&self, payload: &[u8], content_type: Option<&str>) -> Masked {
        let masked = self.masked(payload, Start::Whole);
        match (content_type, std::str::from_utf8(&masked)) {
            (None, Ok(text)) => Masked::Json(masked_json(text)),
            (Some(_), _) | (None, Err(_)) => Masked::Other(without_cards(masked.into_owned())),
        }
    }

    /// The kept part of a receiver's reply, masked. A reply may echo what was sent, alone or inside something of its own: in JSON
    /// that stands anywhere in it, also cut off and in a text of JSON, a pointer leads to what it names from every place.
    pub fn show_reply(&self, reply: &[u8]) -> String {
        let text = String::from_utf8_lossy(reply);
        // The other way round a number without quotation marks would be no value any more.
        masked_text(&String::from_utf8_lossy(&self.masked(text.as_bytes(), Start::AnyPlace)))
    }

    /// The text with every value masked that a pointer leads to.
    ///
    /// It is read as it stands and never into values: whatever no value can hold (half of a surrogate pair in a name, a number of any
    /// width, any depth, names that stand twice) would else be a way around the mask. What ends too early, or is not quite JSON, is
    /// read as far as it can be.
    fn masked<'t>(&self, text: &'t [u8], start: Start) -> Cow<'t, [u8]> {
        let mut marks = Marks { mask: self, start, text, shown: Vec::new(), copied: 0 };
        if !self.0.is_empty() {
            marks.read(0..text.len(), 0);
        }
        match marks.copied {
            0 => Cow::Borrowed(text),
            copied => Cow::Owned([&marks.shown, &text[copied..]].concat()),
        }
    }

    /// Whether a pointer leads to a path's end.
    fn leads_to(&self, path: &[Step<'_>], start: Start) -> bool {
        self.0.iter().any(|pointer| {
            let from = path.len().checked_sub(pointer.tokens.len());
            let from = from.filter(|from| *from == 0 || start == Start::AnyPlace);
            from.is_some_and(|from| path[from..].iter().zip(&pointer.tokens).all(|(step, token)| step.is(token)))
        })
    }
}

/// Where a pointer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the whole text.
    Whole,
    /// At every place of the text, also at those in a text of JSON within it.
    AnyPlace,
}

/// Texts of JSON within one another that are read; one in the last of them goes as a whole.
const TEXTS_DEEP_MAX: usize = 8;

/// A text, and what of it was masked so far.
struct Marks<'m, 't> {
    mask: &'m PayloadMask,
    start: Start,
    text: &'t [u8],
    /// The text as far as it is copied, with masks.
    shown: Vec<u8>,
    copied: usize,
}

impl Marks<'_, '_> {
    /// Masks in a part of the text that is a whole of its own, so many texts deep in the others.
    fn read(&mut self, part: Range<usize>, deep: usize) {
        // Below the longest pointer there is nothing to be found from the whole text.
        let steps_max = match self.start {
            Start::Whole => self.mask.0.iter().map(|pointer| pointer.tokens.len()).max().unwrap_or(0),
            Start::AnyPlace => usize::MAX,
        };
        let text = &self.text[..part.end];
        let mut place = part.start;
        // Where in each object and list that is open the reading stands.
        let mut path: Vec<Step<'_>> = Vec::new();
        // Whether a value may begin here, and the backslashes of the last quotation marks that stood outside of a text.
        let (mut is_fresh, mut backslashes) = (false, 0);
        while let Some(byte) = text.get(place) {
            let rest = &text[place..];
            // What stands around JSON may hold any mark.
            let quote = if path.is_empty() { None } else { Quote::at(rest) };
            match (byte, quote) {
                (b'}' | b']', _) => {
                    path.pop();
                    (is_fresh, place) = (false, place + 1);
                }
                (b',', _) => {
                    match path.last_mut() {
                        Some(Step::Member(index)) => *index += 1,
                        Some(step) => *step = Step::BeforeName,
                        None => {}
                    }
                    (is_fresh, place) = (true, place + 1);
                }
                // Ruby writes `=>`.
                (b':' | b'=' | b'>', _) => (is_fresh, place) = (true, place + 1),
                (byte, _) if byte.is_ascii_whitespace() => place += 1,
                // The end of a line in a text of JSON.
                (b'\\', None) if !path.is_empty() => {
                    let length = backslashes_at(rest);
                    place += length + usize::from(matches!(rest.get(length), Some(b'n' | b'r' | b't')));
                }
                (byte, quote) if path.last() == Some(&Step::BeforeName) && (quote.is_some() || is_of_name(byte)) => {
                    let (name, length) = match &quote {
                        Some(quote) => quote.text(rest),
                        None => (Cow::Borrowed(bare_name(rest)), bare_name(rest).len()),
                    };
                    backslashes = quote.map_or(0, |quote| quote.backslashes);
                    path.pop();
                    path.push(Step::Name(name));
                    (is_fresh, place) = (true, place + length);
                }
                (_, quote) if is_fresh && self.mask.leads_to(&path, self.start) => {
                    let end = place + value_end(rest);
                    self.put_mask(place..end, quote.map_or(backslashes, |quote| quote.backslashes));
                    (is_fresh, place) = (false, end);
                }
                (b'{' | b'[', _) if path.len() == steps_max => (is_fresh, place) = (false, place + value_end(rest)),
                (b'{' | b'[', _) => {
                    path.push(if *byte == b'{' { Step::BeforeName } else { Step::Member(0) });
                    (is_fresh, place) = (true, place + 1);
                }
                (_, Some(quote)) if is_fresh => {
                    let (inner, length) = quote.string(rest);
                    if self.start == Start::AnyPlace && rest[inner.clone()].iter().any(|byte| b"{[".contains(byte)) {
                        match deep < TEXTS_DEEP_MAX {
                            true => self.read(place + inner.start..place + inner.end, deep + 1),
                            false => self.put_mask(place..place + length, quote.backslashes),
                        }
                    }
                    (is_fresh, place) = (false, place + length);
                }
                // Marks within a value that stands without its own.
                (_, quote) => (is_fresh, place) = (false, place + 1 + quote.map_or(0, |quote| quote.backslashes)),
            }
        }
    }

    fn put_mask(&mut self, value: Range<usize>, backslashes: usize) {
        let quote = ["\\".repeat(backslashes), "\"".to_owned()].concat();
        self.shown.extend_from_slice(&self.text[self.copied..value.start]);
        self.shown.extend_from_slice([quote.as_str(), MASK, &quote].concat().as_bytes());
        self.copied = value.end;
    }
}

/// A quotation mark that begins a text: `"`, or `'` as programs print it, and before it the backslashes of the texts of JSON that it
/// stands in.
#[derive(Debug, Clone, Copy)]
struct Quote {
    mark: u8,
    backslashes: usize,
}

impl Quote {
    fn at(text: &[u8]) -> Option<Self> {
        let backslashes = backslashes_at(text);
        let mark = text.get(backslashes).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        mark.map(|mark| Quote { mark, backslashes })
    }

    /// Where the string that begins here has its inside, and how many bytes it is with its quotation marks.
    fn string(self, text: &[u8]) -> (Range<usize>, usize) {
        let (start, mut backslashes) = (self.backslashes + 1, 0);
        for (place, byte) in text.iter().enumerate().skip(start) {
            match *byte {
                b'\\' => backslashes += 1,
                // In a text of JSON each backslash is two, and one more stands before a mark.
                mark if mark == self.mark && backslashes % (2 * start) == self.backslashes => {
                    return (start..place - self.backslashes, place + 1);
                }
                _ => backslashes = 0,
            }
        }
        (start..text.len(), text.len())
    }

    /// The string that begins here without its quotation marks and escapes, and how many bytes it is with them.
    fn text(self, text: &[u8]) -> (Cow<'_, [u8]>, usize) {
        let (inner, length) = self.string(text);
        let inner = &text[inner];
        if !inner.contains(&b'\\') {
            return (Cow::Borrowed(inner), length);
        }
        let mut plain = inner.to_vec();
        // As often as it was put into a text, which makes one backslash of none, three of one; what is no JSON stays as it is.
        for _ in 0..=self.backslashes.count_ones() {
            let Some(text) = json::text(&[b"\"", plain.as_slice(), b"\""].concat()).map(Cow::into_owned) else { break };
            plain = text;
        }
        (Cow::Owned(plain), length)
    }
}

fn backslashes_at(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b'\\').count()
}

fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-$@".contains(byte) || !byte.is_ascii()
}

/// The name that begins here without quotation marks, as scripts write it.
fn bare_name(text: &[u8]) -> &[u8] {
    &text[..text.iter().take_while(|byte| is_of_name(byte)).count()]
}

/// The bytes of the value that begins here: up to what ends its member.
fn value_end(text: &[u8]) -> usize {
    let (mut place, mut depth) = (0, 0usize);
    while let Some(byte) = text.get(place) {
        if let Some(quote) = Quote::at(&text[place..]) {
            place += quote.string(&text[place..]).1;
            continue;
        }
        match byte {
            b'\\' => place += backslashes_at(&text[place..]) - 1,
            b',' | b'}' | b']' if depth == 0 => break,
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        place += 1;
    }
    text[..place].trim_ascii_end().len()
}

/// Where the reading of a JSON text stands within one object or list.
#[derive(Debug, PartialEq, Eq)]
enum Step<'t> {
    /// In an object, before a member's name.
    BeforeName,
    /// In the value of the member of this name.
    Name(Cow<'t, [u8]>),
    /// In the member of a list, counted from 0.
    Member(usize),
}

impl Step<'_> {
    fn is(&self, token: &str) -> bool {
        match self {
            Step::BeforeName => false,
            Step::Name(name) => **name == *token.as_bytes(),
            Step::Member(index) => token == "*" || token == index.to_string(),
        }
    }
}

fn without_cards(mut bytes: Vec<u8>) -> Vec<u8> {
    mask_card_data(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

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

    /// P16: what a value of ours cannot hold is no way around the mask: half of a surrogate pair, a wide number, a name that stands
    /// twice, any depth, the mark that some programs put before a text, bytes that are no UTF-8.
    #[test]
    fn whatever_stands_beside_it_a_named_value_is_masked() {
        let deep = ["[".repeat(3000), "]".repeat(3000)].concat();
        let beside = [r#""\ud800":1"#, r#""a":"\udfff""#, r#""n":1e999"#, r#""card":1"#, &format!(r#""deep":{deep}"#)];
        for odd in beside {
            for text in [
                format!(r#"{{{odd},"card":{{"holder":"ANNA B"}}}}"#),
                format!(r#"{{"card":{{"holder":"ANNA B",{odd}}},{odd}}}"#),
                format!(r#"{{"card":{{"h\u006flder":{{{odd},"x":"ANNA B"}}}},{odd}}}"#),
            ] {
                let mask = mask(&["/card/holder", "/card/x/1"]);
                let Masked::Json(shown) = mask.show(text.as_bytes(), None) else { panic!("no JSON: {text}") };
                assert!(!shown.contains("ANNA") && shown.contains(r#"lder":"***""#), "{shown}");
                assert!(serde_json::from_str::<&RawValue>(&shown).is_ok(), "{shown}");
                assert!(!mask.show_reply(text.as_bytes()).contains("ANNA"), "{text}");
                let marked = ["\u{feff}", &text].concat().into_bytes();
                for bytes in [text.clone().into_bytes(), marked, [text.as_bytes(), b"\xff"].concat()] {
                    let Masked::Other(shown) = mask.show(&bytes, Some("application/json")) else { panic!("JSON") };
                    assert!(!String::from_utf8_lossy(&shown).contains("ANNA"), "{text}");
                    assert!(!mask.show_reply(&bytes).contains("ANNA"), "{text}");
                }
            }
        }
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
            (r#"}}]{"customer":{"email":"anna"}}"#, r#"}}]{"customer":{"email":"***"}}"#),
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

    /// P16: programs print what they were sent in ways of their own.
    #[test]
    fn an_echo_is_masked_as_programs_print_it() {
        let table = [
            // Behind words, and after a mark of the text's encoding.
            (r#"got: {"customer":{"email":"anna"}}."#, r#"got: {"customer":{"email":"***"}}."#),
            (r#"it's 5" {"customer":{"email":"anna"}}"#, r#"it's 5" {"customer":{"email":"***"}}"#),
            ("\u{feff}{\"customer\":{\"email\":\"anna\"}}", "\u{feff}{\"customer\":{\"email\":\"***\"}}"),
            // Python, Ruby, JavaScript.
            (r#"{'customer': {'email': u'anna', 'n': None}}"#, r#"{'customer': {'email': "***", 'n': None}}"#),
            (r#"{'customer': {'email': "an'na", 'n': 1}}"#, r#"{'customer': {'email': "***", 'n': 1}}"#),
            (r#"{'customer': {'email': date(2026, 1, 2)}}"#, r#"{'customer': {'email': "***"}}"#),
            (r#"b'{\n "customer": {\n  "email": "anna"\n }\n}'"#, r#"b'{\n "customer": {\n  "email": "***" }\n}'"#),
            (r#"{:customer=>{"email"=>"anna", :b=>1}}"#, r#"{:customer=>{"email"=>"***", :b=>1}}"#),
            ("{ customer: { email: 'anna', b: 1 } }", "{ customer: { email: \"***\", b: 1 } }"),
            // A text of JSON, and one within that.
            (
                r#"{"data":"{\"customer\":{\"email\":\"anna\",\"b\":1}}","c":2}"#,
                r#"{"data":"{\"customer\":{\"email\":\"***\",\"b\":1}}","c":2}"#,
            ),
            (
                r#"{"data":"{\n \"customer\": {\n \"email\": 7\n}}"}"#,
                r#"{"data":"{\n \"customer\": {\n \"email\": \"***\"}}"}"#,
            ),
            (
                r#"["{\"d\":\"{\\\"customer\\\":{\\\"em\\\\u0061il\\\":\\\"an\\\\\\\"na\\\"}}\"}"]"#,
                r#"["{\"d\":\"{\\\"customer\\\":{\\\"em\\\\u0061il\\\":\\\"***\\\"}}\"}"]"#,
            ),
            (r#"{"data":"{\"customer\":{\"email\":\"an"#, r#"{"data":"{\"customer\":{\"email\":\"***\""#),
            (r#"bad body "{\"customer\":{\"email\":true}}""#, r#"bad body "{\"customer\":{\"email\":\"***\"}}""#),
            // A number of a card, which is masked already where the reply is kept.
            (r#"{"customer":{"email":4111111111111111}}"#, r#"{"customer":{"email":"***"}}"#),
            (r#"{"customer":{"email":************1111}}"#, r#"{"customer":{"email":"***"}}"#),
        ];
        for (reply, shown) in table {
            assert_eq!(mask(&["/customer/email"]).show_reply(reply.as_bytes()), shown, "{reply}");
        }
    }

    /// Texts within one another, as deep as they go, and marks in long rows: what is hidden stays so, and the reading ends soon.
    #[test]
    fn no_reply_is_too_deep_to_be_masked() {
        let mut text = r#"{"a":"QQQQ"}"#.to_owned();
        for _ in 0..12 {
            assert!(!mask(&["/a"]).show_reply(text.as_bytes()).contains('Q'), "{text}");
            text = serde_json::to_string(&[&text]).unwrap();
        }
        let mut texts = "{".to_owned();
        (0..300).for_each(|deep| texts.push_str(&format!("'[{}\"[", "\\".repeat(deep))));
        let row = "\\".repeat(1 << 20);
        let rows = [format!("{{\"a\":{row}"), format!("[1{row}\""), format!("{{{row}'"), format!("[{row}\"")];
        for text in rows.into_iter().chain([texts, "[".repeat(1 << 20), "[\\".repeat(1 << 19)]) {
            mask(&["/a"]).show_reply(text.as_bytes());
            mask(&["/a"]).show(text.as_bytes(), Some("x/json"));
        }
    }

    proptest! {
        /// P16: wherever a JSON echo is cut off, nothing of the value is shown; and no reply can upset the reader.
        #[test]
        fn no_part_of_a_masked_value_is_shown(
            cut in 0usize..90,
            deep in 0usize..40,
            noise in r#"[\[\]{}'":,=>() \\a0n\n]{0,60}|.{0,60}"#,
        ) {
            let text = format!("{}{}{}", "[".repeat(deep), r#"{"a":[1,{"customer":{"email":"QQQQ@QQQQ","x":1}}],"b":"c"}"#, "]".repeat(deep));
            let text = &text.as_bytes()[..text.len().min(cut + deep)];
            let shown = mask(&["/customer/email"]).show_reply(text);
            prop_assert!(!shown.contains('Q'), "{}", shown);
            let json_like = ["{", &noise].concat().into_bytes();
            mask(&["/a", "/0"]).show_reply(&json_like);
            let echo = serde_json::to_string(&String::from_utf8_lossy(text)).unwrap();
            let echo = &echo[..echo.len().min(cut + deep)];
            let shown = mask(&["/customer/email"]).show_reply(format!(r#"{{"data":{echo}"#).as_bytes());
            prop_assert!(!shown.contains('Q'), "{}", shown);
        }
    }
}
