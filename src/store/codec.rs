//! How records lie on disk: the only file that names bincode.
//!
//! Every value is `[version][codec][key id]` and then the record. The version belongs to the kind of record, the codec says
//! how the rest was written (1: bincode 1.3, fixed integers, little-endian), the key id says what it is sealed with (0: not
//! sealed). An event's record holds its head and then the producer's bytes as they came, so that a reader of heads never
//! copies a body.
//!
//! To change a record: give it the next version, keep a decoder for the old one, add its golden bytes under
//! `tests/golden/`, and let [`decode`] tell them apart. Until the first tagged release the layout may change without one.

use bincode::Options;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::event::{Body, EventHead};
use crate::model::{Event, Seq};

const VERSION: u8 = 1;
const CODEC: u8 = 1;
const KEY_NONE: u8 = 0;
const ENVELOPE: [u8; 3] = [VERSION, CODEC, KEY_NONE];
/// No record is larger: a line of at most 64 MiB and its head.
const RECORD_BYTES_MAX: u64 = 80 << 20;

/// A record that cannot be read: written by another version, or damaged.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The envelope names a version, codec or key that this build does not know.
    #[error("record has envelope {0:?}, which this version does not read")]
    Envelope([u8; 3]),
    /// The record ends too early or holds impossible values.
    #[error("record is damaged: {0}")]
    Damaged(String),
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(RECORD_BYTES_MAX)
        .reject_trailing_bytes()
}

/// The record of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut record = ENVELOPE.to_vec();
    options()
        .serialize_into(&mut record, value)
        .expect("records are plain data below the limit, and a Vec takes every write");
    record
}

/// The value of a record.
pub fn decode<T: DeserializeOwned>(record: &[u8]) -> Result<T, DecodeError> {
    options().deserialize(open(record)?).map_err(|error| DecodeError::Damaged(error.to_string()))
}

fn open(record: &[u8]) -> Result<&[u8], DecodeError> {
    match record.split_first_chunk() {
        Some((&ENVELOPE, rest)) => Ok(rest),
        Some((envelope, _)) => Err(DecodeError::Envelope(*envelope)),
        None => Err(DecodeError::Damaged("it is shorter than an envelope".into())),
    }
}

const BODY_KEPT: u8 = 1;
const BODY_ERASED: u8 = 0;

/// The record of an event: envelope, whether the body is kept, the head's length, the head, the body.
pub fn encode_event(head: &EventHead, body: &Body) -> Vec<u8> {
    let bytes = body.bytes().map_or(&[][..], |bytes| bytes);
    let head_bytes = options().serialized_size(head).expect("a head is plain data below the limit");
    let mut record = Vec::with_capacity(ENVELOPE.len() + 5 + head_bytes as usize + bytes.len());
    record.extend_from_slice(&ENVELOPE);
    record.push(match body {
        Body::Kept(_) => BODY_KEPT,
        Body::Erased => BODY_ERASED,
    });
    record.extend_from_slice(&(head_bytes as u32).to_le_bytes());
    options().serialize_into(&mut record, head).expect("its size was just computed");
    record.extend_from_slice(bytes);
    record
}

/// The head of an event's record, without its body.
pub fn decode_event_head(record: &[u8]) -> Result<EventHead, DecodeError> {
    let (_, head, _) = split_event(record)?;
    options().deserialize(head).map_err(|error| DecodeError::Damaged(error.to_string()))
}

/// A whole event from its record.
pub fn decode_event(seq: Seq, record: &[u8]) -> Result<Event, DecodeError> {
    let (kept, _, body) = split_event(record)?;
    let body = match kept {
        BODY_KEPT => Body::Kept(Bytes::copy_from_slice(body)),
        BODY_ERASED => Body::Erased,
        other => return Err(DecodeError::Damaged(format!("body mark {other}"))),
    };
    Ok(Event { seq, head: decode_event_head(record)?, body })
}

/// Whether the body of an event's record is still kept.
pub fn keeps_body(record: &[u8]) -> Result<bool, DecodeError> {
    split_event(record).map(|(kept, _, _)| kept == BODY_KEPT)
}

fn split_event(record: &[u8]) -> Result<(u8, &[u8], &[u8]), DecodeError> {
    let short = || DecodeError::Damaged("an event's record ends early".into());
    let (kept, rest) = open(record)?.split_first().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (head, body) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok((*kept, head, body))
}

#[cfg(test)]
mod tests;
