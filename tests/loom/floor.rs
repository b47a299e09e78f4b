//! Models of a topic whose messages are in blocks: publishers that need memory discard the oldest
//! messages. No subscriber receives bytes of another message, none that reads in place sees them
//! change, a lossless one loses nothing, and no block is lost, wherever a participant dies.
//!
//! The ring is the real one, with headers. The blocks are words of the heap's [`block`] with a log
//! for each participant, as in an arena. Beside them are two words, in which a torn copy shows, and
//! a cell that loom watches, for messages that are read in place.
//!
//! [`block`]: crate::heap::block

use std::ptr::NonNull;

use super::topic::{id, UnsafeCell};
use super::{model_within, thread, Arc};
use crate::heap::block::{generation, publish, state, ClaimLog, Slot as BlockSlot, State};
use crate::heap::Block;
use crate::loom::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::payload::area::Area;
use crate::queue::payload::header::{Header, Name};
use crate::queue::topic::descriptor::{Descriptor, Line, Slot as SlotWords};
use crate::queue::topic::gate::Lack;
use crate::queue::topic::locate::Wanted;
use crate::queue::topic::policy::Policy;
use crate::queue::topic::publish::{Claim, Unsent};
use crate::queue::topic::receive::{Cursor, Unread};
use crate::queue::topic::ring::{Ring, Shape};
use crate::sys::clock::Deadline;

/// The participant that dies.
const DEAD: usize = 7;
/// The bytes that a block counts for.
const LEN: u64 = 16;

#[repr(C)]
struct Slot {
    words: [AtomicU64; 2],
    header: Header,
}

struct Content {
    words: [AtomicU64; 2],
    cell: UnsafeCell<u64>,
}

struct Scene {
    ring: Ring,
    _descriptor: Box<Descriptor>,
    _lines: Box<[Line]>,
    _slots: Box<[Slot]>,
    blocks: Vec<AtomicU64>,
    bits: AtomicU64,
    logs: Vec<ClaimLog>,
    contents: Vec<Content>,
    /// See `topic::Topic`.
    turn: AtomicUsize,
}

// SAFETY: the owner of a block writes its cell, and readers have pinned it; the models check that.
unsafe impl Send for Scene {}
// SAFETY: as above.
unsafe impl Sync for Scene {}

