//! A value that is written once: the once's word, and the value behind it.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the word of [`once`](super) |
//! | 8, or the value's alignment | the value: belongs to the initialiser until the word says complete, then to nobody |
//!
//! # Memory ordering, death
//!
//! Those of the word. An initialiser that dies while it writes has not completed: the next one writes all of it again.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::handle::{begin_in, wait_in, OnceError};
use super::State;
use crate::kind::Kind;
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::place::{Origin, Place, Shape};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// Bytes before the value.
const HEAD: usize = 8;
const _: () = assert!(size_of::<State>() <= HEAD);

/// A value that is written once, by one of many processes, and then read in place by all.
///
/// Reading takes no lock: one load, and the value is there for good. If the process dies that makes the value, the next one
/// makes it. It is never replaced: for that there are [`Mutex`](crate::Mutex) and [`RwLock`](crate::RwLock).
///
/// Not recursive: a closure that initialises the same value waits for itself.
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

/// A [`OnceValue`] was not set. The value comes back.
///
/// Converts into [`Error`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetError<T> {
    /// It has a value already.
    AlreadySet(T),
    /// Somebody else was setting it: now, or until the deadline.
    Busy(T),
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess(T),
}

impl<T> SetError<T> {
    /// The value that was not set.
    pub fn into_value(self) -> T {
        match self {
            SetError::AlreadySet(value) | SetError::Busy(value) | SetError::NotInThisProcess(value) => value,
        }
    }
}

// Not derived: what matters is why.
impl<T> fmt::Debug for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetError::AlreadySet(_) => "AlreadySet(..)",
            SetError::Busy(_) => "Busy(..)",
            SetError::NotInThisProcess(_) => "NotInThisProcess(..)",
        })
    }
}

impl<T> fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetError::AlreadySet(_) => "the value has been set already, and is written only once",
            SetError::Busy(_) => "somebody else was setting the value all the time",
            SetError::NotInThisProcess(_) => {
                "the handle belongs to the process that this one was forked from: give it to a child as an argument"
            }
        })
    }
}

impl<T> std::error::Error for SetError<T> {}

impl<T> From<SetError<T>> for Error {
    fn from(error: SetError<T>) -> Error {
        let kind = match error {
            SetError::AlreadySet(_) => ErrorKind::AlreadyExists,
            SetError::Busy(_) => ErrorKind::TimedOut,
            SetError::NotInThisProcess(_) => ErrorKind::NotInThisProcess,
        };
        Error::new(kind, error.to_string())
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

    fn shape() -> Shape {
        Shape { kind: Kind::OnceValue, schema: T::schema().to_string(), len: Self::OFFSET + size_of::<T>() }
    }

    /// An empty one that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new() -> Result<OnceValue<T>> {
        OnceValue::from_object(Place::anonymous(&Self::shape(), |_| ())?)
    }

