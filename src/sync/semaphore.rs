//! A semaphore: a count of permits on one futex word.
//!
//! Signalling, not ownership: anybody may release, and the count has no owners. So the permits of a process that is killed
//! between `acquire` and `release` are gone. Not fair: who comes by at the
//! right moment gets a permit before those who sleep.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..31 | permits |
//! | 31 | somebody may be asleep |
//!
//! Zero is a fresh state too: no permits, nobody waits. Who waits sleeps only while the word says exactly "no permits, and
//! somebody may be asleep", so every release finds the bit or keeps the sleeper awake.
//!
//! # Memory ordering
//!
//! `release` is a Release read-modify-write and `try_acquire` an Acquire one: who acquires sees what came before the release
//! that made its permit. Count and waiter bit share the word, so no wake-up is lost.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder of a permit dies | nobody can | nobody | the permit |
//! | waiter dies announced or asleep | the next release, whose wake reaches nobody | it clears the bit | nothing |
//! | waiter dies woken, before it took the permit | another sleeper at the end of its slice | its own attempt | up to 50 ms |
//! | releaser dies between the swap and the wake | a sleeper at the end of its slice | its own attempt | up to 50 ms |
//! | releaser dies between clearing the bit and the wake after it | as above | as above | up to 50 ms |

use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::wait::wait;
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;

/// The largest count.
const MAX_PERMITS: u32 = WAITING - 1;
/// Somebody may be asleep.
const WAITING: u32 = 1 << 31;

fn permits(word: u32) -> u32 {
    word & MAX_PERMITS
}

/// The word with one permit less; `None` if there is none.
#[inline]
fn after_acquire(word: u32) -> Option<u32> {
    (permits(word) > 0).then(|| word - 1)
}

/// The word with `count` permits more; `None` if they are too many.
#[inline]
fn after_release(word: u32, count: u32) -> Option<u32> {
    (count <= MAX_PERMITS - permits(word)).then(|| word + count)
}

/// The memory side.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Counter {
    futex: Futex,
}

impl Counter {
    /// So many permits.
    #[cfg(any(test, loom))]
    pub(crate) fn new(permits: u32) -> Counter {
        Counter { futex: Futex::new(permits) }
    }

    pub(crate) fn permits(&self) -> u32 {
        permits(self.futex.word.load(Relaxed))
    }

