//! Python's pools of processes, measured by a script of their own.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::link::Result;

const SCRIPT: &str = include_str!("python.py");

/// The pool to measure.
#[derive(Clone, Copy, Debug)]
pub enum Pool {
    Multiprocessing,
    Futures,
}

/// Returns whether there is a Python. If not, prints that once.
pub fn is_there() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let run =
            Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let found = run.is_ok_and(|status| status.success());
        if !found {
            eprintln!("benches: no python3 in the PATH: its pools are left out");
        }
        found
    })
}

impl Pool {
    /// Returns nanoseconds per task, the median of several runs of `tasks` tasks in about `seconds`
    /// seconds.
    pub fn time(self, tasks: usize, chunk: Option<usize>, seconds: f64) -> Result<f64> {
        let kind = match self {
            Pool::Multiprocessing => "Pool",
            Pool::Futures => "Executor",
        };
        let output = Command::new("python3")
            .args(["-c", SCRIPT, kind])
            .args([tasks.to_string(), chunk.unwrap_or(0).to_string(), seconds.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("python3 ended with {}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}
