//! Scenes of spawning: the parent is killed at every step, and leaves no processes, no files and no
//! participants.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pagemate::{inspect, Event, Process, Queue, Segment};

use crate::harness::is_repeated;
use crate::helper::{children, until};
use crate::{End, Recipe, Scene};

/// The message of the new process.
const SENT: u64 = 77;

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "process: spawn", build: || Box::new(Spawning::new(false)) },
        Recipe { name: "process: spawn a daemon", build: || Box::new(Spawning::new(true)) },
    ]
}

/// The child starts a process and gives it handles, for which it reserves a participant's index in
/// the segment. A process that is not a daemon sends a message and ends. A daemon waits for ever,
/// and ends with its parent.
struct Spawning {
    name: String,
    _segment: Segment,
    queue: Queue<u64>,
    never: Event,
    is_daemon: bool,
    seen: Vec<u64>,
}

impl Spawning {
    fn new(is_daemon: bool) -> Spawning {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-crash-spawn-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let segment = Segment::create(name.as_str(), 1 << 16).unwrap();
        let queue = Queue::create(segment.at("queue"), 2).unwrap();
        let never = Event::create(segment.at("never")).unwrap();
        Spawning { name, _segment: segment, queue, never, is_daemon, seen: Vec::new() }
    }
}

impl Scene for Spawning {
    fn is_costly(&self) -> bool {
        true
    }

    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        assert!(self.queue.try_recv().is_err());
    }

    fn act(&mut self) {
        if self.is_daemon {
            let body = |(queue, never): (Queue<u64>, Event)| {
                queue.send(SENT).unwrap();
                never.wait();
            };
            let daemon =
                Process::builder().daemon(true).spawn(body, (self.queue.clone(), self.never.clone()));
            std::mem::forget(daemon.unwrap());
        } else {
            let process = Process::spawn(|queue: Queue<u64>| queue.send(SENT).unwrap(), self.queue.clone());
            std::mem::forget(process.unwrap());
        }
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        // An orphan is a child of this process now.
        until("the new process ends", || {
            // SAFETY: a null status is allowed.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
            children().is_empty()
        })?;
        until("the dead are reaped", || {
            self.seen.extend(self.queue.recv_timeout(Duration::from_millis(1)));
            inspect::segment(self.name.as_str()).is_ok_and(|segment| segment.participants.len() == 1)
        })?;
        self.seen.extend(self.queue.try_iter().flatten());
        // A daemon may have ended before it sent.
        let must_send = end == End::Finished && !self.is_daemon;
        let most = if is_repeated() { 2 } else { 1 };
        let is_well = self.seen.iter().all(|n| *n == SENT)
            && self.seen.len() <= most
            && !(must_send && self.seen.is_empty());
        is_well.then_some(()).ok_or(format!("received {:?}", self.seen))
    }

    fn words(&self) -> String {
        let participants = inspect::segment(self.name.as_str()).map(|segment| segment.participants);
        format!("{participants:?}; {:?}", self.queue)
    }
}
