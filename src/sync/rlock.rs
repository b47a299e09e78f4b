//! The recursive lock's handle and guard; its memory side and its algorithm are in [`nest`](super::nest).

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::{LockError, ReleaseError};
use crate::sync::nest::{Holder, Nest};
use crate::sync::owned::{self, Acquired};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// A lock that the thread which holds it may acquire again; Python's `RLock`.
///
/// Its holder is one thread of one process. It is free when it was released as often as it was acquired, and nobody else can
/// release it. A process that dies holding it leaves it free, at whatever depth, and the next
/// [guard](RLockGuard::owner_died) tells. A process that is stopped keeps it. A thread that ends without releasing it keeps
/// it until its process ends.
///
/// Not fair: who comes may pass who waits. Without contention it makes no system call.
///
/// # Examples
///
/// ```
/// use pagemate::RLock;
///
/// # fn main() -> pagemate::Result<()> {
/// let log = RLock::new()?;
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
/// # let log = pagemate::RLock::new().unwrap();
/// let guard = log.lock().unwrap();
/// std::thread::scope(|scope| scope.spawn(move || drop(guard)).join());
/// ```
#[derive(Clone)]
pub struct RLock {
    object: ObjectRef,
}

fn shape() -> Shape {
    Shape { kind: Kind::RLock, schema: String::new(), len: size_of::<Nest>() }
}

/// The number of this thread among those that the process has had; never 0.
#[inline]
fn thread_number() -> u32 {
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    #[cold]
    fn next() -> u32 {
        static LAST: AtomicU32 = AtomicU32::new(0);
        LAST.fetch_add(1, Relaxed).wrapping_add(1).max(1)
    }
    if NUMBER.get() == 0 {
        NUMBER.set(next());
    }
    NUMBER.get()
}

impl RLock {
    /// A lock that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<RLock> {
        RLock::from_object(Place::anonymous(&shape(), |_| ())?)
    }

    /// Creates the lock. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<RLock> {
        RLock::from_object(place.into().create(&shape(), |_| ())?)
    }

    /// Opens an existing lock.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<RLock> {
        RLock::from_object(place.into().open(Kind::RLock, "")?)
    }

    /// Opens the lock or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](RLock::open) and [`create`](RLock::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(RLock, Origin)> {
        let (object, origin) = place.into().open_or_create(&shape(), |_| ())?;
        Ok((RLock::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<RLock> {
        if object.len() < size_of::<Nest>() {
            return Err(Error::new(ErrorKind::Corrupted, "the recursive lock's record is too short"));
        }
        Ok(RLock { object })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn nest(&self) -> &Nest {
        // SAFETY: the object is aligned to 128 and at least as long as a Nest (checked in from_object), stays mapped as long
        // as `object` lives, and any bytes are a Nest.
        unsafe { &*self.object.base().cast::<Nest>() }
    }

    #[inline]
    fn me(&self) -> Result<Holder> {
        Ok(Holder { id: self.object.owner()?, thread: thread_number() })
    }

    /// Waits until no other thread holds the lock, and acquires it.
    ///
    /// # Errors
    ///
    /// `TooDeep` after 2^32 - 1 times, `NotInThisProcess`.
    #[inline]
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if no other thread holds it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`lock`](RLock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        let acquired = self.lock_by(1, |nest, me| nest.word.try_acquire(me));
        if acquired.as_ref().is_err_and(LockError::is_not_acquired) {
            self.object.miss();
        }
        acquired
    }

    /// [`lock`](RLock::lock), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](RLock::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// [`lock`](RLock::lock), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](RLock::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_by(1, |nest, me| owned::acquire(&nest.word, &self.object, me, deadline))
    }

    /// One deeper; or, if this thread does not hold the lock, acquires it by `acquire`, and is at `depth` then.
    #[inline]
    fn lock_by(
        &self,
        depth: u32,
        acquire: impl FnOnce(&Nest, OwnerId) -> Option<Acquired>,
    ) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        let me = self.me().map_err(|_| LockError::NotInThisProcess)?;
        let nest = self.nest();
        let owner_died = match nest.enter_again(me) {
            Some(again) => again.map(|()| false).map_err(|_| LockError::TooDeep)?,
            None => {
                let acquired = acquire(nest, me.id).ok_or(LockError::NotAcquired)?;
                nest.begin(me, depth, acquired);
                acquired.after_death
            }
        };
        Ok(RLockGuard { lock: self, me, epoch: fork::epoch(), owner_died, _of_this_thread: PhantomData })
    }

    /// [`lock`](RLock::lock) without a guard: until this thread calls [`release`](RLock::release). For the other ways to
    /// acquire it there is [`RLockGuard::keep`].
    ///
    /// # Errors
    ///
    /// As [`lock`](RLock::lock).
    pub fn acquire(&self) -> Result<(), LockError<RLockGuard<'_>>> {
        self.lock().map(RLockGuard::keep)
    }

    /// Undoes one acquisition that this thread has kept; the last one frees the lock.
    ///
    /// # Errors
    ///
    /// `NotHeld` if nobody holds it, `NotYours` if another process or thread does, `NotInThisProcess`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        let me = self.me().map_err(|_| ReleaseError::NotInThisProcess)?;
        if self.nest().leave(me) {
            return Ok(());
        }
        Err(if self.is_locked() { ReleaseError::NotYours } else { ReleaseError::NotHeld })
    }

    /// Whether some thread of some process holds the lock. May change at any moment, but if the caller holds it.
    pub fn is_locked(&self) -> bool {
        self.nest().word.holder().is_some()
    }

    /// Whether this thread holds the lock.
    pub fn is_held(&self) -> bool {
        self.me().is_ok_and(|me| self.nest().is_held_by(me))
    }

    /// Acquires the lock after [`RLockGuard::release_all`], at the depth that it gave.
    pub(crate) fn restore(&self, depth: u32) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_by(depth, |nest, me| owned::acquire(&nest.word, &self.object, me, Deadline::Never))
    }
}

/// Who has this holds an [`RLock`] once; undone when it is dropped, in any order.
///
/// Belongs to its thread. A forked child that has a copy of it holds nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    me: Holder,
    epoch: u32,
    owner_died: bool,
    _of_this_thread: PhantomData<*const ()>,
}

impl<'a> RLockGuard<'a> {
    /// Whether the process that held the lock before died holding it.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Goes, and leaves the lock held once more, until this thread calls [`RLock::release`] or its process ends.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Frees the lock, however often this thread holds it; gives what [`RLock::restore`] needs.
    pub(crate) fn release_all(self) -> (&'a RLock, u32) {
        let lock = self.lock;
        let depth = if self.epoch == fork::epoch() { lock.nest().leave_all(self.me).unwrap_or(1) } else { 1 };
        self.keep();
        (lock, depth)
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // False: this thread has called `release` once too often.
            let _ = self.lock.nest().leave(self.me);
        }
    }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock").field("is_locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").field("owner_died", &self.owner_died).finish_non_exhaustive()
    }
}

/// The memory side of the lock at `base`, if it is long enough for one.
fn nest_at<'a>(base: *const u8, len: usize) -> Option<&'a Nest> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Nest.
    (len >= size_of::<Nest>()).then(|| unsafe { &*base.cast::<Nest>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(nest) = nest_at(base, len) {
        nest.word.recover(dead);
    }
}

/// What `pagemate show` says about a recursive lock.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(nest) = nest_at(base, len) else { return Vec::new() };
    let mut lines = owned::describe(&nest.word);
    lines.push(("depth", nest.depth().to_string()));
    lines
}
