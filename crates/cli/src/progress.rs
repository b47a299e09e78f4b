//! `--progress`: a bar or a spinner with the rate on standard error, and a final line with the
//! number of bytes.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::size;
use crate::{stdio, Outcome};

/// Counts bytes, and shows them on request.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    begin: Instant,
    bytes: u64,
}

impl Progress {
    /// Creates a counter that shows nothing unless `wanted`. `total` is the expected number of
    /// bytes, if known.
    pub(crate) fn new(wanted: bool, total: Option<u64>) -> Progress {
        let bar = wanted.then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            bar.set_style(style(total.is_some()));
            bar
        });
        Progress { bar, begin: Instant::now(), bytes: 0 }
    }

    /// Sets the expected number of bytes.
    pub(crate) fn set_total(&mut self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(style(true));
        }
    }

    /// Adds `bytes`. The first call starts the clock, so waiting for the other side does not lower
    /// the rate.
    pub(crate) fn add(&mut self, bytes: usize) {
        if self.bytes == 0 {
            self.begin = Instant::now();
            self.bar.iter().for_each(ProgressBar::reset_elapsed);
        }
        self.bytes += bytes as u64;
        self.bar.iter().for_each(|bar| bar.set_position(self.bytes));
    }

    /// Removes the bar and prints the number of bytes, even without a terminal for a bar.
    pub(crate) fn finish(self) -> Outcome {
        self.end("")
    }

    /// Does the same as [`finish`](Progress::finish), but prints the number as an upper bound,
    /// because some of the bytes may not have arrived.
    pub(crate) fn finish_at_most(self) -> Outcome {
        self.end("at most ")
    }

    fn end(self, bound: &str) -> Outcome {
        let Some(bar) = self.bar else { return Ok(()) };
        bar.finish_and_clear();
        let seconds = self.begin.elapsed().as_secs_f64();
        let rate = size((self.bytes as f64 / seconds.max(1e-9)) as u64);
        stdio::tell(&format!("{bound}{} in {seconds:.2} s, {rate}/s\n", size(self.bytes)))
    }
}

fn style(is_total_known: bool) -> ProgressStyle {
    let template = if is_total_known {
        "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
    } else {
        "{spinner} {binary_bytes} {binary_bytes_per_sec}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
