//! The scheduler: submits chunks, keeps workers running, and ends the pool.
//!
//! Everything here happens under the engine's lock and calls nothing of the program's. Callbacks
//! that become due are returned to the engine, which runs them without the lock. The slots are in
//! [`SlotTable`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::loom::atomic::Ordering::Relaxed;
use crate::loom::Ordered;
use crate::pool::error::TaskError;
use crate::pool::packed_chunk::PackedChunk;
use crate::pool::run_queue::SLOTS;
use crate::pool::shared::{Plan, Shared};
use crate::pool::shared_pool::SharedPool;
use crate::pool::slot_table::SlotTable;
use crate::pool::supervisor::{Ended, Supervisor, START_AGAIN};
use crate::segment::object::Object;

/// The state of a pool, which its process keeps under one lock.
pub(crate) struct Scheduler {
    pub(crate) supervisor: Supervisor,
    pub(crate) table: SlotTable,
    /// Chunks of batches that nobody waits for, and for which there was no slot.
    backlog: VecDeque<PackedChunk>,
    /// Maximum number of slots in use at once.
    depth: usize,
    /// Number of calls that are submitting, and may have more than what is in slots.
    pub(crate) submitting: usize,
    pub(crate) closed: bool,
}

impl Scheduler {
    pub(crate) fn new(workers: usize, depth: usize) -> Scheduler {
        Scheduler {
            supervisor: Supervisor::new(workers),
            table: SlotTable::new(workers),
            backlog: VecDeque::new(),
            depth,
            submitting: 0,
            closed: false,
        }
    }

    /// Returns the number of unfinished chunks, and of calls that may submit more.
    pub(crate) fn outstanding(&self) -> usize {
        self.table.len() + self.backlog.len() + self.submitting
    }

    /// Appends chunks to those that have no slot yet.
    pub(crate) fn put_back(&mut self, chunks: &mut VecDeque<PackedChunk>) {
        self.backlog.append(chunks);
    }

    /// Fills free slots, first from the backlog. If the pool is over, all of these chunks fail; if
    /// there is no memory, those that need some. Returns whether at least one chunk was moved.
    pub(crate) fn submit(&mut self, shared: &Shared, chunks: &mut VecDeque<PackedChunk>) -> bool {
        if self.backlog.is_empty() && chunks.is_empty() {
            return false;
        }
        let memory = &shared.memory;
        let was_idle = self.table.len() == 0;
        let first = self.table.tail;
        let mut has_moved = false;
        while !self.table.is_full() && self.table.len() < self.depth || self.table.over.is_some() {
            let Some(chunk) = self.backlog.pop_front().or_else(|| chunks.pop_front()) else { break };
            has_moved = true;
            if let Some(error) = self.table.over.clone() {
                self.table.fail(chunk.batch, chunk.first, chunk.count, &error);
                continue;
            }
            let _ = self.table.fill(memory, chunk);
        }
        memory.run_queue().publish(self.table.tail);
        match self.table.tail - first {
            0 => return has_moved,
            1 => memory.header().work.notify_one(Ordered::by_fence()),
            _ => memory.header().work.notify_all(Ordered::by_fence()),
        }
        if was_idle && shared.plan.timeout.is_some() {
            shared.wake_monitor();
        }
        true
    }

    /// Ends the pool: every unfinished task gets this error, or that of an earlier end.
    pub(crate) fn end(&mut self, memory: &SharedPool, error: TaskError) {
        let error = self.table.over.get_or_insert(error).clone();
        self.table.collect(memory);
        self.table.fail_all(&error);
        for chunk in std::mem::take(&mut self.backlog) {
            self.table.fail(chunk.batch, chunk.first, chunk.count, &error);
        }
    }

    /// Ends the pool because it is broken, and kills the workers.
    pub(crate) fn break_off(&mut self, memory: &SharedPool, text: &str) {
        self.end(memory, TaskError::Broken(text.to_owned()));
        self.supervisor.kill();
    }

    /// Checks every slot's word. Repairs damage, also that of the word that lets workers exit.
    pub(crate) fn audit(&mut self, memory: &SharedPool) {
        if self.table.over.is_some() {
            return;
        }
        self.table.audit(memory);
        if !self.supervisor.dismissed {
            memory.header().closed.store(0, Relaxed);
        }
        if self.table.lost == SLOTS {
            self.end(memory, TaskError::Broken("all of the pool's slots are damaged".into()));
        }
    }

    /// Reaps ended workers, and starts others in their places.
    pub(crate) fn reap(&mut self, shared: &Shared) {
        self.supervisor.check_stages(&shared.memory);
        for index in 0..self.supervisor.len() {
            if let Some(ended) = self.supervisor.take_ended(index) {
                self.reap_worker(shared, ended);
            }
        }
        if self.table.over.is_none() && !self.supervisor.dismissed {
            if let Err(error) = self.supervisor.refill(shared) {
                self.break_off(&shared.memory, &error.to_string());
            }
        }
    }

    /// Recovers what an ended worker was running, and breaks the pool off if too many could not
    /// begin.
    pub(crate) fn reap_worker(&mut self, shared: &Shared, ended: Ended) {
        let memory = &shared.memory;
        // The blocks that it had claimed from the heap come back.
        memory.object().attachment().reap_all();
        let Ended { pid, exit, overdue, .. } = ended;
        let blame = |task| match shared.plan.timeout.zip(overdue) {
            // It may have begun another task before the signal came.
            Some((timeout, overdue)) => (task == overdue).then_some(TaskError::TimedOut(timeout)),
            None => Some(TaskError::WorkerDied { pid, exit }),
        };
        self.table.recover_chunks(memory, ended.index, blame);
        if let Some(text) = self.supervisor.judge_start(memory, ended) {
            self.break_off(memory, &text);
        }
    }

    /// Kills workers that have been in one task for longer than `limit`.
    pub(crate) fn kill_overdue(&mut self, memory: &SharedPool, limit: Duration) {
        let now = Instant::now();
        if self.supervisor.was_stopped(now) {
            self.table.forget_progress();
        }
        // As of `now`: the time that this check itself takes, stopped or not, does not count
        // against the tasks.
        for (worker, task) in self.table.overdue(memory, now, limit) {
            self.supervisor.kill_for(worker, task);
        }
    }

    /// Returns the longest time that the monitor may sleep; `None` if it may sleep until it is
    /// woken.
    pub(crate) fn recheck_after(&self, plan: &Plan) -> Option<Duration> {
        if self.supervisor.is_short() {
            return Some(START_AGAIN);
        }
        let timeout = plan.timeout.filter(|_| self.outstanding() > 0)?;
        Some((timeout / 4).clamp(Duration::from_millis(5), START_AGAIN))
    }
}
