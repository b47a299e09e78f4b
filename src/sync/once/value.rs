//! A value that is written once: the word of a once, and the value behind it.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the word of [`once`](super) |
//! | 8, or the value's alignment | the value: the initialiser's until complete, then read-only |
//!
//! # Memory ordering, death
//!
//! Those of the word. An initialiser that dies while it writes has not completed. The next one
//! writes the whole value again.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::handle::{begin_in, wait_in, OnceError};
use crate::error::{said, Refusal};
use crate::message::{self, Message};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::verbs::verbs;
use crate::sync::once::state::State;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// Number of bytes before the value.
const HEAD: usize = 8;
const _: () = assert!(size_of::<State>() <= HEAD);

/// A value that is written once, by one of many processes, and then read in place by all.
///
/// Reading takes no lock: one load tells that the value is there for good. If a process dies while
/// it makes the value, the next one makes it. The value is never replaced; for that use
/// [`Mutex`](crate::Mutex) or [`RwLock`](crate::RwLock).
///
/// Not reentrant: a closure that initialises the same value deadlocks. [`Once`](crate::Once) is the
/// same without a value. A minimal program: `examples/once.rs`.
///
/// # Examples
///
/// ```
/// use pagemate::OnceValue;
///
/// # fn main() -> pagemate::Result<()> {
/// # let name = format!("doc-once-value-{}", std::process::id());
/// # let name = name.as_str();
/// let (seed, _) = OnceValue::<u64>::open_or_create(name)?;
/// assert_eq!(seed.get(), None);
/// assert_eq!(*seed.get_or_init(|| 42)?, 42);
/// // Another process:
/// let same = OnceValue::<u64>::open(name)?;
/// assert_eq!(*same.get_or_init(|| unreachable!())?, 42);
/// assert!(same.set(43).is_err());
/// # Ok(())
/// # }
/// ```
pub struct OnceValue<T: Message> {
    object: ObjectRef,
    _value: PhantomData<fn(T) -> T>,
}

/// The error of an attempt to set a [`OnceValue`]. It returns the value.
///
/// Converts into [`Error`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetError<T> {
    /// The value has been set already.
    AlreadySet(T),
    /// Another participant was setting it: at the time of the call, or until the deadline.
    Busy(T),
    /// This process is a `fork` of the one that made the handle and cannot use it; the reason is
    /// inside.
    NotInThisProcess(T, Refusal),
}

impl<T> SetError<T> {
    /// Returns the value that was not set.
    pub fn into_value(self) -> T {
        match self {
            SetError::AlreadySet(value) | SetError::Busy(value) | SetError::NotInThisProcess(value, _) => {
                value
            }
        }
    }
}

// Not derived, because only the reason matters.
impl<T> fmt::Debug for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetError::AlreadySet(_) => "AlreadySet(..)",
            SetError::Busy(_) => "Busy(..)",
            SetError::NotInThisProcess(..) => "NotInThisProcess(..)",
        })
    }
}

impl<T> fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetError::AlreadySet(_) => "the value has been set already, and can be set only once",
            SetError::Busy(_) => "another thread or process was setting the value",
            SetError::NotInThisProcess(_, refusal) => refusal.sentence(),
        })
    }
}

impl<T> std::error::Error for SetError<T> {}

impl<T> From<SetError<T>> for Error {
    fn from(error: SetError<T>) -> Error {
        let kind = match error {
            SetError::AlreadySet(_) => ErrorKind::AlreadyExists,
            SetError::Busy(_) => ErrorKind::TimedOut,
            SetError::NotInThisProcess(_, refusal) => refusal.kind(),
        };
        said(kind, &error)
    }
}

impl<T: Message> Object for OnceValue<T> {
    const KIND: Kind = Kind::OnceValue;
    const LEN: usize = Self::OFFSET + size_of::<T>();
    type Initial = ();

    fn schema() -> String {
        T::schema().to_string()
    }

