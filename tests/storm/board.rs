//! The board: memory beside the library under test. All processes of the storm record there what
//! they do, and it outlives them.
//!
//! It is a memfd, so nothing is left of it, however the storm ends. It consists of atomic words:
//!
//! | words | meaning |
//! |---|---|
//! | [`GLOBALS`] | phase, counts of faults, recoveries, delays |
//! | [`TEXTS`] of [`TEXT_WORDS`] | the first faults in words: length, bytes |
//! | [`WORKERS`] of [`WORKER_WORDS`] | a worker's operation, and the kills and stops that hit it |
//! | [`MEMBERS`] of [`MEMBER_WORDS`] | notes of a member for its verdict |

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const GLOBALS: usize = 64;
const TEXTS: usize = 32;
const TEXT_WORDS: usize = 64;
/// The largest number of workers at a time.
pub const WORKERS: usize = 64;
const WORKER_WORDS: usize = 16;
const MEMBERS: usize = 48;
pub const MEMBER_WORDS: usize = 1 << 18;

const TEXTS_AT: usize = GLOBALS;
const WORKERS_AT: usize = TEXTS_AT + TEXTS * TEXT_WORDS;
const MEMBERS_AT: usize = WORKERS_AT + WORKERS * WORKER_WORDS;
const WORDS: usize = MEMBERS_AT + MEMBERS * MEMBER_WORDS;

/// Faults: observations that must not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A message that was sent and not received, or a permit that is gone.
    Lost,
    /// A message received twice, a name created twice, a lock with two holders.
    Doubled,
    /// Half of one value and half of another.
    Torn,
    /// A call that did not end, or a slot or permit that did not come back.
    Stuck,
    /// All else: unexpected errors, panics, a living holder that lost its lock, leftovers.
    Broken,
}

pub const FAULTS: [Fault; 5] = [Fault::Lost, Fault::Doubled, Fault::Torn, Fault::Stuck, Fault::Broken];

/// Returns the time of the monotonic clock in nanoseconds. All processes share it.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec is ours to write.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The operation of a worker, and the kills and stops that hit it.
#[repr(C)]
pub struct Worker {
    /// The number of processes that have had this index, including this one.
    pub incarnation: AtomicU64,
    /// The last incarnation that was killed, written before the kill. The next word is the time.
    pub killed: AtomicU64,
    pub killed_at: AtomicU64,
    /// The operations of all incarnations.
    pub operations: AtomicU64,
    /// The member and the first letters of the operation that it is in.
    pub member: AtomicU64,
    pub operation: AtomicU64,
    /// Not 0 if it waits without a deadline, maybe for a lock of a stopped worker.
    pub patient: AtomicU64,
    /// Changes before each stop and before each continuation.
    pub stops: AtomicU64,
    _rest: [AtomicU64; WORKER_WORDS - 8],
}

/// The words that all workers share.
#[repr(C)]
pub struct Common {
    /// Not 0 if the workers are to end.
    pub over: AtomicU64,
    faults: [AtomicU64; FAULTS.len()],
    texts: AtomicU64,
    pub recoveries: AtomicU64,
    /// Nanoseconds from a kill to the survivor that found what the dead one held.
    pub slowest_recovery: AtomicU64,
    /// Nanoseconds that a wait took longer than its deadline.
    pub latest: AtomicU64,
}

const _: () = assert!(size_of::<Common>() <= 8 * GLOBALS && size_of::<Worker>() == 8 * WORKER_WORDS);

pub struct Board {
    map: memmap2::MmapRaw,
    _file: File,
    path: String,
}

impl Board {
    pub fn create() -> Board {
        // SAFETY: the name is a C string, and the result is a new descriptor or -1.
        let file = unsafe {
            let fd = libc::memfd_create(c"pagemate-storm".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0, "no memfd");
            File::from_raw_fd(fd)
        };
        file.set_len(8 * WORDS as u64).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Board { map: memmap2::MmapRaw::map_raw(&file).unwrap(), _file: file, path }
    }

    /// Opens the board of the storm that started this process. Returns `None` if that storm is
    /// over.
    pub fn open(path: &str) -> Option<Board> {
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        Some(Board { map: memmap2::MmapRaw::map_raw(&file).ok()?, _file: file, path: path.to_string() })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has 8 * WORDS bytes, is page-aligned and lives as long as `self`; any
        // bytes are atomics.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), WORDS) }
    }

    pub fn common(&self) -> &Common {
        // SAFETY: the board begins with GLOBALS words, which are at least a Common; any bytes are
        // one.
        unsafe { &*self.map.as_ptr().cast() }
    }

    pub fn worker(&self, slot: usize) -> &Worker {
        let at = &self.words()[WORKERS_AT + slot * WORKER_WORDS..][..WORKER_WORDS];
        // SAFETY: a Worker is exactly these words; any bytes are one.
        unsafe { &*at.as_ptr().cast() }
    }

    pub fn member(&self, index: usize) -> &[AtomicU64] {
        &self.words()[MEMBERS_AT + index * MEMBER_WORDS..][..MEMBER_WORDS]
    }

    /// Returns the time at which this incarnation of the worker was killed, or `None`.
    pub fn killed_at(&self, slot: usize, incarnation: u64) -> Option<u64> {
        let worker = self.worker(slot);
        (worker.killed.load(SeqCst) >= incarnation).then(|| worker.killed_at.load(SeqCst))
    }

    pub fn operations(&self) -> u64 {
        (0..WORKERS).map(|slot| self.worker(slot).operations.load(SeqCst)).sum()
    }

    pub fn fault(&self, fault: Fault, text: &str) {
        self.common().faults[fault as usize].fetch_add(1, SeqCst);
        let index = self.common().texts.fetch_add(1, SeqCst) as usize;
        if index >= TEXTS {
            return;
        }
        let words = &self.words()[TEXTS_AT + index * TEXT_WORDS..][..TEXT_WORDS];
        let text = format!("{fault:?}: {text}");
        let bytes = &text.as_bytes()[..text.len().min(8 * (TEXT_WORDS - 1))];
        for (word, chunk) in words[1..].iter().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(eight), SeqCst);
        }
        words[0].store(bytes.len() as u64, SeqCst);
    }

    pub fn count(&self, fault: Fault) -> u64 {
        self.common().faults[fault as usize].load(SeqCst)
    }

    pub fn texts(&self) -> Vec<String> {
        let count = (self.common().texts.load(SeqCst) as usize).min(TEXTS);
        let text = |index: usize| {
            let words = &self.words()[TEXTS_AT + index * TEXT_WORDS..][..TEXT_WORDS];
            let mut bytes: Vec<u8> =
                words[1..].iter().flat_map(|word| word.load(SeqCst).to_le_bytes()).collect();
            bytes.truncate(words[0].load(SeqCst) as usize);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (0..count).map(text).collect()
    }
}
