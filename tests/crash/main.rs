//! Killed at every instruction, and stopped at every instruction.
//!
//! A scene is an operation on real shared memory. A child runs it under `ptrace`, is single-stepped k instructions into it
//! and killed with SIGKILL; then the survivors' script must find everything that is promised. So for every k from 0 until
//! the operation is over, each time on a fresh copy of the scene. Then again with SIGSTOP: while the child is stopped the
//! script must find that it blocks nobody, and continued it must finish.
//!
//! # A new scene
//!
//! Implement [`Scene`]: `prepare` and `act` run in the child, `check` is the survivors' script in the parent. Add it to
//! `scenes()`. See `queue.rs`.
//!
//! `cargo test --test crash` tries a dozen moments of each, spread evenly; `EVERY=1 cargo test --release --test crash` every
//! instruction of every scene, which takes long; with `-- queue` behind it, those of the scenes with `queue` in their names.

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("SKIPPED: the crash harness single-steps x86-64 only");
}

#[cfg(target_arch = "x86_64")]
mod event;
#[cfg(target_arch = "x86_64")]
mod queue;
#[cfg(target_arch = "x86_64")]
mod segment;
#[cfg(target_arch = "x86_64")]
mod spsc;
#[cfg(target_arch = "x86_64")]
mod trace;

#[cfg(target_arch = "x86_64")]
pub use harness::{End, Scene};

#[cfg(target_arch = "x86_64")]
fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let scenes = [event::scenes(), queue::scenes(), spsc::scenes(), segment::scenes()].into_iter().flatten();
    harness::run(scenes.filter(|scene| scene.name.contains(&filter)).collect());
}

#[cfg(target_arch = "x86_64")]
mod harness {
    use std::time::{Duration, Instant};

    use super::trace::{ignore_markers, place_of, State, Tracee};

