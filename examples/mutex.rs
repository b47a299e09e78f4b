//! A mutex with its data, and the state that a killed holder leaves: `cargo run --example mutex`.

use pagemate::sync::{LockError, MutexGuard};
use pagemate::{Mutex, Process};

fn deposit((account, amount): (Mutex<u64>, u64)) {
    for _ in 0..amount {
        *account.lock().expect("no holder has died") += 1;
    }
}

fn die_inside(account: Mutex<u64>) {
    let mut balance = account.lock().expect("no holder has died");
    *balance = 0;
    std::process::abort(); // as sudden as a SIGKILL
}

fn main() -> pagemate::Result<()> {
    pagemate::init();
    let account = Mutex::new(0)?;
    let child = Process::spawn(deposit, (account.clone(), 1_000))?;
    deposit((account.clone(), 1_000));
    child.join()?;
    println!("balance: {}", *account.lock()?);

    let _ = Process::spawn(die_inside, account.clone())?.join();
    if let Err(LockError::OwnerDied(mut balance)) = account.lock() {
        println!("a holder died and left a balance of {}", *balance);
        *balance = 2_000;
        MutexGuard::mark_consistent(&mut balance);
    }
    println!("balance: {}", *account.lock()?);
    Ok(())
}
