//! What a dict's keys and values can be: messages, strings, bytes.

use std::borrow::Borrow;
use std::mem::MaybeUninit;

use super::read::Bytes;
use crate::loom::atomic::Ordering::Relaxed;
use crate::message::{self, Message};

/// A key or a value of a [`Dict`](crate::Dict): every [`Message`], `str`, and `[u8]`.
///
/// They are given by reference and come back owned: a message as itself, `str` as `String`, `[u8]` as `Vec<u8>`. Two keys are the
/// same if their bytes are: so `-0.0` and `0.0` are two. Sealed: no other types can be.
pub trait DictItem: sealed::Sealed<Out = <Self as DictItem>::Owned> {
    /// What comes out.
    type Owned: Borrow<Self>;
}

pub(crate) mod sealed {
    use super::Bytes;

    pub trait Sealed {
        /// What [`DictItem::Owned`](super::DictItem::Owned) is.
        type Out;

        /// The bytes that stand in the dict.
        fn bytes(&self) -> &[u8];

        /// A copy out of shared words, which may be no such item; may be called with words that are no item at all.
        #[allow(private_interfaces)]
        fn take(bytes: Bytes<'_>) -> Option<Self::Out>;

        /// The item with these bytes, if they are one.
        fn from_bytes(bytes: &[u8]) -> Option<Self::Out>;

        /// The text of the type.
        fn layout() -> String;
    }
}

impl<T: Message> DictItem for T {
    type Owned = T;
}

impl<T: Message> sealed::Sealed for T {
    type Out = T;

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
        let to = copy.as_mut_ptr().cast::<u8>();
        let first = [bytes.first()];
        let words = first.into_iter().chain(bytes.words.iter().skip(1).map(|word| word.load(Relaxed)));
        for (index, word) in words.enumerate().take(size_of::<T>().div_ceil(8)) {
            let len = (size_of::<T>() - 8 * index).min(8);
            // SAFETY: `index` is below the number of words of a T, so `len` bytes from 8 * index on lie inside of the copy,
            // which is this function's own.
            unsafe { to.add(8 * index).copy_from_nonoverlapping(word.to_le_bytes().as_ptr(), len) };
        }
        if bytes.words.len() < size_of::<T>().div_ceil(8) {
            return None;
        }
        // SAFETY: as many bytes as a T has were written just now, and nobody else has the copy.
        unsafe { message::read(to) }
    }

    fn from_bytes(bytes: &[u8]) -> Option<T> {
        // SAFETY: as many bytes as a T has are there to be read, and nobody writes them.
        (bytes.len() == size_of::<T>()).then(|| unsafe { message::read(bytes.as_ptr()) })?
    }

    fn layout() -> String {
        T::schema().to_string()
    }
}

impl DictItem for [u8] {
    type Owned = Vec<u8>;
}

impl sealed::Sealed for [u8] {
    type Out = Vec<u8>;

    fn bytes(&self) -> &[u8] {
        self
    }

    #[allow(private_interfaces)]
    fn take(bytes: Bytes<'_>) -> Option<Vec<u8>> {
        let mut copy = Vec::new();
        bytes.append_to(&mut copy);
        Some(copy)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }

    fn layout() -> String {
        "[u8]".to_owned()
    }
}

impl DictItem for str {
    type Owned = String;
}

impl sealed::Sealed for str {
    type Out = String;

    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    #[allow(private_interfaces)]
    fn take(bytes: Bytes<'_>) -> Option<String> {
        <[u8]>::take(bytes).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    fn from_bytes(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn layout() -> String {
        "str".to_owned()
    }
}
