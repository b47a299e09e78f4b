//! A value of 8, 64 and 256 bytes, read and written by one side that is alone.
//!
//! The reference is the least possible: an atomic beside plain bytes, which a reader could see half
//! written. Each value that is read must be one that was written.

use std::hint::black_box;

use pagemate::{Message, Value};

use super::timed;
use crate::contender::Between::Alone;
use crate::contender::{Bench, Call, Contender, Unit};
use crate::link::{Pair, Result, Wire};
use crate::links::bare_value::Bare;
use crate::object::Cell;
use crate::peer::Setup;
use crate::session::{self, Near, Repetition};

pub const GET: Bench = Bench {
    name: "value get",
    about: "a copy of 8, 64 and 256 bytes",
    unit: Unit::PerMessage,
    contenders: get,
};

pub const SET: Bench = Bench {
    name: "value set",
    about: "a new value of 8, 64 and 256 bytes",
    unit: Unit::PerMessage,
    contenders: set,
};

fn get() -> Vec<Contender> {
    vec![
        bare::<1, true>("atomic load, 8 B"),
        pagemate::<1, true>("pagemate Value, 8 B").at_most(2.0, "atomic load, 8 B", Alone),
        bare::<8, true>("atomic load and copy, 64 B"),
        pagemate::<8, true>("pagemate Value, 64 B").at_most(2.0, "atomic load and copy, 64 B", Alone),
        bare::<32, true>("atomic load and copy, 256 B"),
        pagemate::<32, true>("pagemate Value, 256 B").at_most(2.0, "atomic load and copy, 256 B", Alone),
    ]
}

fn set() -> Vec<Contender> {
    vec![
        bare::<1, false>("atomic store, 8 B"),
        pagemate::<1, false>("pagemate Value, 8 B").beside("atomic store, 8 B", Alone),
        bare::<8, false>("copy and atomic store, 64 B"),
        pagemate::<8, false>("pagemate Value, 64 B").beside("copy and atomic store, 64 B", Alone),
        bare::<32, false>("copy and atomic store, 256 B"),
        pagemate::<32, false>("pagemate Value, 256 B").beside("copy and atomic store, 256 B", Alone),
    ]
}

fn bare<const N: usize, const IS_GET: bool>(name: &'static str) -> Contender {
    Contender::alone(name, |call: Call<'_>| {
        let (end, _other) = Bare::<N>::pair()?;
        session::alone(&Setup::new(call.cpus)?, end, |near| measure::<N, IS_GET, _>(near, call))
    })
}

fn pagemate<const N: usize, const IS_GET: bool>(name: &'static str) -> Contender
where
    [u64; N]: Message,
{
    Contender::alone(name, |call: Call<'_>| {
        let mut setup = Setup::new(call.cpus)?;
        let end = Value::<[u64; N]>::offer(&mut setup)?;
        session::alone(&setup, end, |near| measure::<N, IS_GET, _>(near, call))
    })
}

fn measure<const N: usize, const IS_GET: bool, E: Cell<N>>(
    near: &mut Near<'_, E>,
    call: Call<'_>,
) -> Result<Repetition> {
    near.measured(|near| {
        let end = &mut near.end;
        end.set([7; N]);
        let nanos = timed::blocks(call.plan.length, |nth| {
            if IS_GET {
                let value = black_box(end.get());
                value[0] == 7 && value[N - 1] == 7
            } else {
                end.set(black_box([nth; N]));
                true
            }
        })?;
        let value = end.get();
        let is_one = value.iter().all(|word| *word == value[0]) && (IS_GET || value[0] > 7);
        is_one.then_some((nanos, None)).ok_or_else(|| "half a value, or an old one".into())
    })
}
