//! What of a reply may be kept: receivers echo what they were sent, and a record is read by people who may not see that.
//!
//! Card numbers are masked wherever they stand, and in bodies what is named a card's secret. A cookie is the receiver's own
//! secret, and nobody here has a use for it. The destination's own secrets are masked in the forms in which an echo shows them: as
//! sent, as JSON writes them, and percent-encoded. What decided the attempt saw the reply as it came.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::card::{mask_card_data, mask_cards, may_hold_card};
use crate::model::destination::Signature;
use crate::model::{Auth, Destination, Headers, Secret};

/// What stands in a record in place of a secret.
pub(super) const MASK: &str = "***";
/// Shorter secrets stand in too many places by chance.
const NEEDLE_BYTES_MIN: usize = 4;
/// Headers of a reply of which only the name is kept.
const COOKIES: [&str; 2] = ["set-cookie", "set-cookie2"];
/// Headers whose values say how a body is written. A destination may set them, but they are no credentials.
const PLAIN_HEADERS: [&str; 5] = ["accept", "accept-language", "cache-control", "content-type", "user-agent"];

/// The secrets of one destination, as they may come back.
pub(super) struct Masker {
    /// The longest first, so that no part of one is left when it holds another.
    needles: Vec<Vec<u8>>,
    /// The bytes that one of them begins with.
    first: [bool; 256],
}

impl Masker {
    /// For what is kept of a destination's replies; `signatures` are its own and those that it has by signing keys.
    pub(super) fn of(destination: &Destination, signatures: &[Signature]) -> Self {
        let is_plain = |name: &str| PLAIN_HEADERS.iter().any(|plain| name.eq_ignore_ascii_case(plain));
        let mut secrets: Vec<String> = Vec::new();
        let mut keep = |secret: &Secret| secrets.push(secret.expose().to_owned());
        destination.headers.iter().filter(|(name, _)| !is_plain(name)).for_each(|(_, value)| keep(value));
        for signature in signatures {
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
        Masker::new(needles)
    }

    fn new(needles: Vec<Vec<u8>>) -> Self {
        let mut first = [false; 256];
        needles.iter().filter_map(|needle| needle.first()).for_each(|byte| first[usize::from(*byte)] = true);
        Masker { needles, first }
    }

    /// Headers of a reply.
    pub(super) fn headers(&self, headers: &Headers) -> Headers {
        let mut all = Headers::with_capacity(headers.as_str().len());
        for (name, value) in headers.iter() {
            let is_cookie = COOKIES.iter().any(|cookie| name.eq_ignore_ascii_case(cookie));
            all.push(&self.text(name), if is_cookie { MASK.into() } else { self.text(value) });
        }
        all
    }

    /// The first bytes of a reply's body, `kept_max` at most.
    pub(super) fn body(&self, body: &[u8], kept_max: usize) -> Vec<u8> {
        // Masked before it is cut: half a secret is found by nobody and read by everybody.
        let mut text = self.masked(&body[..body.len().min(2 * kept_max)]);
        mask_card_data(&mut text);
        text.truncate(kept_max);
        text
    }

    /// A header's name or value, or a failure in words.
    pub(super) fn text<'text>(&self, text: &'text str) -> Cow<'text, str> {
        // Hardly any holds a secret or a card number.
        if self.place_of_needle(text.as_bytes()).is_none() && !may_hold_card(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(String::from_utf8_lossy(&self.masked(text.as_bytes())).into_owned())
    }

    /// Where the first needle begins, and how long it is.
    fn place_of_needle(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let mut from = 0;
        while let Some(place) = bytes[from..].iter().position(|byte| self.first[usize::from(*byte)]) {
            from += place;
            if let Some(needle) = self.needles.iter().find(|needle| bytes[from..].starts_with(needle)) {
                return Some((from, needle.len()));
            }
            from += 1;
        }
        None
    }

    fn masked(&self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((place, length)) = self.place_of_needle(rest) {
            text.extend_from_slice(&rest[..place]);
            text.extend_from_slice(MASK.as_bytes());
            rest = &rest[place + length..];
        }
        text.extend_from_slice(rest);
        mask_cards(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        Masker::new(secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect())
    }

    #[test]
    fn a_secret_is_masked_before_the_body_is_cut() {
        let masker = masker(&["hunter22"]);
        assert_eq!(masker.body(b"say hunter22 and hunter22", 100), b"say *** and ***");
        assert_eq!(masker.body(b"0123456hunter22", 10), b"0123456***");
        assert_eq!(masker.body(b"hunter2", 4), b"hunt");
        assert_eq!(masker.text("x=hunter22; card=4111111111111111"), "x=***; card=************1111");
        assert_eq!(masker.body(b"\xffhunter22\0", 100), b"\xff***\0");
        assert_eq!(masker.body(br#"{"cvv":123,"pin":"9"}"#, 100), br#"{"cvv":***,"pin":"*"}"#);
    }

    #[test]
    fn of_a_cookie_only_the_name_is_kept() {
        let mut headers = Headers::with_capacity(0);
        for (name, value) in [("Set-Cookie", "session=abc; Path=/"), ("x-a", "1"), ("set-cookie", "b=2")] {
            headers.push(name, value);
        }
        let kept = masker(&[]).headers(&headers);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [("Set-Cookie", MASK), ("x-a", "1"), ("set-cookie", MASK)]);
    }
}
