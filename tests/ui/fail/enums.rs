use pagemate::Message;

#[derive(Clone, Copy, Message)]
enum NoInteger {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Message)]
#[repr(u8)]
enum WithData {
    Buy,
    Sell(u32),
}

#[derive(Clone, Copy, Message)]
#[repr(usize)]
enum Machine {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Message)]
#[repr(u8, align(8))]
enum Wide {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
enum LikeC {
    Buy,
    Sell,
}

fn main() {}
