use pagemate::Message;

#[derive(Clone, Copy)]
#[repr(C)]
struct Inner(u32);

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    id: u64,
    inner: Inner,
    more: Option<u64>,
}

fn main() {}
