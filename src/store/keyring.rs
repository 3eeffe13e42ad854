//! What seals records at rest: AES-256-GCM, with a fresh data key for each start.
//!
//! A data key is wrapped by the master key and lies in a table of its own under a number that grows. Its row is written in the
//! transaction of the first record that it seals: no record is ever on disk without its key, and a start that writes nothing
//! leaves no key behind. Old keys stay, 64 bytes each, because old records name them; they are unwrapped when they are
//! needed first.
//!
//! A nonce is the key's number and a counter that begins with each start, as each start begins a key. Counters need no room
//! for chance meetings, so what bounds a key is how much it has sealed: the counter moves on by the 16-byte blocks of each
//! record, and above [`BLOCKS_MAX`] the store says it has failed, and the daemon starts anew with a fresh key. At 2^48 blocks
//! (4.5 million GB) an observer's advantage is below 2^-32 (blocks squared over 2^129).
//!
//! What is authenticated with a record is its place: the table's name, the record's key, and its envelope. So a record that
//! is moved elsewhere does not open. An older record that is put back where it was does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use secrecy::zeroize::Zeroizing;

use super::damage::Damage;

/// Bytes of a master key and of a data key.
pub const KEY_BYTES: usize = 32;
/// Bytes that a seal adds.
pub(super) const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const WRAPPED_BYTES: usize = 2 + NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// How a wrapped key lies on disk: version 1, wrapped by the master key with AES-256-GCM.
const WRAPPED_ENVELOPE: [u8; 2] = [1, 1];
/// What one data key seals at most, in blocks of 16 bytes.
const BLOCKS_MAX: u64 = 1 << 48;

/// The key that wraps the data keys. It is wiped when dropped and never printed.
#[derive(Clone)]
pub struct MasterKey(Arc<Zeroizing<[u8; KEY_BYTES]>>);

impl MasterKey {
    /// From its bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        MasterKey(Arc::new(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

/// What opens the store's records, and the chance from which this start makes its data key.
#[derive(Clone)]
pub struct Keys {
    master: MasterKey,
    chance: Arc<Zeroizing<[u8; Keys::CHANCE_BYTES]>>,
}

impl Keys {
    /// Bytes of chance that a start needs.
    pub const CHANCE_BYTES: usize = KEY_BYTES + NONCE_BYTES;

