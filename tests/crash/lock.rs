//! Scenes of the mutex and of the lock.

use pagemate::sync::{LockGuard, MutexGuard};
use pagemate::{Event, Lock, Mutex};

use crate::exclusive::{die_behind, scenes_of, Exclusive, How, DONE, PATIENCE};
use crate::helper::{until, Helper};
use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    let mut scenes = scenes_of!(Mutex<u64>, "mutex");
    scenes.extend(scenes_of!(Lock, "lock"));
    scenes.extend([
        Recipe { name: "mutex: reset, its value damaged", build: || Box::new(Reset::new()) },
        Recipe { name: "lock: release another's, another waits", build: || Box::new(Handover::new()) },
    ]);
    scenes
}

impl Exclusive for Mutex<u64> {
    type Guard = MutexGuard<'static, u64>;

    fn new() -> Mutex<u64> {
        Mutex::new(0).unwrap()
    }

    fn lock(&'static self, how: How) -> Option<(MutexGuard<'static, u64>, bool)> {
        let acquired = match how {
            How::Try => self.try_lock(),
            How::Wait => self.lock(),
            How::For(time) => self.lock_timeout(time),
        };
        match acquired {
            Ok(guard) => Some((guard, false)),
            Err(error) => {
                let is_after_death = error.is_owner_died();
                error.into_guard().map(|guard| (guard, is_after_death))
            }
        }
    }

    fn mark_consistent(guard: &mut MutexGuard<'static, u64>) {
        MutexGuard::mark_consistent(guard);
    }

    fn is_locked(&self) -> bool {
        self.is_locked()
    }

    fn words(&self) -> String {
        format!("{self:?}")
    }
}

impl Exclusive for Lock {
    type Guard = LockGuard<'static>;

    fn new() -> Lock {
        Lock::new().unwrap()
    }

    fn lock(&'static self, how: How) -> Option<(LockGuard<'static>, bool)> {
        let acquired = match how {
            How::Try => self.try_lock(),
            How::Wait => self.lock(),
            How::For(time) => self.lock_timeout(time),
        };
        acquired.ok().map(|guard| {
            let is_after_death = guard.owner_died();
            (guard, is_after_death)
        })
    }

    fn mark_consistent(_: &mut LockGuard<'static>) {}

    fn is_locked(&self) -> bool {
        self.is_locked()
    }

    fn words(&self) -> String {
        format!("{self:?}")
    }
}

/// A holder died, and the child replaces the value.
struct Reset {
    mutex: &'static Mutex<[u64; 2]>,
}

impl Reset {
    fn new() -> Reset {
        let mutex: &'static Mutex<[u64; 2]> = Box::leak(Box::new(Mutex::new([0, 0]).unwrap()));
        let die = || {
            let mut guard = mutex.lock().unwrap();
            guard[0] = 1;
            std::mem::forget(guard);
        };
        die_behind(|| drop(mutex.try_lock()), die);
        Reset { mutex }
    }
}

impl Scene for Reset {
    fn prepare(&mut self) {
        // The attempt fails or reports the death. Without a repair the lock stays as it is.
        assert!(self.mutex.try_lock().is_err());
    }

    fn act(&mut self) {
        drop(self.mutex.reset([2, 2]));
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let acquired = match end {
            End::Stopped => self.mutex.lock_timeout(crate::exclusive::TEMPTATION),
            _ => self.mutex.lock_timeout(PATIENCE),
        };
        match acquired {
            Ok(guard) if *guard == [2, 2] => Ok(()),
            Err(error) if error.is_owner_died() && end != End::Finished => Ok(()),
            Err(error) if error.is_not_acquired() && end == End::Stopped => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn words(&self) -> String {
        format!("{:?}", self.mutex)
    }
}

/// The child releases what the survivor has acquired and a helper waits for.
struct Handover {
    lock: &'static Lock,
    helper: Option<Helper>,
    /// The helper keeps the lock until this is set.
    enough: Event,
}

impl Handover {
    fn new() -> Handover {
        let lock: &'static Lock = Box::leak(Box::new(Lock::new().unwrap()));
        let enough = Event::new().unwrap();
        lock.acquire().unwrap();
        let body = || {
            let guard = lock.lock().unwrap();
            assert!(!guard.owner_died());
            enough.wait();
            drop(guard);
            DONE
        };
        let helper = Helper::start_blocked(body);
        Handover { lock, helper: Some(helper), enough: enough.clone() }
    }
}

impl Scene for Handover {
    fn act(&mut self) {
        let _ = self.lock.release(); // if the child was stopped before this, nobody holds it
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        let Some(mut helper) = self.helper.take() else {
            return self.lock.lock_timeout(PATIENCE).map(drop).map_err(|error| error.to_string());
        };
        // The stopped or killed child has released the lock or not. If not, anybody can still do
        // it. Exactly one of the two releases counts, unless the helper has the lock already.
        if end != End::Finished {
            self.enough.set();
            until("the lock comes to the helper", || {
                if !helper.has_ended() {
                    let _ = self.lock.release();
                }
                helper.has_ended()
            })?;
        }
        self.enough.set();
        helper.outcome()?;
        if end == End::Stopped {
            // The child may release a lock that nobody holds, which is an error, or one that we
            // would hold.
            return Ok(());
        }
        let guard = self.lock.lock_timeout(PATIENCE).map_err(|error| error.to_string())?;
        let is_well = !guard.owner_died() && self.lock.try_lock().is_err();
        drop(guard);
        (is_well && self.lock.release().is_err()).then_some(()).ok_or("the lock is not fresh".into())
    }

    fn words(&self) -> String {
        format!("{:?}", self.lock)
    }
}
