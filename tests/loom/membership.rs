//! Each process attaches once, whichever thread comes first, and whatever a copy of the process
//! finds in the word.

use super::{model, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::*};
use crate::segment::membership::word::{Turn, Word};
use crate::segment::owner::OwnerId;

/// A process, or a copy of it.
struct Scene {
    word: Word,
    epoch: u32,
    /// The page with the lock: its owner's id.
    page: AtomicU32,
    /// The number of attachments, as the table sees it.
    joined: AtomicU32,
}

fn id(epoch: u32) -> OwnerId {
    OwnerId::new(epoch as usize, 1).unwrap()
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene { word: Word::new(), epoch: 1, page: AtomicU32::new(0), joined: AtomicU32::new(0) })
    }

    /// Copies the process. The kernel's wiping gives the copy a new epoch.
    fn copy(&self) -> Scene {
        // The address of the page is copied, but not the page.
        let page = AtomicU32::new(self.page.load(Relaxed));
        Scene { word: self.word.copy(), epoch: 2, page, joined: AtomicU32::new(0) }
    }

    /// Enters like `Membership::enter`, which tries again while others join. Returns whether this
    /// thread has joined.
    fn enter(&self, fails: bool) -> (Turn, bool) {
        let turn = self.word.begin(self.epoch);
        if turn == Turn::Mine {
            self.joined.fetch_add(1, Relaxed);
            if fails {
                self.word.give_up();
            } else {
                self.page.store(id(self.epoch).bits(), Relaxed);
                self.word.finish(self.epoch, id(self.epoch));
            }
        }
        (turn, turn == Turn::Mine && !fails)
    }

    fn take(&self) -> Option<OwnerId> {
        let owner = self.word.take(self.epoch)?;
        // Plain loads and stores, so only the word can order them.
        assert_eq!(self.page.load(Relaxed), owner.bits(), "the lock of another process, or of nobody");
        self.page.store(0, Relaxed);
        Some(owner)
    }
}

#[test]
fn three_threads_join_once() {
    model("membership: three threads join", || {
        let scene = Scene::new();
        let others = [(); 2].map(|_| {
            let other = scene.clone();
            thread::spawn(move || (other.enter(false), other.word.owner(1)))
        });
        let mine = scene.enter(false);
        let theirs = others.map(|other| other.join().unwrap());
        for ((turn, joined), owner) in theirs.into_iter().chain([(mine, None)]) {
            assert!(joined == (turn == Turn::Mine) && [None, Some(id(1))].contains(&owner));
            assert!(!matches!(turn, Turn::In(owner) if owner != id(1)), "{turn:?}");
        }
        assert_eq!(scene.joined.load(Relaxed), 1);
        // The last one to use it ends it.
        assert_eq!(scene.take(), Some(id(1)));
        assert_eq!((scene.take(), scene.word.owner(1)), (None, None));
    });
}

#[test]
fn the_last_user_finds_what_the_joining_thread_stored() {
    model("membership: a thread joins, the last user ends it", || {
        let scene = Scene::new();
        let last = scene.clone();
        // A reference count orders the two in the library; here only the word does.
        let last = thread::spawn(move || last.word.owner(1).map(|_| last.take()));
        assert!(scene.enter(false).1);
        if let Some(owner) = last.join().unwrap() {
            assert_eq!(owner, Some(id(1)));
        }
    });
}

#[test]
fn a_thread_that_cannot_join_lets_the_next_try() {
    model("membership: one thread cannot join, another tries", || {
        let scene = Scene::new();
        let other = scene.clone();
        let failing = thread::spawn(move || other.enter(true).0);
        let (mine, joined) = scene.enter(false);
        let theirs = failing.join().unwrap();
        match mine {
            Turn::Mine => assert!(joined),
            Turn::Others => assert_eq!(theirs, Turn::Mine),
            Turn::In(_) => panic!("nobody else has joined"),
        }
        // In any order, nobody is kept out.
        let now = scene.enter(false).0;
        assert!(now == Turn::Mine || now == Turn::In(id(1)), "{now:?}");
    });
}

#[test]
fn a_copy_takes_part_as_itself() {
    model("membership: a process is copied while a thread joins", || {
        let scene = Scene::new();
        let joining = scene.clone();
        let joining = thread::spawn(move || joining.enter(false));
        // The thread that forks is the only one of the copy.
        let copy = scene.copy();
        assert!(
            copy.word.owner(2).is_none() && copy.take().is_none(),
            "the copy took itself for its original"
        );
        assert!(copy.enter(false).1, "the copy waits for a thread that it does not have");
        assert_eq!((copy.word.owner(2), copy.word.owner(1)), (Some(id(2)), None));
        assert_eq!(copy.take(), Some(id(2)));
        assert!(joining.join().unwrap().1);
        assert_eq!(scene.take(), Some(id(1)));
    });
}
