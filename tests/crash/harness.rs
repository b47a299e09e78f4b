//! Every moment in a process of its own: it builds the scene, runs the child up to its instruction, ends it, and is the
//! survivor. So a moment inherits nothing from those before it, several are tried at once, and one that is stuck is found
//! out and ended.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::helper::{children, shared, Atomics};
use super::trace::{die_with_parent, place_of, Leg, Route, State, Tracee};
use super::words::Words;

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
    /// In the parent: a script of further operations against an exact expectation. After `Killed` or `Finished` once; after
    /// `Stopped` it is called again with `Finished` when the child has gone on and ended.
    fn check(&mut self, end: End) -> Result<(), String>;
    /// The words of the object, for a report.
    fn words(&self) -> String;
    /// Whether the operation starts programs. Then a moment takes so long that, unless all are wanted, only those next to
    /// what others can see are tried, and few more. Nor is it stopped: the C library starts a program with all signals
    /// blocked, and a step with SIGTRAP blocked takes the handler from it that the end marker of a continued child needs.
    fn is_costly(&self) -> bool {
        false
    }
}

/// A scene that can be built again and again.
#[derive(Debug)]
pub struct Recipe {
    pub name: &'static str,
    pub build: fn() -> Box<dyn Scene>,
}

/// More steps than any operation takes: a spin that does not end.
const STEPS_MAX: usize = 1 << 20;
/// Unless `EVERY` says otherwise: one instruction of so many, and all that are near to what others can see.
const EVERY: usize = 11;
/// So near: what others can see changes nowhere else, and what the operation reads of it decides what it changes next.
const NEAR: usize = 2;
/// Of instructions at which the operation is for the first or second time no more than so many, besides those that are near.
const FIRST_MAX: usize = 120;
/// And of those where it has been twice: they are a spin or another loop, again and again the same.
const AGAIN_MAX: usize = 24;
/// What is left of these three where each moment is costly: this part of the numbers, and so near.
const COSTLY: usize = 6;
const NEAR_COSTLY: usize = 1;
/// A moment that takes longer is stuck.
const PATIENCE_SECONDS: u32 = 60;
/// After so many failures a scene has said enough.
const FAILURES_MAX: usize = 5;

/// How a process that tries a moment ends.
const WELL: i32 = 0;
const FAILED: i32 = 1;
/// The operation was over before the instruction.
const OVER: i32 = 2;
/// By a signal.
const STUCK: i32 = 3;
const NOT_PERMITTED: i32 = 77;

/// What the processes of a moment tell the one that starts them.
struct Board {
    /// Of the first run: the addresses of the instructions, [`CHANGES`] set where one changed a word that others can see,
    /// and how many they are.
    addresses: [AtomicU64; STEPS_MAX],
    len: AtomicU64,
    /// Whether its moments are costly.
    is_costly: AtomicBool,
    /// The slowest script of the scene.
    slowest_nanos: AtomicU64,
}

/// Not part of any address of a program.
const CHANGES: u64 = 1 << 63;

// SAFETY: atomics only.
unsafe impl Atomics for Board {}

#[derive(Default)]
struct Tally {
    instructions: usize,
    kills: usize,
    stops: usize,
    failures: usize,
    slowest: Duration,
}

/// A moment: where, what happens there, and whether to come there by steps only.
#[derive(Debug, Clone, Copy)]
struct Moment {
    k: usize,
    how: End,
    leg: Leg,
    by_steps: bool,
}

/// The instruction that this process tries.
static INSTRUCTION: AtomicUsize = AtomicUsize::new(0);

/// Whether this moment is one of so many: for scripts that are too slow to be run at each.
pub fn is_one_of(count: usize) -> bool {
    INSTRUCTION.load(Relaxed) % count == 0
}

