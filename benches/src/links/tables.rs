//! Tables of one process: dashmap, and std's HashMap behind locks, or one for each thread.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use dashmap::DashMap;

use crate::link::{Pair, Result};
use crate::object::Table;

#[derive(Debug)]
pub struct Dash;

impl Pair for Dash {
    type End = Arc<DashMap<u64, u64>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let one = Arc::new(DashMap::new());
        Ok((one.clone(), one))
    }
}

impl Table for Arc<DashMap<u64, u64>> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        DashMap::get(self, &key).map(|value| *value)
    }

    #[inline]
    fn put(&mut self, key: u64, value: u64) {
        self.insert(key, value);
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        DashMap::remove(self, &key).is_some()
    }
}

/// A map for each side, so that nothing is shared: the upper limit for two sides.
#[derive(Debug, Default)]
pub struct OwnMap(HashMap<u64, u64>);

impl Pair for OwnMap {
    type End = OwnMap;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok((OwnMap::default(), OwnMap::default()))
    }
}

impl Table for OwnMap {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.0.get(&key).copied()
    }

    #[inline]
    fn put(&mut self, key: u64, value: u64) {
        self.0.insert(key, value);
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.0.remove(&key).is_some()
    }
}

#[derive(Debug)]
pub struct StdRwLockMap;

impl Pair for StdRwLockMap {
    type End = Arc<RwLock<HashMap<u64, u64>>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let one = Arc::new(RwLock::default());
        Ok((one.clone(), one))
    }
}

const NO_PANICS: &str = "a panic ends the program";

impl Table for Arc<RwLock<HashMap<u64, u64>>> {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.read().expect(NO_PANICS).get(&key).copied()
    }

    #[inline]
    fn put(&mut self, key: u64, value: u64) {
        self.write().expect(NO_PANICS).insert(key, value);
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.write().expect(NO_PANICS).remove(&key).is_some()
    }
}

/// std's HashMap, which one process has, behind pagemate's lock, which all could have.
#[derive(Debug)]
pub struct Locked;

#[derive(Debug)]
pub struct LockedMap {
    lock: pagemate::Lock,
    map: Arc<UnsafeCell<HashMap<u64, u64>>>,
}

// SAFETY: only the holder of the lock touches the map.
unsafe impl Send for LockedMap {}

impl LockedMap {
    #[inline]
    fn with<R>(&mut self, f: impl FnOnce(&mut HashMap<u64, u64>) -> R) -> R {
        let _held = self.lock.lock().expect("this process has not forked");
        // SAFETY: the lock is held until the end, and nobody keeps a reference beyond it.
        f(unsafe { &mut *self.map.get() })
    }
}

impl Pair for Locked {
    type End = LockedMap;

    #[allow(clippy::arc_with_non_send_sync)] // LockedMap says why it is
    fn pair() -> Result<(LockedMap, LockedMap)> {
        let (lock, map) = (pagemate::Lock::new()?, Arc::new(UnsafeCell::default()));
        Ok((LockedMap { lock: lock.clone(), map: map.clone() }, LockedMap { lock, map }))
    }
}

impl Table for LockedMap {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.with(|map| map.get(&key).copied())
    }

    #[inline]
    fn put(&mut self, key: u64, value: u64) {
        self.with(|map| map.insert(key, value));
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.with(|map| map.remove(&key).is_some())
    }
}
