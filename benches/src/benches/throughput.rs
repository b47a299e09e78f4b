//! The speed of 8-byte messages one way, from one producer to one consumer.
//!
//! Figure: the producer's time per message, the median over windows of many times the ring's
//! capacity. The consumer checks that each message is the successor of the last.

use std::time::Instant;

use crate::contender::Between::{Processes, Threads};
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Batched, Blocking, Pair, Polled, Result, Wire};
use crate::links::crossbeam::{Array, Channel};
use crate::links::disruptor::Disruptor;
use crate::links::iceoryx2::Iceoryx2;
use crate::links::newcomers::{Both, Crossbar, Ringfire};
use crate::links::pagemate_queue::Queues;
use crate::links::pagemate_spsc::Spsc;
use crate::links::pagemate_topic::Topics;
use crate::links::rtrb::Rtrb;
use crate::links::unix::Pipe;
use crate::links::CAPACITY;
use crate::peer::Setup;
use crate::session::{between_processes, between_threads, serve, Near, Repetition};
use crate::stats::median;

pub const BENCH: Bench = Bench {
    name: "throughput",
    about: "8-byte messages from one producer to one consumer",
    unit: Unit::PerMessage,
    contenders,
};

const BATCH: usize = 64;
const CHANNEL: &str = "crossbeam-channel, blocking";

fn contenders() -> Vec<Contender> {
    vec![
        threads::<OneByOne, Rtrb>("rtrb"),
        threads::<OneByOne, Spsc>("pagemate spsc").at_most(1.0, "rtrb", Threads),
        processes::<OneByOne, Spsc>("pagemate spsc").at_most(1.0, "rtrb", Threads),
        threads::<OneByOne, Disruptor>("disruptor").beside("rtrb", Threads),
        threads::<Batches, Disruptor>("disruptor, batches"),
        threads::<Batches, Spsc>("pagemate spsc, batches").at_most(1.0, "disruptor, batches", Threads),
        processes::<Batches, Spsc>("pagemate spsc, batches").at_most(1.0, "disruptor, batches", Threads),
        threads::<Batches, Rtrb>("rtrb, batches").beside("disruptor, batches", Threads),
        threads::<OneByOne, Array>("ArrayQueue"),
        threads::<OneByOne, Queues>("pagemate Queue").at_most(0.8, "ArrayQueue", Threads),
        processes::<OneByOne, Queues>("pagemate Queue").at_most(0.8, "ArrayQueue", Threads),
        threads::<OneByOne, Topics>("pagemate Topic").at_most(1.0, "disruptor", Threads),
        processes::<OneByOne, Topics>("pagemate Topic").at_most(1.0, "disruptor", Threads),
        threads::<Asleep, Channel>(CHANNEL),
        threads::<Asleep, Queues>("pagemate Queue, blocking").at_most(1.0, CHANNEL, Threads),
        processes::<Asleep, Queues>("pagemate Queue, blocking").at_most(1.0, CHANNEL, Threads),
        threads::<Asleep, Spsc>("pagemate spsc, blocking").beside(CHANNEL, Threads),
        processes::<Asleep, Spsc>("pagemate spsc, blocking").beside(CHANNEL, Threads),
        processes::<OneByOne, Iceoryx2>("iceoryx2").beside("ArrayQueue", Threads),
        processes::<OneByOne, Both<Ringfire>>("ringfire").beside("pagemate Topic", Processes),
        processes::<OneByOne, Both<Crossbar>>("crossbar bus").beside("pagemate Topic", Processes),
        processes::<OneByOne, Pipe>("pipe").beside("ArrayQueue", Threads),
    ]
}

/// The way in which messages are sent and received.
pub trait Way<E> {
    /// Sends `next` and perhaps some that follow, `left` at most; returns their number.
    fn push(end: &mut E, next: u64, left: u64) -> u64;
    /// Receives some; returns their number.
    fn pull(end: &mut E, each: &mut impl FnMut(u64)) -> u64;
}

/// One message at a time, polling.
#[derive(Debug)]
pub struct OneByOne;

