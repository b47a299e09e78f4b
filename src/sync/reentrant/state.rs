//! The memory side of the reentrant lock: an owner word, the thread of the owner, and the depth.
//!
//! # State
//!
//! | word | meaning | written by |
//! |---|---|---|
//! | owner word | the process that holds it: see [`robust_word`](crate::sync::robust_word) | all |
//! | thread | the holder's token: owner id, and number of the thread in its process | the holder |
//! | depth | number of acquisitions that the holder has not released | the holder |
//!
//! A token of 0 is no thread's: the holder has not written its own yet, or has begun to free the
//! lock. Thread and depth have a meaning only while the owner word names a process; what a dead
//! holder left in them is ignored. A thread holds the lock if the owner word names its process and
//! the token is its own.
//!
//! # Memory ordering
//!
//! Thread and depth belong to the holder, so the order of the word is theirs. A thread that is not
//! the holder may read any old token, but never its own, because it has stored 0 there before it
//! freed the word. And a token names an owner id, so one that a dead process left behind belongs to
//! no living thread.
//!
//! # Death
//!
//! - **Process dies at any depth, also before it has written its token.** Noticed by: see the owner
//!   word. Repair: the next holder begins at depth 1. Lost: nothing.
//! - **Thread ends without releasing.** Noticed by: nobody, because its process lives. Repair:
//!   none. Lost: the lock, until the process ends.

use crate::loom::atomic::Ordering::Relaxed;
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::segment::owner::OwnerId;
use crate::sync::robust_word::{Acquired, OwnerWord};

/// A thread of a process. No other thread of the process has ever had this token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: OwnerId,
    /// The number of the thread in its process. Not 0.
    pub(crate) thread: u64,
}

impl Holder {
    /// Returns the word that names the thread. It differs between two threads of one process,
    /// however many there were, and from those of other processes up to 2^34 threads.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.id.bits()) << (64 - OwnerId::BITS) ^ self.thread
    }
}

/// The depth is at its maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// The memory side of a reentrant lock. Zero is the fresh state, and any bytes are a State.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct State {
    pub(crate) word: OwnerWord,
    pub(crate) depth: AtomicU32,
    pub(crate) thread: AtomicU64,
}

const _: () = assert!(size_of::<State>() == 16);

impl State {
    /// Creates a free lock.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> State {
        State { word: OwnerWord::new(), depth: AtomicU32::new(0), thread: AtomicU64::new(0) }
    }

    /// Returns true if this thread holds the lock. The answer stays valid until this thread acts on
    /// the lock.
    #[inline]
    pub(crate) fn is_held_by(&self, me: Holder) -> bool {
        self.thread.load(Relaxed) == me.token() && self.word.holder() == Some(me.id)
    }

    /// Goes one level deeper, if this thread holds the lock. `None` if it does not.
    #[inline]
    pub(crate) fn enter_again(&self, me: Holder) -> Option<Result<(), TooDeep>> {
        if !self.is_held_by(me) {
            return None;
        }
        let next = self.depth.load(Relaxed).checked_add(1).ok_or(TooDeep);
        Some(next.map(|depth| self.depth.store(depth, Relaxed)))
    }

    /// Begins at `depth`, after the owner word has been acquired for this thread. That is 1, or the
    /// depth before `leave_all`.
    #[inline]
    pub(crate) fn begin(&self, me: Holder, depth: u32, acquired: Acquired) {
        self.depth.store(depth, Relaxed);
        self.thread.store(me.token(), Relaxed);
        if acquired.after_death {
            self.word.mark_consistent();
        }
    }

    /// Goes one level up; the last one frees the lock. Returns false if this thread does not hold
    /// it.
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

    /// Frees the lock from any depth. Returns the depth; `None` if this thread does not hold the
    /// lock.
    pub(crate) fn leave_all(&self, me: Holder) -> Option<u32> {
        if !self.is_held_by(me) {
            return None;
        }
        let depth = self.depth.load(Relaxed);
        // Before the word is free: from then on the fields belong to the next holder.
        self.thread.store(0, Relaxed);
        self.word.release(me.id).then_some(depth)
    }

    /// Returns the depth of the holder, for people to read.
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

    fn holder(index: usize, thread: u64) -> Holder {
        Holder { id: OwnerId::new(index, 1).unwrap(), thread }
    }

    fn begin(state: &State, me: Holder) {
        let acquired = state.word.try_acquire(me.id).unwrap();
        state.begin(me, 1, acquired);
    }

    #[test]
    fn a_thread_enters_again_and_others_do_not() {
        let (state, me, sibling) = (State::new(), holder(3, 1), holder(3, 2));
        begin(&state, me);
        assert_eq!(state.enter_again(me), Some(Ok(())));
        assert_eq!(state.enter_again(sibling), None, "the same process, but not the same thread");
        assert_eq!(state.enter_again(holder(4, 1)), None, "the same number in another process");
        assert!(!state.leave(sibling) && state.leave(me) && state.leave(me) && !state.leave(me));
        begin(&state, sibling);
        assert_eq!(state.leave_all(me), None);
        assert_eq!((state.leave_all(sibling), state.depth()), (Some(1), 0));
    }

    #[test]
    fn depth_does_not_wrap() {
        let (state, me) = (State::new(), holder(3, 1));
        begin(&state, me);
        state.depth.store(u32::MAX, Relaxed);
        assert_eq!(state.enter_again(me), Some(Err(TooDeep)));
        assert_eq!(state.leave_all(me), Some(u32::MAX));
    }

    #[test]
    fn what_the_dead_left_is_nobodys() {
        let (state, dead) = (State::new(), holder(3, 1));
        begin(&state, dead);
        assert_eq!(state.enter_again(dead), Some(Ok(())));
        state.word.recover(dead.id);
        // The same thread number at the same index, one generation on, in another thread of that
        // process.
        let heir = Holder { id: OwnerId::new(3, 2).unwrap(), thread: 1 };
        let acquired = state.word.try_acquire(heir.id).unwrap();
        assert!(acquired.after_death && !state.is_held_by(heir), "it has not written its token");
        state.begin(heir, 1, acquired);
        assert!(state.is_held_by(heir) && state.leave(heir) && !state.leave(heir));
    }
}
