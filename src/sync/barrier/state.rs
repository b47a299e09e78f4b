//! A barrier: a state word with the number of the round, and one owner word for each arrival.
//!
//! An arriving party writes its id and the round's number into a free word, and checks whether it
//! was the last. A party that finds all words taken moves the state to the next round. That is one
//! compare-and-swap, which fails if the barrier was broken or reset, or a dead party's place was
//! taken, in between. The next round can begin before all parties have left, so a party that is
//! stopped on its way out delays nobody. For late readers, the state stores the outcome of the last
//! rounds, and a second word stores which round was broken last.
//!
//! [`words`] draws the state word and the words of the arrivals.
//!
//! # Memory ordering
//!
//! An arrival is a `SeqCst` swap of a word. The party that passes the round has read all words with
//! Acquire, and moves the state with Release. The waiters read the state with Acquire, so each
//! party sees what all parties did before. Two Dekker pairs need `SeqCst`: of two parties that
//! arrive at once, at least one sees both words; and of a waiter that announces itself and a party
//! that moves the state, one sees the other.
//!
//! A party that takes a dead one's place changes the state first. After that, no party that has
//! counted the dead one can pass the round. So every party that is in a round when it passes has
//! been counted.
//!
//! # Death
//!
//! - **Dies before its arrival.** Noticed by: nobody. Repair: none: the others wait for the missing
//!   party. Lost: nothing.
//! - **Dies after its arrival.** Noticed by: waiters and completing parties, see below. Repair:
//!   [`recover`](Rendezvous::recover) marks the word gone. Lost: nothing.
//! - **Last one dies before it has checked, or moved the state.** Noticed by: the others, at the
//!   end of their slice. Repair: they move it, see below. Lost: up to 50 ms.
//! - **Dies between moving the state and the wake.** Noticed by: the others, at the end of their
//!   slice. Repair: they retry. Lost: up to 50 ms.
//! - **Dies resetting.** Noticed by: the next to arrive, abort or reset. Repair: it completes the
//!   reset. Lost: nothing.
//! - **Dies running the action.** Noticed by: reapers. Repair: they break the barrier: the action
//!   may be half done. Lost: the round.
//! - **Reaper dies between marking the actor gone and breaking.** Noticed by: reapers; waiters, at
//!   the end of their slice. Repair: they break it. Lost: up to 50 ms.
//! - **Dies woken.** Noticed by: nobody. Repair: its word is of an earlier round, and free. Lost:
//!   nothing.
//!
//! A death after the arrival is noticed by a waiter at the end of its slice. A party that completes
//! a round checks too, if nobody has for 40 ms. The others move the state for the last one only
//! while its death has not been noticed; afterwards its arrival does not count.

use std::cell::Cell;

use super::words::{
    self, acting, actor, arrival, arrived, broken, is_broken, is_later, is_open, is_resetting, is_vacated,
    next, outcome, party, resetting, round, turned, EVER, GONE,
};
use super::BarrierError;
use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::loom::{Ordered, OrderedChange};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

/// The fields in front of the arrivals' words, in cache lines of their own because waiters only
/// read the state. Any bytes are a Head.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    pub(super) state: AtomicU64,
    /// The round that was broken last, and bit 32 if there was any.
    last_broken: AtomicU64,
    waiters: Waiters,
    /// The number of parties. Written once, read once by each handle.
    pub(crate) parties: AtomicU32,
}

const _: () = assert!(size_of::<Head>() == 24);

impl Head {
    /// Creates a barrier at which no party has arrived.
    #[cfg(any(test, loom))]
    pub(crate) fn new(parties: u32) -> Head {
        let [state, last_broken] = [(); 2].map(|_| AtomicU64::new(0));
        Head { state, last_broken, waiters: Waiters::new(), parties: AtomicU32::new(parties) }
    }
}

/// The memory side of a barrier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendezvous<'a> {
    pub(crate) head: &'a Head,
    pub(crate) words: &'a [AtomicU64],
}

/// The outcome of an attempt to arrive.
enum Arrival {
    At(ArrivalSlot),
    /// All have arrived, and the round has not yet passed.
    Full,
    Broken,
}

/// An arrival: the round, and which of its words.
#[derive(Debug, Clone, Copy)]
struct ArrivalSlot {
    round: u32,
    index: usize,
}

