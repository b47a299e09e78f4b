//! The queue of many producers and many consumers: the held-slot ring, and its handles.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..640 | [`Descriptor`](descriptor::Descriptor): five parts of 128 bytes each |
//! | 640.. | `capacity` slots of `stride` bytes: a word, then at `offset` the message |
//!
//! The stride is a multiple of 128, so no two slots share a cache line. If messages differ in
//! length, a [`Header`](crate::queue::payload::header::Header) follows the word of a slot, and a
//! [`Store`](crate::heap::Store) for larger messages follows the slots.
//!
//! # Files
//!
//! | file | what |
//! |---|---|
//! | `handle`, `builder`, `sending`, `receiving`, `guard` | `Queue`, its verbs and guards |
//! | `halves` | `Sender` and `Receiver`, whose end is the queue's end |
//! | `descriptor`, `slot`, `layout` | the words in memory, and their geometry |
//! | `ring` | the algorithm: states, orderings, deaths, and what both sides share |
//! | `claim` | producers: claim a slot, publish its message |
//! | `placing`, `room`, `varying` | messages of varying length: a slot and a block; their methods |
//! | `take` | consumers: receive, skip, end |
//! | `force` | producers that replace the oldest message |
//! | `withdraw` | messages that their senders take back, and slots that change hands |
//! | `recover`, `bound`, `backoff` | after a death; bounds of steps and laps; spinning |

mod backoff;
mod bound;
mod builder;
mod claim;
pub(crate) mod descriptor;
mod force;
mod guard;
mod halves;
mod handle;
mod layout;
mod placing;
mod receiving;
mod recover;
pub(crate) mod ring;
mod room;
mod sending;
pub(crate) mod slot;
mod take;
mod varying;
mod withdraw;

pub use builder::QueueBuilder;
pub use guard::{Loan, Received};
pub use halves::{Receiver, Sender};
pub use handle::Queue;
pub(crate) use layout::{describe, peek, recover, settle};
pub use receiving::{IntoIter, Iter, TryIter};
