//! Why a lock was not acquired, or not as one would like it: small enums that give the guard back.

use std::fmt;

use crate::{Error, ErrorKind};

/// A lock was not acquired, or it was and there is something to know about it: then the guard is inside.
///
/// Converts into [`Error`], so that `?` works where the guard does not matter.
///
/// # Examples
///
/// To go on after a death, repair and say so:
///
/// ```
/// use pagemate::{LockError, Mutex, MutexGuard};
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
    /// Acquired. A process died while it held the lock, and nobody has said since that the data is consistent.
    OwnerDied(G),
    /// Acquired. A thread panicked while it held the lock, and nobody has cleared that since.
    Poisoned(G),
    /// Somebody else holds it: now, or until the deadline.
    NotAcquired,
    /// This thread holds it as often as can be counted.
    TooDeep,
    /// The shared bytes are no valid value.
    Corrupted,
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess,
}

impl<G> LockError<G> {
    /// The guard, if the lock was acquired.
    pub fn into_guard(self) -> Option<G> {
        match self {
            LockError::OwnerDied(guard) | LockError::Poisoned(guard) => Some(guard),
            _ => None,
        }
    }

    /// Likewise, with something else in the guard's place.
    pub fn map<H>(self, f: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::OwnerDied(guard) => LockError::OwnerDied(f(guard)),
            LockError::Poisoned(guard) => LockError::Poisoned(f(guard)),
            LockError::NotAcquired => LockError::NotAcquired,
            LockError::TooDeep => LockError::TooDeep,
            LockError::Corrupted => LockError::Corrupted,
            LockError::NotInThisProcess => LockError::NotInThisProcess,
        }
    }

    /// Whether trying again later can help.
    pub fn is_not_acquired(&self) -> bool {
        matches!(self, LockError::NotAcquired)
    }

    /// Whether a process died while it held the lock.
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
            LockError::NotInThisProcess => "NotInThisProcess",
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
                "a thread panicked while it held the lock: look at the data and clear the poison",
            ),
            LockError::NotAcquired => (ErrorKind::TimedOut, "somebody else held the lock all the time"),
            LockError::TooDeep => {
                (ErrorKind::InvalidInput, "this thread holds the lock as often as can be counted")
            }
            LockError::Corrupted => (ErrorKind::Corrupted, "the shared bytes are no valid value"),
            LockError::NotInThisProcess => (
                ErrorKind::NotInThisProcess,
                "the handle belongs to the process that this one was forked from: give it to a child as an argument",
            ),
        }
    }
}

// Not derived: what matters of a guard is that it is there.
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
        let (kind, text) = error.sentence();
        Error::new(kind, text)
    }
}

/// A lock was not released.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody holds it.
    NotHeld,
    /// Another process or thread holds it.
    NotYours,
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReleaseError::NotHeld => "a lock that nobody holds cannot be released",
            ReleaseError::NotYours => "the lock is held by another process or thread, which alone can release it",
            ReleaseError::NotInThisProcess => {
                "the handle belongs to the process that this one was forked from: give it to a child as an argument"
            }
        })
    }
}

impl std::error::Error for ReleaseError {}

impl From<ReleaseError> for Error {
    fn from(error: ReleaseError) -> Error {
        let kind = match error {
            ReleaseError::NotInThisProcess => ErrorKind::NotInThisProcess,
            ReleaseError::NotHeld | ReleaseError::NotYours => ErrorKind::InvalidInput,
        };
        Error::new(kind, error.to_string())
    }
}
