//! Recovery of a service: the calls of a dead caller are cancelled, those of a dead server end or
//! go to another server.
//!
//! See [`table`](super::table) for the states, and for why any number of reapers may run at once.

use super::table::Table;
use super::word::{Outcome, Status};
use crate::failpoint::{is_planted, Fault};
use crate::loom::Ordered;
use crate::queue::mpmc::slot::{Status as SlotStatus, Word};
use crate::queue::payload::header::{Header, Name};
use crate::segment::owner::OwnerId;

/// Attempts at one slot. Each follows a change by another participant.
const SWAPS_MAX: u32 = 1 << 16;

/// What a header says, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Request,
    Answer,
}

/// The headers of the messages in a slot; `None`: messages of a fixed size.
pub(crate) type Headers<'a> = [(Part, Option<&'a Header>); 2];

/// What a reaper needs to free blocks: the headers of a slot, those of the parts of its answer that
/// are not in the place of the answer, and a function that frees the block with this name.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    pub(crate) headers: &'a dyn Fn(u32) -> Headers<'a>,
    pub(crate) more: &'a dyn Fn(u32, &mut dyn FnMut(&Header)),
    pub(crate) free: &'a dyn Fn(Part, Name),
}

/// The next step of a reaper at a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The slot has nothing of the dead participant.
    Leave,
    /// Free the slot.
    Free,
    /// Free the slot of a request that no server has and whose caller has given up.
    Withdraw,
    /// End the call of the dead caller.
    Cancel,
    /// End the call that the dead server had.
    Die,
    /// Let another server have the request.
    Return,
    /// Name the caller in the slot of the dead server.
    HandOn,
}

/// Decides the next step, for a participant that is the caller, the owner of the slot, or both.
fn step(word: Word, outcome: Outcome, is_caller: bool, is_owner: bool, redelivers: bool) -> Step {
    use SlotStatus::{Empty, Full, Held, Kept, Reading, Returned, Sealed, Writing};
    match (word.status(), outcome.status()) {
        (Empty | Sealed, _) => Step::Leave,
        (Writing | Held, _) if is_owner => Step::Free,
        (Writing | Held, _) => Step::Leave,
        (_, Some(Status::Pending)) if is_caller => Step::Cancel,
        (Full | Returned, Some(Status::Pending)) => Step::Leave,
        (Full | Returned, Some(Status::Cancelled)) => Step::Withdraw,
        (Full | Returned, _) if is_caller => Step::Withdraw, // overwritten
        (Full | Returned, _) => Step::Leave,
        (Reading | Kept, Some(Status::Pending)) if is_owner && redelivers => Step::Return,
        (Reading | Kept, Some(Status::Pending)) if is_owner => Step::Die,
        (Reading | Kept, Some(Status::Pending)) => Step::Leave,
        (Reading | Kept, Some(Status::Cancelled)) if is_owner => Step::Free,
        (Reading | Kept, Some(Status::Cancelled)) => Step::Leave,
        (Reading | Kept, _) if is_caller => Step::Free,
        (Reading | Kept, _) if is_owner => Step::HandOn,
        (Reading | Kept, _) => Step::Leave,
    }
}

impl Table {
    /// Takes every slot from `dead`. Idempotent. One step if `dead` has never used the service,
    /// else one for each slot.
    pub(crate) fn recover(&self, dead: OwnerId, blocks: Blocks<'_>) {
        if !self.ring.may_hold(dead) {
            return;
        }
        for index in 0..self.ring.capacity() {
            let is_done = |_: &u32| self.recover_slot(index, dead, blocks);
            (0..SWAPS_MAX).find(is_done);
            // By us, or by a reaper that may have died before it announced that. See
            // Ring::recover_with().
            if self.ring.word(index).status() == SlotStatus::Returned {
                self.ring.announce_return();
            }
        }
        let changes = Ordered::by_fence();
        self.ring.receivers().notify_all(changes);
        self.ring.senders().notify_all(changes);
    }

