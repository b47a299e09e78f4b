//! A counter to wait for, on a bare futex, by which the two sides of a measurement take turns
//! between measurements.
//!
//! A waiter sleeps, so that the cores are idle while the state of the cache line is probed.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

use rustix::thread::futex;

/// Zero is the fresh state. Never the private flag, because the other side may be another process.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Gate(AtomicU32);

impl Gate {
    /// Adds one, and wakes all threads that wait for it.
    pub fn raise(&self) {
        self.0.fetch_add(1, Release); // pairs with the loads of has_reached()
        let woken = futex::wake(&self.0, futex::Flags::empty(), i32::MAX as u32);
        debug_assert!(woken.is_ok());
    }

    /// Returns whether it has been raised `count` times.
    pub fn has_reached(&self, count: u32) -> bool {
        self.0.load(Acquire) >= count // pairs with raise()
    }

    /// Sleeps until it has been raised `count` times.
    pub fn wait_for(&self, count: u32) {
        loop {
            let seen = self.0.load(Acquire); // pairs with raise()
            if seen >= count {
                return;
            }
            // Interrupted, changed meanwhile or woken: in each case the counter decides.
            let _ = futex::wait(&self.0, futex::Flags::empty(), seen, None);
        }
    }
}
