//! Spawning: starts the program again, and tells it which of its functions to run.

use std::collections::hash_map::RandomState;
use std::error::Error as _;
use std::ffi::CString;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use crate::process::argument::Argument;
use crate::process::children;
use crate::process::children::Child;
use crate::process::codec::Packer;
use crate::process::current::current_process;
use crate::process::entry::{entry, is_initialised, mark, Entry};
use crate::process::handle::Process;
use crate::process::handshake::{SpawnMemfd, SpawnRequest, VARIABLE};
use crate::sys::exe_image::Image;
use crate::sys::process::{ignores_children, is_privileged, own_pidfd, start};
use crate::{Error, ErrorKind, Result};

/// The configuration of a process to be started: [`Process::builder`].
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
    /// `function` is a function pointer: a function, or a closure that captures nothing. It has one
    /// parameter: several values go as a tuple, none as `()`. The child has its own memory, and
    /// shares only what the arguments share. Standard input is `/dev/null` in the child. Standard
    /// output, standard error, environment and working directory are this process's, and so is the
    /// command line, because `main` runs up to [`init`](crate::init()).
    ///
    /// A closure that captures anything, even a value without bytes, does not compile, because what
    /// it captured does not exist in the child.
    ///
    /// ```compile_fail,E0308
    /// # use pagemate::Process;
    /// #[derive(Clone, Copy)]
    /// struct Token;
    ///
    /// impl Token {
    ///     fn get(self) {}
    /// }
    ///
    /// let token = Token;
    /// Process::spawn(move |()| token.get(), ());
    /// ```
    ///
    /// # Errors
    ///
    /// - `NotInitialised`: `main` has not called [`init`](crate::init()).
    /// - `InvalidInput`: the function is in a shared library.
    /// - `Unsupported`: the program ignores SIGCHLD, so that the kernel forgets how its children
    ///   end; it runs with more rights than its caller; or it was started through a loader, or
    ///   without /proc.
    /// - `OutOfMemory`, `System`.
    ///
    /// The arguments are gone after an error, too.
    ///
    /// After the errors "cannot watch the child" and "the child ended at once" the function may
    /// have run, because the process had begun by then, and was killed.
    pub fn spawn<A>(function: fn(A) -> R, arguments: A) -> Result<Process<R>>
    where
        A: Argument,
    {
        Process::builder().spawn(function, arguments)
    }
}

impl Process {
    /// Returns a builder, for a process with a name, or one that ends with its parent.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }
}

impl ProcessBuilder {
    /// Sets the name for error messages, [`current_process`](crate::process::current_process) and
    /// `ps`. The default is `Process-N`.
    pub fn name(mut self, name: impl Into<String>) -> ProcessBuilder {
        self.name = Some(name.into());
        self
    }

    /// Sets whether the process is a daemon. A daemon ends with its parent, immediately, however
    /// the parent ends. It ends as by SIGKILL, so without a chance to tidy up. It may have children
    /// of its own. Any other process runs on without its parent.
    pub fn daemon(mut self, daemon: bool) -> ProcessBuilder {
        self.daemon = daemon;
        self
    }

    /// Runs `function` with `arguments` in a new process; see [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`].
    pub fn spawn<A, R>(self, function: fn(A) -> R, arguments: A) -> Result<Process<R>>
    where
        A: Argument,
        R: Argument,
    {
        const {
            assert!(
                !R::HAS_HANDLES,
                "the result of a process cannot hold handles: give them to it as \
                 arguments, or open them by name"
            );
        }
        check_program()?;
        let mut packer = Packer::for_child();
        let [entry, function, mark] = offsets([entry::<A, R> as Entry as usize, function as usize, mark()])?;
        arguments.pack(&mut packer)?;
        let me = current_process();
        let named = self.name.is_some();
        let name = self.name.unwrap_or_else(|| format!("Process-{}", children::next_number()));
        let request = SpawnRequest {
            entry,
            function,
            mark,
            daemon: self.daemon,
            name,
            named,
            parent_name: me.name().to_owned(),
            parent_pid: me.pid(),
        };
        let (child, memfd) = launch(request, packer)?;
        Ok(Process::new(child, memfd))
    }
}

