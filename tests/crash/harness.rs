//! Runs each moment in a process of its own, the survivor. It builds the scene, runs the child up
//! to its instruction, and kills or stops it there. So a moment inherits nothing from earlier ones,
//! several moments run at once, and one that is stuck is detected and ended.

use std::cell::RefCell;
use std::io::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::errors;
use super::helper::{children, Atomics};
use super::instruction::may_store;
use super::refusal::{self, Note};
use super::trace::{die_with_parent, place_of, Leg, Route, State, Tracee};
use super::words::Words;

/// The end of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Killed inside of the operation.
    Killed,
    /// Stopped inside of the operation. It is continued later.
    Stopped,
    /// It finished the operation and ended.
    Finished,
}

/// An operation, its preparation, and a script that checks what must be true after it.
pub trait Scene {
    /// Runs in the child before the operation: everything that does not count as a step.
    fn prepare(&mut self) {}
    /// Runs the operation, in the child.
    fn act(&mut self);
    /// Runs in the parent: a script of further operations against an exact expectation. It is
    /// called once after `Killed` or `Finished`. After `Stopped` it is called again, with
    /// `Finished`, when the child was continued and has ended.
    fn check(&mut self, end: End) -> Result<(), String>;
    /// Returns the words of the object, for a report.
    fn words(&self) -> String;
    /// Returns whether the operation starts programs. Then a moment takes long. So only a few are
    /// tried besides those next to a visible change, unless all are wanted. Such a child is not
    /// stopped either. The C library starts a program with all signals blocked, and a step with
    /// SIGTRAP blocked removes the handler that the end marker of a continued child needs.
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

/// No operation takes this number of steps, unless it spins for ever.
pub const STEPS_MAX: usize = 1 << 20;
/// A moment that takes longer is stuck.
pub const PATIENCE_SECONDS: u32 = 60;

/// The exit code of a process that tried a moment, if all was well.
pub const WELL: i32 = 0;
/// The script found a fault.
pub const FAILED: i32 = 1;
/// The operation was over before the instruction.
pub const OVER: i32 = 2;
/// The operation returned an error.
pub const RETURNED_ERROR: i32 = 4;
/// The process was ended by a signal.
pub const STUCK: i32 = 3;
/// The system does not let a process trace its child.
pub const NOT_PERMITTED: i32 = 77;

/// The shared memory in which the processes of a moment report to the one that starts them.
pub struct Board {
    /// The addresses of the instructions of the first run, with [`CHANGES`] set where one changed a
    /// word that others can see. The next field is their number.
    addresses: [AtomicU64; STEPS_MAX],
    len: AtomicU64,
    /// Whether the scene's moments are costly.
    pub is_costly: AtomicBool,
    /// The slowest script of the scene.
    pub slowest_nanos: AtomicU64,
    /// The number of descriptors and mappings that the operation keeps when no call fails, as
    /// packed by [`Note::kept`].
    kept: AtomicU64,
}

/// A bit that no address of a program has.
const CHANGES: u64 = 1 << 63;
/// The bits above an address hold one more than the index in [`errors::CALLS`] of the system call
/// that is made there.
const CALL_SHIFT: u32 = 48;
const ADDRESS: u64 = (1 << CALL_SHIFT) - 1;

// SAFETY: atomics only.
unsafe impl Atomics for Board {}

impl Board {
    /// Returns the route that the first run took.
    pub fn route(&self) -> Route {
        let len = self.len.load(Relaxed) as usize;
        let seen: Vec<u64> = self.addresses[..len].iter().map(|address| address.load(Relaxed)).collect();
        let changes = (0..len).filter(|k| seen[*k] & CHANGES != 0).collect();
        Route::new(seen.iter().map(|address| address & ADDRESS).collect(), changes)
    }

