//! Scenes of a pool's worker: it takes a chunk, runs its tasks and gives the results, which are short or move to a larger block.
//! With and without another try of the task that it dies in.

use pagemate::pool::{Rehearsal, TaskError};

use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "pool: a chunk of three", build: || Work::boxed(numbers, numbers, 0) },
        Recipe { name: "pool: a chunk of three, tried again", build: || Work::boxed(numbers, numbers, 3) },
        Recipe { name: "pool: a chunk of long results", build: || Work::boxed(texts, texts, 0) },
        Recipe { name: "pool: a chunk of long results, tried again", build: || Work::boxed(texts, texts, 3) },
    ]
}

fn numbers(n: u64) -> Vec<u8> {
    vec![n as u8; 3]
}

fn texts(n: u64) -> Vec<u8> {
    vec![n as u8; 60]
}

/// Worker 0 is the child; worker 1 is the survivor, and so is the pool.
struct Work {
    pool: Rehearsal<Vec<u8>>,
    function: fn(u64) -> Vec<u8>,
    retries: u32,
}

/// Two chunks: the child has the first.
const CHUNKS: [std::ops::Range<u64>; 2] = [0..3, 3..5];

impl Work {
    fn boxed<F>(function: F, same: fn(u64) -> Vec<u8>, retries: u32) -> Box<dyn Scene>
    where
        F: Fn(u64) -> Vec<u8> + Copy + Send + 'static,
    {
        let pool = Rehearsal::new(function, CHUNKS.map(Vec::from_iter).into(), retries).unwrap();
        Box::new(Work { pool, function: same, retries })
    }
}

impl Scene for Work {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it; that is a scene of its own.
        self.pool.attend();
    }

    fn act(&mut self) {
        self.pool.work(0);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        match end {
            // The others go on without the one that is stopped.
            End::Stopped => {
                while self.pool.work(1) {}
                return Ok(());
            }
            End::Killed => self.pool.bury(0),
            End::Finished => {}
        }
        // What the dead one had comes to the end of the line when it is looked at.
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
        let may = usize::from(end == End::Killed && self.retries == 0);
        if results.len() != 5 || died > may {
            return Err(format!("{} results, {died} died", results.len()));
        }
        for (n, result) in results.iter().enumerate() {
            match result {
                Ok(bytes) if *bytes == (self.function)(n as u64) => {}
                Err(TaskError::WorkerDied { .. }) if n < 3 => {}
                other => return Err(format!("task {n} gave {other:?}")),
            }
        }
        Ok(())
    }

    fn words(&self) -> String {
        self.pool.words()
    }
}
