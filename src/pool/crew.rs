//! The workers' processes: starting them, noticing that one has ended, and what comes of that.
//!
//! # Death
//!
//! | it dies | noticed by | what happens |
//! |---|---|---|
//! | before its initialiser has returned | its pidfd | another takes its place; after as many failures in a row as there are workers the pool is broken. SIGKILL and SIGTERM are nobody's failure |
//! | idle | the same | another takes its place |
//! | in a task | the same | the task gets `WorkerDied`, or another try; another worker takes its place |
//! | not at all, although it retires (a handler of `atexit` that never returns) | its stage | it is killed after a while; it holds nothing any more |
//! | in a task, killed for the one before, which took too long | the same | the task is tried again, and this was no try |
//! | the pool's process | the workers | they end: they are daemons |

use std::process::ExitStatus;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

use crate::pool::core::Core;
use crate::pool::desk::{BEGINS, RETIRES};
use crate::pool::error::TaskError;
use crate::pool::flow::State;
use crate::pool::line::SLOTS;
use crate::pool::slot::State as Is;
use crate::pool::sweep::InHand;
use crate::pool::worker::Orders;
use crate::process::Process;
use crate::sys::clock::{timespec, Deadline};
use crate::sys::process::{background_with_room, wait_for_end};
use crate::{Error, ErrorKind, Result};

/// How long it takes at most until a worker is dead that was killed, and the pool's thread has noticed. So long one may take
/// that is to end by itself.
pub(crate) const END_WAIT: Duration = Duration::from_secs(2);
/// So many workers in a row, times the number of workers, may be killed while they begin.
const KILLS_MAX: u32 = 100;
/// Who looks so late for tasks that take too long was stopped, or asleep without tasks.
const LATE: Duration = Duration::from_millis(500);
/// How soon to try again to start a worker that could not be started.
const START_AGAIN: Duration = Duration::from_millis(50);

/// Starts the process of a worker.
pub(crate) type Start = Box<dyn Fn(String, Orders) -> Result<Process<()>> + Send + Sync>;

/// What the pool was made for.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) tasks_per_worker: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    /// On which processors workers run, in turn; empty: on any.
    pub(crate) processors: Vec<usize>,
    pub(crate) start: Start,
}

#[derive(Debug, Default)]
struct Seat {
    process: Option<Process<()>>,
    /// Its initialiser is known to have returned.
    begun: bool,
    /// Since when it is known to be about to end by itself.
    retires: Option<Instant>,
    /// The task for which it was killed, because it took too long.
    overdue: Option<InHand>,
}

#[derive(Debug)]
pub(crate) struct Crew {
    seats: Vec<Seat>,
    /// Initialisers that failed in a row, and workers that were killed in a row while they began.
    failures: u32,
    kills: u32,
    /// When somebody looked for tasks that take too long.
    looked: Instant,
    /// Nobody takes the place of one that ends.
    pub(crate) dismissed: bool,
    /// Those that were dismissed and are not known to have ended, and how long they may take.
    leaving: Vec<Process<()>>,
    leave_by: Deadline,
    /// Those were killed.
    cut_off: bool,
}

