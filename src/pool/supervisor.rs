//! The workers' processes: starts them, and notices when one has ended or cannot begin.
//!
//! # Death
//!
//! "Its pidfd" notices a death at once.
//!
//! - A worker dies before its initialiser has returned. Noticed by its pidfd. Another takes its
//!   place; after as many failures in a row as there are workers the pool is broken. SIGKILL,
//!   SIGTERM, SIGINT, SIGHUP and SIGQUIT do not count as failures.
//! - All workers die, and none can be started: starting one fails. The pool is broken at once if
//!   that cannot change, else after [`START_WAIT`] without any worker.
//! - A worker dies while it is idle. Noticed by its pidfd. Another takes its place.
//! - A worker dies in a task. Noticed by its pidfd. The task gets `WorkerDied`, or is tried again;
//!   another worker takes the place.
//! - A worker retires and does not exit (a handler of `atexit` that never returns). Noticed by its
//!   stage. It is killed after [`END_WAIT`]; it holds nothing any more.
//! - A worker is killed for a task that took too long, but is in the next one when the signal
//!   comes. Noticed by its pidfd. That next task is tried again, and its retries are not charged.
//! - A worker is killed, and kept by its tracer or by the kernel. Noticed by a deadline: two
//!   seconds for `join` and `terminate`, ten for `map_slice`. It is left behind; `map_slice`
//!   poisons its output.
//! - The pool's process dies. The workers notice, and end: they are daemons.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, EventfdFlags};
use rustix::io::fcntl_dupfd_cloexec;

use crate::pool::layout::{BEGINS, RETIRES};
use crate::pool::shared::Shared;
use crate::pool::shared_pool::SharedPool;
use crate::pool::slot::RunningTask;
use crate::pool::worker::WorkerConfig;
use crate::process::{Child, Process};
use crate::sys::clock::Deadline;
use crate::sys::descriptor::Own;
use crate::{Error, ErrorKind, Result};

/// Grace period for a worker to exit by itself, and upper bound for a kill to be noticed.
pub(crate) const END_WAIT: Duration = Duration::from_secs(2);
/// Signals from outside, which say nothing about the initialiser.
const KILLS: [i32; 5] = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
/// Consecutive kills at the start that are tolerated, for each worker of the pool.
const KILLS_MAX: u32 = 100;
/// If the monitor did not check for overdue tasks for this long, it was stopped, or asleep without
/// tasks.
const LATE: Duration = Duration::from_millis(500);
/// How long a pool may be without any worker, because none can be started, until it is broken.
const START_WAIT: Duration = Duration::from_secs(10);
/// Interval between attempts to start a worker.
pub(crate) const START_AGAIN: Duration = Duration::from_millis(50);

/// Counts workers that ended before their initialisers returned.
///
/// Failures before a success and after it are not in a row. An end may be noticed long after it,
/// and then nobody can tell whether it came before a success or after it. So the failure of a
/// worker that was started before the last success does not count.
#[derive(Debug, Default)]
struct Starts {
    /// Initialisers that failed in a row, and workers that were killed in a row while they began.
    failures: u32,
    kills: u32,
    /// Workers that have begun.
    successes: u64,
}

impl Starts {
    /// Counts a worker that has begun.
    fn succeeded(&mut self) {
        *self = Starts { successes: self.successes + 1, ..Starts::default() };
    }

    /// Counts a worker that has ended before it began, by a signal from outside or by itself, and
    /// that was started when so far `successes` workers had begun.
    fn failed(&mut self, is_killed: bool, successes: u64) {
        if successes < self.successes {
            return;
        }
        if is_killed {
            self.kills += 1;
        } else {
            self.failures += 1;
        }
    }

    /// Returns whether too many of a pool's `workers` have failed in a row.
    fn are_hopeless(&self, workers: usize) -> bool {
        let workers = workers as u32;
        self.failures >= workers || self.kills >= KILLS_MAX.saturating_mul(workers)
    }
}

