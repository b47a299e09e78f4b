//! One of two programs that share only a name and a layout: it sends ticks, and `market_reader`
//! receives them.
//!
//! ```text
//! cargo run --example market_reader -- prices &
//! cargo run --example ticker -- prices 100000
//! ```

use pagemate::{Message, Queue};

#[derive(Debug, Clone, Copy, Message)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[derive(Debug, Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    size: u32,
    side: Side,
    _pad: [u8; 3],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(count)) = (args.next(), args.next()) else {
        return Err("usage: ticker NAME COUNT".into());
    };
    let count: u32 = count.parse()?;
    let (ticks, _) = Queue::open_or_create(name, 256)?;
    for size in 1..=count {
        let side = if size % 2 == 0 { Side::Buy } else { Side::Sell };
        ticks.send(Tick { price: f64::from(size) / 4.0, size, side, _pad: [0; 3] })?;
    }
    ticks.close();
    // The reader may still be opening the queue, which is removed by the last process that leaves
    // it.
    while !ticks.is_empty() {
        std::thread::yield_now();
    }
    Ok(())
}
