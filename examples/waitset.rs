//! One wait for a queue, an event and a process: `cargo run --example waitset`.

use pagemate::{Event, Process, Queue, WaitSet};

const NUMBERS: usize = 0;
const HALF: usize = 1;
const CHILD: usize = 2;

fn send((numbers, half): (Queue<u64>, Event)) {
    for n in 1..=10 {
        numbers.send(n).expect("the queue is open");
        if n == 5 {
            half.set();
        }
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (numbers, half) = (Queue::new(4)?, Event::new()?);
    let child = Process::spawn(send, (numbers.clone(), half.clone()))?;
    let mut set = WaitSet::new();
    set.add(NUMBERS, &numbers)?;
    set.add(HALF, &half)?;
    set.add(CHILD, &child)?;
    let (mut sum, mut is_over) = (0, false);
    while !is_over {
        for token in set.wait()? {
            match *token {
                NUMBERS => sum += numbers.try_iter().sum::<Result<u64, _>>()?,
                HALF => half.clear(),
                _ => is_over = true,
            }
        }
    }
    sum += numbers.try_iter().sum::<Result<u64, _>>()?;
    println!("the child has ended, the sum is {sum}");
    Ok(())
}
