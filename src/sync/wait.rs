//! Waiting: the one shape that every blocking call of the crate goes through, and the word that it sleeps on.
//!
//! Try; spin a little; announce the waiter; try again; sleep, in slices; after each slice look again and tend to the
//! dead. Nobody keeps a list of waiters, so a waiter may die at any moment and nobody has to notice.
//!
//! # State of [`Waiters`]
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | somebody may be asleep, or about to be |
//! | 1..32 | how many notifications there were while bit 0 was set, wrapping |
//!
//! Zero is the fresh state: nobody waits.
//!
//! # Memory ordering
//!
//! A waiter sets bit 0 (`announce`) and then looks at the state it waits for. A notifier changes that state and then
//! looks at bit 0. One of them must see the other: both sides use `SeqCst` accesses, or, where the notifier's change is a
//! plain Release store, [`light_fence`] there and `heavy` here (see [`Waiters::announce_heavy`]).
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | waiter dies announced or asleep | the next notification, whose wake reaches nobody | it clears bit 0 | nothing |
//! | waiter dies woken, before it acted | another sleeper at the end of its slice | its own attempt | up to 50 ms |
//! | notifier dies between its change and its wake | a sleeper at the end of its slice | its own attempt | up to 50 ms |
//! | notifier dies between wake and clearing bit 0 | the next notifier makes the same, needless call | itself | nothing |

use std::cell::Cell;

use crate::fault::{is_planted, Fault};
use crate::loom::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use crate::loom::{light_fence, sc_fence, spin_loop};
use crate::sys::barrier;
use crate::sys::clock::{self, now, Deadline};
use crate::sys::futex::Futex;

/// Somebody may be asleep.
const WAITING: u32 = 1;
/// One more notification.
const STEP: u32 = 2;

/// Longest sleep before a waiter looks for itself: half of the 100 ms in which a death must be noticed.
const SLICE_NANOS: u64 = 50_000_000;

/// Bounds of the spin before a sleep, in tries of some 25 ns. The upper one is what waking a sleeper takes on an idle core
/// (27 us and more): spinning longer than that cannot pay.
const SPIN_MIN: u32 = 64;
const SPIN_MAX: u32 = 2048;
/// Every so many waits the spin is a long one, whatever the last ones were like: two sides that both fell asleep answer each
/// other so late that a short spin would never see it again.
const SPIN_LONG_EVERY: u32 = 16;
/// Every so many tries the core is offered to others: the one that is waited for may need it.
const SPIN_YIELD_EVERY: u32 = 256;
/// The longest pause between two tries for what several want and one hands back soon: each look at it takes its line from
/// who has it, so the more often they look, the longer it takes.
const GAP_MAX: u32 = 64;

/// Where sleepers on one condition sleep, and how those who make it true know that somebody does.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Waiters {
    futex: Futex,
}

impl Waiters {
    /// Nobody waits.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Waiters {
        Waiters { futex: Futex::new(0) }
    }

    /// Whether somebody may be asleep. May be true long after the last sleeper has gone, never false while one sleeps.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// Wakes one sleeper if there is any. Call it after a `SeqCst` read-modify-write that made the condition true.
    #[inline]
    pub(crate) fn notify_one(&self) {
        sc_fence();
        // Pairs with announce(): we see the waiter, or it sees what was done before this call.
        if self.futex.word.load(SeqCst) & WAITING != 0 {
            self.wake_one();
        }
    }

    /// Like [`notify_one`](Waiters::notify_one), after a plain Release store; its waiters must announce with
    /// [`announce_heavy`](Waiters::announce_heavy).
    #[inline]
    pub(crate) fn notify_one_light(&self) {
        light_fence();
        if self.futex.word.load(Relaxed) & WAITING != 0 {
            self.wake_one();
        }
    }

    /// Wakes all sleepers. Call it after a `SeqCst` read-modify-write that made the condition true.
    pub(crate) fn notify_all(&self) {
        sc_fence();
        let seen = self.futex.word.load(SeqCst);
        if seen & WAITING != 0 {
            // Whoever announces after this finds the condition true; all others are woken, so the bit goes.
            let _ = self
                .futex
                .word
                .fetch_update(AcqRel, Relaxed, |word| Some(word.wrapping_add(STEP) & !WAITING));
            self.futex.wake(u32::MAX);
        }
    }

    #[cold]
    fn wake_one(&self) {
        if is_planted(Fault::ClearBeforeWake) {
            self.futex.word.fetch_and(!WAITING, AcqRel);
            self.futex.wake(1);
            return;
        }
        let seen = self.futex.word.fetch_add(STEP, AcqRel).wrapping_add(STEP);
        if self.futex.wake(1) > 0 {
            return;
        }
        // Nobody was asleep: the bit is stale, or its setter has yet to sleep. Clearing it changes the word, so the
        // latter looks again; one that fell asleep since the wake above is woken here.
        let quiet = seen.wrapping_add(STEP) & !WAITING;
        if self.futex.word.compare_exchange(seen, quiet, AcqRel, Relaxed).is_ok() {
            self.futex.wake(u32::MAX);
        }
    }

    /// Says that somebody is about to sleep; gives the value to sleep on. Look at the condition again afterwards.
    pub(crate) fn announce(&self) -> u32 {
        let seen = self.futex.word.fetch_or(WAITING, SeqCst) | WAITING;
        sc_fence();
        seen
    }

    /// [`announce`](Waiters::announce) for conditions that are made true by a plain store.
    pub(crate) fn announce_heavy(&self) -> u32 {
        let seen = self.futex.word.fetch_or(WAITING, SeqCst) | WAITING;
        barrier::heavy();
        seen
    }

    /// What sleepers sleep on, with the value that [`announce`](Waiters::announce) gave.
    pub(crate) fn futex(&self) -> &Futex {
        &self.futex
    }

    /// Blocks until `attempt` gives something or the deadline passes (`None`). `tend` runs when a slice or the time is over.
    pub(crate) fn wait<T>(
        &self,
        deadline: Deadline,
        tend: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        wait(&self.futex, deadline, tend, attempt, || self.announce())
    }

    /// [`wait`](Waiters::wait) for conditions that are made true by a plain store.
    pub(crate) fn wait_heavy<T>(
        &self,
        deadline: Deadline,
        tend: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        wait(&self.futex, deadline, tend, attempt, || self.announce_heavy())
    }
}

