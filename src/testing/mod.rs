//! Parts of the library without processes, for tests and fuzz targets.

pub(crate) mod heap;
pub(crate) mod pool;
