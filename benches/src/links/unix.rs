//! The kernel's channels: pipes and a socket pair, polled without blocking, as the other contenders
//! are.

use std::os::fd::OwnedFd;

use rustix::io::{fcntl_dupfd_cloexec, read, write, Errno};
use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{pipe_with, PipeFlags};

use crate::link::{Blocking, Duplex, Receiving, Result, Sending, Wire};
use crate::peer::Setup;

/// A descriptor that is written to eight bytes at a time: atomic for pipes and sequenced packets.
#[derive(Debug)]
pub struct Writer(OwnedFd);

#[derive(Debug)]
pub struct Reader(OwnedFd);

impl Sending for Writer {
    #[inline]
    fn try_send(&mut self, value: u64) -> bool {
        match write(&self.0, &value.to_ne_bytes()) {
            Ok(8) => true,
            Err(Errno::AGAIN) => false,
            other => panic!("eight bytes were written as {other:?}"),
        }
    }
}

impl Receiving for Reader {
    #[inline]
    fn try_recv(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        match read(&self.0, &mut bytes) {
            Ok(8) => Some(u64::from_ne_bytes(bytes)),
            Err(Errno::AGAIN) => None,
            other => panic!("eight bytes were read as {other:?}"),
        }
    }
}

type End = Duplex<Writer, Reader>;

/// Two pipes.
#[derive(Debug)]
pub struct Pipe;

impl Wire for Pipe {
    type End = End;
    type Offer = End;

    fn offer(setup: &mut Setup) -> Result<End> {
        let (far_reads, near_writes) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (near_reads, far_writes) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        setup.fds.extend([far_writes, far_reads]);
        Ok(Duplex { tx: Writer(near_writes), rx: Reader(near_reads) })
    }

    fn near(offer: End, _: &Setup) -> Result<End> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<End> {
        Ok(Duplex { tx: Writer(setup.take()?), rx: Reader(setup.take()?) })
    }
}

/// A pair of sequenced-packet sockets whose ends block.
#[derive(Debug)]
pub struct BlockingSocketPair;

impl Wire for BlockingSocketPair {
    type End = Socket;
    type Offer = Socket;

    fn offer(setup: &mut Setup) -> Result<Socket> {
        let kind = SocketType::SEQPACKET;
        let (near, far) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        setup.fds.push(far);
        Ok(Socket(near))
    }

    fn near(offer: Socket, _: &Setup) -> Result<Socket> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<Socket> {
        Ok(Socket(setup.take()?))
    }
}

#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Blocking for Socket {
    #[inline]
    fn send(&mut self, value: u64) {
        assert_eq!(write(&self.0, &value.to_ne_bytes()), Ok(8));
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        let mut bytes = [0; 8];
        assert_eq!(read(&self.0, &mut bytes), Ok(8));
        u64::from_ne_bytes(bytes)
    }
}

/// A pair of sequenced-packet sockets.
#[derive(Debug)]
pub struct SocketPair;

impl Wire for SocketPair {
    type End = End;
    type Offer = End;

    fn offer(setup: &mut Setup) -> Result<End> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        setup.fds.push(far);
        both(near)
    }

    fn near(offer: End, _: &Setup) -> Result<End> {
        Ok(offer)
    }

    fn far(setup: &mut Setup) -> Result<End> {
        both(setup.take()?)
    }
}

fn both(socket: OwnedFd) -> Result<End> {
    let second = fcntl_dupfd_cloexec(&socket, 0)?;
    Ok(Duplex { tx: Writer(socket), rx: Reader(second) })
}
