//! An event: a flag that processes wait for, on one futex word.
//!
//! Like Python's, and stricter: a wait that has begun returns true once the event was set, even if it was cleared again
//! before the waiter ran. Setting never waits for anybody.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | set |
//! | 1 | somebody may be asleep |
//! | 2..32 | how often it has been set, wrapping |
//!
//! Zero is the fresh state: not set, nobody waits.
//!
//! # Memory ordering
//!
//! `set` is a Release read-modify-write, also when the flag is set already, so that it meets every later `clear`; `is_set`,
//! `wait` and `clear` are Acquire. Flag and waiter bit share the word, so no wake-up is lost.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | waiter dies | nobody needs to | the next `set` clears its bit | nothing |
//! | setter dies between the swap and the wake | sleepers, at the end of their slice | themselves | up to 50 ms |

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::wait::wait;
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;

const SET: u32 = 1;
const WAITING: u32 = 2;
const STEP: u32 = 4;

fn is_set(word: u32) -> bool {
    word & SET != 0
}

/// Whether a wait that began when the word was `start` is over at `word`.
fn was_set_since(start: u32, word: u32) -> bool {
    is_set(word) || word / STEP != start / STEP
}

/// The word after `set`: the flag, one more time, nobody announced.
fn after_set(word: u32) -> u32 {
    (word & !WAITING).wrapping_add(STEP) | SET
}

/// The memory side.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Flag {
    futex: Futex,
}

impl Flag {
    /// Not set.
    #[cfg(any(test, loom, feature = "raw_sync"))]
    pub(crate) fn new() -> Flag {
        Flag { futex: Futex::new(0) }
    }

    /// Async-signal-safe: a swap and, if somebody sleeps, one system call.
    pub(crate) fn set(&self) {
        let word = &self.futex.word;
        let mut seen = word.load(Relaxed);
        loop {
            let next = if is_set(seen) { seen } else { after_set(seen) };
            // Pairs with the Acquire of is_set(), wait() and clear().
            match word.compare_exchange_weak(seen, next, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & WAITING != 0 && !is_set(seen) {
            self.futex.wake(u32::MAX);
        }
    }

    pub(crate) fn clear(&self) {
        self.futex.word.fetch_and(!SET, AcqRel); // pairs with set(): what came before it is seen
    }

    pub(crate) fn is_set(&self) -> bool {
        is_set(self.futex.word.load(Acquire)) // pairs with set()
    }

    /// Whether somebody may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// True if the flag was set at any moment since the call began.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let start = self.now();
        let attempt = || self.was_set_since(start).then_some(());
        wait(&self.futex, deadline, || (), attempt, || self.announce()).is_some()
    }

    /// The word at the beginning of a wait.
    pub(crate) fn now(&self) -> u32 {
        self.futex.word.load(Acquire) // pairs with set()
    }

    /// Whether a wait that began at `start` is over.
    pub(crate) fn was_set_since(&self, start: u32) -> bool {
        was_set_since(start, self.futex.word.load(Acquire)) // pairs with set()
    }

    /// Says that somebody is about to sleep; gives the value to sleep on. A set that came before changed the word's count,
    /// which a look after this sees.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, AcqRel) | WAITING
    }

    pub(crate) fn futex(&self) -> &Futex {
        &self.futex
    }

    /// Waits until the flag is set and clears it: of several who wait, one gets each set.
    #[cfg(feature = "raw_sync")]
    pub(crate) fn take(&self, deadline: Deadline) -> bool {
        let word = &self.futex.word;
        let attempt = || {
            let seen = word.load(Relaxed);
            // Pairs with set(). A failed swap means that somebody else took it or announced itself: look again.
            let taken =
                || word.fetch_update(AcqRel, Relaxed, |now| is_set(now).then_some(now & !SET)).is_ok();
            (is_set(seen) && taken()).then_some(())
        };
        wait(&self.futex, deadline, || (), attempt, || word.fetch_or(WAITING, AcqRel) | WAITING).is_some()
    }
}

#[cfg(not(loom))]
pub(crate) use handle::describe;
#[cfg(not(loom))]
pub use handle::Event;

#[cfg(not(loom))]
mod handle {
    use std::time::{Duration, Instant};

    use super::{Deadline, Flag};
    use crate::kind::Kind;
    use crate::object::ObjectRef;
    use crate::place::{Origin, Place, Shape};
    use crate::Result;

