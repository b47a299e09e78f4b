//! The handle of a barrier.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::words::PARTIES_MAX;
use super::{BarrierError, Head, Rendezvous};
use crate::kind::Kind;
use crate::object::ObjectRef;
use crate::owner::OwnerId;
use crate::place::{Origin, Place, Shape};
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// Where the arrivals' words begin: not in the lines that those look at who wait.
const WORDS_AT: usize = 128;

/// A place where a fixed number of parties wait for each other, again and again.
///
/// A party is a call of [`wait`](Barrier::wait), of whichever process or thread. When as many have arrived as the barrier has
/// parties, all of them go on; each is told an index of its own, and exactly one gets 0. The barrier can be used again at
/// once, also while some have not yet come to leave the round before.
///
/// A party whose time is over, or that calls [`abort`](Barrier::abort), breaks the barrier: all who wait, and all who come
/// later, get [`BarrierError::Broken`], until somebody calls [`reset`](Barrier::reset).
///
/// A party that arrived and died does not count any more once its death has been noticed: within 100 ms if anybody waits, and
/// when a round is completed, if that is more than 40 ms after it. So somebody else can take its place. A party that is
/// stopped is not dead: it counts, and if it is missing the others wait.
///
/// There is no `try_wait`: an arrival cannot be taken back. `wait_timeout(Duration::ZERO)` passes if all others are there
/// and breaks the barrier otherwise; [`waiting`](Barrier::waiting) says how many are.
///
/// # Examples
///
/// ```
/// use pagemate::Barrier;
///
/// # fn main() -> pagemate::Result<()> {
/// let start = Barrier::new(3)?;
/// let mut places: Vec<usize> = std::thread::scope(|scope| {
///     let runners = [(); 3].map(|_| scope.spawn(|| start.wait().unwrap()));
///     runners.map(|runner| runner.join().unwrap()).into()
/// });
/// places.sort();
/// assert_eq!(places, [0, 1, 2]);
/// # Ok(())
/// # }
/// ```
///
/// An action that one of them runs before any goes on:
///
/// ```
/// use pagemate::{Barrier, Semaphore};
///
/// # fn main() -> pagemate::Result<()> {
/// let laps = Semaphore::new(0)?;
/// let count = laps.clone();
/// let line = Barrier::new(2)?.with_action(move || _ = count.release());
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             line.wait().unwrap();
///             assert_eq!(laps.permits(), 1);
///         });
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Barrier {
    object: ObjectRef,
    parties: u32,
    action: Option<Arc<dyn Fn() + Send + Sync>>,
}

fn shape(parties: u32) -> Result<Shape> {
    if !(1..=PARTIES_MAX).contains(&parties) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a barrier of {parties} parties is not possible: 1 to {PARTIES_MAX} are"),
        ));
    }
    Ok(Shape { kind: Kind::Barrier, schema: String::new(), len: len(parties) })
}

fn len(parties: u32) -> usize {
    WORDS_AT + size_of::<AtomicU64>() * parties as usize
}

fn init(parties: u32) -> impl Fn(*mut u8) {
    move |base| {
        // SAFETY: the bytes of a shape() are at `base`, aligned to 128, and any bytes are a Head.
        let head = unsafe { &*base.cast::<Head>() };
        head.parties.store(parties, Relaxed); // published with the object
    }
}

impl Barrier {
    /// A barrier of so many parties that only handles lead to: clone it, or give it to a child process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` (no parties, or more than 4,096), `OutOfMemory`, `System` (too many open files).
    pub fn new(parties: u32) -> Result<Barrier> {
        Barrier::from_object(Place::anonymous(&shape(parties)?, init(parties))?)
    }

    /// Creates the barrier. Fails if something is there already.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `InvalidInput` (the name, the number), `OutOfMemory`, `PermissionDenied`, `Unsupported`.
    pub fn create(place: impl Into<Place>, parties: u32) -> Result<Barrier> {
        Barrier::from_object(place.into().create(&shape(parties)?, init(parties))?)
    }

    /// Opens an existing barrier.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TypeMismatch` (it is something else), `PermissionDenied`, `VersionMismatch`, `Corrupted`.
    pub fn open(place: impl Into<Place>) -> Result<Barrier> {
        Barrier::from_object(place.into().open(Kind::Barrier, "")?)
    }

    /// Opens the barrier or, if there is none, creates it for so many parties; says which. One that is there already keeps
    /// its own number.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Barrier::open) and [`create`](Barrier::create), and `Busy`.
    pub fn open_or_create(place: impl Into<Place>, parties: u32) -> Result<(Barrier, Origin)> {
        let (object, origin) = place.into().open_or_create(&shape(parties)?, init(parties))?;
        Ok((Barrier::from_object(object)?, origin))
    }

