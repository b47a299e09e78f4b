//! A pool without processes, whose workers are whoever says so: for the tests that kill and stop one at each instruction.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use rustix::event::{eventfd, EventfdFlags};

use crate::pool::batch::{Batch, Job, Outcome};
use crate::pool::chunk::{run, Runner};
use crate::pool::core::Core;
use crate::pool::crew::Plan;
use crate::pool::desk::Desk;
use crate::pool::error::TaskError;
use crate::pool::flow::Packed;
use crate::pool::options::place_of;
use crate::pool::worker::Hands;
use crate::process::Argument;
use crate::{Error, ErrorKind, Result};

/// The pool's side, and the hands of its workers.
#[doc(hidden)]
pub struct Rehearsal<R> {
    core: Core,
    outcome: Arc<Outcome<R>>,
}

impl<R: Argument + Send + 'static> Rehearsal<R> {
    /// A pool for two, with these tasks in chunks.
    pub fn new<F, A>(function: F, chunks: Vec<Vec<A>>, retries: u32) -> Result<Rehearsal<R>>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument + 'static,
    {
        let _: F = function;
        let start = Box::new(|_, _| Err(Error::new(ErrorKind::Unsupported, "a rehearsal has no processes")));
        let plan = Plan {
            name: "rehearsal".into(),
            workers: 2,
            tasks_per_worker: None,
            timeout: None,
            retries,
            processors: Vec::new(),
            start,
        };
        let bell = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|cause| Error::system("cannot create an eventfd", cause))?;
        let core = Core::new(Desk::create(None, 2, 1)?, plan, bell, 1024);
        let total = chunks.iter().map(Vec::len).sum();
        let outcome = Outcome::new(Some(total), false, None);
        let runner = place_of(run::<F, A, R> as Runner)?;
        let arguments = PhantomData::<fn(A)>;
        let job: Arc<dyn Job> =
            Arc::new(Batch { outcome: outcome.clone(), runner, retries, calls: false, arguments });
        let mut first = 0;
        let mut packed = VecDeque::new();
        for items in chunks {
            let count = items.len();
            packed.push_back(Packed::new::<A, R>(job.clone(), first, items)?);
            first += count;
        }
        core.turn(&mut packed);
        Ok(Rehearsal { core, outcome })
    }

    /// Attaches this process, if it was forked.
    pub fn attend(&self) {
        let _ = self.core.desk.object().owner();
    }

    /// As worker number `worker`: takes a chunk, runs it and gives its results. False: there is none.
    pub fn work(&self, worker: usize) -> bool {
        let hands = Hands::new(&self.core.desk, worker);
        let Some((ticket, slot)) = hands.take() else { return false };
        if hands.run(ticket, slot, u64::MAX).is_some() {
            let _ = hands.finish(ticket, slot);
        }
        true
    }

    /// As the pool: worker number `worker` is dead.
    pub fn bury(&self, worker: usize) {
        self.core.desk.object().attachment().reap_all();
        let error = TaskError::WorkerDied { pid: 0, exit: None };
        self.core.lock().inherit(&self.core.desk, worker, &error);
    }

    /// As the pool: what has come so far; `None` if not everything has.
    pub fn results(&self) -> Option<Vec<Result<R, TaskError>>> {
        self.core.turn(&mut VecDeque::new());
        let mut results = self.outcome.lock();
        results.is_ready().then(|| results.take_all())
    }

    /// The state in words.
    pub fn words(&self) -> String {
        let object = self.core.desk.object();
        format!("{:?}", crate::pool::describe(object.base(), object.len()))
    }
}

impl<R> fmt::Debug for Rehearsal<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}
