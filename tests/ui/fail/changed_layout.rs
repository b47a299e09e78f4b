#![deny(unsafe_code)]
extern crate change;
use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[change::replace(C => C, align(16))]
#[repr(C)]
struct Wide {
    count: u64,
}

#[derive(Clone, Copy, Message)]
#[change::replace(u8 => u16)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

fn main() {}
