//! The heap by itself: for the tests that kill and stop a process at each instruction.

use std::sync::Arc;

use super::block::State;
use super::{Block, Heap};
use crate::attachment::Attachment;
use crate::Result;

/// One participant of a segment that has nothing but a heap.
#[doc(hidden)]
#[derive(Debug)]
pub struct Rehearsal {
    attachment: Arc<Attachment>,
    heap: Heap,
}

/// A block: where its bytes begin, and its generation.
type Pair = (u64, u32);

impl Rehearsal {
    /// A new segment of so many bytes.
    pub fn new(size: u64) -> Result<Rehearsal> {
        Attachment::anonymous(size).map(Rehearsal::of)
    }

    /// Another participant of the same segment, in this process.
    pub fn another(&self) -> Result<Rehearsal> {
        let seat = self.attachment.seat()?;
        Attachment::adopt(seat.file, seat.owner).map(Rehearsal::of)
    }

    fn of(attachment: Arc<Attachment>) -> Rehearsal {
        let heap = Heap::of(&attachment);
        Rehearsal { attachment, heap }
    }

    /// Attaches this process, if it was forked.
    pub fn attend(&self) -> Result<()> {
        self.attachment.owner().map(drop)
    }

    /// Reaps the dead.
    pub fn bury(&self) {
        self.attachment.reap_all();
    }

    /// A block of at least `len` bytes, in this participant's hand.
    pub fn alloc(&self, len: usize) -> Result<Pair> {
        self.heap.alloc(len).map(|block| (block.at, block.generation))
    }

    /// Makes it last.
    pub fn publish(&self, (at, generation): Pair) -> Result<()> {
        self.heap.publish(Block { at, generation })
    }

    /// Frees it.
    pub fn free(&self, (at, generation): Pair) -> Result<()> {
        self.heap.free(Block { at, generation })
    }

    /// The blocks that last, and how many others are not free.
    pub fn blocks(&self) -> Result<(Vec<Pair>, usize)> {
        let used = self.heap.in_use()?;
        let live = used.iter().filter(|(_, state)| *state == State::Live);
        let live: Vec<Pair> = live.map(|(block, _)| (block.at, block.generation)).collect();
        let others = used.len() - live.len();
        Ok((live, others))
    }
}