impl<E: Polled> Way<E> for OneByOne {
    #[inline]
    fn push(end: &mut E, next: u64, _: u64) -> u64 {
        u64::from(end.try_send(next))
    }

    #[inline]
    fn pull(end: &mut E, each: &mut impl FnMut(u64)) -> u64 {
        end.try_recv().map_or(0, |value| {
            each(value);
            1
        })
    }
}

/// A batch at a time, polling; the consumer takes what is there.
#[derive(Debug)]
pub struct Batches;

impl<E: Batched> Way<E> for Batches {
    #[inline]
    fn push(end: &mut E, next: u64, left: u64) -> u64 {
        end.send_some(next, BATCH.min(left as usize)) as u64
    }

    #[inline]
    fn pull(end: &mut E, each: &mut impl FnMut(u64)) -> u64 {
        end.recv_some(each) as u64
    }
}

/// One message at a time, sleeping while the ring is full or empty.
#[derive(Debug)]
pub struct Asleep;

impl<E: Blocking> Way<E> for Asleep {
    #[inline]
    fn push(end: &mut E, next: u64, _: u64) -> u64 {
        end.send(next);
        1
    }

    #[inline]
    fn pull(end: &mut E, each: &mut impl FnMut(u64)) -> u64 {
        each(end.recv());
        1
    }
}

fn threads<M: Way<P::End>, P: Pair>(name: &'static str) -> Contender {
    Contender::threads(name, |call: Call<'_>| {
        between_threads::<P>(
            call.cpus,
            |desk, mut end| consume::<M, _>(desk, &mut end),
            |near| produce::<M, _>(near, call.plan),
        )
    })
}

fn processes<M: Way<W::End>, W: Wire>(name: &'static str) -> Contender {
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| produce::<M, _>(near, call.plan)),
        |mut setup: Setup| {
            let mut end = W::far(&mut setup)?;
            consume::<M, _>(&setup.desk, &mut end);
            Ok(())
        },
    )
}

/// Messages before anything is measured: they check, warm up and time one.
const FIRST: u64 = 50_000;
const WINDOW: u64 = 16 * CAPACITY as u64;

fn produce<M: Way<E>, E>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    let began = Instant::now();
    stream::<M, E>(near, FIRST)?;
    let window = began.elapsed().as_nanos() as f64 / FIRST as f64 * WINDOW as f64;
    let windows = (plan.length.as_nanos() as f64 / window).max(3.0) as u64;
    near.measured(|near| Ok((median(&mut stream::<M, E>(near, windows * WINDOW)?), None)))
}

/// Runs `count` messages; returns the time of a message, window by window.
fn stream<M: Way<E>, E>(near: &mut Near<'_, E>, count: u64) -> Result<Vec<f64>> {
    let mut windows = Vec::with_capacity((count / WINDOW) as usize + 1);
    near.order(count);
    let mut next = 0;
    while next < count {
        let (first, until) = (next, (next + WINDOW).min(count));
        let began = Instant::now();
        while next < until {
            match M::push(&mut near.end, next, count - next) {
                0 => std::hint::spin_loop(),
                sent => next += sent,
            }
        }
        windows.push(began.elapsed().as_nanos() as f64 / (next - first) as f64);
    }
    match near.answer() {
        received if received == count => Ok(windows),
        received => Err(format!("{count} messages were sent, {received} received").into()),
    }
}

/// Receives the ordered number of messages; returns it. A message that is not the successor of the
/// last one ends the program.
fn consume<M: Way<E>, E>(desk: &Desk, end: &mut E) {
    serve(desk, |count| {
        let (mut expected, mut wrong) = (0, 0);
        while expected < count {
            let mut check = |value| {
                wrong += u64::from(value != expected);
                expected += 1;
            };
            match M::pull(end, &mut check) {
                0 => std::hint::spin_loop(),
                _ => {
                    assert_eq!(wrong, 0, "a message before number {expected} was not the one after the last")
                }
            }
        }
        expected
    });
}