    /// Creates an empty one. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>) -> Result<OnceValue<T>> {
        OnceValue::from_object(place.into().create(&Self::shape(), |_| ())?)
    }

    /// Opens an existing one.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of another value), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<OnceValue<T>> {
        OnceValue::from_object(place.into().open(Kind::OnceValue, &T::schema().to_string())?)
    }

    /// Opens it or, if there is none, creates an empty one; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](OnceValue::open) and [`create`](OnceValue::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>) -> Result<(OnceValue<T>, Origin)> {
        let (object, origin) = place.into().open_or_create(&Self::shape(), |_| ())?;
        Ok((OnceValue::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<OnceValue<T>> {
        let () = T::CHECKED;
        if object.len() < Self::OFFSET + size_of::<T>() {
            return Err(Error::new(ErrorKind::Corrupted, "the once value's record is too short"));
        }
        Ok(OnceValue { object, _value: PhantomData })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn state(&self) -> &State {
        // SAFETY: the object is aligned to 128 and longer than a State (checked in from_object), stays mapped as long as
        // `object` lives, and any bytes are a State, which is one atomic.
        unsafe { &*self.object.base().cast::<State>() }
    }

    /// Where the value is. A pointer only: who uses it says why it may.
    #[inline]
    fn value(&self) -> *mut T {
        self.object.base().wrapping_add(Self::OFFSET).cast()
    }

    /// The value, if it has been set. `None` too if its bytes are damaged, which [`get_or_init`](OnceValue::get_or_init) tells
    /// apart.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.state().is_complete().then(|| self.there().ok())?
    }

    /// The value, after it has been set.
    #[inline]
    fn there(&self) -> Result<&T, OnceError> {
        // SAFETY: the object is long enough (checked in from_object), and nobody writes a value that is complete.
        if !unsafe { message::is_valid::<T>(self.value().cast()) } {
            return Err(OnceError::Corrupted);
        }
        // SAFETY: a valid T, aligned, that nobody writes any more; mapped as long as `self` lives.
        Ok(unsafe { &*self.value() })
    }

    /// Waits until the value has been set, by whomever.
    ///
    /// # Errors
    ///
    /// `Corrupted`.
    pub fn wait(&self) -> Result<&T, OnceError> {
        self.wait_until(Deadline::Never)
    }

    /// [`wait`](OnceValue::wait), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (not set by then), `Corrupted`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, OnceError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// [`wait`](OnceValue::wait), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](OnceValue::wait_timeout).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<&T, OnceError> {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<&T, OnceError> {
        if !wait_in(self.state(), &self.object, deadline) {
            return Err(OnceError::NotCompleted);
        }
        self.there()
    }

    /// The value; sets it to what `f` gives if nobody has. Waits if somebody else is doing that.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.get_or_try_init(|| Ok(f()))
    }

    /// Likewise, with an `f` that may fail: then the value is not set, and the next one may try.
    ///
    /// # Errors
    ///
    /// That of `f`, and those of [`get_or_init`](OnceValue::get_or_init).
    #[inline]
    pub fn get_or_try_init<E: From<OnceError>>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.init_until(Deadline::Never, f)
    }

    /// [`get_or_init`](OnceValue::get_or_init) without waiting for others.
    ///
    /// # Errors
    ///
    /// `NotCompleted` (somebody else is at it), and those of [`get_or_init`](OnceValue::get_or_init).
    pub fn try_get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.init_until(Deadline::At(0), || Ok(f()))
    }

    /// [`get_or_init`](OnceValue::get_or_init), waiting for others for `timeout` at most. How long `f` takes is its own
    /// affair.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_init`](OnceValue::try_get_or_init).
    pub fn get_or_init_timeout(&self, timeout: Duration, f: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.init_until(Deadline::after(timeout), || Ok(f()))
    }

    /// [`get_or_init`](OnceValue::get_or_init), waiting for others until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_init`](OnceValue::try_get_or_init).
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
                // SAFETY: the object is long enough, and the value belongs to the initialiser, which we are.
                unsafe { message::write(self.value().cast(), value) };
                initialiser.complete();
            }
        }
        Ok(self.there()?)
    }

    /// Sets the value. Waits if somebody else is setting it: that one may fail.
    ///
    /// # Errors
    ///
    /// With the value: `AlreadySet`, `NotInThisProcess`.
    pub fn set(&self, value: T) -> Result<(), SetError<T>> {
        self.set_until(Deadline::Never, value)
    }

    /// Sets the value without waiting for others.
    ///
    /// # Errors
    ///
    /// With the value: `Busy` (somebody else is setting it), and those of [`set`](OnceValue::set).
    pub fn try_set(&self, value: T) -> Result<(), SetError<T>> {
        self.set_until(Deadline::At(0), value)
    }

    /// [`set`](OnceValue::set), waiting for others for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_set`](OnceValue::try_set).
    pub fn set_timeout(&self, timeout: Duration, value: T) -> Result<(), SetError<T>> {
        self.set_until(Deadline::after(timeout), value)
    }

    /// [`set`](OnceValue::set), waiting for others until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_set`](OnceValue::try_set).
    pub fn set_deadline(&self, deadline: Instant, value: T) -> Result<(), SetError<T>> {
        self.set_until(Deadline::at(deadline), value)
    }

    fn set_until(&self, deadline: Deadline, value: T) -> Result<(), SetError<T>> {
        match begin_in(self.state(), &self.object, deadline) {
            Ok(Some(initialiser)) => {
                // SAFETY: the object is long enough, and the value belongs to the initialiser, which we are.
                unsafe { message::write(self.value().cast(), value) };
                initialiser.complete();
                Ok(())
            }
            Ok(None) => Err(SetError::AlreadySet(value)),
            Err(OnceError::NotInThisProcess) => Err(SetError::NotInThisProcess(value)),
            Err(_) => {
                self.object.miss();
                Err(SetError::Busy(value))
            }
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
