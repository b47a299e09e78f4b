//! Messages of any length beside a `VecDeque`, and words of the queue overwritten meanwhile:
//! headers of slots, the words around them, and the store behind them. Nothing panics, hangs, or
//! reads beyond the object. Where nothing was overwritten, what is sent is received.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagemate::queue::{RecvError, SendError};
use pagemate::Queue;

use super::Supply;

const SLOTS: u64 = 640;
const STRIDE: u64 = 128;
/// The claim logs and pins of a store, before its table.
const TABLE: u64 = 67_648;

/// Returns the file of the queue, and the offset of the queue in it.
fn object(name: &str, capacity: u64) -> (File, u64) {
    let path = format!("/dev/shm/pagemate.{name}");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the segment");
    let pattern: Vec<u8> = [capacity, STRIDE, 24, 2].iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut bytes = vec![0; pattern.len()];
    let at = (0..1 << 20).step_by(128).find(|at| {
        file.read_exact_at(&mut bytes, *at).expect("as long as the smallest queue");
        bytes == pattern
    });
    (file, at.expect("a queue"))
}

/// Returns the offset of a word in the queue: mostly one of a header.
fn place(supply: &mut Supply<'_>, capacity: u64) -> u64 {
    let slot = SLOTS + STRIDE * (u64::from(supply.byte()) % capacity);
    let store = SLOTS + STRIDE * capacity;
    match supply.byte() % 16 {
        0..=5 => slot + 8,
        6..=11 => slot + 16,
        12 => slot,
        13 => store + TABLE + 8 * u64::from(supply.byte() % 16),
        14 => store + 8 * u64::from(supply.byte()),
        // The units begin after the table and the bits.
        _ => store + TABLE + 128 + 8 * 128 + 8 * u64::from(supply.byte()) * 7,
    }
}

pub fn run(data: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("fuzz-payload-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let mut supply = Supply(data);
    let capacity = u64::from(supply.byte() % 4) + 1;
    let units = u64::from(supply.byte() % 8) + 4;
    let queue = Queue::<[u16]>::builder(capacity as usize).quota(units << 14);
    let queue = queue.create(name.as_str()).expect("a small queue");
    let (file, at) = object(&name, capacity);
    let (mut twin, mut held, mut is_damaged) = (VecDeque::new(), Vec::new(), false);
    while !supply.is_empty() {
        let len = match supply.byte() {
            short @ 0..128 => usize::from(short),
            long => usize::from(long) * 300,
        };
        let message: Vec<u16> = (0..len).map(|index| (index * 7 + twin.len()) as u16).collect();
        match supply.byte() % 8 {
            0 | 1 => match queue.try_send(&message) {
                Ok(()) => twin.push_back(message),
                Err(SendError::TooLarge(_, excess)) => assert!(excess.needed() > excess.quota()),
                Err(error) => assert!(error.is_full() || is_damaged, "{error}"),
            },
            2 => match queue.try_loan(len) {
                Ok(room) => match room.write_slice(&message).try_send() {
                    Ok(()) => twin.push_back(message),
                    Err(error) => assert!(is_damaged, "{error}"),
                },
                Err(SendError::TooLarge(_, excess)) => assert!(excess.needed() > excess.quota()),
                Err(error) => assert!(error.is_full() || is_damaged, "{error}"),
            },
            3 => match queue.try_recv() {
                Ok(received) => assert!(is_damaged || Some(received) == twin.pop_front()),
                Err(error) => assert!(is_damaged || error == RecvError::Empty && twin.is_empty()),
            },
            4 => match queue.try_recv_ref() {
                Ok(received) => {
                    let sum = received.iter().fold(0u16, |sum, element| sum.wrapping_add(*element));
                    std::hint::black_box(sum);
                    assert!(is_damaged || Some(&*received) == twin.pop_front().as_deref());
                    held.push(received);
                }
                Err(error) => assert!(is_damaged || error == RecvError::Empty && twin.is_empty()),
            },
            5 => held.clear(),
            6 => {
                let sent = queue.force_send(&message, |oldest| {
                    assert!(is_damaged || Some(oldest) == twin.pop_front());
                });
                if sent.is_ok() {
                    twin.push_back(message);
                }
            }
            _ => {
                is_damaged = true;
                let offset = at + place(&mut supply, capacity);
                let value = match supply.byte() % 4 {
                    0 => supply.bytes(8).iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte)),
                    1 => u64::from(supply.byte()),
                    2 => u64::MAX - u64::from(supply.byte()),
                    _ => u64::from(supply.byte()) << 33,
                };
                file.write_all_at(&value.to_le_bytes(), offset).expect("within the object");
            }
        }
        if is_damaged {
            _ = pagemate::inspect::segment(name.as_str());
        }
    }
    drop(held);
    if !is_damaged {
        assert!(queue.try_iter().map(|message| message.expect("intact")).eq(twin));
        let most = vec![0; (units as usize * 7) << 9];
        assert!(queue.try_send(&most).is_ok(), "the arena is not whole");
    }
}
