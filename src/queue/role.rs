//! A role that one participant at a time can have, and that is over once it was closed: producer, consumer,
//! end of a pipe.
//!
//! # State
//!
//! | word | meaning | who moves it on |
//! |---|---|---|
//! | 0 | vacant: nobody has had the role yet; the other side waits | whoever takes it |
//! | owner id | that participant's | itself: hands it to a child, or closes it; or a reaper |
//! | all ones | gone: closed, or its holder died | nobody, for good |
//!
//! Any other word is damage, and counts as taken: the role is nobody's to take, and no death ends it.
//!
//! # Memory ordering
//!
//! All changes are `SeqCst`. The end of a role happens after everything its holder did, and `is_gone` is
//! Acquire: whoever sees the end sees all that was sent before it.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder dies | the other side's `tend` while it waits | [`bury`](Role::bury), then a wake-up | the role |
//! | parent dies between handing over and starting the child | the same: the child's id is dead too | the same | the role |

use crate::loom::atomic::AtomicU32;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::owner::OwnerId;

const VACANT: u32 = 0;
const GONE: u32 = u32::MAX;

/// Why a role cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This participant has it, dead or alive.
    Taken(OwnerId),
    /// It is over.
    Gone,
    /// The word makes no sense.
    Damaged,
}

/// Who has the role.
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

    /// Takes the role, if it is vacant.
    pub(crate) fn take(&self, me: OwnerId) -> Result<(), Refused> {
        match self.word.compare_exchange(VACANT, me.bits(), SeqCst, SeqCst) {
            Ok(_) => Ok(()),
            Err(GONE) => Err(Refused::Gone),
            Err(word) => Err(OwnerId::from_bits(word).map_or(Refused::Damaged, Refused::Taken)),
        }
    }

    /// Gives the role to somebody else. False: it was not `me` who had it.
    pub(crate) fn hand_over(&self, me: OwnerId, to: OwnerId) -> bool {
        self.word.compare_exchange(me.bits(), to.bits(), SeqCst, Relaxed).is_ok()
    }

    /// Ends the role, if `holder` has it; it closes or is dead. True: wake those who wait on it.
    pub(crate) fn bury(&self, holder: OwnerId) -> bool {
        // Pairs with is_gone().
        self.word.compare_exchange(holder.bits(), GONE, SeqCst, Relaxed).is_ok()
    }

    /// Ends a role that nobody has taken and nobody will.
    pub(crate) fn abandon(&self) -> bool {
        self.word.compare_exchange(VACANT, GONE, SeqCst, Relaxed).is_ok()
    }

    /// Whether the role is over.
    #[inline(always)]
    pub(crate) fn is_gone(&self) -> bool {
        self.word.load(Acquire) == GONE // pairs with bury()
    }

    /// Whether `id` has it.
    pub(crate) fn is_of(&self, id: OwnerId) -> bool {
        self.word.load(Acquire) == id.bits()
    }

    /// The state in a word or two, for people.
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
        assert!(!role.bury(a) && !role.abandon() && !role.is_gone());
        assert!(role.bury(b) && role.is_gone());
        assert_eq!(role.take(a), Err(Refused::Gone));
        role.word.store(77, Relaxed);
        assert_eq!(role.take(a), Err(Refused::Damaged));
    }
}
