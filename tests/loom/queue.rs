//! Models of the held-slot ring: every message is received once and in order, and a participant
//! that stops or dies between any two steps blocks nobody.
//!
//! The slots are in a box. Beside them are cells that loom watches: a message that is read while it
//! is written is a failure.

use std::ptr::NonNull;
use std::sync::Mutex;

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::queue::blocked::Blocked;
use crate::queue::mpmc::descriptor::Descriptor;
use crate::queue::mpmc::ring::{Claim, Ring};
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

pub(super) struct Queue {
    pub(super) ring: Ring,
    _descriptor: Box<Descriptor>,
    _slots: Box<[AtomicU64]>,
    messages: Vec<UnsafeCell<u32>>,
    /// A word that each operation writes first. Loom remembers only the last load of a word, so it
    /// would not notice that a thread that only loads could have loaded earlier.
    turn: AtomicUsize,
}

// SAFETY: the holder of a slot has its message alone; the models check that.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

pub(super) fn queue(capacity: usize, redeliver: bool) -> Arc<Queue> {
    let descriptor = Box::new(Descriptor::new());
    let slots: Box<[AtomicU64]> = (0..capacity).map(|_| AtomicU64::new(0)).collect();
    let messages = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
    let first = NonNull::from(&slots[..]).cast::<u8>();
    // SAFETY: descriptor and slots live as long as the ring, in the same struct; the stride is that
    // of the slots.
    let ring = unsafe {
        Ring::new(NonNull::from(&*descriptor), first, size_of::<AtomicU64>(), capacity as u32, redeliver)
    };
    (0..10).for_each(|index| ring.enlist(id(index)));
    Arc::new(Queue { ring, _descriptor: descriptor, _slots: slots, messages, turn: AtomicUsize::new(0) })
}

pub(super) fn id(index: usize) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

impl Queue {
    pub(super) fn write(&self, index: u32, value: u32) {
        // SAFETY: the slot is held for writing; loom checks that.
        self.messages[index as usize].with_mut(|at| unsafe { *at = value });
    }

    pub(super) fn read(&self, index: u32) -> u32 {
        // SAFETY: the slot is held for reading; loom checks that.
        self.messages[index as usize].with(|at| unsafe { *at })
    }

    pub(super) fn turn(&self) {
        self.turn.fetch_add(1, Relaxed);
    }

    pub(super) fn try_send(&self, me: usize, value: u32) -> Result<(), Blocked> {
        self.turn();
        self.ring.try_send(id(me), |index| self.write(index, value))
    }

    pub(super) fn send(&self, me: usize, value: u32) -> Result<(), Blocked> {
        self.turn();
        self.ring.send(id(me), Deadline::Never, || (), |index| self.write(index, value))
    }

    /// Reads the claimed message and frees its slot.
    pub(super) fn done(&self, me: usize, claim: Claim) -> u32 {
        let value = self.read(claim.index);
        self.ring.free(id(me), claim);
        value
    }

    pub(super) fn try_recv(&self, me: usize) -> Result<u32, Blocked> {
        self.turn();
        Ok(self.done(me, self.ring.try_take(id(me))?))
    }

    pub(super) fn recv(&self, me: usize) -> Result<u32, Blocked> {
        self.turn();
        Ok(self.done(me, self.ring.take(id(me), Deadline::Never, || ())?))
    }

    /// Receives everything that is left.
    pub(super) fn drain(&self, me: usize) -> Vec<u32> {
        std::iter::from_fn(|| match self.try_recv(me) {
            Ok(value) => Some(value),
            Err(blocked) => {
                assert_ne!(blocked, Blocked::Corrupted);
                None
            }
        })
        .collect()
    }

    /// Checks the end state: no slot is held, and one message for each slot goes through, in order.
    /// So no slot was lost.
    pub(super) fn assert_whole(&self) {
        let capacity = self.ring.capacity();
        assert_eq!(self.ring.count(usize::MAX), 0);
        for round in 0..2 {
            for value in 0..capacity {
                assert_eq!(self.try_send(9, round + value), Ok(()), "a slot is lost");
            }
            assert_eq!(self.try_send(9, 0), Err(Blocked::Later));
            assert_eq!(self.drain(9), (round..round + capacity).collect::<Vec<_>>());
        }
    }
}

