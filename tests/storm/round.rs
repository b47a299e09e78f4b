//! One round: the objects, the workers, the killer, and the verdict.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pagemate::{inspect, Process, Queue, Segment};

use crate::board::{now, Board, Fault, FAULTS, WORKERS};
use crate::desk::{Desk, Random};
use crate::member::{Member, Site};
use crate::worker::{recipes, work, SEGMENT};
use crate::PATIENCE;

/// The longest sleep of the killer between two checks.
const TICK: Duration = Duration::from_millis(10);
/// Bytes that the segment may have committed at the end. It does not grow with time, because
/// objects have fixed names.
const COMMITTED: u64 = 16 << 20;
/// The storm's own index on the board.
const OWN: usize = WORKERS - 1;

/// The totals of a round, or of all rounds.
#[derive(Default)]
pub struct Tally {
    pub operations: u64,
    pub kills: u64,
    pub stops: u64,
    pub recoveries: u64,
    pub slowest_recovery: u64,
    pub latest: u64,
    pub faults: [u64; FAULTS.len()],
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.operations += other.operations;
        self.kills += other.kills;
        self.stops += other.stops;
        self.recoveries += other.recoveries;
        self.slowest_recovery = self.slowest_recovery.max(other.slowest_recovery);
        self.latest = self.latest.max(other.latest);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
    }
}

/// A directory in /dev/shm, which is removed when this value is dropped.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A worker as the killer sees it. Dropping it kills the worker.
struct Victim {
    slot: usize,
    incarnation: u64,
    process: Option<Process<()>>,
    /// The worker's operation count at the last check, and how long it had not changed.
    seen: (u64, Duration),
    /// If the worker is stopped: the earliest time to continue it, and all workers' operation
    /// counts at the stop.
    stopped: Option<(Instant, Vec<u64>)>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = process.kill();
            let _ = process.join();
        }
    }
}

impl Victim {
    fn signal(&self, signal: i32) {
        let Some(process) = &self.process else { return };
        // SAFETY: the pid is that of our child, which has not been waited for, because no signal is
        // sent after `is_alive` has returned false.
        unsafe { libc::kill(process.pid() as i32, signal) };
    }
}

struct Storm<'a> {
    board: &'a Board,
    desk: Desk<'a>,
    site: &'a Site,
    only: &'a str,
    seed: u64,
    victims: Vec<Victim>,
    members: Vec<(&'static str, Box<dyn Member>)>,
    tally: Tally,
}

/// Runs a round, which lasts for `length` before its verdict.
pub fn run(mut random: Random, length: Duration, processes: usize, only: &str) -> Tally {
    let board = Board::create();
    let path = Path::new("/dev/shm").join(format!("pagemate-storm-{}", std::process::id()));
    std::fs::create_dir(&path).expect("cannot create a directory for the storm");
    let dir = Dir(path);
    let seed = random.below(u64::MAX);
    let segment = Segment::create(pagemate::Place::in_dir(&dir.0, SEGMENT), 64 << 20).unwrap();
    let site = Site { segment, dir: dir.0.clone() };
    let members =
        recipes(only).into_iter().map(|recipe| (recipe.name, (recipe.join)(&site, recipe.name).unwrap()));
    let mut storm = Storm {
        board: &board,
        desk: Desk::new(&board, OWN, 1, random),
        site: &site,
        only,
        seed,
        victims: Vec::new(),
        members: members.collect(),
        tally: Tally::default(),
    };
    for slot in 0..processes {
        let victim = storm.spawn(slot);
        storm.victims.push(victim);
    }
    let is_stuck = storm.rage(length) || storm.calm();
    if !is_stuck {
        storm.judge();
    }
    let Storm { mut tally, victims, members, .. } = storm;
    drop((victims, members, site));
    tidy(&board, &dir.0);
    for text in board.texts() {
        eprintln!("{text}");
    }
    tally.operations = board.operations();
    tally.recoveries = board.common().recoveries.load(SeqCst);
    tally.slowest_recovery = board.common().slowest_recovery.load(SeqCst);
    tally.latest = board.common().latest.load(SeqCst);
    tally.faults = FAULTS.map(|fault| board.count(fault));
    tally
}

