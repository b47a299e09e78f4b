//! The parts of a received frame, as memoryviews.

use std::ops::Range;
use std::ptr::NonNull;

use pyo3::prelude::*;
use pyo3::types::PySlice;
use rustix::io::Errno;

use crate::buffer::{export, Owner};
use crate::error::system;
use crate::frame::{Parts, ALIGN};

/// A pickle and its buffers.
pub(crate) type Views<'py> = (Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>);

/// Returns the parts of a frame.
///
/// # Safety
///
/// As for [`export`].
pub(crate) unsafe fn of_frame<'py>(
    py: Python<'py>,
    frame: NonNull<[u8]>,
    owner: Owner,
) -> PyResult<Views<'py>> {
    // SAFETY: as the caller promises.
    let parts = Parts::find(unsafe { frame.as_ref() }).ok_or_else(|| system(Errno::BADMSG))?;
    // SAFETY: as above.
    let whole = unsafe { export(py, frame, owner) }?;
    let view =
        |range: &Range<usize>| whole.get_item(PySlice::new(py, range.start as isize, range.end as isize, 1));
    let buffers = parts.buffers.iter().map(view).collect::<PyResult<_>>()?;
    Ok((view(&parts.pickle)?, buffers))
}

/// Returns the parts of a copy of a frame.
pub(crate) fn of_copy<'py>(py: Python<'py>, frame: &[u8]) -> PyResult<Views<'py>> {
    let mut lines = vec![Line([0; ALIGN]); frame.len().div_ceil(ALIGN)];
    for (line, part) in lines.iter_mut().zip(frame.chunks(ALIGN)) {
        line.0[..part.len()].copy_from_slice(part);
    }
    let at = NonNull::new(lines.as_mut_ptr().cast::<u8>()).unwrap_or(NonNull::dangling());
    // SAFETY: the lines are that long, and nobody writes there any more.
    unsafe { of_frame(py, NonNull::slice_from_raw_parts(at, frame.len()), Box::new(lines)) }
}

/// A piece of a frame, with its alignment.
#[repr(align(64))]
#[derive(Clone)]
struct Line([u8; ALIGN]);
