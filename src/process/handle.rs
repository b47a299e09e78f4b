//! The handle of a child: name, liveness, signals, and result.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::process::argument::Argument;
use crate::process::children;
use crate::process::children::Child;
use crate::process::codec::Unpacker;
use crate::process::handshake::{Answer, SpawnMemfd};
use crate::process::join::{Cause, JoinError};
use crate::sys::clock::Deadline;
use crate::sys::process::{end, has_ended, Ended};
use crate::{Error, ErrorKind, Result};

/// Exit code after a panic, as of any Rust program.
pub(crate) const PANICKED: i32 = 101;

/// A child process that runs a function of this program and returns an `R`.
///
/// Dropping the handle ends nothing. The child runs on (a daemon until its parent ends), and is
/// reaped in the background, so that it leaves no zombie.
///
/// # Examples
///
/// Call `init` first in `main`, because the child starts in `main` too. In the child it does not
/// return.
///
/// ```
/// use pagemate::Process;
///
/// fn add((a, b): (u64, u64)) -> u64 {
///     a + b
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     pagemate::init();
///     let child = Process::spawn(add, (1, 2))?;
///     println!("{} runs as {}", child.name(), child.pid());
///     assert_eq!(child.join()?, 3);
///     Ok(())
/// }
/// ```
///
/// Closures work if they capture nothing; pass what they need as arguments.
///
/// ```
/// # use pagemate::Process;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// let greeting = String::from("hello");
/// let child = Process::spawn(|(greeting, n): (String, usize)| greeting.repeat(n), (greeting, 2))?;
/// assert_eq!(child.join()?, "hellohello");
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail
/// # use pagemate::Process;
/// # pagemate::init();
/// let n = 5_u64;
/// let child = Process::spawn(move |()| n, ()); // captures n
/// ```
///
/// A result cannot contain handles:
///
/// ```compile_fail
/// # use pagemate::{Event, Process};
/// # pagemate::init();
/// let child = Process::spawn(|event: Event| event, Event::new().unwrap());
/// ```
///
/// The error of a failed child says how it failed:
///
/// ```
/// # use pagemate::Process;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// let child = Process::builder().name("sorter").spawn(|list: Vec<u32>| list[7], vec![1, 2, 3])?;
/// let error = child.join().unwrap_err();
/// assert_eq!(error.exit_code(), Some(101));
/// assert!(error.to_string().contains("index out of bounds: the len is 3 but the index is 7"), "{error}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the handle does not end the child, but nobody will see its result"]
pub struct Process<R = ()> {
    child: Arc<Child>,
    memfd: Option<SpawnMemfd>,
    result: PhantomData<fn() -> R>,
}

impl<R: Argument> Process<R> {
    pub(crate) fn new(child: Arc<Child>, memfd: SpawnMemfd) -> Process<R> {
        Process { child, memfd: Some(memfd), result: PhantomData }
    }

    /// Blocks until the child has ended, and returns the result of its function.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: the child panicked, called `exit`, was ended by a signal, ...
    pub fn join(mut self) -> Result<R, JoinError> {
        self.finish(Deadline::Never)
    }

    /// Returns the result if the child has ended, without blocking.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Process::join_timeout).
    pub fn try_join(&mut self) -> Result<R, JoinError> {
        self.finish(Deadline::At(0))
    }

    /// Blocks until the child has ended, for `timeout` at most, and returns the result.
    ///
    /// # Errors
    ///
    /// As [`join`](Process::join); and an error for which [`is_timeout`](JoinError::is_timeout) is
    /// true, after which the child runs on and can be joined again.
    ///
    /// ```
    /// # use pagemate::{Event, Process};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// #     pagemate::init();
    /// let go = Event::new()?;
    /// let mut child = Process::spawn(|go: Event| go.wait(), go.clone())?;
    /// assert!(child.join_timeout(Duration::from_millis(10)).unwrap_err().is_timeout());
    /// go.set();
    /// assert!(child.join()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<R, JoinError> {
        self.finish(Deadline::after(timeout))
    }

    /// Like [`join_timeout`](Process::join_timeout), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Process::join_timeout).
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<R, JoinError> {
        self.finish(Deadline::at(deadline))
    }

    fn finish(&mut self, deadline: Deadline) -> Result<R, JoinError> {
        let error = |cause| JoinError::new(&self.child.name, self.child.pid, cause);
        if !self.is_own() {
            return Err(error(Cause::Elsewhere));
        }
        let ended = match self.child.wait(deadline) {
            Ok(Some(ended)) => ended,
            Ok(None) => return Err(error(Cause::Running)),
            Err(cause) => return Err(error(Cause::Wait(cause))),
        };
        children::forget(&self.child);
        let Some(memfd) = self.memfd.take() else { return Err(error(Cause::Taken)) };
        result(&memfd, ended).map_err(error)
    }
}

