//! Dicts and namespaces: nobody reads half of a value, inserted keys are present, and removed keys
//! are not.
//!
//! All workers change the common keys of a dict. Each worker also has keys of its own, so it knows
//! their values:
//!
//! | words | meaning |
//! |---|---|
//! | [`DONE`] and key | the number of completed increments of a common key |
//! | [`DOUBTFUL`] and key | the number of deaths in an increment of it |
//! | [`AT`] and slot | the common key that the worker is incrementing, plus 1 |
//! | [`OWN`] and slot | the number of each of its own keys, 0: none |
//! | [`NEW`] and slot | the own key that it is changing, plus 1, and the new number |

use std::sync::atomic::Ordering::SeqCst;

use pagemate::{Dict, ErrorKind, Namespace};

use crate::board::{Fault, WORKERS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe};
use crate::PATIENCE;

/// The number of common keys.
const COMMON: usize = 6;
/// The number of a worker's own keys.
const KEYS: usize = 8;

const DONE: usize = 0;
const DOUBTFUL: usize = DONE + COMMON;
const AT: usize = 64;
const OWN: usize = AT + WORKERS;
const NEW: usize = OWN + KEYS * WORKERS;

/// A number, and words that it determines together with the key.
type Whole = [u64; 5];

/// Returns the value of `key` with this number.
fn whole(key: u64, number: u64) -> Whole {
    std::array::from_fn(|word| if word == 0 { number } else { mix(number ^ mix(key ^ (word as u64) << 56)) })
}

/// Returns the text of `key` with this number. The sizes differ, so that texts move to other
/// blocks.
fn text(key: u64, number: u64) -> String {
    let word = format!("{number} {:x} ", mix(key ^ number << 20));
    word.repeat(1 + number as usize % 7)
}

fn own_key(slot: usize, key: usize) -> u64 {
    1000 + (slot * KEYS + key) as u64
}

fn is_own(key: u64) -> bool {
    (1000..own_key(WORKERS, 0)).contains(&key)
}

struct Entries {
    counts: Dict<u64, Whole>,
    texts: Dict<u64, str>,
    /// The largest number seen of each common key.
    last: [u64; COMMON],
}

/// Returns the result, or `None` after `TimedOut`: another writer of the same shard was stopped.
fn done<T>(desk: &Desk, result: pagemate::Result<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) if error.kind() == ErrorKind::TimedOut => None,
        Err(error) => {
            desk.fault(Fault::Broken, format!("{error}"));
            None
        }
    }
}

impl Entries {
    /// Checks a value of a common key, and notes its number.
    fn inspect(&mut self, desk: &Desk, key: usize, value: Option<Whole>) {
        let number = value.map_or(0, |value| value[0]);
        if value.is_some_and(|value| value != whole(key as u64, number)) {
            desk.fault(Fault::Torn, format!("{key}: {value:x?}"));
        } else if number < self.last[key] {
            desk.fault(Fault::Lost, format!("{key}: {number} after {}", self.last[key]));
        } else {
            self.last[key] = number;
        }
    }

    fn count_up(&mut self, desk: &mut Desk, key: usize) {
        let words = desk.words();
        let (at, dict) = (&words[AT + desk.slot], self.counts.clone());
        at.store(key as u64 + 1, SeqCst);
        let next = |value: Option<&Whole>| Some(whole(key as u64, value.map_or(0, |value| value[0]) + 1));
        let made = match desk.random.below(4) {
            0 => desk.patient("update", || dict.update(&(key as u64), next)),
            _ => desk.timed("update", |time| dict.with_write_timeout(time).update(&(key as u64), next)),
        };
        if let Some(value) = done(desk, made) {
            words[DONE + key].fetch_add(1, SeqCst);
            self.inspect(desk, key, value);
        }
        at.store(0, SeqCst);
    }

