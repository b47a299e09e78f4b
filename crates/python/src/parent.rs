//! Processes that end with their parent, also if that is killed and whatever they do at the time.

use std::io::Error;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// Bytes of the stack of a thread that calls `poll` only.
const STACK: usize = 64 << 10;

/// Ends this process at once when one of the descriptors becomes readable, as that of a process
/// does that has ended. The thread that waits for this needs no interpreter and gets no signals.
#[pyfunction]
pub(crate) fn end_when_readable(descriptors: Vec<i32>) -> PyResult<()> {
    if let Some(number) = descriptors.iter().find(|number| **number < 0) {
        return Err(PyValueError::new_err(format!("{number} is no descriptor")));
    }
    let own = |number: &i32| {
        // SAFETY: it is not negative, and the caller keeps it open for the time of the call.
        unsafe { BorrowedFd::borrow_raw(*number) }.try_clone_to_owned()
    };
    let own: Vec<OwnedFd> = descriptors.iter().map(own).collect::<Result<_, _>>().map_err(error)?;
    let all = without_signals()?;
    let watch = move || watch(&own);
    let started = std::thread::Builder::new().name("pagemate-parent".into()).stack_size(STACK).spawn(watch);
    // SAFETY: both are valid for the call, and `all` came from this function.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) };
    started.map(drop).map_err(error)
}

fn error(error: Error) -> PyErr {
    PyOSError::new_err((error.raw_os_error().unwrap_or(0), error.to_string()))
}

/// Blocks all signals in this thread, so that a thread that it starts gets none. Returns the mask
/// from before.
fn without_signals() -> PyResult<libc::sigset_t> {
    // SAFETY: zeroes are a set, and the calls write valid ones.
    let (mut all, mut before) = unsafe { std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
    // SAFETY: both are valid for the calls.
    let failed = unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before)
    };
    match failed {
        0 => Ok(before),
        number => Err(error(Error::from_raw_os_error(number))),
    }
}

fn watch(descriptors: &[OwnedFd]) {
    let entry = |file: &OwnedFd| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<libc::pollfd> = descriptors.iter().map(entry).collect();
    loop {
        // SAFETY: the entries are valid for the call, and as many as the number says.
        let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, -1) };
        if ready > 0 {
            // SAFETY: ends the process; nothing is used after it.
            unsafe { libc::_exit(1) };
        }
        if ready < 0 && Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return; // out of memory: the process lives on, as it would without this thread
        }
    }
}
