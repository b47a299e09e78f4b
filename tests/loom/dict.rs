//! A shard of a dict: readers see the old value or the new one and never a mixture, and writers
//! overwrite nothing of each other. A death between any two steps leaves the old or the new value,
//! and no lost block.

use std::cell::Cell;

use super::{alone, model, model_within, thread, Arc};
use crate::collections::dict::arena::{Arena, Mortal};
use crate::collections::dict::read::get;
use crate::collections::dict::shard::{Shard, STEPS};
use crate::collections::dict::write::Writer;
use crate::message::item::Bytes;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

/// A shard and its memory. A key is one word. A value is two equal words, more than one store.
struct Scene {
    shard: Shard,
    arena: Arena,
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

fn value(number: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value.chunks_mut(8).for_each(|word| word.copy_from_slice(&number.to_le_bytes()));
    value
}

/// Returns the number in a value, or `None` if it is a mixture of two.
fn number(bytes: Bytes<'_>) -> Option<u64> {
    let mut copy = Vec::new();
    bytes.append_to(&mut copy);
    let number = u64::from_le_bytes(*copy.first_chunk().unwrap_or(&[0xff; 8]));
    (copy == value(number)).then_some(number)
}

impl Scene {
    /// Creates a shard with these keys, each with itself as its value.
    fn new(blocks: usize, keys: &[u64]) -> Arc<Scene> {
        let scene = Scene { shard: Shard::new(), arena: Arena::new(blocks) };
        keys.iter().for_each(|key| scene.put(id(0), *key, *key));
        Arc::new(scene)
    }