/// Checks that each consumer received the messages of one producer in ascending order.
fn assert_order(received: &[u32]) {
    for producer in 1..5 {
        let own: Vec<_> = received.iter().filter(|value| **value / 10 == producer).collect();
        assert!(own.is_sorted(), "out of order: {received:?}");
    }
}

pub(super) fn assert_once(mut received: Vec<u32>, mut sent: Vec<u32>) {
    received.sort_unstable();
    sent.sort_unstable();
    assert_eq!(received, sent, "lost or doubled");
}

/// Runs `producers` and `consumers` at once, each with a few attempts, and drains the rest. The
/// first producer is the main thread. Loom runs it first, and finds more if there are messages when
/// the others receive.
fn exchange(capacity: usize, producers: &[&'static [u32]], consumers: &[usize]) {
    let queue = queue(capacity, false);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::new(Mutex::new(Vec::new()));
    let mut threads = Vec::new();
    for (me, attempts) in consumers.iter().copied().enumerate() {
        let (queue, received) = (queue.clone(), received.clone());
        threads.push(thread::spawn(move || {
            let attempt =
                |_| queue.try_recv(me + 5).inspect_err(|blocked| assert_eq!(*blocked, Blocked::Later)).ok();
            let own: Vec<_> = (0..attempts).filter_map(attempt).collect();
            assert_order(&own);
            received.lock().unwrap().extend(own);
        }));
    }
    let produce = |me: usize, values: &'static [u32]| {
        let (queue, sent) = (queue.clone(), sent.clone());
        move || {
            let accepted = |value: &u32| match queue.try_send(me + 1, *value) {
                Ok(()) => true,
                // Any other error counts as accepted, so the final comparison fails.
                Err(blocked) => blocked != Blocked::Later,
            };
            let own: Vec<_> = values.iter().copied().filter(accepted).collect();
            sent.lock().unwrap().extend(own);
        }
    };
    for (me, values) in producers.iter().copied().enumerate().skip(1) {
        threads.push(thread::spawn(produce(me, values)));
    }
    produce(0, producers[0])();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let rest = queue.drain(5);
    assert_order(&rest);
    let mut received = std::mem::take(&mut *received.lock().unwrap());
    received.extend(rest);
    assert_once(received, std::mem::take(&mut *sent.lock().unwrap()));
    queue.assert_whole();
}

#[test]
fn two_producers_one_consumer() {
    model_within(2, "queue: 2 producers, 1 consumer, 2 slots", || exchange(2, &[&[10, 11], &[20]], &[2]));
}

#[test]
fn one_producer_two_consumers() {
    model("queue: 1 producer, 2 consumers, 2 slots", || exchange(2, &[&[10, 11]], &[1, 1]));
}

#[test]
fn two_producers_two_consumers() {
    model_within(2, "queue: 2 producers, 2 consumers, 2 slots", || exchange(2, &[&[10], &[20]], &[1, 1]));
}

#[test]
fn two_producers_one_slot() {
    model("queue: 2 producers, 1 consumer, 1 slot", || exchange(1, &[&[10], &[20]], &[2]));
}

#[test]
fn three_messages_through_two_slots() {
    model("queue: 1 producer, 1 consumer, 2 slots, 3 messages", || exchange(2, &[&[10, 11, 12]], &[3]));
}

#[test]
fn a_producer_that_stops() {
    model("queue: a producer stops for ever while writing", || {
        let queue = queue(2, false);
        let stopped = queue.ring.try_claim(id(8), None).unwrap();
        let other = queue.clone();
        let producer = thread::spawn(move || {
            assert_eq!(other.send(1, 10), Ok(()));
            assert_eq!(other.send(1, 11), Ok(()));
        });
        let received = [queue.recv(5), queue.recv(5)];
        producer.join().unwrap();
        assert_eq!(received, [Ok(10), Ok(11)]);
        // It continues after all, and gets a position behind all messages.
        queue.write(stopped.index, 80);
        let find = |own| queue.ring.try_claim(id(8), Some(own));
        let copy = |from, to| queue.write(to, queue.read(from));
        queue.ring.send_claimed(id(8), stopped, Deadline::At(0), find, copy).unwrap();
        assert_eq!(queue.try_recv(5), Ok(80));
        queue.assert_whole();
    });
}

