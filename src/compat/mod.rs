//! pagemate's objects behind the interfaces of other crates.

#[cfg(feature = "raw_sync")]
pub mod raw_sync;
#[cfg(feature = "shared_memory")]
mod shared_memory;
