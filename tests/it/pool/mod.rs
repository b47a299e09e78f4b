//! The pool with real workers: its results, and the deaths of workers.

mod deaths;
mod ends;
mod order;
mod signals;
mod slices;
