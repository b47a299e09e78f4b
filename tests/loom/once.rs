//! Once: one thread initialises, all others see its writes, and after a failure or a death the next
//! one tries.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::once::state::{Begun, State};
use crate::sys::clock::Deadline;

/// A once, and data that it initialises to 7, in two steps. The accesses are Relaxed, so only the
/// once can make them visible.
struct Scene {
    state: State,
    value: AtomicU32,
    completed: AtomicU32,
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    fn new() -> Arc<Scene> {
        let [value, completed] = [(); 2].map(|_| AtomicU32::new(0));
        Arc::new(Scene { state: State::new(), value, completed })
    }

    fn begin(&self, index: usize) -> Begun {
        let begun = self.state.try_begin(id(index));
        begun.or_else(|| self.state.begin(id(index), Deadline::Never, |_| ())).unwrap()
    }

    fn write(&self) {
        self.value.store(3, Relaxed);
        self.value.store(7, Relaxed);
    }

    fn call(&self, index: usize) {
        if let Begun::Mine { .. } = self.begin(index) {
            self.write();
            self.completed.fetch_add(1, Relaxed);
            assert!(self.state.complete(id(index)));
        }
        assert_eq!(self.value.load(Relaxed), 7);
    }
}

fn spawn(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn three_call_it() {
    model_within(2, "once: three call it", || {
        let scene = Scene::new();
        let others = [1, 2].map(|index| spawn(&scene, move |scene| scene.call(index)));
        scene.call(3);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(scene.completed.load(Relaxed), 1);
    });
}

#[test]
fn readers_check_and_wait() {
    model("once: one initialises, one checks without waiting, one waits", || {
        let scene = Scene::new();
        let checker = spawn(&scene, |scene| {
            assert!(!scene.state.is_complete() || scene.value.load(Relaxed) == 7);
        });
        let waits = spawn(&scene, |scene| {
            assert!(scene.state.wait(Deadline::Never, |_| ()));
            assert_eq!(scene.value.load(Relaxed), 7);
        });
        scene.call(1);
        checker.join().unwrap();
        waits.join().unwrap();
    });
}

#[test]
fn the_first_one_fails() {
    model_within(2, "once: the first one fails, two others wait, one only for the outcome", || {
        let scene = Scene::new();
        assert!(scene.begin(1) == Begun::Mine { after_failure: false });
        let next = spawn(&scene, |scene| {
            assert_eq!(scene.begin(2), Begun::Mine { after_failure: true });
            assert_eq!(scene.value.load(Relaxed), 3, "the half-done work of the one before is seen");
            scene.write();
            assert!(scene.state.complete(id(2)));
        });
        let waits = spawn(&scene, |scene| {
            assert!(scene.state.wait(Deadline::Never, |_| ()));
            assert_eq!(scene.value.load(Relaxed), 7);
        });
        scene.value.store(3, Relaxed);
        assert!(scene.state.give_up(id(1)));
        next.join().unwrap();
        waits.join().unwrap();
    });
}

/// Runs a victim that dies after `steps` steps. Its join models the kernel's report of the death.
fn a_death_between_steps(steps: usize) {
    model_within(
        2,
        &format!("once: a victim killed after {steps} steps, a waiter, two reapers"),
        move || {
            let scene = Scene::new();
            let victim = spawn(&scene, move |scene| {
                for step in 0..steps {
                    match step {
                        0 => drop(scene.state.announce()),
                        1 if matches!(scene.state.try_begin(id(1)), Some(Begun::Mine { .. })) => {}
                        2 => scene.value.store(3, Relaxed),
                        3 => {
                            scene.value.store(7, Relaxed);
                            assert!(scene.state.complete(id(1)));
                        }
                        _ => return,
                    }
                }
            });
            let waiter = spawn(&scene, |scene| scene.call(2));
            victim.join().unwrap();
            let reaper = spawn(&scene, |scene| scene.state.recover(id(1)));
            scene.state.recover(id(1));
            reaper.join().unwrap();
            waiter.join().unwrap();
            assert!(scene.state.is_complete() && !scene.state.has_failed());
        },
    );
}

#[test]
fn a_victim_dies_announced() {
    a_death_between_steps(1);
}

#[test]
fn a_victim_dies_begun() {
    a_death_between_steps(2);
}

#[test]
fn a_victim_dies_in_the_middle() {
    a_death_between_steps(3);
}

#[test]
fn a_victim_dies_completed() {
    a_death_between_steps(4);
}
