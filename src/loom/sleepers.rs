//! The threads that sleep on a word of a model: the kernel's queue of a futex.
//!
//! Its lock adds happens-before edges that the kernel does not promise, so every sleeper reloads
//! its word with its own ordering after waking.

use std::collections::VecDeque;
use std::sync::Arc;

use ::loom::sync::{Condvar, Mutex};

use super::process::has_slice_ended;

/// The sleepers of one word.
#[derive(Debug)]
pub(crate) struct Sleepers {
    asleep: Mutex<Asleep>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Asleep {
    /// The number of threads that sleep on this word alone.
    single: u32,
    /// The threads that sleep on other words too. They are woken first, so that a model shows
    /// whether they pass the wake-up on.
    sets: VecDeque<Arc<SetSleeper>>,
}

/// A thread that sleeps on several words. It stays in the other queues until it runs, and swallows
/// the wake-ups that arrive there.
#[derive(Debug)]
pub(crate) struct SetSleeper {
    woken: Mutex<bool>,
    bell: Condvar,
}

impl SetSleeper {
    pub(crate) fn new() -> Arc<SetSleeper> {
        Arc::new(SetSleeper { woken: Mutex::new(false), bell: Condvar::new() })
    }

    /// Sleeps until it is woken.
    pub(crate) fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.bell.wait(woken).unwrap();
        }
    }

    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.bell.notify_one();
    }
}

impl Sleepers {
    pub(super) fn new() -> Sleepers {
        Sleepers { asleep: Mutex::new(Asleep::default()), bell: Condvar::new() }
    }

    /// Sleeps until woken, if `is_current` holds. Returns false if a slice has ended.
    pub(crate) fn sleep(&self, is_current: impl FnOnce() -> bool) -> bool {
        let mut asleep = self.asleep.lock().unwrap();
        if !is_current() {
            return true;
        }
        if has_slice_ended() {
            return false;
        }
        asleep.single += 1;
        asleep = self.bell.wait(asleep).unwrap();
        drop(asleep);
        !has_slice_ended()
    }

    /// Adds a thread that sleeps on other words too, if `is_current` holds.
    pub(crate) fn add(&self, sleeper: &Arc<SetSleeper>, is_current: impl FnOnce() -> bool) -> bool {
        let mut asleep = self.asleep.lock().unwrap();
        let is_current = is_current();
        if is_current {
            asleep.sets.push_back(sleeper.clone());
        }
        is_current
    }

    /// Undoes [`add`](Sleepers::add).
    pub(crate) fn remove(&self, sleeper: &Arc<SetSleeper>) {
        self.asleep.lock().unwrap().sets.retain(|other| !Arc::ptr_eq(other, sleeper));
    }

    /// Wakes at most `count` sleepers; returns the number woken.
    pub(crate) fn wake(&self, count: u32) -> u32 {
        let mut asleep = self.asleep.lock().unwrap();
        let mut woken = 0;
        while woken < count {
            let Some(sleeper) = asleep.sets.pop_front() else { break };
            sleeper.wake();
            woken += 1;
        }
        let single = (count - woken).min(asleep.single);
        asleep.single -= single;
        for _ in 0..single {
            self.bell.notify_one();
        }
        woken + single
    }

    /// Wakes all sleepers.
    pub(super) fn wake_all(&self) {
        self.wake(u32::MAX);
    }
}
