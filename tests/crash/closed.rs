//! A holder whose program closes all descriptors under its guard, as daemonizing code does.

use std::time::Duration;

use pagemate::sync::{LockError, MutexGuard};
use pagemate::Mutex;

use crate::{End, Recipe, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
const BEFORE: u64 = 1;
const MEANWHILE: u64 = 2;
const AFTER: u64 = 3;

pub fn scenes() -> Vec<Recipe> {
    vec![Recipe { name: "mutex: all descriptors closed under the guard", build: || Closing::boxed() }]
}

struct Closing {
    mutex: Mutex<u64>,
}

impl Closing {
    fn boxed() -> Box<dyn Scene> {
        Box::new(Closing { mutex: Mutex::new(BEFORE).unwrap() })
    }
}

impl Scene for Closing {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        drop(self.mutex.lock().unwrap());
    }

    fn act(&mut self) {
        let mut guard = self.mutex.lock().unwrap();
        *guard = MEANWHILE;
        // SAFETY: no pointers. The library must not rely on descriptors that it has open.
        unsafe { (3..100).for_each(|file| _ = libc::close(file)) };
        *guard = AFTER;
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        if end == End::Stopped {
            return match self.mutex.try_lock() {
                Ok(guard) if *guard == MEANWHILE => {
                    Err("another process got its lock in the middle of a change".into())
                }
                Err(LockError::OwnerDied(_)) => Err("stopped, and taken for dead".into()),
                Ok(_) | Err(LockError::NotAcquired) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
        }
        match self.mutex.lock_timeout(PATIENCE) {
            Ok(guard) if *guard == AFTER || *guard == BEFORE && end == End::Killed => {}
            Ok(guard) => return Err(format!("{end:?}, released with {}", *guard)),
            Err(LockError::OwnerDied(mut guard)) if end == End::Killed => {
                MutexGuard::mark_consistent(&mut guard)
            }
            Err(error) => return Err(error.to_string()),
        }
        self.mutex.lock_timeout(PATIENCE).map(drop).map_err(|error| error.to_string())
    }

    fn words(&self) -> String {
        format!("{:?}", self.mutex)
    }
}
