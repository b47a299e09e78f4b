//! The owner word: a lock that says who holds it, in the 32 bits of a futex. Mutex, lock and recursive lock stand on it.
//!
//! Not fair (who comes may pass who waits), not recursive, and it says nothing about threads: the holder is a participant.
//! The fast path and the sleeping waiter are those of futex mutexes since Drepper's "Futexes Are Tricky"; the owner and the
//! mark of its death are those of the kernel's robust futexes (`robust-futexes.rst`), but it is a reaper who sets the mark,
//! so that nothing has to be registered with the kernel.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | who holds it; 0 for nobody |
//! | 30 | somebody may be asleep |
//! | 31 | a holder died in it, and nobody has said since that all is well |
//!
//! | owner | asleep | died | meaning | who moves it on |
//! |---|---|---|---|---|
//! | 0 | 0 | 0 | free, the fresh state | whoever takes it: swap to its id |
//! | 0 | 0 or 1 | 1 | free after a death | whoever takes it, and is told |
//! | 0 | 1 | 0 | free; who announced itself at this moment is about to take it, or has given up | whoever takes it |
//! | id | 0 | 0 or 1 | held | the holder frees it; a waiter sets "asleep"; a reaper frees it and sets "died" |
//! | id | 1 | 0 or 1 | held, and somebody may be asleep | the same, and they wake one |
//! | 1..1024 | any | any | damage: no id is so small | counts as free after a death |
//!
//! Who frees the word clears "asleep" and wakes one. Who was announced when it takes the word sets the bit again, because
//! others may be asleep whose bit was cleared; so the bit is set while anybody sleeps, but for the time in which one who
//! was woken is on its way.
//!
//! # Memory ordering
//!
//! Taking is Acquire and freeing is Release, so a holder sees what the one before it did. A reaper frees with AcqRel in the
//! dead one's place: the kernel drops the dead one's file lock after its last store, and the reaper has seen that. State and
//! waiter bit share the word, so no wake-up is lost.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | holder dies | a waiter's tend, at the end of its slice; reapers | [`recover`](OwnerWord::recover) frees the word, marks the death and wakes one | what the holder was about to do |
//! | holder dies between freeing and waking | sleepers, at the end of their slice | themselves | up to 50 ms |
//! | waiter dies announced or asleep | nobody needs to | the next free makes one needless call | nothing |
//! | waiter dies woken, before it took the word | the other sleepers, at the end of their slice | themselves | up to 50 ms |
//! | reaper dies or stops between its swap and its wake | the next reaper; sleepers, at the end of their slice | they wake, or look themselves | up to 50 ms |

use std::cell::Cell;

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::owner::OwnerId;
use crate::sync::wait::wait_in_contention;
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;

const OWNER: u32 = (1 << OwnerId::BITS) - 1;
/// Somebody may be asleep.
const WAITING: u32 = 1 << 30;
/// A holder died in it.
const DIED: u32 = 1 << 31;

/// Who holds the word, if anybody can.
fn holder(word: u32) -> Option<OwnerId> {
    OwnerId::from_bits(word & OWNER)
}

fn is_free(word: u32) -> bool {
    holder(word).is_none()
}

/// The word once `me` has taken it, which was free at `word`.
fn taken(word: u32, me: OwnerId) -> u32 {
    let is_damaged = word & OWNER != 0;
    me.bits() | word & (WAITING | DIED) | if is_damaged { DIED } else { 0 }
}

/// The word once its holder has freed it.
fn freed(word: u32) -> u32 {
    word & DIED
}

/// The word once a reaper has freed it. Keeps the waiter bit, so that other reapers wake too.
fn bereft(word: u32) -> u32 {
    word & WAITING | DIED
}

/// The word is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acquired {
    /// An earlier holder died, and nobody has called [`OwnerWord::mark_consistent`] since.
    pub(crate) after_death: bool,
}

/// The memory side.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnerWord {
    futex: Futex,
}

impl OwnerWord {
    /// Free.
    #[cfg(any(test, loom, feature = "raw_sync"))]
    pub(crate) fn new() -> OwnerWord {
        OwnerWord { futex: Futex::new(0) }
    }

    /// Takes the word if that takes no more than one step: it is free, nobody waits, nobody died.
    #[inline(always)]
    pub(crate) fn acquire_fresh(&self, me: OwnerId) -> bool {
        // Pairs with release() and recover().
        self.futex.word.compare_exchange(0, me.bits(), Acquire, Relaxed).is_ok()
    }

