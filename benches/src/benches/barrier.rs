//! Rounds of a barrier between two processes.
//!
//! Each side writes its round on a line before it waits and finds the other's there afterwards.
//! Each round singles out one of the two.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use pagemate::Barrier;

use crate::contender::Between::Processes;
use crate::contender::{Bench, Contender, Plan, Unit};
use crate::desk::Desk;
use crate::link::{Result, Wire};
use crate::links::pthread;
use crate::object::Meeting;
use crate::peer::Setup;
use crate::session::{between_processes, serve, Near, Repetition};
use crate::stats::median;

pub const BENCH: Bench =
    Bench { name: "barrier", about: "rounds of two processes", unit: Unit::PerMessage, contenders };

const PTHREAD: &str = "pthread barrier";

fn contenders() -> Vec<Contender> {
    vec![
        processes::<pthread::Barrier>(PTHREAD),
        processes::<Barrier>("pagemate Barrier").beside(PTHREAD, Processes),
    ]
}

fn processes<W: Wire>(name: &'static str) -> Contender
where
    W::End: Meeting,
{
    Contender::processes(
        name,
        |call| between_processes::<W>(call.cpus, call.role, |near| measure(near, call.plan)),
        |mut setup: Setup| {
            let mut end = W::far(&mut setup)?;
            let mut met = 0;
            serve(&setup.desk, |rounds| {
                let led = (0..rounds).try_fold(0, |led, _| meet(&setup.desk, &mut end, 1, &mut met, led));
                led.unwrap_or(WRONG)
            });
            Ok(())
        },
    )
}

const BLOCK: u64 = 100;
/// Rounds before anything is measured: they check, warm up and time one.
const FIRST: u64 = 2_000;
/// The far side's answer if the near one was not there.
const WRONG: u64 = u64::MAX;

fn measure<E: Meeting>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    let mut met = 0;
    let each = median(&mut rounds(near, FIRST, &mut met)?);
    near.measured(|near| {
        let count = (plan.length.as_nanos() as f64 / each) as u64;
        Ok((median(&mut rounds(near, count.next_multiple_of(BLOCK), &mut met)?), None))
    })
}

/// Runs `count` rounds; returns the time of one, block by block.
fn rounds<E: Meeting>(near: &mut Near<'_, E>, count: u64, met: &mut u64) -> Result<Vec<f64>> {
    let (mut times, mut led) = (Vec::new(), 0);
    near.order(count);
    for _ in 0..count / BLOCK {
        let began = Instant::now();
        for _ in 0..BLOCK {
            led = meet(near.desk, &mut near.end, 0, met, led).ok_or("the other side was not there")?;
        }
        times.push(began.elapsed().as_nanos() as f64 / BLOCK as f64);
    }
    match near.answer() {
        WRONG => Err("the other side was alone".into()),
        theirs if led + theirs != count => {
            Err(format!("of {count} rounds one side led {led}, the other {theirs}").into())
        }
        _ => Ok(times),
    }
}

/// Runs one round of `side`, 0 or 1; returns how many rounds it has led then. None if the other
/// side is neither in the same round nor in the next.
#[inline]
fn meet<E: Meeting>(desk: &Desk, end: &mut E, side: usize, met: &mut u64, led: u64) -> Option<u64> {
    *met += 1;
    desk.lines[side].0.store(*met, Relaxed); // handed over by the barrier
    let leads = end.meet();
    let other = desk.lines[1 - side].0.load(Relaxed);
    (other == *met || other == *met + 1).then_some(led + u64::from(leads))
}
