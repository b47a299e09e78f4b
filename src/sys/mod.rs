//! The only place with system calls.

pub(crate) mod barrier;
pub(crate) mod clock;
#[cfg(not(loom))]
pub(crate) mod fork;
pub(crate) mod futex;
#[cfg(not(loom))]
pub(crate) mod image;
#[cfg(not(loom))]
pub(crate) mod lock;
#[cfg(not(loom))]
pub(crate) mod memory;
#[cfg(all(feature = "raw_sync", not(loom)))]
pub(crate) mod pid;
#[cfg(not(loom))]
pub(crate) mod process;
