//! The words of a barrier, as plain numbers: what they say, and what they become. Their bits are drawn in [`super`].

use super::error::BarrierError;
use crate::owner::OwnerId;

/// How many rounds back the state tells what became of them.
pub(super) const HISTORY_BITS: u32 = 12;
pub(super) const HISTORY_SHIFT: u32 = 32;
const ACTOR_SHIFT: u32 = HISTORY_SHIFT + HISTORY_BITS;
const ACTOR_BITS: u32 = 12;
pub(super) const TURN: u64 = 1 << (ACTOR_SHIFT + ACTOR_BITS);
pub(super) const TURNS: u64 = (RESETTING - 1) & !(TURN - 1);
/// Broken, but about to begin the next round.
pub(super) const RESETTING: u64 = 1 << 61;
/// Somebody runs the action.
pub(super) const ACTING: u64 = 1 << 62;
pub(super) const BROKEN: u64 = 1 << 63;
/// Of an arrival's word: it died.
pub(super) const GONE: u64 = 1 << 62;

/// The largest number of parties: an index fits the state.
pub(crate) const PARTIES_MAX: u32 = 1 << ACTOR_BITS;

pub(super) fn round(state: u64) -> u32 {
    state as u32
}

pub(super) fn history(state: u64) -> u64 {
    state >> HISTORY_SHIFT & ((1 << HISTORY_BITS) - 1)
}

/// Whose action runs.
pub(super) fn actor(state: u64) -> Option<usize> {
    (state & ACTING != 0).then_some((state >> ACTOR_SHIFT) as usize & ((1 << ACTOR_BITS) - 1))
}

pub(super) fn is_broken(state: u64) -> bool {
    state & BROKEN != 0
}

/// Whether parties may arrive.
pub(super) fn is_open(state: u64) -> bool {
    state & (ACTING | BROKEN) == 0
}

/// The state in the round after, nobody having arrived.
pub(super) fn next(state: u64, has_passed: bool) -> u64 {
    let history = (history(state) << 1 | u64::from(has_passed)) & ((1 << HISTORY_BITS) - 1);
    history << HISTORY_SHIFT | u64::from(round(state).wrapping_add(1))
}

pub(super) fn broken(state: u64) -> u64 {
    history(state) << HISTORY_SHIFT | u64::from(round(state)) | BROKEN
}

pub(super) fn resetting(state: u64) -> u64 {
    broken(state) | RESETTING
}

pub(super) fn is_resetting(state: u64) -> bool {
    state & RESETTING != 0
}

pub(super) fn acting(state: u64, index: usize) -> u64 {
    state | ACTING | (index as u64) << ACTOR_SHIFT
}

/// The state once somebody is about to take a dead one's place.
pub(super) fn turned(state: u64) -> u64 {
    state & !TURNS | state.wrapping_add(TURN) & TURNS
}

/// Whether any round was ever broken, of the word that says which one was the last.
pub(super) const EVER: u64 = 1 << 32;

/// What became of the round `mine`; `None` while it goes on. One that is too long ago to stand in the history has passed if
/// none was broken since; otherwise it counts as broken.
pub(super) fn outcome(state: u64, last_broken: u64, mine: u32) -> Option<Result<(), BarrierError>> {
    let age = round(state).wrapping_sub(mine);
    let has_passed = match age {
        0 if is_broken(state) => false,
        0 => return None,
        1..=HISTORY_BITS => history(state) >> (age - 1) & 1 != 0,
        _ => last_broken & EVER == 0 || is_later(mine, last_broken as u32),
    };
    Some(if has_passed { Ok(()) } else { Err(BarrierError::Broken) })
}

/// Whether the round `one` comes after the round `other`.
pub(super) fn is_later(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

pub(super) fn arrival(round: u32, me: OwnerId) -> u64 {
    u64::from(me.bits()) << 32 | u64::from(round)
}

/// Who has arrived with this word, dead or alive, in whichever round.
pub(super) fn party(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word >> 32) as u32 & ((1 << OwnerId::BITS) - 1))
}

/// Who has arrived for `round` and counts.
pub(super) fn arrived(word: u64, round: u32) -> Option<OwnerId> {
    party(word).filter(|_| word as u32 == round && word & GONE == 0)
}

/// Whether somebody has arrived for `round` and does not count any more.
pub(super) fn is_vacated(word: u64, round: u32) -> bool {
    word as u32 == round && word >> 32 != 0 && arrived(word, round).is_none()
}
