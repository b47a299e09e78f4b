//! Events, semaphores and condition variables: signals arrive, and counts stay within their bounds.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pagemate::sync::{LockError, MutexGuard};
use pagemate::{Condvar, Event, Mutex, Semaphore};

use crate::board::{Fault, WORKERS};
use crate::desk::Desk;
use crate::member::{Member, Recipe};
use crate::PATIENCE;

struct Bell(Event);

impl Member for Bell {
    fn step(&mut self, desk: &mut Desk) {
        let event = &self.0;
        match desk.random.below(8) {
            0..3 => desk.act("set", || event.set()),
            3 | 4 => desk.act("clear", || event.clear()),
            5 | 6 => drop(desk.timed("wait_timeout", |time| event.wait_timeout(time))),
            _ => drop(desk.act("is_set", || event.is_set())),
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        self.0.set();
        if !self.0.wait_timeout(PATIENCE) {
            desk.fault(Fault::Stuck, "set, and cannot be waited for");
        }
        self.0.clear();
        if self.0.wait_timeout(Duration::from_millis(1)) {
            desk.fault(Fault::Broken, "cleared by the only one there is, and set");
        }
    }
}

/// Permits have no owners, so those of the dead are gone. The board has, for each worker, the
/// number that it surely holds, and whether it is just acquiring or releasing one.
struct Permits(Semaphore);

const PERMITS: u32 = 4;
/// Permits that may have been lost with a worker that was acquiring or releasing.
const GONE: usize = 0;
const HELD: usize = 64;
const BETWEEN: usize = HELD + WORKERS;

impl Permits {
    fn held(&self, desk: &Desk) -> u64 {
        desk.words()[HELD..][..WORKERS].iter().map(|held| held.load(SeqCst)).sum()
    }
}

impl Member for Permits {
    fn step(&mut self, desk: &mut Desk) {
        let semaphore = &self.0;
        let (held, between) = (&desk.words()[HELD + desk.slot], &desk.words()[BETWEEN + desk.slot]);
        between.store(1, SeqCst);
        let acquired = match desk.random.below(2) {
            0 => desk.act("try_acquire", || semaphore.try_acquire()),
            _ => desk.timed("acquire_timeout", |time| semaphore.acquire_timeout(time)),
        };
        held.store(u64::from(acquired), SeqCst);
        between.store(0, SeqCst);
        if !acquired {
            return;
        }
        desk.dawdle();
        between.store(1, SeqCst);
        held.store(0, SeqCst);
        if desk.act("release", || semaphore.release()).is_err() {
            desk.fault(Fault::Doubled, "more permits than can be");
        }
        between.store(0, SeqCst);
    }

    fn account_for(&mut self, desk: &mut Desk, slot: usize) {
        // This process releases the permits that the dead worker surely held, as a supervisor would
        // do.
        if desk.words()[HELD + slot].swap(0, SeqCst) != 0 {
            let _ = self.0.release();
        }
        desk.words()[GONE].fetch_add(desk.words()[BETWEEN + slot].swap(0, SeqCst), SeqCst);
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let (left, gone, held) =
            (self.0.available(), desk.words()[GONE].load(SeqCst) as u32, self.held(desk) as u32);
        if left + gone < PERMITS {
            desk.fault(Fault::Lost, format!("{left} of {PERMITS} permits, {gone} deaths around one"));
        }
        if left + held > PERMITS {
            desk.fault(Fault::Doubled, format!("{left} of {PERMITS} permits, and {held} held"));
        }
    }
}

/// Tokens that some workers add and others wait for.
struct Tokens {
    tokens: Mutex<u64>,
    changed: Condvar,
}

impl Tokens {
    fn taken<G>(&self, desk: &Desk, result: Result<G, LockError<G>>) -> Option<(G, bool)> {
        match result {
            Ok(guard) => Some((guard, false)),
            Err(LockError::OwnerDied(guard)) => Some((guard, true)),
            Err(LockError::NotAcquired) => None,
            Err(error) => {
                desk.fault(Fault::Broken, format!("{error}"));
                None
            }
        }
    }
}

impl Member for Tokens {
    fn step(&mut self, desk: &mut Desk) {
        let result = desk.timed("lock_timeout", |time| self.tokens.lock_timeout(time));
        let Some((mut guard, owner_died)) = self.taken(desk, result) else { return };
        if owner_died {
            MutexGuard::mark_consistent(&mut guard);
        }
        if desk.random.one_in(2) {
            *guard += 1;
            drop(guard);
            match desk.random.below(4) {
                0 => _ = desk.act("notify_all", || self.changed.notify_all()),
                _ => _ = desk.act("notify_one", || self.changed.notify_one()),
            }
            return;
        }
        let time = Duration::from_micros(desk.random.below(5_000));
        // Patient, because the wait acquires the lock again without a deadline.
        let result = desk
            .patient("wait_while", || self.changed.wait_timeout_while(guard, time, |tokens| *tokens == 0));
        let Some(((mut guard, still_none), owner_died)) = self.taken(desk, result) else { return };
        if owner_died {
            MutexGuard::mark_consistent(&mut guard);
        } else if still_none != (*guard == 0) {
            desk.fault(Fault::Broken, format!("{} tokens, and still waiting: {still_none}", *guard));
        }
        *guard = guard.saturating_sub(1);
        desk.act("unlock", || drop(guard));
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let result = self.tokens.lock_timeout(PATIENCE);
        let Some((mut guard, _)) = self.taken(desk, result) else {
            return desk.fault(Fault::Stuck, "the lock of the condition cannot be had");
        };
        *guard = 0;
        let waited = self.changed.wait_timeout(guard, Duration::from_millis(1));
        if waited.is_err_and(|error| !error.is_owner_died()) {
            desk.fault(Fault::Stuck, "the lock of the condition does not come back");
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "event",
        join: |site, name| Ok(Box::new(Bell(Event::open_or_create(site.segment.at(name))?.0))),
    },
    Recipe {
        name: "semaphore",
        join: |site, name| {
            Ok(Box::new(Permits(Semaphore::open_or_create(site.segment.at(name), PERMITS)?.0)))
        },
    },
    Recipe {
        name: "condition",
        join: |site, name| {
            let tokens = Mutex::open_or_create(site.segment.at("tokens"), 0)?.0;
            Ok(Box::new(Tokens { tokens, changed: Condvar::open_or_create(site.segment.at(name))?.0 }))
        },
    },
];
