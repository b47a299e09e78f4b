//! The set that a program holds.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::{Duration, Instant};

use super::member::{Part, Waitable, Word};
use super::source::announce;
use crate::sys::clock::Deadline;
use crate::sys::futex::WaitTarget;
use crate::wait::{wait_by, Pace};
use crate::waitset::helpers::Helpers;
use crate::waitset::poll_fds::Files;
use crate::{Error, ErrorKind, Result};

/// The largest number of words with which a set spins before it sleeps.
const SPIN_WORDS: usize = 16;

/// Waits for any of several things at once: messages, connections, events, semaphores, ends of
/// processes, file descriptors.
///
/// [`Waitable`] says what can be a member, and when it is ready. A member has a token, a number of
/// your choice; a wait returns the tokens of all members that are ready, in no particular order.
///
/// The set is level-triggered: a member that stays ready is reported again. Waiting takes nothing,
/// so another receiver may have received a reported message before you do: use `try_recv`. The set
/// itself is local to its process. It keeps a reference to its members, so that they stay alive
/// until they are removed or the set is dropped. (Of a file it keeps a duplicate: a peer sees the
/// end of a socket only when the duplicate is closed too.)
///
/// A wait makes no system call if a member is ready already, unless file descriptors are members.
/// It sleeps in `futex_waitv` or, with descriptors, in `poll`. A set with both, or with more than
/// 128 members that are not descriptors, has helper threads: one for each 127 of these members.
///
/// # Polling
///
/// A set of one member, or of descriptors alone, always sleeps. Any other set polls its members
/// while it cannot sleep on all of them, every 0.25 ms at first and every 5 ms in the end:
///
/// - before Linux 5.16, and in a sandbox that refuses the system call `futex_waitv`
/// - as long as the kernel has no memory for that call
/// - if the set needs helpers: as long as the process can open no more files or start no more
///   threads
///
/// # Examples
///
/// ```
/// use pagemate::{Event, Queue, WaitSet};
///
/// # fn main() -> pagemate::Result<()> {
/// let (orders, prices, stop) = (Queue::<u64>::new(8)?, Queue::<f64>::new(8)?, Event::new()?);
/// let mut set = WaitSet::new();
/// set.add(0, &orders)?;
/// set.add(1, &prices)?;
/// set.add(2, &stop)?;
///
/// let (orders_too, stop_too) = (orders.clone(), stop.clone());
/// let other = std::thread::spawn(move || {
///     orders_too.send(41).unwrap();
///     stop_too.set();
/// });
/// let mut seen = Vec::new();
/// 'all: loop {
///     for token in set.wait()? {
///         match token {
///             0 => seen.extend(orders.try_iter().map(Result::unwrap)),
///             1 => prices.try_iter().for_each(drop),
///             _ => break 'all,
///         }
///     }
/// }
/// seen.extend(orders.try_iter().map(Result::unwrap));
/// assert_eq!(seen, [41]);
/// # other.join().unwrap();
/// # Ok(())
/// # }
/// ```
///
/// Children, and anything that has a file descriptor:
///
/// ```
/// use pagemate::{Process, WaitSet};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     pagemate::init();
///     let child = Process::spawn(|n: u64| n + 1, 41)?;
///     let (near, _far) = std::os::unix::net::UnixStream::pair()?;
///     let mut set = WaitSet::new();
///     set.add(0, &child)?;
///     set.add(1, &near)?;
///     assert_eq!(set.wait()?, [0]);
///     set.remove(0);
///     assert_eq!(child.join()?, 42);
///     Ok(())
/// }
/// ```
#[derive(Default)]
pub struct WaitSet {
    words: Vec<(usize, Word)>,
    files: Files,
    helpers: Helpers,
    /// These two are buffers, so that waiting allocates nothing.
    ready: Vec<usize>,
    targets: Vec<WaitTarget>,
}

impl WaitSet {
    /// Creates a set without members.
    pub fn new() -> WaitSet {
        WaitSet::default()
    }

