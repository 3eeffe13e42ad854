//! How records lie on disk: the only file that names bincode.
//!
//! Every value is `[version][codec][key id]` and then the record. The version belongs to the kind of record, the codec says
//! how the rest was written (1: bincode 1.3, fixed integers, little-endian), the key id says what it is sealed with (0: not
//! sealed). An event's record holds its head and then the producer's bytes as they came, so that a reader of heads never
//! copies a body. The lists of segments are packed by [`super::segments`] and lie here as they are.
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

/// The record of what is packed already: envelope, then the bytes.
pub fn encode_packed(packed: &[u8]) -> Vec<u8> {
    [&ENVELOPE[..], packed].concat()
}

/// The bytes of a packed record.
pub fn open_packed(record: &[u8]) -> Result<&[u8], DecodeError> {
    open(record)
}

/// The record of an event: envelope, whether the body is kept, the head's length, the head, the body.
pub fn encode_event(head: &EventHead, body: &Body) -> Vec<u8> {
    match body {
        Body::Kept(bytes) => join_event(BODY_KEPT, head, bytes),
        Body::Erased => encode_erased(head, None),
    }
}

/// The record of an event whose body is erased: what remains of it, if anything, lies in its place.
pub fn encode_erased(head: &EventHead, remains: Option<[u8; 16]>) -> Vec<u8> {
    join_event(BODY_ERASED, head, remains.as_ref().map_or(&[], |remains| remains))
}

fn join_event(mark: u8, head: &EventHead, bytes: &[u8]) -> Vec<u8> {
    let head_bytes = options().serialized_size(head).expect("a head is plain data below the limit");
    let mut record = Vec::with_capacity(ENVELOPE.len() + 5 + head_bytes as usize + bytes.len());
    record.extend_from_slice(&ENVELOPE);
    record.push(mark);
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
    let body = match content(record)? {
        Content::Kept(bytes) => Body::Kept(Bytes::copy_from_slice(bytes)),
        Content::Erased(_) => Body::Erased,
    };
    Ok(Event { seq, head: decode_event_head(record)?, body })
}

/// What an event's record holds beside the head.
pub enum Content<'record> {
    /// The body.
    Kept(&'record [u8]),
    /// What remains of it.
    Erased(Option<[u8; 16]>),
}

/// The content of an event's record.
pub fn content(record: &[u8]) -> Result<Content<'_>, DecodeError> {
    match split_event(record)? {
        (BODY_KEPT, _, body) => Ok(Content::Kept(body)),
        (BODY_ERASED, _, []) => Ok(Content::Erased(None)),
        (BODY_ERASED, _, remains) => match remains.try_into() {
            Ok(remains) => Ok(Content::Erased(Some(remains))),
            Err(_) => Err(DecodeError::Damaged("what remains of a body has another length".into())),
        },
        (other, _, _) => Err(DecodeError::Damaged(format!("body mark {other}"))),
    }
}

/// Whether the body of an event's record is still kept.
pub fn keeps_body(record: &[u8]) -> Result<bool, DecodeError> {
    Ok(matches!(content(record)?, Content::Kept(_)))
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
