//! One process waits for an event, another one sets it: `cargo run --example event`.

use std::time::Duration;

use pagemate::{Event, Process};

fn work((ready, go): (Event, Event)) {
    ready.set();
    go.wait();
    println!("the child goes on");
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (ready, go) = (Event::new()?, Event::new()?);
    let child = Process::spawn(work, (ready.clone(), go.clone()))?;
    ready.wait();
    println!("the child waits: {}", !go.wait_timeout(Duration::from_millis(10)));
    go.set();
    child.join()?;
    Ok(())
}
