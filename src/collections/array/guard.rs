//! Locking a whole array: the guard, and the methods that return one.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::handle::Array;
use crate::message::{self, Message};
use crate::sync::error::LockError;
use crate::sync::robust_lock::RobustGuard;
use crate::sys::clock::Deadline;

/// The guard of a locked [`Array`]. It dereferences to the slice of all elements; dropping it
/// releases the lock.
///
/// A copy in a forked child holds nothing, and dropping it there does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ArrayGuard<'a, T: Message> {
    array: &'a Array<T>,
    inner: RobustGuard<'a>,
}

impl<'a, T: Message> ArrayGuard<'a, T> {
    /// Marks the elements as consistent after a death. From now on no caller gets `OwnerDied` for
    /// that death.
    pub fn mark_consistent(guard: &mut ArrayGuard<'a, T>) {
        guard.inner.mark_consistent();
    }

    /// Returns the array of the guard.
    pub fn array(guard: &ArrayGuard<'a, T>) -> &'a Array<T> {
        guard.array
    }
}

impl<T: Message> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        let array = self.array;
        // SAFETY: the lock is ours until we release it, which needs `self`. It guards `len` valid,
        // aligned elements (see guard and reset), in at most isize::MAX bytes (checked in attach).
        unsafe { std::slice::from_raw_parts(array.elements(), array.len) }
    }
}

impl<T: Message> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let array = self.array;
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(array.elements(), array.len) }
    }
}

impl<T: Message> Array<T> {
    /// Returns a copy of all elements, taken at one moment.
    ///
    /// # Errors
    ///
    /// With the copy: `OwnerDied`, `Poisoned`. Without: `Corrupted`, `NotInThisProcess`.
    pub fn to_vec(&self) -> Result<Vec<T>, LockError<Vec<T>>> {
        self.lock().map(|guard| guard.to_vec()).map_err(|error| error.map(|guard| guard.to_vec()))
    }

    /// Runs `f` on all elements while it holds the lock.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Array::lock); then `f` has not run.
    pub fn with_lock<R>(&self, f: impl FnOnce(&mut [T]) -> R) -> Result<R, LockError<ArrayGuard<'_, T>>> {
        self.lock().map(|mut guard| f(&mut guard))
    }

    /// Blocks until the lock is free, and acquires it.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see [`reset`](Array::reset)),
    /// `NotInThisProcess`.
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if it is free. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`lock`](Array::lock).
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.guard(self.head().lock.try_acquire(&self.object)?)
    }

    /// Like [`lock`](Array::lock), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](Array::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Like [`lock`](Array::lock), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](Array::try_lock).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.guard(self.acquire(deadline)?)
    }

    /// Checks the elements, and creates the guard for the holder of the lock.
    fn guard<'a>(
        &'a self,
        inner: RobustGuard<'a>,
    ) -> Result<ArrayGuard<'a, T>, LockError<ArrayGuard<'a, T>>> {
        let at = |index| self.elements().wrapping_add(index).cast::<u8>().cast_const();
        // SAFETY: the lock is ours, so the elements can be read.
        if !T::ANY_BITS && !(0..self.len).all(|index| unsafe { message::is_valid::<T>(at(index)) }) {
            return Err(LockError::Corrupted);
        }
        inner.condition().of(ArrayGuard { array: self, inner })
    }

    /// Locks the array and sets all elements to `value`, whether they are valid or not. Also clears
    /// the mark of a death and the poison.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn reset(&self, value: T) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        let inner = self.acquire(Deadline::Never)?;
        for index in 0..Self::len_to_write(self.len) {
            // SAFETY: the lock is ours, so the elements can be written.
            unsafe { message::write(self.elements().wrapping_add(index).cast(), value) };
        }
        inner.mark_reset();
        Ok(ArrayGuard { array: self, inner })
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArrayGuard").field(&&**self).finish()
    }
}
