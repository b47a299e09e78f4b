//! The handle of a child: what it is called, whether it lives, ending it, and its result.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::process::argument::Argument;
use crate::process::envelope::{Answer, Envelope};
use crate::process::join::{JoinError, Why};
use crate::process::packer::Unpacker;
use crate::process::registry::{self, Child};
use crate::sys::clock::Deadline;
use crate::sys::process::{end, has_ended, wait_for_end, Ended};
use crate::{Error, ErrorKind, Result};

/// Exit code after a panic, as of any Rust program.
pub(crate) const PANICKED: i32 = 101;

/// A child process, which runs a function of this program and gives an `R`.
///
/// Dropping the handle ends nothing: the child runs on (a daemon as long as its parent), and is waited for in the
/// background, so that it leaves no zombie.
///
/// # Examples
///
/// `init` comes first in `main`, because the child comes there too. It does not return in the child.
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
/// Closures work if they capture nothing; what they need goes through the arguments.
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
/// A result cannot hold handles:
///
/// ```compile_fail
/// # use pagemate::{Event, Process};
/// # pagemate::init();
/// let child = Process::spawn(|event: Event| event, Event::new().unwrap());
/// ```
///
/// A child that fails says how:
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
    envelope: Option<Envelope>,
    result: PhantomData<fn() -> R>,
}

impl<R: Argument> Process<R> {
    pub(crate) fn new(child: Arc<Child>, envelope: Envelope) -> Process<R> {
        Process { child, envelope: Some(envelope), result: PhantomData }
    }

    /// Blocks until the child has ended; gives what its function returned.
    ///
    /// # Errors
    ///
    /// The child panicked, called `exit`, was ended by a signal ... See [`JoinError`].
    pub fn join(mut self) -> Result<R, JoinError> {
        self.finish(Deadline::Never)
    }

    /// The result if the child has ended, without blocking.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Process::join_timeout).
    pub fn try_join(&mut self) -> Result<R, JoinError> {
        self.finish(Deadline::At(0))
    }

    /// Blocks for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`join`](Process::join); and an error of which [`is_timeout`](JoinError::is_timeout) is true, after which the
    /// child runs on and can be joined again.
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

    /// Blocks until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Process::join_timeout).
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<R, JoinError> {
        self.finish(Deadline::at(deadline))
    }

    fn finish(&mut self, deadline: Deadline) -> Result<R, JoinError> {
        let error = |why| JoinError::new(&self.child.name, self.child.pid, why);
        if !self.is_own() {
            return Err(error(Why::Elsewhere));
        }
        let ended = loop {
            match wait_for_end(self.child.pidfd(), deadline) {
                Ok(true) => {}
                Ok(false) => return Err(error(Why::Running)),
                Err(cause) => return Err(error(Why::Wait(cause))),
            }
            if let Some(ended) = self.child.reap() {
                break ended;
            }
        };
        registry::forget(&self.child);
        let Some(envelope) = self.envelope.take() else { return Err(error(Why::Taken)) };
        result(&envelope, ended).map_err(error)
    }
}

/// What an ended child left.
fn result<R: Argument>(envelope: &Envelope, ended: Ended) -> Result<R, Why> {
    let status = match ended {
        Ended::Status(status) => Some(status),
        Ended::Unknown => None,
    };
    let well = status.is_none_or(|status| status.success());
    let answer = envelope.read_answer().map_err(|error| Why::Failed(error.to_string(), status))?;
    match (answer, status) {
        (Some((Answer::Value, bytes)), _) if well => {
            let mut input = Unpacker::new(&bytes);
            let value = R::unpack(&mut input).and_then(|value| input.finish().map(|()| value));
            value.map_err(|error| Why::Failed(format!("its result cannot be used: {error}"), status))
        }
        (Some((Answer::Failure, text)), _) => {
            Err(Why::Failed(String::from_utf8_lossy(&text).into_owned(), status))
        }
        // A panic that was caught is not how it ended.
        (Some((Answer::Panic, text)), Some(status)) if may_have_panicked(status) => {
            Err(Why::Panicked(String::from_utf8_lossy(&text).into_owned(), status))
        }
        (_, Some(status)) => Err(Why::Ended(status)),
        (_, None) => Err(Why::Unknown),
    }
}

/// With `panic = "abort"` a panic ends in SIGABRT.
fn may_have_panicked(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.code() == Some(PANICKED) || status.signal() == Some(libc::SIGABRT)
}

impl<R> Process<R> {
    /// Its name: as given, or `Process-N`.
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// Its process id. May mean another process once it has been joined.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Whether it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.child.daemon
    }

    /// Whether it has not ended: may end the moment after.
    pub fn is_alive(&self) -> bool {
        match self.is_own() {
            true => self.child.reap().is_none(),
            false => !has_ended(self.child.pidfd()),
        }
    }

    /// How it ended: exit code or signal. `None` while it runs, and if something else in this program took the status.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.is_own().then(|| self.child.status())?
    }

    /// Asks it to end (SIGTERM). No error if it has ended already.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`: it has changed its user.
    pub fn terminate(&self) -> Result<()> {
        self.end(false)
    }

    /// Ends it at once (SIGKILL), also if it is stopped. No error if it has ended already.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`: it has changed its user.
    pub fn kill(&self) -> Result<()> {
        self.end(true)
    }

    fn end(&self, at_once: bool) -> Result<()> {
        end(self.child.pidfd(), at_once).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => error,
            _ => Error::new(ErrorKind::System, error.to_string()),
        })
    }

    /// A descriptor that becomes readable when the child has ended: for `poll`, `epoll` and event loops. It is its pidfd.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// The child itself, to look at while the handle is elsewhere.
    pub(crate) fn child(&self) -> &Arc<Child> {
        &self.child
    }

    /// Whether this process started it, and is not a fork of the one that did.
    fn is_own(&self) -> bool {
        self.child.parent == std::process::id()
    }
}

impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if self.is_own() {
            registry::leave(self.child.clone());
        }
    }
}
