//! Bounded semaphores, barriers, and what is initialised once.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pagemate::{Barrier, BarrierError, BoundedSemaphore, LockError, OnceValue, Permit};

use crate::board::{Fault, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe};
use crate::PATIENCE;

/// Permits that come back from the dead. The board says who surely holds one.
struct Permits(BoundedSemaphore);

const PERMITS: u32 = 3;
const HELD: usize = 64;

impl Permits {
    fn held(&self, desk: &Desk) -> u64 {
        desk.words()[HELD..][..WORKERS].iter().map(|held| held.load(SeqCst)).sum()
    }

    fn taken<'a>(
        &self,
        desk: &Desk,
        result: Result<Permit<'a>, LockError<Permit<'a>>>,
    ) -> Option<Permit<'a>> {
        match result {
            Ok(permit) | Err(LockError::OwnerDied(permit)) => Some(permit),
            Err(LockError::NotAcquired) => None,
            Err(error) => {
                desk.fault(Fault::Broken, format!("{error}"));
                None
            }
        }
    }
}

impl Member for Permits {
    fn step(&mut self, desk: &mut Desk) {
        let semaphore = self.0.clone();
        let result = match desk.random.below(2) {
            0 => desk.act("try_acquire", || semaphore.try_acquire()),
            _ => desk.timed("acquire_timeout", |time| semaphore.acquire_timeout(time)),
        };
        let Some(permit) = self.taken(desk, result) else { return };
        let held = &desk.words()[HELD + desk.slot];
        held.store(1, SeqCst);
        desk.dawdle();
        held.store(0, SeqCst);
        desk.act("release", || drop(permit));
    }

    fn bury(&mut self, desk: &mut Desk, slot: usize) {
        desk.words()[HELD + slot].store(0, SeqCst);
    }

    fn verdict(&mut self, desk: &mut Desk) {
        if self.held(desk) != 0 {
            desk.fault(Fault::Broken, "somebody holds a permit, and nobody is there");
        }
        let all: Vec<_> =
            (0..PERMITS).map_while(|_| self.taken(desk, self.0.acquire_timeout(PATIENCE))).collect();
        if all.len() as u32 != PERMITS {
            desk.fault(Fault::Stuck, format!("{} of {PERMITS} permits come back", all.len()));
        }
        if self.taken(desk, self.0.acquire_timeout(Duration::from_millis(1))).is_some() {
            desk.fault(Fault::Doubled, format!("more than {PERMITS} permits"));
        }
    }
}

/// A barrier of two, which breaks whenever one does not come in time.
struct Door(Barrier);

impl Member for Door {
    fn step(&mut self, desk: &mut Desk) {
        let barrier = self.0.clone();
        match desk.random.below(16) {
            0 => desk.act("abort", || barrier.abort()),
            1 | 2 => desk.act("reset", || barrier.reset()),
            _ => match desk.timed("wait_timeout", |time| barrier.wait_timeout(time)) {
                Ok(0 | 1) => {}
                Ok(index) => desk.fault(Fault::Doubled, format!("index {index} of two")),
                Err(BarrierError::Broken | BarrierError::TimedOut) => {
                    if desk.random.one_in(2) {
                        desk.act("reset", || barrier.reset());
                    }
                }
                Err(error) => desk.fault(Fault::Broken, format!("{error}")),
            },
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        self.0.reset();
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| self.0.wait_timeout(PATIENCE));
            (self.0.wait_timeout(PATIENCE), one.join())
        });
        let both = [one, other.unwrap_or(Err(BarrierError::Broken))];
        if both != [Ok(0), Ok(1)] && both != [Ok(1), Ok(0)] {
            desk.fault(Fault::Stuck, format!("reset, and two who meet there get {both:?}"));
        }
    }
}

/// A number that one of all decides, and all others find.
struct Fixed {
    value: OnceValue<[u64; 3]>,
    seen: Option<u64>,
}

fn fixed(number: u64) -> [u64; 3] {
    [number, mix(number), mix(mix(number))]
}

impl Member for Fixed {
    fn step(&mut self, desk: &mut Desk) {
        let value = self.value.clone();
        let mine = 1 + desk.random.below(1 << 40);
        let found = match desk.random.below(2) {
            0 => desk.act("get", || value.get().copied()),
            _ => desk
                .timed("get_or_init", |time| value.get_or_init_timeout(time, || fixed(mine)).ok().copied()),
        };
        let Some(found) = found else { return };
        if found != fixed(found[0]) {
            desk.fault(Fault::Torn, format!("{found:x?}"));
        }
        if self.seen.is_some_and(|seen| seen != found[0]) {
            desk.fault(Fault::Doubled, format!("{} and {:?}", found[0], self.seen));
        }
        self.seen = Some(found[0]);
    }

    fn verdict(&mut self, desk: &mut Desk) {
        match self.value.get_or_init_timeout(PATIENCE, || fixed(7)).copied() {
            Ok(found) if found == fixed(found[0]) => {}
            Ok(found) => desk.fault(Fault::Torn, format!("{found:x?}")),
            Err(error) => desk.fault(Fault::Stuck, format!("{error}")),
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "bounded semaphore",
        join: |site, name| {
            Ok(Box::new(Permits(BoundedSemaphore::open_or_create(site.segment.at(name), PERMITS)?.0)))
        },
    },
    Recipe {
        name: "barrier",
        join: |site, name| Ok(Box::new(Door(Barrier::open_or_create(site.segment.at(name), 2)?.0))),
    },
    Recipe {
        name: "once value",
        join: |site, name| {
            let value = OnceValue::open_or_create(site.segment.at(name))?.0;
            Ok(Box::new(Fixed { value, seen: None }))
        },
    },
];
