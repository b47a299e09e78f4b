//! The handle of a once, and the right to initialise that it gives.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Begun, State};
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// Something is initialised once, by one of many processes and threads; all others wait for it.
///
/// If the initialiser dies, panics or gives up, the next one begins: of those who wait, or who comes then. It is told, since what
/// the one before did by half may be there ([`Initialiser::is_after_failure`]). One that is stopped is not dead: the
/// others wait.
///
/// Once it is complete it stays so, as long as the object lives; looking is one load.
///
/// Not recursive: who begins again in the middle of it waits for itself.
///
/// # Examples
///
/// ```
/// use pagemate::Once;
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-once-{}", std::process::id());
/// # let name = name.as_str();
/// let (once, _) = Once::open_or_create(name)?;
/// once.call_once(|| println!("the first of all processes"))?;
/// once.call_once(|| unreachable!("it has been done"))?;
/// assert!(once.is_completed());
/// # Ok(())
/// # }
/// ```
///
/// What may fail, and what must be cleaned up if somebody failed before:
///
/// ```
/// use pagemate::Once;
///
/// fn fetched(once: &Once, path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
///     if let Some(initialiser) = once.begin()? {
///         if initialiser.is_after_failure() {
///             println!("another process did not finish");
///         }
///         std::fs::write(path, "what takes long to fetch")?; // on an error the next process tries
///         initialiser.complete();
///     }
///     Ok(())
/// }
/// # let path = std::env::temp_dir().join(format!("pagemate-doc-once-{}", std::process::id()));
/// # fetched(&Once::new().unwrap(), &path).unwrap();
/// # std::fs::remove_file(path).unwrap();
/// ```
#[derive(Clone)]
pub struct Once {
    object: ObjectRef,
}

/// Something is not initialised yet, and cannot be here and now.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnceError {
    /// Somebody else is at it: now, or until the deadline.
    NotCompleted,
    /// The shared bytes are no valid value.
    Corrupted,
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess,
}

impl fmt::Display for OnceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnceError::NotCompleted => "the initialisation was not completed in time",
            OnceError::Corrupted => "the shared bytes are no valid value",
            OnceError::NotInThisProcess => {
                "the handle belongs to the process that this one was forked from: give it to a child as an argument"
            }
        })
    }
}

impl std::error::Error for OnceError {}

impl From<OnceError> for Error {
    fn from(error: OnceError) -> Error {
        let kind = match error {
            OnceError::NotCompleted => ErrorKind::TimedOut,
            OnceError::Corrupted => ErrorKind::Corrupted,
            OnceError::NotInThisProcess => ErrorKind::NotInThisProcess,
        };
        Error::new(kind, error.to_string())
    }
}

fn shape() -> Shape {
    Shape { kind: Kind::Once, schema: String::new(), len: size_of::<State>() }
}

impl Once {
    /// A once that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<Once> {
        Once::from_object(Place::anonymous(&shape(), |_| ())?)
    }

    /// Creates the once. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<Once> {
        Once::from_object(place.into().create(&shape(), |_| ())?)
    }

    /// Opens an existing once.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Once> {
        Once::from_object(place.into().open(Kind::Once, "")?)
    }

    /// Opens the once or, if there is none, creates it; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Once::open) and [`create`](Once::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(Once, Origin)> {
        let (object, origin) = place.into().open_or_create(&shape(), |_| ())?;
        Ok((Once::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Once> {
        if object.len() < size_of::<State>() {
            return Err(Error::new(ErrorKind::Corrupted, "the once's record is too short"));
        }
        Ok(Once { object })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and at least as long as a State (checked in from_object), stays mapped as
        // long as `object` lives, and any bytes are a State, which is one atomic.
        unsafe { &*self.object.base().cast::<State>() }
    }

    /// Calls `f` if that has not been done yet; waits if somebody else is doing it. True: this call did it.
    ///
    /// If `f` panics the next one may try.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn call_once(&self, f: impl FnOnce()) -> Result<bool, OnceError> {
        self.call_until(Deadline::Never, f)
    }

    /// Calls `f` if that has not been done yet, and nobody else is doing it. True: this call did it.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (somebody else is at it), `NotInThisProcess`.
    pub fn try_call_once(&self, f: impl FnOnce()) -> Result<bool, OnceError> {
        Ok(self.try_begin()?.is_some_and(|initialiser| initialiser.call(f)))
    }

    /// [`call_once`](Once::call_once), waiting for others for `timeout` at most. How long `f` takes is its own affair.
    ///
    /// # Errors
    ///
    /// As [`try_call_once`](Once::try_call_once).
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<bool, OnceError> {
        self.call_until(Deadline::after(timeout), f)
    }

    /// [`call_once`](Once::call_once), waiting for others until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_call_once`](Once::try_call_once).
    pub fn call_once_deadline(&self, deadline: Instant, f: impl FnOnce()) -> Result<bool, OnceError> {
        self.call_until(Deadline::at(deadline), f)
    }

    #[inline]
    fn call_until(&self, deadline: Deadline, f: impl FnOnce()) -> Result<bool, OnceError> {
        if self.is_completed() {
            return Ok(false);
        }
        Ok(self.begin_until(deadline)?.is_some_and(|initialiser| initialiser.call(f)))
    }

    /// The right to initialise, or `None` if that has been done; waits if somebody else is doing it.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn begin(&self) -> Result<Option<Initialiser<'_>>, OnceError> {
        self.begin_until(Deadline::Never)
    }

    /// The right to initialise, or `None` if that has been done.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (somebody else is at it), `NotInThisProcess`.
    pub fn try_begin(&self) -> Result<Option<Initialiser<'_>>, OnceError> {
        let me = self.object.owner().map_err(|_| OnceError::NotInThisProcess)?;
        match self.state().try_begin(me) {
            Some(begun) => Ok(Initialiser::new(self.state(), me, begun)),
            None => {
                self.object.miss();
                Err(OnceError::NotCompleted)
            }
        }
    }

    /// [`begin`](Once::begin), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_begin`](Once::try_begin).
    pub fn begin_timeout(&self, timeout: Duration) -> Result<Option<Initialiser<'_>>, OnceError> {
        self.begin_until(Deadline::after(timeout))
    }

    /// [`begin`](Once::begin), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_begin`](Once::try_begin).
    pub fn begin_deadline(&self, deadline: Instant) -> Result<Option<Initialiser<'_>>, OnceError> {
        self.begin_until(Deadline::at(deadline))
    }

    fn begin_until(&self, deadline: Deadline) -> Result<Option<Initialiser<'_>>, OnceError> {
        begin_in(self.state(), &self.object, deadline)
    }

    /// Whether it has been done. If so, it stays so, and what the initialiser wrote is there to be read.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.state().is_complete()
    }

    /// Waits until it has been done, by whomever: this one does not begin.
    pub fn wait(&self) {
        wait_in(self.state(), &self.object, Deadline::Never);
    }

    /// [`wait`](Once::wait), for `timeout` at most. False: it has not been done by then.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        wait_in(self.state(), &self.object, Deadline::after(timeout))
    }

    /// [`wait`](Once::wait), until `deadline` at most. False: it has not been done by then.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        wait_in(self.state(), &self.object, Deadline::at(deadline))
    }
}

