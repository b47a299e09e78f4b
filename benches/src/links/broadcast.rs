//! tokio's broadcast channel and bus, between threads.

use std::sync::mpsc::TryRecvError;

use tokio::sync::broadcast;

use super::fans::{Fan, Seen};
use super::CAPACITY;
use crate::link::Result;

/// tokio's broadcast channel, polled. Receivers that are too slow lose messages.
#[derive(Debug)]
pub struct Tokio;

impl Fan for Tokio {
    type Tx = broadcast::Sender<u64>;
    type Rx = broadcast::Receiver<u64>;

    fn fan(consumers: usize) -> Result<(Self::Tx, Vec<Self::Rx>)> {
        let (tx, _) = broadcast::channel(CAPACITY);
        let all = (0..consumers).map(|_| tx.subscribe()).collect();
        Ok((tx, all))
    }

    #[inline]
    fn try_send(tx: &mut Self::Tx, value: u64) -> bool {
        // Without receivers it fails. Those that have everything are gone.
        let _ = tx.send(value);
        true
    }

    #[inline]
    fn try_recv(rx: &mut Self::Rx) -> Seen {
        match rx.try_recv() {
            Ok(value) => Seen::Message(value),
            Err(broadcast::error::TryRecvError::Lagged(count)) => Seen::Lost(count),
            Err(broadcast::error::TryRecvError::Empty) => Seen::Nothing,
            Err(broadcast::error::TryRecvError::Closed) => panic!("the sender is gone"),
        }
    }
}

/// bus: one sender, waits for all receivers.
#[derive(Debug)]
pub struct Bus;

impl Fan for Bus {
    type Tx = bus::Bus<u64>;
    type Rx = bus::BusReader<u64>;

    fn fan(consumers: usize) -> Result<(Self::Tx, Vec<Self::Rx>)> {
        let mut bus = bus::Bus::new(CAPACITY);
        let all = (0..consumers).map(|_| bus.add_rx()).collect();
        Ok((bus, all))
    }

    #[inline]
    fn try_send(tx: &mut Self::Tx, value: u64) -> bool {
        tx.try_broadcast(value).is_ok()
    }

    #[inline]
    fn try_recv(rx: &mut Self::Rx) -> Seen {
        match rx.try_recv() {
            Ok(value) => Seen::Message(value),
            Err(TryRecvError::Empty) => Seen::Nothing,
            Err(TryRecvError::Disconnected) => panic!("the sender is gone"),
        }
    }
}
