//! The two packed words of a dict: a bucket, which leads to an entry, and the word that leads to a
//! table of buckets.
//!
//! Blocks begin at multiples of 16 in a segment of at most 2^38 bytes, so 34 bits are enough for an
//! offset.

/// Bits of an offset in units of 16 bytes.
const PLACE_BITS: u32 = 34;
const PLACE: u64 = (1 << PLACE_BITS) - 1;
/// Bits of a hash that a bucket stores. They are enough to select a bucket in the largest table, so
/// growing reads no entries.
const TAG_BITS: u32 = 64 - PLACE_BITS;
/// The smallest table has 2^3 buckets.
pub(crate) const LEAST_LOG2: u32 = if cfg!(loom) { 1 } else { 3 };
/// The largest table has 2^26 buckets.
const MAX_LOG2: u32 = 26;

/// A bucket that never held an entry, or that ends every search. Zero is the fresh state.
pub(crate) const EMPTY: u64 = 0;
/// A bucket whose entry was removed, while searches continue behind it. No block begins at byte 16.
pub(crate) const TOMBSTONE: u64 = 1;

/// Returns the part of a hash that a bucket stores.
#[inline(always)]
pub(crate) fn tag(hash: u64) -> u64 {
    hash & ((1 << TAG_BITS) - 1)
}

/// Returns the bucket of the entry at offset `at`.
#[inline(always)]
pub(crate) fn bucket(tag: u64, at: u64) -> u64 {
    debug_assert!(at % 16 == 0 && at >> 4 <= PLACE && at > 16);
    tag << PLACE_BITS | at >> 4
}

/// Returns the tag in a bucket.
#[inline(always)]
pub(crate) fn tag_of(bucket: u64) -> u64 {
    bucket >> PLACE_BITS
}

/// Returns the offset of the entry in a bucket that holds one.
#[inline(always)]
pub(crate) fn entry_of(bucket: u64) -> u64 {
    (bucket & PLACE) << 4
}

/// Returns true if the bucket holds an entry.
#[inline(always)]
pub(crate) fn is_entry(bucket: u64) -> bool {
    bucket & PLACE > TOMBSTONE
}

/// The error of a read that makes no sense, although no writer was changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A table: 2^`log2` buckets at offset `at`. `turn` tells it from an earlier table at the same
/// offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) turn: u64,
    pub(crate) log2: u32,
    pub(crate) at: u64,
}

impl Table {
    pub(crate) fn capacity(self) -> usize {
        1 << self.log2
    }

    /// Returns the table that a word describes, if it is valid.
    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Result<Option<Table>, Damaged> {
        let (log2, at) = ((word >> PLACE_BITS) as u32 & 63, (word & PLACE) << 4);
        match at {
            0 => Ok(None),
            _ if !(LEAST_LOG2..=MAX_LOG2).contains(&log2) => Err(Damaged),
            _ => Ok(Some(Table { turn: word >> 40, log2, at })),
        }
    }

    pub(crate) fn word(self) -> u64 {
        debug_assert!(self.at % 16 == 0 && self.log2 <= MAX_LOG2);
        self.turn << 40 | u64::from(self.log2) << PLACE_BITS | self.at >> 4
    }

    /// Returns the table that follows the one in `word`.
    pub(crate) fn after(word: u64, log2: u32, at: u64) -> Table {
        Table { turn: (word >> 40).wrapping_add(1) & 0xff_ffff, log2, at }
    }

    /// Returns the size of a table for twice `entries` entries; `None` if they are too many.
    pub(crate) fn log2_for(entries: u64, least: u32) -> Option<u32> {
        (least..=MAX_LOG2).find(|log2| entries.checked_mul(8).is_some_and(|eight| eight <= 3 << log2))
    }

    /// Returns the highest number of used buckets: three quarters, so that a search soon meets an
    /// empty one.
    pub(crate) fn limit(self) -> u64 {
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
        assert_eq!(Table::from_word(2 << PLACE_BITS | 5), Err(Damaged));
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
