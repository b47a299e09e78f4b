//! A market feed with a late joiner, which gets the last quotes first and then every new one:
//! `cargo run --example market_feed`.

use pagemate::queue::topic::From;
use pagemate::{Event, Message, Process, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Message)]
#[repr(C)]
struct Quote {
    number: u64,
    price: f64,
}

/// Joins late. Returns the numbers of the first and the last quote, and their count.
fn late((quotes, joined): (Topic<Quote>, Event)) -> (u64, u64, u64) {
    let mut subscriber = quotes.subscribe(From::Last(10)).expect("the topic is intact");
    joined.set();
    let all: Vec<Quote> = subscriber.iter().map(|quote| quote.expect("the topic keeps enough")).collect();
    assert!(all.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
    (all[0].number, all[all.len() - 1].number, all.len() as u64)
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    // It is over when its last publisher is gone, whether it was dropped or killed.
    let quotes = Topic::builder(1024).ends_with_publishers(true).build()?;
    let feed = quotes.publisher();
    let publish = |number: u64| feed.publish(Quote { number, price: 100.0 + (number % 7) as f64 });
    (0..500).try_for_each(publish)?;
    let joined = Event::new()?;
    let subscriber = Process::spawn(late, (quotes.clone(), joined.clone()))?;
    joined.wait();
    (500..600).try_for_each(publish)?;
    drop(feed);
    let (first, last, count) = subscriber.join()?;
    println!("the late one saw {count} quotes, from {first} to {last}");
    Ok(())
}
