//! Prices for several subscribers, each of which gets all: `cargo run --example topic`.

use pagemate::queue::topic::{From, RecvError};
use pagemate::{Event, Message, Process, Topic};

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Price {
    cents: u64,
    volume: u64,
}

/// Returns the highest price and the number of prices that it has seen.
fn highest((prices, ready): (Topic<Price>, Event)) -> (u64, u64) {
    let mut subscriber = prices.subscribe(From::Latest).expect("the topic is intact");
    ready.set();
    let (mut highest, mut count) = (0, 0);
    // The loop ends when the topic is closed and every message has been received.
    for price in subscriber.iter() {
        match price {
            Ok(price) => (highest, count) = (price.cents.max(highest), count + price.volume),
            Err(RecvError::Lagged(count)) => println!("{count} prices were overwritten"),
            Err(error) => panic!("{error}"),
        }
    }
    (highest, count)
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let prices = Topic::new(1024)?;
    let mut subscribers = Vec::new();
    for _ in 0..2 {
        let ready = Event::new()?;
        subscribers.push(Process::spawn(highest, (prices.clone(), ready.clone()))?);
        ready.wait();
    }
    let publisher = prices.publisher();
    for n in 1..=100 {
        publisher.publish(Price { cents: n * 37 % 101, volume: 1 })?;
    }
    prices.close();
    for subscriber in subscribers {
        let (highest, count) = subscriber.join()?;
        println!("a subscriber saw {count} prices, the highest of {highest}");
    }
    Ok(())
}
