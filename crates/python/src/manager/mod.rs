//! The native half of `Manager`: its memory, and the dict, list and array in it.
//!
//! The other managed objects are the classes that there are without a manager, in the manager's
//! memory ([`Source`](crate::object::Source)). Which objects there are, who refers to them, and when
//! they are freed is in the package's Python files.

mod array;
mod dict;
mod key;
mod list;
mod memory;
mod value;

pub(crate) use array::ManagedArray;
pub(crate) use dict::ManagedDict;
pub(crate) use list::ManagedList;
pub(crate) use memory::{ManagerBytes, ManagerMemory};
