//! The handle of a bounded semaphore, and its permits.

use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use std::fmt;
use std::time::{Duration, Instant};

use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::bounded_semaphore::state::Permits;
use crate::sync::error::{LockError, ReleaseError};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::wait::Waiters;
use crate::{Error, ErrorKind, Result};

/// The largest bound.
const PERMITS_MAX: u32 = 4096;

/// The fields in front of the words. Any bytes are a Head.
#[repr(C)]
struct Head {
    waiters: Waiters,
    /// The number of permits. Written once, read once by each handle.
    count: AtomicU32,
}

const _: () = assert!(size_of::<Head>() == 8);

/// A semaphore with a fixed number of permits. The permits of a process that dies are returned
/// automatically.
///
/// [`acquire`](BoundedSemaphore::acquire) returns a [`Permit`], and dropping it returns the permit.
/// To return a permit from elsewhere, as in Python, [keep](Permit::keep) it; then any process calls
/// [`release`](BoundedSemaphore::release) once for it. There are never more permits than at the
/// beginning. Releasing a permit that nobody has kept is an error, and changes nothing.
///
/// Use it for limits, such as "at most four at once". For signals, such as "four more items are
/// ready", where one side acquires, the other releases, and the count has no bound, use
/// [`Semaphore`](crate::Semaphore).
///
/// Unfair: a caller that arrives at the right moment can overtake sleeping waiters. Acquiring and
/// releasing makes no system call unless a waiter sleeps. If there are many permits and most are
/// taken, acquiring scans for a free one. A minimal program: `examples/semaphore.rs`.
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
/// Acquired by one thread, released by another:
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
    /// Where this handle found its last permit. Any value is allowed.
    hint: AtomicU32,
}

fn len(count: u32) -> usize {
    size_of::<Head>() + size_of::<AtomicU32>() * count as usize
}

impl Object for BoundedSemaphore {
    const KIND: Kind = Kind::BoundedSemaphore;
    const LEN: usize = size_of::<Head>();
    type Initial = u32;

    fn len_for(count: &u32) -> Result<usize> {
        if !(1..=PERMITS_MAX).contains(count) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a bounded semaphore of {count} permits is not possible: 1 to {PERMITS_MAX} are"),
            ));
        }
        Ok(len(*count))
    }

    unsafe fn init(base: *mut u8, count: &u32) {
        // SAFETY: as the caller promises; any bytes are a Head.
        let head = unsafe { &*base.cast::<Head>() };
        head.count.store(*count, Relaxed); // published with the object
    }

    fn attach(object: ObjectRef) -> Result<BoundedSemaphore> {
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

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl BoundedSemaphore {
    verbs!(
        BoundedSemaphore: "a" "semaphore" (permits: u32),
        with "with `permits` permits",
        refuses "no permits, or more than 4,096",
        keeps "its number of permits"
    );

    #[inline]
    fn permits(&self) -> Permits<'_> {
        // SAFETY: attach() has found `count` words behind the head in the object. It is aligned
        // to 128 and stays mapped as long as `object` lives.
        unsafe { permits_at(self.object.base(), self.count) }
    }

    /// Acquires a permit. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// `NotInThisProcess`.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        self.acquire_until(Deadline::Never)
    }

    /// Acquires a permit if one is free. Never blocks. May miss one that is returned and taken at
    /// the same moment.
    ///
    /// # Errors
    ///
    /// `NotAcquired`, `NotInThisProcess`.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        match self.permits().try_acquire(me, self.hint.load(Relaxed) as usize) {
            Some(index) => Ok(self.permit(me, index)),
            None => {
                self.object.note_failed_try();
                Err(LockError::NotAcquired)
            }
        }
    }

    /// Acquires a permit. Blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](BoundedSemaphore::try_acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Acquires a permit. Blocks until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire`](BoundedSemaphore::try_acquire).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        self.acquire_until(Deadline::at(deadline))
    }

    #[inline]
    fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, LockError<Permit<'_>>> {
        let me = self.object.owner().map_err(|error| LockError::NotInThisProcess(error.refusal()))?;
        let (permits, hint) = (self.permits(), self.hint.load(Relaxed) as usize);
        let taken = permits
            .try_acquire(me, hint)
            .or_else(|| permits.acquire_contended(me, hint, deadline, || self.reap_dead()));
        taken.map(|index| self.permit(me, index)).ok_or(LockError::NotAcquired)
    }

    /// Runs at the end of a waiter's slice: checks whether the holders of the permits are alive.
    fn reap_dead(&self) {
        self.object.reap_dead();
        self.permits().recover_dead(|id| self.object.is_alive(id));
    }

    #[inline]
    fn permit(&self, me: OwnerId, index: usize) -> Permit<'_> {
        let index = index as u32;
        if self.hint.load(Relaxed) != index {
            self.hint.store(index, Relaxed);
        }
        Permit { semaphore: self, index, me, epoch: fork::epoch() }
    }

    /// Releases a permit that any process has [kept](Permit::keep), preferably one of this process.
    ///
    /// # Errors
    ///
    /// `NotHeld` (there is no kept permit; nothing has changed), `NotInThisProcess`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        let me = self.object.owner().map_err(|error| ReleaseError::NotInThisProcess(error.refusal()))?;
        let freed = self.permits().free_kept(me, self.hint.load(Relaxed) as usize);
        freed.then_some(()).ok_or(ReleaseError::NotHeld)
    }

    /// Returns the number of free permits. The answer may be out of date immediately. The permits
    /// of a process that has just died are not yet included.
    pub fn available(&self) -> u32 {
        self.permits().available() as u32
    }

    /// Returns the number of permits, free or taken.
    pub fn bound(&self) -> u32 {
        self.count
    }
}

