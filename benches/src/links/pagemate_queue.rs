//! pagemate's queue of many producers and many consumers: between threads and between processes.

use pagemate::Queue;

use super::pagemate_spsc::{received, sent};
use super::{CAPACITY, CAPACITY_IN_PLACE};
use crate::link::{crossed, Blocking, Duplex, Pair, Polled, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

/// Two queues, one for each direction.
#[derive(Debug)]
pub struct Queues;

type End = Duplex<Queue<u64>, Queue<u64>>;

impl Pair for Queues {
    type End = End;

    fn pair() -> Result<(End, End)> {
        let (there, back) = (Queue::new(CAPACITY)?, Queue::new(CAPACITY)?);
        Ok(crossed((there.clone(), there), (back.clone(), back)))
    }
}

impl Wire for Queues {
    type End = End;
    type Offer = End;

    fn offer(setup: &mut Setup) -> Result<End> {
        let tx = Queue::create(format!("{}-there", setup.name), CAPACITY)?;
        let rx = Queue::create(format!("{}-back", setup.name), CAPACITY)?;
        Ok(Duplex { tx, rx })
    }

    fn near(offer: End, _: &Setup) -> Result<End> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<End> {
        let rx = Queue::open(format!("{}-there", setup.name))?;
        let tx = Queue::open(format!("{}-back", setup.name))?;
        Ok(Duplex { tx, rx })
    }
}

impl Sending for Queue<u64> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        sent(Queue::try_send(self, value))
    }
}

impl Receiving for Queue<u64> {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(Queue::try_recv(self))
    }
}

impl Blocking for End {
    #[inline]
    fn send(&mut self, value: u64) {
        self.tx.send(value).expect("nobody closes the queue");
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        self.rx.recv().expect("nobody closes the queue")
    }
}

/// One queue that both sides send to and receive from.
#[derive(Debug)]
pub struct Shared;

impl Pair for Shared {
    type End = Queue<u64>;

    fn pair() -> Result<(Self::End, Self::End)> {
        let queue = Queue::new(CAPACITY)?;
        Ok((queue.clone(), queue))
    }
}

impl Wire for Shared {
    type End = Queue<u64>;
    type Offer = Queue<u64>;

    fn offer(setup: &mut Setup) -> Result<Self::End> {
        Ok(Queue::create(setup.name.clone(), CAPACITY)?)
    }

    fn near(offer: Self::End, _: &Setup) -> Result<Self::End> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self::End> {
        Ok(Queue::open(setup.name.clone())?)
    }
}

/// Messages of `WORDS` words in place, of which only the first is touched.
#[derive(Debug)]
pub struct InPlace<const WORDS: usize> {
    tx: Queue<[u64; WORDS]>,
    rx: Queue<[u64; WORDS]>,
}

impl<const WORDS: usize> Wire for InPlace<WORDS> {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let tx = Queue::create(format!("{}-there", setup.name), CAPACITY_IN_PLACE)?;
        let rx = Queue::create(format!("{}-back", setup.name), CAPACITY_IN_PLACE)?;
        Ok(InPlace { tx, rx })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let rx = Queue::open(format!("{}-there", setup.name))?;
        let tx = Queue::open(format!("{}-back", setup.name))?;
        Ok(InPlace { tx, rx })
    }
}

impl<const WORDS: usize> Polled for InPlace<WORDS> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        let Ok(mut loan) = self.tx.try_loan() else { return false };
        loan[0] = value;
        sent(loan.try_send())
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(self.rx.try_recv_ref()).map(|message| message[0])
    }
}

/// As [`InPlace`], with messages of any length. A long one is a block of the queue's quota.
#[derive(Debug)]
pub struct Varying<const WORDS: usize> {
    tx: Queue<[u64]>,
    rx: Queue<[u64]>,
}

impl<const WORDS: usize> Wire for Varying<WORDS> {
    type End = Self;
    type Offer = Self;

    fn offer(setup: &mut Setup) -> Result<Self> {
        let quota = 4 * CAPACITY_IN_PLACE as u64 * 8 * WORDS as u64;
        let create = |name: String| {
            Queue::<[u64]>::builder(CAPACITY_IN_PLACE).quota(quota).create(format!("{}-{name}", setup.name))
        };
        Ok(Varying { tx: create("there".into())?, rx: create("back".into())? })
    }

    fn near(offer: Self, _: &Setup) -> Result<Self> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let rx = Queue::open(format!("{}-there", setup.name))?;
        let tx = Queue::open(format!("{}-back", setup.name))?;
        Ok(Varying { tx, rx })
    }
}

impl<const WORDS: usize> Polled for Varying<WORDS> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        let Ok(mut room) = self.tx.try_loan(WORDS) else { return false };
        room[0].write(value);
        // SAFETY: shared memory is initialised, and any bytes are words. Nobody reads the others.
        let loan = unsafe { room.assume_init() }.expect("any bytes are words");
        sent(loan.try_send())
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(self.rx.try_recv_ref()).map(|message| message[0])
    }
}
