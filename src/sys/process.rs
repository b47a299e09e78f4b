//! Processes: starting this program again, pidfds, waiting for an end, signals.
//!
//! A child is identified by its pidfd, which cannot be reused for another process as a pid can.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{
    getpid, pidfd_open, pidfd_send_signal, waitid, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions,
};

use super::clock::{now, timespec, Deadline};
use super::descriptor::{above_standard, Own};
use crate::sys::exe_image::static_tls;
use crate::{Error, ErrorKind, Result};

/// The program of this process, even if its file was replaced or removed since the start.
const PROGRAM: &CStr = c"/proc/self/exe";

/// Starts this program again, with standard input from `/dev/null`; returns its pid and pidfd.
///
/// The child gets the descriptors `inherit` under their own numbers, which must not be 0, 1 or 2.
/// Like a child of `std::process::Command`, it starts with no signal blocked and with SIGPIPE as
/// the kernel sets it.
pub(crate) fn start(argv: &[CString], env: &[CString], inherit: &[BorrowedFd<'_>]) -> Result<(u32, Own)> {
    // Reserves a number for the pidfd, because an error after the start would be too late.
    let room = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|cause| Error::system("cannot open a descriptor for watching the child", cause))?;
    let pid = spawn(argv, env, inherit).map_err(|cause| {
        let what = "cannot start this program again (through /proc/self/exe, with /dev/null)";
        match cause.raw_os_error() {
            Some(libc::EAGAIN) => Error::system(
                format!("{what}: this user or this cgroup has too many processes (`ulimit -u`, pids.max)"),
                cause,
            ),
            _ => Error::system(what, cause),
        }
    })?;
    drop(room);
    // The child stays at least as a zombie until it is waited for, so the pid is not reused.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).and_then(Own::new);
    match pidfd {
        Ok(pidfd) if is_child(pidfd.number()) => Ok((pid.as_raw_nonzero().get().unsigned_abs(), pidfd)),
        Ok(_) | Err(Errno::SRCH) => Err(Error::new(
            ErrorKind::ChildFailed,
            "the child ended at once, and something else in this program took \
             its exit status (a waitpid(-1)?)",
        )),
        Err(cause) => {
            discard(pid);
            Err(Error::system("cannot watch the child (pidfd_open)", cause))
        }
    }
}

/// Converts a list of strings to C's form: pointers to each, then null.
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

fn check(code: i32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// File actions and attributes of `posix_spawn`, destroyed when dropped.
struct Plan {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Plan {
    fn new() -> io::Result<Box<Plan>> {
        // SAFETY: both are plain data for which zero is a value; they are initialised below, before
        // anything else.
        let mut plan: Box<Plan> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: ours to write. Neither fails on Linux, where they only fill in defaults;
        // destroying a zeroed one is allowed.
        unsafe {
            check(libc::posix_spawn_file_actions_init(&mut plan.actions))?;
            check(libc::posix_spawnattr_init(&mut plan.attributes))?;
        }
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after this.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&mut self.actions);
            libc::posix_spawnattr_destroy(&mut self.attributes);
        }
    }
}

fn spawn(argv: &[CString], env: &[CString], inherit: &[BorrowedFd<'_>]) -> io::Result<Pid> {
    let mut plan = Plan::new()?;
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the plan is initialised; the strings and the lists live until the end of this
    // function; all lists end with null.
    unsafe {
        check(libc::posix_spawn_file_actions_addopen(
            &mut plan.actions,
            0,
            c"/dev/null".as_ptr(),
            libc::O_RDONLY,
            0,
        ))?;
        for file in inherit {
            // Duplicates it onto itself, which clears close-on-exec, in the child only.
            let file = file.as_raw_fd();
            check(libc::posix_spawn_file_actions_adddup2(&mut plan.actions, file, file))?;
        }
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        check(libc::posix_spawnattr_setsigmask(&mut plan.attributes, &signals))?;
        libc::sigaddset(&mut signals, libc::SIGPIPE);
        check(libc::posix_spawnattr_setsigdefault(&mut plan.attributes, &signals))?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        check(libc::posix_spawnattr_setflags(&mut plan.attributes, flags as libc::c_short))?;
        let mut pid = 0;
        check(libc::posix_spawn(
            &mut pid,
            PROGRAM.as_ptr(),
            &plan.actions,
            &plan.attributes,
            argv.as_ptr(),
            env.as_ptr(),
        ))?;
        Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Returns whether the process is a child of this one that has not been waited for.
fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::PidFd(pidfd), peek), Err(Errno::CHILD))
}

