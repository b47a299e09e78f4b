//! ipc-channel: typed channels between processes over sockets.

use ipc_channel::ipc::{channel, IpcOneShotServer, IpcReceiver, IpcSender};
use ipc_channel::TryRecvError;

use crate::link::{Duplex, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

#[derive(Debug)]
pub struct IpcChannel;

type End = Duplex<IpcSender<u64>, IpcReceiver<u64>>;

/// The far side's first message: the channels to it and from it.
type Hello = (IpcSender<u64>, IpcReceiver<u64>);

impl Wire for IpcChannel {
    type End = End;
    type Offer = IpcOneShotServer<Hello>;

    /// The crate chooses the name under which the two meet.
    fn offer(setup: &mut Setup) -> Result<Self::Offer> {
        let (server, name) = IpcOneShotServer::new()?;
        setup.name = name;
        Ok(server)
    }

    fn near(offer: Self::Offer, _: &Setup) -> Result<End> {
        let (_, (tx, rx)) = offer.accept()?;
        Ok(Duplex { tx, rx })
    }

    fn far(setup: &mut Setup) -> Result<End> {
        let hello: IpcSender<Hello> = IpcSender::connect(setup.name.clone())?;
        let (near_tx, rx) = channel()?;
        let (tx, near_rx) = channel()?;
        hello.send((near_tx, near_rx))?;
        Ok(Duplex { tx, rx })
    }
}

impl Sending for IpcSender<u64> {
    fn try_send(&mut self, value: u64) -> bool {
        self.send(value).expect("the other end lives as long");
        true
    }
}

impl Receiving for IpcReceiver<u64> {
    fn try_recv(&mut self) -> Option<u64> {
        match IpcReceiver::try_recv(self) {
            Ok(value) => Some(value),
            Err(TryRecvError::Empty) => None,
            Err(error) => panic!("ipc-channel: {error}"),
        }
    }
}
