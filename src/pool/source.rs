//! Items on their way to become chunks.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::pool::batch::Job;
use crate::pool::core::Core;
use crate::pool::error::TaskError;
use crate::pool::flow::Packed;
use crate::process::Argument;

/// An iterator, or what was taken from it to count it.
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

/// Items that become chunks.
pub(crate) struct Source<I> {
    items: I,
    job: Arc<dyn Job>,
    size: usize,
    /// How many items were taken.
    pub(crate) taken: usize,
    is_over: bool,
    /// Packed, and not submitted.
    pub(crate) chunks: VecDeque<Packed>,
    pub(crate) core: Arc<Core>,
}

impl<A: Argument, I: Iterator<Item = A>> Source<I> {
    pub(crate) fn new(items: I, job: Arc<dyn Job>, size: usize, core: Arc<Core>) -> Source<I> {
        Source { items, job, size, taken: 0, is_over: false, chunks: VecDeque::new(), core }
    }

    /// Takes items until so many chunks are packed.
    pub(crate) fn pack<R>(&mut self, chunks: usize) {
        while !self.is_over && self.chunks.len() < chunks {
            let items: Vec<A> = self.items.by_ref().take(self.size).collect();
            let (first, count) = (self.taken, items.len());
            self.taken += count;
            self.is_over = count < self.size;
            if count == 0 {
                return;
            }
            match Packed::new::<A, R>(self.job.clone(), first, items) {
                Ok(chunk) => self.chunks.push_back(chunk),
                Err(error) => {
                    if self.job.failed(first, count, &TaskError::Lost(error.to_string())) {
                        self.job.call();
                    }
                }
            }
        }
    }

    /// Takes as many items as may be ahead of the `given` results.
    pub(crate) fn fill<R>(&mut self, ahead: usize, given: usize) {
        while !self.is_over && self.taken + self.size <= given + ahead.max(self.size) {
            let before = self.chunks.len();
            self.pack::<R>(before + 1);
        }
    }

    /// Takes no more items.
    pub(crate) fn stop(&mut self) {
        self.is_over = true;
    }

    /// Whether all items were taken and submitted.
    pub(crate) fn is_submitted(&self) -> bool {
        self.is_over && self.chunks.is_empty()
    }

    /// How many items there are, once all were taken.
    pub(crate) fn total(&self) -> Option<usize> {
        self.is_over.then_some(self.taken)
    }
}
