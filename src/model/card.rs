//! Card numbers, and how they are masked wherever people read: in kept replies, in logs, in payloads that are shown.

/// Digits of a card number (ISO/IEC 7812), and how many of the last ones stay, so that people can still tell cards apart.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
const CARD_DIGITS_SHOWN: usize = 4;

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
            }
            // The next group may begin one.
            None => place += text[place..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        }
    }
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

/// A JSON text with the digits of card numbers masked: it stays JSON, so a number that is one becomes a text.
pub fn masked_json(text: &str) -> String {
    let mut masked = text.as_bytes().to_vec();
    mask_cards(&mut masked);
    if masked == text.as_bytes() {
        return text.to_owned();
    }
    let mut json = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let end = match first {
            b'"' => string_end(rest.as_bytes()),
            b'-' | b'0'..=b'9' => rest.bytes().take_while(|byte| b"+-.0123456789Ee".contains(byte)).count(),
            _ => rest.bytes().take_while(|byte| !b"\"-0123456789".contains(byte)).count(),
        };
        let (token, after) = rest.split_at(end);
        let mut bytes = token.as_bytes().to_vec();
        mask_cards(&mut bytes);
        // Digits became asterisks, so it is as good a text as before.
        let shown = String::from_utf8_lossy(&bytes);
        match first {
            b'-' | b'0'..=b'9' if shown != token => json.extend(["\"", &*shown, "\""]),
            _ => json.push_str(&shown),
        }
        rest = after;
    }
    json
}

/// The bytes of the string that begins here, its quotation marks included.
fn string_end(text: &[u8]) -> usize {
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
        ];
        for (text, masked) in table {
            assert_eq!(masked_json(text), masked);
            assert!(serde_json::from_str::<serde_json::Value>(masked).is_ok(), "{masked}");
        }
    }

    proptest! {
        #[test]
        fn whatever_json_it_is_it_stays_json(keys in prop::collection::vec(".{0,12}", 0..4), digits in "[2-6][0-9]{12,18}") {
            let members: serde_json::Map<_, _> =
                keys.into_iter().map(|key| (format!("{key}{digits}"), digits.parse::<u64>().map_or(key.into(), Into::into))).collect();
            let text = serde_json::Value::Object(members).to_string();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&masked_json(&text)).is_ok(), "{}", text);
        }
    }
}
