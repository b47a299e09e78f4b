//! The heap in a segment: blocks are usable and disjoint, and freed memory returns.

use crate::loom::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::collections::HashMap;
use std::sync::Arc;

use super::arena::{len_for, Arena};
use super::class::Class;
use super::{Block, Heap, State};
use crate::registry::Kind;
use crate::segment::attachment::Attachment;
use crate::segment::directory::NAMELESS;
use crate::segment::view::Entry;
use crate::ErrorKind;

#[path = "../../tests/support/forked.rs"]
mod forked;
use forked::Forked;

pub(super) fn segment(size: u64) -> Arc<Attachment> {
    Attachment::anonymous(size).unwrap()
}

/// Returns the heap as another participant has it.
pub(super) fn another(attachment: &Arc<Attachment>) -> Heap {
    let seat = attachment.seat().unwrap();
    Heap::of(&Attachment::adopt(seat.file, seat.owner, None).unwrap())
}

pub(super) fn fill(heap: &Heap, block: Block, len: usize, value: u64) {
    let words = heap.words(block.at, len / 8).unwrap();
    words.iter().for_each(|word| word.store(value, Relaxed));
}

pub(super) fn holds(heap: &Heap, block: Block, len: usize, value: u64) -> bool {
    let words = heap.words(block.at, len / 8).unwrap();
    words.iter().all(|word| word.load(Relaxed) == value)
}

#[test]
fn blocks_do_not_overlap_and_keep_their_bytes() {
    let attachment = segment(1 << 30);
    let (heap, other) = (Heap::of(&attachment), another(&attachment));
    let mut blocks = HashMap::new();
    for round in 0..4_000u64 {
        let len = [8, 24, 100, 700, 5000, 40_000, 200_000][round as usize % 7];
        let heap = if round % 2 == 0 { &heap } else { &other };
        let block = heap.alloc(len).unwrap();
        assert!(heap.len(block.at).unwrap() >= len as u64 && block.at % 16 == 0);
        fill(heap, block, len, round);
        heap.publish(block).unwrap();
        assert!(blocks.insert(block.at, (block, len, round)).is_none(), "allocated twice");
        if round % 3 == 0 {
            let at = *blocks.keys().next().unwrap();
            let (block, len, value) = blocks.remove(&at).unwrap();
            assert!(holds(&other, block, len, value));
            other.free(block).unwrap();
        }
    }
    assert_eq!(heap.in_use().unwrap().len(), blocks.len());
    for (block, len, value) in blocks.into_values() {
        assert!(holds(&heap, block, len, value));
        heap.free(block).unwrap();
    }
    assert_eq!(heap.in_use().unwrap(), []);
}

#[test]
fn freed_blocks_are_used_again() {
    let heap = Heap::of(&segment(1 << 30));
    let round = |len: usize, count: usize| {
        // Published at once, because nobody remakes chunks while a participant has claimed
        // more blocks than it can name.
        let next = |_| heap.alloc(len).inspect(|block| heap.publish(*block).unwrap()).unwrap();
        let blocks: Vec<Block> = (0..count).map(next).collect();
        blocks.iter().for_each(|block| heap.free(*block).unwrap());
        heap.size()
    };
    let first = round(40, 20_000).max(round(100_000, 20));
    for _ in 0..10 {
        assert_eq!(round(40, 20_000).max(round(100_000, 20)), first, "it does not grow for ever");
    }
}

