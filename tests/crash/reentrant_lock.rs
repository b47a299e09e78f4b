//! Scenes of the reentrant lock, held once and twice.

use pagemate::sync::ReentrantLockGuard;
use pagemate::ReentrantLock;

use crate::exclusive::{scenes_of, Exclusive, How};
use crate::Recipe;

pub fn scenes() -> Vec<Recipe> {
    let mut scenes = scenes_of!(ReentrantLock, "reentrant lock");
    scenes.extend(scenes_of! { Twice, "reentrant lock, twice":
        "lock and unlock" Round Free Nobody;
        "lock, asleep, another waits" Round HeldByWaker Asleep;
        "lock, its holder dead" Round HolderDead Nobody;
        "unlock" Unlock HeldByChild Nobody;
        "unlock, another waits" Unlock HeldByChild Asleep;
    });
    scenes
}

impl Exclusive for ReentrantLock {
    type Guard = ReentrantLockGuard<'static>;

    fn new() -> ReentrantLock {
        ReentrantLock::new().unwrap()
    }

    fn lock(&'static self, how: How) -> Option<(ReentrantLockGuard<'static>, bool)> {
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

    fn mark_consistent(_: &mut ReentrantLockGuard<'static>) {}

    fn is_locked(&self) -> bool {
        self.is_locked()
    }

    fn words(&self) -> String {
        format!("{self:?}")
    }
}

/// A reentrant lock of which every holder acquires two levels.
pub struct Twice(pub ReentrantLock);

impl Exclusive for Twice {
    type Guard = [ReentrantLockGuard<'static>; 2];

    fn new() -> Twice {
        Twice(ReentrantLock::new().unwrap())
    }

    fn lock(&'static self, how: How) -> Option<([ReentrantLockGuard<'static>; 2], bool)> {
        let (outer, is_after_death) = Exclusive::lock(&self.0, how)?;
        let inner = self.0.lock().unwrap();
        assert!(!inner.owner_died() && self.0.is_held());
        Some(([outer, inner], is_after_death))
    }

    fn mark_consistent(_: &mut [ReentrantLockGuard<'static>; 2]) {}

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    fn words(&self) -> String {
        format!("{:?}", self.0)
    }
}
