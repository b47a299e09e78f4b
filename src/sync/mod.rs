//! Locks, semaphores, events and other primitives by which processes wait for each other.
//!
//! - Exclusive access to a value: [`Mutex`], [`RwLock`]. Without a value: [`Lock`],
//!   [`ReentrantLock`].
//! - Limits and signals: [`BoundedSemaphore`], [`Semaphore`], [`Event`].
//! - Waiting for a condition, or for each other: [`Condvar`], [`Barrier`].
//! - One-time initialisation: [`Once`], [`OnceValue`].
//!
//! A lock whose holder dies becomes free, and the next holder learns of the death. A process that
//! is stopped is not dead, and keeps the lock.

pub(crate) mod barrier;
pub(crate) mod bounded_semaphore;
pub(crate) mod condvar;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod reentrant;
pub(crate) mod robust_lock;
pub(crate) mod robust_word;
pub(crate) mod rwlock;
pub(crate) mod semaphore;

pub use barrier::Barrier;
pub use barrier::BarrierError;
pub use bounded_semaphore::{BoundedSemaphore, Permit};
pub use condvar::{Condvar, Relock};
pub use error::{LockError, ReleaseError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Initialiser, Once, OnceError, OnceValue, SetError};
pub use reentrant::{ReentrantLock, ReentrantLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{PermitOverflow, Semaphore, SemaphorePermit};
