use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    id: u64,
    customer: &'static str,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Node {
    next: *const Node,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Borrows<'a> {
    bytes: &'a [u8],
}

fn main() {}
