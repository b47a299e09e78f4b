//! Chooses the moments of each scene and runs them. Several scenes run at once; the moments of a
//! scene begin when its first run has ended.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::errors::CALLS;
use super::harness::{self, Board, How, Moment, Recipe, PATIENCE_SECONDS, STEPS_MAX};
use super::helper::shared;
use super::refusal::{Note, Report};
use super::trace::{Leg, Route};

/// The number of kills of a scene in a brief run, and of stops at other moments.
const BRIEF: usize = 6;
/// A brief run tries a part of the moments of an operation of more instructions than this.
const LONG: usize = 60_000;
const PART_OF_LONG: usize = 3;
/// All other runs try every instruction that is this close to a visible one. Nothing visible
/// changes elsewhere, and what the operation reads of it decides what it changes next.
const NEAR: usize = 2;
/// Limit for instructions whose address the operation reaches for the first or second time, besides
/// those that are near.
const FIRST_MAX: usize = 120;
/// Limit for instructions at addresses that it has reached twice before: they belong to a loop,
/// such as a spin.
const AGAIN_MAX: usize = 24;
/// The divisor of the limits for scenes with costly moments.
const COSTLY: usize = 6;
/// `EVERY` of the full run.
const FULL: usize = 11;
/// How close, in a run with fewer moments than the full one, and in scenes with costly moments:
/// before the visible instruction and after it.
const NEAR_AT_LEAST: usize = 1;
/// A scene stops after this number of failures.
const FAILURES_MAX: usize = 5;

/// How often a call is refused at the same instruction, with each error.
const REFUSALS_MAX: usize = 3;

/// The choice of moments of a run.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Brief,
    /// One moment in this number, and all that are near.
    Every(usize),
    /// Each system call with each of its errors.
    Errors,
}

impl Plan {
    fn from_environment() -> Plan {
        match number("EVERY") {
            _ if std::env::var_os("ERRORS").is_some() => Plan::Errors,
            Some(every) => Plan::Every(every.max(1)),
            None => Plan::Brief,
        }
    }
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

#[derive(Default)]
struct Tally {
    instructions: usize,
    kills: usize,
    stops: usize,
    failures: usize,
    slowest: Duration,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.instructions += other.instructions;
        self.kills += other.kills;
        self.stops += other.stops;
        self.failures += other.failures;
        self.slowest = self.slowest.max(other.slowest);
    }

    fn print(&self, name: &str) {
        let Tally { instructions, kills, stops, failures, slowest } = self;
        let slowest = format!("{slowest:.1?}");
        println!("{name:<48}{instructions:>12}{kills:>8}{stops:>8}{failures:>10}{slowest:>12}");
    }
}

/// A process that tries a moment.
struct Running {
    name: &'static str,
    moment: Moment,
    note: &'static Note,
}

/// A scene that is being tried.
struct Active<'a> {
    recipe: &'a Recipe,
    board: &'static Board,
    /// `None` until the first run has learned it.
    route: Option<Route>,
    /// The moments still to be tried, the next one last.
    moments: Vec<Moment>,
    running: usize,
    tally: Tally,
}

