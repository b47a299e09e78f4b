//! Processes: a function of this program, run in a new process, with arguments and a result that the compiler checks.
//!
//! The program is started again. Its child begins as the parent did, until it comes to `pagemate::init()`, finds in its
//! environment that it is to run a function, does so, and ends. The function is found by its offset in the image, which
//! is the same in all processes of one program; arguments and result travel in anonymous memory ([`envelope`]).
//!
//! # Death
//!
//! | who | when | noticed by | what happens |
//! |---|---|---|---|
//! | child | before `init`, or in the function | its pidfd, at once | `join` says how it ended; a half-written answer does not count |
//! | child | after its answer, while it ends | the exit status | `join` gives the error, not the answer |
//! | parent | before the child is in `init` | the child's view of it, a pidfd | a daemon ends; others go on |
//! | parent | later | the same | the same |
//! | parent | in `spawn`, after it reserved seats | the locks on their descriptions go with it | the segments reap the seats |
//!
//! The parent's pidfd, and not `PR_SET_PDEATHSIG`, makes daemons end: that signal comes when the *thread* ends that started
//! the child, and it is lost if the parent dies before the child could ask for it.

mod argument;
mod entry;
mod envelope;
mod family;
mod give;
mod handle;
mod join;
mod packer;
mod registry;
mod spawn;

pub use argument::Argument;
pub use entry::init;
pub(crate) use entry::panic_text;
pub use family::{
    active_children, current_process, parent_process, CurrentProcess, ParentProcess, RunningChild,
};
pub use handle::Process;
pub use join::JoinError;
pub(crate) use packer::{Packer, Unpacker};
pub use spawn::ProcessBuilder;