    /// `chance` must be drawn anew for each start.
    pub fn new(master: MasterKey, chance: [u8; Keys::CHANCE_BYTES]) -> Self {
        Keys { master, chance: Arc::new(Zeroizing::new(chance)) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// The master key is not the one that wrapped the store's data keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the master key does not open the store's data keys")]
pub(super) struct WrongKey;

/// All data keys of a store. One of them seals; each opens what it has sealed.
pub(super) struct Keyring {
    master: LessSafeKey,
    id: u32,
    fresh: LessSafeKey,
    wrapped: [u8; WRAPPED_BYTES],
    /// Blocks that the fresh key has sealed. Only the writer seals.
    blocks: AtomicU64,
    /// Whether the fresh key's row is on disk.
    kept: AtomicBool,
    old: BTreeMap<u32, Old>,
    /// What did not open, or did not hold what it should.
    damage: Damage,
}

struct Old {
    wrapped: Vec<u8>,
    // Boxed: most old keys are never needed.
    opened: OnceLock<Option<Box<LessSafeKey>>>,
}

impl Keyring {
    /// From the rows of wrapped keys, with a fresh key under the next number.
    pub(super) fn open(keys: &Keys, rows: impl Iterator<Item = (u32, Vec<u8>)>) -> Result<Self, WrongKey> {
        let old: BTreeMap<_, _> = rows.map(|(id, wrapped)| (id, Old { wrapped, opened: OnceLock::new() })).collect();
        let master = key_of(&keys.master.0[..]);
        // A row may be damaged: one that opens proves the master key.
        if !old.is_empty() && !old.iter().rev().any(|(id, old)| old.open(*id, &master).is_some()) {
            return Err(WrongKey);
        }
        let after_last = old.last_key_value().map_or(1, |(id, _)| id.wrapping_add(1));
        let id = (after_last..).find(|id| !old.contains_key(id)).expect("a file holds fewer than 2^32 keys");
        let (data_key, nonce) = keys.chance.split_at(KEY_BYTES);
        let nonce = *nonce.first_chunk::<NONCE_BYTES>().expect("chance is a key and a nonce");
        let mut wrapped = [0; WRAPPED_BYTES];
        let (envelope, rest) = wrapped.split_at_mut(WRAPPED_ENVELOPE.len());
        let (nonce_room, rest) = rest.split_at_mut(NONCE_BYTES);
        let (key_room, tag_room) = rest.split_at_mut(KEY_BYTES);
        envelope.copy_from_slice(&WRAPPED_ENVELOPE);
        nonce_room.copy_from_slice(&nonce);
        key_room.copy_from_slice(data_key);
        tag_room.copy_from_slice(&seal_with(&master, nonce, &wrap_place(id), key_room));
        let fresh = key_of(data_key);
        Ok(Keyring {
            master,
            id,
            fresh,
            wrapped,
            blocks: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            old,
            damage: Damage::default(),
        })
    }

    /// The records that were found to be damaged.
    pub(super) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The number of the key that seals, and its row.
    pub(super) fn row(&self) -> (u32, &[u8]) {
        (self.id, &self.wrapped)
    }

    /// Whether the row of the key that seals is on disk.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// The row of the key that seals has been committed.
    pub(super) fn set_kept(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Whether the key that seals has sealed as much as one key may.
    pub(super) fn is_spent(&self) -> bool {
        self.blocks.load(Ordering::Relaxed) >= BLOCKS_MAX
    }

    /// Whether the master key opens the row of an old key.
    pub(super) fn opens(&self, id: u32) -> bool {
        self.old.get(&id).is_some_and(|old| old.open(id, &self.master).is_some())
    }

    /// Takes counters for so many bytes, in up to two parts: the first is this one, the second the next.
    pub(super) fn take(&self, bytes: usize) -> (u32, u64) {
        // Two blocks a record for what ends short of a block, and one for the lengths of each part.
        let blocks = (bytes / 16) as u64 + 4;
        (self.id, self.blocks.fetch_add(blocks, Ordering::Relaxed))
    }

    /// Seals bytes in place with the fresh key, under a counter that [`Keyring::take`] gave; answers the tag.
    pub(super) fn seal(&self, counter: u64, place: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
        seal_with(&self.fresh, nonce(self.id, counter), place, bytes)
    }

    /// Opens what a key has sealed; `None` when there is no such key.
    pub(super) fn open_record(
        &self,
        id: u32,
        counter: u64,
        place: &[u8],
        sealed: &[u8],
    ) -> Option<Result<Vec<u8>, Broken>> {
        let key = if id == self.id { &self.fresh } else { self.old.get(&id)?.open(id, &self.master)? };
        Some(open_with(key, nonce(id, counter), place, sealed))
    }
}

/// What was sealed does not open: it is damaged, or lies in another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl Old {
    fn open(&self, id: u32, master: &LessSafeKey) -> Option<&LessSafeKey> {
        let open = || {
            let rest = self.wrapped.strip_prefix(&WRAPPED_ENVELOPE)?;
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
            let key = Zeroizing::new(open_with(master, *nonce, &wrap_place(id), sealed).ok()?);
            (key.len() == KEY_BYTES).then(|| Box::new(key_of(&key)))
        };
        self.opened.get_or_init(open).as_deref()
    }
}

fn wrap_place(id: u32) -> Vec<u8> {
    [&b"data key"[..], &id.to_le_bytes()].concat()
}

fn nonce(id: u32, counter: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..4].copy_from_slice(&id.to_le_bytes());
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

fn key_of(bytes: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("a key of AES-256-GCM has 32 bytes"))
}

fn seal_with(key: &LessSafeKey, nonce: [u8; NONCE_BYTES], place: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), bytes)
        .expect("AES-GCM seals whatever is shorter than 64 GB");
    *tag.as_ref().first_chunk().expect("a tag of AES-GCM has 16 bytes")
}

fn open_with(key: &LessSafeKey, nonce: [u8; NONCE_BYTES], place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Broken> {
    let (bytes, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Broken)?;
    let mut plain = vec![0; bytes.len()];
    key.open_separate_gather(Nonce::assume_unique_for_key(nonce), Aad::from(place), bytes, tag, &mut plain)
        .map_err(|_| Broken)?;
    Ok(plain)
}

#[cfg(test)]
mod tests;
