use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C, packed)]
struct Order {
    urgent: bool,
    amount: u32,
}

fn main() {}
