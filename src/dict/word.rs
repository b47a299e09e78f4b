//! The two packed words of a dict: a bucket, which leads to an entry, and the word that leads to a table of buckets.
//!
//! Blocks begin at multiples of 16 in a segment of at most 2^38 bytes, so 34 bits say where.

/// Bits of a place in units of 16 bytes.
const PLACE_BITS: u32 = 34;
const PLACE: u64 = (1 << PLACE_BITS) - 1;
/// Bits of a hash that stand in a bucket. A table has at most as many buckets, so its growth reads no entries.
const TAG_BITS: u32 = 64 - PLACE_BITS;
/// The largest table has 2^26 buckets.
const MAX_LOG2: u32 = 26;

/// A bucket that never held an entry, or that nobody need look past: zero is the fresh state.
pub(super) const EMPTY: u64 = 0;
/// A bucket whose entry is gone; what stood behind it still does. No block begins at byte 16.
pub(super) const TOMBSTONE: u64 = 1;

/// The part of a hash that a bucket keeps.
#[inline(always)]
pub(super) fn tag(hash: u64) -> u64 {
    hash & ((1 << TAG_BITS) - 1)
}

/// The bucket of the entry at offset `at`.
#[inline(always)]
pub(super) fn bucket(tag: u64, at: u64) -> u64 {
    debug_assert!(at % 16 == 0 && at >> 4 <= PLACE && at > 16);
    tag << PLACE_BITS | at >> 4
}

/// The tag in a bucket.
#[inline(always)]
pub(super) fn tag_of(bucket: u64) -> u64 {
    bucket >> PLACE_BITS
}

/// The offset of the entry in a bucket that holds one.
#[inline(always)]
pub(super) fn entry_of(bucket: u64) -> u64 {
    (bucket & PLACE) << 4
}

/// Whether the bucket holds an entry.
#[inline(always)]
pub(super) fn is_entry(bucket: u64) -> bool {
    bucket & PLACE > TOMBSTONE
}

/// What was read makes no sense, and nobody was changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A table: 2^`log2` buckets at offset `at`. `turn` tells it from an earlier table at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) turn: u64,
    pub(super) log2: u32,
    pub(super) at: u64,
}

impl Table {
    pub(super) fn capacity(self) -> usize {
        1 << self.log2
    }

    /// The table in a word read from memory, if it says one.
    #[inline(always)]
    pub(super) fn from_word(word: u64) -> Result<Option<Table>, Damaged> {
        let (log2, at) = ((word >> PLACE_BITS) as u32 & 63, (word & PLACE) << 4);
        match at {
            0 => Ok(None),
            _ if log2 > MAX_LOG2 => Err(Damaged),
            _ => Ok(Some(Table { turn: word >> 40, log2, at })),
        }
    }

    pub(super) fn word(self) -> u64 {
        debug_assert!(self.at % 16 == 0 && self.log2 <= MAX_LOG2);
        self.turn << 40 | u64::from(self.log2) << PLACE_BITS | self.at >> 4
    }

    /// The table that follows upon the one in `word`.
    pub(super) fn after(word: u64, log2: u32, at: u64) -> Table {
        Table { turn: (word >> 40).wrapping_add(1) & 0xff_ffff, log2, at }
    }

    /// The size of a table for so many entries, after which it has room for as many more; `None`: too many.
    pub(super) fn log2_for(entries: u64, least: u32) -> Option<u32> {
        (least..=MAX_LOG2).find(|log2| entries.checked_mul(8).is_some_and(|eight| eight <= 3 << log2))
    }

    /// How many buckets may be in use: three quarters, so that a search soon meets an empty one.
    pub(super) fn limit(self) -> u64 {
        (3 << self.log2) >> 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let most = (1 << 38) - 16;
        let word = bucket(tag(u64::MAX), most);
        assert_eq!((tag_of(word), entry_of(word), is_entry(word)), ((1 << 30) - 1, most, true));
        assert!(!is_entry(EMPTY) && !is_entry(TOMBSTONE));
        let table = Table { turn: 0xff_ffff, log2: MAX_LOG2, at: most };
        assert_eq!(Table::from_word(table.word()), Ok(Some(table)));
        assert_eq!(Table::from_word(0), Ok(None));
        assert_eq!((Table::log2_for(3, 3), Table::log2_for(u64::MAX, 3)), (Some(3), None));
        assert_eq!(Table::from_word(63 << PLACE_BITS | 5), Err(Damaged));
        assert_eq!(Table::after(table.word(), 3, 32).turn, 0);
    }

    #[test]
    fn sizes() {
        assert_eq!(Table::log2_for(0, 3), Some(3));
        for entries in [3, 4, 1000, 1 << 20] {
            let log2 = Table::log2_for(entries, 3).unwrap();
            let table = Table { turn: 0, log2, at: 16 };
            assert!(table.limit() >= 2 * entries && (log2 == 3 || table.limit() < 4 * entries + 4));
        }
        assert_eq!(Table::log2_for(1 << 26, 3), None);
    }
}
