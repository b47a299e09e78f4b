//! Atomics with std's sizes whose operations loom sees: std's module `atomic`, under loom.
//!
//! An operation acts on the twin of its word, see [`execution`](super::execution). Outside of a
//! model it acts on the bytes, for programs of one thread.

use std::cell::UnsafeCell;

use super::execution::{construct, current, place, Place};
use super::trace::{LOAD, STALE};
use super::twin::Change;

pub(crate) use ::loom::sync::atomic::AtomicBool;
pub(crate) use std::sync::atomic::Ordering;

/// Passes loom's fence, except where loom has nothing to order.
pub(crate) fn fence(order: Ordering) {
    match current() {
        Some(execution) if !execution.is_quiet() => ::loom::sync::atomic::fence(order),
        _ => {}
    }
}

macro_rules! word {
    ($name:ident, $int:ty, $bits:ty) => {
        /// An integer in memory.
        #[repr(transparent)]
        pub struct $name(UnsafeCell<$int>);

        // SAFETY: loom runs one thread at a time.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl $name {
            #[track_caller]
            pub(crate) fn new(value: $int) -> $name {
                $name(UnsafeCell::new(construct(value as $bits as u64, size_of::<$int>()) as $int))
            }

            fn bytes(&self) -> u64 {
                // SAFETY: no other thread runs.
                unsafe { self.0.get().read() as $bits as u64 }
            }

            fn set_bytes(&self, value: u64) {
                // SAFETY: as above.
                unsafe { self.0.get().write(value as $int) }
            }

            pub(crate) fn address(&self) -> usize {
                self.0.get().addr()
            }

            #[track_caller]
            pub(crate) fn place(&self) -> Place {
                place(self.address(), size_of::<$int>(), self.bytes())
            }

            #[track_caller]
            fn trace(&self, what: &'static str, value: u64) {
                if let Some(execution) = current() {
                    execution.trace(self.address(), what, value);
                }
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $int {
                match self.place() {
                    Place::Bytes => self.bytes() as $int,
                    Place::Nothing(latest) => latest as $int,
                    Place::Twin { word, is_mapped } => {
                        word.cast_shadow();
                        let value = word.twin().load(order);
                        if is_mapped {
                            self.trace(if value == word.latest() { LOAD } else { STALE }, value);
                        }
                        value as $int
                    }
                }
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $int, order: Ordering) {
                let value = value as $bits as u64;
                match self.place() {
                    Place::Bytes => self.set_bytes(value),
                    Place::Nothing(_) => {}
                    Place::Twin { word, is_mapped } => {
                        word.twin().store(value, order);
                        word.set_latest(value);
                        if is_mapped {
                            self.set_bytes(value);
                            self.trace("store", value);
                        }
                    }
                }
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                from: $int,
                to: $int,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$int, $int> {
                let (seen, next) = (from as $bits as u64, to as $bits as u64);
                match self.place() {
                    Place::Bytes if self.bytes() == seen => self.set_bytes(next),
                    Place::Bytes => return Err(self.bytes() as $int),
                    Place::Nothing(latest) if latest == seen => {}
                    Place::Nothing(latest) => return Err(latest as $int),
                    Place::Twin { word, is_mapped } => {
                        let swapped = word.twin().exchange(seen, next, done, failed);
                        if swapped.is_ok() {
                            word.set_latest(next);
                        }
                        match swapped {
                            Ok(()) if is_mapped => {
                                self.set_bytes(next);
                                self.trace("swap", next);
                            }
                            Ok(()) => {}
                            Err(now) => {
                                if is_mapped {
                                    self.trace("no swap", now);
                                }
                                return Err(now as $int);
                            }
                        }
                    }
                }
                Ok(from)
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                from: $int,
                to: $int,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$int, $int> {
                self.compare_exchange(from, to, done, failed)
            }

            #[track_caller]
            fn change(&self, what: &'static str, change: Change, order: Ordering) -> $int {
                let before = match self.place() {
                    Place::Bytes => {
                        let before = self.bytes();
                        self.set_bytes(change.of(before));
                        before
                    }
                    Place::Nothing(latest) => latest,
                    Place::Twin { word, is_mapped } => {
                        let before = word.twin().change(change, order);
                        let after = change.of(before) as $bits as u64;
                        word.set_latest(after);
                        if is_mapped {
                            self.set_bytes(after);
                            self.trace(what, after);
                        }
                        before
                    }
                };
                before as $int
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                self.change("swap", Change::Swap(value as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_add(&self, count: $int, order: Ordering) -> $int {
                self.change("add", Change::Add(count as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_sub(&self, count: $int, order: Ordering) -> $int {
                self.change("sub", Change::Sub(count as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_and(&self, bits: $int, order: Ordering) -> $int {
                self.change("and", Change::And(bits as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_or(&self, bits: $int, order: Ordering) -> $int {
                self.change("or", Change::Or(bits as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_xor(&self, bits: $int, order: Ordering) -> $int {
                self.change("xor", Change::Xor(bits as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_max(&self, other: $int, order: Ordering) -> $int {
                self.change("max", Change::Max(other as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_min(&self, other: $int, order: Ordering) -> $int {
                self.change("min", Change::Min(other as $bits as u64), order)
            }

            #[track_caller]
            pub(crate) fn fetch_update(
                &self,
                done: Ordering,
                failed: Ordering,
                mut next: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                let mut before = self.load(failed);
                while let Some(after) = next(before) {
                    match self.compare_exchange(before, after, done, failed) {
                        Ok(before) => return Ok(before),
                        Err(now) => before = now,
                    }
                }
                Err(before)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

word!(AtomicU8, u8, u8);
word!(AtomicU16, u16, u16);
word!(AtomicU32, u32, u32);
word!(AtomicU64, u64, u64);
word!(AtomicUsize, usize, u64);
word!(AtomicI8, i8, u8);
word!(AtomicI16, i16, u16);
word!(AtomicI32, i32, u32);
word!(AtomicI64, i64, u64);
