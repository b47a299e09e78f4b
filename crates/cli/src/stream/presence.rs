//! The members of a stream of lines, and the progress of each sender's lines.
//!
//! # State
//!
//! Everything is in the stream's own segment. Counts are under one lock, so joining and ending are
//! one step each. Each member has a permit of a semaphore, which comes back when its holder leaves
//! the segment in any way.
//!
//! | begun | permit | finished | meaning |
//! |---|---|---|---|
//! | yes | yes | no | takes part |
//! | yes | no | yes | has reached its end |
//! | yes | no | no | died, failed or stopped reading |
//!
//! The last sender to end, or a receiver that finds that all senders are gone, ends the stream
//! under the same lock. A sender that joins later sees the end, and waits for the next stream.
//!
//! # Death
//!
//! | a member | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | dies with its permit | [`census`](Presence::census) | the permit comes back | lines it had |
//! | dies while it begins | the same | nobody: it counts as dead | nothing |
//! | dies with the lock | the next to lock | nobody: each step changes one number | nothing |
//! | is stopped with the lock | nobody: the others wait for it | itself | nothing |
//! | ended the stream, dies before closing | a waiting receiver | it closes the queue | nothing |
//!
//! The census reaps the dead. In the first two rows the others are told. Members that wait for the
//! lock also end on a signal. In the last row the member is the last sender.

use pagemate::sync::{LockError, MutexGuard};
use pagemate::{untyped, BoundedSemaphore, Message, Mutex, Segment};

use super::{DAMAGED, TICK};
use crate::{interrupt, Failure, Outcome};

/// The number of senders in the life of a stream, and of members of one side at once.
const MAX: usize = 1000;

/// One of the two sides of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Senders,
    Receivers,
}

/// The numbers of members of a side.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tally {
    begun: u64,
    finished: u64,
}

/// The shared numbers, under the lock.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Counts {
    /// 1: the stream has ended.
    ended: u64,
    senders: Tally,
    receivers: Tally,
    /// The number of batches written by receivers, for each sender in the order of beginning.
    written: [u64; MAX],
}

impl Counts {
    const NONE: Counts = {
        let tally = Tally { begun: 0, finished: 0 };
        Counts { ended: 0, senders: tally, receivers: tally, written: [0; MAX] }
    };

    fn of(&mut self, side: Side) -> &mut Tally {
        match side {
            Side::Senders => &mut self.senders,
            Side::Receivers => &mut self.receivers,
        }
    }
}

/// The members of a stream.
#[derive(Debug)]
pub(super) struct Presence {
    segment: Segment,
    name: String,
    counts: Mutex<Counts>,
    senders: BoundedSemaphore,
    receivers: BoundedSemaphore,
}

/// The numbers of members of one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Census {
    pub(super) begun: u64,
    alive: u64,
    /// Members that have begun and not reached their end, dead or alive.
    pub(super) unfinished: u64,
}

impl Census {
    /// Returns true if there were members and all have left.
    pub(super) fn is_over(&self) -> bool {
        self.begun > 0 && self.alive == 0
    }

    /// Returns the number of members that have begun, not reached their end, and left.
    pub(super) fn dead(&self) -> u64 {
        self.unfinished.saturating_sub(self.alive)
    }
}

impl Presence {
    /// The names of the presence's objects.
    pub(super) const OBJECTS: [&'static str; 3] = ["counts", "senders", "receivers"];

    pub(super) fn open(segment: &Segment, name: &str) -> Result<Presence, Failure> {
        let permits = |object: &str| BoundedSemaphore::open_or_create(segment.at(object), MAX as u32);
        let (counts, _) = Mutex::open_or_create(segment.at("counts"), Counts::NONE)?;
        let ((senders, _), (receivers, _)) = (permits("senders")?, permits("receivers")?);
        Ok(Presence { segment: segment.clone(), name: name.to_string(), counts, senders, receivers })
    }

    /// Locks the counts. Each holder keeps the lock for one step, unless it is stopped meanwhile.
    fn lock(&self) -> Result<MutexGuard<'_, Counts>, Failure> {
        loop {
            interrupt::check()?;
            match self.counts.lock_timeout(TICK) {
                Ok(counts) => return Ok(counts),
                Err(LockError::NotAcquired) => {}
                Err(LockError::OwnerDied(mut counts)) => {
                    MutexGuard::mark_consistent(&mut counts);
                    return Ok(counts);
                }
                Err(error) => {
                    return match error.into_guard() {
                        Some(counts) => Ok(counts),
                        None => Err(DAMAGED.into()),
                    }
                }
            }
        }
    }

    fn permits(&self, side: Side) -> &BoundedSemaphore {
        match side {
            Side::Senders => &self.senders,
            Side::Receivers => &self.receivers,
        }
    }

