//! Locks: one holder at a time, an error that reports the death of the holder before, and whole
//! data.

use std::time::Instant;

use pagemate::sync::{LockError, MutexGuard, RwLockWriteGuard};
use pagemate::{Lock, Mutex, ReentrantLock, RwLock};

use crate::board::Fault;
use crate::desk::Desk;
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

/// The word of the board with the holder.
const SOLE: usize = 0;

/// A value and its complement, which agree except while a writer changes them.
type Pair = [u64; 2];
const FRESH: Pair = [0, !0];

fn write(desk: &mut Desk, pair: &mut Pair) {
    pair[0] = pair[0].wrapping_add(1);
    desk.dawdle();
    pair[1] = !pair[0];
}

fn inspect(desk: &mut Desk, pair: &Pair) {
    let first = pair[0];
    desk.dawdle();
    if pair[1] != !first || pair[0] != first {
        desk.fault(Fault::Torn, format!("{pair:x?}, and it was {first:x}"));
    }
}

/// Returns the guard and whether a holder died, or `None` if the lock was not acquired.
fn taken<G>(desk: &Desk, result: Result<G, LockError<G>>) -> Option<(G, bool)> {
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

/// Checks at the end that the lock can be acquired, within [`PATIENCE`].
fn can_be_had<G>(
    desk: &mut Desk,
    lock: impl FnOnce(std::time::Duration) -> Result<G, LockError<G>>,
) -> Option<(G, bool)> {
    let begin = Instant::now();
    let guard = taken(desk, lock(PATIENCE));
    if guard.is_none() {
        desk.fault(Fault::Stuck, format!("cannot be had after {:?}", begin.elapsed()));
    }
    guard
}

struct Guarded(Mutex<Pair>);

impl Member for Guarded {
    fn step(&mut self, desk: &mut Desk) {
        let mutex = &self.0;
        let result = match desk.random.below(16) {
            0..6 => desk.act("try_lock", || mutex.try_lock()),
            6..15 => desk.timed("lock_timeout", |time| mutex.lock_timeout(time)),
            _ => desk.patient("lock", || mutex.lock()),
        };
        let Some((mut guard, owner_died)) = taken(desk, result) else { return };
        let sole = desk.hold(&desk.words()[SOLE], owner_died);
        if !owner_died {
            inspect(desk, &guard);
        } else if desk.random.one_in(4) {
            // Leaves the repair to the next holder, which must be told as well.
            drop(sole);
            return;
        } else {
            guard[1] = !guard[0];
            MutexGuard::mark_consistent(&mut guard);
        }
        if desk.random.one_in(2) {
            write(desk, &mut guard);
        }
        drop(sole);
        desk.act("unlock", || drop(guard));
    }

    fn verdict(&mut self, desk: &mut Desk) {
        if let Some((guard, false)) = can_be_had(desk, |time| self.0.lock_timeout(time)) {
            inspect(desk, &guard);
        }
    }
}

struct Plain(Lock);

impl Member for Plain {
    fn step(&mut self, desk: &mut Desk) {
        let lock = &self.0;
        let result = match desk.random.below(16) {
            0..6 => desk.act("try_lock", || lock.try_lock()),
            6..15 => desk.timed("lock_timeout", |time| lock.lock_timeout(time)),
            _ => desk.patient("lock", || lock.lock()),
        };
        let Some((guard, _)) = taken(desk, result) else { return };
        let sole = desk.hold(&desk.words()[SOLE], guard.owner_died());
        desk.dawdle();
        drop(sole);
        if desk.random.one_in(2) {
            desk.act("unlock", || drop(guard));
        } else {
            guard.keep();
            if let Err(error) = desk.act("release", || lock.release()) {
                desk.fault(Fault::Broken, format!("release: {error}"));
            }
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        drop(can_be_had(desk, |time| self.0.lock_timeout(time)));
    }
}

struct Recursive(ReentrantLock);

impl Member for Recursive {
    fn step(&mut self, desk: &mut Desk) {
        let lock = &self.0;
        let result = match desk.random.below(16) {
            0..6 => desk.act("try_lock", || lock.try_lock()),
            6..15 => desk.timed("lock_timeout", |time| lock.lock_timeout(time)),
            _ => desk.patient("lock", || lock.lock()),
        };
        let Some((first, _)) = taken(desk, result) else { return };
        let sole = desk.hold(&desk.words()[SOLE], first.owner_died());
        let depth = desk.random.below(4);
        let mut deeper = Vec::new();
        for _ in 0..depth {
            match desk.act("again", || lock.try_lock()) {
                Ok(guard) => deeper.push(guard),
                Err(error) => desk.fault(Fault::Broken, format!("again: {error}")),
            }
        }
        desk.dawdle();
        if !lock.is_held() {
            desk.fault(Fault::Broken, "not held, with a guard");
        }
        desk.act("leave", || drop(deeper));
        if !lock.is_held() {
            desk.fault(Fault::Broken, "one release too many");
        }
        drop(sole);
        desk.act("unlock", || drop(first));
    }

    fn verdict(&mut self, desk: &mut Desk) {
        drop(can_be_had(desk, |time| self.0.lock_timeout(time)));
    }
}

struct Shared(RwLock<Pair>);

impl Shared {
    fn read(&self, desk: &mut Desk) {
        let lock = &self.0;
        let result = match desk.random.below(16) {
            0..6 => desk.act("try_read", || lock.try_read()),
            6..15 => desk.timed("read_timeout", |time| lock.read_timeout(time)),
            _ => desk.patient("read", || lock.read()),
        };
        let Some((guard, owner_died)) = taken(desk, result) else { return };
        if !owner_died {
            inspect(desk, &guard);
        }
        desk.act("unlock", || drop(guard));
    }
}

impl Member for Shared {
    fn step(&mut self, desk: &mut Desk) {
        if !desk.random.one_in(4) {
            return self.read(desk);
        }
        let lock = &self.0;
        let result = match desk.random.below(16) {
            0..6 => desk.act("try_write", || lock.try_write()),
            6..15 => desk.timed("write_timeout", |time| lock.write_timeout(time)),
            _ => desk.patient("write", || lock.write()),
        };
        let Some((mut guard, owner_died)) = taken(desk, result) else { return };
        let sole = desk.hold(&desk.words()[SOLE], owner_died);
        if owner_died {
            guard[1] = !guard[0];
            RwLockWriteGuard::mark_consistent(&mut guard);
        }
        inspect(desk, &guard);
        write(desk, &mut guard);
        drop(sole);
        desk.act("unlock", || drop(guard));
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let Some((guard, owner_died)) = can_be_had(desk, |time| self.0.write_timeout(time)) else { return };
        if !owner_died {
            inspect(desk, &guard);
        }
        drop(guard);
        drop(can_be_had(desk, |time| self.0.read_timeout(time)));
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "mutex", join: |site, name| Ok(Box::new(Guarded(mutex(site, name)?))) },
    Recipe {
        name: "lock",
        join: |site, name| Ok(Box::new(Plain(Lock::open_or_create(site.segment.at(name))?.0))),
    },
    Recipe {
        name: "reentrant lock",
        join: |site, name| Ok(Box::new(Recursive(ReentrantLock::open_or_create(site.segment.at(name))?.0))),
    },
    Recipe {
        name: "readers-writer lock",
        join: |site, name| Ok(Box::new(Shared(RwLock::open_or_create(site.segment.at(name), FRESH)?.0))),
    },
];

fn mutex(site: &Site, name: &str) -> pagemate::Result<Mutex<Pair>> {
    Ok(Mutex::open_or_create(site.segment.at(name), FRESH)?.0)
}
