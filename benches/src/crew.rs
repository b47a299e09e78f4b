//! What every pool looks like to a bench: two workers, a function, and items that it is called with.

use crate::link::Result;

/// How many workers every pool has: one for each core.
pub const WORKERS: usize = 2;

/// What workers do with an item: a function, which has no bytes.
pub trait Trade: Fn(u64) -> u64 + Copy + Send + Sync + 'static {}

impl<F: Fn(u64) -> u64 + Copy + Send + Sync + 'static> Trade for F {}

/// Workers of this or other processes.
pub trait Crew: Sized {
    /// Starts them.
    fn hire() -> Result<Self>;
    /// What comes of each item, in the order of the items. Handed over in chunks of so many, or of what the pool thinks best.
    fn map(&mut self, trade: impl Trade, items: &[u64], chunk: Option<usize>) -> Result<Vec<u64>>;
}
