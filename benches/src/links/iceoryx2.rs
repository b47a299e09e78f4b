//! iceoryx2: publish and subscribe through shared memory, between processes.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::CAPACITY;
use crate::link::{Duplex, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

#[derive(Debug)]
pub struct Iceoryx2;

type Port = ipc_threadsafe::Service;

#[derive(Debug)]
pub struct Tx(Publisher<Port, u64, ()>);

/// The fields that keep the others alive or clean up after them come last.
#[derive(Debug)]
#[allow(dead_code)]
pub struct Rx {
    subscriber: Subscriber<Port, u64, ()>,
    node: Node<Port>,
    sweep: Option<Sweep>,
}

/// Removes the crate's leftovers in the shared-memory directory, by the prefix that only this
/// session uses.
#[derive(Debug)]
struct Sweep(String);

impl Drop for Sweep {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir("/dev/shm") else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.0) {
                let _ = std::fs::remove_file(entry.path()); // or the crate itself was faster
            }
        }
    }
}

type End = Duplex<Tx, Rx>;

fn prefix(session: &str) -> String {
    format!("{session}-iceoryx2-")
}

/// Publishes under one name, subscribes to the other. Nothing is overwritten: a full buffer
/// refuses.
fn end(session: &str, send: &str, recv: &str) -> Result<End> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(session).as_bytes())?;
    let node = NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<Port>()?;
    let service = |name: &str| -> Result<_> {
        Ok(node
            .service_builder(&name.try_into()?)
            .publish_subscribe::<u64>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(CAPACITY)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()?)
    };
    let publisher = service(send)?
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::DiscardData)
        .create()?;
    let subscriber = service(recv)?.subscriber_builder().buffer_size(CAPACITY).create()?;
    Ok(Duplex { tx: Tx(publisher), rx: Rx { subscriber, node, sweep: None } })
}

impl Wire for Iceoryx2 {
    type End = End;
    type Offer = End;

    fn offer(setup: &mut Setup) -> Result<End> {
        let mut end = end(&setup.name, "there", "back")?;
        end.rx.sweep = Some(Sweep(prefix(&setup.name)));
        Ok(end)
    }

    fn near(offer: End, _: &Setup) -> Result<End> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<End> {
        end(&setup.name, "back", "there")
    }
}

impl Sending for Tx {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        self.0.send_copy(value).expect("a discarded message is no error") == 1
    }
}

impl Receiving for Rx {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        self.subscriber.receive().expect("the other end lives as long").map(|sample| *sample)
    }
}