/// Tries all of them, prints the table and ends the process.
pub fn run(recipes: Vec<Recipe>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let every = number("EVERY").unwrap_or(EVERY).max(1);
    // Many a script sleeps, so there is work for more processes than there are processors.
    let jobs = number("JOBS").unwrap_or(4 * std::thread::available_parallelism().map_or(1, usize::from));
    let board = shared::<Board>();
    // Whose spins came to nothing spins briefly, and so do those it forks: there is less to step through.
    let never = pagemate::Event::new().unwrap();
    (0..6).for_each(|_| assert!(!never.wait_timeout(Duration::from_millis(50))));
    drop(never);
    println!(
        "{:<48}{:>12}{:>8}{:>8}{:>10}{:>12}",
        "scene", "instructions", "kills", "stops", "failures", "slowest"
    );
    let begin = Instant::now();
    let mut all = Tally::default();
    for recipe in &recipes {
        let Some(tally) = try_all(recipe, every, jobs, board) else {
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
    let verdict = if all.failures == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {} passed; {} failed", recipes.len(), all.failures);
    std::process::exit(i32::from(all.failures > 0));
}

fn print(name: &str, tally: &Tally) {
    let Tally { instructions, kills, stops, failures, slowest } = tally;
    println!(
        "{name:<48}{instructions:>12}{kills:>8}{stops:>8}{failures:>10}{:>12}",
        format!("{slowest:.1?}")
    );
}

/// All moments of a scene. `None`: tracing is not permitted here.
fn try_all(recipe: &Recipe, every: usize, jobs: usize, board: &Board) -> Option<Tally> {
    board.slowest_nanos.store(0, Relaxed);
    let mut tally = Tally::default();
    // Once to the end, to see how long it is and where its atomics and system calls are.
    let whole = Moment { k: STEPS_MAX, how: End::Finished, leg: Leg::steps(STEPS_MAX), by_steps: true };
    match end_of(start(recipe, whole, None, board)).1 {
        NOT_PERMITTED => return None,
        OVER => {}
        _ => tally.failures += 1,
    }
    let len = board.len.load(Relaxed) as usize;
    let seen: Vec<u64> = board.addresses[..len].iter().map(|address| address.load(Relaxed)).collect();
    let changes = (0..len).filter(|k| seen[*k] & CHANGES != 0).collect();
    let route = Route::new(seen.iter().map(|address| address & !CHANGES).collect(), changes);
    tally.instructions = len;
    let mut moments = moments(&route, every, board.is_costly.load(Relaxed));
    let mut running = HashMap::new();
    while !running.is_empty() || tally.failures < FAILURES_MAX && !moments.is_empty() {
        while running.len() < jobs && tally.failures < FAILURES_MAX {
            let Some(moment) = moments.pop() else { break };
            running.insert(start(recipe, moment, Some(&route), board), moment);
        }
        let (pid, code) = end_of(-1);
        let Some(moment) = running.remove(&pid) else { continue };
        match code {
            WELL if moment.how == End::Killed => tally.kills += 1,
            WELL => tally.stops += 1,
            // It went another way this time, shorter or past the breakpoint: what the clock says decides some of them.
            OVER if !moment.by_steps && moment.k < len => {
                moments.push(Moment { by_steps: true, leg: Leg::steps(moment.k), ..moment });
            }
            OVER => {}
            STUCK => {
                tally.failures += 1;
                println!(
                    "FAILED {} {:?} at instruction {}: stuck for {PATIENCE_SECONDS} s, or ended by a signal\n{}",
                    recipe.name, moment.how, moment.k, route.window(moment.k)
                );
            }
            _ => tally.failures += 1,
        }
    }
    tally.slowest = Duration::from_nanos(board.slowest_nanos.load(Relaxed));
    Some(tally)
}

/// Which moments are tried, the first one last.
fn moments(route: &Route, every: usize, is_costly: bool) -> Vec<Moment> {
    let (part, near) = if is_costly { (COSTLY, NEAR_COSTLY) } else { (1, NEAR) };
    let mut is_tried = vec![every == 1; route.len() + 1];
    is_tried[route.len()] = true;
    let (first, again): (Vec<usize>, Vec<usize>) = (0..route.len()).partition(|k| route.passes(*k) <= 2);
    for (some, most) in [(first, FIRST_MAX / part), (again, AGAIN_MAX / part)] {
        let step = every.max(some.len() / most);
        some.iter().step_by(step).for_each(|k| is_tried[*k] = true);
    }
    for k in route.visible() {
        let end = route.len().min(k + near);
        is_tried[k.saturating_sub(near)..=end].fill(true);
    }
    let moment = |(k, how)| Moment { k, how, leg: route.to(k), by_steps: false };
    let tried = (0..=route.len()).rev().filter(|k| is_tried[*k]);
    let hows: &[End] = if is_costly { &[End::Killed] } else { &[End::Stopped, End::Killed] };
    tried.flat_map(|k| hows.iter().map(move |how| (k, *how))).map(moment).collect()
}

/// Starts the process of a moment.
fn start(recipe: &Recipe, moment: Moment, route: Option<&Route>, board: &Board) -> libc::pid_t {
    let _ = std::io::stdout().flush();
    // SAFETY: this process has one thread, so the child is a whole copy.
    match unsafe { libc::fork() } {
        0 => {
            die_with_parent();
            let code = catch_unwind(AssertUnwindSafe(|| try_one(recipe, moment, route, board)));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code.unwrap_or(FAILED)) }
        }
        pid => pid,
    }
}

