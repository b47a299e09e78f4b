//! Topics of a type that the program does not have: messages are bytes, and the schema says what
//! they mean.
//!
//! Not for users: a program that has the type uses `queue::topic::Topic`.

use std::time::Duration;

use crate::error::Refusal;
use crate::inspect::{contents, ItemType};
use crate::message::Schema;
use crate::queue::holders::Tenure;
use crate::queue::topic::port::{Port, Refused};
use crate::queue::topic::receive::Cursor;
use crate::queue::topic::{body, Any, Fixed, From, Policy, RecvError};
use crate::queue::SendError;
use crate::registry::Kind;
use crate::segment::object::{Object, ObjectRef};
use crate::segment::place::Place;
use crate::segment::Segment;
use crate::sys::clock::Deadline;
use crate::{Error, ErrorKind, Result};

/// A topic.
#[derive(Debug, Clone)]
pub struct Topic {
    port: Port,
    /// The size of a message, or of an element of one if messages differ in length.
    size: usize,
    item: ItemType,
}

/// The memory of a topic of messages of one size.
struct Memory {
    object: ObjectRef,
}

impl Object for Memory {
    const KIND: Kind = Kind::Topic;
    const LEN: usize = 0; // `typed` checks
    type Initial = Fixed;

    fn len_for(fixed: &Fixed) -> Result<usize> {
        fixed.len()
    }

    unsafe fn init(base: *mut u8, fixed: &Fixed) {
        // SAFETY: as the caller promises.
        unsafe { fixed.init(base) }
    }

    fn attach(object: ObjectRef) -> Result<Memory> {
        Ok(Memory { object })
    }

    fn object(&self) -> &ObjectRef {
        &self.object
    }
}

impl Memory {
    fn typed(self, schema: &Schema) -> Result<Topic> {
        let object = self.object;
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Any::check(object.base(), object.len()) } {
            Some(found) if (found.size as u64, found.area.is_some()) == (schema.size(), false) => {
                let item = ItemType::Message(schema.clone());
                Ok(Topic { size: found.size, port: Port::new(found, object), item })
            }
            _ => Err(Error::new(ErrorKind::Corrupted, "the topic's geometry does not fit its size")),
        }
    }
}

impl Topic {
    /// Creates a topic of messages of this layout at `place`.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Topic::create`.
    pub fn create_at(place: impl Into<Place>, schema: &Schema, capacity: usize) -> Result<Topic> {
        Memory::create_as(place, schema.to_string(), Fixed::of(schema, capacity))?.typed(schema)
    }

    /// Opens the topic of messages of this layout at `place`.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Topic::open`.
    pub fn open_at(place: impl Into<Place>, schema: &Schema) -> Result<Topic> {
        Memory::open_as(place, &schema.to_string())?.typed(schema)
    }

    /// Opens the topic called `name` in the segment (`""`: the object that has the segment's name).
    ///
    /// # Errors
    ///
    /// `NotFound`: no such object. `TypeMismatch`: it is not a topic. `InvalidInput`: the schema
    /// cannot be read. `Corrupted`.
    pub fn open(segment: &Segment, name: &str) -> Result<Topic> {
        let attachment = segment.attachment();
        let entry = attachment.view().find(name)?.ok_or_else(|| contents::no_object(name))?;
        match Kind::from_number(entry.kind) {
            Some(Kind::Topic) => {}
            Some(kind) => {
                let text = format!("it is not a topic but a {}", kind.name());
                return Err(Error::new(ErrorKind::TypeMismatch, text));
            }
            None => return Err(Error::new(ErrorKind::TypeMismatch, "it is of an unknown kind")),
        }
        let item = ItemType::from_text(&entry.schema);
        let (size, is_varied) = match &item {
            ItemType::Message(schema) => (schema.size(), false),
            ItemType::Slice(element) => (element.size(), true),
            ItemType::Str | ItemType::Bytes => (1, true),
            ItemType::Other(text) => {
                let text = format!("the type of its messages is unknown: {text:?}");
                return Err(Error::new(ErrorKind::InvalidInput, text));
            }
        };
        let object = ObjectRef::new(attachment.clone(), &entry);
        // SAFETY: the object is aligned to 128, and `object`, which is stored beside the ring,
        // keeps it mapped.
        match unsafe { Any::check(object.base(), object.len()) } {
            Some(found) if (found.size as u64, found.area.is_some()) == (size, is_varied) => {
                Ok(Topic { size: found.size, port: Port::new(found, object), item })
            }
            _ => Err(Error::new(ErrorKind::Corrupted, "the topic's geometry does not fit its size")),
        }
    }

