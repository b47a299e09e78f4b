//! One way of a busy-polled ping-pong: half of a round trip between two pinned sides.
//!
//! Figure: the median over blocks of round trips, so that a clock is read seldom and a preempted
//! block does no harm. Percentiles: of single round trips, halved, in a pass of their own; they
//! contain the cost of reading the clock.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::contender::Between::{Processes, Threads};
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Pair, Polled, Result, Wire};
use crate::links::crossbeam::Array;
use crate::links::disruptor::Disruptor;
use crate::links::floor::{OneLine, TwoLines};
use crate::links::iceoryx2::Iceoryx2;
use crate::links::ipc_channel::IpcChannel;
use crate::links::newcomers::{Both, Crossbar, Ringfire};
use crate::links::pagemate_queue::Queues;
use crate::links::pagemate_spsc::Spsc;
use crate::links::pagemate_topic::Topics;
use crate::links::rtrb::Rtrb;
use crate::links::unix::{Pipe, SocketPair};
use crate::peer::Setup;
use crate::session::{between_processes, between_threads, serve, Near, Repetition};
use crate::stats::median;

pub const BENCH: Bench = Bench {
    name: "latency",
    about: "one way of a busy-polled ping-pong of 8-byte messages",
    unit: Unit::Time,
    contenders,
};

const FLOOR: &str = "floor, two lines";

fn contenders() -> Vec<Contender> {
    vec![
        processes::<OneLine>("floor, one line"),
        processes::<TwoLines>(FLOOR),
        processes::<Spsc>("pagemate spsc").at_most(1.15, FLOOR, Processes),
        threads::<Spsc>("pagemate spsc").beside(FLOOR, Processes),
        processes::<Queues>("pagemate Queue").beside(FLOOR, Processes).beside("ArrayQueue", Threads),
        threads::<Queues>("pagemate Queue").beside(FLOOR, Processes).beside("ArrayQueue", Threads),
        processes::<Topics>("pagemate Topic")
            .at_most(1.2, "pagemate spsc", Processes)
            .at_most(0.5, "iceoryx2", Processes),
        threads::<Topics>("pagemate Topic").beside("pagemate spsc", Threads),
        threads::<Rtrb>("rtrb").beside(FLOOR, Processes),
        threads::<Disruptor>("disruptor").beside(FLOOR, Processes),
        threads::<Array>("ArrayQueue").beside(FLOOR, Processes),
        processes::<Iceoryx2>("iceoryx2").beside(FLOOR, Processes),
        processes::<Both<Ringfire>>("ringfire").beside("pagemate Topic", Processes),
        processes::<Both<Crossbar>>("crossbar bus").beside("pagemate Topic", Processes),
        processes::<IpcChannel>("ipc-channel").beside(FLOOR, Processes),
        processes::<Pipe>("pipe").beside(FLOOR, Processes),
        processes::<SocketPair>("socketpair").beside(FLOOR, Processes),
    ]
}

/// Measures a ping-pong between two threads.
pub fn threads<P: Pair>(name: &'static str) -> Contender
where
    P::End: Polled,
{
    Contender::threads(name, |call: Call<'_>| {
        between_threads::<P>(
            call.cpus,
            |desk, mut end| answer(desk, &mut end),
            |near| ask(near, call.plan, 2),
        )
    })
}

/// Measures a ping-pong between two processes.
pub fn processes<W: Wire>(name: &'static str) -> Contender
where
    W::End: Polled,
{
    ways::<W, 2>(name)
}

/// Measures a ping-pong between two processes. The figure is a round trip divided by `WAYS`.
pub fn ways<W: Wire, const WAYS: u64>(name: &'static str) -> Contender
where
    W::End: Polled,
{
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| ask(near, call.plan, WAYS)),
        |mut setup: Setup| {
            let mut end = W::far(&mut setup)?;
            answer(&setup.desk, &mut end);
            Ok(())
        },
    )
}

/// Round trips before anything is measured: they check, warm up and time one.
const FIRST: u64 = 2_000;
const BLOCK: u64 = 100;

fn ask<E: Polled>(near: &mut Near<'_, E>, plan: &Plan, ways: u64) -> Result<Repetition> {
    let began = Instant::now();
    round_trips(near, FIRST, |near, first| echoed(near, first, FIRST))?;
    let each = began.elapsed() / FIRST as u32;
    near.measured(|near| {
        let blocks = count(plan.length, each * BLOCK as u32);
        let mut times = Vec::with_capacity(blocks as usize);
        round_trips(near, blocks * BLOCK, |near, _| {
            for block in 0..blocks {
                let began = Instant::now();
                echoed(near, block * BLOCK, BLOCK)?;
                times.push(began.elapsed().as_nanos() as f64 / (ways * BLOCK) as f64);
            }
            Ok(())
        })?;
        let mut spread = Histogram::new(3)?;
        let singles = count(plan.length / 4, each);
        round_trips(near, singles, |near, _| {
            for single in 0..singles {
                let began = Instant::now();
                echoed(near, single, 1)?;
                spread.record(began.elapsed().as_nanos() as u64 / ways)?;
            }
            Ok(())
        })?;
        Ok((median(&mut times), Some(spread)))
    })
}

/// Returns how often `each` fits into `length`; at least a few.
fn count(length: Duration, each: Duration) -> u64 {
    (length.as_nanos() / each.as_nanos().max(1)).max(5) as u64
}

/// Makes one run of `count` round trips by `ask`.
fn round_trips<E>(
    near: &mut Near<'_, E>,
    count: u64,
    ask: impl FnOnce(&mut E, u64) -> Result<()>,
) -> Result<()> {
    near.order(count);
    ask(&mut near.end, 0)?;
    near.answer();
    Ok(())
}

/// Sends `count` numbers from `first` on, each when the one before has come back.
fn echoed<E: Polled>(end: &mut E, first: u64, count: u64) -> Result<()> {
    for value in first..first + count {
        while !end.try_send(value) {}
        let back = loop {
            if let Some(back) = end.try_recv() {
                break back;
            }
        };
        if back != value {
            return Err(format!("{value} came back as {back}").into());
        }
    }
    Ok(())
}

fn answer<E: Polled>(desk: &Desk, end: &mut E) {
    serve(desk, |count| {
        for _ in 0..count {
            let value = loop {
                if let Some(value) = end.try_recv() {
                    break value;
                }
            };
            while !end.try_send(value) {}
        }
        0
    });
}
