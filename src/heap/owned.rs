//! Blocks that one participant owns for long, and that others adopt from it.
//!
//! The owner of a block hands it over by a ticket, the block's offset and generation, in a message.
//!
//! # State
//!
//! The owner's name is in the word of the block: see [`block`].
//!
//! | step | by | the word afterwards |
//! |---|---|---|
//! | allocated | p | CLAIMED(p) |
//! | its ticket is sent | p | CLAIMED(p) |
//! | released | p | LIVE, unless it was adopted before |
//! | adopted, by the receiver of the ticket | c | CLAIMED(c), from CLAIMED(p) or LIVE, generation + 1 |
//! | freed | c | FREE |
//!
//! The generation moves so that a ticket leads to its block once, and a release that comes after the
//! adoption does nothing, also if owner and receiver are threads of one participant.
//!
//! An owner may have any number of blocks, for any time. So they are not named in its claim log,
//! which has few places, and whose count would keep others from remaking. The log is marked
//! instead, and the owner's reaper searches all blocks.
//!
//! # Memory ordering
//!
//! The bytes are handed over by the message with the ticket. Adopting is an Acquire that pairs with
//! the release, and both are as strong as claiming and publishing.
//!
//! # Death
//!
//! | window | repaired by | lost |
//! |---|---|---|
//! | allocated, not sent | reaping: freed | the block, which nobody else knew |
//! | sent, not released | reaping: freed, unless it is adopted first | perhaps the block: its ticket leads to nothing |
//! | released, in a message | the message is received | nothing |
//! | released, the message is lost | nobody | the block, until the segment is gone |
//! | its receiver marked the log, did not adopt | the message comes back, or as above | as above |
//! | adopted, the message not acknowledged | reaping: freed; the message comes back and leads to nothing | the block |
//! | owned | reaping: freed | the block, which was the dead one's |
//! | a reaper is late | not needed: its swap fails | nothing |
//!
//! The fourth and the fifth row do not occur with a queue that delivers the messages of dead
//! consumers again, if a receiver acknowledges after it has adopted.

use super::block::{self, generation, state, Block, State};
use super::handle::{not_a_block, Heap};
use crate::loom::atomic::Ordering::Relaxed;
use crate::Result;

impl Heap {
    /// Allocates a block of at least `len` bytes, whose contents may be anything. This process owns
    /// it: it is freed if the process dies before [`release`](Heap::release).
    ///
    /// # Errors
    ///
    /// Those of [`alloc`](Heap::alloc).
    pub(crate) fn alloc_owned(&self, len: usize) -> Result<Block> {
        let block = self.alloc(len)?;
        let me = self.attachment.owner()?;
        let (arena, start) = self.arena_of(block.at).ok_or_else(|| not_a_block(block.at))?;
        let log = arena.claim_log(me);
        log.mark(me);
        log.erase(block.at - start, me);
        Ok(block)
    }

    /// Gives up a block that this process owned. It survives the process now. Does nothing if
    /// another process has adopted it.
    pub(crate) fn release(&self, block: Block) -> Result<()> {
        let me = self.attachment.owner()?;
        let word = self.word(block.at).ok_or_else(|| not_a_block(block.at))?;
        block::publish(word, block.generation, me);
        Ok(())
    }

    /// Makes this process the owner of a block. Only for the receiver of its ticket. Returns the
    /// block as it is now, and the number of its bytes; `None` if there is no such block any more.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub(crate) fn adopt(&self, Block { at, generation }: Block) -> Result<Option<(Block, u64)>> {
        let me = self.attachment.owner()?;
        let Some((arena, _, pos)) = self.locate(at) else { return Ok(None) };
        arena.claim_log(me).mark(me);
        let adopted = block::adopt(arena.slot(pos).word, generation, me);
        Ok(adopted.map(|generation| (Block { at, generation }, pos.class.len())))
    }

    /// Frees a block that this process owns.
    ///
    /// # Errors
    ///
    /// `Corrupted`: this process does not own it, for example because it is a child that was forked
    /// by the owner. Nothing has changed.
    pub(crate) fn free_owned(&self, block: Block) -> Result<()> {
        let me = self.attachment.owner()?;
        let (arena, _, pos) = self.locate(block.at).ok_or_else(|| not_a_block(block.at))?;
        let slot = arena.slot(pos);
        let seen = slot.word.load(Relaxed);
        let is_mine = state(seen) == State::Claimed(me) && generation(seen) == block.generation;
        if !is_mine || !slot.set_free(seen) {
            return Err(not_a_block(block.at));
        }
        arena.note_freed(pos);
        Ok(())
    }
}
