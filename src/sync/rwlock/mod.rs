//! A readers-writer lock whose readers share no hot word: each participant announces its readers on a line of its own.
//!
//! The scheme of the big-reader locks of old Linux kernels: reading is one write to one's own line
//! and one look at a word that nobody writes meanwhile; writing pays by looking at the line of every participant that
//! ever read.
//!
//! Writers come first: from the moment that a writer has claimed the lock no new reader gets in, while it waits for those
//! inside. When it leaves, all waiting readers and one waiting writer are woken and the first one wins, so that
//! an endless stream of writers can starve readers, but no stream of readers a writer. Not recursive.
//!
//! # State of the writer word
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id of the writer's process; 0: no writer |
//! | 32 | draining: it has claimed the lock and waits for readers to leave; it has touched nothing |
//! | 33 | a writer died while it had the lock, and nobody has declared the value consistent since |
//!
//! # State of a reader's line
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | how many readers this participant has: threads inside, or just looking whether they may |
//! | 32..62 | its owner id; a word whose id does not belong to its line counts as 0 |
//!
//! Zero is the fresh state of all: nobody has it, nobody ever read. `high` says how many lines were ever used, and bounds
//! the writer's look. Lines are 64 bytes and not 128: 64 KiB a lock instead of 128. For the sake of processors that
//! fetch pairs of lines, the first 512 participants get every other line.
//!
//! # Memory ordering
//!
//! A reader announces itself on its line and then looks at the writer word; a writer claims the word and then looks at the
//! lines. One of them must see the other: `SeqCst` on both sides (`try_read`, `try_claim` with `is_drained`). What a
//! reader read happens before its line's decrement, which `is_drained` acquires; what a writer wrote, before the
//! word's release in `release`, which `try_read` and `try_claim` acquire. A leaving reader decrements its line and then
//! looks at the writer word for somebody who drains; that one claims and then looks at the line: the same pair again.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | reader dies, announced or inside | a draining writer at the end of its slice | `recover` clears its line | nothing |
//! | reader dies after its decrement, before its wake | the draining writer, at the end of its slice | its own attempt | up to 50 ms |
//! | writer dies draining | waiters, at the end of their slice | `recover` frees the word | nothing |
//! | writer dies inside | the same | `recover` frees the word and sets bit 33: the next ones get `OwnerDied` | what it had half written |
//! | writer dies after the release, before its wake | waiters, at the end of their slice | their own attempt | up to 50 ms |
//! | a panicking writer dies before it has set the poison | its death is noticed instead | the same | nothing |
//! | anybody is stopped while it asks | nobody needs to | counts as what it asks for: a stopped reader holds up writers, a stopped draining writer everybody | nothing |

#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod handle;

#[cfg(not(loom))]
pub use guard::{RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(loom))]
pub use handle::RwLock;
#[cfg(not(loom))]
pub(crate) use handle::{describe, recover};

use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::loom::atomic::{fence, AtomicU32, AtomicU64};
use crate::loom::sc_fence;
use crate::message::CachePadded;
use crate::owner::{OwnerId, MAX_PARTICIPANTS};
use crate::sync::wait::Waiters;
use crate::sys::clock::Deadline;

/// How many lines there are: one for each participant. loom's bodies have fewer.
const LINES: usize = if cfg!(loom) { 4 } else { MAX_PARTICIPANTS };

/// The owner id in the writer word.
const OWNER: u64 = (1 << OwnerId::BITS) - 1;
/// The writer has touched nothing yet.
const DRAINING: u64 = 1 << 32;
/// A writer died inside.
const DIED: u64 = 1 << 33;

/// So many readers of one process are not possible: guards were forgotten.
const COUNT_MAX: u32 = 1 << 31;

/// Who has or claims the lock to write. A word that nobody can have written counts as free.
fn writer(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word & OWNER) as u32)
}

/// The writer word when `dead`, whose it is, has gone.
fn after_death(word: u64) -> u64 {
    match word & DRAINING {
        0 => DIED,
        _ => word & DIED,
    }
}

/// The word of a line.
fn announced(owner: OwnerId, count: u32) -> u64 {
    u64::from(owner.bits()) << 32 | u64::from(count)
}

/// Who a line's word names.
fn reader(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word >> 32) as u32)
}

