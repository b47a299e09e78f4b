//! One error type for the cold paths: it says what failed, on which object, and what to do.
//!
//! Creating, opening, spawning and joining fail for many reasons, and a caller can act on few of
//! them. So there is one opaque [`Error`]. A program branches on [`Error::kind`]; the text says the
//! rest in one sentence. Hot paths (send, receive, lock) have small enums of their own that return
//! the value.

use std::fmt;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// The result of everything that is not a hot path.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of an [`Error`]. More kinds may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, a size or an option that can never work.
    InvalidInput,
    /// Nothing has this name.
    NotFound,
    /// Something has this name already.
    AlreadyExists,
    /// Another process is creating or removing the same object and did not finish in time.
    Busy,
    /// The operating system does not permit the operation.
    PermissionDenied,
    /// The object is of another kind, or its messages have another layout.
    TypeMismatch,
    /// The memory was laid out by another version of pagemate.
    VersionMismatch,
    /// The bytes are not what pagemate wrote: truncated, overwritten, or never a segment.
    Corrupted,
    /// The shared-memory file system, the segment or its table of participants is full.
    OutOfMemory,
    /// The role (producer, consumer, end of a pipe) belongs to a live participant.
    RoleTaken,
    /// The other side has closed or died.
    Closed,
    /// A subscriber was too slow, and messages that it had not received were overwritten.
    Lagged,
    /// A server has dropped the request of a call without an answer.
    Refused,
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
    /// A child process ended without returning a result.
    ChildFailed,
    /// The kernel, the file system or the machine lacks something that pagemate needs, for example
    /// /proc or the directory for segments.
    Unsupported,
    /// Any other failure of a system call.
    System,
}

/// A failure, described in one sentence, with its cause.
///
/// Opaque on purpose: the text and the causes may grow without breaking callers. Branch on
/// [`Error::kind`].
///
/// `Debug` prints the same sentence, since that is what `unwrap` and a failing `main` show.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    cause: Option<std::io::Error>,
}

impl Error {
    /// Creates an error with its sentence.
    #[cold]
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, text: text.into(), cause: None }))
    }

    /// Creates the error of a failed system call. `what` says what was tried, with which name. The
    /// kind follows from the errno.
    ///
    /// Only a name that the caller gave can be `NotFound`, and the code that opens such a name sets
    /// that kind itself. Anything else that is missing (/proc, the directory, /dev/null) is
    /// `Unsupported`, because waiting for it is no use.
    #[cold]
    pub(crate) fn system(what: impl Into<String>, cause: impl Into<std::io::Error>) -> Error {
        use std::io::ErrorKind as Io;
        let cause = cause.into();
        let kind = match cause.kind() {
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied => ErrorKind::PermissionDenied,
            Io::StorageFull | Io::OutOfMemory | Io::QuotaExceeded | Io::FileTooLarge => {
                ErrorKind::OutOfMemory
            }
            Io::Unsupported | Io::NotFound => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        Error(Box::new(Inner { kind, text: what.into(), cause: Some(cause) }))
    }

    /// Returns the kind: the part that a program can branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}{}", remedy(cause)),
            None => Ok(()),
        }
    }
}

/// Returns advice that does not depend on which call failed.
fn remedy(cause: &std::io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EMFILE) => "; this process may open no more files: raise `ulimit -n`",
        Some(libc::ENFILE) => "; the system may open no more files: raise `fs.file-max`",
        Some(libc::EFBIG) => "; files of this process may not be as large: raise `ulimit -f`",
        _ => "",
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

/// The reason why this process, a `fork` of another one, cannot use a handle. `Display` prints it.
///
/// It is small and `Copy`, so that the error enums of hot paths can contain it. It belongs to the
/// error that contains it: later failures, and failures in other threads, do not change it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refusal(u8);

/// A reason that was reported in this process. There are few, and each is kept for good. A
/// [`Refusal`] is the number of its reason.
struct Reason {
    kind: ErrorKind,
    sentence: String,
}

