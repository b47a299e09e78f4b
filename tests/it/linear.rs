//! Linearizability: histories of concurrent operations, recorded in several processes, are those of
//! a FIFO queue.
//!
//! If all values are distinct, a history is that of a queue exactly if it has none of four faults
//! (Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs", CONCUR 2013): a
//! value from nowhere, a value received twice, two values received against the order in which they
//! were sent, and "empty" returned while something was surely inside. The checker searches for
//! these four; the last tests are of the checker itself.

use std::collections::HashMap;

use pagemate::queue::RecvError;
use pagemate::{Event, Message, Process, Queue};

const SEND: u32 = 0;
const RECV: u32 = 1;
const EMPTY: u32 = 2;

/// One finished operation. Times are nanoseconds on the machine's monotonic clock.
#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Op {
    begin: u64,
    end: u64,
    value: u64,
    kind: u32,
    process: u32,
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to write.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The times at which a value was sent and received. A value that was not received has the largest
/// time.
#[derive(Debug, Clone, Copy)]
struct Life {
    send: (u64, u64),
    recv: (u64, u64),
}

const NEVER: (u64, u64) = (u64::MAX, u64::MAX);

/// Returns the first fault in a history. All its operations have ended.
fn check(history: &[Op]) -> Result<(), String> {
    let mut lives: HashMap<u64, Life> = HashMap::new();
    for op in history.iter().filter(|op| op.kind == SEND) {
        if lives.insert(op.value, Life { send: (op.begin, op.end), recv: NEVER }).is_some() {
            return Err(format!("the test sent {} twice", op.value));
        }
    }
    for op in history.iter().filter(|op| op.kind == RECV) {
        let life = lives.get_mut(&op.value).ok_or_else(|| format!("{} came from nowhere", op.value))?;
        if life.recv != NEVER {
            return Err(format!("{} was received twice", op.value));
        }
        life.recv = (op.begin, op.end);
        if op.end < life.send.0 {
            return Err(format!("{} was received before it was sent", op.value));
        }
    }
    let mut lives: Vec<(u64, Life)> = lives.into_iter().collect();
    order(&mut lives)?;
    empties(history, &lives)
}

/// Checks for every b that there is no a which was sent before b and received after b: a's send
/// ended before b's began, and a's receive began after b's ended.
fn order(lives: &mut [(u64, Life)]) -> Result<(), String> {
    lives.sort_by_key(|(_, life)| life.send.1);
    let mut by_begin: Vec<(u64, Life)> = lives.to_vec();
    by_begin.sort_by_key(|(_, life)| life.send.0);
    let mut earlier = lives.iter().peekable();
    let mut latest = (0, 0);
    for (b, life) in by_begin {
        while let Some((a, before)) = earlier.next_if(|(_, before)| before.send.1 < life.send.0) {
            latest = latest.max((before.recv.0, *a));
        }
        if life.recv != NEVER && latest.0 > life.recv.1 {
            return Err(format!("{b} was received before {}, which was sent earlier", latest.1));
        }
    }
    Ok(())
}

/// Checks that no "empty" lies wholly in times at which some value was surely inside, because its
/// send had ended and its receive had not begun.
fn empties(history: &[Op], lives: &[(u64, Life)]) -> Result<(), String> {
    let mut inside: Vec<(u64, u64)> =
        lives.iter().map(|(_, life)| (life.send.1, life.recv.0)).filter(|(from, to)| from < to).collect();
    inside.sort_unstable();
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for (from, to) in inside {
        match spans.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            _ => spans.push((from, to)),
        }
    }
    for op in history.iter().filter(|op| op.kind == EMPTY) {
        let at = spans.partition_point(|span| span.0 < op.begin);
        if at > 0 && spans[at - 1].1 > op.end {
            return Err(format!(
                "process {} found it empty although something was inside all the time",
                op.process
            ));
        }
    }
    Ok(())
}

fn sender((queue, go, process, count): (Queue<u64>, Event, u32, u64)) -> Vec<Op> {
    go.wait();
    (0..count)
        .map(|i| {
            let value = u64::from(process) << 32 | i;
            let begin = now();
            queue.send(value).unwrap();
            Op { begin, end: now(), value, kind: SEND, process }
        })
        .collect()
}

