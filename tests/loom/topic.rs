//! Models of a topic's ring: every subscriber sees one order, nothing is torn, what is lost is
//! counted exactly, and a participant that stops or dies between any two steps blocks nobody.
//!
//! A message is two words with the same value, so a torn copy shows. Beside the slots are cells
//! that loom watches, for messages that are read in place: one that is written meanwhile is a
//! failure.

use std::ptr::NonNull;

use super::{alone, model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::topic::descriptor::{Descriptor, Line, Slot};
use crate::queue::topic::locate::Wanted;
use crate::queue::topic::policy::Policy;
use crate::queue::topic::publish::Unsent;
use crate::queue::topic::receive::{Cursor, Unread};
use crate::queue::topic::ring::{Ring, Shape};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;

#[cfg(loom)]
pub(super) use ::loom::cell::UnsafeCell;

#[cfg(not(loom))]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// The number of words of a message.
const WORDS: usize = 2;

pub(super) struct Topic {
    pub(super) ring: Ring,
    _descriptor: Box<Descriptor>,
    _lines: Box<[Line]>,
    _slots: Box<[AtomicU64]>,
    cells: Vec<UnsafeCell<u64>>,
    /// A word that each operation writes first. Loom remembers only the last load of a word, so it
    /// would not notice that a thread that only loads could have loaded earlier.
    turn: AtomicUsize,
}

// SAFETY: the cells are written by the publisher that claimed the slot, and read by subscribers
// that pinned it; the models check that.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

pub(super) fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

pub(super) fn topic(capacity: u32, slots: u32) -> Arc<Topic> {
    topic_that(false, capacity, slots)
}

/// Returns a topic that ends with its publishers or not.
pub(super) fn topic_that(ends: bool, capacity: u32, slots: u32) -> Arc<Topic> {
    let descriptor = Box::new(Descriptor::new());
    let lines: Box<[Line]> = (0..2).map(|_| Line::new()).collect();
    let offset = size_of::<Slot>();
    let stride = offset + WORDS * size_of::<AtomicU64>();
    let words: Box<[AtomicU64]> =
        (0..slots as usize * stride / size_of::<AtomicU64>()).map(|_| AtomicU64::new(0)).collect();
    let policy = Policy::Block;
    let shape =
        Shape { capacity, slots, lines: 2, stride, offset, words: WORDS, is_varied: false, policy, ends };
    // SAFETY: descriptor, lines and slots live as long as the ring, in the same struct.
    let ring = unsafe {
        Ring::new(
            NonNull::from(&*descriptor),
            NonNull::from(&lines[..]).cast(),
            NonNull::from(&words[..]).cast(),
            shape,
        )
    };
    (0..8).for_each(|index| ring.enlist(id(index)));
    let cells = (0..slots).map(|_| UnsafeCell::new(0)).collect();
    let turn = AtomicUsize::new(0);
    Arc::new(Topic { ring, _descriptor: descriptor, _lines: lines, _slots: words, cells, turn })
}

impl Topic {
    pub(super) fn turn(&self) {
        self.turn.fetch_add(1, Relaxed);
    }

    pub(super) fn write(&self, index: u32, value: u64) {
        self.ring.words(index).iter().for_each(|word| word.store(value, Relaxed));
    }

    pub(super) fn send(&self, me: usize, value: u64) -> Result<(), Unsent> {
        self.turn();
        self.ring.send(id(me), |index| self.write(index, value))
    }

    /// Publishes a message that subscribers read in place.
    pub(super) fn send_cell(&self, me: usize, value: u64) -> Result<(), Unsent> {
        self.turn();
        // SAFETY: the slot is claimed; loom checks that.
        self.ring.send(id(me), |index| self.cells[index as usize].with_mut(|at| unsafe { *at = value }))
    }

    pub(super) fn subscribe(&self, me: usize, wanted: Wanted) -> Cursor {
        let line = self.ring.take_line(id(me)).unwrap();
        self.ring.begin_at(wanted, line).unwrap().unwrap()
    }

    pub(super) fn try_recv(&self, cursor: &mut Cursor) -> Result<u64, Unread> {
        self.turn();
        let words = self.ring.try_copy(cursor, |index| {
            let words = self.ring.words(index);
            [words[0].load(Relaxed), words[1].load(Relaxed)]
        })?;
        assert_eq!(words[0], words[1], "a torn message");
        Ok(words[0])
    }

    pub(super) fn recv(&self, cursor: &mut Cursor) -> Result<u64, Unread> {
        let attempt = || match self.try_recv(cursor) {
            Err(Unread::Blocked(Blocked::Later)) => None,
            done => Some(done),
        };
        self.ring.sleepers().wait(Deadline::Never, || (), attempt).unwrap()
    }

    /// Receives in place what is there, and checks that it does not change.
    pub(super) fn try_read(&self, me: usize, cursor: &mut Cursor) -> Result<u64, Unread> {
        self.turn();
        let index = self.ring.try_pin(id(me), cursor)?;
        // SAFETY: the slot is pinned; loom checks that.
        let value = self.cells[index as usize].with(|at| unsafe { *at });
        self.ring.unpin(cursor.line);
        Ok(value)
    }

    /// Receives everything that is left. Checks that the messages and the losses add up.
    pub(super) fn drain(&self, cursor: &mut Cursor) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            match self.try_recv(cursor) {
                Ok(value) => all.push(value),
                Err(Unread::Lagged(count)) => assert!(count > 0),
                Err(Unread::Blocked(blocked)) => {
                    assert_ne!(blocked, Blocked::Corrupted);
                    return all;
                }
            }
        }
    }
}

