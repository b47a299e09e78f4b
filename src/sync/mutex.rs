//! A mutex: a robust lock, and the value that it guards beside it.
//!
//! [`robust_lock`](crate::sync::robust_lock) explains the lock: its states, the order of its
//! accesses, and what happens when a holder dies. This file adds the value.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..8 | the robust lock |
//! | 8, or the value's alignment | the value |
//!
//! The mutex has its own cache lines. The lock and a small value share one.
//!
//! # Memory ordering, death
//!
//! Those of the lock. The value belongs to the holder.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::message::{self, Message};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::error::LockError;
use crate::sync::robust_lock::{RobustGuard, RobustLock};
use crate::sys::clock::Deadline;
use crate::Result;

/// A mutual exclusion lock around a value, shared by any number of processes and threads.
///
/// A panic poisons it, as in std. A death is a separate error, because it may leave the value
/// half-written: the next [`lock`](Mutex::lock) returns the guard inside [`LockError::OwnerDied`].
/// The caller repairs the value and goes on. A process that is stopped is not dead, and keeps the
/// lock.
///
/// Not reentrant: locking twice in one thread deadlocks ([`ReentrantLock`](crate::ReentrantLock)
/// does not). Unfair: a caller that arrives at the right moment can overtake sleeping waiters. The
/// holder is a process and not a thread, so a guard may be sent to another thread.
///
/// Locking and unlocking without contention makes no system call. Share a mutex between threads by
/// reference or by cloning it, pass it to a child process, or open it by name. A minimal program:
/// `examples/mutex.rs`.
///
/// # Examples
///
/// ```
/// use pagemate::Mutex;
///
/// # fn main() -> pagemate::Result<()> {
/// let total = Mutex::new(0_u64)?;
/// std::thread::scope(|scope| {
///     for n in 0..4 {
///         let total = total.clone();
///         scope.spawn(move || *total.lock().unwrap() += n);
///     }
/// });
/// assert_eq!(*total.lock()?, 6);
/// # Ok(())
/// # }
/// ```
///
/// By name, between unrelated processes:
///
/// ```
/// use pagemate::Mutex;
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-mutex-{}", std::process::id());
/// # let name = name.as_str();
/// let here = Mutex::create(name, [0_u32; 3])?;
/// let there = Mutex::<[u32; 3]>::open(name)?;
/// here.lock()?[1] = 7;
/// assert_eq!(*there.lock()?, [0, 7, 0]);
/// # Ok(())
/// # }
/// ```
pub struct Mutex<T: Message> {
    object: ObjectRef,
    _value: PhantomData<fn(T) -> T>,
}

impl<T: Message> Object for Mutex<T> {
    const KIND: Kind = Kind::Mutex;
    const LEN: usize = Self::OFFSET + size_of::<T>();
    type Initial = T;

    fn schema() -> String {
        T::schema().to_string()
    }

    unsafe fn init(base: *mut u8, value: &T) {
        // SAFETY: as the caller promises; the value has room at its offset.
        unsafe { message::write(base.add(Self::OFFSET), *value) }
    }

    fn attach(object: ObjectRef) -> Result<Mutex<T>> {
        let () = T::CHECKED;
        Ok(Mutex { object, _value: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> Mutex<T> {
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "values aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > size_of::<RobustLock>() {
            align_of::<T>()
        } else {
            size_of::<RobustLock>()
        }
    };

    verbs!(Mutex<T>: "a" "mutex" (value: T), with "around `value`", mismatch "another type of value");

    #[inline]
    fn robust(&self) -> &RobustLock {
        // SAFETY: the object is aligned to 128 and long enough for a RobustLock (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a RobustLock.
        unsafe { &*self.object.base().cast::<RobustLock>() }
    }

    /// Returns a pointer to the value. Each access states why it is allowed.
    #[inline]
    fn value(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Blocks until the lock is free, and acquires it.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see [`reset`](Mutex::reset)),
    /// `NotInThisProcess`.
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if it is free. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`lock`](Mutex::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.guard(self.robust().try_acquire(&self.object)?)
    }

    /// Like [`lock`](Mutex::lock), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](Mutex::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Like [`lock`](Mutex::lock), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock`](Mutex::try_lock).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.guard(self.robust().acquire(&self.object, deadline)?)
    }

