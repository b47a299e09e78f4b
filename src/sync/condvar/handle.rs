//! The handle: `Condvar`, and how a waiter releases its lock and acquires it again.

use std::fmt;
use std::time::{Duration, Instant};

use super::relock::Relock;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::condvar::state::{Registration, WaiterTable};
use crate::sync::error::LockError;
use crate::sys::clock::Deadline;
use crate::Result;

/// How long a waiter that finds the table full sleeps before it returns to check its condition.
const CROWDED: Duration = Duration::from_millis(1);

/// The result of a timed wait: the guard, and whether the waiter was notified, or the last value of
/// its condition.
type Timed<G> = Result<(G, bool), LockError<(G, bool)>>;

/// A condition variable: processes wait until something that a lock guards becomes true.
///
/// A waiter releases its lock, sleeps until it is notified, and holds the lock again when its wait
/// returns. No notification is missed between its check of the condition and its sleep. Any lock
/// can be used, also one in another segment, and different waiters can use different locks at once.
///
/// [`notify_one`](Condvar::notify_one) wakes the waiter that has waited longest.
/// [`notify`](Condvar::notify)`(n)` wakes the `n` oldest waiters, or all if there are fewer. A
/// notification without a waiter is not stored. Notifying never blocks, whatever has become of the
/// waiters. It needs no lock, and makes a system call only for waiters that sleep.
///
/// There are no spurious wake-ups, with two exceptions. If a notified waiter dies before it holds
/// its lock again, its notification goes to another waiter, in rare cases to two. And a waiter that
/// finds 1,024 others waiting wakes every millisecond to check its condition.
///
/// A dead waiter no longer counts. If a waiter dies after it has locked again, but before it has
/// done what it was notified for, the lock reports it: the caller that gets
/// [`OwnerDied`](LockError::OwnerDied) repairs the data, and checks whether others must be
/// notified. A waiter that is stopped still waits, and can be the one that is notified.
///
/// Share it between threads by reference or by cloning it, pass it to a child process, or open it
/// by name. A minimal program: `examples/condvar.rs`.
///
/// # Examples
///
/// ```
/// use pagemate::{Condvar, Mutex};
///
/// # fn main() -> pagemate::Result<()> {
/// let (jobs, more) = (Mutex::new(0_u32)?, Condvar::new()?);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *jobs.lock().unwrap() += 3;
///         more.notify_one();
///     });
///     let mut left = more.wait_while(jobs.lock().unwrap(), |jobs| *jobs == 0).unwrap();
///     *left -= 1;
/// });
/// assert_eq!(*jobs.lock()?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Condvar {
    object: ObjectRef,
}

impl Object for Condvar {
    const KIND: Kind = Kind::Condvar;
    const LEN: usize = size_of::<WaiterTable>();
    type Initial = ();

