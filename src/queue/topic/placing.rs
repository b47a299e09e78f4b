//! Publishing messages of varying length: a block is claimed and written, then a slot is claimed,
//! and the message is published like any other. A loan is written when it has its slot.
//!
//! A publisher gives its block back if there is no slot. So a publisher that waits holds nothing.
//! If there is no memory, it discards the oldest messages: see [`floor`](super::floor). Memory that
//! nobody can discard is being written or read in place. A publisher that may block waits for it
//! some 100 ms, because writing is over soon, and reaps the dead. It does not wait longer,
//! because a subscriber may read a message in place for as long as it likes.
//!
//! The states of header and block, and what a death leaves, are in
//! [`header`](crate::queue::payload::header) and [`floor`](super::floor).

use super::body::{store_bytes, words};
use super::port::{Port, Refused};
use super::publish::{Claim, Unsent};
use crate::heap::{Block, Class, Shortage};
use crate::loom::atomic::Ordering::Relaxed;
use crate::loom::{spin_loop, Ordered};
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::payload::area::{Area, Need};
use crate::queue::payload::header::Header;
use crate::segment::owner::OwnerId;
use crate::sys::clock::{Backoff, Deadline};

/// Pauses of a publisher that may block while all memory is being written or read in place: 0.1 s
/// in all, because a participant that is only preempted runs again by then.
const PAUSES: u32 = if cfg!(loom) { 0 } else { 110 };

/// While there is no memory for messages of some size, only one in this number of them searches all
/// memory.
const SEARCH_EVERY: u32 = 64;

/// Attempts to allocate while another participant remakes chunks for messages of another size.
const ATTEMPTS: u32 = if cfg!(loom) { 0 } else { 64 };

/// A slot that is claimed for a message of varying length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(super) me: OwnerId,
    pub(super) claim: Claim,
    /// The address of the elements.
    pub(super) at: *mut u8,
}

impl Area {
    /// Frees the block of the message that was in a slot before. The slot is claimed, and gets
    /// another header next.
    #[inline]
    fn free_former(&self, header: &Header) {
        if let Some(name) = header.block() {
            self.free(name);
        }
    }
}

impl Port {
    /// Returns the address and the number of the elements of a message of varying length. `None`:
    /// the header is damaged, or others have the slot.
    #[inline]
    pub(crate) fn find(&self, index: u32) -> Option<(*mut u8, usize)> {
        self.area.as_ref()?.find(self.ring.header(index), self.ring.message(index))
    }