impl Storm<'_> {
    fn spawn(&mut self, slot: usize) -> Victim {
        let incarnation = self.board.worker(slot).incarnation.fetch_add(1, SeqCst) + 1;
        self.board.worker(slot).patient.store(0, SeqCst);
        let segment = self.desk.random.one_in(2).then(|| self.site.segment.clone());
        let dir = self.site.dir.to_str().unwrap().to_string();
        let board = self.board.path().to_string();
        let orders = (board, dir, self.only.to_string(), slot as u64, incarnation, self.seed, segment);
        let process = match Process::builder().daemon(true).spawn(work, orders) {
            Ok(process) => Some(process),
            Err(error) => {
                self.board.fault(Fault::Broken, &format!("cannot spawn: {error}"));
                None
            }
        };
        Victim { slot, incarnation, process, seen: (0, Duration::ZERO), stopped: None }
    }

    /// Waits for the end of a worker, accounts for its records and starts another worker in its
    /// slot.
    fn replace(&mut self, index: usize, killed: bool) {
        self.account_for(index, killed);
        let slot = self.victims[index].slot;
        self.victims[index] = self.spawn(slot);
    }

    /// Waits for the end of a worker, and accounts for its records.
    fn account_for(&mut self, index: usize, killed: bool) {
        let Some(process) = self.victims[index].process.take() else { return };
        match process.join() {
            Ok(()) => {}
            Err(error) if killed && error.signal() == Some(libc::SIGKILL) => {}
            Err(error) => self.board.fault(Fault::Broken, &error.to_string()),
        }
        let slot = self.victims[index].slot;
        for (number, (name, member)) in self.members.iter_mut().enumerate() {
            self.desk.turn_to(number, name);
            member.account_for(&mut self.desk, slot);
        }
    }

    fn kill(&mut self, index: usize) {
        let victim = &self.victims[index];
        let worker = self.board.worker(victim.slot);
        worker.killed_at.store(now(), SeqCst);
        worker.killed.store(victim.incarnation, SeqCst);
        victim.signal(libc::SIGKILL);
        self.tally.kills += 1;
    }

    fn stop(&mut self, index: usize) {
        let most = self.desk.random.below(200);
        let until = Instant::now() + Duration::from_millis(most);
        self.board.worker(self.victims[index].slot).stops.fetch_add(1, SeqCst);
        self.victims[index].signal(libc::SIGSTOP);
        let done = (0..WORKERS).map(|slot| self.board.worker(slot).operations.load(SeqCst)).collect();
        self.victims[index].stopped = Some((until, done));
        self.tally.stops += 1;
    }

    fn resume(&mut self, index: usize) {
        self.board.worker(self.victims[index].slot).stops.fetch_add(1, SeqCst);
        self.victims[index].signal(libc::SIGCONT);
        self.victims[index].stopped = None;
    }

    /// Returns whether all running workers have made progress since the stop, except those that
    /// wait without a deadline.
    fn made_progress(&self, done: &[u64]) -> bool {
        self.victims.iter().filter(|victim| victim.stopped.is_none()).all(|victim| {
            let worker = self.board.worker(victim.slot);
            worker.patient.load(SeqCst) != 0 || worker.operations.load(SeqCst) != done[victim.slot]
        })
    }

    /// Checks that the running workers make progress. Returns true if a worker is stuck.
    fn watch(&mut self, elapsed: Duration) -> bool {
        for victim in self.victims.iter_mut().filter(|victim| victim.stopped.is_none()) {
            let worker = self.board.worker(victim.slot);
            let done = worker.operations.load(SeqCst);
            // A late check adds five ticks at most, because then this process was held up too.
            let idle =
                if done == victim.seen.0 { victim.seen.1 + elapsed.min(5 * TICK) } else { Duration::ZERO };
            victim.seen = (done, idle);
            if idle > PATIENCE {
                let letters = worker.operation.load(SeqCst).to_le_bytes();
                let (operation, member) = (String::from_utf8_lossy(&letters), worker.member.load(SeqCst));
                let name = self.members.get(member as usize).map_or("", |(name, _)| name);
                let text =
                    format!("worker {}.{} in {operation:?} of {name}", victim.slot, victim.incarnation);
                self.board.fault(Fault::Stuck, &text);
                return true;
            }
        }
        false
    }

    /// Kills and stops workers at random moments. Returns true if a worker is stuck.
    fn rage(&mut self, length: Duration) -> bool {
        let end = Instant::now() + length;
        let mut last = Instant::now();
        while Instant::now() < end {
            std::thread::sleep(Duration::from_nanos(self.desk.random.below(TICK.as_nanos() as u64)));
            let elapsed = last.elapsed();
            last = Instant::now();
            for index in 0..self.victims.len() {
                let victim = &self.victims[index];
                if let Some((until, done)) = &victim.stopped {
                    if last < *until {
                        continue;
                    }
                    if self.made_progress(done) {
                        self.resume(index);
                    }
                } else if !victim.process.as_ref().is_some_and(Process::is_alive) {
                    self.replace(index, false);
                }
            }
            if self.watch(elapsed) {
                return true;
            }
            let index = self.desk.random.below(self.victims.len() as u64) as usize;
            match self.desk.random.below(8) {
                // Stopped or not, because the holder of a lock may also die while it is stopped.
                0 => {
                    self.kill(index);
                    self.replace(index, true);
                }
                1 if self.victims.iter().filter(|victim| victim.stopped.is_some()).count() < 2
                    && self.victims[index].stopped.is_none() =>
                {
                    self.stop(index);
                }
                _ => {}
            }
        }
        false
    }

    /// Either asks all workers to end, or kills them all. Returns true if a worker is stuck.
    fn calm(&mut self) -> bool {
        for index in 0..self.victims.len() {
            if self.victims[index].stopped.is_some() {
                self.resume(index);
            }
        }
        let kill = self.desk.random.one_in(2);
        self.board.common().over.store(1, SeqCst);
        if kill {
            (0..self.victims.len()).for_each(|index| self.kill(index));
        }
        let begin = Instant::now();
        while self.victims.iter().any(|victim| victim.process.as_ref().is_some_and(Process::is_alive)) {
            std::thread::sleep(TICK);
            for (number, (name, member)) in self.members.iter_mut().enumerate() {
                self.desk.turn_to(number, name);
                member.relieve(&mut self.desk);
            }
            if begin.elapsed() > PATIENCE && self.watch(TICK) {
                return true;
            }
        }
        (0..self.victims.len()).for_each(|index| self.account_for(index, kill));
        false
    }

    /// Asks each member for its verdict, and checks that the dead are reaped and little is
    /// committed.
    fn judge(&mut self) {
        for (number, (name, member)) in self.members.iter_mut().enumerate() {
            self.desk.turn_to(number, name);
            member.verdict(&mut self.desk);
        }
        self.desk.turn_to(0, "segment");
        // This process waits for a message that never arrives, because a waiter reaps dead
        // participants.
        let nothing = Queue::<u64>::open_or_create(self.site.segment.at("nothing"), 1).unwrap().0;
        let begin = Instant::now();
        loop {
            let seen = inspect::segment(self.site.file(SEGMENT)).unwrap();
            let dead = seen.participants.iter().filter(|participant| !participant.alive).count();
            if dead > 0 && begin.elapsed() > PATIENCE {
                self.desk.fault(Fault::Stuck, format!("{dead} dead participants were not reaped"));
            } else if dead > 0 {
                let _ = nothing.recv_timeout(Duration::from_millis(60));
                continue;
            }
            if seen.committed > COMMITTED {
                self.desk.fault(Fault::Broken, format!("{} bytes committed", seen.committed));
            }
            break;
        }
    }
}

/// Checks that a sweep empties the directory, and that no child process is left.
fn tidy(board: &Board, dir: &Path) {
    if let Err(error) = inspect::sweep(Some(dir)) {
        board.fault(Fault::Broken, &format!("sweep: {error}"));
    }
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
    if !left.is_empty() {
        board.fault(Fault::Broken, &format!("left behind: {left:?}"));
    }
    let children = pagemate::process::active_children();
    if !children.is_empty() {
        board.fault(Fault::Broken, &format!("processes left behind: {children:?}"));
    }
}
