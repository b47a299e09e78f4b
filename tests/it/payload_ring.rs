//! Messages of any length through a ring of one producer and one consumer.

use std::time::Duration;

use pagemate::queue::spsc::{self, Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::{inspect, ErrorKind, Event, Message, Process, WaitSet};

use crate::support::{damage, until};

const LONG: Duration = Duration::from_secs(30);
const UNIT: u64 = 16 << 10;

fn name(what: &str) -> String {
    format!("test-payload-ring-{what}-{}", std::process::id())
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C, align(32))]
struct Wide([u64; 4]);

fn in_use(name: &str) -> String {
    let segment = inspect::segment(name).unwrap();
    let state = &segment.objects[0].state;
    state.iter().find(|(label, _)| *label == "quota in use").unwrap().1.clone()
}

#[test]
fn every_length_arrives() {
    let (mut producer, mut consumer) = spsc::builder::<[u16]>(4).quota(4 << 20).build().unwrap();
    let mut again = Vec::new();
    for len in (0..150).chain([1000, 4092, 8184, 50_000, 500_000]) {
        let message: Vec<u16> = (0..len).map(|n| n as u16).collect();
        producer.send(&message).unwrap();
        producer.try_send(&message).unwrap();
        producer.loan(len).unwrap().write_slice(&message).send();
        assert!(consumer.recv().unwrap() == message);
        assert_eq!(consumer.recv_into(&mut again), Ok(len));
        assert!(again == message && *consumer.recv_ref().unwrap() == *message);
    }
    assert_eq!(consumer.try_recv_into(&mut again), Err(RecvError::Empty));
    drop(producer);
    assert_eq!(consumer.try_recv(), Err(RecvError::Closed));
}

#[test]
fn text_and_wide_elements() {
    let (mut producer, mut consumer) = pagemate::spsc::<str>(2).unwrap();
    for text in ["", "short", &"Größe ".repeat(500)] {
        producer.send(text).unwrap();
        assert_eq!(consumer.recv().unwrap(), text);
        let mut loan = producer.loan_from(text).unwrap();
        loan.make_ascii_uppercase();
        loan.send();
        assert_eq!(*consumer.recv_ref().unwrap(), text.to_ascii_uppercase());
    }
    let (mut producer, mut consumer) = pagemate::spsc::<[Wide]>(2).unwrap();
    for len in [0, 1, 3, 4, 500] {
        producer.loan(len).unwrap().fill_with(|n| Wide([n as u64; 4])).send();
        let received = consumer.recv_ref().unwrap();
        assert!(
            received.as_ptr().is_aligned() && received.iter().enumerate().all(|(n, w)| w.0[3] == n as u64)
        );
    }
}

#[test]
fn a_used_up_quota_makes_the_ring_full() {
    let (mut producer, mut consumer) = spsc::builder::<[u8]>(64).quota(8 * UNIT).build().unwrap();
    let message = vec![5; UNIT as usize - 100];
    let sent = (0..64).take_while(|_| producer.try_send(&message).is_ok()).count();
    assert_eq!(sent, 8);
    assert!(matches!(producer.try_loan(20_000).map(drop), Err(SendError::Full(()))));
    assert!(producer.send_timeout(&message, Duration::from_millis(5)).unwrap_err().is_full());
    assert!(matches!(producer.send(&vec![0; 9 * UNIT as usize]), Err(SendError::TooLarge(..))));
    producer.try_send(b"fits into a slot").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.send_timeout(&message, LONG).is_ok());
        assert!(consumer.recv().unwrap() == message);
        assert!(waiting.join().unwrap());
    });
    drop(consumer);
    assert_eq!(producer.send(&message), Err(SendError::Closed(&message[..])));
}