/// Returns an error unless this program can have children.
fn check_program() -> Result<()> {
    if !is_initialised() {
        return Err(Error::new(
            ErrorKind::NotInitialised,
            "this program cannot start processes yet: put `pagemate::init();` as the first line of `main`, \
             or, in a test, `pagemate::init_tests!();` at the top level of the test file",
        ));
    }
    if is_privileged() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a program with more rights than its caller (setuid, file capabilities) cannot start processes: \
             what it tells them goes through the environment, which the caller could forge",
        ));
    }
    if ignores_children() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this program ignores SIGCHLD, so the kernel forgets how its children end: set it to SIG_DFL \
             before starting processes (it may be inherited from the parent of this program)",
        ));
    }
    Ok(())
}

/// Returns the offsets of these functions in the image.
fn offsets<const N: usize>(addresses: [usize; N]) -> Result<[u64; N]> {
    // A success is remembered; a failure may pass.
    static STARTS_AGAIN: AtomicBool = AtomicBool::new(false);
    let image = Image::of_this_program();
    if !STARTS_AGAIN.load(Relaxed) {
        match image.is_of_proc_self_exe() {
            Ok(true) => STARTS_AGAIN.store(true, Relaxed),
            // For example too few descriptors, and not a loader or an emulator.
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::system("cannot read this program's executable (/proc/self/exe)", cause));
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this program cannot be started again: /proc/self/exe does not lead to its executable \
                     (/proc is not mounted, or it was started through a loader or an emulator)",
                ));
            }
        }
    }
    let in_library = || {
        Error::new(
            ErrorKind::InvalidInput,
            "the function is in a shared library, which a child may load elsewhere: it must be in the main \
             executable (as must pagemate itself)",
        )
    };
    let mut offsets = [0; N];
    for (offset, address) in offsets.iter_mut().zip(addresses) {
        *offset = image.offset_of(address).ok_or_else(in_library)?;
    }
    Ok(offsets)
}

fn launch(request: SpawnRequest, packer: Packer) -> Result<(Arc<Child>, SpawnMemfd)> {
    let mut packed = packer.finish();
    let parent = own_pidfd()?;
    let token = RandomState::new().build_hasher().finish();
    let memfd = SpawnMemfd::create(&request, parent.as_fd(), &packed, token)?;
    let mut inherit = vec![memfd.file()?, parent.as_fd()];
    inherit.extend(packed.files.iter().map(AsFd::as_fd));
    let (pid, pidfd) =
        start(&arguments(), &environment(&memfd.address(token)), &inherit).map_err(name_the_limit)?;
    packed.give();
    let child = Arc::new(Child::new(pid, request.name, request.daemon, pidfd));
    children::add(child.clone());
    Ok((child, memfd))
}

/// Says which limit is meant by EAGAIN, which the kernel returns when no process can be added.
fn name_the_limit(error: Error) -> Error {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    if cause.and_then(std::io::Error::raw_os_error) != Some(libc::EAGAIN) {
        return error;
    }
    Error::system(
        "cannot start another process, because their number is limited (raise `ulimit \
         -u`, or `pids.max` of the cgroup)",
        std::io::Error::from_raw_os_error(libc::EAGAIN),
    )
}

/// Returns the command line of this process.
fn arguments() -> Vec<CString> {
    let own: Vec<CString> =
        std::env::args_os().filter_map(|argument| CString::new(argument.into_vec()).ok()).collect();
    if !own.is_empty() {
        return own;
    }
    // Before `main` the standard library does not know the command line with some C libraries
    // (musl).
    arguments_of(&std::fs::read("/proc/thread-self/cmdline").unwrap_or_default())
}

/// Returns the arguments in a command line as `/proc` shows it: each ends with a NUL.
fn arguments_of(line: &[u8]) -> Vec<CString> {
    line.split_inclusive(|&byte| byte == 0)
        .filter_map(|argument| CString::new(argument.strip_suffix(&[0]).unwrap_or(argument)).ok())
        .collect()
}

/// Returns the environment of this process, with the address of the memfd.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_processes_is_named() {
        let failed = |number| Error::system("cannot start", std::io::Error::from_raw_os_error(number));
        let error = name_the_limit(failed(libc::EAGAIN));
        assert!(error.to_string().contains("`ulimit -u`"), "{error}");
        assert_eq!(error.kind(), ErrorKind::System);
        assert!(!name_the_limit(failed(libc::ENOMEM)).to_string().contains("ulimit"));
    }

    #[test]
    fn the_kernel_knows_the_command_line_too() {
        let line = std::fs::read("/proc/thread-self/cmdline").unwrap();
        assert!(!line.is_empty());
        assert_eq!(arguments_of(&line), arguments());
        assert_eq!(
            arguments_of(b"program\0\0two words\0"),
            [c"program", c"", c"two words"].map(CString::from)
        );
        assert_eq!(arguments_of(b""), []);
    }
}
