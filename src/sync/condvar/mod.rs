//! A condition variable: a table of those who wait, so that a notification goes to exactly so many as it should.
//!
//! A sequence number alone, as in futex-based condition variables, cannot say *who* is woken: two who are between unlocking
//! and sleeping both see it move. Here a waiter enters the table before it unlocks, and is released by nothing but its own
//! entry; a notifier picks those who have waited longest. Nobody waits for a waiter's acknowledgement, so a dead or a
//! stopped one holds up nobody. A notification to nobody is not stored.
//!
//! # State of an entry
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id of the waiter's process; 0: the entry is free |
//! | 30 | notified |
//! | 32..64 | waiting: its ticket; notified: the first ticket that was not out when it was notified |
//!
//! | word | meaning | who moves it on |
//! |---|---|---|
//! | 0, or an id that nobody can have | free | a waiter: WAITING with the next ticket |
//! | WAITING | in the queue | a notifier: NOTIFIED; the waiter whose time is over: free; a reaper: free |
//! | NOTIFIED | on its way out | the waiter, when it has its lock again: free; a reaper: free, after notifying somebody else |
//!
//! Zero is the fresh state. Tickets wrap: their order is that of the difference. `high` says how many entries were ever used
//! at once, and bounds every look.
//!
//! # Memory ordering
//!
//! What a waiter and a notifier tell each other goes through the lock: who enters the table does so before it unlocks, and
//! who changed the state has locked before it notifies, so it sees the entry, or the waiter sees the state. For
//! notifiers without the lock an entry is claimed AcqRel, and read Acquire. A notification is a `SeqCst` read-modify-write
//! before the look at the entry's waiter bit, as [`Waiters`] asks for.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | waiter dies in the queue | nobody needs to; reapers | `recover` frees its entry | nothing |
//! | waiter dies notified, before it has its lock again | reapers | `recover` notifies in its place who has waited longest, of those who waited already then | nothing |
//! | waiter dies with its lock, its entry still notified | the same, and the next holder of the lock | the same | nothing; somebody may wake in vain |
//! | waiter dies with its lock, its entry free, or later | whoever is told of the lock's dead owner | whoever that is, by looking whether others must be notified | nothing, if it does |
//! | notifier dies between the entry and the wake | the waiter, at the end of its slice | its own attempt | up to 50 ms |
//! | notifier dies in the middle of several | nobody | nobody | the notifications that it had not made |
//! | reaper dies, or others reap, between handing on and freeing | the next reaper | hands it on once more | nothing; somebody may wake in vain |
//! | waiter is stopped | nobody needs to | it is a waiter, and may be who is notified | nothing |

#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod relock;

#[cfg(not(loom))]
pub use handle::Condvar;
#[cfg(not(loom))]
pub(crate) use handle::{describe, recover};
#[cfg(not(loom))]
pub use relock::Relock;

use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::loom::atomic::{AtomicU32, AtomicU64};
use crate::message::CachePadded;
use crate::owner::OwnerId;
use crate::sync::wait::Waiters;
use crate::sys::clock::Deadline;

/// How many can wait at once. loom's bodies have fewer.
const ENTRIES: usize = if cfg!(loom) { 3 } else { 1024 };

const OWNER: u64 = (1 << OwnerId::BITS) - 1;
const NOTIFIED: u64 = 1 << 30;

fn waiting(owner: OwnerId, ticket: u32) -> u64 {
    u64::from(ticket) << 32 | u64::from(owner.bits())
}

/// The word of who is notified when `next` is the first ticket that is not out.
fn notified(word: u64, next: u32) -> u64 {
    u64::from(next) << 32 | NOTIFIED | word & OWNER
}

/// Whose entry it is. None: it is free, or damaged.
fn owner(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word & OWNER) as u32)
}

fn is_waiting(word: u64) -> bool {
    owner(word).is_some() && word & NOTIFIED == 0
}

fn is_notified(word: u64) -> bool {
    owner(word).is_some() && word & NOTIFIED != 0
}

/// The ticket, or the first that was not out.
fn ticket(word: u64) -> u32 {
    (word >> 32) as u32
}

/// How many tickets before `next` this one was given out; none if not before it.
fn age(ticket: u32, next: u32) -> Option<u32> {
    let age = next.wrapping_sub(ticket);
    (1..=1 << 31).contains(&age).then_some(age)
}

/// One waiter. 16 bytes.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    word: AtomicU64,
    /// Where it sleeps.
    bed: Waiters,
    _reserved: AtomicU32,
}

