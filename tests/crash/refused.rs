//! Tests the harness where it must not trace: runs it under a filter that refuses `ptrace`.

use std::io::Read;
use std::os::fd::FromRawFd;

use super::schedule;
use super::Recipe;

/// Checks that a run without `ptrace` fails with a message, and passes if `PTRACE_MAY_BE_MISSING`
/// is set.
pub fn check_without_ptrace(recipe: fn() -> Recipe) -> Result<(), String> {
    for is_expected in [false, true] {
        let (code, text) = run_without_ptrace(recipe, is_expected);
        if (code == 0) != is_expected || !text.contains("SKIPPED LOUDLY") {
            return Err(format!("expected: {is_expected}, exit code {code}, printed {text:?}"));
        }
    }
    Ok(())
}

fn run_without_ptrace(recipe: fn() -> Recipe, is_expected: bool) -> (i32, String) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: this process has one thread, so the child is a whole copy.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(ends[1], 1) };
        // SAFETY: this program has one thread.
        unsafe {
            if is_expected {
                std::env::set_var("PTRACE_MAY_BE_MISSING", "1");
            } else {
                std::env::remove_var("PTRACE_MAY_BE_MISSING");
            }
        }
        refuse_ptrace();
        schedule::run(vec![recipe()]);
    }
    let mut text = String::new();
    // SAFETY: the first end is ours, used nowhere else, and the second only by the child from here
    // on.
    let mut output = unsafe {
        libc::close(ends[1]);
        std::fs::File::from_raw_fd(ends[0])
    };
    let _ = output.read_to_string(&mut text);
    let mut status = 0;
    // SAFETY: the pid is our child's, and status is ours to write.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    (if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }, text)
}

/// Makes `ptrace` fail with EPERM in this process and its children.
fn refuse_ptrace() {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut lines = [
        line(LOAD_NUMBER, 0, 0),
        line(IF_EQUAL, 1, libc::SYS_ptrace as u32),
        line(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        line(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the program and its lines live until the kernel has copied them; the first call takes
    // no pointers.
    let is_set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    assert!(is_set, "this kernel has no filters for system calls");
}
