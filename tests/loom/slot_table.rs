//! The pool's table of slots: each task's result or error is collected exactly once, whatever a
//! worker was doing when it died, and no block is lost.

use std::cell::{Cell, RefCell};
use std::sync::{Arc as Owned, Mutex};

use super::{model, model_within, thread, Arc};
use crate::heap::Block;
use crate::loom::atomic::AtomicU64;
use crate::loom::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::loom::Ordered;
use crate::pool::completions::Completions;
use crate::pool::error::TaskError;
use crate::pool::layout::{block_of, Call, ChunkEnd, Job, Slot, INLINE};
use crate::pool::packed_chunk::{AnyBatch, PackedChunk};
use crate::pool::run_queue::{RunQueue, SLOTS};
use crate::pool::slot_table::{SlotMemory, SlotTable};
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

/// Words of arguments, and of results, in a slot or a block.
const WORDS: usize = INLINE / 8;
const BLOCKS: usize = 4;

const FREE: u64 = 0;
/// Not published: it is freed if its worker dies.
const CLAIMED: u64 = 1;
const LIVE: u64 = 2;

/// The pool's memory as plain values. A task adds 10 to a word. The accesses to words of arguments
/// and results are Relaxed, so only the protocol can make them visible.
struct Scene {
    run_queue: RunQueue,
    slots: Vec<Slot>,
    completions: [Completions; 2],
    work: Waiters,
    results: Waiters,
    /// The state of each block: its generation, and two bits of status.
    blocks: Vec<AtomicU64>,
    words: Vec<AtomicU64>,
}

