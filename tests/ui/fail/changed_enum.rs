#![deny(unsafe_code)]
extern crate change;
use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[change::replace(Sell => Sell, Hold)]
#[repr(u8)]
enum More {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Message)]
#[change::replace(Sell => Sell(bool))]
#[repr(u8)]
enum Data {
    Buy,
    Sell,
}

fn main() {}
