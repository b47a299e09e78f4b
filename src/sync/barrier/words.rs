//! The words of a barrier as plain numbers: predicates and transitions.
//!
//! # State
//!
//! Of the state word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | number of the round, wrapping |
//! | 32..44 | outcomes of the previous rounds, the last one first: 1 passed, 0 broken |
//! | 44..56 | if acting: index of the arrival that runs the action |
//! | 56..61 | number of times a dead party's place was taken in this round, wrapping |
//! | 61 | resetting: broken only until the next round has begun |
//! | 62 | acting: all have arrived, and one of them runs the action |
//! | 63 | broken, until a reset |
//!
//! | acting | broken | meaning | next |
//! |---|---|---|---|
//! | 0 | 0 | parties arrive | next round, acting, broken, resetting |
//! | 1 | 0 | the action runs | next round, broken, resetting |
//! | 0 | 1 | broken | resetting |
//! | 0 | 1, resetting | waiters are sent away | next round |
//!
//! - To the next round: the party that finds all arrived, or that has run the action. At the end of
//!   a reset: `reset`, or any later caller, after it has noted which round was broken.
//! - To acting: the party that finds all arrived, if it has an action.
//! - To broken: `abort`, a party that times out, an action that panics, and a reaper of the actor.
//! - To resetting: `reset`.
//!
//! Of an arrival's word:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | the round of the arrival |
//! | 32..62 | the party's id; 0 for none |
//! | 62 | gone: the party has died since |
//!
//! A word of an earlier round is free, and so is one that is gone. Zero is the fresh state of all
//! words. A word never has the same value twice within a round, because the living stay, and the
//! dead do not come again.

use super::error::BarrierError;
use crate::segment::owner::OwnerId;

/// Number of earlier rounds whose outcome the state stores.
pub(super) const HISTORY_BITS: u32 = 12;
pub(super) const HISTORY_SHIFT: u32 = 32;
const ACTOR_SHIFT: u32 = HISTORY_SHIFT + HISTORY_BITS;
const ACTOR_BITS: u32 = 12;
/// The unit of the number of places of dead parties that were taken in this round.
pub(super) const TURN: u64 = 1 << (ACTOR_SHIFT + ACTOR_BITS);
/// The bits of that number.
pub(super) const TURNS: u64 = (RESETTING - 1) & !(TURN - 1);
/// Broken, but the next round is about to begin.
pub(super) const RESETTING: u64 = 1 << 61;
/// A party runs the action.
pub(super) const ACTING: u64 = 1 << 62;
pub(super) const BROKEN: u64 = 1 << 63;
/// Bit of an arrival's word: that party has died.
pub(super) const GONE: u64 = 1 << 62;

/// The largest number of parties. An index fits into the state.
pub(crate) const PARTIES_MAX: u32 = 1 << ACTOR_BITS;

pub(super) fn round(state: u64) -> u32 {
    state as u32
}

pub(super) fn history(state: u64) -> u64 {
    state >> HISTORY_SHIFT & ((1 << HISTORY_BITS) - 1)
}

/// Returns the index of the arrival that runs the action.
pub(super) fn actor(state: u64) -> Option<usize> {
    (state & ACTING != 0).then_some((state >> ACTOR_SHIFT) as usize & ((1 << ACTOR_BITS) - 1))
}

pub(super) fn is_broken(state: u64) -> bool {
    state & BROKEN != 0
}

/// Returns true if parties may arrive.
pub(super) fn is_open(state: u64) -> bool {
    state & (ACTING | BROKEN) == 0
}

/// Returns the state at the start of the next round.
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

/// Returns the state to be stored before a dead party's place is taken.
pub(super) fn turned(state: u64) -> u64 {
    state & !TURNS | state.wrapping_add(TURN) & TURNS
}

/// Bit of `last_broken`: a round was ever broken.
pub(super) const EVER: u64 = 1 << 32;

/// Returns the outcome of round `mine`; `None` while it goes on. A round that is older than the
/// history has passed if no later round was broken. Otherwise it counts as broken.
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

/// Returns true if round `one` comes after round `other`.
pub(super) fn is_later(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

pub(super) fn arrival(round: u32, me: OwnerId) -> u64 {
    u64::from(me.bits()) << 32 | u64::from(round)
}

/// Returns the party that arrived with this word, dead or alive, in any round.
pub(super) fn party(word: u64) -> Option<OwnerId> {
    OwnerId::from_bits((word >> 32) as u32 & ((1 << OwnerId::BITS) - 1))
}

/// Returns the party that arrived for `round`, if it still counts.
pub(super) fn arrived(word: u64, round: u32) -> Option<OwnerId> {
    party(word).filter(|_| word as u32 == round && word & GONE == 0)
}

/// Returns true if a party has arrived for `round` and no longer counts.
pub(super) fn is_vacated(word: u64, round: u32) -> bool {
    word as u32 == round && word >> 32 != 0 && arrived(word, round).is_none()
}
