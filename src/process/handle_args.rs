//! Handles as arguments: the child is a participant before it runs.
//!
//! Handles that any number of processes may have are all packed in the same way, and become
//! arguments in the table of kinds, [`crate::registry`]. Here are the others. A handle that can
//! have only one holder (producer, consumer, end of a pipe) changes hands before the child is
//! started. If the child is then not started, the holder counts as dead: the other side sees the
//! end, as it would if the child had died.

use crate::collections::manager::Manager;
use crate::message::Payload;
use crate::pipe::state::Direction;
use crate::pipe::{Connection, PipeReader, PipeWriter, ReaderState};
use crate::process::argument::Argument;
use crate::process::codec::{damaged, Packer, Unpacker};
use crate::queue::byte_ring::{Partial, Sort};
use crate::queue::spsc::{Consumer, Producer};
use crate::queue::{Receiver, Sender};
use crate::segment::Segment;
use crate::service::{Client, Server, Service};
use crate::Result;

impl Argument for Segment {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.attachment(self.attachment()).map(drop)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Segment> {
        unpacker.attachment().map(Segment::from_attachment)
    }
}

impl Argument for Manager {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        packer.attachment(self.segment().attachment()).map(drop)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Manager> {
        unpacker.attachment().map(Segment::from_attachment).map(Manager::from)
    }
}

impl<T: Payload + ?Sized> Argument for Sender<T> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Sender<T>> {
        unpacker.handle().map(Sender::from_parent)
    }
}

impl<T: Payload + ?Sized> Argument for Receiver<T> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Receiver<T>> {
        unpacker.handle().map(Receiver::from_parent)
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Argument for Server<Q, R> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Server<Q, R>> {
        unpacker.handle().map(Server::from_parent)
    }
}

impl<Q: Payload + ?Sized, R: Payload + ?Sized> Argument for Client<Q, R> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let (wait_for_server, object) = self.parts();
        packer.object(object)?;
        wait_for_server.pack(packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Client<Q, R>> {
        let service: Service<Q, R> = unpacker.handle()?;
        Ok(service.client().wait_for_server(bool::unpack(unpacker)?))
    }
}

impl<T: Payload + ?Sized> Argument for Producer<T> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Producer<T>> {
        Producer::from_parent(unpacker.handle()?)
    }
}

impl<T: Payload + ?Sized> Argument for Consumer<T> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Consumer<T>> {
        Consumer::from_parent(unpacker.handle()?)
    }
}

impl Argument for Connection {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let (state, direction) = self.into_child(|object| packer.object(object))?;
        pack_reader(state, packer)?;
        pack_direction(direction, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Connection> {
        let rings = unpacker.handle()?;
        let state = unpack_reader(unpacker)?;
        Connection::from_parent(rings, state, unpack_direction(unpacker)?)
    }
}

impl Argument for PipeReader {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let state = self.into_child(|object| packer.object(object))?;
        pack_reader(state, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<PipeReader> {
        let rings = unpacker.handle()?;
        PipeReader::from_parent(rings, unpack_reader(unpacker)?)
    }
}

impl Argument for PipeWriter {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let direction = self.into_child(|object| packer.object(object))?;
        pack_direction(direction, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<PipeWriter> {
        let rings = unpacker.handle()?;
        PipeWriter::from_parent(rings, unpack_direction(unpacker)?)
    }
}

fn pack_direction(direction: Direction, packer: &mut Packer) -> Result<()> {
    (direction == Direction::Back).pack(packer)
}

fn unpack_direction(unpacker: &mut Unpacker<'_>) -> Result<Direction> {
    Ok(if bool::unpack(unpacker)? { Direction::Back } else { Direction::There })
}

/// Packs what a reader has read already: a message that has begun, and the layouts it knows.
fn pack_reader(state: ReaderState, packer: &mut Packer) -> Result<()> {
    let ReaderState { direction, partial: Partial { head, is_complete, parts }, layouts } = state;
    pack_direction(direction, packer)?;
    let head = head.map(|(sort, tag)| (sort as u32, tag));
    (head, is_complete, parts, layouts).pack(packer)
}

fn unpack_reader(unpacker: &mut Unpacker<'_>) -> Result<ReaderState> {
    let direction = unpack_direction(unpacker)?;
    let (head, is_complete, parts, layouts) = <(Option<(u32, u64)>, _, _, _)>::unpack(unpacker)?;
    let head = match head {
        None => None,
        Some((sort, tag)) => {
            let sort = Sort::from_number(sort).ok_or_else(|| damaged("is not a valid value"))?;
            Some((sort, tag))
        }
    };
    Ok(ReaderState { direction, partial: Partial { head, is_complete, parts }, layouts })
}
