//! Runs a child up to its k-th instruction inside of an operation, under `ptrace`.
//!
//! The child is a fork, so its addresses are ours. So this process can name a program counter, and
//! read the instruction there. The child marks the operation with two breakpoint instructions;
//! steps outside of them do not count. A system call is one step. The moments before and after it
//! are both tried.
//!
//! Reaching a moment does not take k steps. The first run of a scene records the addresses of all
//! its instructions. From these [`Route::to`] finds the last address before k that is not passed
//! too often. The child runs there freely, up to a breakpoint in a debug register, and is
//! single-stepped only from there.

use std::arch::asm;
use std::collections::{HashMap, HashSet};
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::errors;
use super::helper::note_sleep;
use super::instruction::{self, is_system_call};

/// The position of the tracee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Inside of the operation, before the instruction at this address.
    Inside(u64),
    /// The operation is over.
    Over,
    /// It ended, or a signal hit it, so the operation itself is at fault.
    Broken(i32),
}

/// A child inside of an operation.
#[derive(Debug)]
pub struct Tracee {
    pid: libc::pid_t,
}

/// Marks the beginning and the end of the operation.
#[inline(never)]
fn mark() {
    // SAFETY: a breakpoint; the tracer continues after it.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

/// Whether this process is a child inside of its operation.
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Marks the end of operations that end the process normally. All other exit handlers belong to
/// such an operation. Call this before they are installed, because they run in reverse order.
pub fn mark_exits() {
    extern "C" fn at_exit() {
        if INSIDE.load(Relaxed) {
            mark();
        }
    }
    // SAFETY: a plain function that stays, and does not unwind.
    unsafe { libc::atexit(at_exit) };
}

/// The byte of `int3`.
const BREAKPOINT: u8 = 0xcc;

// SAFETY: plain data, and all zeros are the empty set.
const NO_PROCESSORS: libc::cpu_set_t = unsafe { std::mem::zeroed() };

/// Exit code of a child that must not be traced.
const REFUSED: i32 = 77;

impl Tracee {
    /// Forks a child that runs `prepare` freely and then stops before the first instruction of
    /// `act`. It calls `afterwards` after that, if it is continued. Returns `None` if tracing is
    /// not permitted.
    pub fn start(prepare: impl FnOnce(), act: impl FnOnce(), afterwards: impl FnOnce()) -> Option<Tracee> {
        // SAFETY: this process has one thread, so the child is a whole copy.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: no pointers; the parent becomes the tracer.
                if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(REFUSED) };
                }
                die_with_parent();
                ignore_markers();
                prepare();
                INSIDE.store(true, Relaxed);
                mark();
                act();
                mark();
                afterwards();
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(0) }
            }
            pid => {
                let tracee = Tracee { pid };
                let mut status = tracee.wait();
                while is_news_of_an_end(status) {
                    tracee.request(libc::PTRACE_CONT, 0);
                    status = tracee.wait();
                }
                if libc::WIFEXITED(status) {
                    assert_eq!(libc::WEXITSTATUS(status), REFUSED, "the child ended before its operation");
                    return None;
                }
                assert!(
                    libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP,
                    "the child did not come to its operation: status {status:#x}"
                );
                tracee.request(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_EXITKILL as usize);
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
        // SAFETY: the pid is our stopped tracee's, and none of the requests used here takes a
        // pointer of ours.
        unsafe { libc::ptrace(request, self.pid, 0usize, data) }
    }

    /// Writes a debug register. Returns false if there is none.
    fn set_debug_register(&self, number: usize, value: u64) -> bool {
        let offset = offset_of!(libc::user, u_debugreg) + 8 * number;
        // SAFETY: writes to the state of our stopped tracee; the kernel checks offset and value.
        unsafe { libc::ptrace(libc::PTRACE_POKEUSER, self.pid, offset, value) == 0 }
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: registers are plain data; the kernel fills them for our stopped tracee.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0usize, &mut registers);
            registers
        }
    }

    /// Returns the program counter.
    fn counter(&self) -> u64 {
        self.registers().rip
    }

    /// Returns the index in [`errors::CALLS`] of the system call at `counter`, the next
    /// instruction, if it is one and can fail.
    pub fn call(&self, counter: u64) -> Option<usize> {
        if !is_system_call(counter) {
            return None;
        }
        let registers = self.registers();
        errors::index_of(registers.rax as i64, registers.rsi, registers.r10)
    }

    /// Steps over the next system call, as if the kernel had returned `error`. Returns the call's
    /// index in [`errors::CALLS`], or `None` if there is no call here that can fail.
    pub fn refuse(&self, error: i32) -> Option<usize> {
        let call = self.call(self.counter())?;
        let mut registers = self.registers();
        registers.rip += instruction::SYSTEM_CALL.len() as u64;
        registers.rax = -i64::from(error) as u64;
        // The kernel destroys these two.
        (registers.rcx, registers.r11) = (registers.rip, registers.eflags);
        // SAFETY: registers of our stopped tracee, as they would be after a call that failed.
        unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0usize, &registers) };
        Some(call)
    }

    /// Continues it to the end of the operation.
    pub fn run(&self) -> State {
        self.resume(libc::PTRACE_CONT)
    }

    /// Continues a child whose operation is over to its end. Returns its status.
    pub fn finish(self) -> i32 {
        loop {
            self.request(libc::PTRACE_CONT, 0);
            let status = self.wait();
            if !is_news_of_an_end(status) {
                return status;
            }
        }
    }

    /// Returns whether the next system call is a sleep on a futex or for a time. A call on several
    /// futexes without a timeout only asks whether the kernel can do it.
    fn is_before_a_sleep(&self) -> bool {
        let registers = self.registers();
        match registers.rax as i64 {
            libc::SYS_futex => matches!(registers.rsi as i32, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET),
            libc::SYS_futex_waitv => registers.r10 != 0,
            call => call == libc::SYS_clock_nanosleep,
        }
    }

    /// Keeps the child and this process, its tracer, on one processor as long as `body` runs. Only
    /// one of the two runs at a time, and to wake another processor takes longer than a step.
    pub fn on_one_processor<R>(&self, body: impl FnOnce() -> R) -> R {
        let [mut all, mut one] = [NO_PROCESSORS; 2];
        // SAFETY: both sets are ours, to read and to write.
        unsafe {
            libc::sched_getaffinity(0, size_of_val(&all), &mut all);
            libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut one);
        }
        let bind = |set: &libc::cpu_set_t| {
            for pid in [0, self.pid] {
                // SAFETY: reads a set.
                unsafe { libc::sched_setaffinity(pid, size_of_val(set), set) };
            }
        };
        bind(&one);
        let result = body();
        bind(&all);
        result
    }

    /// Returns the position of the child, which has not begun its operation.
    pub fn position(&self) -> State {
        State::Inside(self.counter())
    }

    /// Steps over the instruction at `counter`, the next one.
    pub fn step(&self, counter: u64) -> State {
        if is_system_call(counter) && self.is_before_a_sleep() {
            note_sleep();
        }
        self.resume(libc::PTRACE_SINGLESTEP)
    }

    /// Continues the child. Ignores SIGCHLD: a process that the operation started has ended.
    fn resume(&self, how: libc::c_uint) -> State {
        loop {
            self.request(how, 0);
            let status = self.wait();
            if !is_news_of_an_end(status) {
                return self.state(status);
            }
        }
    }

    /// Runs freely until it reaches the instruction at `address` for the `times`-th time. Returns
    /// `None` if this machine has no debug registers; then it has not moved.
    fn run_to(&self, address: u64, times: u32) -> Option<State> {
        // Register 0, for execution, in this thread only.
        if !self.set_debug_register(0, address) || !self.set_debug_register(7, 1) {
            return None;
        }
        let mut state = self.position();
        for _ in 0..times {
            state = self.resume(libc::PTRACE_CONT);
            if !matches!(state, State::Inside(_)) {
                return Some(state);
            }
        }
        self.set_debug_register(7, 0);
        Some(state)
    }

    /// Follows the way to an instruction. Returns the position, and its step in the first run.
    pub fn go(&self, leg: Leg) -> (State, usize) {
        let (mut state, mut done) = (self.position(), 0);
        if leg.times > 0 {
            match self.run_to(leg.address, leg.times) {
                Some(now @ State::Inside(_)) => (state, done) = (now, leg.at),
                Some(other) => return (other, leg.at),
                None => {}
            }
        }
        while let (State::Inside(counter), true) = (state, done < leg.k) {
            state = self.step(counter);
            done += 1;
        }
        (state, done)
    }

    fn state(&self, status: i32) -> State {
        if !libc::WIFSTOPPED(status) || libc::WSTOPSIG(status) != libc::SIGTRAP {
            return State::Broken(status);
        }
        let counter = self.counter();
        // SAFETY: the text of the child is ours, and `counter - 1` lies in the instruction just
        // executed.
        let executed = unsafe { *((counter - 1) as *const u8) };
        if executed == BREAKPOINT && counter - 1 == breakpoint_address() {
            State::Over
        } else {
            State::Inside(counter)
        }
    }

    /// Kills it by SIGKILL.
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

    /// Continues a stopped child to its end. The second marker would now be a fault, so a handler
    /// steps over it.
    pub fn go_on(self) -> i32 {
        // SAFETY: the pid is our child's.
        unsafe { libc::kill(self.pid, libc::SIGCONT) };
        self.wait()
    }
}

