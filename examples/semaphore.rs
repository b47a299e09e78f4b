//! At most two processes at a time; permits of the dead return: `cargo run --example semaphore`.

use pagemate::{BoundedSemaphore, Process, Value};

fn visit((doors, inside, number): (BoundedSemaphore, Value<u32>, u32)) -> u32 {
    let _permit = doors.acquire().expect("acquired");
    let now = inside.fetch_add(1) + 1;
    if number == 0 {
        inside.fetch_sub(1);
        std::process::abort(); // with the permit in hand
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    inside.fetch_sub(1);
    now
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (doors, inside) = (BoundedSemaphore::new(2)?, Value::new(0)?);
    let mut visitors = Vec::new();
    for number in 0..6 {
        visitors.push(Process::spawn(visit, (doors.clone(), inside.clone(), number))?);
    }
    for visitor in visitors {
        match visitor.join() {
            Ok(now) => println!("{now} inside"),
            Err(error) => println!("{error}"),
        }
    }
    // Waits until the permit of the dead visitor has returned, at most 100 ms.
    let _both = [doors.acquire()?, doors.acquire()?];
    println!("both permits are free again");
    Ok(())
}
