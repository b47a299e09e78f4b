//! A list of 8-byte numbers: appended, and read at any index.
//!
//! Figures: of a push the mean over a list that grows from nothing, of a get the median over
//! blocks. Every element is compared.

use std::sync::{Arc, Mutex};

use pagemate::List;

use super::dict::is_there;
use super::timed;
use crate::contender::Between::Alone;
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::link::{Result, Wire};
use crate::links::python_manager as python;
use crate::object::Sequence;
use crate::peer::Setup;
use crate::session::{self, Near, Repetition};

pub const PUSH: Bench = Bench {
    name: "list push",
    about: "8 bytes behind a list that grows",
    unit: Unit::PerMessage,
    contenders: push,
};

pub const GET: Bench =
    Bench { name: "list get", about: "8 bytes by their index", unit: Unit::PerMessage, contenders: get };

const VEC: &str = "std Vec, std Mutex";
const PYTHON: &str = "Python Manager().list()";
const ELEMENTS: u64 = 16_384;
/// The most elements of a list that grows. Slow contenders push fewer.
const GROWN: u64 = 1_000_000;

type Locked = Arc<Mutex<Vec<u64>>>;

impl Sequence for Locked {
    #[inline]
    fn push(&mut self, value: u64) {
        self.lock().expect("a panic ends the program").push(value);
    }

    #[inline]
    fn get(&mut self, index: u64) -> Option<u64> {
        self.lock().expect("a panic ends the program").get(index as usize).copied()
    }
}

fn push() -> Vec<Contender> {
    contenders::<true>()
}

fn get() -> Vec<Contender> {
    contenders::<false>()
}

fn contenders<const IS_PUSH: bool>() -> Vec<Contender> {
    let mut all = vec![Contender::alone(VEC, |call: Call<'_>| {
        session::alone(&Setup::new(call.cpus)?, Locked::default(), |near| {
            measure::<IS_PUSH, _>(near, call.plan)
        })
    })];
    let pagemate = Contender::alone("pagemate List", |call: Call<'_>| {
        let mut setup = Setup::new(call.cpus)?;
        let end = List::<u64>::offer(&mut setup)?;
        session::alone(&setup, end, |near| measure::<IS_PUSH, _>(near, call.plan))
    });
    let mut pagemate = pagemate.beside(VEC, Alone);
    if is_there(python::is_there(), "Python's Manager", "python3") {
        all.push(Contender::alone(PYTHON, |call: Call<'_>| {
            python::measure(call, if IS_PUSH { "push" } else { "element" })
        }));
        pagemate = pagemate.beside(PYTHON, Alone);
    }
    all.push(pagemate);
    all
}

fn measure<const IS_PUSH: bool, E: Sequence>(near: &mut Near<'_, E>, plan: &Plan) -> Result<Repetition> {
    near.measured(|near| {
        let end = &mut near.end;
        if !IS_PUSH {
            (0..ELEMENTS).for_each(|n| end.push(n));
            let any = |nth: u64| nth.wrapping_mul(7919) % ELEMENTS;
            return Ok((timed::blocks(plan.length, |nth| end.get(any(nth)) == Some(any(nth)))?, None));
        }
        let mut count = 0;
        let nanos = timed::all(plan.length, GROWN, |nth| {
            end.push(nth);
            count = nth + 1;
            true
        })?;
        let is_there = (0..count).all(|n| end.get(n) == Some(n)) && end.get(count).is_none();
        is_there.then_some((nanos, None)).ok_or_else(|| "an element is missing".into())
    })
}
