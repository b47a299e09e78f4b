//! A list as an observer sees it: bytes of elements, from a mapping for reading only.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{fence, AtomicU64};

use super::heap::HeapView;
use crate::collections::list::state::{head_in, is_of, place};
use crate::heap::block::lasting;
use crate::{Error, ErrorKind, Result};

/// The number of tries to read one element while writers change the list.
const TRIES: usize = 1000;

/// An element: its first bytes, and its length.
type Start = (Vec<u8>, usize);

/// Returns the length of the list at `base`, and its first `most` elements, up to `bytes` bytes of
/// each. An element has `size` bytes (`None` if sizes differ).
pub(crate) fn elements(
    base: *const u8,
    len: usize,
    heap: &HeapView<'_>,
    size: Option<usize>,
    (most, bytes): (usize, usize),
) -> Result<(u64, Vec<Start>)> {
    let Some(head) = head_in(base, len) else { return Ok((0, Vec::new())) };
    let (mut there, mut elements) = (0, Vec::new());
    for index in 0..most as u64 {
        match element(&head.root, heap, (size, bytes), index)? {
            (len, Some(bytes)) => (there, _) = (len, elements.push(bytes)),
            (len, None) => {
                there = len;
                break;
            }
        }
    }
    if most == 0 {
        there = element(&head.root, heap, (size, bytes), u64::MAX)?.0;
    }
    Ok((there, elements))
}

/// Returns the length of the list at some moment of the call, and the first `most` bytes of its
/// element with this index at that moment.
fn element(
    root: &AtomicU64,
    heap: &HeapView<'_>,
    (size, most): (Option<usize>, usize),
    index: u64,
) -> Result<(u64, Option<Start>)> {
    for _ in 0..TRIES {
        let root = root.load(Acquire); // pairs with the store that publishes it
        if root == 0 {
            return Ok((0, None));
        }
        let Some([length]) = heap.words(place(root), 1) else { continue };
        let length = length.load(Acquire); // pairs with push and extend
        let at = index.checked_mul(8).and_then(|offset| (place(root) + 8).checked_add(offset));
        let word = match at.filter(|_| index < length) {
            Some(at) => match heap.words(at, 1) {
                Some([word]) => Some(word.load(Acquire)), // pairs with set
                _ => continue,
            },
            None => None,
        };
        if !still(heap, root) {
            continue;
        }
        let Some(word) = word else { return Ok((length, None)) };
        let copy = |words: &[AtomicU64], len: usize| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
            bytes.truncate(len.min(most));
            (bytes, len)
        };
        let (at, len) = match size {
            Some(len) if len <= 8 => return Ok((length, Some(copy(&[AtomicU64::new(word)], len)))),
            Some(len) => (place(word), len),
            None => {
                let Some([len]) = heap.words(place(word), 1) else { continue };
                (place(word) + 8, usize::try_from(len.load(Relaxed)).unwrap_or(usize::MAX))
            }
        };
        // Copies only if the block is still the same, because half of another block is not a
        // length.
        if !still(heap, word) {
            continue;
        }
        let Some(words) = heap.words(at, len.min(most).div_ceil(8)) else { continue };
        let element = copy(words, len);
        if still(heap, word) {
            return Ok((length, Some(element)));
        }
    }
    Err(Error::new(ErrorKind::Corrupted, "the list is damaged, or other processes change it too fast"))
}

/// Returns whether the block that `link` leads to was still there after its words were read.
fn still(heap: &HeapView<'_>, link: u64) -> bool {
    fence(Acquire); // pairs with the Release fence of Slot::claim()
    let word = place(link).checked_sub(8).and_then(|at| heap.words(at, 1)).and_then(|words| words.first());
    let generation = word.and_then(|word| lasting(word.load(Relaxed)));
    generation.is_some_and(|generation| is_of(link, generation))
}
