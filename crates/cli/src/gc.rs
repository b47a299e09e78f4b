//! `pagemate gc`: sweeps what crashes left behind.

use clap::Args;
use pagemate::inspect;
use serde_json::json;

use crate::output::{print, print_json, shown};
use crate::site::Site;
use crate::Outcome;

/// Remove all stale segments and print their names. Leaves alone what is in use, persistent, damaged or of another version
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

impl Gc {
    pub(crate) fn run(self) -> Outcome {
        let swept = inspect::sweep(self.site.dir())?;
        if self.json {
            return print_json(&json!({ "swept": swept }));
        }
        print(&swept.iter().map(|name| shown(name) + "\n").collect::<String>())
    }
}
