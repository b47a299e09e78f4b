use pagemate::Message;

type Count = usize;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    id: u64,
    count: Count,
}

fn main() {}
