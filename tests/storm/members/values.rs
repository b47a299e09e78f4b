//! Values, arrays and lists: nobody reads half of a change, and no change is undone.

use std::sync::atomic::Ordering::SeqCst;

use pagemate::collections::{ArrayGuard, ValueError};
use pagemate::sync::LockError;
use pagemate::{Array, List, Value};

use crate::board::{Fault, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe};
use crate::PATIENCE;

/// A number, and words that it determines.
type Whole = [u64; 6];

/// Returns the value that belongs to `number`.
fn whole(number: u64) -> Whole {
    std::array::from_fn(|word| if word == 0 { number } else { mix(number ^ (word as u64) << 56) })
}

fn is_whole(value: &Whole) -> bool {
    *value == whole(value[0])
}

/// A number that workers increment, in a value too large for one store. The board has for each
/// worker the number of its increments, and whether it is in one.
struct Counter {
    value: Value<Whole>,
    /// The largest number seen here.
    last: u64,
}

/// Index of the word that counts the changes in which a worker died: they may have been made or
/// not.
const DOUBTFUL: usize = 0;
/// Index of the first of the words that count the changes of each worker.
const DONE: usize = 64;
/// Index of the first of the words that are 1 while a worker changes the value.
const AT_IT: usize = DONE + WORKERS;

impl Counter {
    fn inspect(&mut self, desk: &Desk, value: Result<Whole, ValueError>) -> bool {
        match value {
            Ok(value) if !is_whole(&value) => desk.fault(Fault::Torn, format!("{value:x?}")),
            Ok(value) if value[0] < self.last => {
                desk.fault(Fault::Lost, format!("{} after {}", value[0], self.last));
            }
            Ok(value) => {
                self.last = value[0];
                return true;
            }
            Err(ValueError::NotAcquired) => {}
            Err(error) => desk.fault(Fault::Broken, format!("{error}")),
        }
        false
    }
}

impl Member for Counter {
    fn step(&mut self, desk: &mut Desk) {
        let value = self.value.clone();
        if desk.random.one_in(2) {
            let seen = desk.act("get", || value.get());
            self.inspect(desk, seen);
            return;
        }
        let (done, at_it) = (&desk.words()[DONE + desk.slot], &desk.words()[AT_IT + desk.slot]);
        at_it.store(1, SeqCst);
        let next = |value: Whole| whole(value[0] + 1);
        let made = match desk.random.below(2) {
            0 => desk.act("try_update", || value.try_update(next)),
            _ => desk.timed("update_timeout", |time| value.update_timeout(time, next)),
        };
        if self.inspect(desk, made) {
            done.fetch_add(1, SeqCst);
        }
        at_it.store(0, SeqCst);
    }

    fn account_for(&mut self, desk: &mut Desk, slot: usize) {
        let words = desk.words();
        words[DOUBTFUL].fetch_add(words[AT_IT + slot].swap(0, SeqCst), SeqCst);
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let words = desk.words();
        let done: u64 = words[DONE..][..WORKERS].iter().map(|word| word.load(SeqCst)).sum();
        let (most, before) = (done + words[DOUBTFUL].load(SeqCst), self.value.get());
        self.inspect(desk, before);
        if self.last < done {
            desk.fault(Fault::Lost, format!("{} of {done} changes", self.last));
        }
        if self.last > most {
            desk.fault(Fault::Doubled, format!("{} changes, {most} begun", self.last));
        }
        if self.value.update_timeout(PATIENCE, |_| whole(0)).is_err() {
            desk.fault(Fault::Stuck, "nobody can write it");
        }
    }
}

/// Elements that are all equal, except under the lock.
struct Row(Array<u64>);

