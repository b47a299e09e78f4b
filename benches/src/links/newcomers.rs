//! Publish and subscribe of younger crates, between processes: ringfire with backpressure, and
//! crossbar's bus with a bound. So neither loses a message.
//!
//! Each direction has one publisher, which creates its file. A subscriber attaches to it.

use std::time::{Duration, Instant};

use crossbar::{BusSubscriber, PodBus};
use ringfire::{FlowControl, RingConsumer, RingProducer, RingProducerBuilder};

use super::CAPACITY;
use crate::link::{Duplex, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

/// How long the near side waits for the file of the far side.
const PATIENCE: Duration = Duration::from_secs(10);

/// One direction of a crate.
pub trait Bus {
    type Tx;
    type Rx;
    fn publisher(name: &str) -> Result<Self::Tx>;
    fn subscriber(name: &str) -> Result<Self::Rx>;
}

/// Two directions.
#[derive(Debug)]
pub struct Both<B>(std::marker::PhantomData<B>);

impl<B: Bus> Wire for Both<B> {
    type End = Duplex<B::Tx, B::Rx>;
    type Offer = B::Tx;

    fn offer(setup: &mut Setup) -> Result<B::Tx> {
        B::publisher(&format!("{}-there", setup.name))
    }

    fn near(tx: B::Tx, setup: &Setup) -> Result<Self::End> {
        let (name, began) = (format!("{}-back", setup.name), Instant::now());
        let rx = loop {
            match B::subscriber(&name) {
                Ok(rx) => break rx,
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::yield_now(),
            }
        };
        Ok(Duplex { tx, rx })
    }

    fn far(setup: &mut Setup) -> Result<Self::End> {
        // First the subscriber: the near side publishes as soon as it sees our file.
        let rx = B::subscriber(&format!("{}-there", setup.name))?;
        Ok(Duplex { tx: B::publisher(&format!("{}-back", setup.name))?, rx })
    }
}

#[derive(Debug)]
pub struct Ringfire;

pub struct RingfireTx(RingProducer<u64>);

pub struct RingfireRx(RingConsumer<u64>);

impl Bus for Ringfire {
    type Tx = RingfireTx;
    type Rx = RingfireRx;

    fn publisher(name: &str) -> Result<RingfireTx> {
        let ring = RingProducerBuilder::new(CAPACITY as u64)
            .flow_control(FlowControl::LosslessBackpressure)
            .build(format!("/dev/shm/{name}"))?;
        Ok(RingfireTx(ring))
    }

    fn subscriber(name: &str) -> Result<RingfireRx> {
        Ok(RingfireRx(RingConsumer::attach(format!("/dev/shm/{name}"))?))
    }
}

impl Sending for RingfireTx {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.0.try_push(&value).is_ok()
    }
}

impl Receiving for RingfireRx {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        self.0.try_recv()
    }
}

#[derive(Debug)]
pub struct Crossbar;

pub struct CrossbarTx(PodBus<u64>);

pub struct CrossbarRx(BusSubscriber<u64>);

impl Bus for Crossbar {
    type Tx = CrossbarTx;
    type Rx = CrossbarRx;

    fn publisher(name: &str) -> Result<CrossbarTx> {
        Ok(CrossbarTx(PodBus::create_bounded(name, CAPACITY.next_power_of_two(), 0)?))
    }

    fn subscriber(name: &str) -> Result<CrossbarRx> {
        Ok(CrossbarRx(BusSubscriber::connect(name)?))
    }
}

impl Sending for CrossbarTx {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.0.try_publish(value).is_ok()
    }
}

impl Receiving for CrossbarRx {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        self.0.try_recv()
    }
}
