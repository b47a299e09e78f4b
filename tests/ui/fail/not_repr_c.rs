use pagemate::Message;

#[derive(Clone, Copy, Message)]
struct Order {
    id: u64,
    amount: u64,
}

#[derive(Clone, Copy, Message)]
#[repr(align(16))]
struct Tuple(u64, u64);

fn main() {}
