//! Buffers: whole, owned by one process at a time, and freed by its death.

use pagemate::collections::{Buffer, Ticket};
use pagemate::{inspect, Event, Kind, Process, Queue, Segment};

use crate::support::forked::Forked;
use crate::support::{until, Random};

const SIZE: u64 = 64 << 20;

fn name(what: &str) -> String {
    format!("test-buffer-{what}-{}", std::process::id())
}

/// Returns the number of blocks in use in a segment.
fn in_use(name: &str) -> u64 {
    let seen = inspect::segment(name).unwrap();
    let heap = seen.objects.iter().filter(|object| object.info.kind == Some(Kind::Heap));
    let states = heap.flat_map(|object| &object.state);
    states.filter(|(what, _)| *what == "blocks in use").map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_ticket_leads_to_a_buffer_once() {
    let name = name("once");
    let segment = Segment::create(name.as_str(), SIZE).unwrap();
    for len in [0, 1, 100, 5_000, 3_000_000] {
        let mut buffer = Buffer::new(&segment, len).unwrap();
        buffer.fill(7);
        let ticket = buffer.ticket();
        buffer.hand_over();
        let taken = Buffer::take(&segment, ticket).unwrap().unwrap();
        assert!(taken.len() == len && taken.iter().all(|byte| *byte == 7));
        drop(taken);
        assert!(Buffer::take(&segment, ticket).unwrap().is_none(), "it was freed");
        let next = Buffer::new(&segment, len).unwrap();
        assert!(Buffer::take(&segment, ticket).unwrap().is_none(), "it is another one");
        drop(next);
        assert_eq!(in_use(&name), 0);
    }
}

#[test]
fn a_receiver_may_be_faster_than_its_sender() {
    let name = name("faster");
    let segment = Segment::create(name.as_str(), SIZE).unwrap();
    let mut buffer = Buffer::new(&segment, 10).unwrap();
    buffer.fill(1);
    let taken = Buffer::take(&segment, buffer.ticket()).unwrap().unwrap();
    buffer.hand_over();
    assert_eq!(*taken, [1; 10]);
    let other = Buffer::new(&segment, 10).unwrap();
    assert_ne!(other.offset(), taken.offset());
    drop((taken, other));
    assert_eq!(in_use(&name), 0);
}

#[test]
fn damaged_tickets_lead_to_nothing() {
    let segment = Segment::new(SIZE).unwrap();
    let buffer = Buffer::new(&segment, 100).unwrap();
    let good = buffer.ticket();
    let words: [u64; 3] = [buffer.offset(), 100, 1];
    let ticket = |words: [u64; 3]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ticket::from_bytes(bytes.try_into().unwrap())
    };
    assert!(ticket(words) == good && Ticket::from_bytes(good.to_bytes()) == good);
    let mut random = Random::new();
    let mut others = vec![[0; 3], [u64::MAX; 3], [words[0], 100, 2], [words[0], 100, 1 << 32 | 1]];
    others.extend((0..64).map(|bit| [words[0] ^ 1 << bit, 100, 1]));
    others.extend((0..2000).map(|_| [random.below(SIZE), random.below(SIZE), random.below(4)]));
    for other in others {
        if other[0] != words[0] || other[2] != words[2] {
            assert!(!matches!(Buffer::take(&segment, ticket(other)), Ok(Some(_))), "{other:?}");
        }
    }
    let too_long = Buffer::take(&segment, ticket([words[0], 1 << 40, 1]));
    assert!(too_long.is_err_and(|error| error.to_string().contains("damaged")));
}

fn hold((segment, count, ready): (Segment, usize, Event)) {
    let _held: Vec<Buffer> = (0..count).map(|_| Buffer::new(&segment, 50_000).unwrap()).collect();
    ready.set();
    loop {
        std::thread::park();
    }
}

#[test]
fn the_buffers_of_a_dead_process_are_freed() {
    let name = name("dead");
    let segment = Segment::create(name.as_str(), SIZE).unwrap();
    let mine = Buffer::new(&segment, 50_000).unwrap();
    // More than a claim log can name.
    let ready = Event::new().unwrap();
    let victim = Process::spawn(hold, (segment.clone(), 100, ready.clone())).unwrap();
    ready.wait();
    assert_eq!(in_use(&name), 101);
    victim.kill().unwrap();
    assert!(victim.join().is_err());
    // A process that waits, or attaches, notices the death.
    until("its buffers are freed", || Segment::open(name.as_str()).is_ok() && in_use(&name) == 1);
    assert_eq!(mine.len(), 50_000);
}

