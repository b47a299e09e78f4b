//! Operations on a service beside a model of it: a list of the calls that wait, in order, and of
//! those that servers have. With some inputs words of the service are overwritten meanwhile; then
//! nothing may panic, hang, or read beyond the object.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagemate::queue::{RecvError, SendError};
use pagemate::service::{Answer, Call, CallError, Request};
use pagemate::Service;

use super::Supply;

/// The offset of the slots in a service.
const SLOTS: u64 = 4992;
/// A slot with two headers, room for 8 bytes twice, and the words of the call.
const STRIDE: u64 = 128;

type Bytes = [u8];

/// A call, and what its request was.
struct Started<'a> {
    number: u16,
    len: usize,
    call: Call<'a, Bytes>,
}

/// A request that a server has, and what is known of it.
struct Served<'a> {
    number: u16,
    request: Request<'a, Bytes, Bytes>,
}

/// Returns the bytes of a message: a number, and more that it determines.
fn message(number: u16, len: usize) -> Vec<u8> {
    let [low, high] = number.to_le_bytes();
    let rest = (2..len).map(|index| (index as u16).wrapping_mul(number) as u8);
    [low, high].into_iter().chain(rest).take(len.max(2)).collect()
}

fn number(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(u16::MAX, |bytes| u16::from_le_bytes(*bytes))
}

/// Returns the file of the service, and the offset of the service in it.
fn object(name: &str) -> (File, u64) {
    let path = format!("/dev/shm/pagemate.{name}");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the segment");
    let mut at = [0; 8];
    file.read_exact_at(&mut at, 20_480 + 32).expect("the first record");
    (file, u64::from_le_bytes(at))
}

fn length(supply: &mut Supply<'_>) -> usize {
    match supply.byte() {
        short @ 0..128 => usize::from(short),
        long => usize::from(long) * 200,
    }
}

