//! The handle: `Event`.

use std::time::{Duration, Instant};

use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::verbs::verbs;
use crate::sync::event::state::Flag;
use crate::sys::clock::Deadline;
use crate::Result;

/// A flag that processes set, clear and wait for.
///
/// It does not count: setting it twice is the same as setting it once. It has no holder and no
/// order: setting it wakes all waiters at once. `set`, `clear` and `is_set` are single atomic
/// operations (and `set` makes one system call if a waiter sleeps), so a signal handler may call
/// them.
///
/// A minimal program: `examples/event.rs`.
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

impl Object for Event {
    const KIND: Kind = Kind::Event;
    const LEN: usize = size_of::<Flag>();
    type Initial = ();

    fn attach(object: ObjectRef) -> Result<Event> {
        Ok(Event { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Event {
    verbs!(Event: "an" "event" ());

    #[inline]
    pub(crate) fn flag(&self) -> &Flag {
        // SAFETY: the object is aligned to 128 and at least as long as a Flag (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a Flag, which
        // is one atomic.
        unsafe { &*self.object.base().cast::<Flag>() }
    }

    /// Sets the flag and wakes all waiters. Never blocks. Async-signal-safe.
    pub fn set(&self) {
        self.flag().set();
    }

    /// Clears the flag. Waits that began before the flag was set still return true.
    /// Async-signal-safe.
    pub fn clear(&self) {
        self.flag().clear();
    }

    /// Returns true if the flag is set. The answer may be out of date immediately.
    /// Async-signal-safe.
    pub fn is_set(&self) -> bool {
        self.flag().is_set()
    }

    /// Blocks until the flag is set. Always returns true, like the timed variants when they do not
    /// time out.
    pub fn wait(&self) -> bool {
        self.flag().wait(Deadline::Never)
    }

    /// Blocks until the flag is set, for at most `timeout`. Returns true if it was set at any
    /// moment since the call began.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.flag().wait(Deadline::after(timeout))
    }

    /// Blocks until the flag is set, until `deadline` at the latest. Returns true if it was set at
    /// any moment since the call began.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.flag().wait(Deadline::at(deadline))
    }
}

/// Returns what `pagemate show` prints about an event.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    if len < size_of::<Flag>() {
        return Vec::new();
    }
    // SAFETY: as in Event::flag: mapped, aligned, long enough, and any bytes are a Flag.
    let flag = unsafe { &*base.cast::<Flag>() };
    vec![("set", flag.is_set().to_string()), ("waited on", flag.is_waited_on().to_string())]
}
