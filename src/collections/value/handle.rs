//! The handle of a value: creating and opening it, reading, and changing.

use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use super::error::ValueError;
use super::inline::{from_word, to_word, Small};
use super::seqlock::Copies;
use super::state::{self, len_of, Head, VALUE_AT};
use crate::collections::reference::Referent;
use crate::error::Refusal;
use crate::message::item::words_of;
use crate::message::private::name_of;
use crate::message::{self, Message};
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::robust_word;
use crate::sync::robust_word::OwnerWord;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::Result;

/// A value that processes get, set and update atomically. No reader ever sees a half-written value.
///
/// A value of 1, 2, 4 or 8 bytes is one atomic word. No operation on it ever blocks, and integers
/// have `fetch_add` and similar methods. A larger value is stored twice. Reading copies it out
/// without a lock, so readers block nobody and nobody blocks them. Writers take turns. A writer
/// that is killed in the middle leaves the old value or the new one. A writer that is stopped in
/// the middle blocks other writers, but no reader.
///
/// To read a large value in place, or to change it step by step, use [`Mutex`](crate::Mutex) or
/// [`RwLock`](crate::RwLock). A minimal program: `examples/value.rs`.
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

/// The right of a writer. Frees the owner word when it is dropped, also if the closure of an update
/// panics.
struct Writing<'a> {
    word: &'a OwnerWord,
    me: OwnerId,
    epoch: u32,
}

impl<'a> Writing<'a> {
    /// Acquires the value's owner word.
    pub(super) fn begin(
        word: &'a OwnerWord,
        object: &ObjectRef,
        deadline: Deadline,
    ) -> Result<Writing<'a>, ValueError> {
        let me = object.owner().map_err(|error| ValueError::NotInThisProcess(error.refusal()))?;
        match robust_word::acquire(word, object, me, deadline) {
            Some(acquired) => {
                if acquired.after_death {
                    word.mark_consistent(); // it always is
                }
                Ok(Writing { word, me, epoch: fork::epoch() })
            }
            None => {
                object.note_failed_try();
                Err(ValueError::NotAcquired)
            }
        }
    }

    /// Returns true if this is the process that began to write, and not a child that the closure of
    /// an update has forked.
    fn is_here(&self) -> bool {
        self.epoch == fork::epoch()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // False only if another program writes into the memory.
        let _ = self.is_here() && self.word.release(self.me);
    }
}

impl<T: Message> Object for Value<T> {
    const KIND: Kind = Kind::Value;
    const LEN: usize = len_of(Self::SIZE);
    type Initial = T;

    fn schema() -> String {
        T::schema().to_string()
    }

    unsafe fn init(base: *mut u8, value: &T) {
        // SAFETY: as the caller promises. Any bytes are a Head, and behind it there is room for the
        // value at sequence 0.
        unsafe {
            (*base.cast::<Head>()).size.store(Self::SIZE as u32, Relaxed); // published with the object
            message::write(base.add(VALUE_AT), *value);
        }
    }

    fn attach(object: ObjectRef) -> Result<Value<T>> {
        let () = T::CHECKED;
        Ok(Value { object, _value: PhantomData })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl<T: Message> Referent for Value<T> {
    fn type_name() -> String {
        format!("Value<{}>", name_of::<T>())
    }
}

impl<T: Message> Value<T> {
    const SIZE: usize = {
        assert!(size_of::<T>() <= u32::MAX as usize, "values of more than 4 GiB are not possible");
        size_of::<T>()
    };

    verbs!(Value<T>: "a" "value" (value: T), with "equal to `value`", mismatch "a value of another type");

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the object is aligned to 128 and long enough for a Head (checked in from_object).
        // It stays mapped as long as `object` lives, and any bytes are a Head.
        unsafe { &*self.object.base().cast::<Head>() }
    }

    /// Returns the address of the value: aligned to 8, with at least 8 bytes.
    #[inline]
    pub(crate) fn place(&self) -> *mut u8 {
        self.object.base().wrapping_add(VALUE_AT)
    }

    #[inline(always)]
    fn small(&self) -> Option<Small<'_>> {
        // SAFETY: aligned and long enough, see place(); mapped as long as `self` lives.
        unsafe { Small::new(self.place(), Self::SIZE) }
    }

