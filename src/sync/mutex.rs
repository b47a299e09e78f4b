//! A mutex: an owner word, and the value that it guards beside it.
//!
//! Not recursive, not fair. What the word says, who may do what to it, and what happens when a holder dies is told in
//! [`owned`](super::owned); this file adds the value and the poison of a panic.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word |
//! | 4..8 | poison: not 0 if a thread panicked while it held the lock |
//! | 8, or the value's alignment | the value |
//!
//! All in lines of their own, the word and a small value in the same.
//!
//! # Memory ordering
//!
//! The value and the poison belong to the holder, so the word's order is theirs. Who looks at the poison from outside may be
//! told what was so a moment ago.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder dies | see the word | whoever comes next gets `OwnerDied`, and may repair | what it had half written may be there |
//! | next one dies or gives up without `mark_consistent` | the one after it gets `OwnerDied` too | the same | nothing |
//! | panicking holder dies before it has set the poison | its death is noticed instead | the same | nothing |

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kind::Kind;
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::LockError;
use crate::sync::owned::{self, Acquired, OwnerWord};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// What stands before the value. Zero is the fresh state, and any bytes are a Head.
#[repr(C)]
struct Head {
    word: OwnerWord,
    poison: AtomicU32,
}

const _: () = assert!(size_of::<Head>() == 8);

/// A value that one at a time may look at and change, of any number of processes and threads.
///
/// Poisoned by a panic as std's; a death is told apart from that, because it may leave the value half-written: the next
/// [`lock`](Mutex::lock) gives the guard inside of [`LockError::OwnerDied`], to repair the value and go on. A process that
/// is stopped is not dead, and keeps the lock.
///
/// Not recursive: who locks twice waits for itself ([`RLock`](crate::RLock) does not). Not fair: who comes may pass who waits.
/// The holder is a process and not a thread, so a guard may be sent to another thread.
///
/// Locking and unlocking without contention makes no system call. Clone it for threads (or share it: it is `Sync`), give it
/// to a child process, or open it by name.
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
/// By name, between processes that know nothing of each other:
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