    /// Changes one of its own keys, or checks it.
    fn own(&mut self, desk: &mut Desk) {
        let index = desk.random.below(KEYS as u64) as usize;
        let (key, dict) = (own_key(desk.slot, index), self.texts.clone());
        let (number, new) = (&desk.words()[OWN + KEYS * desk.slot + index], &desk.words()[NEW + desk.slot]);
        let before = number.load(SeqCst);
        let after = if desk.random.one_in(2) { 1 + desk.random.below(1 << 30) } else { 0 };
        if desk.random.one_in(3) {
            let found = desk.act("get", || dict.get(&key));
            return check(desk, key, before, done(desk, found));
        }
        new.store((index as u64 + 1) << 32 | after, SeqCst);
        let found = match (desk.random.below(3), after) {
            (0, 0) => desk.patient("remove", || dict.remove(&key)).map(Some),
            (_, 0) => desk.timed("remove", |time| dict.with_write_timeout(time).remove(&key)).map(Some),
            (0, _) => desk.patient("insert", || dict.insert(&key, &text(key, after))).map(|is_new| {
                check_is_new(desk, key, before, is_new);
                None
            }),
            _ => desk
                .timed("insert", |time| dict.with_write_timeout(time).insert(&key, &text(key, after)))
                .map(|is_new| {
                    check_is_new(desk, key, before, is_new);
                    None
                }),
        };
        if let Some(found) = done(desk, found) {
            if found.is_some() {
                check(desk, key, before, found);
            }
            number.store(after, SeqCst);
        }
        new.store(0, SeqCst);
    }

    /// Checks that an iteration returns each of its own keys exactly once, whatever others do.
    fn walk(&mut self, desk: &mut Desk) {
        let texts = self.texts.clone();
        let all = desk.act("iter", || texts.iter().collect::<pagemate::Result<Vec<_>>>());
        let Some(all) = done(desk, all) else { return };
        for index in 0..KEYS {
            let key = own_key(desk.slot, index);
            let mut found = all.iter().filter(|(other, _)| *other == key).map(|(_, value)| value.clone());
            check(desk, key, desk.words()[OWN + KEYS * desk.slot + index].load(SeqCst), Some(found.next()));
            if found.next().is_some() {
                desk.fault(Fault::Doubled, format!("{key} comes twice"));
            }
        }
        if let Some((key, _)) = all.iter().find(|(key, _)| !is_own(*key)) {
            desk.fault(Fault::Broken, format!("the key {key}, which nobody has inserted"));
        }
    }
}

/// Checks that an insert says rightly whether `key`, which had number `before`, was new.
fn check_is_new(desk: &Desk, key: u64, before: u64, is_new: bool) {
    if is_new != (before == 0) {
        let fault = if is_new { Fault::Lost } else { Fault::Doubled };
        desk.fault(fault, format!("{key} has {before}, and insert says that it was new: {is_new}"));
    }
}

/// Checks that `key` has its number.
fn check(desk: &Desk, key: u64, number: u64, found: Option<Option<String>>) {
    let expected = (number != 0).then(|| text(key, number));
    match found {
        Some(found) if found == expected => {}
        Some(None) => desk.fault(Fault::Lost, format!("{key} has {number}, and nothing is there")),
        Some(Some(found)) if number == 0 => {
            desk.fault(Fault::Doubled, format!("{key} was removed, and {found:?} is there"));
        }
        Some(Some(found)) => desk.fault(Fault::Torn, format!("{key} has {number}, and {found:?} is there")),
        None => {}
    }
}

impl Member for Entries {
    fn step(&mut self, desk: &mut Desk) {
        let key = desk.random.below(COMMON as u64) as usize;
        match desk.random.below(12) {
            0..3 => self.count_up(desk, key),
            3..5 => {
                let found = desk.act("get", || self.counts.get(&(key as u64)));
                if let Some(value) = done(desk, found) {
                    self.inspect(desk, key, value);
                }
            }
            5 => self.walk(desk),
            _ => self.own(desk),
        }
    }

