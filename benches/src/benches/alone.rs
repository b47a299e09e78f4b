//! The cost of an object that nobody else wants: an operation repeated on one core.
//!
//! Figure: the median over blocks. Each operation returns whether what it found was right, and the
//! object is tried before.

use std::time::Instant;

use crate::contender::{Call, Contender, Plan};
use crate::link::{Pair, Result, Wire};
use crate::object::{Flag, Locked, Permits, Shared};
use crate::peer::Setup;
use crate::session::{self, Near, Repetition};
use crate::stats::median;

/// The operation that is repeated.
pub trait Deed<E> {
    /// Returns whether the object does its job.
    fn works(end: &mut E) -> bool;
    /// Runs for the `nth` time, counted from 0. Returns whether all was right.
    fn again(end: &mut E, nth: u64) -> bool;
}

/// Locks, counts up, unlocks.
#[derive(Debug)]
pub struct Count;

impl<E: Locked> Deed<E> for Count {
    fn works(end: &mut E) -> bool {
        end.is_exclusive()
    }

    #[inline]
    fn again(end: &mut E, nth: u64) -> bool {
        end.count() == nth
    }
}

/// Locks for reading, reads, unlocks.
#[derive(Debug)]
pub struct Read;

impl<E: Shared> Deed<E> for Read {
    fn works(end: &mut E) -> bool {
        end.write();
        end.read()
    }

    #[inline]
    fn again(end: &mut E, _: u64) -> bool {
        end.read()
    }
}

/// Acquires the only permit and releases it.
#[derive(Debug)]
pub struct AcquireRelease;

impl<E: Permits> Deed<E> for AcquireRelease {
    fn works(end: &mut E) -> bool {
        end.acquire();
        let second = end.try_acquire();
        end.release();
        let third = end.try_acquire();
        end.release();
        !second && third
    }

    #[inline]
    fn again(end: &mut E, _: u64) -> bool {
        end.acquire();
        end.release();
        true
    }
}

/// Sets and clears.
#[derive(Debug)]
pub struct SetClear;

impl<E: Flag> Deed<E> for SetClear {
    fn works(end: &mut E) -> bool {
        end.set();
        let set = end.is_set();
        end.clear();
        set && !end.is_set()
    }

    #[inline]
    fn again(end: &mut E, _: u64) -> bool {
        end.set();
        end.clear();
        true
    }
}

/// Returns a contender that measures an object of one process.
pub fn pair<D: Deed<P::End>, P: Pair>(name: &'static str) -> Contender {
    Contender::alone(name, |call: Call<'_>| {
        let (end, _other) = P::pair()?;
        session::alone(&Setup::new(call.cpus)?, end, |near| measure::<D, _>(near, call.plan))
    })
}

/// Returns a contender that measures an object that processes can share.
pub fn wire<D: Deed<W::End>, W: Wire>(name: &'static str) -> Contender {
    Contender::alone(name, |call| {
        let mut setup = Setup::new(call.cpus)?;
        let offer = W::offer(&mut setup)?;
        let end = W::near(offer, &setup)?;
        session::alone(&setup, end, |near| measure::<D, _>(near, call.plan))
    })
}

const BLOCK: u64 = 1_000;
/// Blocks before anything is measured: they warm up and say how long one takes.
const FIRST: u64 = 20;

fn measure<D: Deed<E>, E>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    let mut next = 0;
    let works = D::works(&mut near.end);
    let mut times = blocks::<D, E>(&mut near.end, FIRST, &mut next)?;
    let count = (plan.length.as_nanos() as f64 / median(&mut times) / BLOCK as f64) as u64;
    let repetition = near.measured(|near| {
        Ok((median(&mut blocks::<D, E>(&mut near.end, count.max(FIRST), &mut next)?), None))
    })?;
    if !works || !D::works(&mut near.end) {
        return Err("the object does not do what it is for".into());
    }
    Ok(repetition)
}

/// Returns the time of a deed, block by block.
fn blocks<D: Deed<E>, E>(end: &mut E, count: u64, next: &mut u64) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut right = true;
        let began = Instant::now();
        for nth in *next..*next + BLOCK {
            right &= D::again(end, nth);
        }
        times.push(began.elapsed().as_nanos() as f64 / BLOCK as f64);
        *next += BLOCK;
        if !right {
            return Err(format!("wrong within {BLOCK} before number {next}").into());
        }
    }
    Ok(times)
}
