//! A pool without processes, whose workers are whoever says so: for the tests that kill and stop one at each instruction.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, EventfdFlags};

use crate::pool::batch::{Batch, Job, Outcome};
use crate::pool::chunk::{run, Runner};
use crate::pool::core::Core;
use crate::pool::crew::Plan;
use crate::pool::desk::{Desk, BENCHES_AT, LINE_AT, SLOTS_AT, WORKS};
use crate::pool::error::TaskError;
use crate::pool::flow::Packed;
use crate::pool::line::SLOTS;
use crate::pool::options::place_of;
use crate::pool::slot::State;
use crate::pool::worker::Hands;
use crate::process::Argument;
use crate::{Error, ErrorKind, Result};

/// How long a task may take: no test takes so long.
pub(super) const LIMIT: Duration = Duration::from_secs(1000);

/// The pool's side, and the hands of its workers.
#[doc(hidden)]
pub struct Rehearsal<R> {
    pub(super) core: Core,
    pub(super) outcome: Arc<Outcome<R>>,
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
            timeout: Some(LIMIT),
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
        // Nobody is started in anybody's place, and who dies had begun.
        core.lock().crew.dismissed = true;
        (0..2)
            .filter_map(|worker| core.desk.bench(worker))
            .for_each(|bench| bench.stage.store(WORKS, Relaxed));
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
        self.core.lock().bury(&self.core, worker, 0, None, None, None);
    }

    /// As the pool: what has come so far; `None` if not everything has.
    pub fn results(&self) -> Option<Vec<Result<R, TaskError>>> {
        self.look();
        let mut results = self.outcome.lock();
        results.is_ready().then(|| results.take_all())
    }

    /// As the pool: how many results have come so far.
    pub fn done(&self) -> usize {
        self.look();
        self.outcome.lock().done
    }

    /// Looks as whoever waits does, and as at the end of a slice.
    fn look(&self) {
        self.core.turn(&mut VecDeque::new());
        self.core.tend();
        // What was queued again, or had no slot.
        self.core.turn(&mut VecDeque::new());
    }

    /// The workers that have a chunk in hand, as the words say.
    pub fn running(&self) -> Vec<usize> {
        let words = (0..SLOTS).filter_map(|index| self.core.desk.word(index));
        let workers = words.filter_map(|word| match word.state() {
            State::Running(_, worker) => Some(worker),
            _ => None,
        });
        workers.collect()
    }

    /// As the pool: the workers that have been in one task for longer than no time, if it looks twice.
    pub fn late(&self) -> Vec<usize> {
        let mut state = self.core.lock();
        let now = Instant::now();
        state.forget_progress();
        state.late(&self.core.desk, now, Duration::ZERO);
        let late = state.late(&self.core.desk, now + Duration::from_millis(1), Duration::ZERO);
        late.into_iter().map(|(worker, _)| worker).collect()
    }

    /// How many blocks of the pool's heap are in use.
    pub fn blocks(&self) -> u64 {
        self.core.desk.heap.in_use().map_or(u64::MAX, |blocks| blocks.len() as u64)
    }

    /// Writes over a word of the line, of the first slots or of the benches: which, `place` says.
    pub fn damage(&self, place: usize, change: impl FnOnce(u64) -> u64) {
        let (at, words) = match place % 3 {
            0 => (LINE_AT, 48),
            1 => (SLOTS_AT, 4 * 256 / 8),
            _ => (BENCHES_AT, 2 * 256 / 8),
        };
        let at = at + place / 3 % words * 8;
        // SAFETY: it is inside of the object, which is mapped and aligned, and whose words are atomic.
        let word = unsafe { &*self.core.desk.object().base().add(at).cast::<AtomicU64>() };
        word.store(change(word.load(Relaxed)), Relaxed);
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
