//! The handle: `RwLock<T>`, the value behind the lock, and what can be seen of it.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::guard::{RwLockReadGuard, RwLockWriteGuard};
use super::{Admitted, Shared};
use crate::kind::Kind;
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::LockError;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// What reading gives.
type Reading<'a, T> = Result<RwLockReadGuard<'a, T>, LockError<RwLockReadGuard<'a, T>>>;
/// What writing gives.
type Writing<'a, T> = Result<RwLockWriteGuard<'a, T>, LockError<RwLockWriteGuard<'a, T>>>;

/// A value that many may look at, or one at a time may change, of any number of processes and threads.
///
/// For what is read much more often than written: readers of different processes share no memory that any of them writes, so
/// they do not slow each other down, and a writer looks at one cache line of each process that ever read. The lock takes 64
/// KiB of memory for that, beside the value. Otherwise a [`Mutex`](crate::Mutex) is smaller, and faster to change.
///
/// Writers come first: as soon as one asks, no new reader gets in, and it waits only for those inside. So an endless stream
/// of writers can starve readers, but readers never a writer. When a writer leaves, one waiting writer and all waiting
/// readers are woken, and who comes first is in: there is no queue.
///
/// Not recursive: a thread that asks to write while it reads waits for itself; and one that asks to read while it reads may
/// do so too, namely if somebody asked to write in between. Guards may be sent to other threads; an upgrade from reading
/// to writing does not exist.
///
/// Poisoned by the panic of a writer as std's. A reader that dies leaves nothing behind. A writer that dies may leave the
/// value half-written: all who come after it, readers too, get their guard inside of [`LockError::OwnerDied`], until a
/// writer has repaired the value and [said so](RwLockWriteGuard::mark_consistent). A process that is stopped is not dead,
/// and keeps what it has; one that is stopped while it asks counts as one who waits, and a writer who waits keeps
/// new readers out.
///
/// Reading and writing without contention makes no system call. Clone it for threads (or share it: it is `Sync`), give
/// it to a child process, or open it by name.
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
/// By name, between processes that know nothing of each other:
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

