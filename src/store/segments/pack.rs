//! How a run's lists lie in their rows.
//!
//! A list names events by their offset from the run's first, in ascending order: as gaps of one to three bytes, or as a
//! bitmap where that is shorter. A chunk holds marks, each a hash of 48 bits above an offset of 16, sorted, eight bytes each.
//! A hash only points: whoever follows it looks at the event itself, so that two names with one hash stay two names.

use sha2::{Digest, Sha256};

use crate::store::codec::DecodeError;

/// Events in one run at most: an offset has 16 bits.
pub const RUN_EVENTS_MAX: usize = 1 << 16;
/// Marks per chunk, about: a chunk with its key fits a page of the file.
const MARKS_PER_CHUNK: usize = 400;

/// 48 bits of SHA-256: whoever chooses names cannot choose many with one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u64);

/// SHA-256 with a length before each part, so that no two lists of parts share bytes.
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl Hash {
    /// Of a list of parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let first = digest(parts);
        Hash(u64::from_le_bytes(*first.first_chunk().expect("a SHA-256 has 32 bytes")) >> 16)
    }

    /// As a number below 2^48.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Which of so many chunks holds it. Chunks are in the order of hashes.
    pub fn chunk(self, chunks: u32) -> u32 {
        ((self.0 * u64::from(chunks)) >> 48) as u32
    }
}

/// A hash and the offset of the event that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// From its parts.
    pub fn new(hash: Hash, offset: u16) -> Self {
        Mark(hash.0 << 16 | u64::from(offset))
    }

    /// The hash.
    pub fn hash(self) -> Hash {
        Hash(self.0 >> 16)
    }

    /// The offset.
    pub fn offset(self) -> u16 {
        self.0 as u16
    }

    /// Its upper and its lower half.
    pub fn halves(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, self.0 as u32)
    }

    /// From its upper and its lower half.
    pub fn from_halves((upper, lower): (u32, u32)) -> Self {
        Mark(u64::from(upper) << 32 | u64::from(lower))
    }
}

/// Marks on their way into chunks.
pub struct Chunks {
    marks: Vec<Mark>,
    ends: Vec<usize>,
}

