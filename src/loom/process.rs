//! The processes of a model. A process is a thread of loom's that has an epoch of its own, as a
//! copy by `fork` has. It dies at a step of the model's choice.
//!
//! # Death
//!
//! The kernel's part comes first: the locks go, and the slices of all sleepers end. Then the thread
//! unwinds. A killed process runs no destructors, and here they must not be noticed. A thread that
//! panics cannot change words. It loads the latest values, and its stores have no effect. Its epoch
//! is no process's, so guards take it for a copy of their process, and do nothing. And loom
//! switches to no other thread until the unwinding has ended.
//!
//! So a panic of the model itself, which fails it, changes nothing either, and is not hidden by
//! what destructors would do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::execution::{current, Execution};

/// The epoch of the process that a model begins with.
pub(crate) const MAIN: u32 = 1;
/// The epoch of a thread that unwinds.
const UNWINDING: u32 = u32::MAX;

thread_local! {
    /// The step at which the victim dies.
    static FATAL: Cell<usize> = const { Cell::new(0) };
    /// Whether a process has died, in any execution since [`aim`].
    static HIT: Cell<bool> = const { Cell::new(false) };
}

/// Sets the step at which victims die from here on.
pub(crate) fn aim(step: usize) {
    FATAL.set(step);
    HIT.set(false);
}

/// Returns whether a victim has reached the step of the last [`aim`].
pub(crate) fn was_hit() -> bool {
    HIT.get()
}

/// What a killed process unwinds with.
#[derive(Debug)]
pub(crate) struct Killed;

/// A process.
pub(crate) struct Process {
    epoch: u32,
    is_victim: Cell<bool>,
    /// Its steps so far.
    steps: Cell<usize>,
    /// Not 0 while a step is part of another one.
    uncounted: Cell<u32>,
    /// What the kernel does when it ends, in any way.
    releases: RefCell<Vec<Box<dyn Fn()>>>,
}

struct Thread {
    process: Rc<Process>,
    /// The number of ends of slices that the thread has noticed.
    slices: Cell<u64>,
}

::loom::thread_local! {
    static THREAD: RefCell<Option<Rc<Thread>>> = RefCell::new(None);
}

fn thread() -> Option<Rc<Thread>> {
    THREAD.try_with(|thread| thread.borrow().clone()).ok()?
}

/// Returns the process of the running thread; `None` for the first one, and for threads that are
/// no process's.
pub(super) fn of_thread() -> Option<Rc<Process>> {
    Some(thread()?.process.clone())
}

/// Returns whether a slice has ended that the running thread has not noticed yet. From here on it
/// has.
pub(crate) fn has_slice_ended() -> bool {
    let Some(execution) = current().filter(|execution| execution.slices() > 0) else { return false };
    if thread().is_none() {
        execution.process().become_current();
    }
    thread().is_some_and(|thread| thread.slices.replace(execution.slices()) != execution.slices())
}

/// Returns the epoch of the current process.
pub(crate) fn epoch() -> u32 {
    match current() {
        _ if std::thread::panicking() => UNWINDING,
        Some(execution) => execution.process().epoch,
        None => MAIN,
    }
}

/// Runs `body` without counting its steps, so the process does not die within it.
pub(crate) fn uncounted<R>(body: impl FnOnce() -> R) -> R {
    match current() {
        Some(execution) if execution.is_modelled() => execution.process().uncounted(body),
        _ => body(),
    }
}

/// Runs `body` as if the running thread were one of `process`.
pub(crate) fn within<R>(process: &Rc<Process>, body: impl FnOnce() -> R) -> R {
    let before = THREAD.with(|thread| thread.borrow_mut().take());
    process.become_current();
    let result = body();
    THREAD.with(|thread| *thread.borrow_mut() = before);
    result
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.epoch)
    }
}

impl Process {
    pub(crate) fn new(epoch: u32) -> Rc<Process> {
        Rc::new(Process {
            epoch,
            is_victim: Cell::new(false),
            steps: Cell::new(0),
            uncounted: Cell::new(0),
            releases: RefCell::default(),
        })
    }

    /// Makes the running thread one of this process.
    pub(crate) fn become_current(self: &Rc<Process>) {
        let thread = Thread { process: self.clone(), slices: Cell::new(0) };
        THREAD.with(|current| *current.borrow_mut() = Some(Rc::new(thread)));
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Makes the process one that dies.
    pub(crate) fn make_victim(&self) {
        self.is_victim.set(true);
    }

    /// Has `release` called when the process dies.
    pub(crate) fn at_death(&self, release: impl Fn() + 'static) {
        self.releases.borrow_mut().push(Box::new(release));
    }

    fn uncounted<R>(&self, body: impl FnOnce() -> R) -> R {
        self.uncounted.set(self.uncounted.get() + 1);
        let result = body();
        self.uncounted.set(self.uncounted.get() - 1);
        result
    }

    /// Counts a step, before it is made, and dies if it is the fatal one.
    #[track_caller]
    pub(crate) fn step(&self, execution: &Execution) {
        if !self.is_victim.get() || self.uncounted.get() > 0 {
            return;
        }
        let step = self.steps.replace(self.steps.get() + 1);
        if step == FATAL.get() {
            self.die(execution);
        }
    }

    #[track_caller]
    fn die(&self, execution: &Execution) -> ! {
        HIT.set(true);
        execution.trace(0, "killed", 0);
        self.uncounted(|| {
            self.releases.take().iter().for_each(|release| release());
            execution.end_slices();
        });
        ::loom::stop_exploring();
        std::panic::resume_unwind(Box::new(Killed))
    }
}
