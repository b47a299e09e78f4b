//! Request and response: clients call, servers answer, in any number of processes.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..640 | the descriptor of the ring: see [`queue::mpmc`](crate::queue::mpmc) |
//! | 640..768 | geometry |
//! | 768..4992 | how many servers each participant has |
//! | 4992.. | a slot for each call, of `stride` bytes: see [`layout`] |
//! | then | a store for longer requests, and one for longer answers |
//!
//! # Files
//!
//! | file | what |
//! |---|---|
//! | `handle`, `builder`, `error` | `Service`, its options, the error of a call |
//! | `client`, `loan`, `call` | clients: calls, requests in place, calls in progress and answers |
//! | `server`, `request`, `reply` | servers: requests, and answers in place |
//! | `caller`, `port` | what clients do without the types; what both sides have in common |
//! | `descriptor`, `word`, `layout` | the words in memory, and their geometry |
//! | `stream`, `reply_stream` | answers in parts: clients, servers |
//! | `table`, `parts` | the algorithm: states, orderings, deaths |
//! | `recover`, `observe` | after a death; what others see |
//! | `untyped` | calls of bytes, for programs that do not have the types |

mod builder;
mod call;
mod caller;
mod client;
pub(crate) mod descriptor;
mod error;
mod handle;
mod layout;
mod loan;
mod observe;
pub(crate) mod parts;
mod port;
pub(crate) mod recover;
mod reply;
mod reply_stream;
mod request;
mod server;
mod stream;
pub(crate) mod table;
#[cfg(feature = "__internals")]
pub(crate) mod untyped;
pub(crate) mod word;

pub use builder::ServiceBuilder;
pub use call::{Answer, Call};
pub use client::Client;
pub use error::CallError;
pub use handle::Service;
pub(crate) use layout::recover;
pub use loan::{Loan, Room};
pub(crate) use observe::{describe, peek};
pub use reply::{ReplyLoan, ReplyRoom};
pub use reply_stream::{PartLoan, PartRoom, ReplyStream};
pub use request::{ClientId, Request};
pub use server::Server;
pub use stream::{Part, Stream};