/// Waits for a child (-1: any), and gives which it was, and its code.
fn end_of(pid: libc::pid_t) -> (libc::pid_t, i32) {
    let mut status = 0;
    // SAFETY: status is ours to write.
    let pid = unsafe { libc::waitpid(pid, &mut status, 0) };
    (pid, if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { STUCK })
}

/// In the process of a moment: all of it.
fn try_one(recipe: &Recipe, moment: Moment, route: Option<&Route>, board: &Board) -> i32 {
    INSTRUCTION.store(moment.k, Relaxed);
    // Whoever loses its parent becomes a child of this process, which sees that it is there.
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    if moment.how != End::Finished {
        // The first run steps through all of it, and may take its time. What is stuck ends with this process.
        // SAFETY: no pointers.
        unsafe { libc::alarm(PATIENCE_SECONDS) };
    }
    let files_before = own_files();
    let scene = RefCell::new((recipe.build)());
    board.is_costly.store(scene.borrow().is_costly(), Relaxed);
    let (before, words_before) = (scene.borrow().words(), Words::now());
    let prepare = || scene.borrow_mut().prepare();
    let Some(tracee) = Tracee::start(prepare, || scene.borrow_mut().act()) else { return NOT_PERMITTED };
    let (state, steps) =
        if moment.how == End::Finished { learn(&tracee, board) } else { tracee.go(moment.leg) };
    let words_then = Words::now();
    let begin = Instant::now();
    let check = |end| {
        let verdict = catch_unwind(AssertUnwindSafe(|| scene.borrow_mut().check(end)));
        verdict.unwrap_or_else(|panic| Err(format!("the script panicked: {}", text_of(&*panic))))
    };
    let (end, verdict) = match state {
        State::Over => {
            tracee.kill();
            (End::Finished, check(End::Finished))
        }
        State::Inside(_) if moment.how == End::Finished => {
            (End::Finished, Err("it does not end".to_string()))
        }
        State::Inside(_) if moment.how == End::Killed => {
            tracee.kill();
            (End::Killed, check(End::Killed))
        }
        State::Inside(_) => {
            tracee.stop();
            let meanwhile = check(End::Stopped);
            let after = match tracee.go_on() {
                0 => Ok(()),
                status => Err(format!("continued, it ended with status {status:#x}")),
            };
            (End::Stopped, meanwhile.and(after).and_then(|()| check(End::Finished)))
        }
        State::Broken(status) => (End::Killed, Err(format!("the operation broke: status {status:#x}"))),
    };
    board.slowest_nanos.fetch_max(begin.elapsed().as_nanos() as u64, Relaxed);
    let (after, words_after) = (scene.borrow().words(), Words::now());
    drop(scene);
    if let Err(fault) = verdict.and_then(|()| nothing_left(&files_before)) {
        let at = match state {
            State::Inside(counter) => place_of(counter),
            other => format!("{other:?}"),
        };
        let window = route.map(|route| route.window(steps)).unwrap_or_default();
        let changes = words_before.changes(&words_then, &words_after);
        println!(
            "FAILED {} {end:?} at instruction {steps}: {fault}\n  next instruction: {at}\n{window}\n  before: {before}\n  \
             after:  {after}\n{changes}",
            recipe.name
        );
        let _ = std::io::stdout().flush();
        return FAILED;
    }
    if state == State::Over {
        OVER
    } else {
        WELL
    }
}

/// The first run: step by step to the end.
fn learn(tracee: &Tracee, board: &Board) -> (State, usize) {
    let mut state = tracee.begin();
    let mut words = Words::now();
    board.len.store(0, Relaxed);
    for (k, address) in board.addresses.iter().enumerate() {
        let State::Inside(counter) = state else { return (state, k) };
        address.store(counter, Relaxed);
        board.len.store(k as u64 + 1, Relaxed);
        state = tracee.step();
        if words.have_changed() {
            address.store(counter | CHANGES, Relaxed);
        }
    }
    (state, STEPS_MAX)
}

/// No process is left, and no file in the shared-memory directory beside those that an earlier process of the same number
/// left there.
fn nothing_left(before: &[String]) -> Result<(), String> {
    let processes = children();
    let files: Vec<String> = own_files().into_iter().filter(|name| !before.contains(name)).collect();
    for name in &files {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}"));
    }
    let is_well = processes.is_empty() && files.is_empty();
    is_well.then_some(()).ok_or(format!("left behind: processes {processes:?}, files {files:?}"))
}

/// Files of segments whose names contain this process's id.
fn own_files() -> Vec<String> {
    let own = std::process::id().to_string();
    let names = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("pagemate.") && name.split('-').any(|part| part == own)).collect()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}