/// A producer stops after it has published, before it moves `tail`.
fn stops_before_tail_moves(capacity: usize) {
    let queue = queue(capacity, false);
    let claim = queue.ring.claim_next(id(8), None).unwrap();
    queue.write(claim.index, 1);
    queue.ring.publish(id(8), claim).unwrap();
    let other = queue.clone();
    let consumer = thread::spawn(move || other.recv(2));
    queue.send(1, 2).unwrap();
    assert_eq!(consumer.join().unwrap(), Ok(1));
    queue.ring.move_tail(claim); // too late: the other producer has moved it
    assert_eq!(queue.drain(2), [2]);
    queue.assert_whole();
}

#[test]
fn a_producer_that_stops_before_tail_moves() {
    model("queue: a producer stops before it moves tail, 1 slot", || stops_before_tail_moves(1));
    model("queue: a producer stops before it moves tail, 2 slots", || stops_before_tail_moves(2));
}

#[test]
fn a_consumer_that_stops() {
    model_within(2, "queue: a consumer stops for ever while reading", || {
        let queue = queue(2, false);
        queue.try_send(1, 10).unwrap();
        let stopped = queue.ring.try_take(id(8)).unwrap();
        let other = queue.clone();
        let producer = thread::spawn(move || {
            assert_eq!(other.send(1, 11), Ok(()));
            assert_eq!(other.send(1, 12), Ok(()));
        });
        let received = [queue.recv(5), queue.recv(5)];
        producer.join().unwrap();
        assert_eq!(received, [Ok(11), Ok(12)]);
        assert_eq!(queue.done(8, stopped), 10, "a held message does not change");
        queue.assert_whole();
    });
}

#[test]
fn a_producer_is_overtaken() {
    model("queue: a consumer goes past a producer that publishes", || {
        let queue = queue(2, false);
        let first = queue.ring.try_claim(id(1), None).unwrap();
        queue.try_send(2, 20).unwrap();
        let other = queue.clone();
        let consumer = thread::spawn(move || [other.try_recv(5), other.try_recv(5)]);
        queue.turn();
        queue.write(first.index, 10);
        let find = |own| queue.ring.claim(id(1), Some(own), Deadline::Never, || ());
        let copy = |from, to| queue.write(to, queue.read(from));
        queue.ring.send_claimed(id(1), first, Deadline::At(0), find, copy).unwrap();
        let mut received: Vec<_> = consumer.join().unwrap().into_iter().flatten().collect();
        received.extend(queue.drain(5));
        assert_once(received, vec![10, 20]);
        queue.assert_whole();
    });
}

#[test]
fn a_producer_goes_past_a_producer() {
    model("queue: a producer comes round to one that publishes", || {
        let queue = queue(2, false);
        let first = queue.ring.try_claim(id(1), None).unwrap();
        let unsent = queue.ring.try_claim(id(3), None).unwrap();
        queue.ring.free_unsent(id(3), unsent);
        let other = queue.clone();
        // The slot behind the one that is being written is free. With a message in it, it is not.
        let producer = thread::spawn(move || other.try_send(2, 20).is_ok());
        queue.turn();
        queue.write(first.index, 10);
        let find = |own| queue.ring.claim(id(1), Some(own), Deadline::Never, || ());
        let copy = |from, to| queue.write(to, queue.read(from));
        queue.ring.send_claimed(id(1), first, Deadline::At(0), find, copy).unwrap();
        let mut received = queue.drain(5);
        let sent = producer.join().unwrap();
        received.extend(queue.drain(5));
        assert_once(received, if sent { vec![10, 20] } else { vec![10] });
        queue.assert_whole();
    });
}

#[test]
fn a_loan_waits_for_its_own_slot() {
    model_within(1, "queue: a loan waits for its own slot beside another sender", || {
        let queue = queue(3, false);
        queue.try_send(3, 30).unwrap();
        let early = queue.ring.try_claim(id(1), None).unwrap();
        queue.write(early.index, 10);
        queue.try_send(3, 31).unwrap();
        assert_eq!([queue.try_recv(5), queue.try_recv(5)], [Ok(30), Ok(31)]);
        queue.try_send(3, 32).unwrap();
        queue.try_send(3, 33).unwrap();
        // No producer has room now. While a message is being read, the loan has room in its own
        // slot; the other producer has none.
        let other = queue.clone();
        let loan = thread::spawn(move || {
            let find = |own| other.ring.claim(id(1), Some(own), Deadline::Never, || ());
            let copy = |from, to| other.write(to, other.read(from));
            other.ring.send_claimed(id(1), early, Deadline::At(0), find, copy).unwrap();
        });
        let other = queue.clone();
        let sender = thread::spawn(move || other.send(2, 20).unwrap());
        let held = queue.ring.take(id(5), Deadline::Never, || ()).unwrap();
        loan.join().unwrap();
        assert_eq!((queue.done(5, held), queue.recv(5)), (32, Ok(33)));
        sender.join().unwrap();
        assert_once(queue.drain(5), vec![10, 20]);
        queue.assert_whole();
    });
}

