//! What every contender looks like to a bench: an end of a two-way link for 8-byte messages.
//!
//! A contender implements what it can do. Between threads it is a [`Pair`], between processes a [`Wire`].

use std::error::Error;

use crate::peer::Setup;

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// An end that never blocks: the bench polls.
pub trait Polled: Send {
    /// False if there is no room now.
    fn try_send(&mut self, value: u64) -> bool;
    fn try_recv(&mut self) -> Option<u64>;
}

/// An end that takes several messages at a time, without blocking.
pub trait Batched: Send {
    /// Sends `first`, `first + 1`, ... up to `count` of them; how many found room, all or fewer.
    fn send_some(&mut self, first: u64, count: usize) -> usize;
    /// Receives what is there; how many that were.
    fn recv_some(&mut self, each: &mut impl FnMut(u64)) -> usize;
}

/// An end that sleeps until it can go on.
pub trait Blocking: Send {
    fn send(&mut self, value: u64);
    fn recv(&mut self) -> u64;
}

/// Both ends in one process, to be given to two threads.
pub trait Pair {
    type End: Send;
    fn pair() -> Result<(Self::End, Self::End)>;
}

/// One end here, one in another process.
pub trait Wire {
    type End;
    /// What the near side keeps between offering and having its end.
    type Offer;
    /// Creates what the far side will open, and leaves descriptors for it in `setup`.
    fn offer(setup: &mut Setup) -> Result<Self::Offer>;
    /// The near end; the far side has been started.
    fn near(offer: Self::Offer, setup: &Setup) -> Result<Self::End>;
    /// The far end, in the other process.
    fn far(setup: &mut Setup) -> Result<Self::End>;
}

/// The sending half of one direction.
pub trait Sending: Send {
    fn try_send(&mut self, value: u64) -> bool;
}

/// The receiving half of one direction.
pub trait Receiving: Send {
    fn try_recv(&mut self) -> Option<u64>;
}

/// Two directions, one end of each.
#[derive(Debug)]
pub struct Duplex<S, R> {
    pub tx: S,
    pub rx: R,
}

/// Two ends of two one-way channels, crossed.
pub fn crossed<S, R>(one: (S, R), other: (S, R)) -> (Duplex<S, R>, Duplex<S, R>) {
    (Duplex { tx: one.0, rx: other.1 }, Duplex { tx: other.0, rx: one.1 })
}

impl<S: Sending, R: Receiving> Polled for Duplex<S, R> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.tx.try_send(value)
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        self.rx.try_recv()
    }
}
