//! What a process can do to its descriptors and its memory, and how a test observes it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One thing to do while holding a lock. Returns the pid of a copy that lives on, or 0.
pub(crate) type Do = fn() -> u64;

/// All deeds, with names. docs/liveness.md explains each.
pub(crate) const ALL: &[(&str, Do)] = &[
    ("nothing", || 0),
    ("close_range", || {
        close_all();
        0
    }),
    ("close, one after the other", || {
        each(close);
        0
    }),
    ("dup2", || {
        let null = null();
        each(|file| dup2(null.as_raw_fd(), file));
        0
    }),
    ("fork", || copy(fork)),
    ("fork in another thread", || std::thread::spawn(|| copy(fork)).join().unwrap()),
    ("clone with CLONE_VM, by a thread that ends", || std::thread::spawn(|| 0).join().unwrap()),
    ("clone without CLONE_VM", || copy(clone)),
    ("a program that inherits all descriptors", start_with_all),
    ("SCM_RIGHTS", send_all),
    ("exhausted descriptors", || {
        leave_no_descriptor();
        0
    }),
    ("privilege drop", || {
        drop_all_rights();
        0
    }),
    ("chroot", || {
        change_root();
        0
    }),
    ("no /proc", || {
        cover_proc();
        0
    }),
    ("a user namespace", || {
        unshare(libc::CLONE_NEWUSER);
        0
    }),
    ("fork into a pid namespace", || {
        let _ = unshare(libc::CLONE_NEWPID) || unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID);
        copy(fork)
    }),
    ("mlockall", || {
        // SAFETY: locks mapped memory. Without the right to, nothing happens.
        unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
        0
    }),
];

fn null() -> std::fs::File {
    std::fs::File::open("/dev/null").unwrap()
}

/// Closes all descriptors, as a daemonising library or a sandbox in the program does.
pub(crate) fn close_all() {
    // SAFETY: closes descriptors that other code owns, which is the deed under test. That code must
    // cope with it.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
}

fn close(file: i32) {
    // SAFETY: as in `close_all`.
    unsafe { libc::close(file) };
}

fn dup2(from: i32, to: i32) {
    if from != to {
        // SAFETY: as in `close_all`.
        unsafe { libc::dup2(from, to) };
    }
}

/// Returns the open descriptors.
pub(crate) fn descriptors() -> Vec<i32> {
    // SAFETY: asks for the flags of a number, open or not.
    (0..1024).filter(|file| unsafe { libc::fcntl(*file, libc::F_GETFD) } >= 0).collect()
}

fn each(f: impl Fn(i32)) {
    descriptors().into_iter().filter(|file| *file > 2).for_each(f);
}

/// Starts a copy of this process that does nothing until it is killed.
fn copy(make: fn() -> i32) -> u64 {
    match make() {
        0 => pause(),
        pid => pid as u64,
    }
}

fn fork() -> i32 {
    // SAFETY: the child does nothing but wait to be killed.
    unsafe { libc::fork() }
}

/// Copies the process without running handlers, like `_Fork`.
fn clone() -> i32 {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32 }
}

fn pause() -> ! {
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

pub(crate) fn pause_or_exit(pauses: bool) -> ! {
    if pauses {
        pause()
    }
    exit_with(true)
}

/// Ends this process at once. The code is 1 for true.
pub(crate) fn exit_with(is_wrong: bool) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(is_wrong.into()) }
}

