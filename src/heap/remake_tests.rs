//! Remaking: memory that was freed serves other sizes, and nothing that is in use is changed.

use std::collections::HashSet;

use crate::loom::atomic::Ordering::Relaxed;

use super::arena::Arena;
use super::chunk_table::tests::STEPS;
use super::class::{Class, UNIT};
use super::tests::{another, fill, holds, segment};
use super::{Block, Heap};
use crate::ErrorKind;

/// Fills the heap with blocks of `len` bytes; returns them.
fn fill_up(heap: &Heap, len: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        match heap.alloc(len) {
            Ok(block) => {
                heap.publish(block).unwrap();
                blocks.push(block);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutOfMemory);
                return blocks;
            }
        }
    }
}

#[test]
fn what_was_of_one_size_serves_all_others() {
    const LENS: [usize; 6] = [100, 10_000, 400_000, 200, 3000, 100];
    let fresh = LENS.map(|len| fill_up(&Heap::of(&segment(1 << 23)), len).len());
    let attachment = segment(1 << 23);
    let heaps = [Heap::of(&attachment), another(&attachment)];
    for (round, len) in LENS.into_iter().enumerate() {
        let blocks = fill_up(&heaps[round % 2], len);
        assert!(
            2 * blocks.len() >= fresh[round],
            "{} blocks of {len} bytes, {} in a fresh one",
            blocks.len(),
            fresh[round]
        );
        let mut places: Vec<u64> = blocks.iter().map(|block| block.at).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0] + len as u64 <= pair[1]), "they overlap");
        assert_eq!(heaps[1].in_use().unwrap().len(), blocks.len());
        blocks.iter().for_each(|block| heaps[(round + 1) % 2].free(*block).unwrap());
        assert!(blocks.iter().all(|block| heaps[0].free(*block).is_err()), "freed twice");
    }
}

#[test]
fn what_is_in_use_stays_where_it_is_while_others_are_remade() {
    let attachment = segment(1 << 22);
    let heap = Heap::of(&attachment);
    let blocks = fill_up(&heap, 1000);
    // One block of each chunk stays, except in every third chunk.
    let (kept, freed): (Vec<_>, Vec<_>) =
        blocks.into_iter().enumerate().partition(|(number, _)| number % 15 == 7 && number / 15 % 3 != 0);
    kept.iter().for_each(|(number, block)| fill(&heap, *block, 1000, *number as u64));
    freed.iter().for_each(|(_, block)| heap.free(*block).unwrap());
    let large = fill_up(&heap, 10_000);
    assert!(large.len() >= kept.len() / 3, "{} of {}", large.len(), kept.len());
    large.iter().for_each(|block| fill(&heap, *block, 10_000, u64::MAX));
    for (number, block) in &kept {
        assert!(holds(&heap, *block, 1000, *number as u64) && heap.identify(block.at) == Some(*block));
    }
    assert_eq!(heap.in_use().unwrap().len(), kept.len() + large.len());
}

/// Returns the steps of an allocation for which runs of so many free chunks are tried in
/// vain, because a thread may be about to claim in any of them.
fn steps_in_vain(chunks: u64) -> u64 {
    let attachment = segment(chunks * UNIT);
    let (heap, me) = (Heap::of(&attachment), attachment.owner().unwrap());
    fill_up(&heap, 15_000).into_iter().for_each(|block| heap.free(block).unwrap());
    let logs = || (0..).map_while(|number| Some(heap.arena(number)?.0.claim_log(me)));
    // More blocks than it can name.
    logs().for_each(|log| (0..8).for_each(|_| _ = log.record(0, me)));
    STEPS.set(0);
    assert_eq!(heap.alloc(60_000).unwrap_err().kind(), ErrorKind::OutOfMemory);
    let steps = STEPS.get();
    logs().for_each(|log| (0..8).for_each(|_| log.erase(0, me)));
    assert!(heap.alloc(60_000).is_ok());
    steps
}

#[test]
fn runs_that_cannot_be_closed_are_walked_alone() {
    let [few, many] = [1 << 8, 1 << 11].map(steps_in_vain);
    assert!(many < 16 * few, "{few} steps for 2^8 chunks, {many} for 2^11");
}

#[test]
fn an_earlier_block_is_not_taken_for_the_present_one() {
    let heap = Heap::of(&segment(1 << 20));
    let mut before = HashSet::new();
    let name = |block: &Block| (block.at, block.generation);
    // The first block of a chunk has the same position in each class.
    for len in [100, 10_000].repeat(10) {
        let blocks = fill_up(&heap, len);
        assert!(!blocks.iter().any(|block| before.contains(&name(block))));
        let is_past = |(at, generation): &(u64, u32)| {
            heap.identify(*at).is_none_or(|block| block.generation != *generation)
        };
        assert!(before.iter().all(is_past));
        blocks.iter().for_each(|block| heap.free(*block).unwrap());
        before.extend(blocks.iter().map(name));
    }
}

#[test]
fn a_death_while_remaking_leaves_everything_usable() {
    let attachment = segment(1 << 20);
    let heap = Heap::of(&attachment);
    let seat = attachment.seat().unwrap();
    let owner = seat.owner;
    let blocks = fill_up(&heap, 100);
    blocks.iter().for_each(|block| heap.free(*block).unwrap());
    let entry = attachment.view().entries().next().unwrap().unwrap();
    let arena = Arena::in_object(attachment.base().wrapping_add(entry.object as usize), entry.len).unwrap();
    // Dies after it has closed two chunks.
    arena.keeper().store(owner.bits().into(), Relaxed);
    assert!(arena.table().close(0, owner) && arena.table().close(1, owner));
    assert!(arena.remake(Class::for_len(10_000).unwrap(), attachment.owner().unwrap()).is_err());
    attachment.recover_records(owner);
    assert_eq!(arena.keeper().load(Relaxed), 0);
    assert_eq!(fill_up(&heap, 100).len(), blocks.len());
}

#[test]
fn threads_of_two_participants_change_sizes_at_once() {
    let attachment = segment(1 << 22);
    let rounds = if cfg!(debug_assertions) { 40 } else { 400 };
    let work = |heap: &Heap, seed: u64| {
        let mut held: Vec<(Block, usize, u64)> = Vec::new();
        for round in 0..rounds {
            let len = [40, 1000, 5000, 30_000, 100_000][(seed + round) as usize % 5];
            for number in 0..200 {
                let Ok(block) = heap.alloc(len) else { break };
                let value = seed << 32 | round << 16 | number;
                fill(heap, block, len, value);
                heap.publish(block).unwrap();
                held.push((block, len, value));
            }
            for (block, len, value) in held.drain(..) {
                assert!(holds(heap, block, len, value), "another owner has written there");
                heap.free(block).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let heap = if seed % 2 == 0 { Heap::of(&attachment) } else { another(&attachment) };
            scope.spawn(move || work(&heap, seed));
        }
    });
    assert_eq!(Heap::of(&attachment).in_use().unwrap(), []);
}
