//! A hand-over in two phases, and its model: a clerk is killed at each of its steps.
//!
//! ```sh
//! cargo run                                            # the program
//! RUSTFLAGS="--cfg loom" cargo run --release           # its model
//! RUSTFLAGS="--cfg loom" cargo run --release -- fault  # finds the fault of `Heed::Nothing`
//! ```

use pagemate::sync::LockError;
use pagemate::{Message, Mutex, Queue, Result, Value};

/// The payment under way, and the last one that was booked.
#[derive(Clone, Copy, Debug, Default, Message)]
#[repr(C)]
struct Ledger {
    /// The number of the payment under way; 0: none.
    under_way: u64,
    amount: u64,
    /// The total before it.
    before: u64,
    /// The number of the last payment that was booked.
    booked: u64,
}

/// Payments, which clerks book.
#[derive(Clone)]
struct Office {
    /// The numbers of payments, and amounts.
    jobs: Queue<[u64; 2]>,
    ledger: Mutex<Ledger>,
    total: Value<u64>,
}

/// What a clerk does if another one has died at work.
#[derive(Clone, Copy, PartialEq)]
enum Heed {
    Deaths,
    /// The planted fault.
    Nothing,
}

impl Office {
    fn new() -> Result<Office> {
        Ok(Office {
            // A job whose clerk has died goes to another one.
            jobs: Queue::builder(2).redeliver(true).build()?,
            ledger: Mutex::new(Ledger::default())?,
            total: Value::new(0)?,
        })
    }

    /// Books one job, if there is one.
    fn work(&self, heed: Heed) {
        let mut ledger = match self.ledger.lock() {
            Ok(ledger) => ledger,
            Err(LockError::OwnerDied(mut ledger)) => {
                // The second phase, for the dead clerk, which may have come to that or not.
                if heed == Heed::Deaths && ledger.under_way != 0 {
                    self.book(&mut ledger);
                }
                ledger
            }
            Err(other) => panic!("{other}"),
        };
        let Ok(job) = self.jobs.try_recv_ref() else { return };
        // A clerk that died while it had the job may have booked it.
        if job[0] > ledger.booked {
            // The first phase: the payment is in the ledger before it leaves the queue.
            *ledger = Ledger { amount: job[1], before: self.total.get().unwrap(), ..*ledger };
            ledger.under_way = job[0];
        }
        drop(job);
        if ledger.under_way != 0 {
            self.book(&mut ledger);
        }
    }

    /// Performs the second phase. Doing it twice changes nothing.
    fn book(&self, ledger: &mut Ledger) {
        self.total.set(ledger.before + ledger.amount).unwrap();
        ledger.booked = ledger.under_way;
        ledger.under_way = 0;
    }
}

#[cfg(not(loom))]
fn main() -> Result<()> {
    let office = Office::new()?;
    office.jobs.send([1, 5]).unwrap();
    office.work(if std::env::args().any(|word| word == "fault") { Heed::Nothing } else { Heed::Deaths });
    println!("the total is {}", office.total.get().unwrap());
    Ok(())
}

#[cfg(loom)]
fn main() {
    let heed = if std::env::args().any(|word| word == "fault") { Heed::Nothing } else { Heed::Deaths };
    let begin = std::time::Instant::now();
    let summary = pagemate::model::model_within(1, move || {
        let office = Office::new().unwrap();
        let theirs = office.clone();
        office.jobs.send([1, 5]).unwrap();
        let clerk = pagemate::model::process(move || theirs.work(heed));
        pagemate::model::kill_somewhere(&clerk);
        office.work(heed);
        clerk.join();
        // Another clerk does what a dead one has left.
        office.work(heed);
        assert_eq!(office.total.get().unwrap(), 5, "a payment was lost or doubled");
    });
    assert!(summary.executions > 1);
    println!("{} interleavings, {} deaths, {:.1?}", summary.executions, summary.deaths, begin.elapsed());
}
