//! A lock without data: an owner word that any participant may release.
//!
//! Neither reentrant nor fair. [`robust_word`] explains the word, and what happens when a holder
//! dies. Here a death is reported once, to the next holder, because there is no data to repair.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word |
//! | 4..8 | turn: number of acquisitions, wrapping |
//!
//! The turn belongs to the holder. A guard remembers its own turn. If the lock was released under
//! the guard, the guard does not release it for the next holder.
//!
//! # Memory ordering
//!
//! That of the word. A guard whose lock was released under it reads the turn without holding the
//! lock. It sees the new turn if it knows of the release; no more is promised.
//!
//! # Death
//!
//! - **Holder dies, or has left the segment.** Noticed by: see the word. Repair: the next holder,
//!   whose guard reports it. Lost: nothing.
//! - **Next holder dies, before or after it has cleared the mark.** Noticed by: see the word.
//!   Repair: the same. Lost: nothing.

use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use std::fmt;
use std::time::{Duration, Instant};

use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::error::{LockError, ReleaseError};
use crate::sync::robust_word;
use crate::sync::robust_word::{Acquired, OwnerWord};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::Result;

/// The memory side of a lock. Zero is the fresh state, and any bytes are a State.
#[repr(C)]
struct State {
    word: OwnerWord,
    turn: AtomicU32,
}

const _: () = assert!(size_of::<State>() == 8);

/// A lock without data, shared by any number of processes and threads. It is the counterpart of
/// Python's `Lock`.
///
/// If a process dies holding the lock, the lock becomes free, and the next guard
/// [reports the death](LockGuard::owner_died). A process that is stopped keeps the lock. Any
/// process or thread may [`release`](Lock::release) it, not only the one that acquired it. To hand
/// the lock over to another process, [`keep`](LockGuard::keep) it here and release it there.
///
/// Not reentrant: locking twice in one thread deadlocks ([`ReentrantLock`](crate::ReentrantLock)
/// does not). Unfair: a caller that arrives at the right moment can overtake sleeping waiters. For
/// a lock with data use [`Mutex`](crate::Mutex). An uncontended lock makes no system call.
///
/// # Examples
///
/// ```
/// use pagemate::Lock;
///
/// # fn main() -> pagemate::Result<()> {
/// let printer = Lock::new()?;
/// let guard = printer.lock()?;
/// assert!(printer.try_lock().is_err());
/// drop(guard);
/// assert!(printer.try_lock().is_ok());
/// # Ok(())
/// # }
/// ```
///
/// Acquired by one thread, released by another:
///
/// ```
/// use pagemate::Lock;
///
/// # fn main() -> pagemate::Result<()> {
/// let gate = Lock::new()?;
/// gate.acquire()?;
/// let other = gate.clone();
/// std::thread::spawn(move || other.release()).join().unwrap()?;
/// gate.acquire()?;
/// # gate.release()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    object: ObjectRef,
}

impl Object for Lock {
    const KIND: Kind = Kind::Lock;
    const LEN: usize = size_of::<State>();
    type Initial = ();

    fn attach(object: ObjectRef) -> Result<Lock> {
        Ok(Lock { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Lock {
    verbs!(Lock: "a" "lock" ());

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and at least as long as a State (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a State.
        unsafe { &*self.object.base().cast::<State>() }
    }

    /// Blocks until the lock is free, and acquires it.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if it is free. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, `NotInThisProcess`.
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        match self.state().word.try_acquire(me) {
            Some(acquired) => Ok(LockGuard::new(self, me, acquired)),
            None => {
                self.object.note_failed_try();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// Like [`lock`](Lock::lock), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](Lock::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Like [`lock`](Lock::lock), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](Lock::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        match robust_word::acquire(&self.state().word, &self.object, me, deadline) {
            Some(acquired) => Ok(LockGuard::new(self, me, acquired)),
            None => Err(LockError::NotAcquired),
        }
    }

    /// Acquires the lock without a guard. It stays locked until any participant calls
    /// [`release`](Lock::release), or this process leaves the segment or dies. After the other ways
    /// to acquire it, [`LockGuard::keep`] does the same.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn acquire(&self) -> Result<(), LockError<LockGuard<'_>>> {
        self.lock().map(LockGuard::keep)
    }

    /// Releases the lock, no matter which process or thread acquired it. A guard that held it no
    /// longer holds anything.
    ///
    /// # Errors
    ///
    /// `NotHeld`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        self.state().word.release_any().then_some(()).ok_or(ReleaseError::NotHeld)
    }

    /// Returns true if the lock is held. The answer may be out of date immediately.
    pub fn is_locked(&self) -> bool {
        self.object.is_hindered(self.state().word.holder().is_some())
    }
}

/// The guard of a locked [`Lock`]. Dropping it releases the lock.
///
/// The holder is the process, so a guard may be sent to another thread. A copy in a forked child
/// holds nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    me: OwnerId,
    epoch: u32,
    turn: u32,
    owner_died: bool,
}

impl<'a> LockGuard<'a> {
    #[inline]
    fn new(lock: &'a Lock, me: OwnerId, acquired: Acquired) -> LockGuard<'a> {
        let state = lock.state();
        let turn = state.turn.load(Relaxed).wrapping_add(1);
        state.turn.store(turn, Relaxed);
        if acquired.after_death {
            state.word.mark_consistent();
        }
        LockGuard { lock, me, epoch: fork::epoch(), turn, owner_died: acquired.after_death }
    }

    /// Returns true if the previous holder died while it held the lock.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Releases the lock, and returns it so that it can be acquired again.
    pub(crate) fn into_lock(self) -> &'a Lock {
        self.lock
    }

    /// Consumes the guard and leaves the lock held, until any participant calls [`Lock::release`],
    /// or this process leaves the segment or dies.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let state = self.lock.state();
        if self.epoch == fork::epoch() && self.turn == state.turn.load(Relaxed) {
            // Returns false if the lock was released under this guard. Another process may hold it
            // by now.
            let _ = state.word.release(self.me);
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("is_locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("owner_died", &self.owner_died).finish_non_exhaustive()
    }
}

/// Returns the state of the lock at `base`, if `len` is long enough for one.
fn state_at<'a>(base: *const u8, len: usize) -> Option<&'a State> {
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // State.
    (len >= size_of::<State>()).then(|| unsafe { &*base.cast::<State>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(state) = state_at(base, len) {
        state.word.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a lock.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    state_at(base, len).map_or_else(Vec::new, |state| robust_word::describe(&state.word))
}
