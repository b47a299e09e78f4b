//! Waiting for several things at once: the set, its protocol, and the helpers that sleep on its
//! behalf.
//!
//! A set is local to its process. No word in shared memory refers to it, because on each member it
//! does what any waiter does. So a process that makes a member ready pays for the set no more than
//! for one plain waiter.
//!
//! # State
//!
//! One wait goes through these steps; each round is that of `wait::wait_by`.
//!
//! 1. Check all members. If any is ready, the wait is over, without a system call unless
//!    descriptors are members.
//! 2. Announce: set the waiter bit of every member that is a word, then run one heavy barrier for
//!    the members that are made ready by plain stores.
//! 3. Check again. A change from before the announcement is seen now; a process that makes a later
//!    one sees the bit.
//! 4. Sleep until one word is woken or has changed, or a descriptor is readable; 50 ms at most.
//! 5. Check all members.
//! 6. Pass on: after a wait that has announced itself, one wake-up for each member that is ready.
//!
//! How a set sleeps depends on its members:
//!
//! | members | the waiting thread | helpers |
//! |---|---|---|
//! | one word | `futex` | none |
//! | up to 128 words | `futex_waitv` | none |
//! | descriptors only | `poll` | none |
//! | both, or more words | `poll` on the descriptors and an eventfd | one for each 127 words |
//!
//! A helper is a thread. It sleeps in `futex_waitv` and rings the eventfd. Helpers use the words
//! only while their set sleeps (`handoff`), so between two waits they cost the other processes
//! nothing. The threads stay, asleep, until the set is dropped.
//!
//! # Polling
//!
//! A set that cannot sleep on its words polls: it pauses, checks its members, and pauses again. The
//! first pause of a wait takes 0.25 ms, each further one twice as long as the one before, 5 ms at
//! most. A descriptor that becomes ready ends a pause at once, a word does not. A set polls in
//! these cases:
//!
//! | case | which sets | until when |
//! |---|---|---|
//! | the kernel has no `futex_waitv` (before Linux 5.16) | A, B | the process ends |
//! | a filter of system calls refuses it with `ENOSYS` or `EPERM` | A, B | the process ends |
//! | it fails for another reason, such as a lack of kernel memory | A, B | the next pause |
//! | no eventfd can be created: too many open files, no memory | B | the next pause |
//! | a helper cannot be started: too many threads, no memory | B | the next pause |
//!
//! A are the sets of 2 to 128 words without descriptors. B are those that need helpers. A set of
//! one word, or of descriptors alone, never polls. "The next pause" means that the set tries the
//! proper way again instead of every further pause.
//!
//! A helper whose own `futex_waitv` fails does not ring. Then its set checks at the end of the
//! slice, after 50 ms.
//!
//! # Wake-ups that are swallowed
//!
//! A sender of one message wakes one sleeper. If that is a set, it may return because of another
//! member, or its user may leave the message in the queue, while a plain receiver sleeps on. So a
//! set whose wait was not over at once wakes another sleeper of each member that it returns as
//! ready. That sleeper checks, and sleeps again if the message is gone. A set that finds a member
//! not ready has nothing to pass on, because another consumer has taken the message. No wake-up is
//! swallowed after the last check of a set, because by then nothing of it sleeps any more.
//!
//! # Memory ordering
//!
//! That of the members: each is announced and checked as its own waiters do it. All words of a set
//! are announced before any is checked. Any word that changes from then on ends the sleep, which
//! compares all of them.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | it dies announced or asleep | a notifier that wakes nobody | it clears the bit | nothing |
//! | it dies woken, before passing on | a sleeper, after its slice | its attempt | up to 50 ms |
//! | it is woken, then stopped | as above | as above | up to 50 ms |
//! | a notifier dies before its wake | the set, after its slice | its check | up to 50 ms |
//! | a ring's peer or a slot's holder dies | the set, after its slice | it reaps | nothing |
//!
//! "It" is the set's process, and a notifier has made its change before it dies. A ring's peer
//! includes the other end of a pipe. Helpers die with their process, never alone.
//!
//! # Fork
//!
//! A forked child has the set but not its helpers. It leaves them alone and starts its own when it
//! first needs them.

mod handle;
pub(crate) mod handoff;
mod helpers;
mod member;
mod poll_fds;
pub(crate) mod source;

pub use handle::WaitSet;
pub use member::{Waitable, Writable};
