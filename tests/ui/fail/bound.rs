fn send<T: pagemate::Message>(_: T) {}

fn main() {
    send(1usize);
    send("text");
}
