//! Ctrl-C: the commands that stream come to a clean end, so that nothing is left in shared memory.
//!
//! A signal sets a flag and from then on interrupts every system call that blocks, again and again, so none is missed
//! between a look at the flag and the call. What is waiting sees the flag or `Interrupted`, returns, lets go of shared
//! memory, and then the program dies of that very signal, so that its parent sees what it expects.

use std::io;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

/// The signals that ask for an end.
const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// How often a system call is interrupted once a signal has come.
const INTERVAL: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: 10_000 };

/// The signal that came, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Whether somebody has asked for an end.
pub(crate) fn requested() -> bool {
    SIGNAL.load(Relaxed) != 0
}

/// `Interrupted` if somebody has asked for an end.
pub(crate) fn check() -> io::Result<()> {
    match requested() {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    }
}

/// From now on signals are noted. Those that the parent ignores (`nohup`) stay ignored.
pub(crate) fn install() -> io::Result<()> {
    handle(libc::SIGALRM, nothing)?;
    SIGNALS.into_iter().filter(|signal| !is_ignored(*signal)).try_for_each(|signal| handle(signal, note))
}

/// Ends the program by the signal that came, if one came.
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

/// A handler: only stores and system calls that may be used in one.
extern "C" fn note(signal: i32) {
    SIGNAL.store(signal, Relaxed);
    let timer = libc::itimerval { it_interval: INTERVAL, it_value: INTERVAL };
    // SAFETY: a plain system call; the pointer is to a local value, and null means that the old one is not wanted.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

/// A handler that does nothing: what blocks returns `Interrupted`.
extern "C" fn nothing(_signal: i32) {}

/// Without SA_RESTART, so that system calls return.
fn handle(signal: i32, handler: extern "C" fn(i32)) -> io::Result<()> {
    // SAFETY: all bytes zero are a sigaction without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handler does only what a handler may; the pointer is to a local value, the old one is not wanted.
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all bytes zero are a sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; the pointer is to a local value.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
