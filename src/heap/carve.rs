//! Carving: chunks one behind the other in an arena, each claimed by one compare-and-swap.
//!
//! A table has one word for each unit of an arena. A chunk is carved by swapping its class into the word of its first unit,
//! where the arena's carved part ends; the end follows, and anybody helps it on. Fresh bytes are a chunk of free blocks: so
//! there is nothing to build, and nothing half-built.
//!
//! # State of a unit's word
//!
//! | bits | meaning |
//! |---|---|
//! | 0..8 | class of the chunk that begins here, plus 1; 0: none does, the fresh state |
//! | 8 | a block of it was freed since somebody last looked: a hint |
//! | 9..64 | 0 |
//!
//! # Memory ordering
//!
//! All that others must see of a chunk is its word, so Relaxed would do but for the hint: it is set after a block is free with
//! Release, and cleared with Acquire before the blocks are looked at. A hint that is missed hides a free block only until
//! the next one of its chunk is freed, or until all chunks are looked at, which is done before an arena is added. Above the
//! hints of the chunks is one for each class of an arena; if that is missed, until the next one of the class is freed there.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | carved, the end not yet moved | the next who carves | it helps the end on | nothing |
//! | a hint cleared, not everything looked at | who next frees there, or looks at all chunks | the hint is set; all is found | nothing |
//! | carved, no block of it claimed | who next looks at all chunks | it is a chunk of free blocks | nothing |

use super::class::Class;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const CLASS: u64 = 0xff;
const FREED: u64 = 1 << 8;

/// The class in a unit's word; `None`: no chunk begins there, or the word is damaged.
#[inline]
pub(crate) fn class_of(word: u64) -> Option<Class> {
    if word & !(CLASS | FREED) != 0 {
        return None;
    }
    Class::from_number((word & CLASS).checked_sub(1)?)
}

/// An arena's table, in words that belong to all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    /// Where the carved part ends, in units. Lags; anybody helps it on.
    pub(crate) end: &'a AtomicU64,
    pub(crate) units: &'a [AtomicU64],
}

impl<'a> Table<'a> {
    /// Carves a chunk; gives its first unit. `None`: it does not fit any more, or the table is damaged.
    pub(crate) fn carve(&self, class: Class) -> Option<usize> {
        // Each step finds a chunk that was not there in the step before.
        for _ in 0..=self.units.len() {
            let end = self.end.load(Acquire);
            let first = usize::try_from(end).ok()?;
            let room = self.units.len().checked_sub(first)? as u64;
            let word = self.units.get(first)?;
            let fits = class.units() <= room;
            let fresh = class.number() as u64 + 1;
            let (stands, is_mine) = match word.load(Acquire) {
                0 if !fits => return None,
                0 => match word.compare_exchange(0, fresh, AcqRel, Acquire) {
                    Ok(_) => (fresh, true),
                    Err(now) => (now, false),
                },
                seen => (seen, false),
            };
            let next = end + class_of(stands)?.units();
            _ = self.end.compare_exchange(end, next, AcqRel, Relaxed);
            if is_mine {
                return Some(first);
            }
        }
        None
    }

    /// The chunk that this unit belongs to: its first unit and its class.
    #[inline]
    pub(crate) fn chunk(&self, unit: usize) -> Option<(usize, Class)> {
        let word = self.units.get(unit)?.load(Relaxed);
        if word != 0 {
            return Some((unit, class_of(word)?));
        }
        // In a chunk of many units, blocks of a small class may begin behind the first.
        let first = (unit.saturating_sub(3)..unit).rev().find(|&unit| self.units[unit].load(Relaxed) != 0)?;
        let class = class_of(self.units[first].load(Relaxed))?;
        (((unit - first) as u64) < class.units()).then_some((first, class))
    }

    /// The first unit of the chunk of this class that was carved last.
    pub(crate) fn last(&self, class: Class) -> Option<usize> {
        self.units.iter().rposition(|word| class_of(word.load(Acquire)) == Some(class))
    }

    /// Says that a block of this chunk was freed.
    #[inline]
    pub(crate) fn set_freed(&self, first: usize) {
        if let Some(word) = self.units.get(first).filter(|word| word.load(Relaxed) & FREED == 0) {
            word.fetch_or(FREED, Release); // pairs with take_freed()
        }
    }

    /// Whether a block of this chunk was freed; and says that somebody looks now.
    pub(crate) fn take_freed(&self, first: usize) -> bool {
        self.units.get(first).is_some_and(|word| {
            word.load(Relaxed) & FREED != 0 && word.fetch_and(!FREED, Acquire) & FREED != 0
            // pairs with set_freed()
        })
    }

    /// The chunks, in the order of their places: first unit and class.
    pub(crate) fn chunks(self) -> impl Iterator<Item = (usize, Class)> + 'a {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = next;
            let class = class_of(self.units.get(first)?.load(Acquire))?;
            next = first.saturating_add(usize::try_from(class.units()).ok()?);
            (next <= self.units.len()).then_some((first, class))
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn chunks_stand_one_behind_the_other() {
        let [one, four] = [40, 2000].map(|len| Class::for_len(len).unwrap());
        let end = AtomicU64::new(0);
        let units: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(0)).collect();
        let table = Table { end: &end, units: &units };
        assert_eq!((table.carve(one), table.carve(four), table.carve(four)), (Some(0), Some(1), None));
        assert_eq!((table.carve(one), table.carve(one)), (Some(5), None));
        assert_eq!(table.chunks().collect::<Vec<_>>(), [(0, one), (1, four), (5, one)]);
        assert_eq!((table.chunk(0), table.chunk(4), table.chunk(6)), (Some((0, one)), Some((1, four)), None));
        // Carved by somebody who died before it moved the end.
        end.store(1, Relaxed);
        units[5].store(0, Relaxed);
        assert_eq!(table.carve(one), Some(5));
        assert_eq!((table.last(one), table.last(four)), (Some(5), Some(1)));
        assert!(!table.take_freed(1));
        (0..2).for_each(|_| table.set_freed(1));
        assert!(table.take_freed(1) && !table.take_freed(1) && table.last(four) == Some(1));
    }

    #[test]
    fn damage_ends_a_search() {
        let one = Class::for_len(40).unwrap();
        for damage in [u64::MAX, 1 << 9, 255] {
            let end = AtomicU64::new(damage);
            let units: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(damage)).collect();
            let table = Table { end: &end, units: &units };
            assert_eq!((table.carve(one), table.chunks().count(), table.chunk(3)), (None, 0, None));
            end.store(0, Relaxed);
            assert_eq!(table.carve(one), None);
        }
    }
}
