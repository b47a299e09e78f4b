//! The objects to wait with, as the benches see them.
//!
//! A contender implements the traits that fit it; its ends come from a [`Pair`](crate::link::Pair)
//! or a [`Wire`](crate::link::Wire).

use crate::desk::Desk;
use crate::link::Blocking;
use std::sync::atomic::Ordering::Relaxed;

/// A lock around a number.
pub trait Locked: Send {
    /// Increments under the lock; returns the number before.
    fn count(&mut self) -> u64;
    /// Returns whether nobody else gets the lock while it is held.
    fn is_exclusive(&mut self) -> bool;
}

/// A lock that readers share, around two numbers that are always equal.
pub trait Shared: Send {
    /// Returns whether they were equal.
    fn read(&mut self) -> bool;
    /// Increments both.
    fn write(&mut self);
}

/// The data that [`Shared`] locks guard.
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
pub struct Twins(pub u64, pub u64);

impl Twins {
    #[inline]
    pub fn agree(&self) -> bool {
        self.0 == self.1
    }

    /// Adds 1 to both numbers. The first store is volatile, so that a reader that is not kept out
    /// can see the change half done.
    #[inline]
    pub fn count(&mut self) {
        // SAFETY: a valid, aligned reference.
        unsafe { (&raw mut self.0).write_volatile(self.0 + 1) };
        self.1 += 1;
    }
}

/// A semaphore.
pub trait Permits: Send {
    fn acquire(&self);
    fn try_acquire(&self) -> bool;
    fn release(&self);
}

/// An event that stays set until it is cleared.
pub trait Flag: Send {
    fn set(&mut self);
    fn clear(&mut self);
    fn is_set(&mut self) -> bool;
}

/// A barrier of two.
pub trait Meeting: Send {
    /// Returns whether this side is the one that is singled out.
    fn meet(&mut self) -> bool;
}

/// A semaphore for each direction, as wake-ups; the value beside it crosses on a bare line.
#[derive(Debug)]
pub struct Signals<P> {
    pub tx: P,
    pub rx: P,
    pub desk: Desk,
    /// The desk's lines for the values.
    pub mine: usize,
    pub theirs: usize,
}

impl<P: Permits> Blocking for Signals<P> {
    #[inline]
    fn send(&mut self, value: u64) {
        self.desk.lines[self.mine].0.store(value, Relaxed); // handed over by the semaphore
        self.tx.release();
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        self.rx.acquire();
        self.desk.lines[self.theirs].0.load(Relaxed)
    }
}

/// Numbers under numbers.
pub trait Table: Send {
    fn get(&mut self, key: u64) -> Option<u64>;
    /// Stores a value under `key`, whether or not it has one.
    fn put(&mut self, key: u64, value: u64);
    /// Returns whether it was there.
    fn remove(&mut self, key: u64) -> bool;
    /// Stores all of these.
    fn fill(&mut self, entries: impl Iterator<Item = (u64, u64)>) {
        entries.for_each(|(key, value)| self.put(key, value));
    }
}

/// A sequence of numbers.
pub trait Sequence: Send {
    fn push(&mut self, value: u64);
    fn get(&mut self, index: u64) -> Option<u64>;
}

/// A value of `N` numbers, which are all equal.
pub trait Cell<const N: usize>: Send {
    fn get(&mut self) -> [u64; N];
    fn set(&mut self, value: [u64; N]);
}