/// Returns whether a tracee stopped because a child of its own has ended.
fn is_news_of_an_end(status: i32) -> bool {
    libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGCHLD
}

/// Returns the address of the only `int3` of this program.
fn breakpoint_address() -> u64 {
    let start = mark as *const () as u64;
    // SAFETY: reads the text of `mark`, which is longer than what is read before its `int3` is
    // found.
    (start..).find(|at| unsafe { *(*at as *const u8) } == BREAKPOINT).unwrap_or(start)
}

/// Makes markers do nothing once this process is not traced any more. Called in the child.
fn ignore_markers() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: installs a handler that does nothing; execution continues after `int3`.
    unsafe { libc::signal(libc::SIGTRAP, nothing as *const () as usize) };
}

/// Makes this process end with its parent. Called in a child.
pub fn die_with_parent() {
    // SAFETY: asks for a signal; no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// The way to an instruction: freely to the `times`-th pass at `address`, which is instruction
/// `at`, and from there step by step to `k`.
#[derive(Debug, Clone, Copy)]
pub struct Leg {
    address: u64,
    times: u32,
    at: usize,
    k: usize,
}

/// The instructions of an operation, as recorded by the first run.
#[derive(Debug)]
pub struct Route {
    addresses: Vec<u64>,
    /// Those that changed a word that others can see.
    changes: HashSet<usize>,
    legs: Vec<Leg>,
    /// For each instruction, how often the operation has been at its address by then, this time
    /// included.
    passes: Vec<u32>,
}

impl Route {
    pub fn new(addresses: Vec<u64>, changes: HashSet<usize>) -> Route {
        let mut passed = HashMap::new();
        let mut legs: Vec<Leg> = Vec::with_capacity(addresses.len());
        let mut passes = Vec::with_capacity(addresses.len());
        for (k, &address) in addresses.iter().enumerate() {
            let times: u32 = *passed.entry(address).and_modify(|times| *times += 1).or_insert(1);
            let leg = match legs.last() {
                None => Leg { address, times: 0, at: 0, k },
                // One step more than the way to the instruction before, or a way of its own.
                Some(last) if last.times as usize + last.k - last.at < times as usize => Leg { k, ..*last },
                Some(_) => Leg { address, times, at: k, k },
            };
            legs.push(leg);
            passes.push(times);
        }
        Route { addresses, changes, legs, passes }
    }

    /// Returns the number of instructions.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    pub fn address(&self, k: usize) -> u64 {
        self.addresses[k]
    }

    /// Returns how often the operation has been at the address of instruction `k` when it gets
    /// there, this time included.
    pub fn passes(&self, k: usize) -> u32 {
        self.passes[k]
    }

    /// Returns the way to instruction `k`, or to the end of the operation.
    pub fn to(&self, k: usize) -> Leg {
        let last = self.legs.get(k).or(self.legs.last());
        last.map_or(Leg::steps(k), |leg| if k < self.legs.len() { *leg } else { Leg { k, ..*leg } })
    }

    /// Describes the visible changes before and after instruction `k`, and where the library made
    /// them.
    pub fn window(&self, k: usize) -> String {
        let last = self.visible().take_while(|at| *at < k).last();
        let next = self.visible().find(|at| *at >= k);
        let name = |at: Option<usize>, none| at.map_or(format!("the {none}"), |at| self.line_of_library(at));
        format!("  window: after {}\n    and before {}", name(last, "begin"), name(next, "end"))
    }

    /// Returns the last line of the library before instruction `k`. Atomics themselves are in
    /// functions of std.
    fn line_of_library(&self, k: usize) -> String {
        let mut passed = self.addresses[..=k].iter().rev().copied();
        place_of(passed.find(|address| is_of_library(*address)).unwrap_or(self.addresses[k]))
    }

    /// Returns the instructions at which other processes may see a change: atomic ones, system
    /// calls, and those that have changed a word.
    pub fn visible(&self) -> impl Iterator<Item = usize> + '_ {
        let is_visible = |k: &usize| self.changes.contains(k) || instruction::is_visible(self.addresses[*k]);
        (0..self.len()).filter(is_visible)
    }
}

impl Leg {
    /// Returns the way of `k` steps.
    pub fn steps(k: usize) -> Leg {
        Leg { address: 0, times: 0, at: 0, k }
    }
}

/// Returns whether this address is in a function of the library, also an inlined one.
fn is_of_library(address: u64) -> bool {
    let mut is_found = false;
    backtrace::resolve(address as *mut _, |symbol| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
        is_found |= symbol.filename().is_some_and(|file| file.starts_with(source));
    });
    is_found
}

/// Returns the function and line at an address of this program.
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
