//! A topic of messages of any length beside a `Vec` of all that was published, and words of the
//! topic overwritten meanwhile: headers of slots, the words around them, the floor, and the store
//! behind the slots. Nothing panics, hangs, or reads beyond the object. Where nothing was
//! overwritten, each subscriber gets one message after the other, and what it loses is counted.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagemate::queue::topic::{From, Policy, RecvError, Subscriber};
use pagemate::queue::SendError;
use pagemate::Topic;

use super::Supply;

const SLOTS: u64 = 4736 + 64 * 128;
const STRIDE: u64 = 128;
const FLOOR: u64 = 3 * 128 + 8;
/// The claim logs and pins of a store, before its table.
const TABLE: u64 = 67_648;

/// Returns the file of the topic, and the offset of the topic in it.
fn object(name: &str, capacity: u64) -> (File, u64) {
    let path = format!("/dev/shm/pagemate.{name}");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the segment");
    let pattern = [capacity, capacity + 3, STRIDE, 32, 2];
    let pattern: Vec<u8> = pattern.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut bytes = vec![0; pattern.len()];
    let at = (0..1 << 20).step_by(128).find(|at| {
        file.read_exact_at(&mut bytes, *at).expect("as long as the smallest topic");
        bytes == pattern
    });
    (file, at.expect("a topic"))
}

/// Returns the offset of a word in the topic: mostly one of a header.
fn place(supply: &mut Supply<'_>, slots: u64) -> u64 {
    let slot = SLOTS + STRIDE * (u64::from(supply.byte()) % slots);
    let store = SLOTS + STRIDE * slots;
    match supply.byte() % 16 {
        0..=3 => slot + 16,
        4..=9 => slot + 24,
        10 => slot,
        11 => slot + 8,
        12 => FLOOR,
        13 => store + TABLE + 8 * u64::from(supply.byte() % 16),
        14 => store + 8 * u64::from(supply.byte()),
        // The units begin after the table and the bits.
        _ => store + TABLE + 128 + 8 * 128 + 8 * u64::from(supply.byte()) * 7,
    }
}

/// A subscriber, and the number of messages before its next.
struct Seen {
    subscriber: Subscriber<[u16]>,
    position: u64,
}

