//! The handle: `RwLock<T>`, the value behind the lock, and the observers.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::guard::{RwLockReadGuard, RwLockWriteGuard};
use crate::message::{self, Message};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::error::LockError;
use crate::sync::rwlock::state::{Admitted, Shared};
use crate::sys::clock::Deadline;
use crate::Result;

/// The result of locking for reading.
type Reading<'a, T> = Result<RwLockReadGuard<'a, T>, LockError<RwLockReadGuard<'a, T>>>;
/// The result of locking for writing.
type Writing<'a, T> = Result<RwLockWriteGuard<'a, T>, LockError<RwLockWriteGuard<'a, T>>>;

/// A readers-writer lock around a value, shared by any number of processes and threads.
///
/// It is for values that are read much more often than written. Readers of different processes
/// write to different cache lines, so they do not slow each other down. A writer reads one cache
/// line of each process that ever read. This takes 64 KiB of memory per lock, beside the value.
/// Otherwise a [`Mutex`](crate::Mutex) is smaller, and faster to change.
///
/// Writers come first. As soon as a writer asks for the lock, no new reader gets in, and the writer
/// only waits for the readers inside. So an endless stream of writers can starve readers, but
/// readers never starve a writer. When a writer leaves, it wakes one waiting writer and all waiting
/// readers. Unfair: there is no queue, and the first to arrive gets the lock.
///
/// Not reentrant. A thread that locks for writing while it reads deadlocks. A thread that locks for
/// reading while it reads deadlocks too if a writer asked for the lock in between. A read lock
/// cannot be upgraded to a write lock, but a writer can become a reader
/// ([`downgrade`](RwLockWriteGuard::downgrade)). Guards may be sent to other threads.
///
/// A panic of a writer poisons it, as in std. A reader that dies leaves nothing behind. A writer
/// that dies may leave the value half-written: all later readers and writers get their guard inside
/// [`LockError::OwnerDied`], until a writer has repaired the value and
/// [marked it consistent](RwLockWriteGuard::mark_consistent). A process that is stopped is not
/// dead, and keeps the lock. A process that is stopped while it asks for the lock is a waiter, and
/// a waiting writer keeps new readers out.
///
/// Locking without contention makes no system call. Share it between threads by reference or by
/// cloning it, pass it to a child process, or open it by name. A minimal program:
/// `examples/rwlock.rs`.
///
/// # Examples
///
/// ```
/// use pagemate::RwLock;
///
/// # fn main() -> pagemate::Result<()> {
/// let limits = RwLock::new([10.0, 20.0])?;
/// {
///     let (one, other) = (limits.read()?, limits.read()?);
///     assert_eq!(*one, *other);
///     assert!(limits.try_write().is_err());
/// }
/// limits.write()?[1] = 30.0;
/// assert_eq!(*limits.read()?, [10.0, 30.0]);
/// # Ok(())
/// # }
/// ```
///
/// By name, between unrelated processes:
///
/// ```
/// use pagemate::RwLock;
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-rwlock-{}", std::process::id());
/// # let name = name.as_str();
/// let here = RwLock::create(name, 1_u64)?;
/// let there = RwLock::<u64>::open(name)?;
/// *there.write()? += 1;
/// assert_eq!(*here.read()?, 2);
/// # Ok(())
/// # }
/// ```
pub struct RwLock<T: Message> {
    object: ObjectRef,
    _value: PhantomData<fn(T) -> T>,
}

impl<T: Message> Object for RwLock<T> {
    const KIND: Kind = Kind::RwLock;
    const LEN: usize = Self::OFFSET + size_of::<T>();
    type Initial = T;

    fn schema() -> String {
        T::schema().to_string()
    }

    unsafe fn init(base: *mut u8, value: &T) {
        // SAFETY: as the caller promises; the value has room at its offset.
        unsafe { message::write(base.add(Self::OFFSET), *value) }
    }