impl Rendezvous<'_> {
    /// Arrives, and blocks until all parties have arrived, the barrier breaks, or the deadline
    /// passes. Returns the index of the arrival. The search for a free word begins at `hint`. The
    /// party that finds all arrived runs `action`. `reap_dead` checks for the dead: cheaply before
    /// a round passes, and thoroughly (with true) at the end of each slice.
    pub(crate) fn wait(
        &self,
        me: OwnerId,
        hint: usize,
        deadline: Deadline,
        reap_dead: &dyn Fn(bool),
        action: Option<&dyn Fn()>,
    ) -> Result<usize, BarrierError> {
        let arrival = Cell::new(None::<ArrivalSlot>);
        let attempt = || {
            let mine = match arrival.get() {
                Some(mine) => mine,
                None => match self.arrive(me, hint) {
                    Arrival::At(mine) => {
                        arrival.set(Some(mine));
                        if self.when_full(mine.round).is_some() {
                            reap_dead(false);
                            self.finish(mine, action);
                        }
                        mine
                    }
                    Arrival::Full => return None,
                    Arrival::Broken => return Some(Err(BarrierError::Broken)),
                },
            };
            Some(self.outcome(mine.round)?.map(|()| mine.index))
        };
        let at_end_of_slice = || {
            reap_dead(true);
            if let Some(mine) = arrival.get() {
                self.finish(mine, action);
            }
        };
        match self.head.waiters.wait(deadline, at_end_of_slice, attempt) {
            Some(outcome) => outcome,
            None => arrival.get().map_or(Err(BarrierError::TimedOut), |mine| self.give_up(mine)),
        }
    }

    fn outcome(&self, mine: u32) -> Option<Result<(), BarrierError>> {
        let state = self.head.state.load(SeqCst); // pairs with move_on()
        outcome(state, self.head.last_broken.load(Relaxed), mine)
    }

    /// Writes `me` into a free word.
    fn arrive(&self, me: OwnerId, hint: usize) -> Arrival {
        let hint = if hint < self.words.len() { hint } else { 0 };
        let mut state = self.head.state.load(SeqCst); // pairs with move_on()
        'round: loop {
            if is_resetting(state) {
                state = self.begin_after(state);
                continue;
            }
            if is_broken(state) {
                return Arrival::Broken;
            }
            let round = round(state);
            for index in (hint..self.words.len()).chain(0..hint) {
                if !is_open(state) {
                    return Arrival::Full;
                }
                let word = self.words[index].load(SeqCst); // pairs with another's arrival, in a later round
                if arrived(word, round).is_some() {
                    continue;
                }
                if is_later(word as u32, round) {
                    let now = self.head.state.load(SeqCst);
                    if now != state {
                        state = now;
                        continue 'round;
                    }
                    // Damage: the word's round has not begun yet.
                }
                if is_vacated(word, round) {
                    // A party that has counted the dead one must no longer be able to pass the
                    // round.
                    if let Err(now) = self.head.state.compare_exchange(state, turned(state), SeqCst, SeqCst) {
                        state = now;
                        continue 'round;
                    }
                    state = turned(state);
                }
                // Pairs with when_full(): every party that passes sees what was done before this
                // call.
                if self.words[index].compare_exchange(word, arrival(round, me), SeqCst, Relaxed).is_ok() {
                    return Arrival::At(ArrivalSlot { round, index });
                }
            }
            let now = self.head.state.load(SeqCst);
            if words::round(now) == round && !is_broken(now) {
                return Arrival::Full;
            }
            state = now;
        }
    }

    /// Returns the state if all parties have arrived for `round`.
    fn when_full(&self, round: u32) -> Option<u64> {
        // This arrival before the reads of the others: of two that arrive at once, at least one
        // sees both.
        Ordered::by_fence();
        let state = self.head.state.load(SeqCst);
        let is_there = |word: &AtomicU64| arrived(word.load(SeqCst), round).is_some(); // pairs with arrive()
        (words::round(state) == round && is_open(state) && self.words.iter().all(is_there)).then_some(state)
    }

    /// Passes the round if all have arrived, after the action.
    fn finish(&self, mine: ArrivalSlot, action: Option<&dyn Fn()>) {
        let Some(state) = self.when_full(mine.round) else { return };
        let Some(action) = action else {
            self.move_on(state, next(state, true));
            return;
        };
        let acting = acting(state, mine.index);
        if self.head.state.compare_exchange(state, acting, SeqCst, Relaxed).is_err() {
            return; // another party acts, or it is broken, or a dead party's place was taken
        }
        let unwinding = BreakOnUnwind { rendezvous: *self, state: acting };
        action();
        std::mem::forget(unwinding);
        self.move_on(acting, next(acting, true));
    }

    /// Changes the state, unless it has changed since `seen`, and wakes all waiters.
    fn move_on(&self, seen: u64, state: u64) -> bool {
        // Pairs with the loads of the state: a waiter sees what all others did. SeqCst: before the
        // read of the waiters.
        let moved = self.head.state.exchange_ordered(seen, state, Relaxed);
        if let Ok(change) = moved {
            self.head.waiters.notify_all(change);
        }
        moved.is_ok()
    }

    /// Handles the time-out of an arrival: breaks the barrier, unless the round has just passed.
    fn give_up(&self, mine: ArrivalSlot) -> Result<usize, BarrierError> {
        loop {
            let state = self.head.state.load(Acquire); // pairs with move_on()
            if let Some(outcome) = self.outcome(mine.round) {
                return outcome.map(|()| mine.index);
            }
            if self.move_on(state, broken(state)) {
                return Err(BarrierError::TimedOut);
            }
        }
    }

    /// Breaks the barrier.
    pub(crate) fn abort(&self) {
        let mut state = self.head.state.load(Acquire);
        loop {
            if is_resetting(state) {
                state = self.begin_after(state);
                continue;
            }
            if is_broken(state) || self.move_on(state, broken(state)) {
                return;
            }
            state = self.head.state.load(Acquire);
        }
    }

    /// Sends the waiters away, and begins a new round.
    pub(crate) fn reset(&self) {
        let mut state = self.head.state.load(Acquire);
        while !is_resetting(state) {
            if self.move_on(state, resetting(state)) {
                state = resetting(state);
                break;
            }
            state = self.head.state.load(Acquire);
        }
        self.begin_after(state);
    }

    /// Ends a reset, which any participant may do: the next round begins. Returns the new state.
    fn begin_after(&self, state: u64) -> u64 {
        // Before the state moves on, so that a participant that sees the next round sees this. A
        // broken round stays broken, so it does not matter which participant writes it, and when.
        let this = EVER | u64::from(round(state));
        let is_news = |seen: u64| seen & EVER == 0 || is_later(round(state), seen as u32);
        let _ = self.head.last_broken.fetch_update(Relaxed, Relaxed, |seen| is_news(seen).then_some(this));
        // Pairs with the loads of the state. Sleepers were woken when the reset began.
        match self.head.state.compare_exchange(state, next(state, false), SeqCst, SeqCst) {
            Ok(_) => next(state, false),
            Err(now) => now,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        let state = self.head.state.load(Relaxed);
        is_broken(state) && !is_resetting(state)
    }

    /// Returns true if an action runs.
    pub(crate) fn is_acting(&self) -> bool {
        actor(self.head.state.load(Relaxed)).is_some()
    }

    pub(crate) fn is_waited_on(&self) -> bool {
        self.head.waiters.is_waited_on()
    }

    /// Returns the number of parties that wait in this round.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.head.state.load(Acquire);
        if is_broken(state) {
            return 0;
        }
        self.words.iter().filter(|word| arrived(word.load(Relaxed), round(state)).is_some()).count()
    }

    /// Withdraws the arrivals of `dead`, and breaks the barrier if `dead` runs the action.
    /// Idempotent; any number of processes may call it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut has_changed = false;
        for word in self.words {
            let mut seen = word.load(Relaxed);
            while party(seen) == Some(dead) && seen & GONE == 0 {
                match word.compare_exchange(seen, seen | GONE, SeqCst, Relaxed) {
                    Ok(_) => {
                        has_changed = true;
                        break;
                    }
                    Err(now) => seen = now,
                }
            }
        }
        self.end_orphaned_action();
        if has_changed {
            // No round has passed by this, but a caller that found no place now finds one.
            self.head.waiters.notify_all(Ordered::by_fence());
        }
    }

    /// Breaks the barrier if the party that ran the action is gone.
    fn end_orphaned_action(&self) {
        let state = self.head.state.load(SeqCst);
        let Some(index) = actor(state) else { return };
        // In this order: if the state has not changed, a word that is not an arrival now belongs to
        // a dead party, or is damaged.
        let is_orphaned =
            self.words.get(index).is_none_or(|word| arrived(word.load(SeqCst), round(state)).is_none());
        if is_orphaned {
            self.move_on(state, broken(state));
        }
    }

    /// Recovers every party of this round that is not `alive`: the dead, and ids from damaged bytes
    /// that never existed.
    pub(crate) fn recover_dead(&self, mut alive: impl FnMut(OwnerId) -> bool) {
        let round = round(self.head.state.load(Acquire));
        let mut last = None;
        for word in self.words {
            let Some(id) = arrived(word.load(Acquire), round) else { continue };
            // Each call is a system call, and neighbours often belong to one process.
            if last != Some(id) && !alive(id) {
                self.recover(id);
            }
            last = Some(id);
        }
        self.end_orphaned_action();
    }
}

