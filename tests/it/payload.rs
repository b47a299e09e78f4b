//! Messages of any length: what is sent is received, the quota comes back, and damaged bytes are
//! errors.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pagemate::queue::{Payload, RecvError, SendError};
use pagemate::{inspect, ErrorKind, Manager, Message, Process, Queue, WaitSet};

const LONG: Duration = Duration::from_secs(30);
pub(crate) const UNIT: u64 = 16 << 10;

fn name(what: &str) -> String {
    format!("test-payload-{what}-{}", std::process::id())
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C, align(64))]
struct Wide([u64; 8]);

/// Returns `len` bytes that depend on `seed`.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|index| (seed.wrapping_mul(31).wrapping_add(index as u64 * 7) >> 3) as u8).collect()
}

#[test]
fn every_length_arrives() {
    let queue = Queue::<[u8]>::builder(4).quota(4 << 20).build().unwrap();
    let mut again = Vec::new();
    for len in (0..300).chain([1000, 4096, 8184, 8185, 16_368, 16_369, 65_536, 100_000, 1 << 20]) {
        let message = bytes(len as u64, len);
        queue.send(&message).unwrap();
        queue.try_send(&message).unwrap_or_else(|_| panic!("no room for two of {len} bytes"));
        assert!(queue.recv().unwrap() == message);
        assert_eq!(queue.recv_into(&mut again), Ok(len));
        assert!(again == message);
        if len < 500_000 {
            queue.try_send(&message).unwrap();
            assert!(*queue.recv_ref().unwrap() == *message);
        }
    }
    assert_eq!(queue.try_recv(), Err(RecvError::Empty));
    assert_eq!(queue.try_recv_into(&mut again), Err(RecvError::Empty));
}

#[test]
fn in_order_whether_in_the_slot_or_not() {
    let queue = Queue::<[u32]>::builder(16).quota(4 << 20).build().unwrap();
    let lens = [0, 1, 26, 27, 3000, 5, 100_000, 0, 26];
    for round in 0..20u32 {
        for len in lens {
            queue.send(&vec![round; len]).unwrap();
        }
        for len in lens {
            assert_eq!(queue.recv_ref().unwrap().as_ref(), vec![round; len]);
        }
    }
}

#[test]
fn text() {
    let queue = Queue::<str>::new(4).unwrap();
    let long = "Größe ".repeat(1000);
    for text in ["", "short", &long] {
        queue.send(text).unwrap();
        assert_eq!(queue.recv().unwrap(), text);
        queue.send(text).unwrap();
        assert_eq!(&*queue.recv_ref().unwrap(), text);
        let mut line = queue.loan_from(text).unwrap();
        line.make_ascii_uppercase();
        line.send().unwrap();
        let mut again = String::from("before");
        assert_eq!(queue.recv_into(&mut again), Ok(text.len()));
        assert_eq!(again, text.to_ascii_uppercase());
    }
    queue.send("last").unwrap();
    queue.close();
    assert_eq!(queue.iter().collect::<Result<Vec<_>, _>>(), Ok(vec!["last".to_string()]));
}

#[test]
fn elements_of_any_alignment() {
    let queue = Queue::<[Wide]>::builder(4).quota(1 << 20).build().unwrap();
    for len in [0, 1, 2, 3, 100] {
        let message: Vec<Wide> = (0..len).map(|n| Wide([n; 8])).collect();
        queue.send(&message).unwrap();
        let received = queue.recv_ref().unwrap();
        assert!(received.as_ptr().is_aligned() && *received == *message);
        drop(received);
        queue.send(&message).unwrap();
        assert_eq!(queue.recv().unwrap(), message);
    }
    let units = Queue::<[()]>::new(2).unwrap();
    units.send(&[(); 1_000_000]).unwrap();
    assert_eq!(units.recv().unwrap().len(), 1_000_000);
}

#[test]
fn a_loan_is_written_in_place() {
    let queue = Queue::<[u64]>::builder(4).quota(1 << 20).build().unwrap();
    for len in [0, 3, 13, 14, 5000] {
        queue.loan(len).unwrap().fill_with(|index| index as u64).send().unwrap();
        assert!(queue.recv().unwrap().into_iter().eq(0..len as u64));
        queue.loan(len).unwrap().write_slice(&vec![7; len]).send().unwrap();
        assert!(queue.recv().unwrap() == vec![7; len]);
        let mut zeros = queue.loan(len).unwrap().zeroed();
        zeros.iter_mut().for_each(|element| *element += 1);
        zeros.send().unwrap();
        assert!(queue.recv().unwrap() == vec![1; len]);
        let mut room = queue.loan(len).unwrap();
        room.iter_mut().for_each(|element| _ = element.write(9));
        // SAFETY: every element was written.
        unsafe { room.assume_init() }.unwrap().send().unwrap();
        assert!(queue.recv().unwrap() == vec![9; len]);
        drop(queue.loan(len).unwrap());
        drop(queue.loan(len).unwrap().zeroed());
    }
    assert!(queue.is_empty());
}