    /// What became of the child.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum End {
        /// Killed inside of the operation.
        Killed,
        /// Stopped inside of the operation; it will go on.
        Stopped,
        /// It finished the operation, and ended.
        Finished,
    }

    /// An operation, what comes before it, and what must be true after it.
    pub trait Scene {
        /// In the child, before the operation: everything that is not to be counted.
        fn prepare(&mut self) {}
        /// In the child: the operation.
        fn act(&mut self);
        /// In the parent: a script of further operations against an exact expectation.
        fn check(&mut self, end: End) -> Result<(), String>;
        /// The words of the object, for a report.
        fn words(&self) -> String;
    }

    /// A scene that can be built again and again.
    #[derive(Debug)]
    pub struct Recipe {
        pub name: &'static str,
        pub build: fn() -> Box<dyn Scene>,
    }

    /// More steps than any operation takes: a spin that does not end.
    const STEPS_MAX: usize = 200_000;

    /// How many moments of each scene are tried unless `EVERY` says otherwise.
    const MOMENTS: usize = 12;

    #[derive(Default)]
    struct Tally {
        instructions: usize,
        kills: usize,
        stops: usize,
        failures: usize,
        slowest: Duration,
    }

    pub fn run(recipes: Vec<Recipe>) {
        let every: Option<usize> = std::env::var("EVERY").ok().and_then(|every| every.parse().ok());
        println!(
            "{:<44}{:>12}{:>8}{:>8}{:>10}{:>12}",
            "scene", "instructions", "kills", "stops", "failures", "slowest"
        );
        let begin = Instant::now();
        let mut all = Tally::default();
        for recipe in &recipes {
            let Some(tally) = try_all(recipe, every) else {
                println!("SKIPPED LOUDLY: ptrace is not permitted here; nothing was tried");
                std::process::exit(if std::env::var_os("PTRACE_MAY_BE_MISSING").is_some() { 0 } else { 1 });
            };
            print(recipe.name, &tally);
            all.instructions += tally.instructions;
            all.kills += tally.kills;
            all.stops += tally.stops;
            all.failures += tally.failures;
            all.slowest = all.slowest.max(tally.slowest);
        }
        print("all", &all);
        println!("{} scenes in {:.1?}", recipes.len(), begin.elapsed());
        // For whoever reads test output by its closing line.
        println!(
            "\ntest result: {}. {} passed; {} failed",
            verdict(&all),
            recipes.len(),
            all.failures.min(1)
        );
        std::process::exit(i32::from(all.failures > 0));
    }

    fn verdict(all: &Tally) -> &'static str {
        if all.failures == 0 {
            "ok"
        } else {
            "FAILED"
        }
    }

    fn print(name: &str, tally: &Tally) {
        let Tally { instructions, kills, stops, failures, slowest } = tally;
        println!(
            "{name:<44}{instructions:>12}{kills:>8}{stops:>8}{failures:>10}{:>12}",
            format!("{slowest:.1?}")
        );
    }

    fn try_all(recipe: &Recipe, every: Option<usize>) -> Option<Tally> {
        let mut tally = Tally::default();
        // Once to the end, to see how long it is and where its system calls are.
        let mut calls = Vec::new();
        (_, tally.instructions) = try_one(recipe, STEPS_MAX, End::Killed, &mut tally, &mut calls)?;
        let stride = every.unwrap_or(tally.instructions / MOMENTS).max(1);
        for how in [End::Killed, End::Stopped] {
            let mut k = 0;
            while !try_one(recipe, k, how, &mut tally, &mut calls)?.0 && tally.failures < 5 {
                k += stride;
            }
        }
        Some(tally)
    }

    /// Brings the child to its k-th instruction: freely over the system calls before it, from there step by step. Gives where
    /// it stands. On the first run `calls` is empty, and learns how many steps there are to behind each call.
    fn advance(tracee: &Tracee, k: usize, calls: &mut Vec<usize>) -> (State, usize) {
        let learning = calls.is_empty();
        let mut state = State::Inside(0);
        let mut steps = 0;
        for call in calls.iter().take_while(|call| **call <= k) {
            state = tracee.run_to_system_call();
            steps = *call;
            if !matches!(state, State::Inside(_)) {
                return (state, steps);
            }
        }
        while steps < k {
            state = tracee.step();
            let State::Inside(counter) = state else { break };
            steps += 1;
            if learning && Tracee::is_behind_system_call(counter) {
                calls.push(steps);
            }
        }
        (state, steps)
    }

    /// Up to the k-th instruction, then the end that is to be tried. True: the operation was over before that.
    fn try_one(
        recipe: &Recipe,
        k: usize,
        how: End,
        tally: &mut Tally,
        calls: &mut Vec<usize>,
    ) -> Option<(bool, usize)> {
        let scene = std::cell::RefCell::new((recipe.build)());
        let before = scene.borrow().words();
        let prepare = || {
            ignore_markers();
            scene.borrow_mut().prepare();
        };
        let tracee = Tracee::start(prepare, || scene.borrow_mut().act())?;
        let (state, steps) = advance(&tracee, k, calls);
        let begin = Instant::now();
        let (end, verdict) = match state {
            State::Over => {
                tracee.kill();
                (End::Finished, scene.borrow_mut().check(End::Finished))
            }
            State::Inside(_) if how == End::Killed => {
                tally.kills += 1;
                tracee.kill();
                (End::Killed, scene.borrow_mut().check(End::Killed))
            }
            State::Inside(_) => {
                tally.stops += 1;
                tracee.stop();
                let meanwhile = scene.borrow_mut().check(End::Stopped);
                let status = tracee.go_on();
                let clean = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                let after =
                    if clean { Ok(()) } else { Err(format!("continued, it ended with status {status:#x}")) };
                let last = scene.borrow_mut().check(End::Finished);
                (End::Stopped, meanwhile.and(after).and(last))
            }
            State::Broken(status) => (End::Killed, Err(format!("the operation broke: status {status:#x}"))),
        };
        tally.slowest = tally.slowest.max(begin.elapsed());
        if let Err(fault) = verdict {
            tally.failures += 1;
            let at =
                if let State::Inside(counter) = state { place_of(counter) } else { format!("{state:?}") };
            println!("FAILED {} {end:?} at instruction {steps}: {fault}", recipe.name);
            println!("  next instruction: {at}\n  before: {before}\n  after:  {}", scene.borrow().words());
        }
        Some((state == State::Over, steps))
    }
}

#[cfg(target_arch = "x86_64")]
pub use harness::Recipe;
