//! The cost of one cache line between the two cores at this moment.
//!
//! On a virtual machine the host moves the cores about: for minutes a line takes 28 ns one way,
//! then 65 or 300. Figures from two such states cannot be compared, so each repetition is framed by
//! two probes.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu::{pin, Cpus};
use crate::desk::Line;
use crate::stats::median;

const LENGTH: Duration = Duration::from_millis(1);
const BLOCK: u64 = 50;
const STOP: u64 = u64::MAX;

/// Returns nanoseconds one way: half the median round trip of about a millisecond's ping-pong.
/// Leaves the thread on the near core.
pub fn probe(cpus: Cpus) -> io::Result<f64> {
    let line = Line(AtomicU64::new(0));
    let pinned = AtomicBool::new(true);
    pin(cpus.near)?;
    let nanos = thread::scope(|scope| {
        scope.spawn(|| {
            pinned.store(pin(cpus.far).is_ok(), Release);
            answer(&line.0);
        });
        ask(&line.0)
    });
    if pinned.load(Acquire) {
        Ok(nanos)
    } else {
        Err(io::Error::other(format!("cannot run a thread on core {}", cpus.far)))
    }
}

fn ask(line: &AtomicU64) -> f64 {
    let mut next = 1;
    let mut blocks = Vec::with_capacity(1024);
    round_trips(line, &mut next); // the other side is there, and the line is warm
    let began = Instant::now();
    while began.elapsed() < LENGTH || blocks.len() < 3 {
        let block = Instant::now();
        round_trips(line, &mut next);
        blocks.push(block.elapsed().as_nanos() as f64 / (2 * BLOCK) as f64);
    }
    line.store(STOP, Release);
    median(&mut blocks)
}

/// Makes the round trips: odd numbers go out, the even ones above them come back.
fn round_trips(line: &AtomicU64, next: &mut u64) {
    for _ in 0..BLOCK {
        line.store(*next, Release);
        *next += 1;
        while line.load(Acquire) != *next {}
        *next += 1;
    }
}

fn answer(line: &AtomicU64) {
    loop {
        let seen = line.load(Acquire);
        if seen == STOP {
            return;
        }
        if seen % 2 == 1 {
            line.store(seen + 1, Release);
        }
    }
}
