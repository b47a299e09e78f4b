//! The heap as an observer sees it: a mapping for reading, and the extent of its arenas.
//!
//! An observer is not a participant, so nothing here allocates, and nothing finds arenas that are
//! added later. Data in one of those seems damaged to it, until it is opened again.

use crate::loom::atomic::AtomicU64;
use std::marker::PhantomData;

use crate::heap::arena::Arena;
use crate::registry::Kind;
use crate::segment::header::SPACE_START;
use crate::segment::view::Entry;

/// The words of a segment up to the end of its last arena.
#[derive(Debug, Clone)]
pub(crate) struct HeapView<'a> {
    base: *const u8,
    /// The offset and the length of each arena.
    arenas: Vec<(u64, usize)>,
    reach: u64,
    mapping: PhantomData<&'a ()>,
}

impl<'a> HeapView<'a> {
    /// Creates a view of the heap among these objects of the segment at `base`.
    ///
    /// # Safety
    ///
    /// `base` is page-aligned, and the segment is mapped for `'a` up to the end of its `objects`,
    /// which were read from it.
    pub(crate) unsafe fn new(base: *const u8, objects: impl Iterator<Item = Entry>) -> HeapView<'a> {
        let arenas = objects.filter(|entry| entry.kind == Kind::Heap as u32);
        let arenas: Vec<_> = arenas.map(|entry| (entry.object, entry.len)).collect();
        let reach = arenas.iter().map(|(start, len)| start + *len as u64).max().unwrap_or(0);
        HeapView { base, arenas, reach, mapping: PhantomData }
    }

    /// Returns the number of bytes of the block at `at`; `None` if no block begins there. Costs a
    /// few loads, and a search through the arenas.
    pub(crate) fn len(&self, at: u64) -> Option<u64> {
        let offset_in =
            |&&(start, len): &&(u64, usize)| at.checked_sub(start).is_some_and(|offset| offset < len as u64);
        let &(start, len) = self.arenas.iter().find(offset_in)?;
        let arena = Arena::in_object(self.base.wrapping_add(start as usize).cast_mut(), len)?;
        arena.block_pos(at - start).map(|pos| pos.class.len())
    }

    /// Returns the `count` words at `at`; `None` if they do not lie below the end of the last
    /// arena. They may hold anything.
    pub(crate) fn words(&self, at: u64, count: usize) -> Option<&'a [AtomicU64]> {
        let end = at.checked_add((count as u64).checked_mul(8)?)?;
        if at % 8 != 0 || at < SPACE_START || end > self.reach {
            return None;
        }
        // SAFETY: the range ends at or before the end of the last arena. So it is mapped for 'a,
        // and committed, since an arena is committed before it is published. It is aligned; all
        // code that shares blocks accesses words atomically, and here they are only loaded.
        Some(unsafe { std::slice::from_raw_parts(self.base.add(at as usize).cast::<AtomicU64>(), count) })
    }
}
