//! The barrier: no party passes before all have arrived, or sleeps through the end of the round,
//! and the dead do not count.

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::barrier::state::{Head, Rendezvous};
use crate::sync::barrier::BarrierError;
use crate::sys::clock::Deadline;

/// A barrier, and a count that each raises before it arrives. The accesses are Relaxed, so only the
/// barrier makes the sums right.
struct Scene {
    head: Head,
    words: Vec<AtomicU64>,
    count: AtomicU32,
    actions: AtomicU32,
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    fn new(parties: usize) -> Arc<Scene> {
        let words = (0..parties).map(|_| AtomicU64::new(0)).collect();
        let [count, actions] = [(); 2].map(|_| AtomicU32::new(0));
        Arc::new(Scene { head: Head::new(parties as u32), words, count, actions })
    }

    fn all(&self) -> Rendezvous<'_> {
        Rendezvous { head: &self.head, words: &self.words }
    }

    fn wait(&self, index: usize) -> Result<usize, BarrierError> {
        self.all().wait(id(index), index % self.words.len(), Deadline::Never, &|_| (), None)
    }

    fn round(&self, index: usize, expected: u32) -> usize {
        self.count.fetch_add(1, Relaxed);
        let place = self.wait(index).unwrap();
        assert!(self.count.load(Relaxed) >= expected, "passed, and not all have arrived");
        place
    }
}

fn spawn<T: Send + 'static>(
    scene: &Arc<Scene>,
    body: impl FnOnce(&Scene) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn two_rounds_of_two() {
    model("barrier: two rounds of two", || {
        let scene = Scene::new(2);
        let other = spawn(&scene, |scene| [scene.round(1, 2), scene.round(1, 4)]);
        let mine = [scene.round(2, 2), scene.round(2, 4)];
        let others = other.join().unwrap();
        assert!((0..2).all(|round| mine[round] + others[round] == 1), "an index each");
        assert_eq!(scene.all().waiting(), 0);
    });
}

#[test]
fn a_round_of_three() {
    model_within(2, "barrier: a round of three", || {
        let scene = Scene::new(3);
        let others = [1, 2].map(|index| spawn(&scene, move |scene| scene.round(index, 3)));
        let mine = scene.round(1, 3);
        let others = others.map(|other| other.join().unwrap());
        let mut places = [mine, others[0], others[1]];
        places.sort();
        assert_eq!(places, [0, 1, 2]);
    });
}

#[test]
fn three_at_a_barrier_of_two() {
    model_within(1, "barrier: three and then one more at a barrier of two", || {
        let scene = Scene::new(2);
        let others = [1, 2].map(|index| spawn(&scene, move |scene| scene.wait(index)));
        let mine = spawn(&scene, |scene| scene.wait(3));
        // For the thread that is left over.
        assert!(scene.wait(4).is_ok());
        others.into_iter().for_each(|other| assert!(other.join().unwrap().is_ok()));
        assert!(mine.join().unwrap().is_ok());
    });
}

#[test]
fn the_action_runs_once_before_all_go_on() {
    model("barrier: the action runs once a round, before all go on", || {
        let scene = Scene::new(2);
        let round = |scene: &Scene, index: usize| {
            let action = || scene.actions.store(scene.actions.load(Relaxed) + 1, Relaxed);
            let place = scene.all().wait(id(index), 0, Deadline::Never, &|_| (), Some(&action));
            assert_eq!(scene.actions.load(Relaxed), 1);
            place.unwrap()
        };
        let other = spawn(&scene, move |scene| round(scene, 1));
        let mine = round(&scene, 2);
        assert_eq!(mine + other.join().unwrap(), 1);
    });
}

#[test]
fn broken_by_an_abort_or_passed() {
    model("barrier: two arrive, and one aborts", || {
        let scene = Scene::new(2);
        let others = [1, 2].map(|index| spawn(&scene, move |scene| scene.wait(index)));
        scene.all().abort();
        let outcomes = others.map(|other| other.join().unwrap().is_ok());
        assert_eq!(outcomes[0], outcomes[1], "both pass or neither");
        assert!(scene.all().is_broken());
    });
}

