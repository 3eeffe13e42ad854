//! The door to de-duplication: has this tenant's producer used this id before?
//!
//! One row per id, keyed by a hash, so that ids of any length cost the same. What lies behind this door may change; its
//! promise stays: within seven days the same id answers with the first event or with a conflict.

use std::time::Duration;

use redb::{ReadableTable, StorageError, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::event::{EventHead, NewEvent, ProducerId};
use crate::model::{Seq, TenantId, Timestamp};

use super::codec;
use super::writer::ApplyError;

/// How long a producer's id is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

type Ids<'tx> = Table<'tx, &'static [u8; 16], &'static [u8]>;

#[derive(Serialize, Deserialize)]
struct Row {
    seq: u64,
    accepted: Timestamp,
    fingerprint: [u8; 16],
}

/// What the look-up says about an event that carries a producer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen within seven days.
    New,
    /// Seen, with the same content: this is its event.
    Same(Seq),
    /// Seen, with other content.
    Conflict(Seq),
}

/// Hashes with a length before each part, so that no two lists of parts share bytes.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().first_chunk().expect("a SHA-256 has 32 bytes")
}

fn row_key(tenant: &TenantId, cloud_source: Option<&str>, id: &ProducerId) -> [u8; 16] {
    // A CloudEvent is one by (source, id); a native event by its id alone. The empty source keeps the two apart.
    let space = cloud_source.map_or(&b"native"[..], |_| b"cloudevents");
    digest(&[space, tenant.as_str().as_bytes(), cloud_source.unwrap_or("").as_bytes(), id.as_str().as_bytes()])
}

fn fingerprint(event: &NewEvent) -> [u8; 16] {
    let key = event.key.as_ref().map_or("", |key| key.as_str());
    digest(&[event.kind.as_str().as_bytes(), key.as_bytes(), &event.body])
}

/// Looks an event's id up.
pub(super) fn look_up(ids: &Ids<'_>, event: &NewEvent, now: Timestamp) -> Result<Verdict, ApplyError> {
    let Some(id) = &event.producer_id else { return Ok(Verdict::New) };
    let key = row_key(&event.tenant, event.cloud.as_ref().map(|cloud| cloud.source.as_str()), id);
    let Some(record) = ids.get(&key)? else { return Ok(Verdict::New) };
    let row: Row = codec::decode(record.value())?;
    if now.since(row.accepted) >= REMEMBERED {
        return Ok(Verdict::New);
    }
    Ok(if row.fingerprint == fingerprint(event) {
        Verdict::Same(Seq(row.seq))
    } else {
        Verdict::Conflict(Seq(row.seq))
    })
}

/// Remembers that this event has its id.
pub(super) fn remember(ids: &mut Ids<'_>, event: &NewEvent, seq: Seq, now: Timestamp) -> Result<(), StorageError> {
    let Some(id) = &event.producer_id else { return Ok(()) };
    let key = row_key(&event.tenant, event.cloud.as_ref().map(|cloud| cloud.source.as_str()), id);
    let row = Row { seq: seq.0, accepted: now, fingerprint: fingerprint(event) };
    ids.insert(&key, codec::encode(&row).as_slice())?;
    Ok(())
}

/// Forgets the id of an event that is being deleted, unless a later event has taken it over.
pub(super) fn forget(ids: &mut Ids<'_>, head: &EventHead, seq: Seq) -> Result<(), ApplyError> {
    let Some(id) = &head.producer_id else { return Ok(()) };
    let key = row_key(&head.tenant, head.cloud.as_ref().map(|cloud| cloud.source.as_str()), id);
    let own = match ids.get(&key)? {
        Some(record) => codec::decode::<Row>(record.value())?.seq == seq.0,
        None => false,
    };
    if own {
        ids.remove(&key)?;
    }
    Ok(())
}

/// The event that a producer's own id names, among native events.
pub(super) fn find(
    ids: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    tenant: &TenantId,
    id: &ProducerId,
) -> Result<Option<Seq>, ApplyError> {
    match ids.get(&row_key(tenant, None, id))? {
        Some(record) => Ok(Some(Seq(codec::decode::<Row>(record.value())?.seq))),
        None => Ok(None),
    }
}
