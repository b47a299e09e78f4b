//! Size classes: which lengths a block can have, and how a chunk of memory is divided into blocks
//! of one class.
//!
//! A small class divides a chunk of one or four units into blocks. A class of middle size divides
//! one of up to eight units, or has it to itself. A large class is one block in a chunk of its own.
//! Sizes go in steps of 16 bytes up to 128, then in steps of at most a quarter. So a block has at
//! most a quarter more than was asked for, or 16 bytes; and 8 bytes are its word. A chunk whose
//! blocks are all free can be turned into one of another class ([`super::remake`]).
//!
//! ```text
//! chunk    ┌───────────────────────────┐
//!  8       │ word of block 0           │
//!  16      │ bytes of block 0          │ a multiple of 16
//!  ...     │ word of block 1 ...       │
//! ```

/// The unit of chunk sizes, in bytes.
pub(crate) const UNIT: u64 = 16 * 1024;
/// The number of classes.
pub(crate) const CLASSES: usize = SMALL + MIDDLE.len() + 4 * 22;
/// Bytes of a chunk before the first block's word, and before its bytes.
const FIRST_WORD: u64 = 8;
const FIRST_BYTES: u64 = 16;
/// Words of 64 bits that record which blocks of a chunk are taken.
pub(crate) const BIT_WORDS: usize = 16;

/// Classes whose blocks share a chunk.
const SMALL: usize = 8 + 4 * 6;
/// The largest block of a small class, including its word.
const SMALL_MAX: u64 = 8192;
/// Up to this block size a chunk is one unit.
const ONE_UNIT_MAX: u64 = 1024;
/// The most units of a chunk that several blocks share.
pub(crate) const SHARED_UNITS_MAX: usize = 8;
/// The classes of middle size, up to four units: the size of a block, including its word, and the
/// units of a chunk. Larger chunks would make smaller steps, but a small arena has no room for
/// them.
const MIDDLE: [(u64, u64); 12] = [
    (9_360, 4),
    (10_912, 4),
    (13_104, 4),
    (16_376, 1),
    (18_720, 8),
    (21_840, 4),
    (26_208, 8),
    (32_752, 4),
    (40_928, 5),
    (49_144, 3),
    (57_328, 7),
    (65_528, 4),
];

/// The sizes that follow from a class.
#[derive(Clone, Copy)]
struct Dimensions {
    stride: u64,
    units: u32,
    blocks: u32,
}

impl Dimensions {
    const fn of(number: u64) -> Dimensions {
        const FIRST_MIDDLE: u64 = SMALL as u64;
        const FIRST_LARGE: u64 = FIRST_MIDDLE + MIDDLE.len() as u64;
        let (stride, units) = match number {
            0..8 => (16 * (number + 1), 1),
            8..FIRST_MIDDLE => {
                let stride = step_value(128, number - 8);
                (stride, if stride <= ONE_UNIT_MAX { 1 } else { 4 })
            }
            FIRST_MIDDLE..FIRST_LARGE => MIDDLE[(number - FIRST_MIDDLE) as usize],
            _ => {
                let units = step_value(4, number - FIRST_LARGE);
                (units * UNIT - FIRST_WORD, units)
            }
        };
        let blocks = (units * UNIT - FIRST_WORD) / stride;
        Dimensions { stride, units: units as u32, blocks: blocks as u32 }
    }
}

/// The dimensions of all classes, in a table, because every block needs them and computing them
/// takes divisions.
static DIMENSIONS: [Dimensions; CLASSES] = {
    let mut all = [Dimensions::of(0); CLASSES];
    let mut number = 0;
    while number < CLASSES {
        all[number] = Dimensions::of(number as u64);
        number += 1;
    }
    all
};

/// A class of lengths. Always below [`CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(u8);

/// Returns the step that reaches `wanted`, with four steps to a doubling from `first` on, a power
/// of two and a multiple of 4.
fn step_for(first: u64, wanted: u64) -> u64 {
    debug_assert!(wanted > first);
    let top = (wanted - 1).ilog2();
    4 * u64::from(top - first.ilog2()) + ((wanted - 1 - (1 << top)) >> (top - 2))
}

/// Returns the value of that step.
const fn step_value(first: u64, step: u64) -> u64 {
    let octave = first << (step / 4);
    octave + (step % 4 + 1) * (octave / 4)
}

impl Class {
    /// Returns the class of blocks that hold `len` bytes; `None` if none is large enough.
    #[inline]
    pub(crate) fn for_len(len: u64) -> Option<Class> {
        let total = len.checked_add(8)?;
        let number = if total <= 128 {
            total.div_ceil(16).max(1) - 1
        } else if total <= SMALL_MAX {
            8 + step_for(128, total)
        } else if let Some(middle) = MIDDLE.iter().position(|(stride, _)| total <= *stride) {
            (SMALL + middle) as u64
        } else {
            let units = len.checked_add(FIRST_BYTES)?.div_ceil(UNIT);
            (SMALL + MIDDLE.len()) as u64 + step_for(4, units)
        };
        (number < CLASSES as u64).then_some(Class(number as u8))
    }

    /// Returns the smallest class that holds this length and has chunks of at most `units` units;
    /// `None` if there is none.
    pub(crate) fn for_len_within(len: u64, units: u64) -> Option<Class> {
        let first = Class::for_len(len)?;
        (first.0..CLASSES as u8).map(Class).find(|class| class.units() <= units)
    }

