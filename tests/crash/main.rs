//! Killed at every instruction, and stopped at every instruction.
//!
//! A scene is an operation on real shared memory. A child runs it under `ptrace`, is single-stepped k instructions into it
//! and killed with SIGKILL; then the survivors' script must find everything that is promised. So for every k from 0 until
//! the operation is over, each time on a fresh copy of the scene. Then again with SIGSTOP: while the child is stopped the
//! script must find that it blocks nobody, and continued it must finish.
//!
//! # A new scene
//!
//! Implement [`Scene`] and add it to the scenes of its file, which `main` below lists. `prepare` and `act` run in the child,
//! all else in the survivor:
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
//! A scene is built in a process of its own for each moment, so it may leak what it likes, but for files and processes: the
//! harness looks for them when the scene has been dropped. A third process, that waits for what the child does, or has died
//! earlier, is a [`helper::Helper`]. Names of segments contain the process id between hyphens.
//!
//! # Runs
//!
//! `cargo test --test crash` tries all instructions that are within 2 of an atomic instruction, of a system call, or of one
//! that has changed a word in a segment: what others can see changes nowhere else. Of all else it tries every eleventh that is at
//! an address where the operation has been once or never before, 120 at most, and 24 of those where it comes again and again, in a
//! spin or a loop. `EVERY=1 cargo test --release --test crash` tries every single one, `EVERY=100` fewer. With `-- queue` behind
//! it, those of the scenes with `queue` in their names. `JOBS` says how many moments are tried at once.
//!
//! Where `ptrace` is not permitted nothing can be tried: the run says so and fails, unless `PTRACE_MAY_BE_MISSING` is set.
//!
//! `.ci/faults` plants faults into the library, and demands that the harness finds them.
//!
//! The table says for each scene how many instructions its operation has, how often the child was killed and stopped in it,
//! how often something promised did not hold, and how long the slowest script took from the kill to its last line.

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
mod bounded;
#[cfg(target_arch = "x86_64")]
mod condvar;
#[cfg(target_arch = "x86_64")]
mod dict;
#[cfg(target_arch = "x86_64")]
mod event;
#[cfg(target_arch = "x86_64")]
mod exclusive;
#[cfg(target_arch = "x86_64")]
mod harness;
#[cfg(target_arch = "x86_64")]
mod heap;
#[cfg(target_arch = "x86_64")]
mod helper;
#[cfg(target_arch = "x86_64")]
mod list;
#[cfg(target_arch = "x86_64")]
mod lock;
#[cfg(target_arch = "x86_64")]
mod manager;
#[cfg(target_arch = "x86_64")]
mod once;
#[cfg(target_arch = "x86_64")]
mod participant;
#[cfg(target_arch = "x86_64")]
mod pool;
#[cfg(target_arch = "x86_64")]
mod queue;
#[cfg(target_arch = "x86_64")]
mod refused;
#[cfg(target_arch = "x86_64")]
mod rlock;
#[cfg(target_arch = "x86_64")]
mod rwlock;
#[cfg(target_arch = "x86_64")]
mod segment;
#[cfg(target_arch = "x86_64")]
mod semaphore;
#[cfg(target_arch = "x86_64")]
mod spawn;
#[cfg(target_arch = "x86_64")]
mod spsc;
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
    pagemate::init();
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    if filter.is_empty() {
        if let Err(fault) = refused::is_said_loudly(|| event::scenes().remove(0)) {
            println!("FAILED: where ptrace is not permitted, the harness must say so: {fault}");
            std::process::exit(1);
        }
    }
    let scenes = [
        event::scenes(),
        queue::scenes(),
        spsc::scenes(),
        segment::scenes(),
        participant::scenes(),
        spawn::scenes(),
        waiting::scenes(),
        waitset::scenes(),
        semaphore::scenes(),
        lock::scenes(),
        rlock::scenes(),
        rwlock::scenes(),
        condvar::scenes(),
        bounded::scenes(),
        barrier::scenes(),
        once::scenes(),
        pool::scenes(),
        value::scenes(),
        heap::scenes(),
        list::scenes(),
        manager::scenes(),
        array::scenes(),
        dict::scenes(),
    ];
    let scenes = scenes.into_iter().flatten();
    harness::run(scenes.filter(|scene| scene.name.contains(&filter)).collect());
}
