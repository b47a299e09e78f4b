//! A value on cache lines of its own: 128 bytes on every platform, because layout is a contract and
//! not a target detail.

use std::ops::{Deref, DerefMut};

/// A value that begins at a multiple of 128 bytes and shares no cache line with another. 128 bytes
/// are two lines on x86, which fetches lines in pairs, and one line on some ARM cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub(crate) struct CachePadded<T> {
    value: T,
}

impl<T> CachePadded<T> {
    #[cfg(any(test, loom))]
    pub(crate) const fn new(value: T) -> CachePadded<T> {
        CachePadded { value }
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for CachePadded<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

const _: () = assert!(size_of::<CachePadded<u8>>() == 128 && align_of::<CachePadded<u8>>() == 128);