    fn attach(object: ObjectRef) -> Result<RwLock<T>> {
        let () = T::CHECKED;
        Ok(RwLock { object, _value: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> RwLock<T> {
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "values aligned to more than 128 bytes do not fit into objects");
        size_of::<Shared>()
    };

    verbs!(RwLock<T>: "a" "lock" (value: T), with "around `value`", mismatch "another type of value");

    #[inline]
    pub(super) fn shared(&self) -> &Shared {
        // SAFETY: the object is aligned to 128 and long enough for a Shared (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a Shared,
        // which consists of atomics.
        unsafe { &*self.object.base().cast::<Shared>() }
    }

    /// Returns a pointer to the value. Each access states why it is allowed.
    #[inline]
    pub(super) fn value(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Runs at the end of a waiter's slice: checks whether the participants in the way are alive.
    fn reap_dead(&self) {
        self.object.reap_dead();
        self.shared().recover_dead(|id| self.object.is_alive(id));
    }

    /// Blocks until no writer is in or asks to be, and locks for reading.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see
    /// [`reset`](RwLock::reset)), `NotInThisProcess`; `TooDeep` if this process has 2^31 readers,
    /// whose guards it forgot.
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(Deadline::Never)
    }

    /// Locks for reading, if no writer is in or asks to be. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`read`](RwLock::read).
    #[inline]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        match self.shared().try_read(me) {
            Some(admitted) => self.reading(me, admitted),
            None => {
                self.object.note_failed_try();
                Err(self.why_not_read(me))
            }
        }
    }

    #[cold]
    fn why_not_read<G>(&self, me: OwnerId) -> LockError<G> {
        match self.shared().is_crowded(me) {
            true => LockError::TooDeep,
            false => LockError::NotAcquired,
        }
    }

    /// Like [`read`](RwLock::read), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_read`](RwLock::try_read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(Deadline::after(timeout))
    }

    /// Like [`read`](RwLock::read), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_read`](RwLock::try_read).
    pub fn read_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(Deadline::at(deadline))
    }

    #[inline]
    fn read_until(&self, deadline: Deadline) -> Reading<'_, T> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        let shared = self.shared();
        match shared.try_read(me).or_else(|| shared.read(me, deadline, || self.reap_dead())) {
            Some(admitted) => self.reading(me, admitted),
            None => Err(self.why_not_read(me)),
        }
    }

    #[inline]
    fn reading(&self, me: OwnerId, admitted: Admitted) -> Reading<'_, T> {
        let guard = RwLockReadGuard::new(self, me);
        self.verdict(admitted, guard)
    }

    /// Blocks until nobody else is in, and locks for writing.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see
    /// [`reset`](RwLock::reset)), `NotInThisProcess`.
    #[inline]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(Deadline::Never)
    }

    /// Locks for writing, if nobody is in. Never blocks. Can also fail while a reader checks at the
    /// same moment whether it may enter.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`write`](RwLock::write).
    #[inline]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        match self.shared().try_write(me) {
            Some(admitted) => self.writing(me, admitted),
            None => {
                self.object.note_failed_try();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// Like [`write`](RwLock::write), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_write`](RwLock::try_write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Like [`write`](RwLock::write), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_write`](RwLock::try_write).
    pub fn write_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(Deadline::at(deadline))
    }

    #[inline]
    fn write_until(&self, deadline: Deadline) -> Writing<'_, T> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        let shared = self.shared();
        match shared.try_write(me).or_else(|| shared.write(me, deadline, || self.reap_dead())) {
            Some(admitted) => self.writing(me, admitted),
            None => Err(LockError::NotAcquired),
        }
    }

    #[inline]
    fn writing(&self, me: OwnerId, admitted: Admitted) -> Writing<'_, T> {
        let guard = RwLockWriteGuard::new(self, me);
        self.verdict(admitted, guard)
    }

    /// Returns the guard, with what is known about the value.
    #[inline]
    fn verdict<G>(&self, admitted: Admitted, guard: G) -> Result<G, LockError<G>> {
        // SAFETY: the holder of a guard is in, so the value can be read.
        if !unsafe { message::is_valid::<T>(self.value().cast()) } {
            return Err(LockError::Corrupted);
        }
        if admitted.after_death {
            return Err(LockError::OwnerDied(guard));
        }
        if self.is_poisoned() {
            return Err(LockError::Poisoned(guard));
        }
        Ok(guard)
    }

    /// Locks for writing and overwrites the value, whether it is valid or not. Also clears the mark
    /// of a death and the poison.
    ///
    /// Use it after [`LockError::Corrupted`]: a process died while it wrote a value of a type for
    /// which not every bit pattern is valid.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let lock = pagemate::RwLock::new('a')?;
    /// assert_eq!(*lock.reset('b')?, 'b');
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn reset(&self, value: T) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        let Some(_) = self.shared().write(me, Deadline::Never, || self.reap_dead()) else {
            return Err(LockError::NotAcquired);
        };
        let mut guard = RwLockWriteGuard::new(self, me);
        // SAFETY: nobody else is in, so the value can be written.
        unsafe { message::write(self.value().cast(), value) };
        RwLockWriteGuard::mark_consistent(&mut guard);
        self.clear_poison();
        Ok(guard)
    }

    /// Returns true if a writer is in, or asks to be. The answer may be out of date immediately,
    /// unless the caller is in.
    pub fn is_write_locked(&self) -> bool {
        self.object.is_hindered(self.shared().writer().is_some())
    }

    /// Returns the number of readers inside, in all processes. May include readers that only check
    /// whether they may enter. The answer may be out of date immediately.
    pub fn reader_count(&self) -> u64 {
        self.shared().reader_count()
    }

    /// Returns true if a thread panicked while it wrote, and nobody has
    /// [cleared the poison](RwLock::clear_poison) since.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.shared().is_poisoned()
    }

    /// Clears the poison. Call it while you write, or if you are sure that the value is consistent.
    pub fn clear_poison(&self) {
        self.shared().set_poisoned(false);
    }
}

