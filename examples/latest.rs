//! The latest value, with notification: a topic of capacity 1. A subscriber sleeps until there is a
//! new value, and never reads an outdated one: `cargo run --example latest`.

use pagemate::queue::topic::{From, RecvError};
use pagemate::{Event, Process, Topic};

/// Returns the number of values that it has read, and the last one.
fn thermostat((temperature, read): (Topic<f64>, Event)) -> (u64, f64) {
    let mut sensor = temperature.subscribe(From::Last(1)).expect("the topic is intact");
    let (mut count, mut now) = (0, f64::NAN);
    loop {
        match sensor.recv() {
            Ok(value) => (count, now) = (count + 1, value),
            // It slept through some values, and the next call returns the latest.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return (count, now),
            Err(error) => panic!("{error}"),
        }
        read.set();
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (temperature, read) = (Topic::new(1)?, Event::new()?);
    let sensor = temperature.publisher();
    // Of these the thermostat reads the last, because it is not there yet.
    [19.0, 20.0, 21.0].into_iter().try_for_each(|value| sensor.publish(value))?;
    let child = Process::spawn(thermostat, (temperature.clone(), read.clone()))?;
    for value in [22.0, 23.5] {
        read.wait();
        read.clear();
        sensor.publish(value)?;
    }
    read.wait();
    temperature.close();
    let (count, last) = child.join()?;
    println!("the thermostat read {count} values, the last of {last}");
    Ok(())
}
