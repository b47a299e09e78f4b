#![deny(unsafe_code)]
extern crate fake;

#[derive(Clone, Copy, pagemate::Message)]
#[message(crate = "fake")]
#[repr(C)]
struct Order {
    urgent: bool,
    amount: u64,
}

fn main() {}
