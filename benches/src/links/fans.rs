//! One sender and several receivers, each of which gets every message; and pagemate's topic as one.

use pagemate::queue::topic::{From, Publisher, RecvError, Subscriber};
use pagemate::Topic;

use super::CAPACITY;
use crate::link::Result;

/// What a receiver found.
#[derive(Debug)]
pub enum Seen {
    Message(u64),
    /// This number of messages was overwritten.
    Lost(u64),
    Nothing,
}

pub trait Fan {
    type Tx: Send;
    type Rx: Send;
    fn fan(consumers: usize) -> Result<(Self::Tx, Vec<Self::Rx>)>;
    /// Returns false if there is no room now.
    fn try_send(tx: &mut Self::Tx, value: u64) -> bool;
    fn try_recv(rx: &mut Self::Rx) -> Seen;
}

/// Publishers wait for all subscribers.
#[derive(Debug)]
pub struct Lossless;

/// Publishers wait for nobody.
#[derive(Debug)]
pub struct Lossy;

fn seen(result: Result<u64, RecvError>) -> Seen {
    match result {
        Ok(value) => Seen::Message(value),
        Err(RecvError::Lagged(count)) => Seen::Lost(count),
        Err(RecvError::Empty) => Seen::Nothing,
        Err(error) => panic!("{error}"),
    }
}

impl Fan for Lossless {
    type Tx = Publisher<u64>;
    type Rx = Subscriber<u64>;

    fn fan(consumers: usize) -> Result<(Self::Tx, Vec<Self::Rx>)> {
        let topic = Topic::new(CAPACITY)?;
        let all = (0..consumers).map(|_| topic.subscribe_lossless(From::Latest)).collect::<Result<_, _>>();
        Ok((topic.publisher(), all?))
    }

    #[inline]
    fn try_send(tx: &mut Self::Tx, value: u64) -> bool {
        tx.try_publish(value).is_ok()
    }

    #[inline]
    fn try_recv(rx: &mut Self::Rx) -> Seen {
        seen(rx.try_recv())
    }
}

impl Fan for Lossy {
    type Tx = Publisher<u64>;
    type Rx = Subscriber<u64>;

    fn fan(consumers: usize) -> Result<(Self::Tx, Vec<Self::Rx>)> {
        let topic = Topic::new(CAPACITY)?;
        let all = (0..consumers).map(|_| topic.subscribe(From::Latest)).collect::<Result<_, _>>();
        Ok((topic.publisher(), all?))
    }

    #[inline]
    fn try_send(tx: &mut Self::Tx, value: u64) -> bool {
        tx.try_publish(value).is_ok()
    }

    #[inline]
    fn try_recv(rx: &mut Self::Rx) -> Seen {
        seen(rx.try_recv())
    }
}
