//! What of a reply may be kept: receivers echo what they were sent, and a record is read by people who may not see that.
//!
//! Card numbers are masked wherever they stand. The destination's own secrets are masked in the forms in which an echo shows them: as
//! sent, as JSON writes them, and percent-encoded. What decided the attempt saw the reply as it came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::{Auth, Destination, Secret};

/// What stands in a record in place of a secret.
pub(super) const MASK: &str = "***";
/// Shorter secrets stand in too many places by chance.
const NEEDLE_BYTES_MIN: usize = 4;
/// Digits of a card number (ISO/IEC 7812), and how many of the last ones stay, so that people can still tell cards apart.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
const CARD_DIGITS_SHOWN: usize = 4;
/// Headers whose values say how a body is written. A destination may set them, but they are no credentials.
const PLAIN_HEADERS: [&str; 5] = ["accept", "accept-language", "cache-control", "content-type", "user-agent"];

/// The secrets of one destination, as they may come back.
pub(super) struct Masker {
    /// The longest first, so that no part of one is left when it holds another.
    needles: Vec<Vec<u8>>,
}

impl Masker {
    /// For what is kept of a destination's replies.
    pub(super) fn of(destination: &Destination) -> Self {
        let is_plain = |name: &str| PLAIN_HEADERS.iter().any(|plain| name.eq_ignore_ascii_case(plain));
        let mut secrets: Vec<String> = Vec::new();
        let mut keep = |secret: &Secret| secrets.push(secret.expose().to_owned());
        destination.headers.iter().filter(|(name, _)| !is_plain(name)).for_each(|(_, value)| keep(value));
        for signature in &destination.signatures {
            keep(&signature.secret);
            signature.previous.iter().for_each(|(secret, _)| keep(secret));
        }
        match &destination.auth {
            Auth::None => {}
            Auth::Basic { username, password } => {
                keep(password);
                secrets.push(BASE64.encode(format!("{username}:{}", password.expose())));
            }
            Auth::SharedSecret { secret, .. } => keep(secret),
            Auth::Bearer { token } => keep(token),
        }
        let mut needles: Vec<Vec<u8>> = secrets
            .iter()
            .filter(|secret| secret.len() >= NEEDLE_BYTES_MIN)
            .flat_map(|secret| {
                let json = serde_json::Value::from(secret.as_str()).to_string();
                let json = json[1..json.len() - 1].to_owned();
                let slashes = json.replace('/', "\\/");
                let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
                [secret.clone(), json, slashes, percent].map(String::into_bytes)
            })
            .collect();
        needles.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        needles.dedup();
        Masker { needles }
    }

    /// The first bytes of a reply's body, `kept_max` at most.
    pub(super) fn body(&self, body: &[u8], kept_max: usize) -> Vec<u8> {
        // Masked before it is cut: half a secret is found by nobody and read by everybody.
        let mut text = self.masked(&body[..body.len().min(2 * kept_max)]);
        text.truncate(kept_max);
        text
    }

    /// A header's value, or a failure in words.
    pub(super) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.masked(text.as_bytes())).into_owned()
    }

    fn masked(&self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            match self.needles.iter().find(|needle| rest.starts_with(needle)) {
                Some(needle) => {
                    text.extend_from_slice(MASK.as_bytes());
                    rest = &rest[needle.len()..];
                }
                None => {
                    text.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        mask_cards(&mut text);
        text
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    fn masker(secrets: &[&str]) -> Masker {
        let needles = secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect();
        Masker { needles }
    }

    #[test]
    fn a_secret_is_masked_before_the_body_is_cut() {
        let masker = masker(&["hunter22"]);
        assert_eq!(masker.body(b"say hunter22 and hunter22", 100), b"say *** and ***");
        assert_eq!(masker.body(b"0123456hunter22", 10), b"0123456***");
        assert_eq!(masker.body(b"hunter2", 4), b"hunt");
        assert_eq!(masker.text("x=hunter22; card=4111111111111111"), "x=***; card=************1111");
        assert_eq!(masker.body(b"\xffhunter22\0", 100), b"\xff***\0");
    }
}
