//! The reentrant lock's handle and guard; its memory side and its algorithm are in
//! [`state`](crate::sync::reentrant::state).

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::error::{LockError, ReleaseError};
use crate::sync::reentrant::state::{Holder, State};
use crate::sync::robust_word;
use crate::sync::robust_word::Acquired;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::Result;

/// A lock that the thread which holds it may acquire again. It is the counterpart of Python's
/// `RLock`.
///
/// The holder is one thread of one process. The lock becomes free once each acquisition has been
/// released, and only the holder can release it. If a process dies holding the lock, the lock
/// becomes free, at any depth, and the next guard
/// [reports the death](ReentrantLockGuard::owner_died). A process that is stopped keeps the lock. A
/// thread that ends without releasing the lock keeps it until its process ends.
///
/// Unfair: a caller that arrives at the right moment can overtake sleeping waiters. An uncontended
/// lock makes no system call.
///
/// # Examples
///
/// ```
/// use pagemate::ReentrantLock;
///
/// # fn main() -> pagemate::Result<()> {
/// let log = ReentrantLock::new()?;
/// let outer = log.lock()?;
/// let inner = log.lock()?; // a Lock would wait for itself here
/// assert!(log.is_held());
/// drop((outer, inner));
/// assert!(!log.is_held());
/// # Ok(())
/// # }
/// ```
///
/// A guard belongs to its thread:
///
/// ```compile_fail
/// # let log = pagemate::ReentrantLock::new().unwrap();
/// let guard = log.lock().unwrap();
/// std::thread::scope(|scope| scope.spawn(move || drop(guard)).join());
/// ```
#[doc(alias = "RLock")]
#[derive(Clone)]
pub struct ReentrantLock {
    object: ObjectRef,
}

/// The number of the last thread that has one.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Returns the number of this thread among those that the process has had; never 0.
#[inline]
fn thread_number() -> u64 {
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }

    #[cold]
    fn next() -> u64 {
        LAST.fetch_add(1, Relaxed) + 1
    }
    if NUMBER.get() == 0 {
        NUMBER.set(next());
    }
    NUMBER.get()
}

impl Object for ReentrantLock {
    const KIND: Kind = Kind::ReentrantLock;
    const LEN: usize = size_of::<State>();
    type Initial = ();

    fn attach(object: ObjectRef) -> Result<ReentrantLock> {
        Ok(ReentrantLock { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl ReentrantLock {
    verbs!(ReentrantLock: "a" "lock" ());

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and at least as long as a State (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a State.
        unsafe { &*self.object.base().cast::<State>() }
    }

    #[inline]
    fn me(&self) -> Result<Holder> {
        Ok(Holder { id: self.object.owner()?, thread: thread_number() })
    }

    /// Blocks until no other thread holds the lock, and acquires it.
    ///
    /// # Errors
    ///
    /// `TooDeep` at a depth of 2^32 - 1, `NotInThisProcess`.
    #[inline]
    pub fn lock(&self) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if no other thread holds it. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`lock`](ReentrantLock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        let acquired = self.lock_by(1, |state, me| state.word.try_acquire(me));
        if acquired.as_ref().is_err_and(LockError::is_not_acquired) {
            self.object.note_failed_try();
        }
        acquired
    }

    /// Like [`lock`](ReentrantLock::lock), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](ReentrantLock::try_lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Like [`lock`](ReentrantLock::lock), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](ReentrantLock::try_lock).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline]
    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        self.lock_by(1, |state, me| robust_word::acquire(&state.word, &self.object, me, deadline))
    }

    /// Goes one level deeper. If this thread does not hold the lock, acquires it with `acquire`,
    /// and begins at `depth`.
    #[inline]
    fn lock_by(
        &self,
        depth: u32,
        acquire: impl FnOnce(&State, OwnerId) -> Option<Acquired>,
    ) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        let me = self.me().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        let state = self.state();
        let owner_died = match state.enter_again(me) {
            Some(again) => again.map(|()| false).map_err(|_| LockError::TooDeep)?,
            None => {
                let acquired = acquire(state, me.id).ok_or(LockError::NotAcquired)?;
                state.begin(me, depth, acquired);
                acquired.after_death
            }
        };
        Ok(ReentrantLockGuard {
            lock: self,
            me,
            epoch: fork::epoch(),
            owner_died,
            _of_this_thread: PhantomData,
        })
    }

    /// Acquires the lock without a guard, until this thread calls
    /// [`release`](ReentrantLock::release). After the other ways to acquire it,
    /// [`ReentrantLockGuard::keep`] does the same.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](ReentrantLock::lock).
    pub fn acquire(&self) -> Result<(), LockError<ReentrantLockGuard<'_>>> {
        self.lock().map(ReentrantLockGuard::keep)
    }

