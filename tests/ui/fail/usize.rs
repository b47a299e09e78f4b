use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    id: u64,
    count: usize,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Nested {
    delta: [isize; 4],
}

fn main() {}
