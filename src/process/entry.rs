//! Where a child comes in: `init` finds out that this process is one, runs its function, and ends.

use std::any::Any;
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe, PanicHookInfo};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::process::argument::Argument;
use crate::process::envelope::{Answer, Arguments, Envelope, Letter, Opened, VARIABLE};
use crate::process::family::{set_origin, Origin};
use crate::process::handle::PANICKED;
use crate::process::packer::Packer;
use crate::sys::barrier;
use crate::sys::clock::Deadline;
use crate::sys::image::Image;
use crate::sys::process::{background, end_self, ignore_sigpipe, is_privileged, set_title, wait_for_end};
use crate::{Error, ErrorKind, Result};

/// Exit code of a child that could not begin, or could not give its result.
const FAILED: i32 = 1;

/// Whether this process, a child, has said what came of its function. Who writes an answer holds the lock meanwhile.
static ANSWERED: Mutex<bool> = Mutex::new(false);

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Whether a child of this program would find its way to its function.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(Relaxed)
}

/// Makes this program one that can start processes. The first line of `main`.
///
/// [`Process::spawn`](crate::Process::spawn) starts the program again. In the child this call runs the function that was
/// spawned and ends the process: it does not return. So what stands before it happens in every child too. In the program
/// that people start it returns at once. Calling it again does nothing.
///
/// In a test program `main` belongs to the test harness: use [`init_tests!`](crate::init_tests) there.
///
/// ```
/// fn main() -> pagemate::Result<()> {
///     pagemate::init();
///     // all else
///     Ok(())
/// }
/// ```
///
/// The environment variable `PAGEMATE_CHILD` tells a child that it is one; it is removed here, so that what the child
/// starts in other ways does not see it. If it names something that no parent has put there, the program ends with a
/// message: to go on might mean to start itself without end. A program that runs with more rights than its caller
/// (setuid, file capabilities) ignores the variable and cannot spawn.
pub fn init() {
    // The first segment would do it. But once there are several threads, and a daemon has a second one before it has its handles,
    // the kernel lets who registers wait for a grace period of RCU: ten milliseconds (sync_runqueues_membarrier_state in
    // kernel/sched/membarrier.c).
    barrier::register();
    // A setuid program must not be told by its caller which code to run.
    if !is_privileged() {
        if let Some(address) = std::env::var_os(VARIABLE) {
            std::env::remove_var(VARIABLE);
            match Envelope::open(&address.to_string_lossy()) {
                Ok(opened) => run(opened),
                Err(error) => {
                    eprintln!("pagemate: {error}");
                    exit(FAILED);
                }
            }
        }
    }
    INITIALISED.store(true, Relaxed);
}

/// Makes a test program one that can start processes: at the top level of a test file, once in a program.
///
/// The harness that runs tests has the `main` where [`init`](crate::init) would stand. This runs it before that `main`:
/// a child never comes as far as the harness. For integration tests, unit tests (once in the crate, under `cfg(test)`)
/// and benches; wherever `main` is your own, `init` in it is better, because all other things that happen before `main`
/// have happened by then.
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

            // The C runtime calls what stands in this section after all shared libraries are ready, and before main.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static BEFORE_MAIN: extern "C" fn() = before_main;
        };
    };
}

/// What runs in the child: takes the arguments, calls the function, packs its result. One for each function.
pub(crate) type Entry = fn(Arguments) -> Result<Packer>;

/// The entry of the function whose type is `F`.
pub(crate) fn entry<F, A, R>(arguments: Arguments) -> Result<Packer>
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: Argument,
    R: Argument,
{
    const { assert!(size_of::<F>() == 0) };
    let given: A = arguments.unpack()?;
    // SAFETY: F has no bytes, so any aligned pointer will do; it is Copy, and the parent had one of it.
    let function: F = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    let mut packer = Packer::for_parent();
    function(given).pack(&mut packer)?;
    Ok(packer)
}

