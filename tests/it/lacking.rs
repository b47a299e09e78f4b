//! What the kernel, the file system or a sandbox lacks: the error is `Unsupported` and names it, or
//! the library does without it.
//!
//! A seccomp filter answers one system call of a child with one error.

use pagemate::{ErrorKind, Event, Place, Result};

use crate::support::forked::Forked;

/// A condition on a system call: its number, and a mask of an argument's low 32 bits.
struct Refused {
    number: i64,
    argument: u32,
    mask: i32,
    /// Whether the call is refused if a bit of the mask is set, or if none is.
    is_set: bool,
    errno: i32,
}

/// Answers such calls with the error from now on, in this process.
fn refuse(call: &Refused) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let (equal, any_bit) = (libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_JMP | libc::BPF_JSET);
    let answer = |action: u32| statement(libc::BPF_RET, action);
    let (if_set, if_clear) = if call.is_set { (0, 1) } else { (1, 0) };
    let mut filter = [
        load(0),
        jump(equal, call.number as u32, 0, 3),
        load(16 + 8 * call.argument),
        jump(any_bit, call.mask as u32, if_set, if_clear),
        answer(libc::SECCOMP_RET_ERRNO | call.errno as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: changes this process only; the program outlives the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(libc::syscall(libc::SYS_seccomp, set, 0, &raw const program), 0);
    }
}

/// Returns whether `make` is refused as `Unsupported` with these words, once `call` fails.
fn is_named(call: &Refused, words: &str, make: impl FnOnce() -> Result<()>) -> bool {
    let child = Forked::run(|| {
        refuse(call);
        match make() {
            Err(error) if error.kind() == ErrorKind::Unsupported && error.to_string().contains(words) => 7,
            other => {
                println!("{}, error {}: {other:?}", call.number, call.errno);
                8
            }
        }
    });
    child.wait() == 7
}

/// Every call of this number.
fn all(number: i64, errno: i32) -> Refused {
    // The first argument is a descriptor, a pointer or a command; no bit is asked for.
    Refused { number, argument: 0, mask: 0, is_set: false, errno }
}

#[test]
fn a_file_system_without_unnamed_files() {
    // With O_DIRECTORY, which other calls have too, O_TMPFILE is one bit more.
    let tmpfile = libc::O_TMPFILE & !libc::O_DIRECTORY;
    for errno in [libc::EINVAL, libc::EISDIR, libc::ENOSYS, libc::EOPNOTSUPP] {
        let call = Refused { number: libc::SYS_openat, argument: 2, mask: tmpfile, is_set: true, errno };
        let name = format!("test-lacking-file-{}-{errno}", std::process::id());
        assert!(is_named(&call, "O_TMPFILE", || Event::create(name.as_str()).map(drop)), "{errno}");
        assert!(!std::path::Path::new("/dev/shm").join(format!("pagemate.{name}")).exists());
    }
}

#[test]
fn a_file_system_without_fallocate() {
    for errno in [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP] {
        let call = all(libc::SYS_fallocate, errno);
        assert!(is_named(&call, "fallocate", || Event::new().map(drop)), "{errno}");
        let name = format!("test-lacking-room-{}-{errno}", std::process::id());
        assert!(is_named(&call, "fallocate", || Event::create(name.as_str()).map(drop)), "{errno}");
        let place = Place::from(name.as_str());
        assert_eq!(place.remove().unwrap_err().kind(), ErrorKind::NotFound, "{errno}");
    }
}

#[test]
fn a_file_system_without_locks() {
    for errno in [libc::EINVAL, libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP] {
        // Of all commands of `fcntl` that the library uses, those for locks have this bit: F_OFD_GETLK,
        // F_OFD_SETLK and F_OFD_SETLKW are 36 to 38, F_DUPFD_CLOEXEC is 1030.
        let call = Refused { number: libc::SYS_fcntl, argument: 1, mask: 32, is_set: true, errno };
        assert!(is_named(&call, "open-file-description locks", || Event::new().map(drop)), "{errno}");
    }
}

#[test]
fn a_kernel_without_memfds() {
    let call = all(libc::SYS_memfd_create, libc::ENOSYS);
    assert!(is_named(&call, "memfd_create", || Event::new().map(drop)));
}

/// An old kernel does not know the flag that a hardened one demands.
#[test]
fn a_memfd_is_not_executable_where_the_kernel_can_refuse_that() {
    const NOEXEC_SEAL: i32 = 8;
    let memfd = |is_set: bool, errno: i32| {
        let number = libc::SYS_memfd_create;
        Refused { number, argument: 1, mask: NOEXEC_SEAL, is_set, errno }
    };
    for call in [memfd(true, libc::EINVAL), memfd(false, libc::EACCES)] {
        let child = Forked::run(|| {
            refuse(&call);
            Event::new().unwrap().set();
            7
        });
        assert_eq!(child.wait(), 7, "flag {}, error {}", call.is_set, call.errno);
    }
}
