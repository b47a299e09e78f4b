//! The standard streams, without buffers: a byte is written, or its loss is an error.
//!
//! | the stream | outcome |
//! |---|---|
//! | was closed when the program began | an error, not the `/dev/null` that Rust's runtime opens |
//! | is a pipe or socket without readers | no failure: `pagemate ls \| head -1` asks for no more |
//! | is non-blocking | waits until it is ready |
//! | is a terminal that is closed | an error, not the end of the input |
//! | is full or broken, even if only close(2) says so | an error |
//! | is standard error, and any of these | no message; the exit status is 1 |

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::{interrupt, Failure, Outcome};

/// The interval at which a process that waits for a stream checks for signals and calls `idle`.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// The time after which a message is dropped if standard error takes no bytes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The descriptors 0 to 2 that were closed when the program began, a bit each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before `main`, and before the runtime opens `/dev/null` under the free numbers.
extern "C" fn note_closed() {
    for descriptor in 0..=2 {
        // SAFETY: only checks whether the number is a descriptor.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << descriptor, Relaxed);
        }
    }
}

// The C runtime calls the functions in this section before main.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note_closed;

/// The number and name of a standard stream.
type Stream = (u8, &'static str);
const INPUT: Stream = (0, "standard input");
const OUTPUT: Stream = (1, "standard output");
const ERROR: Stream = (2, "standard error");

fn check_open((descriptor, name): Stream) -> Outcome {
    match CLOSED.load(Relaxed) & 1 << descriptor {
        0 => Ok(()),
        _ => Err(format!("{name} is closed").into()),
    }
}

fn cannot(verb: &str, (_, stream): Stream, error: impl Into<io::Error>) -> Failure {
    format!("cannot {verb} {stream}: {}", error.into()).into()
}

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    file: File,
    /// Whether it was a terminal at the start.
    is_terminal: bool,
}

impl Input {
    pub(crate) fn open() -> Result<Input, Failure> {
        check_open(INPUT)?;
        let file = io::stdin().as_fd().try_clone_to_owned().map_err(|error| cannot("open", INPUT, error))?;
        Ok(Input { is_terminal: file.is_terminal(), file: file.into() })
    }

    /// Returns the number of bytes still to be read, if known.
    pub(crate) fn len(&mut self) -> Option<u64> {
        let metadata = self.file.metadata().ok().filter(|metadata| metadata.is_file())?;
        Some(metadata.len().saturating_sub(self.file.stream_position().ok()?))
    }

    /// Reads the available bytes into `buffer`, and returns their number; 0 at the end. Calls
    /// `idle` every [`TICK`] while there are none.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut idle: impl FnMut() -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        loop {
            interrupt::check()?;
            let is_ready = wait_for(self.file.as_fd(), PollFlags::IN, TICK);
            if !is_ready.map_err(|error| cannot("read", INPUT, error))? {
                idle()?;
                continue;
            }
            match self.file.read(buffer) {
                // WouldBlock: the file is shared, non-blocking, and another process was faster.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                // After a terminal is closed, the kernel reads as from a file that has ended.
                Ok(0) if self.is_terminal && !self.file.is_terminal() => {
                    return Err("cannot read standard input: the terminal is closed".into());
                }
                read => return read.map_err(|error| cannot("read", INPUT, error)),
            }
        }
    }
}

/// Waits until the file can be read or written, or has ended, for at most `timeout`.
pub(crate) fn wait_for(file: BorrowedFd<'_>, events: PollFlags, timeout: Duration) -> io::Result<bool> {
    // The seconds fit, because no caller waits for more than a day.
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&file, events)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    /// The stream has no reader any more.
    BrokenPipe,
}

/// Writes all of `bytes`, unless a signal asks for the end, or the stream is not ready for longer
/// than `patience`.
fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], patience: Option<Duration>) -> io::Result<Written> {
    let mut since = Instant::now();
    while !bytes.is_empty() {
        interrupt::check()?;
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                since = Instant::now();
            }
            // The file is shared, and another process has made it non-blocking.
            Err(Errno::AGAIN) => {
                if patience.is_some_and(|patience| since.elapsed() > patience) {
                    return Err(ErrorKind::TimedOut.into());
                }
                wait_for(file, PollFlags::OUT, TICK)?;
            }
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(Written::BrokenPipe),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Written::All)
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output(());

impl Output {
    pub(crate) fn open() -> Result<Output, Failure> {
        check_open(OUTPUT).map(|()| Output(()))
    }

    /// Writes all of `bytes`, unless a signal asks for the end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Written, Failure> {
        write_all(io::stdout().as_fd(), bytes, None).map_err(|error| cannot("write to", OUTPUT, error))
    }

    /// Fails if the file system reports at a close that bytes were lost, as network file systems
    /// do.
    pub(crate) fn finish(self) -> Outcome {
        // Every close of a duplicate reports it.
        let Ok(file) = io::stdout().as_fd().try_clone_to_owned() else { return Ok(()) };
        // SAFETY: the descriptor is this function's own, and not used after this.
        match unsafe { libc::close(file.into_raw_fd()) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // The descriptor is closed nevertheless.
                error if error.kind() == ErrorKind::Interrupted => Ok(()),
                error => Err(cannot("write to", OUTPUT, error)),
            },
        }
    }
}

/// Writes to standard output. A stream without readers is not a failure. If `bytes` is empty, the
/// stream may even be closed.
pub(crate) fn put(bytes: &[u8]) -> Outcome {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut output = Output::open()?;
    output.write(bytes)?;
    output.finish()
}

/// Writes to standard error. The caller can report a failure only by the exit status.
pub(crate) fn tell(text: &str) -> Outcome {
    check_open(ERROR)?;
    let written = write_all(io::stderr().as_fd(), text.as_bytes(), Some(PATIENCE));
    written.map(drop).map_err(|error| cannot("write to", ERROR, error))
}
