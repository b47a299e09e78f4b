//! The speed of 8-byte messages from one producer to three consumers, each of which gets all of
//! them.
//!
//! The threads share two cores, so a side that cannot continue polls a little and then yields.
//! Consumers check the order. A lossy consumer also counts what it was told to have lost; received
//! and lost messages must add up.

use std::thread;
use std::time::Instant;

use crate::contender::Between::Threads;
use crate::contender::{Bench, Call, Contender, Unit};
use crate::cpu::pin;
use crate::link::Result;
use crate::links::broadcast::{Bus, Tokio};
use crate::links::disruptor::Disruptor;
use crate::links::fans::{Fan, Lossless, Lossy, Seen};
use crate::peer::Setup;
use crate::session::alone;

pub const BENCH: Bench = Bench {
    name: "fan-out 1+3",
    about: "8-byte messages from one producer to each of three consumers on two cores, busy-polling",
    unit: Unit::PerMessage,
    contenders,
};

fn contenders() -> Vec<Contender> {
    vec![
        threads::<Disruptor>("disruptor"),
        threads::<Lossless>("pagemate Topic, lossless").at_most(1.0, "disruptor", Threads),
        threads::<Bus>("bus").beside("disruptor", Threads),
        threads::<Tokio>("tokio broadcast, lossy"),
        threads::<Lossy>("pagemate Topic, lossy").beside("tokio broadcast, lossy", Threads),
    ]
}

const CONSUMERS: usize = 3;
/// Messages before anything is measured: they check and time one.
const FIRST: u64 = 50_000;

fn threads<F: Fan>(name: &'static str) -> Contender {
    Contender::threads(name, |call: Call<'_>| {
        let setup = Setup::new(call.cpus)?;
        alone(&setup, (), |near| {
            let each = run::<F>(call, FIRST)?;
            let count = (call.plan.length.as_nanos() as f64 / each).max(1.0) as u64;
            near.measured(|_| Ok((run::<F>(call, count)?, None)))
        })
    })
}

/// Sends `count` messages; returns the nanoseconds for each, until all consumers have finished.
fn run<F: Fan>(call: Call<'_>, count: u64) -> Result<f64> {
    let (mut tx, consumers) = F::fan(CONSUMERS)?;
    let cpus = [call.cpus.far, call.cpus.near];
    thread::scope(|scope| {
        let threads: Vec<_> = consumers
            .into_iter()
            .zip(cpus.into_iter().cycle())
            .map(|(rx, cpu)| {
                scope.spawn(move || {
                    pin(cpu).expect("this core was free to use a moment ago");
                    consume::<F>(rx, count)
                })
            })
            .collect();
        let began = Instant::now();
        let mut patience = Patience::default();
        for value in 0..count {
            while !F::try_send(&mut tx, value) {
                patience.lose();
            }
        }
        let all = threads.into_iter().all(|thread| thread.join().expect("a panic ends the program"));
        let nanos = began.elapsed().as_nanos() as f64 / count as f64;
        match all {
            true => Ok(nanos),
            false => Err(format!("a consumer did not get {count} messages in order").into()),
        }
    })
}

/// Receives until everything has come or was lost. Returns whether all was in order.
fn consume<F: Fan>(mut rx: F::Rx, count: u64) -> bool {
    let (mut expected, mut patience) = (0, Patience::default());
    while expected < count {
        match F::try_recv(&mut rx) {
            Seen::Message(value) if value == expected => expected += 1,
            Seen::Message(_) => return false,
            Seen::Lost(lost) => expected += lost,
            Seen::Nothing => {
                patience.lose();
                continue;
            }
        }
        patience = Patience::default();
    }
    true
}

/// Polls a little, then yields each time.
#[derive(Debug, Default)]
struct Patience(u32);

impl Patience {
    fn lose(&mut self) {
        self.0 += 1;
        match self.0 {
            0..64 => std::hint::spin_loop(),
            _ => thread::yield_now(),
        }
    }
}