fn scene(capacity: u32, slots: u32, blocks: usize) -> Arc<Scene> {
    let descriptor = Box::new(Descriptor::new());
    let lines: Box<[Line]> = (0..2).map(|_| Line::new()).collect();
    let slot = |_| Slot { words: [(); 2].map(|()| AtomicU64::new(0)), header: Header::new() };
    let all: Box<[Slot]> = (0..slots).map(slot).collect();
    let (stride, policy) = (size_of::<Slot>(), Policy::Block);
    assert_eq!(std::mem::offset_of!(Slot, header), size_of::<SlotWords>());
    let shape = Shape {
        capacity,
        slots,
        lines: 2,
        stride,
        offset: stride,
        words: 0,
        is_varied: true,
        policy,
        ends: false,
    };
    // SAFETY: descriptor, lines and slots live as long as the ring, in the same struct.
    let ring = unsafe {
        Ring::new(
            NonNull::from(&*descriptor),
            NonNull::from(&lines[..]).cast(),
            NonNull::from(&all[..]).cast(),
            shape,
        )
    };
    (0..8).for_each(|index| ring.enlist(id(index)));
    let content = |_| Content { words: [(); 2].map(|()| AtomicU64::new(0)), cell: UnsafeCell::new(0) };
    Arc::new(Scene {
        ring,
        _descriptor: descriptor,
        _lines: lines,
        _slots: all,
        blocks: (0..blocks).map(|_| AtomicU64::new(0)).collect(),
        bits: AtomicU64::new(0),
        logs: (0..8).map(|_| ClaimLog::new()).collect(),
        contents: (0..blocks).map(content).collect(),
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

/// A number of steps after which no operation stops.
const ALL: usize = usize::MAX;

impl Scene {
    fn turn(&self) {
        self.turn.fetch_add(1, Relaxed);
    }

    fn block(&self, at: u64) -> BlockSlot<'_> {
        let index = at as usize / 16 - 1;
        BlockSlot { word: &self.blocks[index], bits: &self.bits, mask: 1 << index }
    }

    fn content(&self, at: u64) -> &Content {
        &self.contents[at as usize / 16 - 1]
    }

    fn alloc(&self, me: usize) -> Option<Block> {
        (1..=self.blocks.len() as u64).map(|number| 16 * number).find_map(|at| {
            self.logs[me].record(at, id(me));
            let claimed = self.block(at).claim(id(me));
            if claimed.is_none() {
                self.logs[me].erase(at, id(me));
            }
            claimed.map(|generation| Block { at, generation })
        })
    }

    /// Frees a share, as `Area::free_share` does.
    fn free(&self, name: Name) -> u64 {
        let slot = self.block(name.at());
        let seen = slot.word.load(Relaxed);
        let is_this = state(seen) == State::Live && name.is_of(generation(seen));
        if is_this && slot.free(generation(seen), id(6)) {
            LEN
        } else {
            0
        }
    }

    /// Allocates as `Port::alloc` does.
    fn alloc_discarding(&self, me: usize) -> Result<Block, Unsent> {
        loop {
            if let Some(block) = self.alloc(me) {
                return Ok(block);
            }
            self.ring.discard(&mut self.ring.steps(), LEN, &|name| self.free(name))?;
        }
    }

    /// Publishes a message in a block, and dies after this number of steps. `None`: it has died.
    fn send_within(&self, me: usize, value: u64, steps: usize) -> Option<Result<(), Unsent>> {
        self.turn();
        let mut steps = Steps(steps);
        let block = match self.alloc_discarding(me) {
            Ok(block) => block,
            Err(unsent) => return Some(Err(unsent)),
        };
        steps.take()?;
        let claim = match self.ring.try_claim(id(me)) {
            Ok(claim) => claim,
            Err(unsent) => {
                assert!(self.block(block.at).free(block.generation, id(me)));
                self.logs[me].erase(block.at, id(me));
                return Some(Err(unsent));
            }
        };
        steps.take()?;
        let header = self.ring.header(claim.position.index);
        if let Some(name) = header.block() {
            self.free(name);
        }
        steps.take()?;
        header.set(1, Some(Name::of(block)));
        steps.take()?;
        assert!(publish(self.block(block.at).word, block.generation, id(me)));
        steps.take()?;
        self.logs[me].erase(block.at, id(me));
        let content = self.content(block.at);
        content.words.iter().for_each(|word| word.store(value, Relaxed));
        // SAFETY: the block is ours; loom checks that.
        content.cell.with_mut(|at| unsafe { *at = value });
        steps.take()?;
        Some(self.send_claimed(me, claim))
    }

    fn send_claimed(&self, me: usize, claim: Claim) -> Result<(), Unsent> {
        let find = || self.ring.try_claim(id(me));
        let copy = |from, to| {
            let (from, to) = (self.ring.header(from), self.ring.header(to));
            if let Some(name) = to.block() {
                self.free(name);
            }
            Area::move_on(from, to);
        };
        self.ring.send_claimed(id(me), claim, find, copy).map_err(|(unsent, claim)| {
            let header = self.ring.header(claim.position.index);
            if let Some(name) = header.block() {
                self.free(name);
                header.clear();
            }
            self.ring.free(id(me), claim);
            unsent
        })
    }

    fn send(&self, me: usize, value: u64) -> Result<(), Unsent> {
        self.send_within(me, value, ALL).unwrap()
    }

    /// Publishes, and sleeps until there is memory.
    fn send_waiting(&self, me: usize, value: u64) {
        let attempt = || match self.send(me, value) {
            Err(Unsent::Gated(_)) => None,
            done => Some(done),
        };
        self.ring.room().wait_heavy(Deadline::Never, || (), attempt).unwrap().unwrap();
    }

    fn subscribe(&self, me: usize, wanted: Wanted) -> Cursor {
        let line = self.ring.take_line(id(me)).unwrap();
        self.ring.begin_at(wanted, line).unwrap().unwrap()
    }

    fn subscribe_lossless(&self, me: usize, wanted: Wanted) -> Cursor {
        let line = self.ring.take_line(id(me)).unwrap();
        self.ring.begin_lossless(wanted, line).unwrap().unwrap()
    }

    /// Returns the block of a slot's message, as `Area::find` does.
    fn find(&self, index: u32) -> Option<&Content> {
        let name = self.ring.header(index).block()?;
        let word = self.block(name.at()).word.load(crate::loom::atomic::Ordering::Acquire);
        (state(word) == State::Live && name.is_of(generation(word))).then(|| self.content(name.at()))
    }

    fn try_recv(&self, cursor: &mut Cursor) -> Result<u64, Unread> {
        self.turn();
        let copied = self.ring.try_copy(cursor, |index| {
            self.find(index).map(|content| content.words.each_ref().map(|word| word.load(Relaxed)))
        })?;
        let [one, other] = copied.expect("a message without a block");
        assert_eq!(one, other, "a torn message");
        Ok(one)
    }

    /// Receives a message in place. Loom checks that it does not change meanwhile.
    fn try_read(&self, me: usize, cursor: &mut Cursor) -> Result<u64, Unread> {
        self.turn();
        let index = self.ring.try_pin(id(me), cursor)?;
        let content = self.find(index).expect("a pinned message without a block");
        // SAFETY: the block is pinned; loom checks that.
        let value = content.cell.with(|at| unsafe { *at });
        self.ring.release(cursor.line);
        Ok(value)
    }

    /// Receives everything that is left.
    fn drain(&self, cursor: &mut Cursor) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            match self.try_recv(cursor) {
                Ok(value) => all.push(value),
                Err(Unread::Lagged(count)) => assert!(count > 0),
                Err(Unread::Blocked(blocked)) => {
                    assert_eq!(blocked, Blocked::Later);
                    return all;
                }
            }
        }
    }

    fn reap(&self) {
        let had_more = self.logs[DEAD].recover(id(DEAD), |at| {
            self.block(at).recover(id(DEAD));
        });
        assert!(!had_more);
        self.ring.recover_with(id(DEAD), Some(&|name| self.free(name)));
    }

    /// Checks that all blocks come back. Call it when nobody reads or writes any more.
    fn assert_whole(&self) {
        while self.ring.discard(&mut self.ring.steps(), u64::MAX, &|name| self.free(name)).is_ok() {}
        for word in &self.blocks {
            assert_eq!(state(word.load(Relaxed)), State::Free, "a block is lost");
        }
        assert_eq!(self.ring.held(), 0);
    }
}

