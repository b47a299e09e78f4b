//! Messages of any length: where their bytes are, and which process frees them.
//!
//! A message that fits is stored in its slot, after a header ([`header`]). A larger one is a block
//! of a store ([`crate::heap::Store`]), which is the quota of its queue and lies behind the slots
//! in the same object; the header names the block. [`area`] has the steps, and the algorithm of the
//! ring says at which of its own steps they are taken. [`sizes`] has the geometry of a new object,
//! and [`room`] what a program writes a message in before it has a loan.

pub(crate) mod area;
pub(crate) mod header;
pub(crate) mod room;
pub(crate) mod sizes;
mod varying;

pub use room::Room;
pub use varying::Varying;

/// The default quota.
pub(crate) const QUOTA: u64 = 1 << 20;
