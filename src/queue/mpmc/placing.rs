//! The producers' side for messages of varying length: a block and a slot are claimed, the message
//! is written, and then it is sent as any other.
//!
//! A producer that needs a block allocates it first, and gives it back if there is no slot. So a
//! producer that waits holds nothing. It waits like a producer that finds no slot, because a
//! consumer frees the block before the slot. But the producer that is woken may need more bytes
//! than were freed, so one that waits for bytes has all producers woken (`WAKE_ALL`).
//!
//! The states of header and block, and what a death leaves, are in
//! [`header`](crate::queue::payload::header).

use super::backoff::Backoff;
use super::guard::Held;
use super::handle::Queue;
use super::ring::{Claim, Ring};
use crate::heap::{Block, Class, Shortage};
use crate::message::Payload;
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::payload::area::{Area, Need};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// Attempts to find a message to replace while others use all of them.
const ATTEMPTS: u32 = if cfg!(loom) { 0 } else { 64 };

impl Ring {
    /// Allocates a block and claims a slot: both or none. `None`: not now. `may_wait` says that the
    /// caller is about to wait for both.
    pub(crate) fn try_claim_with_block(
        &self,
        area: &Area,
        class: Class,
        me: OwnerId,
        may_wait: bool,
    ) -> Option<Result<(Claim, Block), Blocked>> {
        let mut block = area.alloc(class, me);
        if block.is_err() && may_wait {
            self.ask_to_wake_all();
            block = area.alloc(class, me);
        }
        let Ok(block) = block else { return self.is_closed().then_some(Err(Blocked::Closed)) };
        match self.try_claim(me, None) {
            Ok(claim) => Some(Ok((claim, block))),
            Err(blocked) => {
                area.free_unused(block, me);
                // Another producer may have found the slot, but not these bytes.
                self.pass_on_after_claim();
                (blocked != Blocked::Later).then_some(Err(blocked))
            }
        }
    }
}

impl<T: Payload + ?Sized> Queue<T> {
    /// Claims a slot for a message of `len` elements, with a block if the slot is too small.
    /// Returns the address of the elements, whose contents may be anything. It does not depend on
    /// the slot's header, which a hostile process may change meanwhile.
    #[inline]
    pub(super) fn place(
        &self,
        len: usize,
        deadline: Deadline,
    ) -> Result<(Held<'_, T>, *mut T::Element), SendError<()>> {
        let Some(area) = &self.area else { return Err(SendError::Corrupted(())) };
        let need = area.need(len).map_err(|excess| SendError::TooLarge((), excess))?;
        let failed = |blocked: Blocked| self.note(blocked).into_send_error(());
        let (me, claim, block) = match need {
            Need::Slot if deadline == Deadline::At(0) => {
                self.claim(None).map(|(me, claim)| (me, claim, None)).map_err(failed)?
            }
            Need::Slot => self.claim(Some(deadline)).map(|(me, claim)| (me, claim, None)).map_err(failed)?,
            Need::Block(class) => {
                let me = self.me().map_err(failed)?;
                let (claim, block) = self.claim_with_block(area, class, me, deadline).map_err(failed)?;
                (me, claim, Some(block))
            }
        };
        let held = self.enter(area, me, claim, len, block);
        let at = match block {
            None => Some(self.message(claim.index)),
            Some(block) => area.address(block),
        };
        Ok((held, at.ok_or(SendError::Corrupted(()))?.cast()))
    }

