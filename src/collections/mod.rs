//! Values and containers in shared memory, which all processes read and change in place.
//!
//! - [`Value`]: one value, read and written atomically.
//! - [`Array`]: a fixed number of elements behind a lock.
//! - [`List`], [`Dict`] and [`Namespace`]: containers that grow.
//! - [`Buffer`]: bytes that one process owns at a time, and hands over by a [`Ticket`].
//! - [`Manager`]: named objects in one segment. A [`Ref`] leads from one of them to another.

pub(crate) mod array;
pub(crate) mod buffer;
pub(crate) mod dict;
pub(crate) mod list;
pub(crate) mod manager;
pub(crate) mod namespace;
pub(crate) mod reference;
pub(crate) mod value;

pub use array::{Array, ArrayGuard};
pub use buffer::{Buffer, Ticket};
pub use dict::{Dict, DictGuard};
pub use list::{List, ListIter};
pub use manager::Manager;
pub use namespace::Namespace;
pub use reference::{Ref, Referent};
pub use value::{Integer, Value, ValueError};
