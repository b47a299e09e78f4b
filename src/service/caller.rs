//! The calling side without the types: how a request finds room and is sent, how its caller waits,
//! and how a call ends that nobody waits for any more.

use std::cell::Cell;

use super::error::CallError;
use super::parts::Parts;
use super::port::Port;
use super::word::Outcome;
use crate::heap::Block;
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::holders::{Holders, Tenure};
use crate::queue::mpmc::ring::Claim;
use crate::queue::payload::area::{Area, Need};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::wait::wait;

/// A port, and what a client has decided.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) port: Port,
    /// Whether calls wait for a server if there is none.
    pub(super) waits_for_server: bool,
    /// The index of the participant that had a server last.
    server: AtomicU32,
}

/// A slot that a caller has claimed, with the place of its request.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) me: OwnerId,
    pub(super) claim: Claim,
    pub(super) at: *mut u8,
}

/// How a request is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// When the search for room ends.
    pub(super) room: Deadline,
    /// When the call ends, for the server to see.
    pub(super) deadline: Deadline,
    /// Whether the answer may come in parts.
    pub(super) is_in_parts: bool,
}

/// A call that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) index: u32,
    /// The outcome as the call began. It has the generation.
    pub(super) outcome: Outcome,
    /// A fork gives the child a copy of this, but not the call.
    pub(super) tenure: Tenure,
}

/// What a wait for an answer has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The call has ended; its slot belongs to the caller.
    Decided(Outcome),
    /// There is a part of the answer.
    Part,
    /// There is no server, and the request was withdrawn. The caller has nothing any more.
    NoServer,
    /// The deadline has passed, and the call goes on.
    Later,
}

impl Caller {
    pub(super) fn new(port: Port) -> Caller {
        Caller { port, waits_for_server: false, server: AtomicU32::new(0) }
    }

    /// Returns whether there is no server, and calls do not wait for one.
    #[inline]
    fn lacks_server(&self) -> bool {
        if self.waits_for_server {
            return false;
        }
        let last = self.server.load(Relaxed) as usize;
        match self.port.servers().find(last) {
            Some(index) if index == last => false,
            Some(index) => {
                self.server.store(index as u32, Relaxed);
                false
            }
            None => true,
        }
    }

    /// Claims a slot for a request of `len` elements, with a block if the slot is too small. The
    /// request's bytes may be anything. The caller moves the ring's `tail`, at once or once it has
    /// sent the request.
    pub(super) fn place(&self, len: usize, deadline: Deadline) -> Result<Placed, CallError> {
        let me = self.port.me()?;
        if self.lacks_server() {
            // The only one may be dead, and its successor be there already.
            self.port.object.note_failed_try();
            return Err(CallError::NoServer);
        }
        let need = match &self.port.request.area {
            None => Need::Slot,
            Some(area) => area.need(len).map_err(CallError::TooLarge)?,
        };
        let attempt = |may_wait| self.try_claim(need, me, may_wait);
        let (claim, block) = match attempt(false) {
            Some(claimed) => claimed?,
            None => self.wait_for_room(deadline, attempt)?,
        };
        let index = claim.index;
        let [header, _] = self.port.headers(index);
        if let (Some(area), Some(header)) = (&self.port.request.area, header) {
            area.abandon(header); // what a reaper that died has left
            area.enter(header, len, block, me);
        }
        let in_slot = self.port.table.ring.message(index, self.port.request.side.offset);
        let at = match (block, &self.port.request.area) {
            (Some(block), Some(area)) => area.address(block),
            _ => Some(in_slot),
        };
        match at {
            Some(at) => Ok(Placed { me, claim, at }),
            None => {
                self.port.free_own(me, claim);
                Err(CallError::Corrupted)
            }
        }
    }

    fn try_claim(
        &self,
        need: Need,
        me: OwnerId,
        may_wait: bool,
    ) -> Option<Result<(Claim, Option<Block>), Blocked>> {
        let ring = &self.port.table.ring;
        match (need, &self.port.request.area) {
            (Need::Block(class), Some(area)) => {
                let claimed = ring.try_claim_with_block(area, class, me, may_wait)?;
                Some(claimed.map(|(claim, block)| (claim, Some(block))))
            }
            _ => match ring.claim_next(me, None) {
                Err(Blocked::Later) => None,
                claimed => Some(claimed.map(|claim| (claim, None))),
            },
        }
    }

    #[cold]
    fn wait_for_room(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut(bool) -> Option<Result<(Claim, Option<Block>), Blocked>>,
    ) -> Result<(Claim, Option<Block>), CallError> {
        let ring = &self.port.table.ring;
        if deadline == Deadline::At(0) {
            return Err(self.port.note(Blocked::Later).into());
        }
        let lacks_server = Cell::new(false);
        let reap_dead = || {
            self.port.object.reap_dead();
            lacks_server.set(self.lacks_server());
        };
        let attempt = || match attempt(true) {
            None if lacks_server.get() => Some(Err(CallError::NoServer)),
            claimed => Some(claimed?.map_err(CallError::from)),
        };
        let (claim, block) =
            ring.senders().wait(deadline, reap_dead, attempt).unwrap_or(Err(CallError::Full))?;
        ring.move_tail(claim);
        ring.pass_on_after_claim();
        Ok((claim, block))
    }

