//! Messages in blocks: each block belongs to one message, and none is lost, wherever its sender or
//! its receiver dies.
//!
//! The ring is the real one, with headers. The blocks are words of the heap's [`block`] with a log
//! for the one that dies, as in an arena; beside them are cells that loom watches.
//!
//! [`block`]: crate::heap::block

use std::ptr::NonNull;

use super::queue::{id, UnsafeCell};
use super::{model, model_within, thread, Arc};
use crate::heap::block::{generation, publish, state, ClaimLog, Slot as BlockSlot, State};
use crate::heap::Block;
use crate::loom::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::mpmc::descriptor::Descriptor;
use crate::queue::mpmc::ring::{Claim, Ring};
use crate::queue::payload::area::Area;
use crate::queue::payload::header::{Header, Name};
use crate::sys::clock::Deadline;

const BLOCKS: usize = 2;
const DEAD: usize = 8;

#[repr(C)]
struct Slot {
    word: AtomicU64,
    header: Header,
}

struct Scene {
    ring: Ring,
    _descriptor: Box<Descriptor>,
    _slots: Box<[Slot]>,
    words: [AtomicU64; BLOCKS],
    bits: AtomicU64,
    /// The claims of the participant that dies. The logs of the others are not read.
    log: ClaimLog,
    bytes: Vec<UnsafeCell<u32>>,
    /// See `queue::Queue`.
    turn: AtomicUsize,
}

// SAFETY: the holder of a block has its bytes alone; the models check that.
unsafe impl Send for Scene {}
// SAFETY: as above.
unsafe impl Sync for Scene {}

fn scene(capacity: usize, redeliver: bool) -> Arc<Scene> {
    let descriptor = Box::new(Descriptor::new());
    let slot = |_| Slot { word: AtomicU64::new(0), header: Header::new() };
    let slots: Box<[Slot]> = (0..capacity).map(slot).collect();
    let first = NonNull::from(&slots[..]).cast::<u8>();
    // SAFETY: descriptor and slots live as long as the ring, in the same struct; the stride is that
    // of the slots, each of which begins with its word and its header.
    let ring = unsafe {
        Ring::new(NonNull::from(&*descriptor), first, size_of::<Slot>(), capacity as u32, redeliver)
    };
    (0..10).for_each(|index| ring.enlist(id(index)));
    Arc::new(Scene {
        ring,
        _descriptor: descriptor,
        _slots: slots,
        words: [(); BLOCKS].map(|()| AtomicU64::new(0)),
        bits: AtomicU64::new(0),
        log: ClaimLog::new(),
        bytes: (0..BLOCKS).map(|_| UnsafeCell::new(0)).collect(),
        turn: AtomicUsize::new(0),
    })
}

/// A place to stop at, which represents a death there. Steps count from 0.
struct Steps(usize);

impl Steps {
    /// Returns `None`, which ends the operation, after the last step.
    fn take(&mut self) -> Option<()> {
        self.0 = self.0.checked_sub(1)?;
        Some(())
    }
}

const ALL: usize = usize::MAX;

