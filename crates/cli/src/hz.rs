//! `pagemate hz`: how fast and how regularly messages arrive on a topic of any type.

use std::time::{Duration, Instant};

use clap::Args;
use pagemate::queue::topic::{From, RecvError};
use serde_json::{json, Value};

use crate::location::Location;
use crate::output::{json_line, size};
use crate::publish::open;
use crate::stdio::{Output, Written, TICK};
use crate::{interrupt, Outcome};

/// Measure the messages of a topic: rate, gaps, jitter, size, a line a second, until it is closed
///
/// A gap is the time between two messages, as this program receives them; the jitter is the
/// standard deviation of the gaps. Publishers do not wait for this subscriber. Messages that were
/// overwritten before they were received count in the rate, and as lost.
#[derive(Debug, Args)]
pub(crate) struct Hz {
    /// SEGMENT/OBJECT, or the name of a topic that has a name of its own
    name: String,
    /// Time that each line measures, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    every: Duration,
    /// Print JSON, with times in seconds
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=1e6).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "not a number of seconds from 0.001 to 1000000".to_string())
}

impl Hz {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        let topic = open(&self.name, &self.location)?;
        let mut subscriber =
            topic.subscribe(From::Latest).map_err(|error| format!("{}: {error}", self.name))?;
        let mut output = Output::open()?;
        let (mut bytes, mut last) = (Vec::new(), None);
        let (mut begin, mut gaps) = (Instant::now(), Gaps::default());
        loop {
            interrupt::check()?;
            let left = (begin + self.every).saturating_duration_since(Instant::now());
            let received = subscriber.recv_timeout(&mut bytes, left.min(TICK));
            let now = Instant::now();
            match received {
                Ok(()) => {
                    gaps.messages += 1;
                    gaps.bytes += bytes.len() as u64;
                    if let Some(last) = last.replace(now) {
                        gaps.add((now - last).as_secs_f64());
                    }
                }
                Err(RecvError::Lagged(count)) => {
                    gaps.lost += count;
                    last = None; // the next message does not follow the last one
                }
                Err(RecvError::Empty | RecvError::Closed) => {}
                Err(error) => return Err(error.into()),
            }
            let is_over = received == Err(RecvError::Closed);
            if is_over && gaps.messages == 0 {
                return output.finish();
            }
            let time = now - begin;
            if time >= self.every || is_over {
                let line = match self.json {
                    true => json_line(&gaps.to_json(time)),
                    false => gaps.to_text(time),
                };
                if output.write(line.as_bytes())? == Written::BrokenPipe {
                    return Ok(());
                }
                (begin, gaps) = (now, Gaps::default());
            }
            if is_over {
                return output.finish();
            }
        }
    }
}

/// The messages of a period, and the gaps between them in seconds.
#[derive(Debug, Default)]
struct Gaps {
    messages: u64,
    /// The bytes of all of them.
    bytes: u64,
    lost: u64,
    count: u64,
    least: f64,
    most: f64,
    mean: f64,
    /// The sum of the squares of the differences from the mean.
    squares: f64,
}

impl Gaps {
    /// Adds a gap, by Welford's method (1962).
    fn add(&mut self, gap: f64) {
        self.least = if self.count == 0 { gap } else { self.least.min(gap) };
        self.most = self.most.max(gap);
        self.count += 1;
        let difference = gap - self.mean;
        self.mean += difference / self.count as f64;
        self.squares += difference * (gap - self.mean);
    }

    fn jitter(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }

    fn rate(&self, time: Duration) -> f64 {
        (self.messages + self.lost) as f64 / time.as_secs_f64().max(1e-9)
    }

    /// Returns the mean length of a message in bytes.
    fn mean_size(&self) -> u64 {
        (self.bytes as f64 / self.messages.max(1) as f64).round() as u64
    }

    fn to_text(&self, time: Duration) -> String {
        let (rate, message_size) = (self.rate(time), self.mean_size());
        let volume = size((rate * message_size as f64) as u64);
        let gaps = match self.count {
            0 => "no gaps".to_string(),
            _ => format!(
                "gaps {} to {}, mean {}, jitter {}",
                span(self.least),
                span(self.most),
                span(self.mean),
                span(self.jitter())
            ),
        };
        format!("{rate:.1}/s, {gaps}, {message_size} B each, {volume}/s, {} lost\n", self.lost)
    }

    fn to_json(&self, time: Duration) -> Value {
        let gap = |value: f64| if self.count == 0 { Value::Null } else { json!(value) };
        json!({
            "seconds": time.as_secs_f64(), "messages": self.messages, "lost": self.lost,
            "per_second": self.rate(time), "size": self.mean_size(), "gap_min": gap(self.least),
            "gap_mean": gap(self.mean), "gap_max": gap(self.most), "jitter": gap(self.jitter()),
        })
    }
}

/// Formats a time in the unit that suits it.
fn span(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        1e-6.. => format!("{:.2} us", seconds * 1e6),
        _ => format!("{:.0} ns", seconds * 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps() {
        let mut gaps = Gaps { messages: 4, bytes: 32, lost: 1, ..Gaps::default() };
        [0.002, 0.004, 0.006].into_iter().for_each(|gap| gaps.add(gap));
        assert_eq!((gaps.least, gaps.most), (0.002, 0.006));
        assert!((gaps.mean - 0.004).abs() < 1e-12 && (gaps.jitter() - 0.001_633).abs() < 1e-6);
        let text = gaps.to_text(Duration::from_secs(2));
        let expected =
            "2.5/s, gaps 2.00 ms to 6.00 ms, mean 4.00 ms, jitter 1.63 ms, 8 B each, 20 B/s, 1 lost\n";
        assert_eq!(text, expected);
        assert!(Gaps::default().to_text(Duration::from_secs(1)).starts_with("0.0/s, no gaps"));
        assert_eq!([2.5, 2.5e-3, 2.5e-6, 2.5e-8].map(span), ["2.50 s", "2.50 ms", "2.50 us", "25 ns"]);
    }

    #[test]
    fn seconds_are_parsed() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "-1", "x", "inf", "NaN", ""].iter().all(|text| seconds(text).is_err()));
    }
}
