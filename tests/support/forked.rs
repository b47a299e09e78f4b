//! A child made by `fork`, which runs a closure. Its test kills it or waits for it.

#![allow(dead_code)]

pub(crate) struct Forked(libc::pid_t);

impl Forked {
    pub(crate) fn run(body: impl FnOnce() -> i32) -> Forked {
        // SAFETY: the child runs `body`, which takes no lock that another thread of the test may
        // hold except the allocator's, which glibc hands over consistently, and ends without
        // unwinding into the harness.
        match unsafe { libc::fork() } {
            0 => {
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(99);
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(code) }
            }
            pid => Forked(pid),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Sends a signal, such as SIGSTOP or SIGCONT. A stop has happened when this returns.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the pid is our child's, which has not been waited for.
        unsafe { libc::kill(self.0, signal) };
        if signal == libc::SIGSTOP {
            // SAFETY: as above; a null status is allowed.
            unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::WUNTRACED) };
        }
    }

    /// Returns whether the child has not ended. It can still be waited for.
    pub(crate) fn is_running(&self) -> bool {
        // SAFETY: the pid is our child's, and the information is written to this variable. Zero
        // bytes are valid, and mean that no child has ended.
        unsafe {
            let mut ended: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.0 as u32, &mut ended, options) == 0 && ended.si_pid() == 0
        }
    }

    /// Waits for the end. Returns the exit code, or 0 after a signal.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: the pid is our child's, and status is ours to write.
        unsafe { libc::waitpid(self.0, &mut status, 0) };
        libc::WEXITSTATUS(status)
    }
}
