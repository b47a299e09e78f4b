//! Condition variables: a ping-pong of two processes through mailboxes, each a lock, a condition and a value.

use super::latency;
use super::wake::Sleepy;
use crate::contender::{Bench, Contender, Unit};
use crate::links::pthread::Mailboxes;

pub const BENCH: Bench = Bench {
    name: "condvar, ping-pong",
    about: "one way of a ping-pong of two processes, a lock and a condition for each direction",
    unit: Unit::Time,
    contenders,
};

const PTHREAD: &str = "pthread condvar";

fn contenders() -> Vec<Contender> {
    vec![latency::processes::<Sleepy<Mailboxes>>(PTHREAD)]
}
