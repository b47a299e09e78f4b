//! `python -m pagemate`: the program `pagemate`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use pyo3::prelude::*;

/// Runs the program with these arguments, of which the first is its name. Returns its exit status.
#[pyfunction]
pub(crate) fn run_program(py: Python<'_>, arguments: Vec<Vec<u8>>) -> u8 {
    py.detach(|| pagemate_cli::run(arguments.into_iter().map(OsString::from_vec)))
}
