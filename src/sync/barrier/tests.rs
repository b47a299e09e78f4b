//! The words, and what one thread alone can observe of a barrier.

use super::words::*;
use super::BarrierError;
use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use crate::segment::owner::OwnerId;
use crate::sync::barrier::state::*;
use crate::sys::clock::Deadline;

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

struct Scene {
    head: Head,
    words: Vec<AtomicU64>,
}

impl Scene {
    fn new(parties: usize) -> Scene {
        let words = (0..parties).map(|_| AtomicU64::new(0)).collect();
        Scene { head: Head::new(parties as u32), words }
    }

    fn all(&self) -> Rendezvous<'_> {
        Rendezvous { head: &self.head, words: &self.words }
    }

    fn wait(&self, index: usize) -> Result<usize, BarrierError> {
        self.all().wait(id(index), index, Deadline::At(0), &|_| (), None)
    }
}

#[test]
fn words() {
    let state = acting(turned(turned(next(next(0, true), false))), 4095);
    assert_eq!((round(state), history(state), actor(state)), (2, 0b10, Some(4095)));
    assert!(!is_broken(state) && !is_open(state) && is_open(next(state, true)));
    assert_eq!(state & TURNS, 2 * TURN);
    assert_eq!((0..64).fold(5, |state, _| turned(state)), 5, "the turns wrap, and touch nothing else");
    assert_eq!(resetting(state), broken(state) | RESETTING);
    assert_eq!(broken(state), 2 | 0b10 << HISTORY_SHIFT | BROKEN);
    assert_eq!(round(next(u64::from(u32::MAX), true)), 0);
    let word = arrival(7, id(3));
    assert_eq!((arrived(word, 7), arrived(word, 8), arrived(word | GONE, 7)), (Some(id(3)), None, None));
    assert!(is_vacated(word | GONE, 7) && !is_vacated(word | GONE, 8) && !is_vacated(0, 0));
    assert!(is_later(1, u32::MAX) && !is_later(7, 7) && !is_later(6, 7));
    assert!(is_vacated(1000 << 32, 0), "generation 0 is nobody's");
}

#[test]
fn outcomes() {
    const PASSED: Option<Result<(), BarrierError>> = Some(Ok(()));
    const BROKE: Option<Result<(), BarrierError>> = Some(Err(BarrierError::Broken));
    assert_eq!((outcome(5, 0, 5), outcome(5 | BROKEN, 0, 5)), (None, BROKE));
    let state = next(next(5, true), false);
    assert_eq!((outcome(state, EVER | 6, 5), outcome(state, EVER | 6, 6)), (PASSED, BROKE));
    // Older than the history.
    let late = (0..100).fold(0, |state, _| next(state, true));
    assert_eq!((outcome(late, 0, 0), outcome(late, EVER | 3, 4)), (PASSED, PASSED));
    assert_eq!((outcome(late, EVER | 3, 3), outcome(late, EVER | 3, 2)), (BROKE, BROKE));
    assert_eq!(outcome(late, EVER | 3, 99), PASSED);
}

#[test]
fn alone() {
    let scene = Scene::new(1);
    assert_eq!([scene.wait(0), scene.wait(1), scene.wait(0)], [Ok(0); 3]);
}

#[test]
fn the_dead_do_not_count() {
    let scene = Scene::new(2);
    scene.all().die_arrived(id(8));
    assert_eq!(scene.all().waiting(), 1);
    scene.all().recover(id(8));
    scene.all().recover(id(8));
    assert_eq!(scene.all().waiting(), 0);
    scene.all().die_arrived(id(9));
    assert_eq!(scene.wait(1), Ok(1), "beside a party that is not known to be dead");
    assert_eq!(scene.wait(1), Err(BarrierError::TimedOut));
    assert_eq!(scene.wait(1), Err(BarrierError::Broken));
    scene.all().reset();
    assert!(!scene.all().is_broken());
}

#[test]
fn the_next_caller_ends_a_reset_that_was_begun() {
    let scene = Scene::new(1);
    scene.all().die_resetting();
    assert_eq!((scene.all().is_broken(), scene.wait(0)), (false, Ok(0)));
    scene.all().die_resetting();
    scene.all().abort();
    assert_eq!((scene.all().is_broken(), scene.wait(0)), (true, Err(BarrierError::Broken)));
    scene.all().die_resetting();
    scene.all().reset();
    assert_eq!((scene.all().is_broken(), scene.wait(0)), (false, Ok(0)));
}

#[test]
fn a_dead_actor_breaks_it() {
    let scene = Scene::new(1);
    scene.all().die_acting(id(4));
    assert!(scene.all().is_acting());
    assert_eq!(scene.wait(1), Err(BarrierError::TimedOut), "no place, and nothing broken");
    scene.all().recover_dead(|_| true);
    assert!(scene.all().is_acting());
    scene.all().recover(id(4));
    assert!(scene.all().is_broken() && !scene.all().is_acting());
}

#[test]
fn damage_heals() {
    let scene = Scene::new(3);
    scene.words[0].store(u64::MAX, Relaxed);
    scene.words[1].store(arrival(1 << 20, id(3)), Relaxed);
    scene.words[2].store(arrival(0, id(7)), Relaxed);
    scene.all().recover_dead(|owner| owner != id(7));
    assert_eq!(scene.all().waiting(), 0);
    (1..=2).for_each(|index| scene.all().die_arrived(id(index)));
    assert_eq!(scene.wait(0), Ok(2));
    scene.head.state.store(acting(0, 4095), Relaxed);
    scene.all().recover_dead(|_| true);
    assert!(scene.all().is_broken());
}
