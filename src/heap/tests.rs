//! The heap in a segment: what is allocated is there, apart, and comes back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use super::{Block, Heap, State};
use crate::attachment::Attachment;
use crate::ErrorKind;

fn segment(size: u64) -> Arc<Attachment> {
    Attachment::anonymous(size).unwrap()
}

fn fill(heap: &Heap, block: Block, len: usize, value: u64) {
    let words = heap.words(block.at, len / 8).unwrap();
    words.iter().for_each(|word| word.store(value, Relaxed));
}

fn holds(heap: &Heap, block: Block, len: usize, value: u64) -> bool {
    let words = heap.words(block.at, len / 8).unwrap();
    words.iter().all(|word| word.load(Relaxed) == value)
}

#[test]
fn blocks_stand_apart_and_keep_their_bytes() {
    let attachment = segment(1 << 30);
    let heap = Heap::of(&attachment).unwrap();
    let other = Heap::of(&attachment).unwrap();
    let mut blocks = HashMap::new();
    for round in 0..4_000u64 {
        let len = [8, 24, 100, 700, 5000, 40_000, 200_000][round as usize % 7];
        let heap = if round % 2 == 0 { &heap } else { &other };
        let block = heap.alloc(len).unwrap();
        assert!(heap.len(block.at).unwrap() >= len as u64 && block.at % 16 == 0);
        fill(heap, block, len, round);
        heap.publish(block).unwrap();
        assert!(blocks.insert(block.at, (block, len, round)).is_none(), "given twice");
        if round % 3 == 0 {
            let at = *blocks.keys().next().unwrap();
            let (block, len, value) = blocks.remove(&at).unwrap();
            assert!(holds(&other, block, len, value));
            other.free(block).unwrap();
        }
    }
    assert_eq!(heap.census().unwrap(), blocks.len() as u64);
    for (block, len, value) in blocks.into_values() {
        assert!(holds(&heap, block, len, value));
        heap.free(block).unwrap();
    }
    assert_eq!(heap.census().unwrap(), 0);
}

#[test]
fn what_is_freed_is_used_again() {
    let heap = Heap::of(&segment(1 << 30)).unwrap();
    let round = |len: usize, count: usize| {
        let blocks: Vec<Block> = (0..count).map(|_| heap.alloc(len).unwrap()).collect();
        blocks.iter().for_each(|block| heap.publish(*block).unwrap());
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
    let heap = Heap::of(&segment(1 << 24)).unwrap();
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
    assert!(again.at == block.at && heap.free(block).is_err(), "another block stands there now");
    heap.free(again).unwrap();
    assert_eq!(heap.census().unwrap(), 0);
}

#[test]
fn a_full_segment_is_an_error_and_stays_usable() {
    let heap = Heap::of(&segment(1 << 21)).unwrap();
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
    assert_eq!(heap.census().unwrap(), blocks.len() as u64);
    heap.free(blocks[7]).unwrap();
    assert_eq!(heap.alloc(1000).unwrap().at, blocks[7].at);
}

#[test]
fn what_a_dead_one_had_in_hand_comes_back() {
    let attachment = segment(1 << 26);
    for count in [1, 7, 30] {
        let seat = attachment.seat().unwrap();
        let owner = seat.owner;
        let theirs = Heap::of(&Attachment::adopt(seat.file, owner).unwrap()).unwrap();
        let ours = Heap::of(&attachment).unwrap();
        let blocks: Vec<Block> = (0..count).map(|len| theirs.alloc(len * 300).unwrap()).collect();
        theirs.publish(blocks[0]).unwrap();
        let kept = ours.alloc(300).unwrap();
        attachment.recover_records(owner);
        attachment.recover_records(owner);
        assert_eq!(ours.census().unwrap(), 2, "the published one, and ours");
        assert!(ours.identify(blocks[0].at).is_some());
        ours.free(kept).unwrap();
        ours.free(blocks[0]).unwrap();
    }
}

/// Somebody with a heap of their own, who may die.
struct Other {
    heap: Heap,
    owner: crate::owner::OwnerId,
    in_hand: Vec<Block>,
}

impl Other {
    fn new(attachment: &Arc<Attachment>) -> Other {
        let seat = attachment.seat().unwrap();
        let owner = seat.owner;
        let heap = Heap::of(&Attachment::adopt(seat.file, owner).unwrap()).unwrap();
        Other { heap, owner, in_hand: Vec::new() }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 60 }))]

    /// Two allocate, publish and free, and die now and then: no two blocks overlap, and what is in use is what was published and
    /// what the living have in hand.
    #[test]
    fn like_a_set_of_ranges(ops in proptest::collection::vec((0..7u8, 0..2usize, 0..6000usize), 0..300)) {
        let attachment = segment(1 << 26);
        let mut others = [Other::new(&attachment), Other::new(&attachment)];
        let mut live: Vec<Block> = Vec::new();
        for (op, who, number) in ops {
            let other = &mut others[who];
            match op {
                0..=2 => other.in_hand.push(other.heap.alloc(number).unwrap()),
                3 if !other.in_hand.is_empty() => {
                    let block = other.in_hand.swap_remove(number % other.in_hand.len());
                    other.heap.publish(block).unwrap();
                    live.push(block);
                }
                4 if !other.in_hand.is_empty() => {
                    let block = other.in_hand.swap_remove(number % other.in_hand.len());
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
        let all = live.iter().chain(others.iter().flat_map(|other| &other.in_hand));
        let mut ranges: Vec<_> = all.map(|block| (block.at, others[0].heap.len(block.at).unwrap())).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "they overlap");
        assert_eq!(others[1].heap.census().unwrap(), ranges.len() as u64);
    }

    /// Whatever is written over an arena: errors, no panic, no endless loop, and never memory outside of it.
    #[test]
    fn damage_is_survived(spots in proptest::collection::vec((0..20_000usize, proptest::prelude::any::<u64>()), 1..40)) {
        let attachment = segment(1 << 24);
        let heap = Heap::of(&attachment).unwrap();
        let blocks: Vec<Block> = (0..100).map(|n| heap.alloc(n * 40).unwrap()).collect();
        blocks.iter().skip(5).for_each(|block| heap.publish(*block).unwrap());
        let arena = attachment.view().entries().map(Result::unwrap).last().unwrap();
        for (word, value) in spots {
            // Mostly the header, the hands of the first, and the table and first chunks.
            let at = if word % 2 == 0 { 0 } else { 66_560 } + 8 * (word % if word % 3 == 0 { 300 } else { 20_000 });
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
        _ = heap.census();
        _ = super::describe(attachment.base().wrapping_add(arena.object as usize), arena.len);
    }
}