impl<'a> Active<'a> {
    /// Starts a scene. Its first run goes to the end and finds its length, its atomics and its
    /// system calls.
    fn new(recipe: &'a Recipe, board: &'static Board) -> Active<'a> {
        board.slowest_nanos.store(0, Relaxed);
        let whole = Moment { k: STEPS_MAX, how: How::Learn, leg: Leg::steps(STEPS_MAX), by_steps: true };
        Active { recipe, board, route: None, moments: vec![whole], running: 0, tally: Tally::default() }
    }

    /// Starts the process of the scene's next moment, if there is one.
    fn start(&mut self, notes: &mut Vec<&'static Note>) -> Option<(libc::pid_t, Running)> {
        if self.tally.failures >= FAILURES_MAX {
            self.moments.clear();
        }
        let moment = self.moments.pop()?;
        self.running += 1;
        let note = notes.pop().unwrap_or_else(shared);
        note.clear();
        let pid = harness::start(self.recipe, moment, self.route.as_ref(), self.board, note);
        Some((pid, Running { name: self.recipe.name, moment, note }))
    }

    /// Counts a moment that has ended with `code`.
    fn end(&mut self, moment: Moment, code: i32, plan: Plan) {
        self.running -= 1;
        let Some(route) = &self.route else {
            let route = self.board.route();
            self.tally.instructions = route.len();
            self.tally.failures += usize::from(code != harness::OVER);
            let is_costly = self.board.is_costly.load(Relaxed);
            self.moments = match plan {
                Plan::Brief => brief(&route, is_costly),
                Plan::Every(every) => many(&route, every, is_costly),
                Plan::Errors => refusals(&route, &self.board.calls()),
            };
            self.route = Some(route);
            return;
        };
        match code {
            harness::WELL if moment.how == How::Stop => self.tally.stops += 1,
            harness::WELL => self.tally.kills += 1,
            harness::RETURNED_ERROR => self.tally.stops += 1,
            // The child took another route this time, which is shorter or passes the breakpoint by.
            // Some routes depend on the clock.
            harness::OVER if !moment.by_steps && moment.k < route.len() => {
                self.moments.push(Moment { by_steps: true, leg: Leg::steps(moment.k), ..moment });
            }
            harness::OVER => {}
            harness::STUCK => {
                self.tally.failures += 1;
                println!(
                    "FAILED {} {} at instruction {}: stuck for \
                     {PATIENCE_SECONDS} s, or ended by a signal\n{}",
                    self.recipe.name,
                    moment.how,
                    moment.k,
                    route.window(moment.k)
                );
            }
            _ => self.tally.failures += 1,
        }
        self.tally.slowest = Duration::from_nanos(self.board.slowest_nanos.load(Relaxed));
    }

    fn is_over(&self) -> bool {
        self.running == 0 && self.moments.is_empty()
    }
}

/// Runs all scenes, prints the table and ends the process.
pub fn run(recipes: Vec<Recipe>) {
    let plan = Plan::from_environment();
    // Scripts often sleep, so there are more processes than processors.
    let jobs = number("JOBS").unwrap_or(4 * std::thread::available_parallelism().map_or(1, usize::from));
    // A process whose spins failed spins briefly, and so do those that it forks. That leaves fewer
    // instructions to step through.
    let never = pagemate::Event::new().unwrap();
    (0..6).for_each(|_| assert!(!never.wait_timeout(Duration::from_millis(50))));
    drop(never);
    let (first, second) =
        if matches!(plan, Plan::Errors) { ("went on", "errors") } else { ("kills", "stops") };
    println!("{:<48}{:>12}{first:>8}{second:>8}{:>10}{:>12}", "scene", "instructions", "failures", "slowest");
    let begin = Instant::now();
    let mut all = Tally::default();
    // The boards of scenes that are over, for the next ones.
    let mut boards: Vec<&'static Board> = Vec::new();
    let mut waiting = recipes.iter();
    let mut active: Vec<Active> = Vec::new();
    let mut running: HashMap<libc::pid_t, Running> = HashMap::new();
    let mut notes = Vec::new();
    let mut report = Report::default();
    loop {
        while running.len() < jobs {
            if let Some((pid, one)) = active.iter_mut().find_map(|scene| scene.start(&mut notes)) {
                running.insert(pid, one);
            } else if let Some(recipe) = waiting.next() {
                active.push(Active::new(recipe, boards.pop().unwrap_or_else(shared)));
            } else {
                break;
            }
        }
        if running.is_empty() {
            break;
        }
        let (pid, code) = harness::end_of(-1);
        let Some(Running { name, moment, note }) = running.remove(&pid) else { continue };
        if code == harness::NOT_PERMITTED {
            println!("SKIPPED LOUDLY: ptrace is not permitted here; nothing was tried");
            std::process::exit(if std::env::var_os("PTRACE_MAY_BE_MISSING").is_some() { 0 } else { 1 });
        }
        let Some(at) = active.iter().position(|scene| scene.recipe.name == name) else { continue };
        if let How::Refuse(error) = moment.how {
            let calls = active[at].board.calls();
            let call = calls.iter().find(|(k, _)| *k == moment.k).map(|(_, call)| *call);
            if let Some(call) = call.filter(|_| code != harness::OVER) {
                report.add(call, error, note);
            }
        }
        notes.push(note);
        active[at].end(moment, code, plan);
        if active[at].is_over() {
            let scene = active.remove(at);
            scene.tally.print(name);
            all.add(&scene.tally);
            boards.push(scene.board);
        }
    }
    all.print("all");
    if matches!(plan, Plan::Errors) {
        report.print();
    }
    println!("{} scenes in {:.1?}", recipes.len(), begin.elapsed());
    // For tools that read test output by its last line.
    let verdict = if all.failures == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {} passed; {} failed", recipes.len(), all.failures);
    std::process::exit(i32::from(all.failures > 0));
}

