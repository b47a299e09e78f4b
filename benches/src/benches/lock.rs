//! Mutual exclusion: a number that is incremented under a lock, by one side that is alone and by
//! two that contend.
//!
//! Contended, the figure is the time per increment of both together, the median over windows. Each
//! side checks that the number only grows. At the end it must be the sum of the increments of both.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use pagemate::Mutex;

use super::alone::{self, Count};
use crate::contender::Between::{Alone, Processes};
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Pair, Result, Wire};
use crate::links::locks::{ParkingLotMutex, StdMutex};
use crate::links::pthread::Mutex as Pthread;
use crate::links::raw_sync::RawSyncMutex;
use crate::object::Locked;
use crate::peer::Setup;
use crate::session::{between_processes, between_threads, serve, Near, Repetition};
use crate::stats::median;

pub const UNCONTENDED: Bench = Bench {
    name: "lock",
    about: "lock, count up, unlock; nobody else wants the lock",
    unit: Unit::PerMessage,
    contenders: uncontended,
};

pub const CONTENDED: Bench = Bench {
    name: "lock, contended",
    about: "a number counted up under the lock by two sides as fast as they can",
    unit: Unit::PerMessage,
    contenders: contended,
};

const PAGEMATE: &str = "pagemate Mutex";
const STD: &str = "std Mutex";
const PTHREAD: &str = "pthread mutex";
const ROBUST: &str = "pthread mutex, robust";

fn uncontended() -> Vec<Contender> {
    vec![
        alone::pair::<Count, StdMutex>(STD),
        alone::pair::<Count, ParkingLotMutex>("parking_lot Mutex").beside(STD, Alone),
        alone::wire::<Count, Pthread<false>>(PTHREAD).beside(STD, Alone),
        alone::wire::<Count, Pthread<true>>(ROBUST).beside(STD, Alone),
        alone::wire::<Count, RawSyncMutex>("raw_sync Mutex").beside(STD, Alone),
        alone::wire::<Count, Mutex<u64>>(PAGEMATE).at_most(1.2, STD, Alone).at_most(0.8, ROBUST, Alone),
    ]
}

fn contended() -> Vec<Contender> {
    vec![
        processes::<Pthread<false>>(PTHREAD),
        processes::<Pthread<true>>(ROBUST).beside(PTHREAD, Processes),
        processes::<RawSyncMutex>("raw_sync Mutex").beside(PTHREAD, Processes),
        threads::<StdMutex>(STD).beside(PTHREAD, Processes),
        threads::<ParkingLotMutex>("parking_lot Mutex").beside(PTHREAD, Processes),
        processes::<Mutex<u64>>(PAGEMATE).at_most(1.0, PTHREAD, Processes),
    ]
}

fn threads<P: Pair>(name: &'static str) -> Contender
where
    P::End: Locked,
{
    Contender::threads(name, |call: Call<'_>| {
        between_threads::<P>(
            call.cpus,
            |desk, mut end| contend(desk, &mut end),
            |near| measure(near, call.plan),
        )
    })
}

fn processes<W: Wire>(name: &'static str) -> Contender
where
    W::End: Locked,
{
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| measure(near, call.plan)),
        |mut setup: Setup| {
            let mut end = W::far(&mut setup)?;
            contend(&setup.desk, &mut end);
            Ok(())
        },
    )
}

/// Desk lines: the far side has begun; the near side has seen enough.
const BEGUN: usize = 0;
const ENOUGH: usize = 1;

/// Increments of one side between two checks of anything else.
const BLOCK: u64 = 256;
const WINDOW: Duration = Duration::from_micros(200);
/// The far side's answer if the number did not grow.
const WRONG: u64 = u64::MAX;

fn measure<E: Locked>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    if !near.end.is_exclusive() {
        return Err("two held the lock at once".into());
    }
    near.measured(|near| {
        let desk = near.desk;
        near.order(0);
        while desk.lines[BEGUN].0.load(Acquire) == 0 {
            std::hint::spin_loop(); // pairs with contend()
        }
        let began = Instant::now();
        let (mut times, mut mine) = (Vec::new(), 0);
        while began.elapsed() < plan.length || times.is_empty() {
            let window = Instant::now();
            let first = near.end.count();
            let mut last = first;
            while window.elapsed() < WINDOW {
                last = block(&mut near.end, last).ok_or("the number did not grow")?;
                mine += BLOCK;
            }
            mine += 1;
            times.push(window.elapsed().as_nanos() as f64 / (last + 1 - first) as f64);
        }
        desk.lines[ENOUGH].0.store(1, Release); // pairs with contend()
        let theirs = near.answer();
        let number = near.end.count();
        if theirs == WRONG || number != mine + theirs {
            return Err(format!("{mine} and {theirs} increments made {number}").into());
        }
        Ok((median(&mut times), None))
    })
}

/// Increments until the near side has seen enough; returns the number of increments.
fn contend<E: Locked>(desk: &Desk, end: &mut E) {
    serve(desk, |_| {
        let mut last = end.count();
        let mut mine = 1;
        desk.lines[BEGUN].0.store(1, Release); // pairs with measure()
                                               // Pairs with measure().
        while desk.lines[ENOUGH].0.load(Acquire) == 0 {
            match block(end, last) {
                Some(number) => last = number,
                None => return WRONG,
            }
            mine += BLOCK;
        }
        mine
    });
}

/// Increments `BLOCK` times; returns the last number seen, if it grew each time.
fn block<E: Locked>(end: &mut E, mut last: u64) -> Option<u64> {
    let mut grew = true;
    for _ in 0..BLOCK {
        let number = end.count();
        grew &= number > last;
        last = number;
    }
    grew.then_some(last)
}
