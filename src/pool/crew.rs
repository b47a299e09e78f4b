//! The workers' processes: starting them, noticing that one has ended, and what comes of that.
//!
//! # Death
//!
//! | it dies | noticed by | what happens |
//! |---|---|---|
//! | before its initialiser has returned | its pidfd | another takes its place; after as many failures in a row as there are workers the pool is broken. SIGKILL and SIGTERM are nobody's failure |
//! | idle | the same | another takes its place |
//! | in a task | the same | the task gets `WorkerDied`, or another try; another worker takes its place |
//! | in a task, killed for the one before, which took too long | the same | the task is tried again, and this was no try |
//! | the pool's process | the workers | they end: they are daemons |

use std::os::fd::AsFd;
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
use crate::pool::sweep::InHand;
use crate::pool::worker::Orders;
use crate::process::Process;
use crate::sys::clock::timespec;
use crate::sys::process::background;
use crate::{Error, ErrorKind, Result};

/// How long it takes at most until a worker is dead that was killed, and the pool's thread has noticed.
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
    pub(crate) tasks_per_worker: u64,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    /// On which processors workers run, in turn; empty: on any.
    pub(crate) processors: Vec<usize>,
    pub(crate) start: Start,
}

#[derive(Debug)]
struct Seat {
    process: Option<Process<()>>,
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
}

impl Crew {
    pub(crate) fn new(workers: usize) -> Crew {
        let seats = (0..workers).map(|_| Seat { process: None, overdue: None }).collect();
        Crew { seats, failures: 0, kills: 0, looked: Instant::now(), dismissed: false }
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
                self.seats[index] = Seat { process: Some(start(core, index)?), overdue: None };
            }
        }
        Ok(())
    }

    fn kill(&self) {
        self.seats.iter().filter_map(|seat| seat.process.as_ref()).for_each(|worker| drop(worker.kill()));
    }

    /// Everybody who runs; from here on nobody takes their places.
    pub(crate) fn dismiss(&mut self) -> Vec<Process<()>> {
        self.dismissed = true;
        self.seats.iter_mut().filter_map(|seat| seat.process.take()).collect()
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
        limit: plan.tasks_per_worker,
        processor,
    };
    (plan.start)(format!("{}-{index}", plan.name), orders)
}

/// Waits until they have ended; kills them at once, or what does not end by itself in time.
pub(crate) fn see_off(workers: Vec<Process<()>>, kill: bool) {
    if kill {
        workers.iter().for_each(|worker| drop(worker.kill()));
    }
    for mut worker in workers {
        let ended = worker.join_timeout(END_WAIT);
        if !kill && ended.is_err_and(|error| error.is_timeout()) {
            // It has nothing to do any more, and something in it (a handler of `atexit`) does not let it end.
            let _ = worker.kill();
            let _ = worker.join_timeout(END_WAIT);
        }
    }
}

impl State {
    /// Looks which workers have ended, and has others take their places.
    pub(crate) fn tend(&mut self, core: &Core) {
        for index in 0..self.crew.len() {
            let seat = &mut self.crew.seats[index];
            let Some(process) = seat.process.as_mut().filter(|process| !process.is_alive()) else { continue };
            let pid = process.pid();
            let exit = process.exit_status();
            let text = process.try_join().err().map(|error| error.to_string());
            let overdue = seat.overdue;
            *seat = Seat { process: None, overdue: None };
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
        let lacks = self.crew.seats.iter().any(|seat| seat.process.is_none());
        if lacks {
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
    background("pagemate-pool", body)
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
        let sentinels: Vec<_> = state
            .crew
            .seats
            .iter()
            .filter_map(|seat| seat.process.as_ref()?.sentinel().try_clone_to_owned().ok())
            .collect();
        drop(state);
        let mut watched = vec![PollFd::new(&core.bell, PollFlags::IN)];
        watched.extend(sentinels.iter().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)));
        let timeout = patience.map(|patience| timespec(patience.as_nanos() as u64));
        // A signal is a reason to look, too. With too few descriptors or no memory it is time to wait for better ones.
        if poll(&mut watched, timeout.as_ref()).is_err_and(|error| error != Errno::INTR) {
            std::thread::sleep(START_AGAIN);
        }
        let _ = rustix::io::read(&core.bell, &mut [0u8; 8]);
    }
}
