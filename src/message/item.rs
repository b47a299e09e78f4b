//! The items of a dict, a list or a namespace (messages, strings, bytes), and how their bytes are
//! stored in shared words.

use std::borrow::Borrow;
use std::mem::MaybeUninit;

use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::message::{self, Message};

/// A key or a value of a [`Dict`](crate::Dict), or an element of a [`List`](crate::List): every
/// [`Message`], `str`, and `[u8]`.
///
/// Items are passed by reference and returned owned: a message as itself, `str` as `String`, `[u8]`
/// as `Vec<u8>`. Two keys are equal if their bytes are equal, so `-0.0` and `0.0` are two keys. The
/// trait is sealed.
pub trait Item: sealed::Sealed<Out = <Self as Item>::Owned> {
    /// The owned form, which reading returns.
    type Owned: Borrow<Self>;
}

/// Returns the number of words that `bytes` bytes take.
#[inline(always)]
pub(crate) fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Returns up to eight bytes as a word, padded with zeros.
#[inline(always)]
pub(crate) fn word_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Returns the words of these bytes, in order.
#[inline(always)]
pub(crate) fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(word_of)
}

/// Returns whether the first of `words` hold these bytes. The last word is padded with zeros
/// ([`word_of`]), but damaged memory may hold anything there, so the padding is not compared.
#[inline(always)]
pub(crate) fn stand_in(bytes: &[u8], words: &[AtomicU64]) -> bool {
    let (whole, rest) = bytes.split_at(bytes.len() / 8 * 8);
    let mut words = words.iter();
    // False if `words` is too short.
    let are_whole = words_of(whole).all(|word| words.next().is_some_and(|there| there.load(Relaxed) == word));
    let mask = (1 << (8 * rest.len())) - 1;
    are_whole
        && (rest.is_empty() || words.next().is_some_and(|there| there.load(Relaxed) & mask == word_of(rest)))
}

/// Bytes in shared words: `len` of them, then padding. Writers pad with zeros; readers ignore it.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    pub(crate) words: &'a [AtomicU64],
    pub(crate) len: usize,
}

impl Bytes<'_> {
    /// Appends the bytes to `copy`.
    pub(crate) fn append_to(self, copy: &mut Vec<u8>) {
        copy.reserve(8 * self.words.len());
        let end = copy.len() + self.len;
        self.words.iter().for_each(|word| copy.extend_from_slice(&word.load(Relaxed).to_le_bytes()));
        copy.truncate(end);
    }

    /// Returns up to the first eight bytes. Acquire makes the writes visible that a writer made
    /// before it replaced a value of one word in place.
    #[inline(always)]
    pub(crate) fn first(self) -> u64 {
        self.words.first().map_or(0, |word| word.load(Acquire)) // pairs with Writer::replace()
    }

    /// Returns whether these are the bytes.
    pub(crate) fn are(self, bytes: &[u8]) -> bool {
        self.len == bytes.len() && stand_in(bytes, self.words)
    }
}

pub(crate) mod sealed {
    use super::Bytes;

    pub trait Sealed {
        /// The same type as [`Item::Owned`](super::Item::Owned).
        type Out;

        /// The size of every item in bytes; `None` if sizes differ.
        const SIZE: Option<usize>;

        /// Returns the bytes that are stored in shared memory.
        fn bytes(&self) -> &[u8];

        /// Decodes a copy of the words; `None` if they are not a valid item. The words may be torn,
        /// or never have been an item.
        #[allow(private_interfaces)]
        fn take(bytes: Bytes<'_>) -> Option<Self::Out>;

        /// Like [`take`](Sealed::take), into a box. The copy is never on the stack, which may be
        /// too small for it.
        #[allow(private_interfaces)]
        fn take_boxed(bytes: Bytes<'_>) -> Option<Box<Self::Out>>;

        /// Decodes the item; `None` if the bytes are not a valid item.
        fn from_bytes(bytes: &[u8]) -> Option<Self::Out>;

        /// Borrows these bytes as an item in place; `None` if they are not a valid item or not
        /// aligned for one. Nobody may change them meanwhile.
        fn in_place(bytes: &[u8]) -> Option<&Self>;

        /// Returns the schema text of the type.
        fn layout() -> String;

        /// Returns the name of the type, as it appears among the arguments of a generic type.
        fn name() -> String;
    }
}

impl<T: Message> Item for T {
    type Owned = T;
}

impl<T: Message> sealed::Sealed for T {
    type Out = T;

    const SIZE: Option<usize> = Some(size_of::<T>());

    #[inline]
    fn bytes(&self) -> &[u8] {
        message::bytes_of(self)
    }

    #[inline(always)]
    #[allow(private_interfaces)]
    fn take(bytes: Bytes<'_>) -> Option<T> {
        if bytes.len != size_of::<T>() {
            return None;
        }
        let mut copy = MaybeUninit::<T>::uninit();
        if !copy_words(bytes, &mut copy) {
            return None;
        }
        // SAFETY: `size_of::<T>()` bytes were just written, and nobody else has the copy.
        unsafe { message::read(copy.as_ptr().cast()) }
    }