    /// Returns a class of larger blocks whose chunks have fewer units, for an arena in which no run
    /// of empty chunks is long enough for this class. `None` if its blocks are more than twice as
    /// large.
    pub(crate) fn in_smaller_chunks(self) -> Option<Class> {
        let mut larger = (self.0 + 1..CLASSES as u8).map(Class);
        larger.find(|class| class.units() < self.units()).filter(|class| class.stride() <= 2 * self.stride())
    }

    /// Returns the class with this number, which was read from memory.
    pub(crate) fn from_number(number: u64) -> Option<Class> {
        (number < CLASSES as u64).then_some(Class(number as u8))
    }

    pub(crate) fn number(self) -> usize {
        self.0.into()
    }

    #[inline]
    fn dimensions(self) -> Dimensions {
        DIMENSIONS[self.number()]
    }

    /// Returns the distance from one block's word to the next one's.
    #[inline]
    fn stride(self) -> u64 {
        self.dimensions().stride
    }

    /// Returns the number of units of a chunk.
    #[inline]
    pub(crate) fn units(self) -> u64 {
        self.dimensions().units.into()
    }

    /// Returns the number of blocks of a chunk, 1,024 at most.
    #[inline]
    pub(crate) fn blocks(self) -> u64 {
        self.dimensions().blocks.into()
    }

    /// Returns the number of bytes that a block holds.
    #[inline]
    pub(crate) fn len(self) -> u64 {
        self.stride() - 8
    }

    /// Returns the number of bytes of a chunk that a block takes.
    pub(crate) fn share(self) -> u64 {
        self.units() * UNIT / self.blocks()
    }

    /// Returns the offset of this block's bytes in its chunk; its word is the 8 bytes before.
    #[inline]
    pub(crate) fn offset(self, block: u64) -> u64 {
        FIRST_BYTES + block * self.stride()
    }

    /// Returns the block whose bytes begin at this offset of the chunk; `None` if no block begins
    /// there.
    #[inline]
    pub(crate) fn block_at(self, offset: u64) -> Option<u64> {
        let from_first = offset.checked_sub(FIRST_BYTES)?;
        if from_first == 0 {
            return Some(0); // without a division: each large block is the first of its chunk
        }
        let block = from_first / self.stride();
        (from_first % self.stride() == 0 && block < self.blocks()).then_some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Class> {
        (0..CLASSES as u64).filter_map(Class::from_number)
    }

    #[test]
    fn every_length_gets_the_smallest_class_that_holds_it() {
        for pair in all().collect::<Vec<_>>().windows(2) {
            assert!(pair[0].len() < pair[1].len(), "{pair:?}");
            assert_eq!(Class::for_len(pair[0].len()), Some(pair[0]));
            assert_eq!(Class::for_len(pair[0].len() + 1), Some(pair[1]));
        }
        assert_eq!(Class::for_len(0), Class::from_number(0));
        let largest = all().last().unwrap();
        assert_eq!(largest.units() * UNIT, 1 << 38, "as large as a segment");
        assert_eq!(Class::for_len(largest.len() + 1), None);
        assert_eq!(Class::for_len(u64::MAX), None);
    }

    #[test]
    fn at_most_a_quarter_of_a_length_is_wasted() {
        for len in (0..100_000).chain((100_000..1 << 22).step_by(7)) {
            let waste = Class::for_len(len).unwrap().len() - len;
            assert!(waste <= (len / 4).max(8) + 8, "{waste} bytes more than {len}");
        }
    }

    #[test]
    fn an_arena_of_four_units_has_a_class_for_every_length_below() {
        for len in 0..4 * UNIT - FIRST_BYTES + 1 {
            let class = Class::for_len_within(len, 4).unwrap();
            assert!(class.units() <= 4 && class.len() >= len, "{class:?} for {len}");
        }
        assert_eq!(Class::for_len_within(4 * UNIT, 4), None);
    }

    #[test]
    fn a_length_can_fall_back_to_chunks_of_fewer_units() {
        for (len, other) in
            [(8000, Some(1)), (9000, Some(1)), (20_000, None), (30_000, Some(3)), (60_000, None)]
        {
            let class = Class::for_len(len).unwrap();
            let found = class.in_smaller_chunks();
            assert_eq!(found.map(Class::units), other, "{class:?} for {len}");
            assert!(found.is_none_or(|found| found.len() > len));
        }
    }

    #[test]
    fn blocks_fit_into_their_chunk_and_its_bits() {
        for class in all() {
            assert!((1..=64 * BIT_WORDS as u64).contains(&class.blocks()), "{class:?}");
            let end = class.offset(class.blocks() - 1) + class.len();
            assert!(class.blocks() == 1 || class.units() <= SHARED_UNITS_MAX as u64, "{class:?}");
            assert!(end <= class.units() * UNIT && class.offset(0) % 16 == 0 && class.stride() % 8 == 0);
            assert_eq!(class.block_at(class.offset(0)), Some(0));
            assert_eq!(class.block_at(class.offset(class.blocks() - 1)), Some(class.blocks() - 1));
            assert_eq!(class.block_at(class.offset(class.blocks())), None);
            assert_eq!(class.block_at(class.offset(0) + 8), None);
        }
        assert_eq!(Class::for_len(24).map(Class::len), Some(24));
    }
}
