//! Ends the program if one repetition takes far too long, because a side may be polling for a
//! message that never comes.

use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// No repetition takes nearly this long.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub struct Watchdog(Sender<String>);

impl Watchdog {
    pub fn new() -> Watchdog {
        let (begins, repetitions) = channel::<String>();
        thread::spawn(move || {
            let mut current = "the start".to_string();
            loop {
                match repetitions.recv_timeout(PATIENCE) {
                    Ok(next) => current = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("benches: no end of {current} after {} seconds", PATIENCE.as_secs());
                        std::process::exit(3);
                    }
                }
            }
        });
        Watchdog(begins)
    }

    /// Records that a repetition begins, so the one before has ended.
    pub fn begins(&self, what: &str) {
        let _ = self.0.send(what.to_string());
    }
}
