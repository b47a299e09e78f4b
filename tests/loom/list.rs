//! A list: readers see all of a change or nothing, writers lose nothing of each other, and a change
//! in which a process dies is completed or undone by the next writer, without a lost block.

mod arena;

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc as Counter;

use self::arena::{dies, Arena, Local};
use super::{alone, model, model_within, thread, Arc};
use crate::collections::list::read;
use crate::collections::list::state::Head;
use crate::collections::list::write::{Change, ROOM_MIN};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::fork;

/// An element: two equal words in a block, so that writing it takes more than one store.
type Pair = [u64; 2];

/// The capacity of the first root, which fills its block: one word has the length, and the block
/// has an odd number of words.
const ROOM: usize = (ROOM_MIN as usize).next_multiple_of(2);
const FULL: [u64; ROOM] = [1; ROOM];
const GROWN: [u64; ROOM + 1] = {
    let mut grown = [1; ROOM + 1];
    grown[ROOM] = 7;
    grown
};

/// A list and the memory beside it.
struct Scene {
    head: Head,
    arena: Arena,
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

fn pair(number: u64) -> Pair {
    [number; 2]
}

/// Checks that a pair is whole. Returns its number.
fn number([first, second]: Pair) -> u64 {
    assert_eq!(first, second, "a torn element");
    first
}

impl Scene {
    /// Creates a list with these elements.
    fn new(numbers: &[u64]) -> Arc<Scene> {
        let elements = [3; ROOM + 3];
        let roots = [ROOM + 1, ROOM + 1, 2 * ROOM + 1, 2 * ROOM + 1];
        let arena = Arena::new(&[&elements[..], &roots[..]].concat());
        let scene = Scene { head: Head::new(), arena };
        let pairs: Vec<Pair> = numbers.iter().map(|number| pair(*number)).collect();
        scene.write(id(0), |change| change.append::<Pair>(&pairs));
        Arc::new(scene)
    }

    fn local(&self, me: OwnerId) -> Local<'_> {
        Local::new(&self.arena, me)
    }

    /// Acquires the list's owner word, and changes the list.
    fn write<R>(&self, me: OwnerId, body: impl FnOnce(&Change<'_, Local<'_>>) -> crate::Result<R>) -> R {
        let word = &self.head.word;
        let acquired = word.try_acquire(me);
        let acquired = acquired.or_else(|| word.acquire_contended(me, Deadline::Never, |_| ())).unwrap();
        let local = self.local(me);
        body(&Change::begin(&local, &self.head, (me, fork::epoch()), acquired)).unwrap()
    }

    fn push(&self, me: OwnerId, number: u64) {
        self.write(me, |change| change.append::<Pair>(&[pair(number)]));
    }

    /// Reads the element at `index` without a lock.
    fn get(&self, me: OwnerId, index: u64) -> Option<u64> {
        read::get::<Pair>(&self.local(me), &self.head, index).unwrap().map(number)
    }

    /// Returns all elements. Checks that only their blocks and the root are in use.
    fn all(&self, me: OwnerId) -> Vec<u64> {
        let all = self.write(me, |change| change.all::<Pair>());
        let root = usize::from(self.head.root.load(Relaxed) != 0);
        assert_eq!(self.arena.in_use(), all.len() + root, "a lost block");
        all.into_iter().map(number).collect()
    }
}

fn spawn<R: Send + 'static>(
    scene: &Arc<Scene>,
    body: impl FnOnce(&Scene) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

// As in the models of dicts, the readers are the threads that are spawned.

#[test]
fn a_reader_and_a_block_that_comes_back_as_another_element() {
    model_within(2, "list: a reader, and an element that is replaced twice", || {
        let scene = Scene::new(&[1]);
        let reader = spawn(&scene, |scene| {
            let (first, second) = (scene.get(id(2), 0).unwrap(), scene.get(id(2), 0).unwrap());
            assert!([1, 7, 8].contains(&first) && [1, 7, 8].contains(&second));
            assert!(first == 1 || second >= first, "what was seen stays seen");
        });
        // The second is written into the block of the first.
        [7, 8].into_iter().for_each(|n| assert!(scene.write(id(1), |change| change.set(0, &pair(n)))));
        reader.join().unwrap();
        assert_eq!(scene.all(id(3)), [8]);
    });
}

