//! Deadlines on the monotonic clock, in the form that the kernel's futex takes; and how many processors there are.

use std::time::{Duration, Instant};

use rustix::time::{clock_gettime, ClockId, Timespec};

/// Until when a call may block: for ever, or up to a moment of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// Nanoseconds on the monotonic clock, which all processes of a machine read alike.
    At(u64),
    /// No deadline. Greater than every moment.
    Never,
}

impl Deadline {
    /// `timeout` from now. What overflows the clock never comes.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        match u64::try_from(timeout.as_nanos()).ok().and_then(|nanos| now().checked_add(nanos)) {
            Some(at) => Deadline::At(at),
            None => Deadline::Never,
        }
    }

    /// The same moment as `instant`.
    pub(crate) fn at(instant: Instant) -> Deadline {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Whether the moment has come.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            // Zero is what those say who only try: no look at the clock.
            Deadline::At(at) => at == 0 || now() >= at,
            Deadline::Never => false,
        }
    }
}

/// Nanoseconds on `CLOCK_MONOTONIC`.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The kernel's form of a moment on the monotonic clock.
pub(crate) fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000) as _, tv_nsec: (nanos % 1_000_000_000) as _ }
}

/// How many processors the machine has running. 1 if it does not say.
pub(crate) fn processors() -> usize {
    // SAFETY: takes no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1).max(1)
}