/// Checks what a lossy subscriber has received of the messages 1, 2 ... `last`.
fn check(seen: &[u64], cursor: &Cursor, last: u64) {
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen.last(), cursor.ordinal), (Some(&last), last));
    assert_eq!(seen.len() as u64 + cursor.lost, last, "the number of lost messages is exact: {seen:?}");
}

#[test]
fn discarding_against_a_copy() {
    model_within(2, "floor: discarding against a copy", || {
        let scene = scene(3, 4, 1);
        let mut cursor = scene.subscribe(0, Wanted::Last(0));
        scene.send(1, 1).unwrap();
        let publisher = scene.clone();
        let thread = thread::spawn(move || (2..4).for_each(|value| publisher.send(1, value).unwrap()));
        let mut seen = Vec::new();
        for _ in 0..2 {
            match scene.try_recv(&mut cursor) {
                Ok(value) => {
                    assert_eq!(value, seen.len() as u64 + cursor.lost + 1);
                    seen.push(value);
                }
                Err(Unread::Lagged(count)) => assert!(count > 0),
                Err(blocked) => assert_eq!(blocked, Blocked::Later.into()),
            }
        }
        thread.join().unwrap();
        seen.extend(scene.drain(&mut cursor));
        check(&seen, &cursor, 3);
        scene.assert_whole();
    });
}

#[test]
fn two_publishers_discard_against_a_copy() {
    model_within(1, "floor: two publishers discard against a copy", || {
        let scene = scene(3, 4, 2);
        let mut cursor = scene.subscribe(0, Wanted::Last(0));
        (1..3).for_each(|value| scene.send(1, value).unwrap());
        let publishers = [1, 2].map(|me| {
            let scene = scene.clone();
            thread::spawn(move || scene.send(me, 2 + me as u64))
        });
        let first = scene.try_recv(&mut cursor);
        assert!(matches!(first, Ok(1) | Err(Unread::Lagged(1..))), "{first:?}");
        let sent = publishers.map(|thread| thread.join().unwrap());
        // Publishers that have yet to publish may hold both blocks.
        assert!(sent.contains(&Ok(())) && !sent.contains(&Err(Blocked::Corrupted.into())), "{sent:?}");
        let mut seen: Vec<u64> = first.into_iter().collect();
        seen.extend(scene.drain(&mut cursor));
        assert_eq!(seen.len() as u64 + cursor.lost, cursor.ordinal);
        assert_eq!(cursor.ordinal, 2 + sent.iter().filter(|sent| sent.is_ok()).count() as u64);
        scene.assert_whole();
    });
}