#[test]
fn a_reader_behind_the_end() {
    model_within(2, "list: a reader of an element that goes, and of the next one there", || {
        let scene = Scene::new(&[1]);
        let reader = spawn(&scene, |scene| {
            let seen = scene.get(id(2), 0);
            assert!(matches!(seen, None | Some(1 | 9)), "{seen:?}");
        });
        assert_eq!(scene.write(id(1), |change| change.pop::<Pair>()), Some(pair(1)));
        scene.push(id(1), 9);
        reader.join().unwrap();
        assert_eq!(scene.all(id(3)), [9]);
    });
}

#[test]
fn a_reader_of_inline_elements() {
    // Their words hold them, so no generation protects them.
    model("list: a reader of words behind the end of a shorter list", || {
        let scene = Scene::new(&[]);
        let fill = |numbers: &[u64]| scene.write(id(1), |change| change.append::<u64>(numbers));
        fill(&[1]);
        let reader = spawn(&scene, |scene| {
            let get = || read::get::<u64>(&scene.local(id(2)), &scene.head, 0).unwrap();
            let (first, second) = (get(), get());
            assert!([first, second].iter().all(|seen| matches!(seen, None | Some(1 | 9))));
            assert!(first != Some(9) || second == first, "it was seen before it was there: {second:?}");
        });
        assert_eq!(scene.write(id(1), |change| change.pop::<u64>()), Some(1));
        fill(&[9]);
        reader.join().unwrap();
    });
}

#[test]
fn two_writers() {
    model_within(2, "list: two writers", || {
        let scene = Scene::new(&[]);
        let other = spawn(&scene, |scene| {
            scene.push(id(1), 1);
            assert!(scene.write(id(1), |change| change.pop::<Pair>()).is_some());
        });
        scene.push(id(2), 2);
        other.join().unwrap();
        let all = scene.all(id(3));
        assert!(all == [1] || all == [2], "{all:?}");
    });
}

/// What the victim was about to do, and what there is before and after it.
#[derive(Clone, Copy)]
struct Deed {
    name: &'static str,
    before: &'static [u64],
    after: &'static [u64],
    act: fn(&Change<'_, Local<'_>>) -> crate::Result<()>,
}

const DEEDS: [Deed; 11] = [
    Deed { name: "push", before: &[1], after: &[1, 7], act: |change| change.append::<Pair>(&[pair(7)]) },
    Deed {
        name: "push the first",
        before: &[],
        after: &[7],
        act: |change| change.append::<Pair>(&[pair(7)]),
    },
    Deed { name: "grow", before: &FULL, after: &GROWN, act: |change| change.append::<Pair>(&[pair(7)]) },
    Deed {
        name: "extend",
        before: &[],
        after: &[7, 8],
        act: |change| change.append::<Pair>(&[7, 8].map(pair)),
    },
    Deed { name: "set", before: &[1], after: &[7], act: |change| change.set::<Pair>(0, &pair(7)).map(drop) },
    Deed {
        name: "insert",
        before: &[1],
        after: &[7, 1],
        act: |change| change.insert::<Pair>(0, &pair(7)).map(drop),
    },
    Deed { name: "remove", before: &[1, 2], after: &[2], act: |change| change.remove::<Pair>(0).map(drop) },
    Deed { name: "pop", before: &[1, 2], after: &[1], act: |change| change.pop::<Pair>().map(drop) },
    Deed { name: "clear", before: &[1, 2], after: &[], act: |change| change.clear::<Pair>() },
    Deed {
        name: "sort",
        before: &[2, 1],
        after: &[1, 2],
        act: |change| change.sort::<Pair>(|a, b| a.cmp(b)),
    },
    Deed {
        name: "exchange",
        before: &[1],
        after: &[7, 8],
        act: |change| change.exchange_all::<Pair>(&[1].map(pair), &[7, 8].map(pair)).map(drop),
    },
];

impl Deed {
    fn named(name: &str) -> Deed {
        DEEDS.into_iter().find(|deed| deed.name == name).unwrap()
    }

