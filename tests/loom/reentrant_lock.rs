//! The reentrant lock: only its holder can acquire it again; it is free after the last release;
//! after a death at any depth the next holder begins at depth 1.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::reentrant::state::{Holder, State};
use crate::sys::clock::Deadline;

/// A lock and a count that it guards. The accesses are Relaxed, so the sums are right only if the
/// lock orders them.
struct Scene {
    state: State,
    count: AtomicU32,
}

/// Returns a thread of the process with this index in the table.
fn holder(index: usize, thread: u64) -> Holder {
    Holder { id: OwnerId::new(index, 1).unwrap(), thread }
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene { state: State::new(), count: AtomicU32::new(0) })
    }

    /// Acquires the lock, or goes one level deeper. A new acquisition begins at `depth`. Returns
    /// whether the previous holder died.
    fn lock_at(&self, me: Holder, depth: u32) -> bool {
        if let Some(again) = self.state.enter_again(me) {
            again.unwrap();
            return false;
        }
        let word = &self.state.word;
        let acquired = word.try_acquire(me.id);
        let acquired = acquired.or_else(|| word.acquire_contended(me.id, Deadline::Never, |_| ())).unwrap();
        self.state.begin(me, depth, acquired);
        acquired.after_death
    }

    fn lock(&self, me: Holder) -> bool {
        self.lock_at(me, 1)
    }

    fn add(&self) {
        self.count.store(self.count.load(Relaxed) + 1, Relaxed);
    }

    /// Acquires the lock twice, and releases it as often.
    fn round(&self, me: Holder) {
        assert!(!self.state.is_held_by(me));
        self.lock(me);
        assert!(self.state.is_held_by(me));
        self.lock(me);
        self.add();
        assert_eq!(self.state.depth(), 2);
        assert!(self.state.leave(me) && self.state.is_held_by(me));
        self.add();
        assert!(self.state.leave(me) && !self.state.is_held_by(me) && !self.state.leave(me));
    }

    /// Asserts that the lock is free and that `count` additions were seen. Acquires the lock.
    fn assert_free_with(&self, count: u32) {
        let acquired = self.state.word.try_acquire(holder(9, 1).id).unwrap();
        assert_eq!(self.count.load(Relaxed), count);
        assert!(!acquired.after_death);
    }
}

