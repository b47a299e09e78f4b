//! Pools of two workers: the cost of a task that does next to nothing, and of one that takes a
//! microsecond.
//!
//! Figure: the time of a map of many tasks, divided by their number; the median over several maps.
//! Not pinned, because a pool and its submitter are more than two sides. One map before is not
//! counted, and each result is checked.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::contender::Between::{self, Processes, Threads};
use crate::contender::{Bench, Call, Contender, Unit};
use crate::cpu::unpin;
use crate::link::Result;
use crate::links::python;
use crate::probe::probe;
use crate::session::Repetition;
use crate::stats::median;
use crate::worker_pool::{Trade, WorkerPool};

pub const CHUNKS: Bench = Bench {
    name: "pool",
    about: "tasks that do next to nothing, in chunks as large as the pool thinks best",
    unit: Unit::PerMessage,
    contenders: chunks,
};

pub const SINGLE: Bench = Bench {
    name: "pool, one by one",
    about: "tasks that do next to nothing, each handed over by itself",
    unit: Unit::PerMessage,
    contenders: single,
};

pub const MICROSECOND: Bench = Bench {
    name: "pool, 1 us",
    about: "tasks that take a microsecond, in chunks as large as the pool thinks best",
    unit: Unit::Time,
    contenders: microsecond,
};

const PAGEMATE: &str = "pagemate Pool";
const RAYON: &str = "rayon";
const PYTHON: &str = "Python's Pool";
const FUTURES: &str = "Python's executor";
const PROCSPAWN: &str = "procspawn";

/// Slow pools run a tenth of the tasks.
const FEWER: usize = 10;

fn contender(name: &'static str, between: Between, near: fn(Call<'_>) -> Result<Repetition>) -> Contender {
    Contender { name, between, near, far: None, against: Vec::new() }
}

fn chunks() -> Vec<Contender> {
    let mut all = vec![contender(RAYON, Threads, |call| trivial::<rayon::ThreadPool>(call, 1, None))];
    let mut pagemate = contender(PAGEMATE, Processes, |call| trivial::<pagemate::Pool>(call, 1, None));
    pagemate = pagemate.beside(RAYON, Threads);
    if python::is_there() {
        all.push(contender(PYTHON, Processes, |call| script(call, python::Pool::Multiprocessing, 1, None)));
        all.push(contender(FUTURES, Processes, |call| script(call, python::Pool::Futures, 1, None)));
        pagemate = pagemate.at_most(1.0 / 20.0, PYTHON, Processes).at_most(1.0 / 20.0, FUTURES, Processes);
    }
    all.push(pagemate);
    all
}

fn single() -> Vec<Contender> {
    let mut all = vec![
        contender(RAYON, Threads, |call| trivial::<rayon::ThreadPool>(call, 1, Some(1))),
        contender(PROCSPAWN, Processes, |call| trivial::<procspawn::Pool>(call, FEWER, Some(1))),
    ];
    let mut pagemate = contender(PAGEMATE, Processes, |call| trivial::<pagemate::Pool>(call, 1, Some(1)));
    pagemate = pagemate.beside(RAYON, Threads).beside(PROCSPAWN, Processes);
    if python::is_there() {
        all.push(contender(PYTHON, Processes, |call| {
            script(call, python::Pool::Multiprocessing, FEWER, Some(1))
        }));
        all.push(contender(FUTURES, Processes, |call| script(call, python::Pool::Futures, FEWER, Some(1))));
        pagemate = pagemate.at_most(1.0 / 100.0, PYTHON, Processes).at_most(1.0 / 100.0, FUTURES, Processes);
    }
    all.push(pagemate);
    all
}

fn microsecond() -> Vec<Contender> {
    vec![
        contender(RAYON, Threads, spin::<rayon::ThreadPool>),
        contender(PAGEMATE, Processes, spin::<pagemate::Pool>).at_most(1.1, RAYON, Threads),
    ]
}

fn trivial<C: WorkerPool>(call: Call<'_>, fewer: usize, chunk: Option<usize>) -> Result<Repetition> {
    let items: Vec<u64> = (0..(call.plan.tasks / fewer) as u64).collect();
    measure::<C>(call, |item| item + 1, &items, chunk, |item| item + 1)
}

fn spin<C: WorkerPool>(call: Call<'_>) -> Result<Repetition> {
    // Calibrated once, so that all contenders do the same work even if the core is slower
    // meanwhile.
    static STEPS: OnceLock<(u64, u64)> = OnceLock::new();
    let &(steps, result) = STEPS.get_or_init(|| {
        let steps = steps_in(Duration::from_micros(1));
        (steps, walk(steps))
    });
    measure::<C>(call, walk, &vec![steps; call.plan.tasks], None, |_| result)
}

/// Takes this number of dependent steps, which no compiler can shorten.
fn walk(steps: u64) -> u64 {
    let mut word = steps | 1;
    for _ in 0..steps {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
    }
    word
}

/// Returns the number of steps that take this time: by the fastest of many walks, which nothing has
/// interrupted.
fn steps_in(time: Duration) -> u64 {
    const WALK: u64 = 10_000;
    let took = |_| {
        let began = Instant::now();
        std::hint::black_box(walk(std::hint::black_box(WALK)));
        began.elapsed()
    };
    let fastest = (0..200).map(took).min().unwrap_or(time);
    (WALK as f64 * time.as_secs_f64() / fastest.as_secs_f64()) as u64
}

fn measure<C: WorkerPool>(
    call: Call<'_>,
    trade: Trade,
    items: &[u64],
    chunk: Option<usize>,
    expected: impl Fn(u64) -> u64,
) -> Result<Repetition> {
    let before = probe(call.cpus)?;
    unpin(call.cpus)?;
    let mut pool = C::hire()?;
    let mut map = |items: &[u64]| -> Result<f64> {
        let began = Instant::now();
        let results = pool.map(trade, items, chunk)?;
        let took = began.elapsed();
        if !results.iter().copied().eq(items.iter().map(|&item| expected(item))) {
            return Err("a task returned a wrong result".into());
        }
        Ok(took.as_nanos() as f64 / items.len() as f64)
    };
    // After this map the workers have begun, and the system has found a core for each.
    map(items)?;
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < call.plan.length || times.is_empty() {
        times.push(map(items)?);
    }
    drop(pool);
    let after = probe(call.cpus)?;
    Ok(Repetition { nanos: median(&mut times), before, after, spread: None })
}

fn script(call: Call<'_>, pool: python::Pool, fewer: usize, chunk: Option<usize>) -> Result<Repetition> {
    let before = probe(call.cpus)?;
    unpin(call.cpus)?;
    let nanos = pool.time(call.plan.tasks / fewer, chunk, call.plan.length.as_secs_f64())?;
    let after = probe(call.cpus)?;
    Ok(Repetition { nanos, before, after, spread: None })
}
