//! Standard input and output without buffers in between: bytes go straight into shared memory and straight out of it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;

use rustix::event::{poll, PollFd, PollFlags, Timespec};

use crate::stream::TICK;
use crate::{interrupt, Failure};

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    file: File,
}

impl Input {
    pub(crate) fn open() -> Result<Input, Failure> {
        let file = io::stdin().as_fd().try_clone_to_owned().map_err(|error| cannot("open", INPUT, error))?;
        Ok(Input { file: file.into() })
    }

    /// How many bytes are still to come, if that is known.
    pub(crate) fn len(&mut self) -> Option<u64> {
        let metadata = self.file.metadata().ok().filter(|metadata| metadata.is_file())?;
        Some(metadata.len().saturating_sub(self.file.stream_position().ok()?))
    }

    /// Reads what there is into `buffer`; 0 is the end. While nothing comes, calls `idle` every [`TICK`].
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut idle: impl FnMut() -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        loop {
            interrupt::check()?;
            if !wait_for(&self.file, PollFlags::IN).map_err(|error| cannot("read", INPUT, error))? {
                idle()?;
                continue;
            }
            match self.file.read(buffer) {
                // WouldBlock: whoever shares it has made it so, and somebody was quicker.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                read => return read.map_err(|error| cannot("read", INPUT, error)),
            }
        }
    }
}

/// Waits until the file can be read from or written to, or has ended, for [`TICK`] at most.
fn wait_for(file: &File, what: PollFlags) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    match poll(&mut [PollFd::new(file, what)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    /// Nobody reads it any more.
    BrokenPipe,
}

impl Output {
    pub(crate) fn open() -> Result<Output, Failure> {
        let file =
            io::stdout().as_fd().try_clone_to_owned().map_err(|error| cannot("open", OUTPUT, error))?;
        Ok(Output { file: file.into() })
    }

    /// Writes all of `bytes`, unless somebody asks for an end meanwhile.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<Written, Failure> {
        while !bytes.is_empty() {
            interrupt::check()?;
            match self.file.write(bytes) {
                Ok(0) => return Err(cannot("write to", OUTPUT, ErrorKind::WriteZero.into())),
                Ok(count) => bytes = &bytes[count..],
                // Whoever shares it has made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait_for(&self.file, PollFlags::OUT)
                        .map_err(|error| cannot("write to", OUTPUT, error))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Written::BrokenPipe),
                Err(error) => return Err(cannot("write to", OUTPUT, error)),
            }
        }
        Ok(Written::All)
    }
}

const INPUT: &str = "standard input";
const OUTPUT: &str = "standard output";

fn cannot(what: &str, stream: &str, error: io::Error) -> Failure {
    format!("cannot {what} {stream}: {error}").into()
}
