//! The outcome of a call, as a plain integer. It is the futex on which the caller sleeps.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..3 | status |
//! | 3 | the caller may be asleep |
//! | 4..32 | generation: the number of calls that the slot had, wrapping |
//!
//! | status | meaning | the slot belongs to |
//! |---|---|---|
//! | PENDING | the call goes on | its owner, see [`table`](super::table) |
//! | ANSWERED | the answer is in the slot | the caller |
//! | REFUSED | the server has dropped the request | the caller |
//! | DIED | the server's process has died | the caller |
//! | INVALID | the request's bytes are not valid | the caller |
//! | CANCELLED | the caller has given up, or died | the server that has the request, if any |
//! | ENDED | all parts of the answer were sent: see [`parts`](super::parts) | the caller |
//!
//! A word leaves PENDING once, by one swap. The next call in the slot begins with another
//! generation. Zero is the fresh state.

/// How a call has ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Pending = 0,
    Answered = 1,
    Refused = 2,
    Died = 3,
    Invalid = 4,
    Cancelled = 5,
    Ended = 6,
}

const STATUS: u32 = 7;
const SLEEPING: u32 = 1 << 3;
const CALL: u32 = 1 << 4;

/// The word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome(pub(crate) u32);

impl Outcome {
    /// Returns the status; `None` if no participant can have written it.
    #[inline]
    pub(crate) fn status(self) -> Option<Status> {
        use Status::{Answered, Cancelled, Died, Ended, Invalid, Pending, Refused};
        let all = [Pending, Answered, Refused, Died, Invalid, Cancelled, Ended];
        all.get((self.0 & STATUS) as usize).copied()
    }

    #[inline]
    pub(crate) fn is_pending(self) -> bool {
        self.0 & STATUS == Status::Pending as u32
    }

    #[inline]
    pub(crate) fn is_slept_on(self) -> bool {
        self.0 & SLEEPING != 0
    }

    /// Returns the word with a caller that is about to sleep.
    pub(crate) fn slept_on(self) -> Outcome {
        Outcome(self.0 | SLEEPING)
    }

    /// Returns the word with a caller that does not sleep.
    pub(crate) fn awake(self) -> Outcome {
        Outcome(self.0 & !SLEEPING)
    }

    /// Returns the word after the call has ended so. Whoever ends it wakes the caller.
    #[inline]
    pub(crate) fn ended(self, status: Status) -> Outcome {
        Outcome(self.0 & !(STATUS | SLEEPING) | status as u32)
    }

    /// Returns the word of the next call in the slot.
    #[inline]
    pub(crate) fn next(self) -> Outcome {
        Outcome(self.ended(Status::Pending).0.wrapping_add(CALL))
    }

    /// Returns whether both are of the same call.
    #[inline]
    pub(crate) fn is_of_same_call(self, other: Outcome) -> bool {
        self.0 / CALL == other.0 / CALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_after_the_other() {
        let first = Outcome(0).next();
        assert!(first.is_pending() && !first.is_slept_on() && !first.is_of_same_call(Outcome(0)));
        use Status::{Answered, Cancelled, Died, Ended, Invalid, Refused};
        assert_eq!(first.slept_on().awake(), first);
        for status in [Answered, Refused, Died, Invalid, Cancelled, Ended] {
            let ended = first.slept_on().ended(status);
            assert!(ended.is_of_same_call(first) && !ended.is_pending() && !ended.is_slept_on());
            assert_eq!(ended.status(), Some(status));
            assert_eq!(ended.next(), first.next());
        }
        let last = Outcome(u32::MAX).ended(Status::Answered);
        assert_eq!(last.next(), Outcome(0), "the generation wraps");
        assert_eq!(Outcome(7).status(), None);
    }
}