    #[allow(private_interfaces)]
    fn take_boxed(bytes: Bytes<'_>) -> Option<Box<T>> {
        if bytes.len != size_of::<T>() {
            return None;
        }
        let mut copy = Box::<T>::new_uninit();
        if !copy_words(bytes, &mut copy) {
            return None;
        }
        // SAFETY: `size_of::<T>()` bytes were just written, nobody else has the copy, and valid
        // bytes are a T.
        unsafe { message::is_valid::<T>(copy.as_ptr().cast()).then(|| copy.assume_init()) }
    }

    fn from_bytes(bytes: &[u8]) -> Option<T> {
        // SAFETY: `size_of::<T>()` bytes are readable, and nobody writes them.
        (bytes.len() == size_of::<T>()).then(|| unsafe { message::read(bytes.as_ptr()) })?
    }

    fn in_place(bytes: &[u8]) -> Option<&T> {
        let at = bytes.as_ptr().cast::<T>();
        if bytes.len() != size_of::<T>() || !at.is_aligned() {
            return None;
        }
        // SAFETY: `size_of::<T>()` bytes are readable, nobody writes them, and they are aligned for
        // a T. So valid bytes are a T while they are borrowed.
        unsafe { message::is_valid::<T>(bytes.as_ptr()).then(|| &*at) }
    }

    fn layout() -> String {
        T::schema().to_string()
    }

    fn name() -> String {
        T::schema().name()
    }
}

/// Copies `size_of::<T>()` bytes. Returns false if there are fewer. Then the copy is not complete.
#[inline(always)]
fn copy_words<T>(bytes: Bytes<'_>, copy: &mut MaybeUninit<T>) -> bool {
    let to = copy.as_mut_ptr().cast::<u8>();
    let first = [bytes.first()];
    let words = first.into_iter().chain(bytes.words.iter().skip(1).map(|word| word.load(Relaxed)));
    for (index, word) in words.enumerate().take(size_of::<T>().div_ceil(8)) {
        let len = (size_of::<T>() - 8 * index).min(8);
        // SAFETY: `index` is below the number of words of a T, so `len` bytes from 8 * index on lie
        // inside of the copy, which is borrowed for this.
        unsafe { to.add(8 * index).copy_from_nonoverlapping(word.to_le_bytes().as_ptr(), len) };
    }
    bytes.words.len() >= size_of::<T>().div_ceil(8)
}

impl Item for [u8] {
    type Owned = Vec<u8>;
}

impl sealed::Sealed for [u8] {
    type Out = Vec<u8>;

    const SIZE: Option<usize> = None;

    fn bytes(&self) -> &[u8] {
        self
    }

    #[allow(private_interfaces)]
    fn take(bytes: Bytes<'_>) -> Option<Vec<u8>> {
        let mut copy = Vec::new();
        bytes.append_to(&mut copy);
        Some(copy)
    }

    #[allow(private_interfaces)]
    fn take_boxed(bytes: Bytes<'_>) -> Option<Box<Vec<u8>>> {
        <[u8]>::take(bytes).map(Box::new)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }

    fn in_place(bytes: &[u8]) -> Option<&[u8]> {
        Some(bytes)
    }

    fn layout() -> String {
        "[u8]".to_owned()
    }

    fn name() -> String {
        "bytes".to_owned()
    }
}

impl Item for str {
    type Owned = String;
}

impl sealed::Sealed for str {
    type Out = String;

    const SIZE: Option<usize> = None;

    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    #[allow(private_interfaces)]
    fn take(bytes: Bytes<'_>) -> Option<String> {
        <[u8]>::take(bytes).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    #[allow(private_interfaces)]
    fn take_boxed(bytes: Bytes<'_>) -> Option<Box<String>> {
        str::take(bytes).map(Box::new)
    }

    fn from_bytes(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn in_place(bytes: &[u8]) -> Option<&str> {
        std::str::from_utf8(bytes).ok()
    }

    fn layout() -> String {
        "str".to_owned()
    }

    fn name() -> String {
        "str".to_owned()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_are_part_of_the_layout() {
        assert_eq!(word_of(&[1, 2]), 0x201);
        assert_eq!(word_of(&[1, 0, 0, 0, 0, 0, 0, 2, 9]), 2 << 56 | 1);
        assert_eq!(words_of(&[0, 0, 0, 0, 0, 0, 0, 0, 7]).collect::<Vec<_>>(), [0, 7]);
    }

    #[test]
    fn what_is_behind_the_last_byte_does_not_count() {
        let words = [u64::MAX, 0xff07].map(AtomicU64::new);
        let bytes = [255, 255, 255, 255, 255, 255, 255, 255, 7];
        assert!(stand_in(&bytes, &words) && stand_in(&bytes[..8], &words) && stand_in(&[], &words));
        assert!(stand_in(&bytes[..3], &words) && !stand_in(&[7], &words) && !stand_in(&[7; 17], &words));
        assert!(!stand_in(&bytes[..8], &[]) && !stand_in(&bytes, &words[..1]));
    }
}
