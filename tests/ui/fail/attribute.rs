use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[message(krate = "pagemate")]
#[repr(C)]
struct Order {
    id: u64,
}

fn main() {}