#[test]
fn wrong_frees_are_errors_and_change_nothing() {
    let heap = Heap::of(&segment(1 << 24));
    let block = heap.alloc(40).unwrap();
    assert!(
        matches!(heap.state(block.at).unwrap().1, State::Claimed(_)) && heap.identify(block.at).is_none()
    );
    heap.publish(block).unwrap();
    assert_eq!(heap.publish(block).unwrap_err().kind(), ErrorKind::Corrupted);
    assert_eq!(heap.identify(block.at), Some(block));
    let wild = [
        0,
        8,
        16,
        4096,
        block.at + 8,
        block.at + 16,
        block.at - 48,
        1 << 23,
        1 << 40,
        u64::MAX,
        u64::MAX - 7,
    ];
    for at in wild {
        let error = heap.free(Block { at, ..block }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{at}");
        assert!(heap.state(at).is_err() || at == block.at - 48);
    }
    assert!(heap.free(Block { generation: 7, ..block }).is_err());
    heap.free(block).unwrap();
    assert_eq!(heap.free(block).unwrap_err().kind(), ErrorKind::Corrupted, "freed twice");
    let again = heap.alloc(40).unwrap();
    assert!(again.at == block.at && heap.free(block).is_err(), "another block is there now");
    heap.free(again).unwrap();
    assert_eq!(heap.in_use().unwrap(), []);
}

#[test]
fn a_full_segment_is_an_error_and_stays_usable() {
    let heap = Heap::of(&segment(1 << 21));
    assert_eq!(heap.alloc(1 << 22).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(heap.alloc(usize::MAX).unwrap_err().kind(), ErrorKind::OutOfMemory);
    let mut blocks = Vec::new();
    let error = loop {
        match heap.alloc(1000) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(blocks.len() > 1000, "most of it can be used: {}", blocks.len());
    assert_eq!(heap.in_use().unwrap().len(), blocks.len());
    heap.free(blocks[7]).unwrap();
    assert_eq!(heap.alloc(1000).unwrap().at, blocks[7].at);
}

#[test]
fn claims_of_a_dead_participant_come_back() {
    let attachment = segment(1 << 26);
    for count in [1, 7, 30] {
        let seat = attachment.seat().unwrap();
        let owner = seat.owner;
        let theirs = Heap::of(&Attachment::adopt(seat.file, owner, None).unwrap());
        let ours = Heap::of(&attachment);
        let blocks: Vec<Block> = (0..count).map(|len| theirs.alloc(len * 300).unwrap()).collect();
        theirs.publish(blocks[0]).unwrap();
        let kept = ours.alloc(300).unwrap();
        attachment.recover_records(owner);
        attachment.recover_records(owner);
        assert_eq!(ours.in_use().unwrap().len(), 2, "the published one, and ours");
        assert!(ours.identify(blocks[0].at).is_some());
        ours.free(kept).unwrap();
        ours.free(blocks[0]).unwrap();
    }
}

/// Returns the carved units of all arenas.
fn carved(attachment: &Attachment) -> u64 {
    let arenas =
        attachment.view().entries().map(Result::unwrap).filter(|entry| entry.kind == Kind::Heap as u32);
    let base = |entry: &Entry| attachment.base().wrapping_add(entry.object as usize);
    let counts = arenas.map(|entry| Arena::in_object(base(&entry), entry.len).unwrap().carved().0);
    counts.sum()
}

#[test]
fn an_arena_may_lie_below_the_known_ones() {
    let attachment = segment(1 << 30);
    let (one, two) = (Heap::of(&attachment), another(&attachment));
    let len = len_for(16) as usize;
    let lost = attachment.insert("lost", Kind::Event as u32, "", len, |_| {
        // Another participant is first, and the first arena gets a position above it.
        attachment.insert("lost", Kind::Event as u32, "", 8, |_| {}).unwrap();
        one.alloc(40).unwrap();
    });
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let first = two.alloc(40).unwrap();
    one.alloc(200_000).unwrap();
    let block = one.alloc(200_000).unwrap();
    assert!(block.at < first.at, "the second arena is where the lost object was");
    one.publish(block).unwrap();
    assert_eq!(two.len(block.at).unwrap(), one.len(block.at).unwrap());
    assert_eq!(two.identify(block.at), Some(block));
    two.free(block).unwrap();
}

#[test]
fn a_forked_child_waits_for_no_thread_that_searches_arenas() {
    let attachment = segment(1 << 26);
    for _ in 0..if cfg!(debug_assertions) { 2_000 } else { 10_000 } {
        attachment.insert_reserved(NAMELESS, Kind::Event as u32, "", 8, |_| {}).unwrap();
    }
    let heap = Heap::of(&attachment);
    let is_over = AtomicBool::new(false);
    // There is nothing, so both search for arenas: the thread nearly all the time.
    let search = || assert!(heap.words(1 << 36, 1).is_none());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                search();
            }
        });
        let codes = (0..20).map(|_| {
            let child = Forked::run(|| {
                // SAFETY: ends the process by a signal if it hangs; no pointers.
                unsafe { libc::alarm(20) };
                search();
                7
            });
            child.wait()
        });
        let all_end = codes.into_iter().all(|code| code == 7);
        is_over.store(true, Relaxed);
        assert!(all_end, "a child hangs");
    });
}

#[test]
fn handles_and_newcomers_share_chunks() {
    let attachment = segment(1 << 26);
    for round in 0..400 {
        let heap = if round % 2 == 0 { Heap::of(&attachment) } else { another(&attachment) };
        let block = heap.alloc(40).unwrap();
        heap.publish(block).unwrap();
        heap.alloc(3000).and_then(|block| heap.publish(block)).unwrap();
    }
    // A chunk of one unit has 338 small blocks, one of four has 21 large ones; and some chunks are
    // left when an arena is full.
    let all = carved(&attachment);
    assert!(all < 100, "{all} units are carved for 82 units of blocks");
}

#[test]
fn a_new_handle_claims_in_the_newest_chunk() {
    let attachment = segment(1 << 26);
    let (one, other) = (Heap::of(&attachment), another(&attachment));
    let chunk = Class::for_len(40).unwrap().blocks();
    let alloc = |heap: &Heap, count| (0..count).for_each(|_| _ = heap.alloc(40).unwrap());
    // The first chunk is full, then each carves one of its own. The last one is full as well.
    alloc(&one, chunk / 2);
    alloc(&other, chunk - chunk / 2);
    alloc(&one, 1);
    alloc(&other, chunk);
    let before = carved(&attachment);
    alloc(&Heap::of(&attachment), 1);
    assert_eq!(carved(&attachment), before);
}

