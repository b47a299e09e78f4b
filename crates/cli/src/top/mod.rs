//! `pagemate top`: a live view of shared memory.

mod screen;
mod tables;
mod terminal;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use pagemate::inspect;

use crate::interrupt;
use crate::location::Location;
use crate::output::{print, print_json};
use crate::Outcome;
use tables::{Sample, Tables};

/// Watch segments, queues, topics, locks and pools: depths, rates, holders; q ends it
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Take two samples, print once, and end
    #[arg(long)]
    once: bool,
    /// Print JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    location: Location,
}

/// Parses an interval from 10 ms to a day.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.01..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("0.01 to 86400 seconds are possible".to_string())
    }
}

impl Top {
    pub(crate) fn run(self) -> Outcome {
        if !self.once {
            if !std::io::stdout().is_terminal() {
                return Err("standard output is not a terminal: use --once, or --once --json".into());
            }
            return screen::run(self.interval, || self.sample());
        }
        let before = self.sample()?;
        interrupt::install()?;
        interrupt::sleep(self.interval)?;
        let tables = Tables::new(&before, &self.sample()?);
        if self.json {
            return print_json(&tables.to_json());
        }
        print(&tables.to_text())
    }

    fn sample(&self) -> pagemate::Result<Sample> {
        Ok(Sample { at: Instant::now(), segments: inspect::segments(self.location.dir())? })
    }
}
