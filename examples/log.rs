//! A log that ten processes write, in lines of any length: `cargo run --example log`.

use pagemate::{Process, Queue};

fn work((log, number): (Queue<str>, u32)) {
    for step in 1..=3 {
        let dots = ".".repeat(100 * step);
        log.send(&format!("worker {number}, step {step} {dots} done")).expect("the log is open");
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    // 256 lines, and 1 MiB for those that are longer than 104 bytes.
    let log = Queue::<str>::builder(256).quota(1 << 20).build()?;
    let lines = log.clone();
    let reader = std::thread::spawn(move || {
        let (mut count, mut bytes, mut line) = (0, 0, String::new());
        // Ends when the log is closed and every line was received.
        while let Ok(len) = lines.recv_into(&mut line) {
            assert!(line.ends_with(" done"), "a line is whole");
            (count, bytes) = (count + 1, bytes + len);
        }
        (count, bytes)
    });
    let spawn = |number| Process::spawn(work, (log.clone(), number));
    let workers = (0..10).map(spawn).collect::<pagemate::Result<Vec<_>>>()?;
    for worker in workers {
        worker.join()?;
    }
    log.close();
    let (count, bytes) = reader.join().expect("the reader does not panic");
    println!("ten processes wrote {count} lines, {bytes} bytes");
    Ok(())
}