    pub(crate) fn from_object(object: ObjectRef) -> Result<Barrier> {
        match parts(object.base(), object.len()) {
            Some(Rendezvous { words, .. }) => {
                let parties = words.len() as u32; // at most PARTIES_MAX
                Ok(Barrier { object, parties, action: None })
            }
            None => Err(Error::new(ErrorKind::Corrupted, "the barrier's number of parties is not possible")),
        }
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    #[inline]
    fn rendezvous(&self) -> Rendezvous<'_> {
        // SAFETY: from_object has found `parties` words behind the head in the object, which is aligned to 128 and stays mapped
        // as long as `object` lives.
        unsafe { rendezvous_at(self.object.base(), self.parties) }
    }

    /// This handle with an action: when all have arrived, the one of them that finds this out runs the action of the handle
    /// that it waits with, and then all go on. So each party gives the same; a closure does not cross from one process to
    /// another, and a barrier that was given to a child has none there yet.
    ///
    /// If the action panics, or its process dies in it, the barrier is broken: nobody runs it a second time in the same
    /// round. The action must not use the barrier itself, but for [`abort`](Barrier::abort) and [`reset`](Barrier::reset).
    pub fn with_action(mut self, action: impl Fn() + Send + Sync + 'static) -> Barrier {
        self.action = Some(Arc::new(action));
        self
    }

    /// Waits until all have arrived. Gives the index of this arrival, below [`parties`](Barrier::parties); exactly one of a
    /// round gets 0.
    ///
    /// # Errors
    ///
    /// `Broken`, `NotInThisProcess`. One that has passed, but then was stopped until the barrier was reset and more than a dozen
    /// rounds had gone by without it, gets `Broken` too.
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::Never)
    }

    /// [`wait`](Barrier::wait), for `timeout` at most; then the barrier breaks.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and those of [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// [`wait`](Barrier::wait), until `deadline` at most; then the barrier breaks.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and those of [`wait`](Barrier::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<usize, BarrierError> {
        let me = self.object.owner().map_err(|_| BarrierError::NotInThisProcess)?;
        let rendezvous = self.rendezvous();
        let action = self.action.as_deref().map(|action| action as &dyn Fn());
        // Processes begin at different words.
        let hint = me.index() % self.parties as usize;
        let tend = |thoroughly: bool| {
            self.object.tend();
            if thoroughly {
                rendezvous.expel(|id| self.object.is_alive(id));
            }
        };
        rendezvous.wait(me, hint, deadline, &tend, action)
    }

    /// Breaks the barrier: who waits, and who comes until the next [`reset`](Barrier::reset), gets `Broken`. Never waits.
    pub fn abort(&self) {
        self.rendezvous().abort();
    }

    /// Makes the barrier as new: who waits gets `Broken`, who comes from now on begins a round. Never waits.
    pub fn reset(&self) {
        self.rendezvous().reset();
    }

    /// Whether the barrier is broken. May change at any moment.
    pub fn is_broken(&self) -> bool {
        self.rendezvous().is_broken()
    }

    /// How many have arrived and wait: may be more or fewer the moment after. Counts the dead until their deaths are noticed.
    pub fn waiting(&self) -> usize {
        self.rendezvous().waiting()
    }

    /// How many make a round.
    pub fn parties(&self) -> u32 {
        self.parties
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Barrier");
        out.field("parties", &self.parties).field("waiting", &self.waiting());
        out.field("is_broken", &self.is_broken()).finish_non_exhaustive()
    }
}

/// The memory side at `base`.
///
/// # Safety
///
/// Behind a Head and up to WORDS_AT at `base`, which is aligned to 128, there are `parties` words, mapped for `'a`.
#[inline]
unsafe fn rendezvous_at<'a>(base: *const u8, parties: u32) -> Rendezvous<'a> {
    // SAFETY: as the caller promises; any bytes are a Head and atomic words, which are aligned behind it.
    unsafe {
        let words = base.add(WORDS_AT).cast::<AtomicU64>();
        Rendezvous { head: &*base.cast::<Head>(), words: std::slice::from_raw_parts(words, parties as usize) }
    }
}

/// The barrier at `base`, if its number of parties is possible and it is as long as that.
fn parts<'a>(base: *const u8, object_len: usize) -> Option<Rendezvous<'a>> {
    if object_len < WORDS_AT {
        return None;
    }
    // SAFETY: objects are mapped as long as somebody looks at them, and aligned to 128; any bytes are a Head.
    let parties = unsafe { &*base.cast::<Head>() }.parties.load(Relaxed);
    let is_possible = (1..=PARTIES_MAX).contains(&parties) && object_len >= len(parties);
    // SAFETY: it is so long; the rest as above.
    is_possible.then(|| unsafe { rendezvous_at(base, parties) })
}

/// Takes back the arrivals of `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(rendezvous) = parts(base, len) {
        rendezvous.recover(dead);
    }
}

/// What `pagemate show` says about a barrier.
pub(crate) fn describe(base: *const u8, len: usize) -> Vec<(&'static str, String)> {
    let Some(rendezvous) = parts(base, len) else { return Vec::new() };
    vec![
        ("parties", rendezvous.words.len().to_string()),
        ("waiting", rendezvous.waiting().to_string()),
        ("broken", rendezvous.is_broken().to_string()),
        ("action runs", rendezvous.is_acting().to_string()),
        ("waited on", rendezvous.is_waited_on().to_string()),
    ]
}