    fn attach(object: ObjectRef) -> Result<Condvar> {
        Ok(Condvar { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Condvar {
    verbs!(Condvar: "a" "condition variable" ());

    #[inline]
    fn table(&self) -> &WaiterTable {
        // SAFETY: the object is aligned to 128 and at least as long as a WaiterTable (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a WaiterTable,
        // which consists of atomics.
        unsafe { &*self.object.base().cast::<WaiterTable>() }
    }

    /// Releases the lock, blocks until notified, and acquires the lock again.
    ///
    /// Check the condition before and after, while you hold the lock, because another participant
    /// may have been quicker. [`wait_while`](Condvar::wait_while) does this.
    ///
    /// # Errors
    ///
    /// Those of locking again. With the guard: `OwnerDied`, `Poisoned`. Without it: `Corrupted`,
    /// `NotInThisProcess`.
    pub fn wait<G: Relock>(&self, guard: G) -> Result<G, LockError<G>> {
        match self.wait_until(guard, Deadline::Never) {
            Ok((guard, _)) => Ok(guard),
            Err(error) => Err(error.map(|(guard, _)| guard)),
        }
    }

    /// Like [`wait`](Condvar::wait), but blocks for at most `timeout`, plus the time to lock again.
    /// Returns true with the guard if the waiter was notified.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Condvar::wait).
    pub fn wait_timeout<G: Relock>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// Like [`wait`](Condvar::wait), but blocks until `deadline` at the latest, plus the time to
    /// lock again. Returns true with the guard if the waiter was notified.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Condvar::wait).
    pub fn wait_deadline<G: Relock>(
        &self,
        guard: G,
        deadline: Instant,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_until(guard, Deadline::at(deadline))
    }

    /// Like [`wait_timeout`](Condvar::wait_timeout), but also ends when `is_interrupted` returns
    /// true. It is called every 50 ms, while the lock is released. For language runtimes, whose
    /// signal handlers run between two calls. Without a timeout the wait has no end of its own.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let (lock, never) = (pagemate::Lock::new()?, pagemate::Condvar::new()?);
    /// let mut calls = 0;
    /// let guard = lock.lock()?;
    /// let (_guard, notified) = never
    ///     .wait_interruptible(guard, None, || {
    ///         calls += 1;
    ///         calls == 2
    ///     })
    ///     .map_err(|error| error.map(|(guard, _)| guard))?;
    /// assert!(!notified && calls == 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Condvar::wait).
    ///
    /// # Panics
    ///
    /// If `is_interrupted` does. The lock is not held then, and a notification that has come goes
    /// to another waiter.
    pub fn wait_interruptible<G: Relock>(
        &self,
        guard: G,
        timeout: Option<Duration>,
        is_interrupted: impl FnMut() -> bool,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        let deadline = timeout.map_or(Deadline::Never, Deadline::after);
        self.wait_by(guard, deadline, |table, registration| {
            table.wait_interruptible(registration, deadline, || self.object.reap_dead(), is_interrupted)
        })
    }

    fn wait_until<G: Relock>(&self, guard: G, deadline: Deadline) -> Timed<G> {
        self.wait_by(guard, deadline, |table, registration| {
            table.wait(registration, deadline, || self.object.reap_dead())
        })
    }

    fn wait_by<G: Relock>(
        &self,
        guard: G,
        deadline: Deadline,
        sleep: impl FnOnce(&WaiterTable, &Registration) -> bool,
    ) -> Timed<G> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        let (relocked, notified) = self.sleep_unlocked(me, guard, deadline, sleep);
        match relocked {
            Ok(guard) => Ok((guard, notified)),
            Err(error) => Err(error.map(|guard| (guard, notified))),
        }
    }

    /// Releases the lock, calls `sleep`, and acquires the lock again.
    fn sleep_unlocked<G: Relock>(
        &self,
        me: OwnerId,
        guard: G,
        deadline: Deadline,
        sleep: impl FnOnce(&WaiterTable, &Registration) -> bool,
    ) -> (Result<G, LockError<G>>, bool) {
        let table = self.table();
        let Some(registration) = table.join(me) else {
            let lock = guard.unlock();
            self.object.note_failed_try();
            let in_time = !deadline.has_passed();
            if in_time {
                std::thread::sleep(CROWDED);
            }
            return (G::relock(lock), in_time);
        };
        let lock = guard.unlock();
        let unwinding = ResignOnUnwind { table, registration: &registration };
        let notified = sleep(table, &registration);
        std::mem::forget(unwinding);
        let relocked = G::relock(lock);
        if notified {
            // Only now. If we had died before, the notification would have gone to another waiter.
            table.leave(&registration);
        }
        (relocked, notified)
    }

    /// Waits while `condition` returns true for the data that the lock guards. Returns at once if
    /// it is false at the first check.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Condvar::wait). They are returned immediately, without another check of
    /// the condition.
    pub fn wait_while<G: Relock>(
        &self,
        mut guard: G,
        mut condition: impl FnMut(&mut G::Data) -> bool,
    ) -> Result<G, LockError<G>> {
        while condition(guard.data()) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Like [`wait_while`](Condvar::wait_while), but blocks for at most `timeout`. Returns the last
    /// value of the condition with the guard: true means that the wait timed out.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// # use {pagemate::{Condvar, Mutex}, std::time::Duration};
    /// let (ready, changed) = (Mutex::new(false)?, Condvar::new()?);
    /// let guard = ready.lock()?;
    /// let (guard, still_waiting) = changed
    ///     .wait_timeout_while(guard, Duration::from_millis(5), |ready| !*ready)
    ///     .map_err(|error| error.map(|(guard, _)| guard))?;
    /// assert!(still_waiting && !*guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`wait_while`](Condvar::wait_while).
    pub fn wait_timeout_while<G: Relock>(
        &self,
        guard: G,
        timeout: Duration,
        condition: impl FnMut(&mut G::Data) -> bool,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_while_until(guard, Deadline::after(timeout), condition)
    }

    /// Like [`wait_timeout_while`](Condvar::wait_timeout_while), but blocks until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// Those of [`wait_while`](Condvar::wait_while).
    pub fn wait_deadline_while<G: Relock>(
        &self,
        guard: G,
        deadline: Instant,
        condition: impl FnMut(&mut G::Data) -> bool,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_while_until(guard, Deadline::at(deadline), condition)
    }

    fn wait_while_until<G: Relock>(
        &self,
        mut guard: G,
        deadline: Deadline,
        mut condition: impl FnMut(&mut G::Data) -> bool,
    ) -> Timed<G> {
        let mut in_time = true;
        loop {
            let last = condition(guard.data());
            if !last || !in_time {
                return Ok((guard, last));
            }
            // A waiter that was not notified checks one last time.
            (guard, in_time) =
                self.wait_until(guard, deadline).map_err(|error| error.map(|(g, _)| (g, true)))?;
        }
    }

    /// Wakes the waiter that has waited longest. Returns false if there is none.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let more = pagemate::Condvar::new()?;
    /// assert!(!more.notify_one());
    /// assert_eq!(more.notify_all(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn notify_one(&self) -> bool {
        self.notify(1) == 1
    }

    /// Wakes the `count` oldest waiters, or all if there are fewer. Waiters that arrive while it
    /// runs are not woken.
    ///
    /// Returns the number of waiters that this call has notified: each is counted by one call only.
    /// A stopped waiter counts. So does one that has died and was not reaped yet; its notification
    /// then goes to another waiter. Waiters beyond 1,024 at once do not count, because they check
    /// their condition every millisecond without a notification.
    pub fn notify(&self, count: usize) -> usize {
        self.table().notify(count)
    }

    /// Wakes all waiters. Returns their number, as [`notify`](Condvar::notify) does.
    pub fn notify_all(&self) -> usize {
        self.notify(usize::MAX)
    }

    /// Returns the number of waiters in all processes that have not been notified. The answer may
    /// be out of date immediately, unless all waits and notifications use the lock that the caller
    /// holds. May include waiters that have died.
    pub fn waiting(&self) -> usize {
        self.table().count()
    }
}

/// Removes a waiter whose wait ends by a panic.
struct ResignOnUnwind<'a> {
    table: &'a WaiterTable,
    registration: &'a Registration,
}

impl Drop for ResignOnUnwind<'_> {
    fn drop(&mut self) {
        self.table.resign(self.registration);
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").field("waiters", &self.waiting()).finish_non_exhaustive()
    }
}

/// Returns the memory side of the condition variable at `base`, if `len` is long enough for one.
fn table_at<'a>(base: *const u8, len: usize) -> Option<&'a WaiterTable> {
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // WaiterTable.
    (len >= size_of::<WaiterTable>()).then(|| unsafe { &*base.cast::<WaiterTable>() })
}

/// Removes `dead` from the waiters.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(table) = table_at(base, len) {
        table.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a condition variable.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    table_at(base, len).map_or_else(Vec::new, |table| vec![("waiters", table.count().to_string())])
}
