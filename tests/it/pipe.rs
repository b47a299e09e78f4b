//! Pipes: message boundaries, lengths, types, end of file, random operations, damaged bytes, and
//! deaths by SIGKILL.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pagemate::pipe::{
    pipe_one_way, pipe_one_way_with_capacity, pipe_with_capacity, Connection, PipeError, PipeReader,
    PipeWriter,
};
use pagemate::{pipe, ErrorKind, Event, Message, Origin, Process, Segment};
use proptest::prelude::*;

use crate::support::damage;
use crate::support::forked;

const LONG: Duration = Duration::from_secs(20);

fn name(what: &str) -> String {
    format!("test-pipe-{what}-{}", std::process::id())
}

/// Returns bytes that depend on the seed and on their position.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + seed * 31 + i / 251) as u8).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Swapped {
    y: i32,
    x: i32,
}

#[test]
fn both_directions() {
    let (mut a, mut b) = pipe().unwrap();
    a.send(&Point { x: 1, y: 2 }).unwrap();
    b.send(&7u8).unwrap();
    b.send(&8u8).unwrap();
    assert_eq!(b.recv::<Point>().unwrap(), Point { x: 1, y: 2 });
    assert_eq!((a.recv::<u8>().unwrap(), a.recv::<u8>().unwrap()), (7, 8));
    assert!(a.try_recv::<u8>().unwrap_err().is_timed_out());
}

#[test]
fn boundaries_are_kept_and_empty_messages_are_messages() {
    let (mut reader, mut writer) = pipe_one_way().unwrap();
    for len in [0, 1, 0, 15, 16, 17, 0, 4096, 0] {
        writer.send_bytes(&bytes(len, len)).unwrap();
    }
    for len in [0, 1, 0, 15, 16, 17, 0, 4096, 0] {
        assert!(reader.wait_readable(Duration::ZERO).unwrap());
        assert_eq!(reader.recv_bytes().unwrap(), bytes(len, len));
    }
    assert!(!reader.wait_readable(Duration::ZERO).unwrap());
    assert!(!reader.wait_readable(Duration::from_millis(20)).unwrap());
    writer.send(&()).unwrap();
    assert!(reader.wait_readable(Duration::ZERO).unwrap());
    reader.recv::<()>().unwrap();
    drop(writer);
    assert!(reader.wait_readable(Duration::ZERO).unwrap(), "the end of file can be received at once");
    assert!(reader.recv_bytes().unwrap_err().is_closed());
}

#[test]
fn into_a_buffer() {
    let (mut a, mut b) = pipe_with_capacity(128).unwrap();
    let mut buffer = [9; 20];
    a.send_bytes(b"short").unwrap();
    assert_eq!(b.recv_bytes_into(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..6], b"short\x09");
    a.send_bytes(&bytes(21, 1)).unwrap();
    match b.recv_bytes_into(&mut buffer) {
        Err(PipeError::BufferTooShort(message)) => assert_eq!(message, bytes(21, 1)),
        other => panic!("{other:?}"),
    }
    // The message goes in parts.
    let sender = std::thread::spawn(move || a.send_bytes(&bytes(1000, 2)).map(|()| a));
    let mut buffer = [0; 1000];
    assert_eq!(b.recv_bytes_into(&mut buffer).unwrap(), 1000);
    assert_eq!(buffer, *bytes(1000, 2));
    drop(sender.join().unwrap().unwrap());
    assert!(b.recv_bytes_into(&mut buffer).unwrap_err().is_closed());
}

