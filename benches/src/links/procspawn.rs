//! procspawn's pool, which takes one task at a time.

use procspawn::Pool;

use crate::link::Result;
use crate::worker_pool::{Trade, WorkerPool, WORKERS};

/// Number of tasks that are on their way at once. Each has four descriptors.
const AT_ONCE: usize = 64;

impl WorkerPool for Pool {
    fn hire() -> Result<Pool> {
        Ok(Pool::new(WORKERS)?)
    }

    fn map(&mut self, trade: Trade, items: &[u64], _: Option<usize>) -> Result<Vec<u64>> {
        let mut results = Vec::with_capacity(items.len());
        for some in items.chunks(AT_ONCE) {
            let handles: Vec<_> = some.iter().map(|&item| self.spawn(item, trade)).collect();
            for handle in handles {
                results.push(handle.join()?);
            }
        }
        Ok(results)
    }
}