/// The shape on one word: `announce` marks a waiter and gives the value of `futex` that is safe to sleep on; `attempt` takes
/// what is waited for; `tend` (reaping the dead) runs when a slice or the time is over. `None` means that the deadline has passed.
pub(crate) fn wait<T>(
    futex: &Futex,
    deadline: Deadline,
    tend: impl FnMut(),
    attempt: impl FnMut() -> Option<T>,
    announce: impl FnMut() -> u32,
) -> Option<T> {
    wait_by(deadline, Pace::EAGER, tend, attempt, announce, |seen, slice| futex.wait(seen, slice))
}

/// [`wait`] for what several want at once, and one after the other gets.
pub(crate) fn wait_in_contention<T>(
    futex: &Futex,
    deadline: Deadline,
    tend: impl FnMut(),
    attempt: impl FnMut() -> Option<T>,
    announce: impl FnMut() -> u32,
) -> Option<T> {
    wait_by(deadline, Pace::CONTENDED, tend, attempt, announce, |seen, slice| futex.wait(seen, slice))
}

/// How to try before a sleep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// An attempt takes as long as so many looks at a word; 0: too long to spin.
    looks: u32,
    /// The pauses between two tries double up to this.
    gap_max: u32,
}

impl Pace {
    /// Again and again: somebody else is about to make it true, for us.
    const EAGER: Pace = Pace::of(1);
    /// The longer it takes, the less often: each look takes the line from who has it.
    const CONTENDED: Pace = Pace { looks: 1, gap_max: GAP_MAX };

    /// Again and again, with attempts that take as long as so many looks at a word.
    pub(crate) const fn of(looks: u32) -> Pace {
        Pace { looks, gap_max: 1 }
    }
}

/// The shape itself, for whoever sleeps in a way of its own: `sleep` gets what `announce` gave and how long to sleep at
/// most; false means that this time is over.
pub(crate) fn wait_by<T, S>(
    deadline: Deadline,
    pace: Pace,
    mut tend: impl FnMut(),
    mut attempt: impl FnMut() -> Option<T>,
    mut announce: impl FnMut() -> S,
    mut sleep: impl FnMut(S, Deadline) -> bool,
) -> Option<T> {
    if let Some(value) = attempt() {
        return Some(value);
    }
    if deadline.has_passed() {
        return None;
    }
    if let Some(value) = spin(pace, &mut attempt) {
        return Some(value);
    }
    loop {
        let seen = announce();
        if let Some(value) = attempt() {
            return Some(value);
        }
        let slice = deadline.min(Deadline::At(now() + SLICE_NANOS));
        let woken = sleep(seen, slice);
        if !woken {
            // Also at the end of a short deadline: who waits often and briefly must notice deaths too.
            tend();
        }
        if let Some(value) = attempt() {
            return Some(value);
        }
        if !woken && deadline.has_passed() {
            return None;
        }
    }
}

/// Tries for a short while without sleeping: long where that paid lately, briefly where it did not.
fn spin<T>(pace: Pace, attempt: &mut impl FnMut() -> Option<T>) -> Option<T> {
    thread_local! {
        /// Tries before a sleep, and how many spins in a row came to nothing.
        static HABIT: Cell<(u32, u32)> = const { Cell::new((SPIN_MAX, 0)) };
    }
    if pace.looks == 0 || !worth_spinning() {
        return None;
    }
    let (budget, failures) = HABIT.get();
    let tries = if failures % SPIN_LONG_EVERY == SPIN_LONG_EVERY - 1 { SPIN_MAX } else { budget };
    let (mut pauses, mut looks, mut gap) = (0, 0, 1);
    while pauses + looks < tries {
        for _ in 0..gap {
            pauses += 1;
            if pauses % SPIN_YIELD_EVERY == 0 {
                std::thread::yield_now();
            } else {
                spin_loop();
            }
        }
        if let Some(value) = attempt() {
            HABIT.set((SPIN_MAX, 0));
            return Some(value);
        }
        // The pause counts for the first look.
        looks += pace.looks - 1;
        gap = (2 * gap).min(pace.gap_max);
    }
    HABIT.set(((budget / 2).max(SPIN_MIN), failures.wrapping_add(1)));
    None
}

/// Spinning makes sense only if the other side can run meanwhile. Counts the machine's processors, not those that this
/// thread is bound to: the other side is likely bound to another. loom explores the sleeping path instead.
fn worth_spinning() -> bool {
    use std::sync::atomic::AtomicU8;
    // 0: nobody has looked yet. No OnceLock: a child that was forked while another thread is inside of one would wait
    // for that thread for ever.
    static MANY: AtomicU8 = AtomicU8::new(0);
    if cfg!(loom) {
        return false;
    }
    if MANY.load(Relaxed) == 0 {
        let many = if clock::processors() > 1 { 2 } else { 1 };
        MANY.store(many, Relaxed);
    }
    MANY.load(Relaxed) == 2
}
