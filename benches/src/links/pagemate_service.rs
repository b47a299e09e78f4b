//! pagemate's request and response: the near side calls, the far side serves.

use pagemate::service::{Call, CallError, Client, Request, Server};
use pagemate::Service;

use super::CAPACITY_IN_PLACE;
use crate::link::{Blocking, Polled, Result, Wire};
use crate::peer::Setup;

#[derive(Debug)]
pub struct Calls;

/// An end. The client and the server are leaked, because calls and requests borrow them.
#[derive(Debug)]
pub enum End {
    Near { client: &'static Client<u64, u64>, call: Option<Call<'static, u64>>, answer: u64 },
    Far { server: &'static Server<u64, u64>, request: Option<Request<'static, u64, u64>> },
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

impl Wire for Calls {
    type End = End;
    type Offer = Service<u64, u64>;

    fn offer(setup: &mut Setup) -> Result<Self::Offer> {
        Ok(Service::create(setup.name.clone(), CAPACITY_IN_PLACE)?)
    }

    fn near(offer: Self::Offer, _: &Setup) -> Result<End> {
        let client = leak(offer.client().wait_for_server(true));
        Ok(End::Near { client, call: None, answer: 0 })
    }

    fn far(setup: &mut Setup) -> Result<End> {
        let service = Service::open(setup.name.clone())?;
        Ok(End::Far { server: leak(service.server()), request: None })
    }
}

impl Polled for End {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        match self {
            End::Near { client, call, .. } => match client.try_start(&value) {
                Ok(started) => {
                    *call = Some(started);
                    true
                }
                Err(CallError::Full) => false,
                Err(error) => panic!("the other end lives as long: {error}"),
            },
            End::Far { request, .. } => {
                let request = request.take().expect("an answer follows a request");
                request.reply(&value).is_ok() || panic!("the caller waits")
            }
        }
    }

    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        match self {
            End::Near { call, .. } => match call.take()?.try_wait() {
                Ok(answer) => Some(answer.expect("the server answers")),
                Err(pending) => {
                    *call = Some(pending);
                    None
                }
            },
            End::Far { server, request } => {
                let received = server.try_recv().ok()?;
                let value = *received;
                *request = Some(received);
                Some(value)
            }
        }
    }
}

impl Blocking for End {
    #[inline]
    fn send(&mut self, value: u64) {
        match self {
            End::Near { client, answer, .. } => *answer = client.call(&value).expect("the server answers"),
            End::Far { .. } => assert!(self.try_send(value)),
        }
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        match self {
            End::Near { answer, .. } => *answer,
            End::Far { server, request } => {
                let received = server.recv().expect("nobody closes the service");
                let value = *received;
                *request = Some(received);
                value
            }
        }
    }
}
