//! Publish and subscribe: each subscriber receives every message, in one order.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..384 | `Descriptor`: three parts of 128 bytes each |
//! | 384.. | a `Line` of 128 bytes for each of 64 subscribers |
//! | then | slots of `stride` bytes: a word, the position, then at `offset` the message |
//!
//! The stride is a multiple of 128, so no two slots share a cache line. There are more slots than
//! the capacity: one for each eight messages, three at least.
//!
//! # Files
//!
//! | file | what |
//! |---|---|
//! | `handle`, `publisher`, `loan`, `subscriber`, `error` | the handles, the guards, the error |
//! | `descriptor`, `word`, `layout` | the words in memory, and their geometry |
//! | `ring` | the algorithm: states, orderings, deaths, and what both sides share |
//! | `publish` | publishers: claim a position, publish its message |
//! | `receive`, `locate` | subscribers: receive, skip, end; where they begin and go on |
//! | `recover`, `observe` | after a death; what others see |

pub(crate) mod descriptor;
mod error;
mod handle;
mod layout;
mod loan;
pub(crate) mod locate;
mod observe;
pub(crate) mod publish;
mod publisher;
pub(crate) mod receive;
mod recover;
pub(crate) mod ring;
mod subscriber;
mod word;

pub use error::RecvError;
pub use handle::{From, Topic};
pub(crate) use layout::{describe, peek, recover};
pub use loan::Loan;
pub use publisher::Publisher;
pub use subscriber::{Iter, Received, Subscriber, TryIter};
