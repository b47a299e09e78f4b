//! Why a child gave no result.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::{Error, ErrorKind};

/// Why [`join`](crate::Process::join) has no result: the child panicked, ended otherwise, or has not ended yet.
///
/// The text says all of it: the child's name and pid, and its panic message, exit code or signal.
///
/// `Debug` prints the same sentence, since that is what `unwrap` and a failing `main` show.
pub struct JoinError(Box<Inner>);

struct Inner {
    name: String,
    pid: u32,
    why: Why,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Why {
    /// It had not ended when the time was over.
    Running,
    Panicked(String, ExitStatus),
    /// It ended without a result, or not as one that has given a result does.
    Ended(ExitStatus),
    /// It could not read its arguments or send its result; or the result makes no sense.
    Failed(String, Option<ExitStatus>),
    /// Somebody else took its exit status, and it gave no result.
    Unknown,
    /// The result was taken before.
    Taken,
    /// This process is not the one that started it.
    Elsewhere,
    /// Waiting itself failed.
    Wait(Error),
}

impl JoinError {
    #[cold]
    pub(crate) fn new(name: &str, pid: u32, why: Why) -> JoinError {
        JoinError(Box::new(Inner { name: name.to_owned(), pid, why }))
    }

    /// The child's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Whether the child simply has not ended yet: the time was over. It can be joined again.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.why, Why::Running)
    }

    /// What it panicked with: the message, and where.
    pub fn panic_message(&self) -> Option<&str> {
        match &self.0.why {
            Why::Panicked(message, _) => Some(message),
            _ => None,
        }
    }

    /// How it ended, if that is known: its exit code is 101 after a panic.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.0.why {
            Why::Panicked(_, status) | Why::Ended(status) => Some(*status),
            Why::Failed(_, status) => *status,
            _ => None,
        }
    }

    /// Its exit code, unless a signal ended it.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_status()?.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.exit_status()?.signal()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, pid, why } = &*self.0;
        write!(f, "child {name:?} (pid {pid}) ")?;
        match why {
            Why::Running => f.write_str("is still running"),
            Why::Panicked(message, _) => write!(f, "panicked: {message}"),
            Why::Ended(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with exit code {code} and without a result"),
                (None, Some(_)) => write!(f, "was ended by {status}"),
                (None, None) => write!(f, "ended: {status}"),
            },
            Why::Failed(text, _) => write!(f, "failed: {text}"),
            Why::Unknown => f.write_str(
                "ended without a result, and how is unknown: something else in this program took its exit status (a \
                 waitpid(-1), or SIGCHLD being ignored)",
            ),
            Why::Taken => f.write_str("was joined before, and its result taken"),
            Why::Elsewhere => {
                f.write_str("can be joined only by the process that started it, not by a fork of that")
            }
            Why::Wait(error) => write!(f, "cannot be waited for: {error}"),
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
        match &self.0.why {
            Why::Wait(error) => Some(error),
            _ => None,
        }
    }
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Error {
        let kind = match error.0.why {
            Why::Running => ErrorKind::TimedOut,
            Why::Elsewhere => ErrorKind::NotInThisProcess,
            Why::Taken => ErrorKind::InvalidInput,
            Why::Wait(_) => ErrorKind::System,
            Why::Panicked(..) | Why::Ended(_) | Why::Failed(..) | Why::Unknown => ErrorKind::ChildFailed,
        };
        Error::new(kind, error.to_string())
    }
}
