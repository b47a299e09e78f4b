//! `pagemate send`: sends standard input to the receivers of the same name.

use clap::Args;

use crate::location::Location;
use crate::stream::{bytes, lines};
use crate::{interrupt, Outcome};

/// Send standard input to `pagemate recv` of the same name, in another process of this machine
///
/// Either side may start first and waits for the other. Ends with status 0 when everything has been
/// received, and with status 1 and a message if that has become impossible: the receiver died, was
/// interrupted or stopped reading.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Name of the stream
    name: String,
    /// Send lines, each to exactly one receiver: any number of senders and receivers, all with
    /// --lines
    ///
    /// A line has at most 1 MiB; a last line without a newline gets one. A sender ends when
    /// receivers have written all of its lines, with status 1 if all receivers ended before that or
    /// one of them died. The stream ends with its last sender; it can have 1,000 in its life. A
    /// sender that comes later begins another stream.
    #[arg(long)]
    lines: bool,
    /// Show a bar with the rate
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    location: Location,
}

impl Send {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        match self.lines {
            false => bytes::send(&self.name, &self.location, self.progress),
            true => lines::send(&self.name, &self.location, self.progress),
        }
    }
}
