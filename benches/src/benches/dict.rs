//! A table of 8-byte numbers by 8-byte numbers: 16,384 of them, whose keys are spread over all
//! numbers.
//!
//! Figures: of a get and a replace the median over blocks, on one core; for two readers at once the
//! time per get of both together. Of an insert and a remove the mean over a table that grows from
//! nothing or shrinks to it. Every value that is found is compared.

use pagemate::Dict;

use super::alone::{self, Read};
use super::{rwlock, timed};
use crate::contender::Between::Alone;
use crate::contender::{Bench, Call, Contender, Plan, Unit};
use crate::link::{Pair, Result, Wire};
use crate::links::lmdb::{FastLmdb, Lmdb};
use crate::links::python_manager as python;
use crate::links::redis::{self, Redis};
use crate::links::tables::{Dash, Locked, OwnMap, StdRwLockMap};
use crate::object::{Shared, Table};
use crate::peer::{self, Setup};
use crate::session::{self, Near, Repetition};

pub const GET: Bench = Bench {
    name: "dict get",
    about: "an 8-byte value by an 8-byte key, one reader, and two at once",
    unit: Unit::PerMessage,
    contenders: get,
};

pub const INSERT: Bench = Bench {
    name: "dict insert",
    about: "new keys into a table that grows",
    unit: Unit::PerMessage,
    contenders: insert,
};

pub const REPLACE: Bench = Bench {
    name: "dict replace",
    about: "another value for a key that is there",
    unit: Unit::PerMessage,
    contenders: replace,
};

pub const REMOVE: Bench = Bench {
    name: "dict remove",
    about: "every key of a table, one after the other",
    unit: Unit::PerMessage,
    contenders: remove,
};

const PAGEMATE: &str = "pagemate Dict";
const DASH: &str = "dashmap";
const LMDB: &str = "LMDB";
const FAST_LMDB: &str = "LMDB, NO_SYNC and WRITE_MAP";
const REDIS: &str = "Redis, Unix socket";
const PYTHON: &str = "Python Manager().dict()";
const READER: &str = "pagemate Dict, reader";
const DASH_READER: &str = "dashmap, reader";
const OWN_READER: &str = "a HashMap for each, reader";
const LOCKED_READER: &str = "std HashMap, std RwLock, reader";

const KEYS: u64 = 16_384;
/// The most keys of a table that grows. Slow contenders insert fewer.
const GROWN: u64 = 100_000;

