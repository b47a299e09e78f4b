//! The handle of a value: one atomic word if it is small enough, else two copies and an owner word for the writers.
//!
//! # State
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | the owner word: who writes. Of small values nobody does |
//! | 4..8 | the size of the value; written once |
//! | 8..16 | the sequence of [`copies`](super::copies) |
//! | 16.. | the value, if it is [small](super::small); else two copies of it, each rounded up to words |
//!
//! # Memory ordering, death
//!
//! Those of the parts. The owner word's mark of a death is taken away by the next writer: there is nothing to repair.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::copies::Copies;
use super::small::{from_word, is_small, to_word, Small};
use crate::item::word_of;
use crate::kind::Kind;
use crate::message::{self, Message};
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::owned::{self, OwnerWord};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// What stands before the value. Any bytes are a Head.
#[repr(C)]
struct Head {
    word: OwnerWord,
    size: AtomicU32,
    sequence: AtomicU64,
}

/// Where the value begins.
const VALUE_AT: usize = 16;
const _: () = assert!(size_of::<Head>() == VALUE_AT);
/// A look from outside gives up after so many tries.
const LOOKS: usize = 1000;

/// Words of one copy.
const fn words_of(size: usize) -> usize {
    size.div_ceil(8)
}

const fn len_of(size: usize) -> usize {
    VALUE_AT + if is_small(size) { 8 } else { 2 * 8 * words_of(size) }
}

/// A value that processes get, set and update; nobody ever sees half of a change.
///
/// A value of 1, 2, 4 or 8 bytes is one atomic word: no operation on it waits for anybody, and integers have `fetch_add` and
/// its like. A larger one is kept twice: reading copies it out and takes no lock, so readers block nobody and nobody blocks
/// them; writers take turns, and a writer that is killed in the middle leaves the old value or the new one. A writer that
/// is stopped in the middle keeps other writers waiting, but no reader.
///
/// To look at a large value in place, or to change it step by step, there are [`Mutex`](crate::Mutex) and
/// [`RwLock`](crate::RwLock).
///
/// # Examples
///
/// ```
/// use pagemate::Value;
///
/// # fn main() -> pagemate::Result<()> {
/// let hits = Value::new(0_u64)?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| (0..100).for_each(|_| _ = hits.fetch_add(1)));
///     }
/// });
/// assert_eq!(hits.load(), 200);
///
/// let position = Value::new([0.0_f64; 3])?;
/// position.update(|[x, y, z]| [x + 1.0, y, z])?;
/// assert_eq!(position.get()?, [1.0, 0.0, 0.0]);
/// # Ok(())
/// # }
/// ```
pub struct Value<T: Message> {
    object: ObjectRef,
    _value: PhantomData<fn(T) -> T>,
}

/// A value was not read or not changed.
///
/// Converts into [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Another writer was at it: now, or until the deadline. Only of values that are not 1, 2, 4 or 8 bytes large.
    NotAcquired,
    /// The shared bytes are no valid value. A [`set`](Value::set) mends it.
    Corrupted,
    /// The handle was made in another process, of which this one is a `fork`.
    NotInThisProcess,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueError::NotAcquired => "another writer was at the value all the time",
            ValueError::Corrupted => "the shared bytes are no valid value: set another one",
            ValueError::NotInThisProcess => {
                "the handle belongs to the process that this one was forked from: give it to a child as an argument"
            }
        })
    }
}

impl std::error::Error for ValueError {}

impl From<ValueError> for Error {
    fn from(error: ValueError) -> Error {
        let kind = match error {
            ValueError::NotAcquired => ErrorKind::TimedOut,
            ValueError::Corrupted => ErrorKind::Corrupted,
            ValueError::NotInThisProcess => ErrorKind::NotInThisProcess,
        };
        Error::new(kind, error.to_string())
    }
}

/// Frees the owner word, also if the closure of an update panics.
struct Writing<'a> {
    word: &'a OwnerWord,
    me: OwnerId,
    epoch: u32,
}

impl Writing<'_> {
    /// That this is the process that began to write, and no child that the closure of an update has forked.
    fn is_here(&self) -> bool {
        self.epoch == fork::epoch()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // False only if somebody writes into the memory.
        let _ = self.is_here() && self.word.release(self.me);
    }
}

impl<T: Message> Value<T> {
    const SIZE: usize = {
        assert!(size_of::<T>() <= u32::MAX as usize, "values of more than 4 GiB are not possible");
        size_of::<T>()
    };

    fn shape() -> Shape {
        Shape { kind: Kind::Value, schema: T::schema().to_string(), len: len_of(Self::SIZE) }
    }

    fn init(value: T) -> impl Fn(*mut u8) {
        move |base| {
            // SAFETY: an object of this shape, zeroed and aligned to 128, that nobody else can see: any bytes are a Head, and
            // behind it there is room for the value at sequence 0.
            unsafe {
                (*base.cast::<Head>()).size.store(Self::SIZE as u32, Relaxed); // published with the object
                message::write(base.add(VALUE_AT), value);
            }
        }
    }

