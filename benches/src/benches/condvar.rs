//! Condition variables: a ping-pong of two processes through mailboxes, each a lock, a condition
//! and a value.

use super::latency;
use super::wake::Sleepy;
use crate::contender::Between::Processes;
use crate::contender::{Bench, Contender, Unit};
use crate::links::{pagemate_sync, pthread};

pub const BENCH: Bench = Bench {
    name: "condvar, ping-pong",
    about: "one way of a ping-pong of two processes, a lock and a condition for each direction",
    unit: Unit::Time,
    contenders,
};

const PTHREAD: &str = "pthread condvar";

fn contenders() -> Vec<Contender> {
    vec![
        latency::processes::<Sleepy<pthread::Mailboxes>>(PTHREAD),
        latency::processes::<Sleepy<pagemate_sync::Mailboxes>>("pagemate Condvar")
            .at_most(1.1, PTHREAD, Processes),
    ]
}
