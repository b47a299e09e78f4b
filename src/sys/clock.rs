//! Deadlines on the monotonic clock, the ends of sleeps, pauses between attempts, and the number of
//! processors that a thread may use.

use std::time::{Duration, Instant};

use rustix::time::Timespec;

/// The longest time for which an interruptible wait does not ask whether it is interrupted.
pub(crate) const INTERRUPT_SLICE: Duration = Duration::from_millis(50);

/// The time until which a call may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// Nanoseconds on the monotonic clock, which is the same for all processes of a machine.
    At(u64),
    /// No deadline. Greater than every other deadline.
    Never,
}

impl Deadline {
    /// Returns the deadline that is `timeout` from now, or `Never` if the clock would overflow.
    pub(crate) fn after(timeout: Duration) -> Deadline {
        match u64::try_from(timeout.as_nanos()).ok().and_then(|nanos| now().checked_add(nanos)) {
            Some(at) => Deadline::At(at),
            None => Deadline::Never,
        }
    }

    /// Returns the deadline at `instant`, or at the present moment if `instant` has passed.
    pub(crate) fn at(instant: Instant) -> Deadline {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the moment has passed.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            // Zero is the deadline of `try_*` calls, for which the clock is not read.
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
    /// traced just before may find that a moment (`At`) has passed already, and would not sleep at
    /// all.
    After(u64),
    /// No end.
    Never,
}

impl Until {
    /// Returns the end of a sleep that begins at `now`: `deadline`, or after `nanos` if that is
    /// earlier.
    pub(crate) fn first(deadline: Deadline, now: u64, nanos: u64) -> Until {
        match deadline {
            // In a model no time passes from slice to slice, so the first sleep ends at the
            // deadline.
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

/// Pauses between attempts to get what another thread or process is about to release. The first
/// pause is a sleep of a microsecond, and each later one is twice as long as the one before, up to
/// a millisecond. A yield would not suffice, because it never lets a thread of lower priority run,
/// and may hand a whole time slice to a busy thread of the same priority.
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

/// Returns the nanoseconds on `CLOCK_MONOTONIC`, or the time of the running model.
pub(crate) fn now() -> u64 {
    #[cfg(loom)]
    if let Some(now) = crate::loom::execution::now() {
        return now;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The C library's function, because that of rustix crashes under valgrind, which hides the
    // vDSO.
    // SAFETY: `time` is writable. The clock exists everywhere, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns a moment on the monotonic clock in the kernel's form.
pub(crate) fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000) as _, tv_nsec: (nanos % 1_000_000_000) as _ }
}

/// Returns the number of processors that this thread may run on, by its affinity mask, which
/// cpusets and `taskset` narrow. Makes a system call. Returns 2 if that fails, so that the caller
/// does not take the machine for one with a single processor.
pub(crate) fn processors() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(2, |mask| mask.count() as usize)
}
