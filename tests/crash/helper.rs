//! A third process beside the child and the survivor. It is blocked, or died earlier, or wakes
//! another one.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::trace::die_with_parent;

const PATIENCE: Duration = Duration::from_secs(40);

/// Types that may begin as zeros and be changed by several processes.
///
/// # Safety
///
/// The type consists of atomics.
pub unsafe trait Atomics {}

// SAFETY: it is an atomic.
unsafe impl Atomics for AtomicU64 {}

/// Returns zeros in memory that this process shares with those that it forks. It is never unmapped.
pub fn shared<T: Atomics>() -> &'static T {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, zeroed, aligned to a page and never unmapped; any bytes are atomics.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), size_of::<T>(), access, flags, -1, 0);
        assert!(at != libc::MAP_FAILED, "no memory");
        &*at.cast::<T>()
    }
}

/// Calls `holds` until it returns true. The limit in seconds is `PATIENCE` in the environment.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let begin = Instant::now();
    let seconds = std::env::var("PATIENCE").ok().and_then(|text| text.parse().ok());
    let patience = seconds.map_or(PATIENCE, Duration::from_secs);
    while !holds() {
        if begin.elapsed() > patience {
            return Err(format!("still not after {patience:?}: {what}"));
        }
        pause();
    }
    Ok(())
}

/// Sleeps between two checks, so that they take no processor from the others.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// A process that runs a closure, and ends with its parent at the latest.
#[derive(Debug)]
pub struct Helper {
    pid: libc::pid_t,
    outcome: &'static AtomicU64,
    is_waited_for: bool,
}

/// Outcomes of the closure: it still runs, or it panicked.
const RUNNING: u64 = 0;
const PANICKED: u64 = u64::MAX;

impl Helper {
    /// Starts a process. The result of `body` is the outcome. It must be neither 0 nor all ones.
    pub fn start(body: impl FnOnce() -> u64) -> Helper {
        let outcome = shared::<AtomicU64>();
        // SAFETY: this process has one thread, so the child is a whole copy.
        match unsafe { libc::fork() } {
            0 => {
                die_with_parent();
                let value = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
                outcome.store(value, SeqCst);
                // SAFETY: ends the process as SIGKILL would, without leaving anything.
                unsafe { libc::_exit(0) }
            }
            pid => Helper { pid, outcome, is_waited_for: false },
        }
    }

    /// Starts a process that blocks, and waits until it does.
    pub fn start_blocked(body: impl FnOnce() -> u64) -> Helper {
        let helper = Helper::start(body);
        until("the helper sleeps", || is_asleep(helper.pid) || helper.is_done()).unwrap();
        assert_eq!(helper.outcome.load(SeqCst), RUNNING, "the helper was to block");
        helper
    }

    /// Returns whether it sleeps in a wait of the library.
    pub fn is_asleep(&self) -> bool {
        is_asleep(self.pid)
    }

    /// Kills it by SIGKILL, wherever it is. When this returns, the process holds nothing any more.
    /// The helper must still be dropped.
    pub fn kill(&self) {
        // SAFETY: the pid is our child's, which has not been waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        until("it is dead", || stat().rsplit(") ").next().is_some_and(|state| state.starts_with('Z')))
            .unwrap();
    }

    /// Returns whether its closure has ended. Processes other than its parent may ask too.
    pub fn is_done(&self) -> bool {
        self.outcome.load(SeqCst) != RUNNING
    }

    /// Runs `body` in a process that dies directly after it, and so holds what `body` has acquired.
    pub fn die_after(body: impl FnOnce()) {
        let helper = Helper::start(|| {
            body();
            1
        });
        assert_eq!(helper.outcome(), Ok(1));
    }

    /// Waits for the end, and returns the outcome.
    pub fn outcome(mut self) -> Result<u64, String> {
        until("the helper's wait ends", || self.has_ended())?;
        match self.outcome.load(SeqCst) {
            PANICKED => Err("the helper panicked".to_string()),
            outcome => Ok(outcome),
        }
    }

