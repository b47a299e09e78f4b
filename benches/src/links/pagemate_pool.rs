//! pagemate's pool.

use pagemate::Pool;

use crate::link::Result;
use crate::worker_pool::{Trade, WorkerPool, WORKERS};

impl WorkerPool for Pool {
    fn hire() -> Result<Pool> {
        Ok(Pool::new(WORKERS)?)
    }

    fn map(&mut self, trade: Trade, items: &[u64], chunk: Option<usize>) -> Result<Vec<u64>> {
        let mut options = self.task_options();
        if let Some(size) = chunk {
            options = options.chunk_size(size);
        }
        Ok(options.map(trade, items.iter().copied())?)
    }
}
