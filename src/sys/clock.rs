//! Deadlines on the monotonic clock, in the form that the kernel's futex takes; and the number of
//! processors that a thread may use.

use std::time::{Duration, Instant};

use rustix::time::Timespec;

/// The moment until which a call may block: never, or a moment of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// Nanoseconds on the monotonic clock, which is the same for all processes of a machine.
    At(u64),
    /// No deadline. Greater than every moment.
    Never,
}

impl Deadline {
    /// Returns the moment `timeout` from now. A moment that overflows the clock is `Never`.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        match u64::try_from(timeout.as_nanos()).ok().and_then(|nanos| now().checked_add(nanos)) {
            Some(at) => Deadline::At(at),
            None => Deadline::Never,
        }
    }

    /// Returns the same moment as `instant`.
    pub(crate) fn at(instant: Instant) -> Deadline {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the moment has passed.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            // Zero is the deadline of `try_*` calls: the clock is not read.
            Deadline::At(at) => at == 0 || now() >= at,
            Deadline::Never => false,
        }
    }

    /// Returns whether the moment has passed at time `now`.
    pub(crate) fn is_over(self, now: u64) -> bool {
        match self {
            Deadline::At(at) => now >= at,
            Deadline::Never => false,
        }
    }
}

/// The end of one sleep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// Nanoseconds on the monotonic clock.
    At(u64),
    /// Nanoseconds from the moment at which the thread falls asleep. A thread that is preempted or
    /// traced just before that would come too late for a moment, and would not sleep at all.
    After(u64),
    /// No end.
    Never,
}

impl Until {
    /// Returns the end of a sleep that begins `now`, and ends at `deadline` or after `nanos`.
    pub(crate) fn first(deadline: Deadline, now: u64, nanos: u64) -> Until {
        match deadline {
            // A model has no clock that would pass the deadline in a later slice.
            Deadline::At(at) if at <= now + nanos || cfg!(loom) => Until::At(at),
            _ => Until::After(nanos),
        }
    }

    /// Returns the moment on the monotonic clock, for a sleep that begins now.
    pub(crate) fn moment(self) -> Option<u64> {
        match self {
            Until::At(at) => Some(at),
            Until::After(nanos) => Some(now() + nanos),
            Until::Never => None,
        }
    }

    /// Returns the nanoseconds that are left, for a sleep that begins now.
    pub(crate) fn nanos(self) -> Option<u64> {
        match self {
            Until::At(at) => Some(at.saturating_sub(now())),
            Until::After(nanos) => Some(nanos),
            Until::Never => None,
        }
    }
}

/// Pauses between tries for what another thread is about to release. Each is a sleep, at first of a
/// microsecond and then twice as long as the last, up to a millisecond. A yield would not suffice,
/// because it never lets a thread of lower priority run, and hands a busy neighbour of the same
/// priority a whole time slice.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const LONGEST: Duration = Duration::from_millis(1);

    pub(crate) fn new() -> Backoff {
        Backoff(Duration::from_micros(1))
    }

    pub(crate) fn pause(&mut self) {
        std::thread::sleep(self.0);
        self.0 = (2 * self.0).min(Backoff::LONGEST);
    }
}

/// Returns the nanoseconds on `CLOCK_MONOTONIC`, or the time of the model that runs.
pub(crate) fn now() -> u64 {
    #[cfg(loom)]
    if let Some(now) = crate::loom::execution::now() {
        return now;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The C library's, because rustix's crashes under valgrind, which hides the vDSO.
    // SAFETY: `time` is writable. The clock exists everywhere, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns a moment on the monotonic clock in the kernel's form.
pub(crate) fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000) as _, tv_nsec: (nanos % 1_000_000_000) as _ }
}

/// Returns the number of processors that this thread may run on: its affinity mask, which cpusets
/// and `taskset` narrow. Makes a system call. Returns 2 if the kernel does not say, so that the
/// thread is not taken for one with a single processor.
pub(crate) fn processors() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(2, |mask| mask.count() as usize)
}
