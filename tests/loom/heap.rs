//! The heap: no block is allocated twice, none is lost, and what dead processes held comes back.

use super::{model, model_within, thread, Arc};
use crate::heap::arena_cache::Known;
use crate::heap::block::{generation, publish, state, ClaimLog, Slot, State};
use crate::heap::chunk_table::{Piece, Table};
use crate::heap::class::Class;
use crate::heap::hazard::Pins;
use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{fence, AtomicU64};
use crate::loom::Ordered;
use crate::segment::owner::OwnerId;

/// Two blocks of a chunk, a byte of each, and the claim logs of two participants.
struct Chunk {
    words: [AtomicU64; 2],
    bits: AtomicU64,
    bytes: [AtomicU64; 2],
    logs: [ClaimLog; 2],
}

fn chunk() -> Arc<Chunk> {
    let zeros = || [(); 2].map(|()| AtomicU64::new(0));
    Arc::new(Chunk {
        words: zeros(),
        bits: AtomicU64::new(0),
        bytes: zeros(),
        logs: [ClaimLog::new(), ClaimLog::new()],
    })
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Chunk {
    fn slot(&self, block: usize) -> Slot<'_> {
        Slot { word: &self.words[block], bits: &self.bits, mask: 1 << block }
    }

    /// Writes a claim into the log, and then claims the first free block, as `Arena::claim` does.
    fn alloc(&self, me: OwnerId) -> Option<(usize, u32)> {
        for block in 0..2 {
            if self.bits.load(Relaxed) & 1 << block != 0 {
                continue;
            }
            let at = 16 * (block as u64 + 1);
            self.logs[me.index()].record(at, me);
            if let Some(generation) = self.slot(block).claim(me) {
                return Some((block, generation));
            }
            self.logs[me.index()].erase(at, me);
        }
        None
    }

    fn recover(&self, dead: OwnerId) {
        let had_more = self.logs[dead.index()].recover(dead, |at| {
            self.slot(at as usize / 16 - 1).recover(dead);
        });
        assert!(!had_more);
    }

    /// Checks that the bit of a FREE block is 0.
    fn check(&self) {
        for block in 0..2 {
            let is_free = state(self.words[block].load(Relaxed)) == State::Free;
            assert!(
                !is_free || self.bits.load(Relaxed) & 1 << block == 0,
                "a free block that no search finds"
            );
        }
    }
}

#[test]
fn two_allocate_and_free() {
    model("heap: two allocate, publish and free", || {
        let chunk = chunk();
        let work = |chunk: &Chunk, me: OwnerId| {
            let Some((block, generation)) = chunk.alloc(me) else { return };
            // The owner of a block is alone with its bytes.
            chunk.bytes[block].store(me.bits().into(), Relaxed);
            assert!(publish(chunk.slot(block).word, generation, me));
            chunk.logs[me.index()].erase(16 * (block as u64 + 1), me);
            assert_eq!(chunk.bytes[block].load(Relaxed), u64::from(me.bits()), "allocated twice");
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
                assert_eq!(
                    (generation(word), state(word)),
                    (claimed, State::Claimed(id(0))),
                    "a living claimant lost it"
                );
            }
            None => assert_eq!(state(word), State::Free),
        }
        chunk.check();
    });
}

