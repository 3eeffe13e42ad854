//! The door to de-duplication: has this tenant's producer used this id before?
//!
//! There is no row per id: the runs ([`super::segments`]) say where an event with such an id may lie, and the event itself
//! says whether it does. Within seven days the same id answers with the first event or with a conflict; when an event is
//! removed, its id is free.

use std::time::Duration;

use redb::ReadableTable;

use crate::model::event::{EventHead, NewEvent, ProducerId};
use crate::model::{EventType, Seq, TenantId};

use super::codec::{self, Content, Place};
use super::segments::pack::{self, Hash};
use super::segments::{Led, Runs, SegmentKey};
use super::tables::Records;
use super::writer::{ApplyError, Batch};

/// How long a producer's id is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

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

/// What makes an event the one that a producer means: a CloudEvent is one by (source, id), a native event by its id alone.
#[derive(PartialEq, Eq)]
struct Name<'event> {
    tenant: &'event TenantId,
    cloud_source: Option<&'event str>,
    id: &'event ProducerId,
}

impl<'event> Name<'event> {
    fn of(head: &'event EventHead) -> Option<Self> {
        let cloud_source = head.cloud.as_ref().map(|cloud| cloud.source.as_str());
        head.producer_id.as_ref().map(|id| Name { tenant: &head.tenant, cloud_source, id })
    }

    fn of_new(event: &'event NewEvent) -> Option<Self> {
        let cloud_source = event.cloud.as_ref().map(|cloud| cloud.source.as_str());
        event.producer_id.as_ref().map(|id| Name { tenant: &event.tenant, cloud_source, id })
    }

    fn hash(&self) -> Hash {
        let space = self.cloud_source.map_or(&b"native"[..], |_| b"cloudevents");
        let source = self.cloud_source.unwrap_or("");
        Hash::of(&[space, self.tenant.as_str().as_bytes(), source.as_bytes(), self.id.as_str().as_bytes()])
    }
}

/// What the runs know an event's id by.
pub(super) fn hash_of(head: &EventHead) -> Option<Hash> {
    Name::of(head).map(|name| name.hash())
}

/// What is compared when an id comes again: type, ordering key and body.
struct Said<'event> {
    kind: &'event EventType,
    key: &'event str,
    body: &'event [u8],
}

impl Said<'_> {
    fn fingerprint(&self) -> [u8; 16] {
        let digest = pack::digest(&[self.kind.as_str().as_bytes(), self.key.as_bytes(), self.body]);
        *digest.first_chunk().expect("a SHA-256 has 32 bytes")
    }

    fn is_in(&self, head: &EventHead, place: Place, record: &[u8]) -> bool {
        let key = head.key.as_ref().map_or("", |key| key.as_str());
        match codec::content(place, record) {
            Ok(Content::Kept(body)) => (self.kind, self.key, self.body) == (&head.kind, key, &body[..]),
            Ok(Content::Erased(fingerprint)) => fingerprint == Some(self.fingerprint()),
            // Nothing tells it apart: the id counts.
            Err(_) => true,
        }
    }
}

/// What is left of a body that is erased, so that its event's id still tells a repeat from a conflict.
pub(super) fn remains(head: &EventHead, body: &[u8]) -> Option<[u8; 16]> {
    let key = head.key.as_ref().map_or("", |key| key.as_str());
    head.producer_id.as_ref().map(|_| Said { kind: &head.kind, key, body }.fingerprint())
}

/// Looks an event's id up.
pub(super) fn look_up(batch: &Batch<'_>, event: &NewEvent) -> Result<Verdict, ApplyError> {
    let Some(name) = Name::of_new(event) else { return Ok(Verdict::New) };
    let key = event.key.as_ref().map_or("", |key| key.as_str());
    let said = Said { kind: &event.kind, key, body: &event.body };
    let found = batch.places_of(name.hash()).first(&batch.segments, |seq, led| {
        let Some(record) = batch.events.get(seq.0)? else { return Ok(None) };
        let Ok(head) = codec::decode_event_head(batch.events.place(seq.0), record.value()) else {
            // That its id has this hash is all that is known of a damaged event. It was taken once, so it is not taken again.
            return Ok((led == Led::ByHash).then_some(Verdict::Same(seq)));
        };
        if Name::of(&head).is_none_or(|other| other != name) {
            return Ok(None);
        }
        Ok(Some(if batch.now.since(head.accepted) >= REMEMBERED {
            Verdict::New
        } else if said.is_in(&head, batch.events.place(seq.0), record.value()) {
            Verdict::Same(seq)
        } else {
            Verdict::Conflict(seq)
        }))
    })?;
    Ok(found.unwrap_or(Verdict::New))
}

/// The event that a producer's own id names, among native events: the newest, however old.
pub(super) fn find(
    runs: &Runs,
    segments: &impl Records<SegmentKey>,
    events: &impl Records<u64>,
    tenant: &TenantId,
    id: &ProducerId,
) -> Result<Option<Seq>, ApplyError> {
    let name = Name { tenant, cloud_source: None, id };
    runs.places_of(name.hash(), None).first(segments, |seq, _| {
        let Some(record) = events.get(seq.0)? else { return Ok(None) };
        let head = codec::decode_event_head(events.place(seq.0), record.value()).ok();
        Ok(head.is_some_and(|head| Name::of(&head).is_some_and(|other| other == name)).then_some(seq))
    })
}

/// Whether an event's id leads to its place, as long as the id is remembered.
pub(super) fn leads_to(
    runs: &Runs,
    segments: &impl Records<SegmentKey>,
    head: &EventHead,
    seq: Seq,
) -> Result<bool, ApplyError> {
    let Some(hash) = hash_of(head) else { return Ok(true) };
    let found = runs.places_of(hash, None).first(segments, |place, _| Ok((place == seq).then_some(())))?;
    Ok(found.is_some())
}
