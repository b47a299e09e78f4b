//! A publication wakes all sleeping lossy subscribers with one system call, and an answer wakes only
//! the client that waits for it.
//!
//! The publisher or server is a child whose system calls this process counts by `ptrace`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use std::time::{Duration, Instant};

use pagemate::queue::topic::From;
use pagemate::{Service, Topic};

mod support;

const SUBSCRIBERS: usize = 32;
const ROUNDS: u64 = 20;
const CLIENTS: u64 = 64;

/// How long a client sleeps at most before it looks for deaths.
const SLICE: Duration = Duration::from_millis(50);

/// A system call that neither a publication nor an answer makes. It marks the beginning and the end
/// of each.
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

    /// Starts a thread that calls the service with this number, and expects it back.
    fn call(service: &Service<u64, u64>, number: u64) -> Arc<Sleeper> {
        let client = service.client();
        let sleeper = Arc::new(Sleeper { thread: AtomicU64::new(0), received: AtomicU64::new(0) });
        let own = sleeper.clone();
        std::thread::spawn(move || {
            // SAFETY: asks for the number of the thread.
            own.thread.store(unsafe { libc::gettid() } as u64, Relaxed);
            assert_eq!(client.call(&number).unwrap(), number);
            own.received.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::MAX); // so that its switches can still be read
        });
        sleeper
    }

    /// Returns a file of `/proc` about the thread.
    fn file(&self, name: &str) -> String {
        let path = format!("/proc/self/task/{}/{name}", self.thread.load(Relaxed));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Returns whether it has received this number of messages and sleeps. A thread that checks for
    /// deaths between two sleeps may also count as asleep, because it stays announced as a waiter
    /// meanwhile.
    fn is_asleep(&self, received: u64) -> bool {
        let has_received = || self.received.load(Relaxed) == received;
        has_received() && self.file("stat").rsplit(") ").next().is_some_and(|state| state.starts_with('S'))
    }

    /// Returns how often it has gone to sleep.
    fn switches(&self) -> u64 {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
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

    /// Runs it up to the end of its next system call. Returns the number of the call and its
    /// result; `None` at its end.
    fn next_call(&self) -> Option<(i64, i64)> {
        let mut number = None;
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
            // SAFETY: plain data, which the kernel fills for our stopped tracee. Of the union, that
            // part is read which `op` names.
            unsafe {
                let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
                let size = size_of_val(&info);
                assert!(libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.0, size, &raw mut info) > 0);
                match info.op {
                    libc::PTRACE_SYSCALL_INFO_ENTRY => number = Some(info.u.entry.nr as i64),
                    libc::PTRACE_SYSCALL_INFO_EXIT => return Some((number.unwrap(), info.u.exit.sval)),
                    op => panic!("a stop of kind {op}"),
                }
            }
        }
    }

    /// Runs it up to its next mark.
    fn run_to_mark(&self) {
        while self.next_call().unwrap().0 != MARK {}
    }

    /// Runs it up to its next mark. Returns the system calls and their results.
    fn calls_up_to_mark(&self) -> Vec<(i64, i64)> {
        std::iter::from_fn(|| self.next_call().filter(|(number, _)| *number != MARK)).collect()
    }

    /// Runs it up to its end.
    fn end(self) {
        while self.next_call().is_some() {}
    }
}

fn mark() {
    // SAFETY: asks for the parent's pid.
    unsafe { libc::syscall(MARK) };
}

#[test]
fn one_call_wakes_all_subscribers() {
    let topic = Topic::<u64>::new(4).unwrap();
    let sleepers: Vec<_> = (0..SUBSCRIBERS).map(|_| Sleeper::start(&topic)).collect();
    let tracee = Tracee::start(|| {
        let publisher = topic.publisher();
        for number in 0..ROUNDS {
            mark();
            publisher.publish(number).unwrap();
            mark();
        }
    });
    for round in 0..ROUNDS {
        tracee.run_to_mark();
        support::until("all subscribers sleep", || sleepers.iter().all(|sleeper| sleeper.is_asleep(round)));
        let calls = tracee.calls_up_to_mark();
        let numbers: Vec<_> = calls.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [libc::SYS_futex], "the system calls of publication {round}");
    }
    tracee.end();
}

#[test]
fn an_answer_wakes_only_its_client() {
    let service = Service::<u64, u64>::new(CLIENTS as usize).unwrap();
    let sleepers: Vec<_> = (0..CLIENTS).map(|number| Sleeper::call(&service, number)).collect();
    let tracee = Tracee::start(|| {
        let server = service.server();
        for _ in 0..CLIENTS {
            let request = server.recv().unwrap();
            let number = *request;
            mark();
            request.reply(&number).unwrap();
            mark();
        }
    });
    let (mut woken, mut others, mut elapsed) = (0, 0, Duration::ZERO);
    for answers in 0..CLIENTS {
        let answered = || sleepers.iter().map(|sleeper| sleeper.received.load(Relaxed)).sum::<u64>();
        tracee.run_to_mark();
        support::until("all clients sleep", || {
            sleepers.iter().all(|sleeper| sleeper.is_asleep(sleeper.received.load(Relaxed)))
        });
        let begin = Instant::now();
        let before: Vec<_> = sleepers.iter().map(|sleeper| sleeper.switches()).collect();
        let calls = tracee.calls_up_to_mark();
        // A client that looks for deaths between two sleeps is not asleep.
        assert!(matches!(calls[..], [(libc::SYS_futex, 0 | 1)]), "the system calls of answer {answers}: {calls:?}");
        woken += calls[0].1;
        support::until("the client has the answer and sleeps", || {
            answered() == answers + 1
                && sleepers.iter().all(|sleeper| sleeper.is_asleep(sleeper.received.load(Relaxed)))
        });
        let switched = sleepers.iter().zip(before).map(|(sleeper, before)| sleeper.switches() - before);
        // The client that has the answer has gone to sleep once more.
        others += switched.sum::<u64>() - 1;
        elapsed += begin.elapsed();
    }
    tracee.end();
    assert!(woken >= CLIENTS as i64 - 4, "{woken} of {CLIENTS} answers woke their clients");
    // All others only look for deaths.
    let slices = elapsed.div_duration_f64(SLICE) as u64 + 1;
    assert!(others <= 2 * CLIENTS * slices, "the others woke {others} times in {elapsed:?}");
}
