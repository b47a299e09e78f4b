//! The owner word: a lock that stores its holder, in the 32 bits of a futex. Mutex, lock and
//! reentrant lock are built on it.
//!
//! It is neither fair (a caller can overtake waiters) nor reentrant. It knows no threads: the
//! holder is a participant. The fast path and the sleeping waiter are those of futex mutexes since
//! Drepper's "Futexes Are Tricky". The owner and the mark of its death are those of the kernel's
//! robust futexes (`robust-futexes.rst`). Here a reaper sets the mark, so that nothing has to be
//! registered with the kernel.
//!
//! # State
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | the holder's id; 0 for none |
//! | 30 | asleep: a waiter may be asleep |
//! | 31 | died: a holder died, and nobody has marked the data consistent since |
//!
//! | owner | asleep | died | meaning | next |
//! |---|---|---|---|---|
//! | 0 | 0 | 0 | free, the fresh state | the next holder swaps in its id |
//! | 0 | 0 or 1 | 1 | free after a death | the next holder takes it, and learns of the death |
//! | 0 | 1 | 0 | free, a waiter has just announced itself or timed out | a participant takes it |
//! | id | 0 | 0 or 1 | held | holder frees it; waiter sets asleep; reaper frees it, sets died |
//! | id | 1 | 0 or 1 | held, a waiter may sleep | the same, and freeing wakes one waiter |
//! | 1..1024 | any | any | damage: ids begin at 1024 | counts as free after a death |
//!
//! Freeing the word clears "asleep" and wakes one waiter. That waiter sets the bit again when it
//! takes the word, because others may still sleep although the bit was cleared. So the bit is set
//! while any waiter sleeps, except while a woken waiter is on its way.
//!
//! # Memory ordering
//!
//! Taking is Acquire and freeing is Release, so a holder sees what the previous one did. A reaper
//! frees with AcqRel in place of the dead holder, because the kernel drops the dead process's file
//! lock after its last store, and the reaper has seen that the file lock is gone. The state and the
//! waiter bit share the word, so no wake-up is lost.
//!
//! # Death
//!
//! - **Holder dies.** Noticed by: a waiter at the end of its slice; reapers. Repair:
//!   [`recover`](OwnerWord::recover), which frees the word, marks the death and wakes one waiter.
//!   Lost: the holder's work.
//! - **Holder dies between freeing and waking.** Noticed by: sleepers, at the end of their slice.
//!   Repair: they retry. Lost: up to 50 ms.
//! - **Waiter dies announced or asleep.** Noticed by: nobody. Repair: the next free makes one
//!   needless call. Lost: nothing.
//! - **Waiter dies woken, before it took the word.** Noticed by: the other sleepers, at the end of
//!   their slice. Repair: they retry. Lost: up to 50 ms.
//! - **Reaper dies or stops between its swap and its wake.** Noticed by: next reaper; sleepers, at
//!   the end of their slice. Repair: they wake, or try again. Lost: up to 50 ms.

use std::cell::Cell;

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::sys::futex::Futex;
use crate::wait::wait_in_contention;

const OWNER: u32 = (1 << OwnerId::BITS) - 1;
/// A waiter may be asleep.
const WAITING: u32 = 1 << 30;
/// A holder died.
const DIED: u32 = 1 << 31;

/// Returns the holder, if the id is a possible one.
fn holder(word: u32) -> Option<OwnerId> {
    OwnerId::from_bits(word & OWNER)
}

fn is_free(word: u32) -> bool {
    holder(word).is_none()
}

/// Returns the word after `me` has taken it; it was free at `word`.
fn taken(word: u32, me: OwnerId) -> u32 {
    let is_damaged = word & OWNER != 0;
    me.bits() | word & (WAITING | DIED) | if is_damaged { DIED } else { 0 }
}

/// Returns the word after its holder has freed it.
fn freed(word: u32) -> u32 {
    word & DIED
}

/// Returns the word after a reaper has freed it. Keeps the waiter bit, so that other reapers wake
/// too.
fn freed_after_death(word: u32) -> u32 {
    word & WAITING | DIED
}

/// The caller holds the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acquired {
    /// Whether an earlier holder died, and nobody has called [`OwnerWord::mark_consistent`] since.
    pub(crate) after_death: bool,
}

/// An owner word in shared memory.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnerWord {
    futex: Futex,
}

impl OwnerWord {
    /// Creates a free word.
    #[cfg(any(test, loom, feature = "raw_sync"))]
    pub(crate) fn new() -> OwnerWord {
        OwnerWord { futex: Futex::new(0) }
    }

    /// Takes the word if one step is enough: it is free, and has neither waiters nor a death.
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

    /// Takes the word if it is free, and sets `bits` too.
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

    /// Blocks until the word is free and takes it; `None` at the deadline. At the end of each
    /// slice, calls `reap_dead` with the holder, so that it can check whether the holder is alive.
    #[cold]
    pub(crate) fn acquire_contended(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut reap_dead: impl FnMut(Option<OwnerId>),
    ) -> Option<Acquired> {
        let announced = Cell::new(false);
        let attempt = || if announced.get() { self.acquire_announced(me) } else { self.acquire_seen(me, 0) };
        let announce = || {
            announced.set(true);
            self.announce()
        };
        wait_in_contention(&self.futex, deadline, || reap_dead(self.holder()), attempt, announce)
    }