impl<T: Message> RwLock<T> {
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "values aligned to more than 128 bytes do not fit into objects");
        size_of::<Shared>()
    };

    fn shape() -> Shape {
        Shape { kind: Kind::RwLock, schema: T::schema().to_string(), len: Self::OFFSET + size_of::<T>() }
    }

    fn init(value: T) -> impl Fn(*mut u8) {
        // SAFETY: an object of this shape, zeroed and aligned, that nobody else can see.
        move |base| unsafe { message::write(base.add(Self::OFFSET), value) }
    }

    /// A lock that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new(value: T) -> Result<RwLock<T>> {
        RwLock::from_object(Place::anonymous(&Self::shape(), Self::init(value))?)
    }

    /// Creates the lock. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, value: T) -> Result<RwLock<T>> {
        RwLock::from_object(place.into().create(&Self::shape(), Self::init(value))?)
    }

    /// Opens an existing lock.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of another value), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<RwLock<T>> {
        RwLock::from_object(place.into().open(Kind::RwLock, &T::schema().to_string())?)
    }

    /// Opens the lock or, if there is none, creates it with `value`; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](RwLock::open) and [`create`](RwLock::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, value: T) -> Result<(RwLock<T>, Origin)> {
        let (object, origin) = place.into().open_or_create(&Self::shape(), Self::init(value))?;
        Ok((RwLock::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<RwLock<T>> {
        let () = T::CHECKED;
        if object.len() < Self::OFFSET + size_of::<T>() {
            return Err(Error::new(ErrorKind::Corrupted, "the readers-writer lock's record is too short"));
        }
        Ok(RwLock { object, _value: PhantomData })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    pub(super) fn shared(&self) -> &Shared {
        // SAFETY: the object is aligned to 128 and longer than a Shared (checked in from_object), stays mapped as long as
        // `object` lives, and any bytes are a Shared, which is atomics.
        unsafe { &*self.object.base().cast::<Shared>() }
    }

    /// Where the value is. A pointer only: who uses it says why it may.
    #[inline]
    pub(super) fn value(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Whether those who are in the way are alive: the end of a waiter's slice.
    fn tend(&self) {
        self.object.tend();
        self.shared().expel(|id| self.object.is_alive(id));
    }

    /// Waits until no writer is in or asks to be, and reads.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see [`reset`](RwLock::reset)), `NotInThisProcess`.
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(Deadline::Never)
    }

    /// Reads, if no writer is in or asks to be.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`read`](RwLock::read).
    #[inline]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match self.shared().try_read(me) {
            Some(admitted) => self.reading(me, admitted),
            None => {
                self.object.miss();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// [`read`](RwLock::read), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_read`](RwLock::try_read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(Deadline::after(timeout))
    }

    /// [`read`](RwLock::read), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_read`](RwLock::try_read).
    pub fn read_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(Deadline::at(deadline))
    }

    #[inline]
    fn read_until(&self, deadline: Deadline) -> Reading<'_, T> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let shared = self.shared();
        match shared.try_read(me).or_else(|| shared.read(me, deadline, || self.tend())) {
            Some(admitted) => self.reading(me, admitted),
            None => Err(LockError::NotAcquired),
        }
    }

    #[inline]
    fn reading(&self, me: OwnerId, admitted: Admitted) -> Reading<'_, T> {
        let guard = RwLockReadGuard::new(self, me);
        self.verdict(admitted, guard)
    }

    /// Waits until nobody else is in, and writes.
    ///
    /// # Errors
    ///
    /// With the guard: `OwnerDied`, `Poisoned`. Without: `Corrupted` (see [`reset`](RwLock::reset)), `NotInThisProcess`.
    #[inline]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(Deadline::Never)
    }

    /// Writes, if nobody is in, and nobody looks at this moment whether it may read.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`write`](RwLock::write).
    #[inline]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match self.shared().try_write(me) {
            Some(admitted) => self.writing(me, admitted),
            None => {
                self.object.miss();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// [`write`](RwLock::write), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_write`](RwLock::try_write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(Deadline::after(timeout))
    }

    /// [`write`](RwLock::write), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_write`](RwLock::try_write).
    pub fn write_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(Deadline::at(deadline))
    }

    #[inline]
    fn write_until(&self, deadline: Deadline) -> Writing<'_, T> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let shared = self.shared();
        match shared.try_write(me).or_else(|| shared.write(me, deadline, || self.tend())) {
            Some(admitted) => self.writing(me, admitted),
            None => Err(LockError::NotAcquired),
        }
    }

    #[inline]
    fn writing(&self, me: OwnerId, admitted: Admitted) -> Writing<'_, T> {
        let guard = RwLockWriteGuard::new(self, me);
        self.verdict(admitted, guard)
    }

    /// The guard, and what there is to know about the value.
    #[inline]
    fn verdict<G>(&self, admitted: Admitted, guard: G) -> Result<G, LockError<G>> {
        // SAFETY: whoever has a guard is in, so the value can be read.
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

    /// Waits until nobody else is in and puts `value` in the place of whatever is there, valid or not; forgets deaths and
    /// panics. What helps when a process died while it wrote a value of which not every bit pattern is valid.
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
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let Some(_) = self.shared().write(me, Deadline::Never, || self.tend()) else {
            return Err(LockError::NotAcquired);
        };
        let mut guard = RwLockWriteGuard::new(self, me);
        // SAFETY: nobody else is in, so the value can be written.
        unsafe { message::write(self.value().cast(), value) };
        RwLockWriteGuard::mark_consistent(&mut guard);
        self.clear_poison();
        Ok(guard)
    }

    /// Whether a writer is in, or asks to be. May change at any moment, but if the caller is in.
    pub fn is_write_locked(&self) -> bool {
        self.shared().writer().is_some()
    }

    /// How many readers are in, of all processes. May count some that only look whether they may; may change at any moment.
    pub fn reader_count(&self) -> u64 {
        self.shared().reader_count()
    }

    /// Whether a thread panicked while it wrote, and nobody has [cleared](RwLock::clear_poison) that.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.shared().is_poisoned()
    }

    /// Says that the panic has left nothing behind that matters. Call it while you write, or are sure without.
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

/// The memory side of the lock at `base`, if it is long enough for one.
fn shared_at<'a>(base: *const u8, len: usize) -> Option<&'a Shared> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Shared.
    (len >= size_of::<Shared>()).then(|| unsafe { &*base.cast::<Shared>() })
}

/// Takes the lock from `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(shared) = shared_at(base, len) {
        shared.recover(dead);
    }
}

/// What `pagemate show` says about a readers-writer lock.
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