    /// Undoes one acquisition that this thread has kept. The last one frees the lock.
    ///
    /// # Errors
    ///
    /// `NotHeld` if the lock is free, `NotYours` if another process or thread holds it,
    /// `NotInThisProcess`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        let me = self.me().map_err(|error| ReleaseError::NotInThisProcess(error.refusal()))?;
        if self.state().leave(me) {
            return Ok(());
        }
        Err(if self.is_locked() { ReleaseError::NotYours } else { ReleaseError::NotHeld })
    }

    /// Returns true if any thread of any process holds the lock. The answer may be out of date
    /// immediately, unless the caller holds the lock.
    pub fn is_locked(&self) -> bool {
        self.object.is_hindered(self.state().word.holder().is_some())
    }

    /// Returns true if this thread holds the lock.
    pub fn is_held(&self) -> bool {
        self.me().is_ok_and(|me| self.state().is_held_by(me))
    }

    /// Acquires the lock after [`ReentrantLockGuard::release_all`], at the depth that it returned.
    pub(crate) fn restore(
        &self,
        depth: u32,
    ) -> Result<ReentrantLockGuard<'_>, LockError<ReentrantLockGuard<'_>>> {
        self.lock_by(depth, |state, me| robust_word::acquire(&state.word, &self.object, me, Deadline::Never))
    }
}

/// The guard of one acquisition of a [`ReentrantLock`]. Dropping it undoes that acquisition; guards
/// may be dropped in any order.
///
/// It belongs to its thread. A copy in a forked child holds nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReentrantLockGuard<'a> {
    lock: &'a ReentrantLock,
    me: Holder,
    epoch: u32,
    owner_died: bool,
    /// Like the guards of std: other threads may refer to it, but it stays in its own.
    _of_this_thread: PhantomData<std::sync::MutexGuard<'a, ()>>,
}

impl<'a> ReentrantLockGuard<'a> {
    /// Returns true if the previous holder died while it held the lock.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Consumes the guard and keeps its acquisition, until this thread calls
    /// [`ReentrantLock::release`] or its process ends.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Releases the lock completely, from any depth. Returns what [`ReentrantLock::restore`] needs.
    pub(crate) fn release_all(self) -> (&'a ReentrantLock, u32) {
        let lock = self.lock;
        let depth =
            if self.epoch == fork::epoch() { lock.state().leave_all(self.me).unwrap_or(1) } else { 1 };
        self.keep();
        (lock, depth)
    }
}

impl Drop for ReentrantLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // Returns false if this thread has called `release` once too often.
            let _ = self.lock.state().leave(self.me);
        }
    }
}

impl fmt::Debug for ReentrantLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantLock").field("is_locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReentrantLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantLockGuard").field("owner_died", &self.owner_died).finish_non_exhaustive()
    }
}

/// Returns the memory side of the lock at `base`, if `len` is long enough for one.
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

/// Returns what `pagemate show` prints about a reentrant lock.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(state) = state_at(base, len) else { return Vec::new() };
    let mut lines = robust_word::describe(&state.word);
    lines.push(("depth", state.depth().to_string()));
    lines
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A process that lives long has had more threads than 32 bits count.
    #[test]
    fn threads_beyond_the_four_thousand_millionth_exclude_each_other() {
        LAST.store(u32::MAX.into(), Relaxed);
        let lock = ReentrantLock::new().unwrap();
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _guard = lock.lock().unwrap();
                (0..4).all(|_| scope.spawn(|| lock.try_lock().is_err()).join().unwrap())
            });
            assert!(holder.join().unwrap());
        });
    }
}
