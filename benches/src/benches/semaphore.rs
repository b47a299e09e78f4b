//! Semaphores: acquire and release by one who is alone, and wake-ups to and fro between two processes.

use super::alone::{self, AcquireRelease};
use super::latency;
use super::wake::Sleepy;
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

fn uncontended() -> Vec<Contender> {
    vec![alone::wire::<AcquireRelease, pthread::Semaphore>(POSIX)]
}

fn ping_pong() -> Vec<Contender> {
    vec![latency::processes::<Sleepy<Signals<pthread::Semaphore>>>(POSIX)]
}
