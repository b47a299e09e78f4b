//! A value of 1, 2, 4 or 8 bytes: one atomic word that never blocks.
//!
//! # State
//!
//! The bytes of the value, in an atomic of their size.
//!
//! # Memory ordering
//!
//! Reading is Acquire, writing is Release, and an exchange is both. So a reader of a value sees
//! what its writer did before.
//!
//! # Death
//!
//! Every change is one store or one swap, so there is no intermediate state to die in.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Release};
use crate::loom::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicU8};

use crate::message::item::word_of;
use crate::message::{self, Message};

/// Returns true if values of this size are one word.
pub(crate) const fn is_small(size: usize) -> bool {
    matches!(size, 1 | 2 | 4 | 8)
}

/// Returns the bytes of a small value, padded with zeros.
#[inline]
pub(crate) fn to_word<T: Message>(value: &T) -> u64 {
    word_of(message::bytes_of(value))
}

/// Returns the value with these bytes, if they are valid. `None` for larger types.
#[inline]
pub(crate) fn from_word<T: Message>(word: u64) -> Option<T> {
    if size_of::<T>() > 8 {
        return None;
    }
    // SAFETY: eight bytes of our own, and T is no larger.
    unsafe { message::read(word.to_le_bytes().as_ptr()) }
}

/// A small value in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Small<'a> {
    One(&'a AtomicU8),
    Two(&'a AtomicU16),
    Four(&'a AtomicU32),
    Eight(&'a AtomicU64),
}

impl<'a> Small<'a> {
    /// Returns the value of `size` bytes at `at`; `None` if it is not small.
    ///
    /// # Safety
    ///
    /// `at` is aligned to 8 and mapped for 8 bytes as long as `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(at: *const u8, size: usize) -> Option<Small<'a>> {
        // SAFETY: aligned and mapped, as the caller promises; any bytes are atomics.
        unsafe {
            match size {
                1 => Some(Small::One(&*at.cast())),
                2 => Some(Small::Two(&*at.cast())),
                4 => Some(Small::Four(&*at.cast())),
                8 => Some(Small::Eight(&*at.cast())),
                _ => None,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn load(self) -> u64 {
        // Pairs with store() and swap_if().
        match self {
            Small::One(word) => word.load(Acquire).into(),
            Small::Two(word) => word.load(Acquire).into(),
            Small::Four(word) => word.load(Acquire).into(),
            Small::Eight(word) => word.load(Acquire),
        }
    }

    #[inline(always)]
    pub(crate) fn store(self, value: u64) {
        // Pairs with load() and swap_if(). The bits that a cast removes are zero.
        match self {
            Small::One(word) => word.store(value as u8, Release),
            Small::Two(word) => word.store(value as u16, Release),
            Small::Four(word) => word.store(value as u32, Release),
            Small::Eight(word) => word.store(value, Release),
        }
    }

    /// Replaces `seen` with `next`, or returns the current word.
    #[inline]
    pub(crate) fn swap_if(self, seen: u64, next: u64) -> Result<(), u64> {
        // Pairs with load(), store() and itself. The bits that a cast removes are zero.
        match self {
            Small::One(word) => {
                word.compare_exchange(seen as u8, next as u8, AcqRel, Acquire).map(drop).map_err(u64::from)
            }
            Small::Two(word) => {
                word.compare_exchange(seen as u16, next as u16, AcqRel, Acquire).map(drop).map_err(u64::from)
            }
            Small::Four(word) => {
                word.compare_exchange(seen as u32, next as u32, AcqRel, Acquire).map(drop).map_err(u64::from)
            }
            Small::Eight(word) => word.compare_exchange(seen, next, AcqRel, Acquire).map(drop),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!((to_word(&0x1234_u16), from_word::<u16>(0x1234)), (0x1234, Some(0x1234)));
        assert_eq!((to_word(&-1_i8), from_word::<bool>(2), from_word::<char>(0xd800)), (0xff, None, None));
        assert_eq!(from_word::<[u8; 4]>(to_word(&[1_u8, 2, 3, 4])), Some([1, 2, 3, 4]));
        assert_eq!(from_word::<f64>(to_word(&1.5_f64)), Some(1.5));
    }

    #[test]
    fn only_its_own_bytes() {
        for size in [1, 2, 4, 8] {
            let memory = AtomicU64::new(u64::MAX);
            // SAFETY: eight aligned bytes that live as long as `small`.
            let small = unsafe { Small::new(memory.as_ptr().cast(), size) }.unwrap();
            small.store(1);
            assert_eq!((small.load(), small.swap_if(1, 2), small.swap_if(1, 3)), (1, Ok(()), Err(2)));
            assert_eq!(memory.load(Acquire), u64::MAX.checked_shl(8 * size as u32).unwrap_or(0) | 2);
        }
        assert!(!is_small(0) && !is_small(3) && !is_small(16));
    }
}
