//! Descriptors that go with a message: the objects that are pickled for it have them.
//!
//! Each thread has the message that it pickles at the moment, so that an object that is being
//! pickled can learn that it may be, and add its descriptor.

use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::system;

/// The most descriptors of a message, with room for those that the message itself needs. The
/// kernel allows 253.
const MOST: usize = 250;

thread_local!(static MESSAGE: RefCell<Option<Outgoing>> = const { RefCell::new(None) });

/// The message that is pickled.
struct Outgoing {
    /// Whether descriptors can go with it.
    takes_any: bool,
    descriptors: Vec<OwnedFd>,
}

/// Calls `pickle` for a new message. Returns its result, and the descriptors of the objects; none
/// if the message does not take any.
pub(crate) fn collect<R>(
    takes_any: bool,
    pickle: impl FnOnce() -> PyResult<R>,
) -> PyResult<(R, Vec<OwnedFd>)> {
    let before = MESSAGE.replace(Some(Outgoing { takes_any, descriptors: Vec::new() }));
    let result = pickle();
    // An object that is pickled may send a message of its own.
    let now = MESSAGE.replace(before);
    Ok((result?, now.map(|message| message.descriptors).unwrap_or_default()))
}

/// Returns whether this thread pickles a message.
#[pyfunction]
pub(crate) fn is_sending() -> bool {
    MESSAGE.with_borrow(Option::is_some)
}

/// Adds a copy of a descriptor to the message that this thread pickles. Returns its number in the
/// message, or None if it cannot be added.
#[pyfunction]
pub(crate) fn pass_descriptor(number: RawFd) -> PyResult<Option<usize>> {
    MESSAGE.with_borrow_mut(|message| {
        let Some(message) = message else { return Ok(None) };
        if !message.takes_any || message.descriptors.len() == MOST {
            return Ok(None);
        }
        if number < 0 {
            return Err(PyValueError::new_err(format!("{number} is no descriptor")));
        }
        // SAFETY: it is not -1. The object that is pickled has it open.
        let object = unsafe { BorrowedFd::borrow_raw(number) };
        message.descriptors.push(rustix::io::fcntl_dupfd_cloexec(object, 0).map_err(system)?);
        Ok(Some(message.descriptors.len() - 1))
    })
}
