//! An object in a segment of its own, which other processes reach by a descriptor.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use pagemate::{Place, Result, Segment};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::raise;
use crate::manager::ManagerMemory;

/// The name of the object inside of its segment.
pub(crate) const NAME: &str = "object";
/// The size of a segment for an object without data.
pub(crate) const SMALL: u64 = 256 << 10;

/// Where an existing object is, or where a new one is to be: the argument `source` of each class.
/// Without one, a new object gets a segment of its own.
#[derive(FromPyObject)]
pub(crate) enum Source<'py> {
    /// The descriptor of an object's segment, which is closed.
    Descriptor(RawFd),
    /// A manager's memory, the object's name there, and whether it is to be created.
    Inside(Bound<'py, ManagerMemory>, String, bool),
}

/// The part of a segment that an object has. An object may consist of several.
pub(crate) struct Room {
    segment: Segment,
    prefix: String,
}

impl Room {
    /// Returns the place of a part of the object.
    pub(crate) fn at(&self, part: &str) -> Place {
        self.segment.at(format!("{}{part}", self.prefix))
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }
}

/// A handle, with the segment that it is in.
pub(crate) struct Shared<T> {
    handle: T,
    segment: Segment,
    /// For children. Open from the first time that it is asked for, since a child inherits it only
    /// when it is started, after the object was pickled.
    descriptor: OnceLock<OwnedFd>,
}

impl<T> Shared<T> {
    /// Opens or creates an object, as `source` says; a new segment has `size` bytes.
    pub(crate) fn new(
        source: Option<Source<'_>>,
        size: u64,
        create: impl FnOnce(&Room) -> Result<T>,
        open: impl FnOnce(&Room) -> Result<T>,
    ) -> PyResult<Shared<T>> {
        let (segment, prefix, is_new) = match source {
            None => (Segment::new(size).map_err(raise)?, String::new(), true),
            Some(Source::Descriptor(number)) => (opened(number)?, String::new(), false),
            Some(Source::Inside(memory, name, is_new)) => {
                (memory.get().segment().clone(), format!("{name}."), is_new)
            }
        };
        let room = Room { segment, prefix };
        let handle = if is_new { create(&room) } else { open(&room) };
        Ok(Shared { handle: handle.map_err(raise)?, segment: room.segment, descriptor: OnceLock::new() })
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

/// Attaches to the segment behind a descriptor, which is closed.
fn opened(number: RawFd) -> PyResult<Segment> {
    if number < 0 {
        let text = format!("{number} is no descriptor: pass that of an object");
        return Err(PyValueError::new_err(text));
    }
    // SAFETY: it is not negative. The package's Python files pass a descriptor that this process
    // was given for this object, and nothing else closes it.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    Segment::from_descriptor(file).map_err(raise)
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.handle
    }
}
