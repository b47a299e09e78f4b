//! The speed of 8-byte messages through one queue with two producers and two consumers,
//! busy-polling.
//!
//! Each core has one producer and one consumer, so a side that cannot continue polls a little and
//! then yields to the other. Consumers check that every producer's messages come in order. Counts
//! and sums must agree at the end.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::thread;
use std::time::Instant;

use crate::contender::Between::Threads;
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Pair, Receiving, Result, Sending, Wire};
use crate::links::crossbeam::ArrayShared;
use crate::links::pagemate_queue::Shared;
use crate::peer::Setup;
use crate::session::{between_processes, between_threads, serve, Near, Repetition};

pub const BENCH: Bench = Bench {
    name: "throughput 2+2",
    about: "8-byte messages from two producers to two consumers on two cores, busy-polling",
    unit: Unit::PerMessage,
    contenders,
};

fn contenders() -> Vec<Contender> {
    vec![
        threads::<ArrayShared>("ArrayQueue"),
        threads::<Shared>("pagemate Queue").at_most(0.8, "ArrayQueue", Threads),
        processes::<Shared>("pagemate Queue").at_most(0.8, "ArrayQueue", Threads),
    ]
}

fn threads<P: Pair>(name: &'static str) -> Contender
where
    P::End: Clone + Sending + Receiving,
{
    Contender::threads(name, |call: Call<'_>| {
        between_threads::<P>(call.cpus, other, |near| measure(near, call.plan))
    })
}

fn processes<W: Wire>(name: &'static str) -> Contender
where
    W::End: Clone + Sending + Receiving,
{
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| measure(near, call.plan)),
        |mut setup: Setup| {
            let end = W::far(&mut setup)?;
            other(&setup.desk, end);
            Ok(())
        },
    )
}

/// Desk lines: the number of producers that have finished since the session began, and what the far
/// consumer received.
const FINISHED: usize = 0;
const COUNT: usize = 1;
const SUM: usize = 2;

/// Messages of each producer before anything is measured: they check and time one.
const FIRST: u64 = 50_000;

fn measure<E>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition>
where
    E: Clone + Sending + Receiving,
{
    let each = stream(near, 0, FIRST)?;
    near.measured(|near| {
        Ok((stream(near, 1, (plan.length.as_nanos() as f64 / each / 2.0) as u64 + 1)?, None))
    })
}

/// Makes run number `run`, in which each producer sends `count` messages; returns nanoseconds for
/// each of all messages.
fn stream<E>(near: &mut Near<'_, E>, run: u64, count: u64) -> Result<f64>
where
    E: Clone + Sending + Receiving,
{
    let end = near.end.clone();
    let began = Instant::now();
    near.order(count);
    let mine = both(near.desk, end, 0, run, count);
    let wrong = near.answer() + mine.wrong;
    let nanos = began.elapsed().as_nanos() as f64;
    let received = mine.count + near.desk.lines[COUNT].0.load(Relaxed); // handed over by the answer
    let sum = mine.sum.wrapping_add(near.desk.lines[SUM].0.load(Relaxed));
    let expected = (0..2u64).flat_map(|producer| (0..count).map(move |seq| producer << 32 | seq));
    if wrong > 0 || received != 2 * count || sum != expected.fold(0, u64::wrapping_add) {
        return Err(
            format!("of 2 times {count} messages {received} came, {wrong} of them out of order").into()
        );
    }
    Ok(nanos / (2 * count) as f64)
}

/// Runs the far side: the same with the other producer's number.
fn other<E>(desk: &Desk, end: E)
where
    E: Clone + Sending + Receiving,
{
    let mut run = 0;
    serve(desk, |count| {
        let mine = both(desk, end.clone(), 1, run, count);
        run += 1;
        desk.lines[COUNT].0.store(mine.count, Relaxed); // handed over by the answer
        desk.lines[SUM].0.store(mine.sum, Relaxed);
        mine.wrong
    });
}

#[derive(Debug, Default)]
struct Received {
    count: u64,
    sum: u64,
    wrong: u64,
}

/// Runs one side's producer and consumer, on this core.
fn both<E>(desk: &Desk, end: E, producer: u64, run: u64, count: u64) -> Received
where
    E: Clone + Sending + Receiving,
{
    thread::scope(|scope| {
        let mut sender = end.clone();
        let consumer = scope.spawn(move || consume(desk, end, run));
        for seq in 0..count {
            let mut patience = Patience::default();
            while !sender.try_send(producer << 32 | seq) {
                patience.lose();
            }
        }
        desk.lines[FINISHED].0.fetch_add(1, AcqRel); // pairs with consume(): all was sent before
        consumer.join().expect("a panic ends the program")
    })
}

/// Receives until both producers have finished and nothing is left.
fn consume<E: Receiving>(desk: &Desk, mut end: E, run: u64) -> Received {
    let mut received = Received::default();
    let mut next = [0; 2];
    let mut patience = Patience::default();
    loop {
        // Read before the queue: what a producer sent is there when it has finished.
        let finished = desk.lines[FINISHED].0.load(Acquire) == 2 * (run + 1); // pairs with both()
        match end.try_recv() {
            Some(value) => {
                patience = Patience::default();
                let (producer, seq) = ((value >> 32) as usize & 1, value & u64::from(u32::MAX));
                received.wrong += u64::from(seq < next[producer]);
                next[producer] = seq + 1;
                received.count += 1;
                received.sum = received.sum.wrapping_add(value);
            }
            None if finished => return received,
            None => patience.lose(),
        }
    }
}

/// Polls a little, then yields each time.
#[derive(Debug, Default)]
struct Patience(u32);

impl Patience {
    fn lose(&mut self) {
        self.0 += 1;
        if self.0 < 64 {
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}
