//! crossbeam: the array queue, which polls, and the bounded channel, which sleeps. Both between
//! threads, many to many.

use std::sync::Arc;

use crossbeam_channel::{bounded, Receiver, Sender};
use crossbeam_queue::ArrayQueue;

use super::CAPACITY;
use crate::link::{crossed, Blocking, Duplex, Pair, Receiving, Result, Sending};

#[derive(Debug)]
pub struct Array;

impl Pair for Array {
    type End = Duplex<Arc<ArrayQueue<u64>>, Arc<ArrayQueue<u64>>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let one = Arc::new(ArrayQueue::new(CAPACITY));
        let other = Arc::new(ArrayQueue::new(CAPACITY));
        Ok(crossed((one.clone(), one), (other.clone(), other)))
    }
}

impl Sending for Arc<ArrayQueue<u64>> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.push(value).is_ok()
    }
}

impl Receiving for Arc<ArrayQueue<u64>> {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        self.pop()
    }
}

#[derive(Debug)]
pub struct Channel;

impl Pair for Channel {
    type End = Duplex<Sender<u64>, Receiver<u64>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(crossed(bounded(CAPACITY), bounded(CAPACITY)))
    }
}

impl Blocking for Duplex<Sender<u64>, Receiver<u64>> {
    #[inline]
    fn send(&mut self, value: u64) {
        self.tx.send(value).expect("the other end lives as long");
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        self.rx.recv().expect("the other end lives as long")
    }
}

/// One array queue that both sides send to and receive from.
#[derive(Debug)]
pub struct ArrayShared;

impl Pair for ArrayShared {
    type End = Arc<ArrayQueue<u64>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        Ok((queue.clone(), queue))
    }
}
