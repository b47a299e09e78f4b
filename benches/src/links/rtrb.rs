//! rtrb: a single-producer single-consumer ring between threads.

use rtrb::{Consumer, Producer, RingBuffer};

use super::CAPACITY;
use crate::link::{crossed, Batched, Duplex, Pair, Receiving, Result, Sending};

#[derive(Debug)]
pub struct Rtrb;

impl Pair for Rtrb {
    type End = Duplex<Producer<u64>, Consumer<u64>>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(crossed(RingBuffer::new(CAPACITY), RingBuffer::new(CAPACITY)))
    }
}

impl Sending for Producer<u64> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.push(value).is_ok()
    }
}

impl Receiving for Consumer<u64> {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        self.pop().ok()
    }
}

impl Batched for Duplex<Producer<u64>, Consumer<u64>> {
    #[inline]
    fn send_some(&mut self, first: u64, count: usize) -> usize {
        match self.tx.write_chunk_uninit(count) {
            Ok(chunk) => chunk.fill_from_iter(first..first + count as u64),
            Err(_) => 0,
        }
    }

    #[inline]
    fn recv_some(&mut self, each: &mut impl FnMut(u64)) -> usize {
        let there = self.rx.slots();
        match self.rx.read_chunk(there) {
            Ok(chunk) => {
                chunk.into_iter().for_each(each);
                there
            }
            Err(_) => 0,
        }
    }
}
