//! Processes that go from step to step together: `cargo run --example barrier`.

use pagemate::{Barrier, Process, Value};

fn party((barrier, sum, number): (Barrier, Value<u64>, u64)) -> (u64, u64) {
    sum.fetch_add(number);
    barrier.wait().expect("all have arrived");
    let first = sum.load();
    barrier.wait().expect("all have read");
    sum.fetch_add(number * 10);
    barrier.wait().expect("all have arrived");
    (first, sum.load())
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (barrier, sum) = (Barrier::new(3)?, Value::new(0)?);
    let mut children = Vec::new();
    for number in [1, 2] {
        children.push(Process::spawn(party, (barrier.clone(), sum.clone(), number))?);
    }
    println!("this process saw {:?}", party((barrier, sum, 3)));
    for child in children {
        println!("a child saw {:?}", child.join()?);
    }
    Ok(())
}
