//! Kills and stops each operation at every instruction.
//!
//! A scene is an operation on real shared memory. A child runs it under `ptrace`, is single-stepped
//! k instructions into it and killed with SIGKILL. Then the survivors' script must find everything
//! that is promised. This is repeated for every k from 0 until the operation is over, each time on
//! a fresh copy of the scene. Then it is repeated with SIGSTOP. While the child is stopped the
//! script must find that it blocks nobody, and when it is continued it must finish.
//!
//! # A new scene
//!
//! Implement [`Scene`] and add it to the scenes of its file, which `main` below lists. `prepare`
//! and `act` run in the child, all else in the survivor:
//!
//! ```ignore
//! struct Set(Event);
//!
//! impl Scene for Set {
//!     fn act(&mut self) {
//!         self.0.set();
//!     }
//!
//!     fn check(&mut self, end: End) -> Result<(), String> {
//!         match end {
//!             End::Finished if !self.0.is_set() => Err("set has returned and the event is not set".into()),
//!             _ => Ok(()), // and a script of what the others do now
//!         }
//!     }
//!
//!     fn words(&self) -> String {
//!         format!("{:#?}", self.0)
//!     }
//! }
//!
//! Recipe { name: "event: set", build: || Box::new(Set(Event::new().unwrap())) }
//! ```
//!
//! A scene is built in a process of its own for each moment, so it may leak anything except files
//! and processes. The harness searches for these when the scene has been dropped. A third process,
//! which waits for what the child does, or has died earlier, is a [`helper::Helper`]. Names of
//! segments contain the process id between hyphens.
//!
//! # Runs
//!
//! `cargo test --test crash` is brief: it kills each scene 6 times and stops it 6 times (2 of each
//! if it is long), directly after an atomic instruction, a system call, or an instruction that has
//! changed a word in a segment. Nowhere else do others see a change.
//!
//! `EVERY=11 cargo test --release --test crash` is the full run. It tries all instructions that are
//! within 2 of such a place. Of the others it tries every eleventh at an address that the operation
//! reaches for the first or second time, 120 at most, and 24 of those in a spin or a loop.
//! `EVERY=1` tries every single one, `EVERY=31` fewer, and only those that are within 1 of such a
//! place.
//!
//! `ERRORS=1 cargo test --release --test crash` neither kills nor stops. It lets each system call
//! of each scene fail once with each error that the call can have (`errors.rs` has the table). The
//! operation may go on, or return an error of the library; then it is tried again. It must not
//! panic, end, hang, or keep a descriptor or a mapping that it would not keep otherwise, and the
//! script of the others must pass. At the end it prints a table by call, and the text of each error
//! that was returned.
//!
//! With the argument `-- queue`, each runs the scenes with `queue` in their names. `JOBS` is the
//! number of moments that run at once.
//!
//! Where `ptrace` is not permitted nothing can be tried. Then the run says so and fails, unless
//! `PTRACE_MAY_BE_MISSING` is set.
//!
//! `.ci/faults` plants faults into the library, and fails unless the harness finds them.
//!
//! The table has for each scene the number of instructions of its operation, the number of kills
//! and stops, the number of broken promises, and the time of the slowest script, from the kill to
//! its last line.

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("SKIPPED: the crash harness single-steps x86-64 only");
}

#[cfg(target_arch = "x86_64")]
mod array;
#[cfg(target_arch = "x86_64")]
mod barrier;
#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod bounded_semaphore;
#[cfg(target_arch = "x86_64")]
mod closed;
#[cfg(target_arch = "x86_64")]
mod condvar;
#[cfg(target_arch = "x86_64")]
mod dict;
#[cfg(target_arch = "x86_64")]
mod errors;
#[cfg(target_arch = "x86_64")]
mod event;
#[cfg(target_arch = "x86_64")]
mod exclusive;
#[cfg(target_arch = "x86_64")]
mod foreign_pool;
#[cfg(target_arch = "x86_64")]
mod halves;
#[cfg(target_arch = "x86_64")]
mod harness;
#[cfg(target_arch = "x86_64")]
mod heap;
#[cfg(target_arch = "x86_64")]
mod helper;
#[cfg(target_arch = "x86_64")]
mod instruction;
#[cfg(target_arch = "x86_64")]
mod list;
#[cfg(target_arch = "x86_64")]
mod lock;
#[cfg(target_arch = "x86_64")]
mod lossless;
#[cfg(target_arch = "x86_64")]
mod manager;
#[cfg(target_arch = "x86_64")]
mod once;
#[cfg(target_arch = "x86_64")]
mod participant;
#[cfg(target_arch = "x86_64")]
mod payload;
#[cfg(target_arch = "x86_64")]
mod pool;
#[cfg(target_arch = "x86_64")]
mod queue;
#[cfg(target_arch = "x86_64")]
mod reentrant_lock;
#[cfg(target_arch = "x86_64")]
mod refusal;
#[cfg(target_arch = "x86_64")]
mod refused;
#[cfg(target_arch = "x86_64")]
mod rwlock;
#[cfg(target_arch = "x86_64")]
mod schedule;
#[cfg(target_arch = "x86_64")]
mod segment;
#[cfg(target_arch = "x86_64")]
mod semaphore;
#[cfg(target_arch = "x86_64")]
mod service;
mod service_parts;
#[cfg(target_arch = "x86_64")]
mod spawn;
#[cfg(target_arch = "x86_64")]
mod spsc;
#[cfg(target_arch = "x86_64")]
mod topic;
mod topic_varied;
#[cfg(target_arch = "x86_64")]
mod trace;
#[cfg(target_arch = "x86_64")]
mod value;
#[cfg(target_arch = "x86_64")]
mod waiting;
#[cfg(target_arch = "x86_64")]
mod waitset;
#[cfg(target_arch = "x86_64")]
mod words;

#[cfg(target_arch = "x86_64")]
pub use harness::{is_one_of, End, Recipe, Scene};

#[cfg(target_arch = "x86_64")]
fn main() {
    trace::mark_exits();
    pagemate::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        // Some runners ask a test program for its tests. This is one test.
        if !has("--ignored") {
            println!("crash: test");
        }
        return;
    }
    let filter =
        args.iter().find(|arg| !arg.starts_with('-') && !has("--exact")).cloned().unwrap_or_default();
    if filter.is_empty() {
        if let Err(fault) = refused::check_without_ptrace(|| event::scenes().remove(0)) {
            println!("FAILED: where ptrace is not permitted, the harness must say so: {fault}");
            std::process::exit(1);
        }
    }
    let scenes = [
        event::scenes(),
        queue::scenes(),
        halves::scenes(),
        payload::scenes(),
        spsc::scenes(),
        topic::scenes(),
        lossless::scenes(),
        topic_varied::scenes(),
        service::scenes(),
        service_parts::scenes(),
        segment::scenes(),
        participant::scenes(),
        spawn::scenes(),
        waiting::scenes(),
        waitset::scenes(),
        semaphore::scenes(),
        lock::scenes(),
        reentrant_lock::scenes(),
        rwlock::scenes(),
        closed::scenes(),
        condvar::scenes(),
        bounded_semaphore::scenes(),
        barrier::scenes(),
        once::scenes(),
        pool::scenes(),
        foreign_pool::scenes(),
        value::scenes(),
        heap::scenes(),
        list::scenes(),
        manager::scenes(),
        array::scenes(),
        dict::scenes(),
    ];
    let scenes = scenes.into_iter().flatten();
    schedule::run(scenes.filter(|scene| scene.name.contains(&filter)).collect());
}
