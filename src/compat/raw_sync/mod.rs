//! Feature `raw_sync`: the traits of the `raw_sync` crate on pagemate's event and owner word, in
//! memory of the caller's choice.
//!
//! Code written against `EventInit` and `EventImpl`, or `LockInit` and `LockImpl`, only has to name
//! another type. Then its event or mutex sleeps on a futex, makes no system call when nobody waits,
//! and is not stuck after a death.

mod event;
mod mutex;

pub use event::Event;
pub use mutex::Mutex;

/// raw_sync's own result.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Returns the deadline of a call with raw_sync's `timeout`.
fn deadline(timeout: ::raw_sync::Timeout) -> crate::sys::clock::Deadline {
    use crate::sys::clock::Deadline;
    match timeout {
        ::raw_sync::Timeout::Infinite => Deadline::Never,
        ::raw_sync::Timeout::Val(timeout) => Deadline::after(timeout),
    }
}
