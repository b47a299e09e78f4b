//! Running a child up to its k-th instruction inside of an operation, under `ptrace`.
//!
//! The child is a fork, so its addresses are ours and a program counter can be named here. It marks the operation with two
//! breakpoint instructions; steps outside of them are not counted. A system call is one step: the moments before and after
//! it are both tried.

use std::arch::asm;

/// Where the tracee stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Inside of the operation, before the instruction at this address.
    Inside(u64),
    /// The operation is over.
    Over,
    /// It ended or was hit by a signal: the operation itself is at fault.
    Broken(i32),
}

/// A child inside of an operation.
#[derive(Debug)]
pub struct Tracee {
    pid: libc::pid_t,
}

/// Marks the begin and the end of the operation.
#[inline(never)]
fn mark() {
    // SAFETY: a breakpoint; the tracer continues behind it.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

/// The byte of `int3`.
const BREAKPOINT: u8 = 0xcc;

impl Tracee {
    /// Forks a child that runs `prepare` freely and then stands before the first instruction of `act`. `None`: tracing is
    /// not permitted here.
    pub fn start(prepare: impl FnOnce(), act: impl FnOnce()) -> Option<Tracee> {
        // SAFETY: this process has one thread, so the child is a whole copy.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: no pointers; the parent becomes the tracer.
                if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(77) };
                }
                prepare();
                mark();
                act();
                mark();
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(0) }
            }
            pid => {
                let tracee = Tracee { pid };
                let status = tracee.wait();
                if libc::WIFEXITED(status) {
                    assert_eq!(libc::WEXITSTATUS(status), 77, "the child ended before its operation");
                    return None;
                }
                assert!(
                    libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP,
                    "status {status:#x}"
                );
                tracee.request(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_TRACESYSGOOD as usize);
                Some(tracee)
            }
        }
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: the pid is our child's, and status is ours to write.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {}
        status
    }

    fn request(&self, request: libc::c_uint, data: usize) -> i64 {
        // SAFETY: the pid is our stopped tracee's, and none of the requests used here takes a pointer of ours.
        unsafe { libc::ptrace(request, self.pid, 0usize, data) }
    }

    /// The program counter.
    fn counter(&self) -> u64 {
        // SAFETY: registers are plain data; the kernel fills them for our stopped tracee.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0usize, &mut registers);
            registers.rip
        }
    }

    /// One instruction.
    pub fn step(&self) -> State {
        self.request(libc::PTRACE_SINGLESTEP, 0);
        self.state(self.wait())
    }

    /// Runs freely until behind the next system call.
    pub fn run_to_system_call(&self) -> State {
        // Once to its entry, once to its exit.
        for _ in 0..2 {
            self.request(libc::PTRACE_SYSCALL, 0);
            let status = self.wait();
            if !libc::WIFSTOPPED(status) || libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
                return self.state(status);
            }
        }
        State::Inside(self.counter())
    }

    fn state(&self, status: i32) -> State {
        if !libc::WIFSTOPPED(status) || libc::WSTOPSIG(status) != libc::SIGTRAP {
            return State::Broken(status);
        }
        let counter = self.counter();
        // SAFETY: the text of the child is ours, and `counter - 1` lies in the instruction just executed.
        let executed = unsafe { *((counter - 1) as *const u8) };
        if executed == BREAKPOINT && counter - 1 == breakpoint_address() {
            State::Over
        } else {
            State::Inside(counter)
        }
    }

    /// Whether the instruction just executed was a system call.
    pub fn is_behind_system_call(counter: u64) -> bool {
        // SAFETY: the text of the child is ours, and the two bytes lie before the program counter inside of it, but for code
        // that the kernel maps (vdso), which is readable too.
        unsafe { std::ptr::read_unaligned((counter - 2) as *const [u8; 2]) == [0x0f, 0x05] }
    }

    /// SIGKILL, now.
    pub fn kill(self) {
        // SAFETY: the pid is our child's.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        while !libc::WIFSIGNALED(self.wait()) {}
    }

    /// Leaves it stopped by SIGSTOP, untraced.
    pub fn stop(&self) {
        self.request(libc::PTRACE_DETACH, libc::SIGSTOP as usize);
        let mut status = 0;
        // SAFETY: as in wait().
        unsafe { libc::waitpid(self.pid, &mut status, libc::WUNTRACED) };
        assert!(libc::WIFSTOPPED(status), "status {status:#x}");
    }

    /// Lets a stopped one go on to its end. The second marker would now be a fault: it is stepped over by its handler.
    pub fn go_on(self) -> i32 {
        // SAFETY: the pid is our child's.
        unsafe { libc::kill(self.pid, libc::SIGCONT) };
        self.wait()
    }
}

/// The address of the one `int3` of this program.
fn breakpoint_address() -> u64 {
    let start = mark as *const () as u64;
    // SAFETY: reads the text of `mark`, which is longer than what is read before its `int3` is found.
    (start..).find(|at| unsafe { *(*at as *const u8) } == BREAKPOINT).unwrap_or(start)
}

/// In the child: once it is not traced any more, a marker does nothing.
pub fn ignore_markers() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: installs a handler that does nothing; `int3` continues behind itself.
    unsafe { libc::signal(libc::SIGTRAP, nothing as *const () as usize) };
}

/// The function and line at an address of this program.
pub fn place_of(counter: u64) -> String {
    let mut place = format!("{counter:#x}");
    backtrace::resolve(counter as *mut _, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}")).unwrap_or_default();
        let file = symbol
            .filename()
            .and_then(|file| file.file_name())
            .map(|file| file.to_string_lossy().into_owned());
        let line = symbol.lineno().unwrap_or(0);
        place = format!("{place} {name} ({}:{line})", file.unwrap_or_default());
    });
    place
}
