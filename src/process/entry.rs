//! The entry of a child: `init` finds out that this process is one, runs its function, and ends.

use std::any::Any;
use std::cell::RefCell;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::panic::{catch_unwind, AssertUnwindSafe, PanicHookInfo};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::process::argument::Argument;
use crate::process::codec::Packer;
use crate::process::current::{set_origin, Origin};
use crate::process::handle::PANICKED;
use crate::process::handshake::{Answer, Arguments, Opened, SpawnMemfd, SpawnRequest, VARIABLE};
use crate::sys::clock::Deadline;
use crate::sys::descriptor::Own;
use crate::sys::exe_image::Image;
use crate::sys::process::{
    background, end_self, ignore_sigpipe, is_pidfd, is_privileged, set_title, wait_for_end,
};
use crate::{Error, ErrorKind, Result};

/// How often a daemon that waits for its parent checks that the pidfd is still in place.
const WATCH: Duration = Duration::from_secs(1);
/// How often a daemon that cannot wait for its parent checks whether it is an orphan.
const ORPHAN_CHECK: Duration = Duration::from_millis(50);
/// Exit code of a child that could not begin, or could not return its result.
const FAILED: i32 = 1;

/// Whether this child has written its final answer. The lock is held while an answer is written.
static ANSWERED: Mutex<bool> = Mutex::new(false);

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Returns whether a child of this program would find its function.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(Relaxed)
}

/// Enables this program to start processes. Call it first in `main`.
///
/// [`Process::spawn`](crate::Process::spawn) starts the program again. In the child, `init` runs
/// the spawned function and ends the process: it does not return, and everything before it in
/// `main` runs in every child too. In any other process it returns at once. Calling it again does
/// nothing.
///
/// In a test program `main` belongs to the test harness: use [`init_tests!`](crate::init_tests)
/// there.
///
/// ```
/// fn main() -> pagemate::Result<()> {
///     pagemate::init();
///     // all else
///     Ok(())
/// }
/// ```
///
/// The environment variable `PAGEMATE_CHILD` tells a child that it is one. Before `main`, a
/// constructor of this library removes the variable and makes the inherited descriptors
/// close-on-exec, so programs that the child starts in other ways do not see them. (Code that runs
/// even earlier, as that of a preloaded library, must not start programs or replace this one.)
///
/// If the variable names something that no parent has put there, the program ends with a message,
/// because going on might mean to start itself without end. A program that runs with more rights
/// than its caller (setuid, file capabilities) ignores the variable and cannot spawn.
pub fn init() {
    take_memfd();
    let received = RECEIVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    match received {
        Some(Ok(opened)) => run(opened),
        Some(Err(error)) => {
            report(&error);
            exit(FAILED);
        }
        None => {}
    }
    INITIALISED.store(true, Relaxed);
}

/// The request of the parent, from the constructor below until [`init`].
static RECEIVED: Mutex<Option<Result<Opened>>> = Mutex::new(None);

/// Takes over what the parent has left for this process, if it is a child. After this the variable
/// is gone, the descriptors are close-on-exec, and mappings hold the participant ids. So programs
/// that are started before [`init`], and copies of this process, neither keep it alive nor take its
/// place.
fn take_memfd() {
    // The caller must not tell a setuid program which code to run.
    if is_privileged() {
        return;
    }
    if let Some(address) = std::env::var_os(VARIABLE) {
        // SAFETY: the program has one thread, because the constructor below calls this before
        // `main`. When `init` calls it later, the variable is gone.
        unsafe { std::env::remove_var(VARIABLE) };
        let opened = SpawnMemfd::open(&address.to_string_lossy());
        *RECEIVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }
}

extern "C" fn before_all() {
    take_memfd();
}

/// The C runtime calls the functions in these sections before `main`, in the order of the numbers.
#[used]
#[unsafe(link_section = ".init_array.00098")]
static BEFORE_ALL: extern "C" fn() = before_all;

/// Enables a test program to start processes: at the top level of a test file, once in a program.
///
/// In a test program the harness has its `main` where [`init`](crate::init) would be called. This
/// macro runs `init` before that `main`, so a child never reaches the harness. Use it in
/// integration tests, unit tests (once in the crate, under `cfg(test)`) and benches. Where `main`
/// is your own, call `init` in it, because everything else that happens before `main` has happened
/// by then.
///
/// With a C library other than glibc (musl), the standard library learns the command line in
/// `main`: in a child, functions find `std::env::args` empty. Their own children get the command
/// line all the same.
///
/// ```no_run
/// pagemate::init_tests!();
///
/// #[test]
/// fn two_and_two() {
///     let child = pagemate::Process::spawn(|(a, b): (u32, u32)| a + b, (2, 2)).unwrap();
///     assert_eq!(child.join().unwrap(), 4);
/// }
/// ```
#[macro_export]
macro_rules! init_tests {
    () => {
        const _: () = {
            extern "C" fn before_main() {
                $crate::init();
            }

            // The C runtime calls the functions in this section after all shared libraries are
            // ready, and before main.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static BEFORE_MAIN: extern "C" fn() = before_main;
        };
    };
}

/// Runs in the child: unpacks the arguments, calls the function at this address, packs its result.
/// There is one for each type of functions.
pub(crate) type Entry = unsafe fn(usize, Arguments) -> Result<Packer>;

/// Runs a function from `A` to `R` in the child: see [`Entry`].
///
/// # Safety
///
/// `address` is that of a `fn(A) -> R`.
pub(crate) unsafe fn entry<A: Argument, R: Argument>(address: usize, arguments: Arguments) -> Result<Packer> {
    let argument: A = arguments.unpack()?;
    // SAFETY: promised by the caller.
    let function = unsafe { std::mem::transmute::<usize, fn(A) -> R>(address) };
    let mut packer = Packer::for_parent();
    function(argument).pack(&mut packer)?;
    Ok(packer)
}

