//! Scenes of the dict: a new key, a replaced value, a table that grows, a removal, a lookup.

use std::time::Duration;

use pagemate::{Dict, ErrorKind, Manager, Place};

use crate::{blocks, End, Recipe, Scene};

const KEY: u64 = 1;
/// The value that the child inserts.
const NEW: &[u8] = b"the new value, longer";
const OLD: &[u8] = b"the old value";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Insert,
    Remove,
    Clear,
    Get,
    GetRef,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "dict: insert, the first", build: || Change::boxed(Op::Insert, None, 0) },
        Recipe { name: "dict: insert, new", build: || Change::boxed(Op::Insert, None, 1) },
        Recipe { name: "dict: insert, replaces", build: || Change::boxed(Op::Insert, Some(OLD), 0) },
        Recipe { name: "dict: insert, the table grows", build: || Change::boxed(Op::Insert, None, 6) },
        Recipe { name: "dict: remove", build: || Change::boxed(Op::Remove, Some(OLD), 1) },
        Recipe { name: "dict: clear", build: || Change::boxed(Op::Clear, Some(OLD), 0) },
        Recipe { name: "dict: get in place", build: || Change::boxed(Op::GetRef, Some(OLD), 1) },
        Recipe { name: "dict: get", build: || Change::boxed(Op::Get, Some(OLD), 1) },
    ]
}

struct Change {
    _manager: Manager,
    place: Place,
    dict: Dict<u64, [u8]>,
    op: Op,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// Keys in the same shard of the dict, which are present all the time.
    others: Vec<u64>,
    got: Option<Vec<u8>>,
}

impl Change {
    fn boxed(op: Op, before: Option<&[u8]>, others: usize) -> Box<dyn Scene> {
        let place = Place::from(format!("crash-{}-dict", std::process::id())).reserve(1 << 24);
        let manager = Manager::create(place.clone()).unwrap();
        let dict = manager.dict::<u64, [u8]>("d").unwrap();
        let before = before.map(<[u8]>::to_vec);
        if let Some(old) = &before {
            dict.insert(&KEY, old).unwrap();
        }
        // The sixth entry of a shard is the last one for which its first table has room.
        let others: Vec<u64> = (100..).filter(|key| dict.shares_part(&KEY, key)).take(others).collect();
        others.iter().for_each(|key| assert!(dict.insert(key, OLD).unwrap()));
        let after = match op {
            Op::Insert => Some(NEW.to_vec()),
            Op::Remove | Op::Clear => None,
            Op::Get | Op::GetRef => before.clone(),
        };
        Box::new(Change { _manager: manager, place, dict, op, before, after, others, got: None })
    }
}

impl Scene for Change {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        self.dict.insert(&u64::MAX, b"").unwrap();
        self.dict.remove(&u64::MAX).unwrap();
    }

    fn act(&mut self) {
        match self.op {
            Op::Insert => drop(self.dict.insert(&KEY, NEW).unwrap()),
            Op::Remove => drop(self.dict.remove(&KEY).unwrap()),
            Op::Clear => self.dict.clear().unwrap(),
            Op::GetRef => self.got = self.dict.get_ref(&KEY).unwrap().map(|value| value.to_vec()),
            Op::Get => self.got = self.dict.get(&KEY).unwrap(),
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let value_now = || self.dict.get(&KEY).map_err(|error| error.to_string());
        let now = value_now()?;
        if now != self.after && (end == End::Finished || now != self.before) {
            return Err(format!("{now:?} is neither the old nor the new"));
        }
        for key in &self.others {
            if self.dict.get(key).map_err(|error| error.to_string())?.as_deref() != Some(OLD) {
                return Err(format!("{key} is lost"));
            }
        }
        if end == End::Stopped {
            // Writers of other shards are not held up. Writers of this shard may be, and get an
            // error. The child may be anywhere, but in one shard only.
            let one = (5000..).find(|key| !self.dict.shares_part(&KEY, key)).unwrap();
            let other = (one..).find(|key| ![one, KEY].iter().any(|there| self.dict.shares_part(there, key)));
            let writes = self.dict.with_write_timeout(Duration::ZERO);
            let done =
                [one, other.unwrap()].map(|key| writes.insert(&key, b"x").and_then(|_| writes.remove(&key)));
            let refused = done.iter().filter(|done| done.is_err()).count();
            if refused > usize::from(self.op == Op::Clear) {
                return Err(format!("a writer of another shard is held up: {done:?}"));
            }
            let here = self.others.first().copied().unwrap_or(9000);
            if self.others.is_empty() {
                return Ok(());
            }
            return match writes.insert(&here, OLD) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(()),
                Err(error) => Err(error.to_string()),
            };
        }
        // A value that was read stays, even if the next writer must finish or undo a change.
        let more: Vec<u64> = (2000..).filter(|key| self.dict.shares_part(&KEY, key)).take(8).collect();
        // A writer that does not wait gets the lock of a dead one too, although no process has
        // noticed the death.
        let writes = self.dict.with_write_timeout(Duration::ZERO);
        for key in &more {
            writes.insert(key, NEW).map_err(|error| error.to_string())?;
        }
        if value_now()? != now {
            return Err(format!("{now:?} has become {:?}", value_now()?));
        }
        let count = self.dict.len().map_err(|error| error.to_string())?;
        let expected = self.others.len() + more.len() + usize::from(now.is_some());
        if count != expected || self.dict.iter().count() != expected {
            return Err(format!("{count} entries, not {expected}"));
        }
        // Each block is an entry's or a table's, so nothing has leaked.
        for key in more.iter().chain(&self.others).chain([&KEY]) {
            writes.remove(key).map_err(|error| error.to_string())?;
        }
        let count = self.dict.len().map_err(|error| error.to_string())?;
        if count != 0 {
            return Err(format!("{count} entries are left"));
        }
        // After a clear no table is left either.
        self.dict.clear().map_err(|error| error.to_string())?;
        match blocks::in_use(&self.place)? {
            0 => Ok(()),
            left => Err(format!("{left} blocks of the heap are left")),
        }
    }

    fn words(&self) -> String {
        format!("{:?}", self.dict)
    }
}
