//! The only place with system calls.

pub(crate) mod clock;
pub(crate) mod commit;
pub(crate) mod descriptor;
pub(crate) mod exe_image;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod hold;
pub(crate) mod map;
pub(crate) mod membarrier;
pub(crate) mod memory;
pub(crate) mod ofd_lock;
#[cfg(all(feature = "raw_sync", not(loom)))]
pub(crate) mod pid;
pub(crate) mod process;
