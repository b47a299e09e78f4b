//! The heap: no block is given twice, none is lost, and what the dead had in hand comes back.

use super::{model, model_within, thread, Arc};
use crate::heap::block::{generation, publish, state, Hand, Slot, State};
use crate::heap::carve::Table;
use crate::heap::class::Class;
use crate::heap::known::Known;
use crate::heap::pin::Pins;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{fence, AtomicU64};
use crate::owner::OwnerId;

/// Two blocks of a chunk, with a byte of each, and the hands of two.
struct Chunk {
    words: [AtomicU64; 2],
    bits: AtomicU64,
    bytes: [AtomicU64; 2],
    hands: [Hand; 2],
}

fn chunk() -> Arc<Chunk> {
    let zeros = || [(); 2].map(|()| AtomicU64::new(0));
    Arc::new(Chunk {
        words: zeros(),
        bits: AtomicU64::new(0),
        bytes: zeros(),
        hands: [Hand::new(), Hand::new()],
    })
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Chunk {
    fn slot(&self, block: usize) -> Slot<'_> {
        Slot { word: &self.words[block], bits: &self.bits, mask: 1 << block }
    }

    /// As Arena::claim: the first that is free, named in the hand before.
    fn alloc(&self, me: OwnerId) -> Option<(usize, u32)> {
        for block in 0..2 {
            if self.bits.load(Relaxed) & 1 << block != 0 {
                continue;
            }
            let at = 16 * (block as u64 + 1);
            self.hands[me.index()].take(at, me);
            if let Some(generation) = self.slot(block).claim(me) {
                return Some((block, generation));
            }
            self.hands[me.index()].put_down(at, me);
        }
        None
    }

    fn recover(&self, dead: OwnerId) {
        let had_more = self.hands[dead.index()].recover(dead, |at| {
            self.slot(at as usize / 16 - 1).recover(dead);
        });
        assert!(!had_more);
    }

    /// A FREE block's bit is 0.
    fn check(&self) {
        for block in 0..2 {
            let is_free = state(self.words[block].load(Relaxed)) == State::Free;
            assert!(!is_free || self.bits.load(Relaxed) & 1 << block == 0, "a free block that nobody finds");
        }
    }
}

#[test]
fn two_allocate_and_free() {
    model("heap: two allocate, publish and free", || {
        let chunk = chunk();
        let work = |chunk: &Chunk, me: OwnerId| {
            let Some((block, generation)) = chunk.alloc(me) else { return };
            // Whoever has the block is alone with its bytes.
            chunk.bytes[block].store(me.bits().into(), Relaxed);
            assert!(publish(chunk.slot(block).word, generation, me));
            chunk.hands[me.index()].put_down(16 * (block as u64 + 1), me);
            assert_eq!(chunk.bytes[block].load(Relaxed), u64::from(me.bits()), "given twice");
            assert!(chunk.slot(block).free(generation, me));
        };
        let other = chunk.clone();
        let thread = thread::spawn(move || work(&other, id(1)));
        work(&chunk, id(0));
        thread.join().unwrap();
        chunk.check();
        assert!(chunk.alloc(id(0)).is_some() && chunk.alloc(id(0)).is_some(), "one is lost");
    });
}

#[test]
fn freed_twice_at_once() {
    model("heap: two free the same block while a third allocates", || {
        let chunk = chunk();
        let (block, generation) = chunk.alloc(id(0)).unwrap();
        assert!(publish(chunk.slot(block).word, generation, id(0)));
        let freer = chunk.clone();
        let freer = thread::spawn(move || freer.slot(block).free(generation, id(1)));
        let allocator = chunk.clone();
        let allocator = thread::spawn(move || allocator.slot(block).claim(id(1)).is_some());
        let mine = chunk.slot(block).free(generation, id(0));
        assert!(mine ^ freer.join().unwrap(), "one of them has freed it");
        let is_taken = allocator.join().unwrap();
        let expected = if is_taken { State::Claimed(id(1)) } else { State::Free };
        assert_eq!(state(chunk.words[block].load(Relaxed)), expected);
        chunk.check();
    });
}