#[test]
fn dropped_and_forgotten_loans_return_their_memory() {
    let name = name("loans");
    let mut producer = spsc::builder::<[u8]>(4).quota(8 * UNIT).create_producer(name.as_str()).unwrap();
    let mut consumer = Consumer::<[u8]>::open(name.as_str()).unwrap();
    for _ in 0..20 {
        drop(producer.loan(50_000).unwrap());
        std::mem::forget(producer.loan(50_000).unwrap().zeroed());
        producer.send(&[1; 60_000]).unwrap();
        std::mem::forget(producer.loan(5000).unwrap());
        producer.send(b"short").unwrap();
        assert_eq!(consumer.recv().unwrap(), [1; 60_000]);
        assert_eq!(consumer.recv().unwrap(), b"short");
    }
    assert_eq!(in_use(&name), "0");
    producer.send("seen".as_bytes()).unwrap();
    assert_eq!(inspect::segment(name.as_str()).unwrap().objects[0].head.as_deref(), Some(&b"seen"[..]));
    producer.send(&[7; 300]).unwrap();
    consumer.recv().unwrap();
    assert_eq!(inspect::segment(name.as_str()).unwrap().objects[0].head.as_deref(), Some(&[7; 300][..]));

    // A forgotten loan is no reason to wait.
    let (mut producer, mut consumer) = spsc::builder::<[u8]>(4).quota(4 * UNIT).build().unwrap();
    std::mem::forget(producer.loan(50_000).unwrap().zeroed());
    producer.send_timeout(&[1; 60_000], Duration::from_secs(30)).unwrap();
    assert_eq!(consumer.recv().unwrap(), [1; 60_000]);
}

#[test]
fn types_are_checked() {
    let name = name("types");
    let _producer = Producer::<[u32]>::create(name.as_str(), 4).unwrap();
    let error = Consumer::<[u64]>::open(name.as_str()).unwrap_err();
    assert!(error.kind() == ErrorKind::TypeMismatch && error.to_string().contains("[u32]"), "{error}");
    assert_eq!(Consumer::<u32>::open(name.as_str()).unwrap_err().kind(), ErrorKind::TypeMismatch);
}

fn sum(mut consumer: Consumer<[u64]>) -> u64 {
    consumer.iter().map(|message| message.unwrap().iter().sum::<u64>()).sum()
}

#[test]
fn a_child_and_a_wait_set_receive() {
    let (mut producer, consumer) = spsc::builder::<[u64]>(8).quota(1 << 20).build().unwrap();
    let child = Process::spawn(sum, consumer).unwrap();
    for len in [3, 500, 20_000] {
        producer.send(&vec![1; len]).unwrap();
    }
    drop(producer);
    assert_eq!(child.join().unwrap(), 20_503);
    let (mut producer, mut consumer) = pagemate::spsc::<str>(2).unwrap();
    let mut set = WaitSet::new();
    set.add(3, &consumer).unwrap();
    producer.send("ready").unwrap();
    assert_eq!(set.wait_timeout(LONG).unwrap(), [3]);
    assert_eq!(consumer.recv().unwrap(), "ready");
}

/// Sends a message, and holds a loan until it is killed.
fn lend((mut producer, ready): (Producer<[u8]>, Event)) {
    producer.send(&[1; 30_000]).unwrap();
    let _loan = producer.loan(30_000).unwrap();
    ready.set();
    std::thread::sleep(LONG);
}

#[test]
fn messages_of_a_dead_producer_arrive() {
    let (name, ready) = (name("death"), Event::new().unwrap());
    let producer = spsc::builder::<[u8]>(4).quota(8 * UNIT).create_producer(name.as_str()).unwrap();
    let mut consumer = Consumer::<[u8]>::open(name.as_str()).unwrap();
    let child = Process::spawn(lend, (producer, ready.clone())).unwrap();
    ready.wait();
    child.kill().unwrap();
    child.join().unwrap_err();
    assert_eq!(consumer.recv_timeout(LONG).unwrap(), [1; 30_000]);
    assert_eq!(consumer.recv_timeout(LONG), Err(RecvError::Closed));
    until("the quota is free", || in_use(&name) == "0");
}

#[test]
fn damaged_headers_are_errors() {
    damage::each(16, |offset, value| {
        let name = name(&format!("damage-{offset}-{value}"));
        let mut producer = spsc::builder::<[u32]>(2).quota(4 * UNIT).create_producer(name.as_str()).unwrap();
        let mut consumer = Consumer::<[u32]>::open(name.as_str()).unwrap();
        let object = damage::Object::find(&name, &[2, 128]);
        for len in [3, 5000] {
            _ = producer.try_send(&vec![1; len]);
            object.set(384 + offset, value);
            object.set(384 + 128 + offset, value);
            _ = consumer.try_recv_ref().map(|message| message.iter().map(|n| u64::from(*n)).sum::<u64>());
            _ = producer.try_send(&vec![1; len]);
            _ = consumer.try_recv();
            _ = inspect::segment(name.as_str());
        }
    });
}
