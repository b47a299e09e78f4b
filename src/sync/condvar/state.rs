//! A condition variable: a table of waiters, so that a notification wakes exactly the right number.
//!
//! A sequence number alone, as in futex-based condition variables, cannot say which waiter is
//! woken, because two waiters between unlocking and sleeping both see it move. Here a waiter enters
//! the table before it unlocks, and only its own entry releases it. A notifier picks the waiters
//! that have waited longest. Nobody waits for a waiter's acknowledgement, so a dead or stopped
//! waiter delays nobody. A notification without a waiter is not stored.
//!
//! # State of an entry
//!
//! The owner is the id of the waiter's process. If it is 0, or an impossible id, the entry is free.
//! The word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | waiting |
//! | 1 | notified |
//! | 2..64 | waiting: its ticket; notified: the next ticket at that time |
//!
//! | owner, word | meaning | next |
//! |---|---|---|
//! | none, any | free | a waiter takes the owner |
//! | set, 0 | claimed, or about to be free | the owner sets WAITING or frees it; a reaper frees |
//! | set, WAITING | in the queue | a notifier sets NOTIFIED; a time-out or a reaper sets 0 |
//! | set, NOTIFIED | on its way out | the waiter sets 0 once it has its lock; a reaper sets 0 |
//!
//! WAITING is set together with the next ticket. A reaper that finds NOTIFIED notifies another
//! waiter before it sets 0.
//!
//! Zero is the fresh state. A ticket is taken with the entry, so words never repeat in an entry,
//! and a stale exchange fails. Tickets have 62 bits and do not wrap in practice, because at 100
//! million a second they last 1,461 years. `high` is the highest number of entries that were ever
//! used at once, and bounds every scan.
//!
//! # Memory ordering
//!
//! A waiter and a notifier communicate through the lock. The waiter enters the table before it
//! unlocks, and a notifier that changed the state has locked before it notifies. So the notifier
//! sees the entry, or the waiter sees the state. For notifiers without the lock, a word is stored
//! with Release and read with Acquire. The owner is freed with Release, after the word, and claimed
//! with Acquire, so the next waiter's word comes after that of the last one. A notification is a
//! `SeqCst` read-modify-write before the read of the entry's waiter bit, as [`Waiters`] requires.
//!
//! # Death
//!
//! - **Waiter dies with an entry whose word is 0.** Noticed by: reapers. Repair: `recover` frees
//!   it. Lost: one of 1,024 entries until then.
//! - **Waiter dies in the queue.** Noticed by: reapers. Repair: `recover` frees its entry. Lost:
//!   nothing.
//! - **Waiter dies notified, before it has its lock again.** Noticed by: reapers. Repair: `recover`
//!   notifies the oldest of the waiters that waited already at that time. Lost: nothing.
//! - **Waiter dies with its lock, its entry still notified.** Noticed by: reapers, and the next
//!   holder of the lock. Repair: the same. Lost: nothing; a waiter may wake in vain.
//! - **Waiter dies with its lock, its entry free, or later.** Noticed by: the next holder of the
//!   lock, which learns of the death. Repair: that holder checks whether others must be notified.
//!   Lost: nothing, if it does.
//! - **Notifier dies between the entry and the wake.** Noticed by: the waiter, at the end of its
//!   slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Notifier dies in the middle of several notifications.** Noticed by: nobody. Repair: none.
//!   Lost: the notifications that it had not made.
//! - **Reaper dies, or others reap, between passing the notification on and freeing.** Noticed by:
//!   the next reaper. Repair: it passes the notification on once more. Lost: nothing; a waiter may
//!   wake in vain.
//! - **Waiter is stopped.** Noticed by: nobody. Repair: none: it still waits, and can be the one
//!   that is notified. Lost: nothing.

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::loom::OrderedChange;
use crate::message::CachePadded;
use crate::segment::owner::OwnerId;
use crate::sys::clock::{Deadline, INTERRUPT_SLICE};
use crate::wait::Waiters;

/// The highest number of waiters at once. Smaller in the loom models.
const ENTRIES: usize = if cfg!(loom) { 3 } else { 1024 };

const WAITING: u64 = 1;
const NOTIFIED: u64 = 2;
/// Position of the ticket's lowest bit.
const TICKET: u32 = 2;
/// The largest ticket. Only a damaged counter goes beyond it.
const LAST: u64 = u64::MAX >> TICKET;

