//! Several permits at once, and permits that are released when a guard is dropped.

use std::fmt;
use std::time::{Duration, Instant};

use super::handle::Semaphore;
use crate::sys::clock::Deadline;
use crate::sys::fork;

impl Semaphore {
    /// Acquires `count` permits at once. Blocks until there are `count`, and holds none until then.
    /// So two callers that need several permits each cannot block each other with parts of them.
    ///
    /// Unfair: a caller that wants many permits can starve while others keep acquiring fewer. As
    /// soon as a waiter has ever asked for more than one permit, each release wakes all waiters.
    /// More than 2,147,483,647 permits never become available.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let bytes = pagemate::Semaphore::new(100)?;
    /// bytes.acquire_many(70);
    /// assert!(!bytes.try_acquire_many(31));
    /// assert!(bytes.try_acquire_many(30));
    /// bytes.release_many(100)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire_many(&self, count: u32) {
        self.counter().acquire(count, Deadline::Never);
    }

    /// Acquires `count` permits if there are `count` now. Returns false, and acquires none, if
    /// there are fewer. Never blocks.
    #[must_use]
    pub fn try_acquire_many(&self, count: u32) -> bool {
        self.counter().try_acquire(count)
    }

    /// Acquires `count` permits at once. Blocks for at most `timeout`, and returns false if it
    /// timed out; then it has acquired none.
    #[must_use]
    pub fn acquire_many_timeout(&self, count: u32, timeout: Duration) -> bool {
        self.try_acquire_many(count) || self.counter().acquire(count, Deadline::after(timeout))
    }

    /// Acquires `count` permits at once. Blocks until `deadline` at the latest, and returns false
    /// if it timed out; then it has acquired none.
    #[must_use]
    pub fn acquire_many_deadline(&self, count: u32, deadline: Instant) -> bool {
        self.try_acquire_many(count) || self.counter().acquire(count, Deadline::at(deadline))
    }

    /// Acquires a permit that is released when the guard is dropped. Blocks until there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let slots = pagemate::Semaphore::new(1)?;
    /// let permit = slots.permit();
    /// assert!(slots.try_permit().is_none());
    /// drop(permit);
    /// assert_eq!(slots.available(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn permit(&self) -> SemaphorePermit<'_> {
        self.acquire();
        SemaphorePermit::new(self)
    }

    /// Acquires a permit like [`permit`](Semaphore::permit), if there is one now. Never blocks.
    pub fn try_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire().then(|| SemaphorePermit::new(self))
    }

    /// Acquires a permit like [`permit`](Semaphore::permit). Blocks for at most `timeout`, and
    /// returns `None` if it timed out.
    pub fn permit_timeout(&self, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        self.acquire_timeout(timeout).then(|| SemaphorePermit::new(self))
    }

    /// Acquires a permit like [`permit`](Semaphore::permit). Blocks until `deadline` at the latest,
    /// and returns `None` if it timed out.
    pub fn permit_deadline(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        self.acquire_deadline(deadline).then(|| SemaphorePermit::new(self))
    }
}

/// A permit of a [`Semaphore`]. Dropping it releases the permit. See [`Semaphore::permit`].
///
/// It may be sent to another thread. A copy in a forked child holds nothing. If the process is
/// killed, the permit is lost. The permits of a [`BoundedSemaphore`](crate::BoundedSemaphore) are
/// not.
#[must_use = "the permit is released when this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    epoch: u32,
}

impl<'a> SemaphorePermit<'a> {
    fn new(semaphore: &'a Semaphore) -> SemaphorePermit<'a> {
        SemaphorePermit { semaphore, epoch: fork::epoch() }
    }

    /// Consumes the guard and leaves the permit acquired, until a process calls
    /// [`Semaphore::release`].
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // Fails only on an overflow. Then others have released so much that one permit less is
            // no loss.
            let _ = self.semaphore.release();
        }
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").finish_non_exhaustive()
    }
}