#[test]
fn two_threads_of_a_participant() {
    model("heap: two threads with one claim log, then dead", || {
        let chunk = chunk();
        let other = chunk.clone();
        let thread = thread::spawn(move || {
            let (block, generation) = other.alloc(id(0)).unwrap();
            assert!(publish(other.slot(block).word, generation, id(0)));
            other.logs[0].erase(16 * (block as u64 + 1), id(0));
            block
        });
        let (mine, _) = chunk.alloc(id(0)).unwrap();
        let published = thread.join().unwrap();
        let mut named = Vec::new();
        chunk.logs[0].recover(id(0), |at| {
            named.push(at as usize / 16 - 1);
            chunk.slot(at as usize / 16 - 1).recover(id(0));
        });
        assert_eq!(named, [mine], "the log names what is claimed");
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
        // As Heap::find_arenas: does not read known arenas again.
        let learn = |known: &Known| {
            if known.count() == 0 {
                known.add(0, 1280, 1, 12_800);
            }
            assert_eq!((known.arena(0), known.reach()), (Some((1280, 1)), 12_800));
        };
        let other = known.clone();
        let thread = thread::spawn(move || learn(&other));
        learn(&known);
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

/// One thread carves a chunk and remakes it, while another one, which has loaded the end before,
/// continues late.
#[test]
fn a_late_carver_takes_nothing_that_was_remade() {
    model("heap: one carves beside one that carves and remakes", || {
        let shared = Arc::new((AtomicU64::new(0), [(); 3].map(|()| AtomicU64::new(0))));
        let one = Class::for_len(40).unwrap();
        let other = shared.clone();
        let thread = thread::spawn(move || Table { end: &other.0, units: &other.1 }.carve(one));
        let table = Table { end: &shared.0, units: &shared.1 };
        let mine = [table.carve(one), table.carve(one)];
        let are_mine = mine == [Some(0), Some(1)];
        if are_mine {
            table.set_vacant(0, 2);
            table.set_inside(1..2);
        }
        let theirs = thread.join().unwrap().expect("there is room for three, and only three are carved");
        assert!(!mine.contains(&Some(theirs)));
        assert!(!are_mine || theirs == 2, "carved inside of what was remade");
    });
}

const RANGE: std::ops::Range<u64> = 0..32;

/// A chunk in a table. One thread remakes it while another claims its first block.
struct Remade {
    chunk: Arc<Chunk>,
    end: AtomicU64,
    units: [AtomicU64; 1],
}

impl Remade {
    fn new() -> Arc<Remade> {
        let units = [AtomicU64::new(0)];
        let scene = Remade { chunk: chunk(), end: AtomicU64::new(0), units };
        assert_eq!(scene.table().carve(Class::for_len(40).unwrap()), Some(0));
        Arc::new(scene)
    }

    fn table(&self) -> Table<'_> {
        Table { end: &self.end, units: &self.units }
    }

    /// Claims as `Arena::claim` does. The claimant has the bytes to itself.
    fn claim(&self, me: OwnerId) -> Option<u32> {
        let log = &self.chunk.logs[me.index()];
        let _: Ordered = log.record(16, me);
        let is_open = self.table().is_open(0, Class::for_len(40).unwrap());
        let claimed = if is_open { self.chunk.slot(0).claim(me) } else { None };
        if claimed.is_none() {
            log.erase(16, me);
        }
        claimed
    }

    /// Remakes as `Arena::close` and `build` do: the word becomes plain data that equals a free
    /// block's word.
    fn remake(&self, me: OwnerId) -> bool {
        if !self.table().close(0, me) {
            return false;
        }
        Ordered::by_fence();
        let is_free = |block: usize| state(self.chunk.words[block].load(Acquire)) == State::Free;
        let is_ours = !self.chunk.logs.iter().any(|log| log.may_name(&RANGE)) && is_free(0) && is_free(1);
        if is_ours {
            self.table().set_vacant(0, 1);
            self.chunk.bytes[0].store(2, Relaxed);
            self.chunk.words[0].store(0, Relaxed);
        } else {
            self.table().open(0, me);
        }
        is_ours
    }
}

#[test]
fn one_claims_while_another_remakes() {
    model("heap: a claim in a chunk that is remade", || {
        let scene = Remade::new();
        let other = scene.clone();
        let other = thread::spawn(move || {
            let Some(generation) = other.claim(id(1)) else { return false };
            other.chunk.bytes[0].store(1, Relaxed);
            assert!(publish(other.chunk.slot(0).word, generation, id(1)), "it was remade");
            other.chunk.logs[1].erase(16, id(1));
            assert_eq!(other.chunk.bytes[0].load(Relaxed), 1, "it was remade");
            true
        });
        let is_remade = scene.remake(id(0));
        let is_claimed = other.join().unwrap();
        assert!(!(is_remade && is_claimed), "a block of a chunk that was remade");
        assert!(is_remade || scene.table().is_open(0, Class::for_len(40).unwrap()), "it stays closed");
    });
}

#[test]
fn a_thread_without_a_name_clears_that_of_another() {
    model_within(3, "heap: two threads with one place claim in a chunk that is remade", || {
        let scene = Remade::new();
        let log = &scene.chunk.logs[1];
        // The last place is free.
        (0..6).for_each(|number| _ = log.record(16 * (100 + number), id(1)));
        let work = |scene: &Remade| {
            let Some(generation) = scene.claim(id(1)) else { return false };
            assert!(publish(scene.chunk.slot(0).word, generation, id(1)), "it was remade");
            scene.chunk.logs[1].erase(16, id(1));
            true
        };
        let other = scene.clone();
        let other = thread::spawn(move || work(&other));
        let third = scene.clone();
        let third = thread::spawn(move || work(&third));
        let is_remade = scene.remake(id(0));
        let claimed = usize::from(other.join().unwrap()) + usize::from(third.join().unwrap());
        assert!(claimed <= usize::from(!is_remade), "a block of a chunk that was remade");
        assert!(!log.may_name(&RANGE), "the count was not decremented");
    });
}

#[test]
fn one_frees_while_another_remakes() {
    model("heap: a free in a chunk that is remade", || {
        let scene = Remade::new();
        let generation = scene.claim(id(1)).unwrap();
        assert!(publish(scene.chunk.slot(0).word, generation, id(1)));
        scene.chunk.logs[1].erase(16, id(1));
        scene.chunk.bytes[0].store(1, Relaxed);
        let other = scene.clone();
        let other = thread::spawn(move || {
            let seen = other.chunk.bytes[0].load(Relaxed);
            assert_eq!(seen, 1, "written before it is free");
            assert!(other.chunk.slot(0).free(generation, id(1)));
            other.table().set_freed(0);
        });
        let is_remade = scene.remake(id(0));
        other.join().unwrap();
        let piece = scene.table().pieces_before_end().next();
        let class = Class::for_len(40).unwrap();
        assert_eq!(piece, Some((0, if is_remade { Piece::Vacant(1) } else { Piece::Chunk(class) })));
    });
}

#[test]
fn a_late_reaper_opens_nothing_of_the_next_one() {
    model("heap: dead while it remade, two reapers and the next to remake", || {
        let scene = Remade::new();
        assert!(scene.table().close(0, id(1)));
        let late = scene.clone();
        let late = thread::spawn(move || late.table().open(0, id(1)));
        scene.table().open(0, id(1));
        assert!(scene.table().close(0, id(0)));
        late.join().unwrap();
        let piece = scene.table().pieces_before_end().next();
        assert!(matches!(piece, Some((0, Piece::Closed(_, bits))) if bits == id(0).bits()), "{piece:?}");
    });
}

/// A block that is reused, one byte of it, and pins.
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

    /// Retires the block as `Heap::retire` does. If it is free then, writes into it, as its next
    /// owner would.
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

    /// Pins as `Heap::pin` does, then reads the byte. Returns the pin.
    fn read(&self, me: OwnerId) -> usize {
        let pin = self.pins.pin(AT, me).unwrap();
        let word = self.chunk.words[0].load(Acquire);
        if (state(word), generation(word)) == (State::Live, self.generation) {
            assert_eq!(self.chunk.bytes[0].load(Relaxed), 1, "written while it is read in place");
        }
        pin
    }

    fn release(&self, pin: usize, me: OwnerId) {
        self.pins.release(pin, AT, me, |_| self.free());
        self.reuse();
    }

    /// Checks that the block, which was retired and is not pinned, was freed, or is in use again.
    fn assert_freed(&self) {
        let word = self.chunk.words[0].load(Acquire);
        assert!(state(word) != State::Retired && !self.pins.is_pinned(AT), "it is lost");
    }
}

#[test]
fn one_reads_in_place_while_another_retires() {
    model("heap: a pin and a process that retires the block", || {
        let scene = Pinnable::new();
        let reader = scene.clone();
        let reader = thread::spawn(move || {
            let pin = reader.read(id(1));
            reader.release(pin, id(1));
        });
        scene.retire();
        reader.join().unwrap();
        scene.assert_freed();
    });
}

#[test]
fn two_release_while_a_third_retires() {
    model_within(2, "heap: two pins and a process that retires the block", || {
        let scene = Pinnable::new();
        let readers = [1, 2].map(|index| {
            let reader = scene.clone();
            thread::spawn(move || {
                let pin = reader.read(id(index));
                reader.release(pin, id(index));
            })
        });
        scene.retire();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        scene.assert_freed();
    });
}

#[test]
fn a_reaper_releases_the_pins_of_the_dead() {
    model_within(2, "heap: dead with a pin, two reapers, and a process that retires the block", || {
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
        scene.assert_freed();
    });
}
