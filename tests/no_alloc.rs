//! Hot paths allocate nothing. The allocator counts, so this is a program of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pagemate::queue::spsc;
use pagemate::queue::topic::From;
use pagemate::{Event, Queue, Service, Topic, WaitSet};

thread_local! {
    /// Allocations of this thread. The harness has threads of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are those of System.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of System.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(body: impl FnOnce()) -> usize {
    let before = COUNT.get();
    body();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn queue() {
    let queue = Queue::<u64>::new(4).unwrap();
    let round = || {
        for i in 0..1000 {
            queue.send(i).unwrap();
            queue.try_send(i).unwrap();
            *queue.loan().unwrap() = i;
            assert_eq!(queue.recv().unwrap(), i);
            assert_eq!(*queue.recv_ref().unwrap(), i);
            assert!(queue.try_recv().is_err() && queue.is_empty());
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn topic() {
    let topic = Topic::<u64>::new(2).unwrap();
    let publisher = topic.publisher();
    let mut lossy = topic.subscribe(From::Latest).unwrap();
    let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
    let round = || {
        for i in 0..1000 {
            publisher.publish(i).unwrap();
            let mut loan = publisher.loan().unwrap();
            *loan = i;
            loan.publish().unwrap();
            assert!(publisher.try_publish(i).is_err());
            for subscriber in [&mut lossy, &mut lossless] {
                assert_eq!(subscriber.recv().unwrap(), i);
                assert_eq!(*subscriber.recv_ref().unwrap(), i);
                assert!(subscriber.try_recv().is_err());
            }
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn service() {
    let service = Service::<u64, u64>::new(2).unwrap();
    let (client, server) = (service.client(), service.server());
    let round = || {
        for i in 0..1000 {
            let call = client.start(&i).unwrap();
            let request = server.recv().unwrap();
            assert!(*request == i && !request.is_cancelled() && request.deadline().is_none());
            request.reply(&(i + 1)).unwrap();
            assert_eq!(call.wait(), Ok(i + 1));
            let mut loan = client.loan().unwrap();
            *loan = i;
            let call = loan.start().unwrap();
            let mut reply = server.try_recv().unwrap().reply_loan().unwrap();
            *reply = i + 2;
            reply.send().unwrap();
            assert_eq!(*call.wait_ref().unwrap(), i + 2);
            drop(client.start(&i).unwrap());
            assert!(server.try_recv().is_err());
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn service_of_messages_of_any_length() {
    let service = Service::<[u64], str>::builder(2).quota(1 << 20).build().unwrap();
    let (client, server) = (service.client(), service.server());
    let (numbers, text) = ([7; 5000], "long ".repeat(1000));
    let round = || {
        for len in [0, 3, 50, 5000] {
            let call = client.loan(len).unwrap().write_slice(&numbers[..len]).start().unwrap();
            let request = server.recv().unwrap();
            assert_eq!(*request, numbers[..len]);
            request.reply(&text[..len]).unwrap();
            assert_eq!(*call.wait_ref().unwrap(), text[..len]);
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn messages_of_any_length() {
    let queue = Queue::<[u64]>::builder(4).quota(1 << 20).build().unwrap();
    let (mut producer, mut consumer) = spsc::builder::<str>(4).build().unwrap();
    let (numbers, text) = ([7; 5000], "long ".repeat(1000));
    let (mut samples, mut line) = (Vec::with_capacity(5000), String::with_capacity(5000));
    let round = || {
        for len in (0..200).chain([3, 5000, 700, 4999]) {
            queue.send(&numbers[..len]).unwrap();
            queue.try_send(&numbers[..len]).unwrap();
            queue.loan(len).unwrap().fill_with(|index| index as u64).send().unwrap();
            drop(queue.loan_from(&numbers[..len]).unwrap());
            assert_eq!(queue.recv_ref().unwrap().len(), len);
            assert_eq!(queue.recv_into(&mut samples), Ok(len));
            assert_eq!(queue.recv_into(&mut samples), Ok(len));
            assert!(queue.try_recv_into(&mut samples).is_err());
            producer.send(&text[..len]).unwrap();
            producer.loan_from(&text[..len]).unwrap().send();
            assert_eq!(consumer.recv_into(&mut line), Ok(len));
            assert_eq!(consumer.recv_ref().unwrap().len(), len);
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn topic_of_messages_of_any_length() {
    let topic = Topic::<[u64]>::builder(2).quota(1 << 18).build().unwrap();
    let publisher = topic.publisher();
    let mut all = [topic.subscribe(From::Latest).unwrap(), topic.subscribe_lossless(From::Latest).unwrap()];
    let (numbers, mut samples) = ([7; 5000], Vec::with_capacity(5000));
    let round = || {
        for len in (0..200).chain([3, 5000, 700, 4999]) {
            publisher.publish(&numbers[..len]).unwrap();
            publisher.loan(len).unwrap().fill_with(|index| index as u64).publish().unwrap();
            assert!(publisher.try_publish(&numbers[..len]).is_err());
            for subscriber in &mut all {
                assert_eq!(subscriber.recv_into(&mut samples), Ok(len));
                assert_eq!(subscriber.recv_ref().unwrap().len(), len);
                assert!(subscriber.try_recv_into(&mut samples).is_err());
            }
        }
    };
    assert_eq!(allocations(round), 0);
    // The oldest messages make room.
    let topic = Topic::<[u64]>::builder(64).quota(1 << 18).build().unwrap();
    let publisher = topic.publisher();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    let round = || {
        for len in [3000, 5000, 100, 4999].into_iter().cycle().take(200) {
            publisher.publish(&numbers[..len]).unwrap();
        }
        assert!(subscriber.try_recv().is_err(), "it has lost some");
        assert!(subscriber.try_recv_into(&mut samples).is_ok());
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn event() {
    let event = Event::new().unwrap();
    let round = || {
        for _ in 0..1000 {
            event.set();
            event.wait();
            event.clear();
            event.wait_timeout(std::time::Duration::from_nanos(1));
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn waitset() {
    let (event, queue) = (Event::new().unwrap(), Queue::<u64>::new(4).unwrap());
    let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut words, mut all) = (WaitSet::new(), WaitSet::new());
    for set in [&mut words, &mut all] {
        set.add(0, &event).unwrap();
        set.add(1, &queue).unwrap();
    }
    all.add(2, &near).unwrap();
    let mut round = || {
        for set in [&mut words, &mut all] {
            assert!(set.wait_timeout(std::time::Duration::from_millis(1)).unwrap().is_empty());
            queue.send(1).unwrap();
            assert_eq!(set.wait().unwrap(), [1]);
            queue.recv().unwrap();
        }
    };
    // The first starts the helper thread of a set with a file.
    round();
    assert_eq!(allocations(|| (0..20).for_each(|_| round())), 0);
}

#[test]
fn spsc() {
    let (mut producer, mut consumer) = pagemate::spsc::<u64>(4).unwrap();
    let round = || {
        for i in 0..1000 {
            producer.send(i).unwrap();
            producer.try_send(i).unwrap();
            assert_eq!(consumer.recv().unwrap(), i);
            assert_eq!(consumer.try_recv().unwrap(), i);
            assert!(consumer.try_recv().is_err());
        }
    };
    assert_eq!(allocations(round), 0);
}

#[test]
fn pipe() {
    let (mut here, mut there) = pagemate::pipe().unwrap();
    let mut buffer = [0; 64];
    let mut round = || {
        for i in 0..1000u64 {
            here.send(&i).unwrap();
            assert_eq!(there.recv::<u64>().unwrap(), i);
            there.send_bytes(&i.to_le_bytes()).unwrap();
            assert_eq!(here.recv_bytes_into(&mut buffer).unwrap(), 8);
        }
    };
    // The first message of a type also tells the other end its layout.
    round();
    assert_eq!(allocations(round), 0);
}