#[test]
fn two_reap_while_a_third_allocates() {
    model("heap: dead after a claim, two reapers and an allocator", || {
        let chunk = chunk();
        let (block, _) = chunk.alloc(id(1)).unwrap();
        let reaper = chunk.clone();
        let reaper = thread::spawn(move || reaper.recover(id(1)));
        let allocator = chunk.clone();
        let allocator = thread::spawn(move || allocator.slot(block).claim(id(0)));
        chunk.recover(id(1));
        reaper.join().unwrap();
        let claimed = allocator.join().unwrap();
        let word = chunk.words[block].load(Relaxed);
        match claimed {
            Some(claimed) => {
                assert_eq!((generation(word), state(word)), (claimed, State::Claimed(id(0))), "robbed");
            }
            None => assert_eq!(state(word), State::Free),
        }
        chunk.check();
    });
}

#[test]
fn two_threads_of_a_participant() {
    model("heap: two threads with one hand, then dead", || {
        let chunk = chunk();
        let other = chunk.clone();
        let thread = thread::spawn(move || {
            let (block, generation) = other.alloc(id(0)).unwrap();
            assert!(publish(other.slot(block).word, generation, id(0)));
            other.hands[0].put_down(16 * (block as u64 + 1), id(0));
            block
        });
        let (mine, _) = chunk.alloc(id(0)).unwrap();
        let published = thread.join().unwrap();
        let mut named = Vec::new();
        chunk.hands[0].recover(id(0), |at| {
            named.push(at as usize / 16 - 1);
            chunk.slot(at as usize / 16 - 1).recover(id(0));
        });
        assert_eq!(named, [mine], "the hand names what is in hand");
        assert_eq!(state(chunk.words[mine].load(Relaxed)), State::Free, "lost");
        assert_eq!(state(chunk.words[published].load(Relaxed)), State::Live);
        chunk.check();
    });
}

