//! Topics between threads and processes: one order for all, history, exact losses, messages in
//! place, deaths and stops, and damaged bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use pagemate::queue::topic::{From, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::{inspect, ErrorKind, Event, Manager, Message, Origin, Process, Topic, WaitSet};

use crate::support::{until, Random};

const LONG: Duration = Duration::from_secs(30);

fn name(what: &str) -> String {
    format!("test-topic-{what}-{}", std::process::id())
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

/// Receives what is there. Checks each position and each loss against the messages, which are the
/// numbers from 0.
fn drain(subscriber: &mut Subscriber<u64>) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let (position, lost) = (subscriber.position(), subscriber.lost());
        match subscriber.try_recv() {
            Ok(value) => {
                assert_eq!((value, subscriber.position()), (position, position + 1));
                all.push(value);
            }
            Err(RecvError::Lagged(count)) => {
                assert_eq!(subscriber.lost(), lost + count);
                assert!(count > 0);
            }
            Err(error) => {
                assert!(matches!(error, RecvError::Empty | RecvError::Closed), "{error:?}");
                return all;
            }
        }
    }
}

#[test]
fn every_subscriber_gets_every_message() {
    for capacity in [1, 2, 3, 7, 16, 100] {
        let topic = Topic::<u64>::new(capacity).unwrap();
        assert_eq!((topic.capacity(), topic.is_closed()), (capacity, false));
        let mut subscribers = [(); 3].map(|()| topic.subscribe(From::Latest).unwrap());
        let publisher = topic.publisher();
        let mut next = 0;
        for round in 0..3 * capacity {
            let count = 1 + round % capacity;
            for _ in 0..count {
                publisher.publish(next).unwrap();
                next += 1;
            }
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.lag(), count as u64);
                assert_eq!(drain(subscriber), (next - count as u64..next).collect::<Vec<_>>());
                assert_eq!((subscriber.lost(), subscriber.lag()), (0, 0));
            }
        }
    }
}

