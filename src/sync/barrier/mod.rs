//! A barrier: a state word with the number of the round, and one owner word for each arrival.
//!
//! Who arrives puts its id and the round's number into a free word, and looks whether that was the last one. Whoever finds all
//! words taken moves the state to the next round: one compare-and-swap, which a breaking of the barrier, a reset or a death
//! in between makes fail. Nobody has to leave before the next round begins, so who is stopped on its way out keeps
//! nobody waiting; what became of the last rounds stands in the state, and which one was broken last beside it, for those who are
//! late to look.
//!
//! # State
//!
//! Of the state word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | number of the round, wrapping |
//! | 32..44 | what became of the rounds before, the last one first: 1 for passed, 0 for broken |
//! | 44..56 | acting: the index of the arrival that runs the action |
//! | 56..61 | how often an arrival has taken the place of a dead one in this round, wrapping |
//! | 61 | resetting: broken only until the next round has begun |
//! | 62 | acting: all have arrived, and one of them runs the action |
//! | 63 | broken, until a reset |
//!
//! | acting | broken | meaning | who moves it on |
//! |---|---|---|---|
//! | 0 | 0 | parties arrive | who finds all of them there: to the next round, or to acting; whose time is over, and `abort`: to broken; `reset`: to resetting |
//! | 1 | 0 | the action runs | the same, but for who arrives; a reaper of the actor: to broken |
//! | 0 | 1 | broken | `reset`: to resetting |
//! | 0 | 1, resetting | those who wait are sent away | `reset`, and whoever comes: to the next round, after noting which round was broken |
//!
//! Of an arrival's word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | the round that it was for |
//! | 32..62 | who arrived; 0 for nobody |
//! | 62 | gone: it died since |
//!
//! A word that is of an earlier round, or gone, is free. Zero is the fresh state of all. A word never has the same value twice
//! within a round: the living stay, and the dead do not come again.
//!
//! # Memory ordering
//!
//! An arrival is a `SeqCst` swap of a word; who passes the round has read all words with Acquire and moves the state with
//! Release, which those who wait read with Acquire: everybody sees what everybody did before. Of two who arrive at once
//! at least one sees both words, and of a waiter that announces itself and one who moves the state one sees the other: all
//! `SeqCst`.
//!
//! Who takes a dead one's place changes the state first. So nobody who has counted the dead one can pass the round any more:
//! who is in a round when it is passed has been counted.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | dies before its arrival | nobody | nobody: the others wait for a party that is missing | nothing |
//! | dies after its arrival | a waiter's tend; who completes a round looks too, if nobody has for 40 ms | [`recover`](Rendezvous::recover) marks the word gone: the arrival does not count | nothing |
//! | the last one dies before it has looked, or before it has moved the state | the others, at the end of their slice | they move it, if its death has not been noticed | up to 50 ms |
//! | dies between moving the state and the wake | the others, at the end of their slice | themselves | up to 50 ms |
//! | dies resetting | whoever arrives, aborts or resets next | it goes on with the reset | nothing |
//! | dies running the action | reapers | they break the barrier, for the action may be half done | the round |
//! | reaper dies between marking the actor gone and breaking | another reaper; waiters, at the end of their slice | they break it | up to 50 ms |
//! | dies woken | nobody needs to | its word is of an earlier round, and free | nothing |

mod error;
#[cfg(not(loom))]
mod handle;
mod words;

use std::cell::Cell;

use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::loom::sc_fence;
use crate::owner::OwnerId;
use crate::sync::wait::Waiters;
use crate::sys::clock::Deadline;

pub use error::BarrierError;
#[cfg(not(loom))]
pub use handle::Barrier;
#[cfg(not(loom))]
pub(crate) use handle::{describe, recover};
use words::{
    acting, actor, arrival, arrived, broken, is_broken, is_later, is_open, is_resetting, is_vacated, next,
    outcome, party, resetting, round, turned, EVER, GONE,
};

/// What stands before the arrivals' words, in lines of its own: who waits looks at the state only. Any bytes are a Head.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    state: AtomicU64,
    /// Which round was broken last, and bit 32 if any was.
    last_broken: AtomicU64,
    waiters: Waiters,
    /// How many parties make a round; written once, read once by each handle.
    pub(crate) parties: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Head>() == 24);

