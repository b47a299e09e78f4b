//! Models of programs that share memory: every interleaving, with a death at every step. Only under
//! `--cfg loom`.
//!
//! A model is a closure that creates objects of this crate and starts processes. [loom] runs it in
//! every order in which their steps can happen, and with every value that a load may return. The
//! objects work as they do in a program, but on memory from the heap, and a process is a thread of
//! loom's. It has all the objects that its parent has, as a copy by `fork` has.
//!
//! [`kill_somewhere`] kills a process at each of its steps in turn: the whole model runs again for
//! each. The others then find what a `kill -9` leaves.
//!
//! ```
//! # #[cfg(loom)]
//! # fn main() -> pagemate::Result<()> {
//! use pagemate::{model, Mutex};
//!
//! let summary = model::model(|| {
//!     let account = Mutex::new([100_u64, 0]).unwrap();
//!     let theirs = account.clone();
//!     let clerk = model::process(move || {
//!         let mut account = theirs.lock().unwrap();
//!         account[0] -= 10;
//!         account[1] += 10;
//!     });
//!     model::kill_somewhere(&clerk);
//!     let account = match account.lock() {
//!         Ok(account) => account,
//!         Err(died) => {
//!             let mut account = died.into_guard().unwrap();
//!             account[1] = 100 - account[0];
//!             account
//!         }
//!     };
//!     assert_eq!(account[0] + account[1], 100);
//! });
//! assert!(summary.executions > 1 && summary.deaths > 1);
//! # Ok(())
//! # }
//! # #[cfg(not(loom))]
//! # fn main() {}
//! ```
//!
//! # What is modelled
//!
//! - Every atomic of the library: its orders, and what a load may return.
//! - The futex, with its queue. There is no clock. A wake-up that is lost without a death is a
//!   deadlock, which loom reports. After a death, and after a recovery, each sleeper checks for the
//!   dead, as it does every 50 ms in a program.
//! - A finite deadline passes or does not: a sleeper with one lets the others run, and has timed
//!   out when it runs again.
//! - Starting and ending a process normally are one step each.
//!
//! - A load may return an earlier value than the latest, as its order permits.
//!
//! Not modelled: the bytes of messages. A race on them is not found, but a message that was
//! received too early has the wrong value. At most 64 participants of a segment, and four
//! processes beside the first ([`loom::MAX_THREADS`](::loom::MAX_THREADS)). The programs of
//! [`Process`](crate::Process) and [`Pool`](crate::Pool) are not started.
//!
//! Keep a model small: two or three processes, one or two operations each. The environment
//! variables of loom apply, such as `LOOM_MAX_PREEMPTIONS`.
//!
//! [loom]: https://docs.rs/loom

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use ::loom::thread;

use crate::loom::execution::{self, current, section, Fork};
use crate::loom::process::{self, within, Killed};

/// Preemptions of a thread by another, at most, unless the environment says otherwise.
const PREEMPTIONS: usize = 3;
/// The most steps of one execution.
const BRANCHES: usize = 20_000;
/// The number of changes before a failure that are printed.
const TRACE: usize = 60;

thread_local! {
    static HAS_VICTIM: Cell<bool> = const { Cell::new(false) };
}

/// What a model has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The number of executions: interleavings, times deaths.
    pub executions: usize,
    /// The number of steps at which a process was killed. 0 without [`kill_somewhere`].
    pub deaths: usize,
}

/// Runs `body` in every interleaving, and prints nothing. With [`kill_somewhere`], runs all of them
/// for each step of the victim, and once without a death.
///
/// # Panics
///
/// If `body` or one of its processes panics, or if all of them sleep for ever. Then it prints the
/// last changes of all words to standard error, and where the victim died.
pub fn model(body: impl Fn() + Send + Sync + 'static) -> Summary {
    model_within(PREEMPTIONS, body)
}

/// Like [`model`], with at most this number of preemptions of a process by another one. The default
/// is 3.
pub fn model_within(preemptions: usize, body: impl Fn() + Send + Sync + 'static) -> Summary {
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = executions.clone();
    let body = Arc::new(move || {
        counted.fetch_add(1, Relaxed);
        execution::begin();
        body();
        current().inspect(|execution| execution.finish());
    });
    HAS_VICTIM.set(false);
    execution::begin_model();
    let mut deaths = 0;
    loop {
        process::aim(deaths);
        let failure = Failure { executions: executions.clone(), step: deaths };
        let mut builder = ::loom::model::Builder::new();
        builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions));
        builder.max_branches = builder.max_branches.max(BRANCHES);
        let body = body.clone();
        builder.check(move || body());
        std::mem::forget(failure);
        execution::end();
        if execution::learn() {
            continue;
        }
        if !process::was_hit() {
            return Summary { executions: executions.load(Relaxed), deaths };
        }
        deaths += 1;
    }
}

/// Prints how the model has failed, unless it is forgotten.
struct Failure {
    executions: Arc<AtomicUsize>,
    step: usize,
}

impl Drop for Failure {
    fn drop(&mut self) {
        let steps = current().map_or_else(Vec::new, |execution| execution.steps());
        eprintln!(
            "the model failed in execution {}; its last changes and stale loads:",
            self.executions.load(Relaxed)
        );
        let steps: Vec<_> = steps.iter().filter(|step| !step.is_load()).collect();
        steps.iter().skip(steps.len().saturating_sub(TRACE)).for_each(|step| eprintln!("  {step}"));
        if HAS_VICTIM.get() {
            eprintln!("the victim was to die before its step {}", self.step + 1);
        }
        execution::end();
    }
}

/// A process of a model.
#[derive(Debug)]
pub struct Process<T> {
    process: Rc<process::Process>,
    thread: thread::JoinHandle<Option<T>>,
}

/// Starts a process that runs `body`, and returns at once. It has the objects of the calling
/// process, as a copy by `fork` has: give it clones of the handles. When `body` returns, the
/// process leaves all segments.
pub fn process<T: 'static>(body: impl FnOnce() -> T + 'static) -> Process<T> {
    let execution = current().expect("a process of a model is started inside of a model");
    let parent = execution.process();
    let child = process::Process::new(execution.next_epoch());
    section(|| within(&child, || execution.note_fork(Fork::Begins(parent.epoch()))));
    execution.start_threads();
    let process = child.clone();
    let thread = thread::spawn(move || {
        child.become_current();
        let execution = current()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let result = body();
            // It may die after all that it has done, too.
            child.step(&execution);
            result
        }));
        match outcome {
            Ok(result) => {
                section(|| execution.note_fork(Fork::Ends));
                Some(result)
            }
            Err(payload) if payload.is::<Killed>() => {
                ::loom::explore();
                None
            }
            Err(payload) => resume_unwind(payload),
        }
    });
    Process { process, thread }
}

impl<T> Process<T> {
    /// Waits for the end of the process. Returns what its body returned; `None` if it was killed.
    pub fn join(self) -> Option<T> {
        self.thread.join().ok().flatten()
    }
}

/// Kills the process at one of its steps: at the first one in the first run of the whole model, at
/// the second in the second run, and so on, and in the last run not at all. Call it directly after
/// [`process`], for one process of a model.
pub fn kill_somewhere<T>(process: &Process<T>) {
    HAS_VICTIM.set(true);
    process.process.make_victim();
}
