//! The halves of a queue: the end when all of one side have left, by a drop or by a death.

use std::time::{Duration, Instant};

use pagemate::queue::{Receiver, RecvError, SendError, Sender};
use pagemate::{Process, Queue};

/// Longer than any death takes to be noticed, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_last_sender_ends_the_queue() {
    let queue = Queue::<u32>::new(4).unwrap();
    let receiver = queue.receiver();
    let (one, other) = (queue.sender(), queue.sender().clone());
    one.send(1).unwrap();
    drop(one);
    assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(1), Err(RecvError::Empty)));
    other.send(2).unwrap();
    drop(other);
    assert!(queue.is_closed());
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(2), Err(RecvError::Closed)));
    assert_eq!(queue.sender().send(3), Err(SendError::Closed(3)), "one that comes too late");
}

#[test]
fn the_last_receiver_ends_the_queue() {
    let queue = Queue::<str>::new(4).unwrap();
    let (sender, receiver) = (queue.sender(), queue.receiver());
    sender.send("read by nobody").unwrap();
    drop(receiver);
    assert_eq!(sender.send("returned").unwrap_err().into_inner(), "returned");
}

#[test]
fn a_queue_without_halves_stays_open() {
    let queue = Queue::<u32>::new(4).unwrap();
    drop(queue.clone());
    let receiver = queue.receiver();
    queue.send(1).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(receiver.recv_timeout(Duration::from_millis(120)), Err(RecvError::Empty));
    assert!(!queue.is_closed(), "there never was a sender");
}

/// Sends what it is told to, and then waits to be killed, or ends.
fn child((sender, values, stays, ready): (Sender<u32>, Vec<u32>, bool, Queue<u8>)) {
    let copy = sender.clone();
    drop(sender);
    values.into_iter().for_each(|value| copy.send(value).unwrap());
    ready.send(1).unwrap();
    if stays {
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn a_child_is_a_sender_until_it_ends() {
    for stays in [false, true] {
        let (queue, ready) = (Queue::<u32>::new(8).unwrap(), Queue::new(1).unwrap());
        let (receiver, sender) = (queue.receiver(), queue.sender());
        let process = Process::spawn(child, (sender, vec![1, 2, 3], stays, ready.clone())).unwrap();
        ready.recv().unwrap();
        if stays {
            assert!(!queue.is_closed(), "it lives");
            process.kill().unwrap();
        } else {
            process.join().unwrap();
        }
        let begun = Instant::now();
        let received: Vec<_> = std::iter::from_fn(|| receiver.recv_timeout(PATIENCE).ok()).collect();
        assert_eq!(received, [1, 2, 3]);
        assert!(queue.is_closed() && begun.elapsed() < PATIENCE);
    }
}

fn deaf_child((receiver, ready): (Receiver<u32>, Queue<u8>)) {
    ready.send(1).unwrap();
    loop {
        std::thread::park();
        assert!(!receiver.is_closed());
    }
}

#[test]
fn a_sender_that_blocks_learns_of_the_last_receivers_death() {
    let (queue, ready) = (Queue::<u32>::new(1).unwrap(), Queue::new(1).unwrap());
    let sender = queue.sender();
    let process = Process::spawn(deaf_child, (queue.receiver(), ready.clone())).unwrap();
    ready.recv().unwrap();
    sender.send(1).unwrap();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send_timeout(2, PATIENCE));
        process.kill().unwrap();
        assert_eq!(blocked.join().unwrap(), Err(SendError::Closed(2)));
    });
}

#[test]
fn halves_come_and_go_in_many_threads() {
    for _ in 0..200 {
        let queue = Queue::<u64>::new(2).unwrap();
        let (first, receiver) = (queue.sender(), queue.receiver());
        let sum: u64 = std::thread::scope(|scope| {
            for number in 0..4 {
                let sender = first.clone();
                scope.spawn(move || (0..8).for_each(|i| sender.clone().send(10 * number + i).unwrap()));
            }
            drop(first);
            receiver.iter().map(Result::unwrap).sum()
        });
        assert_eq!(sum, 4 * 28 + 8 * 60);
        assert!(queue.is_closed());
    }
}

#[test]
fn a_half_is_seen_from_outside() {
    let name = format!("halves-seen-{}", std::process::id());
    let queue = Queue::<u32>::create(name.as_str(), 2).unwrap();
    let halves = (queue.sender(), queue.sender(), queue.receiver());
    let segment = pagemate::inspect::segment(&name).unwrap();
    let state = &segment.objects[0].state;
    let number = |key: &str| state.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
    assert_eq!((number("senders"), number("receivers")), (Some("2".into()), Some("1".into())));
    drop(halves);
}

#[test]
fn polling_is_closed_notices_a_death() {
    let (queue, ready) = (Queue::<u32>::new(4).unwrap(), Queue::<u8>::new(1).unwrap());
    let process = Process::spawn(child, (queue.sender(), Vec::new(), true, ready.clone())).unwrap();
    ready.recv().unwrap();
    assert!(!queue.is_closed());
    process.kill().unwrap();
    process.join().unwrap_err();
    let killed = Instant::now();
    while !queue.is_closed() {
        assert!(killed.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}
