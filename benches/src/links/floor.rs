//! The floors: bare cache lines going to and fro. No contender that checks, bounds or survives
//! anything can be faster.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::desk::Desk;
use crate::link::{Polled, Result, Wire};
use crate::peer::Setup;

/// One line for both directions: the value and, in its lowest two bits, whose turn it was.
#[derive(Debug)]
pub struct OneLine {
    desk: Desk,
    me: u64,
    other: u64,
}

impl Polled for OneLine {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.desk.lines[0].0.store(value << 2 | self.me, Release); // pairs with try_recv()
        true
    }

    /// Receives a value, if the two sides take turns: without a send in between, the same value is
    /// received again.
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        let seen = self.desk.lines[0].0.load(Acquire); // pairs with try_send()
        (seen & 3 == self.other).then_some(seen >> 2)
    }
}

impl Wire for OneLine {
    type End = OneLine;
    type Offer = ();

    fn offer(_: &mut Setup) -> Result<()> {
        Ok(())
    }

    fn near(_: (), setup: &Setup) -> Result<OneLine> {
        Ok(OneLine { desk: setup.desk_again()?, me: 1, other: 2 })
    }

    fn far(setup: &mut Setup) -> Result<OneLine> {
        Ok(OneLine { desk: setup.desk_again()?, me: 2, other: 1 })
    }
}

/// For each direction a line with the payload and a line with its number: the least that a ring
/// needs.
#[derive(Debug)]
pub struct TwoLines {
    desk: Desk,
    /// The lines that this end writes begin here, those it reads at the other's.
    mine: usize,
    theirs: usize,
    sent: u64,
    received: u64,
}

impl TwoLines {
    fn new(desk: Desk, mine: usize, theirs: usize) -> TwoLines {
        TwoLines { desk, mine, theirs, sent: 0, received: 0 }
    }
}

impl Polled for TwoLines {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.sent += 1;
        self.desk.lines[self.mine].0.store(value, Relaxed);
        self.desk.lines[self.mine + 1].0.store(self.sent, Release); // pairs with try_recv()
        true
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        // Pairs with try_send().
        if self.desk.lines[self.theirs + 1].0.load(Acquire) == self.received {
            return None;
        }
        self.received += 1;
        Some(self.desk.lines[self.theirs].0.load(Relaxed))
    }
}

impl Wire for TwoLines {
    type End = TwoLines;
    type Offer = ();

    fn offer(_: &mut Setup) -> Result<()> {
        Ok(())
    }

    fn near(_: (), setup: &Setup) -> Result<TwoLines> {
        Ok(TwoLines::new(setup.desk_again()?, 0, 2))
    }

    fn far(setup: &mut Setup) -> Result<TwoLines> {
        Ok(TwoLines::new(setup.desk_again()?, 2, 0))
    }
}
