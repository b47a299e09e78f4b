//! Iterators over messages end when everything was received, and for no other reason.

use std::time::Duration;

use pagemate::pipe::pipe_one_way_with_capacity;
use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::RecvError;
use pagemate::{spsc, Message, Queue};

use crate::support::damage;
use crate::support::forked;

const LONG: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Tick {
    size: u32,
    is_last: bool,
    _pad: [u8; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

fn tick(size: u32) -> Tick {
    Tick { size, is_last: false, _pad: [0; 3] }
}

fn name(what: &str) -> String {
    format!("test-iter-{what}-{}", std::process::id())
}

#[test]
fn a_queue_with_a_damaged_message_gives_no_sum() {
    let name = name("queue");
    let queue = Queue::<Tick>::create(&name, 8).unwrap();
    (1..=5).for_each(|size| queue.send(tick(size)).unwrap());
    queue.close();
    // The bool of the third message: 640 bytes of control, 128 for each slot, 8 for the word.
    damage::Object::find(&name, &[8, 128, 8, 8]).set(640 + 2 * 128 + 8 + 4, 2);
    let sum: Result<u32, RecvError> = queue.iter().map(|tick| Ok(tick?.size)).sum();
    assert_eq!(sum, Err(RecvError::Corrupted));
    assert_eq!(queue.iter().map(|tick| tick.unwrap().size).collect::<Vec<_>>(), [4, 5]);
    assert!(queue.iter().next().is_none());
}

#[test]
fn an_error_is_the_last_item() {
    let name = name("last");
    let queue = Queue::<Tick>::create(&name, 4).unwrap();
    (1..=3).for_each(|size| queue.send(tick(size)).unwrap());
    damage::Object::find(&name, &[4, 128, 8, 8]).set(640 + 8 + 4, 2);
    let mut tries = queue.try_iter();
    assert_eq!(tries.next(), Some(Err(RecvError::Corrupted)));
    assert_eq!((tries.next(), tries.next()), (None, None));
    assert!(
        queue.try_iter().eq([2, 3].map(|size| Ok(tick(size)))),
        "and then it is empty, which is no error"
    );
}

#[test]
fn a_ring_with_a_damaged_message_gives_no_sum() {
    let name = name("ring");
    let mut consumer = Consumer::<Tick>::create(&name, 8).unwrap();
    let mut producer = Producer::<Tick>::open(&name).unwrap();
    (1..=5).for_each(|size| producer.send(tick(size)).unwrap());
    damage::Object::find(&name, &[8, 8]).set(384 + 2 * 8 + 4, 2);
    drop(producer);
    let sum: Result<u32, RecvError> = consumer.iter().map(|tick| Ok(tick?.size)).sum();
    assert_eq!(sum, Err(RecvError::Corrupted));
    assert!(consumer.iter().eq([4, 5].map(|size| Ok(tick(size)))), "what follows can be received");
}

#[test]
fn a_forked_child_is_told_that_the_ring_is_not_its_own() {
    let (mut producer, mut consumer) = spsc::<u64>(4).unwrap();
    producer.send(1).unwrap();
    drop(producer);
    let child = forked::Forked::run(|| {
        let items: Vec<_> = consumer.iter().take(3).collect();
        i32::from(!matches!(items[..], [Err(RecvError::NotInThisProcess(_))]))
    });
    assert_eq!(child.wait(), 0);
    assert!(consumer.iter().eq([Ok(1)]));
}

/// All ways to receive from a ring whose first message is invalid and whose second is valid.
#[test]
fn what_nobody_has_written_blocks_nobody() {
    type Way = fn(&mut Consumer<Side>) -> Result<Side, RecvError>;
    let ways: [Way; 6] = [
        |consumer| consumer.try_recv(),
        |consumer| consumer.recv(),
        |consumer| consumer.recv_timeout(LONG),
        |consumer| consumer.try_recv_ref().map(|side| *side),
        |consumer| consumer.try_chunk(8).map(|chunk| chunk.as_slices().0[0]),
        |consumer| {
            let mut all = Vec::new();
            consumer.recv_batch(&mut all, 8).map(|_| all[0])
        },
    ];
    for way in ways {
        let (mut producer, mut consumer) = spsc::<Side>(8).unwrap();
        producer.try_chunk(1).unwrap().commit(1);
        producer.send(Side::Sell).unwrap();
        assert_eq!(way(&mut consumer), Err(RecvError::Corrupted));
        assert_eq!(way(&mut consumer), Ok(Side::Sell));
        assert_eq!(consumer.try_recv(), Err(RecvError::Empty));
    }
}

#[test]
fn a_message_in_parts_goes_into_the_buffer() {
    for before in [false, true] {
        let (mut reader, mut writer) = pipe_one_way_with_capacity(256).unwrap();
        let message: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..4).for_each(|_| writer.send_bytes(&message).unwrap()));
            let mut buffer = vec![0; message.len()];
            for _ in 0..2 {
                // Some of the parts have been read already, before any buffer for them is known.
                assert!(!before || reader.wait_readable(LONG).unwrap());
                assert_eq!(reader.recv_bytes_into(&mut buffer).unwrap(), message.len());
                assert!(buffer == message);
            }
            let short = reader.recv_bytes_into(&mut buffer[..9_999]);
            assert!(matches!(&short, Err(pagemate::pipe::PipeError::BufferTooShort(all)) if *all == message));
            assert_eq!(reader.recv_bytes_into(&mut buffer).unwrap(), message.len());
        });
        drop(writer);
        assert!(matches!(reader.recv_bytes_into(&mut [0; 8]), Err(pagemate::pipe::PipeError::Closed)));
    }
}
