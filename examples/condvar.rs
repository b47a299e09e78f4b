//! A process waits until the data under a lock has changed: `cargo run --example condvar`.

use pagemate::{Condvar, Mutex, Process};

fn worker((jobs, changed): (Mutex<u32>, Condvar)) -> u32 {
    let mut done = 0;
    loop {
        let mut left = changed.wait_while(jobs.lock().unwrap(), |left| *left == 0).unwrap();
        if *left == u32::MAX {
            return done;
        }
        *left -= 1;
        done += 1;
        if *left == 0 {
            changed.notify_all();
        }
    }
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let (jobs, changed) = (Mutex::new(0)?, Condvar::new()?);
    let child = Process::spawn(worker, (jobs.clone(), changed.clone()))?;
    *jobs.lock()? = 5;
    changed.notify_all();
    // All are done: this number ends the worker.
    *changed.wait_while(jobs.lock()?, |left| *left > 0)? = u32::MAX;
    changed.notify_all();
    println!("the child did {} jobs", child.join()?);
    Ok(())
}
