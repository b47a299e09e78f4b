//! The producer's side for messages of varying length: room in the current slot, or in a block.
//!
//! A producer that needs a block waits for it as for a slot, because the consumer frees the block
//! of a message before its slot. What a death leaves is in [`slot`](super::slot).

use super::endpoint::Endpoint;
use super::Producer;
use crate::error::Refusal;
use crate::heap::{Block, Class};
use crate::message::Payload;
use crate::queue::blocked::Blocked;
use crate::queue::error::SendError;
use crate::queue::payload::area::Need;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

impl<T: Payload + ?Sized> Producer<T> {
    /// Waits for room for a message of `len` elements, in the current slot or in a block. Returns
    /// the address of the elements, whose contents may be anything. It does not depend on the
    /// slot's header, which a hostile process may change meanwhile.
    #[inline]
    pub(super) fn place(&mut self, len: usize, deadline: Deadline) -> Result<*mut T::Element, SendError<()>> {
        let Some(area) = &self.endpoint.area else { return Err(SendError::Corrupted(())) };
        let block = match area.need(len).map_err(|excess| SendError::TooLarge((), excess))? {
            Need::Slot => {
                let is_try = deadline == Deadline::At(0);
                let room = if is_try { self.room(1).map(drop) } else { self.wait_for_room(deadline) };
                room.map_err(|blocked| blocked.into_send_error(()))?;
                None
            }
            Need::Block(class) => {
                if !self.endpoint.is_mine() {
                    return Err(SendError::NotInThisProcess((), Refusal::FORKED));
                }
                let Producer { endpoint, cursor, slot, .. } = self;
                let (control, me) = (endpoint.control(), endpoint.me);
                let attempt = || match cursor.room(control, 1) {
                    Ok(_) => {
                        endpoint.abandon(*slot); // what a forgotten loan has left takes memory too
                        area_alloc(endpoint, class, me).map(Ok)
                    }
                    Err(Blocked::Later) => None,
                    Err(blocked) => Some(Err(blocked)),
                };
                let found = control.wait_for_space(deadline, || endpoint.object.reap_dead(), attempt);
                let found = found.unwrap_or(Err(Blocked::Later));
                Some(found.map_err(|blocked| endpoint.note(blocked).into_send_error(()))?)
            }
        };
        // What a forgotten loan has left.
        self.endpoint.abandon(self.slot);
        let Some(area) = &self.endpoint.area else { return Err(SendError::Corrupted(())) };
        area.enter(self.endpoint.header(self.slot), len, block, self.endpoint.me);
        match block {
            None => Ok(self.endpoint.short(self.slot)),
            Some(block) => area.address(block).map(<*mut u8>::cast).ok_or(SendError::Corrupted(())),
        }
    }

    /// Sends a message that does not fit into its slot.
    #[inline(never)]
    pub(super) fn send_block(
        &mut self,
        elements: &[T::Element],
        deadline: Deadline,
    ) -> Result<(), SendError<()>> {
        let at = self.place(elements.len(), deadline)?;
        // SAFETY: place() has returned room for that many elements, aligned, and it is ours.
        unsafe { at.copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
        self.publish_one();
        Ok(())
    }
}

/// Allocates a block in the ring's store.
fn area_alloc<T: Payload + ?Sized>(endpoint: &Endpoint<T>, class: Class, me: OwnerId) -> Option<Block> {
    endpoint.area.as_ref()?.alloc(class, me).ok()
}