impl Scene {
    fn new() -> Arc<Scene> {
        let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Scene {
            run_queue: RunQueue::new(),
            slots: (0..SLOTS).map(|_| Slot::new()).collect(),
            completions: [Completions::new(), Completions::new()],
            work: Waiters::new(),
            results: Waiters::new(),
            blocks: words(BLOCKS),
            words: words(BLOCKS * WORDS),
        })
    }

    fn state(&self, block: Block) -> &AtomicU64 {
        &self.blocks[block.at as usize / 16 - 1]
    }

    fn words_of(&self, block: Block) -> &[AtomicU64] {
        &self.words[(block.at as usize / 16 - 1) * WORDS..][..WORDS]
    }

    fn alloc(&self) -> Block {
        for (index, state) in self.blocks.iter().enumerate() {
            let seen = state.load(Relaxed);
            let next = (seen >> 2) + 1;
            if seen & 3 == FREE && state.compare_exchange(seen, next << 2 | CLAIMED, AcqRel, Relaxed).is_ok()
            {
                return Block { at: (index as u64 + 1) * 16, generation: next as u32 };
            }
        }
        panic!("no block is left")
    }

    fn publish(&self, block: Block) {
        let generation = u64::from(block.generation) << 2;
        let state = self.state(block);
        assert!(state.compare_exchange(generation | CLAIMED, generation | LIVE, AcqRel, Relaxed).is_ok());
    }

    /// Frees what the dead worker had claimed. No other claims blocks.
    fn reap(&self) {
        for state in &self.blocks {
            let seen = state.load(Acquire);
            if seen & 3 == CLAIMED {
                state.store(seen & !3, Relaxed);
            }
        }
    }

    /// Returns where a slot's results are.
    fn output<'a>(&'a self, slot: &'a Slot) -> Option<Vec<&'a AtomicU64>> {
        match slot.output.load(Acquire) {
            0 => Some(slot.inline[WORDS..].iter().collect()),
            number => {
                let block = block_of(slot.blocks[number as usize - 1].load(Acquire));
                let is_live = self.state(block).load(Acquire) == u64::from(block.generation) << 2 | LIVE;
                is_live.then(|| self.words_of(block).iter().collect())
            }
        }
    }

    /// Takes a chunk as worker number `worker`, runs it and hands it over. If `grows`, each result
    /// moves all of them to another block. Dies after `steps` steps. `None` if it has died, or
    /// there is no chunk.
    fn run(&self, worker: usize, grows: bool, steps: &Cell<usize>) -> Option<()> {
        let step = || {
            let left = steps.get().checked_sub(1)?;
            steps.set(left);
            Some(())
        };
        step()?;
        let (ticket, index) = self.run_queue.take(worker, |slot| Some(&self.slots.get(slot)?.word))?;
        step()?;
        let slot = &self.slots[index];
        slot.done.store(0, Relaxed);
        let (job, seal) = slot.job();
        assert_eq!(seal, self.seal(&job, ticket), "the pool's stores are visible");
        for task in 0..job.count {
            let argument = slot.inline[(job.input as usize % INLINE) / 8 + task as usize].load(Relaxed);
            let result = argument + 10;
            if grows {
                self.grow(slot, task as usize, result, step)?;
            } else {
                slot.inline[WORDS + task as usize].store(result, Relaxed);
            }
            step()?;
            slot.raise(task + 1);
            step()?;
        }
        slot.ended.store(ChunkEnd::Done as u32, Relaxed);
        if steps.get() > 3 {
            steps.set(steps.get() - 3);
            _ = slot.hand_over((ticket, index), worker, &self.completions[worker], &self.results);
            return Some(());
        }
        // As hand_over() does, by steps.
        let is_waited_for = slot.word.finish(ticket, worker);
        step()?;
        self.completions[worker].report(index);
        step()?;
        if is_waited_for {
            self.results.notify_all(Ordered::by_fence());
        }
        step()
    }

    /// Moves the results to a larger block, step by step, like a worker whose results no longer
    /// fit.
    fn grow(&self, slot: &Slot, done: usize, result: u64, step: impl Fn() -> Option<()>) -> Option<()> {
        let from = self.output(slot).unwrap();
        let new = self.alloc();
        step()?;
        let to = self.words_of(new);
        from.iter().zip(to).take(done).for_each(|(from, to)| to.store(from.load(Relaxed), Relaxed));
        to[done].store(result, Relaxed);
        let number = if slot.output.load(Relaxed) == 1 { 2 } else { 1 };
        slot.name_block(number - 1, new);
        step()?;
        self.publish(new);
        step()?;
        slot.set_output(number as u32);
        step()?;
        self.free_block(slot, 2 - number);
        Some(())
    }

    fn run_all(&self, worker: usize) {
        while self.run(worker, false, &Cell::new(usize::MAX)).is_some() {}
    }

    /// Checks that every block and every slot is free.
    fn assert_empty(&self, table: &SlotTable) {
        assert_eq!(table.len(), 0);
        assert!(self.blocks.iter().all(|state| state.load(Acquire) & 3 == FREE), "a lost block");
    }
}

impl SlotMemory for Scene {
    fn run_queue(&self) -> &RunQueue {
        &self.run_queue
    }

    fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    fn completions(&self, worker: usize) -> Option<&Completions> {
        self.completions.get(worker)
    }

    fn work(&self) -> &Waiters {
        &self.work
    }

    fn seal(&self, job: &Job, ticket: u64) -> u64 {
        job.input ^ job.input_len << 16 ^ u64::from(job.count) << 32 ^ ticket << 48
    }

    fn store(&self, slot: &Slot, bytes: &[u8]) -> Result<(u64, Option<Block>)> {
        for (word, bytes) in slot.inline.iter().zip(bytes.chunks(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().unwrap()), Relaxed);
        }
        let index = self.slots.iter().position(|there| std::ptr::eq(there, slot)).unwrap();
        Ok(((index * INLINE) as u64, None))
    }

    fn arguments<R>(&self, at: u64, len: u64, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (slot, first) = (&self.slots[at as usize / INLINE], at as usize % INLINE / 8);
        Some(read(&bytes_of(slot.inline[first..].iter().take(len as usize / 8))))
    }

    fn results<R>(&self, slot: &Slot, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let words = self.output(slot)?;
        let done = slot.done.load(Relaxed) as usize;
        Some(read(&bytes_of(words.into_iter().take(done))))
    }

    fn error_text(&self, _slot: &Slot) -> String {
        unreachable!("no task panics")
    }

    fn reserve(&self, _room: usize) -> Option<Block> {
        None
    }

    fn free(&self, block: Block) {
        let live = u64::from(block.generation) << 2 | LIVE;
        _ = self.state(block).compare_exchange(live, live & !3, AcqRel, Relaxed);
    }
}

