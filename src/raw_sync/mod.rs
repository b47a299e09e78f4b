//! Feature `raw_sync`: the traits of the `raw_sync` crate on pagemate's event and owner word, in memory of the caller's choice.
//!
//! Code written against `EventInit` and `EventImpl`, or `LockInit` and `LockImpl`, needs only another type to get an event or
//! a mutex that sleeps on a futex, costs no system call when nobody waits, and does not stay stuck when a process dies in it.

mod event;
mod mutex;

pub use event::Event;
pub use mutex::Mutex;

/// raw_sync's own result.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Until when raw_sync's `timeout` lets a call wait.
fn deadline(timeout: ::raw_sync::Timeout) -> crate::sys::clock::Deadline {
    use crate::sys::clock::Deadline;
    match timeout {
        ::raw_sync::Timeout::Infinite => Deadline::Never,
        ::raw_sync::Timeout::Val(timeout) => Deadline::after(timeout),
    }
}
