//! The handle: `Condvar`, and how a waiter gives up its lock and gets it back.

use std::fmt;
use std::time::{Duration, Instant};

use super::relock::Relock;
use super::Roster;
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::LockError;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// How long who finds no place among the waiters sleeps before it looks for itself.
const CROWDED: Duration = Duration::from_millis(1);

/// A timed wait: the guard, and whether the waiter was notified or what its condition said last.
type Timed<G> = Result<(G, bool), LockError<(G, bool)>>;

/// Where processes wait for something to become true that a lock guards, and tell each other that it may be.
///
/// A waiter gives up its lock, sleeps until it is notified, and has the lock again when its wait returns; between its look at
/// what the lock guards and its sleep no notification can be missed. Any locks may be used with it, also of other segments,
/// and of different ones at once.
///
/// [`notify_one`](Condvar::notify_one) wakes one waiter, the one who has waited longest; [`notify`](Condvar::notify)`(n)` wakes
/// `n` or, if fewer wait, all. A notification to nobody is not stored. Notifying never waits, whatever has become of
/// the waiters, needs no lock, and makes a system call only for waiters who sleep. There are no spurious wake-ups,
/// but for two: a notification whose receiver dies before it has its lock again goes to another waiter, in rare
/// cases to two; and who finds 1,024 waiting already wakes every millisecond to look for itself.
///
/// A dead waiter is nobody. One that dies when it has its lock again, but before it has done what it was notified for, is the
/// lock's business: whoever gets [`OwnerDied`](LockError::OwnerDied) repairs the data, and looks whether others must be
/// notified. A waiter that is stopped waits, and may be who is notified.
///
/// Clone it for threads (or share it: it is `Sync`), give it to a child process, or open it by name.
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

fn shape() -> Shape {
    Shape { kind: Kind::Condvar, schema: String::new(), len: size_of::<Roster>() }
}