/// Returns the `n`th key. No two are the same.
#[inline]
fn key(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Returns one of the keys that are there, in an order without a pattern for the processor.
#[inline]
fn any(nth: u64) -> u64 {
    nth.wrapping_mul(7919) % KEYS
}

/// An operation on a table.
trait Deed {
    const PYTHON: &'static str;
    /// Returns the figure.
    fn time<T: Table>(table: &mut T, plan: &Plan) -> Result<f64>;
}

struct Get;
struct Insert;
struct Replace;
struct Remove;

fn filled<T: Table>(table: &mut T) {
    table.fill((0..KEYS).map(|n| (key(n), n)));
}

impl Deed for Get {
    const PYTHON: &'static str = "get";

    fn time<T: Table>(table: &mut T, plan: &Plan) -> Result<f64> {
        filled(table);
        timed::blocks(plan.length, |nth| table.get(key(any(nth))) == Some(any(nth)))
    }
}

impl Deed for Insert {
    const PYTHON: &'static str = "insert";

    fn time<T: Table>(table: &mut T, plan: &Plan) -> Result<f64> {
        let mut count = 0;
        let nanos = timed::all(plan.length, GROWN, |nth| {
            table.put(key(nth), nth);
            count = nth + 1;
            true
        })?;
        let is_there = (0..count).all(|n| table.get(key(n)) == Some(n)) && table.get(key(count)).is_none();
        is_there.then_some(nanos).ok_or_else(|| "a key is missing".into())
    }
}

impl Deed for Replace {
    const PYTHON: &'static str = "replace";

    fn time<T: Table>(table: &mut T, plan: &Plan) -> Result<f64> {
        filled(table);
        let mut last = 0;
        let nanos = timed::blocks(plan.length, |nth| {
            table.put(key(any(nth)), nth);
            last = nth;
            true
        })?;
        let is_there = table.get(key(any(last))) == Some(last);
        is_there.then_some(nanos).ok_or_else(|| "a value was not replaced".into())
    }
}

impl Deed for Remove {
    const PYTHON: &'static str = "remove";

    fn time<T: Table>(table: &mut T, plan: &Plan) -> Result<f64> {
        filled(table);
        let nanos = timed::all(4 * plan.length, KEYS, |nth| table.remove(key(nth)))?;
        let is_gone = table.get(key(0)).is_none();
        is_gone.then_some(nanos).ok_or_else(|| "a key was not removed".into())
    }
}

fn of_pair<D: Deed, P: Pair>(name: &'static str) -> Contender
where
    P::End: Table,
{
    Contender::alone(name, |call: Call<'_>| {
        let (end, _other) = P::pair()?;
        session::alone(&Setup::new(call.cpus)?, end, |near| measure::<D, _>(near, call.plan))
    })
}

fn of_dict<D: Deed>() -> Contender {
    Contender::alone(PAGEMATE, |call: Call<'_>| {
        let mut setup = Setup::new(call.cpus)?;
        let end = Dict::offer(&mut setup)?;
        session::alone(&setup, end, |near| measure::<D, _>(near, call.plan))
    })
}

fn measure<D: Deed, T: Table>(near: &mut Near<'_, T>, plan: &Plan) -> Result<Repetition> {
    near.measured(|near| Ok((D::time(&mut near.end, plan)?, None)))
}

