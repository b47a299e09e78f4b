//! The futex: a 32-bit word in shared memory on which any process that maps it can sleep.
//!
//! Never the private flag: the sleepers are in other processes. Deadlines are absolute on the monotonic clock
//! (`FUTEX_WAIT_BITSET`), so an interrupted wait goes on without arithmetic. Under loom a futex is a word with a modelled
//! queue inside the type; deadlines never pass there.

use crate::loom::atomic::AtomicU32;

/// A word that can be slept on. Zero is the fresh state.
#[derive(Debug)]
#[repr(transparent)]
#[cfg(not(loom))]
pub(crate) struct Futex {
    /// The word itself; its meaning belongs to the primitive around it.
    pub(crate) word: AtomicU32,
}

#[cfg(not(loom))]
mod real {
    use super::Futex;
    use crate::sys::clock::{timespec, Deadline};
    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags};
    use std::num::NonZeroU32;

    const ALL: NonZeroU32 = NonZeroU32::MAX;

    impl Futex {
        /// A word outside of shared memory, for tests.
        #[cfg(any(test, loom, feature = "raw_sync"))]
        pub(crate) fn new(value: u32) -> Futex {
            Futex { word: super::AtomicU32::new(value) }
        }

        /// Sleeps while the word is `expected`, until woken or `deadline`. Returns early without a reason now and then:
        /// look at the word again. False means that the deadline has passed.
        pub(crate) fn wait(&self, expected: u32, deadline: Deadline) -> bool {
            let timeout = match deadline {
                Deadline::At(at) => Some(timespec(at)),
                Deadline::Never => None,
            };
            let outcome = futex::wait_bitset(&self.word, Flags::empty(), expected, timeout.as_ref(), ALL);
            !matches!(outcome, Err(Errno::TIMEDOUT))
        }

        /// Wakes at most `count` sleepers; tells how many. Async-signal-safe.
        pub(crate) fn wake(&self, count: u32) -> u32 {
            futex::wake(&self.word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0) as u32
        }
    }
}

#[cfg(loom)]
pub(crate) use modelled::Futex;

#[cfg(loom)]
mod modelled {
    use super::AtomicU32;
    use crate::loom::atomic::Ordering::SeqCst;
    use crate::sys::clock::Deadline;
    use loom::sync::{Condvar, Mutex};

    /// The word and its kernel queue. The queue's lock adds happens-before edges that the kernel does not promise, so
    /// every sleeper reloads its word with its own ordering after waking.
    #[derive(Debug)]
    pub(crate) struct Futex {
        pub(crate) word: AtomicU32,
        asleep: Mutex<u32>,
        bell: Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Futex {
            Futex { word: AtomicU32::new(value), asleep: Mutex::new(0), bell: Condvar::new() }
        }

        pub(crate) fn wait(&self, expected: u32, _deadline: Deadline) -> bool {
            let mut asleep = self.asleep.lock().unwrap();
            if self.word.load(SeqCst) == expected {
                *asleep += 1;
                asleep = self.bell.wait(asleep).unwrap();
                drop(asleep);
            }
            true
        }

        pub(crate) fn wake(&self, count: u32) -> u32 {
            let mut asleep = self.asleep.lock().unwrap();
            let woken = count.min(*asleep);
            *asleep -= woken;
            for _ in 0..woken {
                self.bell.notify_one();
            }
            woken
        }
    }
}
