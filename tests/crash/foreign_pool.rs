//! Scenes of a worker that a binding runs: it takes a chunk, and hands over the results of its
//! tasks one by one, or says that it cannot. After each scene, no block of the pool's heap is left.

use std::time::Duration;

use pagemate::pool::foreign::{ForeignBatch, ForeignChunk, ForeignPool, ForeignWorker, Found};
use pagemate::pool::TaskError;
use pagemate::Segment;

use crate::{End, Recipe, Scene};

pub fn scenes() -> Vec<Recipe> {
    vec![
        Recipe { name: "foreign pool: a chunk of three", build: || Work::boxed(|_| 3, false) },
        Recipe { name: "foreign pool: a chunk of growing results", build: || Work::boxed(growing, false) },
        Recipe { name: "foreign pool: a result that is lost", build: || Work::boxed(|_| 3, true) },
    ]
}

/// Lengths of results of which each has no room in the block of the one before.
fn growing(task: u8) -> usize {
    60 << (2 * task)
}

/// The task whose result is lost, if any is.
const LOST: u8 = 1;
const WHY: &str = "the binding says why, in more bytes than a slot has for them, and these are freed";

/// Worker 0 is the child; worker 1 is the survivor, and so is the pool. A task's argument is its
/// number; its result is a byte with its length in 16 bytes, and so many bytes.
struct Work {
    pool: ForeignPool,
    batch: ForeignBatch,
    workers: [ForeignWorker; 2],
    len: fn(u8) -> usize,
    loses: bool,
    results: Vec<Option<Result<Vec<u8>, TaskError>>>,
}

/// Two chunks, of which the child has the first.
const CHUNKS: [&[u8]; 2] = [&[0, 1, 2], &[3, 4]];

/// Returns the length of the first arguments, which are below 5, or results.
fn skip(bytes: &[u8], count: usize) -> Option<usize> {
    let mut at = 0;
    for _ in 0..count {
        at += match bytes.get(at)? {
            0..5 => 1,
            _ => 9 + usize::try_from(u64::from_le_bytes(bytes.get(at + 1..at + 9)?.try_into().ok()?)).ok()?,
        };
    }
    Some(at)
}

fn result(task: u8, len: usize) -> Vec<u8> {
    let mut result = vec![100];
    result.extend_from_slice(&(len as u64).to_le_bytes());
    result.resize(9 + len, task);
    result
}

impl Work {
    fn boxed(len: fn(u8) -> usize, loses: bool) -> Box<dyn Scene> {
        let segment = Segment::new(1 << 30).unwrap();
        let pool = ForeignPool::create(segment.at("pool"), 2, skip).unwrap();
        let workers = [0, 1].map(|index| ForeignWorker::open(segment.at("pool"), index).unwrap());
        let batch = pool.batch(7, b"function", false, Some(5)).unwrap();
        let chunks = CHUNKS.iter().map(|bytes| ForeignChunk {
            first: bytes[0].into(),
            count: bytes.len(),
            bytes: bytes.to_vec(),
        });
        pool.submit(&batch, chunks);
        workers.iter().for_each(|worker| worker.begin().unwrap());
        Box::new(Work { pool, batch, workers, len, loses, results: vec![None; 5] })
    }

    /// Takes a chunk and runs it. Returns false if there is none.
    fn work(&self, worker: usize) -> bool {
        let Some(Found::Chunk(mut chunk)) = self.workers[worker].take(Duration::ZERO) else { return false };
        assert!(chunk.function().unwrap().starts_with(b"function") && chunk.call().0 == 7);
        let tasks = chunk.arguments().unwrap().to_vec();
        for task in tasks.into_iter().take(chunk.count()) {
            if self.loses && task == LOST {
                chunk.fail(WHY);
                return true;
            }
            chunk.push(&result(task, (self.len)(task))).unwrap();
        }
        true
    }

    /// Passes on what has arrived. Returns the number of results.
    fn collect(&mut self) -> usize {
        self.pool.wait(Duration::ZERO);
        let arrived = self.batch.take();
        for part in arrived.iter() {
            let mut at = 0;
            for task in part.first..part.first + part.count {
                let one = part.outcome.map_err(TaskError::clone).map(|bytes| {
                    let len = skip(&bytes[at..], 1).unwrap();
                    at += len;
                    bytes[at - len..at].to_vec()
                });
                assert!(self.results[task].replace(one).is_none(), "task {task} has two results");
            }
        }
        self.results.iter().flatten().count()
    }
}

impl Scene for Work {
    fn prepare(&mut self) {
        // The first use in a forked process attaches it, which is a scene of its own.
        self.workers[0].begin().unwrap();
        self.pool.attach();
    }

    fn act(&mut self) {
        self.work(0);
    }

    fn check(&mut self, end: End) -> Result<(), String> {
        match end {
            End::Stopped => {
                let worked = (0..9).filter(|_| self.work(1)).count();
                let done = self.collect();
                // The others go on without the stopped child, which has one of the chunks at most.
                return if worked == 0 || done < 2 { Err(format!("{done} results came")) } else { Ok(()) };
            }
            End::Killed => self.pool.worker_ended(0, 1, 9),
            End::Finished => {}
        }
        // The pool's check puts what is left of the dead child's chunk at the end of the queue.
        for round in 0.. {
            if self.collect() == 5 {
                break;
            }
            if !self.work(1) && round > 100 {
                return Err("some results never come".into());
            }
        }
        if !self.batch.is_complete() || self.pool.outstanding() != 0 {
            return Err("the pool does not know that everything is done".into());
        }
        let mut died = 0;
        for task in 0..5 {
            match self.results[usize::from(task)].as_ref() {
                Some(Ok(bytes)) if *bytes == result(task, (self.len)(task)) => {}
                Some(Err(TaskError::WorkerDied { pid: 1, .. })) if task < 3 => died += 1,
                Some(Err(TaskError::Lost(text))) if self.loses && task == LOST && text == WHY => {}
                other => return Err(format!("task {task} returned {other:?}")),
            }
        }
        if died > usize::from(end == End::Killed) {
            return Err(format!("{died} tasks died"));
        }
        // That of the function is the batch's.
        match self.pool.blocks() {
            1 => Ok(()),
            blocks => Err(format!("{blocks} blocks of the heap are left")),
        }
    }

    fn words(&self) -> String {
        format!("{:?}", self.pool)
    }
}
