//! Waiting: the one shape that every blocking call of the crate goes through, and the word that it
//! sleeps on.
//!
//! Try; spin a little ([`crate::wait::spin`]); announce the waiter; try again; sleep, in slices;
//! after each slice try again and reap the dead. There is no list of waiters, so a waiter may die
//! at any moment and no other process has to notice.
//!
//! # State of [`Waiters`]
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | a waiter may be asleep, or about to be |
//! | 1 | bit 0 has been set ever since the last heavy barrier |
//! | 2..32 | number of notifications while bit 0 was set, wrapping |
//!
//! Zero is the fresh state: nobody waits.
//!
//! # Memory ordering
//!
//! A waiter sets bit 0 (`announce`), passes a `SeqCst` fence and then loads the state that it waits
//! for, with any ordering. A notifier changes that state and then loads bit 0 with `SeqCst`. One of
//! them must see the other. For that the change is a `SeqCst` read-modify-write, or a fence follows
//! it: [`Ordered`] is the proof, and a notification requires it. Where the change is a plain
//! Release store on a hot path, the notifier uses [`light_fence`] and the waiter `heavy` (see
//! [`Waiters::announce_heavy`]).
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | waiter dies announced or asleep | a notifier that wakes nobody | it clears bit 0 | nothing |
//! | waiter dies woken, before it acted | a sleeper, after its slice | its attempt | up to 50 ms |
//! | notifier dies before its wake | a sleeper, after its slice | its attempt | up to 50 ms |
//! | notifier dies after its wake, bit 0 still set | next notifier | a needless wake | nothing |

pub(crate) mod spin;
use crate::failpoint::{is_planted, Fault};
use crate::loom::atomic::fence;
use crate::loom::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use crate::loom::{light_fence, Ordered};
use crate::sys::clock::{now, Deadline, Until};
use crate::sys::futex::Futex;
use crate::sys::membarrier;
pub(crate) use crate::wait::spin::Pace;
use crate::wait::spin::{answered_after, spin};

/// A waiter may be asleep.
const WAITING: u32 = 1;
/// A heavy barrier has run since `WAITING` was set, so `WAITING` is visible after all later changes
/// by plain stores.
const FENCED: u32 = 2;
/// One more notification.
const STEP: u32 = 4;

/// Longest sleep before a waiter checks for itself: half of the 100 ms in which a death must be
/// noticed.
const SLICE_NANOS: u64 = 50_000_000;

/// The word on which waiters for one condition sleep, and from which notifiers learn that there are
/// any.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Waiters {
    futex: Futex,
}

impl Waiters {
    /// Creates the fresh state: nobody waits.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Waiters {
        Waiters { futex: Futex::new(0) }
    }

    /// Returns whether a waiter may be asleep. May be true long after the last sleeper has gone,
    /// never false while one sleeps.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// Returns whether a waiter may be asleep, after a change that it may sleep for.
    #[inline]
    pub(crate) fn is_waited_on_after(&self, _change: Ordered) -> bool {
        self.futex.word.load(SeqCst) & WAITING != 0 // pairs with announce()
    }

    /// Wakes one sleeper if there is any, after the change that made the condition true.
    #[inline]
    pub(crate) fn notify_one(&self, change: Ordered) {
        // Pairs with announce(): either this load sees the waiter, or the waiter sees what was done
        // before this call.
        if self.is_waited_on_after(change) {
            self.wake_one();
        }
    }

    /// Like [`notify_one`](Waiters::notify_one), after a plain Release store. The waiters must
    /// announce with [`announce_heavy`](Waiters::announce_heavy).
    #[inline]
    pub(crate) fn notify_one_light(&self) {
        light_fence();
        if self.futex.word.load(Relaxed) & WAITING != 0 {
            self.wake_one();
        }
    }

    /// Like [`notify_all`](Waiters::notify_all), after a plain Release store. The waiters must
    /// announce with [`announce_heavy`](Waiters::announce_heavy).
    #[inline]
    pub(crate) fn notify_all_light(&self) {
        light_fence();
        if self.futex.word.load(Relaxed) & WAITING != 0 {
            self.notify_all(Ordered::by_fence());
        }
    }

    /// Wakes all sleepers, after the change that made the condition true.
    pub(crate) fn notify_all(&self, change: Ordered) {
        if self.is_waited_on_after(change) {
            // A waiter that announces after this finds the condition true. All others are woken, so
            // the bit is cleared.
            let _ = self
                .futex
                .word
                .fetch_update(AcqRel, Relaxed, |word| Some(word.wrapping_add(STEP) & !(WAITING | FENCED)));
            self.futex.wake(u32::MAX);
        }
    }

    #[cold]
    fn wake_one(&self) {
        if is_planted(Fault::ClearBeforeWake) {
            self.futex.word.fetch_and(!(WAITING | FENCED), AcqRel);
            self.futex.wake(1);
            return;
        }
        let seen = self.futex.word.fetch_add(STEP, AcqRel).wrapping_add(STEP);
        if self.futex.wake(1) > 0 {
            return;
        }
        // Nobody was asleep, so the bit is stale, or its setter has yet to sleep. Clearing the bit
        // changes the word, so such a setter does not fall asleep but tries again. One that fell
        // asleep since the wake above is woken here.
        let quiet = seen.wrapping_add(STEP) & !(WAITING | FENCED);
        if self.futex.word.compare_exchange(seen, quiet, AcqRel, Relaxed).is_ok() {
            self.futex.wake(u32::MAX);
        }
    }

    /// Announces a waiter that is about to sleep; returns the value to sleep on. The caller must
    /// check the condition again afterwards.
    pub(crate) fn announce(&self) -> u32 {
        let seen = self.futex.word.fetch_or(WAITING, SeqCst) | WAITING;
        // A real fence, because the loads that follow are Acquire or Relaxed, which a SeqCst access
        // does not order.
        fence(SeqCst);
        seen
    }

    /// Like [`announce`](Waiters::announce), for conditions that are made true by a plain store.
    pub(crate) fn announce_heavy(&self) -> u32 {
        let seen = self.announce();
        if Waiters::is_fenced(seen) {
            return seen;
        }
        membarrier::heavy();
        self.fenced(seen)
    }

    /// Returns whether bit 0 has been set ever since the last heavy barrier, and was set before it.
    /// Then another barrier would add nothing. So a ring's consumer that sleeps again and again
    /// interrupts the other cores once, not each time.
    pub(crate) fn is_fenced(seen: u32) -> bool {
        seen & FENCED != 0
    }

    /// Records that a heavy barrier has run since the announcement that returned `seen`; returns
    /// the value to sleep on.
    pub(crate) fn fenced(&self, seen: u32) -> u32 {
        // Fails if bit 0 may have been cleared meanwhile; then the sleep on `seen` ends at once.
        // Pairs with announce().
        match self.futex.word.compare_exchange(seen, seen | FENCED, AcqRel, Relaxed) {
            Ok(_) => seen | FENCED,
            Err(_) => seen,
        }
    }

    /// Returns the futex to sleep on, with the value that [`announce`](Waiters::announce) returned.
    pub(crate) fn futex(&self) -> &Futex {
        &self.futex
    }

    /// Blocks until `attempt` returns a value or the deadline passes (`None`). `reap_dead` runs at
    /// the end of each slice, and at the deadline.
    pub(crate) fn wait<T>(
        &self,
        deadline: Deadline,
        reap_dead: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        wait(&self.futex, deadline, reap_dead, attempt, || self.announce())
    }

    /// Like [`wait`](Waiters::wait), for conditions that are made true by a plain store.
    pub(crate) fn wait_heavy<T>(
        &self,
        deadline: Deadline,
        reap_dead: impl FnMut(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        wait(&self.futex, deadline, reap_dead, attempt, || self.announce_heavy())
    }
}

