//! rayon's thread pool.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::link::Result;
use crate::worker_pool::{Trade, WorkerPool, WORKERS};

impl WorkerPool for ThreadPool {
    fn hire() -> Result<ThreadPool> {
        Ok(ThreadPoolBuilder::new().num_threads(WORKERS).build()?)
    }

    fn map(&mut self, trade: Trade, items: &[u64], chunk: Option<usize>) -> Result<Vec<u64>> {
        let size = chunk.unwrap_or(usize::MAX);
        Ok(self.install(|| items.par_iter().with_max_len(size).map(|&item| trade(item)).collect()))
    }
}