/// Ends a child that nobody can watch.
fn discard(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    while matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED), Err(Errno::INTR)) {}
}

/// Returns a pidfd of this process, for its children to watch.
pub(crate) fn own_pidfd() -> Result<OwnedFd> {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|cause| Error::system("cannot open a pidfd, for which Linux 5.4 is needed", cause))?;
    inheritable(pidfd)
}

/// Returns the same open file under a number that a child can inherit: not standard input, output
/// or error.
pub(crate) fn inheritable(file: OwnedFd) -> Result<OwnedFd> {
    above_standard(file).map_err(|cause| Error::system("cannot duplicate a descriptor", cause))
}

/// How the end of a child was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By waiting for it: its exit status.
    Status(ExitStatus),
    /// Other code has waited for it, or nobody can because SIGCHLD is ignored.
    Unknown,
}

/// The interval at which to ask for a child that has ended but is kept by its tracer.
pub(crate) const KEPT: Duration = Duration::from_millis(5);

/// Waits for the child if it has ended, so that nothing of it is left; `None` while it runs.
///
/// `pidfd` is `None` if the program has closed it. Until its parent has waited for a child, its pid
/// is not reused.
pub(crate) fn reap(pidfd: Option<BorrowedFd<'_>>, pid: u32) -> Option<Ended> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    loop {
        let child = pidfd.map_or(WaitId::Pid(pid), WaitId::PidFd);
        match waitid(child, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(None) => return None,
            Ok(Some(status)) => {
                let raw = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => (code & 0xff) << 8,
                    (None, Some(signal)) if status.dumped() => signal | 0x80,
                    (None, Some(signal)) => signal,
                    (None, None) => return None,
                };
                return Some(Ended::Status(ExitStatus::from_raw(raw)));
            }
            Err(Errno::INTR) => {}
            // The descriptor is not open, or not a pidfd any more. That says nothing about the
            // child.
            Err(Errno::BADF | Errno::INVAL) => return None,
            Err(_) => return Some(Ended::Unknown),
        }
    }
}

/// Waits until the process has ended (its pidfd is readable). Returns false if the deadline has
/// passed.
pub(crate) fn wait_for_end(pidfd: BorrowedFd<'_>, deadline: Deadline) -> Result<bool> {
    loop {
        let timeout = match deadline {
            Deadline::Never => None,
            Deadline::At(at) => Some(timespec(at.saturating_sub(now()))),
        };
        let mut watched = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(0) if deadline.has_passed() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) if watched[0].revents().contains(PollFlags::IN) => return Ok(true),
            // Not open. That says nothing about the process.
            Ok(_) => return Err(Error::system(
                "cannot wait for a process: this program has closed a descriptor that belongs to pagemate",
                Errno::BADF,
            )),
            Err(cause) => return Err(Error::system("cannot wait for a process (poll)", cause)),
        }
    }
}

/// Returns whether the process has ended. One that cannot be asked about counts as running.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    wait_for_end(pidfd, Deadline::At(0)).unwrap_or(false)
}

/// Returns whether the descriptor is a pidfd.
pub(crate) fn is_pidfd(file: BorrowedFd<'_>) -> bool {
    // SAFETY: signal 0 is not sent; the kernel only checks its arguments.
    let code = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            file.as_raw_fd(),
            0,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    code == 0
        || !matches!(Errno::from_io_error(&io::Error::last_os_error()), Some(Errno::BADF | Errno::INVAL))
}

/// Asks the process to end (SIGTERM), or ends it (SIGKILL). Succeeds if it has ended already.
///
/// Without a pidfd only for a child that nobody has waited for.
pub(crate) fn end(pidfd: Option<BorrowedFd<'_>>, pid: u32, at_once: bool) -> Result<()> {
    let signal = if at_once { Signal::KILL } else { Signal::TERM };
    let sent = match (pidfd, i32::try_from(pid).ok().and_then(Pid::from_raw)) {
        (Some(pidfd), _) => pidfd_send_signal(pidfd, signal),
        (None, Some(pid)) => rustix::process::kill_process(pid, signal),
        (None, None) => Err(Errno::SRCH),
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(cause) => Err(Error::system("cannot send a signal to the child", cause)),
    }
}