    #[inline]
    fn guard<'a>(
        &'a self,
        inner: RobustGuard<'a>,
    ) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        // SAFETY: the lock is ours, so the value can be read.
        if !unsafe { message::is_valid::<T>(self.value().cast()) } {
            return Err(LockError::Corrupted);
        }
        inner.condition().of(MutexGuard { mutex: self, inner })
    }

    /// Locks the mutex and overwrites the value, whether it is valid or not. Also clears the mark
    /// of a death and the poison.
    ///
    /// Use it after [`LockError::Corrupted`]: a process died while it wrote a value of a type for
    /// which not every bit pattern is valid.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let mutex = pagemate::Mutex::new('a')?;
    /// assert_eq!(*mutex.reset('b')?, 'b');
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn reset(&self, value: T) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let inner = self.robust().acquire(&self.object, Deadline::Never)?;
        // SAFETY: the lock is ours, so the value can be written.
        unsafe { message::write(self.value().cast(), value) };
        inner.mark_reset();
        Ok(MutexGuard { mutex: self, inner })
    }

    /// Locks the mutex and returns a copy of the value. Blocks until the lock is free.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let limit = pagemate::Mutex::new(7_u32)?;
    /// limit.set(11)?;
    /// assert_eq!(limit.get_cloned()?, 11);
    /// assert_eq!(limit.replace(13)?, 11);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Mutex::lock), without a guard. The mark of a death and the poison stay.
    pub fn get_cloned(&self) -> Result<T, LockError<()>> {
        self.lock().map(|guard| *guard).map_err(|error| error.map(drop))
    }

    /// Locks the mutex and stores `value`. Blocks until the lock is free.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Mutex::lock), with `value` in the place of the guard. Then nothing was
    /// stored: after a death or a panic [`reset`](Mutex::reset) does that.
    pub fn set(&self, value: T) -> Result<(), LockError<T>> {
        self.replace(value).map(drop)
    }

    /// Locks the mutex, stores `value`, and returns the value before it. Blocks until the lock is
    /// free.
    ///
    /// # Errors
    ///
    /// Those of [`set`](Mutex::set).
    pub fn replace(&self, value: T) -> Result<T, LockError<T>> {
        let mut guard = self.lock().map_err(|error| error.map(|_| value))?;
        Ok(std::mem::replace(&mut *guard, value))
    }

    /// Returns true if the lock is held. The answer may be out of date immediately, unless the
    /// caller holds the lock.
    pub fn is_locked(&self) -> bool {
        self.object.is_hindered(self.robust().is_held())
    }

    /// Returns true if a thread panicked while it held the lock, and nobody has
    /// [cleared the poison](Mutex::clear_poison) since.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.robust().is_poisoned()
    }

    /// Clears the poison. Call it while you hold the lock, or if you are sure that the value is
    /// consistent.
    pub fn clear_poison(&self) {
        self.robust().clear_poison();
    }
}

/// The guard of a locked [`Mutex`]. It dereferences to the value; dropping it unlocks the mutex.
///
/// A copy in a forked child holds nothing, and dropping it there does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct MutexGuard<'a, T: Message> {
    mutex: &'a Mutex<T>,
    inner: RobustGuard<'a>,
}

impl<'a, T: Message> MutexGuard<'a, T> {
    /// Marks the value as consistent after a death. From now on no caller gets `OwnerDied` for that
    /// death.
    pub fn mark_consistent(guard: &mut MutexGuard<'a, T>) {
        guard.inner.mark_consistent();
    }

    /// Returns the mutex of the guard.
    pub fn mutex(guard: &MutexGuard<'a, T>) -> &'a Mutex<T> {
        guard.mutex
    }
}

impl<T: Message> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours until we release it, which needs `self`. It guards a valid,
        // aligned T (see guard and reset).
        unsafe { &*self.mutex.value() }
    }
}

impl<T: Message> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and `self` is borrowed mutably.
        unsafe { &mut *self.mutex.value() }
    }
}

impl<T: Message> Clone for Mutex<T> {
    fn clone(&self) -> Mutex<T> {
        Mutex { object: self.object.clone(), _value: PhantomData }
    }
}

impl<T: Message> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Mutex");
        out.field("is_locked", &self.is_locked()).field("is_poisoned", &self.is_poisoned());
        out.finish_non_exhaustive()
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&**self).finish()
    }
}

/// Returns the lock of the mutex at `base`, if `len` is long enough for one.
fn lock_at<'a>(base: *const u8, len: usize) -> Option<&'a RobustLock> {
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // RobustLock.
    (len >= size_of::<RobustLock>()).then(|| unsafe { &*base.cast::<RobustLock>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(lock) = lock_at(base, len) {
        lock.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a mutex.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    lock_at(base, len).map_or_else(Vec::new, RobustLock::describe)
}