    /// Takes the word if it is free.
    #[inline]
    pub(crate) fn try_acquire(&self, me: OwnerId) -> Option<Acquired> {
        if self.acquire_fresh(me) {
            return Some(Acquired { after_death: false });
        }
        self.acquire_seen(me, 0)
    }

    /// Takes the word if it is free, with `bits` beside.
    fn acquire_seen(&self, me: OwnerId, bits: u32) -> Option<Acquired> {
        let mut seen = self.futex.word.load(Relaxed);
        while is_free(seen) {
            let next = taken(seen, me) | bits;
            // Pairs with release() and recover().
            match self.futex.word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) => return Some(Acquired { after_death: next & DIED != 0 }),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Waits until the word is free and takes it; `None` if that was not before the deadline. At the end of each slice
    /// `tend` gets whoever holds the word, to have a look whether it is alive.
    #[cold]
    pub(crate) fn acquire_contended(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut tend: impl FnMut(Option<OwnerId>),
    ) -> Option<Acquired> {
        let announced = Cell::new(false);
        let attempt = || if announced.get() { self.acquire_announced(me) } else { self.acquire_seen(me, 0) };
        let announce = || {
            announced.set(true);
            self.announce()
        };
        wait_in_contention(&self.futex, deadline, || tend(self.holder()), attempt, announce)
    }

    /// Says that somebody is about to sleep; gives the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, Relaxed) | WAITING
    }

    /// Takes the word if it is free. Others may sleep whose bit was cleared by who woke this one: hence it is set again.
    pub(crate) fn acquire_announced(&self, me: OwnerId) -> Option<Acquired> {
        self.acquire_seen(me, WAITING)
    }

