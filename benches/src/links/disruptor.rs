//! disruptor: the LMAX Disruptor between threads, one producer, and polling consumers.

use disruptor::{
    build_single_producer, BusySpin, EventPoller, MultiConsumerBarrier, Producer, SingleConsumerBarrier,
    SingleProducer, SingleProducerBarrier,
};

use super::fans::{Fan, Seen};
use super::CAPACITY;
use crate::link::{crossed, Batched, Duplex, Pair, Receiving, Result, Sending};

#[derive(Debug)]
pub struct Disruptor;

type Tx = SingleProducer<u64, SingleConsumerBarrier>;
type Rx = EventPoller<u64, SingleProducerBarrier>;

fn channel() -> (Tx, Rx) {
    let (poller, builder) = build_single_producer(CAPACITY, || 0, BusySpin).new_event_poller();
    (builder.build(), poller)
}

impl Pair for Disruptor {
    type End = Duplex<Tx, Rx>;

    fn pair() -> Result<(Self::End, Self::End)> {
        Ok(crossed(channel(), channel()))
    }
}

impl Sending for Tx {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.try_publish(|slot| *slot = value).is_ok()
    }
}

impl Receiving for Rx {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        let mut events = self.take(1).ok()?;
        (&mut events).next().copied()
    }
}

impl Batched for Duplex<Tx, Rx> {
    #[inline]
    fn send_some(&mut self, first: u64, count: usize) -> usize {
        let filled = self.tx.try_batch_publish(count, |slots| {
            for (slot, value) in slots.zip(first..) {
                *slot = value;
            }
        });
        filled.map_or(0, |_| count)
    }

    #[inline]
    fn recv_some(&mut self, each: &mut impl FnMut(u64)) -> usize {
        let Ok(mut events) = self.rx.poll() else { return 0 };
        let mut count = 0;
        for &value in &mut events {
            each(value);
            count += 1;
        }
        count
    }
}

impl Fan for Disruptor {
    type Tx = SingleProducer<u64, MultiConsumerBarrier>;
    type Rx = Rx;

    fn fan(consumers: usize) -> Result<(Self::Tx, Vec<Rx>)> {
        if consumers != 3 {
            return Err("each number of consumers has a type of its own".into());
        }
        let (one, builder) = build_single_producer(CAPACITY, || 0, BusySpin).new_event_poller();
        let (two, builder) = builder.new_event_poller();
        let (three, builder) = builder.new_event_poller();
        Ok((builder.build(), vec![one, two, three]))
    }

    #[inline]
    fn try_send(tx: &mut Self::Tx, value: u64) -> bool {
        tx.try_publish(|slot| *slot = value).is_ok()
    }

    #[inline]
    fn try_recv(rx: &mut Rx) -> Seen {
        Receiving::try_recv(rx).map_or(Seen::Nothing, Seen::Message)
    }
}
