//! Card data, and how it is masked wherever people read: in kept replies, in logs, in payloads that are shown.
//!
//! A card number is known by its digits, wherever it stands. What must not be kept after an authorisation at all (PCI DSS 3.3: the
//! code that verifies a card, the PIN, the track) cannot be told from other digits: it is known by its member's name, and the
//! track's data also by the card number that it begins with.

use serde_json::Value;

use super::json;

/// Digits of a card number (ISO/IEC 7812), and how many of the last ones stay, so that people can still tell cards apart.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
const CARD_DIGITS_SHOWN: usize = 4;

/// Names of members whose values are masked, in small letters and without `_`, `-` and spaces.
const MASKED_NAMES: [&str; 41] = [
    "cardcode",
    "cardcvc",
    "cardcvv",
    "cardcvv2",
    "cardpin",
    "cardsecuritycode",
    "cardverification",
    "cardverificationcode",
    "cardverificationdata",
    "cardverificationnumber",
    "cardverificationvalue",
    "cardverificationvalue2",
    "cav",
    "cav2",
    "cid",
    "csc",
    "cvc",
    "cvc2",
    "cvccode",
    "cvd",
    "cvn",
    "cvn2",
    "cvv",
    "cvv2",
    "cvvcode",
    "cvvnumber",
    "encryptedpin",
    "icvv",
    "magneticstripe",
    "magstripe",
    "pin",
    "pinblock",
    "securitycode",
    "track",
    "track1",
    "track1data",
    "track2",
    "track2data",
    "track3",
    "trackdata",
    "verificationvalue",
];
const MASKED_NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=32;
/// What stands in a JSON text in place of such a value.
const MASK: &str = "\"***\"";

fn is_masked_name(name: &[u8]) -> bool {
    if !MASKED_NAME_BYTES.contains(&name.len()) {
        return false;
    }
    let plain = name.iter().filter(|byte| !b"_- ".contains(byte)).map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    MASKED_NAMES.binary_search_by(|known| known.as_bytes().cmp(&plain)).is_ok()
}

/// Whether a text has as many digits as a card number. Few have, and only those need [`mask_cards`].
pub fn may_hold_card(text: &[u8]) -> bool {
    let least = *CARD_DIGITS.start();
    text.len() >= least && text.iter().filter(|byte| byte.is_ascii_digit()).count() >= least
}

