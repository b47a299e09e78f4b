//! A one-time initialisation by one of many processes. If the initialiser dies, the next one
//! begins.

mod handle;
pub(crate) mod state;
mod value;

pub(crate) use handle::{describe, recover};
pub use handle::{Initialiser, Once, OnceError};
pub use value::{OnceValue, SetError};