/// The number of different reasons that are kept.
const REASONS_MAX: usize = 254;
/// Reason `n` is that of `Refusal(n + 1)`. The entries are pointers and there is no lock, because a
/// forked child must not wait for a thread that it does not have.
static REASONS: [AtomicPtr<Reason>; REASONS_MAX] = [const { AtomicPtr::new(null_mut()) }; REASONS_MAX];

impl Refusal {
    /// The handle has a part that only one process can have: an end of a pipe, a claimed slot.
    pub(crate) const FORKED: Refusal = Refusal(0);
    /// Any reason that came after the table was full.
    const OTHER: Refusal = Refusal(u8::MAX);

    /// Returns the kind of the reason, as [`Error::kind`] does for other errors.
    pub fn kind(self) -> ErrorKind {
        match self.reason() {
            Some(reason) => reason.kind,
            None => ErrorKind::NotInThisProcess,
        }
    }

    /// Returns the same text as `Display`.
    pub(crate) fn sentence(self) -> &'static str {
        match self.reason() {
            Some(reason) => &reason.sentence,
            None if self == Refusal::OTHER => {
                "this forked process cannot use the handle, for a reason that could not be kept"
            }
            None => {
                "the handle belongs to the process that this one was forked from: \
                 give it to a child as an argument"
            }
        }
    }

    fn reason(self) -> Option<&'static Reason> {
        let reason = REASONS.get(usize::from(self.0).checked_sub(1)?)?.load(Acquire); // pairs with keep()

        // SAFETY: null, or from a box that was leaked and that nobody changes.
        unsafe { reason.as_ref() }
    }

    /// Keeps the reason from now on, and returns its number.
    fn keep(kind: ErrorKind, sentence: String) -> Refusal {
        let mut new: *mut Reason = null_mut();
        for (number, place) in (1..=REASONS_MAX as u8).zip(&REASONS) {
            let mut kept = place.load(Acquire);
            if kept.is_null() {
                if new.is_null() {
                    new = Box::into_raw(Box::new(Reason { kind, sentence: sentence.clone() }));
                }
                match place.compare_exchange(null_mut(), new, AcqRel, Acquire) {
                    Ok(_) => return Refusal(number),
                    Err(other) => kept = other,
                }
            }
            // SAFETY: not null, and as in reason().
            let kept = unsafe { &*kept };
            if kept.kind == kind && kept.sentence == sentence {
                drop_unused(new);
                return Refusal(number);
            }
        }
        drop_unused(new);
        Refusal::OTHER
    }
}

/// Frees a reason that another thread kept first.
fn drop_unused(new: *mut Reason) {
    if !new.is_null() {
        // SAFETY: from Box::into_raw, and nobody else has seen it.
        drop(unsafe { Box::from_raw(new) });
    }
}

impl Error {
    /// Keeps this error as the reason why a forked process could not attach, for an error type that
    /// has no room for all of it.
    #[cold]
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::keep(self.kind(), format!("this forked process cannot use the handle: {self}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.sentence())
    }
}

/// Converts the error of a hot path.
#[cold]
pub(crate) fn said(kind: ErrorKind, error: &impl fmt::Display) -> Error {
    Error::new(kind, error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stays_with_its_refusal() {
        let refused = |what: &str| Error::new(ErrorKind::Busy, what).refusal();
        let (first, second) = (refused("the first"), refused("the second"));
        assert!(first != second && first == refused("the first"));
        assert!(first.to_string().ends_with("the first") && second.to_string().ends_with("the second"));
        assert_eq!((first.kind(), Refusal::FORKED.kind()), (ErrorKind::Busy, ErrorKind::NotInThisProcess));
        assert_eq!(std::thread::spawn(move || first.to_string()).join().unwrap(), first.to_string());
    }

    #[test]
    fn there_can_be_more_reasons_than_are_kept() {
        // The reasons that other tests need are kept first; otherwise this would be a test in a
        // process of its own.
        let all: Vec<_> = (0..20).map(|n| Error::new(ErrorKind::System, format!("{n}")).refusal()).collect();
        assert!(all.iter().enumerate().all(|(n, refusal)| refusal.to_string().ends_with(&format!(": {n}"))));
        assert!(Refusal::OTHER.reason().is_none() && !Refusal::OTHER.to_string().is_empty());
    }
}
