//! Readers of a read-write lock: one that is alone, and two at once, which should be twice as fast
//! together.
//!
//! Figure: the time per reading of all readers together, each side's the median over blocks while
//! the other reads too. Before that one side writes while the other reads: nothing may be seen half
//! written.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use pagemate::RwLock;

use super::alone::{self, Read};
use crate::contender::Between::Alone;
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Pair, Result, Wire};
use crate::links::locks::{ParkingLotRwLock, StdRwLock};
use crate::links::pthread::RwLock as Pthread;
use crate::object::Shared;
use crate::peer::Setup;
use crate::session::{between_processes, between_threads, serve, Near, Repetition};
use crate::stats::median;

pub const BENCH: Bench = Bench {
    name: "rwlock",
    about: "lock for reading, read, unlock; one reader, and two at once",
    unit: Unit::PerMessage,
    contenders,
};

fn contenders() -> Vec<Contender> {
    vec![
        alone::wire::<Read, Pthread>("pthread rwlock"),
        processes::<Pthread>("pthread rwlock").beside("pthread rwlock", Alone),
        alone::pair::<Read, StdRwLock>("std RwLock"),
        threads::<StdRwLock>("std RwLock").beside("std RwLock", Alone),
        alone::pair::<Read, ParkingLotRwLock>("parking_lot RwLock"),
        threads::<ParkingLotRwLock>("parking_lot RwLock").beside("parking_lot RwLock", Alone),
        alone::wire::<Read, RwLock<[u64; 2]>>("pagemate RwLock"),
        // At least 1.8 times one reader's rate.
        processes::<RwLock<[u64; 2]>>("pagemate RwLock").at_most(1.0 / 1.8, "pagemate RwLock", Alone),
    ]
}

pub(super) fn threads<P: Pair>(name: &'static str) -> Contender
where
    P::End: Shared,
{
    Contender::threads(name, |call: Call<'_>| {
        between_threads::<P>(
            call.cpus,
            |desk, mut end| serve(desk, |run| read_on(desk, &mut end, run)),
            |near| measure(near, call.plan),
        )
    })
}

pub(super) fn processes<W: Wire>(name: &'static str) -> Contender
where
    W::End: Shared,
{
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| measure(near, call.plan)),
        |mut setup: Setup| {
            let mut end = W::far(&mut setup)?;
            serve(&setup.desk, |run| read_on(&setup.desk, &mut end, run));
            Ok(())
        },
    )
}

/// Desk lines: the run that the far side has begun; the run of which the near side has seen enough.
const BEGUN: usize = 0;
const ENOUGH: usize = 1;

const BLOCK: u64 = 256;
const WRITES: u64 = 2_000;
/// The far side's answer if it saw something half written; else the picoseconds of a reading.
const TORN: u64 = u64::MAX;

fn measure<E: Shared>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    while_read(near, 1, |end| {
        (0..WRITES).for_each(|_| end.write());
        Ok(())
    })?;
    near.measured(|near| {
        let mut times = Vec::new();
        let theirs = while_read(near, 2, |end| {
            let began = Instant::now();
            while began.elapsed() < plan.length {
                times.push(block(end).ok_or("something was half written")?);
            }
            Ok(())
        })?;
        Ok((1.0 / (1.0 / median(&mut times) + 1.0 / theirs), None))
    })
}

/// Does something while the far side reads; returns the time of a reading there.
fn while_read<E: Shared>(
    near: &mut Near<'_, E>,
    run: u64,
    something: impl FnOnce(&mut E) -> Result<()>,
) -> Result<f64> {
    let desk = near.desk;
    near.order(run);
    while desk.lines[BEGUN].0.load(Acquire) != run {
        std::hint::spin_loop(); // pairs with read_on()
    }
    something(&mut near.end)?;
    desk.lines[ENOUGH].0.store(run, Release); // pairs with read_on()
    match near.answer() {
        TORN => Err("something was half written".into()),
        picos => Ok(picos as f64 / 1e3),
    }
}

/// Reads until the near side has seen enough.
fn read_on<E: Shared>(desk: &Desk, end: &mut E, run: u64) -> u64 {
    let mut times = Vec::new();
    // Pairs with while_read().
    while desk.lines[ENOUGH].0.load(Acquire) != run {
        match block(end) {
            Some(nanos) => times.push(nanos),
            None => return TORN,
        }
        desk.lines[BEGUN].0.store(run, Release); // pairs with while_read()
    }
    (median(&mut times) * 1e3) as u64
}

/// Returns the time of a reading, if all were right.
fn block<E: Shared>(end: &mut E) -> Option<f64> {
    let mut right = true;
    let began = Instant::now();
    for _ in 0..BLOCK {
        right &= end.read();
    }
    right.then_some(began.elapsed().as_nanos() as f64 / BLOCK as f64)
}
