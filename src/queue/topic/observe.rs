//! A topic as observers see it: its subscribers, the number of messages, the newest message.
//!
//! These functions only read, so they work on a read-only mapping. Their answers may be out of date
//! immediately.

use super::line::{LineWord, Mode};
use super::ring::Ring;
use super::word::{age, Age, Position, Status, Word};
use crate::loom::atomic::Ordering::{Acquire, Relaxed};

/// A subscriber, as its line says.
#[derive(Debug)]
pub(super) struct Seen {
    /// The index of its participant.
    pub(super) participant: usize,
    pub(super) mode: Mode,
    /// The number of positions that it has yet to receive.
    pub(super) lag: u64,
    /// The number of messages that it has lost.
    pub(super) lost: u64,
    /// Whether it reads a message in place.
    pub(super) is_pinned: bool,
}

impl Ring {
    /// Returns the subscribers.
    pub(super) fn subscribers(&self) -> Vec<Seen> {
        let (floor, end) = (self.floor(), self.end());
        let seen = |line: &super::descriptor::Line| {
            let word = LineWord(line.state.load(Relaxed));
            Some(Seen {
                participant: word.owner()?.index(),
                mode: word.mode(),
                lag: end.saturating_sub(line.cursor.load(Relaxed).max(floor)),
                lost: line.lost.load(Relaxed),
                is_pinned: line.pin.load(Relaxed) != 0,
            })
        };
        self.lines().iter().filter_map(seen).collect()
    }

    /// Returns the number of messages that were published: exact while nobody publishes.
    pub(super) fn published(&self) -> u64 {
        let end = self.end();
        let first = end.saturating_sub(u64::from(self.shape.slots));
        let before = first.wrapping_sub(self.holes().count());
        let is_full = |number: &u64| {
            let at = self.position(*number);
            let word = Word(self.word(at.index).load(Relaxed));
            age(word, at) == Age::Here && word.status() == Status::Full
        };
        before.wrapping_add((first..end).filter(is_full).count() as u64)
    }

    /// Returns the position and the slot's word of the newest message.
    pub(super) fn newest(&self) -> Option<(Position, Word)> {
        let end = self.end();
        (self.oldest_kept()..end).rev().find_map(|number| {
            let at = self.position(number);
            let word = Word(self.word(at.index).load(Acquire)); // pairs with publish()
            (age(word, at) == Age::Here && word.status() == Status::Full).then_some((at, word))
        })
    }

    /// Returns whether the message of a position is unchanged.
    pub(super) fn is_still(&self, at: Position, word: Word) -> bool {
        let is_same = Word(self.word(at.index).load(Relaxed)).unpinned() == word.unpinned();
        is_same && !self.is_discarded(at)
    }
}
