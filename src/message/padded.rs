//! A value on cache lines of its own: 128 bytes everywhere, because layout is a contract and not a target detail.

use std::ops::{Deref, DerefMut};

/// Begins at a multiple of 128 bytes and shares them with nobody: two lines, since x86 fetches them in pairs and some
/// ARM cores have lines of 128.
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
