//! The end of a pool: close, join, terminate, drop.

use crate::loom::atomic::Ordering::Relaxed;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::loom::Ordered;
use crate::pool::engine::Engine;
use crate::pool::error::TaskError;
use crate::pool::handle::Pool;
use crate::pool::supervisor::{END_WAIT, START_AGAIN};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

impl Pool {
    /// Closes the pool: it accepts no more tasks. Submitted tasks are run, and so are those that a
    /// call in progress still submits. Closing it again does nothing.
    pub fn close(&self) {
        if self.engine.is_own() {
            self.engine.lock().closed = true;
        }
    }

    /// Blocks until all tasks are done, all callbacks have returned and all workers have ended. A
    /// worker that does not exit within two seconds is killed. An [`imap`](Pool::imap) can submit
    /// nothing after this. [Close](Pool::close) or [terminate](Pool::terminate) the pool first.
    ///
    /// In a callback of this pool, `join` does not wait for callbacks. Do not call it in the items
    /// or the [progress](crate::pool::TaskOptions::progress) function of a [`map`](Pool::map) of
    /// this pool, because it would wait for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the pool was neither closed nor terminated. `NotInThisProcess`. `Broken`:
    /// the workers' initialiser failed; the text says how.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let task = pool.map_async(|n: u64| n + 1, 0..1000)?;
    /// pool.close();
    /// pool.join()?;
    /// assert!(task.is_ready());
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(&self) -> Result<()> {
        self.join_until(Deadline::Never)
    }

    /// Like [`join`](Pool::join), without blocking: returns `Ok` if all tasks are done, all
    /// callbacks have returned and all workers have ended.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Pool::join_timeout).
    pub fn try_join(&self) -> Result<()> {
        self.join_until(Deadline::At(0))
    }

    /// Like [`join`](Pool::join), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Those of [`join`](Pool::join), and `TimedOut`: the pool runs on, and can be joined again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// # let pool = pagemate::Pool::new(2)?;
    /// let task = pool.apply_async(std::thread::sleep, Duration::from_secs(3600))?;
    /// pool.close();
    /// let error = pool.join_timeout(Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(error.kind(), pagemate::ErrorKind::TimedOut);
    /// pool.terminate();
    /// pool.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<()> {
        self.join_until(Deadline::after(timeout))
    }

    /// Like [`join`](Pool::join), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Pool::join_timeout).
    pub fn join_deadline(&self, deadline: Instant) -> Result<()> {
        self.join_until(Deadline::at(deadline))
    }

    fn join_until(&self, deadline: Deadline) -> Result<()> {
        let engine = &self.engine;
        engine.check_own()?;
        {
            let scheduler = engine.lock();
            if !scheduler.closed && scheduler.table.over.is_none() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "joining a pool that takes tasks would never end: `close` it first, or `terminate` it",
                ));
            }
        }
        let drained = || {
            engine.collect_and_submit(&mut Default::default());
            let mut scheduler = engine.lock();
            if scheduler.table.over.is_none() && scheduler.outstanding() == 0 {
                let text = "the pool has been joined".into();
                scheduler.table.over = Some(TaskError::Refused { kind: ErrorKind::Closed, text });
            }
            (scheduler.table.over.is_some() && !engine.has_pending_callbacks()).then_some(())
        };
        let late =
            |what| Err(Error::new(ErrorKind::TimedOut, format!("{what}: the pool can be joined again")));
        if engine.wait_all(deadline, drained).is_none() {
            return late("there are tasks that are not done, or callbacks that have not returned");
        }
        engine.shared.memory.header().closed.store(1, Relaxed);
        let over = {
            let mut scheduler = engine.lock();
            scheduler.supervisor.dismiss();
            if !matches!(scheduler.table.over, Some(TaskError::Refused { .. })) {
                scheduler.supervisor.cut_off();
            }
            scheduler.table.over.clone()
        };
        engine.shared.memory.header().work.notify_all(Ordered::by_fence());
        engine.shared.wake_monitor();
        if !wait_for_workers(engine, deadline) {
            return late("workers have not ended yet");
        }
        match over {
            Some(error @ TaskError::Broken(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Kills the workers immediately. Unfinished tasks return [`TaskError::Terminated`]. Blocks
    /// until all workers are gone, for two seconds at most.
    pub fn terminate(&self) {
        let engine = &self.engine;
        if !engine.is_own() {
            return;
        }
        let due_callbacks = {
            let mut scheduler = engine.lock();
            scheduler.supervisor.dismiss();
            scheduler.supervisor.cut_off();
            if scheduler.table.over.is_none() {
                scheduler.end(&engine.shared.memory, TaskError::Terminated);
            }
            scheduler.table.take_due_callbacks()
        };
        engine.shared.memory.header().closed.store(1, Relaxed);
        engine.shared.wake_monitor();
        engine.run_callbacks(due_callbacks);
        engine.notify_waiters();
        wait_for_workers(engine, Deadline::Never);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
        if let (Some(watched), true) = (&mut self.watched, self.engine.is_own()) {
            // The program may exit after this. If the monitor still had the segment, its name would
            // stay behind.
            let watched = watched.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = watched.recv_timeout(END_WAIT);
        }
    }
}

/// Blocks until all dismissed workers have ended, and kills those that do not in time. Returns
/// `false` if the deadline has passed.
fn wait_for_workers(engine: &Engine, deadline: Deadline) -> bool {
    loop {
        let Some((worker, leave_by)) = engine.lock().supervisor.leaving() else { return true };
        if deadline.has_passed() {
            return false;
        }
        if worker.wait(deadline.min(leave_by)).is_err() {
            std::thread::sleep(START_AGAIN);
        }
    }
}