    /// A value that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, `System` (too many open files).
    pub fn new(value: T) -> Result<Value<T>> {
        Value::from_object(Place::anonymous(&Self::shape(), Self::init(value))?)
    }

    /// Creates the value. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, value: T) -> Result<Value<T>> {
        Value::from_object(place.into().create(&Self::shape(), Self::init(value))?)
    }

    /// Opens an existing value.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else, or of another type), `PermissionDenied`, `VersionMismatch`,
    /// `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Value<T>> {
        Value::from_object(place.into().open(Kind::Value, &T::schema().to_string())?)
    }

    /// Opens the value or, if there is none, creates it as `value`; says which.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Value::open) and [`create`](Value::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, value: T) -> Result<(Value<T>, Origin)> {
        let (object, origin) = place.into().open_or_create(&Self::shape(), Self::init(value))?;
        Ok((Value::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Value<T>> {
        let () = T::CHECKED;
        if object.len() < len_of(Self::SIZE) {
            return Err(Error::new(ErrorKind::Corrupted, "the value's record is too short"));
        }
        Ok(Value { object, _value: PhantomData })
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and longer than a Head (checked in from_object), stays mapped as long as
        // `object` lives, and any bytes are a Head.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    /// Where the value is: aligned to 8, at least 8 bytes.
    #[inline]
    pub(super) fn place(&self) -> *mut u8 {
        self.object.base().wrapping_add(VALUE_AT)
    }

    #[inline(always)]
    fn small(&self) -> Option<Small<'_>> {
        // SAFETY: aligned and long enough, see place(); mapped as long as `self` lives.
        unsafe { Small::new(self.place(), Self::SIZE) }
    }

    #[inline]
    fn copies(&self) -> Copies<'_> {
        // SAFETY: behind the head there are two copies (checked in from_object), aligned to 8 and mapped as long as `self`
        // lives; any bytes are atomic words.
        let words =
            unsafe { std::slice::from_raw_parts(self.place().cast::<AtomicU64>(), 2 * words_of(Self::SIZE)) };
        Copies { sequence: &self.head().sequence, words }
    }

    /// The value at this moment. Never waits: if it is large and others write all the time, it may take several tries.
    ///
    /// # Errors
    ///
    /// `Corrupted`, if not all bit patterns of the type are valid.
    #[inline]
    pub fn get(&self) -> Result<T, ValueError> {
        match self.small() {
            Some(small) => from_word(small.load()).ok_or(ValueError::Corrupted),
            None => self.get_large(),
        }
    }

    #[inline]
    fn get_large(&self) -> Result<T, ValueError> {
        let mut copy = MaybeUninit::<T>::uninit();
        let to = copy.as_mut_ptr().cast::<u8>();
        // SAFETY: as many bytes are in the copy, which is ours.
        unsafe { self.copies().read_to(to, Self::SIZE) };
        // SAFETY: all of its bytes were just written, and nobody else has the copy.
        if !unsafe { message::is_valid::<T>(to) } {
            return Err(ValueError::Corrupted);
        }
        // SAFETY: written, and valid. Not copied once more: words that were just stored are slow to be loaded as larger ones.
        Ok(unsafe { copy.assume_init() })
    }

    /// Sets the value. If it is large, waits for other writers.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), ValueError> {
        self.set_until(Deadline::Never, value)
    }

    /// Sets the value, if no other writer is at it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, `NotInThisProcess`.
    pub fn try_set(&self, value: T) -> Result<(), ValueError> {
        self.set_until(Deadline::At(0), value)
    }

    /// [`set`](Value::set), waiting for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_set`](Value::try_set).
    pub fn set_timeout(&self, timeout: Duration, value: T) -> Result<(), ValueError> {
        self.set_until(Deadline::after(timeout), value)
    }

    /// [`set`](Value::set), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_set`](Value::try_set).
    pub fn set_deadline(&self, deadline: Instant, value: T) -> Result<(), ValueError> {
        self.set_until(Deadline::at(deadline), value)
    }

    #[inline]
    fn set_until(&self, deadline: Deadline, value: T) -> Result<(), ValueError> {
        match self.small() {
            Some(small) => small.store(to_word(&value)),
            None => {
                let _writing = self.writing(deadline)?;
                self.write(&value);
            }
        }
        Ok(())
    }

    fn write(&self, value: &T) {
        let bytes = message::bytes_of(value);
        self.copies().write(|index| word_of(bytes.get(8 * index..).unwrap_or(&[])));
    }

    fn writing(&self, deadline: Deadline) -> Result<Writing<'_>, ValueError> {
        let me = self.object.owner().map_err(|_| ValueError::NotInThisProcess)?;
        let word = &self.head().word;
        match owned::acquire(word, &self.object, me, deadline) {
            Some(acquired) => {
                if acquired.after_death {
                    word.mark_consistent(); // it always is
                }
                Ok(Writing { word, me, epoch: fork::epoch() })
            }
            None => {
                self.object.miss();
                Err(ValueError::NotAcquired)
            }
        }
    }

    /// Sets the value to what `change` makes of it; gives the one before. Nobody else changes it in between. `change` may be
    /// called several times, and must not change the same value itself.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn update(&self, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::Never, change)
    }

    /// [`update`](Value::update), if no other writer is at it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`update`](Value::update).
    pub fn try_update(&self, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::At(0), change)
    }

    /// [`update`](Value::update), waiting for other writers for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_update`](Value::try_update).
    pub fn update_timeout(&self, timeout: Duration, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::after(timeout), change)
    }

    /// [`update`](Value::update), waiting for other writers until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_update`](Value::try_update).
    pub fn update_deadline(&self, deadline: Instant, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::at(deadline), change)
    }

    fn update_until(&self, deadline: Deadline, mut change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        let Some(small) = self.small() else {
            let writing = self.writing(deadline)?;
            let before = self.get_large()?;
            let after = change(before);
            if !writing.is_here() {
                return Err(ValueError::NotInThisProcess);
            }
            self.write(&after);
            return Ok(before);
        };
        let mut seen = small.load();
        loop {
            let before = from_word(seen).ok_or(ValueError::Corrupted)?;
            match small.swap_if(seen, to_word(&change(before))) {
                Ok(()) => return Ok(before),
                Err(now) => seen = now,
            }
        }
    }

    /// Sets the value to `new` if its bytes are those of `current`. The inner error is what is there instead. (So `0.0` is not
    /// `-0.0`, and a NaN may be itself.) If it is large, waits for other writers.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let leader = pagemate::Value::new(0_u32)?;
    /// assert_eq!(leader.compare_exchange(0, 7)?, Ok(()));
    /// assert_eq!(leader.compare_exchange(0, 8)?, Err(7));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn compare_exchange(&self, current: T, new: T) -> Result<Result<(), T>, ValueError> {
        self.exchange_until(Deadline::Never, current, new)
    }

    /// [`compare_exchange`](Value::compare_exchange), if no other writer is at it.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`compare_exchange`](Value::compare_exchange).
    pub fn try_compare_exchange(&self, current: T, new: T) -> Result<Result<(), T>, ValueError> {
        self.exchange_until(Deadline::At(0), current, new)
    }

    fn exchange_until(&self, deadline: Deadline, current: T, new: T) -> Result<Result<(), T>, ValueError> {
        if let Some(small) = self.small() {
            return match small.swap_if(to_word(&current), to_word(&new)) {
                Ok(()) => Ok(Ok(())),
                Err(now) => Ok(Err(from_word(now).ok_or(ValueError::Corrupted)?)),
            };
        }
        let _writing = self.writing(deadline)?;
        let there = self.get_large()?;
        if message::bytes_of(&there) != message::bytes_of(&current) {
            return Ok(Err(there));
        }
        self.write(&new);
        Ok(Ok(()))
    }
}