#[test]
fn a_reader_without_a_lock_sees_that_the_block_is_another() {
    model("heap: a reader validates with the generation", || {
        let chunk = chunk();
        let (block, first) = chunk.alloc(id(0)).unwrap();
        chunk.bytes[block].store(1, Relaxed);
        assert!(publish(chunk.slot(block).word, first, id(0)));
        let reader = chunk.clone();
        let reader = thread::spawn(move || {
            let before = reader.words[block].load(Acquire);
            if generation(before) != first || state(before) != State::Live {
                return;
            }
            let seen = reader.bytes[block].load(Relaxed);
            fence(Acquire);
            if generation(reader.words[block].load(Relaxed)) == first {
                assert_eq!(seen, 1, "bytes of the next block");
            }
        });
        assert!(chunk.slot(block).free(first, id(0)));
        assert!(chunk.slot(block).claim(id(0)).is_some());
        chunk.bytes[block].store(2, Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn two_threads_learn_of_an_arena() {
    model("heap: two threads learn of an arena", || {
        let known = Arc::new(Known::new());
        // As Heap::find_arenas: what is known already is not looked at again.
        let look = |known: &Known| {
            if known.count() == 0 {
                known.add(0, 1280, 1, 12_800);
            }
            assert_eq!((known.arena(0), known.reach()), (Some((1280, 1)), 12_800));
        };
        let other = known.clone();
        let thread = thread::spawn(move || look(&other));
        look(&known);
        thread.join().unwrap();
    });
}

#[test]
fn two_carve() {
    model("heap: two carve chunks of one unit and of four", || {
        let shared = Arc::new((AtomicU64::new(0), [(); 6].map(|()| AtomicU64::new(0))));
        let carve = |shared: &(AtomicU64, [AtomicU64; 6]), len| {
            let class = Class::for_len(len).unwrap();
            Table { end: &shared.0, units: &shared.1 }.carve(class).map(|first| (first, class))
        };
        let other = shared.clone();
        let thread = thread::spawn(move || [40, 2000].map(|len| carve(&other, len)));
        let mine = carve(&shared, 40);
        let mut all: Vec<_> = thread.join().unwrap().into_iter().chain([mine]).collect();
        all.sort_by_key(|carved| carved.map(|(first, _)| first));
        let all: Vec<_> = all.into_iter().map(Option::unwrap).collect();
        let table = Table { end: &shared.0, units: &shared.1 };
        assert_eq!(table.chunks().collect::<Vec<_>>(), all, "each has a chunk of its own");
        assert_eq!(carve(&shared, 40), None);
    });
}

/// A block that lasts, with a byte, and pins.
struct Pinnable {
    chunk: Arc<Chunk>,
    pins: Pins,
    generation: u32,
}

const AT: u64 = 16;

impl Pinnable {
    fn new() -> Arc<Pinnable> {
        let chunk = chunk();
        let (block, generation) = chunk.alloc(id(0)).unwrap();
        assert_eq!(block, 0);
        chunk.bytes[0].store(1, Relaxed);
        assert!(publish(chunk.slot(0).word, generation, id(0)));
        Arc::new(Pinnable { chunk, pins: Pins::new(), generation })
    }

    fn free(&self) {
        self.chunk.slot(0).free_retired(|| self.pins.is_pinned(AT));
    }

    /// As Heap::retire; and whoever can have the block then writes into it.
    fn retire(&self) {
        assert!(self.chunk.slot(0).retire(self.generation));
        self.free();
        self.reuse();
    }

    fn reuse(&self) {
        if self.chunk.slot(0).claim(id(0)).is_some() {
            self.chunk.bytes[0].store(2, Relaxed);
        }
    }

    /// As Heap::pin, and a look at the byte. Gives the pin.
    fn read(&self, me: OwnerId) -> usize {
        let pin = self.pins.pin(AT, me).unwrap();
        let word = self.chunk.words[0].load(Acquire);
        if (state(word), generation(word)) == (State::Live, self.generation) {
            assert_eq!(self.chunk.bytes[0].load(Relaxed), 1, "somebody writes what is read in place");
        }
        pin
    }

    fn let_go(&self, pin: usize, me: OwnerId) {
        self.pins.let_go(pin, AT, me, |_| self.free());
        self.reuse();
    }

    /// It was retired and nobody has it pinned: so it was freed, or is another already.
    fn is_freed(&self) {
        let word = self.chunk.words[0].load(Acquire);
        assert!(state(word) != State::Retired && !self.pins.is_pinned(AT), "it is lost");
    }
}

#[test]
fn one_reads_in_place_while_another_retires() {
    model("heap: a pin and who retires the block", || {
        let scene = Pinnable::new();
        let reader = scene.clone();
        let reader = thread::spawn(move || {
            let pin = reader.read(id(1));
            reader.let_go(pin, id(1));
        });
        scene.retire();
        reader.join().unwrap();
        scene.is_freed();
    });
}

#[test]
fn two_let_go_while_a_third_retires() {
    model_within(2, "heap: two pins and who retires the block", || {
        let scene = Pinnable::new();
        let readers = [1, 2].map(|index| {
            let reader = scene.clone();
            thread::spawn(move || {
                let pin = reader.read(id(index));
                reader.let_go(pin, id(index));
            })
        });
        scene.retire();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        scene.is_freed();
    });
}

#[test]
fn the_dead_let_go() {
    model_within(2, "heap: dead with a pin, two reapers, and who retires the block", || {
        let scene = Pinnable::new();
        scene.read(id(1));
        let reaper = scene.clone();
        let reaper = thread::spawn(move || {
            reaper.pins.recover(id(1), |_| reaper.free());
            reaper.reuse();
        });
        let other = scene.clone();
        let other = thread::spawn(move || other.pins.recover(id(1), |_| other.free()));
        scene.retire();
        reaper.join().unwrap();
        other.join().unwrap();
        scene.is_freed();
    });
}
