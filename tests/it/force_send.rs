//! Sending to a full queue: which message is replaced, by which sender, and what a death leaves.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pagemate::queue::SendError;
use pagemate::{ErrorKind, Process, Queue};

use crate::support::damage;
use crate::support::until;

/// Sends `value`, and returns what it replaced. Tries again while others use all slots.
fn force<T: pagemate::Message>(queue: &Queue<T>, value: T) -> Vec<T> {
    let mut replaced = Vec::new();
    loop {
        match queue.force_send(value, |oldest| replaced.push(oldest)) {
            Err(SendError::Full(_)) => std::thread::yield_now(),
            sent => break sent.unwrap(),
        }
    }
    replaced
}

#[test]
fn the_oldest_message_is_replaced() {
    for capacity in [1, 2, 3, 7] {
        let queue = Queue::<u64>::new(capacity as usize).unwrap();
        for value in 0..5 * capacity {
            let replaced = force(&queue, value);
            assert_eq!(replaced, value.checked_sub(capacity).into_iter().collect::<Vec<_>>());
            assert_eq!(queue.len() as u64, capacity.min(value + 1));
        }
        assert!(queue.try_iter().eq((4 * capacity..5 * capacity).map(Ok)));
        assert!(queue.is_empty() && queue.lost() == 0);
    }
}

#[test]
fn held_messages_are_skipped() {
    let queue = Queue::<u64>::new(4).unwrap();
    (0..4).for_each(|value| queue.send(value).unwrap());
    let (first, second) = (queue.recv_ref().unwrap(), queue.recv_ref().unwrap());
    assert_eq!((force(&queue, 4), force(&queue, 5)), (vec![2], vec![3]));
    drop(second);
    let loan = queue.try_loan();
    assert_eq!(force(&queue, 6), if loan.is_ok() { vec![4] } else { vec![] });
    drop((first, loan));
    let rest: Vec<_> = queue.try_iter().map(Result::unwrap).collect();
    assert!(rest.is_sorted() && rest.ends_with(&[5, 6]), "{rest:?}");
}

#[test]
fn refusals_return_the_message() {
    let queue = Queue::<u32>::new(1).unwrap();
    let loan = queue.loan().unwrap();
    assert_eq!(queue.force_send(1, |_| panic!()), Err(SendError::Full(1)), "nothing to replace");
    drop(loan);
    queue.send(2).unwrap();
    queue.close();
    assert_eq!(queue.force_send(3, |_| panic!()), Err(SendError::Closed(3)));
    assert_eq!(queue.recv(), Ok(2));
    let queue = Queue::<u32>::builder(1).redeliver(true).build().unwrap();
    let refused = queue.force_send(4, |_| panic!()).unwrap_err();
    assert_eq!(refused, SendError::Unsupported(4));
    assert_eq!((refused.into_inner(), format!("{refused:?}")), (4, "Unsupported(..)".to_string()));
    assert_eq!(pagemate::Error::from(refused).kind(), ErrorKind::Unsupported);
}

#[test]
fn an_invalid_message_is_dropped() {
    let name = format!("test-force_send-invalid-{}", std::process::id());
    let queue = Queue::<bool>::create(&name, 2).unwrap();
    queue.send(true).unwrap();
    queue.send(true).unwrap();
    damage::Object::find(&name, &[2, 128, 8, 1]).set(640 + 8, 2);
    assert_eq!(force(&queue, false), []);
    assert!(queue.try_iter().eq([Ok(true), Ok(false)]));
}

#[test]
fn a_panic_of_the_closure_leaves_the_message_sent() {
    let queue = Queue::<u32>::new(1).unwrap();
    queue.send(1).unwrap();
    let replace = || queue.force_send(2, |_| panic!("on purpose"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(replace)).unwrap_err();
    assert_eq!(queue.recv(), Ok(2));
    queue.try_send(3).unwrap();
}

/// Sends `count` messages of this sender by force. Returns those that it replaced.
fn sends((queue, sender, count): (Queue<u64>, u64, u64)) -> Vec<u64> {
    (0..count).flat_map(|n| force(&queue, sender << 32 | n)).collect()
}

#[test]
fn every_message_is_received_or_replaced_once() {
    const COUNT: u64 = 5_000;
    for capacity in [1, 2, 16] {
        let (queue, done) = (Queue::new(capacity).unwrap(), AtomicBool::new(false));
        let received = std::thread::scope(|scope| {
            let receivers = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut all = Vec::new();
                    while !done.load(Relaxed) {
                        all.extend(queue.try_iter().map(Result::unwrap));
                    }
                    all
                })
            });
            let blocking = scope.spawn(|| (0..COUNT).for_each(|n| queue.send(3 << 32 | n).unwrap()));
            let child = Process::spawn(sends, (queue.clone(), 1, COUNT)).unwrap();
            let mut all = sends((queue.clone(), 2, COUNT));
            all.extend(child.join().unwrap());
            blocking.join().unwrap();
            done.store(true, Relaxed);
            receivers.into_iter().for_each(|receiver| {
                let own = receiver.join().unwrap();
                for sender in 1..=3 {
                    assert!(own.iter().filter(|value| **value >> 32 == sender).is_sorted(), "out of order");
                }
                all.extend(own);
            });
            all.extend(queue.try_iter().map(Result::unwrap));
            all
        });
        let mut all = received;
        all.sort_unstable();
        let sent = (1..=3_u64).flat_map(|sender| (0..COUNT).map(move |n| sender << 32 | n));
        assert!(all.into_iter().eq(sent), "lost or doubled, {capacity} slots");
    }
}

#[test]
fn a_killed_sender_leaves_a_queue_that_works() {
    let queue = Queue::<u64>::new(3).unwrap();
    for round in 0..10 {
        let forever = |queue: Queue<u64>| (0..u64::MAX).for_each(|n| drop(force(&queue, n)));
        let child = Process::spawn(forever, queue.clone()).unwrap();
        until("the child replaces", || queue.is_full());
        child.kill().unwrap();
        assert!(child.join().is_err());
        let mut own = Vec::new();
        // Until the slot that it may have held is back.
        until("three messages of our own are in", || {
            own.extend(queue.try_iter().map(Result::unwrap));
            (0..3).all(|n| queue.try_send(n).is_ok())
        });
        assert_eq!(queue.try_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2], "round {round}");
    }
    assert!(queue.lost() <= 10);
}
