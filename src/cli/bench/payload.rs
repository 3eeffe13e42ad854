//! What an event of the benchmark looks like: bytes of an exact length that carry the round and the event's number.

use std::io::Write;

const HEAD: &[u8] = b"{\"n\":\"";
const MIDDLE: &[u8] = b"\",\"pad\":\"";
const TAIL: &[u8] = b"\"}";
const ROUND_DIGITS: usize = 4;
const EVENT_DIGITS: usize = 10;

/// The shortest payload that there can be, in bytes.
pub(super) const BYTES_MIN: u64 = 64;
/// The longest; with the rest of the line it must fit into the daemon's default limit of a line.
pub(super) const BYTES_MAX: u64 = 1_000_000;

/// Appends the payload of an event: `bytes` long, at least [`BYTES_MIN`].
pub(super) fn write(text: &mut Vec<u8>, round: u16, event: u64, bytes: usize) {
    let end = text.len() + bytes - TAIL.len();
    text.extend_from_slice(HEAD);
    write!(text, "{round:0ROUND_DIGITS$}{event:0EVENT_DIGITS$}").expect("a Vec takes every write");
    text.extend_from_slice(MIDDLE);
    text.resize(end, b'x');
    text.extend_from_slice(TAIL);
}

/// The round and the event's number; `None` when it is no payload of ours.
pub(super) fn read(body: &[u8]) -> Option<(u16, u64)> {
    let digits = body.strip_prefix(HEAD)?.get(..ROUND_DIGITS + EVENT_DIGITS)?;
    let (round, event) = std::str::from_utf8(digits).ok()?.split_at_checked(ROUND_DIGITS)?;
    Some((round.parse().ok()?, event.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_length_is_json_and_carries_its_numbers() {
        for (bytes, round, event) in [(64, 0, 0), (1024, 7, 123_456), (1_000_000, 9999, 9_999_999_999)] {
            let mut text = Vec::new();
            write(&mut text, round, event, bytes);
            assert_eq!(text.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(&text).unwrap();
            assert_eq!(read(&text), Some((round, event)));
        }
        for other in [&b"{}"[..], b"{\"n\":\"12", b"{\"n\":\"00010000x00001\"}"] {
            assert_eq!(read(other), None);
        }
    }
}