/// Masks the digits of card numbers, all but the last four.
///
/// A card number is a run of 13 to 19 digits, in one piece or in groups with a single space or dash between them, that begins as the
/// card networks' do (2 to 6; a moment in milliseconds begins with 1) and whose check digit is right.
pub fn mask_cards(text: &mut [u8]) {
    let mut place = 0;
    while place < text.len() {
        if !text[place].is_ascii_digit() {
            place += 1;
            continue;
        }
        match card_at(&text[place..]) {
            Some((length, digits)) => {
                let card = text[place..place + length].iter_mut().filter(|byte| byte.is_ascii_digit());
                card.take(digits - CARD_DIGITS_SHOWN).for_each(|digit| *digit = b'*');
                place += length;
                place += mask_track(&mut text[place..]);
            }
            // The next group may begin one.
            None => place += text[place..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        }
    }
}

/// Masks what follows a card number on a magnetic stripe (ISO/IEC 7813), and says how many bytes that is: on track 2 `=` (or `D`) and
/// digits, on track 1 a name between two `^` and digits; both begin with the expiry and the service code.
fn mask_track(text: &mut [u8]) -> usize {
    const DIGITS_MIN: usize = 7;
    const NAME_BYTES_MAX: usize = 32;
    let start = match text.first() {
        Some(b'=' | b'D' | b'd') => 1,
        Some(b'^') => match text[1..].iter().take(NAME_BYTES_MAX).position(|byte| *byte == b'^') {
            Some(length) => length + 2,
            None => return 0,
        },
        Some(_) | None => return 0,
    };
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits < DIGITS_MIN {
        return 0;
    }
    text[start..start + digits].fill(b'*');
    start + digits
}

/// Masks card numbers, and the values of members whose names say that they are a card's secrets, in any text: JSON, whole or cut off,
/// a form, XML. Its length stays.
pub fn mask_card_data(text: &mut [u8]) {
    mask_named(text);
    mask_cards(text);
}

/// Masks the letters and digits of what follows a name as its value: after `:`, `=` or `>`, in quotation marks or, if it begins with
/// a digit, without.
fn mask_named(text: &mut [u8]) {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
    let mut place = 0;
    while place < text.len() {
        if !is_of_name(&text[place]) {
            // After a backslash stands an escape, such as the line's end: its letter is not the name's.
            place += if text[place] == b'\\' { 2 } else { 1 };
            continue;
        }
        let name = text[place..].iter().take_while(|byte| is_of_name(byte)).count();
        let end = place + name;
        place = match is_masked_name(&text[place..end]).then(|| value_behind(text, end)).flatten() {
            None => end,
            Some(value) => {
                let after = value.end;
                text[value].iter_mut().filter(|byte| byte.is_ascii_alphanumeric()).for_each(|byte| *byte = b'*');
                after
            }
        };
    }
}

/// Where the value is of the name that ends at `end`.
fn value_behind(text: &[u8], end: usize) -> Option<std::ops::Range<usize>> {
    // Quotation marks may be escaped, where JSON stands in a text of JSON.
    let quotes = |mut place: usize| {
        let mut quoted = false;
        loop {
            match (text.get(place), text.get(place + 1)) {
                (Some(b' ' | b'\t' | b'\r' | b'\n'), _) => {}
                (Some(b'"' | b'\''), _) => quoted = true,
                (Some(b'\\'), Some(b'"' | b'\\')) => {}
                _ => return (place, quoted),
            }
            place += 1;
        }
    };
    let (separator, _) = quotes(end);
    let separated = matches!(text.get(separator), Some(b':' | b'=' | b'>'));
    let (start, quoted) = quotes(separator + 1);
    let ends = |byte: &u8| match quoted {
        true => b"\"'\\".contains(byte),
        false => b"&<,;}]\"'\\".contains(byte) || byte.is_ascii_whitespace(),
    };
    let length = text.get(start..)?.iter().take_while(|byte| !ends(byte)).count();
    let is_value = separated && length > 0 && (quoted || text[start].is_ascii_digit());
    is_value.then(|| start..start + length)
}

/// The bytes and the digits of the longest card number that begins here and ends where a group of digits ends.
fn card_at(text: &[u8]) -> Option<(usize, usize)> {
    if !(b'2'..=b'6').contains(text.first()?) {
        return None;
    }
    let mut digits: Vec<u8> = Vec::with_capacity(*CARD_DIGITS.end());
    let mut found = None;
    for (place, &byte) in text.iter().enumerate() {
        let next_is_digit = text.get(place + 1).is_some_and(u8::is_ascii_digit);
        match byte {
            b'0'..=b'9' if digits.len() < *CARD_DIGITS.end() => digits.push(byte - b'0'),
            b' ' | b'-' if next_is_digit => continue,
            _ => break,
        }
        if !next_is_digit && CARD_DIGITS.contains(&digits.len()) && has_check_digit(&digits) {
            found = Some((place + 1, digits.len()));
        }
    }
    found
}

/// The check of ISO/IEC 7812-1, annex B (Luhn).
fn has_check_digit(digits: &[u8]) -> bool {
    let weighed = digits.iter().rev().enumerate().map(|(place, &digit)| match (place % 2, digit) {
        (0, digit) => u32::from(digit),
        (_, digit @ 0..=4) => u32::from(digit) * 2,
        (_, digit) => u32::from(digit) * 2 - 9,
    });
    weighed.sum::<u32>() % 10 == 0
}

/// A text with the digits of card numbers masked.
pub fn masked_text(text: &str) -> String {
    let mut masked = text.as_bytes().to_vec();
    mask_cards(&mut masked);
    // Digits became asterisks, so it is as good a text as before.
    String::from_utf8_lossy(&masked).into_owned()
}

/// A JSON text with its card data masked: it stays JSON, so a number that is masked becomes a text. The value of a member whose name
/// says that it is a card's secret goes as a whole, unless it is nothing: `null`, `true`, `false`, an empty text.
pub fn masked_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    let masked = |bytes: &[u8]| {
        let mut masked = bytes.to_vec();
        mask_card_data(&mut masked);
        masked
    };
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let (token, after) = rest.split_at(token_end(rest.as_bytes()));
        // Letters and digits may be written as escapes.
        let plain = if first == b'"' && token.contains("\\u00") { json::text(token.as_bytes()) } else { None };
        let plain = plain.as_deref();
        match plain.filter(|plain| masked(plain) != *plain) {
            Some(plain) => shown.push_str(&Value::from(String::from_utf8_lossy(&masked(plain))).to_string()),
            None => {
                let bytes = masked(token.as_bytes());
                // Letters and digits of ASCII became asterisks, so it is as good a text as before.
                let text = String::from_utf8_lossy(&bytes);
                match first {
                    b'-' | b'0'..=b'9' if text != token => shown.extend(["\"", &*text, "\""]),
                    _ => shown.push_str(&text),
                }
            }
        }
        rest = after;
        if first == b'"' && is_masked_name(plain.unwrap_or(token.trim_matches('"').as_bytes())) {
            let value = after.trim_start_matches([' ', '\t', '\r', '\n', ':']);
            let (between, is_member) = (&after[..after.len() - value.len()], after.len() > value.len());
            if is_member && between.contains(':') && !value.starts_with(['n', 't', 'f']) && !value.starts_with("\"\"") {
                shown.extend([between, MASK]);
                rest = &value[value_end(value.as_bytes())..];
            }
        }
    }
    shown
}

