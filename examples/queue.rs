//! A queue of messages between processes: `cargo run --example queue`.

use pagemate::{Message, Process, Queue};

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    size: u64,
}

fn turnover(ticks: Queue<Tick>) -> f64 {
    // The loop ends when the queue is closed and every message has been received.
    ticks
        .iter()
        .map(|tick| tick.expect("the queue is intact"))
        .map(|tick| tick.price * tick.size as f64)
        .sum()
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let ticks = Queue::new(64)?;
    let consumers = [Process::spawn(turnover, ticks.clone())?, Process::spawn(turnover, ticks.clone())?];
    for size in 1..=100 {
        ticks.send(Tick { price: 0.5, size })?;
    }
    ticks.close();
    let mut sum = 0.0;
    for consumer in consumers {
        sum += consumer.join()?;
    }
    println!("two consumers counted a turnover of {sum}");
    Ok(())
}
