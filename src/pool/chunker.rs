//! Divides the items of an input into chunks, and packs them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::pool::error::TaskError;
use crate::pool::packed_chunk::{AnyBatch, PackedChunk};
use crate::process::{Argument, Packer};
use crate::Result;

/// Packs the arguments of the tasks from `first` on.
pub(crate) fn pack<A: Argument, R>(
    batch: Arc<dyn AnyBatch>,
    first: usize,
    items: Vec<A>,
) -> Result<PackedChunk> {
    let count = items.len();
    let mut packer = Packer::for_parent();
    A::pack_all(items, &mut packer)?;
    let room = count.saturating_mul(size_of::<R>());
    Ok(PackedChunk { batch, first, count, bytes: packer.finish().bytes, room })
}

/// An iterator, or the items that were taken from it to count them.
pub(crate) enum Items<I: Iterator> {
    Known(I),
    Taken(std::vec::IntoIter<I::Item>),
}

impl<I: Iterator> Iterator for Items<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        match self {
            Items::Known(items) => items.next(),
            Items::Taken(items) => items.next(),
        }
    }
}

/// An input that is divided into chunks.
pub(crate) struct Chunker<I> {
    items: I,
    batch: Arc<dyn AnyBatch>,
    size: usize,
    /// Number of items taken.
    pub(crate) taken: usize,
    is_over: bool,
    /// Packed, and not submitted.
    pub(crate) chunks: VecDeque<PackedChunk>,
}

impl<A: Argument, I: Iterator<Item = A>> Chunker<I> {
    pub(crate) fn new(items: I, batch: Arc<dyn AnyBatch>, size: usize) -> Chunker<I> {
        Chunker { items, batch, size, taken: 0, is_over: false, chunks: VecDeque::new() }
    }

    /// Takes items until `chunks` chunks are packed.
    pub(crate) fn pack<R>(&mut self, chunks: usize) {
        while !self.is_over && self.chunks.len() < chunks {
            let items: Vec<A> = self.items.by_ref().take(self.size).collect();
            let (first, count) = (self.taken, items.len());
            self.taken += count;
            self.is_over = count < self.size;
            if count == 0 {
                return;
            }
            match pack::<A, R>(self.batch.clone(), first, items) {
                Ok(chunk) => self.chunks.push_back(chunk),
                Err(error) => {
                    if self.batch.failed(first, count, &TaskError::Lost(error.to_string())) {
                        self.batch.run_callback();
                    }
                }
            }
        }
    }

    /// Takes items up to the limit ahead of the `returned` results.
    pub(crate) fn fill<R>(&mut self, ahead: usize, returned: usize) {
        while !self.is_over && self.taken + self.size <= returned + ahead.max(self.size) {
            let before = self.chunks.len();
            self.pack::<R>(before + 1);
        }
    }

    /// Takes no more items.
    pub(crate) fn stop(&mut self) {
        self.is_over = true;
    }

    /// Returns whether all items were taken and submitted.
    pub(crate) fn is_submitted(&self) -> bool {
        self.is_over && self.chunks.is_empty()
    }

    /// Returns the number of items, once all were taken.
    pub(crate) fn total(&self) -> Option<usize> {
        self.is_over.then_some(self.taken)
    }
}
