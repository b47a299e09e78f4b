//! Locks that a condition variable can be waited on with: given up as a whole, and had again as they were.

use crate::message::Message;
use crate::sync::error::LockError;
use crate::sync::lock::{Lock, LockGuard};
use crate::sync::mutex::{Mutex, MutexGuard};
use crate::sync::rlock::{RLock, RLockGuard};

/// A guard that a [`Condvar`](crate::Condvar) can be waited on with: that of a [`Mutex`], of a [`Lock`], or of an [`RLock`],
/// which is given up however often the thread holds it, and had again as often. The trait is sealed.
pub trait Relock: Sized + sealed::Sealed {
    /// What the lock guards, for conditions to look at.
    type Data;

    /// What is left of the guard while the lock is given up.
    #[doc(hidden)]
    type Lock;

    #[doc(hidden)]
    fn data(&mut self) -> &mut Self::Data;

    /// Gives the lock up, however often this thread has acquired it.
    #[doc(hidden)]
    fn unlock(self) -> Self::Lock;

    /// Acquires it as often as before.
    #[doc(hidden)]
    fn relock(lock: Self::Lock) -> Result<Self, LockError<Self>>;
}

mod sealed {
    pub trait Sealed {}
}

impl<T: Message> sealed::Sealed for MutexGuard<'_, T> {}
impl sealed::Sealed for LockGuard<'_> {}
impl sealed::Sealed for RLockGuard<'_> {}

impl<'a, T: Message> Relock for MutexGuard<'a, T> {
    type Data = T;
    type Lock = &'a Mutex<T>;

    fn data(&mut self) -> &mut T {
        self
    }

    fn unlock(self) -> &'a Mutex<T> {
        MutexGuard::mutex(&self)
    }

    fn relock(mutex: &'a Mutex<T>) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        mutex.lock()
    }
}

impl<'a> Relock for LockGuard<'a> {
    type Data = ();
    type Lock = &'a Lock;

    fn data(&mut self) -> &mut () {
        nothing()
    }

    fn unlock(self) -> &'a Lock {
        self.into_lock()
    }

    fn relock(lock: &'a Lock) -> Result<LockGuard<'a>, LockError<LockGuard<'a>>> {
        lock.lock()
    }
}

impl<'a> Relock for RLockGuard<'a> {
    type Data = ();
    type Lock = (&'a RLock, u32);

    fn data(&mut self) -> &mut () {
        nothing()
    }

    fn unlock(self) -> (&'a RLock, u32) {
        self.release_all()
    }

    fn relock((lock, depth): (&'a RLock, u32)) -> Result<RLockGuard<'a>, LockError<RLockGuard<'a>>> {
        lock.restore(depth)
    }
}

/// What a lock without data guards. A box of nothing is no allocation.
fn nothing() -> &'static mut () {
    Box::leak(Box::new(()))
}