#[test]
fn an_unsent_loan() {
    model_within(2, "queue: a loan is dropped between two messages", || {
        let queue = queue(3, false);
        queue.try_send(1, 10).unwrap();
        let loan = queue.ring.try_claim(id(2), None).unwrap();
        let other = queue.clone();
        let dropper = thread::spawn(move || other.ring.free_unsent(id(2), loan));
        let other = queue.clone();
        let producer = thread::spawn(move || other.try_send(1, 11).unwrap());
        let received = [queue.recv(5), queue.recv(5)];
        dropper.join().unwrap();
        producer.join().unwrap();
        assert_eq!(received, [Ok(10), Ok(11)]);
        queue.assert_whole();
    });
}

/// Runs one reaper, one producer and one consumer at once, or two reapers and one thread that sends
/// and receives.
fn death(reapers: usize, redeliver: bool, reading: bool) {
    let queue = queue(2, redeliver);
    if reading {
        queue.try_send(1, 10).unwrap();
        queue.ring.try_take(id(8)).unwrap();
    } else {
        queue.ring.try_claim(id(8), None).unwrap();
    }
    let mut threads = Vec::new();
    for _ in 0..reapers {
        let other = queue.clone();
        threads.push(thread::spawn(move || other.ring.recover(id(8))));
    }
    let other = queue.clone();
    let send = move || assert_eq!(other.send(1, 11), Ok(()));
    if reapers == 1 {
        threads.push(thread::spawn(send));
    } else {
        send();
    }
    let mut received = vec![queue.recv(5).unwrap()];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    received.extend(queue.drain(5));
    let back = reading && redeliver;
    assert_once(received, if back { vec![10, 11] } else { vec![11] });
    assert_eq!(queue.ring.lost(), u64::from(reading && !redeliver));
    queue.assert_whole();
}

#[test]
fn a_producer_dies() {
    model("queue: a producer dies writing, 1 reaper", || death(1, false, false));
    model_within(2, "queue: a producer dies writing, 2 reapers", || death(2, false, false));
}

#[test]
fn a_consumer_dies() {
    model("queue: a consumer dies reading, 1 reaper", || death(1, false, true));
    model_within(2, "queue: a consumer dies reading, 2 reapers", || death(2, false, true));
}

#[test]
fn a_consumer_dies_and_its_message_comes_back() {
    model_within(2, "queue: a consumer dies reading, redelivery, 1 reaper", || death(1, true, true));
    model_within(2, "queue: a consumer dies reading, redelivery, 2 reapers", || death(2, true, true));
}

#[test]
fn a_message_comes_back_to_one() {
    model_within(2, "queue: a message comes back, 2 consumers", || {
        let queue = queue(2, true);
        queue.try_send(1, 10).unwrap();
        queue.ring.try_take(id(8)).unwrap();
        let takers = Arc::new(AtomicUsize::new(0));
        let threads = [5, 6].map(|me| {
            let (queue, takers) = (queue.clone(), takers.clone());
            thread::spawn(move || {
                if queue.try_recv(me).is_ok() {
                    takers.fetch_add(1, Relaxed);
                }
            })
        });
        queue.ring.recover(id(8));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(takers.load(Relaxed) + queue.drain(7).len(), 1);
        queue.assert_whole();
    });
}

