//! The storm: processes at random operations on shared objects, and a killer among them.
//!
//! A round has fresh objects. Workers do random operations on random ones of them. The killer kills
//! workers with SIGKILL and starts others in their place. It stops some with SIGSTOP and continues
//! them. All record what they do on a [`board`], which does not use the library, so that a verdict
//! at the end can tell what was lost, doubled, torn or stuck. Any of these makes the program fail.
//!
//! A worker that makes no progress for [`PATIENCE`] although nobody has stopped it is stuck. While
//! one is stopped, all others must go on, except those that wait without a deadline.
//!
//! # A new object
//!
//! Implement [`member::Member`] in a file of [`members`] and add its recipe there. A step is one
//! operation with all its consequences. It checks with words on the board what must be true, as far
//! as it can; the verdict checks the rest. A worker records an unfinished step before it begins it.
//! If the worker is killed, `account_for` accounts for the record:
//!
//! ```ignore
//! struct Bell(Event);
//!
//! impl Member for Bell {
//!     fn step(&mut self, desk: &mut Desk) {
//!         let event = &self.0;
//!         match desk.random.below(2) {
//!             0 => desk.act("set", || event.set()),
//!             _ => drop(desk.timed("wait_timeout", |time| event.wait_timeout(time))),
//!         }
//!     }
//!
//!     fn verdict(&mut self, desk: &mut Desk) {
//!         self.0.set();
//!         if !self.0.wait_timeout(PATIENCE) {
//!             desk.fault(Fault::Stuck, "set, and cannot be waited for");
//!         }
//!     }
//! }
//! ```
//!
//! # Runs
//!
//! `cargo test --test storm` takes some seconds. `STORM_SECONDS=3600 cargo test --release --test
//! storm` takes an hour; `STORM_PROCESSES` is the number of workers. `STORM_SEED` repeats the
//! random choices of a run, whose seed is printed, but not its schedule. `STORM_ONLY=queue` takes
//! the objects with `queue` in their names.

mod board;
mod desk;
mod member;
mod members;
mod round;
mod worker;

use std::time::{Duration, Instant, SystemTime};

use board::FAULTS;
use desk::{mix, Random};

/// Limit for everything that should happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Longest round: the ledgers have room for it, and a verdict follows each round.
const ROUND: Duration = Duration::from_secs(5);

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

fn main() {
    pagemate::init();
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    if has("--list") {
        // Some runners ask a test program for its tests. This is one test.
        if !has("--ignored") {
            println!("storm: test");
        }
        return;
    }
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("STORM_SEED").unwrap_or(time.as_nanos() as u64 & 0xffff_ffff);
    let seconds = setting("STORM_SECONDS").unwrap_or(5);
    let processes = setting("STORM_PROCESSES").unwrap_or(6).clamp(2, board::WORKERS as u64 - 1) as usize;
    let only = std::env::var("STORM_ONLY").unwrap_or_default();
    println!("storm: STORM_SEED={seed} STORM_SECONDS={seconds} STORM_PROCESSES={processes}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut sum = round::Tally::default();
    let mut rounds = 0;
    while rounds == 0 || (Instant::now() < end && sum.faults == [0; FAULTS.len()]) {
        let length = end.saturating_duration_since(Instant::now()).min(ROUND);
        sum.add(round::run(Random::new(mix(seed + rounds)), length, processes, &only));
        rounds += 1;
    }
    println!(
        "{rounds} rounds: {} operations, {} kills, {} stops, {} recoveries, the slowest after {:?}; the \
         latest wait ended {:?} after its deadline",
        sum.operations,
        sum.kills,
        sum.stops,
        sum.recoveries,
        Duration::from_nanos(sum.slowest_recovery),
        Duration::from_nanos(sum.latest),
    );
    let faults = FAULTS.iter().zip(sum.faults);
    println!("{}", faults.map(|(fault, count)| format!("{fault:?} {count}")).collect::<Vec<_>>().join(", "));
    if sum.faults != [0; FAULTS.len()] {
        eprintln!("the storm has broken something; STORM_SEED={seed} repeats its random choices");
        std::process::exit(1);
    }
}
