//! The handle of a once, and the right to initialise that it grants.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{said, Refusal};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::once::state::{Begun, State};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// A one-time initialisation, done by one of many processes and threads while all others wait.
///
/// If the initialiser dies, panics or is dropped, the next caller begins: one of the waiters, or a
/// later one. [`Initialiser::is_after_failure`] tells it so, because the previous initialiser may
/// have left partial results. An initialiser that is stopped is not dead, and the others wait.
///
/// A completed once stays completed as long as the object lives. Checking it is one load.
/// [`OnceValue`](crate::OnceValue) also stores a value; `examples/once.rs` shows it.
///
/// Not reentrant: an initialiser that begins the same once again deadlocks.
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
/// An initialisation that can fail, and that must clean up after an earlier failure:
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

/// The error of an attempt to initialise, or to wait for the initialisation.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnceError {
    /// Another participant was initialising: at the time of the call, or until the deadline.
    NotCompleted,
    /// The shared bytes are not a valid value.
    Corrupted,
    /// This process is a `fork` of the one that made the handle and cannot use it; the reason is
    /// inside.
    NotInThisProcess(Refusal),
}

impl fmt::Display for OnceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnceError::NotCompleted => "the initialisation was not completed in time",
            OnceError::Corrupted => "the shared bytes are not a valid value",
            OnceError::NotInThisProcess(refusal) => refusal.sentence(),
        })
    }
}

impl std::error::Error for OnceError {}

impl From<OnceError> for Error {
    fn from(error: OnceError) -> Error {
        let kind = match error {
            OnceError::NotCompleted => ErrorKind::TimedOut,
            OnceError::Corrupted => ErrorKind::Corrupted,
            OnceError::NotInThisProcess(refusal) => refusal.kind(),
        };
        said(kind, &error)
    }
}

impl Object for Once {
    const KIND: Kind = Kind::Once;
    const LEN: usize = size_of::<State>();
    type Initial = ();

    fn attach(object: ObjectRef) -> Result<Once> {
        Ok(Once { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Once {
    verbs!(Once: "a" "once" ());

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and at least as long as a State (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a State, which
        // is one atomic.
        unsafe { &*self.object.base().cast::<State>() }
    }

    /// Calls `f` unless the once is completed. Blocks while another participant initialises.
    /// Returns true if this call ran `f`.
    ///
    /// If `f` panics, the next caller may try.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn call_once(&self, f: impl FnOnce()) -> Result<bool, OnceError> {
        self.call_until(Deadline::Never, f)
    }

    /// Calls `f` unless the once is completed or another participant initialises. Returns true if
    /// this call ran `f`.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (another participant initialises), `NotInThisProcess`.
    pub fn try_call_once(&self, f: impl FnOnce()) -> Result<bool, OnceError> {
        Ok(self.try_begin()?.is_some_and(|initialiser| initialiser.call(f)))
    }

    /// Like [`call_once`](Once::call_once), but blocks for others for at most `timeout`. The time
    /// that `f` takes is not limited.
    ///
    /// # Errors
    ///
    /// Those of [`try_call_once`](Once::try_call_once).
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<bool, OnceError> {
        self.call_until(Deadline::after(timeout), f)
    }

    /// Like [`call_once`](Once::call_once), but blocks for others until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_call_once`](Once::try_call_once).
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

    /// Returns the right to initialise, or `None` if the once is completed. Blocks while another
    /// participant initialises.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    pub fn begin(&self) -> Result<Option<Initialiser<'_>>, OnceError> {
        self.begin_until(Deadline::Never)
    }

    /// Returns the right to initialise, or `None` if the once is completed. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (another participant initialises), `NotInThisProcess`.
    pub fn try_begin(&self) -> Result<Option<Initialiser<'_>>, OnceError> {
        let me = self.object.owner().map_err(|error| OnceError::NotInThisProcess(error.refusal()))?;
        match self.state().try_begin(me) {
            Some(begun) => Ok(Initialiser::new(self.state(), me, begun)),
            None => {
                self.object.note_failed_try();
                Err(OnceError::NotCompleted)
            }
        }
    }

    /// Like [`begin`](Once::begin), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_begin`](Once::try_begin).
    pub fn begin_timeout(&self, timeout: Duration) -> Result<Option<Initialiser<'_>>, OnceError> {
        self.begin_until(Deadline::after(timeout))
    }

