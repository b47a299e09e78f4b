//! Counts primes in several processes: `cargo run --release --example process`.

use std::time::Instant;

use pagemate::Process;

fn count_primes((from, to): (u64, u64)) -> u64 {
    (from.max(2)..to).filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count() as u64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let begin = Instant::now();
    let mut children = Vec::new();
    for part in 0..4 {
        let range = (part * 250_000, (part + 1) * 250_000);
        children.push(Process::builder().name(format!("primes {part}")).spawn(count_primes, range)?);
    }
    let mut sum = 0;
    for child in children {
        let name = child.name().to_owned();
        let count = child.join()?;
        println!("{name}: {count}");
        sum += count;
    }
    println!("{sum} primes below 1,000,000, in {:?}", begin.elapsed());
    Ok(())
}
