//! Prices for several subscribers, each of which gets all: `cargo run --example topic`.

use pagemate::queue::topic::{From, RecvError};
use pagemate::{Event, Process, Topic};

/// Returns the highest price and the number of prices that it has seen.
fn highest((prices, ready): (Topic<u64>, Event)) -> (u64, u64) {
    let mut subscriber = prices.subscribe(From::Latest).expect("the topic is intact");
    ready.set();
    let (mut highest, mut count) = (0, 0);
    // The loop ends when the topic is closed and every message has been received.
    for price in subscriber.iter() {
        match price {
            Ok(price) => (highest, count) = (price.max(highest), count + 1),
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
    (1..=100).try_for_each(|n| publisher.publish(n * 37 % 101))?;
    prices.close();
    for subscriber in subscribers {
        let (highest, count) = subscriber.join()?;
        println!("a subscriber saw {count} prices, the highest of {highest}");
    }
    Ok(())
}