/// Returns all contenders but pagemate. One that cannot be run is left out, with a message.
fn others<D: Deed>() -> Vec<Contender> {
    let mut others = vec![
        of_pair::<D, Dash>(DASH),
        of_pair::<D, Locked>("std HashMap, pagemate Lock").beside(DASH, Alone),
        of_pair::<D, StdRwLockMap>("std HashMap, std RwLock").beside(DASH, Alone),
        of_pair::<D, Lmdb>(LMDB).beside(DASH, Alone),
        of_pair::<D, FastLmdb>(FAST_LMDB).beside(DASH, Alone),
    ];
    if is_there(redis::is_there(), "Redis", "redis-server") {
        // The server runs on the other core, if it is free.
        others.push(Contender::alone(REDIS, |call: Call<'_>| {
            crate::cpu::unpin(call.cpus)?;
            let (end, _other) = Redis::pair()?;
            session::alone(&Setup::new(call.cpus)?, end, |near| measure::<D, _>(near, call.plan))
        }));
    }
    if is_there(python::is_there(), "Python's Manager", "python3") {
        others.push(Contender::alone(PYTHON, |call: Call<'_>| python::measure(call, D::PYTHON)));
    }
    others
}

/// Returns `is_there`. If it is false, prints what is skipped, but not in a far side.
pub(super) fn is_there(is_there: bool, what: &str, program: &str) -> bool {
    if !is_there && std::env::args_os().nth(1).is_none_or(|first| first != peer::FAR) {
        eprintln!("{what} is skipped: there is no {program}");
    }
    is_there
}

/// Compares with those contenders that can be run.
fn with_pagemate(
    mut all: Vec<Contender>,
    bars: &[(Option<f64>, &'static str)],
    deed: Contender,
) -> Vec<Contender> {
    let mut pagemate = deed;
    for &(bar, name) in bars.iter().filter(|(_, name)| all.iter().any(|there| there.name == *name)) {
        pagemate = match bar {
            Some(bar) => pagemate.at_most(bar, name, Alone),
            None => pagemate.beside(name, Alone),
        };
    }
    all.push(pagemate);
    all
}

fn get() -> Vec<Contender> {
    // At least four times LMDB's rate, and so on.
    let two_hundred = Some(1.0 / 200.0);
    let bars = [
        (Some(3.0), DASH),
        (Some(1.0 / 4.0), LMDB),
        (None, FAST_LMDB),
        (two_hundred, REDIS),
        (two_hundred, PYTHON),
    ];
    let mut all = with_pagemate(others::<Get>(), &bars, of_dict::<Get>());
    // Two readers beside one that does the very same.
    all.push(alone::pair::<Read, Reader<Dash>>(DASH_READER));
    all.push(rwlock::threads::<Reader<Dash>>(DASH_READER).beside(DASH_READER, Alone));
    all.push(alone::pair::<Read, Reader<StdRwLockMap>>(LOCKED_READER));
    all.push(rwlock::threads::<Reader<StdRwLockMap>>(LOCKED_READER).beside(LOCKED_READER, Alone));
    all.push(alone::pair::<Read, Reader<OwnMap>>(OWN_READER));
    all.push(rwlock::threads::<Reader<OwnMap>>(OWN_READER).beside(OWN_READER, Alone));
    // At least 1.8 times one reader's rate.
    all.push(alone::wire::<Read, Reader<Dict<u64, u64>>>(READER));
    all.push(rwlock::processes::<Reader<Dict<u64, u64>>>(READER).at_most(1.0 / 1.8, READER, Alone));
    all
}

fn insert() -> Vec<Contender> {
    let bars = [
        (None, DASH),
        (Some(1.0 / 10.0), LMDB),
        (Some(1.0 / 10.0), FAST_LMDB),
        (None, REDIS),
        (None, PYTHON),
    ];
    with_pagemate(others::<Insert>(), &bars, of_dict::<Insert>())
}

fn replace() -> Vec<Contender> {
    let bars = [(None, DASH), (None, LMDB), (None, FAST_LMDB), (None, REDIS), (None, PYTHON)];
    with_pagemate(others::<Replace>(), &bars, of_dict::<Replace>())
}

fn remove() -> Vec<Contender> {
    let bars = [(None, DASH), (None, LMDB), (None, FAST_LMDB), (None, REDIS), (None, PYTHON)];
    with_pagemate(others::<Remove>(), &bars, of_dict::<Remove>())
}

/// Two sides that look up keys at once, on ends of `L`.
struct Reader<L>(L);

/// An end, and its position among the keys.
struct Reading<T> {
    table: T,
    nth: u64,
}

impl<T: Table> Shared for Reading<T> {
    #[inline]
    fn read(&mut self) -> bool {
        self.nth += 1;
        self.table.get(key(any(self.nth))) == Some(any(self.nth))
    }

    /// Writes the same value again: for a reader nothing changes, whatever it sees of the write.
    fn write(&mut self) {
        self.nth += 1;
        self.table.put(key(any(self.nth)), any(self.nth));
    }
}

impl<P: Pair> Pair for Reader<P>
where
    P::End: Table,
{
    type End = Reading<P::End>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let (mut one, mut other) = P::pair()?;
        filled(&mut one);
        filled(&mut other); // the same, unless each has its own
        Ok((Reading { table: one, nth: 0 }, Reading { table: other, nth: KEYS / 2 }))
    }
}

impl Wire for Reader<Dict<u64, u64>> {
    type End = Reading<Dict<u64, u64>>;
    type Offer = Dict<u64, u64>;

    fn offer(setup: &mut Setup) -> Result<Self::Offer> {
        let mut table = Dict::offer(setup)?;
        filled(&mut table);
        Ok(table)
    }

    fn near(table: Self::Offer, _: &Setup) -> Result<Self::End> {
        Ok(Reading { table, nth: 0 })
    }

    fn far(setup: &mut Setup) -> Result<Self::End> {
        Ok(Reading { table: Dict::far(setup)?, nth: KEYS / 2 })
    }
}
