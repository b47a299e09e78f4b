//! Two copies of a value, and a counter that selects the current one. Readers never wait for a
//! writer.
//!
//! It is a sequence lock with a readable copy at any time. An owner word beside it admits one
//! writer at a time. Readers take no lock and write nothing. A reader starts over only if a writer
//! finished while it copied, so a stopped writer never delays it.
//!
//! # State
//!
//! | word | meaning |
//! |---|---|
//! | sequence | number of writes; its lowest bit selects the current copy |
//! | copies | the value in words of 64 bits, twice |
//!
//! # Memory ordering
//!
//! A writer fills the copy that is not current, and then stores the sequence with Release. A reader
//! that reads the sequence with Acquire sees the whole copy. The next writer does not touch that
//! copy; the one after it does, and its stores come after a Release fence behind the sequence that
//! took the copy out of use. So a reader that has seen one of these stores also sees, behind its
//! Acquire fence, that the sequence has moved, and starts over.
//!
//! # Death
//!
//! - **Writer dies before the sequence is stored.** Noticed by: the next writer, through the owner
//!   word. Repair: it overwrites the same copy completely. Lost: nothing, the old value is current.
//! - **Writer dies after that.** Noticed by: the same. Repair: none needed. Lost: nothing, the new
//!   value is current.
//! - **Reader dies.** Noticed by: nobody. Repair: none needed. Lost: nothing.

use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::loom::atomic::{fence, AtomicU64};
use crate::loom::spin_loop;

use crate::message::wide_load::copy_words;

/// The memory side, without the writers' owner word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copies<'a> {
    pub(crate) sequence: &'a AtomicU64,
    /// Both copies, one behind the other.
    pub(crate) words: &'a [AtomicU64],
}

impl Copies<'_> {
    /// Returns the copy that is current at this sequence.
    #[inline(always)]
    fn copy(&self, sequence: u64) -> &[AtomicU64] {
        let (even, odd) = self.words.split_at(self.words.len() / 2);
        if sequence % 2 == 0 {
            even
        } else {
            odd
        }
    }

    /// Calls `read` with the current copy. Returns false if a writer was quicker; then what was
    /// read is invalid.
    #[inline(always)]
    fn try_with_copy(&self, read: impl FnOnce(&[AtomicU64])) -> bool {
        let seen = self.sequence.load(Acquire); // pairs with the store in write()
        read(self.copy(seen));
        fence(Acquire); // pairs with the fence in write()
        self.sequence.load(Relaxed) == seen
    }

    /// Passes the words of the value to `word`, all from one moment. Returns false if a writer was
    /// quicker; then the words are invalid.
    pub(crate) fn try_read(&self, mut word: impl FnMut(usize, u64)) -> bool {
        self.try_with_copy(|copy| {
            copy.iter().enumerate().for_each(|(index, from)| word(index, from.load(Relaxed)))
        })
    }

    /// Copies the first `len` bytes of the value to `to`, all from one moment.
    ///
    /// # Safety
    ///
    /// `to` is writable for `len` bytes, and nobody else uses them.
    #[inline(always)]
    pub(crate) unsafe fn read_to(&self, to: *mut u8, len: usize) {
        let read = |copy: &[AtomicU64]| {
            let (whole, last) = copy.split_at(copy.len().min(len / 8));
            // SAFETY: `len / 8` whole words are writable, as the caller promises.
            unsafe { copy_words(whole, to.cast()) };
            if let (Some(last), 1..) = (last.first(), len % 8) {
                let bytes = last.load(Relaxed).to_le_bytes();
                // SAFETY: `len % 8` bytes are writable behind the whole words, as the caller
                // promises.
                unsafe { to.add(8 * whole.len()).copy_from_nonoverlapping(bytes.as_ptr(), len % 8) };
            }
        };
        while !self.try_with_copy(read) {
            // A writer has finished meanwhile, so this reader does not keep it from running. It
            // need not yield its processor, whatever its priority.
            spin_loop();
        }
    }

    /// Writes the value, word by word. Only for the holder of the owner word.
    #[inline]
    pub(crate) fn write(&self, words: impl Iterator<Item = u64>) {
        let next = self.sequence.load(Relaxed).wrapping_add(1);
        fence(Release); // pairs with the fence in try_read()
        self.copy(next).iter().zip(words).for_each(|(to, word)| to.store(word, Relaxed));
        self.sequence.store(next, Release); // pairs with the load in try_read()
    }
}

/// The step before which the models let a writer die.
#[cfg(test)]
impl Copies<'_> {
    pub(crate) fn die_writing(&self, word: u64) {
        let next = self.sequence.load(Relaxed).wrapping_add(1);
        fence(Release);
        if let Some(to) = self.copy(next).first() {
            to.store(word, Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_copy_holds_while_the_other_is_written() {
        let (sequence, words) = (AtomicU64::new(0), [(); 4].map(|_| AtomicU64::new(0)));
        let copies = Copies { sequence: &sequence, words: &words };
        let value = || {
            let mut value = [9_u64; 2];
            // SAFETY: 16 bytes of our own.
            unsafe { copies.read_to(value.as_mut_ptr().cast(), 16) };
            value
        };
        assert_eq!(value(), [0, 0]);
        copies.write([5, 6].into_iter());
        assert_eq!((value(), words[0].load(Relaxed)), ([5, 6], 0));
        copies.die_writing(7);
        assert_eq!((value(), words[0].load(Relaxed)), ([5, 6], 7), "half of it, which nobody reads");
        copies.write([8; 2].into_iter());
        assert_eq!(value(), [8, 8]);
        sequence.store(u64::MAX, Relaxed);
        copies.write([1; 2].into_iter());
        assert_eq!((value(), sequence.load(Relaxed)), ([1, 1], 0));
    }

    #[test]
    fn any_length_is_copied_and_no_more() {
        for len in 0..200 {
            let words: Vec<AtomicU64> = (0..2 * usize::div_ceil(len, 8) as u64)
                .map(|word| AtomicU64::new(u64::from_le_bytes([word as u8 + 1; 8])))
                .collect();
            let copies = Copies { sequence: &AtomicU64::new(0), words: &words };
            let mut value = [0; 208];
            // SAFETY: more bytes than `len`, at an odd address, of our own.
            unsafe { copies.read_to(value.as_mut_ptr().add(1), len) };
            let expected = |at: usize| if at >= 1 && at <= len { (at - 1) as u8 / 8 + 1 } else { 0 };
            assert!(value.iter().enumerate().all(|(at, byte)| *byte == expected(at)), "{len}: {value:?}");
        }
    }
}
