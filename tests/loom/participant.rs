//! Registering, dying and being reaped: no id is assigned again while a word still names its last
//! owner.
//!
//! The kernel's lock on a participant's byte is modelled as an atomic, which the end of the
//! participant clears.

use super::{model, thread, Arc};
use crate::loom::atomic::{AtomicBool, AtomicU32, Ordering::*};
use crate::segment::owner::OwnerId;
use crate::segment::participant::Line;

struct Scene {
    line: Line,
    byte: AtomicBool,
    /// A word with the id of its holder, or 0, such as that of a slot or a lock.
    word: AtomicU32,
}

impl Scene {
    /// Creates a scene in which a participant took the word and died.
    fn after_a_death() -> Arc<Scene> {
        let scene = Scene { line: Line::new(), byte: AtomicBool::new(true), word: AtomicU32::new(0) };
        let dead = scene.line.occupy(0, 1, 0).unwrap();
        scene.word.store(dead.bits(), Release);
        scene.byte.store(false, Release);
        Arc::new(scene)
    }

    fn reap(&self, dead: OwnerId) {
        let _ = self.word.compare_exchange(dead.bits(), 0, AcqRel, Relaxed);
        self.line.retire(dead);
    }

    /// Checks for deaths, as a waiter does at the end of a slice.
    fn reap_dead(&self) {
        if let Some(id) = self.line.occupant(0) {
            if !self.byte.load(Acquire) {
                self.reap(id);
            }
        }
    }

    /// Takes the byte and the line, if the byte is free, and then the word, which must be free.
    fn register(&self) -> Option<OwnerId> {
        self.byte.compare_exchange(false, true, AcqRel, Relaxed).ok()?;
        let id = loop {
            match self.line.occupy(0, 1, 0) {
                Ok(id) => break id,
                Err(dead) => self.reap(dead),
            }
        };
        let taken = self.word.compare_exchange(0, id.bits(), AcqRel, Relaxed);
        assert!(
            taken.is_ok(),
            "the word still names {taken:?} after its owner's index was assigned to {id:?}"
        );
        Some(id)
    }
}

#[test]
fn reaper_against_newcomer() {
    model("participant: a reaper against a newcomer at the same index", || {
        let scene = Scene::after_a_death();
        let other = scene.clone();
        let reaper = thread::spawn(move || other.reap_dead());
        let id = scene.register().expect("the byte is free");
        reaper.join().unwrap();
        assert_eq!(scene.word.load(Acquire), id.bits(), "a living participant lost its word");
        assert_eq!(scene.line.occupant(0), Some(id));
    });
}

#[test]
fn two_reapers_and_a_newcomer() {
    model("participant: two reapers and a newcomer", || {
        let scene = Scene::after_a_death();
        let reapers = [(); 2].map(|_| {
            let other = scene.clone();
            thread::spawn(move || other.reap_dead())
        });
        let id = scene.register().expect("the byte is free");
        reapers.into_iter().for_each(|reaper| reaper.join().unwrap());
        assert_eq!(scene.word.load(Acquire), id.bits());
    });
}

#[test]
fn a_reaper_that_stops_half_way() {
    model("participant: a reaper that stops half-way", || {
        let scene = Scene::after_a_death();
        let other = scene.clone();
        let stopped = thread::spawn(move || {
            // It clears the word and never retires the line.
            if let Some(dead) = other.line.occupant(0) {
                if !other.byte.load(Acquire) {
                    let _ = other.word.compare_exchange(dead.bits(), 0, AcqRel, Relaxed);
                }
            }
        });
        scene.reap_dead();
        assert_eq!(scene.line.occupant(0), None);
        assert_eq!(scene.word.load(Acquire), 0);
        stopped.join().unwrap();
    });
}

#[test]
fn two_newcomers_and_one_index() {
    model("participant: two newcomers, one index", || {
        let scene = Scene::after_a_death();
        let other = scene.clone();
        let rival = thread::spawn(move || other.register());
        let mine = scene.register();
        let theirs = rival.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
    });
}