/// The bytes of the string, of the number, or of what lies between such, that begins here.
fn token_end(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_end(text),
        Some(b'-' | b'0'..=b'9') => text.iter().take_while(|byte| b"+-.0123456789Ee".contains(byte)).count(),
        _ => text.iter().take_while(|byte| !b"\"-0123456789".contains(byte)).count(),
    }
}

/// The bytes of the value that begins here.
pub(super) fn value_end(text: &[u8]) -> usize {
    let (mut place, mut depth) = (0, 0usize);
    while let Some(byte) = text.get(place) {
        match byte {
            b'"' => place += string_end(&text[place..]),
            b'[' | b'{' => {
                depth += 1;
                place += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                place += 1;
            }
            b'-' | b'0'..=b'9' => place += token_end(&text[place..]),
            b'a'..=b'z' => place += text[place..].iter().take_while(|byte| byte.is_ascii_lowercase()).count(),
            _ => place += 1,
        }
        if depth == 0 {
            break;
        }
    }
    place.min(text.len())
}

/// The bytes of the string that begins here, its quotation marks included.
pub(super) fn string_end(text: &[u8]) -> usize {
    let mut place = 1;
    while let Some(byte) = text.get(place) {
        match byte {
            b'"' => return place + 1,
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cards(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask_cards(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    /// P16: card numbers do not stand in stored replies.
    #[test]
    fn card_numbers_are_masked_and_other_numbers_stay() {
        let table = [
            ("4111111111111111", "************1111"),
            ("card 4111 1111 1111 1111 until 12/26", "card **** **** **** 1111 until 12/26"),
            ("4111-1111-1111-1111", "****-****-****-1111"),
            ("{\"pan\":\"378282246310005\"}", "{\"pan\":\"***********0005\"}"),
            ("5555555555554444,6011111111111117", "************4444,************1117"),
            ("4222222222222", "*********2222"),
            ("2223003122003222", "************3222"),
            ("12 4111 1111 1111 1111", "12 **** **** **** 1111"),
            ("4111111111111111 12", "************1111 12"),
            // A wrong check digit, a moment in milliseconds, too short, too long, two separators.
            ("4111111111111112", "4111111111111112"),
            ("1750000000123", "1750000000123"),
            ("411111111111", "411111111111"),
            ("41111111111111111111", "41111111111111111111"),
            ("4111  1111  1111  1111", "4111  1111  1111  1111"),
            ("2026-11-21T22:30:00.123456Z", "2026-11-21T22:30:00.123456Z"),
            ("", ""),
        ];
        for (text, masked) in table {
            assert_eq!(cards(text), masked);
        }
    }

    /// P16: the tracks of a magnetic stripe carry more than the number.
    #[test]
    fn track_data_is_masked_with_its_card_number() {
        let table = [
            (
                "%B4111111111111111^SHOPPER/ANNA^25121010000000000123?",
                "%B************1111^SHOPPER/ANNA^********************?",
            ),
            (";4111111111111111=25121011234567890?", ";************1111=*****************?"),
            ("4111111111111111D25121011234567890F", "************1111D*****************F"),
            ("4111111111111111=5", "************1111=5"),
            ("4111111111111111^note", "************1111^note"),
            ("4111111111111111 and ^2512101^", "************1111 and ^2512101^"),
        ];
        for (text, masked) in table {
            assert_eq!(cards(text), masked);
        }
    }

    /// P16: what verifies a card cannot be told from other digits, but for its name.
    #[test]
    fn what_is_named_a_cards_secret_is_masked_in_any_text() {
        let table = [
            (r#"{"cvv": "123", "cvv_result": "M"}"#, r#"{"cvv": "***", "cvv_result": "M"}"#),
            (r#"{"card":{"Security-Code":1234,"pin":null}}"#, r#"{"card":{"Security-Code":****,"pin":null}}"#),
            (r#"{"raw":"{\"cvc2\":\"987\"}"}"#, r#"{"raw":"{\"cvc2\":\"***\"}"}"#),
            (r#"{"raw":"a\ncvv=987"}"#, r#"{"raw":"a\ncvv=***"}"#),
            ("amount=5&cvv2=123&x=1", "amount=5&cvv2=***&x=1"),
            (
                "<CardVerificationValue>123</CardVerificationValue>",
                "<CardVerificationValue>***</CardVerificationValue>",
            ),
            ("track2=';4111111111111111=2512?'", "track2=';****************=****?'"),
            (r#"{"track_1":"%B4111^A B^25"#, r#"{"track_1":"%B****^* *^**"#),
            ("pin: enter it", "pin: enter it"),
            ("the pin is 1234", "the pin is 1234"),
            ("mypin=1234", "mypin=1234"),
            ("cvv=", "cvv="),
            ("cvv", "cvv"),
        ];
        for (text, masked) in table {
            let mut bytes = text.as_bytes().to_vec();
            mask_card_data(&mut bytes);
            // Of a track the letter of its format goes as well.
            let masked = masked.replace("%B", "%*");
            assert_eq!(String::from_utf8(bytes).unwrap(), masked);
        }
        assert!(MASKED_NAMES.is_sorted());
    }

    #[test]
    fn json_with_masked_numbers_is_json() {
        let table = [
            (
                r#"{"pan": 4111111111111111, "at": 1750000000123}"#,
                r#"{"pan": "************1111", "at": 1750000000123}"#,
            ),
            (
                r#"{"pan":"4111 1111 1111 1111","n":[-4111111111111111]}"#,
                r#"{"pan":"**** **** **** 1111","n":["-************1111"]}"#,
            ),
            (r#"{"a\\":"x\"4111111111111111","b" : 1.10}"#, r#"{"a\\":"x\"************1111","b" : 1.10}"#),
            (r#"{"amount": 1.10,  "b":[ ]}"#, r#"{"amount": 1.10,  "b":[ ]}"#),
            ("4111111111111111", "\"************1111\""),
            (r#"{"cvv" : 123, "b": "cvv"}"#, r#"{"cvv" : "***", "b": "cvv"}"#),
            (r#"{"CVV2":"1\"23","pin":null,"cvc":"","csc":true}"#, r#"{"CVV2":"***","pin":null,"cvc":"","csc":true}"#),
            (r#"{"track":{"a":["}",{"b":1}],"c":"]"},"n":1}"#, r#"{"track":"***","n":1}"#),
            (
                r#"[{"security_code":-1.5e3},{"card_verification":[1,2]}]"#,
                r#"[{"security_code":"***"},{"card_verification":"***"}]"#,
            ),
            (r#"{"form":"cvv=123&a=1","esc":"{\"pin\":\"1\"}"}"#, r#"{"form":"cvv=***&a=1","esc":"{\"pin\":\"*\"}"}"#),
            (r#"["cvv", 123]"#, r#"["cvv", 123]"#),
            (r#"{"\u0063vv": 123, "a":"\u00e9"}"#, r#"{"\u0063vv": "***", "a":"\u00e9"}"#),
            (r#"["\u0034111111111111111", "\u00634"]"#, r#"["************1111", "\u00634"]"#),
        ];
        for (text, masked) in table {
            assert_eq!(masked_json(text), masked);
            assert!(serde_json::from_str::<serde_json::Value>(masked).is_ok(), "{masked}");
        }
    }

    proptest! {
        #[test]
        fn whatever_json_it_is_it_stays_json(
            keys in prop::collection::vec(".{0,12}", 0..4),
            digits in "[2-6][0-9]{12,18}",
            named in prop::sample::select(&MASKED_NAMES[..]),
            text in r#"[a-z"'\\{}:=& 0-9\n]{0,24}"#,
        ) {
            let mut members: serde_json::Map<_, _> =
                keys.into_iter().map(|key| (format!("{key}{digits}"), digits.parse::<u64>().map_or(key.into(), Into::into))).collect();
            let inner = serde_json::json!({named: text.clone()}).to_string();
            members.insert(format!("{named}={text}"), serde_json::json!([inner, text, format!("{named}:{text}")]));
            members.insert(named.to_owned(), serde_json::json!({"x": [text, 1, {"y": []}]}));
            let text = serde_json::Value::Object(members).to_string();
            let masked = masked_json(&text);
            let value = serde_json::from_str::<serde_json::Value>(&masked);
            prop_assert!(value.is_ok(), "{} {}", text, masked);
            prop_assert_eq!(&value.unwrap()[named], "***");
        }
    }
}
