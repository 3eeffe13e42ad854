//! How records lie on disk: the only file that names bincode.
//!
//! Every record is an envelope, `[version][codec][data key: u32][counter: u64]`, and then the value, sealed, with its tag. The
//! version belongs to the kind of record, the codec says how the value was written (1: bincode 1.3, fixed integers,
//! little-endian), the data key and the counter say what it is sealed with ([`super::keyring`]). With it the record's place is
//! authenticated: the table's name, the key, and the envelope. An event's record holds its head and the producer's bytes as they
//! came, sealed apart, so that a reader of heads never touches a body. The lists of segments are packed by
//! [`super::segments`], and sealed as they are.
//!
//! To change a record: give it the next version, keep a decoder for the old one, add its golden bytes under
//! `tests/golden/`, and let [`decode`] tell them apart. Until the first tagged release the layout may change without one.

use std::sync::Arc;

use bincode::Options;
use bytes::Bytes;
use secrecy::zeroize::Zeroize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::event::{Body, EventHead};
use crate::model::{Event, Seq};

use super::keyring::{Keyring, TAG_BYTES};
use super::tables;

const VERSION: u8 = 1;
const CODEC: u8 = 1;
/// Version, codec, data key, counter.
const ENVELOPE_BYTES: usize = 2 + 4 + 8;
/// No record is larger: a line of at most 64 MiB and its head.
const RECORD_BYTES_MAX: u64 = 80 << 20;

/// A record that cannot be read: written by another version, or damaged.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The envelope names a version or codec that this build does not know.
    #[error("record has envelope {0:?}, which this version does not read")]
    Envelope([u8; 2]),
    /// The store does not hold the data key, or it does not open.
    #[error("record is sealed with data key {0}, which the store does not hold or cannot open")]
    Key(u32),
    /// It does not open with its key, at its place.
    #[error("record does not open: it is damaged, or was moved here from another place")]
    Broken,
    /// The record ends too early or holds impossible values.
    #[error("record is damaged: {0}")]
    Damaged(String),
}

/// Where a record lies, and what seals it there.
pub struct Place {
    keys: Arc<Keyring>,
    // The table's name and the key; room behind them for an envelope.
    bytes: Vec<u8>,
    table: &'static str,
    /// Whether the record holds secrets: its plain bytes are wiped.
    secret: bool,
}

impl Place {
    pub(super) fn new(keys: &Arc<Keyring>, table: &'static str, key: &[u8], secret: bool) -> Self {
        let mut bytes = Vec::with_capacity(1 + table.len() + key.len() + EVENT_HEADER_BYTES + 1);
        bytes.push(table.len() as u8);
        bytes.extend_from_slice(table.as_bytes());
        bytes.extend_from_slice(key);
        Place { keys: Arc::clone(keys), bytes, table, secret }
    }

    /// The table, and the key in words.
    pub fn named(&self) -> (&'static str, String) {
        (self.table, tables::shown(self.table, self.key()))
    }

    fn key(&self) -> &[u8] {
        &self.bytes[1 + self.table.len()..]
    }

    /// What lies here cannot be read.
    fn is_damaged(&self, error: &DecodeError) {
        self.keys.damage().met(self.table, self.key(), error);
    }

    /// Does something with the place's bytes, and behind them a header and which part of the record it is.
    fn with<T>(&mut self, header: &[u8], part: u8, act: impl FnOnce(&Keyring, &[u8]) -> T) -> T {
        let length = self.bytes.len();
        self.bytes.extend_from_slice(header);
        self.bytes.push(part);
        let done = act(&self.keys, &self.bytes);
        self.bytes.truncate(length);
        done
    }

    /// Seals what follows a header of so many bytes in a record, and puts the tag behind it.
    fn seal(&mut self, record: &mut Vec<u8>, from: usize, header_bytes: usize, part: u8, counter: u64) {
        let (header, rest) = record.split_at_mut(from);
        let sealed = &mut rest[..];
        let tag = self.with(&header[..header_bytes], part, |keys, place| keys.seal(counter, place, sealed));
        record.extend_from_slice(&tag);
    }

