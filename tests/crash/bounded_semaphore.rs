//! Scenes of the bounded semaphore: permits are acquired, kept and released, with no waiter and
//! with one asleep.

use std::time::Duration;

use pagemate::BoundedSemaphore;

use crate::helper::{Helper, Waker};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
/// Outcome of a helper that got its permit.
const DONE: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// Acquires a permit and releases it.
    Acquire,
    AcquireInVain,
    Keep,
    /// Releases a kept permit.
    Release,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe {
            name: "bounded semaphore: acquire and give back",
            build: || Permits::boxed(Op::Acquire, 2, 0, 0),
        },
        Recipe {
            name: "bounded semaphore: acquire, the first one taken",
            build: || Permits::boxed(Op::Acquire, 2, 1, 0),
        },
        Recipe {
            name: "bounded semaphore: acquire, timing out",
            build: || Permits::boxed(Op::AcquireInVain, 1, 1, 0),
        },
        Recipe { name: "bounded semaphore: acquire and keep", build: || Permits::boxed(Op::Keep, 2, 0, 0) },
        Recipe { name: "bounded semaphore: release", build: || Permits::boxed(Op::Release, 2, 2, 0) },
        Recipe {
            name: "bounded semaphore: release, one asleep",
            build: || Permits::boxed(Op::Release, 1, 1, 1),
        },
        Recipe { name: "bounded semaphore: acquire, the holder dead", build: || Permits::after_death() },
        Recipe {
            name: "bounded semaphore: acquire, asleep until a release",
            build: || Box::new(Asleep::new()),
        },
    ]
}

/// Checks that the survivor can have all permits at once.
fn all_can_be_had(semaphore: &BoundedSemaphore, kept: u32) -> Result<(), String> {
    let count = semaphore.bound() - kept;
    let permits: Vec<_> = (0..count).map_while(|_| semaphore.acquire_timeout(PATIENCE).ok()).collect();
    if permits.len() as u32 != count {
        return Err(format!("{} of {count} permits", permits.len()));
    }
    if semaphore.acquire_timeout(Duration::from_micros(1)).is_ok() {
        return Err("a permit too many".into());
    }
    Ok(())
}

struct Permits {
    semaphore: BoundedSemaphore,
    op: Op,
    /// The permits that the survivor keeps.
    kept: u32,
    helpers: Vec<Helper>,
}

impl Permits {
    fn boxed(op: Op, bound: u32, kept: u32, helpers: u32) -> Box<dyn Scene> {
        let semaphore = BoundedSemaphore::new(bound).unwrap();
        (0..kept).for_each(|_| semaphore.acquire().unwrap().keep());
        let acquire = || {
            semaphore.acquire().unwrap().keep();
            DONE
        };
        let helpers = (0..helpers).map(|_| Helper::start_blocked(acquire)).collect();
        Box::new(Permits { semaphore: semaphore.clone(), op, kept, helpers })
    }

    /// Builds the scene in which the only permit belongs to a dead process, whose death is not
    /// noticed yet.
    fn after_death() -> Box<dyn Scene> {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        Helper::die_after(|| semaphore.acquire().unwrap().keep());
        Box::new(Permits { semaphore, op: Op::Acquire, kept: 0, helpers: Vec::new() })
    }
}

impl Scene for Permits {
    fn act(&mut self) {
        match self.op {
            Op::Acquire => drop(self.semaphore.acquire().unwrap()),
            Op::AcquireInVain => _ = self.semaphore.acquire_timeout(Duration::from_micros(20)),
            Op::Keep => self.semaphore.acquire().unwrap().keep(),
            Op::Release => self.semaphore.release().unwrap(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let free = self.semaphore.bound() - self.kept;
        if end == End::Stopped {
            // The child has one permit at most, which nobody needs if there are others.
            if free > 1 && self.semaphore.acquire_timeout(PATIENCE).is_err() {
                return Err("a stopped process has all permits".into());
            }
            return Ok(());
        }
        if self.op == Op::Release && self.kept > 0 {
            // The free permits show whether the child has released its own; if there are helpers,
            // their end does.
            let is_given = match self.helpers.is_empty() {
                true => self.semaphore.available() > free,
                false => end == End::Finished,
            };
            if end == End::Finished && !is_given {
                return Err("release has returned, but the permit has not".into());
            }
            if self.helpers.is_empty() {
                self.kept -= u32::from(is_given);
            } else {
                // If the child has not released its permit, we do. If it has, this is an error.
                let _ = self.semaphore.release();
                self.kept = 0;
            }
        }
        self.helpers.drain(..).try_for_each(|helper| helper.outcome().map(drop))?;
        all_can_be_had(&self.semaphore, self.kept)
    }

    fn words(&self) -> String {
        format!("{:?}", self.semaphore)
    }
}

/// The child falls asleep itself, and a release wakes it.
struct Asleep {
    semaphore: BoundedSemaphore,
    waker: Waker,
}

impl Asleep {
    fn new() -> Asleep {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        semaphore.acquire().unwrap().keep();
        let waker = Waker::new(|| semaphore.release().unwrap());
        Asleep { semaphore: semaphore.clone(), waker }
    }
}

impl Scene for Asleep {
    fn prepare(&mut self) {
        self.waker.watch_me();
    }

    fn act(&mut self) {
        drop(self.semaphore.acquire().unwrap());
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // Either we or the stopped child get the permit that we release here.
            let _ = self.semaphore.release();
            return Ok(());
        }
        self.waker.finish()?;
        let _ = self.semaphore.release();
        all_can_be_had(&self.semaphore, 0)
    }

    fn words(&self) -> String {
        format!("{:?}", self.semaphore)
    }
}