    fn account_for(&mut self, desk: &mut Desk, slot: usize) {
        let words = desk.words();
        if let Some(key) = words[AT + slot].swap(0, SeqCst).checked_sub(1) {
            words[DOUBTFUL + key as usize].fetch_add(1, SeqCst);
        }
        // The key that it was changing has its old number or the new one, and keeps it.
        let new = words[NEW + slot].swap(0, SeqCst);
        let Some(index) = (new >> 32).checked_sub(1) else { return };
        let number = &words[OWN + KEYS * slot + index as usize];
        let (key, before, after) = (own_key(slot, index as usize), number.load(SeqCst), new & 0xffff_ffff);
        let has = |number: u64| (number != 0).then(|| text(key, number));
        match self.texts.get(&key) {
            Ok(found) if found == has(before) => {}
            Ok(found) if found == has(after) => number.store(after, SeqCst),
            found => {
                desk.fault(Fault::Torn, format!("{key} had {before} or {after}, and {found:?} is there"))
            }
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let words = desk.words();
        for key in 0..COMMON {
            let done = words[DONE + key].load(SeqCst);
            let most = done + words[DOUBTFUL + key].load(SeqCst);
            match self.counts.get(&(key as u64)) {
                Ok(value) => self.inspect(desk, key, value),
                Err(error) => desk.fault(Fault::Broken, format!("{error}")),
            }
            let number = self.last[key];
            if number < done {
                desk.fault(Fault::Lost, format!("{key}: {number} of {done} changes"));
            } else if number > most {
                desk.fault(Fault::Doubled, format!("{key}: {number} changes, {most} begun"));
            }
        }
        let mut count = 0;
        for slot in 0..WORKERS {
            for index in 0..KEYS {
                let (key, number) = (own_key(slot, index), words[OWN + KEYS * slot + index].load(SeqCst));
                count += usize::from(number != 0);
                check(desk, key, number, self.texts.get(&key).ok());
            }
        }
        let (len, walked) = (self.texts.len(), self.texts.iter().count());
        if walked != count || !len.as_ref().is_ok_and(|len| *len == count) {
            desk.fault(Fault::Broken, format!("{count} entries, {walked} in a walk, and a count of {len:?}"));
        }
        let emptied = self.texts.with_write_timeout(PATIENCE).clear();
        let has_room = emptied.and_then(|()| self.texts.with_write_timeout(PATIENCE).insert(&1, "one"));
        if !has_room.as_ref().is_ok_and(|is_new| *is_new) || self.texts.len().ok() != Some(1) {
            desk.fault(Fault::Stuck, format!("cleared, and an entry inserted: {has_room:?}"));
        }
    }
}

/// Names whose values change between a number and a text, and never have the type of the other.
struct Names(Namespace);

impl Member for Names {
    fn step(&mut self, desk: &mut Desk) {
        let (key, number) = (desk.random.below(4), 1 + desk.random.below(1 << 30));
        let (space, name) = (&self.0, format!("name-{key}"));
        match desk.random.below(8) {
            0 | 1 => done(desk, desk.patient("set", || space.set(&name, &whole(key, number)))).unwrap_or(()),
            2 | 3 => {
                done(desk, desk.patient("set", || space.set::<str>(&name, &text(key, number)))).unwrap_or(())
            }
            4 => _ = done(desk, desk.patient("remove", || space.remove(&name))),
            5 | 6 => match desk.act("get", || space.get::<Whole>(&name)) {
                Ok(Some(value)) if value != whole(key, value[0]) => {
                    desk.fault(Fault::Torn, format!("{name}: {value:x?}"));
                }
                Err(error) if error.kind() != ErrorKind::TypeMismatch => {
                    desk.fault(Fault::Broken, format!("{name}: {error}"));
                }
                _ => {}
            },
            _ => match desk.act("get", || space.get::<str>(&name)) {
                Ok(Some(value)) => {
                    let number = value.split(' ').next().and_then(|word| word.parse().ok());
                    if number.map(|number| text(key, number)).as_ref() != Some(&value) {
                        desk.fault(Fault::Torn, format!("{name}: {value:?}"));
                    }
                }
                Err(error) if error.kind() != ErrorKind::TypeMismatch => {
                    desk.fault(Fault::Broken, format!("{name}: {error}"));
                }
                _ => {}
            },
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let set = self.0.set("last", &1u64).and_then(|()| self.0.get::<u64>("last"));
        let names = self.0.names();
        if !set.as_ref().is_ok_and(|last| *last == Some(1)) || !names.is_ok_and(|names| names.len() <= 5) {
            desk.fault(Fault::Broken, format!("set, and found: {set:?}, in {:?}", self.0));
        }
    }
}

pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "dict",
        join: |site, name| {
            let counts = Dict::open_or_create(site.segment.at(name))?.0;
            let texts = Dict::open_or_create(site.segment.at("dict of texts"))?.0;
            Ok(Box::new(Entries { counts, texts, last: [0; COMMON] }))
        },
    },
    Recipe {
        name: "namespace",
        join: |site, name| Ok(Box::new(Names(Namespace::open_or_create(site.segment.at(name))?.0))),
    },
];
