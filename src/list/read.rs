//! Reading a list without a lock: copy, then look whether it was still that block.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{fence, AtomicU64};

use super::{is_of, place, Head};
use crate::heap::block::generation;
use crate::heap::Heap;
use crate::message::{self, Message};
use crate::{Error, ErrorKind, Result};

/// So often the same words may lead nowhere. A writer that replaces a block changes the word that leads to it first; so
/// twice would mean damage already, if nothing else changed.
const TRIES: usize = 1000;

#[cold]
pub(super) fn damaged() -> Error {
    Error::new(ErrorKind::Corrupted, "the list is damaged: its words lead to nothing")
}

/// Whether the elements are in the words themselves.
pub(super) const fn is_inline<T>() -> bool {
    size_of::<T>() <= 8
}

/// How many words a message takes in a block.
pub(super) const fn words_of<T>() -> usize {
    size_of::<T>().div_ceil(8)
}

/// The value in these words, if it is valid.
#[inline]
pub(super) fn load<T: Message>(words: &[AtomicU64]) -> Option<T> {
    let mut copy = MaybeUninit::<T>::uninit();
    let start = copy.as_mut_ptr().cast::<u8>();
    for (index, word) in words.iter().take(words_of::<T>()).enumerate() {
        let bytes = word.load(Relaxed).to_ne_bytes();
        let len = (size_of::<T>() - 8 * index).min(8);
        // SAFETY: `len` bytes from 8 * index on lie inside of the copy, and there are 8 bytes.
        unsafe { start.add(8 * index).copy_from_nonoverlapping(bytes.as_ptr(), len) };
    }
    // SAFETY: callers give as many words as a T takes, so all its bytes were written, and nobody else has the copy.
    unsafe { message::read(start) }
}

/// The words of a value, one after the other.
#[inline]
pub(super) fn words<T: Message>(value: &T) -> impl Iterator<Item = u64> + '_ {
    message::bytes_of(value).chunks(8).map(|chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(bytes)
    })
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
    for _ in 0..TRIES {
        let root = head.root.load(Acquire); // pairs with the store of who publishes it
        if root == 0 {
            return Ok(0);
        }
        let len = heap.words(place(root), 1).ok_or_else(damaged)?[0].load(Acquire);
        if still(heap, root) {
            return Ok(len);
        }
        if head.root.load(Acquire) == root {
            std::hint::spin_loop();
        }
    }
    Err(damaged())
}

/// The element at `index`, as it was at some moment of the call.
#[inline]
pub(super) fn get<T: Message>(heap: &Heap, head: &Head, index: u64) -> Result<Option<T>> {
    let mut last = (0, 0);
    let mut same = 0;
    loop {
        let root = head.root.load(Acquire); // pairs with the store of who publishes it
        if root == 0 {
            return Ok(None);
        }
        let mut word = 0;
        if let Some(first) = heap.words(place(root), 1) {
            let is_there = index < first[0].load(Acquire); // pairs with push and extend
            if is_there {
                let at = index.checked_mul(8).and_then(|offset| (place(root) + 8).checked_add(offset));
                let words = at.and_then(|at| heap.words(at, 1)).ok_or_else(damaged)?;
                word = words[0].load(Acquire); // pairs with set
            }
            if still(heap, root) {
                if !is_there {
                    return Ok(None);
                }
                if is_inline::<T>() {
                    return load::<T>(&[AtomicU64::new(word)]).map(Some).ok_or_else(damaged);
                }
                if let Some(words) = heap.words(place(word), words_of::<T>()) {
                    let value = load::<T>(words);
                    if still(heap, word) {
                        return value.map(Some).ok_or_else(damaged);
                    }
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