#[test]
fn types_are_checked_and_the_message_stays() {
    let (mut a, mut b) = pipe().unwrap();
    a.send(&Point { x: 1, y: 2 }).unwrap();
    let error = b.recv::<Swapped>().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("struct Point") && text.contains("struct Swapped"), "{text}");
    assert_eq!(pagemate::Error::from(error).kind(), ErrorKind::TypeMismatch);
    assert!(b.try_recv::<u64>().is_err());
    assert_eq!(b.recv::<Point>().unwrap(), Point { x: 1, y: 2 });
    a.send_bytes(&[0; 8]).unwrap();
    assert!(b.recv::<Point>().unwrap_err().to_string().contains("recv_bytes"));
    assert_eq!(b.recv_bytes().unwrap(), [0; 8]);
    a.send(&Point { x: 3, y: 4 }).unwrap();
    assert_eq!(b.recv_bytes().unwrap(), [3, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn ends_of_file_and_broken_pipes() {
    let (mut a, mut b) = pipe().unwrap();
    a.send_bytes(b"last words").unwrap();
    a.close();
    assert!(b.is_closed());
    assert!(b.send_bytes(b"x").unwrap_err().is_closed());
    assert!(b.send(&1u8).unwrap_err().is_closed());
    assert_eq!(b.recv_bytes().unwrap(), b"last words");
    assert!(b.recv_bytes().unwrap_err().is_closed());
    assert!(b.recv_bytes_timeout(LONG).unwrap_err().is_closed());

    let (a, b) = pipe().unwrap();
    let ((mut from_b, to_b), (from_a, mut to_a)) = (a.split(), b.split());
    drop(from_a);
    to_a.send(&5u8).unwrap();
    assert_eq!(from_b.recv::<u8>().unwrap(), 5, "one direction closed, the other open");
    assert!(to_b.is_closed() && !from_b.is_closed());
}

#[test]
fn deadlines() {
    let (mut a, mut b) = pipe_with_capacity(128).unwrap();
    let begin = Instant::now();
    assert!(b.recv_timeout::<u8>(Duration::from_millis(20)).unwrap_err().is_timed_out());
    assert!(b.recv_bytes_deadline(begin).unwrap_err().is_timed_out());
    a.send_bytes_timeout(&[1; 112], Duration::ZERO).unwrap();
    assert!(a.try_send_bytes(&[]).unwrap_err().is_timed_out());
    assert!(a.send_bytes_timeout(&[], Duration::from_millis(20)).unwrap_err().is_timed_out());
    assert!(matches!(a.try_send_bytes(&[0; 113]), Err(PipeError::TooLarge)));
    assert!(begin.elapsed() >= Duration::from_millis(40));
    assert_eq!(b.recv_bytes().unwrap(), [1; 112]);
    // The message is too large for the ring, and nobody reads. The send times out, and no reader
    // sees the message.
    assert!(a.send_bytes_timeout(&[2; 1000], Duration::from_millis(20)).unwrap_err().is_timed_out());
    assert!(!b.wait_readable(Duration::ZERO).unwrap(), "a part is not a message");
    a.send_bytes(&[3; 5]).unwrap();
    assert_eq!(b.recv_bytes().unwrap(), [3; 5]);
    assert!(a.send_deadline(&[4u64; 100], begin).unwrap_err().is_timed_out());
    drop(a);
    assert!(b.recv_bytes().unwrap_err().is_closed());
}

#[test]
fn large_messages_through_small_rings() {
    for (capacity, len) in [(128, 5_000), (4096, 300_000), (64 * 1024, 8 << 20)] {
        let (mut reader, mut writer) = pipe_one_way_with_capacity(capacity).unwrap();
        let sender = std::thread::spawn(move || {
            for seed in 0..3 {
                writer.send_bytes(&bytes(len + seed, seed)).unwrap();
                writer.send(&[seed as u64; 40]).unwrap();
            }
        });
        for seed in 0..3 {
            assert_eq!(reader.recv_bytes().unwrap(), bytes(len + seed, seed));
            assert_eq!(reader.recv::<[u64; 40]>().unwrap(), [seed as u64; 40]);
        }
        assert!(reader.recv_bytes().unwrap_err().is_closed());
        sender.join().unwrap();
    }
}

#[test]
fn ping_pong() {
    let (mut a, mut b) = pipe_with_capacity(128).unwrap();
    let echo = std::thread::spawn(move || {
        while let Ok(message) = b.recv_bytes() {
            b.send_bytes(&message).unwrap();
        }
    });
    for i in 0..5_000 {
        a.send_bytes(&bytes(i % 90, i)).unwrap();
        assert_eq!(a.recv_bytes().unwrap(), bytes(i % 90, i));
    }
    drop(a);
    echo.join().unwrap();
}

#[test]
fn by_name() {
    let name = name("name");
    let mut a = Connection::create(&name).unwrap();
    a.send(&1u8).unwrap();
    assert_eq!(PipeReader::open(&name).unwrap_err().kind(), ErrorKind::TypeMismatch, "it goes both ways");
    let mut b = Connection::open(&name).unwrap();
    assert_eq!(Connection::open(&name).unwrap_err().kind(), ErrorKind::RoleTaken);
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    b.send(&2u8).unwrap();
    drop(b);
    assert_eq!(a.recv::<u8>().unwrap(), 2);
    assert!(a.recv::<u8>().unwrap_err().is_closed());
    assert_eq!(Connection::open(&name).unwrap_err().kind(), ErrorKind::Closed);
    drop(a);
    assert_eq!(Connection::open(&name).unwrap_err().kind(), ErrorKind::NotFound);

    let segment = Segment::new(1 << 20).unwrap();
    let (mut writer, origin) = PipeWriter::open_or_create(segment.at("one way")).unwrap();
    assert_eq!(origin, Origin::Created);
    assert_eq!(Connection::open(segment.at("one way")).unwrap_err().kind(), ErrorKind::TypeMismatch);
    writer.send_bytes(b"before there is a reader").unwrap();
    let (mut reader, origin) = PipeReader::open_or_create(segment.at("one way")).unwrap();
    assert_eq!(origin, Origin::Opened);
    assert_eq!(reader.recv_bytes().unwrap(), b"before there is a reader");
    assert_eq!(pipe_with_capacity(usize::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[derive(Debug, Clone)]
enum Op {
    Bytes(usize),
    Typed(u32),
    Recv,
    RecvInto(usize),
    RecvTyped,
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..60usize).prop_map(Op::Bytes),
        any::<u32>().prop_map(Op::Typed),
        Just(Op::Recv),
        (0..40usize).prop_map(Op::RecvInto),
        Just(Op::RecvTyped),
        Just(Op::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 300 }))]

    #[test]
    fn like_a_deque(ops in proptest::collection::vec(op(), 0..60)) {
        let (mut reader, mut writer) = pipe_one_way_with_capacity(256).unwrap();
        let mut twin: VecDeque<(bool, Vec<u8>)> = VecDeque::new();
        for op in ops {
            match op {
                Op::Bytes(len) => {
                    let message = bytes(len, twin.len());
                    match writer.try_send_bytes(&message) {
                        Ok(()) => twin.push_back((false, message)),
                        Err(error) => prop_assert!(error.is_timed_out() && !twin.is_empty()),
                    }
                }
                Op::Typed(value) => match writer.try_send(&value) {
                    Ok(()) => twin.push_back((true, value.to_le_bytes().to_vec())),
                    Err(error) => prop_assert!(error.is_timed_out() && !twin.is_empty()),
                },
                Op::Recv => prop_assert_eq!(
                    reader.try_recv_bytes().ok(),
                    twin.pop_front().map(|(_, bytes)| bytes)
                ),
                Op::RecvInto(len) if !twin.is_empty() => {
                    let (_, expected) = twin.pop_front().unwrap();
                    let mut buffer = vec![0; len];
                    match reader.recv_bytes_into(&mut buffer) {
                        Ok(len) => prop_assert_eq!(&buffer[..len], &expected[..]),
                        Err(PipeError::BufferTooShort(message)) => {
                            prop_assert!(message.len() > len);
                            prop_assert_eq!(message, expected);
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Op::RecvInto(_) => {}
                Op::RecvTyped => match (reader.try_recv::<u32>(), twin.front()) {
                    (Ok(value), Some((true, expected))) => {
                        prop_assert_eq!(&value.to_le_bytes()[..], &expected[..]);
                        twin.pop_front();
                    }
                    (Err(PipeError::TypeMismatch(_)), Some((false, _))) => {}
                    (Err(PipeError::TimedOut), None) => {}
                    (other, expected) => prop_assert!(false, "{other:?} and not {expected:?}"),
                },
                Op::Poll => prop_assert_eq!(reader.wait_readable(Duration::ZERO).unwrap(), !twin.is_empty()),
            }
        }
        drop(writer);
        for (_, expected) in twin {
            prop_assert_eq!(reader.recv_bytes().unwrap(), expected);
        }
        prop_assert!(reader.recv_bytes().unwrap_err().is_closed());
    }
}

#[test]
fn every_byte_damaged() {
    let name = name("damage");
    damage::each(768 + 128, move |offset, value| {
        let mut a = Connection::create_with_capacity(&name, 128).unwrap();
        a.send(&true).unwrap();
        a.send_bytes(&bytes(30, 1)).unwrap();
        damage::Object::find(&name, &[128, 1]).set(offset, value);
        let mut b = Connection::open(&name).ok();
        let _ = (a.is_closed(), format!("{a:?}"), pagemate::inspect::segment(&*name));
        let _ = a.try_send_bytes(&bytes(3, 2));
        let _ = a.send_bytes_timeout(&bytes(300, 2), Duration::ZERO);
        if let Some(b) = &mut b {
            let _ = b.try_recv::<u8>();
            let _ = b.try_recv::<bool>();
            for _ in 0..8 {
                let _ = b.wait_readable(Duration::ZERO);
                if let Ok(message) = b.try_recv_bytes() {
                    assert!(message.len() <= 128);
                }
                let _ = b.recv_bytes_timeout(Duration::ZERO);
            }
            let _ = b.try_send_bytes(&bytes(90, 1));
            let _ = b.send_timeout(&1u64, Duration::ZERO);
        }
        let _ = a.try_recv::<u64>();
        let _ = a.try_recv_bytes();
    });
}

#[test]
fn damage_during_a_message_in_parts() {
    let name = name("damage-parts");
    // The first part fills the ring, so the next record begins at the start of the ring.
    damage::each(32, move |offset, value| {
        let mut writer = PipeWriter::create(&name).unwrap();
        let mut reader = PipeReader::open(&name).unwrap();
        assert!(writer.send_bytes_timeout(&bytes(100_000, 0), Duration::ZERO).is_err());
        assert!(!reader.wait_readable(Duration::ZERO).unwrap());
        let _ = writer.try_send_bytes(&bytes(10, 0));
        let object = damage::Object::find(&name, &[64 * 1024, 1]);
        object.set(768 + offset, value);
        let _ = reader.wait_readable(Duration::ZERO);
        if let Ok(message) = reader.try_recv_bytes() {
            assert!(message.len() <= 64 * 1024);
        }
    });
}

#[test]
fn killed_sender() {
    let name = name("killed-sender");
    for round in 0..10 {
        let mut reader = PipeReader::create(&name).unwrap();
        let ready = Event::new().unwrap();
        let child = forked::Forked::run(|| {
            let mut writer = PipeWriter::open(&name).unwrap();
            ready.set();
            for seed in 0.. {
                // Some of these go in parts.
                writer.send_bytes(&bytes(seed * 9_001 % 200_000, seed)).unwrap();
            }
            1
        });
        assert!(ready.wait_timeout(LONG));
        let mut received = 0;
        let mut end = None;
        while end.is_none() {
            if received == round * 5 {
                child.kill();
            }
            match reader.recv_bytes_timeout(LONG) {
                Ok(message) => {
                    assert!(message == bytes(received * 9_001 % 200_000, received), "message {received}");
                    received += 1;
                }
                Err(error) => end = Some(error),
            }
        }
        assert!(matches!(end, Some(PipeError::Closed)), "round {round}: {end:?}");
        assert!(received >= round * 5);
        child.wait();
    }
}

#[test]
fn killed_receiver() {
    let name = name("killed-receiver");
    for round in 0..10 {
        let mut a = Connection::create(&name).unwrap();
        let ready = Event::new().unwrap();
        let child = forked::Forked::run(|| {
            let mut b = Connection::open(&name).unwrap();
            ready.set();
            while b.recv_bytes().is_ok() {}
            1
        });
        assert!(ready.wait_timeout(LONG));
        (0..round * 5)
            .for_each(|seed| a.send_bytes_timeout(&bytes(seed * 9_001 % 200_000, seed), LONG).unwrap());
        child.kill();
        let begin = Instant::now();
        let error = (0..).find_map(|seed| a.send_bytes_timeout(&bytes(100_000, seed), LONG).err()).unwrap();
        assert!(error.is_closed(), "round {round}: {error}");
        assert!(a.recv_bytes_timeout(LONG).unwrap_err().is_closed());
        assert!(begin.elapsed() < LONG / 2);
        child.wait();
    }
}

#[test]
fn a_fork_has_no_part_in_its_parents_ends() {
    let (mut a, mut b) = pipe().unwrap();
    a.send(&1u8).unwrap();
    let child = forked::Forked::run(|| {
        let refused = matches!(a.send(&2u8), Err(PipeError::NotInThisProcess))
            && matches!(b.recv::<u8>(), Err(PipeError::NotInThisProcess));
        drop((a, b));
        i32::from(!refused)
    });
    assert_eq!(child.wait(), 0);
}

#[test]
fn an_end_given_to_a_child() {
    let (mut a, mut b) = pipe().unwrap();
    a.send(&Point { x: 1, y: 2 }).unwrap();
    a.send_bytes(b"more").unwrap();
    // A message whose layout was read already is not lost by a failed `recv`.
    assert!(b.recv::<u8>().is_err());
    let child = Process::spawn(
        |mut b: Connection| {
            assert!(b.recv::<Swapped>().unwrap_err().to_string().contains("struct Point"));
            let point = b.recv::<Point>().unwrap();
            b.send(&(point.x + point.y)).unwrap();
            let more = b.recv_bytes().unwrap();
            b.send_bytes(&more).unwrap();
        },
        b,
    );
    assert_eq!(a.recv::<i32>().unwrap(), 3);
    assert_eq!(a.recv_bytes().unwrap(), b"more");
    child.unwrap().join().unwrap();
    assert!(a.recv_bytes().unwrap_err().is_closed());
    assert!(a.send_bytes(b"").unwrap_err().is_closed());
}

#[test]
fn halves_given_to_two_children() {
    let (mut reader, writer) = pipe_one_way_with_capacity(128).unwrap();
    let (mut back, forth) = pipe().unwrap().0.split();
    assert!(back.recv_bytes().unwrap_err().is_closed(), "the other end was dropped");
    drop((back, forth));
    // A message in parts, of which this process has read the first ones.
    let sender = Process::spawn(
        |mut writer: PipeWriter| (0..3).for_each(|seed| writer.send_bytes(&bytes(5_000, seed)).unwrap()),
        writer,
    );
    assert_eq!(reader.recv_bytes().unwrap(), bytes(5_000, 0));
    let _ = reader.wait_readable(Duration::ZERO);
    let receiver = Process::spawn(
        |mut reader: PipeReader| {
            let ok = (1..3).all(|seed| reader.recv_bytes().unwrap() == bytes(5_000, seed));
            ok && reader.recv_bytes().unwrap_err().is_closed()
        },
        reader,
    );
    sender.unwrap().join().unwrap();
    assert!(receiver.unwrap().join().unwrap());
}

#[test]
fn an_end_whose_child_is_killed() {
    let (mut a, b) = pipe().unwrap();
    let child = Process::spawn(
        |mut b: Connection| {
            b.send_bytes(b"ready").unwrap();
            let _ = b.recv_bytes();
        },
        b,
    )
    .unwrap();
    assert_eq!(a.recv_bytes().unwrap(), b"ready");
    child.kill().unwrap();
    assert!(a.recv_bytes_timeout(LONG).unwrap_err().is_closed());
    assert!(child.join().is_err());
}

#[test]
fn a_stopped_end_is_not_dead() {
    let name = name("stopped");
    let mut a = Connection::create_with_capacity(&name, 256).unwrap();
    let child = forked::Forked::run(|| {
        let mut b = Connection::open(&name).unwrap();
        let got = b.recv_bytes_timeout(LONG).unwrap();
        b.send(&1u8).unwrap();
        let more = b.recv_bytes_timeout(LONG).unwrap();
        i32::from(got != bytes(1000, 1) || more != bytes(1000, 2))
    });
    a.send_bytes(&bytes(1000, 1)).unwrap();
    assert_eq!(a.recv::<u8>().unwrap(), 1);
    child.signal(libc::SIGSTOP);
    assert!(a.recv_timeout::<u8>(Duration::from_millis(200)).unwrap_err().is_timed_out());
    // This send is abandoned half-way, so the other end gets the later message.
    assert!(a.send_bytes_timeout(&bytes(900, 3), Duration::from_millis(200)).unwrap_err().is_timed_out());
    assert!(!a.is_closed());
    child.signal(libc::SIGCONT);
    a.send_bytes(&bytes(1000, 2)).unwrap();
    assert_eq!(child.wait(), 0);
    assert!(a.recv::<u8>().unwrap_err().is_closed());
}

#[test]
fn polling_notices_a_death() {
    let name = name("tries");
    let mut a = Connection::create_with_capacity(&name, 128).unwrap();
    let ready = Event::new().unwrap();
    let child = forked::Forked::run(|| {
        let _b = Connection::open(&name).unwrap();
        ready.set();
        i32::from(!Event::new().unwrap().wait())
    });
    assert!(ready.wait_timeout(LONG));
    a.send_bytes(&bytes(100, 1)).unwrap();
    assert!(a.try_send_bytes(&bytes(100, 1)).unwrap_err().is_timed_out());
    assert!(a.try_recv_bytes().unwrap_err().is_timed_out());
    child.kill();
    let begin = Instant::now();
    while a.try_send_bytes(&bytes(100, 1)).unwrap_err().is_timed_out()
        || !a.wait_readable(Duration::ZERO).unwrap()
    {
        assert!(begin.elapsed() < LONG);
    }
    assert!(a.is_closed());
    child.wait();
}
