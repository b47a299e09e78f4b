//! A raw futex: a value, a counter, one system call on each side. The least cost of a wake-up.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::thread::futex;

use crate::desk::{Desk, Line};
use crate::link::{Blocking, Result, Wire};
use crate::peer::Setup;

/// For each direction a line with the value and a line whose first word is the futex.
#[derive(Debug)]
pub struct RawFutex {
    desk: Desk,
    mine: usize,
    theirs: usize,
    received: u32,
}

/// Returns the futex word in a line.
fn word(line: &Line) -> &AtomicU32 {
    // SAFETY: the first half of an AtomicU64 is aligned for an AtomicU32 and as long-lived; nobody
    // uses this line's 64-bit side.
    unsafe { AtomicU32::from_ptr(line.0.as_ptr().cast()) }
}

impl Blocking for RawFutex {
    fn send(&mut self, value: u64) {
        let word = word(&self.desk.lines[self.mine + 1]);
        self.desk.lines[self.mine].0.store(value, Relaxed);
        word.fetch_add(1, Release); // pairs with recv()
        futex::wake(word, futex::Flags::empty(), 1).expect("a wake cannot fail");
    }

    fn recv(&mut self) -> u64 {
        let word = word(&self.desk.lines[self.theirs + 1]);
        // Pairs with send().
        while word.load(Acquire) == self.received {
            // Woken, changed meanwhile or interrupted: the word decides.
            let _ = futex::wait(word, futex::Flags::empty(), self.received, None);
        }
        self.received = self.received.wrapping_add(1);
        self.desk.lines[self.theirs].0.load(Relaxed)
    }
}

fn end(setup: &Setup, mine: usize, theirs: usize) -> Result<RawFutex> {
    Ok(RawFutex { desk: setup.desk_again()?, mine, theirs, received: 0 })
}

impl Wire for RawFutex {
    type End = RawFutex;
    type Offer = ();

    fn offer(_: &mut Setup) -> Result<()> {
        Ok(())
    }

    fn near(_: (), setup: &Setup) -> Result<RawFutex> {
        end(setup, 0, 2)
    }

    fn far(setup: &mut Setup) -> Result<RawFutex> {
        end(setup, 2, 0)
    }
}