/// Returns the result that an ended child left.
fn result<R: Argument>(memfd: &SpawnMemfd, ended: Ended) -> Result<R, Cause> {
    let status = match ended {
        Ended::Status(status) => Some(status),
        Ended::Unknown => None,
    };
    let well = status.is_none_or(|status| status.success());
    let answer = memfd.read_answer().map_err(|error| Cause::Failed(error.to_string(), status))?;
    match (answer, status) {
        (Some((Answer::Value, bytes)), _) if well => {
            let mut input = Unpacker::new(&bytes);
            let value = R::unpack(&mut input).and_then(|value| input.finish().map(|()| value));
            value.map_err(|error| Cause::Failed(format!("its result cannot be used: {error}"), status))
        }
        (Some((Answer::Failure, text)), _) => {
            Err(Cause::Failed(String::from_utf8_lossy(&text).into_owned(), status))
        }
        // A panic that was caught did not end the child.
        (Some((Answer::Panic, text)), Some(status)) if may_have_panicked(status) => {
            Err(Cause::Panicked(String::from_utf8_lossy(&text).into_owned(), status))
        }
        (_, Some(status)) => Err(Cause::Ended(status)),
        (_, None) => Err(Cause::Unknown),
    }
}

/// Returns whether this may be the end of a panic: with `panic = "abort"` it is SIGABRT.
fn may_have_panicked(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.code() == Some(PANICKED) || status.signal() == Some(libc::SIGABRT)
}

impl<R> Process<R> {
    /// Returns its name: the chosen one, or `Process-N`.
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// Returns its process id, which may be that of another process once the child has been joined.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Returns whether it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.child.daemon
    }

    /// Returns whether it has not ended. It may end the moment after.
    pub fn is_alive(&self) -> bool {
        match self.is_own() {
            true => self.child.reap().is_none(),
            false => !self.child.pidfd().is_some_and(has_ended),
        }
    }

    /// Returns its exit code or signal; `None` while it runs, and if something else in this program
    /// took the status.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.is_own().then(|| self.child.status())?
    }

    /// Asks it to end (SIGTERM). Does nothing if it has ended already.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`: the child has changed its user.
    pub fn terminate(&self) -> Result<()> {
        self.end(false)
    }

    /// Ends it immediately (SIGKILL), even if it is stopped. Does nothing if it has ended already.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`: the child has changed its user.
    pub fn kill(&self) -> Result<()> {
        self.end(true)
    }

    fn end(&self, at_once: bool) -> Result<()> {
        let pidfd = self.child.pidfd();
        if pidfd.is_none() {
            if !self.is_own() {
                return Err(Error::system(
                    "cannot send a signal to the child: this program has closed the \
                     descriptor that it is known by",
                    rustix::io::Errno::BADF,
                ));
            }
            if self.child.reap().is_some() {
                return Ok(()); // its pid may be another's by now
            }
        }
        end(pidfd, self.child.pid, at_once).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => error,
            _ => Error::new(ErrorKind::System, error.to_string()),
        })
    }

    /// Returns the child itself, to be watched while the handle is elsewhere.
    pub(crate) fn child(&self) -> &Arc<Child> {
        &self.child
    }

    /// Returns whether this process started the child, and is not a fork of the one that did.
    fn is_own(&self) -> bool {
        self.child.parent == std::process::id()
    }
}

/// The child's pidfd: a descriptor that becomes readable when the child has ended, for `poll`,
/// `epoll` and event loops.
impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.raw_pidfd()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if self.is_own() {
            children::leave(self.child.clone());
        }
    }
}
