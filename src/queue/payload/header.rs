//! The header of a slot whose messages differ in length.
//!
//! # State
//!
//! | word | meaning |
//! |---|---|
//! | length | the number of elements; `DONE`: the message was received, and its block may be free |
//! | block | 0: the message is in the slot; else the name of its block |
//!
//! | bits of a name | meaning |
//! |---|---|
//! | 0..30 | the lower bits of the block's generation |
//! | 30..64 | the block's offset in its store, in units of 16 bytes |
//!
//! A name says which block is meant, also after others were at the same offset. It leads astray
//! only if the block was claimed a multiple of 2^30 times meanwhile. Zero is the fresh state.
//!
//! # Memory ordering
//!
//! The holder of the slot writes, and the slot's word hands the header over. So Relaxed would do,
//! but for a late reaper. It reads the header of a slot that it believes to be held by a dead
//! participant, and then loads the slot's word again. Names are stored with Release after the claim
//! of the slot, and loaded with Acquire before that check, and so is `DONE`. So if the reaper has
//! read something that a later holder wrote, it finds another word. Without that for `DONE`, it
//! could free the block of a message that has come back to another consumer.
//!
//! # Death
//!
//! A block is CLAIMED, then LIVE, then FREE: see [`crate::heap::block`]. The heap's own recovery
//! frees what the dead participant had CLAIMED. A LIVE block belongs to the slot whose header names
//! it.
//!
//! | window | the slot | the block | repaired by |
//! |---|---|---|---|
//! | block claimed, no slot yet | | CLAIMED | the heap |
//! | slot claimed, header old | WRITING | CLAIMED | the heap; the old name leads to no LIVE block |
//! | header written | WRITING | CLAIMED | the heap |
//! | LIVE, not sent | WRITING, HELD | LIVE | the ring: it frees the block, then the slot |
//! | moving to another slot | HELD and WRITING | LIVE | the ring, from one of both headers |
//! | sent | FULL | LIVE | not needed |
//! | being received | READING, KEPT | LIVE | the ring: frees both, or returns the message |
//! | DONE, not freed | READING, KEPT | LIVE | the ring: frees both |
//! | freed, the slot not yet | READING, KEPT | FREE | the ring: frees the slot |
//! | a reaper is late | any | any | not needed: its check of slot or generation fails |
//!
//! In the fifth row both headers name the block, and neither slot is FULL. The old header is
//! cleared before the new slot is sent, so a HELD slot never names the block of a message that was
//! sent.

use crate::heap::Block;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};

/// The length of a message that was received.
const DONE: u64 = u64::MAX;
const GENERATION_BITS: u32 = 30;
const GENERATION: u64 = (1 << GENERATION_BITS) - 1;

/// The name of a block: where it is, and which of those that were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name(u64);

impl Name {
    #[inline]
    pub(crate) fn of(block: Block) -> Name {
        debug_assert!(block.at % 16 == 0 && block.at > 0);
        Name((block.at / 16) << GENERATION_BITS | u64::from(block.generation) & GENERATION)
    }

    /// Returns the offset of the block in its store.
    #[inline]
    pub(crate) fn at(self) -> u64 {
        (self.0 >> GENERATION_BITS) * 16
    }

    /// Returns whether a block at this offset with this generation is the one that is meant.
    #[inline]
    pub(crate) fn is_of(self, generation: u32) -> bool {
        u64::from(generation) & GENERATION == self.0 & GENERATION
    }
}

/// The words between a slot's word and its bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    length: AtomicU64,
    block: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == 16);

impl Header {
    #[cfg(test)]
    pub(crate) fn new() -> Header {
        Header { length: AtomicU64::new(0), block: AtomicU64::new(0) }
    }

    /// Describes a message of `length` elements. Only the holder of the slot may.
    #[inline]
    pub(crate) fn set(&self, length: usize, block: Option<Name>) {
        self.length.store(length as u64, Relaxed);
        self.block.store(block.map_or(0, |name| name.0), Release); // pairs with block()
    }

    /// Forgets the block, which is free, or which another header names.
    #[inline]
    pub(crate) fn clear(&self) {
        self.block.store(0, Release); // pairs with block()
    }

    #[inline]
    pub(crate) fn length(&self) -> u64 {
        self.length.load(Relaxed)
    }

    /// Returns the name of the message's block; `None` if the message is in the slot.
    #[inline]
    pub(crate) fn block(&self) -> Option<Name> {
        match self.block.load(Acquire) {
            0 => None,
            name => Some(Name(name)),
        }
    }

    /// Records that the message was received, before its block is freed. So it is not delivered
    /// again.
    #[inline]
    pub(crate) fn set_done(&self) {
        self.length.store(DONE, Release); // pairs with is_done()
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.length.load(Acquire) == DONE // pairs with set_done()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_offset_and_the_generation() {
        for (at, generation) in [(16, 0), (67_648, 1), ((1 << 38) - 16, u32::MAX), (1 << 37, 1 << 30)] {
            let name = Name::of(Block { at, generation });
            assert_eq!(name.at(), at);
            assert!(name.is_of(generation) && !name.is_of(generation.wrapping_add(1)));
        }
    }

    #[test]
    fn zero_is_an_empty_message() {
        let header = Header::new();
        assert_eq!((header.length(), header.block(), header.is_done()), (0, None, false));
        let name = Name::of(Block { at: 32, generation: 7 });
        header.set(5, Some(name));
        header.set_done();
        assert!(header.is_done() && header.block() == Some(name));
        header.clear();
        assert!(header.is_done() && header.block().is_none());
    }
}
