//! A lock without data: an owner word that anybody may free.
//!
//! Not recursive, not fair. What the word says and what happens when a holder dies is told in [`owned`](super::owned). Here
//! a death is reported once, to whoever acquires the lock next: there is no data to be repaired.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word |
//! | 4..8 | turn: how often it has been acquired, wrapping |
//!
//! The turn belongs to the holder. A guard remembers its own, so that it does not release what somebody else acquired after
//! the lock was released under it.
//!
//! # Memory ordering
//!
//! The word's. A guard that was released under looks at the turn without holding the lock; it sees the new one if it knows
//! of the release, and that is all that is promised.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder dies, or has left the segment | see the word | the next one acquires, and its guard says so | nothing |
//! | that one dies before it has forgotten the death, or after | its own death is noticed | the same | nothing |

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::{LockError, ReleaseError};
use crate::sync::owned::{self, Acquired, OwnerWord};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// The memory side. Zero is the fresh state, and any bytes are a State.
#[repr(C)]
struct State {
    word: OwnerWord,
    turn: AtomicU32,
}

const _: () = assert!(size_of::<State>() == 8);

/// A lock that guards what its users agree on, among any number of processes and threads; Python's `Lock`.
///
/// A process that dies holding it leaves it free, and the next [guard](LockGuard::owner_died) tells. A process that is
/// stopped keeps it. Any process or thread may [`release`](Lock::release) it, not only the one that acquired it: for
/// hand-overs between processes, [`keep`](LockGuard::keep) it here and release it there.
///
/// Not recursive: who locks twice waits for itself ([`RLock`](crate::RLock) does not). Not fair: who comes may pass who
/// waits. For data there is [`Mutex`](crate::Mutex). Without contention it makes no system call.
///
/// # Examples
///
/// ```
/// use pagemate::Lock;
///
/// # fn main() -> pagemate::Result<()> {
/// let printer = Lock::new()?;
/// let guard = printer.lock()?;
/// assert!(printer.try_lock().is_err());
/// drop(guard);
/// assert!(printer.try_lock().is_ok());
/// # Ok(())
/// # }
/// ```
///
/// Acquired here, released there:
///
/// ```
/// use pagemate::Lock;
///
/// # fn main() -> pagemate::Result<()> {
/// let gate = Lock::new()?;
/// gate.acquire()?;
/// let other = gate.clone();
/// std::thread::spawn(move || other.release()).join().unwrap()?;
/// gate.acquire()?;
/// # gate.release()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    object: ObjectRef,
}

fn shape() -> Shape {
    Shape { kind: Kind::Lock, schema: String::new(), len: size_of::<State>() }
}

impl Lock {
    /// A lock that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Lock> {
        Lock::from_object(Place::anonymous(&shape(), |_| ())?)
    }

    /// Creates the lock. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Lock> {
        Lock::from_object(place.into().create(&shape(), |_| ())?)
    }

    /// Opens an existing lock.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Lock> {
        Lock::from_object(place.into().open(Kind::Lock, "")?)
    }

    /// Opens the lock or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Lock::open) and [`create`](Lock::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(Lock, Origin)> {
        let (object, origin) = place.into().open_or_create(&shape(), |_| ())?;
        Ok((Lock::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Lock> {
        if object.len() < size_of::<State>() {
            return Err(Error::new(ErrorKind::Corrupted, "the lock's record is too short"));
        }
        Ok(Lock { object })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and at least as long as a State (checked in from_object), stays mapped as
        // long as `object` lives, and any bytes are a State.
        unsafe { &*self.object.base().cast::<State>() }
    }

    /// Waits until nobody else holds the lock, and acquires it.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(Deadline::Never)
    }

    /// Acquires the lock if nobody holds it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, `NotInThisProcess`.
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match self.state().word.try_acquire(me) {
            Some(acquired) => Ok(LockGuard::new(self, me, acquired)),
            None => {
                self.object.miss();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// [`lock`](Lock::lock), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Lock::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// [`lock`](Lock::lock), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Lock::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline]
    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match owned::acquire(&self.state().word, &self.object, me, deadline) {
            Some(acquired) => Ok(LockGuard::new(self, me, acquired)),
            None => Err(LockError::NotAcquired),
        }
    }

    /// [`lock`](Lock::lock) without a guard: the lock is held until somebody calls [`release`](Lock::release), or this
    /// process leaves the segment or dies. For the other ways to acquire it there is [`LockGuard::keep`].
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn acquire(&self) -> Result<(), LockError<LockGuard<'_>>> {
        self.lock().map(LockGuard::keep)
    }

    /// Releases the lock, whichever process or thread has acquired it. A guard that held it holds nothing then.
    ///
    /// # Errors
    ///
    /// `NotHeld`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        self.state().word.release_any().then_some(()).ok_or(ReleaseError::NotHeld)
    }

    /// Whether somebody holds the lock. May change at any moment.
    pub fn is_locked(&self) -> bool {
        self.state().word.holder().is_some()
    }
}

/// Who has this holds a [`Lock`]; released when it is dropped.
///
/// The holder is the process, so a guard may be sent to another thread. A forked child that has a copy of it holds nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    me: OwnerId,
    epoch: u32,
    turn: u32,
    owner_died: bool,
}

impl<'a> LockGuard<'a> {
    #[inline]
    fn new(lock: &'a Lock, me: OwnerId, acquired: Acquired) -> LockGuard<'a> {
        let state = lock.state();
        let turn = state.turn.load(Relaxed).wrapping_add(1);
        state.turn.store(turn, Relaxed);
        if acquired.after_death {
            state.word.mark_consistent();
        }
        LockGuard { lock, me, epoch: fork::epoch(), turn, owner_died: acquired.after_death }
    }

    /// Whether the process that held the lock before died holding it.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Frees the lock; gives it, to be acquired again.
    pub(crate) fn into_lock(self) -> &'a Lock {
        self.lock
    }

    /// Goes, and leaves the lock held: until somebody calls [`Lock::release`], or this process leaves the segment or dies.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let state = self.lock.state();
        if self.epoch == fork::epoch() && self.turn == state.turn.load(Relaxed) {
            // False: somebody has released it, and another process may hold it by now.
            let _ = state.word.release(self.me);
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("is_locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("owner_died", &self.owner_died).finish_non_exhaustive()
    }
}

/// The state of the lock at `base`, if it is long enough for one.
fn state_at<'a>(base: *const u8, len: usize) -> Option<&'a State> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a State.
    (len >= size_of::<State>()).then(|| unsafe { &*base.cast::<State>() })
}

/// Frees the lock if `dead` held it.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(state) = state_at(base, len) {
        state.word.recover(dead);
    }
}

/// What `pagemate show` says about a lock.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    state_at(base, len).map_or_else(Vec::new, |state| owned::describe(&state.word))
}
