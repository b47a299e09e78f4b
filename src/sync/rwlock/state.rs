//! A readers-writer lock without a hot word for readers: each participant announces them on a line
//! of its own.
//!
//! The scheme of the big-reader locks of old Linux kernels. Reading is one write to the
//! participant's own line, and one read of a word that nobody writes meanwhile. Writing pays for
//! it: a writer reads the line of every participant that ever read.
//!
//! Writers come first. Once a writer has claimed the lock, no new reader gets in, while the writer
//! waits for the readers inside. When it leaves, all waiting readers and one waiting writer are
//! woken, and the first one wins. So an endless stream of writers can starve readers, but no stream
//! of readers can starve a writer. Not reentrant.
//!
//! # State of the writer word
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | owner id of the writer's process; 0: no writer |
//! | 32 | draining: a writer has claimed the lock and waits for readers; it has written nothing |
//! | 33 | a writer died while it had the lock, and no other has marked the value consistent since |
//!
//! # State of a reader's line
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | number of this participant's readers: threads inside, or about to enter |
//! | 32..62 | its owner id; a word with an id that does not belong to its line counts as 0 |
//!
//! Zero is the fresh state of all words: free, and never read. `high` is the number of lines that
//! were ever used, and bounds the writer's scan. Lines are 64 bytes and not 128, which makes 64 KiB
//! per lock instead of 128. Because some processors fetch pairs of lines, the first 512
//! participants get every other line.
//!
//! # Memory ordering
//!
//! A reader announces itself on its line and then reads the writer word. A writer claims the word
//! and then reads the lines. One of them must see the other, so both sides are `SeqCst`
//! (`try_read`, `try_claim` with `is_drained`). What a reader read happens before its line's
//! decrement, which `is_drained` acquires. What a writer wrote happens before the word's release in
//! `release`, which `try_read` and `try_claim` acquire. A leaving reader decrements its line and
//! then checks the writer word for a draining writer, which claims and then reads the line: the
//! same pair again. A writer that becomes a reader (`downgrade`) announces itself on its line
//! before the word's release, which the next claim acquires.
//!
//! # Death
//!
//! - **Reader dies, announced or inside.** Noticed by: a draining writer, at the end of its slice.
//!   Repair: `recover` clears its line. Lost: nothing.
//! - **Reader dies after its decrement, before its wake.** Noticed by: the draining writer, at the
//!   end of its slice. Repair: its own attempt. Lost: up to 50 ms.
//! - **Writer dies draining.** Noticed by: waiters, at the end of their slice. Repair: `recover`
//!   frees the word. Lost: nothing.
//! - **Writer dies inside.** Noticed by: the same. Repair: `recover` frees the word and sets bit
//!   33, so that the next ones get `OwnerDied`. Lost: the value may be half written.
//! - **Writer dies after the release, before its wake.** Noticed by: waiters, at the end of their
//!   slice. Repair: their own attempt. Lost: up to 50 ms.
//! - **Writer dies in `downgrade`, announced and not released.** Noticed by: waiters, at the end of
//!   their slice. Repair: `recover` clears its line, frees the word and sets bit 33. Lost: nothing,
//!   but the next ones get `OwnerDied`.
//! - **Panicking writer dies before it has set the poison.** Noticed by: its death is noticed
//!   instead. Repair: the same. Lost: nothing.
//! - **A participant is stopped while it asks for the lock.** Noticed by: nobody. Repair: none: a
//!   stopped reader delays writers, a stopped draining writer delays all. Lost: nothing.

use super::words::{
    after_death, announced, count, count_at, line_of, reader, writer, COUNT_MAX, DIED, DRAINING, LINES,
};
use crate::loom::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::loom::atomic::{fence, AtomicU32, AtomicU64};
use crate::loom::{Ordered, OrderedChange};
use crate::message::CachePadded;
use crate::segment::owner::OwnerId;
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

/// The caller holds the lock, for reading or writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Whether a writer died inside, and no other has marked the value consistent since.
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

/// The memory side, without the value.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    writer: AtomicU64,
    /// No participant with this index or a higher one has ever read.
    high: AtomicU32,
    /// Nonzero if a writer panicked inside. Belongs to the holder of the lock.
    poison: AtomicU32,
    /// Readers wait here for the writer to leave.
    readers: Waiters,
    /// Writers wait here for the writer to leave.
    writers: Waiters,
    /// The writer that has claimed the lock waits here for readers to leave.
    drain: Waiters,
    lines: CachePadded<[Line; LINES]>,
}

const _: () = assert!(size_of::<Shared>() == 128 + 64 * LINES && std::mem::offset_of!(Shared, lines) == 128);

