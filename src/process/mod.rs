//! Processes: functions of this program that run in new processes, with typed arguments and
//! results.
//!
//! A child is this program, started again. It begins as the parent did, until it calls
//! `pagemate::init()`. There it finds in its environment that it is a child, runs its function, and
//! ends. The function is found by its offset in the image, which is the same in all processes of
//! one program. Arguments and result travel in anonymous memory (`handshake`, `codec`).
//!
//! # Death
//!
//! - The child dies before `init`, or in the function. Noticed by its pidfd, at once. `join` says
//!   how it ended; a half-written answer does not count.
//! - The child dies after its answer, while it ends. Noticed by the exit status. `join` returns the
//!   error, not the answer.
//! - The parent dies, before or after the child has reached `init`. Noticed by its pidfd, which the
//!   child has. A daemon ends; other children run on.
//! - The parent dies in `spawn`, after it reserved participant ids. The locks on their descriptions
//!   go with it. The segments reap the ids.
//!
//! Daemons end by the parent's pidfd, and not by `PR_SET_PDEATHSIG`, because that signal arrives
//! when the *thread* that started the child ends, and it is lost if the parent dies before the
//! child could ask for it.

mod argument;
mod children;
mod codec;
mod current;
mod entry;
mod handle;
mod handle_args;
mod handshake;
mod join;
mod spawn;

pub use argument::Argument;
pub(crate) use children::Child;
pub(crate) use codec::{Packer, Unpacker};
pub use current::{
    active_children, current_process, parent_process, CurrentProcess, ParentProcess, RunningChild,
};
pub use entry::init;
pub(crate) use entry::panic_text;
pub use handle::Process;
pub use join::JoinError;
pub use spawn::ProcessBuilder;