#[test]
fn assume_init_checks_the_elements() {
    let queue = Queue::<[Side]>::new(2).unwrap();
    let mut room = queue.loan(200).unwrap();
    // SAFETY: bytes of shared memory, which the room owns; it is checked whether they are values.
    unsafe { room.as_mut_ptr().cast::<u8>().write_bytes(7, 200) };
    // SAFETY: every byte was written.
    let mut room = unsafe { room.assume_init() }.unwrap_err();
    room.iter_mut().for_each(|side| _ = side.write(Side::Sell));
    // SAFETY: as above.
    unsafe { room.assume_init() }.unwrap().send().unwrap();
    assert_eq!(queue.recv().unwrap(), [Side::Sell; 200]);
}

#[test]
#[should_panic(expected = "room for 3 elements, not 2")]
fn a_slice_of_another_length_does_not_fit() {
    let queue = Queue::<[u8]>::new(1).unwrap();
    drop(queue.loan(3).unwrap().write_slice(&[1, 2]));
}

#[test]
fn a_quota_that_is_used_up_is_a_full_queue() {
    let queue = Queue::<[u8]>::builder(64).quota(8 * UNIT).build().unwrap();
    let message = bytes(1, UNIT as usize - 100);
    let mut sent = 0;
    while queue.try_send(&message).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 8);
    assert!(matches!(queue.try_loan(20_000).map(drop), Err(SendError::Full(()))));
    assert!(queue.send_timeout(&message, Duration::from_millis(5)).unwrap_err().is_full());
    queue.try_send(b"still fits into a slot").unwrap();
    assert!(queue.recv().unwrap() == message);
    queue.try_send(&message).unwrap();
}

#[test]
fn a_sender_waits_for_memory_and_for_the_end() {
    let queue = Queue::<[u8]>::builder(64).quota(4 * UNIT).build().unwrap();
    let message = bytes(2, 60_000);
    queue.send(&message).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| queue.send_timeout(&message, LONG));
        assert!(queue.recv().unwrap() == message);
        waiting.join().unwrap().unwrap();
        let waiting = scope.spawn(|| queue.send_timeout(&message, LONG));
        queue.close();
        assert_eq!(waiting.join().unwrap().unwrap_err(), SendError::Closed(&message[..]));
    });
}

#[test]
fn too_large_states_both_numbers() {
    let queue = Queue::<[u8]>::builder(2).quota(4 * UNIT).build().unwrap();
    let message = bytes(3, 5 * UNIT as usize);
    let Err(SendError::TooLarge(back, excess)) = queue.send(&message) else { panic!("sent") };
    assert_eq!((back.len(), excess.needed(), excess.quota()), (message.len(), 6 * UNIT, 4 * UNIT));
    let error = pagemate::Error::from(queue.try_send(&message).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "the message takes 98304 bytes, and the quota is 65536 bytes");
    assert!(matches!(queue.loan(usize::MAX).map(drop), Err(SendError::TooLarge((), _))));
    let none = Queue::<str>::builder(2).quota(0).inline(10).build().unwrap();
    none.send(&"x".repeat(104)).unwrap();
    assert!(
        matches!(none.send(&"x".repeat(105)), Err(SendError::TooLarge(_, excess)) if excess.quota() == 0)
    );
    assert!(Queue::<str>::builder(2).quota(u64::MAX).build().is_err());
    assert!(Queue::<str>::builder(2).inline(usize::MAX).build().is_err());
}

#[test]
fn sizes_that_change_find_memory() {
    let queue = Queue::<[u8]>::builder(4096).quota(64 * UNIT).inline(0).build().unwrap();
    // Small ones fill part of the arena, then one takes nearly all of it.
    for _ in 0..5 {
        for len in [120, 1000, 5000, 20_000, 120_000] {
            let message = bytes(4, len);
            let mut count = 0;
            while queue.try_send(&message).is_ok() {
                count += 1;
            }
            assert!(count * len * 2 > 64 * UNIT as usize || count == 4096, "only {count} of {len} bytes");
            (0..count).for_each(|_| assert!(queue.recv_ref().unwrap().len() == len));
        }
        let whole = bytes(5, 63 * UNIT as usize);
        queue.try_send(&whole).unwrap();
        assert!(queue.recv().unwrap() == whole);
    }
}