#[test]
fn discarding_against_a_pin() {
    model_within(2, "floor: discarding against a pin", || {
        let scene = scene(3, 4, 2);
        let mut cursor = scene.subscribe(0, Wanted::Last(0));
        scene.send(1, 1).unwrap();
        let publisher = scene.clone();
        let thread = thread::spawn(move || (2..5).for_each(|value| publisher.send(1, value).unwrap()));
        let mut last = 0;
        for _ in 0..2 {
            if let Ok(value) = scene.try_read(0, &mut cursor) {
                assert!(value > last && value == cursor.ordinal, "{value} at {cursor:?}");
                last = value;
            }
        }
        thread.join().unwrap();
        while last < 4 {
            match scene.try_read(0, &mut cursor) {
                Ok(value) => last = value,
                other => assert!(matches!(other, Err(Unread::Lagged(1..))), "{other:?}"),
            }
        }
        assert_eq!(cursor.ordinal, 4);
        scene.assert_whole();
    });
}

#[test]
fn a_lap_of_the_ring_against_a_pin() {
    model_within(2, "floor: a lap of the ring against a pin", || {
        let scene = scene(1, 2, 2);
        let mut cursor = scene.subscribe(0, Wanted::Last(0));
        scene.send(1, 1).unwrap();
        let publisher = scene.clone();
        let thread = thread::spawn(move || (2..5).for_each(|value| publisher.send(1, value).unwrap()));
        if let Ok(value) = scene.try_read(0, &mut cursor) {
            assert_eq!(value, cursor.ordinal);
        }
        thread.join().unwrap();
        scene.send(1, 5).unwrap();
        while scene.try_read(0, &mut cursor) != Ok(5) {}
        assert_eq!(cursor.ordinal, 5);
        scene.assert_whole();
    });
}

#[test]
fn discarding_waits_for_a_lossless_cursor() {
    model_within(2, "floor: discarding waits for a lossless cursor", || {
        let scene = scene(3, 4, 1);
        let mut cursor = scene.subscribe_lossless(0, Wanted::Last(0));
        let publisher = scene.clone();
        let thread = thread::spawn(move || (1..4).for_each(|value| publisher.send_waiting(1, value)));
        for value in 1..4 {
            let attempt = || match scene.try_recv(&mut cursor) {
                Err(Unread::Blocked(Blocked::Later)) => None,
                done => Some(done),
            };
            assert_eq!(scene.ring.sleepers().wait(Deadline::Never, || (), attempt), Some(Ok(value)));
        }
        thread.join().unwrap();
        assert_eq!((cursor.lost, cursor.is_lossless), (0, true));
        scene.assert_whole();
    });
}

#[test]
fn discarding_against_a_lossless_pin() {
    model_within(1, "floor: discarding against a lossless pin", || {
        let scene = scene(3, 4, 1);
        let mut cursor = scene.subscribe_lossless(0, Wanted::Last(0));
        scene.send(1, 1).unwrap();
        let publisher = scene.clone();
        let thread = thread::spawn(move || {
            // It is refused while the only block is read in place.
            while publisher.send(1, 2) != Ok(()) {
                thread::yield_now();
            }
        });
        assert_eq!(scene.try_read(0, &mut cursor), Ok(1));
        thread.join().unwrap();
        assert_eq!(scene.try_read(0, &mut cursor), Ok(2));
        scene.assert_whole();
    });
}

#[test]
fn joining_against_discarding() {
    model_within(3, "floor: joining against discarding", || {
        let scene = scene(3, 4, 2);
        (1..3).for_each(|value| scene.send(1, value).unwrap());
        let publisher = scene.clone();
        let thread =
            thread::spawn(move || 2 + (3..6).take_while(|value| publisher.send(1, *value).is_ok()).count());
        let mut cursor = scene.subscribe_lossless(0, Wanted::Last(2));
        let start = cursor.ordinal;
        let sent = thread.join().unwrap();
        let seen = scene.drain(&mut cursor);
        assert!(cursor.lost == 0 && cursor.is_lossless, "{cursor:?}");
        assert_eq!(seen, (start + 1..=sent as u64).collect::<Vec<_>>());
        scene.assert_whole();
    });
}

#[test]
fn eviction_for_memory() {
    model_within(2, "floor: eviction for memory against receive", || {
        let scene = scene(3, 4, 1);
        let mut cursor = scene.subscribe_lossless(0, Wanted::Last(0));
        scene.send(1, 1).unwrap();
        let publisher = scene.clone();
        let thread = thread::spawn(move || {
            while let Err(unsent) = publisher.send(1, 2) {
                assert_eq!(unsent, Unsent::Gated(Lack::Memory));
                publisher.ring.evict(Lack::Memory);
            }
        });
        let first = scene.try_recv(&mut cursor);
        assert!(matches!(first, Ok(1) | Err(Unread::Lagged(1))), "{first:?}");
        thread.join().unwrap();
        let mut seen: Vec<u64> = first.into_iter().collect();
        seen.extend(scene.drain(&mut cursor));
        check(&seen, &cursor, 2);
        scene.assert_whole();
    });
}