/// A function of this crate whose offset differs in another program.
pub(crate) fn mark() -> usize {
    init as fn() as usize
}

/// Runs the function, answers, and ends this process.
fn run(opened: Opened) -> ! {
    let Opened { envelope, letter, parent, arguments } = opened;
    // The panic hook may use it until the last moment.
    let envelope: &'static Envelope = Box::leak(Box::new(envelope));
    let process = std::process::id();
    let outcome = match begin(letter, parent) {
        Err(error) => Ok(Err(error)),
        Ok(function) => {
            record_panics(envelope, process);
            INITIALISED.store(true, Relaxed);
            catch_unwind(AssertUnwindSafe(|| function(arguments)))
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
    exit(answer(envelope, code, kind, &bytes))
}

/// Answers, once and for all: threads that still panic leave no message any more. Gives the exit code.
fn answer(envelope: &Envelope, code: i32, kind: Answer, bytes: &[u8]) -> i32 {
    let mut answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    *answered = true;
    let Err(error) = envelope.answer(kind, bytes) else { return code };
    // A short text may find room where the result did not.
    let text = format!("its result could not be sent: {error}");
    if envelope.answer(Answer::Failure, text.as_bytes()).is_err() {
        eprintln!("pagemate: {text}");
    }
    FAILED
}

/// Makes this process the child that the letter speaks of, and finds its function.
fn begin(letter: Letter, parent: OwnedFd) -> Result<Entry> {
    let image = Image::of_this_program();
    let wrong = || {
        Error::new(
            ErrorKind::VersionMismatch,
            "it was started as another program than its parent: /proc/self/exe does not lead to the parent's executable (is an \
             emulator or a loader in between?)",
        )
    };
    if image.offset_of(mark()) != Some(letter.mark) {
        return Err(wrong());
    }
    let address = image.address_of(letter.entry).ok_or_else(wrong)?;
    // SAFETY: parent and child are the same program (the mark is at the same offset), and there the address of an `entry`
    // has this offset: the parent has computed it from one.
    let function = unsafe { std::mem::transmute::<usize, Entry>(address) };

    ignore_sigpipe();
    match std::env::current_exe() {
        Ok(path) if !letter.named => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            set_title(file.trim_end_matches(" (deleted)"));
        }
        _ => set_title(&letter.name),
    }
    let parent = Arc::new(parent);
    if letter.daemon {
        let parent = parent.clone();
        background("pagemate-daemon", move || end_with(&parent)).map_err(|cause| {
            Error::system("cannot start the thread that ends a daemon with its parent", cause)
        })?;
    }
    set_origin(Origin {
        pid: std::process::id(),
        name: letter.name,
        daemon: letter.daemon,
        parent_name: letter.parent_name,
        parent_pid: letter.parent_pid,
        parent,
    });
    Ok(function)
}

/// Ends this process, and at once, when the parent has ended.
fn end_with(parent: &OwnedFd) {
    loop {
        match wait_for_end(parent.as_fd(), Deadline::Never) {
            Ok(true) => end_self(),
            // No memory for the system call: it will not last.
            Ok(false) | Err(_) => std::thread::yield_now(),
        }
    }
}

thread_local! {
    /// The last panic of this thread, with its place.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on every panic leaves its message, also one that aborts, until the answer is given. The one that ends the function
/// is written once more.
fn record_panics(envelope: &'static Envelope, process: u32) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if std::process::id() == process {
            let mut text = payload_text(info.payload()).to_owned();
            if let Some(place) = info.location() {
                text = format!("{text} ({place})");
            }
            let answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
            if !*answered {
                let _ = envelope.answer(Answer::Panic, text.as_bytes());
            }
            drop(answered);
            let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = text));
        }
        before(info);
    }));
}

/// The message of the panic that came out of the function, and its place if the hook has seen it.
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
        .unwrap_or("with a value that is no text")
}
