//! A ring between one producer and one consumer: `cargo run --example spsc`.

use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::Process;

fn produce(mut producer: Producer<u64>) {
    for n in 1..=1_000 {
        producer.send(n).expect("the consumer is alive");
    }
    // A batch is published once, and reads the other side's position once.
    producer.send_batch(&[1_001, 1_002, 1_003]).expect("the consumer is alive");
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (producer, mut consumer): (_, Consumer<u64>) = pagemate::spsc(256)?;
    // The role moves to the child: from here on this process has no producer.
    let child = Process::spawn(produce, producer)?;
    let sum = consumer.iter().sum::<Result<u64, _>>()?;
    child.join()?;
    println!("1 + 2 + ... + 1003 = {sum}");
    Ok(())
}