fn bytes_of<'a>(words: impl Iterator<Item = &'a AtomicU64>) -> Vec<u8> {
    words.flat_map(|word| word.load(Relaxed).to_le_bytes()).collect()
}

/// Tasks whose results are collected here. Only the pool's thread has them.
struct Tasks {
    retries: u32,
    results: Mutex<Vec<Option<Result<u64, TaskError>>>>,
}

impl Tasks {
    /// Submits chunks of these numbers of tasks: 0, 1, 2 ...
    fn submit(scene: &Scene, table: &mut SlotTable, chunks: &[usize], retries: u32) -> Owned<Tasks> {
        let count = chunks.iter().sum();
        let tasks = Owned::new(Tasks { retries, results: Mutex::new((0..count).map(|_| None).collect()) });
        let mut first = 0;
        for count in chunks {
            let bytes = (first..first + count).flat_map(|task| (task as u64).to_le_bytes()).collect();
            let batch: Owned<dyn AnyBatch> = tasks.clone();
            table.fill(scene, PackedChunk { batch, first, count: *count, bytes, room: 0 });
            first += count;
        }
        scene.run_queue.publish(table.tail);
        tasks
    }

    fn add(&self, task: usize, result: Result<u64, TaskError>) {
        let before = self.results.lock().unwrap()[task].replace(result);
        assert!(before.is_none(), "task {task} was collected before: {before:?}");
    }

    fn are_done(&self) -> bool {
        self.results.lock().unwrap().iter().all(Option::is_some)
    }

    /// Checks that all results have arrived and are right, except for `lost` errors at most.
    fn assert_right_but(&self, lost: usize) {
        let results = self.results.lock().unwrap();
        for (task, result) in results.iter().enumerate() {
            match result {
                Some(Ok(result)) => assert_eq!(*result, task as u64 + 10),
                Some(Err(error)) => assert!(matches!(error, TaskError::WorkerDied { .. })),
                None => panic!("the result of task {task} is missing"),
            }
        }
        assert!(results.iter().flatten().filter(|result| result.is_err()).count() <= lost);
    }
}

type Result<T, E = crate::Error> = std::result::Result<T, E>;

impl AnyBatch for Tasks {
    fn id(&self) -> u64 {
        7
    }

    fn function_call(&self) -> Call {
        Call { runner: 0, function: 0 }
    }

    fn retries(&self) -> u32 {
        self.retries
    }

    fn needs_monitor(&self) -> bool {
        false
    }

    fn results(&self, first: usize, count: usize, bytes: &[u8]) -> bool {
        let words: Vec<u64> =
            bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        words[..count].iter().enumerate().for_each(|(task, result)| self.add(first + task, Ok(*result)));
        false
    }

    fn failed(&self, first: usize, count: usize, error: &TaskError) -> bool {
        (first..first + count).for_each(|task| self.add(task, Err(error.clone())));
        false
    }

    fn skip(&self, _bytes: &[u8], count: usize) -> Result<usize> {
        Ok(8 * count)
    }

    fn run_callback(&self) {}
}

