//! The handle of a bounded semaphore, and the permit that it gives.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Permits;
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sync::error::{LockError, ReleaseError};
use crate::sync::wait::Waiters;
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::{Error, ErrorKind, Result};

/// The largest bound.
const PERMITS_MAX: u32 = 4096;

/// What stands before the words. Any bytes are a Head.
#[repr(C)]
struct Head {
    waiters: Waiters,
    /// How many permits there are; written once, read once by each handle.
    count: AtomicU32,
}

const _: () = assert!(size_of::<Head>() == 8);

/// A fixed number of permits that processes take and give back; those of a process that dies come back by themselves.
///
/// [`acquire`](BoundedSemaphore::acquire) gives a [`Permit`], which is given back when it is dropped. Who wants somebody else
/// to give it back, as Python's users do, [keeps](Permit::keep) it, and then any process calls
/// [`release`](BoundedSemaphore::release) once for it. There are never more permits than at the beginning: giving
/// back one that nobody has kept is an error, and changes nothing.
///
/// For "at most so many at once". For "so many things are there for you", where who takes is not who gives and
/// the count has no bound, there is [`Semaphore`](crate::Semaphore).
///
/// Not fair: who waits longest is not served first. Taking and giving back without somebody asleep makes no system call; with
/// many permits, most of them taken, it looks at one word after the other for a free one.
///
/// # Examples
///
/// ```
/// use pagemate::BoundedSemaphore;
///
/// # fn main() -> pagemate::Result<()> {
/// let connections = BoundedSemaphore::new(2)?;
/// let one = connections.acquire()?;
/// let other = connections.acquire()?;
/// assert!(connections.try_acquire().is_err());
/// drop(one);
/// assert_eq!(connections.available(), 1);
/// # Ok(())
/// # }
/// ```
///
/// Taken here, given back there:
///
/// ```
/// use pagemate::BoundedSemaphore;
///
/// # fn main() -> pagemate::Result<()> {
/// let room = BoundedSemaphore::new(1)?;
/// room.acquire()?.keep();
/// let other = room.clone();
/// std::thread::spawn(move || other.release()).join().unwrap()?;
/// assert!(room.release().is_err(), "once too often");
/// # Ok(())
/// # }
/// ```
pub struct BoundedSemaphore {
    object: ObjectRef,
    count: u32,
    /// Where this handle found its last permit. Any value will do.
    hint: AtomicU32,
}

fn shape(count: u32) -> Result<Shape> {
    if !(1..=PERMITS_MAX).contains(&count) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a bounded semaphore of {count} permits is not possible: 1 to {PERMITS_MAX} are"),
        ));
    }
    Ok(Shape { kind: Kind::BoundedSemaphore, schema: String::new(), len: len(count) })
}

fn len(count: u32) -> usize {
    size_of::<Head>() + size_of::<AtomicU32>() * count as usize
}

fn init(count: u32) -> impl Fn(*mut u8) {
    move |base| {
        // SAFETY: the bytes of a shape() are at `base`, aligned to 128, and any bytes are a Head.
        let head = unsafe { &*base.cast::<Head>() };
        head.count.store(count, Relaxed); // published with the object
    }
}

impl BoundedSemaphore {
    /// A semaphore of so many permits that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (no permits, or more than 4,096), `OutOfMemory`, `System` (too many open files).
    pub fn new(permits: u32) -> Result<BoundedSemaphore> {
        BoundedSemaphore::from_object(Place::anonymous(&shape(permits)?, init(permits))?)
    }

