//! Reading a list without a lock: copy, then look whether it was still that block.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{fence, AtomicU64};

use super::{is_of, place, Head};
use crate::heap::block::generation;
use crate::heap::Heap;
use crate::item::{words_for, Bytes, Item};
use crate::{Error, ErrorKind, Result};

/// Bytes of an element that are copied on the word of its block alone.
const LARGE: usize = 4096;

/// So often the same words may lead nowhere. A writer that replaces a block changes the word that leads to it first; so
/// twice would mean damage already, if nothing else changed.
const TRIES: usize = 1000;

#[cold]
pub(super) fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the list is damaged: its words lead to nothing")
}

/// Whether the elements are in the words themselves.
pub(super) const fn is_inline<T: Item + ?Sized>() -> bool {
    matches!(T::SIZE, Some(size) if size <= 8)
}

/// The element in a word that holds it itself.
#[inline]
pub(super) fn inline<T: Item + ?Sized>(word: u64) -> Option<T::Owned> {
    T::take(Bytes { words: &[AtomicU64::new(word)], len: T::SIZE? })
}

/// The element in the block that `link` leads to, if it is valid. `None`: another block stands there by now, or none does.
#[inline]
pub(super) fn value<T: Item + ?Sized>(heap: &Heap, link: u64) -> Option<Option<T::Owned>> {
    let at = place(link);
    let bytes = match T::SIZE {
        Some(len) => Bytes { words: heap.words(at, words_for(len))?, len },
        None => {
            let len = heap.words(at, 1)?[0].load(Relaxed);
            // So that no more is copied than is there: half of something else is no length.
            if !still(heap, link) {
                return None;
            }
            match usize::try_from(len) {
                Ok(len) if len <= LARGE || heap.len(at).is_ok_and(|room| len as u64 <= room - 8) => {
                    Bytes { words: heap.words(at + 8, words_for(len))?, len }
                }
                _ => return Some(None),
            }
        }
    };
    let value = T::take(bytes);
    still(heap, link).then_some(value)
}

/// Whether the block that `link` leads to still stands there, after its words were read.
#[inline]
fn still(heap: &Heap, link: u64) -> bool {
    fence(Acquire); // pairs with the Release fence of Slot::claim()
    heap.word(place(link)).is_some_and(|word| is_of(link, generation(word.load(Relaxed))))
}

/// How many elements there are.
#[inline]
pub(super) fn len(heap: &Heap, head: &Head) -> Result<u64> {
    let (mut last, mut same) = (0, 0);
    while same < TRIES {
        let root = head.root.load(Acquire); // pairs with the store of who publishes it
        if root == 0 {
            return Ok(0);
        }
        if let Some([len]) = heap.words(place(root), 1) {
            let len = len.load(Acquire);
            if still(heap, root) {
                return Ok(len);
            }
        }
        // Another root counts as progress.
        same = if root == last { same + 1 } else { 0 };
        last = root;
    }
    Err(damaged())
}

/// The element at `index`, as it was at some moment of the call.
#[inline]
pub(super) fn get<T: Item + ?Sized>(heap: &Heap, head: &Head, index: u64) -> Result<Option<T::Owned>> {
    let mut last = (0, 0);
    let mut same = 0;
    loop {
        let root = head.root.load(Acquire); // pairs with the store of who publishes it
        if root == 0 {
            return Ok(None);
        }
        let mut word = 0;
        if let Some([length]) = heap.words(place(root), 1) {
            let is_there = index < length.load(Acquire); // pairs with push and extend
            let at = index.checked_mul(8).and_then(|offset| (place(root) + 8).checked_add(offset));
            let slot = at.filter(|_| is_there).and_then(|at| heap.words(at, 1)?.first());
            word = slot.map_or(0, |slot| slot.load(Acquire)); // pairs with set and put_all
                                                              // The list may have become shorter before, and that be what is about to be put behind it: then the word holds for
                                                              // nobody yet.
            let holds = slot.is_none_or(|slot| index < length.load(Acquire) && slot.load(Acquire) == word);
            if holds && still(heap, root) {
                if !is_there {
                    return Ok(None);
                }
                // Not there at all: a length that is no length.
                slot.ok_or_else(damaged)?;
                if is_inline::<T>() {
                    return inline::<T>(word).map(Some).ok_or_else(damaged);
                }
                if let Some(value) = value::<T>(heap, word) {
                    return value.map(Some).ok_or_else(damaged);
                }
            }
        }
        same = if (root, word) == last { same + 1 } else { 0 };
        last = (root, word);
        if same == TRIES {
            return Err(damaged());
        }
    }
}