#[test]
fn publish_against_recv() {
    model("topic: publish against recv", || {
        let topic = topic(2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        let publisher = topic.clone();
        let thread = thread::spawn(move || (1..3).for_each(|value| publisher.send(1, value).unwrap()));
        assert_eq!([topic.recv(&mut cursor), topic.recv(&mut cursor)], [Ok(1), Ok(2)]);
        thread.join().unwrap();
        assert_eq!(topic.try_recv(&mut cursor), Err(Unread::Blocked(Blocked::Later)));
    });
}

#[test]
fn overwriting_against_a_copy() {
    model_within(2, "topic: overwriting against a copy", || {
        let topic = topic(1, 2);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        let publisher = topic.clone();
        let thread = thread::spawn(move || (1..5).for_each(|value| publisher.send(1, value).unwrap()));
        let mut received = Vec::new();
        let mut lost = 0;
        for _ in 0..3 {
            match topic.try_recv(&mut cursor) {
                Ok(value) => {
                    assert_eq!(value, received.len() as u64 + lost + 1, "what is lost is exact");
                    received.push(value);
                }
                Err(Unread::Lagged(count)) => lost += count,
                Err(blocked) => assert_eq!(blocked, Unread::Blocked(Blocked::Later)),
            }
        }
        thread.join().unwrap();
        received.extend(topic.drain(&mut cursor));
        assert_eq!(received.last(), Some(&4));
        assert_eq!(received.len() as u64 + cursor.lost, 4);
        assert!(received.is_sorted() && cursor.ordinal == 4);
    });
}

#[test]
fn a_pin_against_overwriting() {
    model_within(2, "topic: a pin against overwriting", || {
        let topic = topic(1, 2);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        topic.send_cell(1, 1).unwrap();
        let publisher = topic.clone();
        let thread = thread::spawn(move || {
            // With one slot pinned there is another one.
            (2..5).for_each(|value| publisher.send_cell(1, value).unwrap());
        });
        let mut last = 0;
        for _ in 0..2 {
            if let Ok(value) = topic.try_read(0, &mut cursor) {
                assert!(value > last && value == cursor.ordinal, "{value} at {cursor:?}");
                last = value;
            }
        }
        thread.join().unwrap();
        while last < 4 {
            match topic.try_read(0, &mut cursor) {
                Ok(value) => last = value,
                other => assert!(matches!(other, Err(Unread::Lagged(1..))), "{other:?}"),
            }
        }
        assert_eq!(cursor.ordinal, 4);
    });
}

#[test]
fn two_pins_of_one_slot_against_overwriting() {
    model_within(2, "topic: two pins of one slot against overwriting", || {
        let topic = topic(1, 2);
        let [mut mine, mut others] = [0, 2].map(|me| topic.subscribe(me, Wanted::Last(0)));
        topic.send_cell(1, 1).unwrap();
        let (publisher, other) = (topic.clone(), topic.clone());
        let threads = [
            thread::spawn(move || {
                (2..4).for_each(|value| {
                    assert_ne!(publisher.send_cell(1, value), Err(Blocked::Corrupted.into()))
                });
            }),
            thread::spawn(move || {
                if let Ok(value) = other.try_read(2, &mut others) {
                    assert_eq!(value, others.ordinal);
                }
            }),
        ];
        if let Ok(value) = topic.try_read(0, &mut mine) {
            assert_eq!(value, mine.ordinal);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        topic.send_cell(1, 4).unwrap();
        topic.send_cell(1, 5).unwrap();
    });
}

#[test]
fn a_publisher_dies_while_it_fills() {
    model_within(2, "topic: a publisher dies while it fills", || {
        let topic = topic(2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        let (dying, reaper) = (topic.clone(), topic.clone());
        let dead = thread::spawn(move || {
            let claim = dying.ring.try_claim(id(1)).unwrap();
            dying.write(claim.position.index, 9);
        });
        let other = thread::spawn(move || {
            reaper.send(2, 1).unwrap();
            dead.join().unwrap();
            reaper.ring.recover(id(1));
            reaper.ring.recover(id(1));
        });
        assert_eq!(topic.recv(&mut cursor), Ok(1), "nobody waits for the dead");
        other.join().unwrap();
        assert_eq!((topic.ring.held(), cursor.ordinal), (0, 1));
        (2..6).for_each(|value| topic.send(2, value).unwrap());
        assert_eq!(topic.try_recv(&mut cursor), Err(Unread::Lagged(2)), "holes are not lost messages");
        assert_eq!(topic.drain(&mut cursor), [4, 5]);
    });
}

#[test]
fn a_publisher_dies_before_the_tail_moves() {
    model_within(2, "topic: a publisher dies before the tail moves", || {
        let topic = topic(2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        topic.ring.die_claiming(id(1));
        let (publisher, reaper) = (topic.clone(), topic.clone());
        let thread = thread::spawn(move || publisher.send(2, 1).unwrap());
        let other = thread::spawn(move || reaper.ring.recover(id(1)));
        assert_eq!(topic.recv(&mut cursor), Ok(1));
        [thread, other].into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((topic.ring.held(), cursor.ordinal, cursor.at.number), (0, 1, 2));
        (2..6).for_each(|value| topic.send(2, value).unwrap());
        assert_eq!(topic.try_recv(&mut cursor), Err(Unread::Lagged(2)));
        assert_eq!(topic.drain(&mut cursor), [4, 5]);
    });
}

#[test]
fn a_hole_at_the_tail() {
    alone(|| {
        let topic = topic(2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        topic.ring.die_claiming(id(1));
        topic.ring.recover(id(1));
        for _ in 0..2 {
            assert_eq!(topic.try_recv(&mut cursor), Err(Unread::Blocked(Blocked::Later)));
        }
        assert_eq!((cursor.at.number, topic.ring.end()), (1, 0));
        topic.send(2, 1).unwrap();
        assert_eq!(topic.drain(&mut cursor), [1]);
        topic.ring.close();
        assert_eq!(topic.try_recv(&mut cursor), Err(Unread::Blocked(Blocked::Closed)));
    });
}

#[test]
fn a_reader_in_place_dies() {
    model_within(2, "topic: a reader in place dies", || {
        let topic = topic(1, 2);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        topic.send_cell(1, 1).unwrap();
        topic.ring.try_pin(id(0), &mut cursor).unwrap();
        let (publisher, reaper) = (topic.clone(), topic.clone());
        let thread = thread::spawn(move || (2..4).for_each(|value| publisher.send_cell(1, value).unwrap()));
        let other = thread::spawn(move || reaper.ring.recover(id(0)));
        topic.ring.recover(id(0));
        let mut cursor = topic.subscribe(3, Wanted::Last(0));
        thread.join().unwrap();
        other.join().unwrap();
        topic.send_cell(1, 4).unwrap();
        while topic.try_read(3, &mut cursor) != Ok(4) {}
        assert_eq!(cursor.ordinal, 4);
    });
}

#[test]
fn two_publishers_and_two_subscribers() {
    model_within(2, "topic: two publishers and two subscribers", || {
        let topic = topic(2, 3);
        let mut cursors = [0, 1].map(|me| topic.subscribe(me, Wanted::Last(0)));
        let publishers = [2, 3].map(|me| {
            let topic = topic.clone();
            thread::spawn(move || topic.send(me, me as u64).unwrap())
        });
        let mut first = vec![];
        first.extend(topic.try_recv(&mut cursors[0]));
        first.extend(topic.try_recv(&mut cursors[0]));
        publishers.into_iter().for_each(|thread| thread.join().unwrap());
        first.extend(topic.drain(&mut cursors[0]));
        let second = topic.drain(&mut cursors[1]);
        assert!(first == second && (first == [2, 3] || first == [3, 2]), "{first:?} and {second:?}");
        assert_eq!([cursors[0].lost, cursors[1].lost], [0, 0]);
    });
}

#[test]
fn subscribing_while_two_publish() {
    model_within(2, "topic: subscribing while two publish", || {
        let topic = topic(2, 3);
        topic.send(2, 1).unwrap();
        let publishers = [2, 3].map(|me| {
            let topic = topic.clone();
            thread::spawn(move || topic.send(me, me as u64).unwrap())
        });
        let mut last = topic.subscribe(0, Wanted::Last(1));
        let before = last.ordinal;
        publishers.into_iter().for_each(|thread| thread.join().unwrap());
        let seen = topic.drain(&mut last);
        assert_eq!(before + seen.len() as u64 + last.lost, 3, "the count is exact: {seen:?}");
        assert_eq!((last.ordinal, seen.is_empty()), (3, false));
        let mut other = topic.subscribe(1, Wanted::Ordinal(0));
        assert_eq!(topic.try_recv(&mut other), Err(Unread::Lagged(1)));
        assert_eq!(topic.drain(&mut other).len(), 2);
    });
}

#[test]
fn closing_against_publish() {
    model("topic: closing against publish", || {
        let topic = topic(2, 3);
        let mut cursor = topic.subscribe(0, Wanted::Last(0));
        let (publisher, closer) = (topic.clone(), topic.clone());
        let sent = thread::spawn(move || publisher.send(1, 1));
        let closed = thread::spawn(move || closer.ring.close());
        let mut seen = vec![];
        let end = loop {
            match topic.recv(&mut cursor) {
                Ok(value) => seen.push(value),
                Err(end) => break end,
            }
        };
        assert_eq!(end, Unread::Blocked(Blocked::Closed));
        closed.join().unwrap();
        match sent.join().unwrap() {
            Ok(()) => assert_eq!(seen, [1]),
            Err(unsent) => assert!(unsent == Blocked::Closed.into() && seen.is_empty()),
        }
    });
}