/// Waits in this shape on one word. `announce` marks a waiter and returns the value of `futex` that
/// is safe to sleep on. `attempt` takes what is waited for. `reap_dead` (reaping the dead) runs at
/// the end of each slice, and at the deadline. `None` means that the deadline has passed.
pub(crate) fn wait<T>(
    futex: &Futex,
    deadline: Deadline,
    reap_dead: impl FnMut(),
    attempt: impl FnMut() -> Option<T>,
    announce: impl FnMut() -> u32,
) -> Option<T> {
    wait_by(deadline, Pace::EAGER, reap_dead, attempt, announce, |seen, end| futex.wait(seen, end))
}

/// Like [`wait`], for a word that several threads want and that one after the other gets.
pub(crate) fn wait_in_contention<T>(
    futex: &Futex,
    deadline: Deadline,
    reap_dead: impl FnMut(),
    attempt: impl FnMut() -> Option<T>,
    announce: impl FnMut() -> u32,
) -> Option<T> {
    wait_by(deadline, Pace::CONTENDED, reap_dead, attempt, announce, |seen, end| futex.wait(seen, end))
}

/// Waits in this shape, for callers with their own way to sleep. `sleep` takes the result of
/// `announce` and the end of the sleep; it returns false if that has passed.
pub(crate) fn wait_by<T, S>(
    deadline: Deadline,
    pace: Pace,
    mut reap_dead: impl FnMut(),
    mut attempt: impl FnMut() -> Option<T>,
    mut announce: impl FnMut() -> S,
    mut sleep: impl FnMut(S, Until) -> bool,
) -> Option<T> {
    if let Some(value) = attempt() {
        return Some(value);
    }
    if deadline == Deadline::At(0) {
        return None; // a `try_*`, which counts its failures itself
    }
    if !deadline.has_passed() {
        if let Some(value) = spin(pace, deadline, &mut attempt) {
            return Some(value);
        }
    }
    let mut last_check = now();
    if deadline.is_over(last_check) {
        // Callers that wait often and briefly must notice deaths too.
        reap_dead();
        return attempt();
    }
    loop {
        let seen = announce();
        if let Some(value) = attempt() {
            answered_after(0);
            return Some(value);
        }
        let asleep = now();
        let woken = sleep(seen, Until::first(deadline, asleep, SLICE_NANOS));
        let now = now();
        let is_over = deadline.is_over(now);
        // Checks the clock too, because a waiter that is woken again and again in vain must notice
        // deaths. Not under loom, where the same run must take the same path each time.
        if !woken || is_over || !cfg!(loom) && now >= last_check + SLICE_NANOS {
            reap_dead();
            last_check = now;
        }
        if let Some(value) = attempt() {
            answered_after(now - asleep);
            return Some(value);
        }
        if is_over {
            return None;
        }
    }
}
