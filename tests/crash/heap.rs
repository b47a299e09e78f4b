//! Scenes of the heap alone: a block is allocated and published, or abandoned, or freed. This
//! happens in a chunk with room, in one that has to be carved, and in an arena that has to be
//! added. After each, exactly the published blocks are in use, and all others can be allocated,
//! each of them once.

use std::collections::HashSet;

use pagemate::{ErrorKind, HeapRehearsal, Result};

use crate::{End, Recipe, Scene};

/// Room for three arenas of 16 units, and for no fourth one.
const SIZE: u64 = 20_480 + 3 * 332_288 + 1024;
/// Sizes of blocks: 15 of the first fit in a unit, the second takes a unit.
const SMALL: usize = 1000;
const LARGE: usize = 16_000;

type Block = (u64, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Publish,
    GiveUp,
    Free,
}

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "heap: alloc and publish", build: || Change::boxed(Op::Publish, SMALL, 5) },
        Recipe { name: "heap: alloc and drop unpublished", build: || Change::boxed(Op::GiveUp, SMALL, 5) },
        Recipe { name: "heap: free", build: || Change::boxed(Op::Free, SMALL, 5) },
        Recipe { name: "heap: carve a chunk", build: || Change::boxed(Op::Publish, SMALL, 15) },
        Recipe { name: "heap: remake a chunk", build: Change::remaking },
        Recipe { name: "heap: grow by an arena", build: || Change::boxed(Op::Publish, LARGE, 16) },
    ]
}

struct Change {
    heap: HeapRehearsal,
    /// Another participant, which knows what the first one did before the operation.
    other: HeapRehearsal,
    op: Op,
    len: usize,
    /// Published blocks, which stay.
    live: Vec<Block>,
    /// The block that the child frees.
    old: Option<Block>,
}

impl Change {
    fn boxed(op: Op, len: usize, count: usize) -> Box<dyn Scene> {
        let heap = HeapRehearsal::new(SIZE).unwrap();
        let other = heap.another().unwrap();
        let mut live: Vec<Block> = (0..count).map(|_| heap.alloc(len).unwrap()).collect();
        live.iter().for_each(|block| heap.publish(*block).unwrap());
        let old = (op == Op::Free).then(|| live.swap_remove(2));
        assert_eq!(other.blocks().unwrap().0.len(), count);
        Box::new(Change { heap, other, op, len, live, old })
    }

    /// Builds the scene in which all memory is in chunks of small free blocks, and the child needs
    /// a large one.
    fn remaking() -> Box<dyn Scene> {
        let heap = HeapRehearsal::new(SIZE).unwrap();
        let other = heap.another().unwrap();
        let small: Vec<Block> = (0..3 * 16 * 15).map(|_| heap.alloc(SMALL).unwrap()).collect();
        small.iter().for_each(|block| heap.publish(*block).unwrap());
        small.iter().for_each(|block| heap.free(*block).unwrap());
        assert!(other.blocks().unwrap().0.is_empty());
        let live = [other.alloc(SMALL).unwrap()];
        live.iter().for_each(|block| other.publish(*block).unwrap());
        Box::new(Change { heap, other, op: Op::Publish, len: LARGE, live: live.to_vec(), old: None })
    }

    /// Checks that a stopped child holds up nobody.
    fn meanwhile(&mut self) -> Result<()> {
        for _ in 0..2 {
            let block = self.other.alloc(self.len)?;
            self.other.publish(block)?;
            self.live.push(block);
        }
        self.other.free(self.live.remove(0))
    }

    fn script(&mut self, end: End) -> Result<Option<String>> {
        self.heap.reap_all();
        let (now, others) = self.other.blocks()?;
        let now: HashSet<Block> = now.into_iter().collect();
        let kept: HashSet<Block> = self.live.iter().copied().collect();
        let new: Vec<&Block> = now.difference(&kept).collect();
        let is_expected = match (self.op, end) {
            (Op::Publish, End::Finished) => new.len() == 1,
            (Op::Publish, _) => new.len() <= 1,
            (Op::GiveUp, _) | (Op::Free, End::Finished) => new.is_empty(),
            (Op::Free, _) => new.iter().all(|block| Some(**block) == self.old),
        };
        if others > 0 || !is_expected || !kept.is_subset(&now) {
            return Ok(Some(format!("{kept:?} was published, {now:?} is, and {others} are claimed")));
        }
        // Every block can be allocated once.
        let mut all = now.clone();
        loop {
            let block = match self.heap.alloc(self.len) {
                Ok(block) => block,
                Err(error) if error.kind() == ErrorKind::OutOfMemory => break,
                Err(error) => return Err(error),
            };
            if all.iter().any(|(at, _)| at.abs_diff(block.0) < self.len as u64) {
                return Ok(Some(format!("{block:?} was allocated, which has an owner already: {all:?}")));
            }
            self.heap.publish(block)?;
            all.insert(block);
        }
        let expected = 3 * 16 * if self.len == SMALL { 15 } else { 1 };
        if all.len() != expected {
            return Ok(Some(format!("{} blocks of {expected} can be had", all.len())));
        }
        // The other participant frees all blocks, wherever the last arena is.
        all.iter().try_for_each(|block| self.other.free(*block))?;
        let left = self.heap.blocks()?;
        Ok((left != (Vec::new(), 0)).then(|| format!("{left:?} are left")))
    }
}

impl Scene for Change {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        self.heap.attend().unwrap();
    }

    fn act(&mut self) {
        if let Some(old) = self.old {
            return self.heap.free(old).unwrap();
        }
        let block = self.heap.alloc(self.len).unwrap();
        match self.op {
            Op::Publish => self.heap.publish(block).unwrap(),
            _ => self.heap.free(block).unwrap(),
        }
    }

    fn check(&mut self, end: End) -> std::result::Result<(), String> {
        let fault = match end {
            End::Stopped => self.meanwhile().map(|()| None),
            end => self.script(end),
        };
        fault.map_err(|error| error.to_string())?.map_or(Ok(()), Err)
    }

    fn words(&self) -> String {
        format!("{:?}", self.other.blocks())
    }
}