    /// Returns the system calls of the first run that can fail: the instruction, and the index in
    /// [`errors::CALLS`].
    pub fn calls(&self) -> Vec<(usize, usize)> {
        let len = self.len.load(Relaxed) as usize;
        let call = |word: u64| ((word & !CHANGES) >> CALL_SHIFT).checked_sub(1);
        let calls = self.addresses[..len].iter().map(|word| call(word.load(Relaxed))).enumerate();
        calls.filter_map(|(k, call)| Some((k, call? as usize))).collect()
    }
}

/// The treatment of the child at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing: the first run steps through the whole operation.
    Learn,
    Kill,
    Stop,
    /// The system call there fails with this error, once.
    Refuse(i32),
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::Learn => f.write_str("Finished"),
            How::Kill => f.write_str("Killed"),
            How::Stop => f.write_str("Stopped"),
            How::Refuse(error) => write!(f, "refused {}", errors::name_of(*error)),
        }
    }
}

/// A moment: the instruction, what happens there, and whether the child gets there by steps only.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub k: usize,
    pub how: How,
    pub leg: Leg,
    pub by_steps: bool,
}

/// The instruction that this process tries.
static INSTRUCTION: AtomicUsize = AtomicUsize::new(0);

/// Whether a system call fails in this moment. Then the operation may have been done twice, because
/// a late error does not undo what came before it.
static REFUSES: AtomicBool = AtomicBool::new(false);

/// Returns whether the operation may have been repeated after an error.
pub fn is_repeated() -> bool {
    REFUSES.load(Relaxed)
}

/// Returns whether this moment is one in `count`, for scripts that are too slow to be run at each
/// moment.
pub fn is_one_of(count: usize) -> bool {
    INSTRUCTION.load(Relaxed) % count == 0
}

/// Starts the process of a moment.
pub fn start(
    recipe: &Recipe,
    moment: Moment,
    route: Option<&Route>,
    board: &Board,
    note: &'static Note,
) -> libc::pid_t {
    let _ = std::io::stdout().flush();
    // SAFETY: this process has one thread, so the child is a whole copy.
    match unsafe { libc::fork() } {
        0 => {
            die_with_parent();
            let code = catch_unwind(AssertUnwindSafe(|| try_one(recipe, moment, route, board, note)));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code.unwrap_or(FAILED)) }
        }
        pid => pid,
    }
}

/// Waits for a child (-1: any). Returns its process id and its code.
pub fn end_of(pid: libc::pid_t) -> (libc::pid_t, i32) {
    let mut status = 0;
    // SAFETY: status is ours to write.
    let pid = unsafe { libc::waitpid(pid, &mut status, 0) };
    (pid, if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { STUCK })
}

