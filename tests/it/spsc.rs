//! The ring between one producer and one consumer: semantics, batches, random operations, damaged
//! bytes, and deaths by SIGKILL.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::{spsc, ErrorKind, Event, Message, Origin, Segment};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked;

const LONG: Duration = Duration::from_secs(20);

fn name(what: &str) -> String {
    format!("test-spsc-{what}-{}", std::process::id())
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Colour {
    Red = 1,
    Green = 2,
}

#[test]
fn first_in_first_out_at_any_capacity() {
    for capacity in [1, 2, 3, 5, 8, 13, 64] {
        let (mut producer, mut consumer) = spsc::<u32>(capacity).unwrap();
        assert_eq!((producer.capacity(), consumer.capacity()), (capacity, capacity));
        let (mut next, mut expected) = (0, 0);
        for round in 0..5 * capacity {
            assert!(producer.is_empty() && consumer.is_empty());
            assert_eq!(consumer.try_recv(), Err(RecvError::Empty));
            for _ in 0..round % capacity + 1 {
                producer.try_send(next).unwrap();
                next += 1;
            }
            assert_eq!((producer.len(), consumer.len()), (round % capacity + 1, round % capacity + 1));
            assert_eq!(producer.slots(), capacity - producer.len());
            if round % capacity + 1 == capacity {
                assert!(producer.is_full() && consumer.is_full());
                assert_eq!(producer.try_send(77).unwrap_err().into_inner(), 77);
                assert!(producer.try_send(77).unwrap_err().is_full());
            }
            while let Ok(value) = consumer.try_recv() {
                assert_eq!(value, expected);
                expected += 1;
            }
        }
        assert_eq!(expected, next);
    }
}

#[test]
fn impossible_capacities_are_refused() {
    assert_eq!(spsc::<u8>(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(spsc::<u64>(usize::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(spsc::<u64>(1 << 46).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn messages_of_no_bytes() {
    let (mut producer, mut consumer) = spsc::<()>(3).unwrap();
    assert_eq!(producer.try_send_batch(&[(); 5]), Ok(3));
    assert!(producer.try_send(()).unwrap_err().is_full());
    assert_eq!(consumer.try_chunk(9).unwrap().as_slices().0.len(), 3);
    assert_eq!(consumer.try_recv(), Err(RecvError::Empty));
}

#[test]
fn after_a_side_has_left_the_other_finds_it_closed() {
    let (mut producer, mut consumer) = spsc::<u8>(4).unwrap();
    producer.send(1).unwrap();
    producer.send(2).unwrap();
    assert!(!consumer.is_closed());
    drop(producer);
    assert!(consumer.is_closed());
    assert!(consumer.iter().eq([1, 2].map(Ok)));
    assert_eq!(consumer.recv(), Err(RecvError::Closed));
    assert_eq!(consumer.recv_timeout(LONG), Err(RecvError::Closed));

    let (mut producer, consumer) = spsc::<u8>(4).unwrap();
    drop(consumer);
    assert_eq!(producer.send(9), Err(SendError::Closed(9)));
    assert_eq!(producer.try_loan().unwrap_err(), SendError::Closed(()));
    assert_eq!(producer.send_batch(&[1, 2]), Err(SendError::Closed(0)));
    assert_eq!(pagemate::Error::from(producer.try_send(1).unwrap_err()).kind(), ErrorKind::Closed);
}

#[test]
fn timeouts_end_sends_and_receives() {
    let (mut producer, mut consumer) = spsc::<u8>(1).unwrap();
    let begin = Instant::now();
    assert_eq!(consumer.recv_timeout(Duration::from_millis(30)), Err(RecvError::Empty));
    assert_eq!(consumer.recv_deadline(begin), Err(RecvError::Empty));
    assert!(consumer.recv_ref_timeout(Duration::ZERO).is_err());
    producer.send_timeout(1, Duration::ZERO).unwrap();
    assert_eq!(producer.send_timeout(2, Duration::from_millis(30)), Err(SendError::Full(2)));
    assert_eq!(producer.send_deadline(3, begin), Err(SendError::Full(3)));
    assert!(producer.loan_timeout(Duration::ZERO).unwrap_err().is_full());
    assert!(begin.elapsed() >= Duration::from_millis(60));
    assert_eq!(consumer.recv_timeout(Duration::ZERO), Ok(1));
}

#[test]
fn messages_are_written_and_read_in_place() {
    let (mut producer, mut consumer) = spsc::<[u8; 3000]>(2).unwrap();
    for round in 0..7 {
        drop(producer.try_loan().unwrap()); // sends nothing
        let mut slot = producer.loan().unwrap();
        slot.fill(round);
        slot.send();
        let message = consumer.recv_ref().unwrap();
        assert!(message.iter().all(|byte| *byte == round));
        drop(message);
        assert!(consumer.try_recv_ref().is_err());
    }
}

#[test]
fn a_message_received_in_place_keeps_its_slot_until_dropped() {
    let (mut producer, mut consumer) = spsc::<u64>(1).unwrap();
    producer.send(5).unwrap();
    let message = consumer.recv_ref().unwrap();
    assert!(producer.try_send(6).unwrap_err().is_full());
    assert_eq!(*message, 5);
    drop(message);
    producer.try_send(6).unwrap();
}

#[test]
fn chunks_are_committed_and_released_in_part() {
    let (mut producer, mut consumer) = spsc::<u32>(5).unwrap();
    for round in 0..11u32 {
        let mut chunk = producer.try_chunk(4).unwrap();
        assert_eq!(chunk.len(), 4);
        let (first, rest) = chunk.as_mut_slices();
        assert_eq!(first.len() + rest.len(), 4);
        first.iter_mut().chain(rest).zip(round..).for_each(|(slot, value)| *slot = value);
        chunk.commit(3);
        assert_eq!(producer.try_chunk(9).unwrap().fill_from([100]), 1, "one of two");
        let chunk = consumer.try_chunk(9).unwrap();
        assert_eq!(chunk.iter().copied().collect::<Vec<_>>(), [round, round + 1, round + 2, 100]);
        chunk.release(1);
        let mut rest = vec![];
        assert_eq!(consumer.try_recv_batch(&mut rest, 2), Ok(2));
        assert_eq!(consumer.recv_batch(&mut rest, 2), Ok(1));
        assert_eq!(rest, [round + 1, round + 2, 100]);
        assert_eq!(consumer.try_recv_batch(&mut rest, 2), Err(RecvError::Empty));
        assert_eq!(consumer.recv_batch(&mut rest, 0), Ok(0));
    }
    assert!(std::panic::catch_unwind(move || producer.try_chunk(3).unwrap().commit(4)).is_err());
}

#[test]
fn messages_for_which_zeros_are_not_valid() {
    let (mut producer, mut consumer) = spsc::<Colour>(3).unwrap();
    assert_eq!(producer.try_send_batch(&[Colour::Red, Colour::Green]), Ok(2));
    producer.try_chunk(1).unwrap().commit(1); // never written: zeros
    assert_eq!(consumer.try_chunk(3).unwrap().as_slices().0, [Colour::Red, Colour::Green]);
    assert_eq!(consumer.try_recv(), Err(RecvError::Corrupted));
    assert_eq!(consumer.try_recv(), Err(RecvError::Empty), "the message is dropped");
}

#[test]
fn between_threads_sleeping_and_not() {
    for (capacity, count) in [(1, 20_000), (3, 60_000), (256, 300_000)] {
        let (mut producer, mut consumer) = spsc::<u64>(capacity).unwrap();
        let sender = std::thread::spawn(move || {
            let mut sent = 0;
            while sent < count {
                match sent % 7 {
                    0 => {
                        let batch: Vec<u64> = (sent..count.min(sent + 5)).collect();
                        producer.send_batch(&batch).unwrap();
                        sent += batch.len() as u64;
                    }
                    1 => {
                        let mut slot = producer.loan().unwrap();
                        *slot = sent;
                        slot.send();
                        sent += 1;
                    }
                    _ => {
                        producer.send(sent).unwrap();
                        sent += 1;
                    }
                }
            }
        });
        let mut expected = 0;
        let mut batch = Vec::new();
        while expected < count {
            if expected % 5 == 0 {
                batch.clear();
                consumer.recv_batch(&mut batch, 9).unwrap();
                assert!(batch.iter().copied().eq(expected..expected + batch.len() as u64));
                expected += batch.len() as u64;
            } else {
                assert_eq!(consumer.recv(), Ok(expected));
                expected += 1;
            }
        }
        assert_eq!(consumer.recv(), Err(RecvError::Closed));
        sender.join().unwrap();
    }
}

#[test]
fn roles_by_name() {
    let name = name("name");
    let mut consumer = Consumer::<u32>::create(&name, 8).unwrap();
    assert_eq!(Consumer::<u32>::open(&name).unwrap_err().kind(), ErrorKind::RoleTaken);
    let error = Producer::<i32>::open(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("u32") && error.to_string().contains("i32"), "{error}");
    assert_eq!(Event::open(&name).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (mut producer, origin) = Producer::<u32>::open_or_create(&name, 3).unwrap();
    assert_eq!((origin, producer.capacity()), (Origin::Opened, 8));
    producer.send(1).unwrap();
    drop(producer);
    assert_eq!(Producer::<u32>::open(&name).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(consumer.recv(), Ok(1));
    assert_eq!(consumer.recv(), Err(RecvError::Closed));
    drop(consumer);
    assert_eq!(Producer::<u32>::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let (_, origin) = Producer::<u32>::open_or_create(&name, 3).unwrap();
    assert_eq!(origin, Origin::Created);
}

#[test]
fn a_vacant_peer_is_waited_for() {
    let segment = Segment::new(1 << 20).unwrap();
    let mut producer = Producer::<u32>::create(segment.at("ring"), 1).unwrap();
    producer.try_send(1).unwrap();
    assert!(producer.send_timeout(2, Duration::from_millis(20)).unwrap_err().is_full());
    let place = segment.at("ring");
    let late = std::thread::spawn(move || {
        let mut consumer = Consumer::<u32>::open(place).unwrap();
        (consumer.recv().unwrap(), consumer.recv().unwrap())
    });
    producer.send(2).unwrap();
    assert_eq!(late.join().unwrap(), (1, 2));
}

#[derive(Debug, Clone)]
enum Op {
    Send(u8),
    Loan(u8),
    SendBatch(Vec<u8>),
    Fill(Vec<u8>, usize),
    Recv,
    RecvRef,
    RecvBatch(usize),
    Chunk(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any::<u8>().prop_map(Op::Send),
        any::<u8>().prop_map(Op::Loan),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(Op::SendBatch),
        (proptest::collection::vec(any::<u8>(), 0..9), 1..9usize).prop_map(|(values, n)| Op::Fill(values, n)),
        Just(Op::Recv),
        Just(Op::RecvRef),
        (0..9usize).prop_map(Op::RecvBatch),
        (1..9usize, 0..9usize).prop_map(|(want, done)| Op::Chunk(want, done)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 400 }))]

    #[test]
    fn like_a_deque(capacity in 1..8usize, ops in proptest::collection::vec(op(), 0..80)) {
        let (mut producer, mut consumer) = spsc::<u8>(capacity).unwrap();
        let mut twin = VecDeque::new();
        for op in ops {
            let room = capacity - twin.len();
            match op {
                Op::Send(value) => {
                    prop_assert_eq!(producer.try_send(value).is_ok(), room > 0);
                    twin.extend((room > 0).then_some(value));
                }
                Op::Loan(value) => match producer.try_loan() {
                    Ok(mut slot) => {
                        *slot = value;
                        slot.send();
                        twin.push_back(value);
                    }
                    Err(_) => prop_assert_eq!(room, 0),
                },
                Op::SendBatch(values) => {
                    let sent = producer.try_send_batch(&values).unwrap_or(0);
                    prop_assert_eq!(sent, values.len().min(room));
                    twin.extend(&values[..sent]);
                }
                Op::Fill(values, want) => match producer.try_chunk(want) {
                    Ok(chunk) => {
                        prop_assert_eq!(chunk.len(), want.min(room));
                        let sent = chunk.fill_from(values.iter().copied());
                        prop_assert_eq!(sent, values.len().min(want).min(room));
                        twin.extend(&values[..sent]);
                    }
                    Err(_) => prop_assert_eq!(room, 0),
                },
                Op::Recv => prop_assert_eq!(consumer.try_recv().ok(), twin.pop_front()),
                Op::RecvRef => {
                    prop_assert_eq!(consumer.try_recv_ref().ok().map(|message| *message), twin.pop_front())
                }
                Op::RecvBatch(most) => {
                    let mut values = Vec::new();
                    let count = consumer.try_recv_batch(&mut values, most).unwrap_or(0);
                    prop_assert_eq!(count, most.min(twin.len()));
                    prop_assert_eq!(values, twin.drain(..count).collect::<Vec<_>>());
                }
                Op::Chunk(want, done) => match consumer.try_chunk(want) {
                    Ok(chunk) => {
                        prop_assert_eq!(chunk.len(), want.min(twin.len()));
                        prop_assert!(chunk.iter().eq(twin.iter().take(want)));
                        let done = done.min(chunk.len());
                        chunk.release(done);
                        twin.drain(..done);
                    }
                    Err(_) => prop_assert!(twin.is_empty()),
                },
            }
            prop_assert_eq!((producer.len(), consumer.len()), (twin.len(), twin.len()));
        }
        drop(producer);
        prop_assert!(consumer.iter().eq(twin.into_iter().map(Ok)));
    }
}

#[test]
fn every_byte_damaged() {
    let name = name("damage");
    damage::each(384 + 5, move |offset, value| {
        for late_producer in [false, true] {
            let (mut early, mut consumer) = match late_producer {
                false => (Some(Producer::<Colour>::create(&name, 5).unwrap()), None),
                true => (None, Some(Consumer::<Colour>::create(&name, 5).unwrap())),
            };
            if let Some(producer) = &mut early {
                producer.try_send_batch(&[Colour::Red, Colour::Green, Colour::Red]).unwrap();
            }
            damage::Object::find(&name, &[5, 1]).set(offset, value);
            let (mut producer, mut consumer) = (
                early.or_else(|| Producer::<Colour>::open(&name).ok()),
                consumer.take().or_else(|| Consumer::<Colour>::open(&name).ok()),
            );
            if let Some(producer) = &mut producer {
                let _ = producer.try_send(Colour::Red);
                let _ = producer.send_timeout(Colour::Red, Duration::ZERO);
                let _ = producer.try_send_batch(&[Colour::Green; 9]);
                let _ = (producer.len(), producer.is_closed(), format!("{producer:?}"));
            }
            if let Some(consumer) = &mut consumer {
                let _ = consumer.try_chunk(1).map(|chunk| chunk.iter().count());
                for _ in 0..4 {
                    let _ = consumer.try_recv();
                    let _ = consumer.try_recv_ref().map(|message| *message);
                }
                let _ = consumer.recv_timeout(Duration::ZERO);
                let _ = (consumer.len(), consumer.is_closed(), format!("{consumer:?}"));
            }
            let _ = pagemate::inspect::segment(&*name);
        }
    });
}

#[test]
fn a_killed_producers_messages_arrive_before_the_end() {
    let name = name("killed-producer");
    for round in 0..10 {
        let mut consumer = Consumer::<u64>::create(&name, 16).unwrap();
        let ready = Event::new().unwrap();
        let child = forked::Forked::run(|| {
            let mut producer = Producer::<u64>::open(&name).unwrap();
            ready.set();
            (0..).try_for_each(|n| producer.send(n)).map_or(0, |()| 1)
        });
        assert!(ready.wait_timeout(LONG));
        let mut expected = 0;
        // The rounds differ in the moment at which the child dies.
        while expected < 500 * round {
            assert_eq!(consumer.recv_timeout(LONG), Ok(expected));
            expected += 1;
        }
        child.kill();
        let begin = Instant::now();
        let end = loop {
            match consumer.recv_timeout(LONG) {
                Ok(value) => assert_eq!(value, expected),
                Err(end) => break end,
            }
            expected += 1;
        };
        assert_eq!(end, RecvError::Closed, "round {round}");
        assert!(begin.elapsed() < LONG / 2);
        child.wait();
    }
}

#[test]
fn a_killed_consumer_closes_the_ring() {
    let name = name("killed-consumer");
    for round in 0..10 {
        let mut producer = Producer::<u64>::create(&name, 16).unwrap();
        let ready = Event::new().unwrap();
        let child = forked::Forked::run(|| {
            let mut consumer = Consumer::<u64>::open(&name).unwrap();
            ready.set();
            let in_order = consumer.iter().zip(0..).all(|(got, expected)| got == Ok(expected));
            i32::from(!in_order)
        });
        assert!(ready.wait_timeout(LONG));
        (0..500 * round).for_each(|n| producer.send_timeout(n, LONG).unwrap());
        child.kill();
        let error = (500 * round..).find_map(|n| producer.send_timeout(n, LONG).err()).unwrap();
        assert!(error.is_closed(), "round {round}: {error}");
        child.wait();
    }
}

#[test]
fn a_fork_has_no_part_in_its_parents_roles() {
    let (mut producer, mut consumer) = spsc::<u8>(4).unwrap();
    producer.send(1).unwrap();
    let child = forked::Forked::run(|| {
        let refused = matches!(producer.try_send(2), Err(SendError::NotInThisProcess(2, _)))
            && matches!(consumer.try_recv(), Err(RecvError::NotInThisProcess(_)));
        drop((producer, consumer));
        i32::from(!refused)
    });
    assert_eq!(child.wait(), 0);
}

#[test]
fn a_stopped_side_is_not_dead() {
    let name = name("stopped");
    for round in 0..5 {
        let mut consumer = Consumer::<u64>::create(&name, 4).unwrap();
        let child = forked::Forked::run(|| {
            let mut producer = Producer::<u64>::open(&name).unwrap();
            i32::from((0..5_000).any(|n| producer.send(n).is_err()))
        });
        let mut expected = 0;
        while expected < 1 + 900 * round {
            assert_eq!(consumer.recv_timeout(LONG), Ok(expected));
            expected += 1;
        }
        child.signal(libc::SIGSTOP);
        // Its messages arrive, and then nothing for longer than a death takes to be noticed.
        let pause = loop {
            match consumer.recv_timeout(Duration::from_millis(200)) {
                Ok(value) => assert_eq!(value, expected),
                Err(pause) => break pause,
            }
            expected += 1;
        };
        assert_eq!(pause, RecvError::Empty);
        assert_eq!(Producer::<u64>::open(&name).unwrap_err().kind(), ErrorKind::RoleTaken);
        child.signal(libc::SIGCONT);
        (expected..5_000).for_each(|value| assert_eq!(consumer.recv_timeout(LONG), Ok(value)));
        assert_eq!(consumer.recv_timeout(LONG), Err(RecvError::Closed));
        assert_eq!(child.wait(), 0);
    }
}

#[test]
fn inspection_shows_the_state_and_the_next_message() {
    let name = name("outside");
    let mut producer = Producer::<[u8; 3]>::create(&name, 2).unwrap();
    let object_seen = || pagemate::inspect::segment(&*name).unwrap().objects.remove(0);
    assert_eq!(object_seen().head, None);
    producer.send_batch(&[[1, 2, 3], [4, 5, 6]]).unwrap();
    let mut consumer = Consumer::<[u8; 3]>::open(&name).unwrap();
    assert_eq!(object_seen().head, Some(vec![1, 2, 3]));
    consumer.recv().unwrap();
    let object = object_seen();
    assert_eq!(object.head, Some(vec![4, 5, 6]));
    for fact in
        [("capacity", "2"), ("depth", "1"), ("sent", "2"), ("received", "1"), ("producer", "participant 0")]
    {
        assert!(
            object.state.iter().any(|(key, value)| (*key, &**value) == fact),
            "{fact:?} in {:?}",
            object.state
        );
    }
    drop(producer);
    assert!(object_seen().state.contains(&("producer", "gone".to_owned())));
}

#[test]
fn polling_notices_a_death() {
    let name = name("polling");
    let mut consumer = Consumer::<u64>::create(&name, 4).unwrap();
    let ready = Event::new().unwrap();
    let child = forked::Forked::run(|| {
        let mut producer = Producer::<u64>::open(&name).unwrap();
        producer.send(1).unwrap();
        ready.set();
        i32::from(!Event::new().unwrap().wait())
    });
    assert!(ready.wait_timeout(LONG));
    assert_eq!((consumer.try_recv(), consumer.try_recv()), (Ok(1), Err(RecvError::Empty)));
    child.kill();
    let begin = Instant::now();
    while consumer.try_recv() == Err(RecvError::Empty) {
        assert!(begin.elapsed() < LONG);
    }
    assert_eq!(consumer.try_recv(), Err(RecvError::Closed));
    child.wait();
}