impl Head {
    /// Nobody has arrived.
    #[cfg(any(test, loom))]
    pub(crate) fn new(parties: u32) -> Head {
        let [state, last_broken] = [(); 2].map(|_| AtomicU64::new(0));
        Head { state, last_broken, waiters: Waiters::new(), parties: AtomicU32::new(parties) }
    }
}

/// The memory side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendezvous<'a> {
    pub(crate) head: &'a Head,
    pub(crate) words: &'a [AtomicU64],
}

/// What came of trying to arrive.
enum Arrival {
    At(Spot),
    /// All have arrived, and not yet left.
    Full,
    Broken,
}

/// An arrival: the round, and which of its words.
#[derive(Debug, Clone, Copy)]
struct Spot {
    round: u32,
    index: usize,
}

impl Rendezvous<'_> {
    /// Arrives, and waits until all have: gives which arrival it was. Looks for a free word from `hint` on. `action` is run
    /// by who finds all of them there. `tend` looks for the dead: cheaply before a round is passed, and thoroughly, with true,
    /// at the end of each slice.
    pub(crate) fn wait(
        &self,
        me: OwnerId,
        hint: usize,
        deadline: Deadline,
        tend: &dyn Fn(bool),
        action: Option<&dyn Fn()>,
    ) -> Result<usize, BarrierError> {
        let spot = Cell::new(None::<Spot>);
        let attempt = || {
            let mine = match spot.get() {
                Some(mine) => mine,
                None => match self.arrive(me, hint) {
                    Arrival::At(mine) => {
                        spot.set(Some(mine));
                        if self.is_full(mine.round).is_some() {
                            tend(false);
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
            tend(true);
            if let Some(mine) = spot.get() {
                self.finish(mine, action);
            }
        };
        match self.head.waiters.wait(deadline, at_end_of_slice, attempt) {
            Some(outcome) => outcome,
            None => spot.get().map_or(Err(BarrierError::TimedOut), |mine| self.give_up(mine)),
        }
    }

    fn outcome(&self, mine: u32) -> Option<Result<(), BarrierError>> {
        let state = self.head.state.load(SeqCst); // pairs with move_on()
        outcome(state, self.head.last_broken.load(Relaxed), mine)
    }

    /// Puts `me` into a free word.
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
                    // Damage: the round has not come yet.
                }
                if is_vacated(word, round) {
                    // Who has counted the dead one must not pass the round any more.
                    if let Err(now) = self.head.state.compare_exchange(state, turned(state), SeqCst, SeqCst) {
                        state = now;
                        continue 'round;
                    }
                    state = turned(state);
                }
                // Pairs with is_full(): what was done before this call is seen by all who pass.
                if self.words[index].compare_exchange(word, arrival(round, me), SeqCst, Relaxed).is_ok() {
                    return Arrival::At(Spot { round, index });
                }
            }
            let now = self.head.state.load(SeqCst);
            if words::round(now) == round && !is_broken(now) {
                return Arrival::Full;
            }
            state = now;
        }
    }

    /// The state at which all have arrived for `round`, if they have.
    fn is_full(&self, round: u32) -> Option<u64> {
        sc_fence();
        let state = self.head.state.load(SeqCst);
        let is_there = |word: &AtomicU64| arrived(word.load(SeqCst), round).is_some(); // pairs with arrive()
        (words::round(state) == round && is_open(state) && self.words.iter().all(is_there)).then_some(state)
    }

    /// Passes the round if all have arrived, after the action.
    fn finish(&self, mine: Spot, action: Option<&dyn Fn()>) {
        let Some(state) = self.is_full(mine.round) else { return };
        let Some(action) = action else {
            self.move_on(state, next(state, true));
            return;
        };
        let acting = acting(state, mine.index);
        if self.head.state.compare_exchange(state, acting, SeqCst, Relaxed).is_err() {
            return; // somebody else acts, or it is broken, or a dead one's place has been taken
        }
        let unwinding = BreakOnUnwind { rendezvous: *self, state: acting };
        action();
        std::mem::forget(unwinding);
        self.move_on(acting, next(acting, true));
    }

    /// Changes the state, unless it has changed since `seen`, and wakes all.
    fn move_on(&self, seen: u64, state: u64) -> bool {
        // Pairs with the loads of the state: who waits sees what all others did. SeqCst: before the look at the waiters.
        let moved = self.head.state.compare_exchange(seen, state, SeqCst, Relaxed).is_ok();
        if moved {
            self.head.waiters.notify_all();
        }
        moved
    }

    /// The time of an arrival is over: the barrier breaks, unless the round has just been passed.
    fn give_up(&self, mine: Spot) -> Result<usize, BarrierError> {
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

    /// Sends away who waits, and begins a new round.
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

    /// Ends a reset, which anybody may do: the next round begins. Gives the state then.
    fn begin_after(&self, state: u64) -> u64 {
        // Before the state moves on: who sees the next round sees this. A broken round stays one, so it is no matter who
        // says so, and when.
        let this = EVER | u64::from(round(state));
        let is_news = |seen: u64| seen & EVER == 0 || is_later(round(state), seen as u32);
        let _ = self.head.last_broken.fetch_update(Relaxed, Relaxed, |seen| is_news(seen).then_some(this));
        // Pairs with the loads of the state. Who slept has been woken when the reset began.
        match self.head.state.compare_exchange(state, next(state, false), SeqCst, SeqCst) {
            Ok(_) => next(state, false),
            Err(now) => now,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        let state = self.head.state.load(Relaxed);
        is_broken(state) && !is_resetting(state)
    }

    /// Whether an action runs.
    pub(crate) fn is_acting(&self) -> bool {
        actor(self.head.state.load(Relaxed)).is_some()
    }

    pub(crate) fn is_waited_on(&self) -> bool {
        self.head.waiters.is_waited_on()
    }

    /// How many wait in this round.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.head.state.load(Acquire);
        if is_broken(state) {
            return 0;
        }
        self.words.iter().filter(|word| arrived(word.load(Relaxed), round(state)).is_some()).count()
    }

    /// From now on arrivals of `dead` do not count, and no action of it runs. Idempotent; any number of processes may do it
    /// at once.
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
            // Not that anything has come true; but who found no place has one now.
            self.head.waiters.notify_all();
        }
    }

    /// Breaks the barrier if the one that ran the action is gone.
    fn end_orphaned_action(&self) {
        let state = self.head.state.load(SeqCst);
        let Some(index) = actor(state) else { return };
        // In this order: while the state stays, a word that is not an arrival's now is the word of somebody dead, or damage.
        let is_orphaned =
            self.words.get(index).is_none_or(|word| arrived(word.load(SeqCst), round(state)).is_none());
        if is_orphaned {
            self.move_on(state, broken(state));
        }
    }

    /// Does the same for everybody in this round who is not `alive`: the dead, and those who never were, of damaged bytes.
    pub(crate) fn expel(&self, mut alive: impl FnMut(OwnerId) -> bool) {
        let round = round(self.head.state.load(Acquire));
        let mut last = None;
        for word in self.words {
            let Some(id) = arrived(word.load(Acquire), round) else { continue };
            // Each call is a system call, and neighbours are often of one process.
            if last != Some(id) && !alive(id) {
                self.recover(id);
            }
            last = Some(id);
        }
        self.end_orphaned_action();
    }
}

