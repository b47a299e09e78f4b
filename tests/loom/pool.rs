//! The run queue and its slots: each task is taken once, its results are visible, a waiter is
//! woken, and a death blocks nobody else.

use std::cell::Cell;

use super::{model, model_within, thread, Arc};
use crate::loom::atomic::{AtomicU32, Ordering::Relaxed};
use crate::loom::Ordered;
use crate::pool::completions::Completions;
use crate::pool::run_queue::{RunQueue, SLOTS};
use crate::pool::slot::{SlotWord, State};
use crate::sys::clock::Deadline;
use crate::wait::Waiters;

/// Two slots with a number as their task. The accesses to it are Relaxed, so only the words can
/// make the results visible.
struct Scene {
    run_queue: RunQueue,
    words: Vec<SlotWord>,
    tasks: Vec<AtomicU32>,
    /// The completions of worker 1 and of worker 2.
    completions: [Completions; 2],
    work: Waiters,
    results: Waiters,
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene {
            run_queue: RunQueue::new(),
            words: (0..SLOTS).map(|_| SlotWord::new()).collect(),
            tasks: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            completions: [Completions::new(), Completions::new()],
            work: Waiters::new(),
            results: Waiters::new(),
        })
    }

    fn submit(&self, ticket: u64, slot: usize, task: u32) {
        self.tasks[slot].store(task, Relaxed);
        self.run_queue.push(ticket, slot, &self.words[slot]);
        self.run_queue.publish(ticket + 1);
        self.work.notify_one(Ordered::by_fence());
    }

    fn take(&self, worker: usize) -> Option<(u64, usize)> {
        self.run_queue.take(worker, |slot| self.words.get(slot))
    }

    /// Waits for a task, and adds 10 to it.
    fn work(&self, worker: usize) {
        let (ticket, slot) = self.work.wait(Deadline::Never, || (), || self.take(worker)).unwrap();
        self.run(worker, ticket, slot);
    }

    fn run(&self, worker: usize, ticket: u64, slot: usize) {
        self.tasks[slot].store(self.tasks[slot].load(Relaxed) + 10, Relaxed);
        let is_waited_for = self.words[slot].finish(ticket, worker);
        self.completions[worker - 1].report(slot);
        if is_waited_for {
            self.results.notify_all(Ordered::by_fence());
        }
    }

    /// Takes all queued tasks, and runs them.
    fn run_all(&self, worker: usize) {
        while let Some((ticket, slot)) = self.take(worker) {
            self.run(worker, ticket, slot);
        }
    }

    fn result(&self, ticket: u64, slot: usize) -> Option<u32> {
        let is_done = matches!(self.words[slot].state(), State::Done(done, _) if done == ticket);
        is_done.then(|| self.tasks[slot].load(Relaxed))
    }

    /// Waits as the pool does: sets the waiter bit in the slot's word, and collects what workers
    /// have reported.
    fn wait(&self, ticket: u64, slot: usize) -> u32 {
        let found = Cell::new(None);
        let gather = |finished| {
            if finished == slot && found.get().is_none() {
                found.set(self.result(ticket, slot));
            }
        };
        let announce = || {
            let seen = self.results.announce();
            if !self.words[slot].wait_for(ticket) {
                gather(slot);
            }
            seen
        };
        let collect = || {
            self.completions.iter().for_each(|finished| finished.take(gather));
            found.get()
        };
        crate::wait::wait(self.results.futex(), Deadline::Never, || (), collect, announce).unwrap()
    }

    /// Repairs as the pool's audit does, which runs once in a slice.
    fn repair(&self, tail: u64) {
        let queued = |slot: usize| match self.words[slot].state() {
            State::Queued(ticket) => Some(ticket),
            _ => None,
        };
        self.run_queue.repair((0..2).filter_map(queued).min().unwrap_or(tail), tail);
    }
}

fn worker(scene: &Arc<Scene>, body: impl FnOnce(&Scene) + Send + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || body(&scene))
}

#[test]
fn two_workers_two_tasks() {
    model_within(2, "pool: two tasks for two workers", || {
        let scene = Scene::new();
        let workers = [1, 2].map(|index| worker(&scene, move |scene| scene.work(index)));
        scene.submit(0, 0, 5);
        scene.submit(1, 1, 6);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((scene.result(0, 0), scene.result(1, 1)), (Some(15), Some(16)));
    });
}

#[test]
fn a_slot_is_used_again() {
    model("pool: a slot used twice, and waited for", || {
        let scene = Scene::new();
        let worker = worker(&scene, |scene| (0..2).for_each(|_| scene.work(1)));
        for ticket in 0..2 {
            scene.submit(ticket, 0, ticket as u32);
            assert_eq!(scene.wait(ticket, 0), ticket as u32 + 10);
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_waiter_is_woken() {
    model("pool: a waiter for one task is woken while another worker searches for a task", || {
        let scene = Scene::new();
        let looking = worker(&scene, |scene| {
            if let Some((ticket, slot)) = scene.take(2) {
                scene.run(2, ticket, slot);
            } else {
                scene.work(2);
            }
        });
        scene.submit(0, 1, 7);
        assert_eq!(scene.wait(0, 1), 17);
        looking.join().unwrap();
    });
}

#[test]
fn a_death_after_taking() {
    model("pool: a worker dies while it runs a task, and another has it", || {
        let scene = Scene::new();
        scene.submit(0, 0, 1);
        scene.submit(1, 1, 2);
        // This worker takes a task and dies.
        let dying = worker(&scene, |scene| _ = scene.take(1));
        let other = worker(&scene, |scene| scene.work(2));
        dying.join().unwrap();
        other.join().unwrap();
        let mut tail = 2;
        for slot in 0..2 {
            if let State::Running(_, 1) = scene.words[slot].state() {
                scene.submit(tail, slot, 3);
                tail += 1;
            }
        }
        assert_eq!(tail, 3, "one was taken by each");
        scene.work(2);
        assert!(scene.take(2).is_none());
    });
}

#[test]
fn a_late_worker() {
    model_within(2, "pool: a slow worker in a run queue that wraps around", || {
        let scene = Scene::new();
        let late = worker(&scene, |scene| {
            if let Some((ticket, slot)) = scene.take(2) {
                scene.run(2, ticket, slot);
            }
        });
        scene.submit(0, 0, 1);
        scene.submit(1, 1, 2);
        scene.run_all(1);
        let first = scene.result(0, 0);
        if first.is_some() {
            scene.submit(2, 0, 3);
        }
        scene.run_all(1);
        late.join().unwrap();
        assert_eq!(first.or(scene.result(0, 0)), Some(11));
        assert_eq!(scene.result(1, 1), Some(12));
        assert!(first.is_none() || scene.result(2, 0) == Some(13));
    });
}

#[test]
fn repairing() {
    model_within(2, "pool: the run queue is repaired while workers take", || {
        let scene = Scene::new();
        let workers = [1, 2].map(|index| worker(&scene, move |scene| scene.run_all(index)));
        scene.submit(0, 0, 5);
        scene.submit(1, 1, 6);
        scene.repair(2);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        scene.run_all(1);
        assert_eq!((scene.result(0, 0), scene.result(1, 1)), (Some(15), Some(16)));
    });
}
