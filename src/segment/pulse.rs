//! When a handle that is only polled must check for deaths.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Interval at which a handle that is only polled checks for deaths. Together with the 40 ms
/// between two checks of a segment, a death is noticed well within 100 ms.
const CHECK_NANOS: u64 = 4_000_000;
/// The most failures between two readings of the clock. A busy poll takes about 10 ns, and a
/// reading 25.
const FAILURES_MAX: u32 = 256;

/// Counts failed attempts of one handle, to find out every few milliseconds that a check for deaths
/// is due. Callers that block make that check at the end of each wait; callers that only poll need
/// the count.
///
/// Each handle has its own count. With a common one, a program that polls several handles in turn
/// could reach the same handle at every check. A handle that is polled seldom reads the clock each
/// time, one that is polled often every 256 times.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Failures until the next reading of the clock, which happens at 0.
    left: AtomicU32,
    /// Failures between the last two readings.
    period: AtomicU32,
    /// Time of the last reading.
    last_reading: AtomicU64,
}

impl Pulse {
    pub(super) const fn new() -> Pulse {
        Pulse { left: AtomicU32::new(0), period: AtomicU32::new(1), last_reading: AtomicU64::new(0) }
    }

    /// Counts a failure. Returns true if a reading is due. Threads that share a handle may lose
    /// counts, which delays a reading by no more than they lose.
    #[inline]
    pub(super) fn beat(&self) -> bool {
        match self.left.load(Relaxed) {
            0 => true,
            left => {
                self.left.store(left - 1, Relaxed);
                false
            }
        }
    }

    /// Takes `now` as a reading of the clock, and decides when the next one is due.
    pub(super) fn note_reading(&self, now: u64) {
        let took = now.saturating_sub(self.last_reading.swap(now, Relaxed)).max(1);
        let period = self.period.load(Relaxed).clamp(1, FAILURES_MAX);
        // Failures that fit into the interval. The number falls at once, and it at most doubles.
        let fitting = u64::from(period) * CHECK_NANOS / took;
        let next = fitting.clamp(1, u64::from((2 * period).min(FAILURES_MAX))) as u32;
        self.period.store(next, Relaxed);
        self.left.store(next - 1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the longest time between two readings, after the first one, of polls that are `gap`
    /// apart.
    fn longest(gap: u64) -> u64 {
        let (pulse, mut now, mut last, mut longest) = (Pulse::new(), 0, 0, 0);
        for poll in 0..100_000 {
            now += gap;
            if pulse.beat() {
                pulse.note_reading(now);
                longest = longest.max(if poll == 0 { 0 } else { now - last });
                last = now;
            }
        }
        longest
    }

    #[test]
    fn however_often_a_handle_is_polled_it_checks_in_time() {
        for gap in [1, 10, 1_000, 15_000, 20_000, 100_000, 1_000_000, 10_000_000, 1_000_000_000] {
            assert!(longest(gap) <= gap.max(2 * CHECK_NANOS), "polled every {gap} ns: {} ns", longest(gap));
        }
    }

    #[test]
    fn a_busy_poll_hardly_ever_reads_the_clock() {
        let (pulse, mut readings) = (Pulse::new(), 0);
        for round in 0..100_000 {
            if pulse.beat() {
                pulse.note_reading(10 * round);
                readings += 1;
            }
        }
        assert!(readings < 100_000 / 200, "{readings}");
    }
}
