//! The table at the end.

use crate::contender::{Against, Bench, Between, Contender, Unit};
use crate::session::Repetition;
use crate::stats::median;

/// A contender's figure in one state, and how it compares.
#[derive(Debug)]
pub struct Row {
    pub bench: &'static str,
    pub unit: Unit,
    pub contender: &'static str,
    pub between: Between,
    /// One-way cost of a cache line. None: no two repetitions could be compared.
    pub state: Option<f64>,
    /// One for each repetition that counts.
    pub figures: Vec<f64>,
    /// Number of all repetitions.
    pub of: usize,
    /// The 50th, 99th and 99.9th percentile of single operations, in nanoseconds.
    pub tail: Option<[u64; 3]>,
    pub against: Option<Against>,
    pub ratio: Option<f64>,
}

impl Row {
    /// Creates a row whose figures are of changing states, so that nothing can be compared.
    pub fn undecided(
        bench: &Bench,
        contender: &Contender,
        against: Option<&Against>,
        mine: &[Repetition],
    ) -> Row {
        Row {
            bench: bench.name,
            unit: bench.unit,
            contender: contender.name,
            between: contender.between,
            state: None,
            figures: mine.iter().map(|repetition| repetition.nanos).collect(),
            of: mine.len(),
            tail: None,
            against: against.copied(),
            ratio: None,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.against.and_then(|against| against.bar), self.ratio) {
            (None, _) => "",
            (Some(_), None) => "undecided",
            (Some(bar), Some(ratio)) if ratio <= bar => "met",
            (Some(_), Some(_)) => "MISSED",
        }
    }

    fn cells(&self) -> [String; 10] {
        let [figure, spread] = match self.figures.as_slice() {
            [] => [String::new(), String::new()],
            figures => {
                let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
                let high = figures.iter().copied().fold(0.0, f64::max);
                let middle = median(&mut figures.to_vec());
                [show(self.unit, middle), format!("{}..{}", time(low), time(high))]
            }
        };
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
        [
            self.bench.to_string(),
            format!("{} ({})", self.contender, self.between),
            self.state.map_or("mixed".to_string(), |nanos| format!("{nanos:.0} ns")),
            format!("{}/{}", self.figures.len(), self.of),
            figure,
            spread,
            dash(self.tail.map(|tail| tail.map(|nanos| time(nanos as f64)).join(" "))),
            dash(self.ratio.map(factor)),
            dash(self.against.map(|against| {
                let bar = against.bar.map(|bar| format!("<= {} ", factor(bar))).unwrap_or_default();
                format!("{bar}x {} ({})", against.name, against.between)
            })),
            self.verdict().to_string(),
        ]
    }
}

const HEAD: [&str; 10] = [
    "bench",
    "contender",
    "state",
    "reps",
    "median",
    "min..max",
    "p50 p99 p99.9",
    "ratio",
    "bar and reference",
    "verdict",
];

/// Prints the table and, below it, the number of bars that were met.
pub fn print(rows: &[Row]) {
    let table: Vec<[String; 10]> =
        std::iter::once(HEAD.map(str::to_string)).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
    let count = |verdict: &str| rows.iter().filter(|row| row.verdict() == verdict).count();
    println!("\nbars: {} met, {} missed, {} undecided", count("met"), count("MISSED"), count("undecided"));
}

/// Formats with the digits that a factor of that size needs.
fn factor(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.4}")
    } else {
        format!("{ratio:.2}")
    }
}

fn show(unit: Unit, nanos: f64) -> String {
    match unit {
        Unit::Time => time(nanos),
        Unit::PerMessage => format!("{} = {:.1} M/s", time(nanos), 1e3 / nanos),
        Unit::PerGib => format!("{} = {:.2} GiB/s", time(nanos), 1e9 / nanos),
    }
}

fn time(nanos: f64) -> String {
    match nanos {
        _ if nanos < 100.0 => format!("{nanos:.1}ns"),
        _ if nanos < 10_000.0 => format!("{nanos:.0}ns"),
        _ if nanos < 10_000_000.0 => format!("{:.1}us", nanos / 1e3),
        _ => format!("{:.0}ms", nanos / 1e6),
    }
}
