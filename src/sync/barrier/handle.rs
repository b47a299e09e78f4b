//! The handle of a barrier.

use crate::loom::atomic::{AtomicU64, Ordering::Relaxed};
use std::cell::RefCell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::words::PARTIES_MAX;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::owner::OwnerId;
use crate::segment::verbs::verbs;
use crate::sync::barrier::state::{Head, Rendezvous};
use crate::sync::barrier::BarrierError;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// Offset of the arrivals' words. Not in the cache lines that waiters read.
const WORDS_AT: usize = 128;

/// A barrier at which a fixed number of parties wait for each other, again and again.
///
/// A party is one call of [`wait`](Barrier::wait), in any process or thread. When all parties have
/// arrived, all of them go on. Each gets a different index, and exactly one gets 0. The next round
/// can begin at once, even if some parties have not yet left the previous one.
///
/// A party that times out, or calls [`abort`](Barrier::abort), breaks the barrier. All waiters, and
/// all later callers, get [`BarrierError::Broken`] until a process calls [`reset`](Barrier::reset).
///
/// A party that arrived and died no longer counts once its death has been noticed, and another
/// party can take its place. A death is noticed within 100 ms if anybody waits. It is also noticed
/// when a round is completed more than 40 ms after it. A party that is stopped is not dead. It
/// counts if it has arrived, and if it has not, the others wait for it.
///
/// There is no `try_wait`, because an arrival cannot be withdrawn. `wait_timeout(Duration::ZERO)`
/// passes if all others have arrived, and breaks the barrier otherwise.
/// [`waiting`](Barrier::waiting) returns the number that have arrived.
///
/// A minimal program: `examples/barrier.rs`.
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
/// With an action, which one of the parties runs before any of them goes on:
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
///             assert_eq!(laps.available(), 1);
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
    /// Unwind-safe, because a panic of the action breaks the barrier, so no party goes on with what
    /// the action left.
    action: Option<Arc<AssertUnwindSafe<Action>>>,
}

type Action = Box<dyn Fn() + Send + Sync>;

fn len(parties: u32) -> usize {
    WORDS_AT + size_of::<AtomicU64>() * parties as usize
}

impl Object for Barrier {
    const KIND: Kind = Kind::Barrier;
    const LEN: usize = WORDS_AT;
    type Initial = u32;

