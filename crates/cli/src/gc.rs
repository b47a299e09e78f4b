//! `pagemate gc`: removes the segments that crashes have left behind.

use clap::Args;
use pagemate::inspect;
use serde_json::json;

use crate::location::Location;
use crate::output::{one_line, print, print_json, shown};
use crate::{stdio, Outcome};

/// Remove all stale segments and print their names. Leaves segments alone that are in use,
/// persistent, damaged or another user's. The status is 1 if something could not be removed, with a
/// line for each on standard error
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

impl Gc {
    pub(crate) fn run(self) -> Outcome {
        let swept = inspect::sweep(self.location.dir())?;
        if self.json {
            let failed =
                swept.failed.iter().map(|(name, error)| json!({ "name": name, "error": error.to_string() }));
            print_json(&json!({ "swept": swept.removed, "failed": failed.collect::<Vec<_>>() }))?;
        } else {
            print(&swept.removed.iter().map(|name| shown(name) + "\n").collect::<String>())?;
        }
        let line = |(name, error): &(String, pagemate::Error)| format!("{}: {error}", shown(name));
        let Some((last, others)) = swept.failed.split_last() else { return Ok(()) };
        for failed in others {
            stdio::tell(&format!("pagemate: {}\n", one_line(&line(failed))))?;
        }
        Err(line(last).into())
    }
}