#[test]
fn only_a_part_was_carved_before() {
    let queue = Queue::<[u8]>::builder(64).quota(64 * UNIT).build().unwrap();
    (0..40).for_each(|_| queue.try_send(&bytes(6, 16_000)).unwrap());
    (0..40).for_each(|_| drop(queue.recv_ref().unwrap()));
    queue.try_send(&bytes(6, 55 * UNIT as usize)).unwrap();
}

/// Sends messages of random length and receives them; at the end the arena is free.
fn exchange(count: u64, longest: usize) {
    let queue = Queue::<[u8]>::builder(32).quota(64 << 20).build().unwrap();
    let there = queue.clone();
    let sender = std::thread::spawn(move || {
        let mut random = 1u64;
        for number in 0..count {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = (random >> 33) as usize % longest;
            let mut loan = there.loan(len).unwrap().zeroed_ends();
            if let [first, .., last] = &mut loan[..] {
                (*first, *last) = (number as u8, !number as u8);
            }
            loan.send().unwrap();
        }
    });
    for number in 0..count {
        let message = queue.recv_ref().unwrap();
        if let [first, .., last] = &message[..] {
            assert_eq!((*first, *last), (number as u8, !number as u8));
        }
    }
    sender.join().unwrap();
    assert_eq!(queue.quota_in_use(), 0);
    assert!(queue.try_send(&bytes(7, 50 << 20)).is_ok(), "the arena is not whole");
}

/// A room whose bytes need not be written: any bytes are bytes.
trait AnyBytes<'a> {
    fn zeroed_ends(self) -> pagemate::queue::Loan<'a, [u8]>;
}

impl<'a> AnyBytes<'a> for pagemate::queue::Room<'a, u8> {
    fn zeroed_ends(self) -> pagemate::queue::Loan<'a, [u8]> {
        // SAFETY: the bytes are those of a mapping, which are initialised.
        unsafe { self.assume_init() }.unwrap()
    }
}

#[test]
fn random_lengths_leave_the_arena_free() {
    let count = std::env::var("PAYLOAD_MESSAGES").ok().and_then(|count| count.parse().ok());
    exchange(count.unwrap_or(100_000), 1 << 20);
}

#[test]
fn the_oldest_message_is_replaced() {
    let queue = Queue::<[u8]>::builder(4).quota(8 * UNIT).build().unwrap();
    let mut next = 0u8;
    let mut expected = std::collections::VecDeque::new();
    for len in [10, 20_000, 40_000, 100, 90_000, 90_000, 0, 5, 7, 9, 60_000, 100_000] {
        next += 1;
        let mut replaced = Vec::new();
        queue.force_send(&vec![next; len], |oldest| replaced.push(oldest)).unwrap();
        for oldest in replaced {
            assert_eq!(Some(oldest), expected.pop_front());
        }
        expected.push_back(vec![next; len]);
        assert!(queue.len() == expected.len());
    }
    assert!(queue.try_iter().map(Result::unwrap).eq(expected));
    assert!(queue.lost() == 0 && queue.try_loan(7 * UNIT as usize).is_ok());
}

#[test]
fn a_receiver_keeps_its_memory() {
    let queue = Queue::<[u8]>::builder(2).quota(8 * UNIT).build().unwrap();
    let first = bytes(8, 20_000);
    queue.send(&first).unwrap();
    let kept = queue.recv_ref().unwrap();
    for round in 0..20 {
        let message = bytes(round, 15_000);
        queue.send(&message).unwrap();
        assert!(queue.recv().unwrap() == message);
    }
    assert!(*kept == *first);
}

#[test]
fn a_late_loan_moves_with_its_message() {
    let queue = Queue::<[u8]>::builder(3).quota(8 * UNIT).build().unwrap();
    for len in [5, 20_000] {
        let loan = queue.loan(len).unwrap().write_slice(&bytes(9, len));
        queue.send(b"later").unwrap();
        assert_eq!(queue.recv().unwrap(), b"later"); // the loan's place is skipped
        loan.send().unwrap();
        assert!(queue.recv().unwrap() == bytes(9, len));
        // And one for which there is no room: it is given back, and sent later.
        let loan = queue.loan(len).unwrap().write_slice(&bytes(10, len));
        queue.send(b"1").unwrap();
        assert_eq!(queue.recv().unwrap(), b"1");
        while queue.try_send(b"2").is_ok() {}
        let loan = match loan.try_send() {
            Ok(()) => continue,
            Err(error) => error.into_inner(),
        };
        assert!(*loan == *bytes(10, len));
        queue.try_iter().for_each(|message| assert_eq!(message.unwrap(), b"2"));
        loan.send().unwrap();
        assert!(queue.recv().unwrap() == bytes(10, len));
    }
    queue.try_iter().for_each(|message| assert!(message.is_ok()));
    assert!(queue.try_loan(7 * UNIT as usize).is_ok(), "something was not freed");
}