    fn attach(object: ObjectRef) -> Result<OnceValue<T>> {
        let () = T::CHECKED;
        Ok(OnceValue { object, _value: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> OnceValue<T> {
    const OFFSET: usize = {
        assert!(align_of::<T>() <= 128, "values aligned to more than 128 bytes do not fit into objects");
        if align_of::<T>() > HEAD {
            align_of::<T>()
        } else {
            HEAD
        }
    };

    verbs!(OnceValue<T>: "an empty" "once value" (), mismatch "another type of value");

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and long enough for a State (checked in
        // from_object). It stays mapped as long as `object` lives, and any bytes are a State, which
        // is one atomic.
        unsafe { &*self.object.base().cast::<State>() }
    }

    /// Returns a pointer to the value. Each access states why it is allowed.
    #[inline]
    fn value(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// Returns the value, if it has been set. Also returns `None` if its bytes are damaged;
    /// [`get_or_init`](OnceValue::get_or_init) distinguishes the two.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.state().is_complete().then(|| self.there().ok())?
    }

    /// Returns the value. Call it only after the value has been set.
    #[inline]
    fn there(&self) -> Result<&T, OnceError> {
        // SAFETY: the object is long enough (checked in from_object), and a complete value is never
        // written.
        if !unsafe { message::is_valid::<T>(self.value().cast()) } {
            return Err(OnceError::Corrupted);
        }
        // SAFETY: a valid, aligned T that is never written again. It is mapped as long as `self`
        // lives.
        Ok(unsafe { &*self.value() })
    }

    /// Blocks until the value has been set by any participant.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn wait(&self) -> Result<&T, OnceError> {
        self.wait_until(Deadline::Never)
    }

    /// Like [`wait`](OnceValue::wait), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (timed out), `Corrupted`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, OnceError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Like [`wait`](OnceValue::wait), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`wait_timeout`](OnceValue::wait_timeout).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<&T, OnceError> {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<&T, OnceError> {
        if !wait_in(self.state(), &self.object, deadline) {
            return Err(OnceError::NotCompleted);
        }
        self.there()
    }

    /// Returns the value. If it has not been set, sets it to the result of `f`. Blocks while
    /// another participant does that.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.get_or_try_init(|| Ok(f()))
    }

    /// Like [`get_or_init`](OnceValue::get_or_init), with an `f` that can fail. Then the value is
    /// not set, and the next caller may try.
    ///
    /// # Errors
    ///
    /// That of `f`, and those of [`get_or_init`](OnceValue::get_or_init).
    #[inline]
    pub fn get_or_try_init<E: From<OnceError>>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.init_until(Deadline::Never, f)
    }

    /// Like [`get_or_init`](OnceValue::get_or_init), but does not block for others.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (another participant is setting it), and those of
    /// [`get_or_init`](OnceValue::get_or_init).
    pub fn try_get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.init_until(Deadline::At(0), || Ok(f()))
    }

    /// Like [`get_or_init`](OnceValue::get_or_init), but blocks for others for at most `timeout`.
    /// The time that `f` takes is not limited.
    ///
    /// # Errors
    ///
    /// Those of [`try_get_or_init`](OnceValue::try_get_or_init).
    pub fn get_or_init_timeout(&self, timeout: Duration, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.init_until(Deadline::after(timeout), || Ok(f()))
    }

    /// Like [`get_or_init`](OnceValue::get_or_init), but blocks for others until `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_get_or_init`](OnceValue::try_get_or_init).
    pub fn get_or_init_deadline(&self, deadline: Instant, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.init_until(Deadline::at(deadline), || Ok(f()))
    }

    #[inline]
    fn init_until<E: From<OnceError>>(
        &self,
        deadline: Deadline,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        if !self.state().is_complete() {
            if let Some(initialiser) = begin_in(self.state(), &self.object, deadline)? {
                let value = f()?;
                // SAFETY: the object is long enough, and the value belongs to the initialiser,
                // which we are.
                unsafe { message::write(self.value().cast(), value) };
                initialiser.complete();
            }
        }
        Ok(self.there()?)
    }

    /// Sets the value. Blocks while another participant is setting it, because that one may fail.
    ///
    /// # Errors
    ///
    /// With the value: `AlreadySet`, `NotInThisProcess`.
    pub fn set(&self, value: T) -> Result<(), SetError<T>> {
        self.set_until(Deadline::Never, value)
    }

    /// Sets the value without blocking for others.
    ///
    /// # Errors
    ///
    /// With the value: `Busy` (another participant is setting it), and those of
    /// [`set`](OnceValue::set).
    pub fn try_set(&self, value: T) -> Result<(), SetError<T>> {
        self.set_until(Deadline::At(0), value)
    }

    /// Like [`set`](OnceValue::set), but blocks for others for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_set`](OnceValue::try_set).
    pub fn set_timeout(&self, value: T, timeout: Duration) -> Result<(), SetError<T>> {
        self.set_until(Deadline::after(timeout), value)
    }

    /// Like [`set`](OnceValue::set), but blocks for others until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_set`](OnceValue::try_set).
    pub fn set_deadline(&self, value: T, deadline: Instant) -> Result<(), SetError<T>> {
        self.set_until(Deadline::at(deadline), value)
    }

    fn set_until(&self, deadline: Deadline, value: T) -> Result<(), SetError<T>> {
        match begin_in(self.state(), &self.object, deadline) {
            Ok(Some(initialiser)) => {
                // SAFETY: the object is long enough, and the value belongs to the initialiser,
                // which we are.
                unsafe { message::write(self.value().cast(), value) };
                initialiser.complete();
                Ok(())
            }
            Ok(None) => Err(SetError::AlreadySet(value)),
            Err(OnceError::NotInThisProcess(refusal)) => Err(SetError::NotInThisProcess(value, refusal)),
            Err(_) => Err(SetError::Busy(value)),
        }
    }
}

impl<T: Message> Clone for OnceValue<T> {
    fn clone(&self) -> OnceValue<T> {
        OnceValue { object: self.object.clone(), _value: PhantomData }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for OnceValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceValue").field(value).finish(),
            None => f.write_str("OnceValue(<not set>)"),
        }
    }
}