/// A panicking action breaks the barrier.
struct BreakOnUnwind<'a> {
    rendezvous: Rendezvous<'a>,
    state: u64,
}

impl Drop for BreakOnUnwind<'_> {
    fn drop(&mut self) {
        self.rendezvous.move_on(self.state, broken(self.state));
    }
}

/// The steps after which the models let somebody die.
#[cfg(test)]
impl Rendezvous<'_> {
    pub(crate) fn die_resetting(&self) {
        let state = self.head.state.load(Acquire);
        self.move_on(state, resetting(state));
    }

    pub(crate) fn die_arrived(&self, me: OwnerId) {
        self.arrive(me, 0);
    }

    /// All have arrived, and it dies in the action; unless another one passes the round before.
    pub(crate) fn die_acting(&self, me: OwnerId) {
        if let Arrival::At(mine) = self.arrive(me, 0) {
            if let Some(state) = self.is_full(mine.round) {
                let _ = self.head.state.compare_exchange(state, acting(state, mine.index), SeqCst, Relaxed);
            }
        }
    }

    /// It dies before the wake.
    pub(crate) fn die_passed(&self, me: OwnerId) {
        if let Arrival::At(mine) = self.arrive(me, 0) {
            if let Some(state) = self.is_full(mine.round) {
                let _ = self.head.state.compare_exchange(state, next(state, true), SeqCst, Relaxed);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
