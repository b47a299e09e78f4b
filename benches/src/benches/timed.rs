//! Timing of operations that may take nanoseconds or a millisecond: in blocks of about a tenth of a
//! millisecond, or all together.

use std::time::{Duration, Instant};

use crate::link::Result;
use crate::stats::median;

/// Approximate length of a block: long compared with a reading of the clock.
const BLOCK: Duration = Duration::from_micros(100);
/// Length of the warm-up before anything is measured.
const FIRST: Duration = Duration::from_millis(5);
/// The most operations between two readings of the clock while the time of one is unknown.
const FEW: u64 = 16;

/// Returns the nanoseconds of `again`, as the median over blocks. `again` takes the numbers from 0
/// on and returns whether all was right.
pub fn blocks(length: Duration, mut again: impl FnMut(u64) -> bool) -> Result<f64> {
    let (mut next, mut right) = (0, true);
    let began = Instant::now();
    while began.elapsed() < FIRST {
        (0..FEW).for_each(|_| {
            right &= again(next);
            next += 1;
        });
    }
    let one = began.elapsed().as_secs_f64() / next as f64;
    let block = ((BLOCK.as_secs_f64() / one) as u64).clamp(1, 100_000);
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < length || times.len() < 3 {
        let start = Instant::now();
        for nth in next..next + block {
            right &= again(nth);
        }
        times.push(start.elapsed().as_nanos() as f64 / block as f64);
        next += block;
    }
    checked(right, median(&mut times))
}

/// Returns the nanoseconds of `again`, which takes the numbers up to `most`, or fewer if `length`
/// is over. The mean, so that it includes rare work such as growing.
pub fn all(length: Duration, most: u64, mut again: impl FnMut(u64) -> bool) -> Result<f64> {
    let (mut next, mut right) = (0, true);
    let began = Instant::now();
    while next < most && began.elapsed() < length {
        for nth in next..(next + FEW).min(most) {
            right &= again(nth);
        }
        next = (next + FEW).min(most);
    }
    checked(right, began.elapsed().as_nanos() as f64 / next as f64)
}

fn checked(right: bool, nanos: f64) -> Result<f64> {
    right.then_some(nanos).ok_or_else(|| "what was found was not what was put there".into())
}
