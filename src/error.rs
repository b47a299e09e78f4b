//! One error type for the cold paths: what went wrong, with what, and what to do.
//!
//! Creating, opening, spawning and joining fail for many reasons, and a caller can act on few of them. So there is one
//! opaque [`Error`]: [`Error::kind`] is what a program branches on, and the text says the rest in a sentence. Hot paths
//! (send, receive, lock) have small enums of their own that give the value back.

use std::fmt;

/// What kind of thing went wrong. More kinds may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, a size or an option that can never work.
    InvalidInput,
    /// Nothing is there under this name.
    NotFound,
    /// Something is there under this name already.
    AlreadyExists,
    /// Another process is creating or removing this very thing and did not finish in time.
    Busy,
    /// The operating system does not permit it.
    PermissionDenied,
    /// The object is of another kind, or its messages have another layout.
    TypeMismatch,
    /// The memory was laid out by another version of pagemate.
    VersionMismatch,
    /// The bytes are not what pagemate wrote: truncated, overwritten, or never a segment.
    Corrupted,
    /// No room: the shared-memory file system, the segment or its table of participants is full.
    OutOfMemory,
    /// The role (producer, consumer, end of a pipe) is taken by somebody alive.
    RoleTaken,
    /// The other side has closed or died.
    Closed,
    /// A process died while it held the lock.
    OwnerDied,
    /// A thread panicked while it held the lock.
    Poisoned,
    /// The barrier is broken.
    Broken,
    /// The deadline has passed.
    TimedOut,
    /// The handle cannot be used in this process (after a `fork`).
    NotInThisProcess,
    /// `pagemate::init()` has not been called in this program.
    NotInitialised,
    /// A child process ended without giving a result.
    ChildFailed,
    /// The kernel or the file system lacks something that pagemate needs.
    Unsupported,
    /// Any other failure of a system call.
    System,
}

/// What went wrong, in one sentence, with its cause.
///
/// Opaque on purpose: its text and its causes may grow without breaking anybody. Branch on [`Error::kind`].
///
/// `Debug` prints the same sentence, since that is what `unwrap` and a failing `main` show.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    cause: Option<std::io::Error>,
}

impl Error {
    /// An error with its sentence.
    #[cold]
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, text: text.into(), cause: None }))
    }

    /// A failed system call: `what` says what was tried, with which name. The kind follows from the errno.
    #[cold]
    pub(crate) fn system(what: impl Into<String>, cause: impl Into<std::io::Error>) -> Error {
        use std::io::ErrorKind as Io;
        let cause = cause.into();
        let kind = match cause.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied => ErrorKind::PermissionDenied,
            Io::StorageFull | Io::OutOfMemory | Io::QuotaExceeded | Io::FileTooLarge => {
                ErrorKind::OutOfMemory
            }
            Io::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        Error(Box::new(Inner { kind, text: what.into(), cause: Some(cause) }))
    }

    /// What kind of thing went wrong: the part that a program can branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        let kind = match error.kind() {
            ErrorKind::InvalidInput => std::io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => std::io::ErrorKind::NotFound,
            ErrorKind::AlreadyExists => std::io::ErrorKind::AlreadyExists,
            ErrorKind::PermissionDenied => std::io::ErrorKind::PermissionDenied,
            ErrorKind::TimedOut => std::io::ErrorKind::TimedOut,
            ErrorKind::OutOfMemory => std::io::ErrorKind::OutOfMemory,
            ErrorKind::Corrupted => std::io::ErrorKind::InvalidData,
            ErrorKind::Closed => std::io::ErrorKind::BrokenPipe,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}