impl Condvar {
    /// A condition variable that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Condvar> {
        Condvar::from_object(Place::anonymous(&shape(), |_| ())?)
    }

    /// Creates the condition variable. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Condvar> {
        Condvar::from_object(place.into().create(&shape(), |_| ())?)
    }

    /// Opens an existing condition variable.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Condvar> {
        Condvar::from_object(place.into().open(Kind::Condvar, "")?)
    }

    /// Opens the condition variable or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Condvar::open) and [`create`](Condvar::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(Condvar, Origin)> {
        let (object, origin) = place.into().open_or_create(&shape(), |_| ())?;
        Ok((Condvar::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Condvar> {
        if object.len() < size_of::<Roster>() {
            return Err(Error::new(ErrorKind::Corrupted, "the condition variable's record is too short"));
        }
        Ok(Condvar { object })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn roster(&self) -> &Roster {
        // SAFETY: the object is aligned to 128 and at least as long as a Roster (checked in from_object), stays mapped as long
        // as `object` lives, and any bytes are a Roster, which is atomics.
        unsafe { &*self.object.base().cast::<Roster>() }
    }

    /// Gives up the lock until notified.
    ///
    /// Look at what you wait for before and after, with the lock: somebody else may have been quicker. So does
    /// [`wait_while`](Condvar::wait_while).
    ///
    /// # Errors
    ///
    /// What locking again gives: with the guard `OwnerDied`, `Poisoned`; without `Corrupted`, `NotInThisProcess`.
    pub fn wait<G: Relock>(&self, guard: G) -> Result<G, LockError<G>> {
        match self.wait_until(guard, Deadline::Never) {
            Ok((guard, _)) => Ok(guard),
            Err(error) => Err(error.map(|(guard, _)| guard)),
        }
    }

    /// [`wait`](Condvar::wait), for `timeout` at most; then it takes as long as locking again does. True with the guard: it
    /// was notified.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout<G: Relock>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// [`wait`](Condvar::wait), until `deadline` at most; then it takes as long as locking again does. True with the guard: it
    /// was notified.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_deadline<G: Relock>(
        &self,
        guard: G,
        deadline: Instant,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_until(guard, Deadline::at(deadline))
    }

    fn wait_until<G: Relock>(&self, guard: G, deadline: Deadline) -> Timed<G> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let (relocked, notified) = self.give_up(me, guard, deadline);
        match relocked {
            Ok(guard) => Ok((guard, notified)),
            Err(error) => Err(error.map(|guard| (guard, notified))),
        }
    }

    /// Waits without the lock, and gets it back.
    fn give_up<G: Relock>(
        &self,
        me: OwnerId,
        guard: G,
        deadline: Deadline,
    ) -> (Result<G, LockError<G>>, bool) {
        let roster = self.roster();
        let Some(spot) = roster.join(me) else {
            let lock = guard.unlock();
            self.object.miss();
            let in_time = !deadline.has_passed();
            if in_time {
                std::thread::sleep(CROWDED);
            }
            return (G::relock(lock), in_time);
        };
        let lock = guard.unlock();
        let notified = roster.wait(&spot, deadline, || self.object.tend());
        let relocked = G::relock(lock);
        if notified {
            // Only now: had we died before, the notification would have gone to somebody else.
            roster.leave(&spot);
        }
        (relocked, notified)
    }

    /// Waits as long as `condition` says true of what the lock guards. Not at all, if it is false at once.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait); at once, whatever the condition.
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

    /// [`wait_while`](Condvar::wait_while), for `timeout` at most. With the guard comes what the condition said last: false
    /// if that is over what was waited out, true if the time was over first.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// # use {pagemate::{Condvar, Mutex}, std::time::Duration};
    /// let (ready, changed) = (Mutex::new(false)?, Condvar::new()?);
    /// let guard = ready.lock()?;
    /// let (guard, still_waiting) = changed
    ///     .wait_while_timeout(guard, Duration::from_millis(5), |ready| !*ready)
    ///     .map_err(|error| error.map(|(guard, _)| guard))?;
    /// assert!(still_waiting && !*guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait_while`](Condvar::wait_while).
    pub fn wait_while_timeout<G: Relock>(
        &self,
        guard: G,
        timeout: Duration,
        condition: impl FnMut(&mut G::Data) -> bool,
    ) -> Result<(G, bool), LockError<(G, bool)>> {
        self.wait_while_until(guard, Deadline::after(timeout), condition)
    }

    /// [`wait_while_timeout`](Condvar::wait_while_timeout), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`wait_while`](Condvar::wait_while).
    pub fn wait_while_deadline<G: Relock>(
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
            // Who was not notified looks a last time.
            (guard, in_time) =
                self.wait_until(guard, deadline).map_err(|error| error.map(|(g, _)| (g, true)))?;
        }
    }

    /// Wakes the one who has waited longest, if anybody waits.
    pub fn notify_one(&self) {
        self.roster().notify(1);
    }

    /// Wakes the `count` who have waited longest, or all if fewer wait. Those who come while it runs are not woken.
    pub fn notify(&self, count: usize) {
        self.roster().notify(count);
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.roster().notify(usize::MAX);
    }

    /// How many wait and are not notified, of all processes. May change at any moment, unless all who wait and notify do so
    /// with the caller's lock; may count some that have died.
    pub fn waiter_count(&self) -> usize {
        self.roster().count()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").field("waiters", &self.waiter_count()).finish_non_exhaustive()
    }
}

/// The memory side of the condition variable at `base`, if it is long enough for one.
fn roster_at<'a>(base: *const u8, len: usize) -> Option<&'a Roster> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Roster.
    (len >= size_of::<Roster>()).then(|| unsafe { &*base.cast::<Roster>() })
}

/// Takes `dead` from the waiters.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(roster) = roster_at(base, len) {
        roster.recover(dead);
    }
}

/// What `pagemate show` says about a condition variable.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    roster_at(base, len).map_or_else(Vec::new, |roster| vec![("waiters", roster.count().to_string())])
}