impl Row {
    fn change(&self, desk: &mut Desk, guard: Result<ArrayGuard<'_, u64>, LockError<ArrayGuard<'_, u64>>>) {
        let word = &desk.words()[0];
        let (mut guard, owner_died) = match guard {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied(guard)) => (guard, true),
            Err(LockError::NotAcquired) => return,
            Err(error) => return desk.fault(Fault::Broken, format!("{error}")),
        };
        let sole = desk.hold(word, owner_died);
        if !owner_died && guard.iter().any(|element| *element != guard[0]) {
            desk.fault(Fault::Torn, format!("{:?}", &*guard));
        }
        let next = guard[0] + 1;
        for index in 0..guard.len() {
            guard[index] = next;
            if desk.random.one_in(32) {
                desk.dawdle();
            }
        }
        if owner_died {
            ArrayGuard::mark_consistent(&mut guard);
        }
        drop(sole);
        desk.act("unlock", || drop(guard));
    }
}

impl Member for Row {
    fn step(&mut self, desk: &mut Desk) {
        let array = self.0.clone();
        let guard = match desk.random.below(2) {
            0 => desk.act("try_lock", || array.try_lock()),
            _ => desk.timed("lock_timeout", |time| array.lock_timeout(time)),
        };
        self.change(desk, guard);
    }

    fn verdict(&mut self, desk: &mut Desk) {
        match self.0.lock_timeout(PATIENCE) {
            Ok(_) | Err(LockError::OwnerDied(_)) => {}
            Err(error) => desk.fault(Fault::Stuck, format!("{error}")),
        }
    }
}

/// A list that all workers change anywhere.
struct Series(List<Whole>);

impl Series {
    fn inspect(&self, desk: &Desk, element: pagemate::Result<Option<Whole>>) {
        match element {
            Ok(Some(element)) if !is_whole(&element) => desk.fault(Fault::Torn, format!("{element:x?}")),
            Ok(_) => {}
            Err(error) => desk.fault(Fault::Broken, format!("{error}")),
        }
    }
}

impl Member for Series {
    fn step(&mut self, desk: &mut Desk) {
        let list = &self.0;
        let len = list.len().unwrap_or(0);
        let index = desk.random.below(len as u64 + 1) as usize;
        let new = whole(desk.random.below(1 << 40));
        // Patient, because a writer waits for other writers without a deadline.
        let changed = match desk.random.below(8) {
            0 | 1 => return self.inspect(desk, desk.act("get", || list.get(index))),
            2 if len < 200 => desk.patient("push", || list.push(new)),
            3 if len < 200 => desk.patient("insert", || list.insert(index.min(list.len()?), new)),
            4 => return self.inspect(desk, desk.patient("pop", || list.pop())),
            5 => return self.inspect(desk, desk.patient("remove", || list.remove(index))),
            6 if len < 200 => desk.patient("extend", || list.extend([new; 3])),
            _ => return self.inspect(desk, desk.patient("pop", || list.pop())),
        };
        // The element may be gone by the time of the change.
        if let Err(error) = changed {
            if error.kind() != pagemate::ErrorKind::InvalidInput {
                desk.fault(Fault::Broken, format!("{error}"));
            }
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        match self.0.to_vec() {
            Ok(elements) => elements.into_iter().for_each(|element| self.inspect(desk, Ok(Some(element)))),
            Err(error) => desk.fault(Fault::Broken, format!("{error}")),
        }
        let emptied = self.0.clear().and_then(|()| self.0.push(whole(1))).and_then(|()| self.0.pop());
        if !emptied.is_ok_and(|last| last == Some(whole(1))) {
            desk.fault(Fault::Broken, "an element that is pushed after a clear does not come back");
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "value",
        join: |site, name| {
            let value = Value::open_or_create(site.segment.at(name), whole(0))?.0;
            Ok(Box::new(Counter { value, last: 0 }))
        },
    },
    Recipe {
        name: "array",
        join: |site, name| Ok(Box::new(Row(Array::open_or_create(site.segment.at(name), 20, 0)?.0))),
    },
    Recipe {
        name: "list",
        join: |site, name| Ok(Box::new(Series(List::open_or_create(site.segment.at(name))?.0))),
    },
];
