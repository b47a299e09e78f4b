//! Pools, as the benches see them: two workers, a function, and items to call it with.

use crate::link::Result;

/// Number of workers of every pool: one for each core.
pub const WORKERS: usize = 2;

/// The function that workers call with an item.
pub type Trade = fn(u64) -> u64;

/// Workers of this or other processes.
pub trait WorkerPool: Sized {
    /// Starts the workers.
    fn hire() -> Result<Self>;
    /// Returns the result of each item, in the order of the items. Hands them over in chunks of
    /// this size, or of the size that the pool thinks best.
    fn map(&mut self, trade: Trade, items: &[u64], chunk: Option<usize>) -> Result<Vec<u64>>;
}
