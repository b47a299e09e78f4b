//! Words that no process can have left by itself, and calls that meet many publishers at work.

use std::cell::Cell;

use super::descriptor::{GATED, NUMBER};
use super::{From, Publisher, Subscriber, Topic};
use crate::loom::atomic::Ordering::Relaxed;

/// A message so large that writing it takes milliseconds.
type Large = [[u64; 1 << 14]; 16];

const CAPACITY: usize = 16;

#[test]
fn the_last_position_is_sealed_without_a_panic() {
    for (tail, status) in [(u64::MAX, 1), (u64::MAX, 2), (!GATED, 1), (!GATED, 2)] {
        let topic = Topic::<u64>::new(4).unwrap();
        let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
        let ring = &topic.port.ring;
        // Claimed or published at the last position.
        let turn = NUMBER / u64::from(ring.shape().slots) + 1;
        ring.word(ring.position(NUMBER).index).store(turn << 34 | status << 30, Relaxed);
        ring.descriptor().end.tail.store(tail, Relaxed);
        assert!(topic.is_closed() && !topic.close());
        let _ = publisher.try_publish(1);
        let _ = subscriber.try_recv();
        let _ = topic.subscribe(From::Earliest);
    }
}

struct Parts {
    topic: Topic<Large>,
    publisher: Publisher<Large>,
    /// Has received nothing.
    subscriber: Subscriber<Large>,
}

thread_local!(static POLLS: Cell<u32> = const { Cell::new(0) });

/// Counts the polls of words whose publishers are at work.
pub(super) fn note_polls(count: u32) {
    POLLS.set(POLLS.get().saturating_add(count));
}

/// Returns the polls of `call` in a topic with this many publishers at work, one after the other in
/// the order, and this many messages behind them.
fn polls_of(writers: usize, published: usize, call: impl FnOnce(&mut Parts)) -> u32 {
    let topic = Topic::<Large>::new(CAPACITY).unwrap();
    let (publisher, subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
    let mut parts = Parts { topic, publisher: publisher.clone(), subscriber };
    let loans: Vec<_> = (0..writers).map(|_| publisher.try_loan().unwrap()).collect();
    (0..published).for_each(|_| publisher.try_loan().unwrap().publish().unwrap());
    POLLS.set(0);
    call(&mut parts);
    drop(loans);
    POLLS.get()
}

/// Checks that a call waits about as long for many publishers as for one.
#[track_caller]
fn check(published: impl Fn(usize) -> usize, call: impl Fn(&mut Parts)) {
    let [one, many] = [1, CAPACITY].map(|writers| polls_of(writers, published(writers), &call));
    assert!(one > 1 << 16, "{one} polls are shorter than writing a message");
    assert!(many < one + one / 4, "{one} polls for one, {many} for {CAPACITY}");
}

#[test]
fn a_publisher_waits_once_for_others_at_work() {
    let slots = Topic::<Large>::new(CAPACITY).unwrap().port.ring.shape().slots as usize;
    // The next position is in the slot of the first loan.
    check(|writers| slots - writers, |parts| drop(parts.publisher.try_loan().unwrap()));
}

#[test]
fn a_subscriber_waits_once_for_publishers_at_work() {
    check(|_| 1, |parts| drop(parts.topic.subscribe(From::Latest).unwrap()));
    check(|_| 1, |parts| drop(parts.subscriber.try_recv_ref().unwrap()));
}