fn count(word: u64) -> u32 {
    word as u32
}

/// Where the line of a participant is: two lines apart from its neighbours' as long as there are enough.
fn line_of(index: usize) -> usize {
    (index * 2) % LINES + (index * 2) / LINES
}

/// The lock is the caller's, to read or to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// A writer died inside, and nobody has declared the value consistent since.
    pub(crate) after_death: bool,
}

impl Admitted {
    fn by(word: u64) -> Admitted {
        Admitted { after_death: word & DIED != 0 }
    }
}

/// The readers of one participant. 64 bytes.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line {
    word: AtomicU64,
}

/// The memory side, but for the value.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    writer: AtomicU64,
    /// No participant with this index or a higher one has ever read.
    high: AtomicU32,
    /// Not 0: a writer panicked inside. Belongs to who has the lock.
    poison: AtomicU32,
    /// Where readers wait for the writer to leave.
    readers: Waiters,
    /// Where writers wait for it.
    writers: Waiters,
    /// Where the writer that has claimed the lock waits for readers to leave.
    drain: Waiters,
    lines: CachePadded<[Line; LINES]>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Shared>() == 128 + 64 * LINES && std::mem::offset_of!(Shared, lines) == 128);

impl Shared {
    /// Nobody has it.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Shared {
        let [readers, writers, drain] = [(); 3].map(|_| Waiters::new());
        let lines = std::array::from_fn(|_| Line { word: AtomicU64::new(0) });
        let [high, poison] = [(); 2].map(|_| AtomicU32::new(0));
        let lines = CachePadded::new(lines);
        Shared { writer: AtomicU64::new(0), high, poison, readers, writers, drain, lines }
    }

    fn line(&self, owner: OwnerId) -> &AtomicU64 {
        &self.lines[line_of(owner.index())].word
    }

    /// Lets a thread of `me` in to read, unless a writer is in or about to be.
    #[inline]
    pub(crate) fn try_read(&self, me: OwnerId) -> Option<Admitted> {
        if writer(self.writer.load(Relaxed)).is_some() {
            return None;
        }
        if !self.announce(me) {
            return None;
        }
        sc_fence();
        // Pairs with the claim of try_claim(), and with release(): what the last writer wrote is seen.
        let word = self.writer.load(SeqCst);
        if writer(word).is_some() {
            self.leave(me);
            return None;
        }
        Some(Admitted::by(word))
    }

    /// One reader more on the line of `me`. False: there are too many to count.
    #[inline]
    fn announce(&self, me: OwnerId) -> bool {
        let line = self.line(me);
        // Only we write a line that names us, and we are alive: it goes on naming us.
        if reader(line.load(Relaxed)) != Some(me) {
            return self.enrol(me);
        }
        if count(line.fetch_add(1, SeqCst)) < COUNT_MAX {
            return true;
        }
        line.fetch_sub(1, SeqCst);
        false
    }

    /// The first reader of a participant.
    #[cold]
    fn enrol(&self, me: OwnerId) -> bool {
        let line = self.line(me);
        // Before the line says so: a writer that has not seen it is seen by the reader's next look.
        self.high.fetch_max(me.index() as u32 + 1, SeqCst);
        let mut seen = line.load(Relaxed);
        while reader(seen) != Some(me) {
            match line.compare_exchange(seen, announced(me, 1), SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now, // another thread of this process
            }
        }
        self.announce(me)
    }

    /// Ends what `try_read` began.
    #[inline]
    pub(crate) fn leave(&self, me: OwnerId) {
        let before = self.line(me).fetch_sub(1, SeqCst); // pairs with is_drained(): what was read was read before
        if count(before) == 1 {
            sc_fence();
            // Pairs with the claim of try_claim(): we see the writer, or its look at the line sees us gone.
            if writer(self.writer.load(SeqCst)).is_some() {
                self.drain.notify_one();
            }
        }
    }

    /// Blocks until a thread of `me` may read.
    pub(crate) fn read(&self, me: OwnerId, deadline: Deadline, tend: impl FnMut()) -> Option<Admitted> {
        self.readers.wait(deadline, tend, || self.try_read(me))
    }

    /// Lets a thread of `me` in to write, unless somebody is in.
    #[inline]
    pub(crate) fn try_write(&self, me: OwnerId) -> Option<Admitted> {
        // A claim that would come to nothing would make other attempts fail.
        if !self.is_drained() {
            return None;
        }
        let admitted = self.try_claim(me)?;
        if self.is_drained() {
            self.enter();
            return Some(admitted);
        }
        self.release(me);
        None
    }

    /// Blocks until a thread of `me` may write.
    pub(crate) fn write(&self, me: OwnerId, deadline: Deadline, mut tend: impl FnMut()) -> Option<Admitted> {
        let admitted = self.writers.wait(deadline, &mut tend, || self.try_claim(me))?;
        if self.drain.wait(deadline, tend, || self.is_drained().then_some(())).is_some() {
            self.enter();
            return Some(admitted);
        }
        self.release(me);
        None
    }

    /// Keeps others out from here on; those inside are yet to leave.
    #[inline]
    fn try_claim(&self, me: OwnerId) -> Option<Admitted> {
        let mut word = self.writer.load(Relaxed);
        while writer(word).is_none() {
            let claimed = word & DIED | DRAINING | u64::from(me.bits());
            // Pairs with release(): what the last writer wrote is seen. SeqCst: before the look at the lines.
            match self.writer.compare_exchange(word, claimed, SeqCst, Relaxed) {
                Ok(_) => return Some(Admitted::by(word)),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Whether no reader is in. Lasts while the lock is claimed, but for readers who look and leave again.
    #[inline]
    fn is_drained(&self) -> bool {
        sc_fence();
        let high = (self.high.load(SeqCst) as usize).min(LINES);
        (0..high).all(|index| {
            // Pairs with announce() and leave(): a reader that does not show here sees our claim, or has left.
            let word = self.lines[line_of(index)].word.load(SeqCst);
            count(word) == 0 || reader(word).is_none_or(|reader| reader.index() != index)
        })
    }

    /// From here on the death of the writer leaves a value that may be half written.
    #[inline]
    fn enter(&self) {
        let word = self.writer.load(Relaxed);
        // A plain store: nobody else writes a word that names somebody alive.
        self.writer.store(word & !DRAINING, Relaxed);
        // Before anything that is written to the value.
        fence(Release);
    }

    /// Ends what `try_claim` or `try_write` began.
    #[inline]
    pub(crate) fn release(&self, me: OwnerId) {
        let word = self.writer.load(Relaxed);
        // Pairs with try_read() and try_claim(): what was written is seen. SeqCst: before the looks at the waiters.
        let is_mine = writer(word) == Some(me);
        // Otherwise the bytes are damaged, and nothing of it is ours.
        if is_mine && self.writer.compare_exchange(word, word & DIED, SeqCst, Relaxed).is_ok() {
            self.writers.notify_one();
            self.readers.notify_all();
        }
    }

    /// For who writes: the value is whole again, whoever died before.
    pub(crate) fn mark_consistent(&self) {
        self.writer.fetch_and(!DIED, Relaxed); // released with the rest
    }

    /// Whether a writer panicked inside, and nobody has cleared that.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.load(Relaxed) != 0
    }

    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        self.poison.store(poisoned.into(), Relaxed);
    }

    /// Whether a writer died inside, and nobody has declared the value consistent since.
    pub(crate) fn has_died(&self) -> bool {
        self.writer.load(Relaxed) & DIED != 0
    }

    /// Whether somebody may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        [&self.readers, &self.writers, &self.drain].into_iter().any(Waiters::is_waited_on)
    }

    /// How many readers are in or looking, of all participants.
    pub(crate) fn reader_count(&self) -> u64 {
        let high = (self.high.load(Relaxed) as usize).min(LINES);
        let of_line = |index: usize| {
            let word = self.lines[line_of(index)].word.load(Relaxed);
            reader(word).filter(|reader| reader.index() == index).map_or(0, |_| u64::from(count(word)))
        };
        (0..high).map(of_line).sum()
    }

    /// Who writes or claims to.
    pub(crate) fn writer(&self) -> Option<OwnerId> {
        writer(self.writer.load(Relaxed))
    }

    /// Clears the words of everybody in the way who is not `alive`: the dead, and those who never were, of damaged bytes.
    pub(crate) fn expel(&self, mut alive: impl FnMut(OwnerId) -> bool) {
        let high = (self.high.load(Acquire) as usize).min(LINES);
        let readers = (0..high).filter_map(|index| {
            let word = self.lines[line_of(index)].word.load(Acquire);
            reader(word).filter(|reader| reader.index() == index && count(word) > 0)
        });
        for id in self.writer().into_iter().chain(readers) {
            if !alive(id) {
                self.recover(id);
            }
        }
    }

    /// Takes the lock from `dead`. Idempotent; any number may do it at once.
    pub(crate) fn recover(&self, dead: OwnerId) {
        let line = self.line(dead);
        let mut word = line.load(Acquire);
        while reader(word) == Some(dead) {
            match line.compare_exchange(word, 0, SeqCst, Acquire) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let mut word = self.writer.load(Acquire);
        while writer(word) == Some(dead) {
            match self.writer.compare_exchange(word, after_death(word), SeqCst, Acquire) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        self.drain.notify_all();
        self.writers.notify_all();
        self.readers.notify_all();
    }
}

/// The steps after which the models let somebody die.
#[cfg(test)]
impl Shared {
    pub(crate) fn die_announced(&self, me: OwnerId) {
        self.announce(me);
    }

    pub(crate) fn die_left(&self, me: OwnerId) {
        self.line(me).fetch_sub(1, SeqCst);
    }

    pub(crate) fn die_claimed(&self, me: OwnerId) {
        self.try_claim(me);
    }

    pub(crate) fn die_released(&self, me: OwnerId) {
        let _ = self.writer.compare_exchange(u64::from(me.bits()), 0, SeqCst, Relaxed);
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
        let word = announced(id(3), 7);
        assert_eq!((reader(word), count(word)), (Some(id(3)), 7));
        assert_eq!(writer(u64::from(id(3).bits()) | DRAINING | DIED), Some(id(3)));
        assert_eq!(writer(5), None, "generation 0");
        assert_eq!(after_death(u64::from(id(3).bits()) | DRAINING), 0);
        assert_eq!(after_death(u64::from(id(3).bits())), DIED);
    }

    #[test]
    fn every_participant_has_a_line_of_its_own() {
        let lines: std::collections::BTreeSet<_> = (0..LINES).map(line_of).collect();
        assert_eq!((lines.len(), lines.last()), (LINES, Some(&(LINES - 1))));
    }

    #[cfg(not(loom))]
    #[test]
    fn alone() {
        let shared = Shared::new();
        let (a, b) = (id(0), id(1023));
        assert!(shared.try_read(a).is_some() && shared.try_read(b).is_some() && shared.try_read(b).is_some());
        assert!(shared.try_write(a).is_none() && shared.writer().is_none());
        assert_eq!(shared.reader_count(), 3);
        shared.leave(a);
        shared.recover(b);
        assert_eq!(shared.try_write(a), Some(Admitted { after_death: false }));
        assert!(shared.try_read(b).is_none() && shared.try_write(b).is_none());
        shared.recover(a);
        assert!(shared.try_read(b).unwrap().after_death);
        shared.leave(b);
        assert!(shared.try_write(b).unwrap().after_death);
        shared.mark_consistent();
        shared.release(b);
        assert_eq!(shared.try_read(a), Some(Admitted { after_death: false }));
        shared.leave(a);
        assert_eq!(shared.reader_count(), 0);
    }

    #[cfg(not(loom))]
    #[test]
    fn words_that_nobody_wrote_are_in_nobodys_way() {
        let shared = Shared::new();
        shared.high.store(u32::MAX, Relaxed);
        shared.lines[0].word.store(announced(id(7), 3), Relaxed);
        shared.lines[5].word.store(u64::MAX, Relaxed);
        shared.writer.store(1000, Relaxed);
        assert!(shared.try_write(id(0)).is_some());
        shared.release(id(0));
        assert!(shared.try_read(id(0)).is_some());
        shared.leave(id(0));
        // Somebody who never was, in a word that looks well.
        shared.lines[line_of(7)].word.store(announced(id(7), 3), Relaxed);
        assert!(shared.try_write(id(0)).is_none());
        shared.expel(|reader| reader != id(7));
        assert!(shared.try_write(id(0)).is_some());
    }
}
