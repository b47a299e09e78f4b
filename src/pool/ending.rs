//! How a pool ends: closed, joined, terminated, dropped.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::pool::crew::{see_off, END_WAIT};
use crate::pool::error::TaskError;
use crate::pool::handle::Pool;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

impl Pool {
    /// Takes no more tasks. Those that it has are done, and so is what a call that has begun still submits. Closing it again does
    /// nothing.
    pub fn close(&self) {
        if self.core.is_own() {
            self.core.lock().closed = true;
        }
    }

    /// Waits until everything is done, callbacks have returned and the workers have ended; a worker that does not end in two
    /// seconds is killed. What an [`imap`](Pool::imap) has not submitted by then is refused. The pool must have been
    /// [closed](Pool::close) or [terminated](Pool::terminate).
    ///
    /// In a callback of this pool it does not wait for callbacks. In what a [`map`](Pool::map) of this pool calls while it
    /// submits (its items, its [progress](crate::pool::Options::progress)) it would wait for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: it was neither. `NotInThisProcess`. `Broken`, with the failure of the workers' initialiser.
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

    /// [`join`](Pool::join) without waiting: `Ok` if everything is done, callbacks have returned and the workers have ended.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Pool::join_timeout).
    pub fn try_join(&self) -> Result<()> {
        self.join_until(Deadline::At(0))
    }

    /// [`join`](Pool::join), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Those of [`join`](Pool::join), and `TimedOut`: the pool goes on with what it has, and can be joined again.
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

    /// [`join`](Pool::join), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Pool::join_timeout).
    pub fn join_deadline(&self, deadline: Instant) -> Result<()> {
        self.join_until(Deadline::at(deadline))
    }

    fn join_until(&self, deadline: Deadline) -> Result<()> {
        let core = &self.core;
        core.check_own()?;
        {
            let state = core.lock();
            if !state.closed && state.over.is_none() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "joining a pool that takes tasks would never end: `close` it first, or `terminate` it",
                ));
            }
        }
        let drained = || {
            core.turn(&mut Default::default());
            let mut state = core.lock();
            if state.over.is_none() && state.outstanding() == 0 {
                let text = "the pool has been joined".into();
                state.over = Some(TaskError::Refused { kind: ErrorKind::Closed, text });
            }
            (state.over.is_some() && !core.has_calls()).then_some(())
        };
        let late =
            |what| Err(Error::new(ErrorKind::TimedOut, format!("{what}: the pool can be joined again")));
        if core.wait_all(deadline, drained).is_none() {
            return late("there are tasks that are not done, or callbacks that have not returned");
        }
        core.desk.head().closed.store(1, Relaxed);
        let over = {
            let mut state = core.lock();
            state.crew.dismiss();
            if !matches!(state.over, Some(TaskError::Refused { .. })) {
                state.crew.cut_off();
            }
            state.over.clone()
        };
        core.desk.head().work.notify_all();
        core.ring();
        if !see_off(core, deadline) {
            return late("workers have not ended yet");
        }
        match over {
            Some(error @ TaskError::Broken(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Kills the workers, at once. Tasks that are not done get [`TaskError::Terminated`]. It returns when all workers are gone,
    /// after two seconds at most.
    pub fn terminate(&self) {
        let core = &self.core;
        if !core.is_own() {
            return;
        }
        let callers = {
            let mut state = core.lock();
            state.crew.dismiss();
            state.crew.cut_off();
            if state.over.is_none() {
                state.end(&core.desk, TaskError::Terminated);
            }
            state.take_callers()
        };
        core.desk.head().closed.store(1, Relaxed);
        core.ring();
        core.call(callers);
        core.desk.head().results.notify_all();
        see_off(core, Deadline::Never);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
        if let (Some(watched), true) = (&mut self.watched, self.core.is_own()) {
            // The program may end after this, and what the thread still has of a segment would stay behind under its name.
            let watched = watched.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = watched.recv_timeout(END_WAIT);
        }
    }
}
