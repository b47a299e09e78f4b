//! Closing: which call closed; and handles of one queue, and iterators that own their handle.

use pagemate::pipe::{pipe, pipe_one_way};
use pagemate::queue::{RecvError, SendError};
use pagemate::{spsc, Event, Process, Queue, Segment};

use crate::support::forked::Forked;

fn name(what: &str) -> String {
    format!("test-closing-{what}-{}", std::process::id())
}

#[test]
fn one_of_many_calls_closes_a_queue() {
    let (queue, begin) = (Queue::<u32>::new(2).unwrap(), Event::new().unwrap());
    let close = |(queue, begin): (Queue<u32>, Event)| {
        begin.wait();
        queue.close()
    };
    let children: Vec<_> =
        (0..2).map(|_| Process::spawn(close, (queue.clone(), begin.clone())).unwrap()).collect();
    let closed_here = std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(|| close((queue.clone(), begin.clone()))));
        begin.set();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().then_some(())).count()
    });
    let closed_there = children.into_iter().filter_map(|child| child.join().unwrap().then_some(())).count();
    assert_eq!(closed_here + closed_there, 1);
    assert!(!queue.close() && queue.is_closed());
    assert_eq!(queue.try_recv(), Err(RecvError::Closed));
}

#[test]
fn an_end_of_a_ring_closes_once_and_where_it_belongs() {
    let (mut producer, mut consumer) = spsc::<u32>(4).unwrap();
    producer.send(1).unwrap();
    let child = Forked::run(|| {
        // SAFETY: the copy is not used again; the child ends without dropping what it has.
        let copy = unsafe { std::ptr::read(&producer) };
        i32::from(copy.close())
    });
    assert_eq!(child.wait(), 0, "a copy has closed the ring");
    assert!(!consumer.is_closed() && producer.close() && consumer.is_closed());
    assert_eq!((consumer.recv(), consumer.recv()), (Ok(1), Err(RecvError::Closed)));
    assert!(consumer.close(), "the other end is not ours");

    let (mut producer, consumer) = spsc::<u32>(4).unwrap();
    assert!(consumer.close());
    assert_eq!(producer.send(2), Err(SendError::Closed(2)));
}

#[test]
fn ends_of_pipes() {
    let (mut reader, mut writer) = pipe_one_way().unwrap();
    writer.send(&5_u8).unwrap();
    assert!(writer.close());
    assert_eq!(reader.recv::<u8>().unwrap(), 5);
    assert!(reader.recv::<u8>().unwrap_err().is_closed() && reader.close());
    let (here, mut there) = pipe().unwrap();
    assert!(here.close());
    assert!(there.recv_bytes().unwrap_err().is_closed() && there.send_bytes(b"x").unwrap_err().is_closed());
    assert!(there.close());
}

#[test]
fn handles_of_one_queue() {
    let name = name("same");
    let segment = Segment::create(&name, 1 << 20).unwrap();
    let [one, other] = ["a", "b"].map(|at| Queue::<u32>::create(segment.at(at), 2).unwrap());
    assert!(one.same_channel(&one) && one.same_channel(&one.clone()) && !one.same_channel(&other));
    // The same object through another mapping.
    let again = Queue::open(Segment::open(&name).unwrap().at("a")).unwrap();
    assert!(one.same_channel(&again) && again.same_channel(&one) && !again.same_channel(&other));
    // At the same place of other segments.
    let [first, second] = [(); 2].map(|()| Queue::<u32>::new(2).unwrap());
    assert!(!first.same_channel(&second) && !first.same_channel(&one));
    let compare = |(a, b, c): (Queue<u32>, Queue<u32>, Queue<u32>)| (a.same_channel(&b), a.same_channel(&c));
    let child = Process::spawn(compare, (one.clone(), again, second)).unwrap();
    assert_eq!(child.join().unwrap(), (true, false));
}

#[test]
fn iterators_that_own_their_handle() {
    let queue = Queue::<u64>::new(2).unwrap();
    let received = queue.clone().into_iter();
    let sum = std::thread::spawn(move || received.sum::<Result<u64, _>>());
    (1..=100).for_each(|n| queue.send(n).unwrap());
    assert!(queue.close());
    assert_eq!(sum.join().unwrap(), Ok(5050));
    assert_eq!(queue.into_iter().next(), None);

    let (mut producer, consumer) = spsc::<u64>(4).unwrap();
    let received = std::thread::spawn(move || consumer.into_iter().take(3).collect::<Vec<_>>());
    while producer.send(7).is_ok() {}
    assert_eq!(received.join().unwrap(), [Ok(7); 3], "and dropping the iterator has closed the ring");
}
