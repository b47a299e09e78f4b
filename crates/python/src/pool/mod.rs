//! The native half of `Pool`: its memory, the tasks as the pool's process sees them, and the loop
//! that a worker runs chunks in.
//!
//! Who may do what with a slot, and what a death leaves, is in `pagemate::pool`. Here objects
//! become bytes ([`codec`]) and functions are called ([`worker`]).

mod codec;
mod kind;
mod tasks;
mod worker;

pub(crate) use tasks::{PoolBatch, PoolMemory, PoolTasks};
pub(crate) use worker::PoolWorker;
