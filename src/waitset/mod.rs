//! Waiting for several things at once: the set, its protocol, and what sleeps on its behalf.
//!
//! A set is local to its process. Nothing in shared memory knows of it: on each member it does what any waiter does, so a
//! member costs those who make it ready nothing more than one plain waiter would.
//!
//! # State
//!
//! One wait goes through these; each round is that of [`wait_by`](crate::sync::wait::wait_by).
//!
//! | step | what happens |
//! |---|---|
//! | look | all members; if any is ready, the wait is over, without a system call unless descriptors are members |
//! | announce | the waiter bit of every member that is a word, then one heavy barrier for those that are made ready by plain stores |
//! | look again | as above: who made a member ready before this has been seen, who does so after it sees the bit |
//! | sleep | until one word is woken or has changed, or a descriptor is readable; 50 ms at most |
//! | look | all members |
//! | pass on | of those that are ready, after a wait that has announced itself: one wake-up each |
//!
//! How it sleeps depends on what is in the set:
//!
//! | members | the waiting thread | helpers |
//! |---|---|---|
//! | one word | `futex` | none |
//! | up to 128 words | `futex_waitv` | none |
//! | descriptors only | `poll` | none |
//! | both, or more words | `poll` on the descriptors and an eventfd | a thread for each 127 words, asleep in `futex_waitv`; it rings the eventfd |
//! | any of the last but one and three, where the kernel has no `futex_waitv` (before 5.16), or no thread is to be had | sleeps 0.25 ms, then longer, 5 ms at most, and looks | none |
//!
//! Helpers touch the words only while their set sleeps ([`orders`]): between two waits nobody who makes a member ready pays
//! for them. They stay asleep until the set is dropped.
//!
//! # Wake-ups that are swallowed
//!
//! Who makes one message wakes one sleeper. If that is a set, it may return for the sake of another member, or its user may
//! leave the message where it is, while a plain receiver sleeps on. So a set whose wait was not over at once wakes another
//! sleeper of each member that it returns as ready. That one looks: if the message is gone meanwhile it sleeps again. A
//! set that finds a member not ready has nothing to pass on: somebody has taken what it was woken for. The wake-ups that a
//! set swallows are over before its last look, since nothing of it sleeps any more by then.
//!
//! # Memory ordering
//!
//! That of the members: each is announced and looked at as its own waiters do it. All words of a set are announced before
//! any is looked at, and any that changes from then on ends the sleep, which compares all of them.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | a set's process dies announced or asleep, helpers too | the next notification, whose wake reaches nobody | it clears the bit | nothing |
//! | it dies woken, before it has passed on | another sleeper at the end of its slice | its own attempt | up to 50 ms |
//! | it is stopped woken | as above | as above | up to 50 ms |
//! | a notifier dies between its change and its wake | the set, at the end of its slice | its own look | up to 50 ms |
//! | the other side of a ring or pipe dies, or the holder of a slot | the set, after its slice | it reaps, as any waiter | nothing |
//! | a helper | does not die alone | | |
//!
//! # Fork
//!
//! A forked child has the set and not its helpers. It leaves them alone and starts its own at its first use.

#[cfg(not(loom))]
mod crew;
#[cfg(not(loom))]
mod files;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod member;
pub(crate) mod orders;
pub(crate) mod source;

#[cfg(not(loom))]
pub use handle::WaitSet;
#[cfg(not(loom))]
pub use member::{Room, Waitable};