    fn len_for(parties: &u32) -> Result<usize> {
        if !(1..=PARTIES_MAX).contains(parties) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a barrier of {parties} parties is not possible: 1 to {PARTIES_MAX} are"),
            ));
        }
        Ok(len(*parties))
    }

    unsafe fn init(base: *mut u8, parties: &u32) {
        // SAFETY: as the caller promises; any bytes are a Head.
        let head = unsafe { &*base.cast::<Head>() };
        head.parties.store(*parties, Relaxed); // published with the object
    }

    fn attach(object: ObjectRef) -> Result<Barrier> {
        match parts(object.base(), object.len()) {
            Some(Rendezvous { words, .. }) => {
                let parties = words.len() as u32; // at most PARTIES_MAX
                Ok(Barrier { object, parties, action: None })
            }
            None => Err(Error::new(ErrorKind::Corrupted, "the barrier's number of parties is not possible")),
        }
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Barrier {
    verbs!(
        Barrier: "a" "barrier" (parties: u32),
        with "for `parties` parties",
        refuses "no parties, or more than 4,096",
        keeps "its number of parties"
    );

    #[inline]
    fn rendezvous(&self) -> Rendezvous<'_> {
        // SAFETY: attach() has found `parties` words behind the head in the object. It is
        // aligned to 128 and stays mapped as long as `object` lives.
        unsafe { rendezvous_at(self.object.base(), self.parties) }
    }

    /// Sets the action of this handle. When all parties have arrived, the party that detects this
    /// runs the action of its own handle, and then all go on. So every party sets the same action.
    /// A closure does not cross from one process to another: a barrier that was passed to a child
    /// has no action there until the child sets one.
    ///
    /// If the action panics, or its process dies in it, the barrier breaks: the action never runs
    /// twice in a round. The action must not use the barrier itself, except for
    /// [`abort`](Barrier::abort) and [`reset`](Barrier::reset).
    pub fn with_action(mut self, action: impl Fn() + Send + Sync + 'static) -> Barrier {
        self.action = Some(Arc::new(AssertUnwindSafe(Box::new(action))));
        self
    }

    /// Blocks until all parties have arrived. Returns the index of this arrival, which is less than
    /// [`parties`](Barrier::parties). Exactly one party of a round gets 0.
    ///
    /// # Errors
    ///
    /// `Broken`, `NotInThisProcess`. A party also gets `Broken` if its round passed, but the party
    /// was stopped until the barrier was reset and more than a dozen rounds had gone by.
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::Never)
    }

    /// Like [`wait`](Barrier::wait), but blocks for at most `timeout`; then the barrier breaks.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and those of [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Like [`wait`](Barrier::wait), but blocks until `deadline` at the latest; then the barrier
    /// breaks.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and those of [`wait`](Barrier::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<usize, BarrierError> {
        self.wait_until(Deadline::at(deadline))
    }

    /// Like [`wait_timeout`](Barrier::wait_timeout), but the barrier also breaks when
    /// `is_interrupted` returns true. It is called every 50 ms. For language runtimes, whose signal
    /// handlers run between two calls.
    ///
    /// ```
    /// # fn main() -> pagemate::Result<()> {
    /// let barrier = pagemate::Barrier::new(2)?;
    /// assert!(barrier.wait_interruptible(None, || true).is_err());
    /// assert!(barrier.is_broken());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`wait_timeout`](Barrier::wait_timeout).
    ///
    /// # Panics
    ///
    /// If `is_interrupted` does; then the barrier breaks, too.
    pub fn wait_interruptible(
        &self,
        timeout: Option<Duration>,
        mut is_interrupted: impl FnMut() -> bool,
    ) -> Result<usize, BarrierError> {
        self.wait_by(timeout.map_or(Deadline::Never, Deadline::after), &mut is_interrupted)
    }

    fn wait_until(&self, deadline: Deadline) -> Result<usize, BarrierError> {
        self.wait_by(deadline, &mut || false)
    }

    fn wait_by(
        &self,
        deadline: Deadline,
        is_interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<usize, BarrierError> {
        let me = self.object.owner().map_err(|error| BarrierError::NotInThisProcess(error.refusal()))?;
        let rendezvous = self.rendezvous();
        let action = self.action.as_ref().map(|action| &****action as &dyn Fn());
        // Processes begin at different words.
        let hint = me.index() % self.parties as usize;
        let is_interrupted = RefCell::new(is_interrupted);
        let reap_dead = |thoroughly: bool| {
            self.object.reap_dead();
            if thoroughly {
                rendezvous.recover_dead(|id| self.object.is_alive(id));
                let unwinding = AbortOnUnwind(rendezvous);
                let is_interrupted = (is_interrupted.borrow_mut())();
                std::mem::forget(unwinding);
                if is_interrupted {
                    rendezvous.abort();
                }
            }
        };
        rendezvous.wait(me, hint, deadline, &reap_dead, action)
    }

    /// Breaks the barrier. Waiters, and callers until the next [`reset`](Barrier::reset), get
    /// `Broken`. Never blocks.
    pub fn abort(&self) {
        self.rendezvous().abort();
    }

    /// Resets the barrier. Waiters get `Broken`; later arrivals begin a new round. Never blocks.
    pub fn reset(&self) {
        self.rendezvous().reset();
    }

    /// Returns true if the barrier is broken. The answer may be out of date immediately.
    pub fn is_broken(&self) -> bool {
        self.rendezvous().is_broken()
    }

    /// Returns the number of parties that have arrived and wait. The answer may be out of date
    /// immediately. Counts the dead until their deaths are noticed.
    pub fn waiting(&self) -> usize {
        self.rendezvous().waiting()
    }

    /// Returns the number of parties.
    pub fn parties(&self) -> u32 {
        self.parties
    }
}

/// Breaks the barrier if a party unwinds that has arrived.
struct AbortOnUnwind<'a>(Rendezvous<'a>);

impl Drop for AbortOnUnwind<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Barrier");
        out.field("parties", &self.parties).field("waiting", &self.waiting());
        out.field("is_broken", &self.is_broken()).finish_non_exhaustive()
    }
}

/// Returns the memory side at `base`.
///
/// # Safety
///
/// `base` is aligned to 128. A Head is stored there, and `parties` words at WORDS_AT, all mapped
/// for `'a`.
#[inline]
unsafe fn rendezvous_at<'a>(base: *const u8, parties: u32) -> Rendezvous<'a> {
    // SAFETY: as the caller promises. Any bytes are a Head and atomic words, which are aligned
    // behind it.
    unsafe {
        let words = base.add(WORDS_AT).cast::<AtomicU64>();
        Rendezvous { head: &*base.cast::<Head>(), words: std::slice::from_raw_parts(words, parties as usize) }
    }
}

/// Returns the barrier at `base`, if its number of parties is possible and fits into `object_len`.
fn parts<'a>(base: *const u8, object_len: usize) -> Option<Rendezvous<'a>> {
    if object_len < WORDS_AT {
        return None;
    }
    // SAFETY: objects are mapped while they are inspected, and aligned to 128; any bytes are a
    // Head.
    let parties = unsafe { &*base.cast::<Head>() }.parties.load(Relaxed);
    let is_possible = (1..=PARTIES_MAX).contains(&parties) && object_len >= len(parties);
    // SAFETY: the object is long enough for `parties` words; the rest as above.
    is_possible.then(|| unsafe { rendezvous_at(base, parties) })
}

/// Withdraws the arrivals of `dead`.
pub(crate) fn recover(base: *mut u8, len: usize, dead: OwnerId) {
    if let Some(rendezvous) = parts(base, len) {
        rendezvous.recover(dead);
    }
}

/// Returns what `pagemate show` prints about a barrier.
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