impl<T: Message> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { object: self.object.clone(), _value: PhantomData }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(value) => f.debug_tuple("Value").field(&value).finish(),
            Err(error) => write!(f, "Value(<{error}>)"),
        }
    }
}

/// The head of the value at `base` and its size, if it is as long as that.
fn head_at<'a>(base: *const u8, len: usize) -> Option<(&'a Head, usize)> {
    if len < size_of::<Head>() {
        return None;
    }
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Head.
    let head = unsafe { &*base.cast::<Head>() };
    let size = head.size.load(Relaxed) as usize;
    (len >= len_of(size)).then_some((head, size))
}

/// Lets other writers go on if `dead` was one.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some((head, _)) = head_at(base, len) {
        head.word.recover(dead);
    }
}

/// What `pagemate show` says about a value.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some((head, size)) = head_at(base, len) else { return Vec::new() };
    if is_small(size) {
        return Vec::new();
    }
    let writer = head.word.holder().map_or("nobody".to_string(), |id| format!("participant {}", id.index()));
    vec![
        ("changed", head.sequence.load(Relaxed).to_string()),
        ("written by", writer),
        ("waited on", head.word.is_waited_on().to_string()),
    ]
}

/// The bytes of the value; `None` if writers keep overtaking the look.
pub(crate) fn peek(base: *const u8, len: usize) -> Option<Vec<u8>> {
    let (head, size) = head_at(base, len)?;
    let at = base.wrapping_add(VALUE_AT);
    // SAFETY: aligned, and at least 8 bytes behind the head are mapped if the size is small (checked in head_at).
    if let Some(small) = unsafe { Small::new(at, size) } {
        return Some(small.load().to_le_bytes()[..size].to_vec());
    }
    // SAFETY: two copies of this size are mapped behind the head (checked in head_at), aligned to 8; any bytes are words.
    let words = unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), 2 * words_of(size)) };
    let copies = Copies { sequence: &head.sequence, words };
    let mut bytes = vec![0; 8 * words_of(size)];
    for _ in 0..LOOKS {
        let is_whole = copies.try_read(|index, word| {
            if let Some(to) = bytes.get_mut(8 * index..8 * index + 8) {
                to.copy_from_slice(&word.to_le_bytes());
            }
        });
        if is_whole {
            bytes.truncate(size);
            return Some(bytes);
        }
    }
    None
}
