//! Topics whose messages differ in length: what is published is received, by copy and in place; the
//! oldest messages make room for new ones, and their memory comes back.

use std::time::Duration;

use pagemate::queue::topic::{From, Policy, Publisher, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::{inspect, ErrorKind, Event, Manager, Message, Process, Topic, WaitSet};

use crate::payload::{bytes, UNIT};
use crate::support::{damage, until, Random};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(5);

fn name(what: &str) -> String {
    format!("test-topic-varied-{what}-{}", std::process::id())
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

/// Receives what is there. Each message is `[n; len]`, where `n` is the number of messages before
/// it.
fn drain(subscriber: &mut Subscriber<[u64]>) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let (position, lost) = (subscriber.position(), subscriber.lost());
        match subscriber.try_recv() {
            Ok(message) => {
                assert!(message.iter().all(|n| *n == position), "{:?} at {position}", message.first());
                assert_eq!(subscriber.position(), position + 1);
                all.push(position);
            }
            Err(RecvError::Lagged(count)) => {
                assert_eq!((subscriber.lost(), subscriber.position()), (lost + count, position + count));
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
fn every_length_arrives() {
    let topic = Topic::<[u8]>::builder(4).quota(4 << 20).build().unwrap();
    let (publisher, mut again) = (topic.publisher(), Vec::new());
    let mut subscriber = topic.subscribe(From::Latest).unwrap();
    for len in (0..300).chain([1000, 4096, 8184, 8185, 16_368, 16_369, 65_536, 100_000, 1 << 20]) {
        let message = bytes(len as u64, len);
        publisher.publish(&message).unwrap();
        publisher.try_publish(&message).unwrap();
        assert!(subscriber.recv().unwrap() == message);
        assert_eq!(subscriber.recv_into(&mut again), Ok(len));
        assert!(again == message);
        publisher.publish(&message).unwrap();
        assert!(*subscriber.recv_ref().unwrap() == *message);
    }
    assert_eq!(subscriber.try_recv(), Err(RecvError::Empty));
    assert_eq!(subscriber.try_recv_into(&mut again), Err(RecvError::Empty));
    assert_eq!((subscriber.lost(), again.len()), (0, 0));
}

#[test]
fn text_in_two_processes() {
    fn echo((topic, back, ready): (Topic<str>, Topic<str>, Event)) {
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        ready.set();
        let publisher = back.publisher();
        for line in subscriber.iter() {
            publisher.publish(&line.unwrap().to_uppercase()).unwrap();
        }
        back.close();
    }
    let [topic, back] = [(); 2].map(|()| Topic::<str>::new(4).unwrap());
    let ready = Event::new().unwrap();
    let child = Process::spawn(echo, (topic.clone(), back.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    let (publisher, mut subscriber) = (topic.publisher(), back.subscribe(From::Latest).unwrap());
    for round in 0..50 {
        for text in ["", "short", &"long ".repeat(1 + round * 20)] {
            publisher.publish(text).unwrap();
            assert_eq!(subscriber.recv_timeout(LONG).unwrap(), text.to_uppercase());
        }
    }
    topic.close();
    child.join().unwrap();
    assert_eq!(subscriber.recv_timeout(LONG), Err(RecvError::Closed));
}

#[test]
fn elements_of_any_alignment() {
    let topic = Topic::<[Wide]>::builder(4).quota(1 << 20).build().unwrap();
    let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
    for len in [0, 1, 2, 3, 100] {
        let message: Vec<Wide> = (0..len).map(|n| Wide([n; 8])).collect();
        publisher.publish(&message).unwrap();
        publisher.publish(&message).unwrap();
        let received = subscriber.recv_ref().unwrap();
        assert!(received.as_ptr().is_aligned() && *received == *message);
        drop(received);
        assert_eq!(subscriber.recv().unwrap(), message);
    }
    let units = Topic::<[()]>::new(2).unwrap();
    let mut subscriber = units.subscribe(From::Latest).unwrap();
    units.publisher().publish(&[(); 1_000_000]).unwrap();
    assert_eq!(subscriber.recv().unwrap().len(), 1_000_000);
}

#[test]
fn a_loan_is_written_in_place() {
    let topic = Topic::<[u64]>::builder(4).quota(1 << 20).build().unwrap();
    let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
    for len in [0, 3, 12, 13, 5000] {
        publisher.loan(len).unwrap().fill_with(|index| index as u64).publish().unwrap();
        assert!(subscriber.recv().unwrap().into_iter().eq(0..len as u64));
        publisher.loan(len).unwrap().write_slice(&vec![7; len]).try_publish().unwrap();
        assert!(subscriber.recv().unwrap() == vec![7; len]);
        let mut zeros = publisher.try_loan(len).unwrap().zeroed();
        zeros.iter_mut().for_each(|element| *element += 1);
        zeros.publish_timeout(LONG).unwrap();
        assert!(subscriber.recv().unwrap() == vec![1; len]);
        let mut room = publisher.loan_timeout(len, LONG).unwrap();
        room.iter_mut().for_each(|element| _ = element.write(9));
        // SAFETY: every element was written.
        unsafe { room.assume_init() }.unwrap().publish().unwrap();
        assert!(subscriber.recv().unwrap() == vec![9; len]);
        drop(publisher.loan(len).unwrap());
        drop(publisher.loan_from(&vec![3; len]).unwrap());
    }
    assert_eq!(subscriber.try_recv(), Err(RecvError::Empty));
    let sides = Topic::<[Side]>::new(2).unwrap();
    let (publisher, mut subscriber) = (sides.publisher(), sides.subscribe(From::Latest).unwrap());
    let mut room = publisher.loan(200).unwrap();
    // SAFETY: bytes of shared memory, which the room owns; it is checked whether they are values.
    unsafe { room.as_mut_ptr().cast::<u8>().write_bytes(7, 200) };
    // SAFETY: every byte was written.
    let mut room = unsafe { room.assume_init() }.unwrap_err();
    room.iter_mut().for_each(|side| _ = side.write(Side::Sell));
    // SAFETY: as above.
    unsafe { room.assume_init() }.unwrap().publish().unwrap();
    assert_eq!(subscriber.recv().unwrap(), [Side::Sell; 200]);
}

#[test]
fn a_loan_that_is_passed_moves_with_its_block() {
    for len in [3, 5000] {
        let topic = Topic::<[u64]>::builder(4).quota(16 * UNIT).build().unwrap();
        let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
        let loan = publisher.loan(len).unwrap().fill_with(|_| 7);
        publisher.publish(&[1]).unwrap();
        assert_eq!(subscriber.recv(), Ok(vec![1]));
        loan.publish().unwrap();
        assert_eq!(subscriber.recv(), Ok(vec![7; len]));
        let loan = publisher.loan(len).unwrap().fill_with(|_| 8);
        (0..20).for_each(|_| publisher.publish(&[2]).unwrap());
        let mut late = topic.subscribe(From::Latest).unwrap();
        loan.publish().unwrap();
        assert_eq!(late.recv(), Ok(vec![8; len]));
        let loan = publisher.loan(len).unwrap().fill_with(|_| 9);
        publisher.publish(&[3]).unwrap();
        assert_eq!(late.recv(), Ok(vec![3]));
        topic.close();
        let Err(SendError::Closed(loan)) = loan.publish() else { panic!("published") };
        assert_eq!(*loan, *vec![9; len]);
        drop(loan);
        drop(late);
    }
}

#[test]
fn overwriting_gives_the_memory_back() {
    let topic = Topic::<[u64]>::builder(2).quota(64 * UNIT).build().unwrap();
    let publisher = topic.publisher();
    for n in 0..100 {
        publisher.publish(&vec![n; 1500]).unwrap();
        assert!(topic.quota_in_use() <= 5 * UNIT, "five slots");
    }
    (100..105).for_each(|n| publisher.publish(&[n]).unwrap());
    assert_eq!((topic.quota_in_use(), topic.quota()), (0, 64 * UNIT));
}

#[test]
fn the_oldest_messages_make_room() {
    for policy in [Policy::Block, Policy::Fail, Policy::Evict] {
        let topic = Topic::<[u64]>::builder(16).quota(8 * UNIT).policy(policy).build().unwrap();
        let publisher = topic.publisher();
        let mut slow = topic.subscribe(From::Latest).unwrap();
        // 2,000 words take a unit.
        (0..12).for_each(|n| publisher.try_publish(&vec![n; 2000]).unwrap());
        assert_eq!((topic.quota_in_use(), slow.lag()), (8 * 16_368, 8));
        assert_eq!(slow.try_recv(), Err(RecvError::Lagged(4)));
        assert_eq!(drain(&mut slow), (4..12).collect::<Vec<_>>());
        // One takes the memory of four, and short ones none.
        publisher.try_publish(&[12]).unwrap();
        publisher.try_publish(&vec![13; 8000]).unwrap();
        let mut late = topic.subscribe(From::Earliest).unwrap();
        assert_eq!((late.position(), drain(&mut late)), (8, vec![8, 9, 10, 11, 12, 13]));
        let mut late = topic.subscribe(From::Position(2)).unwrap();
        assert_eq!(late.try_recv(), Err(RecvError::Lagged(6)));
        assert_eq!(drain(&mut slow), [12, 13]);
        assert_eq!(slow.lost(), 4);
        // One takes everything.
        publisher.try_publish(&vec![14; 16_000]).unwrap();
        assert_eq!(drain(&mut topic.subscribe(From::Earliest).unwrap()), [14]);
        assert_eq!(drain(&mut topic.subscribe(From::Last(2)).unwrap()), [14]);
    }
}

#[test]
fn too_large_states_both_numbers() {
    let topic = Topic::<[u8]>::builder(2).quota(4 * UNIT).build().unwrap();
    let (publisher, message) = (topic.publisher(), bytes(3, 5 * UNIT as usize));
    let Err(SendError::TooLarge(back, excess)) = publisher.publish(&message) else { panic!("sent") };
    assert_eq!((back.len(), excess.needed(), excess.quota()), (message.len(), 6 * UNIT, 4 * UNIT));
    assert!(matches!(publisher.loan(usize::MAX).map(drop), Err(SendError::TooLarge((), _))));
    let none = Topic::<str>::builder(2).quota(0).inline(10).build().unwrap();
    none.publisher().publish(&"x".repeat(96)).unwrap();
    assert!(matches!(none.publisher().publish(&"x".repeat(97)), Err(SendError::TooLarge(..))));
    let wide = Topic::<str>::builder(2).quota(0).inline(97).build().unwrap();
    wide.publisher().publish(&"x".repeat(96 + 128)).unwrap();
    for error in [
        Topic::<str>::builder(2).quota(u64::MAX).build().unwrap_err(),
        Topic::<str>::builder(2).inline(usize::MAX).build().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_message_in_place_keeps_its_memory() {
    let topic = Topic::<[u64]>::builder(16).quota(8 * UNIT).build().unwrap();
    let publisher = topic.publisher();
    let mut all: Vec<_> = (0..4).map(|_| topic.subscribe(From::Latest).unwrap()).collect();
    (0..4).for_each(|n| publisher.publish(&vec![n; 2000]).unwrap());
    let held: Vec<_> = all
        .iter_mut()
        .enumerate()
        .map(|(skip, subscriber)| {
            (0..skip).for_each(|_| _ = subscriber.recv().unwrap());
            subscriber.recv_ref().unwrap()
        })
        .collect();
    for n in 4..200 {
        publisher.try_publish(&vec![n; 2000]).unwrap();
        for (index, message) in held.iter().enumerate() {
            assert!(message.len() == 2000 && message.iter().all(|n| *n == index as u64), "round {n}");
        }
    }
    assert!(publisher.try_publish(&vec![0; 9000]).unwrap_err().is_full(), "four of eight units are held");
    assert!(publisher.publish(&vec![0; 9000]).unwrap_err().is_full());
    publisher.try_publish(&[200]).unwrap();
    drop(held);
    publisher.try_publish(&vec![201; 16_000]).unwrap();
    for subscriber in &mut all {
        assert!(matches!(subscriber.try_recv(), Err(RecvError::Lagged(_))));
        assert_eq!(drain(subscriber), [201]);
    }
}

#[test]
fn loans_keep_their_memory() {
    let topic = Topic::<[u64]>::builder(16).quota(8 * UNIT).build().unwrap();
    let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
    let loans: Vec<_> = (0..6).map(|n| publisher.try_loan(2000).unwrap().fill_with(|_| 1000 + n)).collect();
    for n in 0..50 {
        publisher.try_publish(&vec![n; 2000]).unwrap();
    }
    assert_eq!(subscriber.try_recv(), Err(RecvError::Lagged(48)));
    assert_eq!(subscriber.recv().unwrap()[0], 48);
    assert_eq!(subscriber.recv().unwrap()[0], 49);
    assert!(publisher.try_publish(&vec![0; 5000]).unwrap_err().is_full());
    for (n, loan) in loans.into_iter().enumerate() {
        loan.try_publish().unwrap();
        assert!(subscriber.try_recv().unwrap() == vec![1000 + n as u64; 2000]);
    }
}

/// Publishes long messages from `next` on until there is no memory. Returns the next.
fn fill(publisher: &Publisher<[u64]>, next: u64) -> u64 {
    (next..).find(|n| publisher.try_publish(&vec![*n; 2000]).is_err()).unwrap()
}

#[test]
fn publishers_wait_for_memory() {
    for policy in [Policy::Block, Policy::Fail] {
        let topic = Topic::<[u64]>::builder(16).quota(8 * UNIT).policy(policy).build().unwrap();
        let publisher = topic.publisher();
        let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let mut lossy = topic.subscribe(From::Latest).unwrap();
        let mut next = 0;
        for round in 0..30 {
            next = fill(&publisher, next);
            assert_eq!((lossless.lag(), lossy.lost()), (8, 0), "round {round}");
            let message = vec![next; 2000];
            let error = publisher.publish_timeout(&message, SHORT).unwrap_err();
            match policy {
                Policy::Block => assert!(matches!(error, SendError::Full(_))),
                _ => assert!(
                    matches!(error, SendError::Lagging(_, laggard) if laggard.pid() == std::process::id())
                ),
            }
            assert!(publisher.try_loan(16_000).is_err());
            let count = 1 + round % 8;
            for n in next - 8..next - 8 + count {
                match round % 2 {
                    0 => assert!(lossless.recv().unwrap() == vec![n; 2000]),
                    _ => assert!(*lossless.recv_ref().unwrap() == *vec![n; 2000]),
                }
            }
            assert_eq!(drain(&mut lossy).last(), Some(&(next - 1)));
        }
        drop(lossless);
        (next..next + 50).for_each(|n| publisher.try_publish(&vec![n; 2000]).unwrap());
    }
}

#[test]
fn publish_sleeps_until_memory_is_received() {
    for in_place in [false, true] {
        let topic = Topic::<[u64]>::builder(64).quota(8 * UNIT).build().unwrap();
        let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
        let publisher = topic.publisher();
        std::thread::scope(|scope| {
            let publisher = &publisher;
            let threads: Vec<_> = [10, 2000, 7000]
                .map(|len| {
                    scope.spawn(move || (0..100).for_each(|n| publisher.publish(&vec![n; len]).unwrap()))
                })
                .into_iter()
                .collect();
            for n in 0..300 {
                if n % 50 == 0 {
                    until("publishers sleep", || format!("{topic:?}").contains("publishers_wait: true"));
                }
                match in_place {
                    false => _ = lossless.recv_timeout(LONG).unwrap(),
                    true => _ = lossless.recv_ref_timeout(LONG).unwrap().len(),
                }
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!((lossless.position(), lossless.lost()), (300, 0));
    }
}

#[test]
fn a_laggard_that_keeps_memory_is_evicted() {
    let topic = Topic::<[u64]>::builder(16).quota(8 * UNIT).policy(Policy::Evict).build().unwrap();
    let publisher = topic.publisher();
    let mut lossless = topic.subscribe_lossless(From::Latest).unwrap();
    let mut good = topic.subscribe_lossless(From::Latest).unwrap();
    for n in 0..12 {
        publisher.publish_timeout(&vec![n; 2000], SHORT).unwrap();
        assert_eq!(drain(&mut good), [n]);
        assert_eq!(lossless.is_lossless(), n < 8);
    }
    assert_eq!(lossless.try_recv(), Err(RecvError::Lagged(4)));
    assert_eq!(drain(&mut lossless), (4..12).collect::<Vec<_>>());
    assert!(good.is_lossless() && good.lost() == 0);
}

#[test]
fn a_lossless_subscriber_that_dies_gives_memory_back() {
    fn idle((topic, ready): (Topic<[u64]>, Event)) {
        let mut subscriber = topic.subscribe_lossless(From::Latest).unwrap();
        ready.set();
        let _first = subscriber.recv_ref();
        std::thread::sleep(LONG);
    }
    let topic = Topic::<[u64]>::builder(16).quota(8 * UNIT).build().unwrap();
    let (publisher, ready) = (topic.publisher(), Event::new().unwrap());
    let child = Process::spawn(idle, (topic.clone(), ready.clone())).unwrap();
    assert!(ready.wait_timeout(LONG));
    let next = fill(&publisher, 0);
    child.kill().unwrap();
    assert!(child.join().is_err());
    publisher.publish_timeout(&vec![next; 16_000], LONG).unwrap();
    assert_eq!(drain(&mut topic.subscribe(From::Earliest).unwrap()), [next]);
}

#[test]
fn deaths_give_memory_back() {
    fn hold((topic, deed, ready): (Topic<[u64]>, u8, Event)) {
        let publisher = topic.publisher();
        let mut subscriber = topic.subscribe(From::Earliest).unwrap();
        match deed {
            0 => {
                let _loan = publisher.loan(5000).unwrap().zeroed();
                ready.set();
                std::thread::sleep(LONG);
            }
            1 => {
                let _message = subscriber.recv_ref().unwrap();
                ready.set();
                std::thread::sleep(LONG);
            }
            _ => {
                ready.set();
                loop {
                    publisher.publish(&[7; 5000]).unwrap();
                }
            }
        }
    }
    for deed in [0, 1, 2, 2, 2] {
        let topic = Topic::<[u64]>::builder(8).quota(8 * UNIT).build().unwrap();
        let (publisher, ready) = (topic.publisher(), Event::new().unwrap());
        publisher.publish(&[0; 3000]).unwrap();
        let child = Process::spawn(hold, (topic.clone(), deed, ready.clone())).unwrap();
        assert!(ready.wait_timeout(LONG));
        if deed == 2 {
            Random::new().moment(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.join().unwrap_err();
        until("all memory comes back", || publisher.try_publish(&[1; 16_000]).is_ok());
        (0..20).for_each(|_| publisher.try_publish(&[2]).unwrap());
        until("the quota is free", || {
            (0..20).for_each(|_| publisher.try_publish(&[2]).unwrap());
            topic.quota_in_use() == 0
        });
    }
}

#[test]
fn managers_wait_sets_and_observers_see_it() {
    let name = name("seen");
    let manager = Manager::create(name.as_str()).unwrap();
    let topic = manager.topic::<[u64]>("numbers", 4).unwrap();
    assert!(manager.topic::<[u64]>("numbers", 9).unwrap().capacity() == 4);
    assert_eq!(manager.topic::<str>("numbers", 4).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(manager.topic::<u64>("numbers", 4).unwrap_err().kind(), ErrorKind::TypeMismatch);
    let (publisher, mut subscriber) = (topic.publisher(), topic.subscribe(From::Latest).unwrap());
    let mut set = WaitSet::new();
    set.add(0, &subscriber).unwrap();
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), []);
    publisher.publish(&[1, 2]).unwrap();
    publisher.publish(&vec![3; 2000]).unwrap();
    assert_eq!(set.wait_timeout(LONG).unwrap(), [0]);
    let seen = inspect::segment(name.as_str()).unwrap();
    let object = seen.objects.iter().find(|object| object.info.name == "numbers").unwrap();
    assert_eq!((object.info.schema.as_str(), object.head.as_ref().map(Vec::len)), ("[u64]", Some(16_000)));
    let state = |what: &str| object.state.iter().find(|(name, _)| *name == what).map(|(_, value)| &value[..]);
    assert_eq!(state("inline"), Some("96"));
    assert_eq!((state("quota"), state("quota in use")), (Some("1048576"), Some("16368")));
    subscriber.try_iter().for_each(drop);
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), []);
}

#[test]
fn damaged_headers_are_errors() {
    let name = name("damage");
    let topic = Topic::<[u32]>::builder(1).quota(4 * UNIT).create(name.as_str()).unwrap();
    let object = damage::Object::find(&name, &[1, 4, 128, 32, 4]);
    let slots = 4736 + 64 * 128;
    // A slot: word, position, length, block.
    damage::each(32, move |offset, value| {
        let Ok(topic) = Topic::<[u32]>::open(name.as_str()) else { return };
        let publisher = topic.publisher();
        for len in [3, 5000] {
            let mut all = [From::Earliest, From::Latest].map(|from| topic.subscribe(from));
            _ = publisher.try_publish(&vec![1; len]);
            (0..4).for_each(|slot| object.set(slots + 128 * slot + offset, value));
            for subscriber in all.iter_mut().flatten() {
                _ = subscriber
                    .try_recv_ref()
                    .map(|message| message.iter().map(|n| u64::from(*n)).sum::<u64>());
                _ = subscriber.try_recv();
                _ = subscriber.try_recv_into(&mut Vec::new());
            }
            _ = publisher.try_publish(&vec![2; len]);
            _ = publisher.try_loan(len).map(|room| room.zeroed().try_publish().is_ok());
            _ = inspect::segment(name.as_str());
        }
    });
    drop(topic);
}

#[test]
fn invalid_utf8_is_an_error() {
    let name = name("no-text");
    let topic = Topic::<str>::create(name.as_str(), 1).unwrap();
    let object = damage::Object::find(&name, &[1, 4, 128, 32, 1]);
    let mut all = [(); 3].map(|()| topic.subscribe(From::Latest).unwrap());
    topic.publisher().publish("abc").unwrap();
    object.set(4736 + 64 * 128 + 32, 0xff);
    let mut text = String::from("before");
    assert_eq!(all[0].recv(), Err(RecvError::Corrupted));
    assert_eq!(all[1].recv_into(&mut text), Err(RecvError::Corrupted));
    assert_eq!(all[2].recv_ref().map(drop), Err(RecvError::Corrupted));
    assert_eq!(text, "");
    topic.publisher().publish("intact").unwrap();
    assert!(all.iter_mut().all(|subscriber| subscriber.recv().unwrap() == "intact"));
}

fn is_sent<T>(result: Result<(), SendError<T>>) -> bool {
    if let Err(error) = &result {
        assert!(error.is_full(), "{error}");
    }
    result.is_ok()
}

/// Publishers and subscribers of all kinds, with messages of random length in a small quota.
#[test]
fn random_lengths() {
    const COUNT: u64 = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let topic = Topic::<[u64]>::builder(32).quota(32 * UNIT).build().unwrap();
    let is_message = |message: &[u64]| {
        message.len() >= 2 && message[2..].iter().all(|word| *word == message[1].wrapping_mul(message[0] + 9))
    };
    std::thread::scope(|scope| {
        let subscribers: Vec<_> = [(true, false), (true, true), (false, false), (false, true)]
            .map(|(is_lossless, in_place)| {
                let mut subscriber = match is_lossless {
                    true => topic.subscribe_lossless(From::Latest).unwrap(),
                    false => topic.subscribe(From::Latest).unwrap(),
                };
                scope.spawn(move || {
                    let (mut next, mut count, mut again) = ([0; 2], 0, Vec::new());
                    loop {
                        let received = match in_place {
                            true => subscriber.recv_ref().map(|message| {
                                assert!(is_message(&message), "torn");
                                [message[0], message[1]]
                            }),
                            false => subscriber.recv_into(&mut again).map(|_| {
                                assert!(is_message(&again), "torn");
                                [again[0], again[1]]
                            }),
                        };
                        match received {
                            Ok([id, n]) => {
                                assert!(n >= next[id as usize], "doubled, or out of order");
                                assert!(!is_lossless || n == next[id as usize]);
                                next[id as usize] = n + 1;
                                count += 1;
                            }
                            Err(RecvError::Lagged(lost)) => assert!(lost > 0 && !is_lossless),
                            Err(error) => {
                                assert_eq!(error, RecvError::Closed);
                                assert_eq!(count + subscriber.lost(), 2 * COUNT);
                                return;
                            }
                        }
                    }
                })
            })
            .into_iter()
            .collect();
        let publishers = [0, 1].map(|id| {
            let publisher = topic.publisher();
            scope.spawn(move || {
                let mut random = Random::new();
                for n in 0..COUNT {
                    let len = 2 + match random.below(8) {
                        0 => random.below(20_000),
                        1..4 => random.below(500),
                        _ => random.below(10),
                    } as usize;
                    let word = n.wrapping_mul(id + 9);
                    let fill = |index| if index < 2 { [id, n][index] } else { word };
                    let in_place = random.below(4) == 0;
                    let message: Vec<_> = (0..len).map(fill).collect();
                    let publish = || match in_place {
                        true => match publisher.loan(len) {
                            Ok(room) => is_sent(room.fill_with(fill).publish()),
                            Err(error) => is_sent(Err(error)),
                        },
                        false => is_sent(publisher.publish(&message)),
                    };
                    // Memory in use by a thread that is preempted may not become free in time.
                    while !publish() {}
                }
            })
        });
        // Closed before the results are looked at, so a failure ends the subscribers too.
        let published = publishers.map(|thread| thread.join());
        topic.close();
        published.into_iter().for_each(|result| result.unwrap());
        subscribers.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
