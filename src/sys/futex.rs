//! The futex: a 32-bit word in shared memory on which any process that maps it can sleep.
//!
//! Never the private flag, because the sleepers are in other processes. A deadline is absolute on
//! the monotonic clock (`FUTEX_WAIT_BITSET`), so an interrupted wait goes on without arithmetic. A
//! slice is relative (`FUTEX_WAIT`), so it is slept whatever happened before. Under loom the queue
//! of a word is modelled ([`crate::loom::sleepers`]).
//!
//! [`wait_any`] sleeps on several words at once (`futex_waitv`, Linux 5.16). If the kernel has no
//! such call, or a filter of system calls refuses it, it says so, and its caller must do without.

use std::ptr::NonNull;

use crate::loom::atomic::AtomicU32;

/// A word that a thread can sleep on. Zero is the fresh state.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Futex {
    /// The word itself; the primitive around it defines its meaning.
    pub(crate) word: AtomicU32,
}

/// One futex of a [`wait_any`] call and its expected value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitTarget {
    futex: NonNull<Futex>,
    seen: u32,
}

// SAFETY: an address and a number; the caller of wait_any promises that the word is there.
unsafe impl Send for WaitTarget {}

impl WaitTarget {
    pub(crate) fn new(futex: &Futex, seen: u32) -> WaitTarget {
        WaitTarget { futex: NonNull::from(futex), seen }
    }

    /// Returns the expected value.
    pub(crate) fn seen(&self) -> u32 {
        self.seen
    }
}

/// The outcome of a sleep on several words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Woken, or a word had changed, or spuriously: check the words again.
    Woken,
    /// The end has passed.
    TimedOut,
    /// The kernel cannot do it. The thread has not slept.
    Impossible,
}

/// The number of words on which a thread can sleep at once: `FUTEX_WAITV_MAX`.
pub(crate) const TARGETS_MAX: usize = 128;

#[cfg(not(loom))]
pub(crate) use real::wait_any;

#[cfg(not(loom))]
mod real {
    use super::{Futex, Rest, WaitTarget, TARGETS_MAX};
    use crate::sys::clock::{timespec, Until};
    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};
    use rustix::thread::ClockId;
    use std::mem::MaybeUninit;
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    const ALL: NonZeroU32 = NonZeroU32::MAX;

    /// Sleeps while all words have their expected values, until one of them is woken or `end`. One
    /// word needs no new kernel; more than [`TARGETS_MAX`] are impossible.
    ///
    /// # Safety
    ///
    /// The words stay at their addresses until this returns.
    pub(crate) unsafe fn wait_any(targets: &[WaitTarget], end: Until) -> Rest {
        static IS_MISSING: AtomicBool = AtomicBool::new(false);
        if let [target] = targets {
            // SAFETY: promised by the caller.
            let woken = unsafe { target.futex.as_ref() }.wait(target.seen, end);
            return if woken { Rest::Woken } else { Rest::TimedOut };
        }
        if targets.is_empty() || targets.len() > TARGETS_MAX || IS_MISSING.load(Relaxed) {
            return Rest::Impossible;
        }
        // Usually few of them are used, so the others are not even cleared.
        let mut waits = [const { MaybeUninit::<Wait>::uninit() }; TARGETS_MAX];
        for (place, target) in waits.iter_mut().zip(targets) {
            let mut wait = Wait::new();
            wait.val = target.seen.into();
            wait.uaddr = WaitPtr::new(target.futex.as_ptr().cast());
            wait.flags = WaitFlags::SIZE_U32; // and not private
            place.write(wait);
        }
        // SAFETY: there are at most `TARGETS_MAX` targets (checked above), and an entry was written
        // for each; a MaybeUninit has the layout of its value.
        let waits = unsafe { std::slice::from_raw_parts(waits.as_ptr().cast::<Wait>(), targets.len()) };
        let timeout = end.moment().map(timespec);
        match futex::waitv(waits, WaitvFlags::empty(), timeout.as_ref(), ClockId::Monotonic) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Rest::Woken,
            Err(Errno::TIMEDOUT) => Rest::TimedOut,
            // The error of kernels before 5.16, and of filters that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {
                IS_MISSING.store(true, Relaxed);
                Rest::Impossible
            }
            // No memory just now.
            Err(_) => Rest::Impossible,
        }
    }

    impl Futex {
        /// Creates a word outside of shared memory.
        pub(crate) fn new(value: u32) -> Futex {
            Futex { word: super::AtomicU32::new(value) }
        }

        /// Sleeps while the word is `expected`, until woken or `end`. May return early without a
        /// reason, so check the word again. Returns false if the end has passed.
        pub(crate) fn wait(&self, expected: u32, end: Until) -> bool {
            let (word, shared) = (&self.word, Flags::empty());
            let outcome = match end {
                Until::At(at) => futex::wait_bitset(word, shared, expected, Some(&timespec(at)), ALL),
                Until::After(nanos) => futex::wait(word, shared, expected, Some(&timespec(nanos))),
                Until::Never => futex::wait(word, shared, expected, None),
            };
            !matches!(outcome, Err(Errno::TIMEDOUT))
        }

        /// Wakes at most `count` sleepers; returns the number woken. Async-signal-safe.
        pub(crate) fn wake(&self, count: u32) -> u32 {
            futex::wake(&self.word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0) as u32
        }
    }
}

