//! The owner word: one holder at a time, no lost wake-up, and a death that the next holder
//! learns of.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::robust_word::{Acquired, OwnerWord};
use crate::sys::clock::Deadline;

/// A lock and a count that it guards. The accesses are Relaxed, so only the lock can make the sums
/// right.
struct Scene {
    word: OwnerWord,
    count: AtomicU32,
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene { word: OwnerWord::new(), count: AtomicU32::new(0) })
    }

    fn acquire(&self, me: OwnerId) -> Acquired {
        match self.word.try_acquire(me) {
            Some(acquired) => acquired,
            None => self.word.acquire_contended(me, Deadline::Never, |_| ()).unwrap(),
        }
    }

    fn add(&self) {
        self.count.store(self.count.load(Relaxed) + 1, Relaxed);
    }

    fn round(&self, index: usize) {
        let me = id(index);
        self.acquire(me);
        self.add();
        assert!(self.word.release(me));
    }

    /// Checks that nobody holds the lock, and that nothing counted is lost.
    fn check_end(&self, count: u32) {
        let acquired = self.word.try_acquire(id(9)).unwrap();
        assert_eq!(self.count.load(Relaxed), count);
        assert!(!acquired.after_death);
    }
}

fn spawn(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn three_lock_and_unlock() {
    model_within(2, "owned: three lock and unlock", || {
        let scene = Scene::new();
        let others = [1, 2].map(|index| spawn(&scene, move |scene| scene.round(index)));
        scene.round(3);
        others.into_iter().for_each(|other| other.join().unwrap());
        scene.check_end(3);
    });
}

#[test]
fn two_lock_and_unlock_twice() {
    model("owned: two lock and unlock twice", || {
        let scene = Scene::new();
        let other = spawn(&scene, |scene| (0..2).for_each(|_| scene.round(1)));
        (0..2).for_each(|_| scene.round(2));
        other.join().unwrap();
        scene.check_end(4);
    });
}

#[test]
fn a_waiter_that_gives_up_takes_no_wake_up_along() {
    model("owned: a holder, a waiter, and one that gives up", || {
        let scene = Scene::new();
        scene.word.try_acquire(id(1)).unwrap();
        let waiter = spawn(&scene, |scene| scene.round(2));
        let gives_up = spawn(&scene, |scene| {
            // As a wait whose deadline passes before it sleeps.
            scene.word.announce();
            if scene.word.acquire_announced(id(3)).is_some() {
                assert!(scene.word.release(id(3)));
            }
        });
        scene.add();
        assert!(scene.word.release(id(1)));
        waiter.join().unwrap();
        gives_up.join().unwrap();
        scene.check_end(2);
    });
}

/// Runs a victim that dies after `steps` steps. Its join models the kernel's report of the death.
fn killed_after(steps: usize, scene: &Arc<Scene>) -> thread::JoinHandle<()> {
    spawn(scene, move |scene| {
        let me = id(1);
        for step in 0..steps {
            match step {
                0 => drop(scene.word.announce()),
                1 if scene.word.acquire_announced(me).is_some() => {}
                2 => scene.add(),
                3 => assert!(scene.word.release(me)),
                _ => return,
            }
        }
    })
}

fn a_death_between_steps(steps: usize) {
    model_within(
        2,
        &format!("owned: a victim killed after {steps} steps, a waiter and two reapers"),
        move || {
            let scene = Scene::new();
            let victim = killed_after(steps, &scene);
            let waiter = spawn(&scene, |scene| {
                let acquired = scene.acquire(id(2));
                scene.add();
                // The waiter may have been there before the victim.
                assert!(!acquired.after_death || scene.count.load(Relaxed) >= 1);
                scene.word.mark_consistent();
                assert!(scene.word.release(id(2)));
            });
            victim.join().unwrap();
            let reaper = spawn(&scene, |scene| scene.word.recover(id(1)));
            scene.word.recover(id(1));
            reaper.join().unwrap();
            waiter.join().unwrap();
            let last = scene.word.try_acquire(id(3)).unwrap();
            // The victim has counted or not. If it died as the holder, one of the others is told.
            let count = scene.count.load(Relaxed);
            assert!((1..=2).contains(&count), "counted {count}");
            assert!(!last.after_death || steps >= 2);
        },
    );
}

#[test]
fn a_victim_dies_announced() {
    a_death_between_steps(1);
}

#[test]
fn a_victim_dies_holding() {
    a_death_between_steps(2);
}

#[test]
fn a_victim_dies_about_to_release() {
    a_death_between_steps(3);
}

#[test]
fn a_victim_dies_after_its_release() {
    a_death_between_steps(4);
}

#[test]
fn the_waiter_of_a_dead_holder_is_told() {
    model("owned: a dead holder, two waiters and a reaper", || {
        let scene = Scene::new();
        scene.word.try_acquire(id(1)).unwrap();
        scene.add();
        let waiters = [2, 3].map(|index| {
            spawn(&scene, move |scene| {
                assert!(scene.acquire(id(index)).after_death, "nobody has made it consistent");
                scene.add();
                assert!(scene.word.release(id(index)));
            })
        });
        scene.word.recover(id(1));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(scene.word.try_acquire(id(4)).unwrap().after_death);
        assert_eq!(scene.count.load(Relaxed), 3);
    });
}