/// Kills the process, and waits for it if it is a child of this one. Does nothing for 0.
pub(crate) fn kill(pid: i32) {
    if pid > 0 {
        // SAFETY: the process is one that this test program has started, directly or not, and that
        // ends only here.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

/// Starts a program with all descriptors of this one, without closing any.
fn start_with_all() -> u64 {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("sleep");
    command.arg("1000").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    // Without those that `spawn` opens for itself.
    let files = descriptors();
    // SAFETY: the closure makes system calls only.
    unsafe {
        command.pre_exec(move || {
            for file in files.iter().filter(|file| **file > 2) {
                libc::fcntl(*file, libc::F_SETFD, 0);
            }
            Ok(())
        })
    };
    command.spawn().unwrap().id().into()
}

/// Sends all descriptors to a copy of this process, which does not receive the message.
fn send_all() -> u64 {
    let mut pair = [0; 2];
    // SAFETY: the pair is ours to write.
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) }, 0);
    // SAFETY: just opened, and owned by nobody else.
    let [here, there] = pair.map(|file| unsafe { OwnedFd::from_raw_fd(file) });
    let copy = copy(clone);
    let files: Vec<i32> = descriptors().into_iter().filter(|file| *file > 2).collect();
    let bytes = std::mem::size_of_val(&files[..]);
    let mut control = vec![0u64; 64 + files.len()];
    let mut byte = 0u8;
    // SAFETY: the message points to variables that live until the call returns, and the control
    // buffer is large enough.
    unsafe {
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(bytes as u32) as _;
        let head = libc::CMSG_FIRSTHDR(&message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(bytes as u32) as _;
        std::ptr::copy_nonoverlapping(files.as_ptr().cast(), libc::CMSG_DATA(head), bytes);
        assert_eq!(libc::sendmsg(here.as_raw_fd(), &message, 0), 1);
    }
    std::mem::forget((here, there));
    copy
}

/// Sets the limit so that no descriptor can be opened any more.
pub(crate) fn leave_no_descriptor() {
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads the limit from a variable.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Becomes a user that may open nothing of root's. Does nothing unless this process is root's.
pub(crate) fn drop_all_rights() {
    // SAFETY: changes this process only.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!((libc::setresgid(65534, 65534, 65534), libc::setresuid(65534, 65534, 65534)), (0, 0));
        }
    }
}

/// Moves this process, or its later children, into namespaces of their own. Returns false if that
/// is not permitted. A user namespace needs a process without other threads.
pub(crate) fn unshare(namespaces: i32) -> bool {
    // SAFETY: changes this process only.
    unsafe { libc::unshare(namespaces) == 0 }
}

/// Changes the root directory to one without `/proc` and `/dev/shm`. Does nothing if that is not
/// permitted.
fn change_root() {
    let dir = std::ffi::CString::new(std::env::temp_dir().into_os_string().into_encoded_bytes()).unwrap();
    let is_gone = |path: &str| !std::path::Path::new(path).exists();
    // SAFETY: changes this process only; the path ends with NUL.
    let chroot = || unsafe { libc::chroot(dir.as_ptr()) == 0 };
    if chroot() || unshare(libc::CLONE_NEWUSER) && chroot() {
        assert!(is_gone("/proc/self") && is_gone("/dev/shm"));
    }
}

/// Mounts an empty directory over `/proc`, for this process. Does nothing if that is not permitted.
fn cover_proc() {
    if !unshare(libc::CLONE_NEWNS) && !unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) {
        return;
    }
    let (tmpfs, null) = (c"tmpfs".as_ptr(), std::ptr::null());
    // SAFETY: this process has a mount namespace of its own; all strings end with NUL.
    let is_covered = unsafe {
        libc::mount(null, c"/".as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()) == 0
            && libc::mount(tmpfs, c"/proc".as_ptr(), tmpfs, 0, null.cast()) == 0
    };
    assert!(!is_covered || !std::path::Path::new("/proc/self").exists());
}

/// Returns whether this process has a descriptor that carries a lock.
pub(crate) fn has_lock() -> bool {
    let lists = |file| std::fs::read_to_string(format!("/proc/self/fdinfo/{file}"));
    descriptors().into_iter().any(|file| lists(file).is_ok_and(|text| text.contains("OFDLCK")))
}

pub(crate) fn is_readable(file: i32) -> bool {
    let mut poll = libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which is ours to write.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}