    /// Checks that a sleeper has announced itself, so that the process that makes its condition
    /// true wakes it. `is_announced` reads the flag. The next slice would repair a lost flag, so no
    /// wait is long enough to show the loss.
    pub fn sleeps_announced(&self, is_announced: impl Fn() -> bool) -> Result<(), String> {
        // Only the sleeper sets the flag again. So if the flag is clear both before and after, it
        // sleeps without one.
        let is_lost = !is_announced() && is_asleep(self.pid) && !is_announced();
        (!is_lost).then_some(()).ok_or("a waiter sleeps, and the flag that says so is gone".into())
    }

    /// Returns whether it has ended and was waited for.
    pub fn has_ended(&mut self) -> bool {
        if !self.is_waited_for {
            // SAFETY: the pid is our child's, which has not been waited for; a null status is
            // allowed.
            self.is_waited_for =
                unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG) } == self.pid;
        }
        self.is_waited_for
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.has_ended() {
            // SAFETY: the pid is our child's, which has not been waited for; a null status is
            // allowed.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Returns whether the process sleeps in a wait of the library, and not for a moment in another
/// system call or for a tracer.
pub fn is_asleep(pid: libc::pid_t) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    // Usually it is not, and this is the cheapest file.
    if !read("stat").rsplit(") ").next().is_some_and(|state| state.starts_with('S')) {
        return false;
    }
    // Number 202 is futex, 449 futex_waitv. A set without futex_waitv sleeps in poll (7) or ppoll
    // (271). Not every process may read the number, and not every kernel has the name.
    let number = read("syscall");
    let is_wait = ["202 ", "449 ", "7 ", "271 "].iter().any(|wait| number.starts_with(wait));
    is_wait || read("wchan").contains("futex")
}

/// Returns whether it is asleep, or pauses: a set without `futex_waitv` polls, and sleeps between
/// two polls in clock_nanosleep (230).
pub fn is_asleep_or_dozing(pid: libc::pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let number = || std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let is_sleeping = stat.rsplit(") ").next().is_some_and(|state| state.starts_with('S'));
    is_sleeping && (is_asleep(pid) || number().starts_with("230 "))
}

/// Returns the children of this process, including the dead ones.
pub fn children() -> Vec<libc::pid_t> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Returns the word that is 1 once the child has begun to sleep, as its tracer saw it. On a busy
/// machine a child that is single-stepped sleeps for a small part of its time, and a process that
/// watches it may always find it awake.
fn sleeps() -> &'static AtomicU64 {
    static SLEEPS: OnceLock<&'static AtomicU64> = OnceLock::new();
    SLEEPS.get_or_init(shared)
}

/// Records that the child is about to sleep. Called by its tracer.
pub fn note_sleep() {
    sleeps().store(1, SeqCst);
}

/// A process that wakes the child of a scene, once the child sleeps in a wait of the library.
#[derive(Debug)]
pub struct Waker {
    /// The child's process id, once the child has stored it; all ones when the scene is over.
    child: &'static AtomicU64,
    helper: Option<Helper>,
}

/// The value of [`Waker::child`] when the scene is over.
const OVER: u64 = u64::MAX;

impl Waker {
    pub fn new(wake: impl FnOnce()) -> Waker {
        Waker::holding(|| (), |()| wake())
    }

    /// Starts a process that calls `hold`, and passes the result to `wake` once the child sleeps.
    pub fn holding<H>(hold: impl FnOnce() -> H, wake: impl FnOnce(H)) -> Waker {
        let child = shared::<AtomicU64>();
        let has_it = shared::<AtomicU64>();
        let sleeps = sleeps();
        let helper = Helper::start(|| {
            let held = hold();
            has_it.store(1, SeqCst);
            loop {
                match child.load(SeqCst) {
                    OVER => return 1, // and releases it
                    0 => pause(),
                    _ if sleeps.load(SeqCst) == 1 => break,
                    pid if is_asleep_or_dozing(pid as libc::pid_t) => break,
                    _ => pause(),
                }
            }
            wake(held);
            2
        });
        until("the waker holds it", || has_it.load(SeqCst) == 1).unwrap();
        Waker { child, helper: Some(helper) }
    }

    /// Stores the process id, in the child before its operation.
    pub fn watch_me(&self) {
        self.child.store(std::process::id().into(), SeqCst);
    }

    /// Returns whether the child, which is gone, was woken.
    pub fn finish(&mut self) -> Result<bool, String> {
        self.child.store(OVER, SeqCst);
        self.helper.take().map_or(Ok(false), |helper| Ok(helper.outcome()? == 2))
    }
}
