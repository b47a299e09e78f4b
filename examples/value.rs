//! One value that processes read and change without holding a lock: `cargo run --example value`.

use pagemate::{Message, Process, Value};

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Range {
    low: f64,
    high: f64,
    count: u64,
}

fn widen((range, start): (Value<Range>, u32)) {
    for n in start..start + 100 {
        let seen = f64::from(n);
        let change = |r: Range| Range { low: r.low.min(seen), high: r.high.max(seen), count: r.count + 1 };
        range.update(change).expect("the value is intact");
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let range = Value::new(Range { low: f64::MAX, high: f64::MIN, count: 0 })?;
    let child = Process::spawn(widen, (range.clone(), 0))?;
    widen((range.clone(), 1_000));
    child.join()?;
    println!("{:?}", range.get()?);
    Ok(())
}