impl Chunks {
    /// Deals marks out to chunks. Takes no time to speak of: each chunk is sorted when its turn comes.
    pub fn of(marks: impl Iterator<Item = Mark> + Clone) -> Self {
        let count = marks.clone().count();
        let chunks = count.div_ceil(MARKS_PER_CHUNK);
        let chunk = |mark: &Mark| mark.hash().chunk(chunks as u32) as usize;
        let mut ends = vec![0; chunks];
        marks.clone().for_each(|mark| ends[chunk(&mark)] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        let mut dealt = vec![Mark(0); count];
        for mark in marks {
            let place = &mut ends[chunk(&mark)];
            dealt[*place] = mark;
            *place += 1;
        }
        Chunks { marks: dealt, ends }
    }

    /// How many chunks there are.
    pub fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// How many marks there are.
    pub fn marks(&self) -> usize {
        self.marks.len()
    }

    /// The marks of one chunk, sorted.
    pub fn sorted(&mut self, chunk: u32) -> &[Mark] {
        let chunk = chunk as usize;
        let start = if chunk == 0 { 0 } else { self.ends[chunk - 1] };
        let marks = &mut self.marks[start..self.ends[chunk]];
        marks.sort_unstable();
        marks
    }
}

/// The row of a chunk.
pub fn pack_chunk(sorted: &[Mark]) -> Vec<u8> {
    sorted.iter().flat_map(|mark| mark.0.to_le_bytes()).collect()
}

/// The marks of a chunk's row.
pub fn unpack_chunk(packed: &[u8]) -> Result<&[[u8; 8]], DecodeError> {
    match packed.as_chunks() {
        (marks, []) => Ok(marks),
        (_, _) => Err(DecodeError::Damaged("a chunk ends within a mark".into())),
    }
}

/// A mark in a chunk's row.
pub fn mark(packed: &[u8; 8]) -> Mark {
    Mark(u64::from_le_bytes(*packed))
}

/// The offsets that a chunk has for a hash, in ascending order.
pub fn offsets_of(packed: &[u8], hash: Hash) -> Result<Vec<u16>, DecodeError> {
    let marks = unpack_chunk(packed)?;
    let start = marks.partition_point(|packed| mark(packed) < Mark::new(hash, 0));
    Ok(marks[start..].iter().map(mark).take_while(|mark| mark.hash() == hash).map(Mark::offset).collect())
}

const GAPS: u8 = 0;
const BITMAP: u8 = 1;

/// The row of a list: offsets in ascending order, none twice.
pub fn pack_list(offsets: &[u16]) -> Vec<u8> {
    let bitmap_bytes = offsets.last().map_or(0, |last| usize::from(*last) / 8 + 1);
    let mut packed = vec![GAPS];
    let mut next = 0;
    for offset in offsets {
        let mut gap = offset - next;
        while gap >= 0x80 {
            packed.push(gap as u8 | 0x80);
            gap >>= 7;
        }
        packed.push(gap as u8);
        next = offset.wrapping_add(1);
        if packed.len() > bitmap_bytes + 1 {
            return bitmap(offsets, bitmap_bytes);
        }
    }
    packed
}

fn bitmap(offsets: &[u16], bytes: usize) -> Vec<u8> {
    let mut packed = vec![0; 1 + bytes];
    packed[0] = BITMAP;
    for offset in offsets {
        packed[1 + usize::from(*offset) / 8] |= 1 << (offset % 8);
    }
    packed
}

/// The offsets of a list's row.
pub fn unpack_list(packed: &[u8]) -> Result<Vec<u16>, DecodeError> {
    let damaged = || DecodeError::Damaged("a list of events is damaged".into());
    match packed.split_first() {
        Some((&GAPS, gaps)) => unpack_gaps(gaps).ok_or_else(damaged),
        Some((&BITMAP, bits)) if bits.len() <= RUN_EVENTS_MAX / 8 => {
            let is_set = |offset: &u16| bits[usize::from(*offset) / 8] >> (offset % 8) & 1 == 1;
            let end = bits.len() * 8;
            Ok((0..end).map(|offset| offset as u16).filter(is_set).collect())
        }
        Some(_) | None => Err(damaged()),
    }
}

fn unpack_gaps(packed: &[u8]) -> Option<Vec<u16>> {
    let mut offsets = Vec::with_capacity(packed.len());
    let (mut next, mut gap, mut shift) = (0u32, 0u32, 0);
    for byte in packed {
        gap |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 != 0 {
            shift += 7;
            continue;
        }
        let offset = u16::try_from(next.checked_add(gap)?).ok()?;
        offsets.push(offset);
        next = u32::from(offset) + 1;
        (gap, shift) = (0, 0);
    }
    (shift == 0).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_survives_its_packing(offsets: BTreeSet<u16>, dense in 0u16..3000) {
            for offsets in [offsets.into_iter().collect::<Vec<_>>(), (0..dense).collect(), (65_000..=65_535).collect()] {
                prop_assert_eq!(unpack_list(&pack_list(&offsets)).unwrap(), offsets);
            }
        }

        #[test]
        fn what_is_no_list_is_damaged_or_short(packed: Vec<u8>) {
            if let Ok(offsets) = unpack_list(&packed) {
                prop_assert!(offsets.is_sorted());
            }
        }

        #[test]
        fn a_chunk_has_the_offsets_of_each_hash(names in prop::collection::vec(0u16..50, 0..3000)) {
            let hash = |name: u16| Hash::of(&[&name.to_le_bytes()]);
            let marks = names.iter().enumerate().map(|(offset, name)| Mark::new(hash(*name), offset as u16));
            let mut chunks = Chunks::of(marks);
            let count = chunks.count();
            let rows: Vec<_> = (0..count).map(|chunk| pack_chunk(chunks.sorted(chunk))).collect();
            for name in 0..60 {
                let wanted: Vec<_> = (0..names.len()).filter(|offset| names[*offset] == name).map(|it| it as u16).collect();
                let found = match rows.get(hash(name).chunk(count) as usize) {
                    Some(row) => offsets_of(row, hash(name)).unwrap(),
                    None => vec![],
                };
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn a_list_of_everything_is_a_bitmap_and_a_sparse_one_is_gaps() {
        let all: Vec<_> = (0..=u16::MAX).collect();
        assert_eq!(pack_list(&all).len(), 1 + 8192);
        assert_eq!(pack_list(&[5, 60_000]), [GAPS, 5, 0xda, 0xd4, 0x03], "a row's bytes stay as they are");
        assert_eq!(pack_list(&[0, 1, 2, 9]), [BITMAP, 0b111, 0b10]);
        assert_eq!(pack_chunk(&[Mark::new(Hash(0x0102_0304_0506), 7)]), [7, 0, 6, 5, 4, 3, 2, 1]);
        assert_eq!(pack_list(&[]), [GAPS]);
    }

    #[test]
    fn a_list_that_ends_early_or_runs_over_is_damaged() {
        for packed in
            [&[][..], &[2], &[GAPS, 0x80], &[GAPS, 0xff, 0xff, 0x7f], &[GAPS, 0x80, 0x80, 0x80, 0x80, 0x80, 1]]
        {
            assert!(unpack_list(packed).is_err(), "{packed:?}");
        }
        assert!(unpack_list(&[BITMAP; RUN_EVENTS_MAX / 8 + 2]).is_err());
        assert!(offsets_of(&[0; 9], Hash(0)).is_err());
    }
}
