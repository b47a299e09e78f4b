//! One value that a higher layer keeps beside an attachment, shared by all of its handles.
//!
//! It is neither a lock nor a `OnceLock`, because a child that was forked while another thread is
//! inside of one would wait for that thread forever. If two threads are first at once, both create
//! a value, and their compare-and-swap decides.

use std::any::Any;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::Arc;

type Value = Arc<dyn Any + Send + Sync>;

/// The value, or nothing until it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// From [`Box::into_raw`], or null. Written once.
    value: AtomicPtr<Value>,
}

impl Local {
    /// Returns the value, which `create` makes if there is none. All callers use one type.
    pub(crate) fn get<T: Any + Send + Sync>(&self, create: fn() -> T) -> Arc<T> {
        let mut value = self.value.load(Acquire); // pairs with the swap below
        if value.is_null() {
            let created = Box::into_raw(Box::new(Arc::new(create()) as Value));
            match self.value.compare_exchange(value, created, AcqRel, Acquire) {
                Ok(_) => value = created,
                Err(earlier) => {
                    value = earlier;
                    // SAFETY: it is from into_raw() just above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(created) });
                }
            }
        }
        // SAFETY: a pointer that is stored here is from into_raw() and is freed by Drop only.
        let value = unsafe { &*value };
        value.clone().downcast().expect("an attachment keeps values of one type")
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: it is from into_raw(), and this is the only place that frees it.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_get_one_value_that_ends_with_it() {
        let local = Local::default();
        let mut all: Vec<Arc<[u8; 3]>> = std::thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(|| local.get(|| [7; 3])));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|value| Arc::ptr_eq(value, &local.get(|| [0; 3]))));
        drop(local);
        all.truncate(1);
        assert_eq!(Arc::strong_count(&all[0]), 1);
    }
}