impl Entry {
    /// Releases the waiter, if it (still) stands there as `seen`.
    fn notify(&self, seen: u64, next: u32) -> bool {
        // Pairs with the look of wait(). SeqCst: before the look at the waiter bit.
        let done = self.word.compare_exchange(seen, notified(seen, next), SeqCst, Relaxed).is_ok();
        if done {
            self.bed.notify_one();
        }
        done
    }
}

/// A waiter's place in the table.
#[derive(Debug)]
pub(crate) struct Spot {
    index: usize,
    word: u64,
}

#[derive(Debug)]
#[repr(C)]
struct Head {
    /// The next ticket.
    next: AtomicU32,
    /// No entry from here on was ever used.
    high: AtomicU32,
}

/// The memory side: who waits.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Roster {
    head: CachePadded<Head>,
    entries: [Entry; ENTRIES],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Roster>() == 128 + 16 * ENTRIES);

impl Roster {
    /// Nobody waits.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Roster {
        let [next, high] = [(); 2].map(|_| AtomicU32::new(0));
        let entry = |_| Entry { word: AtomicU64::new(0), bed: Waiters::new(), _reserved: AtomicU32::new(0) };
        Roster { head: CachePadded::new(Head { next, high }), entries: std::array::from_fn(entry) }
    }

    /// The entries that may be used.
    #[inline]
    fn used(&self) -> &[Entry] {
        let high = self.head.high.load(Acquire) as usize; // pairs with join()
        &self.entries[..high.min(ENTRIES)]
    }

    /// Makes the caller a waiter, before it unlocks. `None`: so many wait already that there is no place.
    pub(crate) fn join(&self, me: OwnerId) -> Option<Spot> {
        let word = waiting(me, self.head.next.fetch_add(1, Relaxed));
        for (index, entry) in self.entries.iter().enumerate() {
            let seen = entry.word.load(Relaxed);
            if owner(seen).is_some() {
                continue;
            }
            if self.head.high.load(Relaxed) as usize <= index {
                self.head.high.fetch_max(index as u32 + 1, AcqRel); // pairs with used()
            }
            if entry.word.compare_exchange(seen, word, AcqRel, Relaxed).is_ok() {
                return Some(Spot { index, word });
            }
        }
        None
    }

    /// Blocks until the waiter is notified (true; [`leave`](Roster::leave) when the lock is had again) or the deadline has
    /// passed (false; it is not in the table any more).
    pub(crate) fn wait(&self, spot: &Spot, deadline: Deadline, tend: impl FnMut()) -> bool {
        let entry = &self.entries[spot.index];
        // Pairs with notify(). Any other word ends the wait too: bytes that somebody overwrites must not make it last for ever.
        let attempt = || (entry.word.load(Acquire) != spot.word).then_some(());
        entry.bed.wait(deadline, tend, attempt).is_some() || !self.retract(spot)
    }

    /// Takes the waiter out of the table. False: it has been notified meanwhile.
    pub(crate) fn retract(&self, spot: &Spot) -> bool {
        self.entries[spot.index].word.compare_exchange(spot.word, 0, AcqRel, Acquire).is_ok()
    }

    /// Ends what [`join`](Roster::join) began: the notification has arrived.
    pub(crate) fn leave(&self, spot: &Spot) {
        let word = &self.entries[spot.index].word;
        let seen = word.load(Relaxed);
        // Otherwise the bytes are damaged, and nothing of it is ours.
        if is_notified(seen) && owner(seen) == owner(spot.word) {
            let _ = word.compare_exchange(seen, 0, AcqRel, Relaxed);
        }
    }

    /// Notifies those `count` who have waited longest, or all if they are fewer. Never waits for anybody.
    #[inline]
    pub(crate) fn notify(&self, count: usize) {
        if !self.used().is_empty() {
            self.notify_before(count, self.head.next.load(Acquire));
        }
    }

    /// Likewise, of those whose tickets came before `limit`: who comes again meanwhile is not notified twice.
    fn notify_before(&self, count: usize, limit: u32) {
        let used = self.used();
        if count >= used.len() {
            for entry in used {
                let word = entry.word.load(Acquire);
                if is_waiting(word) && age(ticket(word), limit).is_some() {
                    entry.notify(word, limit);
                }
            }
            return;
        }
        let mut left = count;
        while left > 0 {
            let Some((entry, word)) = self.longest(limit) else { return };
            left -= usize::from(entry.notify(word, limit));
        }
    }

    /// Who has waited longest, of those whose tickets came before `limit`.
    fn longest(&self, limit: u32) -> Option<(&Entry, u64)> {
        let waiters = self.used().iter().filter_map(|entry| {
            let word = entry.word.load(Acquire);
            let age = age(ticket(word), limit).filter(|_| is_waiting(word))?;
            Some((age, entry, word))
        });
        waiters.max_by_key(|(age, ..)| *age).map(|(_, entry, word)| (entry, word))
    }

    /// How many wait, and are not notified.
    pub(crate) fn count(&self) -> usize {
        self.used().iter().filter(|entry| is_waiting(entry.word.load(Relaxed))).count()
    }

    /// Frees the entries of `dead`; notifications that it did not live to see go to others. Idempotent, but for notifications
    /// that several hand on at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let words = || {
            self.used()
                .iter()
                .map(|entry| (&entry.word, entry.word.load(Acquire)))
                .filter(|(_, seen)| owner(*seen) == Some(dead))
        };
        // First its waiters, so that none of them inherits.
        for (word, seen) in words().filter(|(_, seen)| is_waiting(*seen)) {
            let _ = word.compare_exchange(seen, 0, AcqRel, Relaxed);
        }
        for (word, seen) in words().filter(|(_, seen)| is_notified(*seen)) {
            // Before the entry is free: who dies here leaves it to the next reaper.
            self.notify_before(1, ticket(seen));
            let _ = word.compare_exchange(seen, 0, AcqRel, Relaxed);
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
        let word = waiting(id(1023), u32::MAX);
        assert!(is_waiting(word) && !is_notified(word));
        assert_eq!((owner(word), ticket(word)), (Some(id(1023)), u32::MAX));
        let later = notified(word, 5);
        assert!(is_notified(later) && !is_waiting(later));
        assert_eq!((owner(later), ticket(later)), (Some(id(1023)), 5));
        assert!(!is_waiting(0) && !is_notified(NOTIFIED | 9), "nobody has such an id");
        assert_eq!((age(4, 5), age(5, 5), age(6, 5)), (Some(1), None, None));
        assert_eq!(age(u32::MAX, 5), Some(6), "tickets wrap");
    }

    #[cfg(not(loom))]
    fn is_done(roster: &Roster, spot: &Spot) -> bool {
        let done = is_notified(roster.entries[spot.index].word.load(Relaxed));
        if done {
            roster.leave(spot);
        }
        done
    }

    #[cfg(not(loom))]
    #[test]
    fn the_longest_waiting_first() {
        let roster = Roster::new();
        roster.head.next.store(u32::MAX, Relaxed);
        roster.notify(1);
        let [a, b, c, d] = [0, 1, 1, 2].map(|index| roster.join(id(index)).unwrap());
        roster.notify(0);
        assert_eq!(roster.count(), 4);
        roster.notify(2);
        assert!(is_done(&roster, &a) && is_done(&roster, &b) && !is_done(&roster, &c));
        // Takes the place of the first, and is the last.
        let e = roster.join(id(0)).unwrap();
        assert_eq!(e.index, 0);
        roster.notify(1);
        assert!(is_done(&roster, &c) && !is_done(&roster, &d) && !is_done(&roster, &e));
        assert!(roster.retract(&d));
        roster.notify(7);
        assert!(is_done(&roster, &e));
        assert_eq!(roster.count(), 0);
    }

    #[cfg(not(loom))]
    #[test]
    fn a_notification_survives_its_receiver_and_reaches_nobody_who_came_later() {
        let roster = Roster::new();
        let _two_of_the_dead = [0, 0].map(|index| roster.join(id(index)).unwrap());
        let heir = roster.join(id(1)).unwrap();
        roster.notify(1);
        let late = roster.join(id(2)).unwrap();
        roster.recover(id(0));
        roster.recover(id(0));
        assert!(is_done(&roster, &heir) && !is_done(&roster, &late));
        assert_eq!(roster.count(), 1);
        let _dead = roster.retract(&late).then(|| roster.join(id(0)).unwrap()).unwrap();
        roster.notify(1);
        let late = roster.join(id(2)).unwrap();
        roster.recover(id(0));
        assert!(!is_done(&roster, &late), "it did not wait then");
    }

    #[cfg(not(loom))]
    #[test]
    fn a_full_table_and_damaged_entries() {
        let roster = Roster::new();
        roster.entries[3].word.store(9 | NOTIFIED, Relaxed);
        let spots: Vec<_> = (0..ENTRIES).map(|_| roster.join(id(0)).unwrap()).collect();
        assert!(roster.join(id(0)).is_none());
        roster.notify(usize::MAX);
        assert!(spots.iter().all(|spot| is_done(&roster, spot)));
        roster.head.high.store(u32::MAX, Relaxed);
        roster.notify(1);
        assert!(roster.join(id(0)).is_some());
    }
}