fn spawn(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

/// Waits as a thread of the pool's process does: marks the slots, and collects what was reported.
fn wait_for(scene: &Scene, table: &RefCell<SlotTable>, tasks: &Tasks) {
    let announce = || {
        let seen = scene.results.announce();
        table.borrow_mut().wait_for(scene, tasks.id(), 2);
        seen
    };
    let collect = || {
        table.borrow_mut().collect(scene);
        tasks.are_done().then_some(())
    };
    crate::wait::wait(scene.results.futex(), Deadline::Never, || (), collect, announce).unwrap();
}

#[test]
fn two_workers_and_a_waiter() {
    model_within(1, "slot table: two workers take two chunks, and a thread waits", || {
        let scene = Scene::new();
        let table = RefCell::new(SlotTable::new(2));
        let tasks = Tasks::submit(&scene, &mut table.borrow_mut(), &[2, 1], 0);
        let workers = [0, 1].map(|worker| spawn(&scene, move |scene| scene.run_all(worker)));
        wait_for(&scene, &table, &tasks);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        tasks.assert_right_but(0);
        scene.assert_empty(&table.borrow());
    });
}

/// No worker wakes a waiter that comes when the slot is finished, so it must collect the slot.
#[test]
fn a_waiter_beside_a_report() {
    model("slot table: a waiter, and a report that comes late", || {
        let scene = Scene::new();
        let table = RefCell::new(SlotTable::new(2));
        let tasks = Tasks::submit(&scene, &mut table.borrow_mut(), &[1], 0);
        let worker = spawn(&scene, |scene| scene.run_all(0));
        wait_for(&scene, &table, &tasks);
        worker.join().unwrap();
        tasks.assert_right_but(0);
        scene.assert_empty(&table.borrow());
    });
}

/// The audit may find a finished slot before its worker reports it, and the slot may be in use
/// again when the report comes.
#[test]
fn an_audit_beside_a_report() {
    model("slot table: an audit, and a report that comes late", || {
        let scene = Scene::new();
        let mut table = SlotTable::new(2);
        let first = Tasks::submit(&scene, &mut table, &[1], 0);
        // The pool is the thread that is spawned, as readers are in the models of dicts.
        let there = scene.clone();
        let pool = thread::spawn(move || {
            table.audit(&*there);
            let next = first.are_done().then(|| Tasks::submit(&there, &mut table, &[1], 0));
            table.collect(&*there);
            (table, [Some(first), next])
        });
        scene.run_all(0);
        let (mut table, tasks) = pool.join().unwrap();
        scene.run_all(1);
        table.collect(&*scene);
        table.audit(&*scene);
        tasks.iter().flatten().for_each(|tasks| tasks.assert_right_but(0));
        scene.assert_empty(&table);
    });
}

/// Models a worker 0 that dies after this number of steps of a chunk of two tasks. Worker 1 takes
/// what it finds, and the pool recovers the rest.
fn a_death_after(steps: usize, grows: bool, retries: u32) {
    let name = format!("slot table: death after {steps} steps, growing {grows}, {retries} retries");
    model_within(2, &name, move || {
        let scene = Scene::new();
        let mut table = SlotTable::new(2);
        let tasks = Tasks::submit(&scene, &mut table, &[2], retries);
        let victim = spawn(&scene, move |scene| _ = scene.run(0, grows, &Cell::new(steps)));
        let other = spawn(&scene, |scene| scene.run_all(1));
        // A waiter marks the slot and collects it, if it is finished.
        table.wait_for(&*scene, tasks.id(), 2);
        victim.join().unwrap();
        scene.reap();
        table.recover_chunks(&*scene, 0, |_| Some(TaskError::WorkerDied { pid: 1, exit: None }));
        other.join().unwrap();
        scene.run_all(1);
        table.collect(&*scene);
        table.audit(&*scene);
        tasks.assert_right_but(if retries == 0 { 1 } else { 0 });
        scene.assert_empty(&table);
    });
}

/// Steps of a chunk of two tasks: to find it and to take it, two for each task, three to hand it
/// over.
const STEPS: usize = 9;

#[test]
fn deaths_with_results_in_the_slot() {
    (0..=STEPS).for_each(|steps| a_death_after(steps, false, steps as u32 % 2));
    [3, 4, 5].into_iter().for_each(|steps| a_death_after(steps, false, 1 - steps as u32 % 2));
}

#[test]
fn deaths_with_results_that_move() {
    // Four steps more for each task.
    (2..=STEPS + 8).for_each(|steps| a_death_after(steps, true, 1));
}