    /// Publishes `bytes`, which are `len` elements. Without a deadline it does not block.
    #[inline]
    pub(crate) fn publish_bytes(
        &self,
        len: usize,
        bytes: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<(), SendError<()>> {
        let Some(area) = &self.area else { return Err(SendError::Corrupted(())) };
        if bytes.len() > area.inline() {
            return self.publish_block(len, bytes, deadline);
        }
        let write = |index| {
            let header = self.ring.header(index);
            area.free_former(header);
            header.set(len, None);
            store_bytes(self.ring.words(index), bytes);
        };
        self.publish(deadline, write).map_err(|refused| refused.into_send_error(()))
    }

    #[inline(never)]
    fn publish_block(
        &self,
        len: usize,
        bytes: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<(), SendError<()>> {
        // SAFETY: the block has room for these bytes. It is aligned to 16, and mapped as long as
        // `self`.
        let write = |at: *mut u8| store_bytes(unsafe { words(at, bytes.len()) }, bytes);
        let Placed { me, claim, .. } = self.place_with(len, deadline, write)?;
        self.publish_claimed(me, claim, deadline).map_err(|(refused, claim)| {
            self.abandon(me, claim);
            refused.into_send_error(())
        })
    }

    /// Claims a slot for a message of `len` elements, with a block if the slot is too small. The
    /// elements may be anything. Without a deadline it does not block.
    #[inline]
    pub(super) fn place(&self, len: usize, deadline: Option<Deadline>) -> Result<Placed, SendError<()>> {
        self.place_with(len, deadline, |_| ())
    }

    /// Claims a slot like [`place`](Port::place). If the message has a block, calls `write` with
    /// its address before the slot is claimed, so that others do not skip a slot whose message
    /// takes long to write.
    #[inline]
    fn place_with(
        &self,
        len: usize,
        deadline: Option<Deadline>,
        write: impl Fn(*mut u8),
    ) -> Result<Placed, SendError<()>> {
        let Some(area) = &self.area else { return Err(SendError::Corrupted(())) };
        let need = area.need(len).map_err(|excess| SendError::TooLarge((), excess))?;
        let claimed = match need {
            Need::Slot => self.claim(deadline).map(|(me, claim)| (me, claim, None)),
            Need::Block(class) => self.claim_with_block(area, class, deadline, write),
        };
        let (me, claim, block) = claimed.map_err(|refused| refused.into_send_error(()))?;
        let header = self.ring.header(claim.position.index);
        area.free_former(header);
        area.enter(header, len, block, me);
        // Not what the header says, which a hostile process may change meanwhile.
        let at = block.map_or(Some(self.ring.message(claim.position.index)), |block| area.address(block));
        at.map(|at| Placed { me, claim, at }).ok_or(SendError::Corrupted(()))
    }

    /// Allocates a block, has it written, and claims a slot. If that fails, frees the block.
    fn claim_with_block(
        &self,
        area: &Area,
        class: Class,
        deadline: Option<Deadline>,
        write: impl Fn(*mut u8),
    ) -> Result<(OwnerId, Claim, Option<Block>), Refused> {
        let me = self.me()?;
        let attempt = || {
            self.ring.check_gate()?;
            let block = self.alloc(area, class, me)?;
            if let Some(at) = area.address(block) {
                write(at);
            }
            self.ring.try_claim(me).map(|claim| (me, claim, Some(block))).inspect_err(|_| {
                area.free_unused(block, me);
            })
        };
        let (mut backoff, mut pauses) = (Backoff::new(), PAUSES);
        loop {
            let done = self.try_until(deadline, attempt);
            let is_in_use = matches!(done, Err(Refused::Blocked(Blocked::Later)));
            let may_wait = deadline.is_some_and(|deadline| !deadline.has_passed());
            if !is_in_use || !may_wait || pauses == 0 {
                return done;
            }
            pauses -= 1;
            // A participant that has the memory may be dead.
            match pauses {
                0 => self.object.attachment().reap_all(),
                _ => self.object.reap_dead(),
            }
            backoff.pause();
        }
    }

    /// Allocates a block. Discards the oldest messages while there is no memory.
    ///
    /// A failed search of all memory takes much longer than discarding a message, and the next one
    /// would most likely fail too. So after a failed search, the next messages of this size take
    /// only freed blocks of their size. All memory is searched again after a message was discarded,
    /// and for one in [`SEARCH_EVERY`] messages.
    #[inline]
    fn alloc(&self, area: &Area, class: Class, me: OwnerId) -> Result<Block, Unsent> {
        let (is_due, mut attempts) = (self.shortage(class).load(Relaxed) % SEARCH_EVERY == 0, ATTEMPTS);
        let found = match is_due {
            true => self.search(area, class, me, &mut attempts),
            false => area.alloc_freed(class, me),
        };
        found.map_or_else(|| self.alloc_discarding(area, class, me, attempts), Ok)
    }

    /// Searches all memory for a block. While another participant remakes chunks, tries again, at
    /// most `attempts` times: nothing need be discarded for memory that is about to be free.
    #[inline]
    fn search(&self, area: &Area, class: Class, me: OwnerId, attempts: &mut u32) -> Option<Block> {
        loop {
            match area.alloc(class, me) {
                Ok(block) => {
                    if self.shortage(class).load(Relaxed) != 0 {
                        self.shortage(class).store(0, Relaxed);
                    }
                    return Some(block);
                }
                Err(Shortage::Busy) if *attempts > 0 => {
                    *attempts -= 1;
                    (0..ATTEMPTS).for_each(|_| spin_loop());
                }
                Err(_) => return None,
            }
        }
    }

    /// Allocates a block where the quota is, or was, used up.
    #[cold]
    fn alloc_discarding(
        &self,
        area: &Area,
        class: Class,
        me: OwnerId,
        mut attempts: u32,
    ) -> Result<Block, Unsent> {
        self.shortage(class).fetch_add(1, Relaxed);
        let mut steps = self.ring.steps();
        while steps.take() {
            if self.ring.is_closed() {
                return Err(Blocked::Closed.into());
            }
            let discarded = self.ring.discard(&mut steps, class.share(), &|name| area.free_share(name));
            let freed = area.alloc_freed(class, me);
            if let Some(block) = freed.or_else(|| self.search(area, class, me, &mut attempts)) {
                return Ok(block);
            }
            discarded?;
        }
        Err(Blocked::Later.into())
    }

    /// Publishes the message of a claimed slot. On failure the slot that is still held is returned.
    #[inline]
    pub(super) fn publish_claimed(
        &self,
        me: OwnerId,
        claim: Claim,
        deadline: Option<Deadline>,
    ) -> Result<(), (Refused, Claim)> {
        let find = || self.claim_as(me, deadline);
        self.ring.send_claimed(me, claim, find, |from, to| self.move_message(from, to))
    }

    /// Moves a message from one slot that this process writes to another.
    fn move_message(&self, from: u32, to: u32) {
        let mut is_in_slot = true;
        if let Some(area) = &self.area {
            let (old, new) = (self.ring.header(from), self.ring.header(to));
            is_in_slot = old.block().is_none();
            area.free_former(new);
            Area::move_on(old, new);
        }
        if is_in_slot {
            let bytes = 8 * self.ring.shape().words;
            let (from, to) = (self.ring.message(from), self.ring.message(to));
            // SAFETY: both slots are ours, and they are not the same; each has these words. Nobody
            // else uses the message.
            unsafe { from.copy_to_nonoverlapping(to, bytes) }
        }
    }

    /// Leaves a claimed slot without a message, and frees the block of the message.
    pub(super) fn abandon(&self, me: OwnerId, claim: Claim) {
        if let Some(area) = &self.area {
            area.abandon(self.ring.header(claim.position.index));
        }
        self.ring.free(me, claim);
        if self.area.is_some() {
            self.ring.room().notify_all(Ordered::by_fence());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::busy;
    use crate::queue::topic::{From, Publisher, Topic};

    const QUOTA: u64 = 1 << 16;
    /// A length in bytes: the quota has room for two such messages.
    const LARGE: usize = 24_000;
    /// Another: the quota has room for many.
    const SMALL: usize = 1000;

    /// Returns a topic whose memory is free, but is cut for large messages, and its publisher.
    fn topic_of_large_messages() -> (Topic<[u8]>, Publisher<[u8]>) {
        let topic = Topic::<[u8]>::builder(8).quota(QUOTA).build().unwrap();
        let publisher = topic.publisher();
        (0..4).for_each(|_| publisher.publish(&[1; LARGE]).unwrap());
        assert!(topic.port.ring.floor() > 0, "the quota was used up");
        // These are stored in their slots, and overwrite all large messages.
        (0..20).for_each(|number| publisher.publish(&[number]).unwrap());
        (topic, publisher)
    }

    /// Checks that a small message discards no other.
    fn check_that_nothing_is_discarded(topic: &Topic<[u8]>, publisher: &Publisher<[u8]>) {
        let mut subscriber = topic.subscribe(From::Last(7)).unwrap();
        publisher.publish(&[2; SMALL]).unwrap();
        for number in 13..20 {
            assert_eq!(subscriber.try_recv().as_deref(), Ok(&[number][..]));
        }
        assert_eq!(subscriber.try_recv().unwrap().len(), SMALL);
    }

    #[test]
    fn a_shortage_for_one_size_discards_nothing_for_another() {
        let (topic, publisher) = topic_of_large_messages();
        check_that_nothing_is_discarded(&topic, &publisher);
    }

    #[test]
    fn nothing_is_discarded_while_another_participant_remakes() {
        let (topic, publisher) = topic_of_large_messages();
        let keeper = |topic: &Topic<[u8]>, word| {
            topic.port.area.as_ref().unwrap().store().unwrap().keeper().store(word, Relaxed);
        };
        keeper(&topic, topic.port.me().unwrap().bits().into());
        let (other, mut refused) = (topic.clone(), 0);
        busy::on_each(move || {
            refused += 1;
            if refused == 5 {
                keeper(&other, 0);
            }
        });
        check_that_nothing_is_discarded(&topic, &publisher);
    }
}
