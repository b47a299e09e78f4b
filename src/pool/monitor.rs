//! The pool's monitor: a thread that replaces ended workers, kills overdue ones, and collects
//! results that nobody waits for.

use std::collections::VecDeque;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

use crate::pool::engine::Engine;
use crate::pool::supervisor::START_AGAIN;
use crate::process::Child;
use crate::sys::clock::timespec;
use crate::sys::process::{background_with_room, KEPT};
use crate::{Error, Result};

/// Starts the monitor. The receiver is disconnected when the thread has released the pool's memory.
pub(crate) fn start(engine: &Arc<Engine>) -> Result<Receiver<()>> {
    let own = engine.clone();
    let (alive, watched) = channel();
    let body = move || {
        run(&own);
        drop(own);
        drop::<Sender<()>>(alive);
    };
    background_with_room("pagemate-pool", body)
        .map(|()| watched)
        .map_err(|cause| Error::system("cannot start the thread that monitors a pool's workers", cause))
}

fn run(engine: &Engine) {
    let shared = &engine.shared;
    let mut none = VecDeque::new();
    loop {
        engine.reap_and_audit();
        engine.collect_and_submit(&mut none);
        let mut scheduler = engine.lock();
        if let Some(limit) = shared.plan.timeout {
            scheduler.kill_overdue(&shared.memory, limit);
        }
        if scheduler.supervisor.dismissed {
            return;
        }
        let recheck = scheduler.recheck_after(&shared.plan).filter(|_| scheduler.table.over.is_none());
        let workers = scheduler.supervisor.children();
        drop(scheduler);
        sleep(engine, &workers, recheck);
    }
}

/// Sleeps until a worker ends, the monitor is woken, or `recheck` has passed.
fn sleep(engine: &Engine, workers: &[Arc<Child>], recheck: Option<Duration>) {
    let wakeup = &engine.shared.wakeup;
    // If a worker has ended and is not reaped, its tracer keeps it, and its pidfd would be readable
    // all the time. A descriptor that the program has closed is left out.
    let watched = workers.iter().filter_map(|worker| worker.watched()).chain(wakeup.get());
    let mut watched: Vec<_> = watched.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
    let is_blind = watched.len() <= workers.len();
    let recheck = if is_blind { Some(recheck.map_or(KEPT, |r| r.min(KEPT))) } else { recheck };
    let timeout = recheck.map(|recheck| timespec(recheck.as_nanos() as u64));
    // A signal ends the sleep, too. If descriptors or memory are lacking, the monitor pauses before
    // it tries again.
    if poll(&mut watched, timeout.as_ref()).is_err_and(|error| error != Errno::INTR) {
        std::thread::sleep(START_AGAIN);
    }
    let _ = wakeup.get().map(|wakeup| rustix::io::read(wakeup, &mut [0u8; 8]));
}