/// A permit of a [`BoundedSemaphore`]. Dropping it returns the permit.
///
/// The holder is the process, so a permit may be sent to another thread. A copy in a forked child
/// holds nothing.
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit<'a> {
    semaphore: &'a BoundedSemaphore,
    index: u32,
    me: OwnerId,
    epoch: u32,
}

impl Permit<'_> {
    /// Consumes the guard and leaves the permit taken, until any participant calls
    /// [`BoundedSemaphore::release`], or this process leaves the segment or dies.
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
            // False only if another program writes into the memory.
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

/// Returns the memory side at `base`.
///
/// # Safety
///
/// `base` is aligned to 128. A Head is stored there, and `count` words directly behind it, all
/// mapped for `'a`.
#[inline]
unsafe fn permits_at<'a>(base: *const u8, count: u32) -> Permits<'a> {
    // SAFETY: as the caller promises. Any bytes are a Head and atomic words, which are aligned
    // behind it.
    unsafe {
        let head = &*base.cast::<Head>();
        let words = base.add(size_of::<Head>()).cast::<AtomicU32>();
        Permits { waiters: &head.waiters, words: std::slice::from_raw_parts(words, count as usize) }
    }
}

/// Returns the semaphore at `base`, if its number of permits is possible and fits into
/// `object_len`.
fn parts<'a>(base: *const u8, object_len: usize) -> Option<Permits<'a>> {
    if object_len < size_of::<Head>() {
        return None;
    }
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // Head.
    let count = unsafe { &*base.cast::<Head>() }.count.load(Relaxed);
    let is_possible = (1..=PERMITS_MAX).contains(&count) && object_len >= len(count);
    // SAFETY: the object is long enough for `count` words; the rest as above.
    is_possible.then(|| unsafe { permits_at(base, count) })
}

/// Frees the permits of `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(permits) = parts(base, len) {
        permits.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a bounded semaphore.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(permits) = parts(base, len) else { return Vec::new() };
    vec![
        ("available", permits.available().to_string()),
        ("bound", permits.words.len().to_string()),
        ("waited on", permits.waiters.is_waited_on().to_string()),
    ]
}
