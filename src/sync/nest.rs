//! The memory side of the recursive lock: an owner word, which thread of the owner, and how often.
//!
//! # State
//!
//! | word | meaning | who writes it |
//! |---|---|---|
//! | owner word | which process holds it: see [`owned`](super::owned) | all |
//! | thread | the holder's token: owner id, and a number of the thread in its process; 0: no thread yet, or any more | the holder |
//! | depth | how often the holder has acquired it and not released | the holder |
//!
//! Thread and depth mean something only while the owner word names somebody; what the dead left in them is nothing. A thread
//! holds the lock if the owner word names its process and the token is its own.
//!
//! # Memory ordering
//!
//! Thread and depth belong to the holder, so the word's order is theirs. Who is not the holder may read any old token, but
//! never its own: it has stored 0 there itself since, before it freed the word. And a token names an owner id, so one that a
//! dead process left behind is nobody's.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | process dies at any depth, also before it has written its token | see the owner word | whoever comes next begins at depth 1 | nothing |
//! | thread ends without releasing | nobody: its process lives | nobody | the lock, until the process ends |

use crate::loom::atomic::Ordering::Relaxed;
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::owner::OwnerId;
use crate::sync::owned::{Acquired, OwnerWord};

/// A thread of a process: no other has had this token, in any process of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: OwnerId,
    /// Not 0; the thread's in its process.
    pub(crate) thread: u32,
}

impl Holder {
    fn token(self) -> u64 {
        u64::from(self.id.bits()) << 32 | u64::from(self.thread)
    }
}

/// The count of depths is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// The memory side. Zero is the fresh state, and any bytes are a Nest.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Nest {
    pub(crate) word: OwnerWord,
    depth: AtomicU32,
    thread: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Nest>() == 16);

impl Nest {
    /// Free.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Nest {
        Nest { word: OwnerWord::new(), depth: AtomicU32::new(0), thread: AtomicU64::new(0) }
    }

    /// Whether it is this thread that holds the lock. What it says stays true as long as the thread does nothing.
    #[inline]
    pub(crate) fn is_held_by(&self, me: Holder) -> bool {
        self.thread.load(Relaxed) == me.token() && self.word.holder() == Some(me.id)
    }

    /// Once more, if this thread holds the lock. `None`: it does not.
    #[inline]
    pub(crate) fn enter_again(&self, me: Holder) -> Option<Result<(), TooDeep>> {
        if !self.is_held_by(me) {
            return None;
        }
        let next = self.depth.load(Relaxed).checked_add(1).ok_or(TooDeep);
        Some(next.map(|depth| self.depth.store(depth, Relaxed)))
    }

    /// The owner word has just been acquired for this thread, which was at `depth` before it gave it away, or is at 1.
    #[inline]
    pub(crate) fn begin(&self, me: Holder, depth: u32, acquired: Acquired) {
        self.depth.store(depth, Relaxed);
        self.thread.store(me.token(), Relaxed);
        if acquired.after_death {
            self.word.mark_consistent();
        }
    }

    /// Once less; the last one frees the lock. False: this thread does not hold it.
    #[inline]
    pub(crate) fn leave(&self, me: Holder) -> bool {
        if !self.is_held_by(me) {
            return false;
        }
        match self.depth.load(Relaxed) {
            depth @ 2.. => self.depth.store(depth - 1, Relaxed),
            _ => _ = self.leave_all(me),
        }
        true
    }

    /// Frees the lock from all depths; gives how many that were. `None`: this thread does not hold it.
    pub(crate) fn leave_all(&self, me: Holder) -> Option<u32> {
        if !self.is_held_by(me) {
            return None;
        }
        let depth = self.depth.load(Relaxed);
        // Before the word is free: from then on they are another's.
        self.thread.store(0, Relaxed);
        self.word.release(me.id).then_some(depth)
    }

    /// How often the holder has acquired it; for people.
    pub(crate) fn depth(&self) -> u32 {
        match self.word.holder() {
            Some(_) => self.depth.load(Relaxed),
            None => 0,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn holder(index: usize, thread: u32) -> Holder {
        Holder { id: OwnerId::new(index, 1).unwrap(), thread }
    }

    fn begin(nest: &Nest, me: Holder) {
        let acquired = nest.word.try_acquire(me.id).unwrap();
        nest.begin(me, 1, acquired);
    }

    #[test]
    fn a_thread_enters_again_and_others_do_not() {
        let (nest, me, sibling) = (Nest::new(), holder(3, 1), holder(3, 2));
        begin(&nest, me);
        assert_eq!(nest.enter_again(me), Some(Ok(())));
        assert_eq!(nest.enter_again(sibling), None, "the same process, but not the same thread");
        assert_eq!(nest.enter_again(holder(4, 1)), None, "the same number in another process");
        assert!(!nest.leave(sibling) && nest.leave(me) && nest.leave(me) && !nest.leave(me));
        begin(&nest, sibling);
        assert_eq!(nest.leave_all(me), None);
        assert_eq!((nest.leave_all(sibling), nest.depth()), (Some(1), 0));
    }

    #[test]
    fn depth_does_not_wrap() {
        let (nest, me) = (Nest::new(), holder(3, 1));
        begin(&nest, me);
        nest.depth.store(u32::MAX, Relaxed);
        assert_eq!(nest.enter_again(me), Some(Err(TooDeep)));
        assert_eq!(nest.leave_all(me), Some(u32::MAX));
    }

    #[test]
    fn what_the_dead_left_is_nobodys() {
        let (nest, dead) = (Nest::new(), holder(3, 1));
        begin(&nest, dead);
        assert_eq!(nest.enter_again(dead), Some(Ok(())));
        nest.word.recover(dead.id);
        // The same thread number at the same index, one generation on, in another thread of that process.
        let heir = Holder { id: OwnerId::new(3, 2).unwrap(), thread: 1 };
        let acquired = nest.word.try_acquire(heir.id).unwrap();
        assert!(acquired.after_death && !nest.is_held_by(heir), "it has not written its token");
        nest.begin(heir, 1, acquired);
        assert!(nest.is_held_by(heir) && nest.leave(heir) && !nest.leave(heir));
    }
}