    /// Sends the request of a claimed slot. On failure the slot that is still held is returned. It
    /// needs room only if the slot was skipped.
    pub(super) fn send(
        &self,
        me: OwnerId,
        claim: Claim,
        terms: Terms,
    ) -> Result<Ticket, (CallError, Claim)> {
        let table = &self.port.table;
        let Terms { room, deadline, is_in_parts } = terms;
        let parts = Parts::new(is_in_parts);
        let nanos = match deadline {
            Deadline::At(nanos) => nanos,
            Deadline::Never => u64::MAX,
        };
        let mut outcome = table.begin(claim, me, nanos, parts);
        let find = |own| {
            let claim = match room {
                Deadline::At(0) => table.ring.try_claim(me, Some(own)),
                _ => table.ring.claim(me, Some(own), room, || self.port.object.reap_dead()),
            }?;
            outcome = table.begin(claim, me, nanos, parts);
            Ok(claim)
        };
        match table.ring.send_claimed(me, claim, room, find, |from, to| self.move_request(from, to)) {
            Ok(claim) => Ok(Ticket { index: claim.index, outcome, tenure: Tenure::new(me) }),
            Err((blocked, claim)) => Err((self.port.note(blocked).into(), claim)),
        }
    }

    /// Moves a request from one slot that this process writes to another.
    fn move_request(&self, from: u32, to: u32) {
        let (table, side) = (&self.port.table, &self.port.request.side);
        let bytes = match (self.port.headers(from), self.port.headers(to)) {
            ([Some(old), _], [Some(new), _]) => {
                let is_in_slot = old.block().is_none();
                let len = usize::try_from(old.length()).unwrap_or(usize::MAX);
                Area::move_on(old, new);
                // At most what a slot has room for, whatever the header says.
                if is_in_slot {
                    len.saturating_mul(side.size).min(side.room)
                } else {
                    0
                }
            }
            _ => side.size,
        };
        let (from, to) = (table.ring.message(from, side.offset), table.ring.message(to, side.offset));
        // SAFETY: both slots are ours, and they are not the same; each has room for these bytes,
        // and nobody else uses the request.
        unsafe { from.copy_to_nonoverlapping(to, bytes) }
    }

    /// Waits until the call has ended, or the deadline has passed.
    #[inline]
    pub(super) fn wait(&self, ticket: &Ticket, deadline: Deadline) -> End {
        let (table, index) = (&self.port.table, ticket.index);
        let seen = table.outcome(index);
        if !seen.is_pending() {
            return End::Decided(seen);
        }
        self.wait_longer(ticket, deadline, || None)
    }

    /// Waits until there is a part of the answer, the call has ended, or the deadline has passed.
    pub(super) fn wait_for_part(&self, ticket: &Ticket, deadline: Deadline) -> End {
        let table = &self.port.table;
        let has_part = || (table.parts(ticket.index).number() > 0).then_some(End::Part);
        has_part().unwrap_or_else(|| self.wait_longer(ticket, deadline, has_part))
    }

    fn wait_longer(&self, ticket: &Ticket, deadline: Deadline, early: impl Fn() -> Option<End>) -> End {
        let (table, index) = (&self.port.table, ticket.index);
        let look = || {
            let seen = table.outcome(index);
            // What was done before the call has ended, comes before its end.
            early().or_else(|| (!seen.is_pending()).then_some(End::Decided(seen)))
        };
        if deadline == Deadline::At(0) {
            if let Some(end) = look() {
                return end;
            }
            self.port.object.note_failed_try();
            return if self.withdraw_without_server(ticket) { End::NoServer } else { End::Later };
        }
        let is_withdrawn = Cell::new(false);
        let attempt = || {
            if is_withdrawn.get() {
                return Some(End::NoServer);
            }
            look()
        };
        let reap_dead = || {
            self.port.object.reap_dead();
            is_withdrawn.set(self.withdraw_without_server(ticket));
        };
        let announce = || table.announce(index, ticket.outcome);
        wait(table.futex(index), deadline, reap_dead, attempt, announce).unwrap_or(End::Later)
    }

    /// Returns whether a wait would not block.
    pub(super) fn is_over(&self, ticket: &Ticket) -> bool {
        let table = &self.port.table;
        !table.outcome(ticket.index).is_pending() || self.lacks_server() && !table.is_taken(ticket.index)
    }

    /// Returns the words that tell which participants have servers, unless calls wait for one.
    pub(super) fn servers(&self) -> Option<&Holders> {
        (!self.waits_for_server).then(|| self.port.servers())
    }

    /// Withdraws the request if there is no server. Returns whether it did.
    fn withdraw_without_server(&self, ticket: &Ticket) -> bool {
        if !self.lacks_server() {
            return false;
        }
        let me = ticket.tenure.me;
        let taken = self.port.table.take_back(ticket.index, me, ticket.outcome);
        taken.map(|claim| self.port.free_own(me, claim)).is_some()
    }

    /// Cancels a call. Returns its outcome if it had one before: then the slot is the caller's.
    pub(super) fn cancel(&self, ticket: &Ticket) -> Option<Outcome> {
        let (table, me) = (&self.port.table, ticket.tenure.me);
        match table.cancel(ticket.index, me, ticket.outcome) {
            Ok(taken_back) => {
                taken_back.into_iter().for_each(|claim| self.port.free_own(me, claim));
                None
            }
            Err(seen) => seen.is_of_same_call(ticket.outcome).then_some(seen), // else it was overwritten
        }
    }
}

impl Clone for Caller {
    fn clone(&self) -> Caller {
        Caller {
            port: self.port.clone(),
            waits_for_server: self.waits_for_server,
            server: AtomicU32::new(self.server.load(Relaxed)),
        }
    }
}