    /// Returns the type of the messages.
    pub fn item(&self) -> &ItemType {
        &self.item
    }

    fn is_varied(&self) -> bool {
        self.port.ring.shape().is_varied
    }

    /// Returns what a publisher does at its deadline about a lossless subscriber that lags.
    pub fn policy(&self) -> Policy {
        self.port.ring.shape().policy
    }

    /// Returns a publisher.
    pub fn publisher(&self) -> Publisher {
        Publisher { tenure: self.port.join(), topic: self.clone() }
    }

    /// Returns a lossy subscriber.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Topic::subscribe`.
    pub fn subscribe(&self, from: From) -> Result<Subscriber> {
        let (tenure, cursor) = self.port.subscribe(from, false)?;
        Ok(Subscriber { topic: self.clone(), tenure, cursor })
    }
}

/// A publisher.
#[derive(Debug)]
pub struct Publisher {
    topic: Topic,
    tenure: Option<Tenure>,
}

impl Publisher {
    /// Publishes a message. Blocks while a lossless subscriber lags, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Publisher::try_publish`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not the size of a message, or of all its elements.
    pub fn publish_timeout(&self, bytes: &[u8], timeout: Duration) -> std::result::Result<(), SendError<()>> {
        let (port, deadline) = (&self.topic.port, Some(Deadline::after(timeout)));
        if self.topic.is_varied() {
            let len = bytes.len().checked_div(self.topic.size).unwrap_or(0);
            assert_eq!(bytes.len(), len * self.topic.size, "the bytes of one message");
            return port.publish_bytes(len, bytes, deadline);
        }
        assert_eq!(bytes.len(), self.topic.size, "the bytes of one message");
        port.publish(deadline, |index| body::store_bytes(port.ring.words(index), bytes))
            .map_err(|refused: Refused| refused.into_send_error(()))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.topic.port.leave(self.tenure);
    }
}

/// A lossy subscriber.
#[derive(Debug)]
pub struct Subscriber {
    topic: Topic,
    tenure: Tenure,
    cursor: Cursor,
}

impl Subscriber {
    /// Receives the bytes of a message into `to`. Blocks while there is none, for at most
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// As `queue::topic::Subscriber::try_recv`.
    pub fn recv_timeout(
        &mut self,
        to: &mut Vec<u8>,
        timeout: Duration,
    ) -> std::result::Result<(), RecvError> {
        if !self.tenure.is_mine() {
            return Err(RecvError::NotInThisProcess(Refusal::FORKED));
        }
        let (port, size, cursor) = (&self.topic.port, self.topic.size, &mut self.cursor);
        let is_varied = self.topic.is_varied();
        let mut copy = body::Copied::<u8>::new(std::mem::take(to));
        let read = |index| {
            let found = match is_varied {
                true => port.find(index).map(|(at, len)| (at, len * size)),
                false => Some((port.ring.message(index), size)),
            };
            // SAFETY: the bytes are inside of the object, which is mapped, at a multiple of 8.
            unsafe { copy.load(found) }
        };
        let received = port.receive(Some(Deadline::after(timeout)), cursor, read, |cursor, read| {
            port.ring.try_copy(cursor, read)
        });
        let (bytes, is_whole) = copy.into_elements();
        *to = bytes;
        received?;
        is_whole.then_some(()).ok_or(RecvError::Corrupted)
    }

    /// Returns the number of messages that were published before the one that is received next.
    pub fn position(&self) -> u64 {
        self.cursor.ordinal
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.tenure.is_mine() {
            self.topic.port.ring.leave(self.tenure.me, self.cursor.line);
        }
    }
}
