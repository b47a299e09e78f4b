//! The bytes of a ring: an address and a length, or under loom cells that detect every race.

#[cfg(not(loom))]
pub(crate) use real::Area;

#[cfg(loom)]
pub(crate) use modelled::Area;

/// Splits the `count` bytes from `position` on in a ring of `len` bytes, a power of two. Returns
/// the offset and length of the first stretch; the rest begins at offset 0.
#[inline]
fn split(position: u64, count: usize, len: usize) -> (usize, usize) {
    let at = position as usize & (len - 1);
    (at, count.min(len - at))
}

mod real {
    use super::split;

    /// A region whose length is a power of two.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Area {
        base: *mut u8,
        len: usize,
    }

    // SAFETY: an address; each access there promises to be alone.
    unsafe impl Send for Area {}
    // SAFETY: as above.
    unsafe impl Sync for Area {}

    impl Area {
        /// Creates the area of the `len` bytes at `base`. `len` is a power of two.
        ///
        /// # Safety
        ///
        /// The bytes stay readable and writable while the value or a copy of it is used.
        pub(crate) unsafe fn new(base: *mut u8, len: usize) -> Area {
            debug_assert!(len.is_power_of_two());
            Area { base, len }
        }

        pub(crate) fn len(&self) -> usize {
            self.len
        }

        /// Copies `bytes` to `position`, wrapping at the end.
        ///
        /// # Safety
        ///
        /// The bytes fit into the ring, and that part of it belongs to the writer.
        #[inline]
        pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
            debug_assert!(bytes.len() <= self.len);
            let (at, first) = split(position, bytes.len(), self.len);
            // SAFETY: `at + first <= len`, the rest is at most `at`, and shared memory does not
            // overlap the slice.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), first);
                std::ptr::copy_nonoverlapping(bytes.as_ptr().add(first), self.base, bytes.len() - first);
            }
        }

        /// Copies `count` bytes from `position` to `to`, wrapping at the end.
        ///
        /// # Safety
        ///
        /// The ring has `count` bytes, they belong to the reader, and `to` is writable for `count`
        /// bytes.
        #[inline]
        pub(crate) unsafe fn read(&self, position: u64, to: *mut u8, count: usize) {
            debug_assert!(count <= self.len);
            let (at, first) = split(position, count, self.len);
            // SAFETY: `at + first <= len`, the rest is at most `at`, and shared memory does not
            // overlap `to`.
            unsafe {
                std::ptr::copy_nonoverlapping(self.base.add(at), to, first);
                std::ptr::copy_nonoverlapping(self.base, to.add(first), count - first);
            }
        }

        /// Reads one word of eight bytes, exactly once, whatever a hostile writer does.
        ///
        /// # Safety
        ///
        /// The word belongs to the reader; `position` and the region are aligned to eight.
        #[inline]
        pub(crate) unsafe fn word(&self, position: u64) -> u64 {
            let (at, _) = split(position, 8, self.len);
            debug_assert!(at % 8 == 0 && self.base.addr() % 8 == 0);
            // SAFETY: in bounds, since position and length are multiples of eight, and aligned.
            unsafe { self.base.add(at).cast::<u64>().read_volatile() }
        }
    }
}

#[cfg(loom)]
mod modelled {
    use super::{real, split};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// A cell for each byte, or the memory of an object.
    #[derive(Debug, Clone)]
    pub(crate) enum Area {
        Cells(Arc<Vec<UnsafeCell<u8>>>),
        Memory(real::Area),
    }

    // SAFETY: loom checks each access.
    unsafe impl Send for Area {}
    // SAFETY: as above.
    unsafe impl Sync for Area {}

    impl Area {
        pub(crate) unsafe fn new(base: *mut u8, len: usize) -> Area {
            // SAFETY: as promised by the caller.
            Area::Memory(unsafe { real::Area::new(base, len) })
        }

        /// Creates an area of `len` cells.
        pub(crate) fn zeroed(len: usize) -> Area {
            Area::Cells(Arc::new((0..len).map(|_| UnsafeCell::new(0)).collect()))
        }

        pub(crate) fn len(&self) -> usize {
            match self {
                Area::Cells(cells) => cells.len(),
                Area::Memory(memory) => memory.len(),
            }
        }

        pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
            let cells = match self {
                Area::Cells(cells) => cells,
                // SAFETY: as promised by the caller.
                Area::Memory(memory) => return unsafe { memory.write(position, bytes) },
            };
            let (at, first) = split(position, bytes.len(), self.len());
            let places = cells[at..at + first].iter().chain(cells.iter());
            for (cell, byte) in places.zip(bytes) {
                // SAFETY: the pointer is the cell's own; loom checks that nobody else uses it.
                cell.with_mut(|place| unsafe { place.write(*byte) });
            }
        }

        pub(crate) unsafe fn read(&self, position: u64, to: *mut u8, count: usize) {
            let cells = match self {
                Area::Cells(cells) => cells,
                // SAFETY: as promised by the caller.
                Area::Memory(memory) => return unsafe { memory.read(position, to, count) },
            };
            let (at, first) = split(position, count, self.len());
            let places = cells[at..at + first].iter().chain(cells.iter());
            for (i, cell) in places.take(count).enumerate() {
                // SAFETY: the pointer is the cell's own, and `to` has room for `count` bytes.
                cell.with(|place| unsafe { to.add(i).write(place.read()) });
            }
        }

        pub(crate) unsafe fn word(&self, position: u64) -> u64 {
            let mut bytes = [0; 8];
            // SAFETY: as promised by the caller.
            unsafe { self.read(position, bytes.as_mut_ptr(), bytes.len()) };
            u64::from_le_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn stretches() {
        assert_eq!(split(0, 16, 64), (0, 16));
        assert_eq!(split(64 * 9 + 48, 32, 64), (48, 16));
        assert_eq!(split(48, 16, 64), (48, 16));
        assert_eq!(split(16, 64, 64), (16, 48));
        assert_eq!(split(u64::MAX - 15, 32, 64), (48, 16));
    }
}
