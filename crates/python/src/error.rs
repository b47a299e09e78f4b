//! Errors of the library as Python exceptions.

use pagemate::sync::{LockError, ReleaseError};
use pagemate::{Error, ErrorKind};
use pyo3::exceptions::{
    PyAssertionError, PyFileExistsError, PyFileNotFoundError, PyMemoryError, PyOSError, PyPermissionError,
    PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::PyErr;
use rustix::io::Errno;

/// Converts an error of creating or opening.
pub(crate) fn raise(error: impl Into<Error>) -> PyErr {
    let error = error.into();
    let text = error.to_string();
    match error.kind() {
        ErrorKind::InvalidInput => PyValueError::new_err(text),
        ErrorKind::TypeMismatch => PyTypeError::new_err(text),
        ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
        ErrorKind::AlreadyExists => PyFileExistsError::new_err(text),
        ErrorKind::PermissionDenied => PyPermissionError::new_err(text),
        ErrorKind::OutOfMemory => PyMemoryError::new_err(text),
        ErrorKind::System | ErrorKind::Unsupported => PyOSError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// Converts an error of the system, to the subclass of `OSError` that belongs to it.
pub(crate) fn system(error: Errno) -> PyErr {
    let text = match error {
        Errno::BADMSG => "this is no message of a pagemate connection".to_string(),
        error => error.to_string().split(" (os error").next().unwrap_or_default().to_string(),
    };
    PyOSError::new_err((error.raw_os_error(), text))
}

/// Converts the result of an attempt to lock, by `keep` for the guard. `None`: not acquired.
pub(crate) fn acquired<G>(
    result: Result<G, LockError<G>>,
    keep: impl FnOnce(G),
) -> Result<Option<()>, PyErr> {
    match result {
        Ok(guard) | Err(LockError::OwnerDied(guard) | LockError::Poisoned(guard)) => {
            keep(guard);
            Ok(Some(()))
        }
        Err(LockError::NotAcquired) => Ok(None),
        Err(error) => Err(raise(error)),
    }
}

/// Converts the error of a release, to the exceptions of `multiprocessing`.
pub(crate) fn not_released(error: ReleaseError) -> PyErr {
    match error {
        ReleaseError::NotHeld => PyValueError::new_err("semaphore or lock released too many times"),
        ReleaseError::NotYours => PyAssertionError::new_err(
            "attempt to release recursive lock not owned by thread: only the thread that holds it can",
        ),
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}
