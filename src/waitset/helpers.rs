//! How a set sleeps: by itself if it can, else with helper threads that sleep on its words and ring
//! a bell.
//!
//! See [`waitset`](super) for which of these applies, and [`orders`](crate::waitset::handoff) for
//! the protocol between the threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sys::clock::Until;
use crate::sys::descriptor::Own;
use crate::sys::fork;
use crate::sys::futex::{wait_any, Rest, WaitTarget, TARGETS_MAX};
use crate::sys::process::background;
use crate::waitset::handoff::Orders;
use crate::waitset::poll_fds::Files;

/// One place is for the word that dismisses the helper.
const TARGETS_PER_HELPER: usize = TARGETS_MAX - 1;

/// The pause between two polls, where there is no other way: at first, and at most.
const PAUSE_MIN_NANOS: u64 = 250_000;
const PAUSE_MAX_NANOS: u64 = 5_000_000;

/// The helpers of a set: none, until they are needed.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    /// The epoch of the process that has the threads.
    epoch: u32,
    all: Vec<Arc<Helper>>,
    /// The next pause, while there is no other way.
    pause: u64,
}

/// One helper, shared by its thread and its set.
#[derive(Debug)]
struct Helper {
    orders: Orders,
    /// This lock is never contended, because the orders name the owner of the list.
    list: Mutex<Vec<WaitTarget>>,
    bell: Arc<Own>,
}

impl Helpers {
    /// Begins a wait.
    pub(super) fn begin(&mut self, files: &mut Files) {
        self.pause = PAUSE_MIN_NANOS;
        if self.epoch != fork::ensure_epoch() {
            // The threads belong to the parent. They may have been in use at the fork, so they
            // are leaked.
            std::mem::take(&mut self.all).into_iter().for_each(std::mem::forget);
            files.leave_bell();
            self.epoch = fork::epoch();
        }
    }

    /// Sleeps until a word changes or is woken, or a file is readable, or until `end`. Returns
    /// false if the end has passed. When this returns, nothing sleeps on the words any more.
    ///
    /// # Safety
    ///
    /// The words stay at their addresses until this returns.
    pub(super) unsafe fn sleep(&mut self, targets: &[WaitTarget], files: &mut Files, end: Until) -> bool {
        if targets.is_empty() {
            return files.sleep(end);
        }
        if files.len() == 0 && targets.len() <= TARGETS_MAX {
            // SAFETY: promised by the caller.
            match unsafe { wait_any(targets, end) } {
                Rest::Woken => return true,
                Rest::TimedOut => return false,
                Rest::Impossible => {}
            }
        } else if self.arm(targets, files) {
            let woken = files.sleep(end);
            self.recall(files);
            return woken;
        }
        self.doze(files, end)
    }

    /// Arms one helper for each 127 words. Returns false if that is impossible; then no helper
    /// sleeps on them.
    fn arm(&mut self, targets: &[WaitTarget], files: &mut Files) -> bool {
        if self.all.is_empty() && !is_possible() {
            return false;
        }
        if files.has_lost_bell() {
            // Its helpers would ring in vain.
            self.end();
            files.leave_bell();
        }
        let Some(bell) = files.bell() else { return false };
        for (index, part) in targets.chunks(TARGETS_PER_HELPER).enumerate() {
            if index == self.all.len() {
                match Helper::start(&bell) {
                    Some(helper) => self.all.push(helper),
                    None => {
                        self.recall(files);
                        return false;
                    }
                }
            }
            self.all[index].arm(part);
        }
        true
    }

    /// Takes all words back from the helpers.
    fn recall(&mut self, files: &Files) {
        self.all.iter().for_each(|helper| helper.orders.dismiss());
        self.all.iter().for_each(|helper| helper.orders.wait_idle());
        files.silence();
    }

    /// Sleeps for one pause, where nothing better is possible.
    fn doze(&mut self, files: &mut Files, end: Until) -> bool {
        let nanos = end.nanos().unwrap_or(u64::MAX).min(self.pause);
        self.pause = (2 * self.pause).min(PAUSE_MAX_NANOS);
        if files.len() > 0 {
            return files.sleep(Until::After(nanos));
        }
        std::thread::sleep(Duration::from_nanos(nanos));
        false
    }

    /// Ends the threads, which are idle.
    fn end(&mut self) {
        self.all.drain(..).for_each(|helper| helper.orders.end());
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.end();
        }
    }
}

/// Returns whether this kernel lets a thread sleep on several words. Both words here differ from
/// their expected value, so it does not sleep.
fn is_possible() -> bool {
    let (one, other) = (Orders::new(), Orders::new());
    // SAFETY: both words are here until the call returns.
    unsafe { wait_any(&[one.target(), other.target()], Until::Never) != Rest::Impossible }
}

impl Helper {
    fn start(bell: &Arc<Own>) -> Option<Arc<Helper>> {
        let list = Mutex::new(Vec::with_capacity(TARGETS_MAX));
        let helper = Arc::new(Helper { orders: Orders::new(), list, bell: bell.clone() });
        let own = helper.clone();
        background("pagemate-wait", move || own.serve()).ok()?;
        Some(helper)
    }

    fn arm(&self, part: &[WaitTarget]) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.clear();
        list.extend_from_slice(part);
        list.push(self.orders.target());
        drop(list);
        self.orders.arm();
    }

    /// Runs the helper until it is told to end.
    fn serve(&self) {
        while self.orders.next() {
            let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the words stay in place until done(), because the set waits for that before
            // it releases anything.
            let rest = unsafe { wait_any(&list, Until::Never) };
            drop(list);
            // If the kernel has no memory just now, the set checks at the end of its slice.
            if rest == Rest::Woken && self.orders.is_armed() {
                // Fails only if the counter is full, and then the set is awake.
                let _ = self.bell.get().map(|bell| rustix::io::write(bell, &1u64.to_ne_bytes()));
            }
            self.orders.done();
        }
    }
}
