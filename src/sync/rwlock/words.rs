//! The words of a readers-writer lock as plain numbers: predicates and transitions.
//! [`crate::sync::rwlock::state`] draws their bits.

use crate::segment::owner::{OwnerId, MAX_PARTICIPANTS};

/// The number of lines, one for each participant. Smaller in the loom models.
pub(super) const LINES: usize = if cfg!(loom) { 4 } else { MAX_PARTICIPANTS };

/// The owner id in the writer word.
pub(super) const OWNER: u64 = (1 << OwnerId::BITS) - 1;
/// The writer has written nothing yet.
pub(super) const DRAINING: u64 = 1 << 32;
/// A writer died inside.
pub(super) const DIED: u64 = 1 << 33;

/// More readers of one process than are possible: guards were forgotten.
pub(super) const COUNT_MAX: u32 = 1 << 31;

/// Returns the writer that holds or claims the lock. A word that no participant can have written
/// counts as free.
#[inline]
pub(super) fn writer(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word & OWNER) as u32)
}

/// Returns the writer word after the death of its owner.
pub(super) fn after_death(word: u64) -> u64 {
    match word & DRAINING {
        0 => DIED,
        _ => word & DIED,
    }
}

/// Returns the word of a line.
#[inline]
pub(super) fn announced(owner: OwnerId, count: u32) -> u64 {
    u64::from(owner.bits()) << 32 | u64::from(count)
}

/// Returns the participant that a line's word names.
#[inline]
pub(super) fn reader(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word >> 32) as u32)
}

#[inline]
pub(super) fn count(word: u64) -> u32 {
    word as u32
}

/// Returns the number of readers of the participant whose line has this word, which has this index.
#[inline]
pub(super) fn count_at(index: usize, word: u64) -> u32 {
    match count(word) {
        0 => 0,
        count => reader(word).filter(|reader| reader.index() == index).map_or(0, |_| count),
    }
}

/// Returns the position of a participant's line. Lines of neighbours are two apart while there are
/// enough.
#[inline]
pub(super) fn line_of(index: usize) -> usize {
    (index * 2) % LINES + (index * 2) / LINES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, 1).unwrap()
    }

    #[test]
    fn words() {
        let word = announced(id(3), 7);
        assert_eq!((reader(word), count(word)), (Some(id(3)), 7));
        assert_eq!(writer(u64::from(id(3).bits()) | DRAINING | DIED), Some(id(3)));
        assert_eq!(writer(5), None, "generation 0");
        assert_eq!(after_death(u64::from(id(3).bits()) | DRAINING), 0);
        assert_eq!(after_death(u64::from(id(3).bits())), DIED);
    }

    #[test]
    fn every_participant_has_a_line_of_its_own() {
        let lines: std::collections::BTreeSet<_> = (0..LINES).map(line_of).collect();
        assert_eq!((lines.len(), lines.last()), (LINES, Some(&(LINES - 1))));
    }
}