#[test]
fn reset_sends_waiters_away() {
    model("barrier: one waits, one resets and waits again", || {
        let scene = Scene::new(2);
        let other = spawn(&scene, |scene| match scene.wait(1) {
            Err(BarrierError::Broken) => scene.wait(1).unwrap(),
            passed => passed.unwrap(),
        });
        scene.all().reset();
        let mine = scene.wait(2).unwrap();
        assert_eq!(mine + other.join().unwrap(), 1);
    });
}

#[test]
fn a_timeout_breaks_it_or_all_pass() {
    model("barrier: the time of one is over while the other arrives", || {
        let scene = Scene::new(2);
        let other = spawn(&scene, |scene| scene.all().wait(id(1), 0, Deadline::At(0), &|_| (), None));
        let mine = scene.wait(2);
        match other.join().unwrap() {
            Ok(_) => assert!(mine.is_ok()),
            Err(error) => assert_eq!((error, mine), (BarrierError::TimedOut, Err(BarrierError::Broken))),
        }
    });
}

/// Runs a barrier of two at which the victim dies after a step of its arrival, and an heir takes
/// its place. `check` gets the result of another thread, which waits from the beginning.
fn a_death(name: &str, die: fn(&Rendezvous<'_>, OwnerId), check: fn(Result<usize, BarrierError>)) {
    model_within(2, name, move || {
        let scene = Scene::new(2);
        let victim = spawn(&scene, move |scene| die(&scene.all(), id(1)));
        let waiter = spawn(&scene, |scene| scene.wait(2));
        victim.join().unwrap();
        let reaper = spawn(&scene, |scene| scene.all().recover(id(1)));
        scene.all().recover(id(1));
        let heir = spawn(&scene, |scene| scene.wait(3));
        reaper.join().unwrap();
        check(waiter.join().unwrap());
        // The heir is left over if the victim has been counted.
        scene.all().abort();
        let _ = heir.join().unwrap();
        scene.all().reset();
        assert_eq!(scene.all().waiting(), 0);
    });
}

#[test]
fn a_party_dies_arrived() {
    a_death("barrier: a party dies arrived", |all, me| all.die_arrived(me), |waited| assert!(waited.is_ok()));
}

#[test]
fn a_party_dies_before_its_wake() {
    a_death(
        "barrier: a party dies before it wakes",
        |all, me| all.die_passed(me),
        |waited| assert!(waited.is_ok()),
    );
}

#[test]
fn a_party_dies_running_the_action() {
    a_death(
        "barrier: a party dies running the action",
        |all, me| all.die_acting(me),
        |waited| assert_ne!(waited, Err(BarrierError::TimedOut)),
    );
}

#[test]
fn a_party_in_the_place_of_a_dead_one_is_counted() {
    model_within(2, "barrier: a party in a dead one's place is counted when the round is passed", || {
        let scene = Scene::new(2);
        scene.all().die_arrived(id(1));
        let reaper = spawn(&scene, |scene| scene.all().recover(id(1)));
        let others = [2, 3].map(|index| {
            spawn(&scene, move |scene| {
                scene.count.fetch_add(1, Relaxed);
                scene.all().wait(id(index), 0, Deadline::Never, &|_| (), None).ok()?;
                let count = scene.count.load(Relaxed);
                // Ends the wait of the other thread, if this one has passed with the dead one.
                scene.all().abort();
                Some(count)
            })
        });
        let counts = others.map(|other| other.join().unwrap());
        reaper.join().unwrap();
        match counts {
            [None, None] => panic!("no party has passed"),
            [Some(one), Some(other)] => assert_eq!([one, other], [2, 2], "they have passed together"),
            _ => {}
        }
    });
}
