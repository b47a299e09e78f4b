//! The price of a European call by many random paths, with a pool of processes:
//! `cargo run --release --example option_pricer -- [--check] [PATHS]`.
//!
//! Each task has its own seed, so the price does not depend on the number of workers. With
//! `--check` it is computed again in this process alone. Both prices must be the same to the last
//! bit, and within four standard errors of the Black-Scholes price.

use std::error::Error;
use std::f64::consts::TAU;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use pagemate::{Message, Pool};

/// The option to price.
#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Call {
    spot: f64,
    strike: f64,
    /// Per year.
    rate: f64,
    volatility: f64,
    years: f64,
}

/// Sums over the paths of one task.
#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Sums {
    payoff: f64,
    squares: f64,
}

const CALL: Call = Call { spot: 100.0, strike: 105.0, rate: 0.03, volatility: 0.2, years: 1.0 };
const PATHS_A_TASK: u64 = 10_000;
/// Steps of one path.
const STEPS: u32 = 12;

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Returns a number above 0, up to 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((word >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a normal deviate, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }
}

/// Returns the sums over the paths of the task with this seed.
fn walk((call, seed): (Call, u64)) -> Sums {
    // Neighbouring seeds must lead to distant states, so each is mixed before it begins.
    let mut random = Random(seed.wrapping_mul(0xd129_0b0e_5b3b_5a3d));
    let step = call.years / f64::from(STEPS);
    let drift = (call.rate - call.volatility * call.volatility / 2.0) * step;
    let spread = call.volatility * step.sqrt();
    let discount = (-call.rate * call.years).exp();
    let mut sums = Sums { payoff: 0.0, squares: 0.0 };
    for _ in 0..PATHS_A_TASK {
        let log: f64 = (0..STEPS).map(|_| drift + spread * random.normal()).sum();
        let payoff = discount * (call.spot * log.exp() - call.strike).max(0.0);
        sums.payoff += payoff;
        sums.squares += payoff * payoff;
    }
    sums
}

/// Returns the mean and its standard error.
fn price(sums: &[Sums]) -> (f64, f64) {
    let paths = sums.len() as f64 * PATHS_A_TASK as f64;
    let mean = sums.iter().map(|sums| sums.payoff).sum::<f64>() / paths;
    let square = sums.iter().map(|sums| sums.squares).sum::<f64>() / paths;
    (mean, ((square - mean * mean) / paths).sqrt())
}

/// Returns the price by the formula.
fn black_scholes(call: Call) -> f64 {
    let spread = call.volatility * call.years.sqrt();
    let d1 = ((call.spot / call.strike).ln() + call.rate * call.years) / spread + spread / 2.0;
    call.spot * cumulative(d1) - call.strike * (-call.rate * call.years).exp() * cumulative(d1 - spread)
}

/// Returns the normal distribution function at `x`, by a series that converges for any `x`, and
/// soon for a moderate one.
fn cumulative(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / TAU.sqrt()
}

fn main() -> Result<(), Box<dyn Error>> {
    pagemate::init();
    let (options, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let check = options == ["--check"];
    if arguments.len() > 1 || !(options.is_empty() || check) {
        return Err("usage: option_pricer [--check] [PATHS]".into());
    }
    let paths: u64 = arguments.first().map_or(Ok(5_000_000), |paths| paths.parse())?;
    let tasks = paths.div_ceil(PATHS_A_TASK).max(1);
    let calls = || (0..tasks).map(|seed| (CALL, seed));

    let pool = Pool::builder().name(format!("option_pricer-{}", std::process::id())).build()?;
    let bar = ProgressBar::new(tasks);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} tasks, {eta} to go")?);
    let begin = Instant::now();
    let sums = pool
        .task_options()
        .chunk_size(4)
        .progress(|done, _| bar.set_position(done as u64))
        .map(walk, calls())?;
    bar.finish_and_clear();
    let (mean, error) = price(&sums);
    let paths = tasks * PATHS_A_TASK;
    println!("{mean:.4} +- {error:.4}, {paths} paths by {} workers in {:?}", pool.workers(), begin.elapsed());

    if check {
        let begin = Instant::now();
        let alone: Vec<Sums> = calls().map(walk).collect();
        println!("by one process in {:?}", begin.elapsed());
        if alone != sums {
            return Err("the sums differ".into());
        }
        let exact = black_scholes(CALL);
        if (mean - exact).abs() > 4.0 * error {
            return Err(format!("the formula says {exact:.4}").into());
        }
        println!("the same sums; the formula says {exact:.4}");
    }
    Ok(())
}
