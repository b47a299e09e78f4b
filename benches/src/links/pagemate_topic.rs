//! pagemate's topic, between threads and between processes, with lossless subscribers: the other
//! contenders lose nothing either.

use pagemate::queue::topic::{From, Publisher, RecvError, Subscriber};
use pagemate::queue::Payload;
use pagemate::Topic;

use super::pagemate_spsc::sent;
use super::{CAPACITY, CAPACITY_IN_PLACE};
use crate::link::{crossed, Duplex, Pair, Polled, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

/// Two topics, one for each direction.
#[derive(Debug)]
pub struct Topics;

type End = Duplex<Publisher<u64>, Subscriber<u64>>;

/// The near end before the far side has subscribed.
#[derive(Debug)]
pub struct Offer<T: Payload + ?Sized>(Publisher<T>, Subscriber<T>);

pub fn received<T>(result: Result<T, RecvError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(RecvError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Pair for Topics {
    type End = End;

    fn pair() -> Result<(End, End)> {
        let channel = || -> Result<_> {
            let topic = Topic::new(CAPACITY)?;
            Ok((topic.publisher(), topic.subscribe_lossless(From::Latest)?))
        };
        Ok(crossed(channel()?, channel()?))
    }
}

impl Wire for Topics {
    type End = End;
    type Offer = Offer<u64>;

    fn offer(setup: &mut Setup) -> Result<Self::Offer> {
        offer(setup, CAPACITY)
    }

    fn near(Offer(tx, rx): Self::Offer, _: &Setup) -> Result<End> {
        Ok(Duplex { tx, rx })
    }

    fn far(setup: &mut Setup) -> Result<End> {
        let Offer(tx, rx) = far(setup)?;
        Ok(Duplex { tx, rx })
    }
}

fn offer<T: pagemate::Message>(setup: &Setup, capacity: usize) -> Result<Offer<T>> {
    let there = Topic::create(format!("{}-there", setup.name), capacity)?;
    let back = Topic::create(format!("{}-back", setup.name), capacity)?;
    Ok(Offer(there.publisher(), back.subscribe_lossless(From::Latest)?))
}

fn far<T: Payload + ?Sized>(setup: &Setup) -> Result<Offer<T>> {
    let there = Topic::open(format!("{}-there", setup.name))?;
    let back = Topic::open(format!("{}-back", setup.name))?;
    Ok(Offer(back.publisher(), there.subscribe_lossless(From::Latest)?))
}

impl Sending for Publisher<u64> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        sent(self.try_publish(value))
    }
}

impl Receiving for Subscriber<u64> {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(Subscriber::try_recv(self))
    }
}

/// Messages of `WORDS` words in place, of which only the first is touched.
#[derive(Debug)]
pub struct InPlace<const WORDS: usize> {
    tx: Publisher<[u64; WORDS]>,
    rx: Subscriber<[u64; WORDS]>,
}

impl<const WORDS: usize> Wire for InPlace<WORDS> {
    type End = Self;
    type Offer = Offer<[u64; WORDS]>;

    fn offer(setup: &mut Setup) -> Result<Self::Offer> {
        offer(setup, CAPACITY_IN_PLACE)
    }

    fn near(Offer(tx, rx): Self::Offer, _: &Setup) -> Result<Self> {
        Ok(InPlace { tx, rx })
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let Offer(tx, rx) = far(setup)?;
        Ok(InPlace { tx, rx })
    }
}

impl<const WORDS: usize> Polled for InPlace<WORDS> {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        let Ok(mut loan) = self.tx.try_loan() else { return false };
        loan[0] = value;
        sent(loan.try_publish())
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(self.rx.try_recv_ref().map(|message| message[0]))
    }
}

/// As [`InPlace`], with messages of any length. A long one is a block of the topic's quota.
#[derive(Debug)]
pub struct Varying<const WORDS: usize> {
    tx: Publisher<[u64]>,
    rx: Subscriber<[u64]>,
}

impl<const WORDS: usize> Wire for Varying<WORDS> {
    type End = Self;
    type Offer = Offer<[u64]>;

    fn offer(setup: &mut Setup) -> Result<Self::Offer> {
        let quota = 4 * CAPACITY_IN_PLACE as u64 * 8 * WORDS as u64;
        let create = |name: &str| {
            Topic::<[u64]>::builder(CAPACITY_IN_PLACE).quota(quota).create(format!("{}-{name}", setup.name))
        };
        let (there, back) = (create("there")?, create("back")?);
        Ok(Offer(there.publisher(), back.subscribe_lossless(From::Latest)?))
    }

    fn near(Offer(tx, rx): Self::Offer, _: &Setup) -> Result<Self> {
        Ok(Varying { tx, rx })
    }

    fn far(setup: &mut Setup) -> Result<Self> {
        let Offer(tx, rx) = far(setup)?;
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
        sent(loan.try_publish())
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        received(self.rx.try_recv_ref().map(|message| message[0]))
    }
}