    /// Creates the semaphore. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name, the count), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, permits: u32) -> Result<BoundedSemaphore> {
        BoundedSemaphore::from_object(place.into().create(&shape(permits)?, init(permits))?)
    }

    /// Opens an existing semaphore.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<BoundedSemaphore> {
        BoundedSemaphore::from_object(place.into().open(Kind::BoundedSemaphore, "")?)
    }

    /// Opens the semaphore or, if there is none, creates it with so many permits; says which. One that is there already
    /// keeps its own number.
    ///
    /// # Errors
    ///
    /// Those of [`open`](BoundedSemaphore::open) and [`create`](BoundedSemaphore::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, permits: u32) -> Result<(BoundedSemaphore, Origin)> {
        let (object, origin) = place.into().open_or_create(&shape(permits)?, init(permits))?;
        Ok((BoundedSemaphore::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<BoundedSemaphore> {
        match parts(object.base(), object.len()) {
            Some(Permits { words, .. }) => {
                let count = words.len() as u32; // at most PERMITS_MAX
                Ok(BoundedSemaphore { object, count, hint: AtomicU32::new(0) })
            }
            None => Err(Error::new(
                ErrorKind::Corrupted,
                "the bounded semaphore's number of permits is not possible",
            )),
        }
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn permits(&self) -> Permits<'_> {
        // SAFETY: from_object has found `count` words behind the head in the object, which is aligned to 128 and stays mapped as
        // long as `object` lives.
        unsafe { permits_at(self.object.base(), self.count) }
    }

    /// Takes a permit; blocks until there is one.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        self.acquire_until(Deadline::Never)
    }

    /// Takes a permit if there is one now. May miss one that is given back and taken at just this moment.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, `NotInThisProcess`.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        match self.permits().try_acquire(me, self.hint.load(Relaxed) as usize) {
            Some(index) => Ok(self.permit(me, index)),
            None => {
                self.object.miss();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// Takes a permit; blocks for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](BoundedSemaphore::try_acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Takes a permit; blocks until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](BoundedSemaphore::try_acquire).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        self.acquire_until(Deadline::at(deadline))
    }

    #[inline]
    fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        let me = self.object.owner().map_err(|_| LockError::NotInThisProcess)?;
        let (permits, hint) = (self.permits(), self.hint.load(Relaxed) as usize);
        let taken = permits
            .try_acquire(me, hint)
            .or_else(|| permits.acquire_contended(me, hint, deadline, || self.tend()));
        taken.map(|index| self.permit(me, index)).ok_or(LockError::NotAcquired)
    }

    /// The end of a waiter's slice: whether those who hold the permits are alive.
    fn tend(&self) {
        self.object.tend();
        self.permits().expel(|id| self.object.is_alive(id));
    }

    #[inline]
    fn permit(&self, me: OwnerId, index: usize) -> Permit<'_> {
        let index = index as u32;
        if self.hint.load(Relaxed) != index {
            self.hint.store(index, Relaxed);
        }
        Permit { semaphore: self, index, me, epoch: fork::epoch() }
    }

    /// Gives back a permit that was [kept](Permit::keep), by whichever process: one of this process if it has any.
    ///
    /// # Errors
    ///
    /// `NotHeld` (nobody has kept one; nothing has changed), `NotInThisProcess`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        let me = self.object.owner().map_err(|_| ReleaseError::NotInThisProcess)?;
        let freed = self.permits().free_kept(me, self.hint.load(Relaxed) as usize);
        freed.then_some(()).ok_or(ReleaseError::NotHeld)
    }

    /// How many permits can be had: may be more or fewer the moment after. Those of a process that has just died are not
    /// among them yet.
    pub fn available(&self) -> u32 {
        self.permits().available() as u32
    }

    /// How many permits there are, taken or not.
    pub fn bound(&self) -> u32 {
        self.count
    }
}

/// A permit of a [`BoundedSemaphore`]; given back when it is dropped.
///
/// The holder is the process, so a permit may be sent to another thread. A forked child that has a copy of it holds nothing.
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit<'a> {
    semaphore: &'a BoundedSemaphore,
    index: u32,
    me: OwnerId,
    epoch: u32,
}

impl Permit<'_> {
    /// Goes, and leaves the permit taken: until somebody calls [`BoundedSemaphore::release`], or this process leaves the
    /// segment or dies.
    pub fn keep(self) {
        if self.epoch == fork::epoch() {
            self.semaphore.permits().keep(self.index as usize);
        }
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // False only if somebody writes into the memory.
            let _ = self.semaphore.permits().free(self.index as usize, self.me);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Clone for BoundedSemaphore {
    fn clone(&self) -> BoundedSemaphore {
        let hint = AtomicU32::new(self.hint.load(Relaxed));
        BoundedSemaphore { object: self.object.clone(), count: self.count, hint }
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BoundedSemaphore");
        out.field("available", &self.available()).field("bound", &self.count).finish_non_exhaustive()
    }
}

/// The memory side at `base`.
///
/// # Safety
///
/// Behind a Head at `base`, which is aligned to 128, there are `count` words, mapped for `'a`.
#[inline]
unsafe fn permits_at<'a>(base: *const u8, count: u32) -> Permits<'a> {
    // SAFETY: as the caller promises; any bytes are a Head and atomic words, which are aligned behind it.
    unsafe {
        let head = &*base.cast::<Head>();
        let words = base.add(size_of::<Head>()).cast::<AtomicU32>();
        Permits { waiters: &head.waiters, words: std::slice::from_raw_parts(words, count as usize) }
    }
}

/// The semaphore at `base`, if its number of permits is possible and it is as long as that.
fn parts<'a>(base: *const u8, object_len: usize) -> Option<Permits<'a>> {
    if object_len < size_of::<Head>() {
        return None;
    }
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Head.
    let count = unsafe { &*base.cast::<Head>() }.count.load(Relaxed);
    let is_possible = (1..=PERMITS_MAX).contains(&count) && object_len >= len(count);
    // SAFETY: it is so long; the rest as above.
    is_possible.then(|| unsafe { permits_at(base, count) })
}

/// Frees the permits of `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(permits) = parts(base, len) {
        permits.recover(dead);
    }
}

/// What `pagemate show` says about a bounded semaphore.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(permits) = parts(base, len) else { return Vec::new() };
    vec![
        ("available", permits.available().to_string()),
        ("bound", permits.words.len().to_string()),
        ("waited on", permits.waiters.is_waited_on().to_string()),
    ]
}
