//! The only place with system calls.

#[cfg_attr(loom, path = "modelled/backing.rs")]
pub(crate) mod backing;
pub(crate) mod clock;
pub(crate) mod commit;
pub(crate) mod descriptor;
pub(crate) mod exe_image;
#[cfg_attr(loom, path = "modelled/fork.rs")]
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
