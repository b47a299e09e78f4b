//! The bounded semaphore: no waiter sleeps through a returned permit, no permit has two holders,
//! and those of dead processes come back.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::bounded_semaphore::state::Permits;
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

/// A semaphore, and the number of threads inside. Its accesses are Relaxed, so only the permits can
/// make the sums right.
struct Scene {
    waiters: Waiters,
    words: Vec<AtomicU32>,
    inside: AtomicU32,
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    fn new(permits: usize) -> Arc<Scene> {
        let words = (0..permits).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Scene { waiters: Waiters::new(), words, inside: AtomicU32::new(0) })
    }

    fn permits(&self) -> Permits<'_> {
        Permits { waiters: &self.waiters, words: &self.words }
    }

    fn acquire(&self, me: OwnerId, hint: usize) -> usize {
        let permits = self.permits();
        let taken = permits.try_acquire(me, hint);
        taken.or_else(|| permits.acquire_contended(me, hint, Deadline::Never, || ())).unwrap()
    }

    fn round(&self, index: usize) {
        let taken = self.acquire(id(index), 0);
        assert!(self.permits().free(taken, id(index)));
    }
}

fn spawn(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn three_for_two_permits() {
    model_within(2, "bounded semaphore: three for two permits", || {
        let scene = Scene::new(2);
        let others = [1, 2].map(|index| spawn(&scene, move |scene| scene.round(index)));
        scene.round(3);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(scene.permits().available(), 2);
    });
}

#[test]
fn one_permit_excludes() {
    model("bounded semaphore: one permit excludes, and shows what its last holder did", || {
        let scene = Scene::new(1);
        let enter = |scene: &Scene, index: usize| {
            let taken = scene.acquire(id(index), 0);
            assert_eq!(scene.inside.load(Relaxed) % 2, 0, "two with one permit");
            scene.inside.store(scene.inside.load(Relaxed) + 1, Relaxed);
            scene.inside.store(scene.inside.load(Relaxed) + 1, Relaxed);
            assert!(scene.permits().free(taken, id(index)));
        };
        let other = spawn(&scene, move |scene| (0..2).for_each(|_| enter(scene, 1)));
        enter(&scene, 2);
        other.join().unwrap();
        assert_eq!((scene.permits().available(), scene.inside.load(Relaxed)), (1, 6));
    });
}

#[test]
fn a_kept_permit_is_given_back_by_another() {
    model("bounded semaphore: two waiters, two kept permits given back by another", || {
        let scene = Scene::new(2);
        for index in 0..2 {
            scene.permits().try_acquire(id(1), index).unwrap();
            scene.permits().keep(index);
        }
        let waiters = [2, 3].map(|index| spawn(&scene, move |scene| _ = scene.acquire(id(index), 0)));
        assert!(scene.permits().free_kept(id(4), 0) && scene.permits().free_kept(id(4), 0));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(!scene.permits().free_kept(id(4), 0));
    });
}

/// Runs a victim that dies after `steps` steps. Its join models the kernel's report of the death.
fn a_death_between_steps(steps: usize) {
    model_within(
        2,
        &format!("bounded semaphore: a victim killed after {steps} steps, a waiter, two reapers"),
        move || {
            let scene = Scene::new(1);
            let victim = spawn(&scene, move |scene| {
                let permits = scene.permits();
                for step in 0..steps {
                    match step {
                        0 => drop(scene.waiters.announce()),
                        1 if permits.try_acquire(id(1), 0).is_some() => {}
                        2 => permits.keep(0),
                        3 => assert!(permits.free_kept(id(1), 0)),
                        _ => return,
                    }
                }
            });
            let waiter = spawn(&scene, |scene| scene.round(2));
            victim.join().unwrap();
            let reaper = spawn(&scene, |scene| scene.permits().recover(id(1)));
            scene.permits().recover(id(1));
            reaper.join().unwrap();
            waiter.join().unwrap();
            assert_eq!(scene.permits().available(), 1);
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
fn a_victim_dies_with_a_kept_permit() {
    a_death_between_steps(3);
}

#[test]
fn a_victim_dies_after_its_release() {
    a_death_between_steps(4);
}
