//! pagemate's ring between one producer and one consumer: between threads and between processes.

use pagemate::queue::spsc::{Consumer, Producer};
use pagemate::queue::{RecvError, SendError};
use pagemate::spsc;

use super::{CAPACITY, CAPACITY_IN_PLACE};
use crate::link::{crossed, Batched, Blocking, Duplex, Pair, Polled, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

#[derive(Debug)]
pub struct Spsc;

type End = Duplex<Producer<u64>, Consumer<u64>>;

/// Returns false if there is no room. No other error may occur in a bench.
#[inline]
pub(super) fn sent<T>(outcome: Result<(), SendError<T>>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) if error.is_full() => false,
        Err(error) => panic!("pagemate: {error}"),
    }
}

/// Returns `None` if there is no message. No other error may occur in a bench.
#[inline]
pub(super) fn received<T>(outcome: Result<T, RecvError>) -> Option<T> {
    match outcome {
        Ok(message) => Some(message),
        Err(RecvError::Empty) => None,
        Err(error) => panic!("pagemate: {error}"),
    }
}

impl Pair for Spsc {
    type End = End;

    fn pair() -> Result<(End, End)> {
        Ok(crossed(spsc(CAPACITY)?, spsc(CAPACITY)?))
    }
}

impl Wire for Spsc {
    type End = End;
    type Offer = End;

    fn offer(setup: &mut Setup) -> Result<End> {
        let tx = Producer::create(format!("{}-there", setup.name), CAPACITY)?;
        let rx = Consumer::create(format!("{}-back", setup.name), CAPACITY)?;
        Ok(Duplex { tx, rx })
    }

    fn near(offer: End, _: &Setup) -> Result<End> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<End> {
        let rx = Consumer::open(format!("{}-there", setup.name))?;
        let tx = Producer::open(format!("{}-back", setup.name))?;
        Ok(Duplex { tx, rx })
    }
}

impl Sending for Producer<u64> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        sent(Producer::try_send(self, value))
    }
}

impl Receiving for Consumer<u64> {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(Consumer::try_recv(self))
    }
}

impl Batched for End {
    #[inline]
    fn send_some(&mut self, first: u64, count: usize) -> usize {
        self.tx.try_chunk(count).map_or(0, |chunk| chunk.fill_from(first..first + count as u64))
    }

    #[inline]
    fn recv_some(&mut self, each: &mut impl FnMut(u64)) -> usize {
        let Some(chunk) = received(self.rx.try_chunk(CAPACITY)) else { return 0 };
        let (first, rest) = chunk.as_slices();
        first.iter().chain(rest).for_each(|&value| each(value));
        chunk.len()
    }
}

impl Blocking for End {
    #[inline]
    fn send(&mut self, value: u64) {
        self.tx.send(value).expect("the other end lives as long");
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        self.rx.recv().expect("the other end lives as long")
    }
}

/// Messages of `WORDS` words in place, of which only the first is touched.
#[derive(Debug)]
pub struct InPlace<const WORDS: usize> {
    tx: Producer<[u64; WORDS]>,
    rx: Consumer<[u64; WORDS]>,
}

impl<const WORDS: usize> Wire for InPlace<WORDS> {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let tx = Producer::create(format!("{}-there", setup.name), CAPACITY_IN_PLACE)?;
        let rx = Consumer::create(format!("{}-back", setup.name), CAPACITY_IN_PLACE)?;
        Ok(InPlace { tx, rx })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let rx = Consumer::open(format!("{}-there", setup.name))?;
        let tx = Producer::open(format!("{}-back", setup.name))?;
        Ok(InPlace { tx, rx })
    }
}

impl<const WORDS: usize> Polled for InPlace<WORDS> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        let Ok(mut slot) = self.tx.try_loan() else { return false };
        slot[0] = value;
        slot.send();
        true
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(self.rx.try_recv_ref()).map(|slot| slot[0])
    }
}
