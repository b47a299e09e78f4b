//! Replacing the oldest message of a queue: each message is received, replaced or not sent, once;
//! nobody sleeps through it, and a death in it blocks nobody.

use std::cell::Cell;

use super::queue::{assert_once, id, queue, Queue};
use super::{model, model_within, thread};
use crate::queue::blocked::Blocked;

impl Queue {
    /// Sends `value`. Returns the messages that it replaced, and how it ended.
    fn force_send(&self, me: usize, value: u32) -> (Vec<u32>, Result<(), Blocked>) {
        self.turn();
        let (oldest, mut replaced) = (Cell::new(None), Vec::new());
        let read = |index| oldest.set(Some(self.read(index)));
        let write = |index| self.write(index, value);
        let sent = self.ring.force_send(id(me), write, read, || replaced.extend(oldest.take()));
        assert_eq!(oldest.take(), None, "a message was taken and not passed on");
        (replaced, sent)
    }

    fn filled(&self, values: &[u32]) {
        values.iter().for_each(|value| self.try_send(9, *value).unwrap());
    }
}

/// Returns whether the message was sent. With one slot another participant may have used it.
fn is_sent(capacity: usize, sent: Result<(), Blocked>) -> bool {
    sent.inspect_err(|blocked| assert_eq!((*blocked, capacity), (Blocked::Later, 1))).is_ok()
}

#[test]
fn two_at_once() {
    let two = |capacity: usize, values: &'static [u32]| {
        move || {
            let queue = queue(capacity, false);
            queue.filled(values);
            let other = queue.clone();
            let sender = thread::spawn(move || other.force_send(1, 20));
            let (mut gone, sent) = queue.force_send(2, 30);
            let (more, other_sent) = sender.join().unwrap();
            gone.extend(more);
            assert_eq!(queue.ring.count(usize::MAX), capacity);
            let mut all = values.to_vec();
            for (value, sent) in [(20, other_sent), (30, sent)] {
                all.extend(is_sent(capacity, sent).then_some(value));
            }
            assert!(all.len() > values.len(), "one of them sends");
            gone.extend(queue.drain(5));
            assert_once(gone, all);
            queue.assert_whole();
        }
    };
    model("force_send: 2 at once, 1 slot", two(1, &[10]));
    model_within(2, "force_send: 2 at once, 2 slots", two(2, &[10, 11]));
}

#[test]
fn beside_a_consumer() {
    let beside = |capacity: usize, values: &'static [u32]| {
        move || {
            let queue = queue(capacity, false);
            queue.filled(values);
            let other = queue.clone();
            let consumer = thread::spawn(move || other.try_recv(5).ok());
            let (gone, sent) = queue.force_send(1, 20);
            assert!(gone.len() <= 1, "nobody else sends");
            let received: Vec<_> = consumer.join().unwrap().into_iter().chain(queue.drain(5)).collect();
            let mut all = values.to_vec();
            all.extend(is_sent(capacity, sent).then_some(20));
            assert!(received.is_sorted() && received.last() == all.last(), "out of order: {received:?}");
            assert_once([gone, received].concat(), all);
            queue.assert_whole();
        }
    };
    model("force_send: beside a consumer, 1 slot", beside(1, &[10]));
    model("force_send: beside a consumer, 2 slots", beside(2, &[10, 11]));
    model_within(2, "force_send: beside a consumer, 3 slots", beside(3, &[10, 11, 12]));
}

#[test]
fn beside_a_consumer_and_a_sender() {
    model_within(2, "force_send: beside a consumer and a sender, 2 slots", || {
        let queue = queue(2, false);
        queue.filled(&[10, 11]);
        let other = queue.clone();
        let consumer = thread::spawn(move || other.try_recv(5).ok());
        let other = queue.clone();
        let sender = thread::spawn(move || other.try_send(2, 30).is_ok());
        let (mut gone, sent) = queue.force_send(1, 20);
        assert_eq!(sent, Ok(()));
        let mut all = vec![10, 11, 20];
        all.extend(sender.join().unwrap().then_some(30));
        gone.extend(consumer.join().unwrap());
        gone.extend(queue.drain(5));
        assert_once(gone, all);
        queue.assert_whole();
    });
}

#[test]
fn a_blocked_sender_is_woken_all_the_same() {
    // With two preemptions it takes more than five minutes.
    model_within(1, "force_send: a blocked sender, a consumer, 1 slot", || {
        let queue = queue(1, false);
        queue.filled(&[10]);
        let other = queue.clone();
        let sender = thread::spawn(move || other.send(2, 30));
        let other = queue.clone();
        let forced = thread::spawn(move || other.force_send(1, 20));
        let first = queue.recv(5).unwrap();
        let (mut gone, sent) = forced.join().unwrap();
        let mut all = vec![10, 30];
        all.extend(is_sent(1, sent).then_some(20));
        gone.push(first);
        while gone.len() < all.len() {
            gone.push(queue.recv(5).unwrap());
        }
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert_once(gone, all);
        queue.assert_whole();
    });
}

#[test]
fn beside_a_close() {
    model_within(2, "force_send: beside a close and a consumer, 2 slots", || {
        let queue = queue(2, false);
        queue.filled(&[10, 11]);
        let other = queue.clone();
        let closer = thread::spawn(move || assert!(other.ring.close()));
        let other = queue.clone();
        let consumer = thread::spawn(move || other.try_recv(5).ok());
        let (mut gone, sent) = queue.force_send(1, 20);
        closer.join().unwrap();
        gone.extend(consumer.join().unwrap());
        gone.extend(queue.drain(5));
        let mut all = vec![10, 11];
        match sent {
            Ok(()) => all.push(20),
            Err(blocked) => assert_eq!(blocked, Blocked::Closed),
        }
        assert_once(gone, all);
        assert_eq!(queue.try_recv(5), Err(Blocked::Closed));
    });
}

/// Models a victim that dies with the oldest message taken, or with its slot claimed again. Two
/// threads reap it, and another one replaces the oldest message.
fn death(claimed: bool) {
    let queue = queue(2, false);
    queue.filled(&[10, 11]);
    let other = queue.clone();
    let dead = thread::spawn(move || {
        other.turn();
        let taken = other.ring.try_take(id(8)).ok()?;
        let value = other.read(taken.index);
        if claimed {
            let _ = other.ring.try_claim(id(8), Some(taken.index));
        }
        Some(value)
    });
    let other = queue.clone();
    let sender = thread::spawn(move || other.force_send(1, 20));
    let lost = dead.join().unwrap();
    let other = queue.clone();
    let reaper = thread::spawn(move || other.ring.recover(id(8)));
    queue.ring.recover(id(8));
    let (mut gone, sent) = sender.join().unwrap();
    reaper.join().unwrap();
    gone.extend(queue.drain(5));
    gone.extend(lost);
    let mut all = vec![10, 11];
    match sent {
        Ok(()) => all.push(20),
        // The dead one had the only message that was left.
        Err(blocked) => assert_eq!(blocked, Blocked::Later),
    }
    assert_once(gone, all);
    assert_eq!(queue.ring.lost(), u64::from(!claimed && lost.is_some()));
    queue.assert_whole();
}

#[test]
fn a_death_with_the_oldest_message() {
    model_within(2, "force_send: a death with the oldest message taken", || death(false));
    model_within(1, "force_send: a death with the slot claimed again", || death(true));
}