    fn open(&mut self, header: &[u8], part: u8, id: u32, counter: u64, sealed: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let opened = self.with(header, part, |keys, place| keys.open_record(id, counter, place, sealed));
        opened.ok_or(DecodeError::Key(id))?.map_err(|_| DecodeError::Broken)
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(RECORD_BYTES_MAX)
        .reject_trailing_bytes()
}

/// The parts of a record that are sealed apart.
const WHOLE: u8 = 0;
const HEAD: u8 = 1;
const BODY: u8 = 2;

/// The envelope of a record that seals so many bytes, and its counter.
fn envelope(place: &Place, bytes: usize) -> ([u8; ENVELOPE_BYTES], u64) {
    let (id, counter) = place.keys.take(bytes + 2 * place.bytes.len());
    let mut envelope = [VERSION, CODEC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    envelope[2..6].copy_from_slice(&id.to_le_bytes());
    envelope[6..].copy_from_slice(&counter.to_le_bytes());
    (envelope, counter)
}

/// The data key and the counter that an envelope names.
fn read_envelope(record: &[u8]) -> Result<(u32, u64), DecodeError> {
    match record.first_chunk::<ENVELOPE_BYTES>() {
        Some([VERSION, CODEC, rest @ ..]) => {
            let (id, counter) = rest.split_first_chunk().expect("an envelope is longer than a key's number");
            let counter = counter.first_chunk().expect("an envelope ends with eight bytes of a counter");
            Ok((u32::from_le_bytes(*id), u64::from_le_bytes(*counter)))
        }
        Some([version, codec, ..]) => Err(DecodeError::Envelope([*version, *codec])),
        None => Err(DecodeError::Damaged("it is shorter than an envelope".into())),
    }
}

/// The data key that a record names.
pub fn data_key_of(record: &[u8]) -> Result<u32, DecodeError> {
    Ok(read_envelope(record)?.0)
}

fn plain<T: Serialize>(value: &T, into: &mut Vec<u8>) {
    options().serialize_into(into, value).expect("records are plain data below the limit, and a Vec takes every write");
}

fn value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    options().deserialize(bytes).map_err(|error| DecodeError::Damaged(error.to_string()))
}

/// The record of a value, for its place.
pub fn encode<T: Serialize>(place: Place, value: &T) -> Vec<u8> {
    let bytes = options().serialized_size(value).expect("records are plain data below the limit") as usize;
    encode_whole(place, bytes, |record| plain(value, record))
}

fn encode_whole(mut place: Place, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (envelope, counter) = envelope(&place, bytes);
    let mut record = Vec::with_capacity(ENVELOPE_BYTES + bytes + TAG_BYTES);
    record.extend_from_slice(&envelope);
    write(&mut record);
    place.seal(&mut record, ENVELOPE_BYTES, ENVELOPE_BYTES, WHOLE, counter);
    record
}

/// The value of the record at a place.
///
/// Like all that reads records here, this tells of one that is damaged, and counts it. What it costs is for the caller to say.
pub fn decode<T: DeserializeOwned>(mut place: Place, record: &[u8]) -> Result<T, DecodeError> {
    let read = open_whole(&mut place, record).and_then(|mut plain| {
        let value = value(&plain);
        if place.secret {
            plain.zeroize();
        }
        value
    });
    read.inspect_err(|error| place.is_damaged(error))
}

/// The record of what is packed already, for its place.
pub fn encode_packed(place: Place, packed: &[u8]) -> Vec<u8> {
    encode_whole(place, packed.len(), |record| record.extend_from_slice(packed))
}

/// What the packed record at a place holds, by what unpacks it.
pub fn decode_packed<T>(
    mut place: Place,
    record: &[u8],
    unpack: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let read = open_whole(&mut place, record).and_then(|packed| unpack(&packed));
    read.inspect_err(|error| place.is_damaged(error))
}

fn open_whole(place: &mut Place, record: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (id, counter) = read_envelope(record)?;
    let (header, sealed) = record.split_at(ENVELOPE_BYTES);
    place.open(header, WHOLE, id, counter, sealed)
}

const BODY_KEPT: u8 = 1;
const BODY_ERASED: u8 = 0;
/// An event's header: envelope, whether the body is kept, the bytes of the sealed head.
const EVENT_HEADER_BYTES: usize = ENVELOPE_BYTES + 1 + 4;

/// The record of an event, for its place: header, sealed head, sealed body.
pub fn encode_event(place: Place, head: &EventHead, body: &Body) -> Vec<u8> {
    match body {
        Body::Kept(bytes) => join_event(place, BODY_KEPT, head, bytes),
        Body::Erased => encode_erased(place, head, None),
    }
}

/// The record of an event whose body is erased: what remains of it, if anything, lies in its place.
pub fn encode_erased(place: Place, head: &EventHead, remains: Option<[u8; 16]>) -> Vec<u8> {
    join_event(place, BODY_ERASED, head, remains.as_ref().map_or(&[], |remains| remains))
}

fn join_event(mut place: Place, mark: u8, head: &EventHead, bytes: &[u8]) -> Vec<u8> {
    let head_bytes = options().serialized_size(head).expect("a head is plain data below the limit") as usize;
    let (envelope, counter) = envelope(&place, head_bytes + bytes.len());
    let mut record = Vec::with_capacity(EVENT_HEADER_BYTES + head_bytes + bytes.len() + 2 * TAG_BYTES);
    record.extend_from_slice(&envelope);
    record.push(mark);
    record.extend_from_slice(&((head_bytes + TAG_BYTES) as u32).to_le_bytes());
    plain(head, &mut record);
    place.seal(&mut record, EVENT_HEADER_BYTES, EVENT_HEADER_BYTES, HEAD, counter);
    let from = record.len();
    record.extend_from_slice(bytes);
    place.seal(&mut record, from, EVENT_HEADER_BYTES, BODY, counter + 1);
    record
}

/// The head of the event's record at a place, without its body.
pub fn decode_event_head(mut place: Place, record: &[u8]) -> Result<EventHead, DecodeError> {
    let read = split_event(record).and_then(|parts| open_head(&mut place, &parts));
    read.inspect_err(|error| place.is_damaged(error))
}

fn open_head(place: &mut Place, parts: &EventParts<'_>) -> Result<EventHead, DecodeError> {
    value(&place.open(parts.header, HEAD, parts.id, parts.counter, parts.head)?)
}

/// The whole event of the record at a place.
pub fn decode_event(mut place: Place, seq: Seq, record: &[u8]) -> Result<Event, DecodeError> {
    let read = split_event(record).and_then(|parts| {
        let head = open_head(&mut place, &parts)?;
        let body = match open_content(&mut place, &parts)? {
            Content::Kept(bytes) => Body::Kept(Bytes::from(bytes)),
            Content::Erased(_) => Body::Erased,
        };
        Ok(Event { seq, head, body })
    });
    read.inspect_err(|error| place.is_damaged(error))
}

/// What an event's record holds beside the head.
pub enum Content {
    /// The body.
    Kept(Vec<u8>),
    /// What remains of it.
    Erased(Option<[u8; 16]>),
}

/// The content of the event's record at a place.
pub fn content(mut place: Place, record: &[u8]) -> Result<Content, DecodeError> {
    let read = split_event(record).and_then(|parts| open_content(&mut place, &parts));
    read.inspect_err(|error| place.is_damaged(error))
}

fn open_content(place: &mut Place, parts: &EventParts<'_>) -> Result<Content, DecodeError> {
    let content = place.open(parts.header, BODY, parts.id, parts.counter + 1, parts.body)?;
    match parts.mark {
        BODY_KEPT => Ok(Content::Kept(content)),
        BODY_ERASED if content.is_empty() => Ok(Content::Erased(None)),
        BODY_ERASED => match content.try_into() {
            Ok(remains) => Ok(Content::Erased(Some(remains))),
            Err(_) => Err(DecodeError::Damaged("what remains of a body has another length".into())),
        },
        other => Err(DecodeError::Damaged(format!("body mark {other}"))),
    }
}

/// Whether the body of an event's record is still kept, as its header says: the head vouches for it when it opens.
pub fn keeps_body(record: &[u8]) -> Result<bool, DecodeError> {
    match split_event(record)?.mark {
        BODY_KEPT => Ok(true),
        BODY_ERASED => Ok(false),
        other => Err(DecodeError::Damaged(format!("body mark {other}"))),
    }
}

struct EventParts<'record> {
    header: &'record [u8],
    id: u32,
    counter: u64,
    mark: u8,
    head: &'record [u8],
    body: &'record [u8],
}

fn split_event(record: &[u8]) -> Result<EventParts<'_>, DecodeError> {
    let short = || DecodeError::Damaged("an event's record ends early".into());
    let (id, counter) = read_envelope(record)?;
    let (header, rest) = record.split_at_checked(EVENT_HEADER_BYTES).ok_or_else(short)?;
    let (mark, length) = header[ENVELOPE_BYTES..].split_first().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length.first_chunk().ok_or_else(short)?) as usize;
    let (head, body) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok(EventParts { header, id, counter, mark: *mark, head, body })
}

#[cfg(test)]
mod tests;
