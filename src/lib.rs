//! Shared memory for the processes of one machine: they exchange messages and share data through
//! named segments, without serialization and without a broker. A `kill -9` at any instruction
//! breaks nothing for the others.
//!
//! It refuses other machines, types with pointers or padding, and every system other than Linux
//! (64-bit, little-endian).
//!
//! # Examples
//!
//! A queue between a process and its child:
//!
//! ```
//! use pagemate::{Message, Process, Queue};
//!
//! #[derive(Clone, Copy, Message)]
//! #[repr(C)]
//! struct Tick {
//!     price: f64,
//!     size: u64,
//! }
//!
//! fn consumer(ticks: Queue<Tick>) -> f64 {
//!     ticks.iter().flatten().map(|tick| tick.price * tick.size as f64).sum()
//! }
//!
//! fn main() -> pagemate::Result<()> {
//!     pagemate::init(); // the first line: child processes begin here
//!     let ticks = Queue::new(1024)?;
//!     let child = Process::spawn(consumer, ticks.clone())?;
//!     for size in 1..=100 {
//!         ticks.send(Tick { price: 0.5, size })?;
//!     }
//!     ticks.close(); // the consumer receives what is left, then its loop ends
//!     assert_eq!(child.join()?, 2525.0);
//!     Ok(())
//! }
//! ```
//!
//! Any process of the same user can open an object by its name: `Queue::create("ticks", 1024)` in
//! one process, `Queue::<Tick>::open("ticks")` in another. [`Place`] says where names live and
//! which users may open them.
//!
//! # Which one do I need?
//!
//! | you want | use | example |
//! |---|---|---|
//! | messages from many producers to many consumers | [`Queue`] | `examples/queue.rs` |
//! | the same, slices or text of any length | `Queue<[T]>`, `Queue<str>` | `examples/log.rs` |
//! | messages from one producer to one consumer, fastest | [`spsc()`] | `examples/spsc.rs` |
//! | messages from many publishers, each to all subscribers | [`Topic`] | `examples/topic.rs` |
//! | the same, slices or text of any length | `Topic<[T]>`, `Topic<str>` | `examples/camera.rs` |
//! | the latest value, with notification | [`Topic`] of capacity 1 | `examples/latest.rs` |
//! | requests from many clients, each answered by a server | [`Service`] | `examples/service.rs` |
//! | messages both ways, or bytes of any length | [`pipe()`] | `examples/pipe.rs` |
//! | data that one process at a time changes | [`Mutex`], [`Array`] | `examples/{mutex,array}.rs` |
//! | data that many read and few change | [`RwLock`] | `examples/rwlock.rs` |
//! | a small value or a counter, without holding a lock | [`Value`] | `examples/value.rs` |
//! | a lock without data | [`Lock`], [`ReentrantLock`] | |
//! | to wait until something has happened | [`Event`] | `examples/event.rs` |
//! | to wait until the data under a lock has changed | [`Condvar`] | `examples/condvar.rs` |
//! | at most `n` at once; robust to deaths | [`BoundedSemaphore`] | `examples/semaphore.rs` |
//! | to count items that others may take | [`Semaphore`] | |
//! | to go from step to step together | [`Barrier`] | `examples/barrier.rs` |
//! | to initialise once across processes | [`Once`], [`OnceValue`] | `examples/once.rs` |
//! | keys and values | [`Dict`], [`Namespace`] | `examples/dict.rs` |
//! | a sequence that grows | [`List`] | `examples/list.rs` |
//! | all of these by name, in one segment | [`Manager`], [`Segment`] | `examples/manager.rs` |
//! | to run a function in a new process | [`Process`] | `examples/process.rs` |
//! | to run many tasks in worker processes | [`Pool`] | `examples/pool.rs` |
//! | to wait for several of these at once | [`WaitSet`] | `examples/waitset.rs` |
//! | to inspect segments from outside | [`inspect`] | `examples/inspect.rs` |
//!
//! Handles are created by `new`, for an object that only handles lead to, or by `create`, `open` or
//! `open_or_create`, for one at a [`Place`]. Every blocking call `x` also exists as `try_x`,
//! `x_timeout` and `x_deadline`, where these make sense.
//!
//! # Promises
//!
//! 1. A message is written once, in place, and can be read in place.
//! 2. Any process may be killed or stopped at any instruction. The others continue, and the waiter
//!    for a lock learns within 100 ms that its holder is dead.
//! 3. Nothing leaks, and nothing half-built is ever visible under a name.
//! 4. Any bytes are survivable: damaged memory leads to an error, not to undefined behaviour.
//! 5. Programs that disagree about a message's layout get an error that shows both.
//!
//! # Modules
//!
//! The main types are re-exported here. Their guards, errors and builders are in their modules:
//! [`sync`], [`queue`] with [`queue::spsc`] and [`queue::topic`], [`service`], [`mod@pipe`],
//! [`collections`], [`waitset`], [`process`], [`pool`], [`inspect`]. `docs/design.md` in the
//! repository explains how they work.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![warn(unreachable_pub)]
// Under loom some twins of modules replace what only a kernel has.
#![cfg_attr(loom, allow(dead_code, unreachable_pub, unused_imports))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "pagemate runs on Linux only: it needs futexes, memfds and open-file-description locks. \
     Build for a *-linux-* target, or make the dependency conditional on cfg(target_os = \"linux\")."
);
#[cfg(not(all(target_endian = "little", target_pointer_width = "64", target_has_atomic = "64")))]
compile_error!(
    "pagemate needs a little-endian target with 64-bit pointers and atomics, such as x86_64 or aarch64: its \
     segments are larger than a 32-bit process can map."
);

// Each of these is a layer: docs/design.md draws them, tests/layers.rs checks their order.
pub mod collections;
mod compat;
mod error;
mod failpoint;
mod heap;
pub mod inspect;
mod loom;
mod message;
#[cfg(loom)]
pub mod model;
pub mod pipe;
pub mod pool;
pub mod process;
pub mod queue;
mod registry;
mod segment;
pub mod service;
pub mod sync;
mod sys;
#[cfg(any(test, feature = "__internals"))]
mod testing;
mod wait;
pub mod waitset;

#[cfg(test)]
#[path = "../tests/loom/mod.rs"]
mod models;

// The types of a first program. Everything else is in its module.
pub use collections::{Array, Dict, List, Manager, Namespace, Value};
#[cfg(all(feature = "raw_sync", not(loom)))]
pub use compat::raw_sync;
pub use error::{Error, ErrorKind, Refusal, Result};
pub use message::{Item, Message, Schema};
pub use pagemate_derive::Message;
pub use pipe::pipe;
pub use pool::Pool;
pub use process::{init, Process};
pub use queue::{spsc::spsc, topic::Topic, Queue};
pub use registry::Kind;
pub use segment::{ObjectInfo, Origin, Place, Segment};
pub use service::Service;
pub use sync::{
    Barrier, BoundedSemaphore, Condvar, Event, Lock, Mutex, Once, OnceValue, ReentrantLock, RwLock, Semaphore,
};
pub use waitset::WaitSet;

#[cfg(feature = "__internals")]
#[doc(hidden)]
pub use inspect::edit as untyped;
#[doc(hidden)]
pub use message::private as __private;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub use testing::{heap::Rehearsal as HeapRehearsal, pool::Rehearsal as PoolRehearsal};

// The README's program is a doctest, so that it cannot go stale unnoticed.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
