//! Owner ids: the holder of a slot, a lock or a role, in 30 bits that fit a futex word beside two
//! flags.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..10 | index of the participant in its segment's table |
//! | 10..30 | generation of that index, never 0 |
//!
//! So an id is never 0, and 0 in a word means nobody. A generation returns after 1,048,574 others
//! at the same index. By then no word can name its earlier participant, because a participant's
//! words are cleared before its index is used again.

/// The number of participants that a segment can have at once.
pub(crate) const MAX_PARTICIPANTS: usize = 1 << INDEX_BITS;
/// The largest generation.
pub(crate) const MAX_GENERATION: u32 = (1 << GENERATION_BITS) - 1;

const INDEX_BITS: u32 = 10;
const GENERATION_BITS: u32 = 20;

/// One attachment of one process to one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OwnerId(u32);

impl OwnerId {
    /// Width of an id.
    pub(crate) const BITS: u32 = INDEX_BITS + GENERATION_BITS;

    /// Returns the id of `generation` at `index`; `None` if either is out of range or the
    /// generation is 0.
    pub(crate) fn new(index: usize, generation: u32) -> Option<OwnerId> {
        let fits = index < MAX_PARTICIPANTS && (1..=MAX_GENERATION).contains(&generation);
        fits.then_some(OwnerId(generation << INDEX_BITS | index as u32))
    }

    /// Returns the next id at `index` after `generation`; 0 is skipped. An index out of range
    /// wraps.
    pub(crate) fn first_after(index: usize, generation: u32) -> OwnerId {
        let next = generation % MAX_GENERATION + 1;
        OwnerId(next << INDEX_BITS | index as u32 & (MAX_PARTICIPANTS as u32 - 1))
    }

    /// Returns the id in a word read from memory; `None` if no participant can have it.
    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Option<OwnerId> {
        (bits >> INDEX_BITS != 0 && bits >> OwnerId::BITS == 0).then_some(OwnerId(bits))
    }

    /// Returns the id as words store it.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// Returns the index of its line in the table.
    pub(crate) fn index(self) -> usize {
        self.0 as usize & (MAX_PARTICIPANTS - 1)
    }

    /// Returns its number among the participants that had this index.
    pub(crate) fn generation(self) -> u32 {
        self.0 >> INDEX_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_30_bits_and_generations_wrap_past_0() {
        let id = OwnerId::new(1023, MAX_GENERATION).unwrap();
        assert_eq!((id.index(), id.generation(), id.bits()), (1023, MAX_GENERATION, (1 << 30) - 1));
        assert_eq!(OwnerId::from_bits(id.bits()), Some(id));
        assert_eq!(OwnerId::from_bits(5), None, "generation 0");
        assert_eq!(OwnerId::from_bits(1 << 30), None);
        assert_eq!(OwnerId::new(1024, 1), None);
        assert_eq!(OwnerId::new(0, 0), None);
        assert_eq!(OwnerId::first_after(7, 0), OwnerId::new(7, 1).unwrap());
        assert_eq!(OwnerId::first_after(7, MAX_GENERATION), OwnerId::new(7, 1).unwrap());
    }
}