impl Scene {
    fn block(&self, at: u64) -> BlockSlot<'_> {
        let index = at as usize / 16 - 1;
        BlockSlot { word: &self.words[index], bits: &self.bits, mask: 1 << index }
    }

    fn alloc(&self, me: usize) -> Option<Block> {
        (1..=BLOCKS as u64).map(|number| 16 * number).find_map(|at| {
            if me == DEAD {
                self.log.record(at, id(me));
            }
            let claimed = self.block(at).claim(id(me));
            if claimed.is_none() {
                self.erase(at, me);
            }
            claimed.map(|generation| Block { at, generation })
        })
    }

    fn erase(&self, at: u64, me: usize) {
        if me == DEAD {
            self.log.erase(at, id(me));
        }
    }

    /// Frees a LIVE block, as `Store::free` does.
    fn free(&self, name: Name) -> bool {
        let slot = self.block(name.at());
        let seen = slot.word.load(Relaxed);
        state(seen) == State::Live && name.is_of(generation(seen)) && slot.free(generation(seen), id(9))
    }

    fn cell(&self, at: u64) -> &UnsafeCell<u32> {
        &self.bytes[at as usize / 16 - 1]
    }

    /// Sends a message in a block, and dies after this number of steps. `None` if it has died.
    fn send_within(&self, me: usize, value: u32, steps: usize) -> Option<Result<(), Blocked>> {
        self.turn.fetch_add(1, Relaxed);
        let mut steps = Steps(steps);
        steps.take()?;
        let Some(block) = self.alloc(me) else { return Some(Err(Blocked::Later)) };
        steps.take()?;
        let claim = match self.ring.try_claim(id(me), None) {
            Ok(claim) => claim,
            Err(blocked) => {
                assert!(self.block(block.at).free(block.generation, id(me)));
                self.erase(block.at, me);
                return Some(Err(blocked));
            }
        };
        steps.take()?;
        self.ring.header(claim.index).set(1, Some(Name::of(block)));
        steps.take()?;
        assert!(publish(self.block(block.at).word, block.generation, id(me)));
        steps.take()?;
        self.erase(block.at, me);
        // SAFETY: the block is ours; loom checks that.
        self.cell(block.at).with_mut(|at| unsafe { *at = value });
        steps.take()?;
        Some(self.send_claimed(me, claim))
    }

    fn send_claimed(&self, me: usize, claim: Claim) -> Result<(), Blocked> {
        let find = |own| self.ring.try_claim(id(me), Some(own));
        let copy = |from, to| Area::move_on(self.ring.header(from), self.ring.header(to));
        self.ring.send_claimed(id(me), claim, Deadline::At(0), find, copy).map(drop).map_err(
            |(blocked, claim)| {
                if let Some(name) = self.ring.header(claim.index).block() {
                    assert!(self.free(name));
                    self.ring.header(claim.index).clear();
                }
                self.ring.free_unsent(id(me), claim);
                blocked
            },
        )
    }

    /// Receives a message, and dies after this number of steps. `None` if it has died.
    fn recv_within(&self, me: usize, steps: usize) -> Option<Result<u32, Blocked>> {
        self.turn.fetch_add(1, Relaxed);
        let mut steps = Steps(steps);
        let claim = match self.ring.try_take(id(me)) {
            Ok(claim) => claim,
            Err(blocked) => return Some(Err(blocked)),
        };
        let header = self.ring.header(claim.index);
        let name = header.block().expect("a message without a block");
        let slot = self.block(name.at());
        let word = slot.word.load(Relaxed);
        assert!(state(word) == State::Live && name.is_of(generation(word)), "the block is not the message's");
        // SAFETY: the block is ours; loom checks that.
        let value = self.cell(name.at()).with(|at| unsafe { *at });
        steps.take()?;
        header.set_done();
        steps.take()?;
        assert!(self.free(name), "freed by another");
        steps.take()?;
        header.clear();
        steps.take()?;
        self.ring.free(id(me), claim);
        Some(Ok(value))
    }

    fn send(&self, me: usize, value: u32) -> Result<(), Blocked> {
        self.send_within(me, value, ALL).unwrap()
    }

    fn recv(&self, me: usize) -> Result<u32, Blocked> {
        self.recv_within(me, ALL).unwrap()
    }

    fn reap(&self) {
        let had_more = self.log.recover(id(DEAD), |at| {
            self.block(at).recover(id(DEAD));
        });
        assert!(!had_more);
        self.ring.recover_with(id(DEAD), Some(&|name| _ = self.free(name)));
    }

    fn drain(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.recv(5).ok()).collect()
    }

    /// Checks the end state: all blocks are free, and so are all slots.
    fn assert_whole(&self) {
        for word in &self.words {
            assert_eq!(state(word.load(Relaxed)), State::Free, "a block is lost");
        }
        let sendable = (self.ring.capacity() as usize).min(BLOCKS);
        for value in 0..sendable as u32 {
            assert_eq!(self.send(9, value), Ok(()), "a slot or a block is lost");
        }
        assert_eq!(self.drain(), (0..sendable as u32).collect::<Vec<_>>());
    }
}

#[test]
fn send_against_recv() {
    model("payload: 2 sends against 2 receives", || {
        let scene = scene(2, false);
        let other = scene.clone();
        let sender = thread::spawn(move || [other.send(1, 10), other.send(1, 11)]);
        let mut received = Vec::new();
        received.extend(scene.recv(5).ok());
        received.extend(scene.recv(5).ok());
        assert_eq!(sender.join().unwrap(), [Ok(()); 2]);
        received.extend(scene.drain());
        assert_eq!(received, [10, 11]);
        scene.assert_whole();
    });
    model_within(2, "payload: 2 senders, 1 receiver", || {
        let scene = scene(2, false);
        let senders = [1, 2].map(|me| {
            let scene = scene.clone();
            thread::spawn(move || scene.send(me, 10 * me as u32))
        });
        let mut received: Vec<u32> = scene.recv(5).ok().into_iter().collect();
        let sent = senders.map(|sender| sender.join().unwrap());
        received.extend(scene.drain());
        received.sort_unstable();
        assert_eq!((sent, &received[..]), ([Ok(()); 2], &[10, 20][..]));
        scene.assert_whole();
    });
}

