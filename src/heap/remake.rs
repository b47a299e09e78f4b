//! Remaking: chunks whose blocks are all free become a chunk of another class.
//!
//! One participant at a time remakes in an arena, the keeper, and the arena's word
//! ([`Arena::keeper`]) names it. It closes the chunks of a run, checks that nobody claims in them,
//! and builds the new chunk over them. Others allocate, free and read meanwhile. One that finds the
//! keeper's word taken does not wait, and takes other memory. The rest of a run is a vacant piece
//! ([`crate::heap::chunk_table`]).
//!
//! A reference to an old block finds nothing. Freeing, publishing and reading compare the block's
//! whole word, and the words of a new chunk begin with a generation that is later than all before
//! it ([`Arena::floor`]). A free word compares equal to plain data, so a claim needs more: the
//! claimant first names the block in its log, then checks that the chunk is open. The bits are
//! stored outside of the chunks, so clearing one late does no harm.
//!
//! # Memory ordering
//!
//! Closing and naming are SeqCst, and so is what each checks after it: the logs, and the chunk's
//! word. One of the two sees the other. The logs are read before the words of the blocks, because
//! a name is withdrawn after its block is published. Building ends with a Release store of the
//! first unit's word, which pairs with the Acquire of a claimant.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | chunks closed, some or all | reaping | they are opened, then the keeper is cleared | nothing |
//! | the run is one vacant piece | reaping | the keeper is cleared | nothing |
//! | stopped while it carves, at a unit of the run | itself | its swap fails | nothing |
//! | built, the keeper's word still taken | reaping | it is cleared | nothing |
//! | stopped at any of these | nobody needs to | others take memory elsewhere | nothing |
//! | a reaper is late | nobody needs to | it opens only chunks of the dead keeper | nothing |
//!
//! In the second window some words inside of the piece may be old; the process that takes the piece
//! writes them anew. For the third see [`super::chunk_table`]. While a keeper is stopped, nobody
//! can remake in its arena.

use super::arena::{Arena, BlockPos};
use super::block::{free_word, generation, is_later, state, State};
use super::class::{Class, BIT_WORDS};
use crate::heap::chunk_table::{Piece, VACANT_MAX};
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::loom::Ordered;
use crate::segment::owner::OwnerId;

/// The reason why there is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// All memory is used.
    Used,
    /// Another participant remakes chunks. There may be memory when it has finished.
    Busy,
}

/// A sequence of pieces.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: usize,
    units: u64,
}

impl Run {
    fn end(self) -> usize {
        self.first + self.units as usize
    }
}

