//! Checks what an operation does when a system call fails: it goes on, or returns an error of the
//! library, and keeps nothing that it would not have kept otherwise.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicU8, Ordering::SeqCst};

use super::errors::{name_of, CALLS};
use super::harness::Scene;
use super::helper::Atomics;
use super::trace::{State, Tracee};

/// The report of the child: how its operation ended, and what it keeps.
pub struct Note {
    /// One of the constants below.
    ended: AtomicU64,
    /// The numbers of descriptors and of mappings of segments.
    descriptors: AtomicU64,
    mappings: AtomicU64,
    len: AtomicU64,
    /// The text of a panic.
    text: [AtomicU8; 2048],
}

// SAFETY: atomics only.
unsafe impl Atomics for Note {}

/// The operation has returned.
const RETURNED: u64 = 0;
/// The scene has unwrapped an error of the library.
const ERROR: u64 = 1;
/// Any other panic.
const PANICKED: u64 = 2;

impl Note {
    /// Clears the report for the next moment.
    pub fn clear(&self) {
        for word in [&self.ended, &self.descriptors, &self.mappings, &self.len] {
            word.store(0, SeqCst);
        }
    }

    /// Returns whether the operation has returned an error.
    pub fn is_error(&self) -> bool {
        self.ended.load(SeqCst) == ERROR
    }

    /// Returns what the child keeps, packed into one word.
    pub fn kept(&self) -> u64 {
        self.descriptors.load(SeqCst) << 32 | self.mappings.load(SeqCst)
    }

    fn say(&self, ended: u64, text: &str) {
        for (to, byte) in self.text.iter().zip(text.bytes()) {
            to.store(byte, SeqCst);
        }
        self.len.store(text.len().min(self.text.len()) as u64, SeqCst);
        self.ended.store(ended, SeqCst);
    }

    pub fn text(&self) -> String {
        let bytes = self.text[..self.len.load(SeqCst) as usize].iter().map(|byte| byte.load(SeqCst));
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }
}

/// The note of this process, if it is a child in which a call fails.
static NOTE: AtomicPtr<Note> = AtomicPtr::new(std::ptr::null_mut());

/// Records the error of an operation that may rightly fail, for example because the others were
/// faster. Returns the value.
pub fn noted<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    // SAFETY: null, or set by `act` to a note that is never unmapped.
    if let (Err(error), Some(note)) = (&result, unsafe { NOTE.load(SeqCst).as_ref() }) {
        note.say(ERROR, &error.to_string());
    }
    result.ok()
}

/// Runs the operation in the child, and repeats it if it returned an error. This shows what a
/// failed attempt leaves, and that it can be repeated.
pub fn act(scene: &RefCell<Box<dyn Scene>>, note: &'static Note) {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("without a text");
        let file = info.location().map_or("", |location| location.file());
        let is_error = text.contains("on an `Err` value") && file.contains("tests/crash");
        let ended = if is_error { ERROR } else { PANICKED };
        if note.ended.load(SeqCst) == RETURNED {
            note.say(ended, &format!("{text} ({file}:{})", info.location().map_or(0, |at| at.line())));
        }
    }));
    NOTE.store(std::ptr::from_ref(note).cast_mut(), SeqCst);
    let act = || catch_unwind(AssertUnwindSafe(|| scene.borrow_mut().act()));
    let _ = act();
    if note.is_error() {
        let _ = act();
    }
}

/// Counts what the child keeps, after its operation.
pub fn count(note: &Note) {
    let list = |path: &str| std::fs::read_dir(path).map_or(0, |entries| entries.count());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let is_segment = |line: &&str| line.contains("/memfd:pagemate") || line.contains("/dev/shm/");
    note.descriptors.store(list("/proc/self/fd") as u64, SeqCst);
    note.mappings.store(maps.lines().filter(is_segment).count() as u64, SeqCst);
}

/// Continues the child after the call that failed, until it ends. `kept` is what it keeps if
/// nothing fails.
pub fn outcome(tracee: Tracee, note: &Note, kept: u64, call: usize) -> Result<(), String> {
    match tracee.run() {
        State::Over => {}
        State::Broken(status) => {
            return Err(format!("the operation broke: status {status:#x}, {}", note.text()))
        }
        State::Inside(_) => return Err("a trap inside of the operation".to_string()),
    }
    let status = tracee.finish();
    if status != 0 {
        return Err(format!("behind the operation it ended with status {status:#x}"));
    }
    if note.ended.load(SeqCst) == PANICKED {
        return Err(format!("a panic: {}", note.text()));
    }
    let (mut files, mut maps) = (kept >> 32, kept & u64::from(u32::MAX));
    match CALLS[call].name {
        // A mapping that could not be unmapped stays, and so does a descriptor that may be
        // another's by now.
        "munmap" => maps += 1,
        "fstat" => files += 1,
        _ => {}
    }
    let (descriptors, mappings) = (note.descriptors.load(SeqCst), note.mappings.load(SeqCst));
    if descriptors > files || mappings > maps {
        return Err(format!(
            "it keeps {descriptors} descriptors and {mappings} mappings, and \
             otherwise {files} and {maps}; {}",
            note.text()
        ));
    }
    Ok(())
}

/// The outcomes of the calls that were made to fail.
#[derive(Debug, Default)]
pub struct Report {
    /// By call: how often it failed, and how often the operation then returned an error.
    calls: BTreeMap<&'static str, [usize; 2]>,
    /// By the text of the error, without its numbers: the failures that led to it.
    errors: BTreeMap<String, BTreeSet<String>>,
}

impl Report {
    pub fn add(&mut self, call: usize, error: i32, note: &Note) {
        let name = CALLS[call].name;
        let counts = self.calls.entry(name).or_default();
        counts[0] += 1;
        if note.is_error() {
            counts[1] += 1;
            let text: String = note.text().chars().filter(|c| !c.is_ascii_digit()).collect();
            self.errors.entry(text).or_default().insert(format!("{name} {}", name_of(error)));
        }
    }

    pub fn print(&self) {
        println!("\n{:<20}{:>8}{:>10}{:>10}", "call", "failed", "went on", "error");
        for (name, [failed, told]) in &self.calls {
            println!("{name:<20}{failed:>8}{:>10}{told:>10}", failed - told);
        }
        println!("\nthe errors returned, without numbers, and what they were for:");
        for (text, calls) in &self.errors {
            println!("{text}\n    {}", calls.iter().cloned().collect::<Vec<_>>().join(", "));
        }
        println!();
    }
}
