use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
union Either {
    number: u64,
    bytes: [u8; 8],
}

fn main() {}
