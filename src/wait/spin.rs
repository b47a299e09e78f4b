//! Spinning before a sleep: for how long, and when not at all.
//!
//! A spin saves a sleep and a wake-up if the other side runs on another core and answers within
//! microseconds. In every other case it only costs time, and on a shared core it takes that time
//! from the thread that it waits for. No thread can know beforehand which case applies, so each
//! thread learns from its own waits:
//!
//! | what happened | the next spins |
//! |---|---|
//! | a spin succeeded | up to four times as long, 50 us at most |
//! | a spin failed | half as long; below 1.5 us none at all |
//! | the clock jumped during a spin: the thread was preempted, so the machine is busy | none |
//! | a spin failed, and the thread may run on one processor only | none |
//! | 256 waits in a row had no spin, and the thread may run on several processors | one of 100 us |
//! | that one succeeded | one of 50 us, on trial: if it fails, none |
//! | a wait without a spin had its answer before it could fall asleep | one of 12 us |
//!
//! So where spinning does not help it costs 0.4 us per wait. Where it begins to help again, one
//! side discovers that within 256 messages, because its long spin outlasts the wake-up of the other
//! side. That side is then answered within a microsecond, and spins too. The spin on trial lasts as
//! long as the wake-up of a side that has not found out yet, because a shorter one would fail
//! whenever a cache line takes long between the cores, and would be tried in vain again and again.
//!
//! A spin never yields, because on a busy core `sched_yield` hands the rest of the time slice,
//! milliseconds, to a neighbour that computes, although the answer may have arrived already.
//!
//! A spin is bounded in time, not in tries, because an attempt may take long. It ends at the
//! caller's deadline too.

use std::cell::Cell;

use crate::loom::spin_loop;
use crate::sys::clock::{now, processors, Deadline};

/// Longest spin. Waking a sleeper takes 27 us and more on an idle core, so a longer spin cannot
/// pay.
const LONGEST: u64 = 50_000;
/// Shortest spin that still catches the answer of a peer that is running.
const SHORTEST: u64 = 1_500;
/// Waits without a spin before the next probe.
const PROBE_EVERY: u32 = 256;
/// Length of a probe: the other side has to wake up first, and may be slow to do so.
const PROBE: u64 = 2 * LONGEST;
/// A longer time between two reads of the clock means that the thread did not run.
const JUMP: u64 = 500_000;

/// Pauses and attempts before the first read of the clock, because an answer under way arrives
/// sooner.
const FIRST_STEP: u32 = 4;
/// Most pauses and attempts between two reads of the clock.
const STEP_MAX: u32 = 32;
/// If a step takes longer than this, the attempts are slow ones and the next step is a single
/// attempt.
const STEP_NANOS: u64 = 8_000;

/// Longest gap between two tries for a word that several threads want and that its holder releases
/// soon. Each load takes the cache line from the holder, so frequent loads delay the release.
const GAP_MAX: u32 = 64;

/// How to try before a sleep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The cost of an attempt, in loads of a word; 0: too expensive to spin.
    loads: u32,
    /// The pauses between two tries double up to this.
    gap_max: u32,
}

impl Pace {
    /// Tries at a constant pace, because another thread is about to make the condition true for
    /// this one.
    pub(crate) const EAGER: Pace = Pace::of(1);
    /// Tries less and less often.
    pub(crate) const CONTENDED: Pace = Pace { loads: 1, gap_max: GAP_MAX };

    /// Tries at a constant pace, with attempts that cost `loads` loads of a word.
    pub(crate) const fn of(loads: u32) -> Pace {
        Pace { loads, gap_max: 1 }
    }
}

/// The experience of a thread from its waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Habit {
    /// The length of the next spin; 0: none.
    nanos: u64,
    /// Waits since the last spin.
    unspun: u32,
    /// Whether only a probe has succeeded so far, which may have been luck.
    is_on_trial: bool,
}

impl Habit {
    const FRESH: Habit = Habit { nanos: LONGEST, unspun: 0, is_on_trial: false };

    /// Returns how long to spin in this wait. `alone`: this thread may run on one processor only.
    fn next(&mut self, alone: impl FnOnce() -> bool) -> u64 {
        if self.nanos > 0 {
            return self.nanos;
        }
        self.unspun += 1;
        if self.unspun < PROBE_EVERY {
            return 0;
        }
        self.unspun = 0;
        if alone() {
            0
        } else {
            PROBE
        }
    }

    fn succeeded(&mut self) {
        self.is_on_trial = self.nanos == 0;
        self.nanos = if self.is_on_trial { LONGEST } else { (4 * self.nanos).clamp(LONGEST / 4, LONGEST) };
    }

    /// Notes that a wait without a spin had its answer before it could fall asleep.
    fn answered_at_once(&mut self) {
        if self.nanos == 0 {
            self.nanos = LONGEST / 4;
        }
    }

    fn failed(&mut self, alone: bool, jumped: bool) {
        let half = self.nanos / 2;
        self.nanos = if alone || jumped || self.is_on_trial || half < SHORTEST { 0 } else { half };
        self.is_on_trial = false;
        self.unspun = 0;
    }
}

thread_local! {
    static HABIT: Cell<Habit> = const { Cell::new(Habit::FRESH) };
}