    /// The process `me`, which may die, has acquired the owner word, and changes the list. Returns
    /// whether it died. The dead free nothing.
    fn run(self, scene: &Scene, local: &Local<'_>) -> bool {
        let acquired = scene.head.word.try_acquire(local.me).unwrap();
        dies(|| {
            let begun = Change::begin(local, &scene.head, (local.me, fork::epoch()), acquired);
            (self.act)(&ManuallyDrop::new(begun)).unwrap();
        })
    }

    /// Returns the number of moments at which the process can die.
    fn moments(self) -> usize {
        let count = Counter::new(AtomicUsize::new(0));
        let counted = count.clone();
        alone(move || {
            let scene = Scene::new(self.before);
            let local = scene.local(id(1));
            assert!(!self.run(&scene, &local));
            counted.store(local.moments(), Relaxed);
        });
        count.load(Relaxed)
    }

    /// Returns the length and the first element before or after it.
    fn outcome(numbers: &[u64]) -> (u64, Option<u64>) {
        (numbers.len() as u64, numbers.first().copied())
    }
}

/// Kills the victim at each moment of this change. Meanwhile a reader runs, and the next writer
/// comes when it is dead.
fn deaths_in(name: &str) {
    let deed = Deed::named(name);
    for moment in 0..deed.moments() {
        model_within(2, &format!("list: {name}, and death at moment {moment}"), move || {
            let scene = Scene::new(deed.before);
            let (before, after) = (Deed::outcome(deed.before), Deed::outcome(deed.after));
            let reader = spawn(&scene, move |scene| {
                let local = scene.local(id(2));
                let len = read::len(&local, &scene.head).unwrap();
                assert!(len == before.0 || len == after.0, "a part of a change: {len}");
                let first = scene.get(id(2), 0);
                assert!(first == before.1 || first == after.1, "{first:?}");
                (len, first)
            });
            assert!(deed.run(&scene, &Local::mortal(&scene.arena, id(1), moment)));
            let (len, first) = reader.join().unwrap();
            // The dead one's id is cleared and its claims are freed, in any order with the next
            // writer.
            let reaper = spawn(&scene, |scene| {
                scene.head.word.recover(id(1));
                scene.arena.reap(id(1));
            });
            scene.push(id(3), 5);
            reaper.join().unwrap();
            let all = scene.all(id(3));
            let now = all.strip_suffix(&[5]).unwrap();
            assert!(now == deed.before || now == deed.after, "{now:?}");
            if len != before.0 || first != before.1 {
                assert_eq!(now, deed.after, "what was seen stays seen");
            }
        });
    }
}

#[test]
fn deaths_in_a_push() {
    ["push", "push the first", "grow"].into_iter().for_each(deaths_in);
}

#[test]
fn deaths_in_changes_of_many() {
    ["extend", "sort", "clear", "exchange"].into_iter().for_each(deaths_in);
}

#[test]
fn deaths_in_changes_of_one() {
    ["set", "pop"].into_iter().for_each(deaths_in);
}

#[test]
fn deaths_in_changes_that_move() {
    ["insert", "remove"].into_iter().for_each(deaths_in);
}

/// One writer dies in a change, and the next one while it completes or undoes that change. The
/// third finds the old or the new list, and no block too many.
#[test]
fn deaths_in_repairs() {
    for deed in DEEDS {
        let moments = deed.moments();
        for (first, second) in (0..moments).flat_map(|first| (0..moments).map(move |second| (first, second)))
        {
            alone(move || {
                let scene = Scene::new(deed.before);
                let reap = |dead| {
                    scene.head.word.recover(dead);
                    scene.arena.reap(dead);
                };
                assert!(deed.run(&scene, &Local::mortal(&scene.arena, id(1), first)));
                reap(id(1));
                let acquired = scene.head.word.try_acquire(id(2)).unwrap();
                assert!(acquired.after_death);
                let heir = Local::mortal(&scene.arena, id(2), second);
                dies(|| {
                    let begun = Change::begin(&heir, &scene.head, (id(2), fork::epoch()), acquired);
                    std::mem::forget(begun);
                });
                reap(id(2));
                scene.push(id(3), 5);
                let all = scene.all(id(3));
                let now = all.strip_suffix(&[5]).unwrap();
                assert!(now == deed.before || now == deed.after, "{now:?}");
            });
        }
    }
}