/// Runs a whole moment, in its own process.
fn try_one(
    recipe: &Recipe,
    moment: Moment,
    route: Option<&Route>,
    board: &Board,
    note: &'static Note,
) -> i32 {
    INSTRUCTION.store(moment.k, Relaxed);
    // An orphan becomes a child of this process, which then finds it. SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    if moment.how != How::Learn {
        // The first run steps through the whole operation, so it has no limit. A child that is
        // stuck ends with this process. SAFETY: no pointers.
        unsafe { libc::alarm(PATIENCE_SECONDS) };
    }
    let files_before = own_files();
    let scene = RefCell::new((recipe.build)());
    board.is_costly.store(scene.borrow().is_costly(), Relaxed);
    let (before, words_before) = (scene.borrow().words(), Words::now());
    let is_refused = matches!(moment.how, How::Refuse(_));
    REFUSES.store(is_refused, Relaxed);
    let prepare = || scene.borrow_mut().prepare();
    let act = || {
        if is_refused {
            refusal::act(&scene, note);
        } else {
            scene.borrow_mut().act();
        }
    };
    let afterwards = || refusal::count(note);
    let Some(tracee) = Tracee::start(prepare, act, afterwards) else { return NOT_PERMITTED };
    let (state, steps) = match moment.how {
        How::Learn => tracee.on_one_processor(|| learn(&tracee, board)),
        _ => tracee.go(moment.leg),
    };
    let words_then = Words::now();
    let begin = Instant::now();
    let mut is_over = state == State::Over;
    let check = |end| {
        let verdict = catch_unwind(AssertUnwindSafe(|| scene.borrow_mut().check(end)));
        verdict.unwrap_or_else(|panic| Err(format!("the script panicked: {}", text_of(&*panic))))
    };
    let verdict = match (state, moment.how) {
        (State::Over, How::Learn) => {
            tracee.finish();
            board.kept.store(note.kept(), Relaxed);
            check(End::Finished)
        }
        (State::Over, _) => {
            tracee.kill();
            check(End::Finished)
        }
        (State::Inside(_), How::Learn) => Err("it does not end".to_string()),
        (State::Inside(_), How::Kill) => {
            tracee.kill();
            check(End::Killed)
        }
        (State::Inside(_), How::Refuse(error)) => {
            match tracee.refuse(error) {
                Some(call) => {
                    let outcome = refusal::outcome(tracee, note, board.kept.load(Relaxed), call);
                    // Whatever the operation has returned, it may be incomplete, as after a death.
                    outcome.and_then(|()| check(End::Killed))
                }
                // The child took another route this time. It is killed here instead.
                None => {
                    is_over = true;
                    tracee.kill();
                    check(End::Killed)
                }
            }
        }
        (State::Inside(_), How::Stop) => {
            tracee.stop();
            let meanwhile = check(End::Stopped);
            let after = match tracee.go_on() {
                0 => Ok(()),
                status => Err(format!("continued, it ended with status {status:#x}")),
            };
            meanwhile.and(after).and_then(|()| check(End::Finished))
        }
        (State::Broken(status), _) => Err(format!("the operation broke: status {status:#x}")),
    };
    board.slowest_nanos.fetch_max(begin.elapsed().as_nanos() as u64, Relaxed);
    let (after, words_after) = (scene.borrow().words(), Words::now());
    drop(scene);
    let left = nothing_left(&files_before);
    if let Err(fault) = verdict.and(left) {
        let at = match state {
            State::Inside(counter) => place_of(counter),
            other => format!("{other:?}"),
        };
        let window = route.map(|route| route.window(steps)).unwrap_or_default();
        let changes = words_before.changes(&words_then, &words_after);
        println!(
            "FAILED {} {} at instruction {steps}: {fault}\n  next instruction: {at}\n{window}\n  before: \
             {before}\n  after:  {after}\n{changes}",
            recipe.name, moment.how
        );
        let _ = std::io::stdout().flush();
        return FAILED;
    }
    if is_over {
        OVER
    } else if note.is_error() {
        RETURNED_ERROR
    } else {
        WELL
    }
}

/// Performs the first run: steps to the end of the operation, and notes each instruction.
fn learn(tracee: &Tracee, board: &Board) -> (State, usize) {
    let mut state = tracee.position();
    let mut words = Words::now();
    board.len.store(0, Relaxed);
    for (k, address) in board.addresses.iter().enumerate() {
        let State::Inside(counter) = state else { return (state, k) };
        let call = tracee.call(counter).map_or(0, |call| call as u64 + 1);
        let word = counter | call << CALL_SHIFT;
        address.store(word, Relaxed);
        board.len.store(k as u64 + 1, Relaxed);
        state = tracee.step(counter);
        if may_store(counter) && words.have_changed() {
            address.store(word | CHANGES, Relaxed);
        }
    }
    (state, STEPS_MAX)
}

/// Checks that no process is left, and no file in the shared-memory directory other than those that
/// an earlier process of the same number left. Removes and reports the rest.
fn nothing_left(before: &[String]) -> Result<(), String> {
    let processes = children();
    let files: Vec<String> = own_files().into_iter().filter(|name| !before.contains(name)).collect();
    for name in &files {
        let path = format!("/dev/shm/{name}");
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
    }
    let is_well = processes.is_empty() && files.is_empty();
    is_well.then_some(()).ok_or(format!("left behind: processes {processes:?}, files {files:?}"))
}

/// Returns the files of segments, and the scenes' own directories, whose names contain this
/// process's id.
fn own_files() -> Vec<String> {
    let own = std::process::id().to_string();
    let names = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_ours = |name: &str| ["pagemate.", "test-crash-"].iter().any(|start| name.starts_with(start));
    names.filter(|name| is_ours(name) && name.split('-').any(|part| part == own)).collect()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}