/// The process of one worker, and what is known of it.
#[derive(Debug, Default)]
struct WorkerProcess {
    process: Option<Process<()>>,
    /// The number of workers that had begun when it was started.
    successes: u64,
    /// Whether its initialiser is known to have returned.
    begun: bool,
    /// The time at which it was first seen to retire.
    retires: Option<Instant>,
    /// The task for which it was killed, because it took too long.
    overdue: Option<RunningTask>,
}

/// A worker that has ended, and was reaped.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) index: usize,
    pub(crate) pid: u32,
    pub(crate) exit: Option<ExitStatus>,
    /// The task for which the pool killed it.
    pub(crate) overdue: Option<RunningTask>,
    /// Its failure, if it failed.
    pub(crate) text: Option<String>,
}

/// The workers' processes.
#[derive(Debug)]
pub(crate) struct Supervisor {
    workers: Vec<WorkerProcess>,
    starts: Starts,
    /// The time of the last check for overdue tasks.
    checked: Instant,
    /// The time since which there is no worker, because none can be started.
    lacking: Option<Instant>,
    /// Whether ended workers are no longer replaced.
    pub(crate) dismissed: bool,
    /// Dismissed workers that are not known to have ended, and the limit of their time.
    leaving: Vec<Process<()>>,
    leave_by: Deadline,
    /// Whether the dismissed workers were killed.
    cut_off: bool,
}