/// Records that a wait had its answer `nanos` after it would have fallen asleep. If that is less
/// than any sleep takes, the other side is awake and fast, and the next wait spins.
pub(crate) fn answered_after(nanos: u64) {
    if nanos < SHORTEST && !cfg!(loom) {
        let mut habit = HABIT.get();
        habit.answered_at_once();
        HABIT.set(habit);
    }
}

/// Tries for a short while without sleeping. loom explores the sleeping path instead.
pub(crate) fn spin<T>(pace: Pace, deadline: Deadline, attempt: &mut impl FnMut() -> Option<T>) -> Option<T> {
    if cfg!(loom) || pace.loads == 0 {
        return None;
    }
    let mut habit = HABIT.get();
    let (outcome, jumped) = match habit.next(|| processors() == 1) {
        0 => {
            HABIT.set(habit);
            return None;
        }
        nanos => spin_for(nanos, pace, deadline, attempt),
    };
    match outcome {
        Some(_) => habit.succeeded(),
        None => habit.failed(processors() == 1, jumped),
    }
    HABIT.set(habit);
    outcome
}

/// Tries until `nanos` have passed, or the deadline. The second value is true if the thread was
/// preempted meanwhile.
fn spin_for<T>(
    nanos: u64,
    pace: Pace,
    deadline: Deadline,
    attempt: &mut impl FnMut() -> Option<T>,
) -> (Option<T>, bool) {
    let (mut began, mut last) = (None, 0);
    let (mut gap, mut step, mut done) = (1, FIRST_STEP, 0);
    loop {
        (0..gap).for_each(|_| spin_loop());
        if let Some(value) = attempt() {
            return (Some(value), false);
        }
        // The pause counts for the first load.
        done += gap + pace.loads - 1;
        gap = (2 * gap).min(pace.gap_max);
        if done < step {
            continue;
        }
        done = 0;
        let now = now();
        // The first step is not timed. After it a single attempt is, to learn how long one takes.
        let is_first = began.is_none();
        let (took, step_took) = (now - *began.get_or_insert(now), now - last);
        let jumped = !is_first && step_took > JUMP;
        if took >= nanos || jumped || deadline.is_over(now) {
            return (None, jumped);
        }
        step = if is_first || step_took > STEP_NANOS { 1 } else { (2 * step).min(STEP_MAX) };
        last = now;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn spins(habit: &mut Habit, alone: bool, waits: u32) -> u64 {
        (0..waits).map(|_| habit.next(|| alone)).sum()
    }

    #[test]
    fn what_does_not_help_is_left_alone() {
        let mut habit = Habit::FRESH;
        let mut spent = 0;
        for _ in 0..10 * PROBE_EVERY {
            let nanos = habit.next(|| false);
            spent += nanos;
            if nanos > 0 {
                habit.failed(false, false);
            }
        }
        assert!(spent / u64::from(10 * PROBE_EVERY) < 450, "{spent}");
        assert_eq!(spins(&mut habit, true, 1000), 0, "on one processor not even now and then");
    }

    #[test]
    fn one_processor_or_a_preemption_end_it_at_once() {
        for (alone, jumped) in [(true, false), (false, true)] {
            let mut habit = Habit::FRESH;
            habit.failed(alone, jumped);
            assert_eq!(spins(&mut habit, false, PROBE_EVERY - 1), 0);
        }
    }

    #[test]
    fn what_helps_again_is_noticed() {
        let mut habit = Habit { nanos: 0, ..Habit::FRESH };
        assert_eq!(spins(&mut habit, false, PROBE_EVERY), PROBE);
        habit.succeeded();
        assert_eq!(habit.nanos, LONGEST, "as long as a wake-up");
        habit.succeeded();
        habit.failed(false, false);
        assert_eq!(habit.nanos, LONGEST / 2, "a second success ends the trial");
    }

    #[test]
    fn a_lucky_probe_costs_one_more_spin() {
        let mut habit = Habit { nanos: 0, ..Habit::FRESH };
        spins(&mut habit, false, PROBE_EVERY);
        habit.succeeded();
        habit.failed(false, false);
        assert_eq!(spins(&mut habit, false, PROBE_EVERY - 1), 0);
    }

    #[test]
    fn an_answer_before_the_sleep_is_noticed_by_the_other_side() {
        let mut habit = Habit { nanos: 0, unspun: 3, is_on_trial: false };
        habit.answered_at_once();
        assert_eq!(spins(&mut habit, false, 1), LONGEST / 4);
        habit.failed(false, true);
        assert_eq!(spins(&mut habit, false, 1), 0);
    }

    #[test]
    fn slow_attempts_do_not_make_a_spin_longer() {
        let began = Instant::now();
        let mut tries = 0;
        let (outcome, _) = spin_for(LONGEST, Pace::EAGER, Deadline::Never, &mut || {
            tries += 1;
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1) {}
            None::<()>
        });
        assert!(outcome.is_none() && tries <= FIRST_STEP + 2, "{tries} tries in {:?}", began.elapsed());
    }

    #[test]
    fn a_spin_ends_at_its_deadline() {
        let mut tries = 0;
        let deadline = Deadline::At(now());
        let (outcome, _) = spin_for(u64::MAX, Pace::EAGER, deadline, &mut || {
            tries += 1;
            None::<()>
        });
        assert!(outcome.is_none() && tries <= FIRST_STEP, "{tries}");
    }
}
