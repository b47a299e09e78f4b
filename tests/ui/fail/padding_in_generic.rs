use pagemate::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Stamped<T: Message> {
    time: u64,
    value: T,
}

fn main() {
    println!("{}", Stamped::<u64>::schema());
    println!("{}", Stamped::<u8>::schema());
}
