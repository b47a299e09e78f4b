//! Marking the chunks that a caller waits for, so that their workers wake it.

use super::{SlotMemory, SlotTable};
#[cfg(any(test, feature = "__internals"))]
use crate::pool::run_queue::SLOTS;

impl SlotTable {
    /// Marks each chunk of batch `id`, so that the worker that finishes it wakes the waiter.
    /// Collects chunks that are finished already, since no worker will wake the waiter for these.
    /// So the caller checks for its result once more before it sleeps.
    pub(crate) fn wait_for(&mut self, memory: &impl SlotMemory, id: u64, workers: usize) {
        let chunks = self.chunks.iter().enumerate();
        let mut own: Vec<(u64, usize)> = chunks
            .filter_map(|(index, chunk)| chunk.as_ref().map(|chunk| (index, chunk)))
            .filter(|(_, chunk)| chunk.batch.id() == id)
            .map(|(index, chunk)| (chunk.ticket, index))
            .collect();
        own.sort_unstable();
        // With many chunks only the second half is marked, because a wake-up for each chunk would
        // cost more than its tasks. The last chunk is among them.
        let skipped = if own.len() > 2 * workers { own.len() / 2 } else { 0 };
        let mut more = Vec::new();
        for &(ticket, index) in &own[skipped..] {
            if memory.slot(index).is_some_and(|slot| !slot.word.wait_for(ticket)) {
                self.collect_slot(memory, index, &mut more);
            }
        }
        self.queue_again(memory, more);
    }

    /// Marks the `count` oldest chunks in slots, so that the workers which finish them wake the
    /// waiter. As with [`wait_for`](SlotTable::wait_for) the caller checks once more before it
    /// sleeps.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn wait_for_oldest(&mut self, memory: &impl SlotMemory, count: usize) {
        let mut own = self.in_slots();
        if own.len() > count {
            own.sort_unstable();
            own.truncate(count);
        }
        let mut more = Vec::new();
        for (ticket, index) in own {
            if memory.slot(index).is_some_and(|slot| !slot.word.wait_for(ticket)) {
                self.collect_slot(memory, index, &mut more);
            }
        }
        self.queue_again(memory, more);
    }

    /// Returns the tickets and slots of all chunks in slots.
    #[cfg(any(test, feature = "__internals"))]
    fn in_slots(&self) -> Vec<(u64, usize)> {
        let is_there = |&(ticket, index): &(u64, usize)| {
            self.chunks[index].as_ref().is_some_and(|chunk| chunk.ticket == ticket)
        };
        // Usually there are few, and these have the last tickets.
        let last = (self.tail.saturating_sub(SLOTS as u64)..self.tail).rev();
        let last = last.map(|ticket| (ticket, self.recent[ticket as usize % SLOTS]));
        let found: Vec<_> = last.filter(is_there).take(self.len()).collect();
        if found.len() == self.len() {
            return found;
        }
        let all = self.chunks.iter().enumerate();
        all.filter_map(|(index, chunk)| chunk.as_ref().map(|chunk| (chunk.ticket, index))).collect()
    }
}
