//! The errors that the kernel may return, by system call.

use libc::*;

/// A system call that can fail.
#[derive(Debug)]
pub struct Call {
    pub number: i64,
    pub name: &'static str,
    pub errors: &'static [i32],
}

const fn call(number: i64, name: &'static str, errors: &'static [i32]) -> Call {
    Call { number, name, errors }
}

const OPEN: &[i32] =
    &[EACCES, EINTR, EINVAL, EISDIR, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, EPERM, EOPNOTSUPP, EROFS];
const NEW_FILE: &[i32] = &[EMFILE, ENFILE, ENOMEM];
const START: &[i32] = &[EAGAIN, ENOMEM, EPERM];
const STATUS: &[i32] = &[EACCES, ENOENT, ENOMEM, EIO];

/// All calls that a scene can make and whose failure the library must handle. The list leaves out
/// calls that cannot fail with valid arguments (`getpid`, `rt_sigprocmask`, `clock_gettime` ...)
/// and those of the allocator, whose failure ends a Rust program by design: `brk` and anonymous
/// private mappings.
pub const CALLS: &[Call] = &[
    call(SYS_read, "read", &[EINTR, EIO]),
    call(SYS_write, "write", &[EINTR, EIO, ENOSPC]),
    call(SYS_open, "open", OPEN),
    call(SYS_stat, "stat", STATUS),
    call(SYS_fstat, "fstat", &[EIO, ENOMEM]),
    call(SYS_poll, "poll", &[EINTR, ENOMEM]),
    call(SYS_mmap, "mmap", &[EACCES, EAGAIN, ENFILE, ENODEV, ENOMEM, EPERM]),
    call(SYS_mprotect, "mprotect", &[EACCES, ENOMEM]),
    call(SYS_munmap, "munmap", &[ENOMEM]),
    call(SYS_ioctl, "ioctl", &[EINVAL, ENOTTY]),
    call(SYS_pread64, "pread64", &[EINTR, EIO]),
    call(SYS_pwrite64, "pwrite64", &[EINTR, EIO, ENOSPC]),
    call(SYS_readv, "readv", &[EINTR, EIO]),
    call(SYS_writev, "writev", &[EINTR, EIO, ENOSPC]),
    call(SYS_access, "access", STATUS),
    call(SYS_madvise, "madvise", &[EAGAIN, EINVAL, ENOMEM]),
    call(SYS_dup, "dup", NEW_FILE),
    call(SYS_socket, "socket", NEW_FILE),
    call(SYS_clone, "clone", START),
    call(SYS_fork, "fork", START),
    call(SYS_vfork, "vfork", START),
    call(SYS_wait4, "wait4", &[ECHILD, EINTR]),
    call(SYS_kill, "kill", &[EPERM, ESRCH]),
    call(SYS_fcntl, "fcntl", &[EAGAIN, EINTR, EINVAL, EMFILE, ENOLCK]),
    call(SYS_flock, "flock", &[EINTR, ENOLCK]),
    call(SYS_fsync, "fsync", &[EIO]),
    call(SYS_ftruncate, "ftruncate", &[EFBIG, EINTR, EINVAL, EIO, ENOSPC, EPERM]),
    call(SYS_rename, "rename", &[EACCES, ENOENT, ENOSPC]),
    call(SYS_unlink, "unlink", &[EACCES, EIO, ENOENT, EPERM, EROFS]),
    call(SYS_readlink, "readlink", &[EACCES, ENOENT, ENOMEM]),
    call(SYS_fchmod, "fchmod", &[EIO, EPERM, EROFS]),
    call(SYS_statfs, "statfs", &[EINTR, ENOSYS]),
    call(SYS_fstatfs, "fstatfs", &[EINTR, ENOSYS]),
    call(SYS_mlock, "mlock", &[EAGAIN, ENOMEM, EPERM]),
    call(SYS_prctl, "prctl", &[EINVAL, EPERM]),
    call(SYS_futex, "futex", &[EAGAIN, EINTR]),
    call(SYS_sched_getaffinity, "sched_getaffinity", &[EINVAL, EPERM]),
    call(SYS_getdents64, "getdents64", &[EIO, ENOENT]),
    call(SYS_clock_nanosleep, "clock_nanosleep", &[EINTR]),
    call(SYS_epoll_wait, "epoll_wait", &[EINTR]),
    call(SYS_waitid, "waitid", &[ECHILD, EINTR]),
    call(SYS_openat, "openat", OPEN),
    call(SYS_mkdirat, "mkdirat", &[EACCES, EEXIST, EMLINK, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS]),
    call(SYS_newfstatat, "newfstatat", STATUS),
    call(SYS_unlinkat, "unlinkat", &[EACCES, EIO, ENOENT, EPERM, EROFS]),
    call(SYS_renameat, "renameat", &[EACCES, ENOENT, ENOSPC]),
    call(SYS_linkat, "linkat", &[EACCES, EIO, EMLINK, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS, EXDEV]),
    call(SYS_readlinkat, "readlinkat", &[EACCES, ENOENT, ENOMEM]),
    call(SYS_fchmodat, "fchmodat", &[EACCES, EPERM, EROFS]),
    call(SYS_ppoll, "ppoll", &[EINTR, ENOMEM]),
    call(SYS_fallocate, "fallocate", &[EFBIG, EINTR, EINVAL, EIO, ENOMEM, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM]),
    call(SYS_eventfd2, "eventfd2", NEW_FILE),
    call(SYS_epoll_create1, "epoll_create1", NEW_FILE),
    call(SYS_epoll_ctl, "epoll_ctl", &[ENOMEM, ENOSPC]),
    call(SYS_dup3, "dup3", &[EINTR, EMFILE]),
    call(SYS_pipe2, "pipe2", NEW_FILE),
    call(SYS_prlimit64, "prlimit64", &[EPERM]),
    call(SYS_renameat2, "renameat2", &[EACCES, EINVAL, ENOENT, ENOSPC, ENOSYS, EPERM, EROFS]),
    call(SYS_getrandom, "getrandom", &[EAGAIN, EINTR, ENOSYS]),
    call(SYS_memfd_create, "memfd_create", &[EACCES, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM]),
    call(SYS_membarrier, "membarrier", &[EINVAL, ENOSYS, EPERM]),
    call(SYS_statx, "statx", &[EACCES, ENOENT, ENOMEM, ENOSYS]),
    call(SYS_pidfd_send_signal, "pidfd_send_signal", &[ENOSYS, EPERM, ESRCH]),
    call(SYS_pidfd_open, "pidfd_open", &[EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM, ESRCH]),
    call(SYS_clone3, "clone3", &[EAGAIN, ENOMEM, ENOSYS, EPERM]),
    call(SYS_close_range, "close_range", &[EINVAL, ENOSYS]),
    call(SYS_faccessat2, "faccessat2", &[EACCES, ENOENT, ENOSYS]),
    call(SYS_futex_waitv, "futex_waitv", &[EAGAIN, EINTR, ENOSYS, EPERM]),
];