impl Arena<'_> {
    /// Builds a chunk of this class out of empty pieces, and returns its first unit.
    pub(super) fn remake(&self, class: Class, me: OwnerId) -> Result<usize, Shortage> {
        let mine = u64::from(me.bits());
        // Acquire pairs with the release below: the pieces are as the last keeper left them.
        if self.keeper().compare_exchange(0, mine, AcqRel, Relaxed).is_err() {
            #[cfg(all(test, not(loom)))]
            busy::tell();
            return Err(Shortage::Busy);
        }
        let made = self.find_empty(class.units(), me).map(|run| {
            self.build(run, class);
            run.first
        });
        _ = self.keeper().compare_exchange(mine, 0, Release, Relaxed);
        made.ok_or(Shortage::Used)
    }

    /// Closes a run of empty pieces of at least `least` units.
    fn find_empty(&self, least: u64, me: OwnerId) -> Option<Run> {
        let start = usize::try_from(self.next().load(Relaxed)).unwrap_or(0);
        // The search begins at the last run.
        for from in [start, 0].into_iter().take(1 + usize::from(start > 0)) {
            let mut run = Run { first: 0, units: 0 };
            // From the beginning, because only there a piece certainly begins.
            for (first, piece) in self.table().pieces_before_end() {
                if first < from || !self.is_empty(first, piece) {
                    run.units = 0;
                    continue;
                }
                if run.units == 0 || run.end() != first {
                    run = Run { first, units: 0 };
                }
                run.units += piece.units();
                if run.units >= least {
                    if run.units < VACANT_MAX && self.close(run, me) {
                        self.next().store(first as u64, Relaxed);
                        return Some(run);
                    }
                    run.units = 0;
                }
            }
        }
        None
    }

    /// Returns whether all blocks of this piece are free at the moment.
    fn is_empty(&self, first: usize, piece: Piece) -> bool {
        match piece {
            Piece::Vacant(_) => true,
            Piece::Closed(..) => false,
            Piece::Chunk(class) => {
                (0..class.blocks()).all(|block| self.is_free(BlockPos { first, class, block }))
            }
        }
    }

    fn is_free(&self, pos: BlockPos) -> bool {
        state(self.slot(pos).word.load(Acquire)) == State::Free // pairs with Slot::free()
    }

    /// Closes the chunks of the run. Returns false if one of them is not empty, or if another
    /// process may be about to claim in it; then they are open as before.
    fn close(&self, run: Run, me: OwnerId) -> bool {
        let table = self.table();
        let pieces = || self.pieces_of(run);
        let mut are_closed = true;
        for (first, piece) in pieces() {
            are_closed &= match piece {
                Piece::Vacant(_) => true,
                Piece::Chunk(_) => table.close(first, me),
                Piece::Closed(..) => false,
            };
        }
        Ordered::by_fence(); // closing, then the logs: pairs with Arena::claim()
        let range = self.chunk_start(run.first)..self.chunk_start(run.end());
        let is_ours = are_closed
            && !self.claim_logs().any(|log| log.may_name(&range))
            && pieces().all(|(first, piece)| match piece {
                Piece::Vacant(_) => true,
                Piece::Closed(class, _) => {
                    (0..class.blocks()).all(|block| self.is_free(BlockPos { first, class, block }))
                }
                Piece::Chunk(_) => false,
            });
        if !is_ours {
            pieces().for_each(|(first, _)| table.open(first, me));
        }
        is_ours
    }

    fn pieces_of(&self, run: Run) -> impl Iterator<Item = (usize, Piece)> + '_ {
        self.table().pieces_from(run.first, run.end())
    }

    /// Builds a chunk over a closed run; the rest of the run becomes vacant.
    fn build(&self, run: Run, class: Class) {
        let table = self.table();
        let mut floor = self.floor().load(Relaxed) as u32;
        for (first, piece) in self.pieces_of(run) {
            let Piece::Closed(class, _) = piece else { continue };
            for block in 0..class.blocks() {
                let found = generation(self.slot(BlockPos { first, class, block }).word.load(Relaxed));
                floor = if is_later(found, floor) { found } else { floor };
            }
        }
        self.floor().store(floor.into(), Relaxed);
        // From here on the words inside mean nothing. Release: after the floor.
        table.set_vacant(run.first, run.units);
        table.set_inside(run.first + 1..run.end());
        for index in 0..BIT_WORDS as u64 {
            self.bits(run.first, index).store(0, Relaxed);
        }
        for block in 0..class.blocks() {
            let slot = self.slot(BlockPos { first: run.first, class, block });
            slot.word.store(free_word(floor), Relaxed);
        }
        let rest = run.units - class.units();
        if rest > 0 {
            table.set_vacant(run.first + class.units() as usize, rest);
        }
        table.units[run.first].store(class.number() as u64 + 1, Release); // pairs with Table::is_open()
    }

    /// Ends the remaking of `dead`. Any number of processes may do it at once.
    pub(super) fn recover_keeper(&self, dead: OwnerId) {
        let theirs = u64::from(dead.bits());
        if self.keeper().load(SeqCst) != theirs {
            return;
        }
        self.table().pieces_before_end().for_each(|(first, _)| self.table().open(first, dead));
        _ = self.keeper().compare_exchange(theirs, 0, Release, Relaxed);
    }
}

/// Lets a test act as the keeper while a participant finds that another one remakes.
#[cfg(all(test, not(loom)))]
pub(crate) mod busy {
    use std::cell::RefCell;

    thread_local!(static ACT: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) });

    /// Calls `act` from now on, each time this thread finds that another participant remakes.
    pub(crate) fn on_each(act: impl FnMut() + 'static) {
        ACT.set(Some(Box::new(act)));
    }

    pub(super) fn tell() {
        ACT.with_borrow_mut(|act| act.iter_mut().for_each(|act| act()));
    }
}
