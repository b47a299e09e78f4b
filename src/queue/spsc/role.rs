//! A role that one participant at a time can hold: producer, consumer, end of a pipe. Once it is
//! closed it is over for good.
//!
//! # State
//!
//! | word | meaning | next change by |
//! |---|---|---|
//! | 0 | vacant: never taken; the other side waits | the participant that takes it |
//! | owner id | held by that participant | the holder (hands it over, closes it), or a reaper |
//! | all ones | gone: closed, or its holder died | nobody |
//!
//! Any other word is damage. It counts as taken: nobody can take the role, and no death ends it.
//!
//! # Memory ordering
//!
//! All changes are `SeqCst`. The end of a role happens after everything its holder did, and
//! `is_gone` is Acquire. So a side that sees the end also sees everything that was sent before it.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder dies | the other's `reap_dead` | [`close`](Role::close), then a wake-up | the role |
//! | parent dies before its child starts | the same | the same | the role |
//!
//! The other side runs `reap_dead` while it waits. In the last row the role was handed to the child
//! already; the child's id is dead too.

use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::segment::owner::OwnerId;

const VACANT: u32 = 0;
const GONE: u32 = u32::MAX;

/// The reason why a role cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This participant holds it, dead or alive.
    Taken(OwnerId),
    /// It is over.
    Gone,
    /// The word is invalid.
    Damaged,
}

/// The word of a role.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Role {
    word: AtomicU32,
}

impl Role {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Role {
        Role { word: AtomicU32::new(VACANT) }
    }

    /// Takes the role if it is vacant.
    pub(crate) fn take(&self, me: OwnerId) -> Result<(), Refused> {
        match self.word.compare_exchange(VACANT, me.bits(), SeqCst, SeqCst) {
            Ok(_) => Ok(()),
            Err(GONE) => Err(Refused::Gone),
            Err(word) => Err(OwnerId::from_bits(word).map_or(Refused::Damaged, Refused::Taken)),
        }
    }

    /// Hands the role to `to`. Returns false if `me` does not hold it.
    pub(crate) fn hand_over(&self, me: OwnerId, to: OwnerId) -> bool {
        self.word.compare_exchange(me.bits(), to.bits(), SeqCst, Relaxed).is_ok()
    }

    /// Ends the role if `holder` holds it and closes it or is dead. Returns true if it did: then
    /// the caller wakes the waiters.
    pub(crate) fn close(&self, holder: OwnerId) -> bool {
        // Pairs with is_gone().
        self.word.compare_exchange(holder.bits(), GONE, SeqCst, Relaxed).is_ok()
    }

    /// Ends a role that was never taken and never will be.
    pub(crate) fn abandon(&self) -> bool {
        self.word.compare_exchange(VACANT, GONE, SeqCst, Relaxed).is_ok()
    }

    /// Returns whether the role is over.
    #[inline(always)]
    pub(crate) fn is_gone(&self) -> bool {
        self.word.load(Acquire) == GONE // pairs with close()
    }

    /// Returns whether `id` holds the role.
    pub(crate) fn is_of(&self, id: OwnerId) -> bool {
        self.word.load(Acquire) == id.bits()
    }

    /// Returns the state as text.
    pub(crate) fn describe(&self) -> String {
        match self.word.load(Relaxed) {
            VACANT => "vacant".to_owned(),
            GONE => "gone".to_owned(),
            word => match OwnerId::from_bits(word) {
                Some(id) => format!("participant {}", id.index()),
                None => format!("damaged ({word:#x})"),
            },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_holder_and_ends_for_good() {
        let (a, b) = (OwnerId::new(1, 1).unwrap(), OwnerId::new(2, 1).unwrap());
        let role = Role::new();
        assert_eq!(role.take(a), Ok(()));
        assert_eq!(role.take(b), Err(Refused::Taken(a)));
        assert!(!role.hand_over(b, a) && role.hand_over(a, b) && role.is_of(b));
        assert!(!role.close(a) && !role.abandon() && !role.is_gone());
        assert!(role.close(b) && role.is_gone());
        assert_eq!(role.take(a), Err(Refused::Gone));
        role.word.store(77, Relaxed);
        assert_eq!(role.take(a), Err(Refused::Damaged));
    }
}