    fn write<R>(&self, me: OwnerId, body: impl FnOnce(&Writer<'_, Arena>) -> R) -> R {
        let word = &self.shard.owner;
        let acquired = word.try_acquire(me);
        let acquired = acquired.or_else(|| word.acquire_contended(me, Deadline::Never, |_| ())).unwrap();
        self.shard.finish_pending(&self.arena);
        if acquired.after_death {
            word.mark_consistent();
        }
        let result = body(&Writer { shard: &self.shard, store: &self.arena });
        assert!(word.release(me));
        result
    }

    fn put(&self, me: OwnerId, key: u64, number: u64) {
        self.write(me, |writer| writer.put(key, &key.to_le_bytes(), &value(number)).map(drop).unwrap());
    }

    fn remove(&self, me: OwnerId, key: u64) -> Option<u64> {
        self.write(me, |writer| writer.remove(key, &key.to_le_bytes(), |v| number(v).unwrap()).unwrap())
    }

    /// Returns the value of a key, which must not be a mixture.
    fn get(&self, key: u64) -> Option<u64> {
        let found = get(&self.shard, &self.arena, key, &key.to_le_bytes(), number).unwrap();
        found.map(|number| number.expect("a mixture"))
    }

    /// Checks that exactly the blocks of `count` entries and of a table are in use.
    fn holds(&self, count: usize) {
        assert_eq!(self.shard.count() as usize, count);
        assert_eq!(self.arena.in_use(), count + 1);
    }
}

fn spawn<R: Send + 'static>(
    scene: &Arc<Scene>,
    body: impl FnOnce(&Scene) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

// loom remembers one access to a word, so a writer's own load hides a reader's before it. So the
// readers are the spawned threads: their loads are compared with the stores of the writer, which in
// the first run has ended by then.

#[test]
fn a_reader_and_two_replacements() {
    model("dict: a reader and a writer that replaces twice", || {
        let scene = Scene::new(3, &[1]);
        let reader = spawn(&scene, |scene| {
            let (first, second) = (scene.get(1).unwrap(), scene.get(1).unwrap());
            assert!([1, 7, 8].contains(&first) && [1, 7, 8].contains(&second));
            assert!(first == 1 || second >= first, "what was seen stays seen");
        });
        [7, 8].into_iter().for_each(|number| scene.put(id(1), 1, number));
        reader.join().unwrap();
        assert_eq!(scene.get(1), Some(8));
        scene.holds(1);
    });
}

#[test]
fn a_reader_and_a_block_that_comes_back_as_another_entry() {
    model("dict: a reader, a removal, and another key in the same block", || {
        let scene = Scene::new(2, &[1]);
        let reader = spawn(&scene, |scene| {
            assert!(matches!(scene.get(1), None | Some(1)));
            assert!(matches!(scene.get(3), None | Some(3)));
        });
        assert_eq!(scene.remove(id(1), 1), Some(1));
        scene.put(id(1), 3, 3);
        reader.join().unwrap();
        assert_eq!((scene.get(1), scene.get(3)), (None, Some(3)));
        scene.holds(1);
    });
}

#[test]
fn a_reader_and_a_table_that_grows() {
    model("dict: a reader and a writer that makes the table grow", || {
        let scene = Scene::new(4, &[1]);
        let reader = spawn(&scene, |scene| assert_eq!(scene.get(1), Some(1), "it is there all the time"));
        scene.put(id(1), 3, 3);
        reader.join().unwrap();
        assert_eq!((scene.get(1), scene.get(3)), (Some(1), Some(3)));
        scene.holds(2);
    });
}

/// Returns a value that is too large to be copied at once.
fn much(number: u64) -> [u8; 24] {
    let mut much = [0; 24];
    much.chunks_mut(8).for_each(|word| word.copy_from_slice(&number.to_le_bytes()));
    much
}

#[test]
fn a_reader_of_much() {
    model_within(2, "dict: a reader of a large value, and a writer of it and of another", || {
        let scene = Scene::new(5, &[2]);
        let put = |scene: &Scene, number| {
            scene.write(id(1), |writer| _ = writer.put(1, &1u64.to_le_bytes(), &much(number)).unwrap());
        };
        put(&scene, 1);
        let reader = spawn(&scene, |scene| {
            let bytes = |bytes: Bytes<'_>| {
                let mut copy = Vec::new();
                bytes.append_to(&mut copy);
                copy
            };
            let seen = get(&scene.shard, &scene.arena, 1, &1u64.to_le_bytes(), bytes).unwrap().unwrap();
            assert!([1, 7, 8].map(much).iter().any(|much| seen == *much), "a mixture: {seen:?}");
        });
        scene.put(id(1), 2, 9);
        put(&scene, 7);
        // This goes into the block of the old value.
        put(&scene, 8);
        reader.join().unwrap();
        scene.holds(2);
    });
}

#[test]
fn two_writers() {
    model_within(2, "dict: two writers of one shard", || {
        let scene = Scene::new(5, &[]);
        let other = spawn(&scene, |scene| {
            scene.put(id(1), 1, 1);
            assert_eq!(scene.remove(id(1), 1), Some(1));
        });
        scene.put(id(2), 2, 2);
        scene.put(id(2), 2, 9);
        other.join().unwrap();
        assert_eq!((scene.get(1), scene.get(2)), (None, Some(9)));
        scene.holds(1);
    });
}

/// The victim's operation, and the contents before and after it.
#[derive(Clone, Copy)]
struct Deed {
    name: &'static str,
    keys: &'static [u64],
    act: fn(&Writer<'_, Mortal<'_>>),
    before: Option<u64>,
    after: Option<u64>,
}

fn put_seven(writer: &Writer<'_, Mortal<'_>>) {
    // If the victim died between growing the table and inserting, the entry may find no place.
    let _ = writer.put(1, &1u64.to_le_bytes(), &value(7));
}

fn remove_one(writer: &Writer<'_, Mortal<'_>>) {
    let _ = writer.remove(1, &1u64.to_le_bytes(), |_| ());
}

const DEEDS: [Deed; 4] = [
    Deed { name: "insert", keys: &[], act: put_seven, before: None, after: Some(7) },
    Deed { name: "grow", keys: &[2], act: put_seven, before: None, after: Some(7) },
    Deed { name: "replace", keys: &[1], act: put_seven, before: Some(1), after: Some(7) },
    Deed { name: "remove", keys: &[1], act: remove_one, before: Some(1), after: None },
];

/// Runs the changes of a victim that dies after `steps` steps. A reader reads meanwhile, and the
/// next writer starts when the victim is dead.
fn a_death_after(steps: usize) {
    for deed in DEEDS {
        model_within(2, &format!("dict: {} and death after {steps} steps", deed.name), move || {
            let scene = Scene::new(5, deed.keys);
            let reader = spawn(&scene, move |scene| {
                let seen = scene.get(1);
                assert!(seen == deed.before || seen == deed.after);
                seen
            });
            scene.shard.owner.try_acquire(id(1)).unwrap();
            let victim = Mortal { arena: &scene.arena, steps: Cell::new(steps) };
            (deed.act)(&Writer { shard: &scene.shard, store: &victim });
            let seen = reader.join().unwrap();
            let now = scene.get(1);
            assert!(now == deed.before || now == deed.after);
            assert!(seen != deed.after || now == deed.after, "what was seen stays seen");
            // The victim's id is cleared and its claims are freed, before, during or after the next
            // writer.
            let reaper = spawn(&scene, |scene| {
                scene.shard.owner.recover(id(1));
                scene.arena.reap();
            });
            scene.put(id(2), 5, 5);
            reaper.join().unwrap();
            assert_eq!((scene.get(1), scene.get(5)), (now, Some(5)), "what is seen stays");
            scene.holds(deed.keys.iter().filter(|key| **key != 1).count() + 1 + usize::from(now.is_some()));
        });
    }
}

#[test]
fn deaths_before_the_word_is_stored() {
    (0..3).for_each(a_death_after);
}

#[test]
fn deaths_behind_the_store() {
    (3..STEPS).for_each(a_death_after);
}

#[test]
fn deaths_in_the_second_change() {
    // A table that grows is the first one of an insertion.
    [STEPS, STEPS + 2, STEPS + 4, 2 * STEPS].into_iter().for_each(a_death_after);
}

/// One writer dies in a change, and the next while it finishes that. The third finds the old value
/// or the new one, and no lost block.
#[test]
fn deaths_in_repairs() {
    for deed in DEEDS {
        for (first, second) in (0..=2 * STEPS).flat_map(|first| (0..STEPS).map(move |second| (first, second)))
        {
            alone(move || {
                let scene = Scene::new(5, deed.keys);
                let mortal = |steps| Mortal { arena: &scene.arena, steps: Cell::new(steps) };
                let victim = mortal(first);
                scene.shard.owner.try_acquire(id(1)).unwrap();
                (deed.act)(&Writer { shard: &scene.shard, store: &victim });
                scene.shard.owner.recover(id(1));
                scene.arena.reap();
                scene.shard.owner.try_acquire(id(2)).unwrap();
                scene.shard.finish_pending(&mortal(second));
                scene.shard.owner.recover(id(2));
                let now = scene.get(1);
                assert!(now == deed.before || now == deed.after);
                scene.put(id(3), 5, 5);
                assert_eq!((scene.get(1), scene.get(5)), (now, Some(5)));
                scene.holds(
                    deed.keys.iter().filter(|key| **key != 1).count() + 1 + usize::from(now.is_some()),
                );
            });
        }
    }
}
