//! Scenes of a pool's worker: it takes a chunk, runs its tasks and returns the results, or the text
//! of a panic. The results are short, or move to a larger block. The task in which it dies has a
//! retry or not. After each scene, no block of the pool's heap is left.

use std::panic::{catch_unwind, AssertUnwindSafe};

use pagemate::pool::TaskError;
use pagemate::PoolRehearsal as Rehearsal;

use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "pool: a chunk of three", build: || Work::boxed(numbers, numbers, 0) },
        Recipe { name: "pool: a chunk of three, tried again", build: || Work::boxed(numbers, numbers, 3) },
        Recipe { name: "pool: a chunk of long results", build: || Work::boxed(texts, texts, 0) },
        Recipe { name: "pool: a chunk of long results, tried again", build: || Work::boxed(texts, texts, 3) },
        Recipe { name: "pool: a chunk of growing results", build: || Work::boxed(growing, growing, 0) },
        Recipe { name: "pool: a task that panics", build: || Work::boxed(panicking, texts, 0) },
    ]
}

fn numbers(n: u64) -> Vec<u8> {
    vec![n as u8; 3]
}

fn texts(n: u64) -> Vec<u8> {
    vec![n as u8; 60]
}

/// Returns a result that needs a larger block than that of the task before.
fn growing(n: u64) -> Vec<u8> {
    vec![n as u8; 60 << (2 * n)]
}

/// Panics in the second task, without printing. The message is longer than a slot.
fn panicking(n: u64) -> Vec<u8> {
    if n == PANICS {
        std::panic::resume_unwind(Box::new(WORDS));
    }
    texts(n)
}

const PANICS: u64 = 1;
const WORDS: &str =
    "a task that panics says why; the pool frees the block of the text, even if the worker dies writing it";

/// Worker 0 is the child; worker 1 is the survivor, and so is the pool.
struct Work {
    pool: Rehearsal<Vec<u8>>,
    /// Returns the result that is expected of a task.
    expected: fn(u64) -> Vec<u8>,
    retries: u32,
    panics: bool,
}

/// Two chunks, of which the child has the first.
const CHUNKS: [std::ops::Range<u64>; 2] = [0..3, 3..5];

impl Work {
    fn boxed(function: fn(u64) -> Vec<u8>, expected: fn(u64) -> Vec<u8>, retries: u32) -> Box<dyn Scene> {
        let pool = Rehearsal::new(function, CHUNKS.map(Vec::from_iter).into(), retries).unwrap();
        let panics = catch_unwind(AssertUnwindSafe(|| function(PANICS))).is_err();
        Box::new(Work { pool, expected, retries, panics })
    }
}

impl Scene for Work {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        self.pool.attach();
    }

    fn act(&mut self) {
        self.pool.work(0);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        match end {
            // The others go on without the stopped child, which has one of the two chunks at most.
            End::Stopped => {
                // The pool's check queues the rest of a chunk again.
                let work = || self.pool.work(1) && self.pool.done() <= 5;
                let worked = (0..9).filter(|_| work()).count();
                let (done, running) = (self.pool.done(), self.pool.running());
                if worked == 0 || done < 2 || (done < 5) != (running == [0]) {
                    return Err(format!("{worked} chunks were there, {done} results came; {running:?} run"));
                }
                let late = self.pool.overdue();
                return if late == running { Ok(()) } else { Err(format!("{late:?} are late")) };
            }
            End::Killed => self.pool.reap_worker(0),
            End::Finished => {}
        }
        // The pool's check puts the chunk of the dead child at the end of the queue.
        let mut rounds = 0;
        let results = loop {
            if let Some(results) = self.pool.results() {
                break results;
            }
            if !self.pool.work(1) {
                rounds += 1;
            }
            if rounds > 100 {
                return Err("some results never come".into());
            }
        };
        let died =
            results.iter().filter(|result| matches!(result, Err(TaskError::WorkerDied { .. }))).count();
        let died_max = usize::from(end == End::Killed && self.retries == 0);
        if results.len() != 5 || died > died_max {
            return Err(format!("{} results, {died} died", results.len()));
        }
        for (n, result) in results.iter().enumerate() {
            match result {
                Err(TaskError::Panicked(text)) if self.panics && n as u64 == PANICS => {
                    if text != WORDS && end != End::Killed {
                        return Err(format!("task {n} said {text:?}"));
                    }
                }
                Ok(_) if self.panics && n as u64 == PANICS => return Err("it has not panicked".into()),
                Ok(bytes) if *bytes == (self.expected)(n as u64) => {}
                Err(TaskError::WorkerDied { .. }) if n < 3 => {}
                other => return Err(format!("task {n} returned {other:?}")),
            }
        }
        match self.pool.blocks() {
            0 => Ok(()),
            blocks => Err(format!("{blocks} blocks of the heap are left")),
        }
    }

    fn words(&self) -> String {
        self.pool.words()
    }
}
