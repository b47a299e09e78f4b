//! Locks that a condition variable can release completely, and acquire again in the same state.

use crate::message::Message;
use crate::sync::error::LockError;
use crate::sync::lock::{Lock, LockGuard};
use crate::sync::mutex::{Mutex, MutexGuard};
use crate::sync::reentrant::handle::{ReentrantLock, ReentrantLockGuard};

/// A guard that [`Condvar`](crate::Condvar) can wait with.
///
/// Implemented for the guards of a [`Mutex`], a [`Lock`] and a [`ReentrantLock`]. A reentrant lock
/// is released completely, and acquired again to the same depth. The trait is sealed.
pub trait Relock: Sized + sealed::Sealed {
    /// The data that the lock guards, passed to conditions.
    type Data;

    /// The remains of the guard while the lock is released.
    #[doc(hidden)]
    type Lock;

    #[doc(hidden)]
    fn data(&mut self) -> &mut Self::Data;

    /// Releases the lock completely, from any depth.
    #[doc(hidden)]
    fn unlock(self) -> Self::Lock;

    /// Acquires the lock again, to the same depth.
    #[doc(hidden)]
    fn relock(lock: Self::Lock) -> Result<Self, LockError<Self>>;
}

mod sealed {
    pub trait Sealed {}
}

impl<T: Message> sealed::Sealed for MutexGuard<'_, T> {}
impl sealed::Sealed for LockGuard<'_> {}
impl sealed::Sealed for ReentrantLockGuard<'_> {}

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

impl<'a> Relock for ReentrantLockGuard<'a> {
    type Data = ();
    type Lock = (&'a ReentrantLock, u32);

    fn data(&mut self) -> &mut () {
        nothing()
    }

    fn unlock(self) -> (&'a ReentrantLock, u32) {
        self.release_all()
    }

    fn relock(
        (lock, depth): (&'a ReentrantLock, u32),
    ) -> Result<ReentrantLockGuard<'a>, LockError<ReentrantLockGuard<'a>>> {
        lock.restore(depth)
    }
}

/// Returns the data of a lock without data. A box of a zero-sized value does not allocate.
fn nothing() -> &'static mut () {
    Box::leak(Box::new(()))
}