/// Ends this process as SIGKILL does: nothing more runs in it.
pub(crate) fn end_self() -> ! {
    let _ = rustix::process::kill_process(getpid(), Signal::KILL);
    // The signal is on its way, and cannot be blocked. Process 1 of a pid namespace is the
    // exception.
    // SAFETY: ends the process; nothing is used after it.
    unsafe { libc::_exit(137) }
}

/// Returns whether children of this program leave no exit status, because it ignores SIGCHLD.
pub(crate) fn ignores_children() -> bool {
    // SAFETY: sigaction is plain data for which zero is a value, and with a null action it is only
    // read.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut action) == 0
            && (action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0)
    }
}

/// Returns whether the kernel gave this program rights that its caller does not have, so that its
/// environment cannot be trusted.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: reads a value that the kernel set at the start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Ignores SIGPIPE, as std does before `main`, so that writing to a closed pipe is an error and
/// does not end the process.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Returns the longest beginning of `title` that the kernel keeps, in whole characters.
fn cut(title: &str) -> String {
    let mut cut = String::new();
    for character in title.chars().filter(|&character| character != '\0') {
        if cut.len() + character.len_utf8() > 15 {
            break;
        }
        cut.push(character);
    }
    cut
}

/// Sets the name that `ps` and `top` show for this process; cut off after 15 bytes.
pub(crate) fn set_title(title: &str) {
    if let Ok(title) = CString::new(cut(title)) {
        // SAFETY: the string ends with NUL and is no longer than the kernel reads. Only the main
        // thread calls this.
        unsafe { libc::prctl(libc::PR_SET_NAME, title.as_ptr()) };
    }
}

/// Ignores SIGINT, unless the program has set an action for it.
pub(crate) fn leave_interrupts_to_parent() {
    // SAFETY: sigaction is plain data for which zero is a value; with a null action it is only
    // read; ignoring a signal installs no handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let read = libc::sigaction(libc::SIGINT, std::ptr::null(), &mut action);
        if read == 0 && action.sa_sigaction == libc::SIG_DFL {
            libc::signal(libc::SIGINT, libc::SIG_IGN);
        }
    }
}

/// The bytes of stack for a thread that runs no code of the program and holds none of its values.
const SMALL: usize = 64 << 10;

/// Returns the size of a stack with room for [`SMALL`] bytes, besides what the C library takes for
/// itself and for thread-local storage.
fn small_stack() -> usize {
    // SAFETY: only reads a limit.
    let least = unsafe { libc::sysconf(libc::_SC_THREAD_STACK_MIN) };
    SMALL.saturating_add(usize::try_from(least).unwrap_or(0)).saturating_add(static_tls())
}

/// Starts a thread of the library's own: on a small stack, with all signals blocked, so that no
/// handler of the program runs there.
pub(crate) fn background(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start_deaf(std::thread::Builder::new().name(name.to_owned()).stack_size(small_stack()), body)
}

/// Like [`background`], on a stack like that of any thread: for threads that handle the program's
/// values, which may be large.
pub(crate) fn background_with_room(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start_deaf(std::thread::Builder::new().name(name.to_owned()), body)
}

/// Starts a thread with all signals blocked.
fn start_deaf(thread: std::thread::Builder, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // SAFETY: signal sets are plain data, written before they are read; the mask of this thread is
    // restored.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigfillset(&mut all);
        check(libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before))?;
        let thread = thread.spawn(body);
        check(libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()))?;
        thread.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_cut_between_characters() {
        for (title, kept) in [
            ("worker", "worker"),
            ("aaaaaaaaaaaaaa\u{e9}", "aaaaaaaaaaaaaa"),
            ("aaaaaaaaaaaaa\u{e9}b", "aaaaaaaaaaaaa\u{e9}"),
            ("\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}", "\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}"),
            ("a\0b", "ab"),
        ] {
            assert_eq!(cut(title), kept);
        }
    }
}
