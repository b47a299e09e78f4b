//! One of two programs that share only a name and a layout. It receives what `ticker` sends, and
//! declares the message itself.

use pagemate::{Message, Queue};

#[derive(Clone, Copy, PartialEq, Message)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    price: f64,
    size: u32,
    side: Side,
    _pad: [u8; 3],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: market_reader NAME")?;
    let (ticks, _) = Queue::<Tick>::open_or_create(name, 256)?;
    let (mut count, mut bought, mut turnover) = (0u64, 0u64, 0.0);
    for tick in &ticks {
        let tick = tick?;
        count += 1;
        turnover += tick.price * f64::from(tick.size);
        if tick.side == Side::Buy {
            bought += u64::from(tick.size);
        }
    }
    println!("{count} ticks, {bought} bought, turnover {turnover}");
    Ok(())
}