impl Supervisor {
    pub(crate) fn new(workers: usize) -> Supervisor {
        Supervisor {
            workers: (0..workers).map(|_| WorkerProcess::default()).collect(),
            starts: Starts::default(),
            checked: Instant::now(),
            lacking: None,
            dismissed: false,
            leaving: Vec::new(),
            leave_by: Deadline::Never,
            cut_off: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    fn processes(&self) -> impl Iterator<Item = &Process<()>> {
        self.workers.iter().filter_map(|worker| worker.process.as_ref())
    }

    /// Returns the workers that are not known to have ended.
    pub(crate) fn children(&self) -> Vec<Arc<Child>> {
        self.processes().map(|process| process.child().clone()).collect()
    }

    /// Returns the pids of the running workers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes().filter(|process| process.is_alive()).map(Process::pid).collect()
    }

    /// Starts a worker in each empty place.
    pub(crate) fn fill(&mut self, shared: &Shared) -> Result<()> {
        for index in 0..self.workers.len() {
            if self.workers[index].process.is_none() {
                let process = Some(start(shared, index)?);
                let successes = self.starts.successes;
                self.workers[index] = WorkerProcess { process, successes, ..WorkerProcess::default() };
            }
        }
        Ok(())
    }

    /// Starts a worker in each empty place, and tolerates a shortage that may end.
    ///
    /// # Errors
    ///
    /// The shortage cannot end, or has lasted for too long.
    pub(crate) fn refill(&mut self, shared: &Shared) -> Result<()> {
        match self.fill(shared) {
            Ok(()) => self.lacking = None,
            Err(error) if self.is_hopeless(&error) => return Err(error),
            // The monitor tries again soon.
            Err(_) => {}
        }
        Ok(())
    }

    /// Returns whether the cause of this failure to start a worker cannot end, or has lasted too
    /// long without any worker.
    fn is_hopeless(&mut self, error: &Error) -> bool {
        use ErrorKind::{InvalidInput, NotInitialised, PermissionDenied, Unsupported};
        if matches!(error.kind(), InvalidInput | NotInitialised | PermissionDenied | Unsupported) {
            return true;
        }
        if self.processes().next().is_some() {
            self.lacking = None;
            return false;
        }
        self.lacking.get_or_insert_with(Instant::now).elapsed() > START_WAIT
    }

    /// Returns whether a place is empty, or is about to be.
    pub(crate) fn is_short(&self) -> bool {
        self.workers.iter().any(|worker| worker.process.is_none() || worker.retires.is_some())
    }

    /// Returns whether any worker's process runs.
    pub(crate) fn is_any_left(&self) -> bool {
        self.processes().chain(&self.leaving).any(Process::is_alive)
    }

    pub(crate) fn kill(&self) {
        self.processes().for_each(|worker| drop(worker.kill()));
    }

    /// Kills a worker because this task took too long.
    pub(crate) fn kill_for(&mut self, worker: usize, task: RunningTask) {
        let Some(worker) = self.workers.get_mut(worker) else { return };
        if let (None, Some(process)) = (worker.overdue, &worker.process) {
            worker.overdue = Some(task);
            let _ = process.kill();
        }
    }

    /// Returns whether the last check for overdue tasks was long ago, and notes that they are
    /// checked now.
    pub(crate) fn was_stopped(&mut self, now: Instant) -> bool {
        now - std::mem::replace(&mut self.checked, now) > LATE
    }

    /// Notes which workers have begun, and kills those that retire and do not exit.
    pub(crate) fn check_stages(&mut self, memory: &SharedPool) {
        for index in 0..self.workers.len() {
            let Some(worker_slot) = memory.worker_slot(index) else { continue };
            let stage = worker_slot.stage.load(Acquire); // pairs with the worker's Release
            let worker = &mut self.workers[index];
            let Some(process) = worker.process.as_ref().filter(|_| stage != BEGINS) else { continue };
            if !std::mem::replace(&mut worker.begun, true) {
                self.starts.succeeded();
            }
            if stage == RETIRES && worker.retires.get_or_insert_with(Instant::now).elapsed() > END_WAIT {
                // Until it has handed over its results it may be stopped, and is not to blame.
                if !memory.has_running_slot(index) {
                    let _ = process.kill();
                }
            }
        }
    }

    /// Reaps worker number `index` if it has ended, and empties its place.
    pub(crate) fn take_ended(&mut self, index: usize) -> Option<Ended> {
        let worker = self.workers.get_mut(index)?;
        let process = worker.process.as_mut().filter(|process| !process.is_alive())?;
        let (pid, exit, overdue) = (process.pid(), process.exit_status(), worker.overdue);
        let text = process.try_join().err().map(|error| error.to_string());
        // The number is needed until another is started here.
        *worker = WorkerProcess { successes: worker.successes, ..WorkerProcess::default() };
        Some(Ended { index, pid, exit, overdue, text })
    }

    /// Counts an ended worker that had not begun. Returns why the pool is broken, if it is now.
    pub(crate) fn judge_start(&mut self, memory: &SharedPool, ended: Ended) -> Option<String> {
        let stage = memory.worker_slot(ended.index).map_or(RETIRES, |slot| slot.stage.load(Acquire));
        if stage != BEGINS {
            self.starts.succeeded();
            return None;
        }
        let signal = ended.exit.and_then(|exit| exit.signal());
        let is_killed = signal.is_some_and(|signal| KILLS.contains(&signal));
        let successes = self.workers.get(ended.index).map_or(0, |worker| worker.successes);
        self.starts.failed(is_killed, successes);
        // Another worker may have begun meanwhile.
        self.check_stages(memory);
        let is_broken = self.starts.are_hopeless(self.workers.len());
        let text = ended.text.unwrap_or_else(|| "a worker ended before its initialiser returned".to_owned());
        is_broken.then_some(text)
    }

    /// Stops replacing workers. The running ones have [`END_WAIT`] to end, from the first call on.
    pub(crate) fn dismiss(&mut self) {
        if !std::mem::replace(&mut self.dismissed, true) {
            self.leave_by = Deadline::after(END_WAIT);
        }
        self.leaving.extend(self.workers.iter_mut().filter_map(|worker| worker.process.take()));
    }

    /// Kills the dismissed workers. They have [`END_WAIT`] to be gone, from the first call on.
    pub(crate) fn cut_off(&mut self) {
        if !std::mem::replace(&mut self.cut_off, true) {
            self.leave_by = Deadline::after(END_WAIT);
        }
        self.leaving.iter().for_each(|worker| drop(worker.kill()));
    }

    /// Returns a dismissed worker to wait for, and until when, and kills those whose time has
    /// passed; `None` if all are gone, or the kernel holds one that was killed and can do nothing
    /// any more.
    pub(crate) fn leaving(&mut self) -> Option<(Arc<Child>, Deadline)> {
        self.leaving.retain_mut(|worker| worker.try_join().is_err_and(|error| error.is_timeout()));
        let worker = self.leaving.first()?.child().clone();
        if self.leave_by.has_passed() {
            if self.cut_off {
                return None;
            }
            // It has nothing to do any more, and something in it (a handler of `atexit`) keeps it.
            self.cut_off();
        }
        Some((worker, self.leave_by))
    }
}

fn start(shared: &Shared, index: usize) -> Result<Process<()>> {
    if let Some(worker_slot) = shared.memory.worker_slot(index) {
        worker_slot.stage.store(BEGINS, Relaxed); // no worker is there
        worker_slot.busy.store(0, Relaxed);
    }
    let plan = &shared.plan;
    // If the program has closed the pool's descriptor, the monitor checks by itself from time to
    // time.
    let wakeup = match shared.wakeup.get() {
        Some(wakeup) => fcntl_dupfd_cloexec(wakeup, 3),
        None => eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK),
    };
    let config = WorkerConfig {
        memory: shared.memory.clone(),
        wakeup: wakeup.and_then(Own::new).map_err(|cause| Error::system("cannot start a worker", cause))?,
        index,
        pool: plan.name.clone(),
        limit: plan.tasks_per_worker.unwrap_or(0),
        processor: processor_of(&plan.processors, index),
    };
    (plan.start)(format!("{}-{index}", plan.name), config)
}