#[test]
fn buffers_that_are_held_keep_nobody_from_remaking() {
    let segment = Segment::new(1 << 20).unwrap();
    let held: Vec<Buffer> = (0..20).map(|_| Buffer::new(&segment, 100).unwrap()).collect();
    let fill = |len: usize| std::iter::from_fn(|| Buffer::new(&segment, len).ok()).collect::<Vec<_>>();
    let counts: Vec<usize> = [2_000, 30_000, 500, 30_000].into_iter().map(|len| fill(len).len()).collect();
    assert!(counts[1] > 5 && counts[1].abs_diff(counts[3]) <= 2, "memory was not remade: {counts:?}");
    drop(held);
}

#[test]
fn a_forked_child_frees_nothing_of_its_parents() {
    let name = name("forked");
    let segment = Segment::create(name.as_str(), SIZE).unwrap();
    let [mut kept, mut sent] = [(); 2].map(|()| Buffer::new(&segment, 1_000).unwrap());
    kept.fill(1);
    sent.fill(2);
    let ticket = sent.ticket();
    let (mut kept, mut sent) = (Some(kept), Some(sent));
    let child = Forked::run(|| {
        drop(kept.take());
        sent.take().unwrap().hand_over();
        0
    });
    assert_eq!(child.wait(), 0);
    assert_eq!(in_use(&name), 2);
    assert_eq!(**kept.as_ref().unwrap(), [1; 1_000]);
    sent.take().unwrap().hand_over();
    assert_eq!(*Buffer::take(&segment, ticket).unwrap().unwrap(), [2; 1_000]);
}

fn forward((segment, from, to): (Segment, Queue<Ticket>, Queue<Ticket>)) {
    loop {
        let ticket = from.recv_ref().unwrap();
        let Some(taken) = Buffer::take(&segment, *ticket).unwrap() else { continue };
        drop(ticket);
        let mut buffer = Buffer::new(&segment, taken.len()).unwrap();
        buffer.copy_from_slice(&taken);
        drop(taken);
        if to.send(buffer.ticket()).is_ok() {
            buffer.hand_over();
        }
    }
}

/// Processes that receive and send are killed at random moments. Each may lose one message, and
/// afterwards no block is left.
#[test]
fn killed_at_random_moments() {
    const KILLS: u64 = 60;
    let name = name("killed");
    let segment = Segment::create(name.as_str(), SIZE).unwrap();
    let queue = |name| Queue::builder(16).redeliver(true).create(segment.at(name)).unwrap();
    let (there, back) = (queue("there"), queue("back"));
    let mut random = Random::new();
    let (mut next, mut received) = (0u64, Vec::new());
    for _ in 0..KILLS {
        let victim = Process::spawn(forward, (segment.clone(), there.clone(), back.clone())).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_micros(random.below(40_000));
        while std::time::Instant::now() < end {
            let mut buffer = Buffer::new(&segment, 8 + random.below(40_000) as usize).unwrap();
            let len = buffer.len();
            buffer.fill(next as u8);
            buffer[len - 8..].copy_from_slice(&next.to_le_bytes());
            if there.try_send(buffer.ticket()).is_ok() {
                buffer.hand_over();
                next += 1;
            }
            receive(&segment, &back, &mut received);
        }
        victim.kill().unwrap();
        assert!(victim.join().is_err());
    }
    let survivor = Process::spawn(forward, (segment.clone(), there.clone(), back.clone())).unwrap();
    until("all is received and freed", || {
        receive(&segment, &back, &mut received);
        there.is_empty() && back.is_empty() && there.lost() == 0 && in_use(&name) == 0
    });
    survivor.kill().unwrap();
    assert!(survivor.join().is_err());
    let count = received.len();
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len(), count, "received twice");
    assert!(next > KILLS && next - count as u64 <= KILLS, "sent {next}, received {count}");
}

fn receive(segment: &Segment, from: &Queue<Ticket>, received: &mut Vec<u64>) {
    while let Ok(ticket) = from.try_recv_ref() {
        let Some(buffer) = Buffer::take(segment, *ticket).unwrap() else { continue };
        drop(ticket);
        let (fill, number) = buffer.split_at(buffer.len() - 8);
        let number = u64::from_le_bytes(number.try_into().unwrap());
        assert!(fill.iter().all(|byte| *byte == number as u8), "torn");
        received.push(number);
    }
}