/// Returns the moment at instruction `k`.
fn moment(route: &Route, k: usize, how: How) -> Moment {
    Moment { k, how, leg: route.to(k), by_steps: false }
}

/// Returns each system call with each of its errors, the first one last. In a loop each is refused
/// [`REFUSALS_MAX`] times at most.
fn refusals(route: &Route, calls: &[(usize, usize)]) -> Vec<Moment> {
    let mut made: HashMap<(u64, usize), usize> = HashMap::new();
    let mut moments = Vec::new();
    for &(k, call) in calls {
        let count = made.entry((route.address(k), call)).or_default();
        *count += 1;
        if *count <= REFUSALS_MAX {
            let errors = CALLS[call].errors.iter();
            moments.extend(errors.map(|error| moment(route, k, How::Refuse(*error))));
        }
    }
    moments.reverse();
    moments
}

/// Returns the moments near to visible instructions and a part of the rest, the first one last.
fn many(route: &Route, every: usize, is_costly: bool) -> Vec<Moment> {
    let part = if is_costly { COSTLY } else { 1 };
    let near = if is_costly || every > FULL { NEAR_AT_LEAST } else { NEAR };
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
    let tried = (0..=route.len()).rev().filter(|k| is_tried[*k]);
    let hows: &[How] = if is_costly { &[How::Kill] } else { &[How::Stop, How::Kill] };
    tried.flat_map(|k| hows.iter().map(move |how| moment(route, k, *how))).collect()
}

/// Returns [`BRIEF`] kills, and stops between them, each directly after a visible instruction,
/// spread over the operation. Passes through a loop beyond the second are left out. So is the end,
/// because nothing is left there to be cut off.
fn brief(route: &Route, is_costly: bool) -> Vec<Moment> {
    let count = match is_costly {
        true => BRIEF / COSTLY,
        false if route.len() > LONG => BRIEF / PART_OF_LONG,
        false => BRIEF,
    };
    let behind = route.visible().filter(|k| route.passes(*k) <= 2).map(|k| k + 1);
    let windows: Vec<usize> = [0].into_iter().chain(behind).filter(|k| *k < route.len()).collect();
    if windows.is_empty() {
        return Vec::new();
    }
    let spread = |from: usize, how| {
        let at = |nth: usize| (2 * nth + from) * windows.len() / (2 * count);
        let mut chosen: Vec<usize> = (0..count).map(|nth| windows[at(nth)]).collect();
        chosen.dedup();
        chosen.into_iter().map(|k| moment(route, k, how)).collect::<Vec<_>>()
    };
    let stops = if is_costly { Vec::new() } else { spread(1, How::Stop) };
    [stops, spread(0, How::Kill)].concat()
}
