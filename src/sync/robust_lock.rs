//! A robust lock: an owner word, and beside it the poison of a panic. Mutexes and arrays are built
//! on it.
//!
//! Neither reentrant nor fair. [`robust_word`] explains the word: its states, its transitions, and
//! what happens when a holder dies. This file adds the poison, and the guard that represents the
//! holder ([`RobustGuard`]). No loom model is needed, because the poison is accessed under the
//! lock, as the guarded data is, and the word has its own models.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word |
//! | 4..8 | poison: nonzero if a thread panicked while it held the lock |
//!
//! Zero is the fresh state: free, and not poisoned.
//!
//! # Memory ordering
//!
//! The poison belongs to the holder, so the order of the word is its order. An observer that reads
//! the poison without the lock may read an old state.
//!
//! # Death
//!
//! - **Holder dies.** Noticed by: see the word. Repair: the next holder gets `OwnerDied`, and may
//!   repair the data. Lost: the data may be half written.
//! - **Next holder dies or unlocks without marking the data consistent.** Noticed by: the next one
//!   gets `OwnerDied` too. Repair: the same. Lost: nothing.
//! - **Panicking holder dies before it has set the poison.** Noticed by: see the word. Repair: the
//!   next holder gets `OwnerDied` instead of `Poisoned`. Lost: nothing.

use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::object::ObjectRef;
use crate::segment::owner::OwnerId;
use crate::sync::error::LockError;
use crate::sync::robust_word::{self, Acquired, OwnerWord};
use crate::sys::clock::Deadline;
use crate::sys::fork;

/// The memory side of a robust lock. Any bytes are a lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RobustLock {
    word: OwnerWord,
    poison: AtomicU32,
}

const _: () = assert!(size_of::<RobustLock>() == 8 && align_of::<RobustLock>() == 4);

/// Returns this process's id in the segment of `object`.
#[inline]
fn owner<G>(object: &ObjectRef) -> Result<OwnerId, LockError<G>> {
    object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))
}

impl RobustLock {
    /// Acquires the lock, which is stored in `object`, if it is free. Never blocks.
    #[inline]
    pub(crate) fn try_acquire<G>(&self, object: &ObjectRef) -> Result<RobustGuard<'_>, LockError<G>> {
        let me = owner(object)?;
        match self.word.try_acquire(me) {
            Some(acquired) => Ok(RobustGuard::new(self, me, acquired)),
            None => {
                object.note_failed_try();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// Blocks until the lock, which is stored in `object`, is free, and acquires it. Fails with
    /// `NotAcquired` at the deadline.
    #[inline]
    pub(crate) fn acquire<G>(
        &self,
        object: &ObjectRef,
        deadline: Deadline,
    ) -> Result<RobustGuard<'_>, LockError<G>> {
        let me = owner(object)?;
        match robust_word::acquire(&self.word, object, me, deadline) {
            Some(acquired) => Ok(RobustGuard::new(self, me, acquired)),
            None => Err(LockError::NotAcquired),
        }
    }

    /// Returns true if the lock is held. Racy, unless the caller is the holder.
    pub(crate) fn is_held(&self) -> bool {
        self.word.holder().is_some()
    }

    /// Returns true if a thread panicked while it held the lock, and nobody has cleared the poison
    /// since.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.load(Relaxed) != 0
    }

    /// Poisons the lock. Only for the holder.
    pub(crate) fn poison(&self) {
        self.poison.store(1, Relaxed);
    }

    pub(crate) fn clear_poison(&self) {
        self.poison.store(0, Relaxed);
    }

    /// Frees the lock if `dead` holds it. Idempotent; any number of processes may call it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        self.word.recover(dead);
    }

    /// Returns what `pagemate show` prints about the lock.
    pub(crate) fn describe(&self) -> Vec<(&'static str, String)> {
        let mut lines = robust_word::describe(&self.word);
        lines.push(("poisoned", self.is_poisoned().to_string()));
        lines
    }
}

/// What is known about the guarded data when the lock is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Consistent,
    OwnerDied,
    Poisoned,
}

impl Condition {
    /// Returns `what`, in an error if the data may be inconsistent.
    #[inline]
    pub(crate) fn of<G>(self, what: G) -> Result<G, LockError<G>> {
        match self {
            Condition::Consistent => Ok(what),
            Condition::OwnerDied => Err(LockError::OwnerDied(what)),
            Condition::Poisoned => Err(LockError::Poisoned(what)),
        }
    }
}

/// Represents the holder. When it is dropped it poisons the lock, if this thread began to panic
/// while it held it, and then releases it.
///
/// A copy in a forked child holds nothing, and dropping it there does nothing.
#[derive(Debug)]
pub(crate) struct RobustGuard<'a> {
    lock: &'a RobustLock,
    me: OwnerId,
    epoch: u32,
    after_death: bool,
    /// Whether the thread was panicking when it acquired the lock. Such a panic does not poison.
    was_panicking: bool,
}

impl<'a> RobustGuard<'a> {
    #[inline]
    fn new(lock: &'a RobustLock, me: OwnerId, acquired: Acquired) -> RobustGuard<'a> {
        RobustGuard {
            lock,
            me,
            epoch: fork::epoch(),
            after_death: acquired.after_death,
            was_panicking: std::thread::panicking(),
        }
    }

    /// Returns what was known about the data when the lock was acquired.
    #[inline]
    pub(crate) fn condition(&self) -> Condition {
        if self.after_death {
            Condition::OwnerDied
        } else if self.lock.is_poisoned() {
            Condition::Poisoned
        } else {
            Condition::Consistent
        }
    }

    /// Clears the mark of a death.
    pub(crate) fn mark_consistent(&self) {
        self.lock.word.mark_consistent();
    }

    /// Clears the mark of a death and the poison, because the data has been written anew.
    pub(crate) fn mark_reset(&self) {
        self.mark_consistent();
        self.lock.clear_poison();
    }
}

impl Drop for RobustGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        if !self.was_panicking && std::thread::panicking() {
            self.lock.poison();
        }
        // False only if stray writes have changed the word.
        let _ = self.lock.word.release(self.me);
    }
}
