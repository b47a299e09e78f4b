//! The heap as a process uses it: it allocates, publishes and frees blocks, and adds arenas.

use crate::loom::atomic::Ordering::{Acquire, Relaxed};
use crate::loom::atomic::{AtomicU64, AtomicUsize};
use std::sync::Arc;

use super::arena::{data_start, len_for, units_in, Arena, BlockPos};
use super::block::{self, generation, state, Block, State};
use super::class::Class;
use super::search::Found;
use crate::heap::arena_cache::{Known, MAX_ARENAS};
use crate::registry::Kind;
use crate::segment::attachment::Attachment;
use crate::{Error, ErrorKind, Result};

/// The prefix of the names of arenas. No user's name has a '/'.
const NAME: &str = "/heap/";
/// Units of the first arena: 256 KiB.
const UNITS_MIN: u64 = 16;
/// Units of an arena, unless one block needs more: 256 MiB.
const UNITS_MAX: u64 = 16 * 1024;

/// The heap of a segment. All heaps of an attachment share one cache of arenas.
#[derive(Debug)]
pub(crate) struct Heap {
    pub(super) attachment: Arc<Attachment>,
    known: Arc<Known>,
    /// The arena that contained the last block. Most blocks are in the same arena, the newest and
    /// largest. Not shared with other handles, since it is written often once there are several
    /// arenas.
    recent: AtomicUsize,
}

impl Clone for Heap {
    fn clone(&self) -> Heap {
        Heap::of(&self.attachment)
    }
}

#[cold]
pub(super) fn not_a_block(at: u64) -> Error {
    Error::new(
        ErrorKind::Corrupted,
        format!("the heap has no such block at offset {at}: freed already, or damaged"),
    )
}

impl Heap {
    /// Returns the heap of the segment. It is created at first use: allocating adds an arena.
    pub(crate) fn of(attachment: &Arc<Attachment>) -> Heap {
        Heap {
            attachment: attachment.clone(),
            known: attachment.local().get(Known::new),
            recent: AtomicUsize::new(0),
        }
    }

    /// Returns the length of the segment in bytes. All blocks together have fewer.
    pub(crate) fn size(&self) -> u64 {
        self.attachment.facts().size
    }

    /// Returns the arena with this number, and its offset.
    #[inline]
    pub(super) fn arena(&self, number: usize) -> Option<(Arena<'_>, u64)> {
        let (at, units) = self.known.arena(number)?;
        // SAFETY: find_arenas() has checked that `units` units lie inside of the mapping, at a
        // multiple of 128; the mapping lives as long as `self`.
        Some((unsafe { Arena::new(self.attachment.base().add(at as usize), units) }, at))
    }

    /// Finds arenas that others have added. An arena may be anywhere, also below those that are
    /// known, where space was freed.
    #[cold]
    fn find_arenas(&self) -> Result<()> {
        let known = self.known.count();
        let mut found = Vec::new();
        for entry in self.attachment.view().entries() {
            let entry = entry?;
            let Some(number) = entry.name.strip_prefix(NAME).and_then(|n| n.parse::<usize>().ok()) else {
                continue;
            };
            if entry.kind == Kind::Heap as u32 && number >= known {
                let units = units_in(entry.len as u64).ok_or_else(|| {
                    Error::new(ErrorKind::Corrupted, "the segment's heap has an arena of impossible length")
                })?;
                found.push((number, entry.object, units));
            }
        }
        found.sort_unstable();
        for (index, &(number, at, units)) in found.iter().enumerate() {
            if number != known + index || number >= MAX_ARENAS {
                return Err(Error::new(ErrorKind::Corrupted, "the segment's heap lacks one of its arenas"));
            }
            self.known.add(number, at, units, at + len_for(units));
        }
        Ok(())
    }

    /// Allocates a block of at least `len` bytes, whose contents may be anything. It is freed if
    /// this process dies before [`publish`](Heap::publish). Its previous owner's accesses happened
    /// before this returns.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`: nothing has changed. `Corrupted`.
    #[inline]
    pub(crate) fn alloc(&self, len: usize) -> Result<Block> {
        let class = Class::for_len(len as u64).ok_or_else(too_large)?;
        if let Some((number, first)) = self.known.current(class) {
            if let Some(block) = self.claim(number, first, class)? {
                return Ok(block);
            }
        }
        self.alloc_elsewhere(class)
    }

    #[inline]
    fn claim(&self, number: usize, first: usize, class: Class) -> Result<Option<Block>> {
        let me = self.attachment.owner()?;
        let Some((arena, at)) = self.arena(number) else { return Ok(None) };
        let claimed = arena.claim(first, class, me);
        Ok(claimed.map(|(pos, generation)| Block { at: at + arena.offset(pos), generation }))
    }

