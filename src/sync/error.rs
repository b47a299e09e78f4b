//! Why a lock was not acquired, or was acquired with a warning. Small enums that return the guard.

use std::fmt;

use crate::error::{said, Refusal};
use crate::{Error, ErrorKind};

/// The error of an attempt to lock.
///
/// In two variants the lock was acquired, and there is something to know about it; the guard is
/// inside.
///
/// Converts into [`Error`], so that `?` works where the guard does not matter.
///
/// # Examples
///
/// Repair the data after a death and go on:
///
/// ```
/// use pagemate::Mutex;
/// use pagemate::sync::{LockError, MutexGuard};
///
/// fn repaired(balance: &Mutex<[u64; 2]>) -> pagemate::Result<MutexGuard<'_, [u64; 2]>> {
///     match balance.lock() {
///         Err(LockError::OwnerDied(mut guard)) => {
///             *guard = [0, 0];
///             MutexGuard::mark_consistent(&mut guard);
///             Ok(guard)
///         }
///         other => Ok(other?),
///     }
/// }
/// # repaired(&Mutex::new([1, 2]).unwrap()).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError<G> {
    /// Acquired. A process died while it held the lock, and nobody has marked the data consistent
    /// since.
    OwnerDied(G),
    /// Acquired. A thread panicked while it held the lock, and nobody has cleared the poison since.
    Poisoned(G),
    /// Not acquired: the lock was held by another, at the time of the call or until the deadline.
    NotAcquired,
    /// Not acquired: this thread already holds the lock the maximum number of times; a
    /// [`RwLock`](crate::RwLock) counts the readers of the process.
    TooDeep,
    /// The shared bytes are not a valid value.
    Corrupted,
    /// This process is a `fork` of the one that made the handle and cannot use it; the reason is
    /// inside.
    NotInThisProcess(Refusal),
}

impl<G> LockError<G> {
    /// Returns the guard, if the lock was acquired.
    pub fn into_guard(self) -> Option<G> {
        match self {
            LockError::OwnerDied(guard) | LockError::Poisoned(guard) => Some(guard),
            _ => None,
        }
    }

    /// Converts the guard, if there is one, with `f`.
    pub fn map<H>(self, f: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::OwnerDied(guard) => LockError::OwnerDied(f(guard)),
            LockError::Poisoned(guard) => LockError::Poisoned(f(guard)),
            LockError::NotAcquired => LockError::NotAcquired,
            LockError::TooDeep => LockError::TooDeep,
            LockError::Corrupted => LockError::Corrupted,
            LockError::NotInThisProcess(refusal) => LockError::NotInThisProcess(refusal),
        }
    }

    /// Returns true if trying again later can help.
    pub fn is_not_acquired(&self) -> bool {
        matches!(self, LockError::NotAcquired)
    }

    /// Returns true if a process died while it held the lock.
    pub fn is_owner_died(&self) -> bool {
        matches!(self, LockError::OwnerDied(_))
    }

    fn name(&self) -> &'static str {
        match self {
            LockError::OwnerDied(_) => "OwnerDied(..)",
            LockError::Poisoned(_) => "Poisoned(..)",
            LockError::NotAcquired => "NotAcquired",
            LockError::TooDeep => "TooDeep",
            LockError::Corrupted => "Corrupted",
            LockError::NotInThisProcess(_) => "NotInThisProcess(..)",
        }
    }

    fn sentence(&self) -> (ErrorKind, &'static str) {
        match self {
            LockError::OwnerDied(_) => (
                ErrorKind::OwnerDied,
                "a process died while it held the lock: repair the data and mark it consistent",
            ),
            LockError::Poisoned(_) => (
                ErrorKind::Poisoned,
                "a thread panicked while it held the lock: check the data and clear the poison",
            ),
            LockError::NotAcquired => (ErrorKind::TimedOut, "another thread or process held the lock"),
            LockError::TooDeep => (
                ErrorKind::InvalidInput,
                "this thread or process already holds the lock the maximum number of times",
            ),
            LockError::Corrupted => {
                (ErrorKind::Corrupted, "the shared bytes are not a valid value: call `reset` with a new one")
            }
            LockError::NotInThisProcess(refusal) => (refusal.kind(), refusal.sentence()),
        }
    }
}

// Not derived, because the guard need not be printable: only that it exists matters.
impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence().1)
    }
}

impl<G> std::error::Error for LockError<G> {}

impl<G> From<LockError<G>> for Error {
    fn from(error: LockError<G>) -> Error {
        said(error.sentence().0, &error)
    }
}

/// The error of an attempt to release a lock.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody holds the lock.
    NotHeld,
    /// Another process or thread holds the lock.
    NotYours,
    /// This process is a `fork` of the one that made the handle and cannot use it; the reason is
    /// inside.
    NotInThisProcess(Refusal),
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReleaseError::NotHeld => "a lock that nobody holds cannot be released",
            ReleaseError::NotYours => {
                "the lock is held by another process or thread, which alone can release it"
            }
            ReleaseError::NotInThisProcess(refusal) => refusal.sentence(),
        })
    }
}

impl std::error::Error for ReleaseError {}

impl From<ReleaseError> for Error {
    fn from(error: ReleaseError) -> Error {
        let kind = match error {
            ReleaseError::NotInThisProcess(refusal) => refusal.kind(),
            ReleaseError::NotHeld | ReleaseError::NotYours => ErrorKind::InvalidInput,
        };
        said(kind, &error)
    }
}
