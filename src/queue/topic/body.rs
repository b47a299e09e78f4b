//! The bytes of messages, while others may use them: publishers store word by word, because a
//! subscriber may still copy the message that was there before, and subscribers copy word by word.
//!
//! A message is in its slot or in a block. Both begin at a multiple of 8 bytes and have a length
//! that is one, so the last word of a message is inside of them.

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Relaxed;
use crate::message::payload::are_valid;
use crate::message::wide_load::copy_words;
use crate::message::{self, Message};

/// Returns the words that hold `bytes` bytes.
///
/// # Safety
///
/// `at` is a multiple of 8. As many words are mapped there as long as the result is used.
#[inline]
pub(super) unsafe fn words<'a>(at: *const u8, bytes: usize) -> &'a [AtomicU64] {
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), bytes.div_ceil(8)) }
}

/// Copies a message into the words of a slot, which subscribers may copy at the same time.
#[inline]
pub(super) fn store<T: Message>(words: &[AtomicU64], value: &T) {
    let () = T::CHECKED;
    store_bytes(words, message::bytes_of(value));
}

/// Copies the bytes of a message into words, which subscribers may copy at the same time.
#[inline]
pub(crate) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, last) = words.split_at(words.len().min(bytes.len() / 8));
    let (chunks, rest) = bytes.split_at(8 * whole.len());
    for (word, chunk) in whole.iter().zip(chunks.chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Relaxed);
    }
    if let (Some(word), false) = (last.first(), rest.is_empty()) {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        word.store(u64::from_le_bytes(bytes), Relaxed);
    }
}

/// Copies bytes out of words that a publisher may write meanwhile.
///
/// # Safety
///
/// `to` is writable for `bytes` bytes, and nobody else uses it.
#[inline(always)]
pub(super) unsafe fn load_bytes(words: &[AtomicU64], to: *mut u8, bytes: usize) {
    let (whole, last) = words.split_at(words.len().min(bytes / 8));
    // SAFETY: as many whole words are writable, as the caller promises.
    unsafe { copy_words(whole, to.cast()) };
    if let (Some(last), 1..) = (last.first(), bytes % 8) {
        let rest = last.load(Relaxed).to_le_bytes();
        // SAFETY: the rest is writable behind the whole words, as the caller promises.
        unsafe { to.add(8 * whole.len()).copy_from_nonoverlapping(rest.as_ptr(), bytes % 8) };
    }
}

/// A copy of a message that differs in length, in memory that is used again. It may be made of
/// several messages, until the caller has checked that it is whole.
pub(crate) struct Copied<E> {
    elements: Vec<E>,
    /// The number of elements that were copied into the memory of `elements`. `None`: there was no
    /// message where the header said.
    len: Option<usize>,
}

impl<E: Message> Copied<E> {
    pub(crate) fn new(mut memory: Vec<E>) -> Copied<E> {
        memory.clear();
        Copied { elements: memory, len: None }
    }

    /// Copies `len` elements from `at`, which a publisher may write meanwhile. `None`: there are
    /// none.
    ///
    /// # Safety
    ///
    /// As for [`words`], for the bytes of as many elements.
    pub(crate) unsafe fn load(&mut self, found: Option<(*mut u8, usize)>) {
        self.len = found.map(|(_, len)| len);
        let Some((at, len)) = found else { return };
        self.elements.reserve(len);
        let bytes = len * size_of::<E>();
        // SAFETY: promised by the caller; there is room for the elements, which is nobody else's.
        unsafe { load_bytes(words(at, bytes), self.elements.as_mut_ptr().cast(), bytes) };
    }

    /// Returns the memory, empty.
    pub(super) fn into_memory(self) -> Vec<E> {
        self.elements
    }

    /// Returns the elements of a copy that is whole, and whether they are valid. If not, there are
    /// none.
    pub(crate) fn into_elements(mut self) -> (Vec<E>, bool) {
        let Some(len) = self.len else { return (self.elements, false) };
        // SAFETY: load() has written the bytes of these elements, and they are aligned.
        let is_valid = unsafe { are_valid(self.elements.as_ptr(), len) };
        if is_valid {
            // SAFETY: as above, and they are valid.
            unsafe { self.elements.set_len(len) };
        }
        (self.elements, is_valid)
    }
}