/// Returns a function of this crate whose offset differs in another program.
pub(crate) fn mark() -> usize {
    init as fn() as usize
}

/// Runs the function, answers, and ends this process.
fn run(opened: Opened) -> ! {
    let Opened { memfd, request, parent, arguments } = opened;
    // Leaked, because the panic hook may use it until the last moment.
    let memfd: &'static SpawnMemfd = Box::leak(Box::new(memfd));
    let process = std::process::id();
    let outcome = match begin(request, parent) {
        Err(error) => Ok(Err(error)),
        Ok((entry, function)) => {
            record_panics(memfd, process);
            INITIALISED.store(true, Relaxed);
            // SAFETY: the parent has computed both offsets in one call of `spawn`, from a function
            // and the entry of its type.
            catch_unwind(AssertUnwindSafe(|| unsafe { entry(function, arguments) }))
        }
    };
    if std::process::id() != process {
        // A fork of the child has returned from the function. Parent and answer are not its own.
        exit(0);
    }
    let (code, kind, bytes) = match outcome {
        Ok(Ok(result)) => (0, Answer::Value, result.finish().bytes),
        Ok(Err(error)) => (FAILED, Answer::Failure, error.to_string().into_bytes()),
        Err(payload) => (PANICKED, Answer::Panic, panic_text(&*payload).into_bytes()),
    };
    // A payload may panic when it is dropped; `exit` drops nothing.
    exit(answer(memfd, code, kind, &bytes))
}

/// Writes to standard error if possible. `eprintln!` would panic if not, and the exit code reports
/// the failure as well.
fn report(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "pagemate: {text}");
}

/// Writes the final answer, and returns the exit code. Threads that panic later leave no message.
fn answer(memfd: &SpawnMemfd, code: i32, kind: Answer, bytes: &[u8]) -> i32 {
    let mut answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    *answered = true;
    let Err(error) = memfd.answer(kind, bytes) else { return code };
    // A short text may fit where the result did not.
    let text = format!("its result could not be sent: {error}");
    if memfd.answer(Answer::Failure, text.as_bytes()).is_err() {
        report(&text);
    }
    FAILED
}

/// Makes this process the child that the request describes, and finds its function's entry and
/// address.
fn begin(request: SpawnRequest, parent: OwnedFd) -> Result<(Entry, usize)> {
    let image = Image::of_this_program();
    let wrong = || {
        Error::new(
            ErrorKind::VersionMismatch,
            "it was started as another program than its parent: /proc/self/exe does not lead to the parent's \
             executable (is an emulator or a loader in between?)",
        )
    };
    if image.offset_of(mark()) != Some(request.mark) {
        return Err(wrong());
    }
    let address = image.address_of(request.entry).ok_or_else(wrong)?;
    let function = image.address_of(request.function).ok_or_else(wrong)?;
    // SAFETY: parent and child are the same program (the mark is at the same offset), and there the
    // address of an `entry` has this offset, because the parent has computed it from one.
    let entry = unsafe { std::mem::transmute::<usize, Entry>(address) };

    ignore_sigpipe();
    match std::env::current_exe() {
        Ok(path) if !request.named => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            set_title(file.trim_end_matches(" (deleted)"));
        }
        _ => set_title(&request.name),
    }
    let parent = Own::new(parent).map_err(|cause| Error::system("cannot watch the parent", cause))?;
    let parent = Arc::new(parent);
    if request.daemon {
        let (parent, pid) = (parent.clone(), parent_id());
        background("pagemate-daemon", move || end_with_parent(&parent, pid)).map_err(|cause| {
            Error::system("cannot start the thread that ends a daemon with its parent", cause)
        })?;
    }
    set_origin(Origin {
        pid: std::process::id(),
        name: request.name,
        daemon: request.daemon,
        parent_name: request.parent_name,
        parent_pid: request.parent_pid,
        parent,
    });
    Ok((entry, function))
}

/// Ends this process at once when the parent, whose pid is `pid` here, has ended.
fn end_with_parent(parent: &Own, pid: u32) {
    loop {
        // In slices, because a sleep in poll does not notice that this program puts another file
        // under the number.
        let ended = parent.get().map(|parent| wait_for_end(parent, Deadline::after(WATCH)));
        match (ended, parent.get()) {
            (Some(Ok(true)), Some(parent)) if is_pidfd(parent) => end_self(),
            // An orphan has another parent.
            _ if parent_id() != pid => end_self(),
            (Some(Ok(false)), _) => {}
            // No memory for the system call, or the descriptor is gone.
            _ => std::thread::sleep(ORPHAN_CHECK),
        }
    }
}

thread_local! {
    /// The last panic of this thread, with its location.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes every panic leave its message, also one that aborts, until the final answer is written.
/// The message of the panic that ends the function is written once more.
fn record_panics(memfd: &'static SpawnMemfd, process: u32) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if std::process::id() == process {
            let mut text = payload_text(info.payload()).to_owned();
            if let Some(place) = info.location() {
                text = format!("{text} ({place})");
            }
            let answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
            if !*answered {
                let _ = memfd.answer(Answer::Panic, text.as_bytes());
            }
            drop(answered);
            let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = text));
        }
        before(info);
    }));
}

/// Returns the message of the panic that ended the function, with its location if the hook has seen
/// it.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload_text(payload);
    let last = LAST.with(|last| last.take());
    if last.starts_with(text) {
        last
    } else {
        text.to_owned()
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is not text")
}