fn waiting(ticket: u64) -> u64 {
    ticket << TICKET | WAITING
}

/// Returns the word of a waiter that is notified when `next` is the next ticket.
fn notified(next: u64) -> u64 {
    next << TICKET | NOTIFIED
}

fn is_waiting(word: u64) -> bool {
    word & (WAITING | NOTIFIED) == WAITING
}

fn is_notified(word: u64) -> bool {
    word & (WAITING | NOTIFIED) == NOTIFIED
}

/// Returns the ticket, or the next ticket at the time of the notification.
fn ticket(word: u64) -> u64 {
    word >> TICKET
}

/// One waiter. 16 bytes.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    word: AtomicU64,
    /// The futex on which the waiter sleeps.
    wake_word: Waiters,
    owner: AtomicU32,
}

impl Entry {
    /// Claims the entry for `me`, if it is free.
    fn claim(&self, me: OwnerId) -> bool {
        let seen = self.owner.load(Relaxed);
        // Pairs with free().
        OwnerId::from_bits(seen).is_none()
            && self.owner.compare_exchange(seen, me.bits(), Acquire, Relaxed).is_ok()
    }

    /// Frees the caller's own entry, whose word is 0 already. Reapers leave it alone, because its
    /// owner is alive.
    fn free(&self) {
        self.owner.store(0, Release); // pairs with claim()
    }

    /// Frees the entry if it still belongs to `dead`. Its word is 0 already.
    fn free_of(&self, dead: OwnerId) {
        let _ = self.owner.compare_exchange(dead.bits(), 0, Release, Relaxed); // pairs with claim()
    }

    /// Notifies the waiter, if its word is still `seen`.
    fn notify(&self, seen: u64, next: u64) -> bool {
        // Pairs with the load in wait().
        let done = self.word.exchange_ordered(seen, notified(next), Relaxed);
        if let Ok(change) = done {
            self.wake_word.notify_one(change);
        }
        done.is_ok()
    }
}

/// A waiter's entry in the table.
#[derive(Debug)]
pub(crate) struct Registration {
    index: usize,
    owner: OwnerId,
    word: u64,
}

#[derive(Debug)]
#[repr(C)]
struct Head {
    /// The next ticket.
    next: AtomicU64,
    /// The highest number of entries that were ever used at once.
    high: AtomicU32,
}

/// The memory side: the table of waiters.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct WaiterTable {
    head: CachePadded<Head>,
    entries: [Entry; ENTRIES],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<WaiterTable>() == 128 + 16 * ENTRIES);

