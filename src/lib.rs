//! Processes on the same page: fixed-layout messages through named shared memory.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![warn(unreachable_pub)]
// Under loom only the algorithms are compiled, against its atomics; what needs a mapping is left out.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "pagemate runs on Linux only: it stands on futexes, memfds and open-file-description locks. \
     Build for a *-linux-* target, or make the dependency conditional on cfg(target_os = \"linux\")."
);
#[cfg(not(all(target_endian = "little", target_has_atomic = "64")))]
compile_error!("pagemate needs a little-endian target with 64-bit atomics");

// The layers: a file imports only from those above its own (tests/layers.rs).
mod dict;
mod error;
mod fault;
mod heap;
mod item;
mod loom;
mod message;
mod owner;
mod participant;
pub mod pool;
mod queue;
mod segment;
mod sync;
mod sys;
mod value;
mod waitset;

#[cfg(not(loom))]
mod array;
#[cfg(not(loom))]
mod attachment;
#[cfg(not(loom))]
mod directory;
#[cfg(not(loom))]
pub mod inspect;
#[cfg(not(loom))]
mod kind;
#[cfg(not(loom))]
mod list;
#[cfg(not(loom))]
mod manager;
#[cfg(not(loom))]
mod namespace;
#[cfg(not(loom))]
mod object;
#[cfg(not(loom))]
mod pipe;
#[cfg(not(loom))]
mod place;
#[cfg(not(loom))]
mod process;
#[cfg(all(feature = "raw_sync", not(loom)))]
pub mod raw_sync;
#[cfg(not(loom))]
mod reference;
#[cfg(all(feature = "shared_memory", not(loom)))]
mod shared_memory;
#[cfg(not(loom))]
mod switchboard;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod untyped;

#[cfg(test)]
#[path = "../tests/loom/mod.rs"]
mod models;

#[cfg(not(loom))]
pub use array::{Array, ArrayGuard};
#[cfg(not(loom))]
pub use dict::{Dict, DictGuard};
pub use error::{Error, ErrorKind};
#[cfg(not(loom))]
#[doc(hidden)]
pub use heap::Rehearsal as HeapRehearsal;
pub use item::Item;
#[cfg(not(loom))]
pub use kind::Kind;
#[cfg(not(loom))]
pub use list::{Iter as ListIter, List};
#[cfg(not(loom))]
pub use manager::{Listed, Manager};
#[doc(hidden)]
pub use message::private as __private;
pub use message::{Message, Schema};
#[cfg(not(loom))]
pub use namespace::Namespace;
pub use pagemate_derive::Message;
#[cfg(not(loom))]
pub use pipe::{pipe, pipe_one_way, pipe_one_way_with_capacity, pipe_with_capacity};
#[cfg(not(loom))]
pub use pipe::{Connection, PipeError, PipeReader, PipeWriter};
#[cfg(not(loom))]
pub use place::{Origin, Place, Segment};
#[cfg(not(loom))]
pub use pool::Pool;
#[cfg(not(loom))]
pub use process::{
    active_children, current_process, init, parent_process, Argument, CurrentProcess, JoinError,
    ParentProcess, Process, ProcessBuilder, RunningChild,
};
pub use queue::error::{RecvError, SendError};
#[cfg(not(loom))]
pub use queue::mpmc::{Iter as QueueIter, Loan, Queue, QueueOptions, Received, TryIter as QueueTryIter};
#[cfg(not(loom))]
pub use queue::spsc::{spsc, Consumer, Producer, RecvChunk, RecvSlot, SendChunk, SendSlot};
#[cfg(not(loom))]
pub use reference::{Ref, Referent};
#[cfg(not(loom))]
pub use sync::barrier::Barrier;
pub use sync::barrier::BarrierError;
#[cfg(not(loom))]
pub use sync::bounded::{BoundedSemaphore, Permit};
#[cfg(not(loom))]
pub use sync::condvar::{Condvar, Relock};
#[cfg(not(loom))]
pub use sync::error::{LockError, ReleaseError};
#[cfg(not(loom))]
pub use sync::event::Event;
#[cfg(not(loom))]
pub use sync::lock::{Lock, LockGuard};
#[cfg(not(loom))]
pub use sync::mutex::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub use sync::once::{Initialiser, Once, OnceError, OnceValue, SetError};
#[cfg(not(loom))]
pub use sync::rlock::{RLock, RLockGuard};
#[cfg(not(loom))]
pub use sync::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(loom))]
pub use sync::semaphore::{PermitOverflow, Semaphore};
#[cfg(not(loom))]
pub use value::{Integer, Value, ValueError};
#[cfg(not(loom))]
pub use waitset::{Room, WaitSet, Waitable};

/// The result of everything that is not a hot path.
pub type Result<T, E = Error> = std::result::Result<T, E>;