impl Crew {
    pub(crate) fn new(workers: usize) -> Crew {
        Crew {
            seats: (0..workers).map(|_| Seat::default()).collect(),
            failures: 0,
            kills: 0,
            looked: Instant::now(),
            dismissed: false,
            leaving: Vec::new(),
            leave_by: Deadline::Never,
            cut_off: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// The pids of the workers that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let processes = self.seats.iter().filter_map(|seat| seat.process.as_ref());
        processes.filter(|process| process.is_alive()).map(Process::pid).collect()
    }

    /// Starts a worker for each empty place.
    pub(crate) fn fill(&mut self, core: &Core) -> Result<()> {
        for index in 0..self.seats.len() {
            if self.seats[index].process.is_none() {
                self.seats[index] = Seat { process: Some(start(core, index)?), ..Seat::default() };
            }
        }
        Ok(())
    }

    fn kill(&self) {
        self.seats.iter().filter_map(|seat| seat.process.as_ref()).for_each(|worker| drop(worker.kill()));
    }

    /// From here on nobody takes the places of those who run. They have [`END_WAIT`] to end, from the first time on.
    pub(crate) fn dismiss(&mut self) {
        if !std::mem::replace(&mut self.dismissed, true) {
            self.leave_by = Deadline::after(END_WAIT);
        }
        self.leaving.extend(self.seats.iter_mut().filter_map(|seat| seat.process.take()));
    }

    /// Kills those who were dismissed. They have [`END_WAIT`] to be gone, from the first time on.
    pub(crate) fn cut_off(&mut self) {
        if !std::mem::replace(&mut self.cut_off, true) {
            self.leave_by = Deadline::after(END_WAIT);
        }
        self.leaving.iter().for_each(|worker| drop(worker.kill()));
    }
}

fn start(core: &Core, index: usize) -> Result<Process<()>> {
    if let Some(bench) = core.desk.bench(index) {
        bench.stage.store(BEGINS, Relaxed); // nobody else is there
        bench.busy.store(0, Relaxed);
    }
    let plan = &core.plan;
    let bell = core.bell.try_clone();
    let processor = match plan.processors.len() {
        0 => 0,
        len => plan.processors[index % len] + 1,
    };
    let orders = Orders {
        desk: core.desk.clone(),
        bell: bell.map_err(|cause| Error::system("cannot start a worker", cause))?,
        index,
        pool: plan.name.clone(),
        limit: plan.tasks_per_worker.unwrap_or(0),
        processor,
    };
    (plan.start)(format!("{}-{index}", plan.name), orders)
}

/// Waits until all who were dismissed have ended, and kills those who do not in time. False: the deadline has passed.
pub(crate) fn see_off(core: &Core, deadline: Deadline) -> bool {
    loop {
        let (worker, leave_by) = {
            let crew = &mut core.lock().crew;
            crew.leaving.retain_mut(|worker| worker.try_join().is_err_and(|error| error.is_timeout()));
            let Some(worker) = crew.leaving.first().map(|worker| worker.child().clone()) else { return true };
            if crew.leave_by.has_passed() {
                if crew.cut_off {
                    // Something in the kernel holds it. It can do nothing any more.
                    return true;
                }
                // It has nothing to do any more, and something in it (a handler of `atexit`) does not let it end.
                crew.cut_off();
            }
            (worker, crew.leave_by)
        };
        if deadline.has_passed() {
            return false;
        }
        if wait_for_end(worker.pidfd(), deadline.min(leave_by)).is_err() {
            std::thread::sleep(START_AGAIN);
        }
    }
}

impl State {
    /// Looks which workers have ended, and has others take their places.
    pub(crate) fn tend(&mut self, core: &Core) {
        self.look_at_stages(core);
        for index in 0..self.crew.len() {
            let seat = &mut self.crew.seats[index];
            let Some(process) = seat.process.as_mut().filter(|process| !process.is_alive()) else { continue };
            let pid = process.pid();
            let exit = process.exit_status();
            let text = process.try_join().err().map(|error| error.to_string());
            let overdue = seat.overdue;
            *seat = Seat::default();
            self.bury(core, index, pid, exit, overdue, text);
        }
        if self.over.is_none() && !self.crew.dismissed {
            match self.crew.fill(core) {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    self.crew.failures = self.crew.len() as u32;
                    self.break_after_failures(core, &error.to_string());
                }
                // A shortage passes: the pool's thread tries again soon.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Notes who has begun well, and kills who retires and does not end.
    fn look_at_stages(&mut self, core: &Core) {
        for index in 0..self.crew.len() {
            let Some(bench) = core.desk.bench(index) else { continue };
            let stage = bench.stage.load(Acquire); // pairs with the worker's Release
            let seat = &mut self.crew.seats[index];
            let Some(process) = seat.process.as_ref().filter(|_| stage != BEGINS) else { continue };
            if !std::mem::replace(&mut seat.begun, true) {
                // Failures before this one and after it are not in a row.
                (self.crew.failures, self.crew.kills) = (0, 0);
            }
            if stage == RETIRES && seat.retires.get_or_insert_with(Instant::now).elapsed() > END_WAIT {
                // Until it has given its results away it may be stopped, and is not to blame.
                let holds = |slot| core.desk.word(slot).map(|word| word.state());
                let is_its = |state| matches!(state, Some(Is::Running(_, worker)) if worker == index);
                if !(0..SLOTS).map(holds).any(is_its) {
                    let _ = process.kill();
                }
            }
        }
    }

    /// Worker number `index` has ended; `overdue`: the pool has killed it for this task.
    pub(crate) fn bury(
        &mut self,
        core: &Core,
        index: usize,
        pid: u32,
        exit: Option<ExitStatus>,
        overdue: Option<InHand>,
        text: Option<String>,
    ) {
        use std::os::unix::process::ExitStatusExt;
        // What it had claimed of the heap comes back.
        core.desk.object().attachment().reap_all();
        let blame = |task| match core.plan.timeout.zip(overdue) {
            // It may have begun another before the signal came.
            Some((timeout, overdue)) => (task == overdue).then_some(TaskError::TimedOut(timeout)),
            None => Some(TaskError::WorkerDied { pid, exit }),
        };
        self.inherit(&core.desk, index, blame);
        let stage = core.desk.bench(index).map_or(RETIRES, |bench| bench.stage.load(Acquire));
        if stage != BEGINS {
            (self.crew.failures, self.crew.kills) = (0, 0);
            return;
        }
        let signal = exit.and_then(|exit| exit.signal());
        if matches!(signal, Some(libc::SIGKILL | libc::SIGTERM)) {
            self.crew.kills += 1;
        } else {
            self.crew.failures += 1;
        }
        let text = text.unwrap_or_else(|| "a worker ended before its initialiser returned".to_owned());
        self.break_after_failures(core, &text);
    }

    fn break_after_failures(&mut self, core: &Core, text: &str) {
        let workers = self.crew.len() as u32;
        if self.crew.failures >= workers || self.crew.kills >= KILLS_MAX.saturating_mul(workers) {
            self.end(&core.desk, TaskError::Broken(text.to_owned()));
            // There is nothing for the others to do, and what they are in the middle of is over.
            self.crew.kill();
        }
    }

    /// Kills workers that have been in one task for too long.
    fn hurry(&mut self, core: &Core, limit: Duration) {
        let now = Instant::now();
        if now - std::mem::replace(&mut self.crew.looked, now) > LATE {
            self.forget_progress();
        }
        // By the time at which this began: what it took itself, stopped or not, is none of the tasks'.
        for (worker, task) in self.late(&core.desk, now, limit) {
            let Some(seat) = self.crew.seats.get_mut(worker) else { continue };
            if let (None, Some(process)) = (seat.overdue, &seat.process) {
                seat.overdue = Some(task);
                let _ = process.kill();
            }
        }
    }

    /// When the pool's thread has to look again at the latest.
    fn patience(&self, core: &Core) -> Option<Duration> {
        let lacks = |seat: &Seat| seat.process.is_none() || seat.retires.is_some();
        if self.crew.seats.iter().any(lacks) {
            return Some(START_AGAIN);
        }
        let timeout = core.plan.timeout.filter(|_| self.outstanding() > 0)?;
        Some((timeout / 4).clamp(Duration::from_millis(5), START_AGAIN))
    }
}

/// Starts the thread that looks after workers, and after results that nobody waits for. What it gives is disconnected when the
/// thread has let go of the pool's memory.
pub(crate) fn watch(core: &Arc<Core>) -> Result<Receiver<()>> {
    let own = core.clone();
    let (alive, watched) = channel();
    let body = move || {
        look_after(&own);
        drop(own);
        drop::<Sender<()>>(alive);
    };
    background_with_room("pagemate-pool", body)
        .map(|()| watched)
        .map_err(|cause| Error::system("cannot start the thread that looks after a pool's workers", cause))
}

fn look_after(core: &Core) {
    let mut none = std::collections::VecDeque::new();
    loop {
        core.tend();
        core.turn(&mut none);
        let mut state = core.lock();
        if let Some(limit) = core.plan.timeout {
            state.hurry(core, limit);
        }
        if state.crew.dismissed {
            return;
        }
        let patience = state.patience(core).filter(|_| state.over.is_none());
        let seats = state.crew.seats.iter();
        let workers: Vec<_> = seats.filter_map(|seat| Some(seat.process.as_ref()?.child().clone())).collect();
        drop(state);
        let mut watched = vec![PollFd::new(&core.bell, PollFlags::IN)];
        watched.extend(workers.iter().map(|worker| PollFd::from_borrowed_fd(worker.pidfd(), PollFlags::IN)));
        let timeout = patience.map(|patience| timespec(patience.as_nanos() as u64));
        // A signal is a reason to look, too. With too few descriptors or no memory it is time to wait for better ones.
        if poll(&mut watched, timeout.as_ref()).is_err_and(|error| error != Errno::INTR) {
            std::thread::sleep(START_AGAIN);
        }
        let _ = rustix::io::read(&core.bell, &mut [0u8; 8]);
    }
}
