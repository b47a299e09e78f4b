//! The two copies of a large value: nobody reads half of a change, and an interrupted write has no
//! effect.

use super::{model, model_within, thread, Arc};
use crate::collections::value::seqlock::Copies;
use crate::loom::atomic::AtomicU64;
use crate::segment::owner::OwnerId;
use crate::sync::robust_word::OwnerWord;
use crate::sys::clock::Deadline;

/// A value of two words, which are always equal.
struct Scene {
    word: OwnerWord,
    sequence: AtomicU64,
    words: [AtomicU64; 4],
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Scene {
    fn new() -> Arc<Scene> {
        let words = [(); 4].map(|_| AtomicU64::new(0));
        Arc::new(Scene { word: OwnerWord::new(), sequence: AtomicU64::new(0), words })
    }

    fn copies(&self) -> Copies<'_> {
        Copies { sequence: &self.sequence, words: &self.words }
    }

    fn acquire(&self, index: usize) {
        if self.word.try_acquire(id(index)).is_none() {
            self.word.acquire_contended(id(index), Deadline::Never, |_| ()).unwrap();
        }
    }

    fn set(&self, index: usize, value: u64) {
        self.acquire(index);
        self.copies().write(std::iter::repeat(value));
        assert!(self.word.release(id(index)));
    }

    /// Returns the value, unless a writer has finished meanwhile.
    fn try_get(&self) -> Option<u64> {
        let mut value = [0; 2];
        let is_whole = self.copies().try_read(|index, word| value[index] = word);
        assert!(!is_whole || value[0] == value[1], "half of a change: {value:?}");
        is_whole.then_some(value[0])
    }
}

fn spawn(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn a_reader_and_three_writes() {
    model("value: one reads twice, one writes three times", || {
        let scene = Scene::new();
        let reader = spawn(&scene, |scene| {
            let seen = [scene.try_get(), scene.try_get()];
            if let [Some(first), Some(second)] = seen {
                assert!(second >= first, "back in time");
            }
        });
        (1..=3).for_each(|value| scene.set(1, value));
        reader.join().unwrap();
        assert_eq!(scene.try_get(), Some(3));
    });
}

#[test]
fn two_writers_and_a_reader() {
    model_within(2, "value: two writers, twice each, and a reader", || {
        let scene = Scene::new();
        let writer = spawn(&scene, |scene| (0..2).for_each(|_| scene.set(1, 5)));
        let reader = spawn(&scene, |scene| _ = scene.try_get());
        (0..2).for_each(|_| scene.set(2, 7));
        writer.join().unwrap();
        reader.join().unwrap();
        assert!(matches!(scene.try_get(), Some(5 | 7)));
    });
}

#[test]
fn a_writer_dies_in_the_middle() {
    model_within(2, "value: a writer dies in the middle, another one goes on, one reads", || {
        let scene = Scene::new();
        scene.set(3, 1);
        let victim = spawn(&scene, |scene| {
            scene.acquire(1);
            scene.copies().die_writing(9);
        });
        let reader = spawn(&scene, |scene| {
            assert!(matches!(scene.try_get(), None | Some(1 | 2)));
        });
        let heir = spawn(&scene, |scene| scene.set(2, 2));
        victim.join().unwrap();
        scene.word.recover(id(1));
        heir.join().unwrap();
        reader.join().unwrap();
        assert_eq!(scene.try_get(), Some(2));
    });
}