    /// Begins as a member, and returns the number of members that began before. This process counts
    /// as alive until it finishes or leaves the segment. `None` if the stream has ended.
    pub(super) fn begin(&self, side: Side) -> Result<Option<usize>, Failure> {
        let mut counts = self.lock()?;
        if counts.ended != 0 {
            return Ok(None);
        }
        let begun = counts.of(side).begun;
        if side == Side::Senders && begun >= MAX as u64 {
            return Err(format!(
                "{:?} has had {MAX} senders: no more are possible before it ends, use another name",
                self.name
            )
            .into());
        }
        // In this order, because a process with a permit has begun. The state in between is visible
        // only if this process dies there.
        counts.of(side).begun += 1;
        let Ok(permit) = self.permits(side).try_acquire() else {
            counts.of(side).begun -= 1;
            return Err(format!("{:?} is used by {MAX} others already", self.name).into());
        };
        permit.keep();
        Ok(Some(begun as usize))
    }

    /// Finishes as a member. Returns true if the stream has ended, too.
    pub(super) fn finish(&self, side: Side) -> Result<bool, Failure> {
        let mut counts = self.lock()?;
        counts.of(side).finished += 1;
        // Its own permit. There is none if another process has damaged the memory.
        let _ = self.permits(side).release();
        Ok(self.end_if_over(&mut counts))
    }

    /// Ends the stream if all senders are gone. Returns true if it has ended, now or before.
    pub(super) fn end(&self) -> Result<bool, Failure> {
        let mut counts = self.lock()?;
        Ok(self.end_if_over(&mut counts))
    }

    fn end_if_over(&self, counts: &mut Counts) -> bool {
        if self.count(Side::Senders, counts).is_over() {
            counts.ended = 1;
        }
        counts.ended != 0
    }

    pub(super) fn census(&self, side: Side) -> Result<Census, Failure> {
        Ok(self.count(side, &mut *self.lock()?))
    }

    fn count(&self, side: Side, counts: &mut Counts) -> Census {
        untyped::reap(&self.segment);
        let (permits, tally) = (self.permits(side), counts.of(side));
        let alive = permits.bound().saturating_sub(permits.available()).into();
        Census { begun: tally.begun, alive, unfinished: tally.begun.saturating_sub(tally.finished) }
    }

    /// Counts a batch of this sender that a receiver has written.
    pub(super) fn note_written(&self, sender: usize) -> Outcome {
        let mut counts = self.lock()?;
        *counts.written.get_mut(sender).ok_or(DAMAGED)? += 1;
        Ok(())
    }

    /// Returns the number of this sender's batches that have been written.
    pub(super) fn written(&self, sender: usize) -> Result<u64, Failure> {
        Ok(self.lock()?.written.get(sender).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Vec<Presence> {
        let segment = Segment::new(1 << 20).unwrap();
        (0..count).map(|_| Presence::open(&segment, "x").unwrap()).collect()
    }

    #[test]
    fn a_sender_that_joins_before_the_last_one_leaves_keeps_the_stream() {
        let [first, second, late] = &members(3)[..] else { panic!() };
        assert_eq!(first.begin(Side::Senders).unwrap(), Some(0));
        assert_eq!(second.begin(Side::Senders).unwrap(), Some(1));
        assert!(!first.finish(Side::Senders).unwrap() && !second.end().unwrap());
        assert!(second.finish(Side::Senders).unwrap());
        assert_eq!(late.begin(Side::Senders).unwrap(), None, "a late sender belongs to the next stream");
        assert_eq!(late.begin(Side::Receivers).unwrap(), None);
    }

    #[test]
    fn a_member_that_leaves_unfinished_is_dead() {
        let [one, two] = &members(2)[..] else { panic!() };
        assert!(
            !one.end().unwrap() && !one.census(Side::Senders).unwrap().is_over(),
            "there were no members"
        );
        one.begin(Side::Receivers).unwrap();
        two.begin(Side::Receivers).unwrap();
        one.finish(Side::Receivers).unwrap();
        let census = two.census(Side::Receivers).unwrap();
        assert_eq!((census.begun, census.unfinished, census.dead(), census.is_over()), (2, 1, 0, false));
        two.receivers.release().unwrap(); // as when it dies
        let census = two.census(Side::Receivers).unwrap();
        assert_eq!((census.unfinished, census.dead(), census.is_over()), (1, 1, true));
    }

    #[test]
    fn written_batches_are_counted_for_each_sender() {
        let presence = &members(1)[0];
        presence.note_written(0).unwrap();
        presence.note_written(999).unwrap();
        presence.note_written(999).unwrap();
        assert_eq!([0, 1, 999].map(|sender| presence.written(sender).unwrap()), [1, 0, 2]);
        assert!(presence.note_written(1000).is_err());
    }

    #[test]
    fn a_stream_has_a_thousand_senders() {
        let presence = &members(1)[0];
        for begun in 0..MAX {
            assert_eq!(presence.begin(Side::Senders).unwrap(), Some(begun));
        }
        assert!(presence
            .begin(Side::Senders)
            .unwrap_err()
            .to_string()
            .contains("\"x\" has had 1000 senders"));
    }
}
