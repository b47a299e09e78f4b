//! procspawn's pool, which takes one task at a time.

use procspawn::Pool;

use crate::crew::{Crew, Trade, WORKERS};
use crate::link::Result;

/// So many tasks are on their way at once: each has four descriptors.
const AT_ONCE: usize = 64;

impl Crew for Pool {
    fn hire() -> Result<Pool> {
        Ok(Pool::new(WORKERS)?)
    }

    fn map(&mut self, trade: impl Trade, items: &[u64], _: Option<usize>) -> Result<Vec<u64>> {
        fn act<T: Trade>(item: u64) -> u64 {
            // SAFETY: T has no bytes, so any aligned pointer will do; it is Copy, and the caller of `map` had one of it.
            let trade: T = unsafe { std::ptr::NonNull::<T>::dangling().read() };
            trade(item)
        }
        fn submit<T: Trade>(pool: &Pool, _: T, item: u64) -> procspawn::JoinHandle<u64> {
            const { assert!(size_of::<T>() == 0) };
            pool.spawn(item, act::<T>)
        }
        let mut results = Vec::with_capacity(items.len());
        for some in items.chunks(AT_ONCE) {
            let handles: Vec<_> = some.iter().map(|&item| submit(self, trade, item)).collect();
            for handle in handles {
                results.push(handle.join()?);
            }
        }
        Ok(results)
    }
}
