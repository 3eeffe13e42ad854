//! A disk that remembers in which order it was written, and the images that a power cut may leave of it.
//!
//! What was written before the last completed sync is there. Of what came after it, each write may have arrived, not
//! arrived, arrived in part, or left garbage where it should have gone; in any order; and each change of the length may have
//! happened or not. One thing is asked of the disk, as every file with a header must: the header's sector may be torn
//! between any two bytes, but it never becomes garbage.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use postrider::store::StorageBackend;

const SECTOR: usize = 512;

/// One thing that was done to the disk.
#[derive(Debug, Clone)]
pub enum Act {
    Write { offset: usize, data: Arc<[u8]> },
    SetLength(usize),
    Sync,
}

/// The disk. Clones share it: a store that is opened anew finds what the last one left.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

#[derive(Default)]
struct Platter {
    bytes: Vec<u8>,
    acts: Vec<Act>,
}

impl Disk {
    pub fn of(bytes: Vec<u8>) -> Self {
        Disk(Arc::new(Mutex::new(Platter { bytes, acts: Vec::new() })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many things have been done to it.
    pub fn acts(&self) -> usize {
        self.platter().acts.len()
    }

    /// What has been done to it.
    pub fn history(&self) -> Vec<Act> {
        self.platter().acts.clone()
    }
}

// The bytes of a disk are nothing to print.
impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platter = self.platter();
        f.debug_struct("Disk").field("bytes", &platter.bytes.len()).field("acts", &platter.acts.len()).finish()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (offset, platter) = (offset as usize, self.platter());
        let found = platter.bytes.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.bytes.resize(length as usize, 0);
        platter.acts.push(Act::SetLength(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.platter().acts.push(Act::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (offset, mut platter) = (offset as usize, self.platter());
        let end = offset + data.len();
        if platter.bytes.len() < end {
            platter.bytes.resize(end, 0);
        }
        platter.bytes[offset..end].copy_from_slice(data);
        platter.acts.push(Act::Write { offset, data: data.into() });
        Ok(())
    }
}

/// Whether a sync does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    Honest,
    /// It answers and does nothing: the control that must be caught.
    Lying,
}

/// Plays a disk's history up to a cut. Cuts must come in order.
pub struct Reel<'a> {
    acts: &'a [Act],
    syncs: Syncs,
    bytes: Vec<u8>,
    durable: usize,
}

/// What a power cut leaves.
pub struct Image {
    pub bytes: Vec<u8>,
    pub damage: Damage,
    /// Writes that no sync had covered.
    pub writes: usize,
    /// Whether a change of the length was among them.
    pub resized: bool,
}

/// What became of the writes that no sync had covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Damage {
    /// None arrived.
    Lost,
    /// All arrived.
    Whole,
    /// Those up to one of them arrived, and that one in part.
    Stopped,
    /// Each arrived, or not, or in part, or as garbage.
    Mixed,
    /// The same, in any order.
    Reordered,
}

impl Damage {
    pub const ALL: [Damage; 5] = [Damage::Lost, Damage::Whole, Damage::Stopped, Damage::Mixed, Damage::Reordered];
}

impl<'a> Reel<'a> {
    pub fn new(base: Vec<u8>, acts: &'a [Act], syncs: Syncs) -> Self {
        Reel { acts, syncs, bytes: base, durable: 0 }
    }

    /// An image of the disk when the power goes after the first `cut` acts.
    pub fn image(&mut self, cut: usize, rng: &mut fastrand::Rng) -> Image {
        let is_sync = |act: &Act| matches!(act, Act::Sync) && self.syncs == Syncs::Honest;
        if let Some(place) = self.acts[self.durable..cut].iter().rposition(is_sync) {
            for act in &self.acts[self.durable..self.durable + place] {
                arrive(&mut self.bytes, act);
            }
            self.durable += place + 1;
        }
        let mut pending: Vec<&Act> =
            self.acts[self.durable..cut].iter().filter(|act| !matches!(act, Act::Sync)).collect();
        let damage = Damage::ALL[rng.usize(..Damage::ALL.len())];
        let (writes, resized) = (pending.len(), pending.iter().any(|act| matches!(act, Act::SetLength(_))));
        let mut bytes = self.bytes.clone();
        match damage {
            Damage::Lost => {}
            Damage::Whole => pending.iter().for_each(|act| arrive(&mut bytes, act)),
            Damage::Stopped => {
                let stop = rng.usize(..=pending.len());
                pending[..stop].iter().for_each(|act| arrive(&mut bytes, act));
                if let Some(act) = pending.get(stop) {
                    arrive_somehow(&mut bytes, act, Fate::Torn, rng);
                }
            }
            Damage::Mixed | Damage::Reordered => {
                if damage == Damage::Reordered {
                    rng.shuffle(&mut pending);
                }
                for act in pending {
                    let fate = Fate::ALL[rng.usize(..Fate::ALL.len())];
                    arrive_somehow(&mut bytes, act, fate, rng);
                }
            }
        }
        Image { bytes, damage, writes, resized }
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Dropped,
    Torn,
    Garbage,
}

impl Fate {
    const ALL: [Fate; 4] = [Fate::Kept, Fate::Dropped, Fate::Torn, Fate::Garbage];
}

fn arrive(bytes: &mut Vec<u8>, act: &Act) {
    match act {
        Act::Write { offset, data } => put(bytes, *offset, data),
        Act::SetLength(length) => bytes.resize(*length, 0),
        Act::Sync => {}
    }
}

/// What would lie behind the end is gone: the new length did not arrive.
fn put(bytes: &mut [u8], offset: usize, data: &[u8]) {
    if let Some(room) = bytes.get_mut(offset..) {
        let length = room.len().min(data.len());
        room[..length].copy_from_slice(&data[..length]);
    }
}

fn arrive_somehow(bytes: &mut Vec<u8>, act: &Act, fate: Fate, rng: &mut fastrand::Rng) {
    let Act::Write { offset, data } = act else {
        // A length changes or it does not.
        if rng.bool() {
            arrive(bytes, act);
        }
        return;
    };
    let offset = *offset;
    match fate {
        Fate::Kept => put(bytes, offset, data),
        Fate::Dropped => {}
        Fate::Torn => tear(bytes, offset, data, rng),
        Fate::Garbage if offset < SECTOR => tear(bytes, offset, data, rng),
        Fate::Garbage => {
            let mut garbage = data.to_vec();
            let start = rng.usize(..garbage.len()) / SECTOR * SECTOR;
            rng.fill(&mut garbage[start..]);
            put(bytes, offset, &garbage);
        }
    }
}

fn tear(bytes: &mut [u8], offset: usize, data: &[u8], rng: &mut fastrand::Rng) {
    let place = rng.usize(..=data.len());
    match rng.u8(..4) {
        0 => put(bytes, offset, &data[..place]),
        1 => put(bytes, offset + place, &data[place..]),
        // Below a sector each byte is on its own.
        2 if offset < SECTOR => {
            for (at, byte) in data.iter().enumerate().filter(|_| rng.bool()) {
                put(bytes, offset + at, &[*byte]);
            }
        }
        _ => {
            for (number, sector) in data.chunks(SECTOR).enumerate() {
                if rng.bool() {
                    put(bytes, offset + number * SECTOR, sector);
                }
            }
        }
    }
}