    #[cold]
    fn alloc_elsewhere(&self, class: Class) -> Result<Block> {
        match self.alloc_anywhere(class) {
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                // The dead may have claimed blocks. Perhaps no process waits for anything in this
                // segment, and so none looks for the dead.
                self.attachment.reap_all();
                self.alloc_anywhere(class)
            }
            found => found,
        }
    }

    fn alloc_anywhere(&self, class: Class) -> Result<Block> {
        let me = self.attachment.owner()?;
        // A process that has not allocated from this class before begins in the newest arena.
        let is_new = self.known.current(class).is_none();
        // Each round but the last finds arenas that were unknown in the round before.
        for _ in 0..=MAX_ARENAS {
            let known = self.known.count();
            let newest = known.saturating_sub(1)..known;
            let found = self
                .search((0..known).rev(), class, |arena| arena.claim_freed(class, me))
                .or_else(|| {
                    self.search(newest.filter(|_| is_new), class, |arena| arena.claim_newest(class, me))
                })
                .or_else(|| self.search((0..known).rev(), class, |arena| arena.claim_fresh(class, me)));
            if let Some(block) = found {
                return Ok(block);
            }
            self.find_arenas()?;
            if self.known.count() > known {
                continue;
            }
            let found = self
                .search(0..known, class, |arena| arena.claim_anywhere(class, me))
                .or_else(|| self.search(0..known, class, |arena| arena.claim_remade(class, me).ok()));
            if let Some(block) = found {
                return Ok(block);
            }
            if let Err(error) = self.grow(class, known) {
                let other = class.in_smaller_chunks().filter(|_| error.kind() == ErrorKind::OutOfMemory);
                return other.map_or(Err(error), |other| self.alloc_anywhere(other));
            }
        }
        Err(too_large())
    }

    /// Claims a block in one of these arenas, and makes its chunk the one to allocate from.
    fn search(
        &self,
        mut numbers: impl Iterator<Item = usize>,
        class: Class,
        claim: impl Fn(Arena<'_>) -> Option<Found>,
    ) -> Option<Block> {
        numbers.find_map(|number| {
            let (arena, at) = self.arena(number)?;
            let (pos, generation) = claim(arena)?;
            self.known.set_current(class, number, pos.first);
            Some(Block { at: at + arena.offset(pos), generation })
        })
    }

    /// Adds arena number `number`, in which a chunk of this class fits, unless another process has
    /// added it.
    pub(super) fn grow(&self, class: Class, number: usize) -> Result<()> {
        if number == MAX_ARENAS {
            return Err(too_large());
        }
        let there: u64 = (0..number).filter_map(|number| Some(self.arena(number)?.0.carved().1)).sum();
        let least = class.units();
        let wanted = (there / 4).clamp(UNITS_MIN, UNITS_MAX).max(least);
        let name = format!("{NAME}{number}");
        let insert = |units| {
            self.attachment.insert_reserved(&name, Kind::Heap as u32, "", len_for(units) as usize, |_| {})
        };
        let added = match insert(wanted) {
            Err(error) if error.kind() == ErrorKind::OutOfMemory && wanted > least => insert(least),
            added => added,
        };
        match added {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => self.find_arenas(),
        }
    }

    /// Returns the arena that contains `at`, and its offset.
    #[inline]
    pub(super) fn arena_of(&self, at: u64) -> Option<(Arena<'_>, u64)> {
        self.arena_known(at).or_else(|| {
            // Another process, or another thread of this one, may have added the arena.
            self.find_arenas().ok()?;
            self.arena_known(at)
        })
    }

    #[inline]
    fn arena_known(&self, at: u64) -> Option<(Arena<'_>, u64)> {
        let recent = self.recent.load(Relaxed);
        self.arena(recent)
            .filter(|(arena, start)| arena.reaches(at, *start))
            .or_else(|| self.arena_elsewhere(at))
    }

    #[cold]
    fn arena_elsewhere(&self, at: u64) -> Option<(Arena<'_>, u64)> {
        let arenas = (0..MAX_ARENAS).map_while(|number| Some((number, self.arena(number)?)));
        let (number, found) = arenas.into_iter().find(|(_, (arena, start))| arena.reaches(at, *start))?;
        self.recent.store(number, Relaxed);
        Some(found)
    }

    /// Returns the arena and the position of the block at `at`.
    #[inline]
    pub(super) fn locate(&self, at: u64) -> Option<(Arena<'_>, u64, BlockPos)> {
        let (arena, start) = self.arena_of(at)?;
        Some((arena, start, arena.block_pos(at - start)?))
    }

    /// Makes the block LIVE, so that it survives this process.
    ///
    /// # Errors
    ///
    /// `Corrupted`: this process has not claimed it.
    #[inline]
    pub(crate) fn publish(&self, block: Block) -> Result<()> {
        let me = self.attachment.owner()?;
        let (arena, start) = self.arena_of(block.at).ok_or_else(|| not_a_block(block.at))?;
        // Its position need not be determined, because only the word of a block that this process
        // has claimed has this value.
        let word = self.word(block.at).ok_or_else(|| not_a_block(block.at))?;
        if !block::publish(word, block.generation, me) {
            return Err(not_a_block(block.at));
        }
        arena.claim_log(me).erase(block.at - start, me);
        Ok(())
    }

    /// Frees this block, which is LIVE or claimed by this process. Only its owner may free it.
    ///
    /// # Errors
    ///
    /// `Corrupted`: there is no such block, or not any more (freed twice). Nothing has changed.
    #[inline]
    pub(crate) fn free(&self, block: Block) -> Result<()> {
        let me = self.attachment.owner()?;
        let (arena, start, pos) = self.locate(block.at).ok_or_else(|| not_a_block(block.at))?;
        let slot = arena.slot(pos);
        let claimed = matches!(state(slot.word.load(Relaxed)), State::Claimed(_));
        if !slot.free(block.generation, me) {
            return Err(not_a_block(block.at));
        }
        if claimed {
            arena.claim_log(me).erase(block.at - start, me);
        }
        arena.note_freed(pos);
        Ok(())
    }

    /// Returns the block whose bytes begin at `at`, free or not, with its state.
    ///
    /// # Errors
    ///
    /// `Corrupted`: no block begins there, or its word is damaged.
    pub(crate) fn state(&self, at: u64) -> Result<(Block, State)> {
        let (arena, _, pos) = self.locate(at).ok_or_else(|| not_a_block(at))?;
        let word = arena.slot(pos).word.load(Acquire); // pairs with publish()
        match state(word) {
            State::Damaged => Err(not_a_block(at)),
            state => Ok((Block { at, generation: generation(word) }, state)),
        }
    }

    /// Returns the block at `at`, if it is LIVE. Its position is determined when it is freed.
    #[inline]
    pub(crate) fn identify(&self, at: u64) -> Option<Block> {
        let word = self.word(at)?.load(Acquire); // pairs with publish()
        (state(word) == State::Live).then_some(Block { at, generation: generation(word) })
    }

    /// Returns the number of bytes of the block whose bytes begin at `at`.
    ///
    /// # Errors
    ///
    /// `Corrupted`: no block begins there.
    pub(crate) fn len(&self, at: u64) -> Result<u64> {
        self.locate(at).map(|(_, _, pos)| pos.class.len()).ok_or_else(|| not_a_block(at))
    }

    /// Returns the `count` words at `at`; `None` if they do not lie below the end of the heap's
    /// last arena. For readers that validate afterwards, because the words are mapped whether or
    /// not there is such a block.
    #[inline]
    pub(crate) fn words(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        let end = at.checked_add((count as u64).checked_mul(8)?)?;
        if at % 8 != 0 || at < data_start(1) {
            return None;
        }
        if end > self.known.reach() {
            // Another process or thread may have added the arena.
            self.find_arenas().ok()?;
            if end > self.known.reach() {
                return None;
            }
        }
        // SAFETY: the range ends before a checked arena does, so it lies inside of the mapping,
        // which lives as long as `self`; it is aligned, and all code that shares blocks accesses
        // words atomically.
        Some(unsafe {
            std::slice::from_raw_parts(self.attachment.base().add(at as usize).cast::<AtomicU64>(), count)
        })
    }

    /// Returns the word of the block whose bytes begin at `at`. It changes whenever the block is
    /// claimed, published or freed. Only for comparing; `None` as in [`words`](Heap::words).
    #[inline]
    pub(crate) fn word(&self, at: u64) -> Option<&AtomicU64> {
        self.words(at.checked_sub(8)?, 1)?.first()
    }

    /// Returns the blocks that are not free. Inspects every block.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn in_use(&self) -> Result<Vec<(Block, State)>> {
        self.find_arenas()?;
        let arenas = (0..self.known.count()).filter_map(|number| self.arena(number));
        let blocks = arenas.flat_map(|(arena, start)| {
            let block = move |(pos, word)| {
                (Block { at: start + arena.offset(pos), generation: generation(word) }, state(word))
            };
            arena.blocks().map(block)
        });
        Ok(blocks.filter(|(_, state)| *state != State::Free).collect())
    }

    /// Returns the number of bytes of all arenas.
    #[cfg(test)]
    pub(crate) fn size(&self) -> u64 {
        (0..self.known.count())
            .filter_map(|number| Some(self.arena(number)?.0.carved().1 * super::class::UNIT))
            .sum()
    }
}

#[cold]
fn too_large() -> Error {
    Error::new(ErrorKind::OutOfMemory, "the heap has no room for a block of this size")
}