impl<T: Message> Mutex<T> {
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "values aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > size_of::<Head>() {
            align_of::<T>()
        } else {
            size_of::<Head>()
        }
    };

    fn shape() -> Shape {
        Shape { kind: Kind::Mutex, schema: T::schema().to_string(), len: Self::OFFSET + size_of::<T>() }
    }

    fn init(value: T) -> impl Fn(*mut u8) {
        // SAFETY: an object of this shape, zeroed and aligned, that nobody else can see.
        move |base| unsafe { message::write(base.add(Self::OFFSET), value) }
    }

    /// A mutex that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new(value: T) -> Result<Mutex<T>> {
        Mutex::from_object(Place::anonymous(&Self::shape(), Self::init(value))?)
    }

    /// Creates the mutex. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, value: T) -> Result<Mutex<T>> {
        Mutex::from_object(place.into().create(&Self::shape(), Self::init(value))?)
    }

    /// Opens an existing mutex.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of another value), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Mutex<T>> {
        Mutex::from_object(place.into().open(Kind::Mutex, &T::schema().to_string())?)
    }

    /// Opens the mutex or, if there is none, creates it with `value`; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Mutex::open) and [`create`](Mutex::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, value: T) -> Result<(Mutex<T>, Origin)> {
        let (object, origin) = place.into().open_or_create(&Self::shape(), Self::init(value))?;
        Ok((Mutex::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Mutex<T>> {
        let () = T::CHECKED;
        if object.len() < Self::OFFSET + size_of::<T>() {
            return Err(Error::new(ErrorKind::Corrupted, "the mutex's record is too short"));
        }
        Ok(Mutex { object, _value: PhantomData })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and longer than a Head (checked in from_object), stays mapped as long as
        // `object` lives, and any bytes are a Head.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    /// Where the value is. A pointer only: who uses it says why it may.
    #[inline]
    fn value(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Waits until nobody else holds the lock, and acquires it.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see [`reset`](Mutex::reset)), `NotInThisProcess`.
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if nobody holds it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`lock`](Mutex::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match self.head().word.try_acquire(me) {
            Some(acquired) => self.guard(me, acquired),
            None => {
                self.object.miss();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// [`lock`](Mutex::lock), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Mutex::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// [`lock`](Mutex::lock), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Mutex::try_lock).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match owned::acquire(&self.head().word, &self.object, me, deadline) {
            Some(acquired) => self.guard(me, acquired),
            None => Err(LockError::NotAcquired),
        }
    }

    #[inline]
    fn guard(
        &self,
        me: OwnerId,
        acquired: Acquired,
    ) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let guard = MutexGuard::new(self, me);
        // SAFETY: the lock is ours, so the value can be read.
        if !unsafe { message::is_valid::<T>(self.value().cast()) } {
            return Err(LockError::Corrupted);
        }
        if acquired.after_death {
            return Err(LockError::OwnerDied(guard));
        }
        if self.is_poisoned() {
            return Err(LockError::Poisoned(guard));
        }
        Ok(guard)
    }

    /// Waits for the lock and puts `value` in the place of whatever is there, valid or not; forgets deaths and panics. What
    /// helps when a process died while it wrote a value of which not every bit pattern is valid.
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
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let Some(_) = owned::acquire(&self.head().word, &self.object, me, Deadline::Never) else {
            return Err(LockError::NotAcquired);
        };
        let mut guard = MutexGuard::new(self, me);
        // SAFETY: the lock is ours, so the value can be written.
        unsafe { message::write(self.value().cast(), value) };
        MutexGuard::mark_consistent(&mut guard);
        self.clear_poison();
        Ok(guard)
    }

    /// Whether somebody holds the lock. May change at any moment, but if the caller holds it.
    pub fn is_locked(&self) -> bool {
        self.head().word.holder().is_some()
    }

    /// Whether a thread panicked while it held the lock, and nobody has [cleared](Mutex::clear_poison) that.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.head().poison.load(Relaxed) != 0
    }

    /// Says that the panic has left nothing behind that matters. Call it while you hold the lock, or are sure without.
    pub fn clear_poison(&self) {
        self.head().poison.store(0, Relaxed);
    }
}

/// The value of a [`Mutex`], for who holds the lock; released when this is dropped.
///
/// A forked child that has a copy of it holds nothing: there, dropping it does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct MutexGuard<'a, T: Message> {
    mutex: &'a Mutex<T>,
    me: OwnerId,
    epoch: u32,
    /// A panic that was going on before does not poison.
    was_panicking: bool,
}

impl<'a, T: Message> MutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a Mutex<T>, me: OwnerId) -> MutexGuard<'a, T> {
        MutexGuard { mutex, me, epoch: fork::epoch(), was_panicking: std::thread::panicking() }
    }

    /// Says that the value is consistent, whatever a holder before did when it died: from now on nobody gets `OwnerDied` for
    /// that any more.
    pub fn mark_consistent(guard: &mut MutexGuard<'a, T>) {
        guard.mutex.head().word.mark_consistent();
    }

    /// The mutex that it is of.
    pub fn mutex(guard: &MutexGuard<'a, T>) -> &'a Mutex<T> {
        guard.mutex
    }
}

impl<T: Message> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let head = self.mutex.head();
        if !self.was_panicking && std::thread::panicking() {
            head.poison.store(1, Relaxed);
        }
        // False only if somebody writes into the memory.
        let _ = head.word.release(self.me);
    }
}

impl<T: Message> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours until we release it, which needs `self`; it guards a valid T (see guard and reset),
        // aligned.
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

/// The head of the mutex at `base`, if it is long enough for one.
fn head_at<'a>(base: *const u8, len: usize) -> Option<&'a Head> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Head.
    (len >= size_of::<Head>()).then(|| unsafe { &*base.cast::<Head>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(head) = head_at(base, len) {
        head.word.recover(dead);
    }
}

/// What `pagemate show` says about a mutex.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(head) = head_at(base, len) else { return Vec::new() };
    let mut lines = owned::describe(&head.word);
    lines.push(("poisoned", (head.poison.load(Relaxed) != 0).to_string()));
    lines
}
