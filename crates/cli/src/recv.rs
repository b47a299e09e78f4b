//! `pagemate recv`: writes to standard output what is sent under the same name.

use clap::Args;

use crate::location::Location;
use crate::stream::{bytes, lines};
use crate::{interrupt, Outcome};

/// Write to standard output what `pagemate send` of the same name sends, in another process of this
/// machine
///
/// Either side may start first and waits for the other. Ends with status 0 when everything has been
/// written, or when the reader of standard output is gone (`| head -1`; the sender is told). Ends
/// with status 1 and a message if the sender did not reach the end of its input, so that only the
/// beginning has been written, or if something cannot be written.
#[derive(Debug, Args)]
pub(crate) struct Recv {
    /// Name of the stream
    name: String,
    /// Receive lines, each of which goes to one receiver only: any number of senders and receivers,
    /// all with --lines
    ///
    /// Receivers end when there have been senders, none is alive, and everything has been received;
    /// with status 1 if a sender did not reach the end of its input. A receiver that comes later
    /// begins another stream.
    #[arg(long)]
    lines: bool,
    /// Show a bar with the rate
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    location: Location,
}

impl Recv {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        match self.lines {
            false => bytes::receive(&self.name, &self.location, self.progress),
            true => lines::receive(&self.name, &self.location, self.progress),
        }
    }
}