#[test]
fn types_are_checked() {
    let name = name("types");
    let _queue = Queue::<[u32]>::create(name.as_str(), 4).unwrap();
    let error = Queue::<[u64]>::open(name.as_str()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("[u32]") && error.to_string().contains("[u64]"), "{error}");
    for error in [Queue::<u32>::open(name.as_str()).map(drop), Queue::<str>::open(name.as_str()).map(drop)] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TypeMismatch);
    }
    assert!(Queue::<[u32]>::open(name.as_str()).is_ok());
}

#[test]
fn seen_from_outside() {
    let name = name("outside");
    let queue = Queue::<str>::builder(4).quota(UNIT).create(name.as_str()).unwrap();
    let long = "y".repeat(1000);
    queue.send(&long).unwrap();
    let segment = inspect::segment(name.as_str()).unwrap();
    let object = &segment.objects[0];
    assert_eq!((object.info.schema.as_str(), object.head.as_deref()), ("str", Some(long.as_bytes())));
    for expected in [("inline", "104"), ("quota", "65536"), ("quota in use", "1016")] {
        assert!(object.state.iter().any(|(label, value)| (*label, value.as_str()) == expected), "{object:?}");
    }
    let of = inspect::ItemType::from_text("[u16]");
    assert_eq!((of.to_string(), of.render(&[1, 0, 44, 1])), ("[u16]".into(), "[1, 300]".into()));
    assert!(matches!(inspect::ItemType::from_text("[u8; 4]"), inspect::ItemType::Message(_)));
}

fn echo((from, to): (Queue<[u8]>, Queue<str>)) -> u64 {
    let mut count = 0;
    for message in &from {
        to.send(std::str::from_utf8(&message.unwrap()).unwrap()).unwrap();
        count += 1;
    }
    count
}

#[test]
fn through_a_child_a_manager_and_a_wait_set() {
    let manager = Manager::new().unwrap();
    let there = manager.queue::<[u8]>("there", 8).unwrap();
    let back = Queue::<str>::builder(8).quota(1 << 20).build().unwrap();
    let child = Process::spawn(echo, (there.clone(), back.clone())).unwrap();
    let mut set = WaitSet::new();
    set.add(5, &back).unwrap();
    for len in [3, 500, 100_000] {
        there.send("z".repeat(len).as_bytes()).unwrap();
        assert_eq!(set.wait_timeout(LONG).unwrap(), [5]);
        assert_eq!(back.recv().unwrap().len(), len);
    }
    there.close();
    assert_eq!(child.join().unwrap(), 3);
}

#[test]
fn many_senders_and_receivers() {
    let queue = Queue::<[u64]>::builder(16).quota(2 << 20).build().unwrap();
    let (per_sender, done) = (if cfg!(debug_assertions) { 2_000u64 } else { 20_000 }, AtomicBool::new(false));
    let sum = std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut sum = 0;
                    for message in &queue {
                        let message = message.unwrap();
                        assert!(message.iter().all(|n| *n == message[0]));
                        sum += message[0];
                    }
                    sum
                })
            })
            .collect();
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let queue = &queue;
                scope.spawn(move || {
                    for n in 0..per_sender {
                        let len = 1 + (n * (7 + sender)) as usize % 4000;
                        queue.send(&vec![n; len]).unwrap();
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, Relaxed);
        queue.close();
        receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum::<u64>()
    });
    assert_eq!(sum, 3 * (0..per_sender).sum::<u64>());
    assert!(done.load(Relaxed));
}

#[test]
fn generic_code_sends_anything() {
    fn through<T: Payload + ?Sized>(queue: &Queue<T>, message: T::Sent<'_>) -> T::Owned {
        queue.varying().try_send(message).unwrap_or_else(|error| panic!("{error}"));
        queue.varying().try_recv().unwrap()
    }
    assert_eq!(through(&Queue::<u8>::new(1).unwrap(), 7), 7);
    assert_eq!(through(&Queue::<[u8]>::new(1).unwrap(), &[1, 2]), [1, 2]);
    assert_eq!(through(&Queue::<str>::new(1).unwrap(), "text"), "text");
}

/// Programs need not name the type of their messages.
#[test]
fn the_type_of_messages_is_inferred() {
    let queue = Queue::new(1).unwrap();
    queue.send(7_u16).unwrap();
    let (mut producer, mut consumer) = pagemate::spsc(1).unwrap();
    producer.send(queue.recv().unwrap()).unwrap();
    assert_eq!(consumer.recv().unwrap(), 7);
    let queue = Queue::new(1).unwrap();
    assert!(queue.try_recv().is_err());
    let empty: Result<i32, _> = queue.try_recv();
    assert!(empty.is_err());
}
