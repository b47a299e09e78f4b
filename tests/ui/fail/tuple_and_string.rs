use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    pair: (u32, u32),
}

#[derive(Clone, Message)]
#[repr(C)]
struct Letter {
    text: String,
}

fn main() {}