    /// Adds a member. Waits report it as `token`.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`: a member has this token. `System`: too many open files.
    pub fn add<W: Waitable + ?Sized>(&mut self, token: usize, member: &W) -> Result<()> {
        if self.tokens().any(|other| other == token) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("the set has a member with token {token} already"),
            ));
        }
        match member.member()?.0 {
            Part::Word(word) => self.words.push((token, word)),
            Part::File(file) => self.files.add(token, file)?,
        }
        self.ready.clear();
        self.ready.reserve(self.len());
        self.targets.clear();
        self.targets.reserve(self.words.len());
        Ok(())
    }

    /// Removes a member. Returns false if no member has this token.
    pub fn remove(&mut self, token: usize) -> bool {
        let before = self.words.len();
        self.words.retain(|(other, _)| *other != token);
        self.words.len() < before || self.files.remove(token)
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.words.len() + self.files.len()
    }

    /// Returns whether the set has no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the tokens of all members.
    fn tokens(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().map(|(token, _)| *token).chain(self.files.tokens())
    }

    /// Blocks until a member is ready; returns the tokens of all that are. Without members it does
    /// not block, and returns no tokens.
    ///
    /// # Errors
    ///
    /// `System`, `OutOfMemory`: the kernel could not poll the descriptors.
    pub fn wait(&mut self) -> Result<&[usize]> {
        self.wait_until(Deadline::Never)
    }

    /// Returns the tokens of the members that are ready now.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn try_wait(&mut self) -> Result<&[usize]> {
        self.wait_until(Deadline::At(0))
    }

    /// Like [`wait`](WaitSet::wait), but blocks for at most `timeout`. Returns no tokens if none
    /// was ready in time.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<&[usize]> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Like [`wait`](WaitSet::wait), but blocks until `deadline` at the latest. Returns no tokens
    /// if none was ready in time.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<&[usize]> {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&mut self, deadline: Deadline) -> Result<&[usize]> {
        let WaitSet { words, files, helpers, ready, targets, .. } = self;
        ready.clear();
        if words.is_empty() && files.len() == 0 {
            return Ok(ready);
        }
        words.iter_mut().for_each(|(_, word)| word.source.begin());
        helpers.begin(files);
        let words = &*words;
        let (files, targets, has_announced) = (RefCell::new(files), RefCell::new(targets), Cell::new(false));
        let attempt = || {
            ready.clear();
            ready.extend(words.iter().filter(|(_, word)| word.source.is_ready()).map(|(token, _)| *token));
            match files.borrow_mut().poll_now(ready) {
                Ok(()) => (!ready.is_empty()).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        };
        let announce = || {
            has_announced.set(true);
            announce(words.iter().map(|(_, word)| &word.source), &mut targets.borrow_mut());
        };
        let sleep = |(), end| {
            // SAFETY: the words are in the memory of objects that `words` keeps, which does not
            // change meanwhile.
            unsafe { helpers.sleep(&targets.borrow(), &mut files.borrow_mut(), end) }
        };
        let spins = files.borrow().len() == 0 && words.len() <= SPIN_WORDS;
        let cost = if spins { words.len() as u32 } else { 0 };
        let outcome = wait_by(deadline, Pace::of(cost), || reap_dead(words), attempt, announce, sleep);
        if outcome.is_none() && deadline == Deadline::At(0) {
            owned(words).for_each(|word| word.object.note_failed_try());
        }
        if has_announced.get() {
            pass_on(words, ready);
        }
        outcome.unwrap_or(Ok(())).map(|()| &**ready)
    }
}

/// Reaps dead participants whose death could make a member ready.
fn reap_dead(words: &[(usize, Word)]) {
    owned(words).for_each(|word| word.object.reap_dead());
}

/// Returns the members whose readiness a dead process can prevent.
fn owned(words: &[(usize, Word)]) -> impl Iterator<Item = &Word> {
    words.iter().map(|(_, word)| word).filter(|word| word.has_owners)
}

/// Wakes another waiter of each ready member. `ready` begins with the tokens of `words`, in their
/// order.
fn pass_on(words: &[(usize, Word)], ready: &[usize]) {
    let mut left = ready.iter();
    let mut next = left.next();
    for (token, word) in words {
        if next == Some(token) {
            word.source.pass_on();
            next = left.next();
        }
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.iter().map(|(token, word)| (token, &word.source));
        f.debug_struct("WaitSet")
            .field("words", &words.collect::<Vec<_>>())
            .field("files", &self.files.tokens().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