fn spawn(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn two_processes() {
    model("reentrant lock: two processes acquire it twice", || {
        let scene = Scene::new();
        let other = spawn(&scene, |scene| scene.round(holder(1, 1)));
        scene.round(holder(2, 1));
        other.join().unwrap();
        scene.assert_free_with(4);
    });
}

/// The owner word is the same for both threads; the token differs.
#[test]
fn two_threads_of_a_process() {
    model("reentrant lock: two threads of one process acquire it twice", || {
        let scene = Scene::new();
        let other = spawn(&scene, |scene| scene.round(holder(1, 1)));
        scene.round(holder(1, 2));
        other.join().unwrap();
        scene.assert_free_with(4);
    });
}

#[test]
fn three_threads_of_two_processes() {
    model_within(1, "reentrant lock: two threads of one process, and another process", || {
        let scene = Scene::new();
        let others = [holder(1, 1), holder(2, 1)].map(|me| spawn(&scene, move |scene| scene.round(me)));
        scene.round(holder(1, 2));
        others.into_iter().for_each(|other| other.join().unwrap());
        scene.assert_free_with(6);
    });
}

/// As a wait on a condition variable does: releases all levels, and restores them afterwards.
#[test]
fn released_at_any_depth_and_restored() {
    model_within(2, "reentrant lock: released from depth 2, and restored at it, while others wait", || {
        let scene = Scene::new();
        let me = holder(1, 1);
        scene.lock(me);
        scene.lock(me);
        let waiters = [holder(1, 2), holder(2, 1)].map(|waiter| {
            spawn(&scene, move |scene| {
                scene.lock(waiter);
                scene.add();
                assert_eq!(scene.state.leave_all(waiter), Some(1));
            })
        });
        scene.add();
        assert_eq!(scene.state.leave_all(me), Some(2));
        assert!(!scene.state.is_held_by(me));
        assert!(!scene.lock_at(me, 2));
        scene.add();
        assert!(scene.state.leave(me) && scene.state.leave(me) && !scene.state.leave(me));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        scene.assert_free_with(4);
    });
}

/// The number of steps from acquiring the free lock to its release.
const STEPS: usize = 9;

/// Acquires the lock twice and releases it twice, as a victim that dies after `steps` steps. The
/// steps repeat those of `begin`, `enter_again`, `leave` and `leave_all`, and one addition.
fn run_victim(scene: &Scene, me: Holder, steps: usize) {
    let state = &scene.state;
    for step in 0..steps {
        match step {
            0 if state.word.try_acquire(me.id).is_none() => return,
            0 => {}
            1 => state.depth.store(1, Relaxed),
            2 => state.thread.store(me.token(), Relaxed),
            3 => state.word.mark_consistent(),
            4 => assert_eq!(state.enter_again(me), Some(Ok(()))),
            5 => scene.add(),
            6 => assert!(state.leave(me)),
            7 => state.thread.store(0, Relaxed),
            _ => assert!(state.word.release(me.id)),
        }
    }
}

fn a_death_after(steps: usize) {
    model_within(
        2,
        &format!("reentrant lock: a victim killed after {steps} steps, and its heirs"),
        move || {
            let scene = Scene::new();
            let victim = holder(1, 1);
            let dying = spawn(&scene, move |scene| run_victim(scene, victim, steps));
            let waiter = spawn(&scene, |scene| {
                let me = holder(2, 1);
                scene.lock(me);
                // The new holder does not inherit the victim's depth.
                assert_eq!(scene.state.depth(), 1);
                scene.add();
                assert!(scene.state.leave(me) && !scene.state.is_held_by(me));
            });
            dying.join().unwrap();
            // The models of owner words have several reapers at once.
            scene.state.word.recover(victim.id);
            // A process at the same place in the table, whose first thread has the same number.
            let heir = Holder { id: OwnerId::new(1, 2).unwrap(), ..victim };
            assert!(!scene.state.is_held_by(heir) && !scene.state.leave(heir));
            scene.lock(heir);
            assert_eq!(scene.state.depth(), 1);
            scene.add();
            assert!(scene.state.leave(heir) && !scene.state.is_held_by(heir));
            waiter.join().unwrap();
            assert!((2..=3).contains(&scene.count.load(Relaxed)));
            assert!(!scene.lock(holder(3, 1)), "the death is reported once");
        },
    );
}

#[test]
fn deaths_in_acquiring() {
    (1..5).for_each(a_death_after);
}

#[test]
fn deaths_in_holding_and_releasing() {
    (5..=STEPS).for_each(a_death_after);
}

/// The dead thread's token stays in the lock. It must be no living thread's token, not even that of
/// the heir's thread with the same number, while another thread of the heir takes the lock.
#[test]
fn the_token_of_a_dead_thread_is_not_that_of_a_living_one() {
    model("reentrant lock: two threads of a process in the place of a dead holder", || {
        let scene = Scene::new();
        let dead = holder(1, 1);
        scene.lock(dead);
        scene.lock(dead);
        scene.state.word.recover(dead.id);
        let heir = Holder { id: OwnerId::new(1, 2).unwrap(), ..dead };
        let sibling = Holder { thread: 2, ..heir };
        let other = spawn(&scene, move |scene| {
            scene.lock(sibling);
            scene.add();
            assert!(scene.state.leave(sibling));
        });
        assert!(!scene.state.is_held_by(heir));
        scene.lock(heir);
        scene.add();
        assert!(scene.state.leave(heir));
        other.join().unwrap();
        scene.assert_free_with(2);
    });
}
