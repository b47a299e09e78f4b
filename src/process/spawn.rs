//! Spawning: the program is started again, and told which of its functions to run.

use std::collections::hash_map::RandomState;
use std::ffi::CString;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use crate::process::argument::Argument;
use crate::process::entry::{entry, is_initialised, mark, Entry};
use crate::process::envelope::{Envelope, Letter, VARIABLE};
use crate::process::family::current_process;
use crate::process::handle::Process;
use crate::process::packer::Packer;
use crate::process::registry::{self, Child};
use crate::sys::image::Image;
use crate::sys::process::{ignores_children, is_privileged, own_pidfd, start};
use crate::{Error, ErrorKind, Result};

/// Says how a process is to be started: [`Process::builder`].
///
/// ```
/// # use pagemate::Process;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     pagemate::init();
/// let child = Process::builder().name("worker").daemon(true).spawn(|n: u32| n + 1, 1)?;
/// assert_eq!(child.join()?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "it starts nothing before `spawn`"]
pub struct ProcessBuilder {
    name: Option<String>,
    daemon: bool,
}

impl<R: Argument> Process<R> {
    /// Runs `function` with `arguments` in a new process of this program.
    ///
    /// `function` is a function or a closure that captures nothing (what has no bytes counts as nothing: the child has one of its
    /// own, so do not capture a token that promises something about this process's memory). It has one parameter: several values go as a tuple, none
    /// as `()`. The child has its own memory: it shares what the arguments share, and nothing else. Standard input is
    /// `/dev/null` there; standard output, standard error, environment and working directory are this process's, and so is
    /// the command line, since `main` runs up to [`init`](crate::init()).
    ///
    /// # Errors
    ///
    /// `NotInitialised`: `main` has not called [`init`](crate::init()). `InvalidInput`: the function is in a shared library.
    /// `Unsupported`: the program ignores SIGCHLD, so that the kernel forgets how its children end; it runs with more rights
    /// than its caller; or it was started through a loader, or without /proc. `OutOfMemory`, `System`. Arguments are gone after an error, too.
    pub fn spawn<F, A>(function: F, arguments: A) -> Result<Process<R>>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument,
    {
        Process::builder().spawn(function, arguments)
    }
}

impl Process {
    /// A process with a name, or one that ends with its parent.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }
}

impl ProcessBuilder {
    /// What error messages, [`current_process`](crate::current_process) and `ps` call it. `Process-N` unless said.
    pub fn name(mut self, name: impl Into<String>) -> ProcessBuilder {
        self.name = Some(name.into());
        self
    }

    /// A daemon ends with its parent, at once, and however the parent ends: as by SIGKILL, so without a chance to tidy up.
    /// It may have children of its own.
    ///
    /// What is no daemon goes on without its parent.
    pub fn daemon(mut self, daemon: bool) -> ProcessBuilder {
        self.daemon = daemon;
        self
    }

    /// Runs `function` with `arguments` in a new process; see [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`].
    pub fn spawn<F, A, R>(self, function: F, arguments: A) -> Result<Process<R>>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Argument,
        R: Argument,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "the function of a process must be a function item or a closure that captures nothing: what a closure \
                 captures is in this process's memory; give it as an argument"
            );
            assert!(
                !R::HAS_HANDLES,
                "the result of a process cannot hold handles: give them to it as arguments, or open them by name"
            );
        }
        // It has no bytes: its type says all, and the child makes one of its own.
        let _: F = function;
        check_program()?;
        let mut packer = Packer::for_child();
        let (entry, mark) = offsets(entry::<F, A, R>)?;
        arguments.pack(&mut packer)?;
        let me = current_process();
        let named = self.name.is_some();
        let name = self.name.unwrap_or_else(|| format!("Process-{}", registry::next_number()));
        let letter = Letter {
            entry,
            mark,
            daemon: self.daemon,
            name,
            named,
            parent_name: me.name().to_owned(),
            parent_pid: me.pid(),
        };
        let (child, envelope) = launch(letter, packer)?;
        Ok(Process::new(child, envelope))
    }
}

/// Whether this program can have children.
fn check_program() -> Result<()> {
    if !is_initialised() {
        return Err(Error::new(
            ErrorKind::NotInitialised,
            "this program cannot start processes yet: put `pagemate::init();` as the first line of `main`, or, in a test, \
             `pagemate::init_tests!();` at the top level of the test file",
        ));
    }
    if is_privileged() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a program with more rights than its caller (setuid, file capabilities) cannot start processes: what it tells \
             them goes through the environment, which the caller could forge",
        ));
    }
    if ignores_children() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this program ignores SIGCHLD, so the kernel forgets how its children end: set it to SIG_DFL before starting \
             processes (it may be inherited from whoever started this program)",
        ));
    }
    Ok(())
}

/// Where the child finds the function, and how it knows that it is the same program.
fn offsets(entry: Entry) -> Result<(u64, u64)> {
    // What was so once stays so; a failure may be a passing one.
    static STARTS_AGAIN: AtomicBool = AtomicBool::new(false);
    let image = Image::of_this_program();
    if !STARTS_AGAIN.load(Relaxed) && !image.is_of_proc_self_exe() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this program cannot be started again: /proc/self/exe does not lead to its executable (/proc is not mounted, or it was \
             started through a loader or an emulator)",
        ));
    }
    STARTS_AGAIN.store(true, Relaxed);
    image.offset_of(entry as usize).zip(image.offset_of(mark())).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "the function is in a shared library, which a child may load elsewhere: it must be in the main executable \
             (as must pagemate itself)",
        )
    })
}

fn launch(letter: Letter, packer: Packer) -> Result<(Arc<Child>, Envelope)> {
    let parcel = packer.finish();
    let parent = own_pidfd()?;
    let token = RandomState::new().build_hasher().finish();
    let envelope = Envelope::seal(&letter, parent.as_fd(), &parcel, token)?;
    let mut inherit = vec![envelope.file(), parent.as_fd()];
    inherit.extend(parcel.files.iter().map(AsFd::as_fd));
    let (pid, pidfd) = start(&arguments(), &environment(&envelope.address(token)), &inherit)?;
    let child = Arc::new(Child::new(pid, letter.name, letter.daemon, pidfd));
    registry::add(child.clone());
    Ok((child, envelope))
}

/// The command line of this process.
fn arguments() -> Vec<CString> {
    std::env::args_os().filter_map(|argument| CString::new(argument.into_vec()).ok()).collect()
}

/// The environment of this process, and the address of the envelope.
fn environment(address: &str) -> Vec<CString> {
    let own = std::env::vars_os().filter(|(name, _)| name != VARIABLE).map(|(name, value)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend_from_slice(value.as_bytes());
        line
    });
    let lines = own.chain([format!("{VARIABLE}={address}").into_bytes()]);
    lines.filter_map(|line| CString::new(line).ok()).collect()
}
