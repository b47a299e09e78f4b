//! Handles as arguments of a child.

use std::path::PathBuf;
use std::time::Instant;

use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::RecvError;
use pagemate::{inspect, spsc, ErrorKind, Event, Process, Segment};

use super::LONG;
use crate::support::until;

#[test]
fn handles_are_shared_with_the_child() {
    let (go, done) = (Event::new().unwrap(), Event::new().unwrap());
    let body = |(go, done, again): (Event, Option<Event>, Vec<Event>)| {
        assert_eq!(again.len(), 2);
        assert!(go.wait_timeout(LONG));
        again[1].set();
        done.is_some_and(|done| done.is_set())
    };
    let child =
        Process::spawn(body, (go.clone(), Some(done.clone()), vec![go.clone(), done.clone()])).unwrap();
    assert!(!done.is_set());
    go.set();
    assert!(done.wait_timeout(LONG));
    assert!(child.join().unwrap());
}

#[test]
fn a_child_is_a_participant_before_it_runs_and_no_longer_than_it_lives() {
    let name = format!("test-process-seat-{}", std::process::id());
    let file = PathBuf::from(format!("/dev/shm/pagemate.{name}"));
    let segment = Segment::create(name.as_str(), 1 << 20).unwrap();
    let (here, go) = (Event::create(segment.at("here")).unwrap(), Event::create(segment.at("go")).unwrap());
    let body = |(segment, here): (Segment, Event)| {
        here.set();
        Event::open(segment.at("go")).unwrap().wait();
    };
    let child = Process::spawn(body, (segment.clone(), here.clone())).unwrap();
    // Both handles share one participant id, and it is taken at once.
    assert_eq!(inspect::segment(name.as_str()).unwrap().participants.iter().filter(|p| p.alive).count(), 2);
    assert!(here.wait_timeout(LONG));
    drop((segment, here, go));
    assert!(file.exists(), "the child holds it");
    let alive = || inspect::segment(name.as_str()).unwrap().participants.iter().filter(|p| p.alive).count();
    // A program that another test starts at this moment has copies of locks for a while.
    until("only the child is there", || alive() == 1);
    child.kill().unwrap();
    assert_eq!(child.join().unwrap_err().signal(), Some(libc::SIGKILL));
    until(
        "the segment is gone",
        || matches!(Segment::open(name.as_str()), Err(error) if error.kind() == ErrorKind::NotFound),
    );
    assert!(!file.exists());
}

#[test]
fn the_ends_of_a_ring_change_hands() {
    const COUNT: u64 = 100_000;
    // One child gets both ends, so the parent has neither any more.
    let (producer, consumer) = spsc::<u64>(4).unwrap();
    let both = |(mut producer, mut consumer): (Producer<u64>, Consumer<u64>)| {
        producer.send(7).unwrap();
        consumer.recv().unwrap()
    };
    assert_eq!(Process::spawn(both, (producer, consumer)).unwrap().join().unwrap(), 7);

    // Two children get one end each, and the ring has messages already.
    let (mut producer, consumer) = spsc::<u64>(1024).unwrap();
    producer.send(0).unwrap();
    let send = |mut producer: Producer<u64>| (1..COUNT).for_each(|n| producer.send(n).unwrap());
    let receive = |mut consumer: Consumer<u64>| {
        consumer.iter().enumerate().fold(0, |sum, (at, n)| {
            assert_eq!(Ok(at as u64), n);
            sum + at as u64
        })
    };
    let (sender, receiver) =
        (Process::spawn(send, producer).unwrap(), Process::spawn(receive, consumer).unwrap());
    sender.join().unwrap();
    assert_eq!(receiver.join().unwrap(), COUNT * (COUNT - 1) / 2);
}

#[test]
fn the_death_of_a_child_ends_its_role_and_loses_nothing_that_was_sent() {
    let (producer, mut consumer) = spsc::<u64>(8).unwrap();
    let (here, never) = (Event::new().unwrap(), Event::new().unwrap());
    let body = |(mut producer, here, never): (Producer<u64>, Event, Event)| {
        producer.send(1).unwrap();
        producer.send(2).unwrap();
        here.set();
        never.wait();
    };
    let child = Process::spawn(body, (producer, here.clone(), never)).unwrap();
    assert!(here.wait_timeout(LONG));
    child.kill().unwrap();
    assert!(child.join().is_err());
    let begin = Instant::now();
    assert_eq!((consumer.recv(), consumer.recv()), (Ok(1), Ok(2)));
    assert_eq!(consumer.recv_timeout(LONG), Err(RecvError::Closed));
    println!("the consumer knew after {:?}", begin.elapsed());
}
