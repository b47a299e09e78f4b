//! The memory side of a value: one atomic word if it is small enough, otherwise two copies and an
//! owner word for writers.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word: the writer. Unused by small values |
//! | 4..8 | the size of the value; written once |
//! | 8..16 | the sequence of [`seqlock`](crate::collections::value::seqlock) |
//! | 16.. | the value, if [small](crate::collections::value::inline); else two copies of it |
//!
//! Each of the two copies is rounded up to whole words.
//!
//! # Memory ordering, death
//!
//! Those of the parts. The next writer clears the owner word's mark of a death, because there is
//! nothing to repair.

use crate::loom::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::collections::value::inline::{is_small, Small};
use crate::collections::value::seqlock::Copies;
use crate::segment::owner::OwnerId;
use crate::sync::robust_word::OwnerWord;

/// The fields in front of the value. Any bytes are a Head.
#[repr(C)]
pub(super) struct Head {
    pub(super) word: OwnerWord,
    pub(super) size: AtomicU32,
    pub(super) sequence: AtomicU64,
}

/// Offset of the value.
pub(super) const VALUE_AT: usize = 16;
const _: () = assert!(size_of::<Head>() == VALUE_AT);
/// The number of attempts of an observer before it reports failure.
const PEEK_TRIES: usize = 1000;

/// Returns the number of words of one copy.
pub(super) const fn words_of(size: usize) -> usize {
    size.div_ceil(8)
}

/// Returns the size in bytes of an object with a value of `size` bytes.
pub(super) const fn len_of(size: usize) -> usize {
    VALUE_AT + if is_small(size) { 8 } else { 2 * 8 * words_of(size) }
}

/// Returns the head of the value at `base` and its size, if the value fits into `len`.
fn head_at<'a>(base: *const u8, len: usize) -> Option<(&'a Head, usize)> {
    if len < size_of::<Head>() {
        return None;
    }
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // Head.
    let head = unsafe { &*base.cast::<Head>() };
    let size = head.size.load(Relaxed) as usize;
    (len >= len_of(size)).then_some((head, size))
}

/// Frees the owner word if `dead` was the writer.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some((head, _)) = head_at(base, len) {
        head.word.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a value.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some((head, size)) = head_at(base, len) else { return Vec::new() };
    if is_small(size) {
        return Vec::new();
    }
    let writer = head.word.holder().map_or("nobody".to_string(), |id| format!("participant {}", id.index()));
    vec![
        ("changed", head.sequence.load(Relaxed).to_string()),
        ("written by", writer),
        ("waited on", head.word.is_waited_on().to_string()),
    ]
}

/// Returns the bytes of the value; `None` if writers kept overtaking the attempts to read it.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    let (head, size) = head_at(base, len)?;
    let at = base.wrapping_add(VALUE_AT);
    // SAFETY: aligned, and at least 8 bytes behind the head are mapped if the size is small
    // (checked in head_at).
    if let Some(small) = unsafe { Small::new(at, size) } {
        return Some(small.load().to_le_bytes()[..size].to_vec());
    }
    // SAFETY: two copies of this size are mapped behind the head (checked in head_at), aligned to
    // 8; any bytes are words.
    let words = unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), 2 * words_of(size)) };
    let copies = Copies { sequence: &head.sequence, words };
    let mut bytes = vec![0; 8 * words_of(size)];
    for _ in 0..PEEK_TRIES {
        let is_whole = copies.try_read(|index, word| {
            if let Some(to) = bytes.get_mut(8 * index..8 * index + 8) {
                to.copy_from_slice(&word.to_le_bytes());
            }
        });
        if is_whole {
            bytes.truncate(size);
            return Some(bytes);
        }
    }
    None
}