fn receiver((queue, go, process): (Queue<u64>, Event, u32)) -> Vec<Op> {
    go.wait();
    let mut history = Vec::new();
    loop {
        let begin = now();
        let (kind, value) = match queue.try_recv() {
            Ok(value) => (RECV, value),
            Err(RecvError::Empty) => (EMPTY, 0),
            Err(RecvError::Closed) => return history,
            Err(error) => panic!("{error}"),
        };
        if kind == RECV || history.last().is_none_or(|last: &Op| last.kind != EMPTY) {
            history.push(Op { begin, end: now(), value, kind, process });
        } else {
            std::thread::yield_now();
        }
    }
}

fn recorded(capacity: usize, senders: u32, receivers: u32, count: u64) -> Vec<Op> {
    let queue = Queue::new(capacity).unwrap();
    let go = Event::new().unwrap();
    let sending: Vec<_> = (0..senders)
        .map(|id| Process::spawn(sender, (queue.clone(), go.clone(), id, count)).unwrap())
        .collect();
    let receiving: Vec<_> =
        (0..receivers).map(|id| Process::spawn(receiver, (queue.clone(), go.clone(), id)).unwrap()).collect();
    go.set();
    let mut history: Vec<Op> = sending.into_iter().flat_map(|process| process.join().unwrap()).collect();
    queue.close();
    history.extend(receiving.into_iter().flat_map(|process| process.join().unwrap()));
    history
}

#[test]
fn recorded_histories_are_those_of_a_queue() {
    for (capacity, senders, receivers, count) in
        [(1, 2, 2, 2_000), (2, 2, 2, 5_000), (3, 3, 1, 5_000), (64, 2, 3, 20_000)]
    {
        let history = recorded(capacity, senders, receivers, count);
        check(&history).unwrap();
        let received = history.iter().filter(|op| op.kind == RECV).count() as u64;
        assert_eq!(received, u64::from(senders) * count);
        println!("{senders} senders, {receivers} receivers, {capacity} slots: {} operations", history.len());
    }
}

fn op(kind: u32, value: u64, begin: u64, end: u64) -> Op {
    Op { begin, end, value, kind, process: 0 }
}

#[test]
fn the_checker_accepts_correct_histories() {
    let overlapping = [
        op(SEND, 1, 0, 10),
        op(SEND, 2, 5, 15),
        op(RECV, 2, 20, 30),
        op(RECV, 1, 25, 35),
        op(EMPTY, 0, 40, 50),
    ];
    check(&overlapping).unwrap();
    check(&[op(SEND, 1, 0, 10), op(EMPTY, 0, 5, 15)]).unwrap();
}

#[test]
fn the_checker_finds_each_fault() {
    let fault = |history: &[Op]| check(history).unwrap_err();
    assert!(fault(&[op(RECV, 1, 0, 1)]).contains("nowhere"));
    assert!(fault(&[op(SEND, 1, 0, 1), op(RECV, 1, 2, 3), op(RECV, 1, 4, 5)]).contains("twice"));
    assert!(fault(&[op(SEND, 1, 5, 6), op(RECV, 1, 2, 3)]).contains("before it was sent"));
    let swapped = [op(SEND, 1, 0, 1), op(SEND, 2, 2, 3), op(RECV, 2, 4, 5), op(RECV, 1, 6, 7)];
    assert!(fault(&swapped).contains("sent earlier"));
    assert!(
        fault(&[op(SEND, 1, 0, 1), op(SEND, 2, 2, 3), op(RECV, 2, 4, 5)]).contains("sent earlier"),
        "1 was lost"
    );
    assert!(fault(&[op(SEND, 1, 0, 1), op(EMPTY, 0, 2, 3), op(RECV, 1, 4, 5)]).contains("empty"));
    let relay =
        [op(SEND, 1, 0, 1), op(SEND, 2, 2, 5), op(EMPTY, 0, 4, 9), op(RECV, 1, 8, 12), op(RECV, 2, 20, 21)];
    assert!(fault(&relay).contains("empty"), "first 1 and then 2 was inside");
}