/// The end of a waiter's slice: whether the initialiser is alive.
fn tend(state: &State, object: &ObjectRef, initialiser: Option<OwnerId>) {
    object.tend();
    // Not only when it is the segment's turn: so one slice is enough, and an id that nobody has ever had goes.
    if let Some(initialiser) = initialiser.filter(|initialiser| !object.is_alive(*initialiser)) {
        state.recover(initialiser);
    }
}

pub(super) fn begin_in<'a>(
    state: &'a State,
    object: &ObjectRef,
    deadline: Deadline,
) -> Result<Option<Initialiser<'a>>, OnceError> {
    let me = object.owner().map_err(|_| OnceError::NotInThisProcess)?;
    let tend = |initialiser| tend(state, object, initialiser);
    let begun = state.try_begin(me).or_else(|| state.begin(me, deadline, tend));
    begun.map(|begun| Initialiser::new(state, me, begun)).ok_or(OnceError::NotCompleted)
}

pub(super) fn wait_in(state: &State, object: &ObjectRef, deadline: Deadline) -> bool {
    state.is_complete() || state.wait(deadline, |initialiser| tend(state, object, initialiser))
}

/// The right to initialise: others wait for who has it. Dropped without [`complete`](Initialiser::complete), as by a `?` or
/// a panic, it goes to the next one.
///
/// A forked child that has a copy of it has no such right.
#[must_use = "the next one initialises when this is dropped"]
pub struct Initialiser<'a> {
    state: &'a State,
    me: OwnerId,
    epoch: u32,
    after_failure: bool,
}

impl<'a> Initialiser<'a> {
    fn new(state: &'a State, me: OwnerId, begun: Begun) -> Option<Initialiser<'a>> {
        match begun {
            Begun::Complete => None,
            Begun::Mine { after_failure } => {
                Some(Initialiser { state, me, epoch: fork::epoch(), after_failure })
            }
        }
    }

    /// Whether somebody has begun before and died, panicked or given up.
    pub fn is_after_failure(&self) -> bool {
        self.after_failure
    }

    /// It is done: for everybody and for good.
    pub fn complete(self) {
        if self.epoch == fork::epoch() {
            // False only if somebody writes into the memory.
            let _ = self.state.complete(self.me);
        }
        std::mem::forget(self);
    }

    fn call(self, f: impl FnOnce()) -> bool {
        f();
        self.complete();
        true
    }
}

impl Drop for Initialiser<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // As in complete().
            let _ = self.state.give_up(self.me);
        }
    }
}

impl fmt::Debug for Initialiser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initialiser").field("is_after_failure", &self.after_failure).finish_non_exhaustive()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("is_completed", &self.is_completed()).finish_non_exhaustive()
    }
}

/// The state of the once or once value at `base`, if it is long enough for one.
fn state_at<'a>(base: *const u8, len: usize) -> Option<&'a State> {
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a State.
    (len >= size_of::<State>()).then(|| unsafe { &*base.cast::<State>() })
}

/// Lets somebody else begin if `dead` has. Of a once, and of a once value.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(state) = state_at(base, len) {
        state.recover(dead);
    }
}

/// What `pagemate show` says about a once and a once value.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(state) = state_at(base, len) else { return Vec::new() };
    let initialiser =
        state.initialiser().map_or_else(|| "nobody".to_string(), |id| format!("participant {}", id.index()));
    vec![
        ("completed", state.is_complete().to_string()),
        ("initialised by", initialiser),
        ("failed before", state.has_failed().to_string()),
        ("waited on", state.is_waited_on().to_string()),
    ]
}
