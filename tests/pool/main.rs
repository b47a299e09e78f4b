//! The pool, with real workers: what it gives, and what it does when they die.

mod deaths;
mod ends;
mod order;
mod slices;

pagemate::init_tests!();