    /// Frees the word, if it is `me` who holds it, and wakes one who waits.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self, me: OwnerId) -> bool {
        // Pairs with the Acquire of who takes it next.
        match self.futex.word.compare_exchange(me.bits(), 0, Release, Relaxed) {
            Ok(_) => true,
            Err(seen) => self.release_seen(seen, |word| holder(word) == Some(me)),
        }
    }

    /// Frees the word, whoever holds it. False: nobody did.
    #[must_use]
    pub(crate) fn release_any(&self) -> bool {
        self.release_seen(self.futex.word.load(Relaxed), |word| !is_free(word))
    }

    #[cold]
    fn release_seen(&self, mut seen: u32, may: impl Fn(u32) -> bool) -> bool {
        while may(seen) {
            // Pairs with the Acquire of who takes it next.
            match self.futex.word.compare_exchange_weak(seen, freed(seen), Release, Relaxed) {
                Ok(_) if seen & WAITING != 0 => {
                    self.futex.wake(1);
                    return true;
                }
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Forgets the death. Only for the holder.
    pub(crate) fn mark_consistent(&self) {
        self.futex.word.fetch_and(!DIED, Relaxed);
    }

    /// Frees the word if `dead` holds it, marks the death and wakes one who waits. Idempotent; any number of processes may
    /// do it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut seen = self.futex.word.load(Relaxed);
        while holder(seen) == Some(dead) {
            // Pairs with the Acquire of who takes it next.
            match self.futex.word.compare_exchange_weak(seen, bereft(seen), AcqRel, Relaxed) {
                Ok(_) => seen = bereft(seen),
                Err(now) => seen = now,
            }
        }
        // Ours, or that of a reaper that may not have come to wake.
        if is_free(seen) && seen & (WAITING | DIED) == WAITING | DIED {
            self.futex.wake(1);
        }
    }

    /// Who holds the word. Racy, unless it is the caller.
    pub(crate) fn holder(&self) -> Option<OwnerId> {
        holder(self.futex.word.load(Relaxed))
    }

    /// Whether somebody may be asleep. May be true long after the last sleeper has gone.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// Whether a holder died and nobody has said since that all is well.
    pub(crate) fn is_after_death(&self) -> bool {
        self.futex.word.load(Relaxed) & DIED != 0
    }
}

#[cfg(not(loom))]
pub(crate) use attached::{acquire, acquire_from_all, describe, held};

/// The word in an object: with a clock, and with the dead.
#[cfg(not(loom))]
mod attached {
    use super::{Acquired, OwnerWord};
    use crate::object::ObjectRef;
    use crate::owner::OwnerId;
    use crate::sys::clock::Deadline;
    use crate::{Error, ErrorKind};

    /// Takes `word`, which stands in `object`; `None` if that was not possible before the deadline.
    #[inline]
    pub(crate) fn acquire(
        word: &OwnerWord,
        object: &ObjectRef,
        me: OwnerId,
        deadline: Deadline,
    ) -> Option<Acquired> {
        if word.acquire_fresh(me) {
            return Some(Acquired { after_death: false });
        }
        contended(word, object, me, deadline)
    }

    #[cold]
    fn contended(word: &OwnerWord, object: &ObjectRef, me: OwnerId, deadline: Deadline) -> Option<Acquired> {
        let tend = |holder: Option<OwnerId>| {
            object.tend();
            // Not only when it is the segment's turn: so one slice is enough to notice a death, and an id that nobody has
            // ever had does not keep the lock for ever.
            if let Some(holder) = holder.filter(|holder| !object.is_alive(*holder)) {
                word.recover(holder);
            }
        };
        word.acquire_contended(me, deadline, tend)
    }

    /// As [`acquire`], and at the deadline from a dead holder, too: who does not wait has not looked for the dead.
    #[inline]
    pub(crate) fn acquire_from_all(
        word: &OwnerWord,
        object: &ObjectRef,
        me: OwnerId,
        deadline: Deadline,
    ) -> Option<Acquired> {
        acquire(word, object, me, deadline).or_else(|| {
            let holder = word.holder().filter(|holder| !object.is_alive(*holder))?;
            word.recover(holder);
            word.try_acquire(me)
        })
    }

    /// That somebody holds the word, and is doing so.
    #[cold]
    pub(crate) fn held(word: &OwnerWord, doing: &str) -> Error {
        let holder = word.holder().map_or("somebody".to_owned(), |id| format!("participant {}", id.index()));
        Error::new(ErrorKind::TimedOut, format!("{holder} is {doing}, and does not finish"))
    }

    /// What `pagemate show` says about the word.
    pub(crate) fn describe(word: &OwnerWord) -> Vec<(&'static str, String)> {
        let holder = word.holder().map_or("nobody".to_owned(), |id| format!("participant {}", id.index()));
        vec![
            ("holder", holder),
            ("waited on", word.is_waited_on().to_string()),
            ("owner died", word.is_after_death().to_string()),
        ]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn ids() -> (OwnerId, OwnerId) {
        (OwnerId::new(1023, (1 << 20) - 1).unwrap(), OwnerId::new(0, 1).unwrap())
    }

    #[test]
    fn words() {
        let (me, _) = ids();
        assert!(is_free(0) && is_free(DIED) && is_free(WAITING) && !is_free(me.bits() | DIED));
        assert!(is_free(1023), "an impossible id holds nothing");
        assert_eq!(taken(1023 | WAITING, me), me.bits() | WAITING | DIED, "and whoever comes is told");
        assert_eq!(taken(0, me), me.bits());
        assert_eq!(freed(taken(DIED | WAITING, me)), DIED);
        assert_eq!(bereft(me.bits() | WAITING), WAITING | DIED);
    }

    #[test]
    fn one_holder_at_a_time_who_alone_frees_it() {
        let (me, other) = ids();
        let word = OwnerWord::new();
        assert!(!word.release(me) && !word.release_any());
        assert_eq!(word.try_acquire(me), Some(Acquired { after_death: false }));
        assert_eq!((word.try_acquire(other), word.try_acquire(me)), (None, None));
        assert!(!word.release(other) && word.holder() == Some(me));
        assert!(word.release(me) && !word.release(me));
        assert!(word.try_acquire(other).is_some() && word.release_any() && word.holder().is_none());
    }

    #[test]
    fn a_death_is_told_until_it_is_mended() {
        let (me, other) = ids();
        let word = OwnerWord::new();
        word.try_acquire(other).unwrap();
        word.recover(me);
        assert_eq!(word.holder(), Some(other), "who is not dead is not robbed");
        word.recover(other);
        word.recover(other);
        for _ in 0..2 {
            assert_eq!(word.try_acquire(me), Some(Acquired { after_death: true }));
            assert!(word.release(me));
        }
        word.try_acquire(me).unwrap();
        word.mark_consistent();
        assert!(word.release(me));
        assert_eq!(word.try_acquire(me), Some(Acquired { after_death: false }));
    }
}
