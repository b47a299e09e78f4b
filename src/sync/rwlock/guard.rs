//! The guards of a readers-writer lock.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::handle::RwLock;
use crate::message::Message;
use crate::segment::owner::OwnerId;
use crate::sys::fork;

/// The guard of a reader of a [`RwLock`]. It dereferences to the value and keeps writers out until
/// it is dropped.
///
/// A copy in a forked child holds nothing, and dropping it there does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: Message> {
    lock: &'a RwLock<T>,
    me: OwnerId,
    epoch: u32,
    /// Whether it keeps readers out as well: it was the writer's, and could not become a reader.
    is_alone: bool,
}

impl<'a, T: Message> RwLockReadGuard<'a, T> {
    #[inline]
    pub(super) fn new(lock: &'a RwLock<T>, me: OwnerId) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard { lock, me, epoch: fork::epoch(), is_alone: false }
    }

    /// Returns the lock of the guard.
    pub fn lock(guard: &RwLockReadGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }
}

impl<T: Message> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            match self.is_alone {
                false => self.lock.shared().leave(self.me),
                true => self.lock.shared().release(self.me),
            }
        }
    }
}

impl<T: Message> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody writes until we leave, which needs `self`. The lock guards a valid,
        // aligned T (see RwLock::reading).
        unsafe { &*self.lock.value() }
    }
}

/// The guard of the writer of a [`RwLock`]. It dereferences to the value and keeps readers and
/// other writers out until it is dropped.
///
/// A copy in a forked child holds nothing, and dropping it there does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: Message> {
    lock: &'a RwLock<T>,
    me: OwnerId,
    epoch: u32,
    /// Whether a panic was already under way, which does not poison.
    was_panicking: bool,
}

impl<'a, T: Message> RwLockWriteGuard<'a, T> {
    #[inline]
    pub(super) fn new(lock: &'a RwLock<T>, me: OwnerId) -> RwLockWriteGuard<'a, T> {
        RwLockWriteGuard { lock, me, epoch: fork::epoch(), was_panicking: std::thread::panicking() }
    }

    /// Marks the value as consistent after a death. From now on no caller gets `OwnerDied` for that
    /// death.
    pub fn mark_consistent(guard: &mut RwLockWriteGuard<'a, T>) {
        guard.lock.shared().mark_consistent();
    }

    /// Returns the lock of the guard.
    pub fn lock(guard: &RwLockWriteGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }

    /// Makes the writer a reader, in one step: no other writer gets in between. Waiting readers are
    /// let in. Never blocks.
    ///
    /// A writer that waits comes next, and keeps new readers out, until this reader has left. A
    /// process that dies in this call counts as a writer that died, until it is a reader. If this
    /// process has 2^31 readers already, whose guards it forgot, readers are not let in, and it
    /// counts as a writer all the time.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// use pagemate::sync::RwLockWriteGuard;
    ///
    /// let lock = pagemate::RwLock::new(1_u32)?;
    /// let mut writer = lock.write()?;
    /// *writer = 2;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!((*reader, *lock.read()?), (2, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let RwLockWriteGuard { lock, me, epoch, .. } = guard;
        let mut is_alone = false;
        // A copy in a forked child becomes a reader that holds nothing.
        if epoch == fork::epoch() {
            guard.poison_if_panicking();
            is_alone = !lock.shared().downgrade(me);
        }
        std::mem::forget(guard);
        RwLockReadGuard { lock, me, epoch, is_alone }
    }

    /// Sets the poison if this thread began to panic while it held the lock.
    #[inline]
    fn poison_if_panicking(&self) {
        if !self.was_panicking && std::thread::panicking() {
            self.lock.shared().set_poisoned(true);
        }
    }
}

impl<T: Message> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.poison_if_panicking();
            self.lock.shared().release(self.me);
        }
    }
}

impl<T: Message> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody else is in until we leave, which needs `self`. The lock guards a valid,
        // aligned T (see RwLock::writing and reset).
        unsafe { &*self.lock.value() }
    }
}

impl<T: Message> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.lock.value() }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLockReadGuard").field(&**self).finish()
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLockWriteGuard").field(&**self).finish()
    }
}
