//! Handles as arguments: the child is a participant before it runs.
//!
//! What can have only one holder (producer, consumer, end of a pipe) changes hands before the child is started. If it then is
//! not started, the role's holder counts as dead: the other side sees the end, as it would if the child had died.

use crate::array::Array;
use crate::dict::Dict;
use crate::item::Item;
use crate::kind::Kind;
use crate::list::List;
use crate::manager::Manager;
use crate::message::Message;
use crate::namespace::Namespace;
use crate::pipe::{Connection, Frame, Luggage, PipeReader, PipeWriter, Way};
use crate::place::Segment;
use crate::process::argument::Argument;
use crate::process::packer::{damaged, Packer, Unpacker};
use crate::queue::bytes::{Leftover, Sort};
use crate::queue::mpmc::Queue;
use crate::queue::spsc::{Consumer, Producer};
use crate::sync::barrier::Barrier;
use crate::sync::bounded::BoundedSemaphore;
use crate::sync::condvar::Condvar;
use crate::sync::event::Event;
use crate::sync::lock::Lock;
use crate::sync::mutex::Mutex;
use crate::sync::once::{Once, OnceValue};
use crate::sync::rlock::RLock;
use crate::sync::rwlock::RwLock;
use crate::sync::semaphore::Semaphore;
use crate::value::Value;
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

/// Handles that any number of processes may have: their types are called as their kinds are.
macro_rules! shared {
    ($($handle:ident $(<$($content:ident: $bound:ident $(+ ?$sized:ident)?),+>)?,)*) => {
        $(impl$(<$($content: $bound $(+ ?$sized)?),+>)? Argument for $handle$(<$($content),+>)? {
            const HAS_HANDLES: bool = true;

            fn pack(self, packer: &mut Packer) -> Result<()> {
                packer.object(self.object()).map(drop)
            }

            fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self> {
                $handle::from_object(unpacker.object(Kind::$handle)?)
            }
        })*
    };
}

shared! {
    Event, Semaphore, BoundedSemaphore, Lock, RLock, Condvar, Barrier, Once, Namespace,
    Mutex<T: Message>, RwLock<T: Message>, OnceValue<T: Message>, Value<T: Message>, Array<T: Message>, Queue<T: Message>,
    List<T: Item + ?Sized>, Dict<K: Item + ?Sized, V: Item + ?Sized>,
}

impl<T: Message> Argument for Producer<T> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Producer<T>> {
        Producer::from_parent(unpacker.object(Kind::Spsc)?)
    }
}

impl<T: Message> Argument for Consumer<T> {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        self.into_child(|object| packer.object(object))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Consumer<T>> {
        Consumer::from_parent(unpacker.object(Kind::Spsc)?)
    }
}

impl Argument for Connection {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let (luggage, way) = self.into_child(|object| packer.object(object))?;
        pack_luggage(luggage, packer)?;
        pack_way(way, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Connection> {
        let frame = Frame::adopt(unpacker.object(Kind::Pipe)?)?;
        let luggage = unpack_luggage(unpacker)?;
        Connection::from_parent(frame, luggage, unpack_way(unpacker)?)
    }
}

impl Argument for PipeReader {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let luggage = self.into_child(|object| packer.object(object))?;
        pack_luggage(luggage, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<PipeReader> {
        let frame = Frame::adopt(unpacker.object(Kind::Pipe)?)?;
        PipeReader::from_parent(frame, unpack_luggage(unpacker)?)
    }
}

impl Argument for PipeWriter {
    const HAS_HANDLES: bool = true;

    fn pack(self, packer: &mut Packer) -> Result<()> {
        let way = self.into_child(|object| packer.object(object))?;
        pack_way(way, packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<PipeWriter> {
        let frame = Frame::adopt(unpacker.object(Kind::Pipe)?)?;
        PipeWriter::from_parent(frame, unpack_way(unpacker)?)
    }
}

fn pack_way(way: Way, packer: &mut Packer) -> Result<()> {
    (way == Way::Back).pack(packer)
}

fn unpack_way(unpacker: &mut Unpacker<'_>) -> Result<Way> {
    Ok(if bool::unpack(unpacker)? { Way::Back } else { Way::There })
}

/// What a reader has read already goes along: a message begun, the layouts it was told.
fn pack_luggage(luggage: Luggage, packer: &mut Packer) -> Result<()> {
    let Luggage { way, leftover: Leftover { head, is_complete, parts }, layouts } = luggage;
    pack_way(way, packer)?;
    let head = head.map(|(sort, tag)| (sort as u32, tag));
    (head, is_complete, parts, layouts).pack(packer)
}

fn unpack_luggage(unpacker: &mut Unpacker<'_>) -> Result<Luggage> {
    let way = unpack_way(unpacker)?;
    let (head, is_complete, parts, layouts) = <(Option<(u32, u64)>, _, _, _)>::unpack(unpacker)?;
    let head = match head {
        None => None,
        Some((sort, tag)) => {
            let sort = Sort::from_number(sort).ok_or_else(|| damaged("is not a valid value"))?;
            Some((sort, tag))
        }
    };
    Ok(Luggage { way, leftover: Leftover { head, is_complete, parts }, layouts })
}
