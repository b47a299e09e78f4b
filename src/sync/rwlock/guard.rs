//! The value of a readers-writer lock, for those who are in.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::handle::RwLock;
use crate::message::Message;
use crate::owner::OwnerId;
use crate::sys::fork;

/// The value of a [`RwLock`], for one of many readers; they keep writers out until it is dropped.
///
/// A forked child that has a copy of it holds nothing: there, dropping it does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: Message> {
    lock: &'a RwLock<T>,
    me: OwnerId,
    epoch: u32,
}

impl<'a, T: Message> RwLockReadGuard<'a, T> {
    #[inline]
    pub(super) fn new(lock: &'a RwLock<T>, me: OwnerId) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard { lock, me, epoch: fork::epoch() }
    }

    /// The lock that it is of.
    pub fn lock(guard: &RwLockReadGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }
}

impl<T: Message> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.lock.shared().leave(self.me);
        }
    }
}

impl<T: Message> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody writes until we leave, which needs `self`; the lock guards a valid T (see RwLock::reading), aligned.
        unsafe { &*self.lock.value() }
    }
}

/// The value of a [`RwLock`], for the only one who is in; everybody is kept out until it is dropped.
///
/// A forked child that has a copy of it holds nothing: there, dropping it does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: Message> {
    lock: &'a RwLock<T>,
    me: OwnerId,
    epoch: u32,
    /// A panic that was going on before does not poison.
    was_panicking: bool,
}

impl<'a, T: Message> RwLockWriteGuard<'a, T> {
    #[inline]
    pub(super) fn new(lock: &'a RwLock<T>, me: OwnerId) -> RwLockWriteGuard<'a, T> {
        RwLockWriteGuard { lock, me, epoch: fork::epoch(), was_panicking: std::thread::panicking() }
    }

    /// Says that the value is consistent, whatever a writer before did when it died: from now on nobody gets `OwnerDied` for
    /// that any more.
    pub fn mark_consistent(guard: &mut RwLockWriteGuard<'a, T>) {
        guard.lock.shared().mark_consistent();
    }

    /// The lock that it is of.
    pub fn lock(guard: &RwLockWriteGuard<'a, T>) -> &'a RwLock<T> {
        guard.lock
    }
}

impl<T: Message> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let shared = self.lock.shared();
        if !self.was_panicking && std::thread::panicking() {
            shared.set_poisoned(true);
        }
        shared.release(self.me);
    }
}

impl<T: Message> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody else is in until we leave, which needs `self`; the lock guards a valid T (see RwLock::writing and
        // reset), aligned.
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