    #[inline]
    fn copies(&self) -> Copies<'_> {
        let (at, len) = (self.place().cast::<AtomicU64>(), 2 * state::words_of(Self::SIZE));
        // SAFETY: behind the head there are two copies (checked in from_object), aligned to 8 and
        // mapped as long as `self` lives; any bytes are atomic words.
        let words = unsafe { std::slice::from_raw_parts(at, len) };
        Copies { sequence: &self.head().sequence, words }
    }

    /// Returns the current value. Never blocks. If the value is large and others write all the
    /// time, reading may need several attempts.
    ///
    /// # Errors
    ///
    /// `Corrupted`, if not every bit pattern of the type is valid.
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
        // SAFETY: the copy has SIZE bytes, and is ours.
        unsafe { self.copies().read_to(to, Self::SIZE) };
        // SAFETY: all of its bytes were just written, and nobody else has the copy.
        if !unsafe { message::is_valid::<T>(to) } {
            return Err(ValueError::Corrupted);
        }
        // SAFETY: written, and valid. Not copied once more, because words that were just stored are
        // slow to load as larger ones.
        Ok(unsafe { copy.assume_init() })
    }

    /// Sets the value. If it is large, blocks until other writers have finished.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), ValueError> {
        self.set_until(Deadline::Never, value)
    }

    /// Sets the value, if no other writer is writing. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, `NotInThisProcess`.
    pub fn try_set(&self, value: T) -> Result<(), ValueError> {
        self.set_until(Deadline::At(0), value)
    }

    /// Like [`set`](Value::set), but blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_set`](Value::try_set).
    pub fn set_timeout(&self, value: T, timeout: Duration) -> Result<(), ValueError> {
        self.set_until(Deadline::after(timeout), value)
    }

    /// Like [`set`](Value::set), but blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_set`](Value::try_set).
    pub fn set_deadline(&self, value: T, deadline: Instant) -> Result<(), ValueError> {
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
        self.copies().write(words_of(message::bytes_of(value)));
    }

    fn writing(&self, deadline: Deadline) -> Result<Writing<'_>, ValueError> {
        Writing::begin(&self.head().word, &self.object, deadline)
    }

    /// Sets the value to the result of `change`, and returns the previous one. Atomic: no other
    /// change happens in between. `change` may be called several times, and must not change the
    /// same value itself.
    ///
    /// # Errors
    ///
    /// `Corrupted`, `NotInThisProcess`.
    pub fn update(&self, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::Never, change)
    }

    /// Like [`update`](Value::update), but only if no other writer is writing. Never blocks.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, and those of [`update`](Value::update).
    pub fn try_update(&self, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::At(0), change)
    }

    /// Like [`update`](Value::update), but blocks for other writers for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_update`](Value::try_update).
    pub fn update_timeout(&self, timeout: Duration, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::after(timeout), change)
    }

    /// Like [`update`](Value::update), but blocks for other writers until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_update`](Value::try_update).
    pub fn update_deadline(&self, deadline: Instant, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.update_until(Deadline::at(deadline), change)
    }

    fn update_until(&self, deadline: Deadline, mut change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        let Some(small) = self.small() else {
            let writing = self.writing(deadline)?;
            let before = self.get_large()?;
            let after = change(before);
            if !writing.is_here() {
                return Err(ValueError::NotInThisProcess(Refusal::FORKED));
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

    /// Sets the value to `new` if its bytes equal those of `current`. Otherwise the inner error is
    /// the current value. If the value is large, blocks until other writers have finished.
    ///
    /// Bytes are compared, so `0.0` differs from `-0.0`, and a NaN can equal itself.
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

    /// Like [`compare_exchange`](Value::compare_exchange), but only if no other writer is writing.
    /// Never blocks.
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
