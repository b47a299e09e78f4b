//! Many processes read, one writes: `cargo run --example rwlock`.

use pagemate::{Message, Process, RwLock};

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Quote {
    bid: f64,
    ask: f64,
}

fn reader(quote: RwLock<Quote>) -> u32 {
    let mut reads = 0;
    loop {
        let quote = quote.read().expect("no writer has died");
        assert_eq!(quote.ask - quote.bid, 1.0, "never half of a change");
        reads += 1;
        if quote.bid == 100.0 {
            return reads;
        }
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let quote = RwLock::new(Quote { bid: 0.0, ask: 1.0 })?;
    let readers = [Process::spawn(reader, quote.clone())?, Process::spawn(reader, quote.clone())?];
    for n in 1..=100 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let mut quote = quote.write()?;
        quote.bid = f64::from(n);
        quote.ask = quote.bid + 1.0;
    }
    for reader in readers {
        println!("a reader has seen {} quotes, none of them half changed", reader.join()?);
    }
    Ok(())
}