#[test]
fn subscribers_begin_where_they_say() {
    for capacity in [1, 2, 5, 15, 16, 40, 80] {
        for published in [0, 1, capacity - 1, capacity, capacity + 1, 3 * capacity + 2] {
            let topic = Topic::<u64>::new(capacity as usize).unwrap();
            let publisher = topic.publisher();
            (0..published).for_each(|n| publisher.publish(n).unwrap());
            let first = published.saturating_sub(capacity);
            let seen = |from| drain(&mut topic.subscribe(from).unwrap());
            assert_eq!(seen(From::Latest), []);
            assert_eq!(seen(From::Earliest), (first..published).collect::<Vec<_>>());
            for count in [0, 1, 2, capacity, capacity + 5] {
                let expected: Vec<_> = (first.max(published.saturating_sub(count))..published).collect();
                assert_eq!(seen(From::Last(count)), expected, "the last {count} of {published}");
            }
            for position in 0..=published {
                let mut subscriber = topic.subscribe(From::Position(position)).unwrap();
                assert_eq!(drain(&mut subscriber), (first.max(position)..published).collect::<Vec<_>>());
                assert_eq!(subscriber.lost(), first.saturating_sub(position));
            }
            let error = topic.subscribe(From::Position(published + 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn a_slow_subscriber_is_told_once_what_it_lost() {
    for capacity in [1, 2, 5, 15] {
        let topic = Topic::<u64>::new(capacity as usize).unwrap();
        let publisher = topic.publisher();
        let mut subscriber = topic.subscribe(From::Earliest).unwrap();
        let mut next = 0;
        for more in 1..50 {
            (0..capacity + more).for_each(|n| publisher.publish(next + n).unwrap());
            next += capacity + more;
            let lost = subscriber.lost();
            assert_eq!(subscriber.try_recv(), Err(RecvError::Lagged(more)), "capacity {capacity}");
            assert_eq!(subscriber.lost(), lost + more);
            for n in next - capacity..next {
                assert_eq!(subscriber.try_recv(), Ok(n));
            }
            assert_eq!(subscriber.try_recv(), Err(RecvError::Empty));
        }
    }
    // A larger topic keeps an eighth more.
    let topic = Topic::<u64>::new(64).unwrap();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    (0..72).for_each(|n| topic.publisher().publish(n).unwrap());
    assert_eq!(subscriber.try_recv(), Ok(0));
    topic.publisher().publish(72).unwrap();
    topic.publisher().publish(73).unwrap();
    assert_eq!(subscriber.try_recv(), Err(RecvError::Lagged(9)));
    assert_eq!(drain(&mut subscriber), (10..74).collect::<Vec<_>>());
}

#[test]
fn a_message_read_in_place_does_not_change() {
    for capacity in [1, 2, 30] {
        let topic = Topic::<u64>::new(capacity).unwrap();
        let publisher = topic.publisher();
        let mut reader = topic.subscribe(From::Latest).unwrap();
        let mut other = topic.subscribe(From::Latest).unwrap();
        publisher.publish(0).unwrap();
        let held = reader.recv_ref().unwrap();
        assert_eq!(drain(&mut other), [0]);
        for n in 1..1000 {
            publisher.publish(n).unwrap();
            assert_eq!(drain(&mut other), [n], "capacity {capacity}");
            assert_eq!(*held, 0);
        }
        assert_eq!(other.lost(), 0);
        drop(held);
        let left = drain(&mut reader);
        assert_eq!((left.last(), reader.position()), (Some(&999), 1000));
        assert_eq!(reader.lost() + left.len() as u64, 999);
    }
}

#[test]
fn readers_in_place_leave_a_slot_to_publish() {
    let topic = Topic::<u64>::new(1).unwrap();
    let publisher = topic.publisher();
    let readers = [(); 3].map(|()| topic.subscribe(From::Latest).unwrap());
    let hold = |(n, reader): (usize, &'static mut Subscriber<u64>)| {
        publisher.publish(n as u64).unwrap();
        if n > 0 {
            let lost = if n == 1 { 1 } else { 2 };
            assert_eq!(reader.try_recv(), Err(RecvError::Lagged(lost)));
        }
        reader.try_recv_ref().unwrap()
    };
    let held: Vec<_> =
        readers.into_iter().map(|reader| Box::leak(Box::new(reader))).enumerate().map(hold).collect();
    assert_eq!(held.iter().map(|message| **message).collect::<Vec<_>>(), [0, 1, 2]);
    let mut last = topic.subscribe(From::Latest).unwrap();
    for n in 3..100 {
        publisher.publish(n).unwrap();
        assert_eq!(drain(&mut last), [n]);
    }
    publisher.publish(100).unwrap();
    let message = last.recv_ref().unwrap();
    for _ in 0..10 {
        assert_eq!(publisher.publish(101), Err(SendError::Full(101)), "every slot is read in place");
    }
    drop(message);
    publisher.publish(101).unwrap();
    assert_eq!(last.recv(), Ok(101));
    assert_eq!(held.iter().map(|message| **message).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn loans() {
    let topic = Topic::<u64>::new(4).unwrap();
    let publisher = topic.publisher();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    let mut first = publisher.loan().unwrap();
    let second = publisher.loan_with(1).unwrap();
    assert_eq!((*second, subscriber.try_recv()), (1, Err(RecvError::Empty)));
    *first = 0;
    first.publish().unwrap();
    second.publish().unwrap();
    drop(publisher.loan().unwrap());
    publisher.publish(2).unwrap();
    assert_eq!(drain(&mut subscriber), [0, 1, 2]);

    let mut early = publisher.loan().unwrap();
    publisher.publish(3).unwrap();
    assert_eq!(subscriber.try_recv(), Ok(3), "nobody waits for the loan");
    *early = 4;
    early.publish().unwrap();
    assert_eq!(drain(&mut subscriber), [4]);

    // Lapped by the others.
    let early = publisher.loan_with(100).unwrap();
    (5..100).for_each(|n| publisher.publish(n).unwrap());
    early.publish().unwrap();
    assert_eq!(drain(&mut subscriber), [97, 98, 99, 100]);
}

#[test]
fn messages_without_a_valid_zero() {
    let topic = Topic::<Side>::new(2).unwrap();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    let publisher = topic.publisher();
    let mut loan = publisher.loan_with(Side::Sell).unwrap();
    *loan = Side::Buy;
    loan.publish().unwrap();
    publisher.publish(Side::Sell).unwrap();
    assert_eq!(*subscriber.recv_ref().unwrap(), Side::Buy);
    assert_eq!(subscriber.recv(), Ok(Side::Sell));
}

#[test]
fn messages_of_any_size() {
    fn check<const N: usize>() {
        let topic = Topic::<[u8; N]>::new(2).unwrap();
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        for n in 0..10 {
            topic.publisher().publish([n; N]).unwrap();
            assert_eq!(subscriber.recv(), Ok([n; N]));
            let publisher = topic.publisher();
            let mut loan = publisher.loan().unwrap();
            loan.fill(n + 100);
            loan.publish().unwrap();
            assert_eq!(*subscriber.recv_ref().unwrap(), [n + 100; N]);
        }
    }
    check::<0>();
    check::<1>();
    check::<7>();
    check::<8>();
    check::<13>();
    check::<112>();
    check::<113>();
    check::<5000>();
}

#[test]
fn impossible_capacities() {
    for capacity in [0, usize::MAX, u32::MAX as usize, u32::MAX as usize / 9 * 8 + 9] {
        assert_eq!(Topic::<u64>::new(capacity).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn the_end_is_seen_at_once_however_often_a_subscriber_has_polled() {
    for polls in 0..40 {
        for has_loan in [false, true] {
            let topic = Topic::<u64>::new(4).unwrap();
            let publisher = topic.publisher();
            let mut subscriber = topic.subscribe(From::Latest).unwrap();
            publisher.publish(1).unwrap();
            assert_eq!(subscriber.try_recv(), Ok(1));
            let loan = has_loan.then(|| publisher.loan_with(2).unwrap());
            (0..polls).for_each(|_| assert_eq!(subscriber.try_recv(), Err(RecvError::Empty)));
            assert!(topic.close());
            assert_eq!([subscriber.try_recv(), subscriber.recv()], [Err(RecvError::Closed); 2], "{polls}");
            drop(loan);
        }
    }
}

#[test]
fn close_lets_subscribers_drain() {
    let topic = Topic::<u64>::new(4).unwrap();
    let publisher = topic.publisher();
    let mut subscribers = [(); 2].map(|()| topic.subscribe(From::Latest).unwrap());
    (0..3).for_each(|n| publisher.publish(n).unwrap());
    let loan = publisher.loan_with(9).unwrap();
    assert!(topic.close());
    assert!(!topic.close());
    assert!(topic.is_closed());
    assert_eq!(publisher.publish(5), Err(SendError::Closed(5)));
    assert!(matches!(publisher.loan(), Err(SendError::Closed(()))));
    for subscriber in &mut subscribers {
        assert!(subscriber.iter().eq([0, 1, 2].map(Ok)));
        assert_eq!([subscriber.try_recv(), subscriber.recv()], [Err(RecvError::Closed); 2]);
    }
    assert_eq!(*loan.publish().unwrap_err().into_inner(), 9, "too late, and it comes back");
    let mut late = topic.subscribe(From::Earliest).unwrap();
    assert!(late.iter().eq([0, 1, 2].map(Ok)));
}

#[test]
fn close_and_publish_wake_everybody() {
    let topic = Topic::<u64>::new(1).unwrap();
    let mut subscribers = [(); 3].map(|()| topic.subscribe(From::Latest).unwrap());
    std::thread::scope(|scope| {
        let threads: Vec<_> = subscribers
            .iter_mut()
            .map(|subscriber| {
                scope.spawn(|| {
                    assert_eq!(subscriber.recv(), Ok(0));
                    assert_eq!(subscriber.recv(), Err(RecvError::Closed));
                })
            })
            .collect();
        topic.publisher().publish(0).unwrap();
        until("all have received", || format!("{topic:?}").contains("subscribers_wait: true"));
        // A subscriber that has yet to receive it would find the topic closed behind it.
        topic.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_table_of_subscribers_is_bounded() {
    let topic = Topic::<u64>::new(1).unwrap();
    let mut all: Vec<_> = (0..64).map(|_| topic.subscribe(From::Latest).unwrap()).collect();
    let error = topic.subscribe(From::Latest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("64"), "{error}");
    all.pop();
    let mut last = topic.subscribe(From::Latest).unwrap();
    topic.publisher().publish(3).unwrap();
    assert_eq!(last.recv(), Ok(3));
}

#[test]
fn names_managers_and_the_shown_state() {
    let manager_name = name("manager");
    let manager = Manager::create(&manager_name).unwrap();
    let topic = manager.topic::<u64>("prices", 8).unwrap();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    manager.topic::<u64>("prices", 99).unwrap().publisher().publish(7).unwrap();
    assert_eq!(topic.capacity(), 8);
    let seen = inspect::segment(manager_name.as_str()).unwrap();
    let object = &seen.objects[0];
    let text = format!("{object:?}");
    for part in ["\"published\", \"1\"", "lossy, lag 1, lost 0", "\"subscribers\", \"1\""] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(subscriber.recv(), Ok(7));

    let own = name("own");
    let (topic, origin) = Topic::<[u16; 3]>::open_or_create(&own, 4).unwrap();
    assert_eq!((origin, Topic::<[u16; 3]>::open(&own).unwrap().capacity()), (Origin::Created, 4));
    assert_eq!(Topic::<u64>::open(&own).unwrap_err().kind(), ErrorKind::TypeMismatch);
    drop(topic);
}

#[test]
fn a_set_waits_for_a_subscriber() {
    let (topic, event) = (Topic::<u64>::new(4).unwrap(), Event::new().unwrap());
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    let mut set = WaitSet::new();
    set.add(1, &subscriber).unwrap();
    set.add(2, &event).unwrap();
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), []);
    let publisher = topic.publisher();
    std::thread::scope(|scope| {
        scope.spawn(|| publisher.publish(1).unwrap());
        assert_eq!(set.wait().unwrap(), [1]);
    });
    assert_eq!(subscriber.recv(), Ok(1));
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), []);
    topic.close();
    assert_eq!(set.wait().unwrap(), [1]);
}

/// Publishes `id << 32 | n` for each `n` below `count`.
fn publish_many((topic, id, count): (Topic<[u64; 4]>, u64, u64)) {
    let publisher = topic.publisher();
    for n in 0..count {
        let value = [id << 32 | n; 4];
        if n % 3 == 0 {
            let mut loan = publisher.loan().unwrap();
            *loan = value;
            loan.publish().unwrap();
        } else {
            publisher.publish(value).unwrap();
        }
    }
}

/// Receives to the end. Returns positions and messages by turns, then the number of lost messages.
fn receive_all((topic, from, ready): (Topic<[u64; 4]>, u64, Event)) -> Vec<u64> {
    let from = if from == u64::MAX { From::Earliest } else { From::Last(from) };
    let mut subscriber = topic.subscribe(from).unwrap();
    let (begin, mut seen) = (subscriber.position(), Vec::new());
    ready.set();
    loop {
        let position = subscriber.position();
        let message = match subscriber.recv_timeout(LONG) {
            Ok(message) if position % 2 == 0 => message,
            Ok(message) => {
                // The next one in place.
                assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
                seen.extend([position, message[0]]);
                let position = subscriber.position();
                match subscriber.try_recv_ref() {
                    Ok(message) => {
                        assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
                        seen.extend([position, message[0]]);
                    }
                    Err(error) => assert!(!matches!(error, RecvError::Corrupted)),
                }
                continue;
            }
            Err(RecvError::Lagged(_)) => continue,
            Err(error) => {
                assert_eq!(error, RecvError::Closed);
                break;
            }
        };
        assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
        seen.extend([position, message[0]]);
    }
    assert_eq!(subscriber.position(), begin + seen.len() as u64 / 2 + subscriber.lost());
    seen.push(subscriber.position());
    seen.push(subscriber.lost());
    seen
}

/// Checks that all subscribers saw parts of one order in which each publisher's messages ascend.
/// Returns the order: positions and messages.
fn one_order(all: &[Vec<u64>]) -> std::collections::BTreeMap<u64, u64> {
    let mut order = std::collections::BTreeMap::new();
    for seen in all {
        for pair in seen[..seen.len() - 2].chunks(2) {
            let first = *order.entry(pair[0]).or_insert(pair[1]);
            assert_eq!(first, pair[1], "two messages at position {}", pair[0]);
        }
    }
    for id in 0..8 {
        let own: Vec<_> = order.values().filter(|value| **value >> 32 == id).collect();
        assert!(own.is_sorted_by(|a, b| a < b), "publisher {id}");
    }
    order
}

#[test]
fn four_publishers_and_four_subscribers() {
    const EACH: u64 = 5000;
    for capacity in [1, 3, 64, 4096] {
        let topic = Topic::<[u64; 4]>::new(capacity).unwrap();
        let ready = [(); 4].map(|()| Event::new().unwrap());
        let subscribers: Vec<_> = ready
            .iter()
            .map(|ready| Process::spawn(receive_all, (topic.clone(), u64::MAX, ready.clone())).unwrap())
            .collect();
        ready.iter().for_each(|ready| assert!(ready.wait_timeout(LONG)));
        let publishers: Vec<_> =
            (0..4).map(|id| Process::spawn(publish_many, (topic.clone(), id, EACH)).unwrap()).collect();
        publishers.into_iter().for_each(|child| child.join().unwrap());
        topic.close();
        let all: Vec<Vec<u64>> = subscribers.into_iter().map(|child| child.join().unwrap()).collect();
        for seen in &all {
            let [position, lost] = [seen[seen.len() - 2], seen[seen.len() - 1]];
            assert_eq!(position, 4 * EACH, "everything was received or counted as lost");
            assert_eq!(seen.len() as u64 / 2 - 1 + lost, 4 * EACH);
        }
        one_order(&all);
    }
}

#[test]
fn a_late_subscriber_gets_exactly_the_last() {
    let topic = Topic::<[u64; 4]>::new(1 << 16).unwrap();
    let ready = [(); 4].map(|()| Event::new().unwrap());
    let first = Process::spawn(receive_all, (topic.clone(), u64::MAX, ready[0].clone())).unwrap();
    assert!(ready[0].wait_timeout(LONG));
    let publishers: Vec<_> =
        (0..4).map(|id| Process::spawn(publish_many, (topic.clone(), id, 10_000)).unwrap()).collect();
    let mut counter = topic.subscribe(From::Earliest).unwrap();
    let late: Vec<_> = (0..20)
        .map(|round| {
            (0..200).for_each(|_| assert!(counter.recv_timeout(LONG).is_ok()));
            let count = 10 * round;
            let mut late = topic.subscribe(From::Last(count)).unwrap();
            let after = topic.subscribe(From::Latest).unwrap().position();
            assert!(late.position() + count >= counter.position(), "not older than the last {count}");
            assert!(late.position() + count <= after, "not newer than the last {count}");
            let begin = late.position();
            let own: Vec<_> = (0..count).map(|n| (begin + n, late.recv_timeout(LONG).unwrap()[0])).collect();
            assert_eq!(late.lost(), 0);
            own
        })
        .collect();
    publishers.into_iter().for_each(|child| child.join().unwrap());
    topic.close();
    let order = one_order(&[first.join().unwrap()]);
    assert_eq!(order.len(), 40_000);
    for (position, value) in late.into_iter().flatten() {
        assert_eq!(order.get(&position), Some(&value));
    }
}

#[test]
fn kills_lose_only_what_was_not_published() {
    let mut random = Random::new();
    for capacity in [1, 5, 200] {
        let topic = Topic::<[u64; 4]>::new(capacity).unwrap();
        let ready = Event::new().unwrap();
        let survivor = Process::spawn(receive_all, (topic.clone(), u64::MAX, ready.clone())).unwrap();
        let witness = Process::spawn(receive_all, (topic.clone(), u64::MAX, ready.clone())).unwrap();
        assert!(ready.wait_timeout(LONG));
        let steady = Process::spawn(publish_many, (topic.clone(), 0, 20_000)).unwrap();
        for id in 1..6 {
            let up = Event::new().unwrap();
            let subscriber = Process::spawn(receive_all, (topic.clone(), u64::MAX, up.clone())).unwrap();
            let publisher = Process::spawn(publish_many, (topic.clone(), id, u64::MAX >> 33)).unwrap();
            assert!(up.wait_timeout(LONG));
            random.moment(Duration::from_millis(5));
            publisher.kill().unwrap();
            subscriber.kill().unwrap();
            assert!(publisher.join().is_err() && subscriber.join().is_err());
        }
        steady.join().unwrap();
        topic.close();
        let all = [survivor.join().unwrap(), witness.join().unwrap()];
        one_order(&all);
        let ends: Vec<_> = all.iter().map(|seen| seen[seen.len() - 2]).collect();
        assert_eq!(ends[0], ends[1], "both count the same messages");
        // The lines of the dead come back.
        let mut own = Vec::new();
        until("the dead are reaped", || {
            own.extend(std::iter::from_fn(|| topic.subscribe(From::Latest).ok()));
            own.len() == 64
        });
    }
}

fn stop_in_a_loan((topic, ready, go): (Topic<u64>, Event, Event)) {
    let publisher = topic.publisher();
    let mut loan = publisher.loan().unwrap();
    ready.set();
    go.wait();
    *loan = 77;
    loan.publish().unwrap();
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: a child of ours that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

#[test]
fn a_stopped_publisher_holds_nobody_up() {
    let topic = Topic::<u64>::new(3).unwrap();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    let [ready, go] = [(); 2].map(|()| Event::new().unwrap());
    let child = Process::spawn(stop_in_a_loan, (topic.clone(), ready.clone(), go.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    signal(child.pid(), libc::SIGSTOP);
    let publisher = topic.publisher();
    for n in 0..100 {
        publisher.publish(n).unwrap();
        assert_eq!(subscriber.recv_timeout(LONG), Ok(n));
    }
    go.set();
    signal(child.pid(), libc::SIGCONT);
    child.join().unwrap();
    assert_eq!(subscriber.recv_timeout(LONG), Ok(77));
    assert_eq!((subscriber.lost(), subscriber.position()), (0, 101));
}

fn read_in_place((topic, ready): (Topic<u64>, Event)) {
    let mut subscriber = topic.subscribe(From::Earliest).unwrap();
    let message = subscriber.recv_ref().unwrap();
    ready.set();
    Event::new().unwrap().wait();
    drop(message);
}

#[test]
fn a_stopped_or_dead_reader_in_place_holds_nobody_up() {
    let topic = Topic::<u64>::new(1).unwrap();
    let ready = Event::new().unwrap();
    let publisher = topic.publisher();
    publisher.publish(0).unwrap();
    let child = Process::spawn(read_in_place, (topic.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    signal(child.pid(), libc::SIGSTOP);
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    let publish = |subscriber: &mut Subscriber<u64>, values: std::ops::Range<u64>| {
        for n in values {
            publisher.publish(n).unwrap();
            assert_eq!(subscriber.try_recv(), Ok(n));
        }
    };
    publish(&mut subscriber, 1..100);
    child.kill().unwrap();
    assert!(child.join().is_err());
    publish(&mut subscriber, 100..200);
    // The line of the dead comes back.
    let mut lines = Vec::new();
    until("the dead process is reaped", || {
        lines.extend(std::iter::from_fn(|| topic.subscribe(From::Latest).ok()));
        lines.len() == 63
    });
    publish(&mut subscriber, 200..300);
    assert_eq!(subscriber.lost(), 0);
}

#[test]
fn a_forked_child_has_no_subscriber() {
    let topic = Topic::<u64>::new(4).unwrap();
    let publisher = topic.publisher();
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    publisher.publish(1).unwrap();
    let mut reader = topic.subscribe(From::Earliest).unwrap();
    let held = reader.recv_ref().unwrap();
    let loan = publisher.loan_with(2).unwrap();
    // SAFETY: the child takes no lock that another thread of the test may hold except the
    // allocator's, which glibc hands over consistently, and ends without unwinding into the
    // harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(loan.publish(), Err(SendError::NotInThisProcess(..)))
            && matches!(subscriber.recv(), Err(RecvError::NotInThisProcess(_)));
        drop((held, subscriber));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if refused { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and status is ours to write.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
    loan.publish().unwrap();
    (3..40).for_each(|n| publisher.publish(n).unwrap());
    assert_eq!(*held, 1);
    drop(held);
    assert_eq!(subscriber.recv(), Err(RecvError::Lagged(35)));
    assert_eq!(subscriber.recv(), Ok(36));
}

/// Uses the topic, which must not panic, hang or fault. The results do not matter.
fn use_it(topic: &Topic<u64>, subscriber: &mut Subscriber<u64>) {
    let publisher = topic.publisher();
    for n in 0..4 {
        let _ = publisher.publish_timeout(n, Duration::from_millis(1));
        let _ = publisher.try_loan().map(|loan| loan.try_publish().is_ok());
        let _ = subscriber.try_recv();
    }
    let loan = publisher.try_loan();
    let held = subscriber.try_recv_ref();
    drop((held, loan));
    let _ = (subscriber.lag(), subscriber.lost(), subscriber.position());
    for from in [From::Earliest, From::Last(1), From::Position(3), From::Latest] {
        let _ = topic.subscribe(from).map(|mut own| own.try_recv().is_ok());
        let _ = topic.subscribe_lossless(from).map(|mut own| own.try_recv().is_ok());
    }
    let _ = subscriber.recv_timeout(Duration::ZERO);
    subscriber.try_iter().take(10).for_each(drop);
    topic.close();
    let _ = subscriber.try_recv();
    let _ = publisher.publish(1);
}

#[test]
fn damaged_bytes_give_errors_or_nothing() {
    const SLOTS: usize = 6;
    let name = name("damage");
    let topic = Topic::<u64>::create(&name, 3).unwrap();
    let file = File::options().read(true).write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
    let mut whole = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut whole, 0).unwrap();
    let geometry = [3, SLOTS as u64, 128, 16, 8, 64].map(u64::to_le_bytes).concat();
    let at = (0..whole.len()).step_by(128).find(|at| whole[*at..].starts_with(&geometry)).unwrap();
    let slots = TO_SLOTS as usize;
    let end = at + slots + SLOTS * 128;
    let restore = |bytes: &[u8]| file.write_all_at(bytes, at as u64).unwrap();
    let mut fresh = vec![0; end - at];
    file.read_exact_at(&mut fresh, at as u64).unwrap();
    // The counts of the first two participants, and the line of the subscriber.
    let words = (0..512 + 16)
        .chain(4736..4736 + 40)
        .chain((0..SLOTS).flat_map(|slot| (0..24).map(move |b| slots + slot * 128 + b)));
    let mut random = 0x9e37_79b9u32;
    let begin = Instant::now();
    for offset in words {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        for value in [0x00, 0xff, random as u8] {
            for state in [0, 5] {
                restore(&fresh);
                let mut subscriber = topic.subscribe(From::Latest).unwrap();
                (0..state).for_each(|n| topic.publisher().publish(n).unwrap());
                file.write_all_at(&[value], (at + offset) as u64).unwrap();
                use_it(&topic, &mut subscriber);
                if let Ok(other) = Topic::<u64>::open(&name) {
                    use_it(&other, &mut subscriber);
                }
                let _ = inspect::segment(name.as_str());
            }
        }
        assert!(begin.elapsed() < 10 * LONG, "an endless loop at {offset}");
    }
    restore(&fresh);
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    topic.publisher().publish(1).unwrap();
    assert_eq!(subscriber.recv(), Ok(1));
}

/// Returns the file of a topic of `u64`, and the offset of the topic in it.
fn file_of(name: &str, capacity: u64, slots: u64) -> (File, u64) {
    let file = File::options().read(true).write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
    let mut whole = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut whole, 0).unwrap();
    let geometry = [capacity, slots, 128, 16, 8, 64].map(u64::to_le_bytes).concat();
    let at = (0..whole.len()).step_by(128).find(|at| whole[*at..].starts_with(&geometry)).unwrap();
    (file, at as u64)
}

fn change(file: &File, at: u64, change: impl FnOnce(u64) -> u64) {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    file.write_all_at(&change(u64::from_le_bytes(bytes)).to_le_bytes(), at).unwrap();
}

/// The offset of the slots: the descriptor, and a line for each of 64 subscribers.
const TO_SLOTS: u64 = 4736 + 64 * 128;

/// A slot that seems to be overwritten, though `tail` says that it is not, is damaged. To find that
/// out takes one pass over the ring, not one for each step.
#[test]
fn a_damaged_turn_is_reported_soon() {
    for capacity in [3, 20, 100, 4096] {
        let name = name("turn");
        let topic = Topic::<u64>::create(&name, capacity as usize).unwrap();
        let (file, at) = file_of(&name, capacity, capacity + (capacity / 8).max(3));
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        topic.publisher().publish(1).unwrap();
        change(&file, at + TO_SLOTS, |word| word + (1 << 34));
        let begin = Instant::now();
        let got = subscriber.try_recv();
        // A small topic counts its messages, and this one seems to be gone.
        let is_gone = capacity <= 64 && got == Err(RecvError::Lagged(1));
        assert!(is_gone || got == Err(RecvError::Corrupted), "capacity {capacity}: {got:?}");
        assert!(begin.elapsed() < LONG / 10);
    }
}

/// Receivers do not sleep for ever on a position that does not exist.
#[test]
fn a_damaged_tail_is_reported() {
    for capacity in [3, 20, 100] {
        let name = name("tail");
        let topic = Topic::<u64>::create(&name, capacity as usize).unwrap();
        let (file, at) = file_of(&name, capacity, capacity + (capacity / 8).max(3));
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        topic.publisher().publish(1).unwrap();
        assert_eq!(subscriber.recv(), Ok(1));
        change(&file, at + 128, |tail| tail | 0xff << 16);
        assert_eq!(subscriber.recv_timeout(LONG), Err(RecvError::Corrupted), "capacity {capacity}");
        assert!(topic.subscribe(From::Last(1)).is_err_and(|error| error.kind() == ErrorKind::Corrupted));
    }
}

/// A message whose slot has another number is reported once, and those behind it are received.
#[test]
fn a_damaged_number_costs_one_message() {
    let name = name("number");
    let topic = Topic::<u64>::create(&name, 3).unwrap();
    let (file, at) = file_of(&name, 3, 6);
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    (0..2).for_each(|n| topic.publisher().publish(n).unwrap());
    change(&file, at + TO_SLOTS + 8, |number| number + 7);
    assert_eq!(subscriber.try_recv(), Err(RecvError::Corrupted));
    assert_eq!(subscriber.try_recv(), Ok(1));
}

/// However fast the publishers of a small topic are, each loss leads to a message.
#[test]
fn a_loss_is_followed_by_a_message() {
    for capacity in [1, 2, 5] {
        let topic = Topic::<u64>::new(capacity).unwrap();
        let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
        let mut next = 0;
        let mut publish = |count: usize| {
            (0..count).for_each(|_| {
                publisher.publish(next).unwrap();
                next += 1;
            })
        };
        for _ in 0..20 {
            publish(capacity + 3);
            assert!(matches!(subscriber.try_recv(), Err(RecvError::Lagged(_))));
            publish(1);
            assert!(subscriber.try_recv().is_ok(), "capacity {capacity}");
        }
    }
}

/// A set has the topic but not the subscriber: one that was dropped is never ready. A subscriber
/// that has yet to be told of a loss is.
#[test]
fn a_set_and_a_subscriber_that_is_dropped_or_owed_a_loss() {
    let topic = Topic::<u64>::new(1).unwrap();
    let publisher = topic.publisher();
    let (mut set, subscriber) = (WaitSet::new(), topic.subscribe(From::Latest).unwrap());
    set.add(1, &subscriber).unwrap();
    publisher.publish(0).unwrap();
    assert_eq!(set.wait_timeout(LONG).unwrap(), [1]);
    drop(subscriber);
    (1..9).for_each(|n| publisher.publish(n).unwrap());
    assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty());

    assert!(set.remove(1));
    let held: Vec<_> = (0..4).map(|_| publisher.loan().unwrap()).collect();
    let mut late = topic.subscribe(From::Position(0)).unwrap();
    set.add(2, &late).unwrap();
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), [2]);
    assert_eq!(late.try_recv(), Err(RecvError::Lagged(9)));
    assert!(set.wait_timeout(Duration::ZERO).unwrap().is_empty());
    drop(held);
}
