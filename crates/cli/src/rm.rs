//! `pagemate rm`: removes one segment.

use clap::Args;
use pagemate::{inspect, ErrorKind};
use serde_json::json;

use crate::location::Location;
use crate::output::{print, print_json};
use crate::Outcome;

/// Remove one segment. Refuses while a living process is attached
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Name of the segment
    name: String,
    /// Remove it even if processes are attached or it is damaged. Attached processes keep what they
    /// have mapped, and nobody can find it any more
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

impl Rm {
    pub(crate) fn run(self) -> Outcome {
        let (name, place) = (&self.name, self.location.place(&self.name));
        if name.contains('/') {
            return Err(format!(
                "{name:?}: `rm` removes whole segments; another directory is given by --dir, and an object \
                 of a segment is removed by Manager::remove"
            )
            .into());
        }
        let pids: Vec<u32> = match inspect::segment(place.clone()) {
            Ok(segment) => {
                segment.participants.iter().filter(|seen| seen.alive).map(|seen| seen.pid).collect()
            }
            Err(error) if self.force && error.kind() != ErrorKind::NotFound => Vec::new(),
            // Address space is limited, and the segment reserves more. Whether a process is
            // attached is checked again below.
            Err(error) if error.kind() == ErrorKind::OutOfMemory => Vec::new(),
            Err(error) if is_unreadable(&error) => {
                return Err(format!("{error}; --force removes it all the same").into());
            }
            Err(error) => return Err(error.into()),
        };
        if !pids.is_empty() && !self.force {
            return Err(
                format!("{name:?} is in use by {}; --force removes it all the same", list(&pids)).into()
            );
        }
        if self.force {
            place.remove()?;
        } else {
            // Checks again at the moment of removal, because the name may refer to another segment
            // by then.
            place.remove_unused()?;
        }
        if self.json {
            return print_json(&json!({ "removed": name, "attached": pids }));
        }
        match pids[..] {
            [] => print(&format!("removed {name}\n")),
            _ => print(&format!("removed {name}; {} may go on using what is mapped\n", list(&pids))),
        }
    }
}

/// Returns whether the name is taken by something that is not a segment of this version.
fn is_unreadable(error: &pagemate::Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupted | ErrorKind::VersionMismatch)
}

fn list(pids: &[u32]) -> String {
    let pids: Vec<_> = pids.iter().map(|pid| format!("process {pid}")).collect();
    pids.join(", ")
}
