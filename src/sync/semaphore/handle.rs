//! The handle: `Semaphore`.

use std::fmt;
use std::time::{Duration, Instant};

use crate::loom::atomic::Ordering::Relaxed;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::verbs::verbs;
use crate::sync::semaphore::state::{Counter, MAX_PERMITS};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// A counting semaphore that processes acquire, release and wait for.
///
/// A permit has no owner. Any process may [`release`](Semaphore::release), also one that never
/// acquired, and the count may grow beyond its first value. So it is for signals, such as "four
/// more items are ready". The price is that a process that is killed between
/// [`acquire`](Semaphore::acquire) and `release` takes its permit with it.
/// [`BoundedSemaphore`](crate::BoundedSemaphore) gets such permits back. Where one process acquires
/// and releases, [`permit`](Semaphore::permit) returns a guard, which releases it also when the
/// thread panics.
///
/// Unfair: a caller that arrives at the right moment can overtake sleeping waiters. There is no
/// system call unless a waiter sleeps. `examples/semaphore.rs` shows the bounded kind.
///
/// # Examples
///
/// ```
/// use pagemate::Semaphore;
/// use std::time::Duration;
///
/// # fn main() -> pagemate::Result<()> {
/// let items = Semaphore::new(0)?;
/// let producer = items.clone();
/// let thread = std::thread::spawn(move || producer.release_many(2));
/// items.acquire();
/// items.acquire();
/// assert!(!items.try_acquire());
/// assert!(!items.acquire_timeout(Duration::from_millis(1)));
/// # thread.join().unwrap().unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    object: ObjectRef,
}

/// The error of a release that would exceed the largest count of a [`Semaphore`], 2,147,483,647.
/// Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitOverflow;

impl fmt::Display for PermitOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a semaphore counts to {MAX_PERMITS}, and this release would go beyond")
    }
}

impl std::error::Error for PermitOverflow {}

impl From<PermitOverflow> for Error {
    fn from(overflow: PermitOverflow) -> Error {
        Error::new(ErrorKind::InvalidInput, overflow.to_string())
    }
}

impl Object for Semaphore {
    const KIND: Kind = Kind::Semaphore;
    const LEN: usize = size_of::<Counter>();
    type Initial = u32;

    fn len_for(permits: &u32) -> Result<usize> {
        if *permits > MAX_PERMITS {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a semaphore of {permits} permits is not possible: 0 to {MAX_PERMITS} are"),
            ));
        }
        Ok(Self::LEN)
    }

    unsafe fn init(base: *mut u8, permits: &u32) {
        // SAFETY: as the caller promises; any bytes are a Counter.
        let counter = unsafe { &*base.cast::<Counter>() };
        counter.futex.word.store(*permits, Relaxed); // published with the object
    }

    fn attach(object: ObjectRef) -> Result<Semaphore> {
        Ok(Semaphore { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Semaphore {
    verbs!(
        Semaphore: "a" "semaphore" (permits: u32),
        with "with `permits` permits",
        refuses "more than 2,147,483,647 permits",
        keeps "its count"
    );

    #[inline]
    pub(crate) fn counter(&self) -> &Counter {
        // SAFETY: the object is aligned to 128 and at least as long as a Counter (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a Counter,
        // which consists of atomics.
        unsafe { &*self.object.base().cast::<Counter>() }
    }

    /// Acquires a permit. Blocks until there is one.
    #[inline]
    pub fn acquire(&self) {
        self.counter().acquire(1, Deadline::Never);
    }

    /// Acquires a permit if there is one now. Returns false if there is none. Never blocks.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.counter().try_acquire(1)
    }

    /// Acquires a permit. Blocks for at most `timeout`, and returns false if it timed out.
    #[must_use]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.try_acquire() || self.counter().acquire(1, Deadline::after(timeout))
    }

    /// Acquires a permit. Blocks until `deadline` at the latest, and returns false if it timed out.
    #[must_use]
    pub fn acquire_deadline(&self, deadline: Instant) -> bool {
        self.try_acquire() || self.counter().acquire(1, Deadline::at(deadline))
    }

    /// Adds a permit, and wakes a waiter if one sleeps. The caller need not have acquired one.
    /// Never blocks. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// [`PermitOverflow`]; then nothing has changed.
    #[inline]
    pub fn release(&self) -> Result<(), PermitOverflow> {
        self.release_many(1)
    }

    /// Adds `count` permits at once, and wakes waiters that can take them.
    ///
    /// # Errors
    ///
    /// [`PermitOverflow`]; then nothing has changed.
    #[inline]
    pub fn release_many(&self, count: u32) -> Result<(), PermitOverflow> {
        if self.counter().release(count) {
            Ok(())
        } else {
            Err(PermitOverflow)
        }
    }

    /// Returns the number of permits. The answer may be out of date immediately.
    pub fn available(&self) -> u32 {
        self.counter().permits()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// Returns what `pagemate show` prints about a semaphore.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    if len < size_of::<Counter>() {
        return Vec::new();
    }
    // SAFETY: as in Semaphore::counter: mapped, aligned, long enough, and any bytes are a Counter.
    let counter = unsafe { &*base.cast::<Counter>() };
    vec![("available", counter.permits().to_string()), ("waited on", counter.is_waited_on().to_string())]
}