#[cfg(loom)]
pub(crate) use modelled::wait_any;

#[cfg(loom)]
mod modelled {
    use super::{Futex, Rest, WaitTarget};
    use crate::loom::atomic::Ordering::SeqCst;
    use crate::loom::execution::{current, Place};
    use crate::loom::process::{has_slice_ended, uncounted};
    use crate::loom::sleepers::{SetSleeper, Sleepers};
    use crate::sys::clock::Until;
    use std::rc::Rc;

    impl Futex {
        pub(crate) fn new(value: u32) -> Futex {
            Futex { word: super::AtomicU32::new(value) }
        }

        /// Returns the word's sleepers; `None` for a dead process, and while a model has one
        /// thread.
        fn sleepers(&self) -> Option<Rc<Sleepers>> {
            match self.word.place() {
                Place::Twin { word, .. } => Some(current()?.sleepers(&word)),
                _ => None,
            }
        }

        pub(crate) fn wait(&self, expected: u32, end: Until) -> bool {
            let Some(sleepers) = self.sleepers() else { return true };
            // No death from here on, because a sleeper is as good as dead.
            uncounted(|| match end {
                // It may be woken before, or not.
                Until::At(moment) => self.word.load(SeqCst) != expected || !pass(moment),
                _ => sleepers.sleep(|| self.word.load(SeqCst) == expected),
            })
        }

        pub(crate) fn wake(&self, count: u32) -> u32 {
            let Some(sleepers) = self.sleepers() else { return 0 };
            uncounted(|| sleepers.wake(count))
        }
    }

    /// Behaves as the kernel does: queues on one word after the other, and stops at the first that
    /// has changed.
    ///
    /// # Safety
    ///
    /// The words stay at their addresses until this returns.
    pub(crate) unsafe fn wait_any(targets: &[WaitTarget], end: Until) -> Rest {
        // SAFETY: promised by the caller.
        let futexes = || targets.iter().map(|target| (unsafe { target.futex.as_ref() }, target.seen));
        let is_current = |(futex, seen): (&Futex, u32)| futex.word.load(SeqCst) == seen;
        if let Until::At(moment) = end {
            let is_over = futexes().all(is_current) && pass(moment);
            return if is_over { Rest::TimedOut } else { Rest::Woken };
        }
        let sleeper = SetSleeper::new();
        let add = |(futex, seen): (&Futex, u32)| {
            let Some(sleepers) = futex.sleepers() else { return false };
            uncounted(|| sleepers.add(&sleeper, || is_current((futex, seen))))
        };
        let is_queued = futexes().all(add);
        // A slice that ends from here on wakes this thread.
        let has_ended = has_slice_ended();
        if is_queued && !has_ended {
            sleeper.sleep();
        }
        futexes().filter_map(|(futex, _)| futex.sleepers()).for_each(|sleepers| sleepers.remove(&sleeper));
        if has_ended || has_slice_ended() {
            Rest::TimedOut
        } else {
            Rest::Woken
        }
    }

    /// Lets another thread run, and then the time pass until `moment`. Returns true.
    fn pass(moment: u64) -> bool {
        ::loom::thread::yield_now();
        current().inspect(|execution| execution.pass(moment));
        true
    }
}