    /// Sets the waiter bit before the caller sleeps. Returns the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.futex.word.fetch_or(WAITING, Relaxed) | WAITING
    }

    /// Takes the word if it is free, and sets the waiter bit. Other waiters may sleep, and freeing
    /// the word has cleared the bit.
    pub(crate) fn acquire_announced(&self, me: OwnerId) -> Option<Acquired> {
        self.acquire_seen(me, WAITING)
    }

    /// Frees the word if `me` holds it, and wakes one waiter.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self, me: OwnerId) -> bool {
        // Pairs with the Acquire of the next holder.
        match self.futex.word.compare_exchange(me.bits(), 0, Release, Relaxed) {
            Ok(_) => true,
            Err(seen) => self.release_seen(seen, |word| holder(word) == Some(me)),
        }
    }

    /// Frees the word, no matter which participant holds it. Returns false if it was free.
    #[must_use]
    pub(crate) fn release_any(&self) -> bool {
        self.release_seen(self.futex.word.load(Relaxed), |word| !is_free(word))
    }

    #[cold]
    fn release_seen(&self, mut seen: u32, may: impl Fn(u32) -> bool) -> bool {
        while may(seen) {
            // Pairs with the Acquire of the next holder.
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

    /// Clears the mark of a death. Only for the holder.
    pub(crate) fn mark_consistent(&self) {
        self.futex.word.fetch_and(!DIED, Relaxed);
    }

    /// Frees the word if `dead` holds it, marks the death and wakes one waiter. Idempotent; any
    /// number of processes may call it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let mut seen = self.futex.word.load(Relaxed);
        while holder(seen) == Some(dead) {
            // Pairs with the Acquire of the next holder.
            match self.futex.word.compare_exchange_weak(seen, freed_after_death(seen), AcqRel, Relaxed) {
                Ok(_) => seen = freed_after_death(seen),
                Err(now) => seen = now,
            }
        }
        // Our own mark, or that of a reaper that may have died before its wake.
        if is_free(seen) && seen & (WAITING | DIED) == WAITING | DIED {
            self.futex.wake(1);
        }
    }

    /// Returns the holder. Racy, unless the caller is the holder.
    pub(crate) fn holder(&self) -> Option<OwnerId> {
        holder(self.futex.word.load(Relaxed))
    }

    /// Returns true if a waiter may be asleep. May be true long after the last sleeper has gone.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.futex.word.load(Relaxed) & WAITING != 0
    }

    /// Returns true if a holder died and nobody has marked the data consistent since.
    pub(crate) fn is_after_death(&self) -> bool {
        self.futex.word.load(Relaxed) & DIED != 0
    }
}

pub(crate) use attached::{acquire, acquire_from_all, describe, held};

/// The word in an object, with a clock and with reaping.
mod attached {
    use super::{Acquired, OwnerWord};
    use crate::segment::object::ObjectRef;
    use crate::segment::owner::OwnerId;
    use crate::sys::clock::Deadline;
    use crate::{Error, ErrorKind};

    /// Takes `word`, which is stored in `object`; `None` at the deadline.
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
        let reap_dead = |holder: Option<OwnerId>| {
            object.reap_dead();
            // Not only when the segment is due. So one slice is enough to notice a death, and an id
            // that no participant ever had does not keep the lock for ever.
            if let Some(holder) = holder.filter(|holder| !object.is_alive(*holder)) {
                word.recover(holder);
            }
        };
        word.acquire_contended(me, deadline, reap_dead)
    }

    /// Like [`acquire`], and at the deadline it takes the word from a dead holder too, because a
    /// caller that does not wait has not checked for deaths.
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

    /// Returns the error that a participant holds the word, and is `doing` something.
    #[cold]
    pub(crate) fn held(word: &OwnerWord, doing: &str) -> Error {
        let holder = word.holder().map_or("a writer".to_owned(), |id| format!("participant {}", id.index()));
        Error::new(ErrorKind::TimedOut, format!("{holder} is {doing}, and does not finish"))
    }

    /// Returns what `pagemate show` prints about the word.
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
        assert_eq!(taken(1023 | WAITING, me), me.bits() | WAITING | DIED, "and the death is reported");
        assert_eq!(taken(0, me), me.bits());
        assert_eq!(freed(taken(DIED | WAITING, me)), DIED);
        assert_eq!(freed_after_death(me.bits() | WAITING), WAITING | DIED);
    }

    #[test]
    fn only_the_one_holder_frees_it() {
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
    fn a_death_is_told_until_it_is_marked_consistent() {
        let (me, other) = ids();
        let word = OwnerWord::new();
        word.try_acquire(other).unwrap();
        word.recover(me);
        assert_eq!(word.holder(), Some(other), "a holder that is not dead keeps the lock");
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