impl<T: Message> Clone for RwLock<T> {
    fn clone(&self) -> RwLock<T> {
        RwLock { object: self.object.clone(), _value: PhantomData }
    }
}

impl<T: Message> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RwLock");
        out.field("is_write_locked", &self.is_write_locked()).field("readers", &self.reader_count());
        out.field("is_poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// Returns the memory side of the lock at `base`, if `len` is long enough for one.
fn shared_at<'a>(base: *const u8, len: usize) -> Option<&'a Shared> {
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // Shared.
    (len >= size_of::<Shared>()).then(|| unsafe { &*base.cast::<Shared>() })
}

/// Frees the lock from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(shared) = shared_at(base, len) {
        shared.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a readers-writer lock.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(shared) = shared_at(base, len) else { return Vec::new() };
    let writer =
        shared.writer().map_or("nobody".to_string(), |writer| format!("participant {}", writer.index()));
    vec![
        ("written by", writer),
        ("readers", shared.reader_count().to_string()),
        ("owner died", shared.has_died().to_string()),
        ("poisoned", shared.is_poisoned().to_string()),
        ("waited on", shared.is_waited_on().to_string()),
    ]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::loom::atomic::Ordering::Relaxed;
    use crate::sync::RwLockWriteGuard;

    /// Returns a lock for which this process has the largest number of readers.
    fn crowded() -> RwLock<u32> {
        let lock = RwLock::new(1).unwrap();
        std::mem::forget(lock.read().unwrap());
        let line = lock.shared().line(lock.object.owner().unwrap());
        line.fetch_add((1 << 31) - 1, Relaxed);
        assert_eq!(lock.reader_count(), 1 << 31);
        lock
    }

    #[test]
    fn a_reader_too_many_is_refused_and_does_not_wait() {
        let lock = crowded();
        for refused in [lock.try_read(), lock.read(), lock.read_timeout(Duration::MAX)] {
            assert!(matches!(refused, Err(LockError::TooDeep)));
        }
        drop(RwLockReadGuard::new(&lock, lock.object.owner().unwrap()));
        assert_eq!(*lock.read().unwrap(), 1);
    }

    #[test]
    fn a_writer_that_can_be_no_reader_stays_alone() {
        let lock = RwLock::new(1).unwrap();
        drop(lock.read().unwrap());
        let line = lock.shared().line(lock.object.owner().unwrap());
        let writer = lock.write().unwrap();
        line.fetch_add(1 << 31, Relaxed); // by damage
        let reader = RwLockWriteGuard::downgrade(writer);
        line.fetch_sub(1 << 31, Relaxed);
        assert_eq!((*reader, lock.reader_count(), lock.is_write_locked()), (1, 0, true));
        assert!(lock.try_read().is_err() && lock.try_write().is_err());
        drop(reader);
        assert!(lock.try_write().is_ok());
    }
}
