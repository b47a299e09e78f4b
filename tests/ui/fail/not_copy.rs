use pagemate::Message;

#[derive(Message)]
#[repr(C)]
struct Order {
    id: u64,
}

fn main() {}
