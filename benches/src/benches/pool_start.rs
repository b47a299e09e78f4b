//! A pool of two workers from nothing, beside two processes that start and end.
//!
//! Figure: the median over many starts, without the end of the pool. Not pinned, like any program's
//! start.

use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Instant;

use pagemate::{Barrier, Pool, Process};

use crate::contender::Between::Processes;
use crate::contender::{Bench, Call, Contender, Unit};
use crate::cpu::unpin;
use crate::link::Result;
use crate::probe::probe;
use crate::session::Repetition;
use crate::stats::median;
use crate::worker_pool::WORKERS;

pub const BENCH: Bench = Bench {
    name: "pool, start",
    about: "a pool of two from nothing, and two processes that are started and end",
    unit: Unit::Time,
    contenders,
};

/// The first argument of a process that ends at once.
pub const NOTHING: &str = "--nothing";

const POSIX: &str = "two posix_spawns";
const SPAWN: &str = "two Process::spawns";

fn contenders() -> Vec<Contender> {
    let contender = |name, near| Contender { name, between: Processes, near, far: None, against: Vec::new() };
    vec![
        contender(POSIX, |call| measure(call, posix)),
        contender(SPAWN, |call| measure(call, spawn)).beside(POSIX, Processes),
        contender("Pool::new", |call| measure(call, pool)).beside(POSIX, Processes).beside(SPAWN, Processes),
        contender("Pool, a result of each", |call| measure(call, results))
            .at_most(1.2, POSIX, Processes)
            .at_most(1.2, SPAWN, Processes),
    ]
}

/// Starts this program, doing nothing, by the system's own means, and waits until all have ended.
fn posix() -> Result<f64> {
    let began = Instant::now();
    let start = |_| Command::new("/proc/self/exe").arg(NOTHING).spawn();
    let children: Vec<Child> = (0..WORKERS).map(start).collect::<std::io::Result<_>>()?;
    for mut child in children {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("a process that does nothing ended with {status}").into());
        }
    }
    Ok(began.elapsed().as_nanos() as f64)
}

/// Starts processes that run a function, and waits until all have ended.
fn spawn() -> Result<f64> {
    let began = Instant::now();
    let start = |n| Process::spawn(|n: u64| n + 1, n);
    let children: Vec<Process<u64>> = (0..WORKERS as u64).map(start).collect::<pagemate::Result<_>>()?;
    for (n, child) in (0..).zip(children) {
        if child.join()? != n + 1 {
            return Err("a process returned a wrong result".into());
        }
    }
    Ok(began.elapsed().as_nanos() as f64)
}

fn pool() -> Result<f64> {
    let began = Instant::now();
    let pool = Pool::new(WORKERS)?;
    let nanos = began.elapsed().as_nanos() as f64;
    drop(pool);
    Ok(nanos)
}

/// Runs until each worker has run a task, in which the workers wait for each other.
fn results() -> Result<f64> {
    static ALL_HERE: OnceLock<Barrier> = OnceLock::new();
    let all_here = Barrier::new(WORKERS as u32)?;
    let began = Instant::now();
    let keep = |barrier| drop(ALL_HERE.set(barrier));
    let pool = Pool::builder().workers(WORKERS).initializer(keep, all_here).build()?;
    let meet = |()| ALL_HERE.get().is_some_and(|all_here| all_here.wait().is_ok());
    let met = pool.task_options().chunk_size(1).map(meet, [(); WORKERS])?;
    let nanos = began.elapsed().as_nanos() as f64;
    if met != [true; WORKERS] {
        return Err("the workers did not meet".into());
    }
    Ok(nanos)
}

fn measure(call: Call<'_>, start: fn() -> Result<f64>) -> Result<Repetition> {
    let before = probe(call.cpus)?;
    unpin(call.cpus)?;
    start()?;
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < call.plan.length || times.is_empty() {
        times.push(start()?);
    }
    let after = probe(call.cpus)?;
    Ok(Repetition { nanos: median(&mut times), before, after, spread: None })
}