/// Calls that do not fail, or whose failure has no remedy (`close` frees the descriptor whatever it
/// returns).
pub const INFALLIBLE: &[i64] = &[
    SYS_close,
    SYS_brk,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_sched_yield,
    SYS_getpid,
    SYS_gettid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_clock_gettime,
    SYS_gettimeofday,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_lseek,
    SYS_umask,
    SYS_uname,
    SYS_set_tid_address,
    SYS_exit,
    SYS_exit_group,
    SYS_execve,
];

/// The `fcntl` command that reads a number of an open file description.
const F_GETSIG: i32 = 11;

/// Returns the index in [`CALLS`] of a call that can fail, by its number, second and fourth
/// argument. Prints a line if the call is in neither list.
pub fn index_of(number: i64, second: u64, fourth: u64) -> Option<usize> {
    let second = second as i32;
    let is_allocators = |flags: i32| flags & MAP_ANONYMOUS != 0 && flags & MAP_PRIVATE != 0;
    // A wake-up cannot fail.
    let is_wake = !matches!(second & 0x7f, FUTEX_WAIT | FUTEX_WAIT_BITSET);
    let is_exempt = number == SYS_mmap && is_allocators(fourth as i32)
        || number == SYS_futex && is_wake
        || number == SYS_fcntl && matches!(second, F_GETFD | F_SETFD | F_GETFL | F_SETFL | F_GETSIG)
        || INFALLIBLE.contains(&number);
    if is_exempt {
        return None;
    }
    let found = CALLS.iter().position(|call| call.number == number);
    if found.is_none() {
        println!("the table of errors does not know system call {number}");
    }
    found
}

/// Returns the name of an error as in `errno.h`.
pub fn name_of(error: i32) -> &'static str {
    macro_rules! names {
        ($($name:ident)*) => { match error { $($name => stringify!($name),)* _ => "an unknown error" } };
    }
    names!(EACCES EAGAIN ECHILD EEXIST EFBIG EINTR EINVAL EIO EMFILE EMLINK ENFILE ENODEV ENOENT ENOLCK ENOMEM
        ENOSPC ENOSYS ENOTTY EOPNOTSUPP EPERM EROFS ESRCH EXDEV)
}
