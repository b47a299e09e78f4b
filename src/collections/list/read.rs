//! Reads a list without a lock: copy, then check that it was still the same block.

use crate::collections::list::memory::ListMemory;
use crate::collections::list::state::{is_of, place, Head};
use crate::heap::block::lasting;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{fence, AtomicU64};
use crate::loom::spin_loop;
use crate::message::item::{words_for, Bytes, Item};
use crate::{Error, ErrorKind, Result};

/// The size up to which an element is copied without a comparison with the length of its block.
const LARGE: usize = 4096;

/// Number of retries while the same words lead nowhere. A writer that replaces a block changes the
/// word that leads to it first. So if nothing else changed, even the second failure would mean
/// damage.
const TRIES: usize = 1000;

#[cold]
pub(crate) fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the list is damaged: its words lead to nothing")
}

/// Returns true if the elements are stored in the words themselves.
pub(crate) const fn is_inline<T: Item + ?Sized>() -> bool {
    matches!(T::SIZE, Some(size) if size <= 8)
}

/// Returns the element that a word stores itself.
#[inline]
pub(crate) fn inline<T: Item + ?Sized>(word: u64) -> Option<T::Owned> {
    T::take(Bytes { words: &[AtomicU64::new(word)], len: T::SIZE? })
}

/// Returns the element in the block that `link` leads to; the inner `None` if it is not valid. The
/// outer `None` if the block was freed or replaced meanwhile.
#[inline]
pub(crate) fn value<T: Item + ?Sized>(memory: &impl ListMemory, link: u64) -> Option<Option<T::Owned>> {
    let at = place(link);
    let bytes = match T::SIZE {
        Some(len) => Bytes { words: memory.words(at, words_for(len))?, len },
        None => {
            let len = memory.words(at, 1)?[0].load(Relaxed);
            // Checked before the copy, because a word of another block is not a length, and could
            // be larger than this block.
            if !still(memory, link) {
                return None;
            }
            match usize::try_from(len) {
                Ok(len) if len <= LARGE || memory.len(at).is_ok_and(|room| len as u64 <= room - 8) => {
                    Bytes { words: memory.words(at + 8, words_for(len))?, len }
                }
                _ => return Some(None),
            }
        }
    };
    let value = T::take(bytes);
    still(memory, link).then_some(value)
}

/// Returns true if the block that `link` leads to is still the same, after its words were read.
#[inline]
fn still(memory: &impl ListMemory, link: u64) -> bool {
    fence(Acquire); // pairs with the Release fence of Slot::claim()
    let generation = memory.word(place(link)).and_then(|word| lasting(word.load(Relaxed)));
    generation.is_some_and(|generation| is_of(link, generation))
}

/// Returns the number of elements.
#[inline]
pub(crate) fn len(memory: &impl ListMemory, head: &Head) -> Result<u64> {
    let (mut last, mut same) = (0, 0);
    while same < TRIES {
        let root = head.root.load(Acquire); // pairs with the store that publishes it
        if root == 0 {
            return Ok(0);
        }
        if let Some([len]) = memory.words(place(root), 1) {
            let len = len.load(Acquire);
            if still(memory, root) {
                return Ok(len);
            }
        }
        // Another root counts as progress.
        same = if root == last { same + 1 } else { 0 };
        last = root;
        spin_loop();
    }
    Err(damaged())
}

/// Returns the element at `index`, as it was at some moment of the call.
#[inline]
pub(crate) fn get<T: Item + ?Sized>(
    memory: &impl ListMemory,
    head: &Head,
    index: u64,
) -> Result<Option<T::Owned>> {
    let mut last = (0, 0);
    let mut same = 0;
    loop {
        let root = head.root.load(Acquire); // pairs with the store that publishes it
        if root == 0 {
            return Ok(None);
        }
        let mut word = 0;
        if let Some([length]) = memory.words(place(root), 1) {
            let is_there = index < length.load(Acquire); // pairs with push and extend
            let at = index.checked_mul(8).and_then(|offset| (place(root) + 8).checked_add(offset));
            let slot = at.filter(|_| is_there).and_then(|at| memory.words(at, 1)?.first());
            // Pairs with set and put_all.
            word = slot.map_or(0, |slot| slot.load(Acquire));
            // The list may have become shorter before this load. Then the word may be one that an
            // append has written behind the end, which is not yet valid.
            let holds = slot.is_none_or(|slot| index < length.load(Acquire) && slot.load(Acquire) == word);
            if holds && still(memory, root) {
                if !is_there {
                    return Ok(None);
                }
                // There is no such word, so the length is damaged.
                slot.ok_or_else(damaged)?;
                if is_inline::<T>() {
                    return inline::<T>(word).map(Some).ok_or_else(damaged);
                }
                if let Some(value) = value::<T>(memory, word) {
                    return value.map(Some).ok_or_else(damaged);
                }
            }
        }
        same = if (root, word) == last { same + 1 } else { 0 };
        last = (root, word);
        if same == TRIES {
            return Err(damaged());
        }
        spin_loop();
    }
}
