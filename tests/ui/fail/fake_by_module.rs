#![deny(unsafe_code)]

mod pagemate {
    pub use ::pagemate::*;

    pub mod __private {
        pub use ::pagemate::__private::*;

        pub const fn gap(_: usize, _: usize, _: &str, _: &str) -> Option<Gap> {
            None
        }
    }
}

#[derive(Clone, Copy, pagemate::Message)]
#[message(crate = "pagemate")]
#[repr(C)]
struct Order {
    urgent: bool,
    amount: u64,
}

fn main() {}
