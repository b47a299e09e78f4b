//! Semaphores: acquire and release by one side that is alone, and wake-ups to and fro between two
//! processes.

use pagemate::{BoundedSemaphore, Semaphore};

use super::alone::{self, AcquireRelease};
use super::latency;
use super::wake::Sleepy;
use crate::contender::Between::{Alone, Processes};
use crate::contender::{Bench, Contender, Unit};
use crate::links::pthread;
use crate::object::Signals;

pub const UNCONTENDED: Bench = Bench {
    name: "semaphore",
    about: "acquire and release; nobody else wants a permit",
    unit: Unit::PerMessage,
    contenders: uncontended,
};

pub const PING_PONG: Bench = Bench {
    name: "semaphore, ping-pong",
    about: "one way of a ping-pong of two processes, a semaphore for each direction",
    unit: Unit::Time,
    contenders: ping_pong,
};

const POSIX: &str = "sem_t";
const PAGEMATE: &str = "pagemate Semaphore";

fn uncontended() -> Vec<Contender> {
    vec![
        alone::wire::<AcquireRelease, pthread::Semaphore>(POSIX),
        alone::wire::<AcquireRelease, Semaphore>(PAGEMATE).at_most(1.1, POSIX, Alone),
        alone::wire::<AcquireRelease, BoundedSemaphore>("pagemate BoundedSemaphore").beside(POSIX, Alone),
    ]
}

fn ping_pong() -> Vec<Contender> {
    vec![
        latency::processes::<Sleepy<Signals<pthread::Semaphore>>>(POSIX),
        latency::processes::<Sleepy<Signals<Semaphore>>>(PAGEMATE).at_most(1.1, POSIX, Processes),
    ]
}
