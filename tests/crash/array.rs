//! Scenes of the array: an element set, and all of them changed under the guard.

use std::time::Duration;

use pagemate::collections::ArrayGuard;
use pagemate::sync::LockError;
use pagemate::Array;

use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
const BEFORE: u64 = 1;
const AFTER: u64 = 2;

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "array: set an element", build: || Changing::boxed(false) },
        Recipe { name: "array: change all under the guard", build: || Changing::boxed(true) },
    ]
}

struct Changing {
    array: Array<u64>,
    changes_all: bool,
}

impl Changing {
    fn boxed(changes_all: bool) -> Box<dyn Scene> {
        Box::new(Changing { array: Array::new(4, BEFORE).unwrap(), changes_all })
    }
}

impl Scene for Changing {
    fn act(&mut self) {
        if self.changes_all {
            self.array.lock().unwrap().iter_mut().for_each(|number| *number = AFTER);
        } else {
            self.array.set(0, AFTER).unwrap();
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            // It may hold the lock. Whatever is found then is complete.
            return match self.array.try_lock() {
                Ok(guard) if guard.iter().skip(1).any(|number| *number != guard[1]) => {
                    Err("half a change".into())
                }
                Ok(_) | Err(LockError::NotAcquired) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
        }
        let (mut guard, has_died) = match self.array.lock_timeout(PATIENCE) {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied(guard)) => (guard, true),
            Err(error) => return Err(error.to_string()),
        };
        let changed = guard.iter().filter(|number| **number == AFTER).count();
        let all = if self.changes_all { 4 } else { 1 };
        if guard.iter().any(|number| ![BEFORE, AFTER].contains(number)) || changed > all {
            return Err(format!("{guard:?}"));
        }
        if !has_died && changed != all && (changed != 0 || end == End::Finished) {
            return Err(format!("half a change, and no error that reports it: {guard:?}"));
        }
        if has_died && end == End::Finished {
            return Err("it has returned, and died holding the lock".into());
        }
        ArrayGuard::mark_consistent(&mut guard);
        drop(guard);
        self.array.set(3, BEFORE).map(drop).map_err(|error| error.to_string())
    }

    fn words(&self) -> String {
        format!("{:?}", self.array)
    }
}