    /// Takes one step at a slot. Returns whether it was the last one.
    fn recover_slot(&self, index: u32, dead: OwnerId, blocks: Blocks<'_>) -> bool {
        let ring = &self.ring;
        let word = ring.word(index);
        let (outcome, client, parts) = (self.outcome(index), self.client(index), self.parts(index));
        // All were loaded with Acquire, so they are of the call that has this word.
        if !ring.is_still(index, word.0) {
            return false;
        }
        let (is_caller, is_owner) = (client == Some(dead), word.names(dead));
        // Parts would come twice.
        let redelivers = ring.redelivers() && !parts.has_begun();
        match step(word, outcome, is_caller, is_owner, redelivers) {
            Step::Leave => true,
            Step::Cancel => {
                let _ = self.settle(index, outcome, Status::Cancelled);
                false
            }
            Step::Die => {
                if is_planted(Fault::DieUnsettled) {
                    return ring.swap(index, word, word.freed());
                }
                // Of parts, the caller takes those that were sent.
                if !parts.is_in_parts() {
                    self.free_blocks(index, word, &[Part::Answer], blocks);
                }
                let _ = self.settle(index, outcome, Status::Died);
                false
            }
            Step::Withdraw => {
                // The slot first, because a server may take the request at any moment. If we die in
                // between, the next caller in the slot frees the blocks.
                let names = (blocks.headers)(index).map(|(part, header)| Some((part, header?.block()?)));
                let is_ours = ring.swap(index, word, word.freed());
                names
                    .into_iter()
                    .flatten()
                    .filter(|_| is_ours)
                    .for_each(|(part, name)| (blocks.free)(part, name));
                is_ours
            }
            Step::Free => {
                self.free_blocks(index, word, &[Part::Request, Part::Answer], blocks);
                ring.swap(index, word, word.freed())
            }
            Step::Return => {
                self.free_blocks(index, word, &[Part::Answer], blocks);
                // Before the swap, so that the notice is there if we die after it; and after it.
                ring.announce_return();
                ring.swap(index, word, Word::new(word.lap(), SlotStatus::Returned, None));
                // Its caller may have given up meanwhile, and left the request to the server. Pairs
                // with the fence in settle(): it sees RETURNED, or we see CANCELLED.
                Ordered::by_fence();
                false
            }
            Step::HandOn => match client {
                Some(client) => ring.swap(index, word, Word::new(word.lap(), word.status(), Some(client))),
                // Overwritten: nobody would free the slot.
                None => ring.swap(index, word, word.freed()),
            },
        }
    }

    /// Frees the blocks of these messages, if the slot's word is still `word`.
    fn free_blocks(&self, index: u32, word: Word, parts: &[Part], blocks: Blocks<'_>) {
        for (part, header) in (blocks.headers)(index) {
            let name = header.filter(|_| parts.contains(&part)).and_then(Header::block);
            // After the name was read. Pairs with Header::set(): if the name is that of a later
            // call, the word is too.
            if let Some(name) = name.filter(|_| self.ring.is_still(index, word.0)) {
                (blocks.free)(part, name);
            }
        }
        if parts.contains(&Part::Answer) && self.parts(index).is_in_parts() {
            (blocks.more)(index, &mut |header| {
                // As above.
                if let Some(name) = header.block().filter(|_| self.ring.is_still(index, word.0)) {
                    (blocks.free)(Part::Answer, name);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: [SlotStatus; 8] = [
        SlotStatus::Empty,
        SlotStatus::Writing,
        SlotStatus::Full,
        SlotStatus::Reading,
        SlotStatus::Held,
        SlotStatus::Kept,
        SlotStatus::Returned,
        SlotStatus::Sealed,
    ];

    fn decided(status: Status) -> Outcome {
        Outcome(0).next().ended(status)
    }

    #[test]
    fn nothing_of_others_is_touched() {
        for status in SLOTS {
            for outcome in 0..8 {
                for redelivers in [false, true] {
                    let word = Word::new(5, status, OwnerId::new(1, 1));
                    let is_withdrawn = matches!(status, SlotStatus::Full | SlotStatus::Returned)
                        && Outcome(outcome).status() == Some(Status::Cancelled);
                    let expected = if is_withdrawn { Step::Withdraw } else { Step::Leave };
                    assert_eq!(step(word, Outcome(outcome), false, false, redelivers), expected);
                }
            }
        }
    }

    #[test]
    fn the_table_of_deaths() {
        use SlotStatus::{Empty, Full, Held, Kept, Reading, Returned, Sealed, Writing};
        use Status::{Answered, Cancelled, Died, Invalid, Pending, Refused};
        let of = |status, outcome, is_caller, is_owner, redelivers| {
            step(Word::new(5, status, None), decided(outcome), is_caller, is_owner, redelivers)
        };
        for redelivers in [false, true] {
            let lost = if redelivers { Step::Return } else { Step::Die };
            for slot in [Reading, Kept] {
                assert_eq!(of(slot, Pending, true, false, redelivers), Step::Cancel);
                assert_eq!(of(slot, Pending, false, true, redelivers), lost);
                assert_eq!(of(slot, Pending, true, true, redelivers), Step::Cancel);
                assert_eq!(of(slot, Cancelled, true, false, redelivers), Step::Leave);
                assert_eq!(of(slot, Cancelled, false, true, redelivers), Step::Free);
                for decided in [Answered, Refused, Died, Invalid] {
                    assert_eq!(of(slot, decided, true, false, redelivers), Step::Free);
                    assert_eq!(of(slot, decided, true, true, redelivers), Step::Free);
                    assert_eq!(of(slot, decided, false, true, redelivers), Step::HandOn);
                }
            }
            for slot in [Full, Returned] {
                assert_eq!(of(slot, Pending, true, false, redelivers), Step::Cancel);
                assert_eq!(of(slot, Cancelled, true, false, redelivers), Step::Withdraw);
            }
            for slot in [Writing, Held] {
                assert_eq!(of(slot, Answered, true, true, redelivers), Step::Free);
                assert_eq!(of(slot, Pending, false, true, redelivers), Step::Free);
                assert_eq!(of(slot, Pending, true, false, redelivers), Step::Leave, "an earlier call");
            }
            for slot in [Empty, Sealed] {
                assert_eq!(of(slot, Pending, true, false, redelivers), Step::Leave, "an earlier call");
            }
        }
    }
}
