//! Bounded semaphores, barriers, and objects that initialise once.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pagemate::sync::{BarrierError, LockError, OnceError, Permit};
use pagemate::{Barrier, BoundedSemaphore, Once, OnceValue};

use crate::board::{Fault, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe, Site};
use crate::PATIENCE;

/// Permits that come back from the dead. The board has the workers that surely hold one.
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

    fn account_for(&mut self, desk: &mut Desk, slot: usize) {
        desk.words()[HELD + slot].store(0, SeqCst);
    }

    fn verdict(&mut self, desk: &mut Desk) {
        if self.held(desk) != 0 {
            desk.fault(Fault::Broken, "a permit is still noted as held");
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

/// A barrier of two, which breaks whenever a party is late.
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
            desk.fault(Fault::Stuck, format!("reset, and two parties that meet there get {both:?}"));
        }
    }
}

/// A number that one worker decides and all others read.
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

/// Jobs that are each done once, one after the other. The board has for each job the worker that
/// does it, and how often it was done.
struct Works {
    site: Site,
    name: &'static str,
    number: usize,
    once: Once,
}

/// The largest number of jobs in a round.
const WORKS: usize = 200;
const AT_IT: usize = 1;
const DONE: usize = AT_IT + WORKS;

impl Works {
    fn open(site: &Site, name: &str, number: usize) -> pagemate::Result<Once> {
        Ok(Once::open_or_create(site.segment.at(format!("{name}.{number}")))?.0)
    }

    /// Turns to the job of this number.
    fn turn_to(&mut self, desk: &Desk, number: usize) {
        match Works::open(&self.site, self.name, number) {
            Ok(once) => (self.once, self.number) = (once, number),
            Err(error) => desk.fault(Fault::Broken, format!("{number}: {error}")),
        }
    }

    /// Checks a job that is complete, as the library says.
    fn inspect(&self, desk: &Desk) {
        if desk.words()[DONE + self.number].load(SeqCst) == 0 {
            desk.fault(Fault::Broken, format!("{} is complete, and nobody has done it", self.number));
        }
    }
}

impl Member for Works {
    fn step(&mut self, desk: &mut Desk) {
        let (words, once) = (desk.words(), self.once.clone());
        let begun = match desk.random.below(4) {
            0 => {
                if desk.timed("once: wait_timeout", |time| once.wait_timeout(time)) {
                    self.inspect(desk);
                }
                return;
            }
            1 => desk.act("try_begin", || once.try_begin()),
            _ => desk.timed("begin_timeout", |time| once.begin_timeout(time)),
        };
        match begun {
            Ok(Some(initialiser)) => {
                let is_after_failure = initialiser.is_after_failure();
                let sole = desk.hold(&words[AT_IT + self.number], is_after_failure);
                desk.dawdle();
                if !desk.random.one_in(64) {
                    // It abandons, and the next worker is told.
                    drop(sole);
                    return desk.act("give up", || drop(initialiser));
                }
                if words[DONE + self.number].fetch_add(1, SeqCst) != 0 && !is_after_failure {
                    desk.fault(Fault::Doubled, format!("{} is done twice", self.number));
                }
                drop(sole);
                desk.act("complete", || initialiser.complete());
            }
            Ok(None) => {
                self.inspect(desk);
                // Some workers stay at the old job for a while, and check it again.
                if desk.random.one_in(256) && self.number + 1 < WORKS {
                    self.turn_to(desk, self.number + 1);
                }
            }
            Err(OnceError::NotCompleted) => {}
            Err(error) => desk.fault(Fault::Broken, format!("{error}")),
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        for number in 0..WORKS {
            if desk.words()[DONE + number].load(SeqCst) == 0 {
                break;
            }
            self.turn_to(desk, number);
            match self.once.begin_timeout(PATIENCE) {
                Ok(None) => self.inspect(desk),
                // The last worker died after it had recorded the job as done and before it
                // completed it.
                Ok(Some(initialiser)) if initialiser.is_after_failure() => initialiser.complete(),
                Ok(Some(_)) => desk.fault(Fault::Lost, format!("{number} was done, and is to be done again")),
                Err(error) => desk.fault(Fault::Stuck, format!("{number}: {error}")),
            }
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
    Recipe {
        name: "once",
        join: |site, name| {
            let once = Works::open(site, name, 0)?;
            let site = Site { segment: site.segment.clone(), dir: site.dir.clone() };
            Ok(Box::new(Works { site, name, number: 0, once }))
        },
    },
];