#[test]
fn threads_that_run_out_at_once_add_one_arena() {
    let attachment = segment(1 << 26);
    let (heap, other) = (Heap::of(&attachment), another(&attachment));
    let class = Class::for_len(40).unwrap();
    // None of the three has found an arena.
    heap.grow(class, 0).unwrap();
    heap.grow(class, 0).unwrap();
    other.grow(class, 0).unwrap();
    assert_eq!(attachment.view().entries().count(), 1);
    other.grow(class, 1).unwrap();
    assert_eq!(attachment.view().entries().count(), 2);
}

#[test]
fn a_hint_that_a_dead_process_took_is_set_again() {
    let attachment = segment(1 << 26);
    let heap = Heap::of(&attachment);
    let class = Class::for_len(40).unwrap();
    let blocks: Vec<Block> = (0..2 * class.blocks()).map(|_| heap.alloc(40).unwrap()).collect();
    blocks.iter().for_each(|block| heap.publish(*block).unwrap());
    heap.free(blocks[0]).unwrap();
    let entry = attachment.view().entries().next().unwrap().unwrap();
    let base = attachment.base().wrapping_add(entry.object as usize);
    Arena::in_object(base, entry.len).unwrap().hint(class).store(0, Relaxed);
    heap.free(blocks[1]).unwrap();
    let again = heap.alloc(40).unwrap();
    assert!(
        again.at == blocks[0].at || again.at == blocks[1].at,
        "freed blocks are found before a chunk is carved"
    );
}

/// A participant with a heap of its own, which may die.
struct Other {
    heap: Heap,
    owner: crate::segment::owner::OwnerId,
    claimed: Vec<Block>,
}

impl Other {
    fn new(attachment: &Arc<Attachment>) -> Other {
        let seat = attachment.seat().unwrap();
        let owner = seat.owner;
        let heap = Heap::of(&Attachment::adopt(seat.file, owner, None).unwrap());
        Other { heap, owner, claimed: Vec::new() }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 60 }))]

    /// Two participants allocate, publish and free, and sometimes die. No two blocks overlap, and
    /// the blocks in use are those that were published and those that the living have claimed.
    #[test]
    fn like_a_set_of_ranges(ops in proptest::collection::vec((0..7u8, 0..2usize, 0..6000usize), 0..300)) {
        let attachment = segment(1 << 26);
        let mut others = [Other::new(&attachment), Other::new(&attachment)];
        let mut live: Vec<Block> = Vec::new();
        for (op, index, number) in ops {
            let other = &mut others[index];
            match op {
                0..=2 => other.claimed.push(other.heap.alloc(number).unwrap()),
                3 if !other.claimed.is_empty() => {
                    let block = other.claimed.swap_remove(number % other.claimed.len());
                    other.heap.publish(block).unwrap();
                    live.push(block);
                }
                4 if !other.claimed.is_empty() => {
                    let block = other.claimed.swap_remove(number % other.claimed.len());
                    other.heap.free(block).unwrap();
                    assert!(other.heap.free(block).is_err());
                }
                5 if !live.is_empty() => other.heap.free(live.swap_remove(number % live.len())).unwrap(),
                6 if number % 4 == 0 => {
                    attachment.reap(other.owner);
                    *other = Other::new(&attachment);
                }
                _ => {}
            }
        }
        let all = live.iter().chain(others.iter().flat_map(|other| &other.claimed));
        let mut ranges: Vec<_> = all.map(|block| (block.at, others[0].heap.len(block.at).unwrap())).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "they overlap");
        assert_eq!(others[1].heap.in_use().unwrap().len(), ranges.len());
    }

    /// Damaged words of an arena lead to errors, but not to a panic, an endless loop, or an access
    /// outside of it.
    #[test]
    fn damage_is_survived(
        spots in proptest::collection::vec((0..20_000usize, proptest::prelude::any::<u64>()), 1..40),
    ) {
        let attachment = segment(1 << 24);
        let heap = Heap::of(&attachment);
        let blocks: Vec<Block> = (0..100).map(|n| heap.alloc(n * 40).unwrap()).collect();
        blocks.iter().skip(5).for_each(|block| heap.publish(*block).unwrap());
        let arena = attachment.view().entries().map(Result::unwrap).last().unwrap();
        for (word, value) in spots {
            // Mostly the header, the first claim logs, and the table and first chunks.
            let at = if word % 2 == 0 { 0 } else { 66_560 }
                + 8 * (word % if word % 3 == 0 { 300 } else { 20_000 });
            assert!(at + 8 <= arena.len);
            // SAFETY: inside of the arena, which is mapped and all atomics.
            let word = unsafe { &*attachment.base().add(arena.object as usize + at).cast::<AtomicU64>() };
            word.store(value, Relaxed);
        }
        let owner = attachment.owner().unwrap();
        for block in blocks {
            _ = heap.state(block.at);
            _ = heap.free(block);
        }
        for len in [1, 100, 5000, 30_000, 100_000] {
            _ = heap.alloc(len).map(|block| heap.publish(block));
        }
        attachment.recover_records(owner);
        _ = heap.in_use();
        _ = super::describe(attachment.base().wrapping_add(arena.object as usize), arena.len);
    }
}
