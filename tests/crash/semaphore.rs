//! Scenes of the semaphore: with permits and without, with no waiter, a stale waiter bit, and one
//! or two asleep.

use std::time::Duration;

use pagemate::Semaphore;

use crate::helper::{until, Helper, Waker};
use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
/// Outcome of a helper that got its permit.
const DONE: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Acquire,
    AcquireTwo,
    AcquireInVain,
    AcquireTwoInVain,
    Release(u32),
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "semaphore: acquire, 2 permits", build: || Count::boxed(Op::Acquire, 2, 0) },
        Recipe { name: "semaphore: acquire_many, 3 permits", build: || Count::boxed(Op::AcquireTwo, 3, 0) },
        Recipe {
            name: "semaphore: acquire_many, timing out",
            build: || Count::boxed(Op::AcquireTwoInVain, 1, 0),
        },
        Recipe { name: "semaphore: acquire, timing out", build: || Count::boxed(Op::AcquireInVain, 0, 0) },
        Recipe { name: "semaphore: acquire, asleep until a release", build: || Box::new(Asleep::new()) },
        Recipe { name: "semaphore: release", build: || Count::boxed(Op::Release(1), 1, 0) },
        Recipe { name: "semaphore: release, waiter bit left over", build: || Count::stale(Op::Release(1)) },
        Recipe { name: "semaphore: release, one asleep", build: || Count::boxed(Op::Release(1), 0, 1) },
        Recipe { name: "semaphore: release of 2, two asleep", build: || Count::boxed(Op::Release(2), 0, 2) },
    ]
}

/// Checks that there are exactly `count` permits and that the survivors can use them.
fn holds_exactly(semaphore: &Semaphore, count: u32) -> Result<(), String> {
    semaphore.release().map_err(|error| error.to_string())?;
    if !(0..=count).all(|_| semaphore.acquire_timeout(PATIENCE)) {
        return Err("a permit is stuck".into());
    }
    if semaphore.acquire_timeout(Duration::from_micros(1)) {
        return Err("a permit too many".into());
    }
    semaphore.release_many(count).map_err(|error| error.to_string())
}

struct Count {
    semaphore: Semaphore,
    op: Op,
    before: u32,
    helpers: Vec<Helper>,
    /// Permits that the helpers acquire in the end, and permits that the survivors add.
    taken: u32,
    added: u32,
}

impl Count {
    fn boxed(op: Op, before: u32, helpers: u32) -> Box<dyn Scene> {
        let semaphore = Semaphore::new(before).unwrap();
        let acquire = || {
            semaphore.acquire();
            DONE
        };
        let sleepers = (0..helpers).map(|_| Helper::start_blocked(acquire)).collect();
        Box::new(Count {
            semaphore: semaphore.clone(),
            op,
            before,
            helpers: sleepers,
            taken: helpers,
            added: 0,
        })
    }

    /// Builds the scene after a waiter has timed out and left its bit set.
    fn stale(op: Op) -> Box<dyn Scene> {
        let semaphore = Semaphore::new(0).unwrap();
        assert!(!semaphore.acquire_timeout(Duration::from_millis(5)));
        Box::new(Count { semaphore, op, before: 0, helpers: Vec::new(), taken: 0, added: 0 })
    }
}

impl Scene for Count {
    fn act(&mut self) {
        match self.op {
            Op::Acquire => self.semaphore.acquire(),
            Op::AcquireTwo => self.semaphore.acquire_many(2),
            Op::AcquireTwoInVain => _ = self.semaphore.acquire_many_timeout(2, Duration::from_micros(20)),
            Op::AcquireInVain => _ = self.semaphore.acquire_timeout(Duration::from_micros(20)),
            Op::Release(count) => self.semaphore.release_many(count).unwrap(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        // A sleeper takes the permits that there are, even if nobody has woken it.
        let (semaphore, helpers) = (&self.semaphore, &mut self.helpers);
        until("the sleeper finds the permit", || {
            semaphore.available() == 0 || helpers.iter_mut().all(Helper::has_ended)
        })?;
        if end != End::Finished && !self.helpers.is_empty() {
            self.added = self.taken;
            self.semaphore.release_many(self.added).unwrap();
        }
        self.helpers.drain(..).try_for_each(|helper| helper.outcome().map(drop))?;
        let count = self.before + self.added;
        let (least, most) = match self.op {
            Op::Acquire => (count - 1, count),
            Op::AcquireTwo => (count - 2, count),
            Op::AcquireInVain | Op::AcquireTwoInVain => (count, count),
            Op::Release(more) => (count.saturating_sub(self.taken), count + more - self.taken),
        };
        let finished = if matches!(self.op, Op::Acquire | Op::AcquireTwo) { least } else { most };
        let left = self.semaphore.available();
        if self.op == Op::AcquireTwo && left == count - 1 {
            return Err("one of two permits was acquired".into());
        }
        if !(least..=most).contains(&left) || end == End::Finished && left != finished {
            return Err(format!("{left} permits, {finished} once it has finished"));
        }
        holds_exactly(&self.semaphore, left)
    }

    fn words(&self) -> String {
        format!("{:?}", self.semaphore)
    }
}

/// The child falls asleep itself, and a release wakes it.
struct Asleep {
    semaphore: Semaphore,
    waker: Waker,
    /// Permits that the survivors have released, minus those that they have acquired.
    added: u32,
}

impl Asleep {
    fn new() -> Asleep {
        let semaphore = Semaphore::new(0).unwrap();
        let waker = Waker::new(|| semaphore.release().unwrap());
        Asleep { semaphore: semaphore.clone(), waker, added: 0 }
    }
}

impl Scene for Asleep {
    fn prepare(&mut self) {
        self.waker.watch_me();
    }

    fn act(&mut self) {
        self.semaphore.acquire();
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // One is for the stopped child, if it takes it, and one for us.
            self.semaphore.release_many(2).unwrap();
            self.added = 1;
            return self
                .semaphore
                .acquire_timeout(PATIENCE)
                .then_some(())
                .ok_or("a stopped process blocks".into());
        }
        let given = u32::from(self.waker.finish()?) + self.added;
        let left = self.semaphore.available();
        let taken = given.checked_sub(left).ok_or("there are more permits than were released")?;
        if taken > 1 || end == End::Finished && taken != 1 {
            return Err(format!("{given} released, {left} left"));
        }
        holds_exactly(&self.semaphore, left)
    }

    fn words(&self) -> String {
        format!("{:?}", self.semaphore)
    }
}
