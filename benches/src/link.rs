//! Links, as the benches see them: an end of a two-way link for 8-byte messages.
//!
//! A contender implements the traits that fit it. Between threads it is a [`Pair`], between
//! processes a [`Wire`].

use std::error::Error;

use crate::peer::Setup;

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// An end that never blocks: the bench polls.
pub trait Polled: Send {
    /// Sends `value`; returns false if there is no room now.
    fn try_send(&mut self, value: u64) -> bool;
    fn try_recv(&mut self) -> Option<u64>;
}

/// An end that takes several messages at a time, without blocking.
pub trait Batched: Send {
    /// Sends `first`, `first + 1`, ... up to `count` of them; returns the number that found room.
    fn send_some(&mut self, first: u64, count: usize) -> usize;
    /// Receives what is there; returns the number received.
    fn recv_some(&mut self, each: &mut impl FnMut(u64)) -> usize;
}

/// An end that sleeps until it can continue.
pub trait Blocking: Send {
    fn send(&mut self, value: u64);
    fn recv(&mut self) -> u64;
}

/// Both ends in one process, for two threads.
pub trait Pair {
    type End: Send;
    fn pair() -> Result<(Self::End, Self::End)>;
}

/// One end here, one in another process.
pub trait Wire {
    type End;
    /// The near side's state between offering and having its end.
    type Offer;
    /// Creates what the far side will open, and leaves descriptors for it in `setup`.
    fn offer(setup: &mut Setup) -> Result<Self::Offer>;
    /// Returns the near end; the far side has been started.
    fn near(offer: Self::Offer, setup: &Setup) -> Result<Self::End>;
    /// Returns the far end, in the other process.
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

/// Returns the two ends of a connection that consists of two one-way channels.
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
