//! Looks at every slot's word: for what nobody has told of, what takes too long, what a dead worker had in hand, and what is
//! damaged.
//!
//! # Damage
//!
//! | what | noticed by | what happens |
//! |---|---|---|
//! | the line's words | once a slice they are written again | who looked at them meanwhile found nothing, and looks again |
//! | a slot's word | once a slice: it says nothing that can be | its tasks are `Lost`, and the slot is out of use: a worker may be in it |
//! | a slot's word says that a worker has it | nobody: it may be stopped there | it is believed until the worker ends |
//! | what a slot says of a task | the seal, or whoever reads it | the task is `Lost` |
//! | a worker's bits | nobody needs to: they are hints | nothing |

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::pool::desk::Desk;
use crate::pool::error::TaskError;
use crate::pool::flow::State;
use crate::pool::line::SLOTS;
use crate::pool::slot::State as Is;

/// A task in a worker's hand: the ticket of its chunk, and how many of that are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InHand {
    pub(crate) ticket: u64,
    pub(crate) done: u32,
}

impl State {
    /// Takes what is finished and nobody has told of, and undoes damage.
    pub(crate) fn sweep(&mut self, desk: &Desk) {
        if self.over.is_some() {
            return;
        }
        let mut oldest = self.tail;
        let mut more = Vec::new();
        for index in 0..SLOTS {
            let (Some(slot), Some(chunk)) = (desk.slot(index), &self.chunks[index]) else { continue };
            match slot.word.state() {
                Is::Queued(ticket) if ticket == chunk.ticket => {
                    desk.line().place(ticket, index);
                    oldest = oldest.min(ticket);
                }
                Is::Running(ticket, worker) if ticket == chunk.ticket && worker < self.crew.len() => {}
                Is::Done(ticket, _) if ticket == chunk.ticket => self.gather(desk, index, &mut more),
                _ => self.lose(index),
            }
        }
        desk.line().mend(oldest, self.tail);
        self.queue_again(desk, more);
        if !self.crew.dismissed {
            desk.head().closed.store(0, Relaxed);
        }
        if self.lost == SLOTS {
            self.end(desk, TaskError::Broken("all of the pool's slots are damaged".into()));
        }
    }

    /// The slot's word is damaged.
    #[cold]
    fn lose(&mut self, index: usize) {
        let Some(chunk) = self.chunks[index].take() else { return };
        self.lost += 1;
        self.has_news = true;
        let error = TaskError::Lost("the word of the task's slot is damaged".into());
        if chunk.job.failed(chunk.first, chunk.count, &error) {
            self.callers.push(chunk.job);
        }
        // A worker may still be in it, so the slot and what it holds go with the pool.
    }

    /// What worker number `worker`, which is dead, had in hand. `blame` gives the error of this task; `None`: it is not to blame for
    /// the death.
    pub(crate) fn inherit(
        &mut self,
        desk: &Desk,
        worker: usize,
        blame: impl Fn(InHand) -> Option<TaskError>,
    ) {
        let mut more = Vec::new();
        for index in 0..SLOTS {
            let (Some(slot), Some(chunk)) = (desk.slot(index), &self.chunks[index]) else { continue };
            match slot.word.state() {
                Is::Running(ticket, who) if (ticket, who) == (chunk.ticket, worker) => {
                    let error = blame(InHand { ticket, done: slot.done.load(Relaxed) });
                    if self.settle(desk, index, slot, error, true) {
                        more.push(index);
                    }
                }
                Is::Done(_, who) if who == worker => self.gather(desk, index, &mut more),
                _ => {}
            }
        }
        self.queue_again(desk, more);
    }

    /// All tasks have run since now, and not longer: nobody has looked for a while, since this process was stopped.
    pub(crate) fn forget_progress(&mut self) {
        self.chunks.iter_mut().flatten().for_each(|chunk| chunk.progress = None);
    }

    /// The workers that have been in one task for longer than `limit`, and in which.
    pub(crate) fn late(&mut self, desk: &Desk, now: Instant, limit: Duration) -> Vec<(usize, InHand)> {
        let mut late = Vec::new();
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            let (Some(slot), Some(chunk)) = (desk.slot(index), chunk) else { continue };
            // The word, and not what a worker says it is busy with: it has the slot from its first to its last instruction.
            let Is::Running(ticket, worker) = slot.word.state() else { continue };
            if ticket != chunk.ticket {
                continue;
            }
            let done = slot.done.load(Relaxed);
            match chunk.progress {
                Some((seen, since)) if seen == done => {
                    if now.saturating_duration_since(since) > limit {
                        late.push((worker, InHand { ticket, done }));
                    }
                }
                _ => chunk.progress = Some((done, now)),
            }
        }
        late
    }
}
