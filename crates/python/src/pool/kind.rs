//! What a worker does with the items of a chunk.

use pyo3::exceptions::PyValueError;
use pyo3::PyResult;

/// How the function gets an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// As its argument.
    One,
    /// As all of its arguments.
    Star,
    /// The item is the function, its arguments and its keywords.
    Apply,
}

/// The kind of a batch, which travels with each chunk as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) call: Call,
    /// Whether a task that raises ends its chunk.
    pub(crate) stops: bool,
}

impl Kind {
    pub(crate) fn of(name: &str) -> PyResult<Kind> {
        let (call, stops) = match name {
            "map" => (Call::One, true),
            "starmap" => (Call::Star, true),
            "imap" => (Call::One, false),
            "apply" => (Call::Apply, false),
            _ => return Err(PyValueError::new_err(format!("{name:?} is no kind of tasks"))),
        };
        Ok(Kind { call, stops })
    }

    pub(crate) fn number(self) -> u64 {
        self.call as u64 | u64::from(self.stops) << 8
    }

    pub(crate) fn from_number(number: u64) -> Kind {
        let call = match number as u8 {
            0 => Call::One,
            1 => Call::Star,
            _ => Call::Apply,
        };
        Kind { call, stops: number >> 8 & 1 != 0 }
    }
}
