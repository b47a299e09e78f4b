//! The loom object of a word.
//!
//! All objects are of 64 bits. A narrower word lies in the highest bits, so that it wraps where the
//! word does.

use ::loom::sync::atomic::AtomicU64;

use super::atomic::Ordering;

/// A change of a word whose result depends on its value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Swap(u64),
    Add(u64),
    Sub(u64),
    And(u64),
    Or(u64),
    Xor(u64),
    Max(u64),
    Min(u64),
}

impl Change {
    /// Returns the value after the change. Bits above the word's are undefined.
    pub(crate) fn of(self, value: u64) -> u64 {
        match self {
            Change::Swap(to) => to,
            Change::Add(count) => value.wrapping_add(count),
            Change::Sub(count) => value.wrapping_sub(count),
            Change::And(bits) => value & bits,
            Change::Or(bits) => value | bits,
            Change::Xor(bits) => value ^ bits,
            Change::Max(other) => value.max(other),
            Change::Min(other) => value.min(other),
        }
    }
}

/// A loom object that represents a word.
#[derive(Debug)]
pub(crate) struct Twin {
    /// The difference between the word and `base`, shifted.
    object: AtomicU64,
    base: u64,
    shift: u32,
}

impl Twin {
    /// Creates the twin of a word of `width` bytes with this value.
    pub(super) fn new(value: u64, width: usize) -> Twin {
        let shift = 64 - 8 * width as u32;
        Twin { object: AtomicU64::new(value << shift), base: 0, shift }
    }

    /// Makes a blank, an object that holds 0, the twin of such a word.
    pub(super) fn of_blank(blank: AtomicU64, value: u64, width: usize) -> Twin {
        let shift = 64 - 8 * width as u32;
        Twin { object: blank, base: value << shift, shift }
    }

    fn encode(&self, value: u64) -> u64 {
        (value << self.shift).wrapping_sub(self.base)
    }

    fn decode(&self, held: u64) -> u64 {
        held.wrapping_add(self.base) >> self.shift
    }

    #[track_caller]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.decode(self.object.load(order))
    }

    #[track_caller]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.object.store(self.encode(value), order);
    }

    #[track_caller]
    pub(crate) fn exchange(&self, from: u64, to: u64, done: Ordering, failed: Ordering) -> Result<(), u64> {
        let (from, to) = (self.encode(from), self.encode(to));
        self.object.compare_exchange(from, to, done, failed).map(drop).map_err(|held| self.decode(held))
    }

    /// Makes the change in one step; returns the value before it.
    #[track_caller]
    pub(crate) fn change(&self, change: Change, order: Ordering) -> u64 {
        let (object, shift, is_exact) = (&self.object, self.shift, self.base == 0);
        let held = match change {
            Change::Swap(to) => object.swap(self.encode(to), order),
            Change::Add(count) => object.fetch_add(count << shift, order),
            Change::Sub(count) => object.fetch_sub(count << shift, order),
            Change::And(bits) if is_exact => object.fetch_and(bits << shift, order),
            Change::Or(bits) if is_exact => object.fetch_or(bits << shift, order),
            Change::Xor(bits) if is_exact => object.fetch_xor(bits << shift, order),
            Change::Max(other) if is_exact => object.fetch_max(other << shift, order),
            Change::Min(other) if is_exact => object.fetch_min(other << shift, order),
            // The object holds a difference, on which these do not act as on the value.
            _ => {
                let mut held = object.load(Ordering::Relaxed);
                loop {
                    let next = self.encode(change.of(self.decode(held)));
                    match object.compare_exchange(held, next, order, Ordering::Relaxed) {
                        Ok(held) => break held,
                        Err(now) => held = now,
                    }
                }
            }
        };
        self.decode(held)
    }
}
