//! The set that a program holds.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::files::Files;
use super::member::{Part, Waitable, Word};
use super::source::announce;
use crate::sync::wait::{wait_by, Pace};
use crate::sys::clock::Deadline;
use crate::sys::futex::Spot;
use crate::{Error, ErrorKind, Result};

/// Sets of at most so many words spin before they sleep.
const SPIN_WORDS: usize = 16;
/// After so many looks at members that were not ready, who only ever tries looks for the dead.
const LOOKS_A_TEND: usize = 4096;

/// Waits for any of several things at once: messages, connections, events, semaphores, ends of processes, file
/// descriptors.
///
/// [`Waitable`] says what can be a member, and when it is ready. A member has a token, a number of your choice; a wait
/// gives the tokens of all that are ready, in no particular order.
///
/// Level-triggered: a member that stays ready is reported again. It takes nothing: a message that is reported may have
/// been received by somebody else when you come for it, so come with `try_recv`. The set itself is local to its process;
/// it keeps a reference to its members, so that these stay until they are removed or the set is dropped. (Of a file it
/// keeps a duplicate: a peer sees the end of a socket only when that is gone too.)
///
/// A wait makes no system call if something is ready already, unless file descriptors are members. It sleeps in
/// `futex_waitv` or, with descriptors, in `poll`. With both, or with more than 128 members that are no descriptors, it has
/// helper threads, one for each 127 of the latter. Before Linux 5.16 such sets, and all of more than one member that is no
/// descriptor, look every 0.25 ms at first and every 5 ms at last.
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
///             0 => seen.extend(orders.try_iter()),
///             1 => prices.try_iter().for_each(drop),
///             _ => break 'all,
///         }
///     }
/// }
/// seen.extend(orders.try_iter());
/// assert_eq!(seen, [41]);
/// # other.join().unwrap();
/// # Ok(())
/// # }
/// ```
///
/// Children, and whatever has a file descriptor:
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
    crew: Crew,
    /// Buffers, so that waiting allocates nothing.
    ready: Vec<usize>,
    spots: Vec<Spot>,
    looks: usize,
}

impl WaitSet {
    /// A set without members.
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
            Part::File(file) => self.files.add(token, file),
        }
        self.ready.clear();
        self.ready.reserve(self.len());
        self.spots.clear();
        self.spots.reserve(self.words.len());
        Ok(())
    }

    /// Removes a member. False: none has this token.
    pub fn remove(&mut self, token: usize) -> bool {
        let before = self.words.len();
        self.words.retain(|(other, _)| *other != token);
        self.words.len() < before || self.files.remove(token)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.words.len() + self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of all members.
    fn tokens(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().map(|(token, _)| *token).chain(self.files.tokens())
    }

    /// Waits until a member is ready; gives the tokens of all that are. Without members it does not wait, and gives none.
    ///
    /// # Errors
    ///
    /// `System`, `OutOfMemory`: the kernel could not look at the descriptors.
    pub fn wait(&mut self) -> Result<&[usize]> {
        self.wait_until(Deadline::Never)
    }

    /// The tokens of the members that are ready now.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn try_wait(&mut self) -> Result<&[usize]> {
        self.wait_until(Deadline::At(0))
    }

    /// [`wait`](WaitSet::wait), for `timeout` at most. No tokens: nothing was ready in time.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<&[usize]> {
        self.wait_until(Deadline::after(timeout))
    }

    /// [`wait`](WaitSet::wait), until `deadline` at most. No tokens: nothing was ready in time.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<&[usize]> {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&mut self, deadline: Deadline) -> Result<&[usize]> {
        let WaitSet { words, files, crew, ready, spots, looks, .. } = self;
        ready.clear();
        if words.is_empty() && files.len() == 0 {
            return Ok(ready);
        }
        words.iter_mut().for_each(|(_, word)| word.source.begin());
        crew.begin(files);
        let words = &*words;
        let (files, spots, has_announced) = (RefCell::new(files), RefCell::new(spots), Cell::new(false));
        let attempt = || {
            ready.clear();
            ready.extend(words.iter().filter(|(_, word)| word.source.is_ready()).map(|(token, _)| *token));
            match files.borrow_mut().look(ready) {
                Ok(()) => (!ready.is_empty()).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        };
        let announce = || {
            has_announced.set(true);
            announce(words.iter().map(|(_, word)| &word.source), &mut spots.borrow_mut());
        };
        let sleep = |(), slice| {
            // SAFETY: the words are in the memory of objects that `words` keeps, which does not change meanwhile.
            unsafe { crew.sleep(&spots.borrow(), &mut files.borrow_mut(), slice) }
        };
        let spins = files.borrow().len() == 0 && words.len() <= SPIN_WORDS;
        let cost = if spins { words.len() as u32 } else { 0 };
        let outcome = wait_by(deadline, Pace::of(cost), || tend(words), attempt, announce, sleep);
        if outcome.is_none() && deadline == Deadline::At(0) {
            *looks += words.len();
            if *looks >= LOOKS_A_TEND {
                *looks = 0;
                tend(words);
            }
        }
        if has_announced.get() {
            pass_on(words, ready);
        }
        outcome.unwrap_or(Ok(())).map(|()| &**ready)
    }
}

/// Looks for the dead who could make a member ready.
fn tend(words: &[(usize, Word)]) {
    words.iter().filter(|(_, word)| word.has_owners).for_each(|(_, word)| word.object.tend());
}

/// Wakes somebody else for each of those that are ready. They are in `ready` in the order of `words`, in front.
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
