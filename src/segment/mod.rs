//! What stands in a segment: header, table of participants, space with records, directory.

#[cfg(not(loom))]
pub(crate) mod header;
#[cfg(not(loom))]
pub(crate) mod name;
pub(crate) mod space;
#[cfg(not(loom))]
pub(crate) mod view;
