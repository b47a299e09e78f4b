//! Rings read without receiving, into slices, and as streams of bytes.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;

use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::RecvError;
use pagemate::{spsc, Process};

use crate::support::damage;
use crate::support::forked::Forked;

#[test]
fn a_peek_receives_nothing() {
    let (mut producer, mut consumer) = spsc::<u32>(2).unwrap();
    assert_eq!(consumer.peek(), Err(RecvError::Empty));
    for n in 0..5 {
        producer.send_batch(&[n, n + 10]).unwrap();
        assert_eq!(consumer.peek(), Ok(&n));
        assert_eq!(consumer.peek(), Ok(&n), "and again");
        assert_eq!((consumer.len(), consumer.recv()), (2, Ok(n)));
        assert_eq!(consumer.peek(), Ok(&(n + 10)));
        assert_eq!(consumer.recv(), Ok(n + 10));
    }
    producer.send(1).unwrap();
    drop(producer);
    assert_eq!(consumer.peek(), Ok(&1));
    assert_eq!(consumer.recv(), Ok(1));
    assert_eq!(consumer.peek(), Err(RecvError::Closed));
}

#[test]
fn slices_take_what_fits_and_what_is_there() {
    for capacity in [1, 3, 4, 8] {
        let (mut producer, mut consumer) = spsc::<u64>(capacity).unwrap();
        let (mut sent, mut received) = (0, 0);
        for round in 0..60 {
            let ready = 1 + round % capacity;
            let values: Vec<u64> = (sent..sent + ready as u64).collect();
            producer.send_batch(&values).unwrap();
            sent += ready as u64;
            let room = 1 + round % 5;
            let mut buffer = [u64::MAX; 8];
            let mut uninit = [MaybeUninit::new(u64::MAX); 8];
            let got = if round % 2 == 0 {
                let count = consumer.try_recv_slice(&mut buffer[..room]).unwrap();
                assert!(buffer[count..].iter().all(|value| *value == u64::MAX), "the rest has changed");
                buffer[..count].to_vec()
            } else {
                consumer.try_recv_slice_uninit(&mut uninit[..room]).unwrap().to_vec()
            };
            assert_eq!(got.len(), room.min(ready));
            let rest = consumer.len();
            assert_eq!(rest, ready - got.len());
            let mut all = got;
            if rest > 0 {
                all.extend(&*consumer.recv_slice_uninit(&mut uninit).unwrap());
            }
            assert!(all.into_iter().eq(received..sent));
            received = sent;
        }
        let empty: &mut [u64] = &mut [];
        assert_eq!((consumer.try_recv_slice(empty), consumer.recv_slice(empty)), (Ok(0), Ok(0)));
        assert_eq!(consumer.try_recv_slice(&mut [0]), Err(RecvError::Empty));
        drop(producer);
        assert_eq!(consumer.recv_slice(&mut [0]), Err(RecvError::Closed));
    }
}

#[test]
fn slices_end_before_an_invalid_message() {
    let name = format!("test-spsc_slices-invalid-{}", std::process::id());
    let mut consumer = Consumer::<bool>::create(&name, 8).unwrap();
    let mut producer = Producer::<bool>::open(&name).unwrap();
    producer.send_batch(&[true; 4]).unwrap();
    damage::Object::find(&name, &[8, 1]).set(384 + 2, 2);
    let mut buffer = [false; 8];
    assert_eq!(consumer.try_recv_slice(&mut buffer), Ok(2));
    assert_eq!(consumer.peek(), Err(RecvError::Corrupted));
    assert_eq!(consumer.try_recv_slice(&mut buffer), Ok(1), "the invalid one was dropped");
}

#[test]
fn a_stream_from_a_process() {
    let text: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut producer, consumer) = spsc::<u8>(64).unwrap();
    let read = |mut consumer: Consumer<u8>| {
        let mut all = Vec::new();
        consumer.read_to_end(&mut all).unwrap();
        assert_eq!(consumer.read(&mut [0]).unwrap(), 0, "and again");
        all
    };
    let child = Process::spawn(read, consumer).unwrap();
    producer.write_all(&text).unwrap();
    producer.flush().unwrap();
    assert!(producer.close());
    assert!(child.join().unwrap() == text);
}

#[test]
fn streams_whose_other_end_is_gone_or_elsewhere() {
    let (mut producer, mut consumer) = spsc::<u8>(4).unwrap();
    assert_eq!((producer.write(b"").unwrap(), consumer.read(&mut []).unwrap()), (0, 0));
    assert_eq!(producer.write(b"longer").unwrap(), 4);
    let child = Forked::run(|| i32::from(producer.write(b"x").is_ok() || consumer.read(&mut [0]).is_ok()));
    assert_eq!(child.wait(), 0);
    drop(consumer);
    assert_eq!(producer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}
