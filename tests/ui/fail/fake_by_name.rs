#![deny(unsafe_code)]
extern crate fake as pagemate;

#[derive(Clone, Copy, pagemate::Message)]
#[repr(C)]
struct Order {
    urgent: bool,
    amount: u64,
}

#[derive(Clone, Copy, pagemate::Message)]
#[repr(C)]
struct Stamped<T> {
    time: u64,
    value: T,
}

fn main() {
    println!("{}", <Stamped<u8> as pagemate::Message>::schema());
}