#[test]
fn a_sender_that_is_skipped() {
    model("payload: a skipped loan is sent, a later message is received", || {
        let scene = scene(3, false);
        let block = scene.alloc(1).unwrap();
        let claim = scene.ring.try_claim(id(1), None).unwrap();
        scene.ring.header(claim.index).set(1, Some(Name::of(block)));
        assert!(publish(scene.block(block.at).word, block.generation, id(1)));
        // SAFETY: the block is ours; loom checks that.
        scene.cell(block.at).with_mut(|at| unsafe { *at = 10 });
        scene.send(2, 20).unwrap();
        let other = scene.clone();
        let sender = thread::spawn(move || other.send_claimed(1, claim));
        let mut received: Vec<u32> = scene.recv(5).ok().into_iter().collect();
        assert_eq!(sender.join().unwrap(), Ok(()));
        received.extend(scene.drain());
        received.sort_unstable();
        assert_eq!(received, [10, 20]);
        scene.assert_whole();
    });
}

/// Runs two reapers of a sender or a receiver that has died after `steps`, beside another
/// participant that sends and receives.
fn death(steps: usize, sends: bool, redeliver: bool) {
    let scene = scene(2, redeliver);
    if sends {
        assert_eq!(scene.send_within(DEAD, 10, steps), None);
    } else {
        scene.send(1, 10).unwrap();
        assert_eq!(scene.recv_within(DEAD, steps), None);
    }
    let reapers = [(); 2].map(|()| {
        let scene = scene.clone();
        thread::spawn(move || scene.reap())
    });
    let sent = scene.send(1, 11).is_ok();
    let mut received: Vec<u32> = scene.recv(5).ok().into_iter().collect();
    reapers.into_iter().for_each(|reaper| reaper.join().unwrap());
    received.extend(scene.drain());
    received.sort_unstable();
    let comes_back = !sends && redeliver && steps == 0;
    let expected = [(10, comes_back), (11, sent)];
    let expected: Vec<u32> =
        expected.into_iter().filter(|(_, is_there)| *is_there).map(|(value, _)| value).collect();
    assert_eq!(received, expected);
    scene.assert_whole();
}

#[test]
fn a_sender_dies() {
    for steps in 1..=5 {
        model_within(2, &format!("payload: a sender dies after {steps} steps"), move || {
            death(steps, true, false);
        });
    }
}

#[test]
fn a_receiver_dies() {
    for steps in 0..4 {
        model_within(2, &format!("payload: a receiver dies after {steps} steps"), move || {
            death(steps, false, false);
        });
        model_within(2, &format!("payload: a receiver dies after {steps} steps, redelivery"), move || {
            death(steps, false, true);
        });
    }
}

#[test]
fn a_sender_dies_between_two_slots() {
    for steps in 0..3 {
        model_within(2, &format!("payload: a sender dies with two slots, {steps} steps"), move || {
            let scene = scene(3, false);
            let block = scene.alloc(DEAD).unwrap();
            let old = scene.ring.try_claim(id(DEAD), None).unwrap();
            scene.ring.header(old.index).set(1, Some(Name::of(block)));
            assert!(publish(scene.block(block.at).word, block.generation, id(DEAD)));
            scene.erase(block.at, DEAD);
            // A later message is received: the old slot is skipped, and another one is claimed.
            scene.send(1, 20).unwrap();
            assert_eq!(scene.recv(5), Ok(20));
            let new = scene.ring.try_claim(id(DEAD), None).unwrap();
            let (from, to) = (scene.ring.header(old.index), scene.ring.header(new.index));
            match steps {
                0 => {}
                1 => to.set(1, from.block()),
                _ => {
                    to.set(1, from.block());
                    from.clear();
                    // SAFETY: the block is ours; loom checks that.
                    scene.cell(block.at).with_mut(|at| unsafe { *at = 10 });
                    assert_eq!(scene.ring.publish(id(DEAD), new), Ok(()));
                }
            }
            let reapers = [(); 2].map(|()| {
                let scene = scene.clone();
                thread::spawn(move || scene.reap())
            });
            let mut received: Vec<u32> = scene.recv(5).ok().into_iter().collect();
            reapers.into_iter().for_each(|reaper| reaper.join().unwrap());
            received.extend(scene.drain());
            assert_eq!(received, if steps == 2 { vec![10] } else { vec![] });
            scene.assert_whole();
        });
    }
}