pub fn run(data: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("fuzz-service-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let mut supply = Supply(data);
    let capacity = usize::from(supply.byte() % 5) + 1;
    let units = u64::from(supply.byte() % 8) + 4;
    let redeliver = supply.byte() % 2 == 0;
    let builder =
        Service::<Bytes, Bytes>::builder(capacity).inline(8).quota(units << 14).redeliver(redeliver);
    let service = builder.create(name.as_str()).expect("a small service");
    let (file, at) = object(&name);
    let (client, server) = (service.client(), service.server());
    let (mut waiting, mut served) = (VecDeque::<Started<'_>>::new(), Vec::<Served<'_>>::new());
    let (mut others, mut answers) = (Vec::<Started<'_>>::new(), Vec::<Answer<'_, Bytes>>::new());
    let mut rooms = Vec::new();
    let (mut next, mut is_damaged, mut is_closed, mut cancelled) = (0u16, false, false, 0);
    while !supply.is_empty() {
        let all = waiting.len() + served.len() + others.len() + answers.len() + rooms.len();
        match supply.byte() % 14 {
            0..=3 => {
                let len = length(&mut supply);
                match client.try_start(&message(next, len)) {
                    Ok(call) => {
                        assert!(is_damaged || !is_closed && all < capacity);
                        waiting.push_back(Started { number: next, len: len.max(2), call });
                        next = next.wrapping_add(1);
                    }
                    Err(CallError::Full) => {
                        assert!(is_damaged || all + cancelled >= capacity || len > 8, "{all} of {capacity}");
                    }
                    Err(CallError::Closed) => assert!(is_damaged || is_closed),
                    Err(CallError::TooLarge(excess)) => assert!(excess.needed() > excess.quota()),
                    Err(error) => assert!(is_damaged, "{error}"),
                }
            }
            4 | 5 => match server.try_recv() {
                Ok(request) => {
                    let number = number(&request);
                    if !is_damaged {
                        let oldest = waiting.pop_front().expect("a request of nobody");
                        assert_eq!((number, &*request), (oldest.number, &*message(number, oldest.len)));
                        others.push(oldest);
                    }
                    served.push(Served { number, request });
                }
                Err(RecvError::Empty) => assert!(is_damaged || waiting.is_empty() && !is_closed),
                Err(RecvError::Closed) => assert!(is_damaged || waiting.is_empty() && is_closed),
                Err(error) => assert!(is_damaged, "{error}"),
            },
            6 | 7 if !served.is_empty() => {
                let index = usize::from(supply.byte()) % served.len();
                let Served { number, request } = served.swap_remove(index);
                let is_awaited = others.iter().position(|started| started.number == number);
                let len = length(&mut supply);
                match request.try_reply(&message(number.wrapping_add(1), len)) {
                    Ok(()) => {
                        if let Some(index) = is_awaited.filter(|_| !is_damaged) {
                            let started = others.swap_remove(index);
                            assert!(started.call.is_ready());
                            let answer = started.call.wait_ref().expect("it was answered");
                            assert_eq!(*answer, *message(number.wrapping_add(1), len));
                            answers.push(answer);
                        }
                    }
                    Err(SendError::Closed(request)) => {
                        assert!(is_damaged || is_awaited.is_none() && !request.is_empty());
                        cancelled -= usize::from(!is_damaged);
                    }
                    Err(SendError::Full(request) | SendError::TooLarge(request, _)) => {
                        served.push(Served { number, request });
                    }
                    Err(error) => assert!(is_damaged, "{error}"),
                }
            }
            8 if !served.is_empty() => {
                let index = usize::from(supply.byte()) % served.len();
                let Served { number, request } = served.swap_remove(index);
                drop(request);
                match others.iter().position(|started| started.number == number) {
                    Some(index) if !is_damaged => {
                        let started = others.swap_remove(index);
                        assert_eq!(started.call.wait().unwrap_err(), CallError::Refused);
                    }
                    _ => cancelled -= usize::from(!is_damaged),
                }
            }
            9 if !waiting.is_empty() => {
                let index = usize::from(supply.byte()) % waiting.len();
                drop(waiting.remove(index));
            }
            10 if !others.is_empty() => {
                let index = usize::from(supply.byte()) % others.len();
                drop(others.swap_remove(index));
                cancelled += usize::from(!is_damaged);
            }
            11 => {
                let index = usize::from(supply.byte());
                if !answers.is_empty() {
                    answers.swap_remove(index % answers.len());
                }
            }
            12 => match (rooms.len(), client.try_loan(length(&mut supply))) {
                (0..2, Ok(room)) => rooms.push(room),
                _ => rooms.clear(),
            },
            13 => match supply.byte() {
                0..=3 => {
                    rooms.clear();
                    is_closed |= service.close();
                }
                4..=90 => {
                    is_damaged = true;
                    let offset = match supply.byte() % 8 {
                        0 => 8 * u64::from(supply.byte()),
                        1 => SLOTS + STRIDE * capacity as u64 + 8 * u64::from(supply.byte()) * 67,
                        _ => SLOTS + 8 * (u64::from(supply.byte()) % (16 * capacity as u64)),
                    };
                    let value = match supply.byte() % 4 {
                        0 => supply.bytes(8).iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte)),
                        1 => u64::from(supply.byte()),
                        2 => u64::MAX - u64::from(supply.byte()),
                        _ => u64::from(supply.byte()) << 28,
                    };
                    file.write_all_at(&value.to_le_bytes(), at + offset).expect("within the object");
                }
                _ => {}
            },
            _ => {}
        }
        if is_damaged {
            _ = pagemate::inspect::segment(name.as_str());
            // They may wait for ever.
            waiting.clear();
            others.clear();
        }
    }
    if is_damaged {
        return;
    }
    drop((waiting, others, answers, rooms));
    drop(served);
    let state = pagemate::inspect::segment(name.as_str()).expect("the segment").objects.remove(0).state;
    for (label, value) in state {
        let is_zero = ["calls", "served", "in use for requests", "in use for answers"].contains(&label);
        assert!(!is_zero || value == "0", "{label}: {value}");
    }
}