/// Breaks the barrier if the action panics.
struct BreakOnUnwind<'a> {
    rendezvous: Rendezvous<'a>,
    state: u64,
}

impl Drop for BreakOnUnwind<'_> {
    fn drop(&mut self) {
        self.rendezvous.move_on(self.state, broken(self.state));
    }
}

/// The steps after which the models let a participant die.
#[cfg(test)]
impl Rendezvous<'_> {
    pub(crate) fn die_resetting(&self) {
        let state = self.head.state.load(Acquire);
        self.move_on(state, resetting(state));
    }

    pub(crate) fn die_arrived(&self, me: OwnerId) {
        self.arrive(me, 0);
    }

    /// Dies in the action after all have arrived, unless another party passes the round before.
    pub(crate) fn die_acting(&self, me: OwnerId) {
        if let Arrival::At(mine) = self.arrive(me, 0) {
            if let Some(state) = self.when_full(mine.round) {
                let _ = self.head.state.compare_exchange(state, acting(state, mine.index), SeqCst, Relaxed);
            }
        }
    }

    /// Dies after it passed the round, before the wake.
    pub(crate) fn die_passed(&self, me: OwnerId) {
        if let Arrival::At(mine) = self.arrive(me, 0) {
            if let Some(state) = self.when_full(mine.round) {
                let _ = self.head.state.compare_exchange(state, next(state, true), SeqCst, Relaxed);
            }
        }
    }
}