impl Shared {
    /// Creates a free lock.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Shared {
        let [readers, writers, drain] = [(); 3].map(|_| Waiters::new());
        let lines = std::array::from_fn(|_| Line { word: AtomicU64::new(0) });
        let [high, poison] = [(); 2].map(|_| AtomicU32::new(0));
        let lines = CachePadded::new(lines);
        Shared { writer: AtomicU64::new(0), high, poison, readers, writers, drain, lines }
    }

    pub(super) fn line(&self, owner: OwnerId) -> &AtomicU64 {
        &self.lines[line_of(owner.index())].word
    }

    /// Lets a thread of `me` in to read, unless a writer is in or about to be.
    #[inline]
    pub(crate) fn try_read(&self, me: OwnerId) -> Option<Admitted> {
        if writer(self.writer.load(Relaxed)).is_some() {
            return None;
        }
        self.announce(me)?;
        // Pairs with the claim of try_claim(), and with release(): what the last writer wrote is
        // seen.
        let word = self.writer.load(SeqCst);
        if writer(word).is_some() {
            self.leave(me);
            return None;
        }
        Some(Admitted::by(word))
    }

    /// Adds one reader to the line of `me`. `None` if the count is at its maximum.
    #[inline]
    fn announce(&self, me: OwnerId) -> Option<Ordered> {
        let line = self.line(me);
        // Only we write a line that names us, and we are alive, so it keeps naming us.
        if reader(line.load(Relaxed)) != Some(me) {
            return self.register_reader(me);
        }
        let (before, change) = line.add_ordered(1);
        if count(before) < COUNT_MAX {
            return Some(change);
        }
        line.fetch_sub(1, SeqCst);
        None
    }

    /// Announces the first reader of a participant.
    #[cold]
    fn register_reader(&self, me: OwnerId) -> Option<Ordered> {
        let line = self.line(me);
        // Before the line is written: if a writer misses this, the reader's next read sees the
        // writer.
        self.high.fetch_max(me.index() as u32 + 1, SeqCst);
        let mut seen = line.load(Relaxed);
        while reader(seen) != Some(me) {
            match line.exchange_ordered(seen, announced(me, 1), Relaxed) {
                Ok(change) => return Some(change),
                Err(now) => seen = now, // another thread of this process
            }
        }
        self.announce(me)
    }

    /// Ends what `try_read` began.
    #[inline]
    pub(crate) fn leave(&self, me: OwnerId) {
        // Pairs with is_drained(): the reads come before.
        let (before, change) = self.line(me).sub_ordered(1);
        if count(before) == 1 {
            // Pairs with the claim of try_claim(): we see the writer, or its read of the line sees
            // that we have left.
            if writer(self.writer.load(SeqCst)).is_some() {
                self.drain.notify_one(change);
            }
        }
    }

    /// Returns whether `me` has the largest number of readers, so that no other can enter.
    pub(crate) fn is_crowded(&self, me: OwnerId) -> bool {
        let word = self.line(me).load(Relaxed);
        reader(word) == Some(me) && count(word) >= COUNT_MAX
    }

    /// Blocks until a thread of `me` may read, or the deadline passes. Does not wait if `me` is
    /// crowded.
    pub(crate) fn read(&self, me: OwnerId, deadline: Deadline, reap_dead: impl FnMut()) -> Option<Admitted> {
        let attempt = || match self.try_read(me) {
            None if self.is_crowded(me) => Some(None),
            admitted => admitted.map(Some),
        };
        self.readers.wait(deadline, reap_dead, attempt)?
    }

    /// Lets a thread of `me` in to write, if nobody is in.
    #[inline]
    pub(crate) fn try_write(&self, me: OwnerId) -> Option<Admitted> {
        // A claim in vain would make other attempts fail.
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

    /// Blocks until a thread of `me` may write, or the deadline passes.
    pub(crate) fn write(
        &self,
        me: OwnerId,
        deadline: Deadline,
        mut reap_dead: impl FnMut(),
    ) -> Option<Admitted> {
        let admitted = self.writers.wait(deadline, &mut reap_dead, || self.try_claim(me))?;
        if self.drain.wait(deadline, reap_dead, || self.is_drained().then_some(())).is_some() {
            self.enter();
            return Some(admitted);
        }
        self.release(me);
        None
    }

    /// Claims the lock. From here on others are kept out, but those inside have not left yet.
    #[inline]
    fn try_claim(&self, me: OwnerId) -> Option<Admitted> {
        let mut word = self.writer.load(Relaxed);
        while writer(word).is_none() {
            let claimed = word & DIED | DRAINING | u64::from(me.bits());
            // Pairs with release(): what the last writer wrote is seen. Ordered before the reads of
            // the lines.
            match self.writer.exchange_ordered(word, claimed, Relaxed) {
                Ok(_) => return Some(Admitted::by(word)),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Returns true if no reader is in. While the lock is claimed this stays true, except for
    /// readers that check and leave again.
    #[inline]
    fn is_drained(&self) -> bool {
        let high = (self.high.load(SeqCst) as usize).min(LINES);
        (0..high).all(|index| {
            // Pairs with announce() and leave(): a reader that is not visible here sees our claim,
            // or has left.
            count_at(index, self.lines[line_of(index)].word.load(SeqCst)) == 0
        })
    }

    /// Marks the writer as inside. From here on its death leaves a value that may be half written.
    #[inline]
    fn enter(&self) {
        let word = self.writer.load(Relaxed);
        // A plain store, because nobody else writes a word that names a living participant.
        self.writer.store(word & !DRAINING, Relaxed);
        // Before anything that is written to the value.
        fence(Release);
    }

    /// Ends what `try_claim` or `try_write` began.
    #[inline]
    pub(crate) fn release(&self, me: OwnerId) {
        let word = self.writer.load(Relaxed);
        // Pairs with try_read() and try_claim(): what was written is seen.
        if writer(word) != Some(me) {
            return; // the bytes are damaged, and the word is not ours
        }
        if let Ok(change) = self.writer.exchange_ordered(word, word & DIED, Relaxed) {
            self.writers.notify_one(change);
            self.readers.notify_all(change);
        }
    }

    /// Makes the writer a reader. No other writer gets in between: the next one claims the word
    /// after its release, and then finds the reader on its line. Returns false, and changes
    /// nothing, if `me` has the largest number of readers already.
    pub(crate) fn downgrade(&self, me: OwnerId) -> bool {
        // Ordered before the release: pairs with try_claim() and is_drained().
        if self.announce(me).is_none() {
            return false;
        }
        self.release(me);
        true
    }

    /// Marks the value as consistent. Only for the writer.
    pub(crate) fn mark_consistent(&self) {
        self.writer.fetch_and(!DIED, Relaxed); // released with the rest
    }

    /// Returns true if a writer panicked inside, and nobody has cleared the poison since.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.load(Relaxed) != 0
    }

    pub(crate) fn set_poisoned(&self, poisoned: bool) {
        self.poison.store(poisoned.into(), Relaxed);
    }

    /// Returns true if a writer died inside, and no other has marked the value consistent since.
    pub(crate) fn has_died(&self) -> bool {
        self.writer.load(Relaxed) & DIED != 0
    }

    /// Returns true if a waiter may be asleep.
    pub(crate) fn is_waited_on(&self) -> bool {
        [&self.readers, &self.writers, &self.drain].into_iter().any(Waiters::is_waited_on)
    }

    /// Returns the number of readers that are in or about to enter, of all participants.
    pub(crate) fn reader_count(&self) -> u64 {
        let high = (self.high.load(Relaxed) as usize).min(LINES);
        let of_line = |index| count_at(index, self.lines[line_of(index)].word.load(Relaxed));
        (0..high).map(of_line).map(u64::from).sum()
    }

    /// Returns the participant that writes or claims to.
    pub(crate) fn writer(&self) -> Option<OwnerId> {
        writer(self.writer.load(Relaxed))
    }

    /// Recovers every participant in the way that is not `alive`: the dead, and ids from damaged
    /// bytes that never existed.
    pub(crate) fn recover_dead(&self, mut alive: impl FnMut(OwnerId) -> bool) {
        let high = (self.high.load(Acquire) as usize).min(LINES);
        let readers = (0..high).filter_map(|index| {
            let word = self.lines[line_of(index)].word.load(Acquire);
            reader(word).filter(|_| count_at(index, word) > 0)
        });
        for id in self.writer().into_iter().chain(readers) {
            if !alive(id) {
                self.recover(id);
            }
        }
    }

    /// Frees the lock from `dead`. Idempotent; any number of processes may call it at once.
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
        let change = Ordered::by_fence();
        self.drain.notify_all(change);
        self.writers.notify_all(change);
        self.readers.notify_all(change);
    }
}

/// The steps after which the models let a participant die.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn id(index: usize) -> OwnerId {
        OwnerId::new(index, 1).unwrap()
    }

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
        // An id that never existed, in a word that seems valid.
        shared.lines[line_of(7)].word.store(announced(id(7), 3), Relaxed);
        assert!(shared.try_write(id(0)).is_none());
        shared.recover_dead(|reader| reader != id(7));
        assert!(shared.try_write(id(0)).is_some());
    }
}