    /// A flag that processes set, clear and wait for.
    ///
    /// Not a counter: setting twice is setting once. Not fair, and nothing to hold: whoever waits wakes, all at once.
    /// `set`, `clear` and `is_set` are single atomic operations (and one system call if somebody sleeps), so a signal
    /// handler may call them.
    ///
    /// # Examples
    ///
    /// ```
    /// use pagemate::Event;
    /// use std::time::Duration;
    ///
    /// # fn main() -> pagemate::Result<()> {
    /// let ready = Event::new()?;
    /// assert!(!ready.wait_timeout(Duration::from_millis(1)));
    /// ready.set();
    /// assert!(ready.wait());
    /// ready.clear();
    /// assert!(!ready.is_set());
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug, Clone)]
    pub struct Event {
        object: ObjectRef,
    }

    fn shape() -> Shape {
        Shape { kind: Kind::Event, schema: String::new(), len: size_of::<Flag>() }
    }

    impl Event {
        /// An event that only handles lead to: clone it, or give it to a child process.
        ///
        /// # Errors
        ///
        /// `OutOfMemory`, `System` (too many open files).
        pub fn new() -> Result<Event> {
            Event::from_object(Place::anonymous(&shape(), |_| ())?)
        }

        /// Creates the event. Fails if something is there already.
        ///
        /// # Errors
        ///
        /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
        pub fn create(place: impl Into<Place>) -> Result<Event> {
            Event::from_object(place.into().create(&shape(), |_| ())?)
        }

        /// Opens an existing event.
        ///
        /// # Errors
        ///
        /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
        pub fn open(place: impl Into<Place>) -> Result<Event> {
            Event::from_object(place.into().open(Kind::Event, "")?)
        }

        /// Opens the event or, if there is none, creates it; says which.
        ///
        /// # Errors
        ///
        /// Those of [`open`](Event::open) and [`create`](Event::create), and `Busy`.
        pub fn open_or_create(place: impl Into<Place>) -> Result<(Event, Origin)> {
            let (object, origin) = place.into().open_or_create(&shape(), |_| ())?;
            Ok((Event::from_object(object)?, origin))
        }

        pub(crate) fn from_object(object: ObjectRef) -> Result<Event> {
            if object.len() < size_of::<Flag>() {
                return Err(crate::Error::new(
                    crate::ErrorKind::Corrupted,
                    "the event's record is too short",
                ));
            }
            Ok(Event { object })
        }

        pub(crate) fn object(&self) -> &ObjectRef {
            &self.object
        }

        #[inline]
        pub(crate) fn flag(&self) -> &Flag {
            // SAFETY: the object is aligned to 128 and at least as long as a Flag (checked in from_object), stays mapped as
            // long as `object` lives, and any bytes are a Flag, which is one atomic.
            unsafe { &*self.object.base().cast::<Flag>() }
        }

        /// Sets the flag and wakes everybody who waits. Never waits for anybody. Async-signal-safe.
        pub fn set(&self) {
            self.flag().set();
        }

        /// Clears the flag. Waits that have begun before the flag was set still return true. Async-signal-safe.
        pub fn clear(&self) {
            self.flag().clear();
        }

        /// Whether the flag is set: may be cleared or set the moment after. Async-signal-safe.
        pub fn is_set(&self) -> bool {
            self.flag().is_set()
        }

        /// Blocks until the flag is set. Always true, like its siblings when they do not time out.
        pub fn wait(&self) -> bool {
            self.flag().wait(Deadline::Never)
        }

        /// Blocks until the flag is set, for `timeout` at most. True if it was set at any moment since the call began.
        pub fn wait_timeout(&self, timeout: Duration) -> bool {
            self.flag().wait(Deadline::after(timeout))
        }

        /// Blocks until the flag is set, until `deadline` at most. True if it was set at any moment since the call began.
        pub fn wait_deadline(&self, deadline: Instant) -> bool {
            self.flag().wait(Deadline::at(deadline))
        }
    }

    /// What `pagemate show` says about an event.
    pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
        if len < size_of::<Flag>() {
            return Vec::new();
        }
        // SAFETY: as in Event::flag: mapped, aligned, long enough, and any bytes are a Flag.
        let flag = unsafe { &*base.cast::<Flag>() };
        vec![("set", flag.is_set().to_string()), ("waited on", flag.is_waited_on().to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert!(is_set(after_set(0)) && !is_set(0));
        assert_eq!(after_set(WAITING) & WAITING, 0);
        assert!(was_set_since(0, after_set(0) & !SET), "set and cleared again");
        assert!(!was_set_since(0, WAITING));
        assert!(was_set_since(!3, after_set(!3) & !SET), "the count wraps");
    }
}
