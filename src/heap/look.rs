//! The heap for who only looks: a mapping for reading, and how far its arenas reach.
//!
//! An observer is no participant, so nothing here allocates, and nothing learns of arenas that are added later: what lies in one
//! of those is damage to it, and gone with the next look.

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

use crate::kind::Kind;
use crate::segment::header::SPACE_START;
use crate::segment::view::Entry;

/// The words of a segment up to the end of its last arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    base: *const u8,
    reach: u64,
    mapping: PhantomData<&'a ()>,
}

impl<'a> Look<'a> {
    /// The heap among these objects of the segment at `base`.
    ///
    /// # Safety
    ///
    /// `base` is page-aligned, and the segment is mapped for `'a` as far as its `objects`, which were read from it, reach.
    pub(crate) unsafe fn new(base: *const u8, objects: impl Iterator<Item = Entry>) -> Look<'a> {
        let arenas = objects.filter(|entry| entry.kind == Kind::Heap as u32);
        let reach = arenas.map(|entry| entry.object + entry.len as u64).max().unwrap_or(0);
        Look { base, reach, mapping: PhantomData }
    }

    /// The `count` words at `at`; `None` if they do not lie below where the last arena ends. They may hold anything.
    pub(crate) fn words(&self, at: u64, count: usize) -> Option<&'a [AtomicU64]> {
        let end = at.checked_add((count as u64).checked_mul(8)?)?;
        if at % 8 != 0 || at < SPACE_START || end > self.reach {
            return None;
        }
        // SAFETY: the range ends where the last arena does or before, so it is mapped for 'a, and committed, since an arena is
        // before it is published. It is aligned; words are atomic for everybody who shares blocks, and only loaded here.
        Some(unsafe { std::slice::from_raw_parts(self.base.add(at as usize).cast::<AtomicU64>(), count) })
    }
}