pub fn run(data: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("fuzz-topic-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let mut supply = Supply(data);
    let capacity = u64::from(supply.byte() % 6) + 1;
    let units = u64::from(supply.byte() % 8) + 4;
    let policy = [Policy::Block, Policy::Fail, Policy::Evict][usize::from(supply.byte() % 3)];
    let topic = Topic::<[u16]>::builder(capacity as usize).quota(units << 14).policy(policy);
    let topic = topic.create(name.as_str()).expect("a small topic");
    let (file, at) = object(&name, capacity);
    let publisher = topic.publisher();
    let (mut all, mut loans, mut is_damaged) = (Vec::<Seen>::new(), Vec::new(), false);
    let mut published = Vec::<Vec<u16>>::new();
    while !supply.is_empty() {
        let len = match supply.byte() {
            short @ 0..128 => usize::from(short),
            long => usize::from(long) * 300,
        };
        let message: Vec<u16> = (0..len).map(|index| (index * 7 + published.len()) as u16).collect();
        let has_lossless = all.iter().any(|seen| seen.subscriber.is_lossless());
        let check = |error: SendError<()>| match error {
            SendError::TooLarge((), excess) => assert!(excess.needed() > excess.quota()),
            SendError::Lagging(..) => assert!(is_damaged || has_lossless && policy == Policy::Fail),
            // Memory may be in a loan, and read in place it is not here.
            SendError::Full(()) => assert!(is_damaged || has_lossless || !loans.is_empty()),
            error => assert!(is_damaged, "{error}"),
        };
        match supply.byte() % 12 {
            0..=3 => match publisher.try_publish(&message) {
                Ok(()) => published.push(message),
                Err(error) => check(unit(error)),
            },
            4 => match publisher.try_loan(len) {
                Ok(room) => match room.write_slice(&message).try_publish() {
                    Ok(()) => published.push(message),
                    Err(error) => check(unit(error)),
                },
                Err(error) => check(error),
            },
            5..=7 if !all.is_empty() => {
                let index = usize::from(supply.byte()) % all.len();
                receive(&mut all[index], supply.byte(), &published, is_damaged);
            }
            8 if all.len() < 8 => {
                let from = match supply.byte() % 4 {
                    0 => From::Latest,
                    1 => From::Earliest,
                    2 => From::Last(u64::from(supply.byte() % 8)),
                    _ => From::Position(u64::from(supply.byte())),
                };
                let subscriber = match supply.byte() % 3 {
                    0 => topic.subscribe_lossless(from),
                    _ => topic.subscribe(from),
                };
                match (subscriber, from) {
                    (Ok(subscriber), From::Position(position)) => all.push(Seen { position, subscriber }),
                    (Ok(subscriber), _) => {
                        all.push(Seen { position: subscriber.position(), subscriber });
                    }
                    (Err(_), From::Position(position)) => {
                        assert!(is_damaged || position > published.len() as u64);
                    }
                    (Err(error), _) => assert!(is_damaged, "{error}"),
                }
            }
            9 if !all.is_empty() => {
                let index = usize::from(supply.byte()) % all.len();
                drop(all.swap_remove(index));
            }
            10 => match (loans.len(), publisher.try_loan(len)) {
                (0..2, Ok(room)) => loans.push(room.zeroed()),
                _ => loans.clear(),
            },
            11 if supply.byte() % 4 == 0 => {
                is_damaged = true;
                let offset = at + place(&mut supply, capacity + 3);
                let value = match supply.byte() % 4 {
                    0 => supply.bytes(8).iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte)),
                    1 => u64::from(supply.byte()),
                    2 => u64::MAX - u64::from(supply.byte()),
                    _ => u64::from(supply.byte()) << 33,
                };
                file.write_all_at(&value.to_le_bytes(), offset).expect("within the object");
            }
            _ => {}
        }
        if is_damaged {
            _ = pagemate::inspect::segment(name.as_str());
        }
    }
    drop(loans);
    if !is_damaged {
        for seen in &mut all {
            while seen.position < published.len() as u64 {
                receive(seen, 0, &published, false);
            }
        }
        drop(all);
        let most = vec![0; (units as usize * 7) << 9];
        assert!(publisher.try_publish(&most).is_ok(), "the arena is not whole");
        (0..2 * (capacity + 3)).for_each(|_| assert!(publisher.try_publish(&[]).is_ok()));
        assert_eq!(topic.quota_in_use(), 0);
    }
}

/// Returns the same error without its message.
fn unit<T>(error: SendError<T>) -> SendError<()> {
    match error {
        SendError::Full(_) => SendError::Full(()),
        SendError::TooLarge(_, excess) => SendError::TooLarge((), excess),
        SendError::Lagging(_, laggard) => SendError::Lagging((), laggard),
        SendError::Closed(_) => SendError::Closed(()),
        _ => SendError::Corrupted(()),
    }
}

/// Receives once, and checks the result.
fn receive(seen: &mut Seen, way: u8, published: &[Vec<u16>], is_damaged: bool) {
    let was_lossless = seen.subscriber.is_lossless();
    let is_new = seen.subscriber.lost() == 0 && seen.subscriber.position() > seen.position;
    let mut copy = Vec::new();
    let received = match way % 3 {
        0 => seen.subscriber.try_recv().map(|message| copy = message),
        1 => seen.subscriber.try_recv_into(&mut copy).map(drop),
        _ => seen.subscriber.try_recv_ref().map(|message| copy.extend(&*message)),
    };
    let is_last = seen.position == published.len() as u64;
    match received {
        Ok(()) => {
            assert!(is_damaged || published.get(seen.position as usize) == Some(&copy));
            seen.position += 1;
        }
        Err(RecvError::Lagged(count)) => {
            assert!(is_damaged || count > 0 && (!was_lossless || is_new));
            seen.position = seen.position.wrapping_add(count);
        }
        Err(error) => assert!(is_damaged || error == RecvError::Empty && is_last, "{error}"),
    }
    assert!(is_damaged || seen.subscriber.position() == seen.position);
}
