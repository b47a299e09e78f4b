//! Scenes of the list, and so of the heap: elements in blocks of their own and in the root, with
//! room and without. After each, the list is as before or as after, and no block of the heap is
//! lost.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::time::Duration;

use pagemate::{Item, List, Manager, Place};

use crate::{blocks, End, Recipe, Scene};

/// An element that is too large for a word.
type Large = [u64; 4];

/// Elements of a full root.
const FULL: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Push,
    Extend,
    Pop,
    Set,
    Insert,
    Remove,
    Sort,
    Exchange,
    Clear,
}

fn large(n: u64) -> Large {
    [n, n + 1, n + 2, n + 3]
}

fn small(n: u64) -> u64 {
    n
}

/// Returns texts of different lengths.
fn text(n: u64) -> String {
    format!("{n:02}{}", "-".repeat(n as usize % 7 * 9))
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe {
            name: "list: push, the heap's first block",
            build: || Change::<Large>::boxed(Op::Push, 0, large),
        },
        Recipe { name: "list: push", build: || Change::<Large>::boxed(Op::Push, 3, large) },
        Recipe { name: "list: push, growing", build: || Change::<Large>::boxed(Op::Push, FULL, large) },
        Recipe { name: "list: push of a word", build: || Change::<u64>::boxed(Op::Push, 3, small) },
        Recipe {
            name: "list: push of a word, growing",
            build: || Change::<u64>::boxed(Op::Push, FULL, small),
        },
        Recipe { name: "list: extend", build: || Change::<Large>::boxed(Op::Extend, 2, large) },
        Recipe { name: "list: extend, growing", build: || Change::<Large>::boxed(Op::Extend, FULL, large) },
        Recipe { name: "list: push of a string", build: || Change::<str>::boxed(Op::Push, 3, text) },
        Recipe {
            name: "list: extend by strings, growing",
            build: || Change::<str>::boxed(Op::Extend, FULL, text),
        },
        Recipe { name: "list: set of a string", build: || Change::<str>::boxed(Op::Set, 3, text) },
        Recipe { name: "list: pop", build: || Change::<Large>::boxed(Op::Pop, 3, large) },
        Recipe { name: "list: set", build: || Change::<Large>::boxed(Op::Set, 3, large) },
        Recipe { name: "list: set of a word", build: || Change::<u64>::boxed(Op::Set, 3, small) },
        Recipe { name: "list: insert", build: || Change::<Large>::boxed(Op::Insert, 3, large) },
        Recipe { name: "list: insert, growing", build: || Change::<Large>::boxed(Op::Insert, FULL, large) },
        Recipe { name: "list: remove", build: || Change::<Large>::boxed(Op::Remove, 3, large) },
        Recipe { name: "list: remove of a word", build: || Change::<u64>::boxed(Op::Remove, 3, small) },
        Recipe { name: "list: sort", build: || Change::<Large>::boxed(Op::Sort, 3, large) },
        Recipe { name: "list: exchange of all", build: || Change::<Large>::boxed(Op::Exchange, 3, large) },
        Recipe {
            name: "list: exchange of all words",
            build: || Change::<u64>::boxed(Op::Exchange, 3, small),
        },
        Recipe { name: "list: clear", build: || Change::<Large>::boxed(Op::Clear, 3, large) },
    ]
}

struct Change<T: Item + ?Sized + 'static> {
    manager: Manager,
    place: Place,
    list: List<T>,
    op: Op,
    before: Vec<T::Owned>,
    value: fn(u64) -> T::Owned,
}

impl<T: Item + Ord + ?Sized> Change<T>
where
    T::Owned: Ord + Clone + Debug,
{
    fn boxed(op: Op, count: u64, value: fn(u64) -> T::Owned) -> Box<dyn Scene> {
        let place = Place::from(format!("crash-{}-list", std::process::id())).reserve(1 << 24);
        let manager = Manager::create(place.clone()).unwrap();
        let list = manager.list::<T>("list").unwrap();
        let before: Vec<T::Owned> = (0..count).map(|n| value(count - n)).collect();
        before.iter().for_each(|value| list.push(value.borrow()).unwrap());
        Box::new(Change { manager, place, list, op, before, value })
    }

    fn after(&self) -> Vec<T::Owned> {
        let (value, mut all) = (self.value, self.before.clone());
        match self.op {
            Op::Push => all.push(value(90)),
            Op::Extend => all.extend((90..94).map(value)),
            Op::Pop => _ = all.pop(),
            Op::Set => all[1] = value(90),
            Op::Insert => all.insert(1, value(90)),
            Op::Remove => _ = all.remove(1),
            Op::Sort => all.sort(),
            Op::Exchange => all = (90..95).map(value).collect(),
            Op::Clear => all.clear(),
        }
        all
    }

    /// Checks what others can do with the list.
    fn script(&self, now: &[T::Owned]) -> pagemate::Result<bool> {
        // A writer that does not wait gets the lock of a dead one too, although no process has
        // noticed the death.
        let (list, value) = (&self.list.with_write_timeout(Duration::ZERO), self.value);
        let mut twin = now.to_vec();
        list.push(value(70))?;
        twin.push(value(70));
        list.insert(0, value(71))?;
        twin.insert(0, value(71));
        list.set(0, value(72))?;
        twin[0] = value(72);
        list.extend((0..20).map(value))?;
        twin.extend((0..20).map(value));
        let is_same =
            list.to_vec()? == twin && list.snapshot()? == twin && list.remove(0)? == Some(value(72));
        list.clear()?;
        Ok(is_same && list.is_empty()?)
    }
}

impl<T: Item + Ord + ?Sized> Scene for Change<T>
where
    T::Owned: Ord + Clone + Debug,
{
    fn prepare(&mut self) {
        // The child becomes a participant before the operation.
        if let Some(first) = self.before.first() {
            self.list.set(0, first.borrow()).unwrap();
        }
    }

    fn act(&mut self) {
        let (list, value) = (&self.list, self.value);
        match self.op {
            Op::Push => list.push(value(90)).unwrap(),
            Op::Extend => list.extend((90..94).map(value)).unwrap(),
            Op::Pop => assert_eq!(list.pop().unwrap(), Some(value(1))),
            Op::Set => list.set(1, value(90)).unwrap(),
            Op::Insert => list.insert(1, value(90)).unwrap(),
            Op::Remove => assert!(list.remove(1).unwrap().is_some()),
            Op::Sort => list.sort().unwrap(),
            Op::Exchange => assert!(list.compare_exchange_all(&self.before, &self.after()).unwrap()),
            Op::Clear => list.clear().unwrap(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        // Readers wait for nobody, even if the writer is stopped.
        let now = self.list.to_vec().map_err(|error| error.to_string())?;
        let after = self.after();
        if now != after && (now != self.before || end == End::Finished) {
            return Err(format!("the list is {now:?}, neither {:?} nor {after:?}", self.before));
        }
        if end == End::Stopped {
            return Ok(());
        }
        if !self.script(&now).map_err(|error| error.to_string())? {
            return Err("the others do not find what they have put there".into());
        }
        match blocks::in_use(&self.place)? {
            0 => Ok(()),
            lost => Err(format!("{lost} blocks of the heap are lost")),
        }
    }

    fn words(&self) -> String {
        format!("{:?} in {:?}", self.list, self.manager.path())
    }
}
