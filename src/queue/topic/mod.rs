//! Publish and subscribe: each subscriber receives every message, in one order.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4736 | `Descriptor`: four parts of 128 bytes each, and the counts of the publishers |
//! | 4736.. | a `Line` of 128 bytes for each of 64 subscribers |
//! | then | slots of `stride` bytes: a word, the position, then at `offset` the message |
//!
//! The stride is a multiple of 128, so no two slots share a cache line. There are more slots than
//! the capacity: one for each eight messages, three at least. If messages differ in length, a
//! `Header` follows the position of a slot, and a `Store` of the heap for larger messages follows
//! the slots.
//!
//! # Files
//!
//! | file | what |
//! |---|---|
//! | `handle`, `builder`, `publisher`, `loan`, `subscriber`, `error`, `policy` | handles |
//! | `varying`, `room`, `placing`, `body` | messages of varying length: methods, room, copies |
//! | `port` | what the handles have in common, without the type |
//! | `descriptor`, `word`, `line`, `layout` | the words in memory, and their geometry |
//! | `ring` | the algorithm: states, orderings, deaths, and what both sides share |
//! | `publish` | publishers: claim a position, publish its message |
//! | `receive`, `locate` | subscribers: receive, skip, end; where they begin and go on |
//! | `gate` | lossless subscribers, for which publishers wait |
//! | `floor` | messages of varying length: the oldest are discarded if there is no memory |
//! | `publishers` | how many there are; a topic that ends with them |
//! | `recover`, `observe` | after a death; what others see |

pub(crate) mod body;
mod builder;
pub(crate) mod descriptor;
mod error;
pub(crate) mod floor;
pub(crate) mod gate;
mod handle;
mod layout;
mod line;
mod loan;
pub(crate) mod locate;
mod observe;
mod placing;
pub(crate) mod policy;
pub(crate) mod port;
pub(crate) mod publish;
mod publisher;
mod publishers;
pub(crate) mod receive;
mod recover;
pub(crate) mod ring;
mod room;
mod subscriber;
#[cfg(all(test, not(loom)))]
mod tests;
mod varying;
mod word;

pub use builder::TopicBuilder;
pub use error::RecvError;
pub use handle::{From, Topic};
#[cfg(feature = "__internals")]
pub(crate) use layout::Any;
#[cfg(any(test, feature = "__internals"))]
pub(crate) use layout::Fixed;
pub(crate) use layout::{describe, peek, recover, settle};
pub use loan::Loan;
pub use policy::{Laggard, Policy};
pub use publisher::Publisher;
pub use room::Room;
pub use subscriber::{Iter, Received, Subscriber, TryIter};