impl WaiterTable {
    /// Creates an empty table.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> WaiterTable {
        let head = Head { next: AtomicU64::new(0), high: AtomicU32::new(0) };
        let entry =
            |_| Entry { word: AtomicU64::new(0), wake_word: Waiters::new(), owner: AtomicU32::new(0) };
        WaiterTable { head: CachePadded::new(head), entries: std::array::from_fn(entry) }
    }

    /// Returns the entries that may be in use.
    #[inline]
    fn used(&self) -> &[Entry] {
        let high = self.head.high.load(Acquire) as usize; // pairs with join()
        &self.entries[..high.min(ENTRIES)]
    }

    /// Enters the caller into the table, before it unlocks. `None` if the table is full.
    pub(crate) fn join(&self, me: OwnerId) -> Option<Registration> {
        // A ticket that is not used, to have the cache line of the head before that of the entry is
        // taken. Otherwise a notifier that searches the table meanwhile takes the entry's line
        // away, and both wait for it, which takes a third of a ping-pong's time.
        if !cfg!(loom) {
            self.head.next.fetch_add(1, Relaxed);
        }
        let (index, entry) = self.entries.iter().enumerate().find(|(_, entry)| entry.claim(me))?;
        if self.head.high.load(Relaxed) as usize <= index {
            self.head.high.fetch_max(index as u32 + 1, AcqRel); // pairs with used()
        }
        // Only now: the previous user of the entry has an older ticket.
        let word = waiting(self.head.next.fetch_add(1, Relaxed));
        entry.word.store(word, Release); // pairs with notify_before() and longest()
        Some(Registration { index, owner: me, word })
    }

    /// Blocks until the waiter is notified, or until the deadline.
    ///
    /// Returns true if it was notified; call [`leave`](WaiterTable::leave) once the lock is
    /// acquired again. Returns false if it timed out; then it has left the table.
    pub(crate) fn wait(
        &self,
        registration: &Registration,
        deadline: Deadline,
        reap_dead: impl FnMut(),
    ) -> bool {
        let entry = &self.entries[registration.index];
        // Pairs with notify(). Any other word ends the wait too, so that overwritten bytes cannot
        // make it last for ever.
        let attempt = || (entry.word.load(Acquire) != registration.word).then_some(());
        entry.wake_word.wait(deadline, reap_dead, attempt).is_some() || !self.retract(registration)
    }

    /// Like [`wait`](WaiterTable::wait), but calls `is_interrupted` after each slice, and stops if
    /// it returns true. The waiter stays in the table from slice to slice, so no notification
    /// misses it.
    pub(crate) fn wait_interruptible(
        &self,
        registration: &Registration,
        deadline: Deadline,
        mut reap_dead: impl FnMut(),
        mut is_interrupted: impl FnMut() -> bool,
    ) -> bool {
        let entry = &self.entries[registration.index];
        let attempt = || (entry.word.load(Acquire) != registration.word).then_some(()); // as in wait()
        loop {
            let slice = Deadline::after(INTERRUPT_SLICE).min(deadline);
            if entry.wake_word.wait(slice, &mut reap_dead, attempt).is_some() {
                return true;
            }
            if deadline.has_passed() || is_interrupted() {
                return !self.retract(registration);
            }
        }
    }

    /// Removes the waiter from the table. Returns false if it has been notified meanwhile.
    pub(crate) fn retract(&self, registration: &Registration) -> bool {
        let entry = &self.entries[registration.index];
        let is_out = entry.word.compare_exchange(registration.word, 0, AcqRel, Acquire).is_ok();
        if is_out {
            entry.free();
        }
        is_out
    }

    /// Removes the waiter from the table. If it has been notified meanwhile, the notification goes
    /// to another waiter.
    #[cold]
    pub(crate) fn resign(&self, registration: &Registration) {
        if !self.retract(registration) {
            let seen = self.entries[registration.index].word.load(Acquire); // pairs with notify()
            if is_notified(seen) {
                // As in recover().
                self.notify_before(1, ticket(seen));
            }
            self.leave(registration);
        }
    }

    /// Leaves the table after a notification. The counterpart of [`join`](WaiterTable::join).
    pub(crate) fn leave(&self, registration: &Registration) {
        let entry = &self.entries[registration.index];
        let seen = entry.word.load(Relaxed);
        // Otherwise the bytes are damaged, and the entry is not ours.
        if is_notified(seen)
            && entry.owner.load(Relaxed) == registration.owner.bits()
            && entry.word.compare_exchange(seen, 0, AcqRel, Relaxed).is_ok()
        {
            entry.free();
        }
    }

    /// Notifies the `count` oldest waiters, or all if there are fewer. Returns their number. Never
    /// blocks.
    #[inline]
    pub(crate) fn notify(&self, count: usize) -> usize {
        if self.used().is_empty() {
            return 0;
        }
        self.notify_before(count, self.head.next.load(Acquire) & LAST)
    }

    /// Like `notify`, for tickets before `limit` only, so that a waiter that waits again meanwhile
    /// is not notified twice.
    fn notify_before(&self, count: usize, limit: u64) -> usize {
        let used = self.used();
        if count >= used.len() {
            let notify = |entry: &&Entry| {
                let word = entry.word.load(Acquire); // pairs with join()
                is_waiting(word) && ticket(word) < limit && entry.notify(word, limit)
            };
            return used.iter().filter(notify).count();
        }
        let mut notified = 0;
        while notified < count {
            let Some((entry, word)) = self.longest(limit) else { break };
            notified += usize::from(entry.notify(word, limit));
        }
        notified
    }

    /// Returns the oldest waiter of those with tickets before `limit`.
    fn longest(&self, limit: u64) -> Option<(&Entry, u64)> {
        let words = self.used().iter().map(|entry| (entry, entry.word.load(Acquire)));
        let waiters = words.filter(|(_, word)| is_waiting(*word) && ticket(*word) < limit);
        waiters.min_by_key(|(_, word)| ticket(*word))
    }

    /// Returns the number of waiters that have not been notified.
    pub(crate) fn count(&self) -> usize {
        self.used().iter().filter(|entry| is_waiting(entry.word.load(Relaxed))).count()
    }

    /// Frees the entries of `dead`. Notifications that it did not receive go to other waiters.
    /// Idempotent, except that several concurrent callers can each pass on the same notification.
    pub(crate) fn recover(&self, dead: OwnerId) {
        // The word before the owner: if the entry already belongs to the next waiter, its word
        // differs.
        let entries = || {
            let words = self.used().iter().map(|entry| (entry, entry.word.load(Acquire)));
            words.filter(|(entry, _)| entry.owner.load(Acquire) == dead.bits())
        };
        // First the waiters of `dead`, so that none of them receives a notification.
        for (entry, seen) in entries().filter(|(_, seen)| is_waiting(*seen)) {
            let _ = entry.word.compare_exchange(seen, 0, AcqRel, Relaxed);
        }
        for (entry, seen) in entries() {
            if is_notified(seen) {
                // Before the word is 0: if this reaper dies here, the next one passes the
                // notification on.
                self.notify_before(1, ticket(seen));
            }
            // Fails if another reaper, or a notifier before it, was quicker. Then that one frees
            // the entry.
            if entry.word.compare_exchange(seen, 0, AcqRel, Relaxed).is_ok() {
                entry.free_of(dead);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, 1).unwrap()
    }

    #[test]
    fn words() {
        let word = waiting(LAST);
        assert!(is_waiting(word) && !is_notified(word) && ticket(word) == LAST);
        let later = notified(5);
        assert!(is_notified(later) && !is_waiting(later) && ticket(later) == 5);
        assert!(!is_waiting(0) && !is_notified(0), "fresh");
        assert!(!is_waiting(u64::MAX) && !is_notified(u64::MAX), "damaged");
    }

    #[cfg(not(loom))]
    fn is_done(table: &WaiterTable, registration: &Registration) -> bool {
        let done = is_notified(table.entries[registration.index].word.load(Relaxed));
        if done {
            table.leave(registration);
        }
        done
    }

    #[cfg(not(loom))]
    #[test]
    fn the_longest_waiting_first() {
        let table = WaiterTable::new();
        table.head.next.store(u64::from(u32::MAX), Relaxed);
        table.notify(1);
        let [a, b, c, d] = [0, 1, 1, 2].map(|index| table.join(id(index)).unwrap());
        table.notify(0);
        assert_eq!(table.count(), 4);
        table.notify(2);
        assert!(is_done(&table, &a) && is_done(&table, &b) && !is_done(&table, &c));
        // Takes the entry of the first waiter, and is the last in the queue.
        let e = table.join(id(0)).unwrap();
        assert_eq!(e.index, 0);
        table.notify(1);
        assert!(is_done(&table, &c) && !is_done(&table, &d) && !is_done(&table, &e));
        assert!(table.retract(&d));
        table.notify(7);
        assert!(is_done(&table, &e));
        assert_eq!(table.count(), 0);
    }

    #[cfg(not(loom))]
    #[test]
    fn a_notification_survives_its_receiver_and_reaches_no_later_waiter() {
        let table = WaiterTable::new();
        let _two_of_the_dead = [0, 0].map(|index| table.join(id(index)).unwrap());
        let heir = table.join(id(1)).unwrap();
        table.notify(1);
        let late = table.join(id(2)).unwrap();
        table.recover(id(0));
        table.recover(id(0));
        assert!(is_done(&table, &heir) && !is_done(&table, &late));
        assert_eq!(table.count(), 1);
        let _dead = table.retract(&late).then(|| table.join(id(0)).unwrap()).unwrap();
        table.notify(1);
        let late = table.join(id(2)).unwrap();
        table.recover(id(0));
        assert!(!is_done(&table, &late), "it did not wait then");
    }

    #[cfg(not(loom))]
    #[test]
    fn a_full_table_and_damaged_entries() {
        let table = WaiterTable::new();
        table.entries[3].word.store(9 << TICKET | NOTIFIED, Relaxed);
        table.entries[3].owner.store(9, Relaxed);
        let registrations: Vec<_> = (0..ENTRIES).map(|_| table.join(id(0)).unwrap()).collect();
        assert!(table.join(id(0)).is_none());
        table.notify(usize::MAX);
        assert!(registrations.iter().all(|registration| is_done(&table, registration)));
        table.head.high.store(u32::MAX, Relaxed);
        table.notify(1);
        assert!(table.join(id(0)).is_some());
    }
}
