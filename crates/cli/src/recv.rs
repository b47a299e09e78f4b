//! `pagemate recv`: to standard output what is sent under the same name.

use clap::Args;

use crate::site::Site;
use crate::stream::{bytes, lines};
use crate::{interrupt, Outcome};

/// Write to standard output what `pagemate send` of the same name sends, in another process of this machine
///
/// Either side may start first; the other is waited for. Ends with status 0 when everything has been written, or when
/// nobody reads it any more, and with status 1 and a message if the sender did not come to the end of its input: what has
/// been written then is only the beginning.
#[derive(Debug, Args)]
pub(crate) struct Recv {
    /// Name of the stream
    name: String,
    /// Receive lines, each of which goes to one receiver only: any number of senders and receivers, all with --lines
    ///
    /// Receivers end when there have been senders, none is alive any more, and everything has been received; with status 1
    /// if a sender did not come to the end of its input. Who comes later begins another stream.
    #[arg(long)]
    lines: bool,
    /// Show a bar with the rate
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    site: Site,
}

impl Recv {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        match self.lines {
            false => bytes::receive(&self.name, &self.site, self.progress),
            true => lines::receive(&self.name, &self.site, self.progress),
        }
    }
}