    /// Whether somebody may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        while let Some(next) = after_acquire(seen) {
            match word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) => return true, // pairs with release()
                Err(now) => seen = now,
            }
        }
        false
    }

    /// False: no permit until the deadline.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> bool {
        self.try_acquire() || self.acquire_contended(deadline)
    }

    #[cold]
    fn acquire_contended(&self, deadline: Deadline) -> bool {
        let attempt = || self.try_acquire().then_some(());
        wait(&self.futex, deadline, || (), attempt, || self.announce()).is_some()
    }

    /// Says that somebody is about to sleep; gives the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, Relaxed);
        WAITING // and no permits: with any, look again instead of sleeping
    }

    pub(crate) fn futex(&self) -> &Futex {
        &self.futex
    }

    /// Wakes somebody in one's own place: for who slept here, may have been woken for a permit, and does not take it.
    pub(crate) fn pass_on(&self) {
        if self.is_waited_on() {
            self.wake(1);
        }
    }

    /// False: the count would be too large, and nothing has changed.
    #[inline]
    pub(crate) fn release(&self, count: u32) -> bool {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        while let Some(next) = after_release(seen, count) {
            match word.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => {
                    // pairs with try_acquire()
                    if seen & WAITING != 0 {
                        self.wake(count);
                    }
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    #[cold]
    fn wake(&self, count: u32) {
        if self.futex.wake(count) < count {
            // Nobody is left asleep, so the bit is stale. Who fell asleep since the wake above is woken here, and
            // announces itself again.
            self.futex.word.fetch_and(!WAITING, Relaxed);
            self.futex.wake(u32::MAX);
        }
    }
}

#[cfg(not(loom))]
pub(crate) use handle::describe;
#[cfg(not(loom))]
pub use handle::{PermitOverflow, Semaphore};

#[cfg(not(loom))]
mod handle {
    use std::fmt;
    use std::time::{Duration, Instant};

    use super::{Counter, Deadline, Relaxed, MAX_PERMITS};
    use crate::kind::Kind;
    use crate::object::ObjectRef;
    use crate::place::{Origin, Place, Shape};
    use crate::{Error, ErrorKind, Result};

    /// A count of permits that processes take, give and wait for.
    ///
    /// Nobody owns a permit: any process may [`release`](Semaphore::release), also one that never acquired, and the count may
    /// grow beyond what it began with. That is signalling: "so many things are there for you". The price is that a process
    /// killed between [`acquire`](Semaphore::acquire) and `release` takes its permit with it.
    ///
    /// Not fair: who waits longest is not served first. Without somebody asleep there is no system call.
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

    /// A release that would have made more permits than a [`Semaphore`] can count, 2,147,483,647. Nothing has changed.
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

    fn shape() -> Shape {
        Shape { kind: Kind::Semaphore, schema: String::new(), len: size_of::<Counter>() }
    }

    /// Writes the first count.
    fn init(permits: u32) -> Result<impl Fn(*mut u8)> {
        if permits > MAX_PERMITS {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a semaphore of {permits} permits is not possible: 0 to {MAX_PERMITS} are"),
            ));
        }
        Ok(move |base: *mut u8| {
            // SAFETY: the bytes of a shape() are at `base`, aligned to 128, and any bytes are a Counter.
            let counter = unsafe { &*base.cast::<Counter>() };
            counter.futex.word.store(permits, Relaxed); // published with the object
        })
    }

    impl Semaphore {
        /// A semaphore with so many permits that only handles lead to: clone it, or give it to a child process.
        ///
        /// # Errors
        ///
        /// `InvalidInput` (more than 2,147,483,647 permits), `OutOfMemory`, `System` (too many open files).
        pub fn new(permits: u32) -> Result<Semaphore> {
            Semaphore::from_object(Place::anonymous(&shape(), init(permits)?)?)
        }

        /// Creates the semaphore with so many permits. Fails if something is there already.
        ///
        /// # Errors
        ///
        /// `AlreadyExists`, `InvalidInput` (the name, the count), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
        pub fn create(place: impl Into<Place>, permits: u32) -> Result<Semaphore> {
            Semaphore::from_object(place.into().create(&shape(), init(permits)?)?)
        }

        /// Opens an existing semaphore.
        ///
        /// # Errors
        ///
        /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
        pub fn open(place: impl Into<Place>) -> Result<Semaphore> {
            Semaphore::from_object(place.into().open(Kind::Semaphore, "")?)
        }

        /// Opens the semaphore or, if there is none, creates it with so many permits; says which. One that is there already
        /// keeps its own count.
        ///
        /// # Errors
        ///
        /// Those of [`open`](Semaphore::open) and [`create`](Semaphore::create), and `Busy`.
        pub fn open_or_create(place: impl Into<Place>, permits: u32) -> Result<(Semaphore, Origin)> {
            let (object, origin) = place.into().open_or_create(&shape(), init(permits)?)?;
            Ok((Semaphore::from_object(object)?, origin))
        }

        pub(crate) fn from_object(object: ObjectRef) -> Result<Semaphore> {
            if object.len() < size_of::<Counter>() {
                return Err(Error::new(ErrorKind::Corrupted, "the semaphore's record is too short"));
            }
            Ok(Semaphore { object })
        }

        pub(crate) fn object(&self) -> &ObjectRef {
            &self.object
        }

        #[inline]
        pub(crate) fn counter(&self) -> &Counter {
            // SAFETY: the object is aligned to 128 and at least as long as a Counter (checked in from_object), stays mapped
            // as long as `object` lives, and any bytes are a Counter, which is one atomic.
            unsafe { &*self.object.base().cast::<Counter>() }
        }

        /// Takes a permit; blocks until there is one.
        #[inline]
        pub fn acquire(&self) {
            self.counter().acquire(Deadline::Never);
        }

        /// Takes a permit if there is one now. False: there is none.
        #[inline]
        #[must_use]
        pub fn try_acquire(&self) -> bool {
            self.counter().try_acquire()
        }

        /// Takes a permit; blocks for `timeout` at most. False: none came in time.
        #[must_use]
        pub fn acquire_timeout(&self, timeout: Duration) -> bool {
            self.try_acquire() || self.counter().acquire(Deadline::after(timeout))
        }

        /// Takes a permit; blocks until `deadline` at most. False: none came in time.
        #[must_use]
        pub fn acquire_deadline(&self, deadline: Instant) -> bool {
            self.try_acquire() || self.counter().acquire(Deadline::at(deadline))
        }

        /// Gives a permit, whoever took it, if anybody did; wakes one who waits. Never waits for anybody. Async-signal-safe.
        ///
        /// # Errors
        ///
        /// [`PermitOverflow`], and nothing has changed.
        #[inline]
        pub fn release(&self) -> Result<(), PermitOverflow> {
            self.release_many(1)
        }

        /// Gives `count` permits at once, and wakes as many who wait.
        ///
        /// # Errors
        ///
        /// [`PermitOverflow`], and nothing has changed.
        #[inline]
        pub fn release_many(&self, count: u32) -> Result<(), PermitOverflow> {
            if self.counter().release(count) {
                Ok(())
            } else {
                Err(PermitOverflow)
            }
        }

        /// How many permits there are: may be more or fewer the moment after.
        pub fn permits(&self) -> u32 {
            self.counter().permits()
        }
    }

    impl fmt::Debug for Semaphore {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Semaphore").field("permits", &self.permits()).finish_non_exhaustive()
        }
    }

    /// What `pagemate show` says about a semaphore.
    pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
        if len < size_of::<Counter>() {
            return Vec::new();
        }
        // SAFETY: as in Semaphore::counter: mapped, aligned, long enough, and any bytes are a Counter.
        let counter = unsafe { &*base.cast::<Counter>() };
        vec![("permits", counter.permits().to_string()), ("waited on", counter.is_waited_on().to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(after_acquire(0), None);
        assert_eq!(after_acquire(WAITING), None);
        assert_eq!(after_acquire(WAITING | 3), Some(WAITING | 2));
        assert_eq!(after_release(WAITING, MAX_PERMITS), Some(u32::MAX));
        assert_eq!(after_release(u32::MAX, 0), Some(u32::MAX));
        assert_eq!(after_release(1, MAX_PERMITS), None);
        assert_eq!(after_release(0, u32::MAX), None);
    }

    #[test]
    fn counting() {
        let counter = Counter::new(1);
        assert!(counter.try_acquire() && !counter.try_acquire());
        assert!(!counter.acquire(Deadline::At(0)));
        assert!(counter.release(2) && counter.permits() == 2);
        assert!(!counter.release(MAX_PERMITS - 1) && counter.permits() == 2);
        counter.futex.word.fetch_or(WAITING, Relaxed);
        assert!(counter.release(1) && !counter.is_waited_on(), "nobody was asleep");
        assert_eq!(counter.permits(), 3);
    }
}
