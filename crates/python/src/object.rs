//! An object in a segment of its own, which other processes reach by a descriptor.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use pagemate::{Result, Segment};
use pyo3::exceptions::PyValueError;
use pyo3::PyResult;

use crate::error::raise;

/// The name of the object inside of its segment.
pub(crate) const NAME: &str = "object";
/// The size of a segment for an object without data.
pub(crate) const SMALL: u64 = 256 << 10;

/// A handle, with the segment that has nothing but this object.
pub(crate) struct Shared<T> {
    handle: T,
    segment: Segment,
    /// For children. Open from the first time that it is asked for, since a child inherits it only
    /// when it is started, after the object was pickled.
    descriptor: OnceLock<OwnedFd>,
}

impl<T> Shared<T> {
    /// Opens the object behind a descriptor, which is closed, or else creates one in a segment of
    /// `size` bytes.
    pub(crate) fn new(
        descriptor: Option<RawFd>,
        size: u64,
        create: impl FnOnce(&Segment) -> Result<T>,
        open: impl FnOnce(&Segment) -> Result<T>,
    ) -> PyResult<Shared<T>> {
        let made = match descriptor {
            Some(number) if number < 0 => {
                return Err(PyValueError::new_err(format!(
                    "{number} is no descriptor: pass that of an object"
                )));
            }
            Some(number) => {
                // SAFETY: it is not negative. The package's Python files pass a descriptor that a
                // child was given for this object, and nothing else closes it.
                let file = unsafe { OwnedFd::from_raw_fd(number) };
                Segment::from_descriptor(file).and_then(|segment| Ok((open(&segment)?, segment)))
            }
            None => Segment::new(size).and_then(|segment| Ok((create(&segment)?, segment))),
        };
        let (handle, segment) = made.map_err(raise)?;
        Ok(Shared { handle, segment, descriptor: OnceLock::new() })
    }

    /// Returns the number of a descriptor that leads to the object. It stays open as long as this.
    pub(crate) fn descriptor(&self) -> PyResult<RawFd> {
        if let Some(file) = self.descriptor.get() {
            return Ok(file.as_raw_fd());
        }
        let file = self.segment.descriptor().map_err(raise)?;
        // If another thread was quicker, its descriptor serves, and this one is closed.
        Ok(self.descriptor.get_or_init(|| file).as_raw_fd())
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.handle
    }
}
