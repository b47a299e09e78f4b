//! The error of joining a child.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::{Error, ErrorKind};

/// The reason why [`join`](crate::Process::join) has no result: the child panicked, ended
/// otherwise, or has not ended yet.
///
/// The text says everything: the child's name and pid, and its panic message, exit code or signal.
/// `Debug` prints the same sentence, because that is what `unwrap` and a failing `main` show.
pub struct JoinError(Box<Inner>);

struct Inner {
    name: String,
    pid: u32,
    cause: Cause,
}

/// The reasons why joining has no result.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The child had not ended when the time was over.
    Running,
    /// The child panicked, with this message.
    Panicked(String, ExitStatus),
    /// The child ended without a result, or in another way than its answer says.
    Ended(ExitStatus),
    /// The child could not read its arguments or send its result, or the result is invalid.
    Failed(String, Option<ExitStatus>),
    /// Something else took the exit status, and there is no result.
    Unknown,
    /// The result was taken before.
    Taken,
    /// This process is not the one that started the child.
    Elsewhere,
    /// Waiting itself failed.
    Wait(Error),
}

impl JoinError {
    #[cold]
    pub(crate) fn new(name: &str, pid: u32, cause: Cause) -> JoinError {
        JoinError(Box::new(Inner { name: name.to_owned(), pid, cause }))
    }

    /// Returns the child's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the child's process id.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Returns whether the child has not ended yet. It can be joined again.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, Cause::Running)
    }

    /// Returns the message of the child's panic, with its location.
    pub fn panic_message(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Panicked(message, _) => Some(message),
            _ => None,
        }
    }

    /// Returns how the child ended, if that is known. Its exit code is 101 after a panic.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.0.cause {
            Cause::Panicked(_, status) | Cause::Ended(status) => Some(*status),
            Cause::Failed(_, status) => *status,
            _ => None,
        }
    }

    /// Returns the child's exit code, unless a signal ended it.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_status()?.code()
    }

    /// Returns the signal that ended the child.
    pub fn signal(&self) -> Option<i32> {
        self.exit_status()?.signal()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, pid, cause } = &*self.0;
        write!(f, "child {name:?} (pid {pid}) ")?;
        match cause {
            Cause::Running => f.write_str("is still running"),
            Cause::Panicked(message, _) => write!(f, "panicked: {message}"),
            Cause::Ended(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with exit code {code} and without a result"),
                (None, Some(_)) => write!(f, "was ended by {status}"),
                (None, None) => write!(f, "ended: {status}"),
            },
            Cause::Failed(text, _) => write!(f, "failed: {text}"),
            Cause::Unknown => f.write_str(
                "ended without a result, and in an unknown way: something else in this program took its exit \
                 status (a waitpid(-1), or SIGCHLD being ignored)",
            ),
            Cause::Taken => f.write_str("was joined before, and its result taken"),
            Cause::Elsewhere => {
                f.write_str("can be joined only by the process that started it, not by a fork of it")
            }
            Cause::Wait(error) => write!(f, "cannot be waited for: {error}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Wait(error) => Some(error),
            _ => None,
        }
    }
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Error {
        let kind = match error.0.cause {
            Cause::Running => ErrorKind::TimedOut,
            Cause::Elsewhere => ErrorKind::NotInThisProcess,
            Cause::Taken => ErrorKind::InvalidInput,
            Cause::Wait(_) => ErrorKind::System,
            Cause::Panicked(..) | Cause::Ended(_) | Cause::Failed(..) | Cause::Unknown => {
                ErrorKind::ChildFailed
            }
        };
        Error::new(kind, error.to_string())
    }
}
