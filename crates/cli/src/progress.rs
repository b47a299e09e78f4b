//! `--progress`: a bar or a spinner with the rate on standard error, and a line with the sum at the end.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::size;

/// Counts bytes; shows them if asked to.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    begin: Instant,
    bytes: u64,
}

impl Progress {
    /// Shows nothing unless `wanted`. `total`: how many bytes will come, if that is known.
    pub(crate) fn new(wanted: bool, total: Option<u64>) -> Progress {
        let bar = wanted.then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            bar.set_style(style(total.is_some()));
            bar
        });
        Progress { bar, begin: Instant::now(), bytes: 0 }
    }

    /// So many bytes will come.
    pub(crate) fn set_total(&mut self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(style(true));
        }
    }

    /// So many bytes more. The first call starts the clock: waiting for the other side is no part of the rate.
    pub(crate) fn add(&mut self, bytes: usize) {
        if self.bytes == 0 {
            self.begin = Instant::now();
            self.bar.iter().for_each(ProgressBar::reset_elapsed);
        }
        self.bytes += bytes as u64;
        self.bar.iter().for_each(|bar| bar.set_position(self.bytes));
    }

    /// Takes the bar away and prints the sum, also where there is no terminal for a bar.
    pub(crate) fn finish(self) {
        let Some(bar) = self.bar else { return };
        bar.finish_and_clear();
        let seconds = self.begin.elapsed().as_secs_f64();
        let rate = size((self.bytes as f64 / seconds.max(1e-9)) as u64);
        eprintln!("{} in {seconds:.2} s, {rate}/s", size(self.bytes));
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