#[test]
fn a_publisher_dies_after_it_raised_the_floor() {
    model_within(2, "floor: a publisher dies after it raised the floor", || {
        let scene = scene(3, 4, 2);
        let mut cursor = scene.subscribe(0, Wanted::Last(0));
        (1..3).for_each(|value| scene.send(1, value).unwrap());
        let (dying, publisher) = (scene.clone(), scene.clone());
        // It passes both positions, and frees nothing.
        let dead = thread::spawn(move || _ = dying.ring.discard(&mut dying.ring.steps(), LEN, &|_| 0));
        let thread = thread::spawn(move || publisher.send(2, 3).unwrap());
        let first = scene.try_recv(&mut cursor);
        assert!(matches!(first, Ok(1) | Err(Unread::Lagged(1..))), "{first:?}");
        dead.join().unwrap();
        thread.join().unwrap();
        scene.drain(&mut cursor);
        assert_eq!(cursor.ordinal, 3);
        scene.assert_whole();
    });
}

#[test]
fn a_reader_in_place_dies() {
    model_within(1, "floor: a reader in place dies", || {
        let scene = scene(3, 4, 2);
        let mut cursor = scene.subscribe(DEAD, Wanted::Last(0));
        scene.send(1, 1).unwrap();
        scene.ring.try_pin(id(DEAD), &mut cursor).unwrap();
        let (publisher, reaper) = (scene.clone(), scene.clone());
        let thread = thread::spawn(move || (2..4).for_each(|value| publisher.send(1, value).unwrap()));
        let other = thread::spawn(move || reaper.reap());
        scene.reap();
        thread.join().unwrap();
        other.join().unwrap();
        scene.assert_whole();
    });
}

#[test]
fn a_publisher_dies() {
    for steps in 0..=5 {
        model_within(1, &format!("floor: a publisher dies after {steps} steps"), move || {
            let scene = scene(2, 3, 2);
            let mut cursor = scene.subscribe(0, Wanted::Last(0));
            // Each slot names a block.
            (1..5).for_each(|value| scene.send(1, value).unwrap());
            assert_eq!(scene.send_within(DEAD, 9, steps), None);
            let reapers = [(); 2].map(|()| {
                let scene = scene.clone();
                thread::spawn(move || scene.reap())
            });
            let sent = scene.send(1, 5).is_ok();
            reapers.into_iter().for_each(|reaper| reaper.join().unwrap());
            let seen = scene.drain(&mut cursor);
            assert!(!seen.contains(&9) && seen.contains(&5) == sent, "{seen:?}");
            assert_eq!(cursor.ordinal, 4 + u64::from(sent));
            scene.assert_whole();
        });
    }
}

#[test]
fn a_publisher_dies_between_two_slots() {
    for steps in 0..3 {
        model_within(2, &format!("floor: a publisher dies with two slots, {steps} steps"), move || {
            let scene = scene(3, 4, 2);
            let mut cursor = scene.subscribe(0, Wanted::Last(0));
            let block = scene.alloc(DEAD).unwrap();
            let old = scene.ring.try_claim(id(DEAD)).unwrap();
            let from = scene.ring.header(old.position.index);
            from.set(1, Some(Name::of(block)));
            assert!(publish(scene.block(block.at).word, block.generation, id(DEAD)));
            scene.logs[DEAD].erase(block.at, id(DEAD));
            scene.content(block.at).words.iter().for_each(|word| word.store(9, Relaxed));
            // A later message is received: the old slot is skipped, and another one is claimed.
            scene.send(1, 1).unwrap();
            assert_eq!(scene.try_recv(&mut cursor), Ok(1));
            let new = scene.ring.try_claim(id(DEAD)).unwrap();
            let to = scene.ring.header(new.position.index);
            match steps {
                0 => {}
                1 => to.set(1, from.block()),
                _ => {
                    to.set(1, from.block());
                    from.clear();
                    assert_eq!(scene.ring.publish(id(DEAD), new), Ok(()));
                }
            }
            let reapers = [(); 2].map(|()| {
                let scene = scene.clone();
                thread::spawn(move || scene.reap())
            });
            let mut seen: Vec<u64> = scene.try_recv(&mut cursor).into_iter().collect();
            reapers.into_iter().for_each(|reaper| reaper.join().unwrap());
            seen.extend(scene.drain(&mut cursor));
            assert_eq!(seen, if steps == 2 { vec![9] } else { vec![] });
            scene.assert_whole();
        });
    }
}
