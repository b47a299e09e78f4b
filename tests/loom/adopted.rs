//! Blocks that are handed over: one process owns them at a time, and a death frees them once.

use super::{model, thread, Arc};
use crate::heap::block::{adopt, generation, publish, state, ClaimLog, Slot, State};
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::Relaxed;
use crate::segment::owner::OwnerId;

/// A block, what its owner writes there, and the claim logs of three participants.
struct Memory {
    word: AtomicU64,
    bits: AtomicU64,
    byte: AtomicU64,
    logs: [ClaimLog; 3],
}

fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Memory {
    /// Returns a block that `id(0)` owns, and its generation.
    fn owned() -> (Arc<Memory>, u32) {
        let logs = [(); 3].map(|()| ClaimLog::new());
        let [word, bits, byte] = [(); 3].map(|()| AtomicU64::new(0));
        let memory = Memory { word, bits, byte, logs };
        memory.logs[0].mark(id(0));
        let generation = memory.slot().claim(id(0)).unwrap();
        memory.byte.store(7, Relaxed);
        (Arc::new(memory), generation)
    }

    fn slot(&self) -> Slot<'_> {
        Slot { word: &self.word, bits: &self.bits, mask: 1 }
    }

    /// Adopts the block as `Heap::adopt` does. Its bytes must be what the first owner wrote, and
    /// stay.
    fn adopt(&self, expected: u32, me: OwnerId) -> Option<u32> {
        self.logs[me.index()].mark(me);
        let adopted = adopt(&self.word, expected, me);
        if let Some(generation) = adopted {
            self.check_mine(generation, me);
        }
        adopted
    }

    fn check_mine(&self, expected: u32, me: OwnerId) {
        let word = self.word.load(Relaxed);
        assert_eq!((generation(word), state(word)), (expected, State::Claimed(me)), "taken away");
        assert_eq!(self.byte.load(Relaxed), 7, "written by another owner");
    }

    /// Claims the block if it is free, as a process that allocates, and writes there.
    fn reuse(&self, me: OwnerId) -> bool {
        let is_free = self.bits.load(Relaxed) == 0 && self.slot().claim(me).is_some();
        if is_free {
            self.byte.store(8, Relaxed);
        }
        is_free
    }

    /// Reaps as `Arena::recover` does.
    fn reap(&self, dead: OwnerId) {
        let had_more = self.logs[dead.index()].recover(dead, |_| panic!("no block is named"));
        if had_more {
            self.slot().recover(dead);
            self.logs[dead.index()].forget_more(dead);
        }
    }
}

#[test]
fn one_adopts_while_the_owner_releases() {
    model("owned block: adopted and freed while its owner releases it", || {
        let (memory, generation) = Memory::owned();
        let other = memory.clone();
        let receiver = thread::spawn(move || {
            // Another thread of the same participant.
            let adopted = other.adopt(generation, id(0)).expect("nobody else adopts it");
            other.check_mine(adopted, id(0));
            assert!(other.slot().free(adopted, id(0)));
            other.reuse(id(2))
        });
        publish(&memory.word, generation, id(0));
        assert!(receiver.join().unwrap(), "the free block is not found");
        assert_eq!(state(memory.word.load(Relaxed)), State::Claimed(id(2)), "a late release");
    });
}

#[test]
fn one_adopts_what_a_dead_owner_has_sent() {
    model("owned block: adopted, two reapers of the sender, an allocator", || {
        let (memory, generation) = Memory::owned();
        let [reaper, allocator] = [(); 2].map(|()| memory.clone());
        let reaper = thread::spawn(move || reaper.reap(id(0)));
        let allocator = thread::spawn(move || allocator.reuse(id(2)));
        let mine = memory.adopt(generation, id(1));
        memory.reap(id(0));
        reaper.join().unwrap();
        let is_reused = allocator.join().unwrap();
        assert!(!(mine.is_some() && is_reused), "it has two owners");
        match mine {
            Some(generation) => memory.check_mine(generation, id(1)),
            None => assert!(is_reused || memory.reuse(id(2)), "lost"),
        }
    });
}

#[test]
fn two_receive_a_ticket_and_one_of_them_dies() {
    model("owned block: a receiver that dies, the next one with the same ticket, a reaper", || {
        let (memory, generation) = Memory::owned();
        assert!(publish(&memory.word, generation, id(0)));
        let other = memory.clone();
        let first = thread::spawn(move || {
            // It dies here. The message with the ticket comes back when that was noticed.
            let has_adopted = other.adopt(generation, id(1)).is_some();
            other.reap(id(1));
            has_adopted
        });
        let mine = memory.adopt(generation, id(2));
        let theirs = first.join().unwrap();
        assert!(mine.is_some() ^ theirs, "a ticket leads to its block once");
        if let Some(generation) = mine {
            memory.check_mine(generation, id(2));
            memory.reap(id(2));
        }
        assert!(memory.reuse(id(0)), "lost");
        assert!(memory.adopt(generation, id(1)).is_none(), "an old ticket leads to a new block");
    });
}