    #[inline]
    fn enter(&self, area: &Area, me: OwnerId, claim: Claim, len: usize, block: Option<Block>) -> Held<'_, T> {
        area.enter(self.ring.header(claim.index), len, block, me);
        Held::new(self, me, claim, true)
    }

    /// Allocates a block and claims a slot: both or none.
    fn claim_with_block(
        &self,
        area: &Area,
        class: Class,
        me: OwnerId,
        deadline: Deadline,
    ) -> Result<(Claim, Block), Blocked> {
        let (ring, mut is_first) = (&self.ring, true);
        let attempt = || ring.try_claim_with_block(area, class, me, !std::mem::take(&mut is_first));
        let reap_dead = || self.object.reap_dead();
        let claimed = ring.senders().wait(deadline, reap_dead, attempt).unwrap_or(Err(Blocked::Later))?;
        if deadline != Deadline::At(0) {
            ring.pass_on_after_claim();
        }
        Ok(claimed)
    }

    /// Sends a message that does not fit into its slot.
    #[inline(never)]
    pub(super) fn send_block(
        &self,
        elements: &[T::Element],
        deadline: Deadline,
    ) -> Result<(), SendError<()>> {
        let (held, at) = self.place(elements.len(), deadline)?;
        // SAFETY: place() has returned room for that many elements, aligned, and it is ours.
        unsafe { at.copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
        held.send(deadline).map_err(|(blocked, _)| blocked.into_send_error(()))
    }

    /// Sends a message that does not fit into its slot. While there is no room, takes the oldest
    /// messages, and passes them to `replaced`.
    pub(super) fn force_block(
        &self,
        elements: &[T::Element],
        mut replaced: impl FnMut(T::Owned),
    ) -> Result<(), SendError<()>> {
        let Some(area) = &self.area else { return Err(SendError::Corrupted(())) };
        let class = match area.need(elements.len()).map_err(|excess| SendError::TooLarge((), excess))? {
            Need::Block(class) => class,
            Need::Slot => return Err(SendError::Corrupted(())), // the caller has compared
        };
        let failed = |blocked: Blocked| self.note(blocked).into_send_error(());
        let me = self.me().map_err(failed)?;
        let (mut steps, mut backoff, mut attempts) = (self.ring.steps(), Backoff::default(), ATTEMPTS);
        while steps.take() {
            let block = area.alloc(class, me);
            // Passed to `replaced` only when this process holds nothing, because it may panic.
            let mut old = None;
            let claimed = match block {
                Err(_) if self.ring.is_closed() => Err(Blocked::Closed),
                Err(Shortage::Busy) => Err(Blocked::Later),
                Err(Shortage::Used) => self.take_oldest(me, &mut old).map(|oldest| {
                    self.ring.free(me, oldest);
                    None
                }),
                Ok(block) => match self.ring.try_claim(me, None) {
                    Err(Blocked::Later) => self
                        .take_oldest(me, &mut old)
                        .and_then(|oldest| self.ring.claim_in_place_of(me, oldest))
                        .map(|claim| Some((claim, block))),
                    claimed => claimed.map(|claim| Some((claim, block))),
                },
            };
            let (claim, block) = match claimed {
                Ok(Some(claimed)) => claimed,
                Ok(None) => {
                    old.into_iter().for_each(&mut replaced);
                    continue;
                }
                Err(blocked) => {
                    if let Ok(block) = block {
                        area.free_unused(block, me);
                    }
                    old.into_iter().for_each(&mut replaced);
                    if blocked != Blocked::Later || attempts == 0 {
                        return Err(failed(blocked));
                    }
                    attempts -= 1;
                    backoff.spin();
                    continue;
                }
            };
            let held = self.enter(area, me, claim, elements.len(), Some(block));
            let at = area.address(block).ok_or(SendError::Corrupted(()))?.cast::<T::Element>();
            // SAFETY: the block is ours, and of a class for that many elements.
            unsafe { at.copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
            let sent = held.send(Deadline::At(0)).map_err(|(blocked, _)| blocked);
            old.into_iter().for_each(&mut replaced);
            match sent {
                Err(Blocked::Later) => {}
                done => return done.map_err(failed),
            }
        }
        Err(SendError::Full(()))
    }

    /// Takes the oldest message, copies it, and frees its block. Its slot is still held.
    fn take_oldest(&self, me: OwnerId, copy: &mut Option<T::Owned>) -> Result<Claim, Blocked> {
        let oldest = self.ring.try_take(me)?;
        *copy = self.copy_replaced(oldest.index);
        Ok(oldest)
    }

    /// Copies a message that is being replaced, and frees its block, because its slot is about to
    /// get another header. `None` if it is not valid.
    pub(super) fn copy_replaced(&self, index: u32) -> Option<T::Owned> {
        let copy = self.copy(index);
        if let (false, Some(area)) = (T::IS_FIXED, &self.area) {
            area.abandon(self.ring.header(index));
        }
        copy
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::busy;
    use crate::loom::atomic::Ordering::Relaxed;

    /// Returns a queue of a short message, whose memory is free, but is cut for large messages; and
    /// makes this process one that remakes it.
    fn queue_with_keeper() -> Queue<[u8]> {
        let queue = Queue::<[u8]>::builder(8).quota(1 << 16).build().unwrap();
        queue.send(&[1; 24_000]).unwrap();
        queue.send(&[2; 24_000]).unwrap();
        assert!(queue.recv().is_ok() && queue.recv().is_ok());
        queue.send(&[3]).unwrap();
        set_keeper(&queue, queue.me().unwrap().bits().into());
        queue
    }

    fn set_keeper(queue: &Queue<[u8]>, word: u64) {
        queue.area.as_ref().unwrap().store().unwrap().keeper().store(word, Relaxed);
    }

    #[test]
    fn nothing_is_replaced_while_another_participant_remakes() {
        let queue = queue_with_keeper();
        let (other, mut refused) = (queue.clone(), 0);
        busy::on_each(move || {
            refused += 1;
            if refused == 5 {
                set_keeper(&other, 0);
            }
        });
        queue.force_send(&[4; 60_000], |_| panic!("there is memory for both")).unwrap();
        assert_eq!((queue.recv().unwrap(), queue.recv().unwrap().len()), (vec![3], 60_000));
    }

    #[test]
    fn a_stopped_keeper_makes_a_queue_full_rather_than_empty() {
        let queue = queue_with_keeper();
        let sent = queue.force_send(&[4; 60_000], |_| panic!("it would be replaced for nothing"));
        assert!(sent.is_err_and(|error| error.is_full()));
        assert_eq!(queue.recv().unwrap(), [3]);
    }
}
