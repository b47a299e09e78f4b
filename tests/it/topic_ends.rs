//! Topics that end with their publishers.

use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, RecvError};
use pagemate::{Event, Process, Topic, WaitSet};

use crate::support::until;

const LONG: Duration = Duration::from_secs(30);

fn topic() -> Topic<u64> {
    Topic::builder(16).ends_with_publishers(true).build().unwrap()
}

#[test]
fn the_last_publisher_ends_it() {
    let topic = topic();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    assert_eq!(subscriber.recv_timeout(Duration::from_millis(60)), Err(RecvError::Empty), "none came yet");
    let first = topic.publisher();
    let second = first.clone();
    first.publish(1).unwrap();
    drop(first);
    assert!(!topic.is_closed());
    second.publish(2).unwrap();
    drop(second);
    assert!(topic.is_closed());
    assert!(subscriber.iter().eq([Ok(1), Ok(2)]));
    assert!(topic.publisher().publish(3).unwrap_err().is_closed(), "it stays closed");
    let mut late = topic.subscribe(From::Earliest).unwrap();
    assert!(late.iter().eq([Ok(1), Ok(2)]));
}

#[test]
fn a_topic_without_the_option_stays_open() {
    let topic = Topic::<u64>::new(4).unwrap();
    drop(topic.publisher());
    assert!(!topic.is_closed());
    topic.publisher().publish(1).unwrap();
}

#[test]
fn many_publishers_of_one_process() {
    let topic = topic();
    let mut all: Vec<_> = (0..5000).map(|_| topic.publisher()).collect();
    let last = all.pop();
    drop(all);
    assert!(!topic.is_closed());
    drop(last);
    // More than are counted: the topic ends with the process.
    assert!(!topic.is_closed());
}

fn publish((topic, ready): (Topic<u64>, Event)) {
    let publisher = topic.publisher();
    publisher.publish(1).unwrap();
    std::mem::forget(publisher.clone());
    ready.set();
    Event::new().unwrap().wait();
}

#[test]
fn a_killed_publisher_ends_it_in_100_ms() {
    for in_a_set in [false, true] {
        let (topic, ready) = (topic(), Event::new().unwrap());
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        let child = Process::spawn(publish, (topic.clone(), ready.clone())).unwrap();
        assert!(ready.wait_timeout(LONG));
        assert_eq!(subscriber.recv(), Ok(1));
        let mut set = WaitSet::new();
        set.add(0, &subscriber).unwrap();
        let killed = Instant::now();
        child.kill().unwrap();
        if in_a_set {
            assert_eq!(set.wait_timeout(LONG).unwrap(), [0]);
        }
        assert_eq!(subscriber.recv_timeout(LONG), Err(RecvError::Closed));
        let time = killed.elapsed();
        assert!(child.join().is_err());
        // Other tests and other work keep the processors busy.
        assert!(time < Duration::from_secs(5), "{time:?}");
    }
}

fn come_and_go((topic, count): (Topic<u64>, u64)) -> u64 {
    (0..count).filter(|_| topic.publisher().publish(1).is_ok()).count() as u64
}

/// A message published to an open topic is received; a publisher that comes too late gets an error.
#[test]
fn coming_and_going_at_once() {
    for _ in 0..20 {
        let topic = topic();
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        let children: Vec<_> =
            (0..3).map(|_| Process::spawn(come_and_go, (topic.clone(), 5)).unwrap()).collect();
        let received = subscriber.iter().filter(Result::is_ok).count() as u64;
        let sent: u64 = children.into_iter().map(|child| child.join().unwrap()).sum();
        assert_eq!((received + subscriber.lost(), topic.is_closed()), (sent, true));
    }
}

#[test]
fn a_copy_by_fork_does_not_count() {
    let topic = topic();
    let publisher = topic.publisher();
    // SAFETY: the child takes no lock that another thread of the test may hold except the
    // allocator's, which glibc hands over consistently, and ends without unwinding into the
    // harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(publisher);
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: our child, and status is ours to write.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert!(!topic.is_closed());
    drop(publisher);
    assert!(topic.is_closed());
}

#[test]
fn a_sleeping_subscriber_is_woken_by_the_end() {
    let topic = topic();
    let publisher = topic.publisher();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| subscriber.recv());
        until("it sleeps", || format!("{topic:?}").contains("subscribers_wait: true"));
        drop(publisher);
        assert_eq!(thread.join().unwrap(), Err(RecvError::Closed));
    });
}
