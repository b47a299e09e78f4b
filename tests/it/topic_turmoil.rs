//! Four publishers and four subscribers, stopped and killed at random: one order for all, nothing
//! torn, nothing doubled, and exact losses. `TOPIC_MESSAGES=100000000 cargo test --release --test
//! it turmoil` publishes 10^8 messages.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pagemate::queue::topic::{From, RecvError};
use pagemate::{Event, Process, Topic};

use crate::support::Random;

/// Publisher and number, and two words that they determine.
type Message = [u64; 4];

const PUBLISHERS: u64 = 4;
/// One message of this number is remembered with its position, to compare the orders.
const SAMPLE: u64 = 64;

fn message(id: u64, n: u64) -> Message {
    let key = (id << 48 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [id, n, key, key.rotate_left(17) ^ n]
}

fn publish((topic, id, count): (Topic<Message>, u64, u64)) {
    let publisher = topic.publisher();
    for n in 0..count {
        match n % 16 {
            0 => {
                let mut loan = publisher.loan().unwrap();
                *loan = message(id, n);
                loan.publish().unwrap();
            }
            _ => publisher.publish(message(id, n)).unwrap(),
        }
    }
}

/// Publishes until it is killed.
fn publish_on((topic, id, ready): (Topic<Message>, u64, Event)) {
    ready.set();
    publish((topic, id, u64::MAX));
}

/// Receives to the end. Returns the numbers of messages received and lost; the number of messages
/// that are missing before the last one of their publisher; the number of publishers; for each its
/// id and the number after its last; and positions and messages of the sample.
fn receive((topic, is_lossless, ready): (Topic<Message>, bool, Event)) -> Vec<u64> {
    let mut subscriber = match is_lossless {
        true => topic.subscribe_lossless(From::Latest).unwrap(),
        false => topic.subscribe(From::Latest).unwrap(),
    };
    ready.set();
    let (mut next, mut gaps) = (HashMap::new(), 0);
    let (mut received, mut sampled) = (0, Vec::new());
    loop {
        let position = subscriber.position();
        let seen = match subscriber.recv_ref().map(|message| *message) {
            Ok(message) => message,
            Err(RecvError::Lagged(count)) => {
                assert!(!is_lossless && count > 0);
                assert_eq!(subscriber.position(), position + count);
                continue;
            }
            Err(error) => {
                assert_eq!(error, RecvError::Closed);
                break;
            }
        };
        let [id, n, ..] = seen;
        assert_eq!(seen, message(id, n), "torn at {position}");
        let expected = next.insert(id, n + 1).unwrap_or(0);
        assert!(n >= expected, "{n} of {id} after {expected}: doubled, or out of order");
        gaps += n - expected;
        received += 1;
        assert_eq!(subscriber.position(), position + 1);
        if position % SAMPLE == 0 {
            sampled.extend([position, id << 48 | n]);
        }
    }
    let mut result = vec![received, subscriber.lost(), gaps, next.len() as u64];
    result.extend(next.into_iter().flat_map(|(id, next)| [id, next]));
    result.extend(sampled);
    result
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: a child of ours that has not been waited for.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

#[test]
fn turmoil() {
    let given = std::env::var("TOPIC_MESSAGES").ok().and_then(|count| count.parse::<u64>().ok());
    let each = given.unwrap_or(if cfg!(debug_assertions) { 200_000 } else { 1_000_000 }) / PUBLISHERS;
    let topic = Topic::<Message>::new(64).unwrap();
    let subscribers: Vec<_> = [true, true, false, false]
        .map(|is_lossless| {
            let ready = Event::new().unwrap();
            let child = Process::spawn(receive, (topic.clone(), is_lossless, ready.clone())).unwrap();
            assert!(ready.wait_timeout(Duration::from_secs(30)));
            child
        })
        .into_iter()
        .collect();
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|id| Process::spawn(publish, (topic.clone(), id, each)).unwrap()).collect();
    let pids = subscribers.iter().map(Process::pid);
    let pids: Vec<u32> = pids.chain(publishers.iter().map(Process::pid)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let victims = scope.spawn(|| {
            let (mut random, mut kills) = (Random::new(), 0);
            while !is_over.load(Relaxed) {
                let pid = pids[random.below(pids.len() as u64) as usize];
                signal(pid, libc::SIGSTOP);
                random.moment(Duration::from_millis(3));
                signal(pid, libc::SIGCONT);
                // Those that die have numbers of their own, and may end in the middle.
                let ready = Event::new().unwrap();
                let id = 100 + kills;
                let publisher = Process::spawn(publish_on, (topic.clone(), id, ready.clone())).unwrap();
                let subscriber =
                    Process::spawn(receive, (topic.clone(), kills % 2 == 0, Event::new().unwrap())).unwrap();
                ready.wait_timeout(Duration::from_secs(30));
                random.moment(Duration::from_millis(10));
                publisher.kill().unwrap();
                subscriber.kill().unwrap();
                _ = (publisher.join(), subscriber.join());
                kills += 1;
            }
            kills
        });
        publishers.into_iter().for_each(|child| child.join().unwrap());
        is_over.store(true, Relaxed);
        let kills = victims.join().unwrap();
        println!("{kills} publishers and subscribers were killed");
    });
    topic.close();
    let all: Vec<_> = subscribers.into_iter().map(|child| child.join().unwrap()).collect();
    let total = all[0][0];
    println!("{total} messages, lost {:?}", all.iter().map(|seen| seen[1]).collect::<Vec<_>>());
    let ends = |seen: &[u64]| -> HashMap<u64, u64> {
        seen[4..][..2 * seen[3] as usize].chunks(2).map(|pair| (pair[0], pair[1])).collect()
    };
    let published = ends(&all[0]);
    assert!((0..PUBLISHERS).all(|id| published[&id] == each));
    let mut order = HashMap::new();
    for (index, seen) in all.iter().enumerate() {
        assert_eq!(seen[0] + seen[1], total, "all count the same messages: {index}");
        assert!(index >= 2 || seen[1] == 0, "lossless: {index}");
        let own = ends(seen);
        let missing: u64 = published.iter().map(|(id, end)| end - own.get(id).unwrap_or(&0)).sum();
        assert_eq!(seen[1], seen[2] + missing, "lost are those that are missing: {index}");
        for pair in seen[4 + 2 * seen[3] as usize..].chunks(2) {
            assert_eq!(*order.entry(pair[0]).or_insert(pair[1]), pair[1], "at position {}", pair[0]);
        }
    }
}
