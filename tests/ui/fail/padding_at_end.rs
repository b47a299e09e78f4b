use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    price: f64,
    urgent: bool,
}

#[derive(Clone, Copy, Message)]
#[repr(C, align(32))]
struct Line(u64, u64);

fn main() {}