/// Closes a queue while each producer sends one message. All that were sent are received, then the
/// end.
fn close_meets(producers: &[u32], capacity: usize) {
    let queue = queue(capacity, false);
    let threads: Vec<_> = producers
        .iter()
        .map(|value| {
            let (queue, value) = (queue.clone(), *value);
            thread::spawn(move || match queue.try_send(value as usize / 10, value) {
                Ok(()) => Some(value),
                Err(blocked) => {
                    assert_eq!(blocked, Blocked::Closed);
                    None
                }
            })
        })
        .collect();
    let other = queue.clone();
    let closer = thread::spawn(move || other.ring.close());
    let mut received = Vec::new();
    loop {
        match queue.recv(5) {
            Ok(value) => received.push(value),
            Err(blocked) => break assert_eq!(blocked, Blocked::Closed),
        }
    }
    let sent: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    closer.join().unwrap();
    assert_eq!(queue.try_recv(5), Err(Blocked::Closed));
    assert_eq!(queue.try_send(1, 0), Err(Blocked::Closed));
    assert_once(received, sent);
}

#[test]
fn close_against_send() {
    model_within(2, "queue: close against 1 send and recv", || close_meets(&[10], 2));
    model_within(1, "queue: close against 2 sends and recv", || close_meets(&[10, 20], 2));
}

#[test]
fn close_with_one_slot() {
    model("queue: close against send and recv, 1 slot", || close_meets(&[10], 1));
}

#[test]
fn close_wakes_everybody() {
    model("queue: close wakes a sender and a receiver", || {
        let full = queue(1, false);
        full.try_send(1, 10).unwrap();
        let empty = queue(1, false);
        let other = full.clone();
        let sender = thread::spawn(move || assert_eq!(other.send(1, 11), Err(Blocked::Closed)));
        let other = empty.clone();
        let receiver = thread::spawn(move || assert_eq!(other.recv(5), Err(Blocked::Closed)));
        full.ring.close();
        empty.ring.close();
        sender.join().unwrap();
        receiver.join().unwrap();
        assert_eq!(full.drain(5), [10]);
    });
}

#[test]
fn close_over_a_held_slot() {
    model("queue: close against send, the last slot held and freed", || {
        let queue = queue(1, false);
        queue.try_send(1, 10).unwrap();
        let held = queue.ring.try_take(id(8)).unwrap();
        let other = queue.clone();
        let sender = thread::spawn(move || other.try_send(1, 11));
        let other = queue.clone();
        let holder = thread::spawn(move || assert_eq!(other.done(8, held), 10));
        queue.ring.close();
        let last = queue.try_recv(5);
        let sent = sender.join().unwrap();
        holder.join().unwrap();
        let received: Vec<_> = last.into_iter().chain(queue.drain(5)).collect();
        assert_once(received, sent.map(|()| 11).into_iter().collect());
        assert_eq!(queue.try_recv(5), Err(Blocked::Closed));
    });
}

#[test]
fn blocking_receivers() {
    model_within(2, "queue: 2 blocking receivers, 1 producer", || {
        let queue = queue(2, false);
        let receivers = [5, 6].map(|me| {
            let queue = queue.clone();
            thread::spawn(move || queue.recv(me).unwrap())
        });
        queue.try_send(1, 10).unwrap();
        queue.try_send(1, 11).unwrap();
        assert_once(receivers.into_iter().map(|thread| thread.join().unwrap()).collect(), vec![10, 11]);
    });
}

#[test]
fn blocking_senders() {
    model_within(2, "queue: 2 blocking senders, 1 consumer, 1 slot", || {
        let queue = queue(1, false);
        let senders = [1, 2].map(|me| {
            let queue = queue.clone();
            thread::spawn(move || queue.send(me, me as u32 * 10).unwrap())
        });
        let received = (0..2).map(|_| queue.recv(5).unwrap()).collect();
        senders.into_iter().for_each(|thread| thread.join().unwrap());
        assert_once(received, vec![10, 20]);
        queue.assert_whole();
    });
}

#[test]
fn a_sender_woken_too_early_passes_it_on() {
    model_within(1, "queue: 2 blocking senders, slots free in the wrong order", || {
        let queue = queue(2, false);
        queue.try_send(3, 30).unwrap();
        let loan = queue.ring.try_claim(id(3), None).unwrap();
        let senders = [1, 2].map(|me| {
            let queue = queue.clone();
            thread::spawn(move || queue.send(me, me as u32 * 10).unwrap())
        });
        // The second slot is freed first. No sender can reach it yet.
        queue.ring.free_unsent(id(3), loan);
        let held = queue.ring.try_take(id(5)).unwrap();
        assert_eq!(queue.done(5, held), 30);
        senders.into_iter().for_each(|thread| thread.join().unwrap());
        assert_once(queue.drain(5), vec![10, 20]);
        queue.assert_whole();
    });
}
