//! The pool in its own process: what all its handles share, and how its threads wait.
//!
//! There is one lock, and whoever waits for a result does the work: it collects what workers have finished, for everybody, and
//! fills slots that are free. The pool's thread ([`super::crew`]) does the same when nobody waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::pool::batch::Job;
use crate::pool::calls::Calls;
use crate::pool::crew::Plan;
use crate::pool::desk::Desk;
use crate::pool::error::TaskError;
use crate::pool::flow::{Packed, State};
use crate::sync::wait::{wait_by, Pace};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// A look for results takes as long as so many looks at a word.
const LOOKS: u32 = 4;

/// What all handles of a pool share.
pub(crate) struct Core {
    pub(crate) desk: Desk,
    pub(crate) plan: Plan,
    /// Wakes the pool's thread.
    pub(crate) bell: OwnedFd,
    /// The process that made it, and that alone can use it.
    process: u32,
    state: Mutex<State>,
    /// Where callbacks are called; nowhere before there is one.
    calls: OnceLock<Calls>,
}

/// A call that submits tasks and is not through with it: what it has yet to submit counts as what the pool has to do.
pub(crate) struct Submission<'a>(&'a Core);

impl Drop for Submission<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.submitting -= 1;
        if state.closed {
            drop(state);
            // Who joins the pool may wait for this.
            self.0.desk.head().results.notify_all();
        }
    }
}

impl Core {
    pub(crate) fn new(desk: Desk, plan: Plan, bell: OwnedFd, depth: usize) -> Core {
        let state = State::new(plan.workers, depth);
        Core {
            desk,
            plan,
            bell,
            process: std::process::id(),
            state: Mutex::new(state),
            calls: OnceLock::new(),
        }
    }

    /// Whether this process made it, and is not a fork of the one that did.
    pub(crate) fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error unless this process made it.
    pub(crate) fn check_own(&self) -> Result<()> {
        match self.is_own() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::NotInThisProcess,
                "a pool belongs to the process that made it, not to a fork of that",
            )),
        }
    }

    /// The state, if tasks can be submitted.
    fn admit(&self) -> Result<MutexGuard<'_, State>, TaskError> {
        self.check_own()?;
        let state = self.lock();
        match &state.over {
            Some(error @ (TaskError::Broken(_) | TaskError::Refused { .. })) => Err(error.clone()),
            Some(_) => Err(Error::new(ErrorKind::Closed, "the pool was terminated").into()),
            None if state.closed => Err(Error::new(ErrorKind::Closed, "the pool is closed").into()),
            None => Ok(state),
        }
    }

    /// Whether tasks can be submitted.
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        self.admit().map(drop)
    }

    /// Begins to submit tasks: what is submitted until the end of that is done, also if the pool is closed meanwhile.
    pub(crate) fn begin(&self) -> Result<Submission<'_>, TaskError> {
        self.admit()?.submitting += 1;
        Ok(Submission(self))
    }

    /// Collects what is finished, and submits as much of `chunks` as has room. True: it has done something.
    pub(crate) fn turn(&self, chunks: &mut VecDeque<Packed>) -> bool {
        let mut state = self.lock();
        let collected = state.collect(&self.desk);
        let submitted = state.submit(self, chunks);
        let callers = state.take_callers();
        drop(state);
        self.call(callers);
        if collected {
            // Others may wait for what was collected here.
            self.desk.head().results.notify_all();
        }
        collected || submitted
    }

    /// Has callbacks called, in the thread that is there for them.
    pub(crate) fn call(&self, callers: Vec<Arc<dyn Job>>) {
        // Without a thread (see `expect_calls`) there are none to be called.
        if let Some(calls) = self.calls.get() {
            callers.into_iter().for_each(|job| calls.push(job));
        }
    }

    /// There will be callbacks: starts the thread for them, unless it runs.
    pub(crate) fn expect_calls(self: &Arc<Core>) -> Result<()> {
        if self.calls.get().is_none() {
            // If two are started at once, one has nothing to do and ends.
            let _ = self.calls.set(Calls::start(Arc::downgrade(self))?);
        }
        Ok(())
    }

    /// Whether a callback has still to return that this thread can wait for: if it is the one that calls them, there is none.
    pub(crate) fn has_calls(&self) -> bool {
        !self.is_caller() && self.calls.get().is_some_and(Calls::are_pending)
    }

    /// Whether this thread is the one that calls the pool's callbacks.
    pub(crate) fn is_caller(&self) -> bool {
        self.calls.get().is_some_and(Calls::are_here)
    }

    /// Waits until `attempt` gives something: for results of the batch `id`.
    pub(crate) fn wait<T>(
        &self,
        id: u64,
        deadline: Deadline,
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let results = &self.desk.head().results;
        // While there is more in the line than workers, nothing will be over soon.
        let is_busy = self.desk.line().len() > 2 * self.plan.workers as u64;
        let pace = Pace::of(if is_busy { 0 } else { LOOKS });
        let announce = || {
            let seen = results.announce();
            self.lock().wait_for(&self.desk, id, self.plan.workers);
            seen
        };
        wait_by(
            deadline,
            pace,
            || self.tend(),
            attempt,
            announce,
            |seen, slice| results.futex().wait(seen, slice),
        )
    }

    /// Waits until `attempt` gives something: for any result at all.
    pub(crate) fn wait_all<T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        loop {
            let oldest = self.lock().oldest();
            // Without tasks it is callbacks that are waited for.
            let id = oldest.unwrap_or(u64::MAX);
            let mut found = None;
            let turned = self.wait(id, deadline, || {
                found = attempt();
                (found.is_some() || self.lock().oldest() != oldest).then_some(())
            });
            if found.is_some() || turned.is_none() {
                return found;
            }
        }
    }

    /// Looks for dead workers, and for what nobody tells of.
    pub(crate) fn tend(&self) {
        let mut state = self.lock();
        state.tend(self);
        state.sweep(&self.desk);
        let callers = state.take_callers();
        let has_news = std::mem::take(&mut state.has_news);
        drop(state);
        self.call(callers);
        if has_news {
            self.desk.head().results.notify_all();
        }
    }

    /// After the end of the pool: waits until no worker is left that might still be in a task. They have been killed.
    pub(crate) fn wait_until_alone(&self) {
        let attachment = self.desk.object().attachment();
        let Ok(me) = attachment.owner() else { return };
        // Who was at a bench before is dead. Others may be here, too, to look at the segment.
        let workers = (0..self.plan.workers).filter_map(|index| self.desk.bench(index)?.owner());
        for worker in workers.filter(|worker| *worker != me) {
            while attachment.is_alive(worker) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Wakes the pool's thread.
    pub(crate) fn ring(&self) {
        // Fails only if the counter is full, and then the thread is awake.
        let _ = rustix::io::write(self.bell.as_fd(), &1u64.to_ne_bytes());
    }
}
