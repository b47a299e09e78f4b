//! The two cores of a measurement: one side each.

use std::io;

use rustix::thread::{sched_getaffinity, sched_setaffinity, CpuSet};

/// The cores of the near side, which measures, and of the far side, which answers.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    pub near: usize,
    pub far: usize,
}

impl Cpus {
    /// Returns the first two cores that this process may run on.
    pub fn first_two() -> io::Result<Cpus> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        match (cpus.next(), cpus.next()) {
            (Some(near), Some(far)) => Ok(Cpus { near, far }),
            _ => Err(io::Error::other("the benches need two cores: one for each side")),
        }
    }
}

/// Keeps the calling thread on one core. Threads and processes that it starts inherit that.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

/// Lets the calling thread run on both cores again.
pub fn unpin(cpus: Cpus) -> io::Result<()> {
    let mut both = CpuSet::new();
    both.set(cpus.near);
    both.set(cpus.far);
    Ok(sched_setaffinity(None, &both)?)
}
