//! Helpers of several tests: a log in a mapped file that outlives its writer, randomness from a
//! printed seed, and waiting for a condition.

#![allow(dead_code)]

pub(crate) mod damage;
pub(crate) mod deeds;
pub(crate) mod forked;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Numbers appended by one process and read by another, also after the first was killed. The count
/// is written last.
pub(crate) struct Log {
    map: memmap2::MmapRaw,
    path: PathBuf,
}

const WORDS: usize = 1 << 16;

impl Log {
    /// Creates a log in the temporary directory.
    pub(crate) fn create(name: &str) -> Log {
        let path = std::env::temp_dir().join(format!("pagemate-test-{name}-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(8 * WORDS as u64).unwrap();
        Log { map: memmap2::MmapRaw::map_raw(&file).unwrap(), path }
    }

    /// Opens the log of another process.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Log {
        let path = path.into();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Log { map: memmap2::MmapRaw::map_raw(&file).unwrap(), path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn remove(self) {
        std::fs::remove_file(&self.path).unwrap();
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has 8 * WORDS bytes, is page-aligned and lives as long as `self`; any
        // bytes are atomics.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), WORDS) }
    }

    pub(crate) fn push(&self, value: u64) {
        let count = self.words()[0].load(Ordering::Relaxed) as usize;
        self.words()[1 + count].store(value, Ordering::Relaxed);
        self.words()[0].store(count as u64 + 1, Ordering::Release);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.words()[0].load(Ordering::Relaxed) as usize + 2 >= WORDS
    }

    pub(crate) fn values(&self) -> Vec<u64> {
        let count = self.words()[0].load(Ordering::Acquire) as usize;
        self.words()[1..=count].iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn clear(&self) {
        self.words()[0].store(0, Ordering::Release);
    }
}

/// A small generator; the seed is printed so that a run can be repeated with `SEED=...`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = given.unwrap_or(time) | 1;
        println!("SEED={seed}");
        Random(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Lets a random time up to `most` pass without sleeping. It sets the moment of a kill and
    /// orders nothing.
    pub(crate) fn moment(&mut self, most: Duration) {
        let end = Instant::now() + Duration::from_nanos(self.below(most.as_nanos() as u64));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}

/// Waits, with a generous deadline, until another process has done something.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "still not: {what}");
        if begin.elapsed() < Duration::from_millis(1) {
            std::thread::yield_now();
        } else {
            // Other tests need the processor too.
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
