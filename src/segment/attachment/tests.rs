//! The check for the dead, with a table that is full of them.

use std::sync::atomic::Ordering::Relaxed;

use super::reaping::SWEEP_STEP;
use super::Attachment;
use crate::segment::header::SIZE_MIN;
use crate::segment::owner::MAX_PARTICIPANTS;
use crate::sys::backing::{memory, ofd_lock, AsFd, OwnedFd};

/// The number of living participants, this process included, spread over the table.
const LIVING: usize = 200;

/// Returns whether the participant at this index is alive. 0 is this process.
fn is_living(index: usize) -> bool {
    index < LIVING / 2 || MAX_PARTICIPANTS - index <= LIVING / 2
}

/// Creates a full table, and the description that holds the locks of the living.
fn crowd() -> (std::sync::Arc<Attachment>, OwnedFd) {
    let attachment = Attachment::anonymous(SIZE_MIN).unwrap();
    assert_eq!(attachment.owner().unwrap().index(), 0);
    let others = memory::reopen(attachment.file().unwrap()).unwrap();
    for index in 1..MAX_PARTICIPANTS {
        attachment.occupy(index, 1).unwrap();
        if is_living(index) {
            assert!(ofd_lock::try_lock(others.as_fd(), index, 1).unwrap());
        }
    }
    (attachment, others)
}

/// Returns the indices of all participants in the table.
fn occupied(attachment: &Attachment) -> Vec<usize> {
    let is_occupied = |index: &usize| attachment.view().line(*index).occupant(*index).is_some();
    (0..MAX_PARTICIPANTS).filter(is_occupied).collect()
}

/// Makes one check, with no time at all, as if the last one were long ago.
fn check(attachment: &Attachment) {
    attachment.view().header().last_check.store(0, Relaxed);
    attachment.reap_dead_for(0);
}

#[test]
fn checks_without_time_go_on_where_the_last_one_stopped_and_find_all_the_dead() {
    let (attachment, _others) = crowd();
    // A whole round, step by step.
    for round in 0..MAX_PARTICIPANTS / SWEEP_STEP {
        let before = occupied(&attachment);
        check(&attachment);
        let after = occupied(&attachment);
        let checked = round * SWEEP_STEP..(round + 1) * SWEEP_STEP;
        let expected: Vec<_> =
            before.into_iter().filter(|index| is_living(*index) || !checked.contains(index)).collect();
        assert_eq!(after, expected, "after the check of {checked:?}");
    }
    assert!(occupied(&attachment).into_iter().eq((0..MAX_PARTICIPANTS).filter(|index| is_living(*index))));
    // The next round begins at the first index again, even if the word is damaged.
    for cursor in [attachment.view().header().swept.load(Relaxed), u32::MAX] {
        attachment.view().header().swept.store(cursor, Relaxed);
        attachment.view().line(LIVING).occupy(LIVING, 1, 0).unwrap();
        (0..=MAX_PARTICIPANTS / SWEEP_STEP).for_each(|_| check(&attachment));
        assert_eq!(occupied(&attachment).len(), LIVING);
    }
}

#[test]
fn a_check_with_time_asks_about_each_participant_once() {
    let (attachment, _others) = crowd();
    attachment.view().header().swept.store(500, Relaxed);
    attachment.view().header().last_check.store(0, Relaxed);
    attachment.reap_dead_for(u64::MAX / 2);
    assert_eq!(occupied(&attachment).len(), LIVING);
    assert_eq!(attachment.view().header().swept.load(Relaxed), 0, "the next round begins anew");
    // But not before it is time.
    attachment.view().line(LIVING).occupy(LIVING, 1, 0).unwrap();
    attachment.reap_dead_for(u64::MAX / 2);
    assert_eq!(occupied(&attachment).len(), LIVING + 1);
}
