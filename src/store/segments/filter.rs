//! A small filter per run: says for certain that an id is not there, or that it may be.
//!
//! A Bloom filter in blocks of one cache line: a look-up over seventy runs touches seventy lines, and which bits it wants is
//! computed once for all of them. With fourteen bits an id, about one in four hundred strangers is taken for a friend, and
//! costs the reading of one chunk.

use super::pack::Hash;

/// Bits of memory per id.
const BITS_PER_ID: usize = 14;
/// Bits that each id sets, all in one block.
const BITS_SET: u32 = 7;

/// One cache line.
type Block = [u64; 8];
const BLOCK_BITS: usize = 512;

/// Which ids a run may hold.
#[derive(Debug)]
pub struct Filter {
    blocks: Vec<Block>,
}

/// What an id looks for in any filter.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    place: u32,
    block: Block,
}

impl Probe {
    /// Of this id.
    pub fn of(hash: Hash) -> Self {
        let place = mix(hash.bits());
        let mut bits = mix(place);
        let mut block = Block::default();
        for _ in 0..BITS_SET {
            let bit = bits as usize % BLOCK_BITS;
            block[bit / 64] |= 1 << (bit % 64);
            bits >>= BLOCK_BITS.ilog2();
        }
        Probe { place: (place >> 32) as u32, block }
    }
}

impl Filter {
    /// An empty filter with room for so many ids.
    pub fn with_room_for(ids: usize) -> Self {
        Filter { blocks: vec![Block::default(); (ids * BITS_PER_ID).div_ceil(BLOCK_BITS)] }
    }

    /// Adds an id.
    pub fn add(&mut self, hash: Hash) {
        let probe = Probe::of(hash);
        if let Some(place) = self.place(&probe) {
            self.blocks[place].iter_mut().zip(probe.block).for_each(|(word, bits)| *word |= bits);
        }
    }

    /// Whether the id may have been added. Never false for one that was.
    pub fn may_hold(&self, probe: &Probe) -> bool {
        let Some(place) = self.place(probe) else { return false };
        let missing =
            self.blocks[place].iter().zip(probe.block).fold(0, |missing, (word, bits)| missing | (bits & !word));
        missing == 0
    }

    fn place(&self, probe: &Probe) -> Option<usize> {
        let place = (u64::from(probe.place) * self.blocks.len() as u64) >> 32;
        (!self.blocks.is_empty()).then_some(place as usize)
    }

    /// What it takes in memory.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.blocks.len() * size_of::<Block>()
    }
}

/// Spreads the bits of a number over all of it: the finalizer of splitmix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_knows_all_its_ids_and_few_others() {
        let ids = 65_536;
        let mut filter = Filter::with_room_for(ids);
        let hash = |number: usize| Hash::of(&[&number.to_le_bytes()]);
        (0..ids).for_each(|number| filter.add(hash(number)));
        assert!((0..ids).all(|number| filter.may_hold(&Probe::of(hash(number)))));
        let strangers = (ids..2 * ids).filter(|number| filter.may_hold(&Probe::of(hash(*number)))).count();
        assert!(strangers < ids / 250, "{strangers} of {ids} strangers pass");
        assert_eq!(filter.bytes() * 8 / ids, BITS_PER_ID);
    }

    #[test]
    fn an_empty_filter_holds_nothing() {
        assert!(!Filter::with_room_for(0).may_hold(&Probe::of(Hash::of(&[b"x"]))));
    }
}
