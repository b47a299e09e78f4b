//! A bench, its contenders, and their comparisons.

use std::fmt;
use std::time::Duration;

use crate::cpu::Cpus;
use crate::link::Result;
use crate::peer::Setup;
use crate::session::Repetition;

/// The place of a contender's two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// There is one side only; nobody else wants the object.
    Alone,
    Threads,
    Processes,
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Between::Alone => "alone",
            Between::Threads => "threads",
            Between::Processes => "processes",
        })
    }
}

/// Lengths and numbers of repetitions.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Approximate length of one repetition of one contender.
    pub length: Duration,
    /// The least number of rounds; each contender has one repetition in each.
    pub rounds: usize,
    /// The largest number of rounds, if repetitions have to be left out because the state changed.
    pub most_rounds: usize,
    /// Bytes of a stream.
    pub stream: u64,
    /// Tasks of one map.
    pub tasks: usize,
}

impl Plan {
    pub const FULL: Plan = Plan {
        length: Duration::from_millis(150),
        rounds: 9,
        most_rounds: 25,
        stream: 2 << 30,
        tasks: 100_000,
    };
    /// Runs each once, briefly. Shows that everything runs and is right, and nothing about speed.
    pub const QUICK: Plan =
        Plan { length: Duration::from_millis(5), rounds: 1, most_rounds: 1, stream: 64 << 20, tasks: 1_000 };
}

/// The arguments of a repetition.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub cpus: Cpus,
    pub plan: &'a Plan,
    /// The name under which the far side finds its part.
    pub role: &'a str,
}

/// The way in which a figure in nanoseconds is printed.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Time,
    /// With the rate.
    PerMessage,
    PerGib,
}

/// Compares a contender's figure with another's in the same round. The ratio is of times, so lower
/// is better.
#[derive(Clone, Copy, Debug)]
pub struct Against {
    pub name: &'static str,
    pub between: Between,
    /// The ratio to stay at or below.
    pub bar: Option<f64>,
}

/// One line of a bench.
#[derive(Debug)]
pub struct Contender {
    pub name: &'static str,
    pub between: Between,
    pub near: fn(Call<'_>) -> Result<Repetition>,
    pub far: Option<fn(Setup) -> Result<()>>,
    pub against: Vec<Against>,
}

impl Contender {
    pub fn alone(name: &'static str, near: fn(Call<'_>) -> Result<Repetition>) -> Contender {
        Contender { name, between: Between::Alone, near, far: None, against: Vec::new() }
    }

    pub fn threads(name: &'static str, near: fn(Call<'_>) -> Result<Repetition>) -> Contender {
        Contender { name, between: Between::Threads, near, far: None, against: Vec::new() }
    }

    pub fn processes(
        name: &'static str,
        near: fn(Call<'_>) -> Result<Repetition>,
        far: fn(Setup) -> Result<()>,
    ) -> Contender {
        Contender { name, between: Between::Processes, near, far: Some(far), against: Vec::new() }
    }

    /// Compares with `name`, without a bar.
    pub fn beside(mut self, name: &'static str, between: Between) -> Contender {
        self.against.push(Against { name, between, bar: None });
        self
    }

    /// Compares with `name`: at most `bar` times its time.
    pub fn at_most(mut self, bar: f64, name: &'static str, between: Between) -> Contender {
        self.against.push(Against { name, between, bar: Some(bar) });
        self
    }
}

/// Contenders that are measured in turns.
#[derive(Debug)]
pub struct Bench {
    pub name: &'static str,
    pub about: &'static str,
    pub unit: Unit,
    pub contenders: fn() -> Vec<Contender>,
}