/// Returns the processor of worker number `index`, plus 1; 0: any.
fn processor_of(processors: &[usize], index: usize) -> usize {
    match processors.len() {
        0 => 0,
        // The last number is not a processor of any machine, so it has no effect.
        len => processors[index % len].wrapping_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_cannot_start_workers_is_broken_in_time() {
        let mut supervisor = Supervisor::new(1);
        let shortage = Error::new(ErrorKind::System, "too many open files");
        assert!(!supervisor.is_hopeless(&shortage), "it may end");
        supervisor.lacking = Instant::now().checked_sub(START_WAIT);
        assert!(supervisor.is_hopeless(&shortage));
        assert!(Supervisor::new(1).is_hopeless(&Error::new(ErrorKind::Unsupported, "no /proc")));
    }

    /// Three failures with successes between them once broke a pool: those that were noticed after
    /// a success, but had come before it, were counted with later ones.
    #[test]
    fn only_failures_in_a_row_break_a_pool() {
        const WORKERS: usize = 3;
        let mut starts = Starts::default();
        for lap in 0..10 {
            starts.failed(false, lap);
            starts.failed(false, lap);
            starts.succeeded();
            assert!(!starts.are_hopeless(WORKERS), "the failures came before a success");
            starts.failed(false, lap);
            starts.failed(true, lap);
            assert_eq!((starts.failures, starts.kills), (0, 0), "perhaps these did, too");
        }
        starts.failed(false, 10);
        starts.failed(false, 10);
        assert!(!starts.are_hopeless(WORKERS), "two in a row");
        (0..3 * KILLS_MAX - 1).for_each(|_| starts.failed(true, 10));
        assert!(!starts.are_hopeless(WORKERS), "counted apart");
        starts.failed(true, 10);
        assert!(starts.are_hopeless(WORKERS), "killed too often");
        starts.succeeded();
        (0..3).for_each(|_| starts.failed(false, 11));
        assert!(starts.are_hopeless(WORKERS), "three in a row");
    }

    #[test]
    fn processors_are_assigned_in_turn_and_the_last_number_is_none() {
        assert_eq!(processor_of(&[], 3), 0);
        assert_eq!([0, 1, 2].map(|index| processor_of(&[4, 7], index)), [5, 8, 5]);
        assert_eq!(processor_of(&[usize::MAX], 0), 0);
    }
}
