//! Signals: commands that stream end cleanly, so that nothing is left in shared memory, and `top`
//! restores its terminal.
//!
//! A signal sets a flag. From then on a timer interrupts every blocking system call again and
//! again, so no signal is missed between a check of the flag and the call. A blocked function sees
//! the flag or `Interrupted`, returns, and releases shared memory. Then the program dies of that
//! very signal, so that its parent sees the expected status.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32};
use std::time::{Duration, Instant};

use rustix::event::{poll, Timespec};
use rustix::io::Errno;

/// The signals that ask the program to end.
const SIGNALS: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// The interval at which system calls are interrupted after a signal.
const INTERVAL: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: 10_000 };

/// The signal that arrived, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The signals after which a program with a screen continues, and their meanings. A bit each,
/// highest first.
const TURNS: [(i32, u32, Turn); 3] = [
    (libc::SIGTSTP, 1 << 2, Turn::Stop),
    (libc::SIGCONT, 1 << 1, Turn::Continued),
    (libc::SIGWINCH, 1 << 0, Turn::Resized),
];

/// Other signals that end a program that does not handle them, except those of the timer and of
/// broken pipes. The real-time signals, from [`libc::SIGRTMIN`] on, belong to them too.
const ENDS: [i32; 15] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGIO,
    libc::SIGPROF,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGVTALRM,
    libc::SIGXCPU,
];

/// The bits of the signals that arrived.
static TURNED: AtomicU32 = AtomicU32::new(0);

/// The request of a signal to a program with a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    None,
    /// Restore the terminal and [`stop`].
    Stop,
    /// The program was stopped, and other programs may have used the terminal.
    Continued,
    /// The terminal has another size.
    Resized,
}

/// Returns whether a signal has asked for the end.
pub(crate) fn requested() -> bool {
    SIGNAL.load(Relaxed) != 0
}

/// Fails with `Interrupted` if a signal has asked for the end.
pub(crate) fn check() -> io::Result<()> {
    match requested() {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    }
}

/// Installs the handlers of [`SIGNALS`]. Signals that the parent ignores (`nohup`) stay ignored.
pub(crate) fn install() -> io::Result<()> {
    handle(libc::SIGALRM, nothing)?;
    SIGNALS.into_iter().filter(|signal| !is_ignored(*signal)).try_for_each(|signal| handle(signal, note))
}

/// Installs the handlers of [`turn`], unless the parent ignores the signals.
pub(crate) fn install_turns() -> io::Result<()> {
    let signals = TURNS.map(|(signal, ..)| signal);
    signals.into_iter().filter(|signal| !is_ignored(*signal)).try_for_each(|signal| handle(signal, note_turn))
}

/// Lets `last` run before the program dies of any other signal that ends programs, unless the
/// parent ignores the signal. `last` is called in a signal handler, at any instruction, so it may
/// make system calls only.
pub(crate) fn install_ends(last: fn()) -> io::Result<()> {
    LAST.store(last as *mut (), Relaxed);
    let signals = ENDS.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    signals.filter(|signal| !is_ignored(*signal)).try_for_each(|signal| handle(signal, die))
}

/// The function that [`die`] calls.
static LAST: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Handles a signal by letting the program die of it when this returns, also of a fault that occurs
/// again.
extern "C" fn die(signal: i32) {
    // SAFETY: takes integers only.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let last = LAST.load(Relaxed);
    if !last.is_null() {
        // SAFETY: stored by install_ends, before the handler was installed.
        unsafe { std::mem::transmute::<*mut (), fn()>(last)() };
    }
    // SAFETY: takes integers only. The signal is blocked until this returns.
    unsafe { libc::raise(signal) };
}

/// Returns the request of the signals since the last call. The highest one includes the others,
/// because stopping and continuing redraw the screen.
pub(crate) fn turn() -> Turn {
    let seen = TURNED.swap(0, Relaxed);
    let first = TURNS.into_iter().find(|(_, bit, _)| seen & bit != 0);
    first.map_or(Turn::None, |(_, _, turn)| turn)
}

/// Stops the program as SIGTSTP does. Returns when it continues.
pub(crate) fn stop() -> io::Result<()> {
    // SAFETY: takes integers only.
    unsafe { libc::signal(libc::SIGTSTP, libc::SIG_DFL) };
    // SAFETY: likewise. Nothing blocks the signal, so the program stops here, if its shell can
    // continue it.
    unsafe { libc::raise(libc::SIGTSTP) };
    TURNED.store(0, Relaxed); // the caller knows that it was stopped
    handle(libc::SIGTSTP, note_turn)
}

/// Sleeps for `duration`. Fails with `Interrupted` if a signal asks for the end before or
/// meanwhile.
pub(crate) fn sleep(duration: Duration) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        check()?;
        let left = duration.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends the program by the signal that arrived, if any.
pub(crate) fn obey() {
    let signal = SIGNAL.load(Relaxed);
    if signal != 0 {
        // SAFETY: both calls take integers only, and no handler runs from here on.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

/// Handles a signal. It only stores, and makes system calls that are allowed in a handler.
extern "C" fn note(signal: i32) {
    SIGNAL.store(signal, Relaxed);
    let timer = libc::itimerval { it_interval: INTERVAL, it_value: INTERVAL };
    // SAFETY: a plain system call; the pointer is to a local value, and null means that the old one
    // is not wanted.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

/// Handles a signal. It only stores.
extern "C" fn note_turn(signal: i32) {
    if let Some((_, bit, _)) = TURNS.iter().find(|(known, ..)| *known == signal) {
        TURNED.fetch_or(*bit, Relaxed);
    }
}

/// Does nothing: a signal handler with which blocking calls return `Interrupted`.
extern "C" fn nothing(_signal: i32) {}

/// Installs a handler without SA_RESTART, so that system calls return.
fn handle(signal: i32, handler: extern "C" fn(i32)) -> io::Result<()> {
    // SAFETY: all bytes zero are a sigaction without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // A full stack may be the cause.
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: the handler does only what a handler may; the pointer is to a local value, and the
    // old action is not wanted.
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all bytes zero are a sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only reads the action; the pointer is to a local value.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
