//! A publication wakes all sleeping lossy subscribers with one system call.
//!
//! The publisher is a child whose system calls this process counts by `ptrace`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use pagemate::queue::topic::From;
use pagemate::Topic;

mod support;

const SUBSCRIBERS: usize = 32;
const ROUNDS: u64 = 20;

/// A system call that no publication makes. It marks the beginning and the end of each.
const MARK: i64 = libc::SYS_getppid;

/// A thread that receives.
struct Sleeper {
    thread: AtomicU64,
    /// The number of messages that it has received.
    received: AtomicU64,
}

impl Sleeper {
    fn start(topic: &Topic<u64>) -> Arc<Sleeper> {
        let mut subscriber = topic.subscribe(From::Latest).unwrap();
        let sleeper = Arc::new(Sleeper { thread: AtomicU64::new(0), received: AtomicU64::new(0) });
        let own = sleeper.clone();
        // It is not joined. If its assertion fails, the wait for it to sleep fails too.
        std::thread::spawn(move || {
            // SAFETY: asks for the number of the thread.
            own.thread.store(unsafe { libc::gettid() } as u64, Relaxed);
            while let Ok(message) = subscriber.recv() {
                assert_eq!(message, own.received.fetch_add(1, Relaxed));
            }
        });
        sleeper
    }

    /// Returns whether it has received this number of messages and sleeps. A thread that checks for
    /// deaths between two sleeps may also count as asleep, because it stays announced as a waiter
    /// meanwhile.
    fn is_asleep(&self, received: u64) -> bool {
        let stat = || {
            let path = format!("/proc/self/task/{}/stat", self.thread.load(Relaxed));
            std::fs::read_to_string(path).unwrap_or_default()
        };
        let has_received = || self.received.load(Relaxed) == received;
        has_received() && stat().rsplit(") ").next().is_some_and(|state| state.starts_with('S'))
    }
}

/// A child that is traced.
struct Tracee(libc::pid_t);

impl Tracee {
    fn start(body: impl FnOnce()) -> Tracee {
        // SAFETY: the child touches only what it was given and its stack, and exits without
        // unwinding.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: no pointers; the parent becomes the tracer, and is told of the stop.
                let refused = unsafe {
                    libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 || libc::raise(libc::SIGSTOP) != 0
                };
                if !refused {
                    body();
                }
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(i32::from(refused)) }
            }
            pid => {
                let tracee = Tracee(pid);
                assert!(libc::WIFSTOPPED(tracee.wait()), "tracing is not permitted");
                let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
                // SAFETY: the pid is our stopped tracee's; no pointers.
                let refused = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0usize, options as usize) };
                assert_eq!(refused, 0);
                tracee
            }
        }
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: the pid is our child's, and status is ours to write.
        unsafe { libc::waitpid(self.0, &mut status, 0) };
        status
    }

    /// Runs it up to its next system call. Returns the number of the call; `None` at its end.
    fn next_call(&self) -> Option<i64> {
        loop {
            // SAFETY: the pid is our stopped tracee's; no pointers, and no signal is delivered.
            unsafe { libc::ptrace(libc::PTRACE_SYSCALL, self.0, 0usize, 0usize) };
            let status = self.wait();
            if libc::WIFEXITED(status) {
                assert_eq!(libc::WEXITSTATUS(status), 0);
                return None;
            }
            assert!(libc::WIFSTOPPED(status), "status {status:#x}");
            if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
                continue; // a signal, which is not delivered
            }
            // SAFETY: plain data, which the kernel fills for our stopped tracee. The number is read
            // only if a call begins.
            unsafe {
                let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
                let size = size_of_val(&info);
                assert!(libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.0, size, &raw mut info) > 0);
                if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                    return Some(info.u.entry.nr as i64);
                }
            }
        }
    }
}

#[test]
fn one_call_wakes_all_subscribers() {
    let topic = Topic::<u64>::new(4).unwrap();
    let sleepers: Vec<_> = (0..SUBSCRIBERS).map(|_| Sleeper::start(&topic)).collect();
    let tracee = Tracee::start(|| {
        let publisher = topic.publisher();
        for number in 0..ROUNDS {
            // SAFETY: asks for the parent's pid.
            let mark = || unsafe { libc::syscall(MARK) };
            mark();
            publisher.publish(number).unwrap();
            mark();
        }
    });
    for round in 0..ROUNDS {
        while tracee.next_call() != Some(MARK) {}
        support::until("all subscribers sleep", || sleepers.iter().all(|sleeper| sleeper.is_asleep(round)));
        let calls: Vec<_> = std::iter::from_fn(|| tracee.next_call().filter(|call| *call != MARK)).collect();
        assert_eq!(calls, [libc::SYS_futex], "the system calls of publication {round}");
    }
    while tracee.next_call().is_some() {}
}
