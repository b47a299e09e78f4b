//! Sending to a full queue: the oldest message is taken, and its slot is claimed for the new one.
//!
//! A sender that finds no room takes the oldest message as a consumer does (FULL to READING),
//! copies it, and claims the same slot for the position at `tail` (READING to WRITING, one lap
//! later). The slot is never free in between. So the queue stays full for all other senders, and
//! none of them can take the room. Only if a consumer receives meanwhile, a sender may skip the
//! taken slot and use that room. If then no room is left, the taken slot is freed, and the next
//! oldest message is replaced too: each further turn follows a message that another participant has
//! sent.
//!
//! The states and the orderings are those of [`ring`](super::ring): the swap to READING pairs with
//! `publish` and hands the message over, and the next `publish` pairs with `try_take`.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | READING or KEPT | producers, reapers | skipped; freed by `recover` | the oldest, counted |
//! | WRITING or HELD | consumers, reapers | skipped; freed by `recover` | both, not counted |
//! | FULL, nobody woken | a sleeper at the end of its slice | itself | up to 50 ms |
//!
//! In the second row the oldest message has been received: the sender had copied it, and died with
//! it. No message is received twice, because each is taken by one swap.

use super::backoff::Backoff;
use super::ring::{Claim, Ring};
use crate::queue::blocked::Blocked;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// Attempts to find a message while others use all slots. They are done soon, most of the time.
const ATTEMPTS: u32 = if cfg!(loom) { 0 } else { 64 };

impl Ring {
    /// Sends the message that `write` puts into the slot with the given index. While there is no
    /// room, replaces the oldest message: `read` copies it from its slot, and `replaced` is called
    /// when its slot is not ours any more. Fails with `Later` if there is no message to replace
    /// either, because others use all slots.
    pub(crate) fn force_send(
        &self,
        me: OwnerId,
        mut write: impl FnMut(u32),
        mut read: impl FnMut(u32),
        mut replaced: impl FnMut(),
    ) -> Result<(), Blocked> {
        let (mut steps, mut backoff, mut attempts) = (self.steps(), Backoff::default(), ATTEMPTS);
        while steps.take() {
            match self.try_send(me, &mut write) {
                Err(Blocked::Later) => {}
                done => return done,
            }
            let oldest = match self.try_take(me) {
                Ok(oldest) => oldest,
                Err(Blocked::Later) if self.has_room() => continue, // others have received
                Err(Blocked::Later) if attempts > 0 => {
                    attempts -= 1;
                    backoff.spin();
                    continue;
                }
                Err(blocked) => return Err(blocked),
            };
            read(oldest.index);
            let sent = self.send_in_place_of(me, oldest, &mut write);
            replaced();
            match sent {
                Err(Blocked::Later) => {}
                done => return done,
            }
        }
        Err(self.diagnose())
    }

    /// Sends a message in the slot of one that was taken, or in another slot that is free now. The
    /// taken slot is not the caller's afterwards.
    fn send_in_place_of(&self, me: OwnerId, taken: Claim, mut write: impl FnMut(u32)) -> Result<(), Blocked> {
        let claim = self.claim_in_place_of(me, taken)?;
        write(claim.index);
        let find = |own| self.try_claim(me, Some(own));
        let sent = self.send_claimed(me, claim, Deadline::At(0), find, |_, to| write(to));
        sent.map(drop).map_err(|(blocked, claim)| {
            self.free_unsent(me, claim);
            blocked
        })
    }

    /// Claims the slot of a message that was taken, or another slot that is free now. The taken
    /// slot is not the caller's afterwards, unless it is the claimed one.
    pub(crate) fn claim_in_place_of(&self, me: OwnerId, taken: Claim) -> Result<Claim, Blocked> {
        let found = self.try_claim(me, Some(taken.index));
        // Otherwise the slot is the new message's.
        if !found.is_ok_and(|claim| claim.index == taken.index) {
            self.free(me, taken);
        }
        found
    }
}
