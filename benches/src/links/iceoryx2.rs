//! iceoryx2: publish and subscribe, and request and response, through shared memory, between
//! processes.

use iceoryx2::active_request::ActiveRequest;
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::client::Client;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::server::Server;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::CAPACITY;
use crate::link::{Duplex, Polled, Receiving, Result, Sending, Wire};
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

fn node(session: &str) -> Result<Node<Port>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(session).as_bytes())?;
    let builder = NodeBuilder::new().config(&config);
    Ok(builder.signal_handling_mode(SignalHandlingMode::Disabled).create::<Port>()?)
}

/// Publishes under one name, subscribes to the other. Nothing is overwritten: a full buffer
/// refuses.
fn end(session: &str, send: &str, recv: &str) -> Result<End> {
    let node = node(session)?;
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

/// Request and response: the near side calls, the far side serves.
#[derive(Debug)]
pub struct Iceoryx2Calls;

type Pending = PendingResponse<Port, u64, (), u64, ()>;
type Active = ActiveRequest<Port, u64, (), u64, ()>;

/// The fields that keep the others alive or clean up after them come last.
#[derive(Debug)]
#[allow(dead_code)]
pub struct CallEnd {
    part: Part,
    node: Node<Port>,
    sweep: Option<Sweep>,
}

#[derive(Debug)]
enum Part {
    Near { pending: Option<Pending>, client: Client<Port, u64, (), u64, ()> },
    Far { active: Option<Active>, server: Server<Port, u64, (), u64, ()> },
}

fn call_end(session: &str, is_near: bool) -> Result<CallEnd> {
    let node = node(session)?;
    let service = node
        .service_builder(&"calls".try_into()?)
        .request_response::<u64, u64>()
        .enable_safe_overflow_for_requests(false)
        .enable_safe_overflow_for_responses(false)
        .max_clients(1)
        .max_servers(1)
        .open_or_create()?;
    let part = match is_near {
        true => Part::Near { pending: None, client: service.client_builder().create()? },
        false => Part::Far { active: None, server: service.server_builder().create()? },
    };
    Ok(CallEnd { part, node, sweep: None })
}

impl Wire for Iceoryx2Calls {
    type End = CallEnd;
    type Offer = CallEnd;

    fn offer(setup: &mut Setup) -> Result<CallEnd> {
        let mut end = call_end(&setup.name, true)?;
        end.sweep = Some(Sweep(prefix(&setup.name)));
        Ok(end)
    }

    fn near(offer: CallEnd, _: &Setup) -> Result<CallEnd> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<CallEnd> {
        call_end(&setup.name, false)
    }
}

impl Polled for CallEnd {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        match &mut self.part {
            Part::Near { pending, client } => {
                *pending = Some(client.send_copy(value).expect("there is room for one request"));
            }
            Part::Far { active, .. } => {
                let active = active.take().expect("an answer follows a request");
                active.send_copy(value).expect("there is room for one answer");
            }
        }
        true
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        match &mut self.part {
            Part::Near { pending, .. } => {
                let answer = pending.as_ref()?.receive().expect("the other end lives as long")?;
                *pending = None;
                Some(*answer)
            }
            Part::Far { active, server } => {
                let received = server.receive().expect("the other end lives as long")?;
                let value = *received;
                *active = Some(received);
                Some(value)
            }
        }
    }
}
