//! Locks of one process: std's and parking_lot's.

use std::sync::Arc;

use crate::link::{Pair, Result};
use crate::object::{Locked, Shared, Twins};

/// Lines of its own, as an object in shared memory has, because neighbours are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(T);

fn twice<T: Default>() -> (Arc<Apart<T>>, Arc<Apart<T>>) {
    let one = Arc::new(Apart::default());
    (one.clone(), one)
}

#[derive(Debug)]
pub struct StdMutex;

impl Pair for StdMutex {
    type End = Arc<Apart<std::sync::Mutex<u64>>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(twice())
    }
}

impl Locked for Arc<Apart<std::sync::Mutex<u64>>> {
    #[inline]
    fn count(&mut self) -> u64 {
        let mut number = self.0.lock().expect("a panic ends the program");
        *number += 1;
        *number - 1
    }

    fn is_exclusive(&mut self) -> bool {
        let _held = self.0.lock();
        self.0.try_lock().is_err()
    }
}

#[derive(Debug)]
pub struct ParkingLotMutex;

impl Pair for ParkingLotMutex {
    type End = Arc<Apart<parking_lot::Mutex<u64>>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(twice())
    }
}

impl Locked for Arc<Apart<parking_lot::Mutex<u64>>> {
    #[inline]
    fn count(&mut self) -> u64 {
        let mut number = self.0.lock();
        *number += 1;
        *number - 1
    }

    fn is_exclusive(&mut self) -> bool {
        let _held = self.0.lock();
        self.0.try_lock().is_none()
    }
}

#[derive(Debug)]
pub struct StdRwLock;

impl Pair for StdRwLock {
    type End = Arc<Apart<std::sync::RwLock<Twins>>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(twice())
    }
}

impl Shared for Arc<Apart<std::sync::RwLock<Twins>>> {
    #[inline]
    fn read(&mut self) -> bool {
        self.0.read().expect("a panic ends the program").agree()
    }

    fn write(&mut self) {
        self.0.write().expect("a panic ends the program").count();
    }
}

#[derive(Debug)]
pub struct ParkingLotRwLock;

impl Pair for ParkingLotRwLock {
    type End = Arc<Apart<parking_lot::RwLock<Twins>>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(twice())
    }
}

impl Shared for Arc<Apart<parking_lot::RwLock<Twins>>> {
    #[inline]
    fn read(&mut self) -> bool {
        self.0.read().agree()
    }

    fn write(&mut self) {
        self.0.write().count();
    }
}
