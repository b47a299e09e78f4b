//! The heap by itself, for the tests that kill and stop a process at each instruction.

use std::sync::Arc;

use crate::heap::block::State;
use crate::heap::{Block, Heap};
use crate::segment::attachment::Attachment;
use crate::Result;

/// One participant of a segment that contains only a heap.
#[doc(hidden)]
#[derive(Debug)]
pub struct Rehearsal {
    attachment: Arc<Attachment>,
    heap: Heap,
}

/// A block: the offset of its bytes, and its generation.
type Pair = (u64, u32);

impl Rehearsal {
    /// Creates a segment of `size` bytes.
    pub fn new(size: u64) -> Result<Rehearsal> {
        Attachment::anonymous(size).map(Rehearsal::of)
    }

    /// Adds another participant of the same segment, in this process.
    pub fn another(&self) -> Result<Rehearsal> {
        let seat = self.attachment.seat()?;
        Attachment::adopt(seat.file, seat.owner, None).map(Rehearsal::of)
    }

    fn of(attachment: Arc<Attachment>) -> Rehearsal {
        let heap = Heap::of(&attachment);
        Rehearsal { attachment, heap }
    }

    /// Attaches this process, if it was forked.
    pub fn attend(&self) -> Result<()> {
        self.attachment.owner().map(drop)
    }

    /// Reaps dead participants.
    pub fn reap_all(&self) {
        self.attachment.reap_all();
    }

    /// Allocates a block of at least `len` bytes. It belongs to this participant.
    pub fn alloc(&self, len: usize) -> Result<Pair> {
        self.heap.alloc(len).map(|block| (block.at, block.generation))
    }

    /// Makes the block live: it survives its owner.
    pub fn publish(&self, (at, generation): Pair) -> Result<()> {
        self.heap.publish(Block { at, generation })
    }

    /// Frees the block.
    pub fn free(&self, (at, generation): Pair) -> Result<()> {
        self.heap.free(Block { at, generation })
    }

    /// Returns the live blocks, and the number of others that are not free.
    pub fn blocks(&self) -> Result<(Vec<Pair>, usize)> {
        let used = self.heap.in_use()?;
        let live = used.iter().filter(|(_, state)| *state == State::Live);
        let live: Vec<Pair> = live.map(|(block, _)| (block.at, block.generation)).collect();
        let others = used.len() - live.len();
        Ok((live, others))
    }
}