    /// Like [`begin`](Once::begin), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_begin`](Once::try_begin).
    pub fn begin_deadline(&self, deadline: Instant) -> Result<Option<Initialiser<'_>>, OnceError> {
        self.begin_until(Deadline::at(deadline))
    }

    fn begin_until(&self, deadline: Deadline) -> Result<Option<Initialiser<'_>>, OnceError> {
        begin_in(self.state(), &self.object, deadline)
    }

    /// Returns true if the once is completed. It then stays completed, and the caller sees
    /// everything that the initialiser wrote.
    #[inline]
    pub fn is_completed(&self) -> bool {
        !self.object.is_hindered(!self.state().is_complete())
    }

    /// Blocks until the once is completed by any other participant. Does not initialise itself.
    pub fn wait(&self) {
        wait_in(self.state(), &self.object, Deadline::Never);
    }

    /// Like [`wait`](Once::wait), but blocks for at most `timeout`. Returns false if it timed out.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        wait_in(self.state(), &self.object, Deadline::after(timeout))
    }

    /// Like [`wait`](Once::wait), but blocks until `deadline` at the latest. Returns false if it
    /// timed out.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        wait_in(self.state(), &self.object, Deadline::at(deadline))
    }
}

/// Runs at the end of a waiter's slice: checks whether the initialiser is alive.
fn reap_dead(state: &State, object: &ObjectRef, initialiser: Option<OwnerId>) {
    object.reap_dead();
    // Not only when the segment is due. So one slice is enough, and an id that no participant ever
    // had is removed.
    if let Some(initialiser) = initialiser.filter(|initialiser| !object.is_alive(*initialiser)) {
        state.recover(initialiser);
    }
}

pub(super) fn begin_in<'a>(
    state: &'a State,
    object: &ObjectRef,
    deadline: Deadline,
) -> Result<Option<Initialiser<'a>>, OnceError> {
    let me = object.owner().map_err(|error| OnceError::NotInThisProcess(error.refusal()))?;
    let reap_dead = |initialiser| reap_dead(state, object, initialiser);
    let begun = state.try_begin(me).or_else(|| state.begin(me, deadline, reap_dead));
    object.is_hindered(begun.is_none());
    begun.map(|begun| Initialiser::new(state, me, begun)).ok_or(OnceError::NotCompleted)
}

pub(super) fn wait_in(state: &State, object: &ObjectRef, deadline: Deadline) -> bool {
    state.is_complete() || state.wait(deadline, |initialiser| reap_dead(state, object, initialiser))
}

/// The right to initialise a [`Once`]; all others wait for its holder.
///
/// If it is dropped without [`complete`](Initialiser::complete), for example by a `?` or a panic,
/// the next caller begins. A copy in a forked child has no such right.
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

    /// Returns true if an earlier initialiser died, panicked or was dropped.
    pub fn is_after_failure(&self) -> bool {
        self.after_failure
    }

    /// Marks the once as completed, for all participants and for good.
    pub fn complete(self) {
        if self.epoch == fork::epoch() {
            // False only if another program writes into the memory.
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

/// Returns the state of the once or once value at `base`, if `len` is long enough for one.
fn state_at<'a>(base: *const u8, len: usize) -> Option<&'a State> {
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // State.
    (len >= size_of::<State>()).then(|| unsafe { &*base.cast::<State>() })
}

/// Lets another participant begin if `dead` has begun. For a once and a once value.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(state) = state_at(base, len) {
        state.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a once and a once value.
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
